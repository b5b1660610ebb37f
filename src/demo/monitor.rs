//! Looks at the primary beside everything else: waits for locks, and how far the standby is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::cluster::sql;
use super::server::connect;
use crate::error::Result;

/// A wait that is shorter may be missed; a longer one is told too short by at most this.
const EVERY: Duration = Duration::from_millis(20);
/// The standby is looked at each time after as many looks at locks.
const LAG_EVERY: u32 = 10;

/// `pg_locks.waitstart` (PostgreSQL docs, "`pg_locks`") is since version 14.
const WAITS: &str = "
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - l.waitstart)), 0)::float8 * 1000
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT l.granted AND a.application_name LIKE 'shop-%'";

const LAG: &str = "
SELECT coalesce(max(extract(epoch FROM replay_lag)), 0)::float8 * 1000,
       coalesce(max(pg_wal_lsn_diff(pg_current_wal_flush_lsn(), replay_lsn)), 0)::int8
FROM pg_stat_replication";

/// The most that was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Seen {
    /// An application session waiting for a lock, in milliseconds.
    pub(super) lock_wait_ms: f64,
    /// Time from flush on the primary to replay on the standby, in milliseconds.
    pub(super) lag_ms: f64,
    /// WAL that the standby had not replayed, in bytes.
    pub(super) lag_bytes: i64,
}

/// The task; dropping it ends it.
pub(super) struct Monitor {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<Result<()>>,
}

impl Monitor {
    /// Begins to look.
    pub(super) async fn start(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(look(client, seen.clone()));
        Ok(Self { seen, task })
    }

    /// The most that was seen.
    ///
    /// # Errors
    /// When it could not look to the end: what was seen is not all then.
    pub(super) async fn stop(mut self) -> Result<Seen> {
        if self.task.is_finished() {
            // It ends by itself only where a query fails.
            if let Ok(ended) = (&mut self.task).await {
                ended?;
            }
        }
        Ok(*self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(client: Client, seen: Arc<Mutex<Seen>>) -> Result<()> {
    let waits = client.prepare(WAITS).await.map_err(|e| sql(WAITS, e))?;
    let lag = client.prepare(LAG).await.map_err(|e| sql(LAG, e))?;
    let mut next = Instant::now();
    for turn in 0_u32.. {
        let row = client
            .query_one(&waits, &[])
            .await
            .map_err(|e| sql(WAITS, e))?;
        let wait: f64 = row.get(0);
        let behind = if turn % LAG_EVERY == 0 {
            let row = client.query_one(&lag, &[]).await.map_err(|e| sql(LAG, e))?;
            (row.get(0), row.get(1))
        } else {
            (0.0, 0)
        };
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.lock_wait_ms = seen.lock_wait_ms.max(wait);
            seen.lag_ms = seen.lag_ms.max(behind.0);
            seen.lag_bytes = seen.lag_bytes.max(behind.1);
        }
        next += EVERY;
        tokio::time::sleep_until(next.into()).await;
    }
    Ok(())
}
