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
mod live;
pub mod planner;
mod probe;
mod ready;
pub mod revert;
mod sampler;
pub mod session;
mod tally;
mod verify;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, watch};

use crate::backfill::CHUNK_TARGET;
use crate::event::{Event, Sink};
use crate::pg::connect::Target;
use crate::pg::pooler::Pooling;
use crate::retry::LockLadder;
use crate::throttle::Limits;

pub use engine::Engine;

/// How a run is executed; what the command line and the configuration say.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tries for locks.
    pub ladder: LockLadder,
    /// Throttle of backfills.
    pub limits: Limits,
    /// Concurrent workers of a backfill, where the file does not say.
    pub workers: u16,
    /// Working time that a chunk aims at.
    pub chunk_target: Duration,
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
}

/// A PgBouncer in front of the database.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Its admin console, made by [`Target::console`].
    pub console: Target,
    /// The database's name on the server, once it is known; until then all pools count.
    pub database: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ladder: LockLadder::default(),
            limits: Limits::default(),
            workers: 1,
            chunk_target: CHUNK_TARGET,
            max_failed_rows: 0,
            cancel_blockers: false,
            lease_ttl: Duration::from_secs(15),
            reconnect_budget: Duration::from_mins(1),
            pools: None,
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

    /// Where chunks go.
    pub fn chunk_target(&self) -> &Target {
        self.chunks.as_ref().unwrap_or(&self.target)
    }

    /// Hands an event to the sink.
    pub fn emit(&self, migration: &str, event: &Event) {
        self.sink.event(migration, event);
    }
}
