//! The VACUUM between chunks.

use std::time::{Duration, Instant};

use super::Job;
use crate::backfill::vacuum::{Rhythm, gives_way};
use crate::backfill::{Horizon, Strategy};
use crate::catalog::QName;
use crate::error::Result;
use crate::event::Event;
use crate::exec::ddl::{CANCELED, cancel_when};
use crate::exec::lock;
use crate::pg::error::from_pg;
use crate::pg::probes::{self, Removal};
use crate::sql::quote::qname;
use crate::store::checkpoints::Checkpoint;

/// It is looked this often at who waits for it.
const LOOK: Duration = Duration::from_millis(500);
/// The throttle holds where the gate has not let go for this time.
const HELD: Duration = Duration::from_millis(300);

/// The VACUUMs of one walk.
pub(super) struct Vacuums {
    rhythm: Rhythm,
    /// Where transaction ids stood after the last one.
    since: Horizon,
    /// What held back the one that was due last, by its transaction id.
    held_by: Option<i64>,
}

impl Vacuums {
    /// True where one will be due when so much more is done, in the unit that the walk counts in.
    pub(super) fn is_due_after(&self, done: i64) -> bool {
        self.rhythm.is_due_after(done)
    }
}

impl Job<'_> {
    /// Those of a walk over this range, if there are to be any.
    pub(super) async fn vacuums(&self, range: &Checkpoint) -> Result<Option<Vacuums>> {
        let extent = lock(&self.extents).get(&range.relation).copied();
        let rhythm =
            self.spec
                .vacuum
                .zip(extent)
                .and_then(|(vacuum, extent)| match self.spec.strategy {
                    Strategy::Ctid => Some(vacuum.by_blocks(extent)),
                    Strategy::Keyset { .. } => vacuum.by_rows(extent),
                });
        let Some(rhythm) = rhythm else {
            return Ok(None);
        };
        let client = &self.session.lease;
        let barred = probes::not_vacuumed(client, &[range.relation]).await?;
        if !barred.is_empty() {
            return Ok(None);
        }
        Ok(Some(Vacuums {
            rhythm,
            since: probes::horizon(client, Removal::Vacuum).await?,
            held_by: None,
        }))
    }

    /// Counts what was done, and has the relation vacuumed where that is due. Gives true where it
    /// was, so that the time counts as no work of chunks.
    pub(super) async fn vacuum_if_due(
        &self,
        all: &mut Option<Vacuums>,
        relation: &QName,
        done: i64,
    ) -> Result<bool> {
        let Some(all) = all else {
            return Ok(false);
        };
        if !all.rhythm.due(done) {
            return Ok(false);
        }
        // One at a time: the server has one at a time of a table, and the connection is one.
        let Ok(_alone) = self.vacuuming.try_lock() else {
            all.rhythm.postpone();
            return Ok(false);
        };
        let now = probes::horizon(&self.session.lease, Removal::Vacuum).await?;
        if now.holds_back_since(all.since) {
            all.rhythm.postpone();
            // Another worker's chunk may do so for a moment; what does so for longer is told.
            if all.held_by.replace(now.oldest) == Some(now.oldest) {
                self.pruning_held(relation).await?;
            }
            return Ok(false);
        }
        all.held_by = None;
        self.vacuum(relation).await?;
        all.since = probes::horizon(&self.session.lease, Removal::Vacuum).await?;
        Ok(true)
    }

    async fn vacuum(&self, relation: &QName) -> Result<()> {
        let begun = Instant::now();
        self.control.busy(Some(format!("VACUUM of {relation}")));
        let result = self.vacuum_or_give_way(relation).await;
        self.control.busy(None);
        self.session.ledger.add("vacuum", begun.elapsed());
        let done = result?;
        let event = Event::Vacuumed {
            relation: relation.to_string(),
            elapsed_ms: begun.elapsed().as_secs_f64() * 1000.0,
            done,
        };
        self.session.event(&event).await
    }

    /// False where it was ended before it was done.
    async fn vacuum_or_give_way(&self, relation: &QName) -> Result<bool> {
        // The only connection that leads through no pool and does nothing now.
        let client = &self.session.work;
        let whole = self.control.limits().duty >= 1.0;
        let pid = probes::prepare_vacuum(client, whole).await?;
        // It takes no ACCESS EXCLUSIVE lock to cut off the end, and does not wait for a lock.
        let sql = format!("VACUUM (TRUNCATE FALSE, SKIP_LOCKED) {}", qname(relation));
        let work = async { client.batch_execute(&sql).await.map_err(from_pg) };
        let (ended, reason) = cancel_when(self.session, work, self.until_it_gives_way(pid)).await;
        reason.transpose()?;
        match ended {
            Ok(()) => Ok(true),
            // By us, or by somebody who had to: the next one comes in its time.
            Err(error) if error.sqlstate() == Some(CANCELED) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Until the VACUUM of the server process `pid` is to be ended. An error is a stop, or a lost
    /// connection.
    async fn until_it_gives_way(&self, pid: i32) -> Result<()> {
        loop {
            self.session.ctx.sleep(LOOK).await;
            let gate = self.control.gate(Duration::ZERO);
            let held = match tokio::time::timeout(HELD, gate).await {
                Ok(open) => {
                    open?;
                    false
                }
                Err(_) => true,
            };
            let waiting = probes::blocked_by(&self.session.lease, &[pid]).await?.len();
            if gives_way(waiting, held) {
                return Ok(());
            }
        }
    }
}
