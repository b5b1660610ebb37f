//! How fast a backfill or verify goes on, and how long it will take.

use std::collections::VecDeque;
use std::time::Duration;

/// The pace of this time counts: long enough for a mean over chunks and pauses, short enough to
/// follow a change of the duty.
const WINDOW: Duration = Duration::from_secs(30);
/// Before this time a pace says nothing.
const LEAST: Duration = Duration::from_secs(1);
/// Points closer together are one.
const APART: Duration = Duration::from_millis(200);
/// No one plans for more.
const LONGEST: f64 = 1e9;

/// Where it stood at recent times.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    points: VecDeque<Point>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    at: Duration,
    /// Share done, in `0..=1`.
    fraction: f64,
    rows: i64,
}

impl Pace {
    /// Notes where it stands after `at` of this session: the share done and the rows.
    pub fn note(&mut self, at: Duration, fraction: f64, rows: i64) {
        let point = Point { at, fraction, rows };
        // One point older than the window stays: a wait within it counts.
        while self.points.len() > 1 && at.saturating_sub(self.points[1].at) >= WINDOW {
            self.points.pop_front();
        }
        match self.points.len() {
            n if n > 1 && at.saturating_sub(self.points[n - 2].at) < APART => {
                self.points[n - 1] = point;
            }
            _ => self.points.push_back(point),
        }
    }

    fn ends(&self) -> Option<(Point, Point)> {
        let (first, last) = (*self.points.front()?, *self.points.back()?);
        (last.at > first.at).then_some((first, last))
    }

    /// Rows a second, waiting included.
    pub fn rate(&self) -> f64 {
        self.ends().map_or(0.0, |(first, last)| {
            (last.rows - first.rows).max(0) as f64 / last.at.saturating_sub(first.at).as_secs_f64()
        })
    }

    /// Expected time left at this pace; `None` where it is not known.
    pub fn eta(&self) -> Option<Duration> {
        let (first, last) = self.ends()?;
        let (done, took) = (
            last.fraction - first.fraction,
            last.at.saturating_sub(first.at),
        );
        (done > 0.0 && took >= LEAST).then(|| {
            let left = took.as_secs_f64() * (1.0 - last.fraction).max(0.0) / done;
            Duration::from_secs_f64(left.min(LONGEST))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(points: &[(u64, f64)]) -> Pace {
        let mut pace = Pace::default();
        for &(at, fraction) in points {
            pace.note(Duration::from_secs(at), fraction, (fraction * 1e4) as i64);
        }
        pace
    }

    fn eta(pace: &Pace) -> Option<u64> {
        pace.eta().map(|eta| eta.as_secs_f64().round() as u64)
    }

    #[test]
    fn counts_from_where_this_session_began() {
        let pace = after(&[(0, 0.5), (10, 0.6)]);
        assert_eq!(eta(&pace), Some(40));
        assert_eq!(pace.rate().round() as i64, 100);
        assert_eq!(eta(&after(&[(0, 0.5)])), None);
        assert_eq!(eta(&after(&[(0, 0.5), (9, 0.5)])), None, "it stands");
    }

    #[test]
    fn follows_the_last_half_minute() {
        // Fast at first, then at a tenth of that.
        let mut points: Vec<(u64, f64)> = (0..=30).map(|n| (n, n as f64 * 0.01)).collect();
        points.extend((31..=70).map(|n| (n, 0.3 + (n - 30) as f64 * 0.001)));
        let pace = after(&points);
        assert_eq!(pace.rate().round() as i64, 10);
        assert_eq!(eta(&pace), Some(660));
    }

    #[test]
    fn a_wait_counts() {
        let pace = after(&[(0, 0.0), (1, 0.01), (2, 0.02), (102, 0.03)]);
        assert!(eta(&pace).is_some_and(|eta| eta > 3_000), "{pace:?}");
    }

    #[test]
    fn keeps_few_points() {
        let mut pace = Pace::default();
        for n in 0..100_000_u32 {
            pace.note(Duration::from_millis(n.into()), f64::from(n) / 1e5, 0);
        }
        assert!(pace.points.len() < 400, "{}", pace.points.len());
    }
}
