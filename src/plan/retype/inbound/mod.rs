//! Foreign keys that reference a column whose type changes: of other tables, and of the table to
//! itself. What references stays as it is where the types compare, or changes with it.
//!
//! Each gets a second one between the new columns before READY. The swap drops the old one and
//! gives its name to the new one, so nothing is checked under the lock.
//!
//! A partitioned table has its new key only from the swap on, which makes the foreign key anew, NOT
//! VALID; the step after it validates it.
//!
//! Up to PostgreSQL 17 a foreign key of a partitioned table cannot be NOT VALID: each leaf's is, and
//! the table's takes them over (`leaves`).

mod leaves;
mod question;
mod together;

use std::collections::BTreeMap;

use super::Retype;
use super::definition::{
    as_valid, deferrable, foreign_key, has_word, referenced, rewritten, sets_default,
};
use super::dress::Side;
use super::tree_keys;
use crate::catalog::details::KeyPart;
use crate::catalog::{Catalog, Constraint, ConstraintKind, QName, RelKind, Table};
use crate::lock::{LockMode, LockOn};
use crate::plan::build::{line, lock_on};
use crate::plan::draft::Draft;
use crate::plan::step::{Phase, Step, Undo};
use crate::sql::quote::{derived_name, dollar, ident, literal, qname};

pub(super) use question::check;
pub(in crate::plan) use question::questions;
pub use question::{Question, wanted};
pub(super) use together::add_lock;
pub(in crate::plan) use together::{join, together};

/// How the author has referencing columns changed too.
const CASCADE: &str = "`-- pgshift: option cascade=true` changes what references it too";

/// A foreign key of which referenced columns change their type.
#[derive(Clone, Copy)]
pub(in crate::plan) struct Inbound<'d> {
    /// The table that has it.
    pub(in crate::plan) table: &'d Table,
    /// The table that `table` is a partition of, at the top; itself where it is none.
    top: &'d Table,
    /// What statements are about: the table, or one of its leaves.
    on: Relation<'d>,
    /// The key.
    pub(in crate::plan) constraint: &'d Constraint,
    /// The table that it references.
    pub(in crate::plan) to: &'d Table,
    /// Columns of `table` that change.
    own: &'d [Retype],
    /// Columns of `to` that change.
    theirs: &'d [Retype],
    major: u32,
    migration: &'d str,
    line: usize,
}

/// A relation and its size.
#[derive(Clone, Copy)]
struct Relation<'d> {
    name: &'d QName,
    rows: i64,
    bytes: i64,
}

/// All of them, in the order of tables and names.
pub(in crate::plan) fn inbound<'d>(draft: &'d Draft<'_>) -> Vec<Inbound<'d>> {
    let mut all = Vec::new();
    for table in draft.catalog.tables.values() {
        for constraint in &table.constraints {
            let Some(theirs) = constraint
                .references
                .as_ref()
                .and_then(|to| draft.retypes.get(to))
            else {
                continue;
            };
            let Some(to) = constraint.references.as_ref() else {
                continue;
            };
            let to = &draft.catalog.tables[to];
            if !references(constraint, theirs) || !is_declared(to, table, constraint) {
                continue;
            }
            let top = top(draft.catalog, table);
            all.push(Inbound {
                table,
                top,
                on: Relation {
                    name: &table.name,
                    rows: table.rows,
                    bytes: table.bytes,
                },
                constraint,
                to,
                own: draft.retypes.get(&top.name).map_or(&[], Vec::as_slice),
                theirs,
                major: draft.catalog.major(),
                migration: &draft.migration.id,
                line: theirs.first().map_or(0, |r| line(draft, r.span)),
            });
        }
    }
    all
}

/// The table that it is a partition of, at the top; itself where it is none.
pub(super) fn top<'d>(catalog: &'d Catalog, table: &'d Table) -> &'d Table {
    let parent = |table: &Table| catalog.tables.get(table.partition_of.as_ref()?);
    let mut top = table;
    while let Some(above) = parent(top) {
        top = above;
    }
    top
}

/// The foreign key is the table's own, not one that it has as a partition.
pub(super) fn is_declared(to: &Table, table: &Table, key: &Constraint) -> bool {
    let listed = |(other, name): &(QName, String)| *other == table.name && *name == key.name;
    // What a table references in itself is not in the list.
    to.name == table.name || to.referenced_by.iter().any(listed)
}

/// True where a foreign key references one of these columns.
pub(super) fn references(constraint: &Constraint, theirs: &[Retype]) -> bool {
    constraint.kind == ConstraintKind::ForeignKey
        && referenced(&constraint.definition)
            .iter()
            .any(|name| theirs.iter().any(|r| r.column == *name))
}

