//! A backfill step: ranges, workers, restarts of a scan, progress.

mod vacuum;
mod walk;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use tokio::sync::mpsc;

use self::vacuum::Ask;
use super::control::{Control, LOOK_AGAIN, with_probes};
use super::ddl::cancel_on_stop;
use super::session::{Session, done_event, record_done};
use super::tally::Tally;
use super::{commit, lock};
use crate::backfill::vacuum::Extent;
use crate::backfill::{BackfillSpec, BlockRange, Strategy, split_blocks};
use crate::catalog::Leaf;
use crate::error::{Error, Result};
use crate::event::{Event, Progress};
use crate::fault::{self, Write};
use crate::pg::catalog::{self, Wanted};
use crate::pg::error::{from_pg, from_pool};
use crate::pg::probes::{free_connections, relation_state};
use crate::plan::Step;
use crate::store::checkpoints::{self, Checkpoint};
use crate::store::runs;
use crate::throttle::samples;

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
    /// Sizes of the leaves (by oid).
    extents: Mutex<BTreeMap<u32, Extent>>,
    /// Held while a VACUUM is asked for or under way.
    vacuuming: Arc<tokio::sync::Mutex<()>>,
    asks: mpsc::Sender<Ask>,
    /// It was said that dead rows cannot be removed.
    told_held: AtomicBool,
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
    let forget = checkpoints::clear_failed(&*session.lease, session.run_id(), ordinal);
    fault::around(Write::FailedRows, forget).await?;
    let before = checkpoints::list(&*session.lease, session.run_id(), ordinal).await?;
    let workers = match spec.strategy {
        Strategy::Ctid => spec.workers.unwrap_or(1).max(1),
        // A keyset range has one cursor.
        Strategy::Keyset { .. } => 1,
    };
    let (asks, mut asked) = mpsc::channel(1);
    let job = Job {
        session,
        ordinal,
        title: &step.title,
        spec,
        control: Control::new(session.clone(), step)?,
        pool: session.ctx.chunk_pool(usize::from(workers))?,
        opening: tokio::sync::Mutex::default(),
        queue: Mutex::default(),
        rewritten: Mutex::default(),
        regroup: AtomicBool::new(false),
        extents: Mutex::default(),
        vacuuming: Arc::default(),
        asks,
        told_held: AtomicBool::new(false),
        tally: Tally {
            rows_before: before.iter().map(|c| c.rows).sum(),
            chunks_before: before.iter().map(|c| c.chunks).sum(),
            ..Tally::default()
        },
    };
    let control = job.control.clone();
    control.staff(workers, &job.pool);
    with_probes(&control, job.to_the_end(workers, begun, &mut asked)).await?;
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
    async fn to_the_end(
        &self,
        workers: u16,
        begun: Instant,
        asked: &mut mpsc::Receiver<Ask>,
    ) -> Result<()> {
        for _ in 0..MOST_PASSES {
            // The table may be locked for long, by VACUUM FULL for example.
            let open = cancel_on_stop(self.session, self.ranges(workers)).await?;
            if open.is_empty() {
                return Ok(());
            }
            *lock(&self.queue) = open.into();
            self.regroup.store(false, Ordering::Relaxed);
            let running = (0..workers).map(|_| self.worker(begun));
            let walks = futures_util::future::try_join_all(running);
            self.with_vacuums(asked, walks).await?;
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
        let extent = |leaf: &Leaf| Extent {
            blocks: leaf.blocks,
            rows: leaf.rows,
        };
        *lock(&self.extents) = table.leaves.iter().map(|l| (l.oid, extent(l))).collect();
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
            fault::around(Write::Ranges, commit(client)).await
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
            let free = free_connections(&self.session.lease).await?;
            if samples::may_open(free, &limits) {
                break;
            }
            self.session.ctx.sleep(LOOK_AGAIN).await;
        }
        self.pool.get().await.map_err(from_pool)
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
