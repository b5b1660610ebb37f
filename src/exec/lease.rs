//! One run at a time per migration: an advisory lock on a connection of its own, a lease row for
//! people, and an epoch that fences every chunk and step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::Ctx;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::fault::{self, Write};
use crate::pg::error::from_pg;
use crate::pg::probes::free_connections;
use crate::pg::session::make_of_run;
use crate::retry::reconnect_pause;
use crate::run::RunKind;
use crate::store;
use crate::throttle::samples;

/// The right to run a migration, for as long as its connection lives.
pub struct Lease {
    /// The connection that holds the advisory lock; also used for heartbeats and events.
    pub client: Arc<Client>,
    /// The holder whose lease was taken over, if it was.
    pub took_over: Option<String>,
}

/// A connection for steps and leases. A cut network shows within seconds on both sides, and a
/// statement whose client is gone ends instead of holding its locks to the end.
pub(super) async fn connect(ctx: &Ctx) -> Result<Client> {
    let client = ctx.target.connect().await?;
    make_of_run(&client).await.map_err(from_pg)?;
    Ok(client)
}

/// Refuses to go on where the other connections of a run would leave none to others.
///
/// # Errors
/// [`crate::ErrorKind::Connection`]: as where none at all is left.
pub(super) async fn enough_connections(ctx: &Ctx, client: &Client) -> Result<()> {
    let limits = &ctx.settings.limits;
    if limits.min_free_connections.is_none() {
        return Ok(());
    }
    let free = free_connections(client).await?;
    if samples::may_begin(free, limits) {
        return Ok(());
    }
    Err(Error::connection(format!(
        "too few connections are free: this run needs {} and leaves one to others, and beside the \
         one that looked there are {}",
        samples::RUN_CONNECTIONS,
        free.max(0)
    ))
    .hint(
        "end some sessions, raise max_connections (or the CONNECTION LIMIT of the role or of the \
         database), or --throttle min-free-connections=off",
    ))
}

/// The advisory lock's key for a migration.
pub fn lock_key(migration: &str) -> i64 {
    let digest = Sha256::digest(format!("pgshift {migration}").as_bytes());
    i64::from_be_bytes([
        digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7],
    ])
}

/// For this long a holder without a new sign of life is looked at again before it is respected: of
/// a runner that was just killed the server may not know yet. More than two heartbeats.
const GRACE: Duration = Duration::from_millis(2_500);

/// Takes the lease of a migration. A holder that shows signs of life is respected; one whose lease
/// ran out, or that is ourselves on a connection that the server has not missed yet, is ended.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] naming the live holder.
pub async fn acquire(ctx: &Ctx, migration: &str) -> Result<Lease> {
    match try_acquire(ctx, migration).await? {
        Tried::Had(lease) => Ok(lease),
        Tried::HeldBy(error) => Err(error),
    }
}

/// The lease of a run that was to be opened, with what came of it. Where the reply was lost the
/// server is asked whether there is an open run.
///
/// # Errors
/// What kept the run from being opened, or the connection lost before it was.
pub(super) async fn opened(
    ctx: &Ctx,
    migration: &str,
    kind: RunKind,
    lease: Lease,
    result: Result<()>,
) -> Result<Lease> {
    let lost = match result {
        Ok(()) => return Ok(lease),
        Err(error) if error.is_connection() => error,
        Err(error) => return Err(error),
    };
    drop(lease);
    let since = Instant::now();
    let mut attempt = 0;
    loop {
        let reason = lost.message().to_owned();
        ctx.emit(migration, &Event::Reconnecting { reason });
        ctx.sleep(reconnect_pause(attempt, fastrand::f64())).await;
        attempt += 1;
        let look = async {
            let lease = acquire(ctx, migration).await?;
            let open = store::runs::open_run(&*lease.client, migration).await?;
            Ok::<_, Error>((lease, open))
        };
        match look.await {
            Ok((lease, Some(open))) if open.kind == kind => return Ok(lease),
            Ok(_) => {
                return Err(lost
                    .left("nothing was changed: the server has not recorded the beginning")
                    .hint("the same command again tries again"));
            }
            // Of our own session the server may not know yet that its client is gone.
            Err(error) if !error.is_connection() && since.elapsed() > MISSED => return Err(error),
            Err(_) if ctx.stopping() || since.elapsed() > ctx.settings.reconnect_budget => {
                return Err(lost);
            }
            Err(_) => {}
        }
    }
}

/// The server has missed a client that is gone by then, see [`make_of_run`].
const MISSED: Duration = Duration::from_secs(15);

/// [`acquire`] for a runner that had the lease and lost its connection.
///
/// # Errors
/// [`crate::ErrorKind::Interrupted`] where another runner has it now.
pub(super) async fn acquire_again(ctx: &Ctx, migration: &str) -> Result<Lease> {
    match try_acquire(ctx, migration).await? {
        Tried::Had(lease) => Ok(lease),
        Tried::HeldBy(error) => Err(super::session::taken_over().caused_by(error)),
    }
}

enum Tried {
    Had(Lease),
    HeldBy(Error),
}

