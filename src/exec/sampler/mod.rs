//! Reading the throttle's signals beside the work.
//!
//! Every signal is one entry of [`list::all`], which a run and `pgshift doctor` share. Those that
//! are read from the server's memory share a connection and are read in turn; whatever may take
//! long has a connection or none of its own and is read at its own pace, so that none makes
//! another one old.

mod archiver;
mod blocked;
mod checkpoints;
mod connections;
mod custom;
mod gate;
mod http;
pub(super) mod list;
mod pgbouncer;
mod pool;
mod prometheus;
mod replicas;
mod slots;
mod snapshots;
mod sql;
mod vacuums;
mod wal;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_postgres::Client;

use super::{Ctx, lease, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::pg::error::from_pg;
use crate::pg::probes;
use crate::store::overrides::{self, Override};
use crate::throttle::board::{Board, Pace};
use crate::throttle::wal::Written;
use crate::throttle::{Limits, Reading, pools};

/// The pace of what is read from the server's memory.
const PACE: Pace = Pace {
    every: Duration::from_millis(500),
    timeout: Duration::from_millis(900),
};

/// Where a signal is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// From the server's memory, in no time: on the connection that such signals share.
    Shared,
    /// On the server, but it may take long: on a connection of its own.
    Own,
    /// Not on this server, or in this process.
    Elsewhere,
}

/// One signal. A new one is one entry of [`list::all`].
pub(super) trait Signal: Send {
    /// What it is called where it cannot be read.
    fn name(&self) -> &str;

    /// Where it is read.
    fn place(&self) -> Place {
        Place::Shared
    }

    /// How often, and how long a read may take.
    fn pace(&self) -> Pace {
        PACE
    }

    /// True where these limits make it count; else a run does not read it.
    fn watched(&self, limits: &Limits) -> bool;

    /// True where one read tells nothing yet: a rate.
    fn is_rate(&self) -> bool {
        false
    }

    /// Reads it. Values without a limit are read too, for `pgshift doctor`.
    ///
    /// # Errors
    /// What cannot be read holds the backfill by the signal's name; a lost connection holds it as
    /// such.
    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>>;
}

/// What a read is given.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    client: Option<&'a Client>,
    /// The limits in force.
    pub(super) limits: &'a Limits,
    /// What the step works with.
    pub(super) scene: &'a Scene,
    /// Time since the sampling began.
    pub(super) at: Duration,
}

impl<'a> Ask<'a> {
    /// The connection, for signals with one.
    fn client(&self) -> Result<&'a Client> {
        self.client.ok_or_else(not_there)
    }
}

/// What the step under way works with.
#[derive(Clone, Default)]
pub(super) struct Scene {
    /// Relations (oids) that it changes.
    pub(super) relations: Vec<u32>,
    /// Chunks that can run at a time.
    pub(super) workers: u16,
    /// The workers' connections.
    pub(super) pool: Option<deadpool_postgres::Pool>,
    /// Chunks that committed since the WAL rate was read last.
    written: Arc<Mutex<Vec<Written>>>,
    /// What slots lost by our chunks since they were read.
    ours: Arc<slots::Ours>,
}

/// What the samplers write and the gate reads.
pub(super) struct Shared {
    start: Instant,
    /// Before what is set while it runs.
    base: Limits,
    board: Mutex<Board>,
    limits: watch::Sender<Limits>,
    scene: Mutex<Scene>,
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            start: Instant::now(),
            board: Mutex::default(),
            limits: watch::Sender::new(limits.clone()),
            base: limits,
            scene: Mutex::default(),
        }
    }

    /// Changes what the signals are told of the step.
    pub(super) fn set_scene(&self, change: impl FnOnce(&mut Scene)) {
        change(&mut lock(&self.scene));
    }

    /// A chunk committed that took `elapsed` and wrote between these positions of the log.
    pub(super) fn wrote(&self, elapsed: Duration, lsn_from: u64, lsn_to: u64) {
        let scene = lock(&self.scene);
        scene.ours.wrote(lsn_to.saturating_sub(lsn_from));
        // Nobody drains what nobody asks for.
        if self.limits.borrow().max_wal_rate.is_none() {
            return;
        }
        let to = self.start.elapsed();
        let written = Written {
            from: to.saturating_sub(elapsed),
            to,
            lsn_from,
            lsn_to,
        };
        lock(&scene.written).push(written);
    }

    /// The limits in force: as configured, and as set while it runs.
    pub(super) fn limits(&self) -> Limits {
        self.limits.borrow().clone()
    }

    /// What is known now; `None` before the first reading of all.
    pub(super) fn readings(&self) -> Option<Vec<Reading>> {
        let readings = lock(&self.board).readings(self.start.elapsed())?;
        Some(lock(&self.scene).ours.taken_off(readings))
    }
}

