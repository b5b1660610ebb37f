//! Gives a column what another one has: indexes, keys, conditions, comments, rights.

use std::collections::BTreeMap;

use super::Retype;
use super::definition::{as_valid, deferrable, foreign_key, index_tail, with_tablespace};
use super::inbound;
use super::question::{Answer, ConstraintForm, IndexForm};
use super::small::{self, Allowed};
use crate::catalog::details::Grant;
use crate::catalog::{Constraint, ConstraintKind, QName};
use crate::lock::{LockMode, LockOn};
use crate::plan::build::lock_on;
use crate::plan::forms::{NOT_NULL_CONSTRAINTS, not_null_steps};
use crate::plan::step::{Phase, Step, Undo, Work};
use crate::sql::quote::{derived_name, ident, literal, qname};

/// Which of two columns is dressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plan) enum Side {
    /// The new one, before contract.
    New,
    /// The old one, before a way back.
    Old,
}

impl Side {
    /// What its column is called while it is dressed.
    pub(super) fn name_of(self, retype: &Retype) -> &str {
        match self {
            Self::New => &retype.shadow,
            Self::Old => &retype.old,
        }
    }
}

/// A table with columns that change their type.
#[derive(Clone, Copy)]
pub(in crate::plan) struct Swapped<'d> {
    /// The table before the migration.
    pub(in crate::plan) table: &'d crate::catalog::Table,
    /// Its columns that change.
    pub(in crate::plan) columns: &'d [Retype],
    /// What the server said of it.
    pub(in crate::plan) answer: &'d Answer,
    /// What the author takes on.
    pub(in crate::plan) allowed: Allowed,
    /// The columns that change of every table.
    pub(in crate::plan) all: &'d BTreeMap<QName, Vec<Retype>>,
    /// The server's major version.
    pub(in crate::plan) major: u32,
    /// The role that runs the migration.
    pub(in crate::plan) role: &'d str,
    /// The migration's id.
    pub(in crate::plan) migration: &'d str,
    /// Line of the file.
    pub(in crate::plan) line: usize,
}

impl<'d> Swapped<'d> {
    /// `ALTER TABLE name`.
    pub(super) fn head(self) -> String {
        format!("ALTER TABLE {}", qname(&self.table.name))
    }

    /// The name of an index or a constraint until it takes its place.
    pub(super) fn aid(self, side: Side, name: &str) -> String {
        let side = match side {
            Side::New => "new",
            Side::Old => "old",
        };
        let key = format!("{} {} {name} {side}", self.migration, self.table.name);
        derived_name("_pgshift_", name, &key)
    }

