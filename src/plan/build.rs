//! The second half of planning: from decisions to steps.

use std::collections::BTreeSet;

use super::backfills::{PlannedBackfill, decide};
use super::contract;
use super::cost;
use super::draft::{Draft, relations};
use super::expand::{Expanded, expand};
use super::probe::Probed;
use super::rename;
use super::statements::allowed;
use super::step::{Estimate, PLAN_FORMAT, Phase, Plan, Step, Undo, Work};
use super::sync::{Form, SyncGroup};
use crate::backfill::VerifySpec;
use crate::catalog::{QName, Table, facts};
use crate::error::Result;
use crate::lock::{LockMode, LockOn};
use crate::sql::Span;
use crate::sql::ddl::RelName;

/// Builds the plan of a draft with the server's answers.
///
/// # Errors
/// Refusals and errors of the file, with places, reasons and the way out.
pub fn build(draft: &Draft<'_>, probed: &Probed) -> Result<Plan> {
    super::targets::check(draft)?;
    check_rules(draft, probed)?;
    let (backfills, groups) = decide(draft, probed)?;
    let Expanded {
        mut steps,
        moved_defaults,
        after,
        created,
        plain_revert,
    } = expand(draft, probed, synced_columns(&groups))?;
    steps.extend(super::retype::inbound::dress(draft));
    steps.extend(groups.iter().map(create_sync));
    for (index, backfill) in backfills.iter().enumerate() {
        steps.push(backfill_step(draft, index, backfill));
    }
    steps.extend(verify_steps(draft, &backfills, Phase::Verify, |b| {
        b.verify.as_ref()
    }));
    // A full verify once more: READY may be days ago.
    let verify = verify_steps(draft, &backfills, Phase::Contract, |b| {
        b.verify_contract.as_ref()
    });
    let before = contract::Before {
        after: &after,
        created: &created,
        defaults: &moved_defaults,
        probed,
        backfills: &backfills,
        plain_revert,
    };
    let contract = contract::build(draft, &before, &groups, verify)?;
    steps.extend(contract.steps);
    steps.extend(contract.purge);
    let mut warnings = contract.warnings;
    for rename in &draft.renames.tables {
        warnings.extend(rename::table::warnings(draft, rename));
    }
    for rename in &draft.renames.columns {
        warnings.extend(rename::column::warnings(draft, rename));
    }
    for backfill in &backfills {
        warnings.extend(backfill.warnings.iter().cloned());
    }
    if !probed.checked && !draft.backfills.is_empty() {
        warnings.push(
            "expressions could not be checked on a copy of the table: this role may not make \
             temporary tables (GRANT TEMPORARY ON DATABASE)"
                .to_owned(),
        );
    }
    steps.sort_by_key(|s| s.phase);
    for step in &steps {
        let line = step.line.map_or(String::new(), |l| format!("line {l}: "));
        warnings.extend(allowed(step).map(|note| format!("{line}{note}")));
    }
    super::bound::add_locks(&mut steps, draft.catalog);
    for step in &mut steps {
        cost::build(draft, probed.server.unwrap_or_default(), step);
    }
    if let Some(longest) = draft.migration.options.lock_timeout {
        for step in &mut steps {
            step.set_lock_timeout(longest);
        }
    }
    for step in &mut steps {
        step.set_throttle(&draft.migration.options.throttle);
    }
    let mut seen = BTreeSet::new();
    warnings.retain(|w| seen.insert(w.clone()));
    Ok(Plan {
        format: PLAN_FORMAT,
        migration: draft.migration.id.clone(),
        checksum: draft.migration.checksum.clone(),
        steps,
        warnings,
        facts: facts::facts(draft.catalog),
        tables: changed_tables(draft),
    })
}

/// Refuses a backfill whose statements a rule would make others of: its rows would not change, or
/// more than its rows.
fn check_rules(draft: &Draft<'_>, probed: &Probed) -> Result<()> {
    for backfill in &draft.backfills {
        let leaves = &draft.catalog.tables[&backfill.table].leaves;
        let found = leaves.iter().find_map(|leaf| {
            let of_leaf = |(relation, _, of_delete): &&(u32, String, bool)| {
                *relation == leaf.oid && *of_delete == backfill.delete
            };
            Some((leaf, probed.rules.iter().find(of_leaf)?))
        });
        if let Some((leaf, (_, name, of_delete))) = found {
            let verb = if *of_delete { "DELETE" } else { "UPDATE" };
            return Err(draft.refused(
                backfill.statement.span,
                format!("rule {name} of {} rewrites {verb}", leaf.name),
                "a backfill would not do what the file says: make a trigger of the rule, or ALTER \
                 TABLE … DISABLE RULE while the migration runs",
            ));
        }
    }
    Ok(())
}

/// A default of a synced column, which must wait until the old application version is gone.
#[derive(Debug, Clone)]
pub(super) struct MovedDefault {
    /// The statement.
    pub(super) sql: String,
    /// The statement that takes it back.
    pub(super) undo: String,
    /// The table.
    pub(super) table: QName,
    /// The column.
    pub(super) column: String,
    /// Line of the file.
    pub(super) line: usize,
}