async fn try_acquire(ctx: &Ctx, migration: &str) -> Result<Tried> {
    let client = connect(ctx).await?;
    let key = lock_key(migration);
    let begun = Instant::now();
    let mut took_over = None;
    let mut first_sign: Option<(i32, Duration)> = None;
    loop {
        let lock = async {
            let sql = "SELECT pg_try_advisory_lock($1)";
            let row = client.query_one(sql, &[&key]).await.map_err(from_pg)?;
            Ok(row.get::<_, bool>(0))
        };
        if fault::around(Write::LeaseLock, lock).await? {
            return Ok(Tried::Had(Lease {
                client: Arc::new(client),
                took_over,
            }));
        }
        let holder = holder(&client, migration, key).await?;
        let Some(holder) = holder else {
            // It went between the two queries.
            continue;
        };
        let ours = holder.name.as_deref() == Some(ctx.actor.as_str());
        if !ours && !holder.expired {
            let sign = (holder.pid, holder.beat);
            if *first_sign.get_or_insert(sign) == sign && begun.elapsed() < GRACE {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            let error = Error::refused(format!(
                "{migration} is being run by {} (last sign of life {:.0} s ago)",
                holder
                    .name
                    .as_deref()
                    .unwrap_or("a session that has just started"),
                holder.silent.as_secs_f64()
            ))
            .left("nothing was changed")
            .hint(format!(
                "watch it with `pgshift status`, or end it: its server process is {}",
                holder.pid
            ));
            return Ok(Tried::HeldBy(error));
        }
        took_over = holder.name;
        client
            .query_one("SELECT pg_terminate_backend($1)", &[&holder.pid])
            .await
            .map_err(|e| from_pg(e).context("the dead runner's session cannot be ended"))?;
        if begun.elapsed() > Duration::from_secs(20) {
            return Err(Error::refused(format!(
                "the session of the dead runner (server process {}) does not end",
                holder.pid
            ))
            .left("nothing was changed")
            .hint("end it by hand, then `pgshift resume`"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Whether somebody runs a migration now.
pub(super) async fn is_held(client: &Client, migration: &str) -> Result<bool> {
    let holder = holder(client, migration, lock_key(migration)).await?;
    Ok(holder.is_some_and(|h| !h.expired))
}

struct Holder {
    pid: i32,
    name: Option<String>,
    expired: bool,
    silent: Duration,
    /// When it gave its last sign of life, by the server's clock.
    beat: Duration,
}

/// Who holds the advisory lock, and what the lease row says of it.
async fn holder(client: &Client, migration: &str, key: i64) -> Result<Option<Holder>> {
    let (high, low) = ((key >> 32) as u32, (key & 0xffff_ffff) as u32);
    let row = client
        .query_opt(
            "SELECT l.pid, lease.holder,
                    coalesce(lease.expires_at < clock_timestamp(),
                             a.backend_start < clock_timestamp() - interval '1 minute') AS expired,
                    extract(epoch FROM clock_timestamp()
                            - coalesce(lease.heartbeat_at, a.backend_start))::float8 AS silent,
                    extract(epoch FROM coalesce(lease.heartbeat_at, a.backend_start))::float8 AS beat
             FROM pg_locks l
             JOIN pg_stat_activity a ON a.pid = l.pid
             LEFT JOIN pgshift.lease ON lease.backend_pid = l.pid
                  AND lease.run_id IN (SELECT id FROM pgshift.run WHERE migration_id = $3)
             WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
               AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
               AND l.classid = $1 AND l.objid = $2",
            &[&high, &low, &migration],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.map(|row| Holder {
        pid: row.get("pid"),
        name: row.get("holder"),
        expired: row.get("expired"),
        silent: Duration::from_secs_f64(row.get::<_, f64>("silent").max(0.0)),
        beat: Duration::from_secs_f64(row.get::<_, f64>("beat").max(0.0)),
    }))
}

/// Raises the epoch of a run and writes the lease row. Returns the epoch.
///
/// Transactions of an earlier epoch hold the run's row until they end. Chunks end soon, by
/// themselves or by their timeouts; a long statement of a runner that is frozen is ended.
pub async fn begin_epoch(ctx: &Ctx, lease: &Lease, run: i64) -> Result<i64> {
    let client = &*lease.client;
    let raise = fault::around(Write::Epoch, store::runs::raise_epoch(client, run));
    tokio::pin!(raise);
    let epoch = loop {
        match tokio::time::timeout(PATIENCE, &mut raise).await {
            Ok(epoch) => break epoch?,
            Err(_) => end_old_epoch(ctx, run).await?,
        }
    };
    let ttl = ctx.settings.lease_ttl;
    let take = store::runs::take_lease(client, run, epoch, &ctx.actor, ttl);
    fault::around(Write::Lease, take).await?;
    Ok(epoch)
}

/// How long the transactions of an earlier epoch may take to end.
const PATIENCE: Duration = Duration::from_secs(4);

/// Ends our own sessions that the raising of the epoch waits for: they belong to a runner that no
/// longer holds the lease, and would be rolled back by the fence anyway.
async fn end_old_epoch(ctx: &Ctx, run: i64) -> Result<()> {
    let client = ctx.target.connect().await?;
    let ended = client
        .execute(
            "SELECT pg_terminate_backend(a.pid)
             FROM pg_stat_activity a
             WHERE a.application_name = 'pgshift' AND a.pid IN (
                 SELECT unnest(pg_blocking_pids(w.pid)) FROM pg_stat_activity w
                 WHERE w.application_name = 'pgshift' AND w.datname = current_database()
                   AND w.wait_event_type = 'Lock' AND w.query LIKE 'UPDATE pgshift.run SET epoch%')",
            &[],
        )
        .await
        .map_err(from_pg)?;
    tracing::warn!(run, "ended {ended} sessions of an earlier runner");
    Ok(())
}
