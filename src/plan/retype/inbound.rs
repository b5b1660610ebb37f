//! Foreign keys that reference a column whose type changes: of other tables, and of the table to
//! itself. What references stays as it is where the types compare, or changes with it.
//!
//! Each gets a second one between the new columns before READY. The swap drops the old one and
//! gives its name to the new one, so nothing is checked under the lock.

use std::collections::{BTreeMap, BTreeSet};

use super::Retype;
use super::definition::{as_valid, deferrable, foreign_key};
use super::dress::Side;
use crate::catalog::{Catalog, Constraint, ConstraintKind, QName, RelKind, Table};
use crate::error::Result;
use crate::lock::{LockMode, LockOn};
use crate::migration::Migration;
use crate::plan::build::{line, lock_on};
use crate::plan::draft::Draft;
use crate::plan::probe::Probed;
use crate::plan::step::{Phase, Step, Undo, Work};
use crate::sql::ddl::{Action, AlterOpKind, understand};
use crate::sql::lex::{TokenKind, ident_value, is_keyword, lex_code};
use crate::sql::quote::{derived_name, ident, literal, qname};

/// How the author has referencing columns changed too.
const CASCADE: &str = "`-- pgshift: option cascade=true` changes what references it too";

/// A foreign key of which referenced columns change their type.
#[derive(Clone, Copy)]
pub(in crate::plan) struct Inbound<'d> {
    /// The table that has it.
    pub(in crate::plan) table: &'d Table,
    /// The key.
    pub(in crate::plan) constraint: &'d Constraint,
    /// The table that it references.
    pub(in crate::plan) to: &'d Table,
    /// Columns of `table` that change.
    own: &'d [Retype],
    /// Columns of `to` that change.
    theirs: &'d [Retype],
    migration: &'d str,
    line: usize,
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
            if !references(constraint, theirs) {
                continue;
            }
            all.push(Inbound {
                table,
                constraint,
                to: &draft.catalog.tables[to],
                own: draft.retypes.get(&table.name).map_or(&[], Vec::as_slice),
                theirs,
                migration: &draft.migration.id,
                line: theirs.first().map_or(0, |r| line(draft, r.span)),
            });
        }
    }
    all
}

/// True where a foreign key references one of these columns.
pub(super) fn references(constraint: &Constraint, theirs: &[Retype]) -> bool {
    constraint.kind == ConstraintKind::ForeignKey
        && referenced(&constraint.definition)
            .iter()
            .any(|name| theirs.iter().any(|r| r.column == *name))
}

/// The columns that the definition of a foreign key references.
pub(super) fn referenced(definition: &str) -> Vec<String> {
    let mut names = Vec::new();
    rewritten(definition, |name| {
        names.push(name.to_owned());
        None
    });
    names
}

/// The definition with other names for the columns that it references, which stand in the first
/// parentheses after REFERENCES (`ruleutils.c`).
fn rewritten(definition: &str, mut name: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::new();
    let (mut copied, mut depth, mut after, mut within) = (0, 0_usize, false, false);
    for token in lex_code(definition) {
        match token.kind {
            TokenKind::LParen => {
                depth += 1;
                within = after && depth == 1;
                after &= !within;
            }
            TokenKind::RParen => {
                depth = depth.saturating_sub(1);
                within = false;
            }
            _ if depth == 0 && is_keyword(token, definition, "REFERENCES") => after = true,
            _ if within => {
                if let Some(other) = ident_value(token, definition).and_then(|n| name(&n)) {
                    out.push_str(&definition[copied..token.span.start]);
                    out.push_str(&ident(&other));
                    copied = token.span.end;
                }
            }
            _ => {}
        }
    }
    out.push_str(&definition[copied..]);
    out
}

/// A word outside of parentheses.
fn has_word(definition: &str, words: &[&str]) -> bool {
    lex_code(definition)
        .into_iter()
        .any(|token| words.iter().any(|w| is_keyword(token, definition, w)))
}

