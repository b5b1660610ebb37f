//! Changes of type of a partitioned table: the new column is added to the root, and so to every
//! partition. A partition has its own part of each index, and may have indexes, constraints,
//! defaults, comments and rights of its own.
//!
//! No index of a partitioned table can be built CONCURRENTLY, nor made a constraint by USING
//! INDEX. So the root gets an entry of the catalog (`ON ONLY`), each leaf builds its part, and
//! ATTACH PARTITION makes one index of them (documentation, CREATE INDEX and ALTER INDEX). A
//! primary key exists once, so its parts are built before and become one in the swap.

use std::collections::{BTreeMap, BTreeSet};

use super::Retype;
use super::definition::{index_tail, sets_default};
use super::dress::{Side, Swapped};
use super::question::{Answer, IndexForm};
use super::tree::{self, Kind};
use crate::catalog::details::{Definition, DefinitionKind, Partition};
use crate::catalog::{Constraint, ConstraintKind, QName, RelKind, Table};
use crate::lock::LockMode;
use crate::plan::step::{PartOf, Phase, Step, Undo};
use crate::plan::title::depend_on;
use crate::sql::dml::identifiers;
use crate::sql::quote::{dollar, ident, literal, qname};

/// A part of an index of the root.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The root's index.
    pub root: String,
    /// This part of it.
    pub form: IndexForm,
}

/// A partition, at any level.
#[derive(Debug, Clone)]
pub struct Node {
    /// It, with only those indexes and constraints, and that NOT NULL, that are its own.
    pub table: Table,
    /// Its parts of the root's indexes that have one of the columns in them.
    pub attached: Vec<Attached>,
    /// By column: its default before and after, where it is not the root's.
    pub defaults: BTreeMap<String, (Option<String>, Option<String>)>,
    /// What it has of its own.
    pub answer: Answer,
}

impl Node {
    pub(super) fn is_leaf(&self) -> bool {
        self.table.kind != RelKind::Partitioned
    }
}

/// A partition key (`pg_get_partkeydef`) has the column in it, in an expression too: the server
/// records no dependency of that on the column alone.
pub(super) fn routes_by(key: &str, column: &str) -> bool {
    identifiers(key).iter().any(|(_, name, _)| name == column)
}

/// What keys of a partitioned table cannot have.
pub(super) fn refusal(table: &Table, column: &str) -> Option<(String, String)> {
    if table.kind != RelKind::Partitioned {
        return None;
    }
    let defaults = table.constraints.iter().find(|c| {
        c.kind == ConstraintKind::ForeignKey
            && c.columns.iter().any(|c| c == column)
            && sets_default(&c.definition)
    })?;
    Some((
        format!(
            "{} of {}, which is partitioned, sets a default: two such keys on one column cannot be \
             told which comes first",
            defaults.name, table.name
        ),
        "drop that foreign key in an earlier migration and add it again in a later one".to_owned(),
    ))
}

/// Of what depends on a column of a partitioned table: each partition has its generated column.
pub(super) fn refused_at_once(dependents: &[String]) -> Vec<&str> {
    const REFUSED: &[&str] = &["generated ", "partition key of"];
    let refused = |d: &&String| REFUSED.iter().any(|kind| d.starts_with(kind));
    let found = dependents.iter().filter(refused);
    found.map(String::as_str).collect()
}

fn tail_of<'d>(all: &'d [Definition], name: &str) -> Option<&'d str> {
    let index = all
        .iter()
        .find(|d| d.kind == DefinitionKind::Index && d.name == name)?;
    index_tail(&index.text)
}

