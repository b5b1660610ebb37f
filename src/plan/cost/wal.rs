//! How much log a backfill writes.

use super::{Bytes, Facts, Index};
use crate::backfill::chunk_aim;

/// A record of `heap_update` beside the tuple: header 24, two block references 20 + 8, main data
/// 2 + 14, tuple header 5, less the 23 bytes of the tuple's header and the line pointer that are
/// not in it, and half of the alignment to 8 (`XLogRecord`, `XLogRecordBlockHeader`,
/// `xl_heap_update`, `xl_heap_header`).
const UPDATE: f64 = 50.0;
/// The same for a new version in the page of the old one, beside the bytes in which the two
/// differ: one block reference, and the length of what is equal (`log_heap_update`).
const UPDATE_SAME: f64 = 72.0;
/// A record of a row lock (`xl_heap_lock`), aligned. `heap_update` writes one before it looks for
/// another page, and a trigger before the change has every row locked.
const LOCK: f64 = 56.0;
/// A record of `heap_delete` (`xl_heap_delete`), aligned.
const DELETE: f64 = 56.0;
/// A record of a btree insertion beside the entry (`xl_btree_insert`).
const INSERT: f64 = 48.0;
/// The smallest entry of an index.
const ENTRY: f64 = 16.0;
/// The part of an index that is entries and their line pointers (`fillfactor` of btrees).
const FULL: f64 = 0.9;
/// A line pointer.
const POINTER: f64 = 4.0;
/// The checkpoint's row, the lock of the run's row, and COMMIT.
const CHUNK: f64 = 350.0;
/// A record of pruning a page (`xl_heap_prune`), and what it says of each row: one or two item
/// numbers.
const PRUNE: f64 = 56.0;
const PRUNED: f64 = 4.0;
/// What VACUUM writes of each dead version: of its place in the heap, pruned and then free, and of
/// its entry in each index. Measured: 11 bytes with one index, 23 with three
/// (`docs/benchmarks/results.md`: `vacuum-5` beside `ctid-5k`).
const VACUUM: f64 = 5.0;
const VACUUM_ENTRY: f64 = 6.0;
/// Record of a page image beside the page.
const IMAGE: f64 = 30.0;
/// Rounds until the number of checkpoints is that of the log they make: it grows by less each time.
const ROUNDS: usize = 60;

/// The log of a backfill that takes about `seconds`.
///
/// - A record for each new version and each index entry. A version that stays in its page is
///   written without what is equal in the old one, and has no entry.
/// - Each heap page once whole where it is changed in one go, after a checkpoint that came since it
///   was changed last; with stripes, again for each two passes with a checkpoint between them.
///   (Pages at the end of the file are new, so only their rows are written.)
/// - Index pages whole once for each time between two checkpoints in which they get an entry: of
///   `p` pages `p (1 - e^(-n/p))` get one of `n` entries that come in no order; in the heap's order
///   each page is met as often as a heap page. Between the two by `Index::order`.
/// - VACUUM on the way: its records, and each heap page whole again when it is cleaned, and again
///   when its room is taken, where a checkpoint came between; index pages when they are cleaned.
/// - At most: every row needs work, no room is used again, entries come in no order, and VACUUM
///   changes each heap and index page once more, after another checkpoint.
///
/// Without `wal_compression`, which makes pages smaller.
pub fn wal(facts: &Facts, seconds: f64) -> Bytes {
    let likely = of_rows(facts, facts.changed(), seconds, true);
    let plain = Facts {
        stripes: None,
        vacuum: None,
        ..facts.clone()
    };
    let all = of_rows(&plain, facts.all(), seconds, false);
    let page = facts.server.block as f64 + IMAGE;
    let pages = facts.blocks() + facts.grown_heap().most as f64 / facts.server.block as f64;
    let index: f64 = facts.indexes.iter().map(|i| pages_of(facts, i.bytes)).sum();
    let images = if facts.server.full_pages {
        (pages + index) * page
    } else {
        0.0
    };
    Bytes::new(likely, all + images + facts.all() * vacuumed(facts))
}

/// Log between two checkpoints that it forces: one begins so that the log stays below
/// `max_wal_size` while it is written (documentation, "WAL Configuration").
pub(in crate::plan) fn distance(server: &super::Server) -> f64 {
    let page = server.block as f64 + IMAGE;
    (server.max_wal as f64 / (1.0 + server.completion)).max(page)
}

fn pages_of(facts: &Facts, bytes: i64) -> f64 {
    bytes.max(0) as f64 / facts.server.block.max(1) as f64
}

