//! What a backfill writes, how long it takes, and what it needs of the disk: formulae over facts.
//!
//! `docs/scale.md` has them in words, with what is measured and what is computed. Sizes of records
//! are those of PostgreSQL's sources (`access/xlogrecord.h`, `access/heapam_xlog.h`,
//! `access/nbtxlog.h`); when a whole page is written to the log, of the documentation ("WAL
//! Configuration", `full_page_writes`).

mod distance;
mod index;
mod known;
mod room;
mod totals;
mod wal;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backfill::vacuum::Vacuum;
use crate::backfill::{Stripes, chunk_aim};

pub use distance::{Large, TooOften, too_often};
pub(super) use index::build;
pub(super) use known::{facts, fillfactor};
pub use totals::Totals;
pub(super) use wal::distance;
pub use wal::wal;

/// What the server says of itself; the default is PostgreSQL's own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Server {
    /// `block_size` in bytes.
    pub block: i64,
    /// `max_wal_size` in bytes.
    pub max_wal: i64,
    /// `checkpoint_completion_target`.
    pub completion: f64,
    /// `checkpoint_timeout` in seconds.
    pub checkpoint: f64,
    /// `full_page_writes`.
    pub full_pages: bool,
    /// `wal_level` is `logical`: new versions are written whole.
    pub logical: bool,
    /// `maintenance_work_mem` in bytes.
    pub maintenance: i64,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            block: 8192,
            max_wal: 1 << 30,
            completion: 0.9,
            checkpoint: 300.0,
            full_pages: true,
            logical: false,
            maintenance: 64 << 20,
        }
    }
}

/// What was measured on real rows in a temporary copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Rows in the sample.
    pub rows: i64,
    /// Those of them that the statement changed.
    pub changed: i64,
    /// Those of the changed ones that got no value, so that the backfill will leave them as they
    /// are; `None` where that cannot be told.
    pub valueless: Option<i64>,
    /// The server's time for the statement, in seconds.
    pub seconds: f64,
    /// Bytes by which the copy's heap grew.
    pub heap: i64,
    /// Bytes by which its TOAST table grew.
    pub toast: i64,
}

/// Rows of a sample from which "all" is concluded: where none of them is without a value, at most
/// 0.3 % of all rows are, at 95 % confidence ([`crate::backfill::sample::at_most`]).
const ENOUGH: i64 = 1_000;

impl Sample {
    /// True where each row that the statement changes seems to get a value.
    pub fn all_get_values(&self) -> bool {
        self.valueless == Some(0) && self.changed >= ENOUGH
    }

    /// The share of rows that the backfill changes.
    fn share(&self) -> f64 {
        let changed = self.changed - self.valueless.unwrap_or(0);
        (changed.max(1) as f64 / self.rows.max(1) as f64).min(1.0)
    }

    fn each(&self, bytes: i64) -> f64 {
        bytes.max(0) as f64 / self.changed.max(1) as f64
    }
}

/// What a backfill's cost follows from.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The server.
    pub server: Server,
    /// The sample, where one could be measured.
    pub sample: Option<Sample>,
    /// Rows of the table.
    pub rows: i64,
    /// Blocks of its heap.
    pub blocks: i64,
    /// Its indexes.
    pub indexes: Vec<Index>,
    /// `fillfactor`, in `(0, 1]`.
    pub fill: f64,
    /// New columns that it fills: what a row grows by where nothing was measured.
    pub new_columns: usize,
    /// It deletes rows.
    pub deletes: bool,
    /// Walked in ranges of blocks.
    pub by_blocks: bool,
    /// Passes over each window of blocks, where dead versions can be pruned between two.
    pub stripes: Option<Stripes>,
    /// VACUUM on the way, where it can remove dead versions.
    pub vacuum: Option<Vacuum>,
    /// A row trigger comes before the change, for which the server locks each row first: the sync
    /// trigger too, though it is not run for chunks.
    pub locked: bool,
    /// Rows a chunk, where that is fixed.
    pub batch: Option<u32>,
    /// Workers.
    pub workers: u16,
    /// Share of the time that chunks work.
    pub duty: f64,
}

/// An index that is there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Index {
    /// Its size.
    pub bytes: i64,
    /// How far its order is that of the heap: `pg_stats.correlation` of its first column, 0 where
    /// that is not known.
    pub correlation: f64,
}

impl Index {
    /// The part of it that counts as in the heap's order, as PostgreSQL's planner has it: the
    /// square of the correlation (`cost_index` in `costsize.c`).
    fn order(&self) -> f64 {
        self.correlation.clamp(-1.0, 1.0).powi(2)
    }
}

/// A number of bytes: what is to be expected, and what it is at most, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// To be expected.
    pub likely: i64,
    /// Every row needs work, no room is used again, and VACUUM follows.
    pub most: i64,
}

impl Bytes {
    fn new(likely: f64, most: f64) -> Self {
        let likely = whole(likely);
        Self {
            likely,
            most: whole(most).max(likely),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            likely: self.likely.saturating_add(other.likely),
            most: self.most.saturating_add(other.most),
        }
    }
}

/// Seconds. There is no bound above: a limit holds for as long as it is passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// Without pauses, and with all it reads in memory.
    pub least: f64,
    /// With the pauses of the duty, log, indexes and round trips.
    pub likely: f64,
    /// The duty that is counted with.
    pub duty: f64,
}

