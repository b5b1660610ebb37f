//! The walk over one range: chunk after chunk, each as large as it may be, and what becomes of one
//! that fails.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;

use super::Job;
use super::vacuum::Vacuums;
use crate::backfill::{CHUNK_TARGET, ChunkFailure, ChunkSizer, Horizon, Window};
use crate::catalog::QName;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::exec::chunk::{self, Done, Outcome, Place, RowByRow, Span};
use crate::exec::control::Seat;
use crate::exec::lock;
use crate::pg::probes;
use crate::store::checkpoints::{self, Checkpoint};

/// WAL that a chunk should not exceed: an application's COMMIT behind it flushes it too.
const CHUNK_WAL: u64 = 512 << 10;
/// Blocks of the first chunk, and rows of the first keyset chunk.
const FIRST_BLOCKS: u64 = 1;
const FIRST_ROWS: u64 = 100;
/// No chunk is larger than this.
const MOST_BLOCKS: u64 = 16_384;
const MOST_ROWS: u64 = 100_000;
/// A chunk is cut short past this multiple of its target, and not before [`CUT_EARLIEST`]: on a
/// busy machine a chunk of a few milliseconds takes several times as long for reasons that a
/// smaller one meets too.
const CUT_SHORT: u32 = 4;
const CUT_EARLIEST: Duration = Duration::from_millis(80);
/// SQLSTATE `query_canceled`, of a `statement_timeout` for one.
const TIMED_OUT: &str = "57014";

/// The walk of one worker over a range of blocks.
struct Walk<'a> {
    client: &'a Object,
    range: &'a Checkpoint,
    begun: Instant,
    seat: Seat<'a>,
    /// Sizes of chunks that take all rows of their blocks, and of those that take one stripe: a
    /// block costs far less there.
    of_all: ChunkSizer,
    of_stripe: ChunkSizer,
    /// The working time of the chunk before.
    worked: Duration,
    vacuums: Option<Vacuums>,
}