/// What VACUUM writes of a dead version.
fn vacuumed(facts: &Facts) -> f64 {
    VACUUM + VACUUM_ENTRY * facts.indexes.len() as f64
}

/// Records of the heap, in bytes.
fn of_heap(facts: &Facts, changed: f64) -> f64 {
    if facts.deletes {
        return changed * DELETE;
    }
    let (stays, version) = (facts.hot(), facts.version());
    let differs = if facts.server.logical || facts.new_columns == 0 {
        version
    } else {
        (version - facts.old()).max(super::VALUE)
    };
    let locked = if facts.locked { LOCK } else { 0.0 };
    let moves = LOCK + UPDATE + version;
    let row = locked + stays * (UPDATE_SAME + differs) + (1.0 - stays) * moves + facts.toast();
    let prunes = facts.passes() - 1.0;
    let pruned = facts.blocks().min(changed) * prunes * PRUNE + changed * PRUNED * prunes.min(1.0);
    changed * row + pruned
}

/// `ordered`: entries come in the order that the statistics tell.
fn of_rows(facts: &Facts, changed: f64, seconds: f64, ordered: bool) -> f64 {
    let entries_each = if facts.deletes {
        0.0
    } else {
        changed * (1.0 - facts.hot())
    };
    let entry = |bytes: i64| {
        let each = bytes.max(0) as f64 * FULL / facts.all().max(1.0) - POINTER;
        INSERT + each.max(ENTRY)
    };
    let of_entries = |index: &Index| entries_each * entry(index.bytes);
    let index_rows: f64 = facts.indexes.iter().map(of_entries).sum();
    let records = of_heap(facts, changed) + index_rows;
    // At least the log's own share of chunks, which are as large as it lets them be.
    let chunks = records / chunk_aim(None, facts.duty).wal as f64 * CHUNK;
    let cleaned = facts.vacuum.map_or(0.0, |_| changed * vacuumed(facts));
    let fixed = records + chunks + cleaned;
    if !facts.server.full_pages {
        return fixed;
    }
    let page = facts.server.block as f64 + IMAGE;
    let images = |checkpoints: f64| -> f64 {
        let met = times_met(facts, checkpoints);
        let (intervals, apart) = facts
            .vacuum
            .map_or((0.0, 0.0), |v| apart(f64::from(v.percent), checkpoints));
        let heap = facts.blocks().min(changed) * (met + 2.0 * apart);
        let times = checkpoints.max(1.0);
        let of = |index: &Index| {
            let pages = pages_of(facts, index.bytes).max(1.0);
            let touched =
                |times: f64| times * pages * (1.0 - (-entries_each / times / pages).exp());
            let scattered = touched(times);
            let order = if ordered { index.order() } else { 0.0 };
            let cleaned = if intervals > 0.0 {
                (1.0 - order) * touched(intervals) + order * pages.min(entries_each)
            } else {
                0.0
            };
            let in_order = (pages * met).min(scattered);
            scattered + order * (in_order - scattered) + apart * cleaned
        };
        let indexes: f64 = facts.indexes.iter().map(of).sum();
        (heap + indexes.max(0.0)) * page
    };
    let distance = distance(&facts.server);
    let by_time = seconds / facts.server.checkpoint.max(1.0);
    let mut total = fixed + images(0.0);
    for _ in 0..ROUNDS {
        let next = fixed + images((total / distance).max(by_time));
        if next <= total {
            break;
        }
        total = next;
    }
    total
}

/// How often a page is written whole by the passes over its window: once, and again where a
/// checkpoint comes between two of them. `checkpoints` are those of the whole backfill; the windows
/// of all workers are done at once.
fn times_met(facts: &Facts, checkpoints: f64) -> f64 {
    let Some(stripes) = facts.stripes else {
        return 1.0;
    };
    let passes = facts.passes();
    let at_once = stripes.window.max(1) as f64 * f64::from(facts.workers.max(1));
    let in_window = checkpoints * (at_once / facts.blocks().max(1.0)).min(1.0);
    (1.0 + (1.0 - 1.0 / passes) * in_window).min(passes)
}

/// Intervals between VACUUMs after each `percent` of the table, and the chance that a checkpoint
/// comes between a page's change, which is anywhere in one, and its end.
fn apart(percent: f64, checkpoints: f64) -> (f64, f64) {
    let intervals = 100.0 / percent.clamp(1.0, 100.0);
    let each = checkpoints / intervals;
    let chance = if each <= 1.0 {
        each / 2.0
    } else {
        1.0 - 0.5 / each
    };
    (intervals, chance)
}
