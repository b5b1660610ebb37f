//! From what probes read to samples with their limits.

use std::time::Duration;

use super::limits::Limits;
use super::reading::{Bound, Reading, Sample, Unit};

/// A standby as seen now: name, distance in time and in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct StandbyLag {
    /// `application_name`.
    pub name: String,
    /// Age of its replay position; zero where nothing is left to replay.
    pub lag: Duration,
    /// WAL bytes left to replay.
    pub bytes: u64,
}

/// Samples of the standbys. One that was seen before and is gone is missing, not well: it holds
/// until it is back or is ignored by name.
pub fn standbys(now: &[StandbyLag], seen: &[String], limits: &Limits) -> Vec<Reading> {
    let ignored = |name: &str| limits.ignore_standbys.iter().any(|i| i == name);
    let mut all = Vec::new();
    for standby in now.iter().filter(|s| !ignored(&s.name)) {
        let time = Sample::new("replica_lag", standby.lag.as_secs_f64(), Unit::Seconds)
            .of(&*standby.name)
            .bound(limits.max_lag.map(|l| Bound::Above(l.as_secs_f64())));
        all.push(time.into());
        let bytes = Sample::new("replica_lag_bytes", standby.bytes as f64, Unit::Bytes)
            .of(&*standby.name)
            .bound(limits.max_lag_bytes.map(|l| Bound::Above(l as f64)));
        all.push(bytes.into());
    }
    for name in seen.iter().filter(|n| !ignored(n)) {
        if now.iter().all(|s| s.name != **name) {
            all.push(Reading::Blind {
                signal: format!("replica_lag({name})"),
                why: "the standby is gone; it must come back, or be named in ignore-standbys"
                    .to_owned(),
            });
        }
    }
    all
}

/// A slot as seen now: name, what it may still be late by, what it keeps back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotState {
    /// Name.
    pub name: String,
    /// `safe_wal_size`; `None` without an end.
    pub safe: Option<i64>,
    /// Bytes kept back.
    pub retained: Option<i64>,
    /// It is lost already: nothing that we do can harm it.
    pub lost: bool,
}

/// The signal of what may still be written before a slot is lost.
pub const SLOT_HEADROOM: &str = "slot_headroom";

/// The readings with less headroom by what chunks wrote since the slots were read: at full speed
/// they may use up a limit between two readings.
pub fn less_headroom(mut readings: Vec<Reading>, written: u64) -> Vec<Reading> {
    for reading in &mut readings {
        if let Reading::Sample(sample) = reading
            && sample.name == SLOT_HEADROOM
        {
            sample.value -= written as f64;
        }
    }
    readings
}

/// Samples of the slots.
pub fn slots(now: &[SlotState], limits: &Limits) -> Vec<Reading> {
    let mut all = Vec::new();
    for slot in now.iter().filter(|s| !s.lost) {
        if let Some(safe) = slot.safe {
            let sample = Sample::new(SLOT_HEADROOM, safe as f64, Unit::Bytes)
                .of(&*slot.name)
                .bound(limits.min_slot_headroom.map(|l| Bound::Below(l as f64)));
            all.push(sample.into());
        }
        if let Some(retained) = slot.retained {
            let sample = Sample::new("slot_retained", retained as f64, Unit::Bytes)
                .of(&*slot.name)
                .bound(limits.max_slot_retained.map(|l| Bound::Above(l as f64)));
            all.push(sample.into());
        }
    }
    all
}

/// The sample of free connections.
pub fn connections(free: i64, limits: &Limits) -> Reading {
    let limit = limits.min_free_connections;
    Sample::new("connections_free", free as f64, Unit::Count)
        .bound(limit.map(|l| Bound::Below(l as f64)))
        .into()
}

/// True where one more connection of ours may be opened while `free` are left: the same limit that
/// holds a chunk. It is at least 1, so the last free one stays free for others.
pub fn may_open(free: i64, limits: &Limits) -> bool {
    limits
        .min_free_connections
        .is_none_or(|limit| i64::try_from(limit).is_ok_and(|limit| free > limit))
}

/// Connections of a run with one worker: its lease, its steps, its worker and its probes.
pub const RUN_CONNECTIONS: i64 = 4;

/// True where a run that has one connection already may open its others and leave one to others;
/// also where the connections are not watched.
pub fn may_begin(free: i64, limits: &Limits) -> bool {
    limits.min_free_connections.is_none() || free >= RUN_CONNECTIONS
}

