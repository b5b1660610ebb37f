use proptest::prelude::*;

use super::*;

const TICK: Duration = Duration::from_millis(500);

fn lag(seconds: f64) -> Vec<Reading> {
    [("idle", 0.0), ("standby1", seconds)]
        .into_iter()
        .map(|(name, value)| {
            Sample::new("replica_lag", value, Unit::Seconds)
                .of(name)
                .bound(Some(Bound::Above(5.0)))
                .into()
        })
        .collect()
}

fn holds(decision: &Decision) -> bool {
    matches!(decision, Decision::Hold(_))
}

fn reason(decision: Decision) -> String {
    match decision {
        Decision::Hold(hold) => hold.reason,
        Decision::Proceed { .. } => String::new(),
    }
}

#[test]
fn duty_sets_the_pause() {
    let pause = |duty| {
        let mut t = Throttle::new(Limits {
            duty,
            ..Limits::default()
        });
        t.tick(TICK, Duration::from_millis(20), &[])
    };
    assert_eq!(
        pause(0.5),
        Decision::Proceed {
            pause: Duration::from_millis(20)
        }
    );
    assert_eq!(
        pause(1.0),
        Decision::Proceed {
            pause: Duration::ZERO
        }
    );
    assert_eq!(
        pause(0.25),
        Decision::Proceed {
            pause: Duration::from_millis(60)
        }
    );
}

#[test]
fn a_limit_holds_by_name_and_resumes_with_hysteresis() {
    let mut throttle = Throttle::new(Limits::default());
    let mut tick = |seconds| throttle.tick(TICK, Duration::ZERO, &lag(seconds));
    assert!(!holds(&tick(4.0)));
    assert_eq!(reason(tick(9.0)), "replica_lag(standby1) 9.0s >= 5.0s");
    assert_eq!(
        reason(tick(4.0)),
        "replica_lag(standby1) 4.0s >= 3.5s",
        "not yet far enough back"
    );
    assert!(!holds(&tick(3.0)));
    assert!(!holds(&tick(4.0)), "below the limit again");
}

#[test]
fn a_lower_limit_holds_too() {
    let free = |n: f64| -> Vec<Reading> {
        let sample = Sample::new("connections_free", n, Unit::Count);
        vec![sample.bound(Some(Bound::Below(3.0))).into()]
    };
    let mut throttle = Throttle::new(Limits::default());
    let mut tick = |n| throttle.tick(TICK, Duration::ZERO, &free(n));
    assert!(!holds(&tick(4.0)));
    assert_eq!(reason(tick(2.0)), "connections_free 2 <= 3");
    assert!(holds(&tick(3.5)));
    assert!(!holds(&tick(5.0)));
}

#[test]
fn the_worst_of_several_is_told() {
    let mut readings = lag(6.0);
    readings.push(
        Sample::new("slot_retained", 40e9, Unit::Bytes)
            .of("audit")
            .bound(Some(Bound::Above(10e9)))
            .into(),
    );
    let mut throttle = Throttle::new(Limits::default());
    assert!(
        reason(throttle.tick(TICK, Duration::ZERO, &readings)).starts_with("slot_retained(audit)")
    );
}

#[test]
fn who_stops_it_by_word_wins() {
    for (reading, cause) in [
        (
            Reading::Blind {
                signal: "replica_lag".into(),
                why: "permission denied".into(),
            },
            "blind",
        ),
        (Reading::Paused { by: "dba".into() }, "paused"),
        (
            Reading::Closed {
                until: "22:00".into(),
            },
            "closed",
        ),
    ] {
        let mut throttle = Throttle::new(Limits {
            duty: 1.0,
            ..Limits::default()
        });
        let mut readings = lag(0.0);
        readings.push(reading);
        let Decision::Hold(hold) = throttle.tick(TICK, Duration::ZERO, &readings) else {
            panic!("{cause} holds");
        };
        assert_eq!(hold.cause, cause);
    }
}

#[test]
fn load_steers_and_never_stops() {
    let mut throttle = Throttle::new(Limits::default());
    let busy: Vec<Reading> = vec![Sample::new("load", 9.0, Unit::Number).load(3.0).into()];
    for _ in 0..20 {
        assert!(!holds(&throttle.tick(
            TICK,
            Duration::from_millis(20),
            &busy
        )));
    }
    assert!(throttle.duty() < 0.05);
    for _ in 0..100 {
        throttle.tick(TICK, Duration::from_millis(20), &[]);
    }
    assert!(throttle.duty() > 0.45);
}

proptest! {
    /// Whatever the readings: a passed limit always holds, and nothing else does.
    #[test]
    fn holds_exactly_when_a_limit_is_passed(
        values in proptest::collection::vec((0.0_f64..20.0, proptest::option::of(0.1_f64..10.0)), 0..6)
    ) {
        let readings: Vec<Reading> = values
            .iter()
            .enumerate()
            .map(|(n, (value, limit))| {
                Sample::new("s", *value, Unit::Number)
                    .of(n.to_string())
                    .bound(limit.map(Bound::Above))
                    .into()
            })
            .collect();
        let passed = values.iter().any(|(v, l)| l.is_some_and(|l| *v >= l));
        let mut throttle = Throttle::new(Limits::default());
        prop_assert_eq!(holds(&throttle.tick(TICK, Duration::ZERO, &readings)), passed);
    }

    /// A signal that stands still never makes the decision flip more than once.
    #[test]
    fn a_steady_signal_does_not_flap(value in 0.0_f64..10.0) {
        let mut throttle = Throttle::new(Limits::default());
        let first = holds(&throttle.tick(TICK, Duration::ZERO, &lag(value)));
        for _ in 0..50 {
            prop_assert_eq!(holds(&throttle.tick(TICK, Duration::ZERO, &lag(value))), first);
        }
    }

    /// Not a number is no good news.
    #[test]
    fn not_a_number_holds(above in proptest::bool::ANY) {
        let bound = if above { Bound::Above(1.0) } else { Bound::Below(1.0) };
        let readings = vec![Sample::new("s", f64::NAN, Unit::Number).bound(Some(bound)).into()];
        let mut throttle = Throttle::new(Limits::default());
        prop_assert!(holds(&throttle.tick(TICK, Duration::ZERO, &readings)));
    }
}

#[test]
fn load_advises_shorter_chunks_and_fewer_workers_and_both_come_back() {
    let mut t = Throttle::new(Limits::default());
    let calm = t.advice(4);
    assert_eq!((calm.chunk, calm.workers), (1.0, 4));
    let busy = [Sample::new("x", 1.0, Unit::Number).load(1.2).into()];
    let mut fewest = 4;
    for _ in 0..50 {
        t.tick(TICK, Duration::ZERO, &busy);
        let advice = t.advice(4);
        assert!(advice.workers <= fewest, "no swinging");
        fewest = advice.workers;
    }
    assert_eq!(
        t.advice(4),
        Advice {
            chunk: 0.25,
            workers: 1
        }
    );
    assert_eq!(t.advice(0).workers, 1);
    for _ in 0..2_000 {
        t.tick(TICK, Duration::ZERO, &[]);
    }
    assert_eq!(t.advice(4).workers, 4);
}
