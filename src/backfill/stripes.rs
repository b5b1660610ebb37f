//! Striped scans: a window of blocks is done in several passes, each over the rows whose TID has
//! one of as many hashes, so that the new versions of a pass find room in the block where the pass
//! before left dead ones.
//!
//! PostgreSQL prunes dead versions of a block when a query meets it nearly full, and an UPDATE
//! whose new version stays in the block, and that changes no indexed column, writes no index entry
//! (PostgreSQL docs, "Heap-Only Tuples"). Both need the pass before to be committed and older than
//! every snapshot: [`Window::advance`] is told where one holds that back.

use serde::{Deserialize, Serialize};

/// No backfill has more passes.
pub const MOST_STRIPES: u16 = 64;

/// How a scan is striped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stripes {
    /// Passes over a window: a power of two, from 2 to [`MOST_STRIPES`].
    pub count: u16,
    /// Blocks of a window.
    pub window: i64,
}

/// The rows of one pass: those with `hashtid(ctid) & (count - 1) = number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stripe {
    /// A power of two.
    pub count: u16,
    /// In `0..count`.
    pub number: u16,
}

impl Stripe {
    /// The two parameters of a chunk's statement: the mask and the number, as text.
    pub fn params(self) -> [String; 2] {
        [(self.count - 1).to_string(), self.number.to_string()]
    }
}

/// A part of a range that is done in passes: all of its blocks in one before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First block.
    pub lo: i64,
    /// One past the last block.
    pub hi: i64,
    count: u16,
    done: u16,
    /// The pass at hand takes all rows that are left.
    rest: bool,
}

impl Window {
    /// The window that begins at block `next` of a range that ends before block `end`. Without
    /// stripes it is the whole range, in one pass; while a snapshot holds pruning back (`held`), it
    /// is one pass too, as more would only read the blocks again.
    pub fn new(stripes: Option<Stripes>, next: i64, end: i64, held: bool) -> Self {
        let stripes = stripes.filter(|s| s.count > 1);
        Self {
            lo: next,
            hi: stripes.map_or(end, |s| end.min(next.saturating_add(s.window.max(1)))),
            count: stripes.map_or(1, |s| s.count),
            done: 0,
            rest: held || stripes.is_none(),
        }
    }

    /// The rows of the pass at hand; all that still need work where `None`.
    pub fn stripe(&self) -> Option<Stripe> {
        (!self.rest).then_some(Stripe {
            count: self.count,
            number: self.done,
        })
    }

    /// True where nothing of the window is left after the pass at hand.
    pub fn last(&self) -> bool {
        self.rest || self.done + 1 == self.count
    }

    /// Ends the pass at hand; false where it was the last. Where a snapshot holds back the pruning
    /// of what this pass left, one more pass takes all rows that are left.
    pub fn advance(&mut self, held: bool) -> bool {
        if self.last() {
            return false;
        }
        self.done += 1;
        self.rest = held;
        true
    }

    /// The first block that is not done when the pass at hand has been committed below block `end`.
    /// An earlier pass leaves rows in every block: what is taken up again after a stop begins with
    /// the window, and finds those that are done not to need work.
    pub fn done_below(&self, end: i64) -> i64 {
        if self.last() { end } else { self.lo }
    }

    /// Blocks of the window that count as done then, for a display.
    pub fn covered(&self, end: i64) -> i64 {
        let passes = if self.rest { self.done + 1 } else { self.count };
        (i64::from(self.done) * (self.hi - self.lo) + (end - self.lo)) / i64::from(passes)
    }
}

/// Where transaction ids stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// The next one.
    pub next: i64,
    /// The oldest that a session, a prepared transaction or a slot still looks at.
    pub oldest: i64,
}

