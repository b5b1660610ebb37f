//! Which table comes first.

use std::collections::BTreeSet;

use super::{ForeignKey, Table};
use crate::catalog::QName;

/// The turn of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its place in the list.
    pub table: usize,
    /// Foreign keys (places in its list) whose columns stay null, because the other table comes
    /// later or is the table itself.
    pub left_null: BTreeSet<usize>,
}

/// The tables in an order in which foreign keys find their rows; then those that have none: (place,
/// why).
pub fn order(tables: &[Table]) -> (Vec<Turn>, Vec<(usize, String)>) {
    let mut turns: Vec<Turn> = Vec::new();
    let mut done: BTreeSet<&QName> = BTreeSet::new();
    let known: BTreeSet<&QName> = tables.iter().map(|t| &t.name).collect();
    let mut left: Vec<usize> = (0..tables.len()).collect();
    loop {
        let waits = |i: usize, key: &ForeignKey| {
            key.table == tables[i].name
                || (known.contains(&key.table) && !done.contains(&key.table))
        };
        // Tables that wait for none; else one whose waiting keys can stay null.
        let free = |i: usize, strict: bool| {
            tables[i].foreign_keys.iter().all(|key| {
                let itself = key.table == tables[i].name;
                !waits(i, key) || (itself || !strict) && nullable(&tables[i], key)
            })
        };
        let next = left
            .iter()
            .position(|&i| free(i, true))
            .or_else(|| left.iter().position(|&i| free(i, false)));
        let Some(at) = next else { break };
        let i = left.remove(at);
        let left_null = (0..tables[i].foreign_keys.len())
            .filter(|&k| waits(i, &tables[i].foreign_keys[k]))
            .collect();
        turns.push(Turn {
            table: i,
            left_null,
        });
        done.insert(&tables[i].name);
    }
    let stuck = left
        .into_iter()
        .map(|i| {
            let waits: Vec<String> = tables[i]
                .foreign_keys
                .iter()
                .filter(|key| !done.contains(&key.table) && !nullable(&tables[i], key))
                .map(|key| key.table.to_string())
                .collect();
            let why = format!(
                "its first row needs one of {} first, which cannot be filled before it",
                waits.join(", ")
            );
            (i, why)
        })
        .collect();
    (turns, stuck)
}

/// One null column is enough (MATCH SIMPLE).
fn nullable(table: &Table, key: &ForeignKey) -> bool {
    key.columns
        .iter()
        .any(|name| table.column(name).is_some_and(|c| !c.not_null))
}
