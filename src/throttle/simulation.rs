//! The whole controller against a toy server whose WAL and lock waits come partly from the backfill
//! itself.

use std::time::Duration;

use super::wal::{self, WalMeter, Written};
use super::{Decision, Limits, Throttle, samples};

const MB: f64 = 1e6;

/// What the server bears beside us.
struct World {
    /// The application's WAL, bytes a second, at a time.
    application: fn(f64) -> f64,
    /// What chunks write while they work, bytes a second.
    ours: f64,
    /// Sessions that wait for us at full duty.
    waiters: f64,
}

/// One second of a run.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    wal: f64,
    worked: f64,
    holds: u32,
}

/// Plays a run of chunks of about 20 ms, read each half second.
fn play(world: &World, limits: &Limits, seed: u64, seconds: usize) -> Vec<Second> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut throttle = Throttle::new(limits.clone());
    let mut meter = WalMeter::default();
    let mut all = vec![Second::default(); seconds + 1];
    let (mut t, mut lsn, mut read, mut ticked) = (0.0_f64, 1.0_f64, f64::NEG_INFINITY, 0.0);
    let (mut worked, mut recent_work) = (0.0_f64, 0.0);
    let mut readings = Vec::new();
    let mut held = false;
    let at = Duration::from_secs_f64;
    while t < seconds as f64 {
        if t - read >= 0.5 {
            let share = recent_work / (t - read).clamp(0.001, 1e9);
            let rates = meter.note(at(t), lsn as u64, 1);
            readings = wal::samples(rates, limits);
            let waiting = (world.waiters * share * (0.5 + random.f64())).round();
            readings.push(samples::blocked(waiting as i64, limits));
            (read, recent_work) = (t, 0.0);
        }
        let decision = throttle.tick(at(t - ticked), at(worked), &readings);
        ticked = t;
        let second = &mut all[t as usize];
        let (pause, work) = match decision {
            Decision::Proceed { pause } => {
                held = false;
                (pause.as_secs_f64(), 0.02 * (0.7 + 0.6 * random.f64()))
            }
            Decision::Hold(_) => {
                second.holds += u32::from(!held);
                held = true;
                (0.1, 0.0)
            }
        };
        let noise = 0.9 + 0.2 * random.f64();
        let application = (world.application)(t) * noise;
        lsn += application * pause;
        second.wal += application * (pause + work) + world.ours * work;
        second.worked += work;
        let (lsn_from, from) = (lsn, t + pause);
        lsn += (application + world.ours) * work;
        t += pause + work;
        if work > 0.0 {
            meter.wrote(Written {
                from: at(from),
                to: at(t),
                lsn_from: lsn_from as u64,
                lsn_to: lsn as u64,
            });
        }
        worked = work;
        recent_work += work;
    }
    all.truncate(seconds);
    all
}

fn mean(seconds: &[Second], f: fn(&Second) -> f64) -> f64 {
    seconds.iter().map(f).sum::<f64>() / seconds.len() as f64
}

fn limited() -> Limits {
    Limits {
        duty: 1.0,
        max_wal_rate: Some(20_000_000),
        ..Limits::default()
    }
}

#[test]
fn its_own_wal_is_kept_below_the_limit_without_stop_and_go() {
    let world = World {
        application: |_| 5.0 * MB,
        ours: 100.0 * MB,
        waiters: 0.0,
    };
    for seed in 0..20 {
        let run = play(&world, &limited(), seed, 120);
        let steady = &run[30..];
        let rate = mean(steady, |s| s.wal) / MB;
        assert!((12.0..20.0).contains(&rate), "seed {seed}: {rate} MB/s");
        let holds: u32 = steady.iter().map(|s| s.holds).sum();
        assert!(holds <= 2, "seed {seed}: {holds} holds in 90 s");
        let most = steady.iter().map(|s| s.wal).fold(0.0, f64::max) / MB;
        assert!(most < 26.0, "seed {seed}: {most} MB/s in a second");
    }
}

#[test]
fn it_does_not_chase_itself() {
    // Far from the limit by what the application writes, near it by our own.
    let world = World {
        application: |_| 1.0 * MB,
        ours: 18.0 * MB,
        waiters: 0.0,
    };
    let limits = Limits {
        duty: 0.5,
        ..limited()
    };
    for seed in 0..20 {
        let run = play(&world, &limits, seed, 60);
        let duty = mean(&run[10..], |s| s.worked);
        assert!((0.42..0.52).contains(&duty), "seed {seed}: duty {duty}");
    }
}

#[test]
fn it_gives_way_to_the_application_and_recovers() {
    let world = World {
        application: |t| {
            if (40.0..80.0).contains(&t) {
                18.0 * MB
            } else {
                2.0 * MB
            }
        },
        ours: 60.0 * MB,
        waiters: 0.0,
    };
    for seed in 0..20 {
        let run = play(&world, &limited(), seed, 160);
        let duty = |from: usize, to: usize| mean(&run[from..to], |s| s.worked);
        let (before, during, after) = (duty(20, 40), duty(50, 80), duty(110, 160));
        assert!(before > 0.15, "seed {seed}: {before}");
        assert!(during < 0.06, "seed {seed}: {during}");
        assert!(
            after > before * 0.7,
            "seed {seed}: {before} before, {after} after"
        );
    }
}

#[test]
fn waits_that_it_makes_itself_settle() {
    let world = World {
        application: |_| 1.0 * MB,
        ours: 1.0 * MB,
        waiters: 12.0,
    };
    let limits = Limits {
        duty: 1.0,
        ..Limits::default()
    };
    for seed in 0..20 {
        let run = play(&world, &limits, seed, 180);
        let halves = [&run[60..120], &run[120..180]].map(|part| mean(part, |s| s.worked));
        assert!(
            halves.iter().all(|d| (0.1..0.6).contains(d)),
            "seed {seed}: {halves:?}"
        );
        assert!(
            (halves[0] - halves[1]).abs() < 0.12,
            "seed {seed}: {halves:?}"
        );
        let holds: u32 = run[60..].iter().map(|s| s.holds).sum();
        assert!(holds <= 30, "seed {seed}: {holds} holds in two minutes");
    }
}
