//! The contract phase: what only the old application version needs goes, softly, so that it can
//! come back until purge.

mod column;
mod sequence;
mod table;

use std::collections::BTreeSet;

use super::backfills::{PlannedBackfill, search_path};
use super::build::{MovedDefault, line, lock_on, remove_sync};
use super::draft::Draft;
use super::inverse::inverse;
use super::locks::locks;
use super::probe::Probed;
use super::rename;
use super::retype;
use super::sections::Known;
use super::statements::{attach_reverts, ordinary, text_steps, undo_of};
use super::step::{Phase, Step, Undo};
use super::sync::{Form, Renamed, SyncGroup};
use crate::catalog::{Catalog, Constraint, QName, Table};
use crate::error::{Error, Result};
use crate::lock::LockMode;
use crate::lock::LockOn;
use crate::plan::title::describes;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, RelName};
use crate::sql::quote::{ident, qname};

/// What the contract phase consists of.
#[derive(Debug, Default)]
pub(super) struct Contract {
    pub(super) steps: Vec<Step>,
    pub(super) purge: Vec<Step>,
    pub(super) warnings: Vec<String>,
}

/// What the phases before leave.
pub(super) struct Before<'e> {
    pub(super) after: &'e Catalog,
    pub(super) created: &'e BTreeSet<RelName>,
    pub(super) defaults: &'e [MovedDefault],
    /// What the server said.
    pub(super) probed: &'e Probed,
    /// What was filled.
    pub(super) backfills: &'e [PlannedBackfill],
    /// The revert section of a plain file is still to be given to a step.
    pub(super) plain_revert: bool,
}

/// Builds contract and purge. `verify` are the checks that come first.
pub(super) fn build(
    draft: &Draft<'_>,
    before: &Before<'_>,
    groups: &[SyncGroup],
    verify: Vec<Step>,
) -> Result<Contract> {
    if draft.sections.contract.is_empty() && groups.is_empty() && draft.renames.tables.is_empty() {
        return Ok(Contract::default());
    }
    let mut builder = Builder {
        draft,
        before,
        groups,
        switched: BTreeSet::new(),
        renamed: Vec::new(),
        dropped: BTreeSet::new(),
        views: Vec::new(),
        contract: Contract::default(),
    };
    builder.contract.steps = verify;
    let first = builder.contract.steps.len();
    for rename in &draft.renames.tables {
        let step = rename::table::contract_step(draft, before.after, rename);
        builder
            .contract
            .steps
            .push(step.line(line(draft, rename.span)));
    }
    for table in draft.renames.column_tables() {
        builder.swap_columns(table);
    }
    for known in &draft.sections.contract {
        builder.statement(known)?;
    }
    let reverts = if before.plain_revert {
        &draft.sections.revert_expand
    } else {
        &draft.sections.revert_contract
    };
    attach_reverts(
        draft,
        &mut builder.contract.steps[first..],
        reverts,
        "contract",
    )?;
    for tables in retype::inbound::together(draft, before.probed) {
        builder.retype(&tables)?;
    }
    for group in groups {
        if !builder.switched.contains(&group.table) {
            builder.end_sync(group);
        }
    }
    for default in before.defaults {
        builder.set_default(default);
    }
    // Triggers that still feed soft-dropped columns go first.
    let mut purge: Vec<Step> = groups
        .iter()
        .filter(|g| g.has_reverse())
        .map(|g| {
            let mut step = remove_sync(g);
            step.phase = Phase::Purge;
            step
        })
        .collect();
    purge.append(&mut builder.contract.purge);
    builder.contract.purge = purge
        .into_iter()
        .map(|s| {
            s.undo(Undo::Irreversible {
                reason: "purge is final".to_owned(),
            })
        })
        .collect();
    Ok(builder.contract)
}

struct Builder<'d, 'a> {
    draft: &'d Draft<'a>,
    before: &'d Before<'d>,
    groups: &'d [SyncGroup],
    /// Tables whose trigger no longer maps forward.
    switched: BTreeSet<QName>,
    /// Soft-dropped and renamed columns by table.
    renamed: Vec<(QName, Renamed)>,
    /// Constraints that are gone, by table.
    dropped: BTreeSet<(QName, String)>,
    /// Views that are gone.
    views: Vec<RelName>,
    contract: Contract,
}

