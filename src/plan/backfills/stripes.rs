//! Whether a backfill's scan is striped, and how: a function of facts.

use crate::backfill::Stripes;
use crate::catalog::Table;

/// A smaller table is not worth more than one pass: 8 MiB.
pub(super) const SMALL: i64 = 1024;
/// A fillfactor up to which each block has room for new versions of all its rows.
pub(super) const ROOMY: i64 = 50;
/// Blocks of a window: enough that the transactions of a busy database are over between two
/// passes, few enough to stay in memory and to be read again after a stop.
const LEAST_WINDOW: i64 = 256;
const MOST_WINDOW: i64 = 4096;
/// `shared_buffers` where it is not known: the server's default, 128 MiB.
const USUAL_BUFFERS: i64 = 16_384;
/// Part of `shared_buffers` that the windows of all workers may fill.
const SHARE: i64 = 8;

/// What the decision looks at.
pub(super) struct Facts<'a> {
    pub(super) table: &'a Table,
    /// `shared_buffers` in blocks, where it is known.
    pub(super) buffers: Option<i64>,
    pub(super) workers: u16,
    /// Each row is changed at most once however often it is met: by blocks, and only rows that
    /// still need work.
    pub(super) able: bool,
    /// The author's number of stripes.
    pub(super) wanted: Option<u16>,
}

/// A decision with its reason; no reason where there is nothing to say.
#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) stripes: Option<Stripes>,
    pub(super) reason: Option<String>,
}

/// Why stripes cannot be had though the author wants them: the reason, and the way out.
pub(super) type Refusal = (&'static str, &'static str);

pub(super) fn choose(facts: &Facts<'_>) -> Result<Choice, Refusal> {
    if facts.wanted.is_some_and(|count| count > 1) && !facts.able {
        return Err((
            "stripes need a walk by blocks of an UPDATE of new columns: a row that is met again \
             must be known to be done",
            "leave stripes out",
        ));
    }
    let window = window(facts.buffers, facts.workers);
    let plain = |reason: Option<&str>| Choice {
        stripes: None,
        reason: reason.map(|why| format!("in one pass: {why}")),
    };
    if let Some(count) = facts.wanted {
        return Ok(if count > 1 {
            striped(count, window, "as the file says")
        } else {
            plain(Some("as the file says"))
        });
    }
    let leaves = &facts.table.leaves;
    let largest = leaves.iter().map(|l| l.blocks).max().unwrap_or(0);
    if !facts.able || largest < SMALL {
        return Ok(plain(None));
    }
    if fillfactor(facts.table) <= ROOMY {
        return Ok(plain(Some(
            "the fillfactor leaves room in each block for new versions of all its rows",
        )));
    }
    let blocks: i64 = leaves.iter().map(|l| l.blocks).sum();
    let rows: i64 = leaves.iter().map(|l| l.rows).sum();
    let indexes = facts.table.indexes.len();
    let (count, why) = if indexes > 2 {
        (
            8,
            "each new version that stays in its block spares an entry in every index",
        )
    } else {
        (4, "new versions take the room of dead ones in their block")
    };
    // A stripe of a block should have a row or two; unknown (0 rows) is as usual.
    let count = match rows / blocks.max(1) {
        0 if rows == 0 => count,
        per_block => count.min(power_below(per_block / 2)),
    };
    Ok(if count > 1 {
        striped(count, window, why)
    } else {
        plain(Some("a block has few rows"))
    })
}

fn striped(count: u16, window: i64, why: &str) -> Choice {
    Choice {
        stripes: Some(Stripes { count, window }),
        reason: Some(format!(
            "in {count} stripes over each {window} blocks: {why}"
        )),
    }
}

fn window(buffers: Option<i64>, workers: u16) -> i64 {
    let buffers = buffers.unwrap_or(USUAL_BUFFERS);
    (buffers / SHARE / i64::from(workers.max(1))).clamp(LEAST_WINDOW, MOST_WINDOW)
}

/// The largest power of two that is not above `n`, at most 64; 1 for less than 2.
fn power_below(n: i64) -> u16 {
    let n = u16::try_from(n.clamp(1, 64)).unwrap_or(1);
    1 << n.ilog2()
}

/// The table's own `fillfactor`; partitions are taken to be as usual.
pub(super) fn fillfactor(table: &Table) -> i64 {
    let options = table.settings.options.iter();
    let mut values = options.filter_map(|o| o.strip_prefix("fillfactor="));
    values.next().and_then(|v| v.parse().ok()).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{column, index, table};

    fn facts(table: &Table) -> Facts<'_> {
        Facts {
            table,
            buffers: None,
            workers: 1,
            able: true,
            wanted: None,
        }
    }

    fn orders() -> Table {
        table("orders", vec![column("id", "bigint")])
    }

    fn count(facts: &Facts<'_>) -> u16 {
        choose(facts)
            .expect("can be had")
            .stripes
            .map_or(1, |s| s.count)
    }

    #[test]
    fn by_indexes_rows_and_room() {
        let mut orders = orders();
        assert_eq!(count(&facts(&orders)), 4);
        for name in ["a", "b"] {
            orders.indexes.push(index("orders", name, &["id"], false));
        }
        assert_eq!(count(&facts(&orders)), 8);
        // Five rows a block.
        orders.rows = 60_000;
        orders.leaves[0].rows = 60_000;
        assert_eq!(count(&facts(&orders)), 2);
        orders.leaves[0].rows = 30_000;
        assert_eq!(count(&facts(&orders)), 1);
        orders.leaves[0].rows = 0;
        assert_eq!(count(&facts(&orders)), 8, "not known");
        orders.settings.options = vec!["autovacuum_enabled=off".into(), "fillfactor=50".into()];
        assert_eq!(count(&facts(&orders)), 1);
        assert_eq!(
            count(&Facts {
                wanted: Some(16),
                ..facts(&orders)
            }),
            16
        );
    }

    #[test]
    fn small_tables_have_nothing_to_say() {
        let mut orders = orders();
        orders.leaves[0].blocks = SMALL - 1;
        let nothing = Choice {
            stripes: None,
            reason: None,
        };
        assert_eq!(choose(&facts(&orders)), Ok(nothing));
        assert_eq!(
            count(&Facts {
                wanted: Some(2),
                ..facts(&orders)
            }),
            2
        );
    }

    #[test]
    fn only_where_a_row_that_is_done_is_known() {
        let orders = orders();
        let unable = Facts {
            able: false,
            ..facts(&orders)
        };
        assert_eq!(count(&unable), 1);
        assert_eq!(
            count(&Facts {
                wanted: Some(1),
                ..unable
            }),
            1
        );
        let wanted = Facts {
            able: false,
            wanted: Some(4),
            ..facts(&orders)
        };
        assert!(choose(&wanted).is_err());
    }

    #[test]
    fn windows_fit_the_memory() {
        assert_eq!(window(None, 1), 2048);
        assert_eq!(window(Some(16), 1), LEAST_WINDOW);
        assert_eq!(window(Some(1 << 22), 1), MOST_WINDOW);
        assert_eq!(window(None, 4), 512);
    }
}
