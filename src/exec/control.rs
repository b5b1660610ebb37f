//! The gate before each chunk: what the throttle decides over the latest readings, and the time
//! that this costs, by cause.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::lock;
use super::sampler::{self, Shared};
use super::session::Session;
use crate::backfill::{Aim, chunk_aim};
use crate::error::{Error, Result};
use crate::event::{Event, Progress, Signals};
use crate::plan::Step;
use crate::throttle::{Advice, Decision, Hold, Limits, Reading, Throttle};

/// While held, and in long pauses, the gate looks again after this time.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Before the signals were read for the first time: it takes as long as a connection is opened, and
/// the whole of a small table's backfill may be no longer.
const LOOK_AT_FIRST: Duration = Duration::from_millis(5);
/// Time between two tellings of what the signals say.
const NEWS: Duration = Duration::from_secs(1);

/// Shared by all workers of a step.
pub(super) struct Control {
    session: Arc<Session>,
    sampled: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    throttle: Throttle,
    holding: Option<(Hold, Instant)>,
    /// What has not been told yet.
    news: Vec<Event>,
    /// What is done instead of chunks.
    busy: Option<String>,
    ticked_at: Option<Instant>,
    /// Workers present.
    seats: BTreeSet<u32>,
}

impl Control {
    /// The gate of a step of this session.
    pub(super) fn new(session: Arc<Session>, step: &Step) -> Result<Arc<Self>> {
        let limits = session.ctx.settings.limits_of(step)?;
        Ok(Arc::new(Self {
            session,
            sampled: Arc::new(Shared::new(limits.clone())),
            state: Mutex::new(State {
                throttle: Throttle::new(limits),
                holding: None,
                news: Vec::new(),
                busy: None,
                ticked_at: None,
                seats: BTreeSet::new(),
            }),
        }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Says which relations (oids) the step works on.
    pub(super) fn watch(&self, relations: Vec<u32>) {
        self.sampled.set_scene(|scene| scene.relations = relations);
    }

    /// Says who works: as many chunks at a time, on the connections of this pool.
    pub(super) fn staff(&self, workers: u16, pool: &deadpool_postgres::Pool) {
        self.sampled.set_scene(|scene| {
            scene.workers = workers;
            scene.pool = Some(pool.clone());
        });
    }

    /// Learns what a committed chunk wrote: the log's positions around it.
    pub(super) fn wrote(&self, elapsed: Duration, lsn_from: u64, lsn_to: u64) {
        if lsn_from < lsn_to {
            self.sampled.wrote(elapsed, lsn_from, lsn_to);
        }
    }

    /// Waits until the throttle lets the next chunk go; `worked` is the working time of the chunk
    /// before. An error where a stop was asked for.
    ///
    /// A pause may be seconds long, and what is read meanwhile counts: it is taken in parts, and
    /// the last word before a chunk is a decision of now.
    pub(super) async fn gate(&self, worked: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.session.check_stop()?;
            let decision = self.decide(worked);
            let news = std::mem::take(&mut self.state().news);
            for event in news {
                self.session.event(&event).await?;
                self.tell_again();
            }
            match decision {
                Decision::Proceed { pause } => {
                    // Held time is rest too.
                    let left = pause.saturating_sub(begun.elapsed());
                    if left.is_zero() {
                        return Ok(());
                    }
                    let part = left.min(LOOK_AGAIN);
                    let asleep = Instant::now();
                    self.session.ctx.sleep(part).await;
                    self.session.ledger.add("duty", asleep.elapsed());
                }
                Decision::Hold(_) => {
                    let read = self.sampled.readings().is_some();
                    let again = if read { LOOK_AGAIN } else { LOOK_AT_FIRST };
                    self.session.ctx.sleep(again).await;
                }
            }
        }
    }

    /// A worker takes its place among those at work.
    pub(super) fn seat(&self) -> Seat<'_> {
        let mut state = self.state();
        let number = state.seats.last().map_or(0, |last| last + 1);
        state.seats.insert(number);
        Seat {
            control: self,
            number,
        }
    }

    /// True where the throttle lets the next chunk go at once, and has nothing to tell first.
    fn is_open(&self, worked: Duration) -> bool {
        let open = Decision::Proceed {
            pause: Duration::ZERO,
        };
        self.session.check_stop().is_ok()
            && self.decide(worked) == open
            && self.state().news.is_empty()
    }

    fn decide(&self, worked: Duration) -> Decision {
        let readings = self.sampled.readings();
        let mut state = self.state();
        // Before the first readings there is nothing to decide on, and nothing to tell.
        let Some(readings) = readings else {
            let hold = Hold {
                cause: "blind".to_owned(),
                reason: "the signals are read for the first time".to_owned(),
            };
            return Decision::Hold(hold);
        };
        state.throttle.set_limits(self.sampled.limits());
        let elapsed = state
            .ticked_at
            .replace(Instant::now())
            .map_or(Duration::ZERO, |at| at.elapsed());
        let decision = state.throttle.tick(elapsed, worked, &readings);
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
                state.news.push(Event::Released {
                    cause: hold.cause.clone(),
                    held_ms,
                });
            }
            if let Some(hold) = held {
                state.news.push(Event::Held {
                    cause: hold.cause.clone(),
                    reason: hold.reason.clone(),
                });
                state.holding = Some((hold, Instant::now()));
            }
        }
        decision
    }

    /// Says what is done instead of chunks, until it is nothing any more.
    pub(super) fn busy(&self, what: Option<String>) {
        self.state().busy = what;
    }

    /// The limits in force.
    pub(super) fn limits(&self) -> Limits {
        self.sampled.limits()
    }

    /// The latest readings.
    fn latest(&self) -> Vec<Reading> {
        self.sampled.readings().unwrap_or_default()
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
        let waiting = hold.map(|hold| hold.reason.clone());
        (signals, waiting.or_else(|| state.busy.clone()))
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

/// A worker of a backfill; its place is free when it is dropped.
pub(super) struct Seat<'a> {
    control: &'a Control,
    number: u32,
}