impl Inbound<'_> {
    /// The new key is there only in the swap.
    fn is_late(self) -> bool {
        self.to.kind == RelKind::Partitioned
    }

    /// The column that stands for another one while a side is dressed.
    fn name_of(columns: &[Retype], side: Side, name: &str) -> Option<String> {
        let retype = columns.iter().find(|r| r.column == name)?;
        Some(match side {
            Side::New => retype.shadow.clone(),
            Side::Old => retype.old.clone(),
        })
    }

    /// Its name until it takes its place.
    fn aid(self, side: Side) -> String {
        let side = match side {
            Side::New => "new",
            Side::Old => "old",
        };
        let (table, name) = (&self.table.name, &self.constraint.name);
        let key = format!("{} {table} {name} {side}", self.migration);
        derived_name("_pgshift_", name, &key)
    }

    /// What it is while the other one is there too. One that can be deferred is, whatever it
    /// begins as: a transaction that defers the one that it knows, by its name, would meet this
    /// one else.
    fn aside(self, side: Side) -> String {
        let definition = as_valid(&self.constraint.definition);
        let when = deferrable(definition);
        let bare = definition[..definition.len() - when.len()].trim_end();
        let own = foreign_key(bare, |name| Self::name_of(self.own, side, name));
        let both = rewritten(&own, |name| Self::name_of(self.theirs, side, name));
        if when.is_empty() {
            both
        } else {
            format!("{both} DEFERRABLE INITIALLY DEFERRED")
        }
    }

    fn head(self) -> String {
        format!("ALTER TABLE {}", qname(self.on.name))
    }

    fn locks(self, own: LockMode, other: LockMode) -> Vec<LockOn> {
        let mut all = vec![lock_on(self.on.name, own)];
        if self.to.name != *self.on.name || own != other {
            all.push(lock_on(&self.to.name, other));
        }
        all
    }

    /// Both tables are locked at once, in one order, so that no two of ours meet halfway.
    fn locked(self, own: LockMode, other: LockMode, sql: Vec<String>) -> Vec<String> {
        let mut modes = BTreeMap::from([(self.on.name, own)]);
        let to = modes.entry(&self.to.name).or_insert(other);
        *to = other.max(*to);
        let mut all = lock_all(&modes);
        all.extend(sql);
        all
    }

    fn add_sql(self, side: Side) -> String {
        format!(
            "{} ADD CONSTRAINT {} {} NOT VALID",
            self.head(),
            ident(&self.aid(side)),
            self.aside(side)
        )
    }

    fn added(self, side: Side) -> Vec<String> {
        let mode = LockMode::ShareRowExclusive;
        let mut sql = self.locked(mode, mode, vec![self.add_sql(side)]);
        sql.extend(self.turn(&self.aid(side), false));
        sql
    }

    fn turn(self, name: &str, first: bool) -> Option<String> {
        let definition = &self.constraint.definition;
        turn(self.on.name, name, definition, first)
    }

    fn drop_sql(self, name: &str) -> String {
        format!("{} DROP CONSTRAINT {}", self.head(), ident(name))
    }

    /// What is done with it before it takes its place.
    fn dress(self, side: Side, phase: Phase) -> Vec<Step> {
        let mut steps = if self.by_leaves() {
            self.dress_leaves(side, phase)
        } else {
            self.dress_one(side, phase)
        };
        if side == Side::New
            && let Some(first) = steps.first_mut()
        {
            first.undo = Undo::steps(vec![self.undress(side)]);
            first.notes.extend(self.stays());
        }
        steps
    }

    /// Takes all of that back.
    fn undress(self, side: Side) -> Step {
        let aid = self.aid(side);
        let drop = if self.is_tree() {
            tree_keys::drop_all(&self.to.name, &aid)
        } else {
            format!("{} DROP CONSTRAINT IF EXISTS {}", self.head(), ident(&aid))
        };
        let mode = LockMode::AccessExclusive;
        Step::sql(
            Phase::Revert,
            format!("{}: drop constraint {}", self.table.name, ident(&aid)),
            self.locked(mode, mode, vec![drop]),
        )
        .locks(self.locks(mode, mode))
    }

    /// NOT VALID, then VALIDATE.
    fn dress_one(self, side: Side, phase: Phase) -> Vec<Step> {
        let mode = LockMode::ShareRowExclusive;
        let add = Step::sql(phase, self.anew(side), self.added(side))
            .locks(self.locks(mode, mode))
            .line(self.line);
        let mut steps = vec![add];
        if self.constraint.validated {
            steps.push(self.validate(&self.aid(side), phase));
        }
        steps
    }

    fn anew(self, side: Side) -> String {
        let which = match side {
            Side::New => "new",
            Side::Old => "old",
        };
        format!(
            "{}: add foreign key {} anew, to the {which} column of {}",
            self.on.name, self.constraint.name, self.to.name
        )
    }

    /// It by its own name, in a swap, of which no row is read.
    fn add_late(self, parts: &[KeyPart]) -> Vec<String> {
        let (name, definition) = (&self.constraint.name, as_valid(&self.constraint.definition));
        if self.by_leaves() {
            return vec![self.tree_key().add_to_leaves(name, definition, parts)];
        }
        let mut sql = vec![format!(
            "{} ADD CONSTRAINT {} {definition} NOT VALID",
            self.head(),
            ident(name),
        )];
        sql.extend(tree_keys::name_parts(&self.table.name, name, parts));
        sql
    }

    fn validate(self, name: &str, phase: Phase) -> Step {
        let mut step = Step::sql(
            phase,
            format!(
                "{}: validate foreign key {}",
                self.on.name, self.constraint.name
            ),
            vec![format!(
                "{} VALIDATE CONSTRAINT {}",
                self.head(),
                ident(name)
            )],
        )
        .locks(self.locks(LockMode::ShareUpdateExclusive, LockMode::RowShare))
        .line(self.line);
        step.estimate.rows = Some(self.on.rows);
        step.estimate.bytes = Some(self.on.bytes);
        step.estimate.basis = Some("reads every row".to_owned());
        step
    }

    /// Says that referencing columns keep their types.
    fn stays(self) -> Option<String> {
        let staying: Vec<String> = self
            .constraint
            .columns
            .iter()
            .zip(referenced(&self.constraint.definition))
            .filter(|(own, theirs)| {
                self.theirs.iter().any(|r| r.column == *theirs)
                    && !self.own.iter().any(|r| r.column == **own)
            })
            .filter_map(|(own, _)| self.table.column(own))
            .map(|c| format!("{} stays {}", c.name, c.type_name))
            .collect();
        (!staying.is_empty()).then(|| {
            format!(
                "{}, so rows with a key beyond it cannot be referenced; {CASCADE}",
                staying.join(", ")
            )
        })
    }

    /// What is to be gone before the columns have other names.
    fn give_way(self, side: Side) -> Vec<String> {
        let name = &self.constraint.name;
        if !self.is_tree() {
            return vec![self.drop_sql(name)];
        }
        if self.is_late() {
            return vec![self.tree_key().drop()];
        }
        let aid = self.aid(side);
        let mut sql = vec![tree_keys::replace(&self.table.name, name, &aid, None)];
        // Where its columns change too, they do not change in what was detached.
        if self.own.is_empty() {
            sql.push(self.tree_key().replace_detached(&aid));
        }
        sql
    }

    /// It takes the place of the other one, which is gone.
    fn take_place(self, side: Side, parts: &[KeyPart]) -> Vec<String> {
        let (head, name) = (self.head(), ident(&self.constraint.name));
        let mut sql = Vec::new();
        if self.is_late() {
            sql.extend(self.add_late(parts));
        } else {
            if !self.is_tree() {
                sql.push(format!(
                    "{head} RENAME CONSTRAINT {} TO {name}",
                    ident(&self.aid(side))
                ));
                sql.extend(self.turn(&self.constraint.name, true));
            }
            let when = deferrable(as_valid(&self.constraint.definition));
            if !when.is_empty() && !has_word(when, &["DEFERRED"]) {
                sql.push(format!(
                    "{head} ALTER CONSTRAINT {name} DEFERRABLE INITIALLY IMMEDIATE"
                ));
            }
        }
        if !(self.is_late() && self.by_leaves()) {
            sql.extend(self.comment(parts));
        }
        sql
    }

    /// The comment that it had.
    fn comment(self, parts: &[KeyPart]) -> Option<String> {
        let part = parts.iter().find(|part| part.table == self.table.name)?;
        Some(format!(
            "COMMENT ON CONSTRAINT {} ON {} IS {}",
            ident(&self.constraint.name),
            qname(&self.table.name),
            literal(part.comment.as_ref()?)
        ))
    }
}

