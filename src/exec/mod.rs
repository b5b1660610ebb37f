//! Executing plans: leases, steps, backfills, verifies. Decisions are taken by the pure modules;
//! here they meet the server.

pub mod backfill;
mod chunk;
mod concurrent;
mod control;
mod ddl;
pub mod doctor;
pub mod engine;
pub mod lease;
mod ledger;
mod live;
pub mod planner;
mod probe;
mod ready;
pub mod repair;
pub mod revert;
mod sampler;
pub mod session;
mod tally;
pub mod verify;
pub mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, watch};

use crate::backfill::BackfillSpec;
use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::event::{Event, Sink};
use crate::pg::connect::Target;
use crate::pg::error::from_pg;
use crate::pg::pooler::Pooling;
use crate::plan::Step;
use crate::retry::LockLadder;
use crate::throttle::custom::Custom;
use crate::throttle::limits::{Source, Sourced};
use crate::throttle::{Limits, pools};

pub use engine::Engine;
pub use live::Said;

/// How a run is executed; what the command line and the configuration say.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tries for locks.
    pub ladder: LockLadder,
    /// Throttle of backfills.
    pub limits: Limits,
    /// Those of [`limits`](Self::limits) that `pgshift.toml` sets, as it writes them.
    pub configured: BTreeMap<String, String>,
    /// Signals of a person's own.
    pub signals: Vec<Custom>,
    /// Concurrent workers of a backfill, where the migration file does not say.
    pub workers: u16,
    /// Rows of a batch, where the migration file does not say; `None` adapts.
    pub batch: Option<u32>,
    /// What wins over the migration file: the command line.
    pub over: Over,
    /// Working time that a chunk aims at; `None` goes by the duty.
    pub chunk_target: Option<Duration>,
    /// Rows that may fail before a backfill stops.
    pub max_failed_rows: u64,
    /// Terminate sessions that are in the way of a step's locks.
    pub cancel_blockers: bool,
    /// A lease without a heartbeat for this long is dead.
    pub lease_ttl: Duration,
    /// How long to go on trying to reconnect.
    pub reconnect_budget: Duration,
    /// The PgBouncer whose queues hold backfills.
    pub pools: Option<Pools>,
    /// The database whose sizes a plan counts with, where that is another one: production's, by a
    /// snapshot.
    pub sizes: Option<Arc<Catalog>>,
}

/// A PgBouncer in front of the database.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Its admin console, made by [`Target::console`].
    pub console: Target,
    /// The database's name on the server, once it is known; until then all pools count.
    pub database: Option<String>,
}

/// What wins over a migration file's own options.
///
/// The one order of precedence: defaults, `pgshift.toml`, the migration file, the command line, and
/// (limits of the throttle only) what is set for a migration while it runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Over {
    /// Limits, as [`Limits::set`] takes them. They are in [`Settings::limits`] too, for what is
    /// decided before a file is read.
    pub limits: Vec<(String, String)>,
    /// Concurrent workers of a backfill.
    pub workers: Option<u16>,
    /// Rows of a batch.
    pub batch: Option<u32>,
    /// The longest try for a lock.
    pub lock_timeout: Option<Duration>,
}

impl Settings {
    /// The limits of a step: as configured, then the migration file's, then the command line's.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where one is not known: a plan of another version.
    pub fn limits_of(&self, step: &Step) -> Result<Limits> {
        self.limits_with(&step.throttle)
            .map_err(|error| error.context(&step.title))
    }

    /// The limits with these of a migration file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where one is not known.
    pub fn limits_with(&self, file: &BTreeMap<String, String>) -> Result<Limits> {
        let mut limits = self.limits.clone();
        let over = self.over.limits.iter().map(|(key, value)| (key, value));
        for (key, value) in file.iter().chain(over) {
            limits
                .set(key, value)
                .map_err(|why| Error::usage(format!("limit {why}")).left("nothing was changed"))?;
        }
        Ok(limits)
    }

    /// Every limit with where its value comes from, before what is set while it runs; `file` are
    /// those of a migration file, `line` those of the command line of a run.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where one is not known.
    pub fn sources(
        &self,
        file: &BTreeMap<String, String>,
        line: &BTreeMap<String, String>,
    ) -> Result<Vec<Sourced>> {
        let mut limits = self.limits.clone();
        for (key, value) in file.iter().chain(line) {
            limits.set(key, value).map_err(Error::usage)?;
        }
        let source = |key: &str| match () {
            () if line.contains_key(key) => Source::CommandLine,
            () if file.contains_key(key) => Source::File,
            () if self.configured.contains_key(key) => Source::Config,
            () => Source::Default,
        };
        Ok(limits
            .all()
            .map(|(key, value)| Sourced {
                key,
                value,
                source: source(key.name),
            })
            .collect())
    }

