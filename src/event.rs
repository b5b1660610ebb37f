//! What happens in a run: one enum feeds the state table's log, the progress display, JSON, and
//! metrics.

pub mod chain;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backfill::Side;
use crate::plan::Phase;
use crate::run::{RunKind, State};
use crate::throttle::Sample;

/// Time lost by cause, in milliseconds: `replica_lag`, `duty`, `row_locks`, `locks` …
pub type Lost = BTreeMap<String, u64>;

/// Something that happened. The JSON form (`event` tags the kind) is a documented shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A run began or was resumed.
    RunStarted {
        /// What it does.
        kind: RunKind,
        /// Its epoch.
        epoch: i64,
        /// It goes on from an earlier stop.
        resumed: bool,
    },
    /// The lease of a runner that is gone was taken.
    TookOver {
        /// Who held it.
        from: String,
    },
    /// A step began.
    StepStarted {
        /// Its number in the run, from 1.
        step: usize,
        /// Its phase.
        phase: Phase,
        /// What it does.
        title: String,
    },
    /// A step waits for a lock.
    LockWaiting {
        /// The step.
        step: usize,
        /// Tries so far.
        attempt: u32,
        /// Who is in the way.
        blockers: Vec<String>,
    },
    /// A step tried for its locks. Not kept in the log.
    LockTried {
        /// The step.
        step: usize,
        /// It had them.
        had: bool,
        /// Time that the step has waited for its locks so far, in milliseconds.
        waited_ms: u64,
    },
    /// Sessions in the way were terminated, as asked for by `--cancel-blockers`.
    BlockersCancelled {
        /// The step.
        step: usize,
        /// Who they were.
        blockers: Vec<String>,
    },
    /// A step is done.
    StepDone {
        /// The step.
        step: usize,
        /// What it did.
        title: String,
        /// Time from its start, in milliseconds.
        elapsed_ms: u64,
        /// Part of it spent waiting for locks or by the throttle, in milliseconds.
        waited_ms: u64,
    },
    /// Where a backfill or verify stands. Not kept in the log.
    Progress(Progress),
    /// What the throttle sees and decides, at most once a second. Not kept in the log.
    Signals(Signals),
    /// A chunk was committed. Many a second: for metrics alone, neither in the log nor in JSON.
    ChunkDone {
        /// The step.
        step: usize,
        /// Rows changed.
        rows: u64,
        /// Time from BEGIN to the reply of COMMIT, in milliseconds.
        elapsed_ms: f64,
        /// WAL that the server wrote meanwhile, by others too, in bytes.
        wal_bytes: u64,
        /// Blocks (a scan by ctid) or rows (by keys) that it covered.
        size: u64,
    },
    /// The throttle holds the backfill.
    Held {
        /// What the time is accounted to.
        cause: String,
        /// Why.
        reason: String,
    },
    /// The throttle let it go on.
    Released {
        /// What held it.
        cause: String,
        /// How long, in milliseconds.
        held_ms: u64,
    },
    /// A chunk gave way to another session and is tried again, smaller. Not kept in the log.
    ChunkRetried {
        /// SQLSTATE.
        sqlstate: String,
        /// What the server said.
        message: String,
    },
    /// A row of a backfill fails.
    RowFailed {
        /// The relation.
        relation: String,
        /// The row's key.
        key: String,
        /// SQLSTATE.
        sqlstate: String,
        /// What the server said.
        message: String,
    },
    /// The relation was rewritten by someone (VACUUM FULL, CLUSTER, TRUNCATE, repack): its scan
    /// begins again; rows that are done are not done again.
    ScanRestarted {
        /// The relation.
        relation: String,
        /// Its size in blocks now.
        blocks: i64,
    },
    /// A snapshot older than a whole pass keeps the dead rows of a striped backfill from being
    /// pruned: while that is so, its blocks are done in one pass.
    PruningHeld {
        /// The relation.
        relation: String,
    },
    /// The table was vacuumed between two chunks.
    Vacuumed {
        /// The relation.
        relation: String,
        /// Time taken.
        elapsed_ms: f64,
        /// False where it was ended before, as somebody waited for its lock or the throttle held.
        done: bool,
    },
    /// A verify ended.
    Verified {
        /// The table.
        table: String,
        /// Rows looked at, estimated.
        #[serde(default)]
        rows: i64,
        /// Wrong rows.
        wrong: i64,
        /// Up to ten of them by key.
        keys: Vec<String>,
    },
    /// A verify goes on where an earlier one was stopped.
    VerifyResumed {
        /// The table.
        table: String,
        /// Blocks that were read, under the same sync trigger.
        blocks_done: i64,
        /// Blocks of the table.
        blocks_total: i64,
    },
    /// Randomly chosen rows were looked at.
    Sampled {
        /// The table.
        table: String,
        /// Rows looked at.
        rows: i64,
        /// Wrong rows.
        wrong: i64,
        /// The largest plausible share of wrong rows, at 95 % confidence.
        at_most: f64,
        /// Up to ten of them by key.
        keys: Vec<String>,
    },
    /// Wrong rows were mended; logged in the transaction that did it.
    Repaired {
        /// The table.
        table: String,
        /// The side that was taken for right.
        from: Side,
        /// Rows mended.
        rows: i64,
        /// Up to ten of them by key.
        keys: Vec<String>,
    },
    /// The connection was lost; the server's state is read anew.
    Reconnecting {
        /// Why.
        reason: String,
    },
    /// A person asked for a pause.
    Paused {
        /// Who.
        by: String,
    },
    /// A person ended a pause.
    Unpaused {
        /// Who.
        by: String,
    },
    /// A person set a limit of the throttle.
    LimitSet {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
        /// For how long; for good where `None`.
        seconds: Option<u64>,
    },
    /// A person took a limit back.
    LimitCleared {
        /// Its name.
        key: String,
    },
    /// The run stopped before its end; it can be resumed.
    Stopped {
        /// Why.
        reason: String,
        /// A person asked for it: nothing is wrong.
        #[serde(default)]
        asked: bool,
    },
    /// The run did its last step.
    RunFinished {
        /// What it did.
        kind: RunKind,
        /// Time that all its steps lost.
        #[serde(default, skip_serializing_if = "Lost::is_empty")]
        lost_ms: Lost,
    },
    /// A way back that had changed nothing was called off.
    CalledOff {
        /// What it was.
        kind: RunKind,
        /// Where the migration stands again.
        state: State,
    },
    /// A migration was marked as applied without running.
    Baselined,
}

