//! Every metric, in one table: the registry, `docs/metrics.md` and the dashboards keep to it.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets: `_bucket`, `_sum`, `_count`.
    Histogram,
}

impl Kind {
    /// As in `# TYPE`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its whole name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it tells, one line without a full stop.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[doc = concat!("`", $name, "`")]
            pub static $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )+
        /// Every metric.
        pub static ALL: &[&Metric] = &[$(&$id),+];
    };
}

metrics! {
    BUILD_INFO Gauge "pgshift_build_info" ["version"]
        "The version that runs; always 1";
    RUN_STATE Gauge "pgshift_run_state" ["migration", "kind", "state"]
        "1 for the state that the run is in: running, reconnecting, finished, stopped (as asked for) or failed";
    RUN_EPOCH Gauge "pgshift_run_epoch" ["migration"]
        "How often the run was taken up";
    RUN_STEP Gauge "pgshift_run_step" ["migration", "phase"]
        "Number of the step under way, from 1; only the present phase is there";
    RECONNECTS Counter "pgshift_reconnects_total" ["migration"]
        "Lost connections";
    LAST_SUCCESS Gauge "pgshift_last_success_timestamp_seconds" ["migration"]
        "When a run was finished, as Unix time";
    LAST_ERROR Gauge "pgshift_last_error_timestamp_seconds" ["migration"]
        "When a run stopped by an error, as Unix time";
    STEP_DURATION Gauge "pgshift_step_duration_seconds" ["migration", "step"]
        "How long a finished step took, waiting included";
    STEP_RATIO Gauge "pgshift_step_done_ratio" ["migration", "step"]
        "Share of a backfill or verify that is done, 0 to 1";
    STEP_ROWS_DONE Gauge "pgshift_step_rows_done" ["migration", "step"]
        "Rows changed (backfill) or looked at (verify, estimated), earlier runners included";
    STEP_ROWS_ESTIMATED Gauge "pgshift_step_rows_estimated" ["migration", "step"]
        "Rows to look at, estimated";
    STEP_BLOCKS_DONE Gauge "pgshift_step_blocks_done" ["migration", "step"]
        "Blocks scanned";
    STEP_BLOCKS Gauge "pgshift_step_blocks" ["migration", "step"]
        "Blocks to scan; 0 for a backfill by keys";
    STEP_CHUNKS_DONE Gauge "pgshift_step_chunks_done" ["migration", "step"]
        "Chunks committed, earlier runners included";
    STEP_REMAINING Gauge "pgshift_step_remaining_seconds" ["migration", "step"]
        "Expected time left by the pace of the last half minute; not there while unknown";
    CHUNKS Counter "pgshift_chunks_total" ["migration", "step"]
        "Chunks committed by this process";
    ROWS_CHANGED Counter "pgshift_rows_changed_total" ["migration", "step"]
        "Rows changed by this process";
    WAL_BYTES Counter "pgshift_wal_bytes_total" ["migration", "step"]
        "WAL that the server wrote during chunks, by others too";
    CHUNK_DURATION Histogram "pgshift_chunk_duration_seconds" ["migration", "step"]
        "Time of committed chunks, from BEGIN to the reply of COMMIT";
    CHUNK_SIZE Gauge "pgshift_chunk_size" ["migration", "step"]
        "Blocks, or rows of a backfill by keys, that the last chunk covered";
    CHUNK_RETRIES Counter "pgshift_chunk_retries_total" ["migration", "reason"]
        "Chunks rolled back and tried again smaller: row_locks, deadlock, serialization, slow, other";
    ROWS_FAILED Counter "pgshift_rows_failed_total" ["migration", "table"]
        "Rows that a backfill could not change";
    SCAN_RESTARTS Counter "pgshift_scan_restarts_total" ["migration", "table"]
        "Scans begun again because the relation was rewritten";
    DUTY Gauge "pgshift_duty_ratio" ["migration"]
        "Share of the time that chunks may work now, 0 to 1";
    HELD Gauge "pgshift_held" ["migration", "cause"]
        "1 while this cause holds the migration";
    TIME_LOST Counter "pgshift_time_lost_seconds_total" ["migration", "step", "cause"]
        "Time lost to a cause, earlier runners included; waits of several workers add up";
    REPLICA_LAG Gauge "pgshift_replica_lag_seconds" ["migration", "standby"]
        "Replay lag of a watched standby";
    SIGNAL Gauge "pgshift_signal_value" ["migration", "signal", "subject"]
        "The latest sample of a signal of the throttle, in the unit of docs/throttle.md";
    SIGNAL_LIMIT Gauge "pgshift_signal_limit" ["migration", "signal", "subject", "holds"]
        "The limit of a signal; holds is above or below";
    SIGNAL_BLIND Gauge "pgshift_signal_blind" ["migration", "signal"]
        "1 for a signal that cannot be read, which holds the migration";
    LOCK_TRIES Counter "pgshift_lock_tries_total" ["migration", "step", "result"]
        "Tries of a step for its locks: had or refused; the time is in time_lost under the cause locks";
    VERIFY_ROWS Gauge "pgshift_verify_rows_checked" ["migration", "table"]
        "Rows that the last verify looked at, estimated";
    VERIFY_WRONG Gauge "pgshift_verify_rows_wrong" ["migration", "table"]
        "Wrong rows that the last verify found";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_keep_to_the_conventions() {
        let names: BTreeSet<&str> = ALL.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name twice");
        for metric in ALL {
            assert!(metric.name.starts_with("pgshift_"), "{}", metric.name);
            let total = metric.name.ends_with("_total");
            assert_eq!(total, metric.kind == Kind::Counter, "{}", metric.name);
            assert!(!metric.help.ends_with('.'), "{}", metric.name);
            for not_base in ["_ms", "_milliseconds", "_percent", "_kb", "_mb"] {
                assert!(!metric.name.contains(not_base), "{}", metric.name);
            }
        }
    }

    #[test]
    fn the_documentation_has_this_table() {
        let documented: Vec<&str> = include_str!("../../../docs/metrics.md")
            .lines()
            .filter(|line| line.starts_with("| `pgshift_"))
            .collect();
        let table: Vec<String> = ALL
            .iter()
            .map(|m| {
                format!(
                    "| `{}` | {} | {} | {} |",
                    m.name,
                    m.kind.name(),
                    m.labels.join(", "),
                    m.help
                )
            })
            .collect();
        assert_eq!(
            documented,
            table,
            "docs/metrics.md differs; its table should be\n{}",
            table.join("\n")
        );
    }
}