/// The limits in force and what a person says beside them.
fn said(base: &Limits, overrides: &[Override], console: bool) -> (Limits, Vec<Reading>) {
    let mut limits = base.clone();
    let mut readings = Vec::new();
    for o in overrides {
        if o.key == overrides::PAUSE {
            readings.push(Reading::Paused {
                by: o.set_by.clone(),
            });
        } else if let Err(why) = limits.set(&o.key, &o.value) {
            // Written by hand: what it wants is not known, so nothing goes on.
            readings.push(Reading::Blind {
                signal: format!("override {}", o.key),
                why,
            });
        } else if let Some(limit) = pools::unwatched([(&*o.key, &*o.value)]).filter(|_| !console) {
            readings.push(Reading::Blind {
                signal: format!("override {limit}"),
                why: "this run was given no --pgbouncer-url".to_owned(),
            });
        }
    }
    (limits, readings)
}

/// A sampler at work.
struct Sampler<'a> {
    ctx: &'a Ctx,
    migration: &'a str,
    shared: &'a Shared,
}

/// Takes readings until it is dropped.
pub(super) async fn sample(ctx: Ctx, migration: String, shared: Arc<Shared>) {
    let sampler = Sampler {
        ctx: &ctx,
        migration: &migration,
        shared: &shared,
    };
    let mut together = Vec::new();
    let mut alone = Vec::new();
    let control;
    {
        let mut board = lock(&shared.board);
        control = board.add("server", PACE);
        for signal in list::all(&ctx.settings) {
            let number = board.add(signal.name(), signal.pace());
            match signal.place() {
                Place::Shared => together.push((number, signal)),
                Place::Own | Place::Elsewhere => alone.push((number, signal)),
            }
        }
    }
    tokio::join!(
        sampler.in_turn(control, together),
        join_all(
            alone
                .into_iter()
                .map(|(number, signal)| sampler.alone(number, signal))
        ),
    );
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Sampler<'_> {
    fn put(&self, number: usize, at: Duration, readings: Vec<Reading>) {
        lock(&self.shared.board).put(number, at, readings);
    }

    /// Reads what a person says, then the signals that share a connection, one after the other.
    async fn in_turn(&self, control: usize, mut signals: Vec<(usize, Box<dyn Signal>)>) {
        let mut client = None;
        let mut ticks = ticks(PACE.every);
        loop {
            ticks.tick().await;
            let at = self.shared.start.elapsed();
            let round = async {
                self.connected(&mut client, PACE).await?;
                let orders = self.orders(&mut client).await?;
                self.put(control, at, orders);
                for (number, signal) in &mut signals {
                    self.connected(&mut client, PACE).await?;
                    self.read(*number, signal.as_mut(), &mut client).await?;
                }
                Ok::<(), Error>(())
            };
            if let Err(error) = round.await {
                client = None;
                self.put(control, at, vec![blind("server", &error)]);
            }
        }
    }

    /// Reads one signal at its own pace.
    async fn alone(&self, number: usize, mut signal: Box<dyn Signal>) {
        let mut client = None;
        let mut ticks = ticks(signal.pace().every);
        loop {
            ticks.tick().await;
            let at = self.shared.start.elapsed();
            let round = async {
                let watched = signal.watched(&self.shared.limits.borrow());
                if signal.place() == Place::Own && watched {
                    self.connected(&mut client, signal.pace()).await?;
                }
                self.read(number, signal.as_mut(), &mut client).await
            };
            if let Err(error) = round.await {
                client = None;
                self.put(number, at, vec![blind(signal.name(), &error)]);
            }
        }
    }

    /// The server ends a statement that we gave up, also where our word for it gets lost: else it
    /// would wait there for its lock, and one more of them every second.
    async fn connected(&self, client: &mut Option<Client>, pace: Pace) -> Result<()> {
        if client.as_ref().is_none_or(Client::is_closed) {
            let new = lease::connect(self.ctx).await?;
            let longest = (pace.timeout + PACE.timeout).as_millis();
            new.batch_execute(&format!("SET statement_timeout = {longest}"))
                .await
                .map_err(from_pg)?;
            *client = Some(new);
        }
        Ok(())
    }

    /// The statement still runs, or the connection is dead: it is of no more use.
    async fn give_up(&self, client: &mut Option<Client>) {
        if let Some(busy) = client.take() {
            let token = busy.cancel_token();
            let cancel = self.ctx.target.cancel(&token);
            let _ = tokio::time::timeout(PACE.timeout, cancel).await;
        }
    }

    /// Overrides, and the hours in which chunks may run.
    async fn orders(&self, connection: &mut Option<Client>) -> Result<Vec<Reading>> {
        let work = async {
            let client = connection.as_ref().ok_or_else(not_there)?;
            let overrides = overrides::list(client, self.migration).await?;
            let (limits, mut readings) = said(
                &self.shared.base,
                &overrides,
                self.ctx.settings.pools.is_some(),
            );
            if let Some(window) = limits.run_between {
                // The server's clock: one for all runners.
                let now = probes::now(client).await?;
                if !window.is_open(now) {
                    readings.push(Reading::Closed {
                        until: window.opens(now),
                    });
                }
            }
            self.shared.limits.send_replace(limits);
            Ok(readings)
        };
        if let Ok(orders) = tokio::time::timeout(PACE.timeout, work).await {
            return orders;
        }
        self.give_up(connection).await;
        Err(no_answer(PACE))
    }

    /// One read within its time. What cannot be read is blind by name; an error is a lost
    /// connection.
    async fn read(
        &self,
        number: usize,
        signal: &mut dyn Signal,
        client: &mut Option<Client>,
    ) -> Result<()> {
        let limits = self.shared.limits();
        let at = self.shared.start.elapsed();
        if !signal.watched(&limits) {
            self.put(number, at, Vec::new());
            return Ok(());
        }
        let scene = lock(&self.shared.scene).clone();
        let pace = signal.pace();
        let ask = Ask {
            client: client.as_ref(),
            limits: &limits,
            scene: &scene,
            at,
        };
        let readings = match tokio::time::timeout(pace.timeout, signal.read(ask)).await {
            Ok(Ok(readings)) => readings,
            Ok(Err(error)) if error.is_connection() && signal.place() != Place::Elsewhere => {
                return Err(error);
            }
            Ok(Err(error)) => vec![blind(signal.name(), &error)],
            Err(_) => {
                self.give_up(client).await;
                vec![blind(signal.name(), &no_answer(pace))]
            }
        };
        self.put(number, at, readings);
        Ok(())
    }
}

