//! The throttle at work: probes that read beside the backfill, and the gate before each chunk.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::session::Session;
use crate::error::{Error, Result};
use crate::event::{Event, Progress, Signals};
use crate::pg::probes;
use crate::store::overrides::{self, Override};
use crate::throttle::lag::LagClock;
use crate::throttle::samples::{self, SlotState, StandbyLag};
use crate::throttle::{Decision, Hold, Limits, Reading, Throttle, Unit};

/// Time between readings.
const PERIOD: Duration = Duration::from_millis(500);
/// Readings older than this hold the backfill: three periods.
const STALE: Duration = Duration::from_millis(1_500);
/// While held, the gate looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Time between two tellings of what the signals say.
const NEWS: Duration = Duration::from_secs(1);

/// What the probes remember from one reading to the next.
#[derive(Default)]
struct Memory {
    clock: LagClock,
    /// Standbys seen so far: one that vanishes is missed.
    standbys: Vec<String>,
}

/// The limits in force and what a person says beside them.
fn said(base: &Limits, overrides: &[Override]) -> (Limits, Vec<Reading>) {
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
        }
    }
    (limits, readings)
}

/// A signal that cannot be read holds the backfill, by name; a lost connection is an error.
async fn blind(
    signal: &str,
    probe: impl Future<Output = Result<Vec<Reading>>>,
) -> Result<Vec<Reading>> {
    match probe.await {
        Err(error) if !error.is_connection() => Ok(vec![Reading::Blind {
            signal: signal.to_owned(),
            why: error.to_string(),
        }]),
        result => result,
    }
}

pub(super) fn slot_state(slot: probes::Slot) -> SlotState {
    SlotState {
        lost: slot.wal_status.as_deref() == Some("lost"),
        name: slot.name,
        safe: slot.safe_wal_size,
        retained: slot.retained,
    }
}

/// The standbys that replay; base backups and `pg_receivewal` do not.
fn standbys(
    replicas: &[probes::Replica],
    clock: &LagClock,
    at: Duration,
    lsn: u64,
) -> Vec<StandbyLag> {
    replicas
        .iter()
        .filter_map(|r| {
            let bytes = u64::try_from(r.replay_bytes?).unwrap_or(0);
            let lag = if bytes == 0 {
                Duration::ZERO
            } else {
                clock.lag(at, lsn.saturating_sub(bytes))
            };
            Some(StandbyLag {
                name: r.name.clone(),
                lag,
                bytes,
            })
        })
        .collect()
}

/// Shared by all workers of a step.
pub(super) struct Control {
    session: Arc<Session>,
    state: Mutex<State>,
}

struct State {
    throttle: Throttle,
    readings: Vec<Reading>,
    read_at: Option<Instant>,
    holding: Option<(Hold, Instant)>,
    ticked_at: Option<Instant>,
    /// Relations that the step works on.
    relations: Vec<u32>,
}