impl Horizon {
    /// True where what was committed since `then` cannot be pruned yet, from its first row on.
    pub fn holds_back_since(self, then: Self) -> bool {
        self.oldest < then.next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOUR: Option<Stripes> = Some(Stripes {
        count: 4,
        window: 10,
    });

    /// Walks a range as the executor does, with a stop after `stop` chunks; gives what was met, as
    /// (block, hash of 64) pairs, and where it would go on.
    fn walk(
        stripes: Option<Stripes>,
        from: i64,
        end: i64,
        chunk: i64,
        held: &[bool],
        stop: usize,
    ) -> (Vec<(i64, u16)>, i64) {
        let (mut met, mut next, mut chunks) = (Vec::new(), from, 0);
        let mut held = held.iter().copied().cycle();
        let mut now = false;
        let mut at = from;
        while at < end {
            let mut window = Window::new(stripes, at, end, now);
            loop {
                let mut block = window.lo;
                while block < window.hi {
                    if chunks == stop {
                        return (met, next);
                    }
                    let to = (block + chunk).min(window.hi);
                    for b in block..to {
                        met.extend((0..64).filter_map(|hash| {
                            window
                                .stripe()
                                .is_none_or(|s| hash & (s.count - 1) == s.number)
                                .then_some((b, hash))
                        }));
                    }
                    next = window.done_below(to);
                    assert!((window.lo..=window.hi).contains(&next));
                    block = to;
                    chunks += 1;
                }
                now = held.next().unwrap_or(false);
                if !window.advance(now) {
                    break;
                }
            }
            at = window.hi;
        }
        (met, next)
    }

    proptest! {
        #[test]
        fn every_row_is_met_and_without_a_hold_once(
            power in 0_u32..=6,
            window in 1_i64..40,
            end in 0_i64..150,
            chunk in 1_i64..20,
            held in proptest::collection::vec(any::<bool>(), 1..9),
        ) {
            let stripes = Some(Stripes { count: 1 << power, window });
            for held in [&held[..], &[false]] {
                let (mut met, next) = walk(stripes, 0, end, chunk, held, usize::MAX);
                prop_assert_eq!(next, end);
                let all = met.len();
                met.sort_unstable();
                met.dedup();
                prop_assert_eq!(met.len(), end as usize * 64);
                if held == [false] {
                    prop_assert_eq!(all, met.len());
                }
            }
        }

        #[test]
        fn a_stop_and_a_resume_miss_nothing(
            power in 0_u32..=6,
            window in 1_i64..40,
            end in 1_i64..150,
            chunk in 1_i64..20,
            stop in 0_usize..400,
            held in proptest::collection::vec(any::<bool>(), 1..9),
        ) {
            let stripes = Some(Stripes { count: 1 << power, window });
            let (mut met, next) = walk(stripes, 0, end, chunk, &held, stop);
            let (again, end_at) = walk(stripes, next, end, chunk, &held, usize::MAX);
            prop_assert!(next <= end);
            prop_assert_eq!(end_at, end);
            met.extend(again);
            met.sort_unstable();
            met.dedup();
            prop_assert_eq!(met.len(), end as usize * 64);
        }

        #[test]
        fn what_is_shown_as_done_only_grows(held in proptest::collection::vec(any::<bool>(), 4)) {
            let mut window = Window::new(FOUR, 20, 100, false);
            let mut before = 0;
            for held in held {
                for end in window.lo..=window.hi {
                    let now = window.covered(end);
                    prop_assert!(now >= before);
                    before = now;
                }
                if !window.advance(held) {
                    break;
                }
            }
            prop_assert_eq!(before, 10);
        }
    }

    #[test]
    fn a_snapshot_that_holds_pruning_back_ends_the_striping_of_a_window() {
        let mut window = Window::new(FOUR, 0, 100, false);
        assert_eq!(window.stripe().map(|s| s.number), Some(0));
        assert_eq!(window.done_below(7), 0);
        assert!(window.advance(true));
        assert_eq!(window.stripe(), None);
        assert_eq!(window.done_below(7), 7);
        assert!(!window.advance(false));
        // The next one is not begun in stripes while it is so.
        assert!(Window::new(FOUR, 10, 100, true).last());
    }

    #[test]
    fn without_stripes_a_range_is_one_window() {
        let window = Window::new(None, 3, 1000, false);
        assert_eq!((window.lo, window.hi), (3, 1000));
        assert!(window.last());
        assert_eq!((window.stripe(), window.covered(10)), (None, 7));
    }

    #[test]
    fn the_first_row_of_a_pass_has_to_be_prunable() {
        let begun = Horizon {
            next: 100,
            oldest: 90,
        };
        let now = |oldest| Horizon { next: 200, oldest };
        assert!(now(99).holds_back_since(begun));
        assert!(!now(100).holds_back_since(begun));
    }
}
