//! What the demo found.

use serde::Serialize;

use super::traffic::Window;
use crate::report::text::{bytes, count, counted, table};

/// What the demo found. The JSON of this is a documented shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Version of the server.
    pub postgres: String,
    /// Orders that were there at the beginning.
    pub rows_loaded: i64,
    /// From the first server's start to the end, in seconds.
    pub elapsed_s: f64,
    /// The application, all the time.
    pub application: Application,
    /// The backfill.
    pub backfill: Backfill,
    /// Rows whose amount was not what was last written: missing and surplus rows too.
    pub wrong_rows: WrongRows,
    /// After the revert the table's columns, constraints and triggers are those of the beginning.
    pub schema_restored: bool,
    /// How far the standby was behind.
    pub standby: Standby,
}

/// What the application met.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Application {
    /// Statements that succeeded.
    pub statements: i64,
    /// Statements that failed.
    pub errors: i64,
    /// Reads that did not give what was last written.
    pub wrong_reads: i64,
    /// The first texts of both.
    pub first_errors: Vec<String>,
    /// The longest time from when a statement was due to its end, in milliseconds.
    pub longest_wait_ms: f64,
    /// The longest wait for a lock that was seen, in milliseconds; looked at every 20 ms.
    pub longest_lock_wait_ms: f64,
    /// Latencies by what went on.
    pub windows: Vec<Window>,
}

/// The backfill, over the kill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backfill {
    /// Rows that it changed; the others were written by the application first.
    pub rows: i64,
    /// Chunks that were committed.
    pub chunks: i64,
    /// Chunks that were done a second time.
    pub chunks_redone: i64,
    /// Share of the backfill that was done when the runner was killed; `None` where it was quicker
    /// than the kill.
    pub killed_at: Option<f64>,
    /// Rows without a new value when it was killed, counted by a query.
    pub rows_left_at_kill: i64,
    /// Rows that the resumed runner changed.
    pub rows_after_kill: i64,
    /// Time that its chunks took, in seconds.
    pub worked_s: f64,
}

/// Wrong rows at each check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WrongRows {
    /// At READY: the old and the new column.
    pub ready: i64,
    /// While both releases write: the old and the new column.
    pub both_releases: i64,
    /// After contract: the new column.
    pub contract: i64,
    /// After the revert: the old column, with what the new release wrote.
    pub revert: i64,
}

impl WrongRows {
    /// All of them.
    pub fn total(self) -> i64 {
        self.ready + self.both_releases + self.contract + self.revert
    }
}

/// How far the standby was behind at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Standby {
    /// From flush on the primary to replay there, in milliseconds.
    pub max_lag_ms: f64,
    /// WAL not replayed, in bytes.
    pub max_lag_bytes: i64,
}