/// The sample of application sessions that wait for our locks. Their number is also load: a few
/// at a moment are the price of any write, and shorter shares of time make them fewer.
pub fn blocked(waiting: i64, limits: &Limits) -> Reading {
    let sample = Sample::new("blocked_sessions", waiting as f64, Unit::Count);
    match limits.max_blocked {
        None => sample.into(),
        Some(limit) => {
            let limit = limit.max(1) as f64;
            sample
                .bound(Some(Bound::Above(limit)))
                .load(waiting as f64 / limit)
                .into()
        }
    }
}

/// A sample with an upper limit, where one is set.
pub fn at_most(name: &str, value: f64, unit: Unit, limit: Option<f64>) -> Reading {
    Sample::new(name, value, unit)
        .bound(limit.map(Bound::Above))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::{Decision, Throttle};

    fn standby(name: &str, seconds: u64) -> StandbyLag {
        StandbyLag {
            name: name.into(),
            lag: Duration::from_secs(seconds),
            bytes: seconds * 1000,
        }
    }

    fn decide(readings: &[Reading]) -> Option<String> {
        let mut throttle = Throttle::new(Limits::default());
        match throttle.tick(Duration::from_millis(500), Duration::ZERO, readings) {
            Decision::Hold(hold) => Some(hold.reason),
            Decision::Proceed { .. } => None,
        }
    }

    #[test]
    fn a_standby_that_vanished_holds_unless_ignored() {
        let mut limits = Limits::default();
        let seen = vec!["a".to_owned(), "b".to_owned()];
        let readings = standbys(&[standby("a", 0)], &seen, &limits);
        assert!(
            decide(&readings).is_some_and(|r| r.contains("replica_lag(b)") && r.contains("gone"))
        );
        limits.ignore_standbys.push("b".into());
        assert_eq!(decide(&standbys(&[standby("a", 0)], &seen, &limits)), None);
    }

    #[test]
    fn an_ignored_standby_may_lag() {
        let limits = Limits {
            ignore_standbys: vec!["slow".into()],
            ..Limits::default()
        };
        assert_eq!(
            decide(&standbys(&[standby("slow", 900)], &[], &limits)),
            None
        );
        assert!(decide(&standbys(&[standby("other", 900)], &[], &limits)).is_some());
    }

    #[test]
    fn a_slot_near_its_end_holds_and_a_lost_one_does_not() {
        let limits = Limits::default();
        let slot = |safe, lost| SlotState {
            name: "s".into(),
            safe,
            retained: Some(1 << 40),
            lost,
        };
        assert!(decide(&slots(&[slot(Some(1 << 20), false)], &limits)).is_some());
        assert_eq!(decide(&slots(&[slot(Some(1 << 20), true)], &limits)), None);
        assert_eq!(decide(&slots(&[slot(Some(1 << 40), false)], &limits)), None);
        assert_eq!(decide(&slots(&[slot(None, false)], &limits)), None);
    }

    #[test]
    fn the_last_free_connection_is_never_taken() {
        let limits = Limits::default();
        for free in 0..10 {
            let held = decide(&[connections(free, &limits)]).is_some();
            assert_eq!(may_open(free, &limits), !held, "{free}");
            // Three are opened beside the one that looks.
            assert_eq!(may_begin(free, &limits), free - 3 >= 1, "{free}");
        }
        let off = Limits {
            min_free_connections: None,
            ..Limits::default()
        };
        assert!(may_open(0, &off) && may_begin(0, &off));
    }

    #[test]
    fn what_chunks_wrote_since_is_no_headroom() {
        let limits = Limits::default();
        let slot = SlotState {
            name: "s".into(),
            safe: Some(300 << 20),
            retained: None,
            lost: false,
        };
        let readings = slots(&[slot], &limits);
        assert_eq!(decide(&less_headroom(readings.clone(), 40 << 20)), None);
        assert!(decide(&less_headroom(readings, 60 << 20)).is_some());
    }

    #[test]
    fn few_connections_left_hold() {
        let limits = Limits::default();
        let free = |n| [connections(n, &limits)];
        assert_eq!(decide(&free(20)), None);
        assert_eq!(decide(&free(2)).as_deref(), Some("connections_free 2 <= 3"));
    }
}
