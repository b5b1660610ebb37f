//! The figures as Markdown.

use std::fmt::Write as _;

use crate::bars::bars;
use crate::figures::{Figure, L0, L1, Named, Results};
use crate::stats::Spread;

const NONE: &str = "–";

fn number(value: f64, digits: usize) -> String {
    format!("{value:.digits$}")
}

/// `123,456`
fn count(value: f64) -> String {
    let digits = number(value.abs(), 0);
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn median(spread: Option<Spread>, show: impl Fn(f64) -> String) -> String {
    spread.map_or_else(|| NONE.to_owned(), |s| show(s.median))
}

/// `0.97 (0.95–0.98)`
fn with_range(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || NONE.to_owned(),
        |s| format!("{:.2} ({:.2}–{:.2})", s.median, s.min, s.max),
    )
}

fn row(out: &mut String, cells: &[String]) {
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}

fn head(out: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|&c| c.to_owned()).collect();
    row(out, &cells);
    let line = vec!["---".to_owned(); cells.len()];
    row(out, &line);
}

fn names(out: &mut String, all: &[Named]) {
    for named in all {
        let _ = writeln!(out, "- `{}`: {}", named.name, named.about);
    }
}

/// The page of a run.
pub(crate) fn page(results: &Results) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "# Figures\nWritten by `scripts/bench.sh {}`; [README.md](README.md) says how they are measured.\n\n\
         pgshift {}, PostgreSQL {}, {}. {}: {} rows a table unless said otherwise, {} rounds; \
         medians, in parentheses the lowest and the highest round.\n\n\
         ![Rows a second](speed.svg)\n",
        results.arguments,
        results.version,
        results.postgres,
        results.machine,
        results.date,
        count(results.rows as f64),
        results.rounds,
    );
    aims(&mut out, results);
    for table in results.speed_tables() {
        speed(&mut out, results, table);
    }
    for table in results.latency_tables() {
        latency(&mut out, results, table);
    }
    out.push_str("## Contenders\n");
    let met = |c: &&Named| results.figures.iter().any(|f| f.contender == c.name);
    let run: Vec<Named> = results.contenders.iter().filter(met).cloned().collect();
    names(&mut out, &run);
    if !results.skipped.is_empty() {
        out.push_str("\nSkipped:\n\n");
        names(&mut out, &results.skipped);
    }
    out
}

fn aims(out: &mut String, results: &Results) {
    out.push_str("## Aims\n");
    head(out, &["aim", "of", "bound", "measured", ""]);
    for bar in bars(results) {
        let measured = bar.measured.map_or_else(
            || NONE.to_owned(),
            |m| {
                if m >= 100.0 {
                    count(m)
                } else if m < 0.1 {
                    number(m, 3)
                } else {
                    number(m, 2)
                }
            },
        );
        row(
            out,
            &[
                bar.aim.to_owned(),
                bar.of.clone(),
                bar.bound.clone(),
                measured,
                bar.verdict().to_owned(),
            ],
        );
    }
    out.push('\n');
}

fn speed(out: &mut String, results: &Results, table: &Named) {
    let _ = writeln!(out, "## Table `{}`\n{}\n", table.name, table.about);
    head(
        out,
        &[
            "contender",
            "rows/s",
            "÷ L0",
            "÷ L1",
            "WAL bytes/row",
            "heap after ÷ before",
            "indexes after ÷ before",
            "server CPU µs/row",
            "pgshift CPU ÷ server's",
            "pgshift memory MiB",
            "whole command s",
        ],
    );
    for contender in results.contenders_on(&table.name) {
        let spread =
            |of: &dyn Fn(&Figure) -> Option<f64>| results.spread(&table.name, &contender.name, of);
        let growth = |of: [u64; 2]| crate::stats::ratio(of[1] as f64, of[0] as f64);
        row(
            out,
            &[
                contender.name.clone(),
                median(spread(&|f| Some(f.rows_per_second())), count),
                with_range(results.speed(&table.name, &contender.name, L0)),
                with_range(results.speed(&table.name, &contender.name, L1)),
                median(spread(&|f| Some(f.wal_bytes as f64 / f.rows as f64)), |v| {
                    number(v, 0)
                }),
                median(spread(&|f| growth(f.heap)), |v| number(v, 2)),
                median(spread(&|f| growth(f.indexes)), |v| number(v, 2)),
                median(
                    spread(&|f| Some(f.server_cpu_s? * 1e6 / f.rows as f64)),
                    |v| number(v, 1),
                ),
                median(results.own_share(&table.name, &contender.name), |v| {
                    format!("{:.1} %", v * 100.0)
                }),
                median(
                    spread(&|f| Some(f.own_memory? as f64 / f64::from(1 << 20))),
                    |v| number(v, 0),
                ),
                median(spread(&|f| f.command_s), |v| number(v, 1)),
            ],
        );
    }
    out.push('\n');
}

