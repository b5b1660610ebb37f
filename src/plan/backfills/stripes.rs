//! Whether a backfill's scan is striped, and how: a function of facts.

use crate::backfill::Stripes;
use crate::catalog::Table;
use crate::plan::cost::{self, fillfactor};

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
/// Part of the log between two checkpoints that the windows of all workers may write: a page that
/// is changed by a pass after a checkpoint is written whole again.
const LOG_SHARE: f64 = 4.0;

/// What the decision looks at.
pub(super) struct Facts<'a> {
    pub(super) table: &'a Table,
    /// `shared_buffers` in blocks, where it is known.
    pub(super) buffers: Option<i64>,
    /// What one pass costs.
    pub(super) cost: &'a cost::Facts,
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
    let window = Window::of(facts);
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
    if count < 2 {
        return Ok(plain(Some("a block has few rows")));
    }
    Ok(if window.saves(count, facts.cost) {
        striped(count, window, why)
    } else {
        plain(Some(
            "checkpoints come more often than a window is done, so each pass would write its pages \
             to the log whole; a larger max_wal_size or fewer workers change that",
        ))
    })
}

fn striped(count: u16, window: Window, why: &str) -> Choice {
    let Window { blocks, bound } = window;
    Choice {
        stripes: Some(Stripes {
            count,
            window: blocks,
        }),
        reason: Some(format!(
            "in {count} stripes over each {blocks} blocks{bound}: {why}"
        )),
    }
}

/// A window, and what its size is for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Window {
    blocks: i64,
    /// What kept it small, in words.
    bound: &'static str,
}

impl Window {
    /// As large as memory and the log between two checkpoints allow.
    fn of(facts: &Facts<'_>) -> Self {
        let cost = facts.cost;
        let workers = i64::from(cost.workers.max(1));
        let by_memory = facts.buffers.unwrap_or(USUAL_BUFFERS) / SHARE / workers;
        // Of one pass, which writes more than stripes do.
        let of_block = cost::backfill(cost).wal.likely as f64 / cost.blocks.max(1) as f64;
        let by_log = cost::distance(&cost.server) / LOG_SHARE / of_block.max(1.0);
        let by_log = by_log as i64 / workers;
        let bound = if by_memory.min(by_log) >= MOST_WINDOW {
            ""
        } else if by_log < by_memory && cost.server.full_pages {
            ", as many as are done between two checkpoints of this max_wal_size"
        } else {
            ", as many as stay in shared_buffers"
        };
        let blocks = if cost.server.full_pages {
            by_memory.min(by_log)
        } else {
            by_memory
        };
        Self {
            blocks: blocks.clamp(LEAST_WINDOW, MOST_WINDOW),
            bound,
        }
    }

    /// True where so many stripes write less log than one pass.
    fn saves(self, count: u16, one_pass: &cost::Facts) -> bool {
        let striped = cost::Facts {
            stripes: Some(Stripes {
                count,
                window: self.blocks,
            }),
            ..one_pass.clone()
        };
        cost::backfill(&striped).wal.likely < cost::backfill(one_pass).wal.likely
    }
}

