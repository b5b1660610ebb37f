//! Options of the commands that run steps.

use clap::Args;

use super::config::Time;
use crate::exec::Settings;
use crate::throttle::limits;

/// How to run. A migration file's own options win over these, these over pgshift.toml.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "How to run")]
pub(super) struct RunOptions {
    /// Share of the time that backfill chunks may work, as 0.5 or 50% [default: 0.5]
    #[arg(long, value_name = "SHARE", value_parser = limit("duty"))]
    duty: Option<String>,
    /// Hold while a standby is further behind than this; off ignores standbys [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = limit("max-lag"))]
    max_lag: Option<String>,
    /// Any limit of the throttle, as `pgshift throttle show` lists them; may be given more than
    /// once
    #[arg(long, value_name = "KEY=VALUE", value_parser = limits::assignment)]
    throttle: Vec<(String, String)>,
    /// Concurrent workers of a backfill by blocks [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,
    /// Working time that a chunk aims at [default: 8ms]
    #[arg(long, value_name = "TIME")]
    chunk_target: Option<Time>,
    /// Rows that may fail before a backfill stops [default: 0]
    #[arg(long, value_name = "N")]
    max_failed_rows: Option<u64>,
    /// How long a step goes on trying for its locks [default: 5m]
    #[arg(long, value_name = "TIME")]
    lock_budget: Option<Time>,
    /// Terminate sessions that are in the way of a step's locks
    #[arg(long)]
    cancel_blockers: bool,
    /// How long to go on trying to reconnect [default: 1m]
    #[arg(long, value_name = "TIME")]
    reconnect_budget: Option<Time>,
}

/// Parses the value of one limit, keeping its text.
fn limit(key: &'static str) -> impl Fn(&str) -> Result<String, String> + Clone {
    move |value| {
        limits::Limits::default().set(key, value)?;
        Ok(value.to_owned())
    }
}

impl RunOptions {
    /// Puts what the command line says into the settings.
    pub(super) fn settings(&self, settings: &mut Settings) {
        let named = [("duty", &self.duty), ("max-lag", &self.max_lag)];
        let named = named
            .into_iter()
            .filter_map(|(k, v)| Some((k, v.as_deref()?)));
        let others = self.throttle.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        for (key, value) in named.chain(others) {
            // The parser has tried it.
            let _ = settings.limits.set(key, value);
        }
        if let Some(workers) = self.workers {
            settings.workers = workers;
        }
        if let Some(Time(target)) = self.chunk_target {
            settings.chunk_target = target;
        }
        if let Some(rows) = self.max_failed_rows {
            settings.max_failed_rows = rows;
        }
        if let Some(Time(budget)) = self.lock_budget {
            settings.ladder.budget = budget;
        }
        if self.cancel_blockers {
            settings.cancel_blockers = true;
        }
        if let Some(Time(budget)) = self.reconnect_budget {
            settings.reconnect_budget = budget;
        }
    }
}
