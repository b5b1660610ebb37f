//! The VACUUM on the way, beside the chunks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedMutexGuard, mpsc, watch};

use super::Job;
use crate::backfill::vacuum::{Holder, Rhythm, gives_way};
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
/// SQLSTATE `undefined_table`.
pub(super) const GONE: &str = "42P01";
/// The throttle holds where the gate has not let go for this time.
const HELD: Duration = Duration::from_millis(300);

/// The VACUUMs of one walk.
pub(super) struct Vacuums {
    rhythm: Rhythm,
    /// Where transaction ids stood when the last one was asked for.
    since: Horizon,
    begun: Instant,
    /// What held back the one that was due last.
    holder: Holder,
    /// This walk has asked for one.
    asked: bool,
}

/// A walk asks for a VACUUM.
pub(super) struct Ask {
    relation: QName,
    /// Held until it has ended.
    _alone: OwnedMutexGuard<()>,
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
            begun: Instant::now(),
            holder: Holder::default(),
            asked: false,
        }))
    }

    /// Runs walks, and beside them the VACUUMs that they ask for. One that is under way when they
    /// end is ended: nothing comes that could take the room.
    pub(super) async fn with_vacuums<T>(
        &self,
        asked: &mut mpsc::Receiver<Ask>,
        walks: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        while asked.try_recv().is_ok() {}
        let (over, mut is_over) = watch::channel(false);
        let walks = async {
            let result = walks.await;
            over.send_replace(true);
            Ok(result)
        };
        let vacuums = async {
            loop {
                let ask = tokio::select! {
                    biased;
                    _ = is_over.wait_for(|over| *over) => return Ok(()),
                    ask = asked.recv() => ask,
                };
                if let Some(ask) = ask {
                    self.vacuum(&ask.relation, &mut is_over).await?;
                }
            }
        };
        // An error of the walks waits for the end of a VACUUM; one of a VACUUM is a lost connection.
        let (result, ()) = futures_util::future::try_join(walks, vacuums).await?;
        result
    }

    /// Counts what was done, and asks for a VACUUM of the relation where that is due. It waits for
    /// the one before, which this walk asked for, so that the table grows by no more than two
    /// distances. Gives true where it waited: that time is no work of chunks.
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
        let mut waited = false;
        let alone = match self.vacuuming.clone().try_lock_owned() {
            Ok(alone) => alone,
            Err(_) if all.asked => {
                waited = true;
                self.end_of_vacuum(relation).await
            }
            Err(_) => {
                all.rhythm.postpone();
                return Ok(false);
            }
        };
        let now = probes::horizon(&self.session.lease, Removal::Vacuum).await?;
        let held = now.holds_back_since(all.since);
        let oldest = held.then_some(now.oldest);
        if all.holder.lasts(oldest, all.begun.elapsed()) {
            self.pruning_held(relation).await?;
        }
        if held {
            all.rhythm.postpone();
            return Ok(waited);
        }
        all.since = now;
        all.asked = true;
        let ask = Ask {
            relation: relation.clone(),
            _alone: alone,
        };
        // The other end is there for as long as there are walks.
        let _ = self.asks.send(ask).await;
        Ok(waited)
    }

    /// Waits for the end of a VACUUM.
    async fn end_of_vacuum(&self, relation: &QName) -> OwnedMutexGuard<()> {
        let begun = Instant::now();
        self.control.busy(Some(format!("VACUUM of {relation}")));
        let alone = Arc::clone(&self.vacuuming).lock_owned().await;
        self.control.busy(None);
        self.session.ledger.add("vacuum", begun.elapsed());
        alone
    }

    async fn vacuum(&self, relation: &QName, over: &mut watch::Receiver<bool>) -> Result<()> {
        let begun = Instant::now();
        let done = self.vacuum_or_give_way(relation, over).await?;
        let event = Event::Vacuumed {
            relation: relation.to_string(),
            elapsed_ms: begun.elapsed().as_secs_f64() * 1000.0,
            done,
        };
        self.session.event(&event).await
    }

    /// False where it was ended before it was done.
    async fn vacuum_or_give_way(
        &self,
        relation: &QName,
        over: &mut watch::Receiver<bool>,
    ) -> Result<bool> {
        // The only connection that leads through no pool and does nothing now.
        let client = &self.session.work;
        let whole = self.control.limits().duty >= 1.0;
        let pid = probes::prepare_vacuum(client, whole).await?;
        // It takes no ACCESS EXCLUSIVE lock to cut off the end, and does not wait for a lock.
        let sql = format!("VACUUM (TRUNCATE FALSE, SKIP_LOCKED) {}", qname(relation));
        let work = async { client.batch_execute(&sql).await.map_err(from_pg) };
        let reason = async {
            tokio::select! {
                _ = over.wait_for(|over| *over) => Ok(()),
                given = self.until_it_gives_way(pid) => given,
            }
        };
        let (ended, reason) = cancel_when(self.session, work, reason).await;
        reason.transpose()?;
        match ended {
            Ok(()) => Ok(true),
            // By us, or by somebody who had to: the next one comes in its time. Or a partition is
            // gone, of which the walk learns by itself.
            Err(error) if [Some(CANCELED), Some(GONE)].contains(&error.sqlstate()) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Until the VACUUM of the server process `pid` is to be ended. An error is a lost connection.
    async fn until_it_gives_way(&self, pid: i32) -> Result<()> {
        loop {
            self.session.ctx.sleep(LOOK).await;
            let gate = self.control.gate(Duration::ZERO);
            let held = match tokio::time::timeout(HELD, gate).await {
                // The walks stop by themselves, each after the chunk in hand.
                Ok(Err(_)) if self.session.ctx.stopping() => return Ok(()),
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
