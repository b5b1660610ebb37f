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

/// A session or prepared transaction that holds a lock in our way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InTheWay {
    /// Age of its transaction; `None` where it cannot be seen.
    pub age: Option<Duration>,
    /// Autovacuum, which gives way to a waiting request by itself.
    pub gives_way: bool,
}

/// A transaction younger than this may well be gone within a try.
const YOUNG: Duration = Duration::from_millis(500);

/// Autovacuum gives way only after `deadlock_timeout` (1 s by default).
const AUTOVACUUM_TRY: Duration = Duration::from_millis(1_100);

/// At least this long between tries against transactions that are not young.
const BETWEEN: Duration = Duration::from_secs(2);

impl LockLadder {
    /// Whether to try for the lock now, and with which `lock_timeout`. While we wait in the lock
    /// queue the application waits behind us, so a try that has no chance is not made: the wait is
    /// outside of the queue. Transactions that take turns, none of them older than the longest
    /// try, are queued against now and then, or they would keep us out for ever.
    pub fn try_now(
        &self,
        this: Try,
        in_the_way: &[InTheWay],
        since_last_try: Option<Duration>,
    ) -> Option<Duration> {
        if !in_the_way.is_empty() && in_the_way.iter().all(|w| w.gives_way) {
            return Some(AUTOVACUUM_TRY);
        }
        let oldest = in_the_way
            .iter()
            .filter(|w| !w.gives_way)
            .map(|w| w.age.unwrap_or(Duration::MAX))
            .max();
        match oldest {
            None => Some(this.lock_timeout),
            Some(age) if age < YOUNG => Some(this.lock_timeout),
            Some(age) if age < self.longest && since_last_try.is_none_or(|t| t >= BETWEEN) => {
                Some(self.longest)
            }
            Some(_) => None,
        }
    }
}

/// A queue that was shorter than this is not felt.
const NOT_FELT: Duration = Duration::from_millis(20);

/// Rest after a try that had its lock and took `took`, of it at most `lock_timeout` in the queue.
/// The application's statements behind it are late by as much; without a rest the next step would
/// queue before they have caught up, and they would wait for both.
pub fn rest_after(took: Duration, lock_timeout: Duration) -> Duration {
    let queued = took.min(lock_timeout);
    if queued < NOT_FELT {
        Duration::ZERO
    } else {
        queued
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
    fn a_queue_that_was_felt_may_drain() {
        let longest = Duration::from_secs(1);
        let ms = Duration::from_millis;
        assert_eq!(rest_after(ms(3), longest), Duration::ZERO);
        assert_eq!(rest_after(ms(700), longest), ms(700));
        // A scan under the lock that it had at once, for example.
        assert_eq!(rest_after(Duration::from_mins(5), longest), longest);
    }

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
    fn a_try_without_a_chance_is_not_made() {
        let ladder = LockLadder::default();
        let this = ladder
            .attempt(0, Duration::ZERO, 0.5)
            .expect("within budget");
        let way = |ms: u64| InTheWay {
            age: Some(Duration::from_millis(ms)),
            gives_way: false,
        };
        let vacuum = InTheWay {
            age: Some(Duration::from_mins(5)),
            gives_way: true,
        };
        let hidden = InTheWay {
            age: None,
            gives_way: false,
        };
        let now = |way: &[InTheWay], last| ladder.try_now(this, way, last);
        assert_eq!(now(&[], None), Some(this.lock_timeout));
        assert_eq!(now(&[way(100), way(499)], None), Some(this.lock_timeout));
        assert_eq!(now(&[way(10_000)], None), None);
        assert_eq!(now(&[hidden], None), None);
        assert_eq!(now(&[vacuum], None), Some(AUTOVACUUM_TRY));
        assert_eq!(now(&[vacuum, way(10_000)], None), None);
        // Transactions of 0.8 s that take turns: now and then, and as long as they take.
        assert_eq!(now(&[way(800), way(20)], None), Some(ladder.longest));
        assert_eq!(now(&[way(800)], Some(Duration::from_secs(1))), None);
        assert_eq!(now(&[way(800)], Some(BETWEEN)), Some(ladder.longest));
    }

    #[test]
    fn reconnects_slow_down_to_a_bound() {
        assert!(reconnect_pause(0, 0.5) < reconnect_pause(3, 0.5));
        assert!(reconnect_pause(50, 0.999) <= Duration::from_millis(7_500));
    }
}
