//! Block ranges of a scan, and the low watermark derived from them.

use serde::{Deserialize, Serialize};

/// Part of a heap scan: the blocks `lo..hi`, of which those below `next` are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRange {
    /// First block.
    pub lo: i64,
    /// One past the last block.
    pub hi: i64,
    /// First block that is not done, in `lo..=hi`.
    pub next: i64,
}

impl BlockRange {
    /// True where every block is done.
    pub fn done(&self) -> bool {
        self.next >= self.hi
    }

    /// Blocks left.
    pub fn left(&self) -> i64 {
        (self.hi - self.next).max(0)
    }
}

/// Fewer blocks than this are not worth a worker of their own.
const SMALLEST_SHARE: i64 = 256;

/// Divides the blocks `0..blocks` into contiguous ranges for `workers` workers: several for each
/// worker, so that a slow part of the table does not leave one alone at the end.
pub fn split_blocks(blocks: i64, workers: u16) -> Vec<BlockRange> {
    let parts = if workers <= 1 {
        1
    } else {
        i64::from(workers) * 4
    };
    let parts = parts.min(blocks / SMALLEST_SHARE).max(1);
    (0..parts)
        .map(|n| {
            let lo = blocks * n / parts;
            BlockRange {
                lo,
                hi: blocks * (n + 1) / parts,
                next: lo,
            }
        })
        .collect()
}

/// The low watermark: every block below it is done, whatever the order in which workers finished.
/// `ranges` are those of one scan, in any order.
pub fn watermark(ranges: &[BlockRange]) -> i64 {
    let mut sorted = ranges.to_vec();
    sorted.sort_by_key(|r| r.lo);
    let mut low = 0;
    for range in sorted {
        if range.lo > low {
            break;
        }
        low = low.max(range.next);
        if !range.done() {
            break;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_split_covers_every_block_once(blocks in 0_i64..5_000_000, workers in 1_u16..16) {
            let ranges = split_blocks(blocks, workers);
            prop_assert_eq!(ranges[0].lo, 0);
            prop_assert_eq!(ranges.last().map(|r| r.hi), Some(blocks));
            for pair in ranges.windows(2) {
                prop_assert_eq!(pair[0].hi, pair[1].lo);
            }
        }

        #[test]
        fn nothing_below_the_watermark_is_open(
            blocks in 1_i64..100_000,
            workers in 1_u16..8,
            done in proptest::collection::vec(0.0_f64..=1.0, 32),
        ) {
            let mut ranges = split_blocks(blocks, workers);
            for (range, part) in ranges.iter_mut().zip(done) {
                range.next = range.lo + ((range.hi - range.lo) as f64 * part) as i64;
            }
            ranges.reverse();
            let low = watermark(&ranges);
            for range in &ranges {
                // Every open block of every range is at or above the watermark.
                prop_assert!(range.done() || range.next >= low);
            }
            let all = ranges.iter().all(BlockRange::done);
            prop_assert_eq!(low == blocks, all);
        }
    }

    #[test]
    fn a_missing_range_stops_the_watermark() {
        let ranges = [
            BlockRange {
                lo: 0,
                hi: 10,
                next: 10,
            },
            BlockRange {
                lo: 20,
                hi: 30,
                next: 30,
            },
        ];
        assert_eq!(watermark(&ranges), 10);
    }

    #[test]
    fn small_tables_get_one_range() {
        assert_eq!(split_blocks(100, 8).len(), 1);
        assert_eq!(
            split_blocks(0, 1),
            vec![BlockRange {
                lo: 0,
                hi: 0,
                next: 0
            }]
        );
    }
}
