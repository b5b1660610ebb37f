//! Foreign keys that reference a column whose type changes: of other tables, and of the table to
//! itself. What references stays as it is where the types compare, or changes with it.
//!
//! Each gets a second one between the new columns before READY. The swap drops the old one and
//! gives its name to the new one, so nothing is checked under the lock.
//!
//! A partitioned table has its new key only from the swap on, which makes the foreign key anew, NOT
//! VALID; the step after it validates it.

mod question;
mod together;

use std::collections::BTreeSet;

use super::Retype;
use super::definition::{as_valid, deferrable, foreign_key};
use super::dress::Side;
use crate::catalog::{Constraint, ConstraintKind, QName, RelKind, Table};
use crate::lock::{LockMode, LockOn};
use crate::plan::build::{line, lock_on};
use crate::plan::draft::Draft;
use crate::plan::step::{Phase, Step, Undo};
use crate::sql::lex::{TokenKind, ident_value, is_keyword, lex_code};
use crate::sql::quote::{derived_name, dollar, ident, literal, qname};

pub(super) use question::check;
pub(in crate::plan) use question::questions;
pub use question::{Question, wanted};
pub(in crate::plan) use together::{join, together};

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
            &[&self.table.name, &self.to.name].into_iter().collect(),
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

    fn added(self, side: Side) -> Vec<String> {
        let mut sql = self.locked("SHARE ROW EXCLUSIVE", self.add_sql(side));
        sql.extend(self.turn(&self.aid(side), false));
        sql
    }

    fn turn(self, name: &str, first: bool) -> Option<String> {
        let definition = &self.constraint.definition;
        turn(&self.table.name, name, definition, first)
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
            self.added(side),
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

    /// It by its own name, in a swap, of which no row is read.
    fn add_late(self) -> String {
        format!(
            "{} ADD CONSTRAINT {} {} NOT VALID",
            self.head(),
            ident(&self.constraint.name),
            as_valid(&self.constraint.definition)
        )
    }

    fn validate(self, side: Side, phase: Phase) -> Step {
        let name = if self.is_late() {
            self.constraint.name.clone()
        } else {
            self.aid(side)
        };
        let mut step = Step::sql(
            phase,
            format!(
                "{}: validate foreign key {}",
                self.table.name, self.constraint.name
            ),
            vec![format!(
                "{} VALIDATE CONSTRAINT {}",
                self.head(),
                ident(&name)
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
        let mut sql = Vec::new();
        if self.is_late() {
            sql.push(self.add_late());
        } else {
            sql.push(format!(
                "{head} RENAME CONSTRAINT {} TO {name}",
                ident(&self.aid(side))
            ));
            sql.extend(self.turn(&self.constraint.name, true));
            let when = deferrable(as_valid(&self.constraint.definition));
            if !when.is_empty() && !has_word(when, &["DEFERRED"]) {
                sql.push(format!(
                    "{head} ALTER CONSTRAINT {name} DEFERRABLE INITIALLY IMMEDIATE"
                ));
            }
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
fn lock_all(tables: &BTreeSet<&QName>, mode: &str) -> Vec<String> {
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

/// SET DEFAULT of a new column would set it to null, as it has no default yet, and the sync trigger
/// would map that back: so the key that acts first must be the old one. Triggers fire in the order
/// of their names, which for those of keys end in numbers (documentation, "Overview of Trigger
/// Behavior"): `first` says which key this is from now on.
pub(super) fn turn(table: &QName, name: &str, definition: &str, first: bool) -> Option<String> {
    let defaults = lex_code(definition).windows(2).any(|pair| {
        is_keyword(pair[0], definition, "SET") && is_keyword(pair[1], definition, "DEFAULT")
    });
    if !defaults {
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
        let sql = lock_all(&[&b, &a].into_iter().collect(), "ACCESS EXCLUSIVE");
        assert_eq!(
            sql[1],
            "LOCK TABLE \"public\".\"a\", \"public\".\"b\" IN ACCESS EXCLUSIVE MODE"
        );
        assert!(sql[0].contains("setting::bigint * 9 / 20"), "{}", sql[0]);
        assert_eq!(lock_all(&[&a, &a].into_iter().collect(), "SHARE").len(), 1);
    }
}
