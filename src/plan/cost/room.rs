//! Where new row versions go: what stays in its block, and what of the room of dead versions is
//! taken again.

use super::{Bytes, Facts};

/// Header of a page (`PageHeaderData`).
const PAGE: f64 = 24.0;
/// A line pointer (`ItemIdData`). That of a dead version stays until VACUUM, as indexes point to
/// it.
const POINTER: f64 = 4.0;
/// Room that is left in the pages of an index in the heap's order, as a share of its entries:
/// they are filled to nine tenths (`fillfactor` of btrees), and a little more goes in before a page
/// is split, as entries of dead versions are taken out first (documentation: "Bottom-up Index
/// Deletion"). Measured: an eighth of entries more in one pass split few pages, a quarter all
/// (`docs/benchmarks/results.md`: `int0`, eight stripes and four).
const ROOM: f64 = 0.15;

impl Facts {
    /// Bytes of an old version with its line pointer, by the table's density.
    pub(super) fn old(&self) -> f64 {
        let page = (self.server.block as f64 - PAGE).max(1.0);
        self.fill.clamp(0.1, 1.0) * page * self.blocks() / self.all().max(1.0)
    }

    /// Passes over each block.
    pub(super) fn passes(&self) -> f64 {
        self.stripes.map_or(1.0, |s| f64::from(s.count.max(1)))
    }

    /// The share of new versions that find room in their own page, and so need no index entry
    /// (documentation: "Heap-Only Tuples").
    ///
    /// What `fillfactor` left free serves any walk; in full pages there is nothing. Of `m` passes
    /// each but the first has the room of the old versions of the pass before, but not their line
    /// pointers: where a row gets wider, fewer fit than were there.
    pub(super) fn hot(&self) -> f64 {
        let (old, new) = (self.old(), self.version().max(1.0));
        let fill = self.fill.clamp(0.1, 1.0);
        let left = (1.0 - fill) / fill * old / new;
        (left + (1.0 - 1.0 / self.passes()) * self.again(POINTER)).clamp(0.0, 1.0)
    }

    /// The share of new versions that the room of as many old ones takes, each without `lost`
    /// bytes.
    fn again(&self, lost: f64) -> f64 {
        ((self.old() - lost) / self.version().max(1.0)).clamp(0.0, 1.0)
    }

    /// Of the versions that leave their block, the share that makes the file longer. With a VACUUM
    /// after each `p` of the table, the first `p` has nowhere else to go, and each later part has
    /// the room of the part before, line pointers and all.
    fn lengthens(&self) -> f64 {
        self.vacuum.map_or(1.0, |vacuum| {
            let first = f64::from(vacuum.percent.clamp(1, 100)) / 100.0;
            first + (1.0 - first) * (1.0 - self.again(0.0))
        })
    }

    /// What the heap grows by, TOAST included.
    pub(super) fn grown_heap(&self) -> Bytes {
        let row = self.version();
        let left = row * (1.0 - self.hot()) * self.lengthens();
        Bytes::new(
            self.changed() * (left + self.toast()),
            self.all() * (row + self.toast()),
        )
    }

    /// What the indexes grow by.
    pub(super) fn grown_indexes(&self) -> Bytes {
        if self.deletes {
            return Bytes::default();
        }
        let entries = self.changed() / self.all().max(1.0) * (1.0 - self.hot());
        // Entries in order come to each page in one go, and split it where they find no room.
        let at_once = entries.min(1.0 / self.passes());
        let split = if at_once > ROOM { 1.0 } else { entries };
        let of = |index: &super::Index| {
            let bytes = index.bytes.max(0) as f64;
            bytes * (entries + index.order() * (split - entries).max(0.0))
        };
        let there: f64 = self.indexes.iter().map(|i| i.bytes.max(0) as f64).sum();
        Bytes::new(self.indexes.iter().map(of).sum(), there * super::SPLIT)
    }
}
