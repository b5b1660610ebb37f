//! Tables that are swapped together, and what depends on the columns of any of them: dropped before
//! the first of them is swapped, and made again after the last, so that what depends on several is
//! made once, of all their new columns.

use std::collections::BTreeMap;

use super::super::dress::{Side, Swapped};
use crate::catalog::dependents::{Dependent, DependentKind};
use crate::lock::{LockMode, LockOn};
use crate::plan::build::lock_on;
use crate::plan::step::Relies;
use crate::sql::quote::qname;

/// Tables that are swapped in one transaction.
pub(in crate::plan) struct Joint<'d> {
    pub(super) tables: Vec<Swapped<'d>>,
    /// What depends on their columns, each once, in an order in which it can be made.
    pub(super) dependents: Vec<Dependent>,
}

/// All waits for the locks of this many relations beside one more are together no longer than one
/// try.
pub(super) fn share_lock_timeout(others: usize) -> String {
    format!(
        "SELECT set_config('lock_timeout', greatest(setting::bigint * 9 / {}, 1) || 'ms', true) \
         FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'",
        (others + 1) * 10
    )
}

/// What depends on the columns of several tables, each once, in an order in which it can be made.
///
/// What reads an object is in every list in which that is, by a longer way, so the longest way of
/// any list orders them all. A generated column that is added again comes first, as in each list.
pub fn merged<'a>(lists: impl Iterator<Item = &'a [Dependent]>) -> Vec<Dependent> {
    let key = |d: &Dependent| (d.kind, d.oid);
    let mut all: BTreeMap<_, (Dependent, Vec<_>)> = BTreeMap::new();
    for list in lists {
        for dependent in list {
            let (known, reads) = all
                .entry(key(dependent))
                .or_insert_with(|| (dependent.clone(), Vec::new()));
            known.depth = known.depth.max(dependent.depth);
            reads.extend(
                dependent
                    .reads
                    .iter()
                    .filter_map(|at| list.get(*at))
                    .map(key),
            );
        }
    }
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by_key(|(d, _)| (!d.is_added_again(), d.depth, d.oid));
    let places: BTreeMap<_, usize> = all
        .iter()
        .enumerate()
        .map(|(place, (d, _))| (key(d), place))
        .collect();
    all.into_iter()
        .map(|(mut dependent, mut reads)| {
            reads.sort_unstable();
            reads.dedup();
            dependent.reads = reads
                .iter()
                .filter_map(|r| places.get(r).copied())
                .collect();
            dependent
        })
        .collect()
}

impl<'d> Joint<'d> {
    /// Of these tables, in the order in which they are swapped.
    pub(in crate::plan) fn new(tables: Vec<Swapped<'d>>) -> Self {
        let dependents = merged(tables.iter().map(|t| t.answer.dependents.as_slice()));
        Self { tables, dependents }
    }

    /// The tables.
    pub(in crate::plan) fn tables(&self) -> &[Swapped<'d>] {
        &self.tables
    }

    /// Their names, for people.
    pub(super) fn names(&self) -> String {
        let names: Vec<String> = self
            .tables
            .iter()
            .map(|t| t.table.name.to_string())
            .collect();
        names.join(" and ")
    }

    /// The line of the file that it comes from.
    pub(in crate::plan::retype) fn line(&self) -> usize {
        self.tables.first().map_or(0, |t| t.line)
    }

    /// Locks on the tables.
    pub(in crate::plan::retype) fn locks(&self, mode: LockMode) -> impl Iterator<Item = LockOn> {
        self.tables.iter().map(move |t| t.lock(mode))
    }

    /// The statement that locks the tables.
    pub(super) fn lock_sql(&self) -> String {
        let names: Vec<String> = self.tables.iter().map(|t| qname(&t.table.name)).collect();
        format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", names.join(", "))
    }

    /// Drops what depends on the columns, the last first, so that views are locked in the order in
    /// which a query locks them, and before the tables. All waits for locks together are no longer
    /// than one try.
    ///
    /// Before that, `to` is the side to whose materialized views it may go over.
    pub(in crate::plan::retype) fn drop_dependents(&self, to: Side) -> Vec<String> {
        let mut sql = Vec::new();
        let others = self.dependents_locks().len();
        if others > 0 {
            sql.push(share_lock_timeout(others));
        }
        sql.extend(self.check_beside(to));
        let all = self.dependents.iter().rev();
        sql.extend(all.filter(|d| !d.drop.is_empty()).map(|d| d.drop.clone()));
        sql
    }

    /// Makes it again, or gives its place to what was made beside.
    pub(in crate::plan::retype) fn make_dependents(
        &self,
        to: Side,
    ) -> impl Iterator<Item = String> {
        let all = self.dependents.iter();
        all.flat_map(move |d| self.take_over(to, d).unwrap_or_else(|| d.create.clone()))
    }

    /// Locks on relations other than the tables that this takes.
    pub(in crate::plan::retype) fn dependents_locks(&self) -> Vec<LockOn> {
        let relations = self.dependents.iter().rev().filter_map(|d| {
            let relation = d.relation.as_ref()?;
            let own = self.tables.iter().any(|t| t.table.name == *relation);
            (!own).then_some(relation)
        });
        let mut all: Vec<LockOn> = Vec::new();
        for relation in relations {
            let lock = lock_on(relation, LockMode::AccessExclusive);
            if !all.contains(&lock) {
                all.push(lock);
            }
        }
        all
    }

    /// What the swap needs to be as it was in the plan, by table.
    pub(in crate::plan::retype) fn relies(&self, exactly: bool) -> Vec<Relies> {
        self.tables.iter().map(|t| t.relies(exactly)).collect()
    }

    /// What is dropped and made again, exchanged, or computed from the other column, for people.
    pub(in crate::plan::retype) fn dependents_note(&self) -> Vec<String> {
        let named = |kinds: &dyn Fn(DependentKind) -> bool, words: &str| {
            let all = self.dependents.iter().filter(|d| kinds(d.kind));
            let names: Vec<&str> = all.map(|d| d.what.as_str()).collect();
            (!names.is_empty()).then(|| format!("{words}: {}", names.join("; ")))
        };
        let special = |kind| {
            matches!(
                kind,
                DependentKind::MaterializedView | DependentKind::Generated
            )
        };
        [
            named(
                &|kind| !special(kind),
                "dropped and made again in the same transaction, with owner, rights, comments and \
                 options",
            ),
            named(
                &|kind| kind == DependentKind::MaterializedView,
                "the one that was filled beside takes the place of the old one, and is filled again \
                 before where that was refreshed meanwhile",
            ),
            named(
                &|kind| kind == DependentKind::Generated,
                if self.tables.iter().any(|t| t.writes_anew()) {
                    "computed from the other column in the same transaction, for which the table is \
                     written anew while nobody can use it"
                } else {
                    "computed from the other column in the same transaction"
                },
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
