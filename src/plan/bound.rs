//! What taking a table of the file back locks besides it: the tables that the file binds it to.
//!
//! The catalog knows nothing of the foreign keys and parents of a table that is not there yet, and
//! a key may come in a later statement than its table.

use std::collections::{BTreeMap, BTreeSet};

use super::forms;
use super::step::{Step, Undo, Work};
use crate::catalog::Catalog;
use crate::lock::{LockMode, LockOn};
use crate::sql::ddl::{Action, AlterOpKind, RelName, understand};

/// What a new table is bound to.
#[derive(Default)]
struct Ties {
    /// Tables that its foreign keys reference.
    keys: BTreeSet<RelName>,
    /// The table that it is a partition of, and those whose foreign keys it has besides.
    parents: BTreeSet<RelName>,
}

/// Adds these locks to the ways back of the steps that make tables: dropping a foreign key drops
/// its triggers on the other table, and dropping a partition changes its parent.
pub(super) fn add_locks(steps: &mut [Step], catalog: &Catalog) {
    let full = |name: &RelName| {
        forms::table(catalog, name).map_or_else(
            || forms::created(catalog, name),
            |table| RelName::from(&table.name),
        )
    };
    let mut new: BTreeMap<RelName, Ties> = BTreeMap::new();
    for step in &*steps {
        let Work::Sql { statements } = &step.work else {
            continue;
        };
        for sql in statements {
            match understand(sql) {
                Action::CreateTable {
                    name,
                    references,
                    partition_of,
                    ..
                } => {
                    let ties = new.entry(full(&name)).or_default();
                    ties.keys.extend(references.iter().map(full));
                    ties.parents.extend(partition_of.iter().map(full));
                }
                Action::AlterTable { name, ops, .. } => {
                    let Some(ties) = new.get_mut(&full(&name)) else {
                        continue;
                    };
                    let keys = ops.into_iter().flat_map(|op| match op.kind {
                        AlterOpKind::AddColumn(def) => def
                            .constraints
                            .into_iter()
                            .filter_map(|c| c.references)
                            .collect(),
                        AlterOpKind::AddConstraint(def) => def.references.into_iter().collect(),
                        _ => Vec::new(),
                    });
                    ties.keys.extend(keys.map(|name| full(&name)));
                }
                _ => {}
            }
        }
    }
    for step in steps {
        let Work::Sql { statements } = &step.work else {
            continue;
        };
        let Some(Action::CreateTable { name, .. }) = statements.first().map(|s| understand(s))
        else {
            continue;
        };
        let bound = bound(&full(&name), &new);
        if let Undo::Steps { steps, .. } = &mut step.undo {
            for undo in steps {
                for table in &bound {
                    let lock = LockOn {
                        relation: Some(table.clone()),
                        mode: LockMode::AccessExclusive,
                    };
                    if !undo.locks.contains(&lock) {
                        undo.locks.push(lock);
                    }
                }
            }
        }
    }
}

/// All that a new table is bound to; a partition has the foreign keys of its parents.
fn bound(table: &RelName, new: &BTreeMap<RelName, Ties>) -> BTreeSet<RelName> {
    let mut all = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![table.clone()];
    while let Some(name) = open.pop() {
        let Some(ties) = new.get(&name).filter(|_| seen.insert(name.clone())) else {
            continue;
        };
        all.extend(ties.keys.iter().chain(&ties.parents).cloned());
        open.extend(ties.parents.iter().cloned());
    }
    all.remove(table);
    all
}
