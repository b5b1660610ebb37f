//! Steps outside a transaction: CREATE, DROP and REINDEX … CONCURRENTLY. What was done is read
//! from the catalog.

use std::time::{Duration, Instant};

use super::ddl::cancel_on_stop;
use super::session::{Session, done_event, record_done};
use crate::catalog::QName;
use crate::error::{Error, Result};
use crate::fault::{self, Write};
use crate::pg::error::from_pg;
use crate::plan::{Phase, Step};
use crate::sql::quote::qname;

/// What a step makes or drops.
pub(super) struct Target<'a> {
    pub(super) sql: &'a str,
    pub(super) index: Option<&'a QName>,
    pub(super) drops: bool,
}

/// What the catalog says of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Absent,
    Valid,
    Invalid,
}

pub(super) async fn run(
    session: &Session,
    ordinal: usize,
    step: &Step,
    target: &Target<'_>,
    begun_before: bool,
) -> Result<Duration> {
    let begun = Instant::now();
    // This connection is ours alone. No lock_timeout: it would also count the wait for old
    // snapshots, and kill the build at its end.
    session
        .work
        .batch_execute("SET lock_timeout = 0; SET statement_timeout = 0")
        .await
        .map_err(from_pg)?;
    let mut done = false;
    if begun_before {
        end_orphans(session, target.sql).await?;
    }
    // The way back of a step may find its work undone by the way back of a later one, and the way
    // back of a drop that was cut short finds the index, or what is left of it.
    let reverting = step.phase == Phase::Revert;
    if (begun_before || reverting)
        && let Some(index) = target.index
    {
        match found(session, index).await? {
            Found::Valid if !target.drops => done = true,
            Found::Absent if target.drops => done = true,
            Found::Invalid if !target.drops => {
                cancel_on_stop(session, drop_leftover(session, index)).await?;
            }
            _ => {}
        }
    }
    if !done {
        let work = async {
            session
                .work
                .batch_execute(target.sql)
                .await
                .map_err(from_pg)
        };
        let work = fault::around(Write::Concurrent, work);
        if let Err(error) = cancel_on_stop(session, work).await {
            return Err(after_failure(session, target, error).await);
        }
    }
    if let Some(index) = target.index.filter(|_| !target.drops)
        && found(session, index).await? == Found::Invalid
    {
        return Err(Error::refused(format!(
            "index {index} was built but is not valid"
        )));
    }
    record_done(
        session,
        ordinal,
        &done_event(ordinal, step, begun.elapsed(), Duration::ZERO),
        None,
    )
    .await?;
    Ok(Duration::ZERO)
}

/// A failed build leaves an invalid index, which costs every write: it is dropped at once.
async fn after_failure(session: &Session, target: &Target<'_>, error: Error) -> Error {
    if error.is_connection() || target.drops {
        return error;
    }
    // An index of that name that was there before is not ours to drop.
    let existed = error.sqlstate() == Some("42P07");
    let Some(index) = target.index.filter(|_| !existed) else {
        return error;
    };
    let cleanup = async {
        if found(session, index).await? == Found::Invalid {
            drop_leftover(session, index).await?;
        }
        Ok::<(), Error>(())
    };
    let cleaned = if session.ctx.stopping() {
        // It waits for old transactions too, perhaps those that the build waited for; and
        // somebody waits for us.
        tokio::pin!(cleanup);
        if let Ok(cleaned) = tokio::time::timeout(CLEANUP, &mut cleanup).await {
            cleaned
        } else {
            let token = session.work.cancel_token();
            let _ = session.ctx.target.cancel(&token).await;
            match tokio::time::timeout(CLEANUP, &mut cleanup).await {
                Ok(Ok(())) => Ok(()),
                _ => Err(Error::interrupted("open transactions are in the way")),
            }
        }
    } else {
        cleanup.await
    };
    match cleaned {
        Ok(()) => error.left("the unfinished index was dropped; the steps before it are kept"),
        Err(second) => error.left(format!(
            "an invalid index {index} is left, which a resume or revert drops first: {second}"
        )),
    }
}

/// How long a stop waits for an unfinished index to be dropped.
const CLEANUP: Duration = Duration::from_millis(800);

/// Ends what a runner that is gone left running: we hold the lease, so nobody else of ours runs
/// this statement.
async fn end_orphans(session: &Session, sql: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        // The server keeps the first `track_activity_query_size` bytes, 1 kB by default.
        let running = session
            .lease
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'pgshift' AND datname = current_database()
                   AND usename = current_user AND pid <> pg_backend_pid() AND state = 'active'
                   AND left(query, 200) = left($1, 200)",
                &[&sql],
            )
            .await
            .map_err(from_pg)?;
        if running.is_empty() || begun.elapsed() > Duration::from_secs(10) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        session.check_stop()?;
    }
}

async fn drop_leftover(session: &Session, index: &QName) -> Result<()> {
    let sql = format!("DROP INDEX CONCURRENTLY IF EXISTS {}", qname(index));
    let drop = async { session.work.batch_execute(&sql).await.map_err(from_pg) };
    fault::around(Write::Leftover, drop).await
}

async fn found(session: &Session, index: &QName) -> Result<Found> {
    let row = session
        .lease
        .query_opt(
            "SELECT i.indisvalid FROM pg_index i
             JOIN pg_class c ON c.oid = i.indexrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relname = $2",
            &[&index.schema, &index.name],
        )
        .await
        .map_err(from_pg)?;
    Ok(match row.map(|row| row.get::<_, bool>(0)) {
        None => Found::Absent,
        Some(true) => Found::Valid,
        Some(false) => Found::Invalid,
    })
}