/// What the root's copy says is not all that there is to say of this partition.
pub fn differs(
    partition: &Partition,
    root: &Table,
    definitions: &[Definition],
    columns: &[Retype],
) -> bool {
    let table = &partition.table;
    let index = |index: &crate::catalog::Index| {
        let parent = partition.attached.get(&index.name);
        parent.is_none()
            || parent.and_then(|parent| tail_of(definitions, parent))
                != tail_of(&partition.definitions, &index.name)
    };
    let check =
        |c: &Constraint| c.kind == ConstraintKind::Check && !partition.inherited.contains(&c.name);
    let default = |retype: &Retype| {
        let of = |table: &Table| table.column(&retype.column).and_then(|c| c.default.clone());
        of(table).is_some() && of(table) != of(root)
    };
    let statistics = |d: &Definition| d.kind == DefinitionKind::Statistics;
    partition.definitions.iter().any(statistics)
        || table.indexes.iter().any(index)
        || table.constraints.iter().any(check)
        || columns.iter().any(default)
}

/// The partitions, understood; `told` has what the server said of those that differ.
///
/// # Errors
/// What cannot be taken along, for people.
pub fn nodes(
    root: &Table,
    answer: &Answer,
    columns: &[Retype],
    partitions: Vec<Partition>,
    mut told: BTreeMap<QName, Answer>,
) -> Result<Vec<Node>, String> {
    // (relation, its index) → the root's index.
    let mut roots: BTreeMap<(QName, String), String> = root
        .indexes
        .iter()
        .map(|i| ((root.name.clone(), i.name.clone()), i.name.clone()))
        .collect();
    let mut all = Vec::new();
    for partition in partitions {
        let name = partition.table.name.clone();
        let parent = partition.table.partition_of.clone();
        for (index, of) in &partition.attached {
            let key = parent.clone().map(|parent| (parent, of.clone()));
            if let Some(root) = key.and_then(|key| roots.get(&key)).cloned() {
                roots.insert((name.clone(), index.clone()), root);
            }
        }
        let own = told.remove(&name);
        all.push(node(root, answer, columns, partition, own, &roots)?);
    }
    Ok(all)
}

