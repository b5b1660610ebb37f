//! The swaps of several tables as one transaction, with the foreign keys between them.

use std::collections::BTreeSet;

use super::{Inbound, inbound, lock_all};
use crate::catalog::QName;
use crate::lock::{LockMode, LockOn};
use crate::plan::build::lock_on;
use crate::plan::draft::Draft;
use crate::plan::probe::Probed;
use crate::plan::retype::dress::Side;
use crate::plan::step::{Phase, Step, Undo, Work};

/// The tables whose types change, by those that are swapped together: foreign keys lead from one
/// new column to another.
pub(in crate::plan) fn together(draft: &Draft<'_>) -> Vec<Vec<QName>> {
    let mut all: Vec<BTreeSet<QName>> = draft
        .retypes
        .keys()
        .map(|name| BTreeSet::from([name.clone()]))
        .collect();
    for key in inbound(draft) {
        if !draft.retypes.contains_key(&key.table.name) {
            continue;
        }
        let (with, without): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|tables| tables.contains(&key.table.name) || tables.contains(&key.to.name));
        all = without;
        all.push(with.into_iter().flatten().collect());
    }
    all.sort();
    all.into_iter()
        .map(|tables| tables.into_iter().collect())
        .collect()
}

/// Their validation, where the old ones are validated.
fn validate(keys: &[Inbound<'_>], side: Side) -> Vec<Step> {
    keys.iter()
        .filter(|key| key.constraint.validated)
        .map(|key| key.validate(side, Phase::Revert))
        .collect()
}

/// The swaps of these tables as one, with the foreign keys that reference their columns.
pub(in crate::plan) fn join(
    draft: &Draft<'_>,
    probed: &Probed,
    tables: &[QName],
    swaps: Vec<Step>,
) -> Option<Step> {
    let mut keys = inbound(draft);
    keys.retain(|key| tables.contains(&key.to.name));
    let mut swaps = swaps.into_iter();
    let mut all = swaps.next()?;
    for other in swaps {
        all = merge(all, other);
    }
    if keys.is_empty() {
        return Some(all);
    }
    let mut locked: BTreeSet<&QName> = tables.iter().collect();
    for key in &keys {
        locked.insert(&key.table.name);
        add_lock(
            &mut all.locks,
            lock_on(&key.table.name, LockMode::AccessExclusive),
        );
    }
    // The tables that other foreign keys of the columns reference, where LOCK TABLE may.
    for table in draft.catalog.tables.values().filter(|t| t.owned) {
        if all
            .locks
            .contains(&lock_on(&table.name, LockMode::AccessExclusive))
        {
            locked.insert(&table.name);
        }
    }
    let lock = lock_all(&locked, "ACCESS EXCLUSIVE");
    let places = |side| {
        keys.iter().flat_map(move |key| {
            let name = (key.table.name.clone(), key.constraint.name.clone());
            key.take_place(side, probed.key_comments.get(&name))
        })
    };
    let gone = || keys.iter().map(|key| key.drop_sql(&key.constraint.name));
    if let Work::Sql { statements } = &mut all.work {
        lock_first(statements, &lock, gone());
        statements.extend(places(Side::New));
    }
    let locks = all.locks.clone();
    if let Undo::Steps { steps, .. } = &mut all.undo
        && let Some(at) = steps.iter().rposition(is_swap)
    {
        let back = &mut steps[at];
        for lock in locks {
            add_lock(&mut back.locks, lock);
        }
        if let Work::Sql { statements } = &mut back.work {
            lock_first(statements, &lock, gone());
            statements.extend(places(Side::Old));
            // The index of a primary key is gone, and what referenced it with it.
            for key in &keys {
                statements.push(key.add_sql(Side::New));
                statements.extend(key.turn(&key.aid(Side::New), false));
            }
        }
        let rest = steps.split_off(at + 1);
        steps.extend(validate(&keys, Side::New));
        steps.extend(rest);
        let old = keys
            .iter()
            .flat_map(|key| key.dress(Side::Old, Phase::Revert));
        steps.splice(at..at, old);
    }
    let mut others: Vec<String> = keys
        .iter()
        .map(|key| format!("{} of {}", key.constraint.name, key.table.name))
        .collect();
    others.sort();
    Some(all.note(format!(
        "foreign keys go over to the new type with it: {}",
        others.join(", ")
    )))
}

fn is_lock(sql: &str) -> bool {
    sql.starts_with("LOCK TABLE ")
}

/// The transaction that swaps back.
fn is_swap(step: &Step) -> bool {
    matches!(&step.work, Work::Sql { statements } if statements.iter().any(|s| is_lock(s)))
}

/// Puts these locks, and what is to be gone, where the first lock of a swap was: what it drops before
/// (views) a query locks before its tables too.
fn lock_first(statements: &mut Vec<String>, lock: &[String], gone: impl Iterator<Item = String>) {
    let at = statements.iter().position(|sql| is_lock(sql)).unwrap_or(0);
    let mut rest = statements.split_off(at);
    rest.retain(|sql| !is_lock(sql));
    statements.extend_from_slice(lock);
    statements.extend(gone);
    statements.append(&mut rest);
}

fn add_lock(locks: &mut Vec<LockOn>, lock: LockOn) {
    if !locks.contains(&lock) {
        locks.push(lock);
    }
}

/// Two swaps as one; on the way back all columns are dressed before any is swapped.
fn merge(mut one: Step, other: Step) -> Step {
    let title = |step: &Step| {
        let words = step.title.trim_start_matches("swap ");
        words
            .rsplit_once(" to the new type")
            .or_else(|| words.rsplit_once(" back to the old type"))
            .map_or(words, |(columns, _)| columns)
            .to_owned()
    };
    let join = |one: &mut Step, other: Step, to: &str| {
        one.title = format!("swap {}, {} {to}", title(one), title(&other));
        if let (Work::Sql { statements }, Work::Sql { statements: more }) =
            (&mut one.work, other.work)
        {
            statements.extend(more);
        }
        for lock in other.locks {
            add_lock(&mut one.locks, lock);
        }
        one.relies.extend(other.relies);
        one.before_try.extend(other.before_try);
        for note in other.notes {
            if !one.notes.contains(&note) {
                one.notes.push(note);
            }
        }
    };
    let undo = std::mem::replace(&mut one.undo, Undo::Nothing);
    let mut second = other;
    let more = std::mem::replace(&mut second.undo, Undo::Nothing);
    join(&mut one, second, "to the new type");
    one.undo = match (undo, more) {
        (
            Undo::Steps { steps, lost },
            Undo::Steps {
                steps: more,
                lost: also,
            },
        ) => {
            let (mut before, mut after, mut back) = (Vec::new(), Vec::new(), None::<Step>);
            for ways in [steps, more] {
                let at = ways.iter().rposition(is_swap);
                for (n, step) in ways.into_iter().enumerate() {
                    match at {
                        Some(at) if n == at => match &mut back {
                            Some(back) => join(back, step, "back to the old type"),
                            None => back = Some(step),
                        },
                        Some(at) if n > at => after.push(step),
                        _ => before.push(step),
                    }
                }
            }
            before.extend(back);
            before.extend(after);
            Undo::Steps {
                steps: before,
                lost: lost.into_iter().chain(also).collect(),
            }
        }
        (other, Undo::Nothing) | (_, other) => other,
    };
    one
}