fn blind(signal: &str, error: &Error) -> Reading {
    Reading::Blind {
        signal: signal.to_owned(),
        why: error.to_string(),
    }
}

fn not_there() -> Error {
    Error::internal("this signal was given no connection")
}

fn no_answer(pace: Pace) -> Error {
    Error::connection(format!(
        "no answer within {}",
        humantime::format_duration(pace.timeout)
    ))
}

/// Asks every signal that a person added, once: what can never be read is an error before anything
/// starts. A signal that says stop at this moment, or has no number, is none.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] where a query is wrong, [`crate::ErrorKind::Connection`] where a gate
/// or Prometheus cannot be reached.
pub(super) async fn check(ctx: &Ctx) -> Result<()> {
    let scene = Scene::default();
    let signals = list::added(&ctx.settings.signals);
    let checks = signals.map(|mut signal| {
        let scene = &scene;
        async move {
            let client = match signal.place() {
                Place::Elsewhere => None,
                Place::Shared | Place::Own => Some(ctx.target.connect().await?),
            };
            let ask = Ask {
                client: client.as_ref(),
                limits: &ctx.settings.limits,
                scene,
                at: Duration::ZERO,
            };
            let pace = signal.pace();
            tokio::time::timeout(pace.timeout, signal.read(ask))
                .await
                .unwrap_or_else(|_| Err(no_answer(pace)))
                .map(drop)
                .map_err(|error| {
                    let named = error.context(format!("signal {}", signal.name()));
                    named.left("nothing was changed")
                })
        }
    });
    for checked in join_all(checks).await {
        checked?;
    }
    Ok(())
}

/// How long `pgshift doctor` waits for a signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one signal tells at this moment, for `pgshift doctor`.
pub(super) struct Told {
    /// Its name.
    pub(super) name: String,
    /// A run would hold where it cannot be read.
    pub(super) watched: bool,
    /// Its values, or why it cannot be read.
    pub(super) readings: Result<Vec<Reading>>,
}

/// Reads every signal once (a rate twice, a second apart), watched or not.
///
/// # Errors
/// A lost connection.
pub(super) async fn look(ctx: &Ctx, client: &Client) -> Result<Vec<Told>> {
    let begun = Instant::now();
    let scene = Scene::default();
    let limits = &ctx.settings.limits_with(&BTreeMap::new())?;
    let mut signals = list::all(&ctx.settings);
    let mut told = Vec::new();
    for again in [false, true] {
        if again && signals.iter().all(|s| !s.is_rate()) {
            break;
        }
        if again {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for signal in signals.iter_mut().filter(|s| !again || s.is_rate()) {
            let ask = Ask {
                client: Some(client),
                limits,
                scene: &scene,
                at: begun.elapsed(),
            };
            let pace = signal.pace();
            let readings = tokio::time::timeout(pace.timeout.max(PATIENCE), signal.read(ask))
                .await
                .unwrap_or_else(|_| Err(no_answer(pace).with_kind(ErrorKind::Interrupted)));
            if !again && signal.is_rate() && readings.is_ok() {
                continue;
            }
            match readings {
                Err(error) if error.is_connection() && signal.place() != Place::Elsewhere => {
                    return Err(error);
                }
                readings => told.push(Told {
                    name: signal.name().to_owned(),
                    watched: signal.watched(limits),
                    readings,
                }),
            }
        }
    }
    Ok(told)
}