/// Where a backfill or verify stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The step.
    pub step: usize,
    /// Its title.
    pub title: String,
    /// Share done in `0..=1`, by blocks or by estimated rows.
    pub fraction: f64,
    /// Rows changed (backfill) or looked at (verify).
    pub rows: i64,
    /// Estimated rows to look at in all.
    pub rows_total: i64,
    /// Chunks committed.
    pub chunks: i64,
    /// Rows changed a second, waiting included.
    pub rate: f64,
    /// Expected time left by the pace of the last half minute, waiting included; `None` where not
    /// known, as while it is held.
    pub eta: Option<Duration>,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
    /// Blocks scanned, where it goes by blocks.
    #[serde(default)]
    pub blocks_done: i64,
    /// Blocks to scan; 0 where it goes by keys.
    #[serde(default)]
    pub blocks_total: i64,
    /// The longest replay lag of the watched standbys, in seconds.
    #[serde(default)]
    pub lag_seconds: Option<f64>,
    /// The share of the time that chunks may work now, in `0..=1`.
    #[serde(default)]
    pub duty: Option<f64>,
    /// Time that the step has lost, earlier runners included.
    #[serde(default)]
    pub lost_ms: Lost,
}

/// What the throttle sees and decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// The step.
    pub step: usize,
    /// The latest samples, with their limits.
    pub samples: Vec<Sample>,
    /// Signals that cannot be read.
    pub blind: Vec<String>,
    /// The share of the time that chunks may work now, in `0..=1`.
    pub duty: f64,
    /// What holds the backfill, if anything does: the cause that the time is accounted to.
    pub held: Option<String>,
    /// Time that the step has lost, earlier runners included.
    pub lost_ms: Lost,
}