fn node(
    root: &Table,
    answer: &Answer,
    columns: &[Retype],
    partition: Partition,
    own: Option<Answer>,
    roots: &BTreeMap<(QName, String), String>,
) -> Result<Node, String> {
    let Partition {
        mut table,
        attached,
        inherited,
        definitions,
        details,
    } = partition;
    let name = table.name.clone();
    let asked = own.is_some();
    let mut own = own.unwrap_or_default();
    own.conversions = BTreeMap::new();
    let mut parts = Vec::new();
    for definition in definitions
        .iter()
        .filter(|d| d.kind == DefinitionKind::Index)
    {
        let Some(of) = roots.get(&(name.clone(), definition.name.clone())) else {
            continue;
        };
        let forms = if asked { &own.indexes } else { &answer.indexes };
        let called = if asked { &definition.name } else { of };
        let Some(form) = forms.iter().find(|i| i.name == *called) else {
            continue;
        };
        parts.push(Attached {
            root: of.clone(),
            form: IndexForm {
                name: definition.name.clone(),
                definition: definition.clone(),
                ..form.clone()
            },
        });
    }
    let own_indexes: BTreeSet<&str> = own.indexes.iter().map(|i| i.name.as_str()).collect();
    for index in table
        .indexes
        .iter()
        .filter(|i| own_indexes.contains(&*i.name))
    {
        if !index.valid {
            return Err(format!("index {} of {name} is not valid", index.name));
        }
        // It is a part of an index which is not the root's.
        let elsewhere = attached.contains_key(&index.name)
            && !roots.contains_key(&(name.clone(), index.name.clone()));
        let above = !attached.contains_key(&index.name) && table.kind == RelKind::Partitioned;
        if elsewhere || above {
            return Err(format!(
                "index {} is not of {} but of partition {name}, which has partitions itself: drop \
                 it in an earlier migration and make it again in a later one",
                index.name, root.name
            ));
        }
    }
    own.indexes.retain(|i| !attached.contains_key(&i.name));
    own.checks.retain(|c| !inherited.contains(&c.name));
    table.indexes.retain(|i| !attached.contains_key(&i.name));
    table.constraints.retain(|c| !inherited.contains(&c.name));
    let mut defaults = BTreeMap::new();
    for retype in columns {
        let column = &retype.column;
        let of_root = root.column(column);
        let dependents = table.dependents.get(column).filter(|all| !all.is_empty());
        if let Some(dependents) = dependents {
            return Err(format!(
                "{} column {column} of partition {name}",
                depend_on(dependents)
            ));
        }
        let foreign = table.constraints.iter().find(|c| {
            table.kind == RelKind::Partitioned
                && matches!(
                    c.kind,
                    ConstraintKind::ForeignKey
                        | ConstraintKind::Unique
                        | ConstraintKind::PrimaryKey
                )
                && c.columns.contains(column)
        });
        let exclusion = table.constraints.iter().find(|c| {
            matches!(c.kind, ConstraintKind::Exclusion | ConstraintKind::Other)
                && c.columns.contains(column)
        });
        if let Some(constraint) = foreign.or(exclusion) {
            return Err(format!(
                "constraint {} on {column} is not of {} but of partition {name} alone: drop it in \
                 an earlier migration and add it again in a later one",
                constraint.name, root.name
            ));
        }
        let default = table.column(column).and_then(|c| c.default.clone());
        if default != of_root.and_then(|c| c.default.clone()) {
            let new = default.is_some().then(|| own.defaults.get(column).cloned());
            defaults.insert(column.clone(), (default, new.flatten()));
        }
        if let Some(column) = table.columns.iter_mut().find(|c| c.name == *column) {
            column.not_null &= of_root.is_some_and(|c| !c.not_null);
        }
    }
    if let Some(key) = &table.partitioning.key
        && let Some(retype) = columns.iter().find(|r| routes_by(key, &r.column))
    {
        return Err(format!(
            "partition {name} is itself partitioned by {}",
            retype.column
        ));
    }
    own.details = details;
    for (column, details) in &mut own.details {
        if let Some(sequence) = details.sequences.first() {
            return Err(format!(
                "sequence {} belongs to column {column} of partition {name} alone",
                sequence.name
            ));
        }
        // SET STATISTICS of the root is one of its partitions too.
        let of_root = answer.details.get(column).and_then(|d| d.statistics);
        details.statistics = match (of_root, details.statistics) {
            (root, own) if root == own => None,
            (_, own) => Some(own.unwrap_or(-1)),
        };
    }
    Ok(Node {
        table,
        attached: parts,
        defaults,
        answer: own,
    })
}

impl<'d> Swapped<'d> {
    /// It is partitioned.
    pub(super) fn is_tree(self) -> bool {
        self.table.kind == RelKind::Partitioned
    }

    /// What a partition has of its own.
    pub(super) fn own(self, node: &'d Node) -> Self {
        Self {
            table: &node.table,
            answer: &node.answer,
            ..self
        }
    }

    /// The partitions and what they have of their own.
    pub(super) fn nodes(self) -> impl Iterator<Item = (&'d Node, Self)> {
        let nodes = self.answer.nodes.iter();
        nodes.map(move |node| (node, self.own(node)))
    }

    pub(super) fn kind_of(self, index: &IndexForm) -> Kind {
        let constraint = self.table.constraint(&index.name);
        match constraint.map(|c| c.kind) {
            Some(ConstraintKind::PrimaryKey) => Kind::Primary,
            Some(ConstraintKind::Unique) => Kind::Unique,
            _ => Kind::Plain,
        }
    }

    /// The parts of an index and the names that they are built under.
    pub(super) fn parts(self, side: Side, index: &IndexForm) -> Vec<(&'d QName, String)> {
        self.nodes()
            .filter_map(|(node, own)| {
                let part = node.attached.iter().find(|a| a.root == index.name)?;
                Some((&node.table.name, own.aid(side, &part.form.name)))
            })
            .collect()
    }

