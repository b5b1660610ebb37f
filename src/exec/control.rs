//! The throttle at work: probes that read beside the backfill, and the gate before each chunk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::session::Session;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::pg::probes;
use crate::store::overrides;
use crate::throttle::lag::LagClock;
use crate::throttle::{Decision, Hold, Reading, Throttle};

/// Time between readings.
const PERIOD: Duration = Duration::from_millis(500);
/// Readings older than this hold the backfill: three periods.
const STALE: Duration = Duration::from_millis(1_500);
/// While held, the gate looks again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

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
    waited: BTreeMap<&'static str, Duration>,
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
                waited: BTreeMap::new(),
            }),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes readings until the future is dropped.
    pub(super) async fn sample(self: Arc<Self>) {
        let start = Instant::now();
        let mut client = None;
        let mut clock = LagClock::default();
        loop {
            let result = self.read(&mut client, &mut clock, start).await;
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
        clock: &mut LagClock,
        start: Instant,
    ) -> Result<Vec<Reading>> {
        let client = match client {
            Some(client) if !client.is_closed() => client,
            slot => slot.insert(self.session.ctx.target.connect().await?),
        };
        let mut readings: Vec<Reading> = overrides::list(client, &self.session.migration)
            .await?
            .into_iter()
            .filter(|o| o.key == overrides::PAUSE)
            .map(|o| Reading::Paused { by: o.set_by })
            .collect();
        if self.session.ctx.settings.limits.max_lag.is_some() {
            let lsn = probes::wal_lsn(client).await?;
            let at = start.elapsed();
            clock.note(at, lsn);
            match probes::replicas(client).await {
                Ok(replicas) => readings.extend(replicas.into_iter().filter_map(|r| {
                    // Base backups and pg_receivewal replay nothing.
                    let behind = u64::try_from(r.replay_bytes?).unwrap_or(0);
                    let lag = if behind == 0 {
                        Duration::ZERO
                    } else {
                        clock.lag(at, lsn.saturating_sub(behind))
                    };
                    Some(Reading::ReplicaLag { name: r.name, lag })
                })),
                Err(error) if error.is_connection() => return Err(error),
                Err(error) => readings.push(Reading::Blind {
                    signal: "replica_lag".to_owned(),
                    why: error.to_string(),
                }),
            }
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
                self.session.tell_waiting(self.waiting());
            }
            match decision {
                Decision::Proceed { pause } => {
                    self.session.ctx.sleep(pause).await;
                    self.account("duty", pause);
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
        let decision = state.throttle.tick(worked, &readings);
        // Before the first reading there is nothing to tell yet.
        if state.read_at.is_none() {
            return (decision, Vec::new());
        }
        let mut news = Vec::new();
        let held = match &decision {
            Decision::Hold(hold) => Some(hold.clone()),
            Decision::Proceed { .. } => None,
        };
        let same = state.holding.as_ref().map(|(h, _)| h.cause) == held.as_ref().map(|h| h.cause);
        if same {
            if let (Some((now, _)), Some(hold)) = (&mut state.holding, held) {
                *now = hold;
            }
        } else {
            if let Some((hold, since)) = state.holding.take() {
                let held_ms = since.elapsed().as_millis() as u64;
                *state.waited.entry(hold.cause).or_default() += since.elapsed();
                news.push(Event::Released {
                    cause: hold.cause.to_owned(),
                    held_ms,
                });
            }
            if let Some(hold) = held {
                news.push(Event::Held {
                    cause: hold.cause.to_owned(),
                    reason: hold.reason.clone(),
                });
                state.holding = Some((hold, Instant::now()));
            }
        }
        (decision, news)
    }

    /// Adds to the time lost to a cause.
    pub(super) fn account(&self, cause: &'static str, time: Duration) {
        *self.state().waited.entry(cause).or_default() += time;
    }

    /// Time lost by cause.
    pub(super) fn waited(&self) -> BTreeMap<&'static str, Duration> {
        self.state().waited.clone()
    }

    /// Why it waits at this moment.
    pub(super) fn waiting(&self) -> Option<String> {
        self.state()
            .holding
            .as_ref()
            .map(|(hold, _)| hold.reason.clone())
    }
}

/// Runs `work` with the probes beside it.
pub(super) async fn with_probes<T>(
    control: &Arc<Control>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let probes = tokio::spawn(control.clone().sample());
    let result = work.await;
    probes.abort();
    result
}
