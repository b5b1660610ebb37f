//! The way back of what was done, in an order that loses nothing.

use std::collections::BTreeSet;

use crate::sql::ddl::{Action, AlterOpKind, RelName, understand};
use crate::sql::lex::{ident_value, lex_code};

use super::step::{Phase, Step, Undo, Work};

/// What a reverted run leaves undone: the inverse of its done steps, last first. Gives the steps,
/// and what stays as it is: (title, reason).
///
/// A new application version may write until the new columns are gone, and what it writes must
/// reach the old ones: so a sync trigger goes in one transaction with the columns that expand added
/// to its table. What was made upon these columns goes before that, what the trigger may call
/// after it.
pub fn revert_steps(done: &[(Step, bool)]) -> (Vec<Step>, Vec<(String, String)>) {
    // A transactional step that was not recorded as done was not committed.
    let standing: Vec<&Step> = done
        .iter()
        .filter(|(step, finished)| *finished || !step.transactional())
        .map(|(step, _)| step)
        .collect();
    let mut synced = BTreeSet::new();
    for step in standing.iter().filter(|s| s.phase == Phase::Sync) {
        synced.extend(tables(step));
    }
    // A way back to READY fills new columns again, which one to the start drops.
    let to_start = standing.iter().any(|s| s.phase == Phase::Expand);
    let mut order = Order {
        columns: synced
            .into_iter()
            .map(|table| Columns::of(table, &standing))
            .collect(),
        ..Order::default()
    };
    for (place, step) in standing.iter().enumerate().rev() {
        match &step.undo {
            Undo::Nothing => {}
            Undo::Steps { steps: undo, .. } => {
                let undo = undo
                    .iter()
                    .filter(|s| !to_start || !matches!(s.work, Work::Backfill(_)))
                    .cloned()
                    .map(|mut s| {
                        s.phase = Phase::Revert;
                        s
                    });
                order.take(place, step, undo.collect());
            }
            Undo::Irreversible { reason } => {
                order.remaining.push((step.title.clone(), reason.clone()));
            }
        }
    }
    let mut steps = order.before;
    steps.extend(order.syncs);
    steps.extend(order.after);
    (steps, order.remaining)
}

/// The first step of a way back that has, or may have, changed something, of those that were recorded:
/// (step, done). A check changes nothing, and a transaction that was not committed neither.
pub fn first_change<'s>(recorded: impl Iterator<Item = (&'s Step, bool)>) -> Option<&'s Step> {
    let check = |step: &Step| matches!(step.work, Work::Verify(_) | Work::Check { .. });
    let mut changes =
        recorded.filter(|(step, done)| !check(step) && (*done || !step.transactional()));
    changes.next().map(|(step, _)| step)
}

/// Columns that expand added to a table with a sync trigger.
struct Columns {
    table: RelName,
    names: BTreeSet<String>,
    /// Place of the first step that added one.
    first: Option<usize>,
}

impl Columns {
    fn of(table: RelName, standing: &[&Step]) -> Self {
        let mut all = Self {
            table,
            names: BTreeSet::new(),
            first: None,
        };
        for (place, step) in standing.iter().enumerate() {
            let names = added(step);
            if names.is_empty() || !merges(step) || !tables(step).contains(&all.table) {
                continue;
            }
            all.first.get_or_insert(place);
            all.names.extend(names);
        }
        all
    }
}

#[derive(Default)]
struct Order {
    columns: Vec<Columns>,
    before: Vec<Step>,
    syncs: Vec<Step>,
    after: Vec<Step>,
    remaining: Vec<(String, String)>,
}

impl Order {
    fn take(&mut self, place: usize, step: &Step, undo: Vec<Step>) {
        match step.phase {
            Phase::Sync => self.syncs.extend(undo),
            Phase::Expand if !self.syncs.is_empty() => {
                let on = tables(step);
                if !added(step).is_empty()
                    && merges(step)
                    && let Some(sync) = self
                        .syncs
                        .iter_mut()
                        .find(|sync| tables(sync).iter().any(|t| on.contains(t)))
                {
                    for part in undo {
                        join(sync, part);
                    }
                } else if self.columns.iter().any(|c| uses(step, place, c)) {
                    self.before.extend(undo);
                } else {
                    self.after.extend(undo);
                }
            }
            // Without a trigger there is nothing to keep: plainly backwards.
            Phase::Expand => self.after.extend(undo),
            _ => self.before.extend(undo),
        }
    }
}

/// True where a step may stand upon columns that were added before it.
fn uses(step: &Step, place: usize, columns: &Columns) -> bool {
    if columns.first.is_none_or(|first| place < first) {
        return false;
    }
    statements(step).iter().any(|sql| {
        let function = matches!(understand(sql), Action::CreateFunction { .. });
        let named = |name: &str| name == columns.table.name || columns.names.contains(name);
        !function
            && lex_code(sql)
                .into_iter()
                .filter_map(|token| ident_value(token, sql))
                .any(|name| named(&name))
    })
}

