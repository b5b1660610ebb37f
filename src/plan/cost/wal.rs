//! How much log a backfill writes.

use super::{Bytes, Facts, Index};

/// A record of `heap_update` beside the tuple: header 24, two block references 20 + 8, main data
/// 2 + 14, tuple header 5, less the 23 bytes of the tuple's header and the line pointer that are
/// not in it, and half of the alignment to 8 (`XLogRecord`, `XLogRecordBlockHeader`,
/// `xl_heap_update`, `xl_heap_header`).
const UPDATE: f64 = 50.0;
/// A record of `heap_delete` (`xl_heap_delete`), aligned.
const DELETE: f64 = 56.0;
/// A record of a btree insertion beside the entry (`xl_btree_insert`).
const INSERT: f64 = 48.0;
/// The smallest entry of an index.
const ENTRY: f64 = 16.0;
/// The checkpoint's row, the lock of the run's row, and COMMIT.
const CHUNK: f64 = 350.0;
/// Of VACUUM: pruned and frozen places, a row.
const VACUUM: f64 = 12.0;
/// Record of a page image beside the page.
const IMAGE: f64 = 30.0;
/// Rounds until the number of checkpoints is that of the log they make: it grows by less each time.
const ROUNDS: usize = 60;

/// The log of a backfill that takes about `seconds`.
///
/// - A record for each new version and each index entry.
/// - Each heap page once whole: it is changed in one go, after a checkpoint that came since it was
///   changed last. (Pages at the end of the file are new, so only their rows are written.)
/// - Index pages whole once for each time between two checkpoints in which they get an entry: of
///   `p` pages `p (1 - e^(-n/p))` get one of `n` entries that come in no order; in the heap's order
///   each page is met once. Between the two as the planner does, by the square of the correlation
///   (`cost_index` in `costsize.c`).
/// - At most: every row needs work, entries come in no order, and VACUUM changes each heap and index page once more, after
///   another checkpoint.
///
/// Without `wal_compression`, which makes pages smaller.
pub fn wal(facts: &Facts, seconds: f64) -> Bytes {
    let likely = of_rows(facts, facts.changed(), seconds, true);
    let all = of_rows(facts, facts.all(), seconds, false);
    let page = facts.server.block as f64 + IMAGE;
    let pages = facts.blocks() + facts.disk().heap.most as f64 / facts.server.block as f64;
    let index: f64 = facts.indexes.iter().map(|i| pages_of(facts, i.bytes)).sum();
    let images = if facts.server.full_pages {
        (pages + index) * page
    } else {
        0.0
    };
    Bytes::new(likely, all + images + facts.all() * VACUUM)
}

fn pages_of(facts: &Facts, bytes: i64) -> f64 {
    bytes.max(0) as f64 / facts.server.block.max(1) as f64
}

/// `ordered`: entries come in the order that the statistics tell.
fn of_rows(facts: &Facts, changed: f64, seconds: f64, ordered: bool) -> f64 {
    let entries_each = if facts.deletes {
        0.0
    } else {
        changed * (1.0 - facts.hot())
    };
    let row = if facts.deletes {
        DELETE
    } else {
        UPDATE + facts.version() + facts.toast()
    };
    let entry = |bytes: i64| INSERT + (bytes.max(0) as f64 / facts.all().max(1.0)).max(ENTRY);
    let of_entries = |index: &Index| entries_each * entry(index.bytes);
    let index_rows: f64 = facts.indexes.iter().map(of_entries).sum();
    let records = changed * row + index_rows;
    // At least the log's own share of chunks, which are as large as it lets them be.
    let chunks = records / super::CHUNK_WAL * CHUNK;
    let fixed = records + chunks;
    if !facts.server.full_pages {
        return fixed;
    }
    let page = facts.server.block as f64 + IMAGE;
    let fixed = fixed + facts.blocks().min(changed) * page;
    let images = |checkpoints: f64| -> f64 {
        let times = checkpoints.max(1.0);
        let of = |index: &Index| {
            let pages = pages_of(facts, index.bytes).max(1.0);
            let scattered = times * pages * (1.0 - (-entries_each / times / pages).exp());
            let order = index.correlation.clamp(-1.0, 1.0).powi(2);
            let order = if ordered { order } else { 0.0 };
            scattered + order * (pages.min(scattered) - scattered)
        };
        facts.indexes.iter().map(of).sum::<f64>().max(0.0) * page
    };
    // A checkpoint begins so that the log stays below max_wal_size while it is written (docs, "WAL
    // Configuration").
    let distance = (facts.server.max_wal as f64 / (1.0 + facts.server.completion)).max(page);
    let by_time = seconds / facts.server.checkpoint.max(1.0);
    let mut total = fixed;
    for _ in 0..ROUNDS {
        let next = fixed + images((total / distance).max(by_time));
        if next <= total {
            break;
        }
        total = next;
    }
    total
}