impl Report {
    /// What should not be; empty where everything is as promised.
    pub fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        let app = &self.application;
        if app.errors > 0 || app.wrong_reads > 0 {
            let first = app.first_errors.first().map_or("", String::as_str);
            found.push(format!(
                "{} failed and {} of the application gave something else than was written; the \
                 first: {first}",
                counted(app.errors, "statement"),
                counted(app.wrong_reads, "read"),
            ));
        }
        if self.wrong_rows.total() > 0 {
            found.push(format!(
                "wrong rows: {} at READY, {} with both releases, {} after contract, {} after revert",
                self.wrong_rows.ready,
                self.wrong_rows.both_releases,
                self.wrong_rows.contract,
                self.wrong_rows.revert,
            ));
        }
        let done = &self.backfill;
        if done.chunks_redone > 0 {
            found.push(format!(
                "{} done a second time after the kill",
                counted(done.chunks_redone, "chunk")
            ));
        }
        if done.rows_after_kill > done.rows_left_at_kill {
            found.push(format!(
                "{} had no new value at the kill, and the resumed runner changed {}",
                counted(done.rows_left_at_kill, "row"),
                count(done.rows_after_kill),
            ));
        }
        if done.killed_at.is_none() {
            found.push("the backfill was over before its runner could be killed".into());
        }
        if !self.schema_restored {
            found.push("the table is not as it was before the migration".into());
        }
        found
    }

    /// A window by name.
    fn window(&self, name: &str) -> Option<&Window> {
        self.application.windows.iter().find(|w| w.name == name)
    }

    /// The short table for people.
    pub fn human(&self) -> String {
        let app = &self.application;
        let latency = |name: &str| {
            self.window(name).map_or_else(
                || "-".to_owned(),
                |w| {
                    format!(
                        "p50 {}   p99 {}   max {}",
                        ms(w.p50_ms),
                        ms(w.p99_ms),
                        ms(w.max_ms)
                    )
                },
            )
        };
        let worst = app
            .windows
            .iter()
            .max_by(|a, b| a.max_ms.total_cmp(&b.max_ms))
            .map_or_else(String::new, |w| format!(" ({})", w.name));
        let done = &self.backfill;
        let rows = vec![
            row("application statements", count(app.statements)),
            row("errors", count(app.errors)),
            row("wrong reads", count(app.wrong_reads)),
            row("latency before", latency(super::run::BASELINE)),
            row("latency during backfill", latency("backfill")),
            row(
                "longest wait of a statement",
                format!("{}{worst}", ms(app.longest_wait_ms)),
            ),
            row("longest wait for a lock", ms(app.longest_lock_wait_ms)),
            row("rows backfilled", count(done.rows)),
            row(
                "chunks",
                format!(
                    "{}, {} ms each",
                    count(done.chunks),
                    (done.worked_s * 1000.0 / done.chunks.max(1) as f64).round()
                ),
            ),
            row("chunks redone after kill -9", count(done.chunks_redone)),
            row("wrong rows", count(self.wrong_rows.total())),
            row(
                "max standby lag",
                format!(
                    "{}, {}",
                    ms(self.standby.max_lag_ms),
                    bytes(self.standby.max_lag_bytes)
                ),
            ),
            row("time", format!("{:.0} s", self.elapsed_s)),
        ];
        table(&["", ""], &rows).trim_start().to_owned()
    }
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

/// `0.9 ms`, `12 ms`
fn ms(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1} ms")
    } else {
        format!("{value:.0} ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let window = |name: &str, max_ms| Window {
            name: name.into(),
            statements: 100,
            p50_ms: 0.94,
            p99_ms: 3.26,
            max_ms,
        };
        Report {
            postgres: "17.1".into(),
            rows_loaded: 1_000_000,
            elapsed_s: 90.4,
            application: Application {
                statements: 18_000,
                errors: 0,
                wrong_reads: 0,
                first_errors: Vec::new(),
                longest_wait_ms: 41.3,
                longest_lock_wait_ms: 7.0,
                windows: vec![window("baseline", 12.0), window("backfill", 41.3)],
            },
            backfill: Backfill {
                rows: 1_000_400,
                chunks: 1_200,
                chunks_redone: 0,
                killed_at: Some(0.401),
                rows_left_at_kill: 600_000,
                rows_after_kill: 599_000,
                worked_s: 24.0,
            },
            wrong_rows: WrongRows::default(),
            schema_restored: true,
            standby: Standby {
                max_lag_ms: 250.0,
                max_lag_bytes: 1 << 20,
            },
        }
    }

    #[test]
    fn a_good_report_has_no_findings_and_a_short_table() {
        let report = report();
        assert_eq!(report.findings(), Vec::<String>::new());
        let text = report.human();
        assert!(text.starts_with("application statements"), "{text}");
        assert!(
            text.contains("p50 0.9 ms   p99 3.3 ms   max 41 ms"),
            "{text}"
        );
        assert!(text.contains("41 ms (backfill)"), "{text}");
        assert!(text.lines().count() < 16, "{text}");
    }

    #[test]
    fn each_thing_that_must_not_be_is_found() {
        let spoil: [fn(&mut Report); 8] = [
            |r| r.application.errors = 1,
            |r| r.application.wrong_reads = 1,
            |r| r.wrong_rows.ready = 1,
            |r| r.wrong_rows.revert = 1,
            |r| r.backfill.chunks_redone = 1,
            |r| r.backfill.rows_after_kill = 600_001,
            |r| r.backfill.killed_at = None,
            |r| r.schema_restored = false,
        ];
        for (n, spoil) in spoil.iter().enumerate() {
            let mut report = report();
            spoil(&mut report);
            assert_eq!(report.findings().len(), 1, "{n}");
        }
    }
}
