//! The walk over one range: chunk after chunk, each as large as it may be, and what becomes of one
//! that fails.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deadpool_postgres::Object;

use super::Job;
use super::vacuum::{GONE, Vacuums};
use crate::backfill::{Aim, CHUNK_AIM, ChunkFailure, ChunkSizer, Horizon, Stripe, Window};
use crate::catalog::QName;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::exec::chunk::{self, Begun, Committed, Done, Open, Place, RowByRow, Span};
use crate::exec::control::Seat;
use crate::exec::ddl::CANCELED;
use crate::exec::lock;
use crate::pg::probes;
use crate::store::checkpoints::{self, Checkpoint};

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

impl Walk<'_> {
    fn sizer(&mut self, stripe: Option<Stripe>) -> &mut ChunkSizer {
        match stripe {
            Some(_) => &mut self.of_stripe,
            None => &mut self.of_all,
        }
    }
}

/// What became of a chunk that was open and of the next one.
#[derive(Default)]
struct Turn {
    /// What was committed, in order.
    done: Vec<Done>,
    /// The next one, begun.
    open: Option<Open>,
    /// What was rolled back and is to be tried again.
    undone: Option<Span>,
}

impl Turn {
    /// Takes a chunk that failed: it was done in another way, or is to be tried again.
    fn or_again(&mut self, done: Option<Done>, span: &Span) {
        match done {
            Some(done) => self.done.push(done),
            None => self.undone = Some(span.clone()),
        }
    }
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
            Some(_) => {
                let by = probes::Removal::Pruning;
                probes::horizon(client, by).await.map(Some)
            }
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
    ///
    /// While there is nothing to wait for, the COMMIT of a chunk and the beginning of the next one
    /// are one flight. No chunk is open while anything else is done.
    async fn pass(&self, walk: &mut Walk<'_>, window: Window, counted: &mut i64) -> Result<bool> {
        let place = self.place(walk.range);
        let stripe = window.stripe();
        // The first block that no chunk was begun on.
        let mut from = window.lo;
        let mut open: Option<Open> = None;
        loop {
            let aim = match &open {
                None if from == window.hi => return Ok(true),
                None => Some(walk.seat.gate(walk.worked).await?),
                Some(_) if from == window.hi => None,
                Some(before) => {
                    let more = window.covered(before.span.end()) - *counted;
                    self.at_once(&walk.seat, walk.vacuums.as_ref(), more, before)
                }
            };
            if open.is_none() && self.regroup.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let (last_block, client) = (walk.range.blocks.hi, walk.client);
            let sizer = walk.sizer(stripe);
            let next = aim.map(|aim| {
                sizer.aim(aim);
                let end = (from + i64::try_from(sizer.size()).unwrap_or(1)).min(window.hi);
                Span::Blocks {
                    lo: from,
                    hi: end,
                    stripe,
                    next: window.done_below(end),
                    last: window.done_below(end) == last_block,
                }
            });
            let turn = self
                .turn(client, &place, open.take(), next.as_ref(), sizer)
                .await?;
            open = turn.open;
            from = match (&turn.undone, &next) {
                (Some(undone), _) => undone.start(),
                (None, Some(next)) => next.end(),
                (None, None) => from,
            };
            walk.worked = Duration::ZERO;
            for done in turn.done {
                let covered = window.covered(done.span.end());
                let more = covered - *counted;
                self.tally.blocks_done.fetch_add(more, Ordering::Relaxed);
                *counted = covered;
                let begun = walk.begun;
                self.learn(&done, walk.sizer(stripe), begun);
                walk.worked = done.worked;
                // At the end nothing comes that could take the room.
                if window.done_below(done.span.end()) < walk.range.blocks.hi
                    && self
                        .vacuum_if_due(&mut walk.vacuums, &walk.range.name, more)
                        .await?
                {
                    walk.worked = Duration::ZERO;
                }
            }
        }
    }

    /// What the next chunk should aim at, where it may be begun with the COMMIT of the one `before`,
    /// which adds `more` to what VACUUM counts.
    fn at_once(
        &self,
        seat: &Seat<'_>,
        vacuums: Option<&Vacuums>,
        more: i64,
        before: &Open,
    ) -> Option<Aim> {
        let busy = vacuums.is_some_and(|all| all.is_due_after(more))
            || self.regroup.load(Ordering::Relaxed);
        if busy {
            None
        } else {
            seat.at_once(before.worked())
        }
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
        let mut after = range.cursor.clone();
        let mut worked = Duration::ZERO;
        let mut vacuums = self.vacuums(range).await?;
        // Where the next chunk ends, if that was asked already.
        let mut ahead = None;
        loop {
            sizer.aim(seat.gate(worked).await?);
            let (rows, upto) = if let Some(known) = ahead.take() {
                known
            } else {
                let rows = sizer.size();
                let upto = chunk::upper_key(client, &place, after.as_ref(), rows).await?;
                (rows, upto)
            };
            let span = Span::Keys {
                after: after.clone(),
                upto: upto.clone(),
                rows,
            };
            let mut turn = self
                .turn(client, &place, None, Some(&span), &mut sizer)
                .await?;
            if let Some(open) = turn.open.take() {
                let more = i64::try_from(open.rows()).unwrap_or(i64::MAX);
                let aim = self.at_once(&seat, vacuums.as_ref(), more, &open);
                let rows = aim.filter(|_| upto.is_some()).map(|aim| {
                    sizer.aim(aim);
                    sizer.size()
                });
                let ask = async {
                    let Some(rows) = rows else {
                        return Ok(None);
                    };
                    let key = chunk::upper_key(client, &place, upto.as_ref(), rows).await?;
                    Ok::<_, Error>(Some((rows, key)))
                };
                // COMMIT is on its way before the question is asked.
                let (committed, known) = tokio::join!(
                    biased;
                    self.turn(client, &place, Some(open), None, &mut sizer),
                    ask,
                );
                turn = committed?;
                ahead = known?;
            }
            worked = Duration::ZERO;
            if turn.undone.is_some() {
                ahead = None;
                continue;
            }
            for done in turn.done {
                self.learn(&done, &mut sizer, begun);
                worked = done.worked;
                if upto.is_none() {
                    return Ok(());
                }
                let rows = i64::try_from(done.rows).unwrap_or(i64::MAX);
                if self.vacuum_if_due(&mut vacuums, &range.name, rows).await? {
                    worked = Duration::ZERO;
                }
            }
            after = upto;
        }
    }

