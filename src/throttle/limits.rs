//! What the throttle keeps to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of a backfill. A limit that is `None` is not watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Share of the time that chunks may work, in `(0, 1]`. 0.5 pauses as long as it worked.
    pub duty: f64,
    /// Replay lag of any standby, in time.
    pub max_lag: Option<Duration>,
    /// Replay distance of any standby, in bytes.
    pub max_lag_bytes: Option<u64>,
    /// Standbys (by `application_name`) that are not watched.
    pub ignore_standbys: Vec<String>,
    /// WAL that a replication slot may still be late by before `max_slot_wal_keep_size` drops it
    /// (`safe_wal_size`), in bytes: hold below.
    pub min_slot_headroom: Option<u64>,
    /// WAL that any slot keeps back, in bytes.
    pub max_slot_retained: Option<u64>,
    /// Connections that an ordinary role could still open: hold below.
    pub min_free_connections: Option<u32>,
    /// Application sessions that wait for locks of ours.
    pub max_blocked: Option<u32>,
    /// Age of the oldest snapshot of others, which keeps dead rows from being vacuumed.
    pub max_snapshot_age: Option<Duration>,
    /// WAL files that wait for the archiver.
    pub max_archive_backlog: Option<u32>,
    /// Hold while VACUUM works on the table.
    pub hold_for_vacuum: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            duty: 0.5,
            max_lag: Some(Duration::from_secs(5)),
            max_lag_bytes: None,
            ignore_standbys: Vec::new(),
            min_slot_headroom: Some(256 << 20),
            max_slot_retained: None,
            min_free_connections: Some(3),
            max_blocked: Some(5),
            max_snapshot_age: None,
            max_archive_backlog: None,
            hold_for_vacuum: false,
        }
    }
}
