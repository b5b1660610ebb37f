//! What takes a run back.

use super::step::{Phase, Step, Undo};

/// What a reverted run leaves undone: the inverse of its done steps, last first.
pub fn revert_steps(done: &[(Step, bool)]) -> (Vec<Step>, Vec<(String, String)>) {
    let mut steps = Vec::new();
    let mut remaining = Vec::new();
    for (step, finished) in done.iter().rev() {
        // A transactional step that was not recorded as done was not committed.
        if !finished && step.transactional() {
            continue;
        }
        match &step.undo {
            Undo::Nothing => {}
            Undo::Steps { steps: undo, .. } => {
                steps.extend(undo.iter().cloned().map(|mut s| {
                    s.phase = Phase::Revert;
                    s
                }));
            }
            Undo::Irreversible { reason } => remaining.push((step.title.clone(), reason.clone())),
        }
    }
    (steps, remaining)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::step::Work;
    use super::*;

    #[test]
    fn a_revert_goes_backwards_and_skips_what_was_not_committed() {
        let step = |name: &str| {
            Step::sql(Phase::Expand, name, vec![]).undo(Undo::steps(vec![Step::sql(
                Phase::Expand,
                format!("undo {name}"),
                vec![],
            )]))
        };
        let mut lost = step("c");
        lost.undo = Undo::Irreversible {
            reason: "gone".into(),
        };
        let done = [
            (step("a"), true),
            (step("b"), true),
            (lost, true),
            (step("d"), false),
        ];
        let (steps, remaining) = revert_steps(&done);
        let titles: Vec<_> = steps.iter().map(|s| s.title.as_str()).collect();
        assert_eq!(titles, ["undo b", "undo a"]);
        assert!(steps.iter().all(|s| s.phase == Phase::Revert));
        assert_eq!(remaining, [("c".to_owned(), "gone".to_owned())]);
    }

    /// A step with this many undo steps; without one for none, irreversible for -1.
    fn step(n: usize, undo: i8, transactional: bool) -> Step {
        let work = if transactional {
            Work::Sql { statements: vec![] }
        } else {
            Work::Concurrent {
                sql: String::new(),
                index: None,
                drops: false,
            }
        };
        let ways = (0..undo).map(|part| Step::sql(Phase::Revert, format!("{n}.{part}"), vec![]));
        Step::new(Phase::Expand, n.to_string(), work).undo(match undo {
            -1 => Undo::Irreversible {
                reason: "gone".into(),
            },
            _ => Undo::steps(ways.collect()),
        })
    }

    proptest! {
        #[test]
        fn a_revert_takes_back_exactly_what_may_have_been_done(
            steps in prop::collection::vec((-1..3_i8, any::<bool>()), 0..12),
            done in 0..13_usize,
        ) {
            // All before `done` are, that one has begun, and none after it.
            let steps: Vec<(Step, bool)> = steps
                .iter()
                .enumerate()
                .take(done + 1)
                .map(|(n, (undo, transactional))| (step(n, *undo, *transactional), n < done))
                .collect();
            let (reverts, remaining) = revert_steps(&steps);
            let counts = |finished: bool, s: &Step| finished || !s.transactional();
            let mut expected = Vec::new();
            let mut left = Vec::new();
            for (s, finished) in steps.iter().rev().filter(|(s, f)| counts(*f, s)) {
                match &s.undo {
                    Undo::Steps { steps, .. } => expected.extend(steps.iter().map(|s| s.title.clone())),
                    Undo::Irreversible { .. } => left.push(s.title.clone()),
                    Undo::Nothing => {}
                }
                prop_assert!(*finished || !s.transactional());
            }
            let titles: Vec<_> = reverts.iter().map(|s| s.title.clone()).collect();
            prop_assert_eq!(titles, expected);
            let remaining: Vec<_> = remaining.into_iter().map(|(title, _)| title).collect();
            prop_assert_eq!(remaining, left);
        }
    }
}
