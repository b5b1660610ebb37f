//! The application of the demo: two releases of it, statements at a fixed rate, and what they
//! met.
//!
//! The model is open: the clock of a statement starts when it was due, not when it was sent. A
//! session that hangs in one statement makes the next ones late, as its users would feel it.

mod latency;
mod session;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio_postgres::Client;

pub use latency::Window;

use self::latency::Latencies;
use self::session::Session;
use super::shop::{self, Memory};
use crate::error::{Error, Result};

/// Texts of errors that are kept.
const ERRORS_KEPT: usize = 5;
/// How long a session may take to become another release.
const PATIENCE: Duration = Duration::from_secs(30);

/// A release of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// Reads and writes `total`; has never heard of `total_cents`.
    Old,
    /// Reads and writes `total_cents`; has forgotten `total`.
    New,
}

impl Release {
    fn from_bool(new: bool) -> Self {
        if new { Self::New } else { Self::Old }
    }

    fn application_name(self) -> &'static str {
        match self {
            Self::Old => "shop-v1",
            Self::New => "shop-v2",
        }
    }

    /// An amount as this release writes and reads it.
    fn amount(self, cents: i64) -> String {
        match self {
            Self::Old => format!("{}.{:02}", cents / 100, cents % 100),
            Self::New => cents.to_string(),
        }
    }
}

/// What a session is told, and what it says.
#[derive(Debug, Default)]
struct Desk {
    wants_new: AtomicBool,
    runs_new: AtomicBool,
    connected: AtomicBool,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    loaded: i64,
    desks: Vec<Desk>,
    /// Read by a statement under way, written by who needs a moment between statements.
    pause: RwLock<()>,
    memory: Mutex<Memory>,
    latencies: Mutex<Latencies>,
    done: AtomicI64,
    errors: Mutex<(i64, Vec<String>)>,
    wrong_reads: AtomicI64,
}

/// Panics of other tasks do not reach through a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    fn latencies(&self) -> MutexGuard<'_, Latencies> {
        lock(&self.latencies)
    }

    fn failed(&self, text: String) {
        let mut errors = lock(&self.errors);
        errors.0 += 1;
        if errors.1.len() < ERRORS_KEPT {
            errors.1.push(text);
        }
    }

    fn read_wrong(&self, text: String) {
        self.wrong_reads.fetch_add(1, Ordering::Relaxed);
        let mut errors = lock(&self.errors);
        if errors.1.len() < ERRORS_KEPT {
            errors.1.push(text);
        }
    }
}

/// The traffic under way. Dropping it ends the sessions at once.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    sessions: JoinSet<()>,
}

/// What the application met.
#[derive(Debug, Clone)]
pub(super) struct Met {
    /// Statements that succeeded.
    pub(super) done: i64,
    /// Statements that failed.
    pub(super) errors: i64,
    /// Reads that did not give what was last written.
    pub(super) wrong_reads: i64,
    /// The first texts of both.
    pub(super) texts: Vec<String>,
    /// Latencies.
    pub(super) windows: Vec<Window>,
}

impl Traffic {
    /// Starts sessions of the old release that send `rate` statements a second together. Orders
    /// `1..=loaded` exist.
    pub(super) fn start(url: &str, loaded: i64, sessions: usize, rate: u32, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            loaded: loaded.max(1),
            desks: (0..sessions).map(|_| Desk::default()).collect(),
            pause: RwLock::new(()),
            memory: Mutex::default(),
            latencies: Mutex::new(Latencies::new("warm-up")),
            done: AtomicI64::new(0),
            errors: Mutex::default(),
            wrong_reads: AtomicI64::new(0),
        });
        let step = Duration::from_secs(1) / rate.max(1);
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        let sessions = shared.desks.len();
        for (number, first_id) in (0..sessions).zip(1_i64..) {
            let session = Session {
                number,
                url: url.to_owned(),
                shared: shared.clone(),
                rng: Rng::with_seed(seed.wrapping_add(number as u64)),
                due: start + step * number as u32,
                gap: step * sessions as u32,
                first_id,
                inserted: Vec::new(),
            };
            tasks.spawn(session.run());
        }
        Self {
            shared,
            sessions: tasks,
        }
    }

    /// Deploys a release to the first `count` sessions, the other one to the rest, and waits
    /// until they run it.
    ///
    /// # Errors
    /// When a session cannot connect.
    pub(super) async fn deploy(&self, release: Release, count: usize) -> Result<()> {
        let new = |number| (number < count) == (release == Release::New);
        for (number, desk) in self.shared.desks.iter().enumerate() {
            desk.wants_new.store(new(number), Ordering::Relaxed);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let deployed = self.shared.desks.iter().enumerate().all(|(number, desk)| {
                desk.connected.load(Ordering::Relaxed)
                    && desk.runs_new.load(Ordering::Relaxed) == new(number)
            });
            if deployed {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let texts = lock(&self.shared.errors).1.join("; ");
                return Err(Error::connection(format!(
                    "the application does not come up: {texts}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sessions.
    pub(super) fn sessions(&self) -> usize {
        self.shared.desks.len()
    }

    /// Statements that are due from now on are counted under this name.
    pub(super) fn window(&self, name: &str) {
        self.shared.latencies().open(name);
    }

    /// The name under which statements are counted now.
    pub(super) fn current_window(&self) -> String {
        self.shared.latencies().current_name()
    }

    /// What it met so far.
    pub(super) fn met(&self) -> Met {
        let (errors, texts) = lock(&self.shared.errors).clone();
        Met {
            done: self.shared.done.load(Ordering::Relaxed),
            errors,
            wrong_reads: self.shared.wrong_reads.load(Ordering::Relaxed),
            texts,
            windows: self.shared.latencies().windows(),
        }
    }

    /// Freezes what `client` sees at a moment between two statements of every session, and gives
    /// what the application remembers at that moment. The sessions go on at once.
    pub(super) async fn freeze(&self, client: &Client) -> Result<Memory> {
        let _between = self.shared.pause.write().await;
        shop::freeze(client).await?;
        Ok(self.shared.memory().clone())
    }

    /// Ends it after the statements under way.
    pub(super) async fn stop(mut self) -> Met {
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.sessions.join_next().await {
            if let Err(error) = ended {
                self.shared
                    .failed(format!("a session of the application: {error}"));
            }
        }
        self.met()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_releases_write_the_same_amount() {
        for (cents, old) in [(1, "0.01"), (100, "1.00"), (123_405, "1234.05")] {
            assert_eq!(Release::Old.amount(cents), old);
            assert_eq!(Release::New.amount(cents), cents.to_string());
        }
    }
}