    /// The column of this name, where it changes.
    fn changes(self, column: &str) -> Option<&'d Retype> {
        self.columns.iter().find(|r| r.column == column)
    }

    /// Constraints of a kind that have one of the columns in them.
    pub(super) fn constraints(
        self,
        kind: ConstraintKind,
    ) -> impl Iterator<Item = &'d Constraint> + use<'d> {
        self.table.constraints.iter().filter(move |c| {
            c.kind == kind
                && match kind {
                    ConstraintKind::Check => {
                        self.answer.checks.iter().any(|check| check.name == c.name)
                    }
                    // INCLUDE is in the index only.
                    ConstraintKind::PrimaryKey
                    | ConstraintKind::Unique
                    | ConstraintKind::Exclusion => {
                        self.answer.indexes.iter().any(|i| i.name == c.name)
                    }
                    _ => {
                        // One that references a column that changes is nobody's alone.
                        let theirs = c.references.as_ref().and_then(|to| self.all.get(to));
                        c.columns.iter().any(|c| self.changes(c).is_some())
                            && !theirs.is_some_and(|theirs| inbound::references(c, theirs))
                    }
                }
        })
    }

    /// Indexes that no constraint owns.
    pub(super) fn plain_indexes(self) -> impl Iterator<Item = &'d IndexForm> + use<'d> {
        self.answer.indexes.iter().filter(move |index| {
            let own = self.table.index(&index.name);
            !own.is_some_and(|i| i.constraint)
        })
    }

    /// A lock on the table.
    pub(super) fn lock(self, mode: LockMode) -> LockOn {
        lock_on(&self.table.name, mode)
    }

    /// Locks on the tables that the foreign keys of the columns reference.
    pub(super) fn referenced(self, mode: LockMode) -> Vec<LockOn> {
        let mut all: Vec<LockOn> = self
            .constraints(ConstraintKind::ForeignKey)
            .filter_map(|c| c.references.as_ref())
            .map(|other| lock_on(other, mode))
            .collect();
        all.sort_by(|one, other| one.relation.cmp(&other.relation));
        all.dedup();
        all
    }

    pub(super) fn step(self, side: Side, title: String, statements: Vec<String>) -> Step {
        let phase = match side {
            Side::New => Phase::Validate,
            Side::Old => Phase::Revert,
        };
        Step::sql(phase, title, statements).line(self.line)
    }

    /// The steps, in order.
    pub(in crate::plan) fn dress(self, side: Side) -> Vec<Step> {
        if self.is_tree() {
            return self.dress_tree(side);
        }
        let excludes =
            |index: &&IndexForm| self.answer.exclusions.iter().any(|e| e.name == index.name);
        let mut steps: Vec<Step> = self
            .answer
            .indexes
            .iter()
            .filter(|index| !excludes(index))
            .map(|index| self.index(side, index))
            .collect();
        if side == Side::New
            && let Some(first) = steps.first_mut()
        {
            first
                .notes
                .push("after the backfill: it is faster then, and the index smaller".to_owned());
        }
        for retype in self.columns {
            steps.extend(self.not_null(side, retype));
        }
        for unique in self.constraints(ConstraintKind::Unique) {
            steps.push(self.unique(side, unique));
        }
        for form in &self.answer.exclusions {
            steps.push(self.exclusion(side, form));
        }
        steps.extend(self.checks(side));
        for key in self.constraints(ConstraintKind::ForeignKey) {
            let definition = foreign_key(as_valid(&key.definition), |name| {
                let retype = self.changes(name)?;
                Some(side.name_of(retype).to_owned())
            });
            steps.extend(self.checked(side, &key.name, &definition, key.validated, true));
        }
        steps.extend(self.statistics(side));
        steps.extend(self.details(side));
        steps.push(self.analyze(side));
        steps
    }

    pub(super) fn checks(self, side: Side) -> Vec<Step> {
        let mut steps = Vec::new();
        for check in &self.answer.checks {
            let definition = match side {
                Side::New => &check.new,
                Side::Old => &check.old,
            };
            let valid = self
                .table
                .constraint(&check.name)
                .is_none_or(|c| c.validated);
            steps.extend(self.checked(side, &check.name, definition, valid, false));
        }
        steps
    }

    pub(super) fn analyze(self, side: Side) -> Step {
        let names: Vec<_> = self.columns.iter().map(|c| c.column.as_str()).collect();
        self.step(
            side,
            format!("analyze {}", self.table.name),
            vec![format!("ANALYZE {}", qname(&self.table.name))],
        )
        .locks(vec![self.lock(LockMode::ShareUpdateExclusive)])
        .note(format!(
            "the planner knows nothing of another {} yet",
            names.join(", ")
        ))
    }

    fn index(self, side: Side, index: &IndexForm) -> Step {
        let aid = self.aid(side, &index.name);
        match side {
            Side::New => self.build(side, &aid, &index.new, index),
            Side::Old => self.build(side, &aid, &index.old, index),
        }
    }

    /// An index that the new column had before contract, on the column that took its place.
    pub(super) fn index_of_swapped(self, index: &IndexForm) -> Option<Step> {
        let aid = self.aid(Side::New, &index.name);
        let tail = index_tail(&index.definition.text)?;
        Some(self.build(Side::Old, &aid, tail, index))
    }

    pub(super) fn build(self, side: Side, aid: &str, tail: &str, index: &IndexForm) -> Step {
        let named = QName::new(self.table.name.schema.as_str(), aid);
        let sql = format!(
            "CREATE {}INDEX CONCURRENTLY {} ON {} {}",
            if index.unique { "UNIQUE " } else { "" },
            ident(aid),
            qname(&self.table.name),
            with_tablespace(tail, index.definition.tablespace.as_deref())
        );
        let mut step = self.step(
            side,
            format!("build index {} of {} anew", index.name, self.table.name),
            Vec::new(),
        );
        step.work = Work::Concurrent {
            sql,
            index: Some(named.clone()),
            drops: false,
        };
        step.locks = vec![self.lock(LockMode::ShareUpdateExclusive)];
        step.estimate.rows = Some(self.table.rows);
        step.estimate.bytes = Some(self.table.bytes);
        step.estimate.basis = Some("builds an index".to_owned());
        if side == Side::New {
            let mut undo = Step::new(
                Phase::Revert,
                format!("drop index {named}"),
                Work::Concurrent {
                    sql: format!("DROP INDEX CONCURRENTLY IF EXISTS {}", qname(&named)),
                    index: Some(named),
                    drops: true,
                },
            );
            undo.locks = vec![self.lock(LockMode::ShareUpdateExclusive)];
            step.undo = Undo::steps(vec![undo]);
        }
        step
    }

    /// The name of a NOT NULL constraint (from 18), and the one that the dressed column's has.
    pub(super) fn not_null_names(self, side: Side, retype: &Retype) -> Option<(String, String)> {
        if self.major < NOT_NULL_CONSTRAINTS {
            return None;
        }
        let constraint =
            self.table.constraints.iter().find(|c| {
                c.kind == ConstraintKind::NotNull && c.columns == [retype.column.as_str()]
            })?;
        Some((constraint.name.clone(), self.aid(side, &constraint.name)))
    }

    pub(super) fn not_null(self, side: Side, retype: &Retype) -> Vec<Step> {
        let Some(column) = self.table.column(&retype.column) else {
            return Vec::new();
        };
        let names = self.not_null_names(side, retype);
        // From 18 one may be there that is not validated.
        if !column.not_null && names.is_none() {
            return Vec::new();
        }
        let dressed = side.name_of(retype);
        let aid = names.map(|(_, aid)| aid);
        not_null_steps(
            &self.head(),
            self.table,
            dressed,
            self.major,
            aid.as_deref(),
        )
        .into_iter()
        .filter(|step| column.not_null || !step.validates)
        .map(|step| {
            let mode = if step.validates {
                LockMode::ShareUpdateExclusive
            } else {
                LockMode::AccessExclusive
            };
            let title = if step.validates {
                format!("{}: check that no {dressed} is null", self.table.name)
            } else {
                format!("{}: make {dressed} not null", self.table.name)
            };
            self.step(side, title, vec![step.sql])
                .locks(vec![self.lock(mode)])
        })
        .collect()
    }

    fn unique(self, side: Side, constraint: &Constraint) -> Step {
        let aid = ident(&self.aid(side, &constraint.name));
        let deferrable = deferrable(&constraint.definition);
        let space = if deferrable.is_empty() { "" } else { " " };
        let definition = format!("UNIQUE USING INDEX {aid}{space}{deferrable}");
        self.constrain(side, &constraint.name, &definition, None)
    }

    /// An exclusion constraint, whose index the server builds and checks under the lock.
    fn exclusion(self, side: Side, form: &ConstraintForm) -> Step {
        let definition = match side {
            Side::New => &form.new,
            Side::Old => &form.old,
        };
        let guard = (!self.allowed.exclusion)
            .then(|| small::guard_exclusion(self.table, &form.name, definition));
        let mut step = self.constrain(side, &form.name, definition, guard);
        step.estimate.rows = Some(self.table.rows);
        step.estimate.bytes = Some(self.table.bytes);
        step.estimate.basis = Some("builds an index".to_owned());
        step.note("nobody can use the table while its index is built: there is no other form")
    }

    fn constrain(self, side: Side, name: &str, definition: &str, before: Option<String>) -> Step {
        let aid = ident(&self.aid(side, name));
        let head = self.head();
        let mut sql: Vec<String> = before.into_iter().collect();
        sql.push(format!("{head} ADD CONSTRAINT {aid} {definition}"));
        let step = self
            .step(
                side,
                format!("{}: add constraint {name} anew", self.table.name),
                sql,
            )
            .locks(vec![self.lock(LockMode::AccessExclusive)]);
        if side == Side::Old {
            return step;
        }
        let undo = Step::sql(
            Phase::Revert,
            format!("{}: drop constraint {aid}", self.table.name),
            vec![format!("{head} DROP CONSTRAINT IF EXISTS {aid}")],
        );
        step.undo(Undo::steps(vec![
            undo.locks(vec![self.lock(LockMode::AccessExclusive)]),
        ]))
    }

    /// NOT VALID, then VALIDATE.
    pub(super) fn checked(
        self,
        side: Side,
        name: &str,
        definition: &str,
        valid: bool,
        foreign: bool,
    ) -> Vec<Step> {
        let aid = ident(&self.aid(side, name));
        let head = self.head();
        let (mode, other, undo_mode) = if foreign {
            (
                LockMode::ShareRowExclusive,
                self.referenced(LockMode::ShareRowExclusive),
                self.referenced(LockMode::AccessExclusive),
            )
        } else {
            (LockMode::AccessExclusive, Vec::new(), Vec::new())
        };
        let with = |mode, others: Vec<LockOn>| {
            let mut all = vec![self.lock(mode)];
            all.extend(others);
            all
        };
        let mut sql = vec![format!(
            "{head} ADD CONSTRAINT {aid} {definition} NOT VALID"
        )];
        if foreign {
            let name = self.aid(side, name);
            sql.extend(inbound::turn(&self.table.name, &name, definition, false));
        }
        let mut add = self
            .step(
                side,
                format!("{}: add constraint {name} anew", self.table.name),
                sql,
            )
            .locks(with(mode, other));
        if side == Side::New {
            let undo = Step::sql(
                Phase::Revert,
                format!("{}: drop constraint {aid}", self.table.name),
                vec![format!("{head} DROP CONSTRAINT IF EXISTS {aid}")],
            );
            add.undo = Undo::steps(vec![undo.locks(with(LockMode::AccessExclusive, undo_mode))]);
        }
        let mut steps = vec![add];
        if valid {
            let referenced = if foreign {
                self.referenced(LockMode::RowShare)
            } else {
                Vec::new()
            };
            let mut step = self
                .step(
                    side,
                    format!("{}: validate constraint {name}", self.table.name),
                    vec![format!("{head} VALIDATE CONSTRAINT {aid}")],
                )
                .locks(with(LockMode::ShareUpdateExclusive, referenced));
            step.estimate.rows = Some(self.table.rows);
            step.estimate.bytes = Some(self.table.bytes);
            step.estimate.basis = Some("reads every row".to_owned());
            steps.push(step);
        }
        steps
    }

    /// Comments, rights and settings, as ALTER COLUMN … TYPE keeps them.
    pub(super) fn details(self, side: Side) -> Option<Step> {
        let table = qname(&self.table.name);
        let schema = ident(&self.table.name.schema);
        let head = self.head();
        let mut sql = Vec::new();
        // The old column has its own all the time.
        let columns = if side == Side::New { self.columns } else { &[] };
        for retype in columns {
            let column = ident(&retype.shadow);
            let own = self.table.column(&retype.column);
            if let Some(comment) = own.and_then(|c| c.comment.as_ref()) {
                sql.push(format!(
                    "COMMENT ON COLUMN {table}.{column} IS {}",
                    literal(comment)
                ));
            }
            let Some(details) = self.answer.details.get(&retype.column) else {
                continue;
            };
            if let Some(target) = details.statistics {
                sql.push(format!(
                    "{head} ALTER COLUMN {column} SET STATISTICS {target}"
                ));
            }
            if !details.options.is_empty() {
                let options = details.options.join(", ");
                sql.push(format!("{head} ALTER COLUMN {column} SET ({options})"));
            }
            sql.extend(
                details
                    .grants
                    .iter()
                    .map(|grant| grant_sql(grant, &format!(" ({column})"), &table)),
            );
        }
        for index in &self.answer.indexes {
            if let Some(comment) = &index.definition.comment {
                sql.push(format!(
                    "COMMENT ON INDEX {schema}.{} IS {}",
                    ident(&self.aid(side, &index.name)),
                    literal(comment)
                ));
            }
            // Those of a tree are handed over in the swap.
            for (column, target) in index.definition.targets.iter().filter(|_| !self.is_tree()) {
                sql.push(format!(
                    "ALTER INDEX {schema}.{} ALTER COLUMN {column} SET STATISTICS {target}",
                    ident(&self.aid(side, &index.name))
                ));
            }
        }
        let constraints = [
            ConstraintKind::Unique,
            ConstraintKind::Exclusion,
            ConstraintKind::Check,
            ConstraintKind::ForeignKey,
        ];
        for constraint in constraints.into_iter().flat_map(|k| self.constraints(k)) {
            if let Some(comment) = self.answer.comments.get(&constraint.name) {
                sql.push(format!(
                    "COMMENT ON CONSTRAINT {} ON {table} IS {}",
                    ident(&self.aid(side, &constraint.name)),
                    literal(comment)
                ));
            }
        }
        if sql.is_empty() {
            return None;
        }
        let mode = if sql
            .iter()
            .any(|s| s.starts_with("ALTER") || s.contains("CONSTRAINT"))
        {
            LockMode::AccessExclusive
        } else {
            LockMode::ShareUpdateExclusive
        };
        let title = format!("{}: comments, rights and settings", self.table.name);
        Some(self.step(side, title, sql).locks(vec![self.lock(mode)]))
    }
}

/// `GRANT SELECT (column) ON table TO role`.
pub(super) fn grant_sql(grant: &Grant, of: &str, on: &str) -> String {
    format!(
        "GRANT {}{of} ON {on} TO {}{}",
        grant.privilege,
        grant.grantee.as_deref().map_or("PUBLIC".to_owned(), ident),
        if grant.grantable {
            " WITH GRANT OPTION"
        } else {
            ""
        }
    )
}
