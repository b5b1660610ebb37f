//! Metrics: a registry fed by the events of a run, as every other display is.

mod registry;
pub mod serve;
pub mod table;
pub mod textfile;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Event, Lost, Progress, Signals, Sink};
use crate::report::progress::Clock;
use crate::throttle::Bound;
use registry::Registry;
use table as t;

/// How a metric is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus, which `node_exporter`'s textfile collector reads.
    Text,
}

impl Exposition {
    /// The one that a client asks for by its `Accept`; OpenMetrics where it does not say.
    pub fn wanted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept)
                if accept.contains("text/plain")
                    && !accept.contains("application/openmetrics-text") =>
            {
                Self::Text
            }
            _ => Self::OpenMetrics,
        }
    }

    /// Its media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The states of [`t::RUN_STATE`].
const STATES: [&str; 5] = ["running", "reconnecting", "finished", "stopped", "failed"];

/// Things of one signal (standbys, slots) that are told; a server has no more that matter.
const MOST_SUBJECTS: usize = 64;

/// The metrics of this process.
pub struct Metrics {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    registry: Registry,
    /// By migration: the kind of its run, and the causes that held it.
    runs: BTreeMap<String, Run>,
}

#[derive(Default)]
struct Run {
    kind: String,
    causes: BTreeSet<String>,
}