    fn learn(&self, done: &Done, sizer: &mut ChunkSizer, begun: Instant) {
        let units = done.span.units();
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
    fn longest(&self, span: &Span) -> Duration {
        if span.units() <= 1 || self.spec.batch.is_some() {
            return chunk::STATEMENT_TIMEOUT;
        }
        let set = self.session.ctx.settings.chunk_target;
        (set.unwrap_or(CHUNK_AIM.work) * CUT_SHORT).clamp(CUT_EARLIEST, chunk::STATEMENT_TIMEOUT)
    }

    /// Commits the chunk that is open, if one is, and begins the next one, if there is one.
    async fn turn(
        &self,
        client: &Object,
        place: &Place<'_>,
        open: Option<Open>,
        next: Option<&Span>,
        sizer: &mut ChunkSizer,
    ) -> Result<Turn> {
        let mut turn = Turn::default();
        let since = Instant::now();
        let then = next.map(|span| (span, self.longest(span)));
        let begun = match (open, then) {
            (Some(before), then) => {
                let span = before.span.clone();
                match chunk::commit(client, place, before, then).await? {
                    Committed::Done(both) => {
                        let (done, begun) = *both;
                        turn.done.push(done);
                        begun
                    }
                    Committed::Failed(failure, error) => {
                        let again =
                            self.failed(client, place, &span, (failure, error), since, sizer);
                        turn.or_again(again.await?, &span);
                        None
                    }
                }
            }
            (None, Some((span, longest))) => {
                Some(chunk::begin(client, place, span, longest).await?)
            }
            (None, None) => None,
        };
        let Some((begun, span)) = begun.zip(next) else {
            return Ok(turn);
        };
        match begun {
            Begun::Open(open) => turn.open = Some(open),
            Begun::Rewritten => {
                lock(&self.rewritten).insert(place.relation);
                self.regroup.store(true, Ordering::Relaxed);
                turn.undone = Some(span.clone());
            }
            Begun::Failed(failure, error) => {
                let again = self.failed(client, place, span, (failure, error), since, sizer);
                turn.or_again(again.await?, span);
            }
        }
        Ok(turn)
    }

    /// What is done about a chunk that was rolled back, begun at `since` or later; `None` where it
    /// is to be tried again.
    async fn failed(
        &self,
        client: &Object,
        place: &Place<'_>,
        span: &Span,
        (failure, error): (ChunkFailure, Error),
        since: Instant,
        sizer: &mut ChunkSizer,
    ) -> Result<Option<Done>> {
        let (units, longest) = (span.units(), self.longest(span));
        match failure {
            ChunkFailure::Bisect => {
                // One block, or a handful of keys, is looked at row by row.
                if units > smallest(span) {
                    sizer.shrink(units);
                    return Ok(None);
                }
                self.row_by_row(client, place, span, &error).await
            }
            ChunkFailure::Retry
                if units <= 1
                    && error.sqlstate() == Some(CANCELED)
                    && since.elapsed() >= longest =>
            {
                Err(Error::refused(format!(
                    "the smallest part of {} takes more than {} s to change",
                    place.leaf,
                    longest.as_secs()
                ))
                .with_sqlstate(CANCELED)
                .left("all committed chunks are kept; this chunk was rolled back")
                .hint(
                    "its rows would be locked for as long: make the expression cheaper (has its \
                     lookup an index?), then `pgshift resume`, or `pgshift revert`",
                ))
            }
            ChunkFailure::Retry => {
                self.give_way(units, sizer, &error).await?;
                Ok(None)
            }
            // A partition is gone: look which are there now.
            _ if error.sqlstate() == Some(GONE) && *place.leaf != self.spec.table => {
                self.regroup.store(true, Ordering::Relaxed);
                Ok(None)
            }
            _ => Err(error),
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
        let slow = error.sqlstate() == Some(CANCELED);
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
        || ChunkSizer::adaptive(first, most, CHUNK_AIM),
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