/// The largest power of two that is not above `n`, at most 64; 1 for less than 2.
fn power_below(n: i64) -> u16 {
    let n = u16::try_from(n.clamp(1, 64)).unwrap_or(1);
    1 << n.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{column, index, table};

    /// One pass over a million rows in 12,000 blocks of a server with its defaults.
    fn one_pass() -> cost::Facts {
        cost::Facts {
            server: cost::Server::default(),
            sample: None,
            rows: 1_000_000,
            blocks: 12_000,
            indexes: vec![cost::Index {
                bytes: 22 << 20,
                correlation: 1.0,
            }],
            fill: 1.0,
            new_columns: 1,
            deletes: false,
            by_blocks: true,
            stripes: None,
            vacuum: None,
            locked: true,
            batch: None,
            workers: 1,
            duty: 0.5,
        }
    }

    /// The same where a checkpoint comes for so many MiB, of as many workers.
    fn checkpoints(max_wal_mib: i64, workers: u16) -> cost::Facts {
        let mut cost = one_pass();
        cost.server.max_wal = max_wal_mib << 20;
        cost.workers = workers;
        cost
    }

    fn facts<'a>(table: &'a Table, cost: &'a cost::Facts) -> Facts<'a> {
        Facts {
            table,
            buffers: None,
            cost,
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
        let cost = one_pass();
        let mut orders = orders();
        assert_eq!(count(&facts(&orders, &cost)), 4);
        for name in ["a", "b"] {
            orders.indexes.push(index("orders", name, &["id"], false));
        }
        assert_eq!(count(&facts(&orders, &cost)), 8);
        // Five rows a block.
        orders.rows = 60_000;
        orders.leaves[0].rows = 60_000;
        assert_eq!(count(&facts(&orders, &cost)), 2);
        orders.leaves[0].rows = 30_000;
        assert_eq!(count(&facts(&orders, &cost)), 1);
        orders.leaves[0].rows = 0;
        assert_eq!(count(&facts(&orders, &cost)), 8, "not known");
        orders.settings.options = vec!["autovacuum_enabled=off".into(), "fillfactor=50".into()];
        assert_eq!(count(&facts(&orders, &cost)), 1);
        assert_eq!(
            count(&Facts {
                wanted: Some(16),
                ..facts(&orders, &cost)
            }),
            16
        );
    }

    #[test]
    fn small_tables_have_nothing_to_say() {
        let cost = one_pass();
        let mut orders = orders();
        orders.leaves[0].blocks = SMALL - 1;
        let nothing = Choice {
            stripes: None,
            reason: None,
        };
        assert_eq!(choose(&facts(&orders, &cost)), Ok(nothing));
        assert_eq!(
            count(&Facts {
                wanted: Some(2),
                ..facts(&orders, &cost)
            }),
            2
        );
    }

    #[test]
    fn only_where_a_row_that_is_done_is_known() {
        let cost = one_pass();
        let orders = orders();
        let unable = Facts {
            able: false,
            ..facts(&orders, &cost)
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
            ..facts(&orders, &cost)
        };
        assert!(choose(&wanted).is_err());
    }

    fn window(buffers: Option<i64>, cost: &cost::Facts) -> Window {
        let orders = orders();
        Window::of(&Facts {
            buffers,
            ..facts(&orders, cost)
        })
    }

    #[test]
    fn windows_fit_the_memory() {
        let (one, four) = (checkpoints(16 << 10, 1), checkpoints(16 << 10, 4));
        let buffers = ", as many as stay in shared_buffers";
        for (buffers, cost, blocks, bound) in [
            (None, &one, 2048, buffers),
            (Some(16), &one, LEAST_WINDOW, buffers),
            (Some(1 << 22), &one, MOST_WINDOW, ""),
            (None, &four, 512, buffers),
        ] {
            assert_eq!(window(buffers, cost), Window { blocks, bound });
        }
    }

    #[test]
    fn windows_are_done_between_two_checkpoints() {
        let seldom = window(Some(1 << 22), &checkpoints(1 << 10, 1));
        assert!((2_000..MOST_WINDOW).contains(&seldom.blocks), "{seldom:?}");
        assert!(seldom.bound.contains("max_wal_size"), "{seldom:?}");
        let often = window(Some(1 << 22), &checkpoints(64, 1));
        assert_eq!(often.blocks, LEAST_WINDOW);
        let mut no_pages = checkpoints(64, 1);
        no_pages.server.full_pages = false;
        assert_eq!(window(Some(1 << 22), &no_pages).blocks, MOST_WINDOW);
    }

    #[test]
    fn one_pass_where_passes_would_write_more() {
        let orders = orders();
        let usual = checkpoints(64, 1);
        assert_eq!(count(&facts(&orders, &usual)), 4);
        // Sixteen windows at once are more than the log between two checkpoints.
        let crowded = checkpoints(32, 16);
        let choice = choose(&facts(&orders, &crowded)).expect("can be had");
        assert_eq!(choice.stripes, None);
        let reason = choice.reason.expect("a reason");
        assert!(reason.contains("max_wal_size"), "{reason}");
        let wanted = Facts {
            wanted: Some(4),
            ..facts(&orders, &crowded)
        };
        assert_eq!(count(&wanted), 4, "the author knows better");
    }
}