impl Inbound<'_> {
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
        format!("ALTER TABLE {}", qname(&self.table.name))
    }

    fn locks(self, own: LockMode, other: LockMode) -> Vec<LockOn> {
        let mut all = vec![lock_on(&self.table.name, own)];
        if self.to.name != self.table.name || own != other {
            all.push(lock_on(&self.to.name, other));
        }
        all
    }

    /// Both tables are locked at once, in one order, so that no two of ours meet halfway.
    fn locked(self, mode: &str, sql: String) -> Vec<String> {
        let mut all = lock_all(
            [&self.table.name, &self.to.name].into_iter().collect(),
            mode,
        );
        all.push(sql);
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

    fn drop_sql(self, name: &str) -> String {
        format!("{} DROP CONSTRAINT {}", self.head(), ident(name))
    }

    /// What is done with it before it takes its place.
    fn dress(self, side: Side, phase: Phase) -> Vec<Step> {
        let (name, table) = (&self.constraint.name, &self.table.name);
        let which = match side {
            Side::New => "new",
            Side::Old => "old",
        };
        let mut add = Step::sql(
            phase,
            format!(
                "{table}: add foreign key {name} anew, to the {which} column of {}",
                self.to.name
            ),
            self.locked("SHARE ROW EXCLUSIVE", self.add_sql(side)),
        )
        .locks(self.locks(LockMode::ShareRowExclusive, LockMode::ShareRowExclusive))
        .line(self.line);
        if side == Side::New {
            let aid = self.aid(side);
            let undo = Step::sql(
                Phase::Revert,
                format!("{table}: drop constraint {}", ident(&aid)),
                self.locked(
                    "ACCESS EXCLUSIVE",
                    format!("{} DROP CONSTRAINT IF EXISTS {}", self.head(), ident(&aid)),
                ),
            )
            .locks(self.locks(LockMode::AccessExclusive, LockMode::AccessExclusive));
            add.undo = Undo::steps(vec![undo]);
            add.notes.extend(self.stays());
        }
        let mut steps = vec![add];
        if self.constraint.validated {
            steps.push(self.validate(side, phase));
        }
        steps
    }

    fn validate(self, side: Side, phase: Phase) -> Step {
        let mut step = Step::sql(
            phase,
            format!(
                "{}: validate foreign key {}",
                self.table.name, self.constraint.name
            ),
            vec![format!(
                "{} VALIDATE CONSTRAINT {}",
                self.head(),
                ident(&self.aid(side))
            )],
        )
        .locks(self.locks(LockMode::ShareUpdateExclusive, LockMode::RowShare))
        .line(self.line);
        step.estimate.rows = Some(self.table.rows);
        step.estimate.bytes = Some(self.table.bytes);
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

    /// It takes the place of the other one, which is gone.
    fn take_place(self, side: Side, comment: Option<&String>) -> Vec<String> {
        let (head, name) = (self.head(), ident(&self.constraint.name));
        let mut sql = vec![format!(
            "{head} RENAME CONSTRAINT {} TO {name}",
            ident(&self.aid(side))
        )];
        let when = deferrable(as_valid(&self.constraint.definition));
        if !when.is_empty() && !has_word(when, &["DEFERRED"]) {
            sql.push(format!(
                "{head} ALTER CONSTRAINT {name} DEFERRABLE INITIALLY IMMEDIATE"
            ));
        }
        if let Some(comment) = comment {
            sql.push(format!(
                "COMMENT ON CONSTRAINT {name} ON {} IS {}",
                qname(&self.table.name),
                literal(comment)
            ));
        }
        sql
    }
}

/// Locks tables in one fixed order. All waits together are no longer than one try: the application
/// may hold one of the tables and want another one, and would lose a deadlock after
/// `deadlock_timeout` else.
fn lock_all(tables: BTreeSet<&QName>, mode: &str) -> Vec<String> {
    let names: Vec<String> = tables.iter().map(|name| qname(name)).collect();
    let lock = format!("LOCK TABLE {} IN {mode} MODE", names.join(", "));
    if names.len() < 2 {
        return vec![lock];
    }
    let share = format!(
        "SELECT set_config('lock_timeout', greatest(setting::bigint * 9 / {}, 1) || 'ms', true) \
         FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'",
        names.len() * 10
    );
    vec![share, lock]
}

/// The steps that give each a second one before READY, after all that they need.
pub(in crate::plan) fn dress(draft: &Draft<'_>) -> Vec<Step> {
    inbound(draft)
        .into_iter()
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

/// The tables whose types change, by those that are swapped together: foreign keys lead from one
/// new column to another.
pub(in crate::plan) fn together(draft: &Draft<'_>) -> Vec<Vec<QName>> {
    let mut all: Vec<BTreeSet<QName>> = draft
        .retypes
        .keys()
        .map(|name| BTreeSet::from([name.clone()]))
        .collect();
    for key in inbound(draft) {
        if !draft.retypes.contains_key(&key.table.name) {
            continue;
        }
        let (with, without): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|tables| tables.contains(&key.table.name) || tables.contains(&key.to.name));
        all = without;
        all.push(with.into_iter().flatten().collect());
    }
    all.sort();
    all.into_iter()
        .map(|tables| tables.into_iter().collect())
        .collect()
}

/// Their validation, where the old ones are validated.
fn validate(keys: &[Inbound<'_>], side: Side) -> Vec<Step> {
    keys.iter()
        .filter(|key| key.constraint.validated)
        .map(|key| key.validate(side, Phase::Revert))
        .collect()
}

/// The swaps of these tables as one, with the foreign keys that reference their columns.
pub(in crate::plan) fn join(
    draft: &Draft<'_>,
    probed: &Probed,
    tables: &[QName],
    swaps: Vec<Step>,
) -> Option<Step> {
    let mut keys = inbound(draft);
    keys.retain(|key| tables.contains(&key.to.name));
    let mut swaps = swaps.into_iter();
    let mut all = swaps.next()?;
    for other in swaps {
        all = merge(all, other);
    }
    if keys.is_empty() {
        return Some(all);
    }
    let mut locked: BTreeSet<&QName> = tables.iter().collect();
    for key in &keys {
        locked.insert(&key.table.name);
        add_lock(
            &mut all.locks,
            lock_on(&key.table.name, LockMode::AccessExclusive),
        );
    }
    // The tables that other foreign keys of the columns reference, where LOCK TABLE may.
    for table in draft.catalog.tables.values().filter(|t| t.owned) {
        if all
            .locks
            .contains(&lock_on(&table.name, LockMode::AccessExclusive))
        {
            locked.insert(&table.name);
        }
    }
    let lock = lock_all(locked, "ACCESS EXCLUSIVE");
    let places = |side| {
        keys.iter().flat_map(move |key| {
            let name = (key.table.name.clone(), key.constraint.name.clone());
            key.take_place(side, probed.key_comments.get(&name))
        })
    };
    let gone = || keys.iter().map(|key| key.drop_sql(&key.constraint.name));
    if let Work::Sql { statements } = &mut all.work {
        let there = std::mem::take(statements);
        *statements = lock.clone();
        statements.extend(gone());
        statements.extend(there.into_iter().filter(|sql| !is_lock(sql)));
        statements.extend(places(Side::New));
    }
    let locks = all.locks.clone();
    if let Undo::Steps { steps, .. } = &mut all.undo
        && let Some(at) = steps.iter().rposition(is_swap)
    {
        let back = &mut steps[at];
        for lock in locks {
            add_lock(&mut back.locks, lock);
        }
        if let Work::Sql { statements } = &mut back.work {
            let back = std::mem::take(statements);
            *statements = lock;
            statements.extend(gone());
            statements.extend(back.into_iter().filter(|sql| !is_lock(sql)));
            statements.extend(places(Side::Old));
            // The index of a primary key is gone, and what referenced it with it.
            statements.extend(keys.iter().map(|key| key.add_sql(Side::New)));
        }
        let again = validate(&keys, Side::New);
        steps.splice(at + 1..at + 1, again);
        let old = keys
            .iter()
            .flat_map(|key| key.dress(Side::Old, Phase::Revert));
        steps.splice(at..at, old);
    }
    let mut others: Vec<String> = keys
        .iter()
        .map(|key| format!("{} of {}", key.constraint.name, key.table.name))
        .collect();
    others.sort();
    Some(all.note(format!(
        "foreign keys go over to the new type with it: {}",
        others.join(", ")
    )))
}

fn is_lock(sql: &str) -> bool {
    sql.starts_with("LOCK TABLE ")
}

/// The transaction that swaps back.
fn is_swap(step: &Step) -> bool {
    matches!(&step.work, Work::Sql { statements } if statements.first().is_some_and(|s| is_lock(s)))
}

fn add_lock(locks: &mut Vec<LockOn>, lock: LockOn) {
    if !locks.contains(&lock) {
        locks.push(lock);
    }
}

/// Two swaps as one; on the way back all columns are dressed before any is swapped.
fn merge(mut one: Step, other: Step) -> Step {
    let title = |step: &Step| {
        let words = step.title.trim_start_matches("swap ");
        words
            .rsplit_once(" to the new type")
            .or_else(|| words.rsplit_once(" back to the old type"))
            .map_or(words, |(columns, _)| columns)
            .to_owned()
    };
    let join = |one: &mut Step, other: Step, to: &str| {
        one.title = format!("swap {}, {} {to}", title(one), title(&other));
        if let (Work::Sql { statements }, Work::Sql { statements: more }) =
            (&mut one.work, other.work)
        {
            statements.extend(more);
        }
        for lock in other.locks {
            add_lock(&mut one.locks, lock);
        }
        for note in other.notes {
            if !one.notes.contains(&note) {
                one.notes.push(note);
            }
        }
    };
    let undo = std::mem::replace(&mut one.undo, Undo::Nothing);
    let mut second = other;
    let more = std::mem::replace(&mut second.undo, Undo::Nothing);
    join(&mut one, second, "to the new type");
    one.undo = match (undo, more) {
        (
            Undo::Steps { steps, lost },
            Undo::Steps {
                steps: more,
                lost: also,
            },
        ) => {
            let (mut before, mut after, mut back) = (Vec::new(), Vec::new(), None::<Step>);
            for ways in [steps, more] {
                let at = ways.iter().rposition(is_swap);
                for (n, step) in ways.into_iter().enumerate() {
                    match at {
                        Some(at) if n == at => match &mut back {
                            Some(back) => join(back, step, "back to the old type"),
                            None => back = Some(step),
                        },
                        Some(at) if n > at => after.push(step),
                        _ => before.push(step),
                    }
                }
            }
            before.extend(back);
            before.extend(after);
            Undo::Steps {
                steps: before,
                lost: lost.into_iter().chain(also).collect(),
            }
        }
        (other, Undo::Nothing) | (_, other) => other,
    };
    one
}

/// What a foreign key cannot be taken over for.
pub(super) fn check(draft: &Draft<'_>, table: &Table, retype: &Retype) -> Result<()> {
    let refuse = |why: String, help: &str| Err(draft.refused(retype.span, why, help));
    let drop = "drop that foreign key in an earlier migration and add it again in a later one";
    for (other, name) in &table.referenced_by {
        if !draft.catalog.tables.contains_key(other) {
            return refuse(
                format!(
                    "{name} of {other} references {}, and cannot be read",
                    table.name
                ),
                "plan again; if it is refused again, the role may not see that table",
            );
        }
    }
    let columns = std::slice::from_ref(retype);
    for other in draft.catalog.tables.values() {
        for key in &other.constraints {
            if key.references.as_ref() != Some(&table.name) || !references(key, columns) {
                continue;
            }
            let (name, of) = (&key.name, &other.name);
            let what = format!(
                "foreign key {name} of {of} references {} of {}",
                retype.column, table.name
            );
            if other.kind != RelKind::Table || other.partition_of.is_some() {
                return refuse(
                    format!(
                        "{what}, and {of} is partitioned: a second one cannot be added there \
                             without reading it under a lock"
                    ),
                    drop,
                );
            }
            if !other.owned {
                return refuse(
                    format!("{what}, and role {} does not own {of}", draft.catalog.role),
                    "run pgshift as a role that owns both tables, or drop that foreign key in an \
                     earlier migration and add it again in a later one",
                );
            }
            if has_word(&key.definition, &["PERIOD"]) || key.definition.contains("NOT ENFORCED") {
                return refuse(format!("{what}, with PERIOD or NOT ENFORCED"), drop);
            }
        }
    }
    Ok(())
}

/// Tables that a plan has to know besides those that the migration names: whose foreign keys
/// reference a table of which it changes types, and, where they change too, those of theirs.
pub fn wanted(migration: &Migration, catalog: &Catalog) -> BTreeSet<QName> {
    let mut tables: BTreeSet<&QName> = BTreeSet::new();
    for statement in migration.sections.iter().flat_map(|s| &s.statements) {
        if let Action::AlterTable { name, ops, .. } = understand(&statement.sql)
            && let Some(table) = catalog.table(name.schema.as_deref(), &name.name)
            && ops
                .iter()
                .any(|op| matches!(op.kind, AlterOpKind::SetType { .. }))
        {
            tables.insert(&table.name);
        }
    }
    let mut missing = BTreeSet::new();
    let mut open: Vec<&QName> = tables.iter().copied().collect();
    while let Some(name) = open.pop() {
        for (other, _) in catalog
            .tables
            .get(name)
            .iter()
            .flat_map(|t| &t.referenced_by)
        {
            match catalog.tables.get(other) {
                None => {
                    missing.insert(other.clone());
                }
                Some(table) if migration.options.cascade && tables.insert(&table.name) => {
                    open.push(&table.name);
                }
                Some(_) => {}
            }
        }
    }
    missing
}

/// A question about a foreign key: whether the types compare.
#[derive(Debug, Clone)]
pub struct Question {
    /// The table that has the key.
    pub table: QName,
    /// Its oid.
    pub oid: u32,
    /// The key's name.
    pub name: String,
    /// Statements upon the temporary copies.
    pub statements: Vec<String>,
    /// Where the change stands in the file.
    pub span: crate::sql::Span,
    /// What is refused where the server does.
    pub why: String,
    /// The way out.
    pub help: String,
}

/// The questions; `copies` are the names of the copies of tables that change.
pub(in crate::plan) fn questions(
    draft: &Draft<'_>,
    copies: &BTreeMap<QName, String>,
) -> Vec<Question> {
    let list = |names: &[String], of: &[Retype]| {
        let names: Vec<String> = names
            .iter()
            .map(|n| Inbound::name_of(of, Side::New, n).unwrap_or_else(|| n.clone()))
            .map(|n| ident(&n))
            .collect();
        names.join(", ")
    };
    inbound(draft)
        .into_iter()
        .enumerate()
        .filter_map(|(number, key)| {
            let to = copies.get(&key.to.name)?;
            let mut statements = Vec::new();
            let own = copies.get(&key.table.name).cloned().unwrap_or_else(|| {
                let name = format!("pgshift_key_{}", number + 1);
                statements.push(format!(
                    "CREATE TEMP TABLE {} (LIKE {})",
                    ident(&name),
                    qname(&key.table.name)
                ));
                name
            });
            let theirs = referenced(&key.constraint.definition);
            statements.push(format!(
                "ALTER TABLE pg_temp.{} ADD FOREIGN KEY ({}) REFERENCES pg_temp.{} ({})",
                ident(&own),
                list(&key.constraint.columns, key.own),
                ident(to),
                list(&theirs, key.theirs)
            ));
            Some(Question {
                table: key.table.name.clone(),
                oid: key.table.oid,
                name: key.constraint.name.clone(),
                statements,
                span: key.theirs.first().map(|r| r.span).unwrap_or_default(),
                why: format!(
                    "foreign key {} of {} cannot reference the new type",
                    key.constraint.name, key.table.name
                ),
                help: format!(
                    "{CASCADE}, or change {} of {} in the same file",
                    key.constraint.columns.join(", "),
                    key.table.name
                ),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_referenced_gets_another_name() {
        let definition = "FOREIGN KEY (a, b) REFERENCES \"REFERENCES (a)\".\"t (b)\"(b, \"A\") MATCH \
                          FULL ON DELETE SET NULL (b) DEFERRABLE";
        assert_eq!(referenced(definition), ["b", "A"]);
        assert_eq!(
            rewritten(definition, |name| (name == "b").then(|| "new".to_owned())),
            "FOREIGN KEY (a, b) REFERENCES \"REFERENCES (a)\".\"t (b)\"(\"new\", \"A\") MATCH FULL ON \
             DELETE SET NULL (b) DEFERRABLE"
        );
    }

    #[test]
    fn all_waits_for_locks_are_one_try() {
        let (a, b) = (QName::new("public", "a"), QName::new("public", "b"));
        let sql = lock_all([&b, &a].into_iter().collect(), "ACCESS EXCLUSIVE");
        assert_eq!(
            sql[1],
            "LOCK TABLE \"public\".\"a\", \"public\".\"b\" IN ACCESS EXCLUSIVE MODE"
        );
        assert!(sql[0].contains("setting::bigint * 9 / 20"), "{}", sql[0]);
        assert_eq!(lock_all([&a, &a].into_iter().collect(), "SHARE").len(), 1);
    }
}