    /// What a person sets of PgBouncer's queues, where no console is named by which they could be
    /// watched; `file` are the limits of a migration file.
    pub fn unwatched(&self, file: &BTreeMap<String, String>) -> Option<&'static str> {
        if self.pools.is_some() {
            return None;
        }
        let mut set = self.configured.clone();
        set.extend(file.clone());
        set.extend(self.over.limits.iter().cloned());
        pools::unwatched(set.iter().map(|(key, value)| (&**key, &**value)))
    }

    /// A backfill as it is to run.
    pub fn backfill(&self, spec: &BackfillSpec) -> BackfillSpec {
        BackfillSpec {
            workers: Some(self.over.workers.or(spec.workers).unwrap_or(self.workers)),
            batch: self.over.batch.or(spec.batch).or(self.batch),
            ..spec.clone()
        }
    }

    /// The tries for the locks of a step.
    pub fn ladder_of(&self, step: &Step) -> LockLadder {
        let file = step.lock_timeout_ms.map(Duration::from_millis);
        let ladder = self.ladder.clone();
        match self.over.lock_timeout.or(file) {
            Some(longest) => ladder.with_longest(longest),
            None => ladder,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ladder: LockLadder::default(),
            limits: Limits::default(),
            configured: BTreeMap::new(),
            signals: Vec::new(),
            workers: 1,
            batch: None,
            over: Over::default(),
            chunk_target: None,
            max_failed_rows: 0,
            cancel_blockers: false,
            lease_ttl: Duration::from_secs(15),
            reconnect_budget: Duration::from_mins(1),
            pools: None,
            sizes: None,
        }
    }
}

/// What every part of an execution needs.
#[derive(Clone)]
pub struct Ctx {
    /// The database, for all that needs a session.
    pub target: Target,
    /// True where `--direct-url` names it.
    pub direct: bool,
    /// What is between us and it; looked at once.
    pub pooling: Arc<OnceCell<Pooling>>,
    /// The same database by `--database-url`, where `--direct-url` is given beside it.
    pub pooled: Option<Target>,
    /// Where chunks go, if not to `target`; decided before a run.
    pub chunks: Option<Target>,
    /// How to execute.
    pub settings: Settings,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
    /// Becomes true when the run is to stop at the next safe place.
    pub stop: watch::Receiver<bool>,
    /// `user@host pid 123`: who we are in leases and in the log.
    pub actor: String,
}

impl Ctx {
    /// True where a stop was asked for.
    pub fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// The error of a run that stopped because it was asked to.
    pub fn stopped(&self) -> crate::Error {
        crate::Error::interrupted("stopped as asked for")
            .left("all committed chunks and steps are kept")
            .hint("`pgshift resume` goes on from there")
    }

    /// Sleeps, but not past a stop.
    pub async fn sleep(&self, time: Duration) {
        let mut stop = self.stop.clone();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    /// Connections by the way that chunks take.
    ///
    /// # Errors
    /// As [`Target::pool`].
    pub fn chunk_pool(&self, size: usize) -> Result<deadpool_postgres::Pool> {
        match &self.chunks {
            // Its sessions may be other clients' too.
            Some(pooled) => pooled.pool(size),
            None => self.target.session_pool(size),
        }
    }

    /// Hands an event to the sink.
    pub fn emit(&self, migration: &str, event: &Event) {
        self.sink.event(migration, event);
    }
}

/// COMMIT. An error that [is one of the connection](Error::is_connection) leaves it unknown whether
/// it was done.
async fn commit(client: &tokio_postgres::Client) -> Result<()> {
    client.batch_execute("COMMIT").await.map_err(from_pg)
}

/// Locks, whoever panicked meanwhile: what is in it is valid after every statement.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Phase, Work};

    /// default < pgshift.toml < migration file < command line.
    #[test]
    fn the_later_wins() {
        let mut settings = Settings::default();
        let mut step = Step::new(Phase::Backfill, "b", Work::Check { sql: String::new() });
        let lag = |s: &Settings, step: &Step| {
            let limits = s.limits_of(step).expect("known keys");
            (limits.max_lag, s.ladder_of(step).longest)
        };
        let secs = |n| (Some(Duration::from_secs(n)), Duration::from_secs(n));
        assert_eq!(
            lag(&settings, &step),
            (Some(Duration::from_secs(5)), Duration::from_secs(1))
        );
        settings.limits.max_lag = secs(10).0;
        settings.ladder = settings.ladder.with_longest(secs(10).1);
        assert_eq!(lag(&settings, &step), secs(10));
        step.throttle.insert("max-lag".into(), "20s".into());
        step.set_lock_timeout(secs(20).1);
        assert_eq!(lag(&settings, &step), secs(20));
        settings.over.limits.push(("max-lag".into(), "30s".into()));
        settings.over.lock_timeout = Some(secs(30).1);
        assert_eq!(lag(&settings, &step), secs(30));
        step.throttle.insert("max-lagg".into(), "1s".into());
        assert!(settings.limits_of(&step).is_err());
    }
}
