//! The VACUUM between chunks.

use std::time::{Duration, Instant};

use super::Job;
use crate::backfill::vacuum::{Rhythm, Scene};
use crate::backfill::{Horizon, Strategy};
use crate::catalog::QName;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::exec::lock;
use crate::pg::error::from_pg;
use crate::pg::probes;
use crate::sql::quote::qname;
use crate::store::checkpoints::Checkpoint;

/// It is looked this often at who waits for it.
const LOOK: Duration = Duration::from_millis(500);
/// The throttle holds where the gate has not let go for this time.
const HELD: Duration = Duration::from_millis(300);
/// SQLSTATE `query_canceled`.
const CANCELED: &str = "57014";

/// The VACUUMs of one walk.
pub(super) struct Vacuums {
    rhythm: Option<Rhythm>,
    /// Where transaction ids stood after the last one.
    since: Option<Horizon>,
    /// What held back the one that was due last, by its transaction id.
    held_by: Option<i64>,
}

impl Job<'_> {
    /// Those of a walk over this range, if there are to be any.
    pub(super) async fn vacuums(&self, range: &Checkpoint) -> Result<Vacuums> {
        let mut all = Vacuums {
            rhythm: None,
            since: None,
            held_by: None,
        };
        let client = &self.session.lease;
        let extent = lock(&self.extents).get(&range.relation).copied();
        if let (Some(vacuum), Some(extent)) = (self.spec.vacuum, extent)
            && !probes::not_vacuumed(client, &[range.relation]).await?
        {
            all.rhythm = match self.spec.strategy {
                Strategy::Ctid => Some(vacuum.by_blocks(extent)),
                Strategy::Keyset { .. } => vacuum.by_rows(extent),
            };
            all.since = Some(probes::horizon(client).await?);
        }
        Ok(all)
    }

    /// Counts what was done, and has the relation vacuumed where that is due. Gives true where it
    /// was, so that the time counts as no work of chunks.
    pub(super) async fn vacuum_if_due(
        &self,
        all: &mut Vacuums,
        relation: &QName,
        done: i64,
    ) -> Result<bool> {
        let Some(rhythm) = &mut all.rhythm else {
            return Ok(false);
        };
        if !rhythm.due(done) {
            return Ok(false);
        }
        // One at a time: the server has one at a time of a table, and the connection is one.
        let Ok(_alone) = self.vacuuming.try_lock() else {
            rhythm.postpone();
            return Ok(false);
        };
        let now = probes::horizon(&self.session.lease).await?;
        if all.since.is_some_and(|since| now.holds_back_since(since)) {
            rhythm.postpone();
            // Another worker's chunk may do so for a moment; what does so for longer is told.
            if all.held_by.replace(now.oldest) == Some(now.oldest) {
                self.pruning_held(relation).await?;
            }
            return Ok(false);
        }
        all.held_by = None;
        self.vacuum(relation).await?;
        all.since = Some(probes::horizon(&self.session.lease).await?);
        Ok(true)
    }

    /// Says once that dead rows cannot be removed.
    pub(super) async fn pruning_held(&self, relation: &QName) -> Result<()> {
        if self
            .told_held
            .swap(true, std::sync::atomic::Ordering::Relaxed)
        {
            return Ok(());
        }
        let relation = relation.to_string();
        self.session.event(&Event::PruningHeld { relation }).await
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
        let work = client.batch_execute(&sql);
        tokio::pin!(work);
        let reason = tokio::select! {
            result = &mut work => return result.map(|()| true).map_err(from_pg),
            reason = self.until_it_gives_way(pid) => reason,
        };
        // It may be done by now.
        let _ = self.session.ctx.target.cancel(&client.cancel_token()).await;
        let ended = work.await.map_err(from_pg);
        reason?;
        match ended {
            Ok(()) => Ok(true),
            Err(error) if error.sqlstate() == Some(CANCELED) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Until the VACUUM of the server process `pid` is to be ended. An error is a stop, or a lost
    /// connection.
    async fn until_it_gives_way(&self, pid: i32) -> Result<(), Error> {
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
            if (Scene { waiting, held }).gives_way() {
                return Ok(());
            }
        }
    }
}
