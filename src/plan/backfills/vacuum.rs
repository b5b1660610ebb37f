//! Whether a backfill has its table vacuumed on the way, and how often: a function of facts.

use std::collections::BTreeSet;

use super::stripes::{ROOMY, SMALL};
use crate::backfill::vacuum::Vacuum;
use crate::catalog::Table;
use crate::plan::cost::fillfactor;

/// Distances in percent of the table: with few indexes, and with more, as each VACUUM reads all of
/// them.
const OFTEN: u8 = 5;
const SELDOM: u8 = 10;

/// What the decision looks at.
pub(super) struct Facts<'a> {
    pub(super) table: &'a Table,
    /// Striped walks take the room of dead versions by themselves.
    pub(super) striped: bool,
    /// A DELETE writes nothing that could take the room.
    pub(super) deletes: bool,
    /// Leaves (oids) that the role may not vacuum.
    pub(super) barred: &'a BTreeSet<u32>,
    /// The author's word: a percentage, or 0 for none.
    pub(super) wanted: Option<u8>,
}

/// A decision with its reason; no reason where there is nothing to say.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) vacuum: Option<Vacuum>,
    pub(super) reason: Option<String>,
}

pub(super) fn choose(facts: &Facts<'_>) -> Choice {
    let leaves = &facts.table.leaves;
    let allowed = leaves.iter().all(|leaf| !facts.barred.contains(&leaf.oid));
    let every = |percent, why: &str| Choice {
        vacuum: Some(Vacuum { percent }),
        reason: Some(format!(
            "a VACUUM after each {percent} % of the table: {why}"
        )),
    };
    let none = |why: Option<&str>| Choice {
        vacuum: None,
        reason: why.map(|why| format!("no VACUUM on the way: {why}")),
    };
    let barred = "this role may not vacuum the table (its owner may; from PostgreSQL 17 on also \
                  whoever has MAINTAIN)";
    match facts.wanted {
        Some(0) => return none(Some("as the file says")),
        Some(_) if !allowed => return none(Some(barred)),
        Some(percent) => return every(percent, "as the file says"),
        None => {}
    }
    let largest = leaves.iter().map(|l| l.blocks).max();
    if facts.striped
        || facts.deletes
        || largest.unwrap_or(0) < SMALL
        || fillfactor(facts.table) <= ROOMY
    {
        return none(None);
    }
    if !allowed {
        return none(Some(barred));
    }
    match facts.table.indexes.len() {
        0 | 1 => every(OFTEN, "new versions take the room of dead ones"),
        _ => every(
            SELDOM,
            "new versions take the room of dead ones; it reads all indexes each time",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{column, index, table};

    static NONE: BTreeSet<u32> = BTreeSet::new();

    fn facts(table: &Table) -> Facts<'_> {
        Facts {
            table,
            striped: false,
            deletes: false,
            barred: &NONE,
            wanted: None,
        }
    }

    fn percent(facts: &Facts<'_>) -> u8 {
        choose(facts).vacuum.map_or(0, |v| v.percent)
    }

    #[test]
    fn by_indexes() {
        let mut orders = table("orders", vec![column("id", "bigint")]);
        assert_eq!(percent(&facts(&orders)), 5);
        for name in ["a", "b"] {
            orders.indexes.push(index("orders", name, &["id"], false));
        }
        assert_eq!(percent(&facts(&orders)), 10);
    }

    #[test]
    fn not_where_nothing_would_be_gained() {
        let mut orders = table("orders", vec![column("id", "bigint")]);
        for silent in [
            Facts {
                striped: true,
                ..facts(&orders)
            },
            Facts {
                deletes: true,
                ..facts(&orders)
            },
        ] {
            assert_eq!(choose(&silent).reason, None);
            assert_eq!(percent(&silent), 0);
            let wanted = Facts {
                wanted: Some(7),
                ..silent
            };
            assert_eq!(percent(&wanted), 7, "the author knows better");
        }
        orders.settings.options = vec!["fillfactor=50".into()];
        assert_eq!(percent(&facts(&orders)), 0);
        orders.settings.options.clear();
        orders.leaves[0].blocks = SMALL - 1;
        assert_eq!(percent(&facts(&orders)), 0);
    }

    #[test]
    fn not_without_the_right() {
        let orders = table("orders", vec![column("id", "bigint")]);
        let barred = BTreeSet::from([orders.leaves[0].oid]);
        for wanted in [None, Some(5)] {
            let barred = Facts {
                barred: &barred,
                wanted,
                ..facts(&orders)
            };
            let choice = choose(&barred);
            assert_eq!(choice.vacuum, None);
            assert!(choice.reason.is_some_and(|r| r.contains("may not vacuum")));
        }
    }

    #[test]
    fn off_is_off() {
        let orders = table("orders", vec![column("id", "bigint")]);
        let off = Facts {
            wanted: Some(0),
            ..facts(&orders)
        };
        assert_eq!(percent(&off), 0);
    }
}
