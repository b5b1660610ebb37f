//! What was measured, and what is told of it.

use serde::{Deserialize, Serialize};

use crate::stats::{Spread, ratio};

/// The contender that all are compared with.
pub(crate) const L0: &str = "one-update";
/// The same with pgshift's trigger, which it skips.
pub(crate) const L1: &str = "one-update-trigger";
/// No contender: the application alone.
pub(crate) const REST: &str = "at-rest";
/// What view-and-trigger tools do.
pub(crate) const TOUCH: &str = "touch-keys";

/// What an application met beside a contender.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) statements: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// One contender on one table in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) table: String,
    pub(crate) contender: String,
    pub(crate) round: usize,
    pub(crate) rows: u64,
    /// Of the backfill alone.
    pub(crate) seconds: f64,
    pub(crate) wal_bytes: u64,
    /// Bytes before and after.
    pub(crate) heap: [u64; 2],
    pub(crate) indexes: [u64; 2],
    /// CPU seconds, user and system.
    pub(crate) server_cpu_s: Option<f64>,
    /// Of pgshift's process.
    pub(crate) own_cpu_s: Option<f64>,
    /// Bytes.
    pub(crate) own_memory: Option<u64>,
    /// The whole command, planning, triggers and verify included.
    pub(crate) command_s: Option<f64>,
    pub(crate) latency: Option<Latency>,
    /// What is wrong with the table afterwards.
    pub(crate) wrong: Option<String>,
}

impl Figure {
    pub(crate) fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.seconds.max(1e-9)
    }
}

/// A name and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) about: String,
}

/// A run of the benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Of pgshift.
    pub(crate) version: String,
    /// Of the server.
    pub(crate) postgres: String,
    pub(crate) machine: String,
    pub(crate) date: String,
    pub(crate) rows: u64,
    pub(crate) rounds: usize,
    /// Statements a second of the application.
    pub(crate) rate: u32,
    /// How the program was called.
    pub(crate) arguments: String,
    pub(crate) tables: Vec<Named>,
    pub(crate) contenders: Vec<Named>,
    /// Contenders that were not run, and why.
    pub(crate) skipped: Vec<Named>,
    pub(crate) figures: Vec<Figure>,
}

impl Results {
    /// The rounds of a contender on a table.
    pub(crate) fn rounds_of<'a>(
        &'a self,
        table: &'a str,
        contender: &'a str,
    ) -> impl Iterator<Item = &'a Figure> {
        self.figures
            .iter()
            .filter(move |f| f.table == table && f.contender == contender)
    }

    /// A figure over all rounds.
    pub(crate) fn spread(
        &self,
        table: &str,
        contender: &str,
        of: impl Fn(&Figure) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.rounds_of(table, contender).filter_map(of))
    }

    /// A figure as a ratio to that of another contender in the same round, over all rounds.
    pub(crate) fn against(
        &self,
        table: &str,
        contender: &str,
        other: &str,
        of: impl Fn(&Figure) -> f64,
    ) -> Option<Spread> {
        Spread::of(self.rounds_of(table, contender).filter_map(|f| {
            let of_round = |g: &&Figure| g.round == f.round;
            let same = self.rounds_of(table, other).find(of_round)?;
            ratio(of(f), of(same))
        }))
    }

    /// Rows a second as a ratio.
    pub(crate) fn speed(&self, table: &str, contender: &str, other: &str) -> Option<Spread> {
        self.against(table, contender, other, Figure::rows_per_second)
    }

    /// The heap afterwards as a ratio to the heap before.
    pub(crate) fn heap(&self, table: &str, contender: &str) -> Option<Spread> {
        self.spread(table, contender, |f| {
            ratio(f.heap[1] as f64, f.heap[0] as f64)
        })
    }

    /// pgshift's CPU time as a share of the server's.
    pub(crate) fn own_share(&self, table: &str, contender: &str) -> Option<Spread> {
        self.spread(table, contender, |f| ratio(f.own_cpu_s?, f.server_cpu_s?))
    }

    /// Tables of which the speed was measured, in order.
    pub(crate) fn speed_tables(&self) -> impl Iterator<Item = &Named> {
        self.tables.iter().filter(|t| {
            let of_table = |f: &&Figure| f.table == t.name;
            self.figures
                .iter()
                .filter(of_table)
                .any(|f| f.latency.is_none())
        })
    }

    /// Tables beside whose backfills an application worked.
    pub(crate) fn latency_tables(&self) -> impl Iterator<Item = &Named> {
        self.tables.iter().filter(|t| {
            self.figures
                .iter()
                .any(|f| f.table == t.name && f.latency.is_some())
        })
    }

    /// Contenders that were measured on a table, in order.
    pub(crate) fn contenders_on<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Named> {
        self.contenders
            .iter()
            .filter(move |c| self.rounds_of(table, &c.name).next().is_some())
    }

    /// What a contender left wrong, one line each.
    pub(crate) fn wrong(&self) -> Vec<String> {
        self.figures
            .iter()
            .filter_map(|f| {
                let wrong = f.wrong.as_ref()?;
                Some(format!(
                    "{}, {}, round {}: {wrong}",
                    f.table,
                    f.contender,
                    f.round + 1
                ))
            })
            .collect()
    }
}

