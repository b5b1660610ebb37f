//! What probes hand to the throttle.

use serde::{Deserialize, Serialize};

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Things.
    Count,
    /// Whatever a person's query gives.
    Number,
}

/// A limit of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Hold at or above.
    Above(f64),
    /// Hold at or below.
    Below(f64),
}

/// How far a value must come back before work goes on: 70 % of an upper limit, 130 % of a lower
/// one. Without it a signal that stands at its limit would start and stop the backfill at every
/// reading.
const COME_BACK: f64 = 0.3;

impl Bound {
    /// True where the value holds the backfill.
    pub fn is_passed(self, value: f64) -> bool {
        // A value that is not a number tells nothing good.
        match self {
            Self::Above(limit) => value.is_nan() || value >= limit,
            Self::Below(limit) => value.is_nan() || value <= limit,
        }
    }

    /// The bound that a signal which holds already must come back behind.
    #[must_use]
    pub fn to_resume(self) -> Self {
        match self {
            Self::Above(limit) => Self::Above(limit - limit.abs() * COME_BACK),
            Self::Below(limit) => Self::Below(limit + limit.abs() * COME_BACK),
        }
    }

    /// How far beyond the limit a value is, as a ratio; for finding the worst.
    pub(super) fn excess(self, value: f64) -> f64 {
        match self {
            Self::Above(limit) => value / limit.max(f64::MIN_POSITIVE),
            Self::Below(limit) => limit / value.max(f64::MIN_POSITIVE),
        }
    }
}

/// One value of one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The signal: `replica_lag`, `connections_free` …
    pub name: String,
    /// What it is about, where there are several: a standby, a slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// Its limit, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<Bound>,
    /// How much of what the server should bear this is, where it tells; 1 is all. Own load must
    /// not be counted: the throttle would chase itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// The duty at which our own part would leave the limit alone, where the signal knows its own
    /// part: chunks are slowed down to it, instead of being stopped again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_duty: Option<f64>,
}

impl Sample {
    /// A value without limit or load.
    pub fn new(name: impl Into<String>, value: f64, unit: Unit) -> Self {
        Self {
            name: name.into(),
            subject: None,
            value,
            unit,
            bound: None,
            load: None,
            most_duty: None,
        }
    }

    /// Says what it is about.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Sets a limit, if there is one.
    #[must_use]
    pub fn bound(mut self, bound: Option<Bound>) -> Self {
        self.bound = bound;
        self
    }

    /// Sets the load.
    #[must_use]
    pub fn load(mut self, load: f64) -> Self {
        self.load = Some(load);
        self
    }

    /// `replica_lag(standby1)`
    pub fn key(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{}({subject})", self.name),
            None => self.name.clone(),
        }
    }

    /// The value for people.
    pub fn shown(&self) -> String {
        show(self.value, self.unit)
    }

    /// The limit for people: `< 5.0s` where it holds from 5 s on.
    pub fn limit_shown(&self, bound: Bound) -> String {
        match bound {
            Bound::Above(limit) => format!("< {}", show(limit, self.unit)),
            Bound::Below(limit) => format!("> {}", show(limit, self.unit)),
        }
    }

    /// `replica_lag(standby1) 9.0s >= 5.0s`
    pub fn against(&self, bound: Bound) -> String {
        let (sign, limit) = match bound {
            Bound::Above(limit) => (">=", limit),
            Bound::Below(limit) => ("<=", limit),
        };
        format!(
            "{} {} {sign} {}",
            self.key(),
            self.shown(),
            show(limit, self.unit)
        )
    }
}

fn show(value: f64, unit: Unit) -> String {
    let size = |v: f64| bytesize::ByteSize(v.max(0.0) as u64).to_string();
    match unit {
        Unit::Seconds => format!("{value:.1}s"),
        Unit::Bytes => size(value),
        Unit::BytesPerSecond => format!("{}/s", size(value)),
        Unit::Count => format!("{value:.0}"),
        Unit::Number => format!("{value}"),
    }
}

/// What a probe tells the throttle.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// A value.
    Sample(Sample),
    /// A person paused the migration.
    Paused {
        /// Who.
        by: String,
    },
    /// It is outside of the hours in which the migration may run.
    Closed {
        /// When it opens.
        until: String,
    },
    /// Something else says no: a gate, an archiver that fails.
    Shut {
        /// The signal.
        signal: String,
        /// What it says.
        why: String,
    },
    /// A signal that is configured could not be read, is missing, or is too old.
    Blind {
        /// The signal.
        signal: String,
        /// Why.
        why: String,
    },
}

impl Reading {
    /// The value, if it is one.
    pub fn sample(&self) -> Option<&Sample> {
        match self {
            Self::Sample(sample) => Some(sample),
            _ => None,
        }
    }
}

impl From<Sample> for Reading {
    fn from(sample: Sample) -> Self {
        Self::Sample(sample)
    }
}
