//! Replay lag as time, from log positions alone.

use std::collections::VecDeque;
use std::time::Duration;

/// Remembers when the primary's log was where, and so tells how long ago a standby's replay
/// position was the present.
///
/// `pg_stat_replication.replay_lag` is measured when a standby *reports* progress, so it stays at
/// its last value while replay stands still; the distance in time of the replay position does not.
#[derive(Debug, Clone, Default)]
pub struct LagClock {
    samples: VecDeque<(Duration, u64)>,
}

/// Samples kept: at two a second, ten minutes.
const MEMORY: usize = 1200;

impl LagClock {
    /// Notes that at time `at` (from any fixed start) the log was at byte `lsn`.
    pub fn note(&mut self, at: Duration, lsn: u64) {
        // Behind what was noted: another server, after a failover.
        if self.samples.back().is_some_and(|(_, last)| lsn < *last) {
            self.samples.clear();
        }
        if self.samples.len() == MEMORY {
            self.samples.pop_front();
        }
        self.samples.push_back((at, lsn));
    }

    /// True where the log was noted at or before this position: then [`Self::lag`] is exact, else
    /// it is the least that it can be.
    pub fn reaches(&self, replayed: u64) -> bool {
        self.samples
            .front()
            .is_some_and(|(_, lsn)| *lsn <= replayed)
    }

    /// How far a standby that has replayed up to `replayed` is behind at time `at`. Zero where it
    /// has replayed all: an idle standby does not lag. Between two notes the log is taken to have
    /// grown evenly. Older than all notes gives the age of the oldest: at least that.
    pub fn lag(&self, at: Duration, replayed: u64) -> Duration {
        if self.samples.back().is_none_or(|(_, lsn)| replayed >= *lsn) {
            return Duration::ZERO;
        }
        // The log only grows; the last note is beyond `replayed`.
        let after = self.samples.partition_point(|(_, lsn)| *lsn <= replayed);
        let (next, end) = self.samples[after];
        let then = match after.checked_sub(1).map(|before| self.samples[before]) {
            None => next,
            Some((then, start)) => {
                let part = (replayed - start) as f64 / (end - start) as f64;
                then + next.saturating_sub(then).mul_f64(part)
            }
        };
        at.saturating_sub(then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn an_idle_standby_does_not_lag() {
        let mut clock = LagClock::default();
        for n in 0..60 {
            clock.note(s(n), 1000);
        }
        assert_eq!(clock.lag(s(60), 1000), Duration::ZERO);
    }

    #[test]
    fn a_standby_that_stands_still_lags_more_and_more() {
        let mut clock = LagClock::default();
        for n in 0..=10 {
            clock.note(s(n), n * 100);
        }
        assert_eq!(clock.lag(s(10), 300), s(7));
        assert_eq!(clock.lag(s(10), 350), Duration::from_millis(6_500));
        assert_eq!(clock.lag(s(10), 1000), Duration::ZERO);
    }

    #[test]
    fn a_standby_that_keeps_up_lags_less_than_a_period() {
        let mut clock = LagClock::default();
        for n in 0..=10 {
            clock.note(s(n), n * 1000);
        }
        assert_eq!(clock.lag(s(10), 9_990), Duration::from_millis(10));
    }

    #[test]
    fn after_a_failover_the_log_may_be_behind_its_notes() {
        let mut clock = LagClock::default();
        for lsn in [100, 900, 400, 500] {
            clock.note(s(lsn / 100), lsn);
        }
        for replayed in 0..1000 {
            assert!(clock.lag(s(10), replayed) <= s(10));
        }
    }

    #[test]
    fn older_than_all_samples_is_at_least_their_age() {
        let mut clock = LagClock::default();
        clock.note(s(5), 500);
        clock.note(s(9), 900);
        assert_eq!(clock.lag(s(9), 100), s(4));
    }
}
