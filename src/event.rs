//! What happens in a run: one enum feeds the state table's log, the progress display, and JSON.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plan::Phase;
use crate::run::RunKind;

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
    /// A verify ended.
    Verified {
        /// The table.
        table: String,
        /// Wrong rows.
        wrong: i64,
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
    },
    /// The run did its last step.
    RunFinished {
        /// What it did.
        kind: RunKind,
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
    /// Expected time left, waiting included; `None` where not known yet.
    pub eta: Option<Duration>,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
}

/// Where events go while a run is under way: a display, a JSON stream, metrics.
pub trait Sink: Send + Sync {
    /// Takes an event of a migration. Must not block.
    fn event(&self, migration: &str, event: &Event);
}

impl Event {
    /// True where the event belongs into the append-only log of the state schema.
    pub fn is_durable(&self) -> bool {
        !matches!(self, Self::Progress(_) | Self::ChunkRetried { .. })
    }

    /// The kind, as in JSON and in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run_started",
            Self::TookOver { .. } => "took_over",
            Self::StepStarted { .. } => "step_started",
            Self::LockWaiting { .. } => "lock_waiting",
            Self::BlockersCancelled { .. } => "blockers_cancelled",
            Self::StepDone { .. } => "step_done",
            Self::Progress(_) => "progress",
            Self::Held { .. } => "held",
            Self::Released { .. } => "released",
            Self::ChunkRetried { .. } => "chunk_retried",
            Self::RowFailed { .. } => "row_failed",
            Self::ScanRestarted { .. } => "scan_restarted",
            Self::Verified { .. } => "verified",
            Self::Reconnecting { .. } => "reconnecting",
            Self::Paused { .. } => "paused",
            Self::Unpaused { .. } => "unpaused",
            Self::LimitSet { .. } => "limit_set",
            Self::LimitCleared { .. } => "limit_cleared",
            Self::Stopped { .. } => "stopped",
            Self::RunFinished { .. } => "run_finished",
            Self::Baselined => "baselined",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_json_tag() {
        let events = [
            Event::Baselined,
            Event::Held {
                cause: "c".into(),
                reason: "r".into(),
            },
            Event::Progress(Progress::default()),
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
