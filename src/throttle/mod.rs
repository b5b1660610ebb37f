//! When a backfill may go on: a pure decision over readings that probes took.
//!
//! Load steers, limits only stop. Whatever is configured and cannot be read holds the backfill
//! with a reason: blind means stopped.

pub mod lag;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the throttle keeps to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Share of the time that chunks may work, in `(0, 1]`. 0.5 pauses as long as it worked.
    pub duty: f64,
    /// Replay lag of any standby above which the backfill holds; `None` ignores standbys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lag: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            duty: 0.5,
            max_lag: Some(Duration::from_secs(5)),
        }
    }
}

/// One signal as a probe read it.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A standby's replay lag. An idle standby, with nothing left to replay, has none.
    ReplicaLag {
        /// `application_name` of the standby.
        name: String,
        /// How far behind it is.
        lag: Duration,
    },
    /// A person paused the migration.
    Paused {
        /// Who.
        by: String,
    },
    /// A signal that is configured could not be read, or is too old.
    Blind {
        /// The signal.
        signal: String,
        /// Why.
        why: String,
    },
}

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
    /// `replica_lag`, `paused`, `blind`.
    pub cause: &'static str,
    /// For example `replica_lag(standby1) 9s >= 5s`.
    pub reason: String,
}

/// A lag that caused a hold must fall below this share of the limit before work goes on.
const RESUME_AT: f64 = 0.7;

/// The controller. It keeps only whether lag holds it, for the hysteresis.
#[derive(Debug, Clone)]
pub struct Throttle {
    limits: Limits,
    lagging: bool,
}

impl Throttle {
    /// A throttle with these limits.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            lagging: false,
        }
    }

    /// Decides after a chunk that worked for `worked`, with the latest readings.
    pub fn tick(&mut self, worked: Duration, readings: &[Reading]) -> Decision {
        for reading in readings {
            match reading {
                Reading::Paused { by } => {
                    return Decision::Hold(Hold {
                        cause: "paused",
                        reason: format!("paused by {by}"),
                    });
                }
                Reading::Blind { signal, why } => {
                    return Decision::Hold(Hold {
                        cause: "blind",
                        reason: format!("{signal} cannot be read: {why}"),
                    });
                }
                Reading::ReplicaLag { .. } => {}
            }
        }
        if let Some(hold) = self.lag(readings) {
            return Decision::Hold(hold);
        }
        let duty = self.limits.duty.clamp(0.01, 1.0);
        Decision::Proceed {
            pause: worked.mul_f64((1.0 - duty) / duty),
        }
    }

    fn lag(&mut self, readings: &[Reading]) -> Option<Hold> {
        let limit = self.limits.max_lag?;
        let threshold = if self.lagging {
            limit.mul_f64(RESUME_AT)
        } else {
            limit
        };
        let worst = readings
            .iter()
            .filter_map(|r| match r {
                Reading::ReplicaLag { name, lag } => Some((lag, name)),
                _ => None,
            })
            .max();
        self.lagging = worst.is_some_and(|(lag, _)| *lag >= threshold);
        worst.filter(|_| self.lagging).map(|(lag, name)| Hold {
            cause: "replica_lag",
            reason: format!(
                "replica_lag({name}) {:.1}s >= {:.1}s",
                lag.as_secs_f64(),
                threshold.as_secs_f64()
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lag(seconds: u64) -> Vec<Reading> {
        vec![
            Reading::ReplicaLag {
                name: "idle".into(),
                lag: Duration::ZERO,
            },
            Reading::ReplicaLag {
                name: "standby1".into(),
                lag: Duration::from_secs(seconds),
            },
        ]
    }

    fn holds(decision: &Decision) -> bool {
        matches!(decision, Decision::Hold(_))
    }

    #[test]
    fn duty_sets_the_pause() {
        let pause = |duty| {
            let mut t = Throttle::new(Limits {
                duty,
                max_lag: None,
            });
            t.tick(Duration::from_millis(20), &[])
        };
        assert_eq!(
            pause(0.5),
            Decision::Proceed {
                pause: Duration::from_millis(20)
            }
        );
        assert_eq!(
            pause(1.0),
            Decision::Proceed {
                pause: Duration::ZERO
            }
        );
        assert_eq!(
            pause(0.25),
            Decision::Proceed {
                pause: Duration::from_millis(60)
            }
        );
    }

    #[test]
    fn lag_holds_names_the_standby_and_resumes_with_hysteresis() {
        let mut throttle = Throttle::new(Limits::default());
        assert!(!holds(&throttle.tick(Duration::ZERO, &lag(4))));
        let Decision::Hold(hold) = throttle.tick(Duration::ZERO, &lag(9)) else {
            panic!("9 s is over the limit of 5 s");
        };
        assert_eq!(hold.reason, "replica_lag(standby1) 9.0s >= 5.0s");
        assert!(
            holds(&throttle.tick(Duration::ZERO, &lag(4))),
            "not yet below 70 %"
        );
        assert!(!holds(&throttle.tick(Duration::ZERO, &lag(3))));
        assert!(
            !holds(&throttle.tick(Duration::ZERO, &lag(4))),
            "below the limit again"
        );
    }

    #[test]
    fn blind_and_paused_hold_whatever_else_is_well() {
        for reading in [
            Reading::Blind {
                signal: "replica_lag".into(),
                why: "permission denied".into(),
            },
            Reading::Paused { by: "dba".into() },
        ] {
            let mut throttle = Throttle::new(Limits {
                duty: 1.0,
                max_lag: None,
            });
            let mut readings = lag(0);
            readings.push(reading);
            assert!(holds(&throttle.tick(Duration::ZERO, &readings)));
        }
    }
}
