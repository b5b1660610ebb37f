//! A backfill step: ranges, workers, restarts of a scan, progress.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};

use super::chunk::{self, Done, Outcome, Place, RowByRow, Span};
use super::control::{Control, LOOK_AGAIN, with_probes};
use super::ddl::cancel_on_stop;
use super::session::{Session, done_event, record_done};
use super::tally::Tally;
use crate::backfill::{BackfillSpec, BlockRange, ChunkFailure, ChunkSizer, Strategy, split_blocks};
use crate::catalog::Leaf;
use crate::error::{Error, Result};
use crate::event::{Event, Progress};
use crate::pg::catalog::{self, Wanted};
use crate::pg::error::{from_pg, from_pool};
use crate::pg::probes::{free_connections, relation_state};
use crate::plan::Step;
use crate::store::checkpoints::{self, Checkpoint};
use crate::store::runs;
use crate::throttle::samples;

/// WAL that a chunk should not exceed: an application's COMMIT behind it flushes it too.
const CHUNK_WAL: u64 = 512 << 10;
/// Blocks of the first chunk, and rows of the first keyset chunk.
const FIRST_BLOCKS: u64 = 4;
const FIRST_ROWS: u64 = 200;
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
/// Passes of a scan without a key, until one finds nothing.
const MOST_PASSES: u32 = 1000;

/// A step under way, shared by its workers.
struct Job<'a> {
    session: &'a Arc<Session>,
    ordinal: usize,
    title: &'a str,
    spec: &'a BackfillSpec,
    control: Arc<Control>,
    pool: Pool,
    /// Held while a connection is opened.
    opening: tokio::sync::Mutex<()>,
    queue: Mutex<VecDeque<Checkpoint>>,
    /// A relation whose file was replaced.
    rewritten: Mutex<BTreeSet<u32>>,
    /// The workers are to put their ranges down.
    regroup: AtomicBool,
    tally: Tally,
}

pub(super) async fn run(
    session: &Arc<Session>,
    ordinal: usize,
    step: &Step,
    spec: &BackfillSpec,
) -> Result<Duration> {
    let begun = Instant::now();
    let spec = &session.ctx.settings.backfill(spec);
    // A resume tries rows that failed before again.
    checkpoints::clear_failed(&*session.lease, session.run_id(), ordinal).await?;
    let before = checkpoints::list(&*session.lease, session.run_id(), ordinal).await?;
    let workers = match spec.strategy {
        Strategy::Ctid => spec.workers.unwrap_or(1).max(1),
        // A keyset range has one cursor.
        Strategy::Keyset { .. } => 1,
    };
    let job = Job {
        session,
        ordinal,
        title: &step.title,
        spec,
        control: Control::new(session.clone(), step)?,
        pool: session.ctx.chunk_target().pool(usize::from(workers))?,
        opening: tokio::sync::Mutex::default(),
        queue: Mutex::default(),
        rewritten: Mutex::default(),
        regroup: AtomicBool::new(false),
        tally: Tally {
            rows_before: before.iter().map(|c| c.rows).sum(),
            chunks_before: before.iter().map(|c| c.chunks).sum(),
            ..Tally::default()
        },
    };
    let control = job.control.clone();
    control.staff(workers, &job.pool);
    with_probes(&control, job.to_the_end(workers, begun)).await?;
    let waited = session.ledger.of_session();
    let all = checkpoints::list(&*session.lease, session.run_id(), ordinal).await?;
    let result = serde_json::json!({
        "rows": all.iter().map(|c| c.rows).sum::<i64>(),
        "chunks": all.iter().map(|c| c.chunks).sum::<i64>(),
        "failed_rows": job.tally.failed.load(Ordering::Relaxed),
        runs::LOST: session.ledger.total(),
    });
    record_done(
        session,
        ordinal,
        &done_event(ordinal, step, begun.elapsed(), waited),
        Some(&result),
    )
    .await?;
    Ok(waited)
}

