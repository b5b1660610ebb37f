//! Latencies by named windows of time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// What one window saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// What went on: `baseline`, or a phase of the migration.
    pub name: String,
    /// Statements that were due in it.
    pub statements: u64,
    /// Half of them took no longer, in milliseconds from when they were due.
    pub p50_ms: f64,
    /// 99 % of them took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Histograms by window, in the order in which the windows were first opened.
#[derive(Debug)]
pub(super) struct Latencies {
    windows: Vec<(String, Histogram<u64>)>,
    current: usize,
}

/// From 1 µs to 10 minutes, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("constant bounds that are valid")
}

impl Latencies {
    pub(super) fn new(first: &str) -> Self {
        Self {
            windows: vec![(first.to_owned(), histogram())],
            current: 0,
        }
    }

    /// Statements that become due from now on belong to this window; one that was open before is
    /// opened again.
    pub(super) fn open(&mut self, name: &str) {
        if let Some(known) = self.windows.iter().position(|(n, _)| n == name) {
            self.current = known;
        } else {
            self.windows.push((name.to_owned(), histogram()));
            self.current = self.windows.len() - 1;
        }
    }

    /// The window that a statement due now belongs to.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Its name.
    pub(super) fn current_name(&self) -> String {
        self.windows[self.current].0.clone()
    }

    pub(super) fn record(&mut self, window: usize, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        self.windows[window].1.saturating_record(micros);
    }

    /// The windows that saw a statement.
    pub(super) fn windows(&self) -> Vec<Window> {
        self.windows
            .iter()
            .filter(|(_, seen)| !seen.is_empty())
            .map(|(name, seen)| Window {
                name: name.clone(),
                statements: seen.len(),
                p50_ms: millis(seen.value_at_quantile(0.5)),
                p99_ms: millis(seen.value_at_quantile(0.99)),
                max_ms: millis(seen.max()),
            })
            .collect()
    }
}

/// Milliseconds to two decimals.
fn millis(micros: u64) -> f64 {
    (micros as f64 / 10.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_belongs_to_the_window_in_which_it_was_due() {
        let mut seen = Latencies::new("baseline");
        let due = seen.current();
        seen.open("backfill");
        seen.record(due, Duration::from_millis(250));
        for ms in 1..=100 {
            seen.record(seen.current(), Duration::from_millis(ms));
        }
        seen.open("idle");
        seen.open("baseline");
        seen.record(seen.current(), Duration::from_millis(1));

        let windows = seen.windows();
        let names: Vec<_> = windows.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["baseline", "backfill"], "an empty one is left out");
        assert_eq!(windows[0].statements, 2);
        assert!((windows[0].max_ms - 250.0).abs() < 1.0, "{windows:?}");
        assert!((windows[1].p50_ms - 50.0).abs() < 1.0, "{windows:?}");
        assert!((windows[1].p99_ms - 99.0).abs() < 1.0, "{windows:?}");
    }
}