/// Bytes on the server's disk, beside what is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// New row versions, TOAST included.
    pub heap: Bytes,
    /// New entries of the indexes that are there.
    pub indexes: Bytes,
    /// Indexes that the step builds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub new_indexes: i64,
    /// Temporary files while it runs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub temporary: i64,
    /// `pg_wal`: `max_wal_size`, which is a soft limit; what a slot or a failing archiver keeps
    /// back comes on top.
    pub pg_wal: i64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl Disk {
    /// What stays, and is used again after VACUUM; without the log and temporary files.
    pub fn kept(&self) -> Bytes {
        let new = Bytes {
            likely: self.new_indexes,
            most: self.new_indexes,
        };
        self.heap.plus(self.indexes).plus(new)
    }
}

/// The cost of a backfill.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Chunks, each a transaction; unknown where nothing was measured and the size adapts.
    pub chunks: Option<i64>,
    /// Working time in seconds, as measured on the sample.
    pub seconds: Option<f64>,
    /// Log.
    pub wal: Bytes,
    /// Time, where a row's was measured.
    pub time: Option<Time>,
    /// Disk.
    pub disk: Disk,
}

/// The server's work for a chunk beside its rows: guards, fence, checkpoint, COMMIT. Measured, see
/// `docs/architecture.md`.
const CHUNK: Duration = Duration::from_micros(300);
/// What a chunk takes beside the server's work: round trips and messages on one machine.
const BETWEEN: Duration = Duration::from_micros(600);
/// An entry of an index whose pages are in memory.
const ENTRY: Duration = Duration::from_micros(3);
/// Writing a byte of log: copying, checksum, write.
const WAL_BYTE: f64 = 1.5e-9;
/// What an index grows by at most where each row gets one more entry, as a share of its size:
/// every page is split, into two that are half full.
const SPLIT: f64 = 1.6;
/// What a value of a new column takes where nothing was measured.
const VALUE: f64 = 8.0;
/// Header of a tuple and its line pointer.
const TUPLE: f64 = 28.0;

fn whole(bytes: f64) -> i64 {
    // A float that does not fit saturates.
    bytes.ceil().max(0.0) as i64
}

impl Facts {
    /// Rows that are changed: as the sample has it, or all.
    fn changed(&self) -> f64 {
        let share = self.sample.map_or(1.0, |s| s.share());
        self.all() * share
    }

    fn all(&self) -> f64 {
        self.rows.max(0) as f64
    }

    fn blocks(&self) -> f64 {
        self.blocks.max(0) as f64
    }

    /// Heap bytes of a new row version with its line pointer: measured, or by the table's density.
    fn version(&self) -> f64 {
        if self.deletes {
            return 0.0;
        }
        let dense = self.blocks() * self.server.block as f64 / self.all().max(1.0);
        let page = self.server.block as f64;
        let assumed = (dense + VALUE * self.new_columns as f64).clamp(TUPLE, page);
        self.sample.map_or(assumed, |s| s.each(s.heap).max(TUPLE))
    }

    fn toast(&self) -> f64 {
        self.sample
            .filter(|_| !self.deletes)
            .map_or(0.0, |s| s.each(s.toast))
    }

    /// New index entries, of all indexes.
    fn entries(&self, changed: f64) -> f64 {
        if self.deletes {
            return 0.0;
        }
        changed * (1.0 - self.hot()) * self.indexes.len() as f64
    }

    fn seconds(&self) -> Option<f64> {
        self.sample
            .map(|s| s.seconds.max(0.0) / s.rows.max(1) as f64 * self.all())
    }

    /// Chunks at the time that they aim at, or as large as the log of one may be.
    /// `seconds` is all of the server's work.
    fn chunks(&self, seconds: Option<f64>, wal: Bytes) -> Option<i64> {
        let aim = chunk_aim(None, self.duty);
        let most = if self.by_blocks {
            self.blocks.saturating_mul(self.passes() as i64)
        } else {
            self.rows
        };
        let wanted = match (self.batch, seconds) {
            (Some(batch), _) => self.all() / f64::from(batch.max(1)),
            (None, Some(seconds)) => {
                let by_time = seconds / aim.work.as_secs_f64();
                by_time.max(wal.likely as f64 / aim.wal as f64)
            }
            (None, None) => return None,
        };
        Some(whole(wanted).clamp(1, most.max(1)))
    }

    fn disk(&self) -> Disk {
        Disk {
            heap: self.grown_heap(),
            indexes: self.grown_indexes(),
            pg_wal: self.server.max_wal,
            ..Disk::default()
        }
    }
}

/// What a backfill costs.
pub fn backfill(facts: &Facts) -> Cost {
    let seconds = facts.seconds();
    // How often the log makes a checkpoint needs the time, and the time needs the log: without
    // the pages that are written again a first time, then the log.
    let guess = seconds.unwrap_or(0.0) / facts.duty.clamp(0.01, 1.0);
    let wal = wal(facts, guess);
    let beside =
        wal.likely as f64 * WAL_BYTE + facts.entries(facts.changed()) * ENTRY.as_secs_f64();
    let chunks = facts.chunks(seconds.map(|s| s + beside), wal);
    let time = seconds.zip(chunks).map(|(seconds, chunks)| {
        let chunks = chunks as f64;
        let workers = f64::from(facts.workers.max(1));
        let work = seconds + chunks * CHUNK.as_secs_f64();
        Time {
            least: work / workers,
            likely: ((work + beside) / facts.duty.clamp(0.01, 1.0)
                + chunks * BETWEEN.as_secs_f64())
                / workers,
            duty: facts.duty,
        }
    });
    Cost {
        chunks,
        seconds,
        wal,
        time,
        disk: facts.disk(),
    }
}

#[cfg(test)]
mod tests;
