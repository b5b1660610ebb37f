//! What a backfill has done so far, counted by all its workers.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::lock;
use crate::backfill::Pace;
use crate::event::Progress;

/// Progress is told at most this often.
const TELL: Duration = Duration::from_millis(200);

/// Counted since this session began, plus what the checkpoints said before.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) rows: AtomicI64,
    pub(super) chunks: AtomicI64,
    pub(super) failed: AtomicI64,
    pub(super) blocks_done: AtomicI64,
    pub(super) blocks_total: AtomicI64,
    pub(super) rows_total: AtomicI64,
    pub(super) rows_before: i64,
    pub(super) chunks_before: i64,
    pub(super) told: Mutex<Option<Instant>>,
    pub(super) pace: Mutex<Pace>,
}

impl Tally {
    /// True where the last telling is long enough ago; counts as one.
    pub(super) fn is_time_to_tell(&self) -> bool {
        let mut told = lock(&self.told);
        if told.is_some_and(|at| at.elapsed() < TELL) {
            return false;
        }
        *told = Some(Instant::now());
        true
    }

    /// Where it stands after `elapsed` of this session: by blocks, or by rows of an estimate.
    pub(super) fn progress(&self, by_blocks: bool, elapsed: Duration) -> Progress {
        let load = |n: &AtomicI64| n.load(Ordering::Relaxed);
        let rows = load(&self.rows);
        let total = load(&self.rows_total).max(1);
        let fraction = if by_blocks {
            load(&self.blocks_done) as f64 / load(&self.blocks_total).max(1) as f64
        } else {
            (self.rows_before + rows) as f64 / total as f64
        }
        .clamp(0.0, 1.0);
        let mut pace = lock(&self.pace);
        pace.note(elapsed, fraction, rows);
        Progress {
            fraction,
            rows: self.rows_before + rows,
            rows_total: total,
            chunks: self.chunks_before + load(&self.chunks),
            rate: pace.rate(),
            eta: pace.eta(),
            blocks_done: load(&self.blocks_done),
            blocks_total: load(&self.blocks_total),
            ..Progress::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_counts_from_where_this_session_began() {
        let tally = Tally {
            blocks_total: AtomicI64::new(1000),
            blocks_done: AtomicI64::new(500),
            rows_before: 5_000,
            ..Tally::default()
        };
        assert_eq!(tally.progress(true, Duration::ZERO).eta, None);
        tally.blocks_done.store(600, Ordering::Relaxed);
        tally.rows.store(1_000, Ordering::Relaxed);
        let now = tally.progress(true, Duration::from_secs(10));
        // A tenth in 10 s, and four tenths are left.
        assert_eq!(now.eta.map(|eta| eta.as_secs_f64().round()), Some(40.0));
        assert_eq!((now.rows, now.rate.round()), (6_000, 100.0));
    }
}
