//! What the throttle can see in a database, and what else would stop a migration there.

mod large;
mod server;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Client;

use super::{Engine, Settings, ready, sampler};
use crate::error::{Error, Result};
use crate::pg::pooler::Pooling;
use crate::pg::probes::{self, Console};
use crate::pg::session;
use crate::throttle::{Reading, Sample, pools};

/// How long PgBouncer's console may take to answer.
const CONSOLE: Duration = Duration::from_secs(3);

/// How a finding bears on a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In order.
    Fine,
    /// Worth knowing.
    Note,
    /// Would hold or refuse a migration now.
    Stops,
}

impl Verdict {
    /// The name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Stops => "stops",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// Its present value, or why it cannot be read.
    pub value: String,
    /// Its limit, where it has one.
    pub limit: Option<String>,
    /// How it bears on a migration.
    pub verdict: Verdict,
    /// What to do about it.
    pub advice: Option<String>,
}

impl Finding {
    fn new(what: &str, value: impl Into<String>, verdict: Verdict) -> Self {
        Self {
            what: what.to_owned(),
            value: value.into(),
            limit: None,
            verdict,
            advice: None,
        }
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    fn of_sample(sample: &Sample) -> Self {
        let passed = sample.bound.is_some_and(|b| b.is_passed(sample.value));
        let verdict = if passed {
            Verdict::Stops
        } else {
            Verdict::Fine
        };
        let mut finding = Self::new(&sample.key(), sample.shown(), verdict);
        finding.limit = sample.bound.map(|b| sample.limit_shown(b));
        finding
    }

    fn unreadable(what: &str, error: &Error) -> Self {
        let finding = Self::new(what, format!("cannot be read: {error}"), Verdict::Stops);
        match error.what_next() {
            Some(next) => finding.advice(next),
            None => finding,
        }
    }
}

/// What a signal tells: each of its values, or why it cannot be read. What no limit asks for stops
/// nothing.
fn signal(told: sampler::Told) -> Vec<Finding> {
    let stops = |mut finding: Finding| {
        if !told.watched && finding.verdict == Verdict::Stops {
            finding.verdict = Verdict::Note;
        }
        finding
    };
    match told.readings {
        Ok(readings) => readings
            .iter()
            .map(|reading| match reading {
                Reading::Sample(sample) => Finding::of_sample(sample),
                Reading::Blind { signal, why } => {
                    Finding::new(signal, format!("cannot be read: {why}"), Verdict::Stops)
                }
                Reading::Shut { signal, why } => Finding::new(signal, why, Verdict::Stops),
                Reading::Paused { by } => {
                    Finding::new(&told.name, format!("paused by {by}"), Verdict::Stops)
                }
                Reading::Closed { until } => {
                    Finding::new(&told.name, format!("closed until {until}"), Verdict::Stops)
                }
            })
            .map(stops)
            .collect(),
        Err(error) => vec![stops(Finding::unreadable(&told.name, &error))],
    }
}

/// Examines the database of an engine with its limits.
pub async fn examine(engine: &Engine) -> Result<Vec<Finding>> {
    let between = pooler(engine).await?;
    if let Ok(pooling) = engine.pooling().await
        && !pooling.carries_transactions()
    {
        // What it would tell further could be another session's answer.
        return Ok(vec![between]);
    }
    let client = engine.connect().await?;
    let mut ctx = engine.ctx.clone();
    ready::know_database(&mut ctx.settings, &client).await?;
    let mut all = vec![server(&client).await?];
    for told in sampler::look(&ctx, &client).await? {
        all.extend(signal(told));
    }
    all.extend(old_snapshot(&client).await?);
    all.extend(server::settings(&client).await?);
    all.extend(server::wal(&client).await?);
    all.extend(large::backfills(&client).await?);
    all.extend(console(&ctx.settings).await);
    all.push(between);
    all.extend(chunks(engine).await?);
    Ok(all)
}

async fn server(client: &Client) -> Result<Finding> {
    let version = session::server_version(client).await?;
    let text = format!("{}.{}", version / 10_000, version % 10_000);
    Ok(Finding::new("server version", text, Verdict::Fine))
}

/// Who keeps dead rows from being vacuumed for long; the age alone is a signal.
async fn old_snapshot(client: &Client) -> Result<Option<Finding>> {
    let oldest = match probes::oldest_snapshot_age(client).await {
        // The signal of this name has told it.
        Err(error) if !error.is_connection() => return Ok(None),
        oldest => oldest?,
    };
    Ok(oldest.filter(probes::OldestSnapshot::is_old).map(|o| {
        let value = match o.age {
            Some(age) => format!("{:.0}s, {}", age.as_secs_f64(), o.holder),
            None => format!("{}, which nobody reads", o.holder),
        };
        Finding::new("oldest snapshot", value, Verdict::Note)
            .advice("end it: dead rows of a backfill cannot be vacuumed while it lives")
    }))
}

/// What is between us and the server, and what works through it.
async fn pooler(engine: &Engine) -> Result<Finding> {
    let what = "pooler in between";
    let url = if engine.ctx.direct {
        "--direct-url"
    } else {
        "--database-url"
    };
    let place = format!("{url} {}", engine.target());
    let pooling = match engine.pooling().await {
        Ok(pooling) => pooling,
        Err(error) if error.is_connection() => {
            return Ok(Finding::new(
                what,
                format!("not known: {error}"),
                Verdict::Note,
            ));
        }
        Err(error) => return Err(error),
    };
    let value = format!("{place}: {pooling}");
    if *pooling == Pooling::Session {
        return Ok(Finding::new(what, value, Verdict::Fine));
    }
    let works = if pooling.carries_transactions() {
        "only plan, status, log, pause, throttle, init, baseline, and resume of a paused live run \
         work through it"
    } else {
        "nothing works reliably through it"
    };
    let refused = engine.refused_pooler(pooling, works);
    Ok(
        Finding::new(what, format!("{value}; {works}"), Verdict::Stops)
            .advice(refused.what_next().unwrap_or_default()),
    )
}

/// The way of chunks, where two URLs are given.
async fn chunks(engine: &Engine) -> Result<Option<Finding>> {
    let Some(pooled) = &engine.ctx.pooled else {
        return Ok(None);
    };
    let what = "way of chunks";
    let place = format!("--database-url {pooled}");
    Ok(Some(match engine.chunks_way().await {
        Ok(way) => Finding::new(what, way.unwrap_or_default(), Verdict::Fine),
        Err(error) => {
            let finding = Finding::new(what, format!("{place}: {error}"), Verdict::Stops);
            match error.what_next() {
                Some(next) => finding.advice(next),
                None => finding,
            }
        }
    }))
}

/// Which PgBouncer the console is of, and the modes of the pools that count.
async fn console(settings: &Settings) -> Option<Finding> {
    let what = "pgbouncer-url";
    let Some(of) = settings.pools.as_ref() else {
        let limit = settings.unwatched(&BTreeMap::new())?;
        let missing = ready::no_console(limit);
        return Some(
            Finding::new(what, missing.message(), Verdict::Stops)
                .advice(missing.what_next().unwrap_or_default()),
        );
    };
    let mut console = Console::new(of.console.clone());
    let asked = async {
        let (version, prepared) = console.about(CONSOLE).await?;
        let queues = console.queues(CONSOLE).await?;
        Ok::<_, Error>((version, prepared, queues))
    };
    Some(match asked.await {
        Err(error) => Finding::unreadable(what, &error),
        Ok((version, prepared, queues)) => {
            let database = of.database.as_deref().unwrap_or_default();
            let mut modes: Vec<String> = pools::watched(queues.pools, &queues.aliases, database)
                .into_iter()
                .map(|p| {
                    let mode = p.mode.unwrap_or_else(|| "mode not told".to_owned());
                    format!("{}/{} {mode}", p.database, p.user)
                })
                .collect();
            if modes.is_empty() {
                modes.push("no pool of this database yet".to_owned());
            }
            let prepared = prepared.map_or_else(
                || "no max_prepared_statements".to_owned(),
                |n| format!("max_prepared_statements {n}"),
            );
            let value = format!("{version}, {prepared}: {}", modes.join(", "));
            Finding::new(what, value, Verdict::Fine)
        }
    })
}
