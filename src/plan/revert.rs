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
}