    pub(super) fn tree(self, index: &'d IndexForm) -> tree::Tree<'d> {
        tree::Tree {
            table: &self.table.name,
            kind: self.kind_of(index),
            unique: index.unique,
            constraint: self.table.constraint(&index.name),
            tablespace: index.definition.tablespace.as_deref(),
        }
    }

    /// As [`Swapped::dress`], of a partitioned table.
    pub(super) fn dress_tree(self, side: Side) -> Vec<Step> {
        let mut steps = Vec::new();
        let indexes = || self.answer.indexes.iter();
        let rooted = || indexes().filter(|i| self.kind_of(i) != Kind::Primary);
        steps.extend(rooted().map(|index| self.plant(side, index)));
        for index in indexes() {
            steps.extend(self.build_leaves(side, index));
        }
        steps.extend(rooted().map(|index| self.grow(side, index)));
        for retype in self.columns {
            steps.extend(self.not_null(side, retype));
        }
        steps.extend(self.checks(side));
        for key in self.constraints(ConstraintKind::ForeignKey) {
            steps.extend(self.foreign_key_of_leaves(side, key));
        }
        steps.extend(self.statistics(side));
        steps.extend(self.details(side));
        for (_, own) in self.nodes() {
            let all = own.dress_own(side).into_iter();
            steps.extend(all.map(|step| self.while_part(own, step)));
        }
        steps.push(self.analyze(side));
        steps
    }

    /// A step about a partition, which may be gone when it comes to it.
    pub(super) fn while_part(self, own: Self, mut step: Step) -> Step {
        step.part_of = Some(PartOf {
            partition: own.table.name.clone(),
            root: self.table.name.clone(),
        });
        step
    }

    /// Statements about a partition, run if it is one still.
    pub(super) fn guarded(self, own: Self, statements: &[String]) -> Option<String> {
        if statements.is_empty() {
            return None;
        }
        let body = format!(
            "\nBEGIN\n  IF EXISTS (SELECT FROM pg_partition_tree({}) WHERE relid = to_regclass({})) \
             THEN\n    {};\n  END IF;\nEND\n",
            self.regclass(),
            literal(&qname(&own.table.name)),
            statements.join(";\n    ")
        );
        Some(format!("DO {}", dollar(&body)))
    }

    fn form(side: Side, index: &IndexForm) -> &str {
        match side {
            Side::New => &index.new,
            Side::Old => &index.old,
        }
    }

    /// The root's entry of an index. It is there before the backfill, so that a partition that is
    /// made meanwhile has its part from the beginning.
    fn plant(self, side: Side, index: &'d IndexForm) -> Step {
        let aid = self.aid(side, &index.name);
        let tree = self.tree(index);
        let mut step = self
            .step(
                side,
                format!(
                    "{}: index {} anew, without its parts",
                    self.table.name, index.name
                ),
                vec![tree.entry(self.table, &aid, Self::form(side, index))],
            )
            .locks(vec![self.lock(match tree.kind {
                Kind::Plain => LockMode::Share,
                _ => LockMode::AccessExclusive,
            })]);
        if side == Side::New {
            step.phase = Phase::Expand;
            step.undo = self.drop_tree(&tree, &aid);
        }
        step
    }

    fn drop_tree(self, tree: &tree::Tree<'_>, aid: &str) -> Undo {
        let undo = Step::sql(
            Phase::Revert,
            format!("{}: drop index {aid} and its parts", self.table.name),
            vec![tree.drop(aid)],
        );
        Undo::steps(vec![undo.locks(vec![self.lock(LockMode::AccessExclusive)])])
    }

    /// The parts of an index, each on its leaf.
    fn build_leaves(self, side: Side, index: &IndexForm) -> Vec<Step> {
        self.nodes()
            .filter(|(node, _)| node.is_leaf())
            .filter_map(|(node, own)| {
                let part = node.attached.iter().find(|a| a.root == index.name)?;
                let aid = own.aid(side, &part.form.name);
                let step = own.build(side, &aid, Self::form(side, &part.form), &part.form);
                Some(self.while_part(own, step))
            })
            .collect()
    }

    /// One index of the root's entry and the parts.
    fn grow(self, side: Side, index: &'d IndexForm) -> Step {
        let aid = self.aid(side, &index.name);
        let tree = self.tree(index);
        let grow = tree.grow(
            &aid,
            Self::form(side, index),
            &self.parts(side, index),
            None,
        );
        // ATTACH locks each part from readers and writers. With the tables locked before, from the
        // root down as every statement does, no statement of the application is between two parts,
        // and there is no deadlock with one.
        let step = self
            .step(
                side,
                format!(
                    "{}: attach the parts of index {}",
                    self.table.name, index.name
                ),
                vec![self.lock_sql(), grow],
            )
            .locks(vec![self.lock(LockMode::AccessExclusive)])
            .note(format!(
                "a partition that is made meanwhile has its part already, or gets it here if it \
                 is not larger than {}",
                tree::SMALL
            ));
        if side == Side::New {
            step.undo(self.drop_tree(&tree, &aid))
        } else {
            step
        }
    }

    /// The parts of the primary key that the new column had before it took the old one's place:
    /// a primary key cannot become a plain index again.
    pub(super) fn keys_again(self) -> Vec<Step> {
        let keys = |i: &&IndexForm| self.kind_of(i) == Kind::Primary;
        let mut steps = Vec::new();
        for index in self.answer.indexes.iter().filter(keys) {
            for (node, own) in self.nodes().filter(|(node, _)| node.is_leaf()) {
                let part = node.attached.iter().find(|a| a.root == index.name);
                let step = part.and_then(|part| own.index_of_swapped(&part.form));
                steps.extend(step.map(|step| self.while_part(own, step)));
            }
        }
        for (_, own) in self.nodes() {
            let keys = own.key_again().into_iter();
            steps.extend(keys.map(|step| self.while_part(own, step)));
        }
        steps
    }

    /// What a partition has of its own, but ANALYZE.
    fn dress_own(self, side: Side) -> Vec<Step> {
        let mut steps = self.dress(side);
        steps.pop();
        steps
    }

    /// Defaults of a partition which are not the root's.
    pub(super) fn own_defaults(node: &Node, side: Side) -> Vec<String> {
        let all = node.defaults.iter().map(|(column, (old, new))| {
            let default = match side {
                Side::New => new.as_ref(),
                Side::Old => old.as_ref(),
            };
            let to = default.map_or("DROP DEFAULT".to_owned(), |d| format!("SET DEFAULT {d}"));
            format!(
                "ALTER TABLE ONLY {} ALTER COLUMN {} {to}",
                qname(&node.table.name),
                ident(column)
            )
        });
        all.collect()
    }

    /// Said of a swap.
    pub(super) fn tree_note(self) -> Option<String> {
        let partitions = self.answer.nodes.len();
        let parts: usize = self.answer.nodes.iter().map(|n| n.attached.len()).sum();
        self.is_tree().then(|| {
            format!(
                "under the lock: catalog entries of {partitions} partitions with {parts} parts of \
                 indexes; the time grows with these, not with rows"
            )
        })
    }

    pub(super) fn regclass(self) -> String {
        format!("{}::regclass", literal(&qname(&self.table.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::routes_by;

    #[test]
    fn columns_of_a_partition_key() {
        for (key, column, routes) in [
            ("RANGE (day)", "day", true),
            ("RANGE (((k + \"W w\")), a)", "W w", true),
            ("RANGE (((k + w)), a)", "k", true),
            ("LIST (day)", "id", false),
        ] {
            assert_eq!(routes_by(key, column), routes, "{key} {column}");
        }
    }
}
