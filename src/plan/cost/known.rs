//! The facts of a backfill's cost, from what a plan knows.

use super::{Facts, Index, Sample};
use crate::backfill::Strategy;
use crate::catalog::{self, Table};
use crate::plan::draft::{Draft, DraftStatement};
use crate::plan::probe::Probed;
use crate::throttle::Limits;

/// The facts of a walk in one pass, without VACUUM on the way.
pub(in crate::plan) fn facts(
    draft: &Draft<'_>,
    probed: &Probed,
    sample: Option<Sample>,
    statement: &DraftStatement<'_>,
    strategy: &Strategy,
    synced: bool,
) -> Facts {
    let table = &draft.catalog.tables[&statement.table];
    let new = |column: &str| draft.new_column(&table.name, column).is_some();
    let of_index = |index: &catalog::Index| Index {
        bytes: index.bytes,
        correlation: index
            .columns
            .first()
            .and_then(|c| probed.correlations.get(&(table.name.clone(), c.clone())))
            .copied()
            .unwrap_or(0.0),
    };
    let before = |t: &catalog::Trigger| t.enabled && t.before && t.row;
    let fires = |t: &catalog::Trigger| {
        if statement.delete {
            t.on_delete
        } else {
            t.on_update
        }
    };
    Facts {
        server: probed.server.unwrap_or_default(),
        sample,
        rows: table.rows,
        blocks: table.leaves.iter().map(|l| l.blocks).sum(),
        indexes: table.indexes.iter().map(of_index).collect(),
        fill: fillfactor(table) as f64 / 100.0,
        new_columns: statement
            .assignments
            .iter()
            .filter(|a| new(&a.column))
            .count(),
        deletes: statement.delete,
        by_blocks: *strategy == Strategy::Ctid,
        stripes: None,
        vacuum: None,
        locked: synced || table.triggers.iter().any(|t| before(t) && fires(t)),
        batch: statement.options.batch,
        workers: statement.options.workers.unwrap_or(1),
        duty: duty(draft, probed),
    }
}

/// The table's own `fillfactor` in percent; partitions are taken to be as usual.
pub(in crate::plan) fn fillfactor(table: &Table) -> i64 {
    let options = table.settings.options.iter();
    let mut values = options.filter_map(|o| o.strip_prefix("fillfactor="));
    values.next().and_then(|v| v.parse().ok()).unwrap_or(100)
}

/// The share of the time that chunks work, as configured or as the file says.
fn duty(draft: &Draft<'_>, probed: &Probed) -> f64 {
    let mut limits = Limits::default();
    limits.duty = probed.duty.unwrap_or(limits.duty);
    if let Some(duty) = draft.migration.options.throttle.get("duty") {
        // It was checked when the file was read.
        let _ = limits.set("duty", duty);
    }
    limits.duty
}