impl Signals {
    /// The longest replay lag, in seconds.
    pub fn lag_seconds(&self) -> Option<f64> {
        let lags = self.samples.iter().filter(|s| s.name == "replica_lag");
        lags.map(|s| s.value).reduce(f64::max)
    }
}

/// Where events go while a run is under way: a display, a JSON stream, metrics.
pub trait Sink: Send + Sync {
    /// Takes an event of a migration. Must not block.
    fn event(&self, migration: &str, event: &Event);
}

impl Event {
    /// True where the event belongs into the append-only log of the state schema.
    pub fn is_durable(&self) -> bool {
        !matches!(
            self,
            Self::Progress(_)
                | Self::Signals(_)
                | Self::ChunkDone { .. }
                | Self::ChunkRetried { .. }
                | Self::LockTried { .. }
                | Self::Vacuumed { .. }
        )
    }

    /// True where programs that read the events of a run get it.
    pub fn is_told(&self) -> bool {
        !matches!(self, Self::ChunkDone { .. })
    }

    /// The kind, as in JSON and in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::TookOver { .. } => "took_over",
            Self::StepStarted { .. } => "step_started",
            Self::LockWaiting { .. } => "lock_waiting",
            Self::LockTried { .. } => "lock_tried",
            Self::BlockersCancelled { .. } => "blockers_cancelled",
            Self::StepDone { .. } => "step_done",
            Self::Progress(_) => "progress",
            Self::Signals(_) => "signals",
            Self::ChunkDone { .. } => "chunk_done",
            Self::Held { .. } => "held",
            Self::Released { .. } => "released",
            Self::ChunkRetried { .. } => "chunk_retried",
            Self::RowFailed { .. } => "row_failed",
            Self::ScanRestarted { .. } => "scan_restarted",
            Self::PruningHeld { .. } => "pruning_held",
            Self::Vacuumed { .. } => "vacuumed",
            Self::Verified { .. } => "verified",
            Self::VerifyResumed { .. } => "verify_resumed",
            Self::Sampled { .. } => "sampled",
            Self::Repaired { .. } => "repaired",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Paused { .. } => "paused",
            Self::Unpaused { .. } => "unpaused",
            Self::LimitSet { .. } => "limit_set",
            Self::LimitCleared { .. } => "limit_cleared",
            Self::Stopped { .. } => "stopped",
            Self::RunFinished { .. } => "run_finished",
            Self::CalledOff { .. } => "called_off",
            Self::Baselined => "baselined",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_version_wrote_is_read() {
        for old in [
            r#"{"event":"run_finished","kind":"apply"}"#,
            r#"{"event":"stopped","reason":"x"}"#,
            r#"{"event":"verified","table":"t","wrong":0,"keys":[]}"#,
            r#"{"event":"progress","step":1,"title":"t","fraction":0.5,"rows":1,"rows_total":2,
                "chunks":1,"rate":1.0,"eta":null,"waiting":null}"#,
        ] {
            serde_json::from_str::<Event>(old).expect(old);
        }
    }

    #[test]
    fn the_name_is_the_json_tag() {
        let events = [
            Event::Baselined,
            Event::Held {
                cause: "c".into(),
                reason: "r".into(),
            },
            Event::Progress(Progress::default()),
            Event::Signals(Signals {
                samples: vec![Sample::new(
                    "replica_lag",
                    1.5,
                    crate::throttle::Unit::Seconds,
                )],
                ..Signals::default()
            }),
            Event::LockTried {
                step: 1,
                had: false,
                waited_ms: 100,
            },
            Event::RunStarted {
                kind: RunKind::Apply,
                epoch: 1,
                resumed: false,
            },
        ];
        for event in events {
            let json = serde_json::to_value(&event).expect("plain data");
            assert_eq!(json["event"], event.name());
            assert_eq!(
                serde_json::from_value::<Event>(json).expect("same shape"),
                event
            );
        }
    }
}
