//! What the project sets itself, and whether it was met.

use crate::figures::{L0, L1, REST, Results, TOUCH};

/// One aim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) aim: &'static str,
    /// As told: the table and the contender.
    pub(crate) of: String,
    pub(crate) bound: String,
    /// `None` where it was not measured.
    pub(crate) measured: Option<f64>,
    pub(crate) met: Option<bool>,
}

impl Bar {
    /// `met`, `not met` or `not measured`.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn text(self) -> String {
        match self {
            Self::AtLeast(value) => format!("≥ {value}"),
            Self::AtMost(value) => format!("≤ {value}"),
        }
    }

    fn met(self, measured: f64) -> bool {
        match self {
            Self::AtLeast(value) => measured >= value,
            Self::AtMost(value) => measured <= value,
        }
    }
}

fn bar(aim: &'static str, of: String, bound: Bound, measured: Option<f64>) -> Bar {
    Bar {
        aim,
        of,
        bound: bound.text(),
        measured,
        met: measured.map(|m| bound.met(m)),
    }
}

/// Rows a second as a ratio, by table, contender, and the one it is compared with.
const SPEEDS: [(&str, &str, &str, &str, f64); 7] = [
    (
        "plain ctid, 5,000 rows, one worker: rows/s ÷ L1",
        "int0",
        "ctid-5k",
        L1,
        0.92,
    ),
    (
        "the same, as chunks commit asynchronously",
        "int0",
        "ctid-5k",
        L1,
        0.97,
    ),
    (
        "with VACUUM every 5 %: rows/s ÷ L1",
        "int0",
        "vacuum-5",
        L1,
        0.80,
    ),
    ("four stripes: rows/s ÷ L1", "int0", "stripes-4", L1, 0.92),
    (
        "two secondary indexes, eight stripes: rows/s ÷ L0",
        "int2",
        "stripes-8",
        L0,
        1.15,
    ),
    (
        "two secondary indexes, what is chosen by itself: rows/s ÷ L0",
        "int2",
        "auto",
        L0,
        1.15,
    ),
    ("uuid key: rows/s ÷ L1", "uuid", "ctid-5k", L1, 0.85),
];

/// Every aim.
pub(crate) fn bars(results: &Results) -> Vec<Bar> {
    let median = |s: Option<crate::stats::Spread>| s.map(|s| s.median);
    let of = |contender: &str, table: &str| format!("{contender} on {table}");
    let mut all: Vec<Bar> = SPEEDS
        .iter()
        .map(|&(aim, table, contender, other, least)| {
            let speed = median(results.speed(table, contender, other));
            bar(aim, of(contender, table), Bound::AtLeast(least), speed)
        })
        .collect();
    all.push(bar(
        "with VACUUM every 5 %: heap after ÷ before",
        of("vacuum-5", "int0"),
        Bound::AtMost(1.15),
        median(results.heap("int0", "vacuum-5")),
    ));
    let wal = results.against("int0", "stripes-4", L0, |f| f.wal_bytes as f64);
    all.push(bar(
        "four stripes: WAL ÷ L0",
        of("stripes-4", "int0"),
        Bound::AtMost(0.85),
        median(wal),
    ));
    all.push(against_touch(
        results,
        "auto",
        "rows/s ÷ touching by key, on every table (the lowest)",
    ));
    all.push(against_touch(
        results,
        "auto-2w",
        "the same with two workers; touching has one",
    ));
    all.extend(latency(results));
    all.push(own_cpu(results));
    all
}

