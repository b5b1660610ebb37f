//! Whether the log between two checkpoints is too small for the backfill of a large table.

use super::{Facts, Index, Server, backfill};
use crate::backfill::Stripes;
use crate::catalog::QName;

/// From this much log on a backfill is worth a word: half a TiB.
const MUCH: i64 = 1 << 39;
/// No larger `max_wal_size` is advised: 256 GiB.
const MOST: i64 = 1 << 38;

/// A table as far as the log of a backfill depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Large {
    /// Which.
    pub name: QName,
    /// Rows by the last ANALYZE, at the size of today.
    pub rows: i64,
    /// Blocks of its heap.
    pub blocks: i64,
    /// Its indexes.
    pub indexes: Vec<Index>,
}

/// A backfill that writes most of its log because checkpoints come too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooOften {
    /// The table.
    pub name: QName,
    /// Log in bytes that a new `bigint` column takes to fill.
    pub wal: i64,
    /// A `max_wal_size` in bytes at which it is at most half of that, and the log then; none where
    /// none up to 256 GiB does.
    pub better: Option<(i64, i64)>,
    /// Indexes in no order, the bytes of all.
    pub scattered: i64,
}

/// The table of these whose backfill suffers most from the `max_wal_size` of the server, where one
/// writes half a TiB of log or more and an index in no order is why.
pub fn too_often(server: Server, tables: &[Large]) -> Option<TooOften> {
    let all = tables.iter().filter_map(|table| of(server, table));
    all.max_by_key(|found| found.wal)
}

fn of(server: Server, table: &Large) -> Option<TooOften> {
    let log = |max_wal: i64| {
        backfill(&facts(Server { max_wal, ..server }, table))
            .wal
            .likely
    };
    let wal = log(server.max_wal);
    let scattered: Vec<&Index> = table.indexes.iter().filter(|i| i.order() < 0.5).collect();
    if wal < MUCH || scattered.is_empty() || !server.full_pages {
        return None;
    }
    let next = |size: &i64| Some(size.saturating_mul(2)).filter(|size| *size <= MOST);
    let doubled = std::iter::successors(next(&server.max_wal), next);
    Some(TooOften {
        name: table.name.clone(),
        wal,
        better: doubled
            .map(|size| (size, log(size)))
            .find(|(_, less)| *less <= wal / 2),
        scattered: scattered.iter().map(|i| i.bytes).sum(),
    })
}

/// A backfill as it is done of a full table: a new `bigint`, in four stripes.
fn facts(server: Server, table: &Large) -> Facts {
    Facts {
        server,
        sample: None,
        rows: table.rows,
        blocks: table.blocks,
        indexes: table.indexes.clone(),
        fill: 1.0,
        new_columns: 1,
        deletes: false,
        by_blocks: true,
        stripes: Some(Stripes {
            count: 4,
            window: 256,
        }),
        vacuum: None,
        locked: true,
        batch: None,
        workers: 1,
        duty: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: i64 = 1 << 30;

    /// 500 million rows in 100 GiB with one more index beside the key.
    fn orders(correlation: f64) -> Large {
        let index = |bytes, correlation| Index { bytes, correlation };
        Large {
            name: QName::new("public", "orders"),
            rows: 500_000_000,
            blocks: 100 * GIB / 8192,
            indexes: vec![index(11 * GIB, 1.0), index(15 * GIB, correlation)],
        }
    }

    fn server(max_wal: i64) -> Server {
        Server {
            max_wal,
            ..Server::default()
        }
    }

    #[test]
    fn an_index_in_no_order_at_the_default() {
        let found = too_often(server(GIB), &[orders(0.0)]).expect("terabytes");
        assert!(found.wal > 1 << 40, "{found:?}");
        assert_eq!(found.scattered, 15 * GIB);
        let (size, less) = found.better.expect("a larger one helps");
        assert!(
            (16 * GIB..=64 * GIB).contains(&size) && less <= found.wal / 2,
            "{found:?}"
        );
        assert_eq!(too_often(server(2 * size), &[orders(0.0)]), None);
    }

    #[test]
    fn nothing_to_say_of_what_is_in_order_or_small() {
        let mut small = orders(0.0);
        small.rows /= 100;
        small.blocks /= 100;
        for index in &mut small.indexes {
            index.bytes /= 100;
        }
        let mut unlogged = server(GIB);
        unlogged.full_pages = false;
        assert_eq!(too_often(server(GIB), &[orders(-1.0), small]), None);
        assert_eq!(too_often(server(GIB), &[]), None);
        assert_eq!(too_often(unlogged, &[orders(0.0)]), None);
    }

    #[test]
    fn the_worst_of_several_and_no_size_that_nobody_has() {
        let mut larger = orders(0.1);
        larger.name = QName::new("public", "larger");
        larger.rows *= 50;
        larger.blocks *= 50;
        for index in &mut larger.indexes {
            index.bytes *= 50;
        }
        let found = too_often(server(GIB), &[orders(0.0), larger]).expect("terabytes");
        assert_eq!(found.name.name, "larger");
        assert_eq!(found.better, None);
    }
}