impl Builder<'_, '_> {
    fn statement(&mut self, known: &Known<'_>) -> Result<()> {
        let draft = self.draft;
        let span = known.statement.span;
        match &known.action {
            Action::AlterTable {
                name,
                ops,
                head,
                if_exists,
                ..
            } => {
                let Some(table) = draft.table(name) else {
                    let drops = ops
                        .iter()
                        .any(|op| matches!(op.kind, AlterOpKind::DropColumn { .. }));
                    if drops && !*if_exists && !self.before.created.contains(name) {
                        return Err(self.no_table(name, span));
                    }
                    return self.ordinary(known);
                };
                self.alter(known, table, ops, head.of(&known.statement.sql))
            }
            Action::DropTable {
                names,
                cascade,
                if_exists,
            } => {
                for name in names {
                    match draft.table(name) {
                        Some(table) => self.drop_table(table, *cascade, span)?,
                        None if *if_exists => {}
                        None => return Err(self.no_table(name, span)),
                    }
                }
                Ok(())
            }
            Action::DropSequence {
                names,
                cascade,
                if_exists,
            } => {
                for name in names {
                    self.drop_sequence(name, *if_exists, *cascade, span)?;
                }
                Ok(())
            }
            Action::Update { .. } | Action::Delete { .. } => Err(draft.wrong(
                span,
                "contract does not change rows",
                "put it into a `-- pgshift: backfill` section",
            )),
            Action::DropView { names, .. } => {
                self.views.extend_from_slice(names);
                self.ordinary(known)
            }
            _ => self.ordinary(known),
        }
    }

