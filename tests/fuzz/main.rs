//! Hostile files: whatever bytes are given for a migration, reading, linting and planning end in
//! time, without a panic, and what they say has places that are in the text.
//!
//! `PGSHIFT_FUZZ_SECONDS` makes it go on for longer than the cases of a usual run, and
//! `PGSHIFT_TEST_SEED` repeats a run; `scripts/fuzz.sh` sets both.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test: it is told by variables how long to run, and prints its seed"
)]

mod check;
mod hostile;

use std::time::{Duration, Instant};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use check::{Stage, World};

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs cases of a strategy: `usual` many, or for as long as is asked for.
fn fuzz<S: Strategy>(
    usual: u32,
    strategy: &S,
    test: impl Fn(&S::Value) -> Result<(), TestCaseError>,
) {
    let seconds = variable("PGSHIFT_FUZZ_SECONDS").map(Duration::from_secs);
    let mut seed = variable("PGSHIFT_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let begun = Instant::now();
    loop {
        println!("PGSHIFT_TEST_SEED={seed}");
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config {
            cases: usual,
            failure_persistence: None,
            max_shrink_iters: 4000,
            ..Config::default()
        };
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let result = TestRunner::new_with_rng(config, rng).run(strategy, |value| test(&value));
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, value)) => panic!("{why}\n  of {value:?}\n  seed {seed}"),
            Err(error) => panic!("{error}"),
        }
        if seconds.is_none_or(|limit| begun.elapsed() >= limit) {
            return;
        }
        seed = seed.wrapping_add(1);
    }
}

#[test]
fn any_file_is_read_linted_and_planned_or_refused() {
    let world = World::of_examples();
    fuzz(400, &hostile::file(), |bytes| world.all(bytes));
}

#[test]
fn damaged_examples_are_read_linted_and_planned_or_refused() {
    let world = World::of_examples();
    fuzz(150, &hostile::damaged(hostile::examples()), |bytes| {
        world.all(bytes)
    });
}

/// Every prefix of every example, at every byte, whatever character or token it cuts.
#[test]
fn examples_cut_at_every_byte_are_read_or_refused() {
    let world = World::of_examples();
    for text in hostile::examples() {
        for end in 0..=text.len() {
            if let Err(error) = world.read(&text.as_bytes()[..end]) {
                panic!("{error}\n  of {:?}", &text.as_bytes()[..end]);
            }
        }
        // Planning takes longer: at some of them.
        for end in (0..=text.len()).step_by(29) {
            if let Err(error) = world.all(&text.as_bytes()[..end]) {
                panic!("{error}\n  of {:?}", &text.as_bytes()[..end]);
            }
        }
    }
}

/// Shapes that make a parser recurse, or look at the same text again and again, in large.
#[test]
fn large_files_of_every_shape_end_in_time() {
    let world = World::of_examples();
    let mut slow = Vec::new();
    for (name, text) in hostile::large(6_000) {
        for stage in Stage::ALL {
            let begun = Instant::now();
            if let Err(error) = world.stage(stage, text.as_bytes()) {
                panic!("{error}\n  of {name}, {stage:?}");
            }
            let took = begun.elapsed();
            // Without optimisation, on a machine that does something else too.
            if took > Duration::from_secs(10) {
                slow.push(format!("{name}, {stage:?}: {took:?}"));
            } else if took > Duration::from_secs(1) {
                println!("{name}, {stage:?}: {took:?}");
            }
        }
    }
    assert!(slow.is_empty(), "{slow:#?}");
}

/// What nests, or makes a tree of another program's, very deep: a stack that overflows ends the
/// process, which no handler sees.
#[test]
fn deep_files_do_not_overflow_the_stack() {
    let world = World::of_examples();
    // About as large as is still looked at by every reader, and much larger.
    let deep = [8_000, 25_000, 120_000].map(hostile::deep);
    for (name, text) in deep.into_iter().flatten() {
        if let Err(error) = world.stage(Stage::Plan, text.as_bytes()) {
            panic!("{error}\n  of {name}");
        }
    }
}