/// Locks tables in one fixed order. All waits together are no longer than one try: the application
/// may hold one of the tables and want another one, and would lose a deadlock after
/// `deadlock_timeout` else.
pub(super) fn lock_all(tables: &BTreeMap<&QName, LockMode>) -> Vec<String> {
    let mut sql = Vec::new();
    if tables.len() > 1 {
        sql.push(format!(
            "SELECT set_config('lock_timeout', greatest(setting::bigint * 9 / {}, 1) || 'ms', true) \
             FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'",
            tables.len() * 10
        ));
    }
    let all: Vec<(&&QName, &LockMode)> = tables.iter().collect();
    for alike in all.chunk_by(|one, other| one.1 == other.1) {
        let names: Vec<String> = alike.iter().map(|(name, _)| qname(name)).collect();
        let mode = alike[0].1.as_str();
        sql.push(format!("LOCK TABLE {} IN {mode} MODE", names.join(", ")));
    }
    sql
}

/// SET DEFAULT of a new column would set it to null, as it has no default yet, and the sync trigger
/// would map that back: so the key that acts first must be the old one. Triggers fire in the order
/// of their names, which for those of keys end in numbers (documentation, "Overview of Trigger
/// Behavior"): `first` says which key this is from now on.
pub(super) fn turn(table: &QName, name: &str, definition: &str, first: bool) -> Option<String> {
    if !sets_default(definition) {
        return None;
    }
    let (from, to) = if first { ("b", "a") } else { ("a", "b") };
    let body = format!(
        "\nDECLARE\n  pgshift_name record;\nBEGIN\n  FOR pgshift_name IN\n    \
         SELECT t.tgname, t.tgrelid::regclass AS name, \
         replace(t.tgname, 'Trigger_{from}_', 'Trigger_{to}_') AS now\n    \
         FROM pg_catalog.pg_trigger t\n    \
         JOIN pg_catalog.pg_constraint c ON c.oid = t.tgconstraint\n    \
         JOIN pg_catalog.pg_class r ON r.oid = t.tgrelid\n    \
         WHERE c.conrelid = {}::regclass AND c.conname = {} \
         AND t.tgname LIKE 'RI\\_ConstraintTrigger\\_{from}\\_%' \
         AND pg_has_role(r.relowner, 'USAGE')\n  LOOP\n    \
         EXECUTE format('ALTER TRIGGER %I ON %s RENAME TO %I', \
         pgshift_name.tgname, pgshift_name.name, pgshift_name.now);\n  END LOOP;\nEND\n",
        literal(&qname(table)),
        literal(name),
    );
    Some(format!("DO {}", dollar(&body)))
}