fn latency(out: &mut String, results: &Results, table: &Named) {
    let _ = writeln!(
        out,
        "## Application on table `{}`\n{}\n\n{} statements a second: reads and updates by key.\n\n\
         ![Times of the application's statements](latency.svg)\n",
        table.name, table.about, results.rate
    );
    head(
        out,
        &[
            "beside it",
            "statements",
            "p50 ms",
            "p99 ms",
            "longest ms (any round)",
            "rows/s",
        ],
    );
    for contender in results.contenders_on(&table.name) {
        let spread =
            |of: &dyn Fn(&Figure) -> Option<f64>| results.spread(&table.name, &contender.name, of);
        let longest = spread(&|f| Some(f.latency?.max_ms));
        let rest = contender.name == crate::figures::REST;
        row(
            out,
            &[
                contender.name.clone(),
                median(spread(&|f| Some(f.latency?.statements as f64)), count),
                median(spread(&|f| Some(f.latency?.p50_ms)), |v| number(v, 1)),
                median(spread(&|f| Some(f.latency?.p99_ms)), |v| number(v, 1)),
                longest.map_or_else(|| NONE.to_owned(), |s| number(s.max, 1)),
                if rest {
                    NONE.to_owned()
                } else {
                    median(spread(&|f| Some(f.rows_per_second())), count)
                },
            ],
        );
    }
    out.push('\n');
}

/// The page of `--memory`: rows, and what each run took.
pub(crate) fn memory(results: &Results) -> String {
    let mut out = format!(
        "# Memory\nWritten by `scripts/bench.sh {}`.\n\npgshift {}, PostgreSQL {}, {}. {}: the \
         largest resident set of `pgshift apply` (VmHWM), verify included.\n\n",
        results.arguments, results.version, results.postgres, results.machine, results.date
    );
    head(
        &mut out,
        &[
            "rows",
            "pgshift memory MiB",
            "rows/s",
            "pgshift CPU ÷ server's",
            "whole command s",
        ],
    );
    for figure in &results.figures {
        let optional = |v: Option<f64>, digits| v.map_or(NONE.to_owned(), |v| number(v, digits));
        let share = figure.own_cpu_s.zip(figure.server_cpu_s);
        row(
            &mut out,
            &[
                count(figure.rows as f64),
                optional(figure.own_memory.map(|m| m as f64 / f64::from(1 << 20)), 1),
                count(figure.rows_per_second()),
                share.map_or(NONE.to_owned(), |(own, server)| {
                    format!("{:.1} %", own / server.max(1e-9) * 100.0)
                }),
                optional(figure.command_s, 1),
            ],
        );
    }
    out
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
mod tests {
    use super::*;
    use crate::figures::Latency;
    use crate::figures::tests::{figure, results};

    #[test]
    fn counts_have_commas() {
        for (value, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1000.0, "1,000"),
            (1_234_567.0, "1,234,567"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn every_line_of_a_table_has_as_many_cells() {
        let mut app = figure("app", "default", 0, 1.0);
        app.latency = Some(Latency {
            statements: 1,
            p50_ms: 1.0,
            p99_ms: 2.0,
            max_ms: 3.0,
        });
        let all = results(vec![
            figure("int0", L0, 0, 1.0),
            figure("int0", "ctid-5k", 0, 2.0),
            app,
        ]);
        let page = page(&all);
        assert!(
            page.contains("| ctid-5k | 500 | 0.50 (0.50–0.50) | – |"),
            "{page}"
        );
        assert!(
            page.contains("| default | 1 | 1.0 | 2.0 | 3.0 | 1,000 |"),
            "{page}"
        );
        for text in [page, memory(&all)] {
            let mut cells = None;
            for line in text.lines() {
                if line.starts_with('|') {
                    let n = line.matches('|').count();
                    assert_eq!(*cells.get_or_insert(n), n, "{line}");
                } else {
                    cells = None;
                }
            }
        }
    }
}
