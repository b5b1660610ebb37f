//! The whole file's cost.

use serde::{Deserialize, Serialize};

use super::{Bytes, Time};
use crate::plan::step::{Phase, Plan, Work};

/// What the steps cost together, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Rows of the backfills.
    pub rows: i64,
    /// Their chunks, each a transaction with an id; `None` where that of one is unknown.
    pub chunks: Option<i64>,
    /// Log.
    pub wal: Bytes,
    /// Of the backfills; `None` where that of one is unknown.
    pub time: Option<Time>,
    /// What stays on the disk: row versions and index entries, until they are used again.
    pub disk: Bytes,
    /// The largest temporary files.
    pub temporary: i64,
    /// `max_wal_size`.
    pub pg_wal: i64,
}

impl Plan {
    /// The cost of all steps until READY; `None` where nothing is estimated.
    pub fn totals(&self) -> Option<Totals> {
        let mut all = Totals {
            chunks: Some(0),
            time: Some(Time::default()),
            ..Totals::default()
        };
        let mut any = false;
        for step in self.steps.iter().filter(|s| s.phase < Phase::Contract) {
            let estimate = &step.estimate;
            if let Some(wal) = estimate.wal {
                any = true;
                all.wal = all.wal.plus(wal);
            }
            if let Some(disk) = estimate.disk {
                all.disk = all.disk.plus(disk.kept());
                all.temporary = all.temporary.max(disk.temporary);
                all.pg_wal = all.pg_wal.max(disk.pg_wal);
            }
            if matches!(step.work, Work::Backfill(_)) {
                all.rows = all.rows.saturating_add(estimate.rows.unwrap_or(0));
                let chunks = all.chunks.zip(estimate.chunks);
                all.chunks = chunks.map(|(sum, n)| sum.saturating_add(n));
                all.time = all.time.zip(estimate.time).map(|(sum, time)| Time {
                    least: sum.least + time.least,
                    likely: sum.likely + time.likely,
                    duty: time.duty,
                });
            }
        }
        any.then_some(all)
    }
}
