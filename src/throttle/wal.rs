//! How fast the server writes WAL, and how much of it is not ours.

use std::collections::VecDeque;
use std::time::Duration;

use super::limits::Limits;
use super::reading::{Bound, Reading, Sample, Unit};

/// Rates are means over this time.
const WINDOW: Duration = Duration::from_secs(5);
/// Less time than this between chunks tells nothing about the application.
const LEAST_GAP: f64 = 0.05;
/// Part of the limit that chunks aim at, so that the limit itself is not met at every reading.
const AIM: f64 = 0.85;
/// Duty until it is known what our chunks write: at full speed, the first seconds alone could use
/// up the limit of many.
const UNKNOWN_DUTY: f64 = 0.05;

/// A chunk that committed: when (from any fixed start), and the log's insert positions around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its begin.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
    /// Position at its begin.
    pub lsn_from: u64,
    /// Position at its end.
    pub lsn_to: u64,
}

/// Bytes a second over the last seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WalRates {
    /// The whole server.
    pub total: f64,
    /// All but our chunks.
    pub application: f64,
    /// What our chunks would write if they never paused; `None` before the first.
    pub ours_at_full: Option<f64>,
}

/// Tells the application's WAL from ours by *when* it is written.
///
/// Positions around a chunk bound what it wrote from above only: the application's WAL is between
/// them too. What is written while no chunk runs is the application's alone, and it writes on
/// while one runs; so its rate is that of the gaps. Chunks may overlap.
#[derive(Debug, Clone, Default)]
pub struct WalMeter {
    positions: VecDeque<(Duration, u64)>,
    chunks: VecDeque<Written>,
    ours_at_full: Option<f64>,
}

impl WalMeter {
    /// Takes note of a committed chunk.
    pub fn wrote(&mut self, chunk: Written) {
        self.chunks.push_back(chunk);
    }

    /// Takes note of the log's insert position, and gives the rates; they are zero until there are
    /// two positions. `workers` is how many chunks can run at a time.
    pub fn note(&mut self, at: Duration, lsn: u64, workers: u16) -> WalRates {
        // A failover may have put the log back.
        if self.positions.back().is_some_and(|(_, last)| lsn < *last) {
            self.positions.clear();
            self.chunks.clear();
        }
        self.positions.push_back((at, lsn));
        let old = |t: Duration| at.saturating_sub(t) > WINDOW;
        // The last position before the window bounds it.
        while self.positions.get(1).is_some_and(|(t, _)| old(*t)) {
            self.positions.pop_front();
        }
        let (start, lsn_start) = self.positions.front().copied().unwrap_or((at, lsn));
        let time = at.saturating_sub(start).as_secs_f64();
        if time <= 0.0 {
            return WalRates {
                total: 0.0,
                application: 0.0,
                ours_at_full: self.ours_at_full,
            };
        }
        self.chunks.retain(|c| c.to > start);
        let total = lsn.saturating_sub(lsn_start) as f64 / time;
        let clip = |c: &Written| {
            (
                (c.from.max(start).as_secs_f64(), c.to.min(at).as_secs_f64()),
                (c.lsn_from.max(lsn_start) as f64, c.lsn_to.min(lsn) as f64),
            )
        };
        let (times, lsns): (Vec<_>, Vec<_>) = self.chunks.iter().map(clip).unzip();
        let worked: f64 = times.iter().map(|(from, to)| (to - from).max(0.0)).sum();
        let (busy, covered) = (union(times).min(time), union(lsns).min(total * time));
        let gap = time - busy;
        let application = if gap >= time * LEAST_GAP {
            ((total * time - covered) / gap).min(total)
        } else {
            // Hardly a gap: what is surely not ours.
            total - covered / time
        }
        .max(0.0);
        let duty = worked / time / f64::from(workers.max(1));
        // Of a single chunk in the window nothing can be concluded.
        if self.chunks.len() > 1 && duty > 0.001 {
            self.ours_at_full = Some((total - application) / duty);
        }
        WalRates {
            total,
            application,
            ours_at_full: self.ours_at_full,
        }
    }
}

/// The length that intervals cover together.
fn union(mut intervals: Vec<(f64, f64)>) -> f64 {
    intervals.retain(|(from, to)| from < to);
    intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut covered = 0.0;
    let mut end = f64::NEG_INFINITY;
    for (from, to) in intervals {
        covered += (to - from.max(end)).max(0.0);
        end = end.max(to);
    }
    covered
}

