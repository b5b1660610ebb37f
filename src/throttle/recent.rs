//! How often something happened of late, from a counter of the server.

use std::collections::VecDeque;
use std::time::Duration;

/// Counts the increments of a counter over a sliding window.
#[derive(Debug, Clone)]
pub struct Recent {
    window: Duration,
    last: Option<i64>,
    happened: VecDeque<(Duration, i64)>,
}

impl Recent {
    /// Over this time.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            last: None,
            happened: VecDeque::new(),
        }
    }

    /// Takes note of the counter at time `at` (from any fixed start); gives how far it grew within
    /// the window. What was before the first note is not known; a counter that was set back begins
    /// at zero.
    pub fn note(&mut self, at: Duration, counter: i64) -> i64 {
        let grown = match self.last.replace(counter) {
            None => 0,
            Some(last) if counter < last => counter,
            Some(last) => counter - last,
        };
        if grown > 0 {
            self.happened.push_back((at, grown));
        }
        while self
            .happened
            .front()
            .is_some_and(|(then, _)| at.saturating_sub(*then) >= self.window)
        {
            self.happened.pop_front();
        }
        self.happened.iter().map(|(_, n)| n).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn old_increments_are_forgotten() {
        let s = Duration::from_secs;
        let mut recent = Recent::new(s(300));
        assert_eq!(recent.note(s(0), 70), 0, "before our time");
        assert_eq!(recent.note(s(10), 72), 2);
        assert_eq!(recent.note(s(200), 73), 3);
        assert_eq!(recent.note(s(309), 73), 3);
        assert_eq!(recent.note(s(310), 73), 1);
        assert_eq!(recent.note(s(320), 2), 3, "set back: two since");
        assert_eq!(recent.note(s(900), 2), 0);
    }

    proptest! {
        #[test]
        fn it_is_never_more_than_the_growth(growth in proptest::collection::vec((0_u64..100, 0_i64..5), 1..60)) {
            let mut recent = Recent::new(Duration::from_mins(1));
            let (mut at, mut counter) = (Duration::ZERO, 100);
            for (seconds, n) in growth {
                at += Duration::from_secs(seconds);
                counter += n;
                let seen = recent.note(at, counter);
                prop_assert!(seen >= 0 && seen <= counter - 100);
            }
        }
    }
}
