//! Options of the commands that run steps.

use clap::Args;

use super::config::Time;
use crate::error::{Error, Result};
use crate::exec::{Over, Settings};
use crate::sql::Source;
use crate::throttle::compare::comparison;
use crate::throttle::custom::{self, Asks, Custom};
use crate::throttle::limits;

/// How to run. These win over a migration file's own options, and those over pgshift.toml.
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
    /// Hold while this query gives such a number, as 'SELECT count(*) FROM jobs > 100'; may be
    /// given more than once
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    signal: Vec<String>,
    /// Hold while this URL answers anything but 2xx; may be given more than once
    #[arg(long, value_name = "URL")]
    gate: Vec<String>,
    /// Concurrent workers of a backfill by blocks [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    workers: Option<u16>,
    /// Rows of a batch [default: as many as take the chunk target]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Working time that a chunk aims at [default: 1ms, and 20ms at a duty of 100%]
    #[arg(long, value_name = "TIME")]
    chunk_target: Option<Time>,
    /// Rows that may fail before a backfill stops [default: 0]
    #[arg(long, value_name = "N")]
    max_failed_rows: Option<u64>,
    /// The longest single try for a lock [default: 1s]
    #[arg(long, value_name = "TIME")]
    lock_timeout: Option<Time>,
    /// How long a step goes on trying for its locks [default: 5m]
    #[arg(long, value_name = "TIME")]
    lock_budget: Option<Time>,
    /// Terminate sessions that are in the way of a step's locks
    #[arg(long)]
    cancel_blockers: bool,
    /// Serve metrics over HTTP at this address, such as 127.0.0.1:9187
    #[arg(long, value_name = "ADDR")]
    pub(super) metrics_listen: Option<String>,
    /// Write metrics to this file that the Prometheus node exporter's textfile collector reads
    #[arg(long, value_name = "FILE")]
    pub(super) metrics_textfile: Option<std::path::PathBuf>,
    /// How long to go on trying to reconnect [default: 1m]
    #[arg(long, value_name = "TIME")]
    reconnect_budget: Option<Time>,
}

/// Parses the value of one limit, keeping its text.
fn limit(key: &'static str) -> impl Fn(&str) -> std::result::Result<String, String> + Clone {
    move |value| {
        limits::Limits::default().set(key, value)?;
        Ok(value.to_owned())
    }
}

fn add(settings: &mut Settings, name: String, asks: Asks) -> Result<()> {
    let wrong = |why| Error::usage(why).left("nothing was changed");
    custom::check_name(&name, &settings.signals).map_err(wrong)?;
    let pace = custom::pace(None, None).map_err(wrong)?;
    settings.signals.push(Custom { name, pace, asks });
    Ok(())
}

impl RunOptions {
    /// Puts what the command line says into the settings.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where a signal or a gate is wrong, or has a name twice.
    pub(super) fn settings(&self, settings: &mut Settings) -> Result<()> {
        let named = [("duty", &self.duty), ("max-lag", &self.max_lag)];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        settings.over = Over {
            limits: self.throttle.iter().cloned().chain(named).collect(),
            workers: self.workers,
            batch: self.batch,
            lock_timeout: self.lock_timeout.map(|t| t.0),
        };
        // What looks at limits before there is a step: as configured and as said here.
        for (key, value) in &settings.over.limits {
            let set = settings.limits.set(key, value);
            set.map_err(|why| Error::usage(why).left("nothing was changed"))?;
        }
        for (number, text) in (1..).zip(&self.signal) {
            let asks = comparison(text)
                .map(|(sql, bound)| Asks::Sql { sql, bound })
                .map_err(|d| {
                    Error::at(&Source::new("--signal", text.as_str()), vec![d])
                        .left("nothing was changed")
                })?;
            add(settings, format!("signal {number}"), asks)?;
        }
        for (number, text) in (1..).zip(&self.gate) {
            // The text is not repeated: it may have a password.
            let url = text.parse().map_err(|why| {
                Error::usage(format!("--gate: {why}")).left("nothing was changed")
            })?;
            add(settings, format!("gate {number}"), Asks::Gate { url })?;
        }
        if let Some(Time(target)) = self.chunk_target {
            settings.chunk_target = Some(target);
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
        Ok(())
    }
}