impl Seat<'_> {
    /// [`Control::gate`], and rest while load advises fewer workers than there are before this
    /// one. Gives what the next chunk should aim at.
    pub(super) async fn gate(&self, worked: Duration) -> Result<Aim> {
        let mut worked = worked;
        loop {
            self.control.gate(worked).await?;
            if let Some(target) = self.target() {
                return Ok(target);
            }
            let asleep = Instant::now();
            self.control.session.ctx.sleep(LOOK_AGAIN).await;
            self.control.session.ledger.add("duty", asleep.elapsed());
            worked = Duration::ZERO;
        }
    }

    /// The same where nothing has to be waited for or told; `None` where something has.
    pub(super) fn at_once(&self, worked: Duration) -> Option<Aim> {
        self.control.is_open(worked).then(|| self.target())?
    }

    /// What to aim at; `None` where this worker is to rest.
    fn target(&self) -> Option<Aim> {
        let (advice, duty, before) = self.look();
        let set = self.control.session.ctx.settings.chunk_target;
        (before < usize::from(advice.workers)).then(|| chunk_aim(set, duty).shorter(advice.chunk))
    }

    /// The advice, the duty, and how many workers come before this one.
    fn look(&self) -> (Advice, f64, usize) {
        let state = self.control.state();
        let workers = u16::try_from(state.seats.len()).unwrap_or(u16::MAX);
        let before = state.seats.range(..self.number).count();
        (
            state.throttle.advice(workers),
            state.throttle.duty(),
            before,
        )
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.control.state().seats.remove(&self.number);
    }
}

/// Runs `work` with the probes beside it.
pub(super) async fn with_probes<T>(
    control: &Arc<Control>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let session = &control.session;
    // Ends them also where `work` is given up from outside, as when the lease is lost.
    let mut probes = tokio::task::JoinSet::new();
    probes.spawn(sampler::sample(
        session.ctx.clone(),
        session.migration.clone(),
        control.sampled.clone(),
    ));
    tokio::select! {
        result = work => result,
        never = control.news() => match never {},
    }
}