/// Tables that a migration changes.
fn changed_tables(draft: &Draft<'_>) -> Vec<QName> {
    let names = draft
        .sections
        .statements()
        .flat_map(|k| relations(&k.action));
    let mut tables: BTreeSet<QName> = names
        .filter_map(|n| draft.table(&n))
        .map(|t| t.name.clone())
        .collect();
    tables.extend(draft.renames.tables.iter().map(|r| r.to.clone()));
    tables.extend(draft.retypes.keys().cloned());
    tables.extend(super::retype::inbound::tables(draft));
    tables.into_iter().collect()
}

fn synced_columns(groups: &[SyncGroup]) -> BTreeSet<(QName, String)> {
    groups
        .iter()
        .flat_map(|g| {
            g.components
                .iter()
                .flat_map(|c| c.targets().map(|t| (g.table.clone(), t.column.clone())))
        })
        .collect()
}

/// Line of a span in the draft's file.
pub(super) fn line(draft: &Draft<'_>, span: Span) -> usize {
    draft.migration.source.line_column(span.start).0
}

fn create_sync(group: &SyncGroup) -> Step {
    Step::sql(
        Phase::Sync,
        format!("create the sync trigger of {}", group.table),
        group.create(Form::Both, &[]),
    )
    .locks(vec![lock_on(&group.table, LockMode::ShareRowExclusive)])
    .undo(Undo::steps(vec![remove_sync(group)]))
}

fn backfill_step(draft: &Draft<'_>, index: usize, backfill: &PlannedBackfill) -> Step {
    let statement = &draft.backfills[index];
    let table = &backfill.spec.table;
    let (verb, lost) = if statement.delete {
        ("delete from", "deleted rows are not kept")
    } else {
        ("backfill", "overwritten values are not kept")
    };
    let mut step = Step::new(
        Phase::Backfill,
        format!("{verb} {table}"),
        Work::Backfill(Box::new(backfill.spec.clone())),
    )
    .locks(vec![lock_on(table, LockMode::RowExclusive)])
    .line(line(draft, backfill.span));
    step.notes.clone_from(&backfill.notes);
    let table = &draft.catalog.tables[table];
    step.estimate = estimate(backfill, table);
    // New columns go with their values.
    if !statement.all_new {
        step.undo = Undo::Irreversible {
            reason: lost.to_owned(),
        };
    }
    step
}

fn estimate(backfill: &PlannedBackfill, table: &Table) -> Estimate {
    let cost = cost::backfill(&backfill.cost);
    Estimate {
        rows: Some(table.rows),
        bytes: Some(table.bytes),
        chunks: cost.chunks,
        seconds: cost.seconds,
        basis: Some(match backfill.cost.sample {
            Some(sample) => format!(
                "a sample of {} rows took {:.1} \u{b5}s each in a temporary copy; \
                 reading from disk is not counted",
                sample.rows,
                sample.seconds / sample.rows.max(1) as f64 * 1e6
            ),
            None => "no sample could be measured".to_owned(),
        }),
        wal: Some(cost.wal),
        time: cost.time,
        disk: Some(cost.disk),
    }
}

fn verify_steps(
    draft: &Draft<'_>,
    backfills: &[PlannedBackfill],
    phase: Phase,
    spec: impl Fn(&PlannedBackfill) -> Option<&VerifySpec>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for backfill in backfills {
        let Some(verify) = spec(backfill) else {
            continue;
        };
        let table = &draft.catalog.tables[&verify.table];
        let mut step = Step::new(
            phase,
            format!("verify every row of {}", verify.table),
            Work::Verify(Box::new(verify.clone())),
        )
        .locks(vec![lock_on(&verify.table, LockMode::AccessShare)])
        .line(line(draft, backfill.span));
        step.estimate.rows = Some(table.rows);
        step.estimate.bytes = Some(table.bytes);
        if phase == Phase::Contract && backfill.verify != backfill.verify_contract {
            step = step.note(
                "there is no reverse section, so any value is taken for one of the new \
                 application version: only rows without one are wrong",
            );
        }
        steps.push(step);
    }
    for known in &draft.sections.verify {
        let work = Work::Check {
            sql: known.statement.sql.clone(),
        };
        steps.push(
            Step::new(
                phase,
                "check that the author's query finds nothing wrong",
                work,
            )
            .line(line(draft, known.statement.span)),
        );
    }
    steps
}

/// A lock on an existing table.
pub(super) fn lock_on(table: &QName, mode: LockMode) -> LockOn {
    LockOn {
        relation: Some(RelName::from(table)),
        mode,
    }
}

/// The step that removes a sync trigger and its function.
pub(super) fn remove_sync(group: &SyncGroup) -> Step {
    Step::sql(
        Phase::Revert,
        format!("drop the sync trigger of {}", group.table),
        group.remove(),
    )
    .locks(vec![lock_on(&group.table, LockMode::AccessExclusive)])
}