    /// Of what depends on something, what no statement before this one drops.
    fn left<'d>(&self, dependents: impl Iterator<Item = &'d String>) -> Vec<String> {
        let gone = |what: &str| self.views.iter().any(|view| describes(what, view));
        dependents.filter(|what| !gone(what)).cloned().collect()
    }

    /// ALTER TABLE: columns that it drops first, as the server does, then the rest as one.
    fn alter(
        &mut self,
        known: &Known<'_>,
        table: &Table,
        ops: &[AlterOp],
        head: &str,
    ) -> Result<()> {
        let sql = &known.statement.sql;
        let span = known.statement.span;
        for op in ops {
            if let AlterOpKind::DropConstraint { name, .. } = &op.kind {
                self.dropped.insert((table.name.clone(), name.clone()));
            }
        }
        let mut rest = Vec::new();
        for op in ops {
            let at = op.span.shift(span.start);
            match &op.kind {
                AlterOpKind::DropColumn {
                    name,
                    if_exists,
                    cascade,
                } => {
                    if table.column(name).is_none() && *if_exists {
                        continue;
                    }
                    self.drop_column(table, name, *cascade, at)?;
                }
                AlterOpKind::RenameColumn { from, to } => {
                    return self.rename_column(table, known, from, to);
                }
                AlterOpKind::RenameTable { .. } | AlterOpKind::SetSchema { .. } => {
                    self.check_rename_table(table, at)?;
                    rest.push(op.span.of(sql));
                }
                _ => rest.push(op.span.of(sql)),
            }
        }
        if rest.len() == ops.len() {
            return self.ordinary(known);
        }
        if !rest.is_empty() {
            let text = format!("{head} {}", rest.join(", "));
            let created = self.before.created;
            let after = self.before.after;
            let mut steps = text_steps(self.draft, after, &text, span, Phase::Contract, created)?;
            self.push(&mut steps, span);
        }
        Ok(())
    }

    fn ordinary(&mut self, known: &Known<'_>) -> Result<()> {
        let (after, created) = (self.before.after, self.before.created);
        let mut steps = ordinary(self.draft, after, known, Phase::Contract, created)?;
        self.push(&mut steps, known.statement.span);
        Ok(())
    }

    fn push(&mut self, steps: &mut Vec<Step>, span: Span) {
        for step in steps.iter_mut() {
            step.line = Some(line(self.draft, span));
        }
        self.contract.steps.append(steps);
    }

    fn no_table(&self, name: &RelName, span: Span) -> Error {
        self.draft.wrong(
            span,
            format!("table {name} does not exist"),
            "it must exist, by this name, before the migration",
        )
    }

    fn group(&self, table: &QName) -> Option<&SyncGroup> {
        self.groups.iter().find(|g| g.table == *table)
    }

    fn renamed(&self, table: &QName) -> Vec<Renamed> {
        self.renamed
            .iter()
            .filter(|(t, _)| t == table)
            .map(|(_, r)| r.clone())
            .collect()
    }

    /// What the same transaction that renames a column does to the table's sync trigger, whose
    /// function names columns: it maps in reverse only from now on, or is gone. (Statements,
    /// statements of the way back.)
    fn switch_sync(&mut self, table: &QName, rename: Renamed) -> (Vec<String>, Vec<String>) {
        let before = self.renamed(table);
        self.renamed.push((table.clone(), rename));
        let after = self.renamed(table);
        let Some(group) = self.group(table).cloned() else {
            return (Vec::new(), Vec::new());
        };
        let first = self.switched.insert(table.clone());
        if group.has_reverse() {
            let form = if first { Form::Both } else { Form::ReverseOnly };
            (
                group.replace_function(Form::ReverseOnly, &after),
                group.replace_function(form, &before),
            )
        } else if first {
            (group.remove(), group.create(Form::Both, &before))
        } else {
            (Vec::new(), Vec::new())
        }
    }

    /// Drops a constraint that would outlive what it is about, in the transaction that renames
    /// that away: (statement, its locks, way back, what is lost).
    fn drop_constraint(&self, table: &Table, constraint: &Constraint) -> Gone {
        let head = format!("ALTER TABLE {}", qname(&table.name));
        let action = Action::AlterTable {
            name: RelName::from(&table.name),
            only: false,
            if_exists: false,
            head: Span::default(),
            ops: vec![AlterOp {
                kind: AlterOpKind::DropConstraint {
                    name: constraint.name.clone(),
                    if_exists: false,
                    cascade: false,
                },
                span: Span::default(),
            }],
        };
        let catalog = self.draft.catalog;
        let (undo, lost) = match undo_of(inverse(&action, catalog), catalog) {
            Undo::Steps { steps, lost } => (steps, lost),
            Undo::Nothing => (Vec::new(), Vec::new()),
            Undo::Irreversible { reason } => (Vec::new(), vec![reason]),
        };
        Gone {
            sql: format!("{head} DROP CONSTRAINT {}", ident(&constraint.name)),
            locks: locks(&action, catalog),
            undo,
            lost,
        }
    }

    /// Renamed columns take their names over from what stood in for them.
    fn swap_columns(&mut self, name: &QName) {
        let draft = self.draft;
        let renames: Vec<_> = draft.renames.of(name).collect();
        let table = &draft.catalog.tables[name];
        let group = self.group(name);
        let (steps, purge) = rename::column::contract_steps(draft, group, table, &renames);
        let at = renames.first().map_or(1, |r| line(draft, r.span));
        let steps = steps.into_iter().map(|step| step.line(at));
        self.contract.steps.extend(steps);
        self.contract.purge.extend(purge);
        self.switched.insert(name.clone());
    }

    /// Ends the forward sync of a table of which no column was dropped or renamed.
    fn end_sync(&mut self, group: &SyncGroup) {
        let (title, sql, back) = if group.has_reverse() {
            (
                format!("turn the sync trigger of {} to reverse only", group.table),
                group.replace_function(Form::ReverseOnly, &[]),
                group.replace_function(Form::Both, &[]),
            )
        } else {
            (
                format!("drop the sync trigger of {}", group.table),
                group.remove(),
                group.create(Form::Both, &[]),
            )
        };
        let (lock, back_lock) = if group.has_reverse() {
            (Vec::new(), Vec::new())
        } else {
            (
                vec![lock_on(&group.table, LockMode::AccessExclusive)],
                vec![lock_on(&group.table, LockMode::ShareRowExclusive)],
            )
        };
        let undo = Step::sql(
            Phase::Revert,
            format!("restore the sync trigger of {}", group.table),
            back,
        )
        .locks(back_lock);
        self.contract.steps.push(
            Step::sql(Phase::Contract, title, sql)
                .locks(lock)
                .undo(Undo::steps(vec![undo])),
        );
    }

    /// Swaps the columns whose types change, of tables that are swapped together.
    fn retype(&mut self, tables: &[QName]) -> Result<()> {
        let mut swapped = Vec::new();
        for table in tables {
            let Some(group) = self.group(table) else {
                continue;
            };
            let columns = &self.draft.retypes[table];
            let line = columns.first().map_or(0, |c| line(self.draft, c.span));
            let table = retype::swapped(self.draft, self.before.probed, table, line)?;
            swapped.push((table, group));
        }
        if swapped.is_empty() {
            return Ok(());
        }
        let first = self.draft.retypes.keys().next();
        let first = first.is_some_and(|first| tables.contains(first));
        let swap = retype::swap(
            self.draft,
            swapped,
            self.before.backfills,
            first,
            &search_path(self.draft),
        );
        self.switched.extend(tables.iter().cloned());
        self.renamed.extend(swap.renamed);
        self.contract.purge.extend(swap.purge);
        self.contract.steps.extend(swap.before);
        let steps = retype::inbound::join(self.draft, self.before.probed, tables, swap.step);
        self.contract.steps.extend(steps);
        Ok(())
    }

    fn set_default(&mut self, default: &MovedDefault) {
        // The column may have another name by now.
        let renamed = |r: &(QName, Renamed)| r.0 == default.table && r.1.column == default.column;
        if self.renamed.iter().any(renamed) {
            let (table, column) = (&default.table, &default.column);
            self.contract.warnings.push(format!(
                "the default of {table}.{column} is not set, since contract renames the column: \
                 set it in a later migration"
            ));
            return;
        }
        let lock = || vec![lock_on(&default.table, LockMode::AccessExclusive)];
        self.contract.steps.push(
            Step::sql(
                Phase::Contract,
                format!("set the default of {}.{}", default.table, default.column),
                vec![default.sql.clone()],
            )
            .locks(lock())
            .undo(Undo::steps(vec![
                Step::sql(
                    Phase::Revert,
                    format!("drop the default of {}.{}", default.table, default.column),
                    vec![default.undo.clone()],
                )
                .locks(lock()),
            ]))
            .line(default.line),
        );
    }
}

/// A constraint that is dropped with something else.
struct Gone {
    sql: String,
    locks: Vec<LockOn>,
    undo: Vec<Step>,
    lost: Vec<String>,
}