/// One transaction of two steps.
fn join(sync: &mut Step, part: Step) {
    let (Work::Sql { statements }, Work::Sql { statements: more }) = (&mut sync.work, part.work)
    else {
        return;
    };
    statements.extend(more);
    for lock in part.locks {
        if !sync.locks.contains(&lock) {
            sync.locks.push(lock);
        }
    }
    sync.title = format!("{}; {}", sync.title, part.title);
    sync.notes.extend(part.notes);
    sync.lock_timeout_ms = match (sync.lock_timeout_ms, part.lock_timeout_ms) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

/// True where the way back of a step is one that a transaction can take in.
fn merges(step: &Step) -> bool {
    match &step.undo {
        Undo::Steps { steps, .. } => steps.iter().all(Step::transactional),
        Undo::Nothing | Undo::Irreversible { .. } => false,
    }
}

fn statements(step: &Step) -> &[String] {
    match &step.work {
        Work::Sql { statements } => statements,
        Work::Concurrent { sql, .. } => std::slice::from_ref(sql),
        _ => &[],
    }
}

/// Columns that a step adds to a table.
fn added(step: &Step) -> Vec<String> {
    if step.phase != Phase::Expand {
        return Vec::new();
    }
    let mut names = Vec::new();
    for sql in statements(step) {
        if let Action::AlterTable { ops, .. } = understand(sql) {
            names.extend(ops.into_iter().filter_map(|op| match op.kind {
                AlterOpKind::AddColumn(column) => Some(column.name),
                _ => None,
            }));
        }
    }
    names
}

/// The relations that a step locks.
fn tables(step: &Step) -> Vec<RelName> {
    step.locks
        .iter()
        .filter_map(|lock| lock.relation.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::QName;
    use crate::lock::{LockMode, LockOn};

    fn step(phase: Phase, table: &str, sql: &str, undo: &str) -> Step {
        let locks = vec![LockOn {
            relation: Some(RelName::from(&QName::new("public", table))),
            mode: LockMode::AccessExclusive,
        }];
        Step::sql(phase, sql, vec![sql.to_owned()])
            .locks(locks.clone())
            .undo(Undo::steps(vec![
                Step::sql(phase, undo, vec![undo.to_owned()]).locks(locks),
            ]))
    }

    fn titles(done: &[(Step, bool)]) -> Vec<String> {
        let (steps, _) = revert_steps(done);
        assert!(steps.iter().all(|s| s.phase == Phase::Revert));
        steps.into_iter().map(|s| s.title).collect()
    }

    #[test]
    fn a_revert_goes_backwards_and_skips_what_was_not_committed() {
        let step = |name: &str| step(Phase::Expand, "t", name, &format!("undo {name}"));
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
        assert_eq!(titles(&done), ["undo b", "undo a"]);
        let (_, remaining) = revert_steps(&done);
        assert_eq!(remaining, [("c".to_owned(), "gone".to_owned())]);
    }

    #[test]
    fn a_trigger_goes_with_its_columns() {
        use Phase::{Backfill, Expand, Sync, Validate};
        let done = [
            (step(Expand, "t", "CREATE TABLE u (a int)", "-table"), true),
            (
                step(Expand, "t", "ALTER TABLE t ADD COLUMN a int", "-a"),
                true,
            ),
            (
                step(Expand, "t", "ALTER TABLE t ADD b int, ADD c int", "-bc"),
                true,
            ),
            (
                step(Expand, "v", "CREATE VIEW v AS SELECT * FROM t", "-view"),
                true,
            ),
            (
                step(
                    Expand,
                    "",
                    "CREATE FUNCTION f(t) RETURNS int LANGUAGE sql AS '1'",
                    "-f",
                ),
                true,
            ),
            (
                step(Expand, "x", "ALTER TABLE x ADD COLUMN a int", "-x"),
                true,
            ),
            (step(Sync, "t", "trigger", "-trigger"), true),
            (step(Backfill, "t", "rows", "-nothing"), true),
            (
                step(Validate, "t", "CREATE INDEX i ON t (a)", "-index"),
                true,
            ),
        ];
        assert_eq!(
            titles(&done),
            [
                "-index",
                "-nothing",
                "-x",
                "-view",
                "-trigger; -bc; -a",
                "-f",
                "-table"
            ]
        );
        let (steps, _) = revert_steps(&done);
        assert_eq!(
            steps[4].work,
            Work::Sql {
                statements: vec!["-trigger".into(), "-bc".into(), "-a".into()]
            }
        );
        // The trigger was not made yet.
        let mut early = done[..7].to_vec();
        early[6].1 = false;
        assert_eq!(titles(&early), ["-x", "-f", "-view", "-bc", "-a", "-table"]);
    }

    /// A step with this many undo steps; without one for none, irreversible for -1.
    fn numbered(n: usize, undo: i8, transactional: bool) -> Step {
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
                .map(|(n, (undo, transactional))| (numbered(n, *undo, *transactional), n < done))
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
