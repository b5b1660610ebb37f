//! The latest readings of every signal, and how long each may be believed.

use std::time::Duration;

use super::reading::Reading;

/// Periods after which a reading is too old.
const STALE_PERIODS: u32 = 3;

/// How often a signal is read, and how long one read may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time from one read to the next.
    pub every: Duration,
    /// Time that a read may take. At most two periods, so that a slow answer is never taken for
    /// an old one.
    pub timeout: Duration,
}

impl Pace {
    /// A pace; the timeout is cut to two periods.
    pub fn new(every: Duration, timeout: Duration) -> Self {
        Self {
            every,
            timeout: timeout.min(every * 2),
        }
    }

    /// A reading that is older holds.
    pub fn stale_after(self) -> Duration {
        self.every * STALE_PERIODS
    }
}

/// The readings of all signals, each with the time at which it was taken (from any fixed start).
#[derive(Debug, Clone, Default)]
pub struct Board {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    name: String,
    stale_after: Duration,
    last: Option<(Duration, Vec<Reading>)>,
}

impl Board {
    /// Adds a signal; gives its number.
    pub fn add(&mut self, name: impl Into<String>, pace: Pace) -> usize {
        self.entries.push(Entry {
            name: name.into(),
            stale_after: pace.stale_after(),
            last: None,
        });
        self.entries.len() - 1
    }

    /// Takes what was read of signal `number` by a read that began at `at`.
    pub fn put(&mut self, number: usize, at: Duration, readings: Vec<Reading>) {
        if let Some(entry) = self.entries.get_mut(number) {
            entry.last = Some((at, readings));
        }
    }

    /// Everything that is known at `now`; a signal whose last reading is too old is blind. `None`
    /// where a signal was not read yet and still has time.
    pub fn readings(&self, now: Duration) -> Option<Vec<Reading>> {
        let mut all = Vec::new();
        for entry in &self.entries {
            let at = entry.last.as_ref().map_or(Duration::ZERO, |(at, _)| *at);
            let fresh = now.saturating_sub(at) <= entry.stale_after;
            match &entry.last {
                Some((_, readings)) if fresh => all.extend(readings.iter().cloned()),
                None if fresh => return None,
                _ => all.push(Reading::Blind {
                    signal: entry.name.clone(),
                    why: format!(
                        "the last reading is older than {}",
                        humantime::format_duration(entry.stale_after)
                    ),
                }),
            }
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::throttle::{Sample, Unit};

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn value(name: &str) -> Vec<Reading> {
        vec![Sample::new(name, 1.0, Unit::Count).into()]
    }

    fn blind(readings: &[Reading]) -> Vec<&str> {
        readings
            .iter()
            .filter_map(|r| match r {
                Reading::Blind { signal, .. } => Some(signal.as_str()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn each_signal_grows_old_at_its_own_pace() {
        let mut board = Board::default();
        let quick = board.add("quick", Pace::new(ms(500), ms(900)));
        let slow = board.add("gate", Pace::new(ms(2000), ms(2000)));
        assert_eq!(board.readings(ms(1)), None, "nothing is known yet");
        board.put(quick, ms(10), value("quick"));
        assert_eq!(board.readings(ms(20)), None, "the gate has time yet");
        board.put(slow, ms(0), value("gate"));
        assert_eq!(board.readings(ms(20)).map(|r| r.len()), Some(2));
        let later = board.readings(ms(1600)).expect("all were read");
        assert_eq!(blind(&later), ["quick"]);
        let still_later = board.readings(ms(6001)).expect("all were read");
        assert_eq!(blind(&still_later), ["quick", "gate"]);
    }

    #[test]
    fn a_signal_that_never_answers_is_blind_in_the_end() {
        let mut board = Board::default();
        board.add("gate", Pace::new(ms(500), ms(500)));
        assert_eq!(board.readings(ms(1500)), None);
        assert_eq!(
            blind(&board.readings(ms(1501)).expect("time is up")),
            ["gate"]
        );
    }

    proptest! {
        /// Whatever a read takes within its timeout, the signal is not stale for it.
        #[test]
        fn a_slow_answer_is_not_an_old_one(every in 1_u64..10_000, timeout in 1_u64..100_000, took in 0.0_f64..1.0) {
            let pace = Pace::new(ms(every), ms(timeout));
            let took = pace.timeout.mul_f64(took);
            // The next read begins a period later, or when this one ends; and is known when it ends.
            let next_known = pace.every.max(took) + pace.timeout;
            let mut board = Board::default();
            let n = board.add("s", pace);
            board.put(n, Duration::ZERO, value("s"));
            let after = board.readings(next_known.min(pace.every + pace.timeout)).expect("read");
            prop_assert_eq!(blind(&after), Vec::<&str>::new());
        }
    }
}