#[cfg(test)]
#[allow(dead_code, unused_imports, reason = "run by tests/benches.rs")]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn figure(table: &str, contender: &str, round: usize, seconds: f64) -> Figure {
        Figure {
            table: table.into(),
            contender: contender.into(),
            round,
            rows: 1000,
            seconds,
            wal_bytes: 250_000,
            heap: [100_000, 205_000],
            indexes: [20_000, 40_000],
            server_cpu_s: Some(2.0),
            own_cpu_s: None,
            own_memory: None,
            command_s: None,
            latency: None,
            wrong: None,
        }
    }

    pub(crate) fn results(figures: Vec<Figure>) -> Results {
        let named = |names: &[&str]| {
            names
                .iter()
                .map(|n| Named {
                    name: (*n).into(),
                    about: format!("about {n}"),
                })
                .collect()
        };
        Results {
            version: "0.1.0".into(),
            postgres: "15.18".into(),
            machine: "2 virtual CPUs, 8 GiB of memory".into(),
            date: "2026-11-23".into(),
            rows: 1000,
            rounds: 2,
            rate: 300,
            arguments: "--rows 1000".into(),
            tables: named(&["int0", "uuid", "app"]),
            contenders: named(&[REST, L0, L1, "ctid-5k", "default", TOUCH]),
            skipped: Vec::new(),
            figures,
        }
    }

    #[test]
    fn ratios_are_within_a_round() {
        // The second round was slower for both.
        let results = results(vec![
            figure("int0", L0, 0, 1.0),
            figure("int0", "ctid-5k", 0, 2.0),
            figure("int0", L0, 1, 10.0),
            figure("int0", "ctid-5k", 1, 20.0),
            figure("int0", "ctid-5k", 2, 1.0),
        ]);
        let speed = results.speed("int0", "ctid-5k", L0).unwrap();
        assert!((speed.min - 0.5).abs() < 1e-9 && (speed.max - 0.5).abs() < 1e-9);
        assert_eq!(results.speed("uuid", "ctid-5k", L0), None);
        assert!((results.heap("int0", L0).unwrap().median - 2.05).abs() < 1e-9);
        assert_eq!(results.own_share("int0", L0), None);
    }

    #[test]
    fn tables_are_of_speed_or_of_latency() {
        let mut at_work = figure("app", "default", 0, 1.0);
        at_work.latency = Some(Latency {
            statements: 1,
            p50_ms: 1.0,
            p99_ms: 1.0,
            max_ms: 1.0,
        });
        at_work.wrong = Some("1 row is wrong".into());
        let results = results(vec![figure("int0", L0, 0, 1.0), at_work]);
        let names = |tables: Vec<&Named>| -> Vec<String> {
            tables.iter().map(|t| t.name.clone()).collect()
        };
        assert_eq!(names(results.speed_tables().collect()), ["int0"]);
        assert_eq!(names(results.latency_tables().collect()), ["app"]);
        assert_eq!(names(results.contenders_on("app").collect()), ["default"]);
        assert_eq!(results.wrong(), ["app, default, round 1: 1 row is wrong"]);
    }
}