/// The samples of the rates: the limit is on the total, the load is the application's part alone,
/// and the duty is what is left for us.
pub fn samples(rates: WalRates, limits: &Limits) -> Vec<Reading> {
    let sample = |subject: Option<&str>, value| {
        let sample = Sample::new("wal_rate", value, Unit::BytesPerSecond);
        match subject {
            Some(subject) => sample.of(subject),
            None => sample,
        }
    };
    let mut total = sample(None, rates.total);
    let mut application = sample(Some("application"), rates.application);
    if let Some(limit) = limits.max_wal_rate {
        let limit = limit as f64;
        total = total.bound(Some(Bound::Above(limit)));
        application = application.load(rates.application / limit);
        let left = limit * AIM - rates.application;
        application.most_duty = Some(match rates.ours_at_full {
            None => UNKNOWN_DUTY,
            Some(ours) if ours > 0.0 => (left / ours).clamp(0.0, 1.0),
            Some(_) => 1.0,
        });
    }
    vec![total.into(), application.into()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MB: f64 = 1e6;

    /// Ten seconds of chunks of 20 ms, of which `duty` works, beside an application; gives the
    /// last rates.
    fn played(duty: f64, ours: f64, application: f64, workers: u16) -> WalRates {
        let mut meter = WalMeter::default();
        let mut rates = None;
        let step = 0.001;
        let (mut lsn, mut begun, mut worked) = (0.0, None, 0.0);
        for n in 0..10_000_u32 {
            let t = f64::from(n) * step;
            let at = Duration::from_secs_f64(t);
            let busy = (t / 0.02 * duty).fract() < duty;
            lsn += application * step;
            if busy {
                let (from, lsn_from) = *begun.get_or_insert((at, lsn));
                lsn += ours * f64::from(workers) * step;
                worked += step;
                let _ = (from, lsn_from);
            } else if let Some((from, lsn_from)) = begun.take() {
                for _ in 0..workers {
                    meter.wrote(Written {
                        from,
                        to: at,
                        lsn_from: lsn_from as u64,
                        lsn_to: lsn as u64,
                    });
                }
            }
            if n % 500 == 0 {
                rates = Some(meter.note(at, lsn as u64, workers));
            }
        }
        assert!(worked > 0.0 || duty < 0.01);
        rates.expect("two positions")
    }

    #[test]
    fn the_application_is_told_apart() {
        for workers in [1, 4] {
            let rates = played(0.5, 40.0 * MB, 10.0 * MB, workers);
            assert!((rates.application / MB - 10.0).abs() < 2.0, "{rates:?}");
            let ours = rates.ours_at_full.expect("chunks") / MB / f64::from(workers);
            assert!((ours - 40.0).abs() < 8.0, "{rates:?}");
        }
    }

    #[test]
    fn alone_nothing_is_the_applications() {
        let rates = played(0.5, 40.0 * MB, 0.0, 1);
        assert!(rates.application < 2.0 * MB, "{rates:?}");
        let limits = Limits {
            max_wal_rate: Some(10 << 20),
            ..Limits::default()
        };
        let readings = samples(rates, &limits);
        let application = readings[1].sample().expect("a sample");
        assert!(
            application.load.is_some_and(|load| load < 0.2),
            "{application:?}"
        );
        let duty = application.most_duty.expect("known");
        assert!((0.15..0.30).contains(&duty), "{duty}");
    }

    #[test]
    fn until_our_part_is_known_it_begins_gently() {
        let limits = Limits {
            max_wal_rate: Some(1 << 20),
            ..Limits::default()
        };
        let readings = samples(WalMeter::default().note(Duration::ZERO, 7, 1), &limits);
        let application = readings[1].sample().expect("a sample");
        assert_eq!(application.most_duty, Some(UNKNOWN_DUTY));
    }

    #[test]
    fn what_is_overlapped_is_counted_once() {
        assert!((union(vec![(0.0, 2.0), (1.0, 3.0), (5.0, 6.0), (9.0, 8.0)]) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_log_that_was_put_back_begins_anew() {
        let mut meter = WalMeter::default();
        let s = Duration::from_secs;
        assert!(meter.note(s(1), 1000, 1).total < 1.0);
        assert!((meter.note(s(2), 2000, 1).total - 1000.0).abs() < 1.0);
        assert!(meter.note(s(3), 500, 1).total < 1.0);
    }

    proptest! {
        #[test]
        fn parts_are_never_more_than_the_whole(
            steps in proptest::collection::vec((1_u64..2000, 0_u64..1_000_000, 0_u64..100, 0_u64..100_000), 2..40),
            workers in 1_u16..8,
        ) {
            let mut meter = WalMeter::default();
            let (mut at, mut lsn) = (Duration::ZERO, 0);
            for (ms, bytes, chunk_ms, chunk_bytes) in steps {
                at += Duration::from_millis(ms);
                lsn += bytes;
                meter.wrote(Written {
                    from: at.saturating_sub(Duration::from_millis(chunk_ms)),
                    to: at,
                    lsn_from: lsn.saturating_sub(chunk_bytes),
                    lsn_to: lsn,
                });
                let rates = meter.note(at, lsn, workers);
                prop_assert!(rates.application >= 0.0 && rates.application <= rates.total + 1e-6);
                prop_assert!(rates.ours_at_full.is_none_or(|o| o >= -1e-6 && o.is_finite()));
            }
        }
    }
}
