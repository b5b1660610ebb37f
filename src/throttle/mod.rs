//! When a backfill may go on: a pure decision over readings that probes took.
//!
//! Load steers, limits only stop. Whatever is configured and cannot be read holds the backfill
//! with a reason: blind means stopped.

pub mod board;
pub mod compare;
pub mod custom;
pub mod endpoint;
pub mod lag;
pub mod limits;
pub mod pools;
pub mod prometheus;
pub mod reading;
pub mod recent;
pub mod samples;
mod steer;
pub mod wal;
pub mod window;

use std::collections::BTreeSet;
use std::time::Duration;

pub use limits::Limits;
pub use reading::{Bound, Reading, Sample, Unit};
use steer::Steer;

/// What to do before the next chunk.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Go on after this pause.
    Proceed {
        /// The pause.
        pause: Duration,
    },
    /// Wait until the next reading.
    Hold(Hold),
}

/// Why the backfill waits: the cause that time is accounted to, and the text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The signal's name, or `paused`, `closed`, `blind`.
    pub cause: String,
    /// For example `replica_lag(standby1) 9.0s >= 5.0s`.
    pub reason: String,
}

/// What load advises beside the pause.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Advice {
    /// Part of the configured working time that a chunk should aim at, in `[0.25, 1]`: a shorter
    /// chunk holds its locks, and keeps the application's COMMIT waiting, for less.
    pub chunk: f64,
    /// How many of the workers should work at the same time, at least one.
    pub workers: u16,
}

/// The shortest chunk under load, as a part of the configured one: below it, what every chunk
/// costs (guards, checkpoint, COMMIT) would be most of it.
const SHORTEST_CHUNK: f64 = 0.25;

/// The controller.
///
/// It remembers which signals hold it (for the hysteresis) and the duty that load has steered to.
#[derive(Debug, Clone)]
pub struct Throttle {
    limits: Limits,
    holding: BTreeSet<String>,
    steer: Steer,
}

impl Throttle {
    /// A throttle with these limits.
    pub fn new(limits: Limits) -> Self {
        let steer = Steer::new(limits.duty);
        Self {
            limits,
            holding: BTreeSet::new(),
            steer,
        }
    }

    /// Takes other limits over, keeping what it knows.
    pub fn set_limits(&mut self, limits: Limits) {
        self.steer.set_most(limits.duty);
        self.limits = limits;
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The share of the time that chunks may work now: the configured duty, less under load.
    pub fn duty(&self) -> f64 {
        self.steer.duty()
    }

    /// What the present load advises to the sizes of chunks and to `workers` workers: in step with
    /// the duty, so it swings as little.
    pub fn advice(&self, workers: u16) -> Advice {
        let share = self.steer.share();
        Advice {
            chunk: share.clamp(SHORTEST_CHUNK, 1.0),
            workers: ((f64::from(workers) * share).ceil() as u16).clamp(1, workers.max(1)),
        }
    }

    /// Decides after `elapsed` since the last tick, in which a chunk worked for `worked`, with the
    /// latest readings.
    pub fn tick(&mut self, elapsed: Duration, worked: Duration, readings: &[Reading]) -> Decision {
        self.steer
            .observe(elapsed, worst_load(readings), most_duty(readings));
        if let Some(hold) = readings.iter().find_map(said_to_stop) {
            return Decision::Hold(hold);
        }
        if let Some(hold) = self.over_limit(readings) {
            return Decision::Hold(hold);
        }
        let duty = self.steer.duty();
        Decision::Proceed {
            pause: worked.mul_f64((1.0 - duty) / duty),
        }
    }

    /// Keeps the set of signals that hold; gives the worst of them.
    fn over_limit(&mut self, readings: &[Reading]) -> Option<Hold> {
        let mut still = BTreeSet::new();
        let mut worst: Option<(f64, Hold)> = None;
        for sample in readings.iter().filter_map(Reading::sample) {
            let Some(bound) = sample.bound else { continue };
            let key = sample.key();
            let bound = if self.holding.contains(&key) {
                bound.to_resume()
            } else {
                bound
            };
            if !bound.is_passed(sample.value) {
                continue;
            }
            still.insert(key);
            let excess = bound.excess(sample.value);
            if worst.as_ref().is_none_or(|(most, _)| excess > *most) {
                let hold = Hold {
                    cause: sample.name.clone(),
                    reason: sample.against(bound),
                };
                worst = Some((excess, hold));
            }
        }
        self.holding = still;
        worst.map(|(_, hold)| hold)
    }
}

/// A person, the clock, or a signal that cannot be read says stop.
fn said_to_stop(reading: &Reading) -> Option<Hold> {
    let (cause, reason) = match reading {
        Reading::Paused { by } => ("paused", format!("paused by {by}")),
        Reading::Closed { until } => ("closed", format!("outside of its hours, until {until}")),
        Reading::Blind { signal, why } => ("blind", format!("{signal} cannot be read: {why}")),
        Reading::Shut { signal, why } => (signal.as_str(), format!("{signal}: {why}")),
        Reading::Sample(_) => return None,
    };
    Some(Hold {
        cause: cause.to_owned(),
        reason,
    })
}

/// The largest duty that every sample which tells one leaves.
fn most_duty(readings: &[Reading]) -> f64 {
    readings
        .iter()
        .filter_map(Reading::sample)
        .filter_map(|s| s.most_duty)
        .fold(1.0, f64::min)
}

/// The highest load of all samples that tell one; 1 is as much as the server should bear.
fn worst_load(readings: &[Reading]) -> f64 {
    readings
        .iter()
        .filter_map(Reading::sample)
        .filter_map(|s| s.load)
        .fold(0.0, f64::max)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
