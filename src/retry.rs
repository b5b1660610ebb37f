//! How long to wait for a lock and when to try again: pure, the caller gives time and chance.

use std::time::Duration;

/// The tries for a lock: `lock_timeout` grows from `first` to `longest`, with a jittered pause
/// between tries, until `budget` is used up.
///
/// A waiting DDL statement queues everything behind it (PostgreSQL docs, "Explicit Locking": a
/// request conflicts with requests ahead of it), so each try is short and the pause after it lets
/// the queue drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockLadder {
    /// `lock_timeout` of the first try.
    pub first: Duration,
    /// `lock_timeout` that later tries grow to.
    pub longest: Duration,
    /// Total time after which the step gives up.
    pub budget: Duration,
}

impl Default for LockLadder {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(1),
            budget: Duration::from_mins(5),
        }
    }
}

/// One try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    /// `lock_timeout` to use.
    pub lock_timeout: Duration,
    /// Pause after it fails.
    pub pause: Duration,
}

impl LockLadder {
    /// A ladder whose tries never exceed `longest`.
    #[must_use]
    pub fn with_longest(mut self, longest: Duration) -> Self {
        self.longest = longest.max(Duration::from_millis(1));
        self.first = self.first.min(self.longest);
        self
    }

    /// The `attempt`-th try (from 0) after `elapsed` of waiting, or `None` where the budget is
    /// used up. `chance` in `[0, 1)` jitters the pause by ±50 %.
    pub fn attempt(&self, attempt: u32, elapsed: Duration, chance: f64) -> Option<Try> {
        if elapsed >= self.budget {
            return None;
        }
        let grown = self
            .first
            .mul_f64(1.5_f64.powi(attempt.min(40).cast_signed()));
        let lock_timeout = grown.min(self.longest);
        // At least as long as the queue that the try may have built, and growing.
        let base = lock_timeout
            .max(Duration::from_millis(200))
            .mul_f64(1.0 + f64::from(attempt.min(8)) / 4.0);
        Some(Try {
            lock_timeout,
            pause: base.mul_f64(0.5 + chance.clamp(0.0, 1.0)),
        })
    }
}

/// Pause before reconnecting for the `attempt`-th time (from 0): 0.1 s doubling to 5 s, jittered
/// by ±50 %.
pub fn reconnect_pause(attempt: u32, chance: f64) -> Duration {
    let base = Duration::from_millis(100).mul_f64(2_f64.powi(attempt.min(6).cast_signed()));
    base.min(Duration::from_secs(5))
        .mul_f64(0.5 + chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_grow_to_the_longest_and_end_with_the_budget() {
        let ladder = LockLadder::default();
        let first = ladder
            .attempt(0, Duration::ZERO, 0.5)
            .expect("within budget");
        assert_eq!(first.lock_timeout, Duration::from_millis(100));
        let later = ladder
            .attempt(30, Duration::from_mins(1), 0.5)
            .expect("within budget");
        assert_eq!(later.lock_timeout, Duration::from_secs(1));
        assert_eq!(ladder.attempt(3, ladder.budget, 0.5), None);
    }

    #[test]
    fn the_pause_is_jittered_and_never_zero() {
        let ladder = LockLadder::default();
        let low = ladder
            .attempt(0, Duration::ZERO, 0.0)
            .expect("within budget")
            .pause;
        let high = ladder
            .attempt(0, Duration::ZERO, 0.999)
            .expect("within budget")
            .pause;
        assert!(low >= Duration::from_millis(100) && high > low * 2);
    }

    #[test]
    fn a_small_lock_timeout_option_bounds_every_try() {
        let ladder = LockLadder::default().with_longest(Duration::from_millis(50));
        for n in 0..20 {
            let t = ladder
                .attempt(n, Duration::ZERO, 0.5)
                .expect("within budget");
            assert!(t.lock_timeout <= Duration::from_millis(50));
        }
    }

    #[test]
    fn reconnects_slow_down_to_a_bound() {
        assert!(reconnect_pause(0, 0.5) < reconnect_pause(3, 0.5));
        assert!(reconnect_pause(50, 0.999) <= Duration::from_millis(7_500));
    }
}
