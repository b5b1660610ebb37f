//! The duty cycle under load.

use std::time::Duration;

/// Load up to which the configured duty is kept.
const KNEE: f64 = 0.7;
/// The least duty: a backfill that load has steered down still moves.
const LEAST: f64 = 0.02;
/// Time constants of the way down and of the way up. Quick to give way and slow to come back, so
/// that the loop does not swing.
const DOWN: f64 = 0.5;
const UP: f64 = 5.0;
/// Time constant in which a peak of the load is forgotten. A load that comes in bursts is steered
/// by its bursts: by its mean, the bursts would pass the limit and stop the backfill again and
/// again.
const PEAK: f64 = 10.0;

/// Steers the duty: full up to the knee, then linearly down to the least at load 1, through a
/// first-order lag.
///
/// A static negative feedback through one first-order lag has no overshoot and cannot swing, as
/// long as it ticks faster than its time constants (Åström & Murray, *Feedback Systems*, 2nd ed.,
/// section 5.3).
#[derive(Debug, Clone)]
pub(super) struct Steer {
    most: f64,
    duty: f64,
    peak: f64,
    /// False until the first observation: there is nothing yet to come from gradually.
    started: bool,
}

impl Steer {
    pub(super) fn new(most: f64) -> Self {
        let most = bounded(most);
        Self {
            most,
            duty: most,
            peak: 0.0,
            started: false,
        }
    }

    pub(super) fn set_most(&mut self, most: f64) {
        self.most = bounded(most);
        self.duty = self.duty.min(self.most);
    }

    pub(super) fn duty(&self) -> f64 {
        self.duty
    }

    /// The duty as a part of the configured one.
    pub(super) fn share(&self) -> f64 {
        (self.duty / self.most).clamp(0.0, 1.0)
    }

    /// Learns the present load (1 is as much as the server should bear) after `elapsed`, and the
    /// duty that our own part leaves room for.
    ///
    /// The latter does not depend on the present duty, so following it is no feedback.
    pub(super) fn observe(&mut self, elapsed: Duration, load: f64, room: f64) {
        let least = LEAST.min(self.most);
        let faded = self.peak * (-elapsed.as_secs_f64() / PEAK).exp();
        self.peak = load.max(faded);
        let free = ((1.0 - self.peak) / (1.0 - KNEE)).clamp(0.0, 1.0);
        let wanted = (least + (self.most - least) * free).min(room.max(least));
        if !std::mem::replace(&mut self.started, true) {
            self.duty = wanted;
            return;
        }
        let constant = if wanted < self.duty { DOWN } else { UP };
        let part = 1.0 - (-elapsed.as_secs_f64() / constant).exp();
        self.duty += (wanted - self.duty) * part;
    }
}

fn bounded(duty: f64) -> f64 {
    if duty.is_finite() {
        duty.clamp(0.01, 1.0)
    } else {
        0.01
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(100);

    /// A toy server: what the application uses, plus what the backfill adds at full duty, seen
    /// with some noise. Gives the duty at every tick.
    fn simulate(own: f64, seed: u64, application: impl Fn(f64) -> f64) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut steer = Steer::new(0.5);
        (0..1200)
            .map(|n| {
                let load = application(f64::from(n) * 0.1) + own * steer.duty();
                steer.observe(TICK, load * (0.98 + 0.04 * random.f64()), 1.0);
                steer.duty()
            })
            .collect()
    }

    fn swing(duties: &[f64]) -> f64 {
        let most = duties.iter().copied().fold(0.0, f64::max);
        most - duties.iter().copied().fold(1.0, f64::min)
    }

    #[test]
    fn without_load_the_configured_duty_is_kept() {
        assert!(
            simulate(0.2, 1, |_| 0.2)
                .iter()
                .all(|d| (*d - 0.5).abs() < 1e-9)
        );
    }

    #[test]
    fn it_settles_without_a_sawtooth() {
        for seed in 0..20 {
            let duties = simulate(0.5, seed, |_| 0.75);
            assert!(
                swing(&duties[600..]) < 0.05,
                "seed {seed}: {}",
                swing(&duties[600..])
            );
        }
    }

    #[test]
    fn it_gives_way_at_once_and_comes_back_slowly() {
        let busy = |t: f64| if (20.0..60.0).contains(&t) { 1.2 } else { 0.1 };
        let duties = simulate(0.1, 7, busy);
        assert!(duties[199] > 0.49);
        assert!(
            duties[225] < 0.1,
            "2.5 s after the load came: {}",
            duties[225]
        );
        assert!(
            duties[610] < 0.2,
            "not back within a second: {}",
            duties[610]
        );
        assert!(duties[900] > 0.45, "back within 30 s: {}", duties[900]);
    }

    #[test]
    fn what_is_seen_first_counts_at_once() {
        let mut steer = Steer::new(1.0);
        steer.observe(Duration::ZERO, 0.1, 0.05);
        assert!((steer.duty() - 0.05).abs() < 1e-9, "{}", steer.duty());
        steer.observe(TICK, 0.1, 1.0);
        assert!(steer.duty() < 0.1, "gradually from then on");
    }

    proptest! {
        #[test]
        fn the_duty_stays_within_its_bounds_and_never_overshoots(
            most in 0.0_f64..1.5,
            loads in proptest::collection::vec((-1.0_f64..5.0, -0.5_f64..2.0, 0_u64..10_000), 1..200),
        ) {
            let mut steer = Steer::new(most);
            for (load, room, ms) in loads {
                steer.observe(Duration::from_millis(ms), load, room);
                prop_assert!(steer.duty() > 0.0 && steer.duty() <= bounded(most) + 1e-12);
            }
        }
    }
}
