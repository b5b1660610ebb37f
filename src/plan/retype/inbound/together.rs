//! The swaps of several tables as one transaction, with the foreign keys between them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Inbound, inbound, lock_all};
use crate::catalog::QName;
use crate::lock::{LockMode, LockOn};
use crate::plan::build::lock_on;
use crate::plan::draft::Draft;
use crate::plan::probe::Probed;
use crate::plan::retype::dress::Side;
use crate::plan::step::{Phase, Step, Undo, Work};

/// The tables whose types change, by those that are swapped together: foreign keys lead from one
/// new column to another, or a materialized view reads both, which is made beside once.
pub(in crate::plan) fn together(draft: &Draft<'_>, probed: &Probed) -> Vec<Vec<QName>> {
    let mut pairs: Vec<(QName, QName)> = inbound(draft)
        .into_iter()
        .map(|key| (key.top.name.clone(), key.to.name.clone()))
        .filter(|(own, _)| draft.retypes.contains_key(own))
        .collect();
    let mut readers: BTreeMap<u32, &QName> = BTreeMap::new();
    for (table, answer) in &probed.retypes {
        for view in answer.dependents.iter().filter(|d| d.stored.is_some()) {
            if let Some(other) = readers.insert(view.oid, table) {
                pairs.push((other.clone(), table.clone()));
            }
        }
    }
    let mut all: Vec<BTreeSet<QName>> = draft
        .retypes
        .keys()
        .map(|name| BTreeSet::from([name.clone()]))
        .collect();
    for (one, other) in &pairs {
        let (with, without): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|tables| tables.contains(one) || tables.contains(other));
        all = without;
        all.push(with.into_iter().flatten().collect());
    }
    all.sort();
    all.into_iter()
        .map(|tables| tables.into_iter().collect())
        .collect()
}

/// The swap of these tables, with the foreign keys that reference their columns and the locks of all
/// in one order, and the steps after it.
pub(in crate::plan) fn join(
    draft: &Draft<'_>,
    probed: &Probed,
    tables: &[QName],
    swap: Step,
) -> Vec<Step> {
    let mut keys = inbound(draft);
    keys.retain(|key| tables.contains(&key.to.name));
    let mut all = swap;
    if keys.is_empty() && tables.len() == 1 {
        return vec![all];
    }
    let mut locked: BTreeSet<&QName> = tables.iter().collect();
    for key in &keys {
        // A partition is locked with its table.
        if !tables.contains(&key.top.name) {
            locked.insert(&key.table.name);
        }
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
    let mode = LockMode::AccessExclusive;
    let lock = lock_all(&locked.into_iter().map(|name| (name, mode)).collect());
    let parts = |key: &Inbound<'_>| {
        let name = (key.table.name.clone(), key.constraint.name.clone());
        probed.keys.get(&name).map_or(&[][..], Vec::as_slice)
    };
    let places = |side| {
        let places = keys.iter().map(move |key| key.take_place(side, parts(key)));
        places.flatten()
    };
    let gone = |side| keys.iter().flat_map(move |key| key.give_way(side));
    if let Work::Sql { statements } = &mut all.work {
        lock_first(statements, &lock, gone(Side::New));
        statements.extend(places(Side::New));
    }
    let early = || keys.iter().filter(|key| !key.is_late());
    let locks = all.locks.clone();
    if let Undo::Steps { steps, .. } = &mut all.undo
        && let Some(at) = steps.iter().rposition(is_swap)
    {
        let back = &mut steps[at];
        for lock in locks {
            add_lock(&mut back.locks, lock);
        }
        if let Work::Sql { statements } = &mut back.work {
            lock_first(statements, &lock, gone(Side::Old));
            statements.extend(places(Side::Old));
            // The index of a primary key is gone, and what referenced it with it.
            for key in early().filter(|key| !key.by_leaves()) {
                statements.push(key.add_sql(Side::New));
                statements.extend(key.turn(&key.aid(Side::New), false));
            }
        }
        let rest = steps.split_off(at + 1);
        for key in &keys {
            if key.is_late() {
                steps.extend(key.after_swap(Phase::Revert, parts(key)));
            } else if key.by_leaves() {
                steps.extend(key.dress_leaves(Side::New, Phase::Revert));
            } else if key.constraint.validated {
                steps.push(key.validate(&key.aid(Side::New), Phase::Revert));
            }
        }
        steps.extend(rest);
        let old = early().flat_map(|key| key.dress(Side::Old, Phase::Revert));
        steps.splice(at..at, old);
    }
    let mut others: Vec<String> = keys
        .iter()
        .map(|key| format!("{} of {}", key.constraint.name, key.table.name))
        .collect();
    others.sort();
    let late = || keys.iter().filter(|key| key.is_late());
    all.notes.extend(late().filter_map(|key| key.stays()));
    if !others.is_empty() {
        all = all.note(format!(
            "foreign keys go over to the new type with it: {}",
            others.join(", ")
        ));
    }
    let mut steps = vec![all];
    for key in late() {
        let mut after = key.after_swap(Phase::Contract, parts(key));
        if let Some(step) = after.first_mut() {
            step.notes.push(format!(
                "made anew in the swap, as the key of a partitioned table is: it holds from then \
                 on, and this reads the rows of {} once more",
                key.table.name
            ));
        }
        steps.extend(after);
    }
    steps
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

/// Adds a lock that is not there yet.
pub(in crate::plan::retype) fn add_lock(locks: &mut Vec<LockOn>, lock: LockOn) {
    if !locks.contains(&lock) {
        locks.push(lock);
    }
}