impl Control {
    pub(super) fn new(session: Arc<Session>) -> Arc<Self> {
        let throttle = Throttle::new(session.ctx.settings.limits.clone());
        Arc::new(Self {
            session,
            state: Mutex::new(State {
                throttle,
                readings: Vec::new(),
                read_at: None,
                holding: None,
                ticked_at: None,
                relations: Vec::new(),
            }),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says which relations (oids) the step works on.
    pub(super) fn watch(&self, relations: Vec<u32>) {
        self.state().relations = relations;
    }

    /// Takes readings until the future is dropped.
    pub(super) async fn sample(self: Arc<Self>) {
        let start = Instant::now();
        let mut client = None;
        let mut memory = Memory::default();
        loop {
            let result = self.read(&mut client, &mut memory, start).await;
            let readings = result.unwrap_or_else(|error| {
                client = None;
                vec![Reading::Blind {
                    signal: "server".to_owned(),
                    why: error.to_string(),
                }]
            });
            {
                let mut state = self.state();
                state.readings = readings;
                state.read_at = Some(Instant::now());
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn read(
        &self,
        client: &mut Option<tokio_postgres::Client>,
        memory: &mut Memory,
        start: Instant,
    ) -> Result<Vec<Reading>> {
        let client = match client {
            Some(client) if !client.is_closed() => client,
            slot => slot.insert(self.session.ctx.target.connect().await?),
        };
        let overrides = overrides::list(client, &self.session.migration).await?;
        let (limits, mut readings) = said(&self.session.ctx.settings.limits, &overrides);
        self.state().throttle.set_limits(limits.clone());
        if let Some(window) = limits.run_between {
            // The server's clock: one for all runners.
            let now = probes::now(client).await?;
            if !window.is_open(now) {
                readings.push(Reading::Closed {
                    until: window.opens(),
                });
            }
        }
        if limits.max_lag.is_some() || limits.max_lag_bytes.is_some() {
            let lsn = probes::wal_lsn(client).await?;
            let at = start.elapsed();
            memory.clock.note(at, lsn);
            readings.extend(
                blind("replica_lag", async {
                    let now = standbys(&probes::replicas(client).await?, &memory.clock, at, lsn);
                    let readings = samples::standbys(&now, &memory.standbys, &limits);
                    for standby in now {
                        if !memory.standbys.contains(&standby.name) {
                            memory.standbys.push(standby.name);
                        }
                    }
                    Ok(readings)
                })
                .await?,
            );
        }
        if limits.min_slot_headroom.is_some() || limits.max_slot_retained.is_some() {
            readings.extend(
                blind("slot_headroom", async {
                    let now: Vec<SlotState> = probes::slots(client)
                        .await?
                        .into_iter()
                        .map(slot_state)
                        .collect();
                    Ok(samples::slots(&now, &limits))
                })
                .await?,
            );
        }
        if limits.min_free_connections.is_some() {
            readings.extend(
                blind("connections_free", async {
                    let free = probes::free_connections(client).await?;
                    Ok(samples::connections(free, &limits).into_iter().collect())
                })
                .await?,
            );
        }
        if limits.max_blocked.is_some() {
            readings.extend(
                blind("blocked_sessions", async {
                    let blocked = probes::blocked_by_us(client).await?;
                    Ok(samples::blocked(blocked, &limits).into_iter().collect())
                })
                .await?,
            );
        }
        if let Some(limit) = limits.max_snapshot_age {
            readings.extend(
                blind("snapshot_age", async {
                    let oldest = probes::oldest_snapshot_age(client).await?;
                    let age = oldest.and_then(|o| o.age).unwrap_or_default().as_secs_f64();
                    let limit = Some(limit.as_secs_f64());
                    Ok(samples::at_most("snapshot_age", age, Unit::Seconds, limit)
                        .into_iter()
                        .collect())
                })
                .await?,
            );
        }
        if let Some(limit) = limits.max_archive_backlog {
            readings.extend(
                blind("archive_backlog", async {
                    let files = probes::archive_backlog(client).await? as f64;
                    let limit = Some(limit as f64);
                    Ok(
                        samples::at_most("archive_backlog", files, Unit::Count, limit)
                            .into_iter()
                            .collect(),
                    )
                })
                .await?,
            );
        }
        if let Some(limit) = limits.max_vacuums {
            let relations = self.state().relations.clone();
            readings.extend(
                blind("vacuums", async {
                    let running = probes::vacuums(client, &relations).await? as f64;
                    let limit = Some(limit as f64);
                    Ok(samples::at_most("vacuums", running, Unit::Count, limit)
                        .into_iter()
                        .collect())
                })
                .await?,
            );
        }
        Ok(readings)
    }

    /// Waits until the throttle lets the next chunk go; `worked` is the working time of the chunk
    /// before. An error where a stop was asked for.
    pub(super) async fn gate(&self, worked: Duration) -> Result<()> {
        loop {
            self.session.check_stop()?;
            let (decision, news) = self.decide(worked);
            for event in news {
                self.session.event(&event).await?;
                self.tell_again();
            }
            match decision {
                Decision::Proceed { pause } => {
                    let begun = Instant::now();
                    self.session.ctx.sleep(pause).await;
                    self.session.ledger.add("duty", begun.elapsed());
                    return self.session.check_stop();
                }
                Decision::Hold(_) => self.session.ctx.sleep(LOOK_AGAIN).await,
            }
        }
    }

    fn decide(&self, worked: Duration) -> (Decision, Vec<Event>) {
        let mut state = self.state();
        let stale = state.read_at.is_none_or(|at| at.elapsed() > STALE);
        let readings = if stale {
            vec![Reading::Blind {
                signal: "server".to_owned(),
                why: "the last reading is older than three periods".to_owned(),
            }]
        } else {
            state.readings.clone()
        };
        let elapsed = state
            .ticked_at
            .replace(Instant::now())
            .map_or(Duration::ZERO, |at| at.elapsed());
        let decision = state.throttle.tick(elapsed, worked, &readings);
        // Before the first reading there is nothing to tell yet.
        if state.read_at.is_none() {
            return (decision, Vec::new());
        }
        let mut news = Vec::new();
        let held = match &decision {
            Decision::Hold(hold) => Some(hold.clone()),
            Decision::Proceed { .. } => None,
        };
        let same = state.holding.as_ref().map(|(h, _)| &h.cause) == held.as_ref().map(|h| &h.cause);
        if same {
            if let (Some((now, _)), Some(hold)) = (&mut state.holding, held) {
                *now = hold;
            }
        } else {
            let cause = held.as_ref().map(|hold| hold.cause.as_str());
            self.session.ledger.hold(cause);
            if let Some((hold, since)) = state.holding.take() {
                let held_ms = since.elapsed().as_millis() as u64;
                news.push(Event::Released {
                    cause: hold.cause.clone(),
                    held_ms,
                });
            }
            if let Some(hold) = held {
                news.push(Event::Held {
                    cause: hold.cause.clone(),
                    reason: hold.reason.clone(),
                });
                state.holding = Some((hold, Instant::now()));
            }
        }
        (decision, news)
    }

    /// The latest readings.
    fn latest(&self) -> Vec<Reading> {
        self.state().readings.clone()
    }

    /// What is seen and decided at this moment, and why it waits.
    fn signals(&self) -> (Signals, Option<String>) {
        let readings = self.latest();
        let step = self.session.progress().map_or(0, |p| p.step);
        let state = self.state();
        let hold = state.holding.as_ref().map(|(hold, _)| hold);
        let signals = Signals {
            step,
            samples: readings
                .iter()
                .filter_map(Reading::sample)
                .cloned()
                .collect(),
            blind: readings
                .iter()
                .filter_map(|reading| match reading {
                    Reading::Blind { signal, .. } => Some(signal.clone()),
                    _ => None,
                })
                .collect(),
            duty: state.throttle.duty(),
            held: hold.map(|hold| hold.cause.clone()),
            lost_ms: self.session.ledger.total(),
        };
        (signals, hold.map(|hold| hold.reason.clone()))
    }

    /// Tells where a backfill or verify stands, with what the throttle has to say of it.
    pub(super) fn tell(&self, progress: Progress) {
        let (signals, waiting) = self.signals();
        self.session.tell(Progress {
            // Nobody knows how long a hold will last.
            eta: progress.eta.filter(|_| waiting.is_none()),
            lag_seconds: signals.lag_seconds(),
            duty: Some(signals.duty),
            lost_ms: signals.lost_ms,
            waiting,
            ..progress
        });
    }

    /// Tells the last progress again, with the present reason for waiting.
    fn tell_again(&self) {
        if let Some(last) = self.session.progress() {
            self.tell(last);
        }
    }

    /// Tells once a second what the signals say; while it is held, nobody else tells anything.
    async fn news(&self) -> Infallible {
        loop {
            tokio::time::sleep(NEWS).await;
            let (signals, waiting) = self.signals();
            let event = Event::Signals(signals);
            self.session.ctx.emit(&self.session.migration, &event);
            if waiting.is_some() {
                self.tell_again();
            }
        }
    }
}

/// Runs `work` with the probes beside it.
pub(super) async fn with_probes<T>(
    control: &Arc<Control>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let probes = tokio::spawn(control.clone().sample());
    let result = tokio::select! {
        result = work => result,
        never = control.news() => match never {},
    };
    probes.abort();
    result
}