impl Job<'_> {
    /// Scans until no leaf is open, none was rewritten and none is new.
    async fn to_the_end(&self, workers: u16, begun: Instant) -> Result<()> {
        for _ in 0..MOST_PASSES {
            // The table may be locked for long, by VACUUM FULL for example.
            let open = cancel_on_stop(self.session, self.ranges(workers)).await?;
            if open.is_empty() {
                return Ok(());
            }
            *lock(&self.queue) = open.into();
            self.regroup.store(false, Ordering::Relaxed);
            let running = (0..workers).map(|_| self.worker(begun));
            futures_util::future::try_join_all(running).await?;
        }
        Err(Error::refused(format!(
            "rows of {} keep moving out of reach of the scan",
            self.spec.table
        ))
        .hint("give the table a primary key"))
    }

    /// The open ranges, after taking in new leaves and replaced files.
    async fn ranges(&self, workers: u16) -> Result<Vec<Checkpoint>> {
        let client = &self.session.work;
        let wanted = Wanted::new(Some(&self.spec.table.schema), &self.spec.table.name);
        let catalog = catalog::load(client, &[wanted]).await?;
        let table = catalog.tables.get(&self.spec.table).ok_or_else(|| {
            Error::refused(format!("table {} is gone", self.spec.table))
                .hint("`pgshift revert` takes the migration back")
        })?;
        self.control
            .watch(table.leaves.iter().map(|l| l.oid).collect());
        self.tally.rows_total.store(table.rows, Ordering::Relaxed);
        let mut known = checkpoints::list(client, self.session.run_id(), self.ordinal).await?;
        // A partition that was detached or dropped takes its rows with it.
        let present: BTreeSet<u32> = table.leaves.iter().map(|l| l.oid).collect();
        let gone: BTreeSet<u32> = known
            .iter()
            .filter(|c| !c.done && !present.contains(&c.relation))
            .map(|c| c.relation)
            .collect();
        for relation in gone {
            checkpoints::give_up(client, self.session.run_id(), self.ordinal, relation).await?;
        }
        for leaf in &table.leaves {
            let rewritten = lock(&self.rewritten).remove(&leaf.oid);
            let of_leaf: Vec<&Checkpoint> =
                known.iter().filter(|c| c.relation == leaf.oid).collect();
            let fresh = match self.spec.strategy {
                Strategy::Keyset { .. } => of_leaf.is_empty(),
                Strategy::Ctid => {
                    let state = relation_state(client, leaf.oid).await?;
                    let moved = state.is_some_and(|now| {
                        of_leaf
                            .iter()
                            .any(|c| !c.done && c.filenode != Some(now.filenode))
                    });
                    of_leaf.is_empty() || moved || rewritten
                }
            };
            if fresh {
                let restarted = !of_leaf.is_empty();
                let first = known.iter().map(|c| c.range_no + 1).max().unwrap_or(0);
                known.extend(self.new_ranges(leaf, first, workers, restarted).await?);
            }
        }
        let known = checkpoints::list(client, self.session.run_id(), self.ordinal).await?;
        let sum = |f: fn(&BlockRange) -> i64| known.iter().map(|c| f(&c.blocks)).sum::<i64>();
        self.tally
            .blocks_total
            .store(sum(|b| b.hi - b.lo), Ordering::Relaxed);
        self.tally
            .blocks_done
            .store(sum(|b| b.next - b.lo), Ordering::Relaxed);
        Ok(known.into_iter().filter(|c| !c.done).collect())
    }

    /// Records the ranges of a leaf before any of them is worked on. The size is read after the
    /// sync trigger was committed: later rows are beyond it, and right by the trigger.
    async fn new_ranges(
        &self,
        leaf: &Leaf,
        first: i32,
        workers: u16,
        restarted: bool,
    ) -> Result<Vec<Checkpoint>> {
        let client = &self.session.work;
        let Some(state) = relation_state(client, leaf.oid).await? else {
            return Ok(Vec::new());
        };
        let blocks = match self.spec.strategy {
            Strategy::Ctid => split_blocks(state.blocks, workers),
            Strategy::Keyset { .. } => vec![BlockRange {
                lo: 0,
                hi: 0,
                next: 0,
            }],
        };
        let ctid = self.spec.strategy == Strategy::Ctid;
        let rows: Vec<Checkpoint> = (first..)
            .zip(blocks)
            .map(|(range_no, blocks)| Checkpoint {
                range_no,
                relation: leaf.oid,
                name: leaf.name.clone(),
                strategy: if ctid { "ctid" } else { "keyset" }.to_owned(),
                filenode: ctid.then_some(state.filenode),
                done: ctid && blocks.done(),
                blocks,
                cursor: None,
                rows: 0,
                chunks: 0,
                worked_ms: 0.0,
            })
            .collect();
        client
            .batch_execute("BEGIN; SET LOCAL lock_timeout = '10s'")
            .await
            .map_err(from_pg)?;
        let record = async {
            runs::fence(client, self.session.run_id(), self.session.epoch).await?;
            if restarted {
                checkpoints::give_up(client, self.session.run_id(), self.ordinal, leaf.oid).await?;
            }
            for row in &rows {
                checkpoints::insert(client, self.session.run_id(), self.ordinal, row).await?;
            }
            client.batch_execute("COMMIT").await.map_err(from_pg)
        };
        if let Err(error) = record.await {
            let _ = client.batch_execute("ROLLBACK").await;
            return Err(error);
        }
        if restarted {
            let event = Event::ScanRestarted {
                relation: leaf.name.to_string(),
                blocks: state.blocks,
            };
            self.session.event(&event).await?;
        }
        Ok(rows)
    }

    /// Takes ranges from the queue until it is empty.
    async fn worker(&self, begun: Instant) -> Result<()> {
        loop {
            let next = lock(&self.queue).pop_front();
            let Some(range) = next else { return Ok(()) };
            if self.regroup.load(Ordering::Relaxed) {
                return Ok(());
            }
            let client = self.connection().await?;
            match self.spec.strategy {
                Strategy::Ctid => self.blocks(&client, &range, begun).await?,
                Strategy::Keyset { .. } => self.keys(&client, &range, begun).await?,
            }
        }
    }

    /// A connection of the pool. One more is opened only where enough are left after it, by a
    /// look of its own: the last reading may be from before another worker took one.
    async fn connection(&self) -> Result<Object> {
        let _one_at_a_time = self.opening.lock().await;
        while self.pool.status().available == 0 {
            self.control.gate(Duration::ZERO).await?;
            let limits = self.control.limits();
            let free = free_connections(&self.session.work).await?;
            if samples::may_open(free, &limits) {
                break;
            }
            self.session.ctx.sleep(LOOK_AGAIN).await;
        }
        self.pool.get().await.map_err(from_pool)
    }

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

    async fn blocks(&self, client: &Object, range: &Checkpoint, begun: Instant) -> Result<()> {
        let place = self.place(range);
        let mut sizer = match self.spec.batch {
            Some(rows) => ChunkSizer::fixed(self.blocks_for(range, rows)),
            None => ChunkSizer::adaptive(
                FIRST_BLOCKS,
                MOST_BLOCKS,
                self.session.ctx.settings.chunk_target,
                CHUNK_WAL,
            ),
        };
        let mut next = range.blocks.next;
        let hi = range.blocks.hi;
        let mut worked = Duration::ZERO;
        while next < hi {
            self.control.gate(worked).await?;
            if self.regroup.load(Ordering::Relaxed) {
                return Ok(());
            }
            let end = (next + i64::try_from(sizer.size()).unwrap_or(1)).min(hi);
            let units = (end - next) as u64;
            let span = Span::Blocks {
                lo: next,
                hi: end,
                last: end == hi,
            };
            match self
                .attempt(client, &place, &span, units, &mut sizer)
                .await?
            {
                Some(done) => {
                    self.tally
                        .blocks_done
                        .fetch_add(end - next, Ordering::Relaxed);
                    self.learn(done, units, &mut sizer, begun);
                    worked = done.elapsed;
                    next = end;
                }
                None => worked = Duration::ZERO,
            }
        }
        Ok(())
    }

    async fn keys(&self, client: &Object, range: &Checkpoint, begun: Instant) -> Result<()> {
        let place = self.place(range);
        let mut sizer = match self.spec.batch {
            Some(rows) => ChunkSizer::fixed(u64::from(rows)),
            None => ChunkSizer::adaptive(
                FIRST_ROWS,
                MOST_ROWS,
                self.session.ctx.settings.chunk_target,
                CHUNK_WAL,
            ),
        };
        let mut cursor = range.cursor.clone();
        let mut worked = Duration::ZERO;
        loop {
            self.control.gate(worked).await?;
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
                    worked = done.elapsed;
                    if last {
                        return Ok(());
                    }
                    cursor = upto;
                }
                None => worked = Duration::ZERO,
            }
        }
    }

    fn learn(&self, done: Done, units: u64, sizer: &mut ChunkSizer, begun: Instant) {
        sizer.restore();
        sizer.observe(units, done.elapsed, done.wal);
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
        let target = self.session.ctx.settings.chunk_target;
        (target * CUT_SHORT).clamp(CUT_EARLIEST, chunk::STATEMENT_TIMEOUT)
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

    fn tell(&self, begun: Instant) {
        if !self.tally.is_time_to_tell() {
            return;
        }
        let by_blocks = self.spec.strategy == Strategy::Ctid;
        let progress = self.tally.progress(by_blocks, begun.elapsed());
        self.control.tell(Progress {
            step: self.ordinal,
            title: self.title.to_owned(),
            ..progress
        });
    }
}

/// A chunk of at most this many units is looked at row by row when it fails.
fn smallest(span: &Span) -> u64 {
    match span {
        Span::Blocks { .. } => 1,
        Span::Keys { .. } => 64,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