/// The steps that give each a second one before READY, after all that they need.
pub(in crate::plan) fn dress(draft: &Draft<'_>) -> Vec<Step> {
    inbound(draft)
        .into_iter()
        .filter(|key| !key.is_late())
        .flat_map(|key| key.dress(Side::New, Phase::Validate))
        .collect()
}

/// Tables that have such foreign keys.
pub(in crate::plan) fn tables(draft: &Draft<'_>) -> impl Iterator<Item = QName> {
    inbound(draft)
        .into_iter()
        .map(|key| key.table.name.clone())
        .collect::<Vec<_>>()
        .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_a_partition_has_of_its_table_is_not_declared() {
        let catalog = crate::plan::testing::catalog(17);
        let at = |name: &str| &catalog.tables[&QName::new("public", name)];
        let (users, orders, events_1) = (at("users"), at("orders"), at("events_1"));
        let key = orders.constraint("orders_user_id_fkey").expect("a key");
        assert!(is_declared(users, orders, key));
        assert!(!is_declared(users, events_1, key));
        assert!(is_declared(users, users, key), "what it references itself");
        assert_eq!(top(&catalog, events_1).name, at("events").name);
        assert_eq!(top(&catalog, orders).name, orders.name);
    }

    #[test]
    fn only_defaults_need_an_order() {
        let table = QName::new("public", "t");
        let turned = |definition: &str| turn(&table, "k", definition, false);
        assert!(turned("FOREIGN KEY (a) REFERENCES b(c) ON DELETE SET NULL").is_none());
        let sql = turned("FOREIGN KEY (a) REFERENCES b(c) ON DELETE SET DEFAULT").expect("turned");
        assert!(
            sql.contains("LIKE 'RI\\_ConstraintTrigger\\_a\\_%'"),
            "{sql}"
        );
    }

    #[test]
    fn all_waits_for_locks_are_one_try() {
        let (a, b) = (QName::new("public", "a"), QName::new("public", "b"));
        let (all, share) = (LockMode::AccessExclusive, LockMode::ShareRowExclusive);
        let sql = lock_all(&BTreeMap::from([(&b, all), (&a, all)]));
        assert_eq!(
            sql[1],
            "LOCK TABLE \"public\".\"a\", \"public\".\"b\" IN ACCESS EXCLUSIVE MODE"
        );
        assert!(sql[0].contains("setting::bigint * 9 / 20"), "{}", sql[0]);
        assert_eq!(lock_all(&BTreeMap::from([(&a, all)])).len(), 1);
        let sql = lock_all(&BTreeMap::from([(&b, share), (&a, all)]));
        assert_eq!(
            sql[1..],
            [
                "LOCK TABLE \"public\".\"a\" IN ACCESS EXCLUSIVE MODE",
                "LOCK TABLE \"public\".\"b\" IN SHARE ROW EXCLUSIVE MODE"
            ]
        );
    }
}