impl Metrics {
    /// No events yet; `clock` gives the times of success and error.
    pub fn new(clock: Clock) -> Self {
        let state = State::default();
        state
            .registry
            .set(&t::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All metrics as they stand.
    pub fn text(&self, exposition: Exposition) -> String {
        self.state().registry.text(exposition)
    }
}

impl Sink for Metrics {
    fn event(&self, migration: &str, event: &Event) {
        let now = (self.clock)().timestamp_millis() as f64 / 1000.0;
        self.state().event(migration, event, now);
    }
}

impl State {
    fn event(&mut self, migration: &str, event: &Event, now: f64) {
        let m = migration;
        let r = &self.registry;
        match event {
            Event::RunStarted { kind, epoch, .. } => {
                self.runs.entry(m.to_owned()).or_default().kind = kind.to_string();
                r.set(&t::RUN_EPOCH, &[m], *epoch as f64);
                self.run_state(m, "running");
            }
            Event::StepStarted { step, phase, .. } => {
                r.clear(&t::RUN_STEP, m);
                r.set(&t::RUN_STEP, &[m, phase.name()], *step as f64);
            }
            Event::StepDone {
                step, elapsed_ms, ..
            } => {
                let labels = [m, &step.to_string()];
                r.set(&t::STEP_DURATION, &labels, *elapsed_ms as f64 / 1000.0);
                // A backfill whose last chunks were not told is done all the same.
                if r.has(&t::STEP_RATIO, &labels) {
                    r.set(&t::STEP_RATIO, &labels, 1.0);
                }
                self.at_rest(m);
            }
            Event::Progress(progress) => self.progress(m, progress),
            Event::Signals(signals) => self.signals(m, signals),
            Event::ChunkDone {
                step,
                rows,
                elapsed_ms,
                wal_bytes,
                size,
            } => {
                let labels = [m, &step.to_string()];
                r.add(&t::CHUNKS, &labels, 1.0);
                r.add(&t::ROWS_CHANGED, &labels, *rows as f64);
                r.add(&t::WAL_BYTES, &labels, *wal_bytes as f64);
                r.observe(&t::CHUNK_DURATION, &labels, elapsed_ms / 1000.0);
                r.set(&t::CHUNK_SIZE, &labels, *size as f64);
            }
            Event::ChunkRetried { sqlstate, .. } => {
                r.add(&t::CHUNK_RETRIES, &[m, retry_reason(sqlstate)], 1.0);
            }
            Event::Held { cause, .. } => self.held(m, Some(cause)),
            Event::Released { .. } => self.held(m, None),
            Event::LockWaiting { .. } => self.held(m, Some("locks")),
            Event::LockTried {
                step,
                had,
                waited_ms,
            } => {
                let step = step.to_string();
                let result = if *had { "had" } else { "refused" };
                r.add(&t::LOCK_TRIES, &[m, &step, result], 1.0);
                r.raise(&t::TIME_LOST, &[m, &step, "locks"], seconds(*waited_ms));
                self.held(m, (!had).then_some("locks"));
            }
            Event::RowFailed { relation, .. } => r.add(&t::ROWS_FAILED, &[m, relation], 1.0),
            Event::ScanRestarted { relation, .. } => r.add(&t::SCAN_RESTARTS, &[m, relation], 1.0),
            Event::Verified {
                table, rows, wrong, ..
            } => {
                r.set(&t::VERIFY_ROWS, &[m, table], *rows as f64);
                r.set(&t::VERIFY_WRONG, &[m, table], *wrong as f64);
            }
            Event::Reconnecting { .. } => {
                r.add(&t::RECONNECTS, &[m], 1.0);
                self.run_state(m, "reconnecting");
                self.at_rest(m);
            }
            Event::Stopped { asked, .. } => {
                if !asked {
                    r.set(&t::LAST_ERROR, &[m], now);
                }
                self.run_state(m, if *asked { "stopped" } else { "failed" });
                self.at_rest(m);
            }
            Event::RunFinished { .. } => {
                r.set(&t::LAST_SUCCESS, &[m], now);
                r.clear(&t::RUN_STEP, m);
                self.run_state(m, "finished");
                self.at_rest(m);
            }
            Event::TookOver { .. }
            | Event::BlockersCancelled { .. }
            | Event::PruningHeld { .. }
            | Event::Vacuumed { .. }
            | Event::VerifyResumed { .. }
            | Event::Sampled { .. }
            | Event::Repaired { .. }
            | Event::Paused { .. }
            | Event::Unpaused { .. }
            | Event::LimitSet { .. }
            | Event::LimitCleared { .. }
            | Event::CalledOff { .. }
            | Event::Baselined => {}
        }
    }

    fn progress(&self, m: &str, p: &Progress) {
        let r = &self.registry;
        let labels = [m, &p.step.to_string()];
        for (metric, value) in [
            (&t::STEP_RATIO, p.fraction),
            (&t::STEP_ROWS_DONE, p.rows as f64),
            (&t::STEP_ROWS_ESTIMATED, p.rows_total as f64),
            (&t::STEP_BLOCKS_DONE, p.blocks_done as f64),
            (&t::STEP_BLOCKS, p.blocks_total as f64),
            (&t::STEP_CHUNKS_DONE, p.chunks as f64),
        ] {
            r.set(metric, &labels, value);
        }
        match p.eta {
            Some(eta) => r.set(&t::STEP_REMAINING, &labels, eta.as_secs_f64()),
            None => r.clear(&t::STEP_REMAINING, m),
        }
        if let Some(duty) = p.duty {
            r.set(&t::DUTY, &[m], duty);
        }
        self.lost(m, p.step, &p.lost_ms);
    }

    fn signals(&mut self, m: &str, signals: &Signals) {
        let r = &self.registry;
        // What is no longer read must not look as if it were.
        for metric in [
            &t::SIGNAL,
            &t::SIGNAL_LIMIT,
            &t::SIGNAL_BLIND,
            &t::REPLICA_LAG,
        ] {
            r.clear(metric, m);
        }
        for sample in signals.samples.iter().take(MOST_SUBJECTS) {
            let subject = sample.subject.as_deref().unwrap_or_default();
            r.set(&t::SIGNAL, &[m, &sample.name, subject], sample.value);
            if let Some(bound) = sample.bound {
                let (holds, limit) = match bound {
                    Bound::Above(limit) => ("above", limit),
                    Bound::Below(limit) => ("below", limit),
                };
                r.set(&t::SIGNAL_LIMIT, &[m, &sample.name, subject, holds], limit);
            }
            if sample.name == "replica_lag" {
                r.set(&t::REPLICA_LAG, &[m, subject], sample.value);
            }
        }
        for signal in signals.blind.iter().take(MOST_SUBJECTS) {
            r.set(&t::SIGNAL_BLIND, &[m, signal], 1.0);
        }
        r.set(&t::DUTY, &[m], signals.duty);
        self.lost(m, signals.step, &signals.lost_ms);
        self.held(m, signals.held.as_deref());
    }

    fn lost(&self, m: &str, step: usize, lost: &Lost) {
        let step = step.to_string();
        for (cause, ms) in lost {
            self.registry
                .raise(&t::TIME_LOST, &[m, &step, cause], seconds(*ms));
        }
    }

    fn held(&mut self, m: &str, cause: Option<&str>) {
        let run = self.runs.entry(m.to_owned()).or_default();
        run.causes.extend(cause.map(str::to_owned));
        for known in &run.causes {
            let value = f64::from(u8::from(Some(known.as_str()) == cause));
            self.registry.set(&t::HELD, &[m, known], value);
        }
    }

    /// Nothing is being throttled any more.
    fn at_rest(&mut self, m: &str) {
        for metric in [
            &t::SIGNAL,
            &t::SIGNAL_LIMIT,
            &t::SIGNAL_BLIND,
            &t::REPLICA_LAG,
            &t::STEP_REMAINING,
        ] {
            self.registry.clear(metric, m);
        }
        self.held(m, None);
    }

    fn run_state(&mut self, m: &str, state: &str) {
        let run = self.runs.entry(m.to_owned()).or_default();
        self.registry.clear(&t::RUN_STATE, m);
        for known in STATES {
            let value = f64::from(u8::from(known == state));
            self.registry
                .set(&t::RUN_STATE, &[m, &run.kind, known], value);
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Why a chunk was tried again, by SQLSTATE (PostgreSQL docs, appendix A).
fn retry_reason(sqlstate: &str) -> &'static str {
    match sqlstate {
        "55P03" => "row_locks",
        "40P01" => "deadlock",
        "40001" => "serialization",
        "57014" => "slow",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