impl Job<'_> {
    fn place<'p>(&'p self, range: &'p Checkpoint) -> Place<'p> {
        Place {
            session: self.session,
            ordinal: self.ordinal,
            range_no: range.range_no,
            leaf: &range.name,
            relation: range.relation,
            filenode: range.filenode,
            spec: self.spec,
        }
    }

    pub(super) async fn blocks(
        &self,
        client: &Object,
        range: &Checkpoint,
        begun: Instant,
    ) -> Result<()> {
        let fixed = self.spec.batch.map(|rows| self.blocks_for(range, rows));
        let sizer = |times: u64| {
            let fixed = fixed.map(|blocks| blocks * times);
            sizer(fixed, FIRST_BLOCKS * times, MOST_BLOCKS)
        };
        let stripes = self.spec.stripes;
        let mut walk = Walk {
            client,
            range,
            begun,
            seat: self.control.seat(),
            of_all: sizer(1),
            of_stripe: sizer(stripes.map_or(1, |s| s.count.into())),
            worked: Duration::ZERO,
            vacuums: self.vacuums(range).await?,
        };
        let mut next = range.blocks.next;
        let mut held = false;
        let mut before = self.horizon(client).await?;
        while next < range.blocks.hi {
            let mut window = Window::new(stripes, next, range.blocks.hi, held);
            let mut counted = 0;
            loop {
                if !self.pass(&mut walk, window, &mut counted).await? {
                    return Ok(());
                }
                let now = self.horizon(client).await?;
                held = now
                    .zip(before)
                    .is_some_and(|(now, before)| now.holds_back_since(before));
                before = now;
                if held {
                    self.pruning_held(&range.name).await?;
                }
                if !window.advance(held) {
                    break;
                }
            }
            next = window.hi;
        }
        Ok(())
    }

    /// Where transaction ids stand, which matters to a striped scan only.
    async fn horizon(&self, client: &Object) -> Result<Option<Horizon>> {
        match self.spec.stripes {
            Some(_) => probes::horizon(client).await.map(Some),
            None => Ok(None),
        }
    }

    /// Says once that dead rows cannot be removed.
    pub(super) async fn pruning_held(&self, relation: &QName) -> Result<()> {
        if self.told_held.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let relation = relation.to_string();
        self.session.event(&Event::PruningHeld { relation }).await
    }

    /// One pass over a window, of which `counted` blocks are in the tally; false where the workers
    /// are to put their ranges down.
    async fn pass(&self, walk: &mut Walk<'_>, window: Window, counted: &mut i64) -> Result<bool> {
        let place = self.place(walk.range);
        let stripe = window.stripe();
        let sizer = match stripe {
            Some(_) => &mut walk.of_stripe,
            None => &mut walk.of_all,
        };
        let mut next = window.lo;
        while next < window.hi {
            sizer.aim(walk.seat.gate(walk.worked).await?);
            if self.regroup.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let end = (next + i64::try_from(sizer.size()).unwrap_or(1)).min(window.hi);
            let units = (end - next) as u64;
            let span = Span::Blocks {
                lo: next,
                hi: end,
                stripe,
                next: window.done_below(end),
                last: window.done_below(end) == walk.range.blocks.hi,
            };
            match self
                .attempt(walk.client, &place, &span, units, sizer)
                .await?
            {
                Some(done) => {
                    let covered = window.covered(end);
                    let more = covered - *counted;
                    self.tally.blocks_done.fetch_add(more, Ordering::Relaxed);
                    *counted = covered;
                    self.learn(done, units, sizer, walk.begun);
                    walk.worked = done.worked;
                    next = end;
                    let vacuums = &mut walk.vacuums;
                    // At the end nothing comes that could take the room.
                    if window.done_below(end) < walk.range.blocks.hi
                        && self.vacuum_if_due(vacuums, &walk.range.name, more).await?
                    {
                        walk.worked = Duration::ZERO;
                    }
                }
                None => walk.worked = Duration::ZERO,
            }
        }
        Ok(true)
    }

    pub(super) async fn keys(
        &self,
        client: &Object,
        range: &Checkpoint,
        begun: Instant,
    ) -> Result<()> {
        let place = self.place(range);
        let seat = self.control.seat();
        let fixed = self.spec.batch.map(u64::from);
        let mut sizer = sizer(fixed, FIRST_ROWS, MOST_ROWS);
        let mut cursor = range.cursor.clone();
        let mut worked = Duration::ZERO;
        let mut vacuums = self.vacuums(range).await?;
        loop {
            sizer.aim(seat.gate(worked).await?);
            let units = sizer.size();
            let upto = chunk::upper_key(client, &place, cursor.as_ref(), units).await?;
            let last = upto.is_none();
            let span = Span::Keys {
                after: cursor.clone(),
                upto: upto.clone(),
            };
            match self
                .attempt(client, &place, &span, units, &mut sizer)
                .await?
            {
                Some(done) => {
                    self.learn(done, units, &mut sizer, begun);
                    worked = done.worked;
                    if last {
                        return Ok(());
                    }
                    cursor = upto;
                    let rows = i64::try_from(done.rows).unwrap_or(i64::MAX);
                    if self.vacuum_if_due(&mut vacuums, &range.name, rows).await? {
                        worked = Duration::ZERO;
                    }
                }
                None => worked = Duration::ZERO,
            }
        }
    }

    fn learn(&self, done: Done, units: u64, sizer: &mut ChunkSizer, begun: Instant) {
        sizer.restore();
        sizer.observe(units, done.worked, done.wal);
        sizer.spent(done.elapsed.saturating_sub(done.worked));
        self.tally
            .rows
            .fetch_add(done.rows as i64, Ordering::Relaxed);
        self.tally.chunks.fetch_add(1, Ordering::Relaxed);
        let lsn = done.wal_from;
        self.control.wrote(done.elapsed, lsn, lsn + done.wal);
        let chunk = Event::ChunkDone {
            step: self.ordinal,
            rows: done.rows,
            elapsed_ms: done.elapsed.as_secs_f64() * 1000.0,
            wal_bytes: done.wal,
            size: units,
        };
        self.session.ctx.emit(&self.session.migration, &chunk);
        self.tell(begun);
    }

    /// How long the statement of a chunk may take. Its row locks last as long, whether it works or
    /// waits for locks of others: a stall must not make the application wait. What was cut short is
    /// tried again in smaller parts, down to one that cannot be made smaller.
    fn longest(&self, units: u64) -> Duration {
        if units <= 1 || self.spec.batch.is_some() {
            return chunk::STATEMENT_TIMEOUT;
        }
        let set = self.session.ctx.settings.chunk_target;
        (set.unwrap_or(CHUNK_TARGET) * CUT_SHORT).clamp(CUT_EARLIEST, chunk::STATEMENT_TIMEOUT)
    }

    /// One try of a chunk; `None` where it was rolled back and is to be tried again.
    async fn attempt(
        &self,
        client: &Object,
        place: &Place<'_>,
        span: &Span,
        units: u64,
        sizer: &mut ChunkSizer,
    ) -> Result<Option<Done>> {
        let longest = self.longest(units);
        let begun = Instant::now();
        match chunk::run(client, place, span, longest).await? {
            Outcome::Done(done) => Ok(Some(done)),
            Outcome::Rewritten => {
                lock(&self.rewritten).insert(place.relation);
                self.regroup.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Outcome::Failed(ChunkFailure::Bisect, error) => {
                // One block, or a handful of keys, is looked at row by row.
                if units > smallest(span) {
                    sizer.shrink(units);
                    return Ok(None);
                }
                self.row_by_row(client, place, span, &error).await
            }
            Outcome::Failed(ChunkFailure::Retry, error)
                if units <= 1
                    && error.sqlstate() == Some(TIMED_OUT)
                    && begun.elapsed() >= longest =>
            {
                Err(Error::refused(format!(
                    "the smallest part of {} takes more than {} s to change",
                    place.leaf,
                    longest.as_secs()
                ))
                .with_sqlstate(TIMED_OUT)
                .left("all committed chunks are kept; this chunk was rolled back")
                .hint(
                    "its rows would be locked for as long: make the expression cheaper (has its \
                     lookup an index?), then `pgshift resume`, or `pgshift revert`",
                ))
            }
            Outcome::Failed(ChunkFailure::Retry, error) => {
                self.give_way(units, sizer, &error).await?;
                Ok(None)
            }
            // A partition is gone: look which are there now.
            Outcome::Failed(_, error)
                if error.sqlstate() == Some("42P01") && *place.leaf != self.spec.table =>
            {
                self.regroup.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Outcome::Failed(_, error) => Err(error),
        }
    }

    /// Another session was in the way, or it took too long: a smaller chunk, after a jittered pause.
    async fn give_way(&self, units: u64, sizer: &mut ChunkSizer, error: &Error) -> Result<()> {
        sizer.shrink(units);
        self.session.ctx.emit(
            &self.session.migration,
            &Event::ChunkRetried {
                sqlstate: error.sqlstate().unwrap_or_default().to_owned(),
                message: error.message().to_owned(),
            },
        );
        let pause = Duration::from_millis(50).mul_f64(0.5 + 2.0 * fastrand::f64());
        self.session.ctx.sleep(pause).await;
        let slow = error.sqlstate() == Some(TIMED_OUT);
        let cause = if slow { "slow_chunks" } else { "row_locks" };
        self.session.ledger.add(cause, pause);
        self.session.check_stop()
    }

    async fn row_by_row(
        &self,
        client: &Object,
        place: &Place<'_>,
        span: &Span,
        error: &Error,
    ) -> Result<Option<Done>> {
        let limit = self.session.ctx.settings.max_failed_rows;
        let so_far = self.tally.failed.load(Ordering::Relaxed);
        let allowed = limit.saturating_sub(u64::try_from(so_far).unwrap_or(0));
        match chunk::run_rows(client, place, span, allowed).await? {
            RowByRow::Done(done, failing) => {
                self.tally
                    .failed
                    .fetch_add(failing.len() as i64, Ordering::Relaxed);
                self.tell_failed(&failing).await?;
                Ok(Some(done))
            }
            RowByRow::TooMany(failing) => {
                self.tell_failed(&failing).await?;
                let first = &failing[0];
                Err(Error::refused(format!(
                    "row {} of {} fails: {}",
                    first.key, first.relation, first.message
                ))
                .with_sqlstate(first.sqlstate.clone())
                .left("all committed chunks are kept; this chunk was rolled back")
                .hint(
                    "mend the row (`pgshift status` lists all that failed) and `pgshift resume`, \
                     or allow some with --max-failed-rows",
                ))
            }
            RowByRow::Failed(ChunkFailure::Retry, _) => Ok(None),
            RowByRow::Failed(_, second) => {
                Err(second.context(format!("after {}", error.message())))
            }
        }
    }

    async fn tell_failed(&self, failing: &[checkpoints::FailedRow]) -> Result<()> {
        for row in failing {
            self.session
                .event(&Event::RowFailed {
                    relation: row.relation.clone(),
                    key: row.key.clone(),
                    sqlstate: row.sqlstate.clone(),
                    message: row.message.clone(),
                })
                .await?;
        }
        Ok(())
    }

    /// Blocks that hold about `rows` rows.
    fn blocks_for(&self, range: &Checkpoint, rows: u32) -> u64 {
        let blocks = (range.blocks.hi - range.blocks.lo).max(1) as f64;
        let all = self.tally.blocks_total.load(Ordering::Relaxed).max(1) as f64;
        let density = self.tally.rows_total.load(Ordering::Relaxed) as f64 / all.max(blocks);
        (f64::from(rows) / density.max(1.0)).round().max(1.0) as u64
    }
}

/// Of the author's size, where the file says one; else it adapts.
fn sizer(fixed: Option<u64>, first: u64, most: u64) -> ChunkSizer {
    fixed.map_or_else(
        || ChunkSizer::adaptive(first, most, CHUNK_TARGET, CHUNK_WAL),
        ChunkSizer::fixed,
    )
}

/// A chunk of at most this many units is looked at row by row when it fails.
fn smallest(span: &Span) -> u64 {
    match span {
        Span::Blocks { .. } => 1,
        Span::Keys { .. } => 64,
    }
}