/// The worst table, by one or two workers; touching has one.
fn against_touch(results: &Results, who: &str, aim: &'static str) -> Bar {
    let worst = results
        .speed_tables()
        .filter_map(|t| {
            let speed = results.speed(&t.name, who, TOUCH)?;
            Some((speed.median, t.name.clone()))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let (measured, table) = worst.map_or((None, "every table".into()), |(m, t)| (Some(m), t));
    bar(
        aim,
        format!("{who} on {table}"),
        Bound::AtLeast(2.0),
        measured,
    )
}

fn latency(results: &Results) -> Vec<Bar> {
    let Some(table) = results.latency_tables().next() else {
        return Vec::new();
    };
    let p99 = |who: &str| results.spread(&table.name, who, |f| Some(f.latency?.p99_ms));
    let ratio = p99("default")
        .zip(p99(REST))
        .and_then(|(work, rest)| crate::stats::ratio(work.median, rest.median));
    let longest = results.spread(&table.name, "default", |f| Some(f.latency?.max_ms));
    let of = format!("default on {}", table.name);
    vec![
        bar(
            "default throttle: the application's p99 ÷ at rest",
            of.clone(),
            Bound::AtMost(2.0),
            ratio,
        ),
        bar(
            "default throttle: the application's longest statement, ms",
            of,
            Bound::AtMost(100.0),
            longest.map(|s| s.max),
        ),
    ]
}

/// The worst table, as it is without options but for the throttle.
fn own_cpu(results: &Results) -> Bar {
    let worst = results
        .speed_tables()
        .filter_map(|t| Some((results.own_share(&t.name, "auto")?.median, t.name.clone())))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let (measured, table) = worst.map_or((None, "every table".into()), |(m, t)| (Some(m), t));
    bar(
        "pgshift's CPU ÷ the server's, on every table (the highest)",
        format!("auto on {table}"),
        Bound::AtMost(0.05),
        measured,
    )
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
mod tests {
    use super::*;
    use crate::figures::Latency;
    use crate::figures::tests::{figure, results};

    fn find(bars: &[Bar], aim: &str) -> Bar {
        let found = bars.iter().find(|b| b.aim.starts_with(aim));
        found.unwrap_or_else(|| panic!("{aim}: {bars:?}")).clone()
    }

    #[test]
    fn met_and_not_met_and_not_measured() {
        let mut chunks = figure("int0", "ctid-5k", 0, 1.06);
        chunks.own_cpu_s = Some(0.05);
        let bars = bars(&results(vec![figure("int0", L1, 0, 1.0), chunks]));
        let plain = find(&bars, "plain ctid");
        assert_eq!(plain.verdict(), "met", "{plain:?}");
        assert_eq!(find(&bars, "the same").verdict(), "**not met**");
        assert_eq!(find(&bars, "uuid").verdict(), "not measured");
        assert_eq!(find(&bars, "rows/s ÷ touching").verdict(), "not measured");
    }

    #[test]
    fn the_worst_table_counts() {
        let mut rounds = Vec::new();
        for (table, seconds, cpu) in [("int0", 1.0, 0.02), ("uuid", 4.0, 0.4)] {
            let mut auto = figure(table, "auto", 0, seconds);
            auto.own_cpu_s = Some(cpu);
            rounds.extend([auto, figure(table, TOUCH, 0, 6.0)]);
        }
        let bars = bars(&results(rounds));
        let touch = find(&bars, "rows/s ÷ touching");
        assert_eq!((touch.measured, touch.met), (Some(1.5), Some(false)));
        assert_eq!(touch.of, "auto on uuid");
        assert_eq!(find(&bars, "pgshift's CPU").measured, Some(0.2));
    }

    #[test]
    fn the_longest_statement_of_any_round_counts() {
        let met = |who: &str, round: usize, p99_ms: f64, max_ms: f64| {
            let mut figure = figure("app", who, round, 1.0);
            figure.latency = Some(Latency {
                statements: 100,
                p50_ms: 1.0,
                p99_ms,
                max_ms,
            });
            figure
        };
        let bars = bars(&results(vec![
            met(REST, 0, 4.0, 9.0),
            met(REST, 1, 4.0, 9.0),
            met("default", 0, 5.0, 12.0),
            met("default", 1, 7.0, 120.0),
        ]));
        assert_eq!(
            find(&bars, "default throttle: the application's p99").measured,
            Some(1.5)
        );
        let longest = find(&bars, "default throttle: the application's longest");
        assert_eq!((longest.measured, longest.met), (Some(120.0), Some(false)));
    }
}
