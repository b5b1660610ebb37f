//! Steps that block from the moment that they have their lock: short tries for it, never a queue
//! behind us for long. One transaction each, but for what the server refuses in one.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::commit;
use super::ledger::LOCKS;
use super::session::{Session, done_event, record_done};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fault::{self, Write};
use crate::lock::{LockMode, LockOn, conflicts};
use crate::pg::catalog::dependents;
use crate::pg::error::from_pg;
use crate::pg::probes::{Blocker, would_block};
use crate::plan::Step;
use crate::plan::retype::dependents::changed;
use crate::retry::{InTheWay, rest_after};
use crate::store;

/// The same blockers are told again after this time.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// While a try has no chance, whoever is in the way is looked at again after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) async fn run(
    session: &Session,
    ordinal: usize,
    step: &Step,
    statements: &[String],
) -> Result<Duration> {
    let ladder = session.ctx.settings.ladder_of(step);
    let begun = Instant::now();
    let mut said: Option<(Instant, Vec<String>)> = None;
    let mut tried = None;
    let mut attempt = 0;
    // What is spent on keeping things fresh is no waiting for a lock.
    let mut renewing = Duration::ZERO;
    let mut refusal = None;
    session.ledger.hold(Some(LOCKS));
    loop {
        session.check_stop()?;
        let blockers = blockers(session, &step.locks).await?;
        let names: Vec<String> = blockers.iter().map(ToString::to_string).collect();
        let Some(this) = ladder.attempt(
            attempt,
            begun.elapsed().saturating_sub(renewing),
            fastrand::f64(),
        ) else {
            return Err(not_had(&names, begun.elapsed(), refusal.as_deref()));
        };
        let in_the_way: Vec<InTheWay> = blockers.iter().map(in_the_way).collect();
        let since = tried.map(|at: Instant| at.elapsed());
        let Some(lock_timeout) = ladder.try_now(this, &in_the_way, since) else {
            if session.ctx.settings.cancel_blockers {
                cancel(session, ordinal, &blockers).await?;
            }
            let news = said
                .as_ref()
                .is_none_or(|(at, who)| *who != pids(&blockers) || at.elapsed() > SAY_AGAIN);
            if news {
                session
                    .event(&Event::LockWaiting {
                        step: ordinal,
                        attempt,
                        blockers: names,
                    })
                    .await?;
                said = Some((Instant::now(), pids(&blockers)));
            }
            session.ctx.sleep(LOOK_AGAIN).await;
            continue;
        };
        let renews = Instant::now();
        if let Err(error) = before_try(session, step).await {
            if error.kind() != ErrorKind::Lock {
                return Err(error);
            }
            session.ctx.sleep(this.pause).await;
            attempt += 1;
            continue;
        }
        renewing += renews.elapsed();
        let waited = begun.elapsed().saturating_sub(renewing);
        let trying = Instant::now();
        tried = Some(trying);
        session.ledger.hold(None);
        let result = attempt_once(
            session,
            ordinal,
            step,
            statements,
            lock_timeout,
            waited,
            attempt,
        )
        .await;
        let refused = result
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Lock);
        if refused {
            session.ledger.add(LOCKS, trying.elapsed());
            session.ledger.hold(Some(LOCKS));
        }
        if refused || result.is_ok() {
            let waited = if refused { begun.elapsed() } else { waited };
            session.ctx.emit(
                &session.migration,
                &Event::LockTried {
                    step: ordinal,
                    had: !refused,
                    waited_ms: waited.as_millis() as u64,
                },
            );
        }
        match result {
            Ok(()) => {
                let rest = rest_after(trying.elapsed(), lock_timeout);
                session.ctx.sleep(rest).await;
                session.ledger.add(LOCKS, rest);
                return Ok(waited);
            }
            Err(error) if refused => {
                tracing::debug!(migration = %session.migration, step = ordinal, "no lock: {error}");
                session.ctx.emit(
                    &session.migration,
                    &Event::LockWaiting {
                        step: ordinal,
                        attempt: attempt + 1,
                        blockers: names,
                    },
                );
                session.ctx.sleep(this.pause).await;
                attempt += 1;
                refusal = Some(error.message().to_owned());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Brings up to date what the step needs to be so, in a transaction of its own.
async fn before_try(session: &Session, step: &Step) -> Result<()> {
    if step.before_try.is_empty() {
        return Ok(());
    }
    let client = &session.work;
    let work = async {
        client
            .batch_execute(
                "BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = 0; \
                 SET LOCAL idle_in_transaction_session_timeout = '5s'",
            )
            .await
            .map_err(from_pg)?;
        store::runs::fence(client, session.run_id(), session.epoch).await?;
        run_all(client, &step.before_try).await?;
        fault::around(Write::StepDdl, commit(client)).await
    };
    let result = cancel_on_stop(session, work).await;
    if result.as_ref().is_err_and(|e| !e.is_connection()) {
        client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    }
    result
}

fn not_had(blockers: &[String], waited: Duration, refusal: Option<&str>) -> Error {
    let mut who = if blockers.is_empty() {
        String::new()
    } else {
        format!("; in the way: {}", blockers.join("; "))
    };
    // The server's own words are the same each time, but for what a step says itself.
    if let Some(refusal) = refusal.filter(|r| r.contains("was refreshed meanwhile")) {
        who.push_str("; the last try: ");
        who.push_str(refusal);
    }
    Error::new(
        ErrorKind::Lock,
        format!("the lock was not had in {:.0} s{who}", waited.as_secs_f64()),
    )
    .hint("end those transactions, or allow it with --cancel-blockers; then `pgshift resume`")
}

fn is_autovacuum(blocker: &Blocker) -> bool {
    blocker.backend_type.as_deref() == Some("autovacuum worker")
}

fn in_the_way(blocker: &Blocker) -> InTheWay {
    InTheWay {
        age: blocker.transaction_age,
        gives_way: is_autovacuum(blocker),
    }
}

fn pids(blockers: &[Blocker]) -> Vec<String> {
    blockers
        .iter()
        .map(|b| {
            b.pid
                .map_or_else(|| b.prepared.clone().unwrap_or_default(), |p| p.to_string())
        })
        .collect()
}

/// Sessions that hold locks which conflict with those of the step.
async fn blockers(session: &Session, locks: &[LockOn]) -> Result<Vec<Blocker>> {
    let mut all = Vec::new();
    for lock in locks {
        let Some(relation) = &lock.relation else {
            continue;
        };
        let modes: Vec<&str> = LockMode::ALL
            .into_iter()
            .filter(|mode| conflicts(*mode, lock.mode))
            .map(LockMode::pg_locks_name)
            .collect();
        let name = relation.sql();
        // A partitioned table's partitions are locked with it.
        let rows = session
            .lease
            .query(
                "SELECT relid::oid FROM pg_partition_tree(to_regclass($1))
                 UNION SELECT to_regclass($1)::oid WHERE to_regclass($1) IS NOT NULL",
                &[&name],
            )
            .await
            .map_err(from_pg)?;
        let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        if !oids.is_empty() {
            all.extend(would_block(&session.lease, &oids, &modes).await?);
        }
    }
    all.sort_by_key(|b| b.pid);
    all.dedup_by_key(|b| (b.pid, b.prepared.clone()));
    Ok(all)
}

/// Ends the sessions in the way, as `--cancel-blockers` allows. Prepared transactions are left:
/// their owner has promised to finish them.
async fn cancel(session: &Session, ordinal: usize, blockers: &[Blocker]) -> Result<()> {
    let pids: Vec<i32> = blockers
        .iter()
        .filter(|b| !is_autovacuum(b))
        .filter_map(|b| b.pid)
        .collect();
    if pids.is_empty() {
        return Ok(());
    }
    session
        .lease
        .execute(
            "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid",
            &[&pids],
        )
        .await
        .map_err(|error| {
            let error = from_pg(error);
            if error.sqlstate() != Some("42501") {
                return error;
            }
            error.hint(
                "GRANT pg_signal_backend TO the role (sessions of superusers only superusers end), \
                 or leave out --cancel-blockers; see docs/privileges.md",
            )
        })?;
    // What could not be done is not told.
    session
        .event(&Event::BlockersCancelled {
            step: ordinal,
            blockers: blockers.iter().map(ToString::to_string).collect(),
        })
        .await
}

/// One try: the statements, the record of the step and its event in one transaction.
async fn attempt_once(
    session: &Session,
    ordinal: usize,
    step: &Step,
    statements: &[String],
    lock_timeout: Duration,
    waited: Duration,
    attempts: u32,
) -> Result<()> {
    if !step.transactional() {
        return attempt_outside(session, ordinal, step, statements, lock_timeout, waited).await;
    }
    let client = &session.work;
    let begun = Instant::now();
    let work = async {
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL lock_timeout = '{}ms'; SET LOCAL statement_timeout = 0; \
                 SET LOCAL idle_in_transaction_session_timeout = '5s'; \
                 SET LOCAL synchronous_commit = on",
                lock_timeout.as_millis().max(1)
            ))
            .await
            .map_err(from_pg)?;
        store::runs::fence(client, session.run_id(), session.epoch).await?;
        unchanged(client, step).await?;
        run_all(client, statements).await?;
        let lost = serde_json::json!({ store::runs::LOST: session.ledger.total() });
        store::runs::finish_step(client, session.run_id(), ordinal, Some(&lost)).await?;
        store::runs::add_waiting(
            client,
            session.run_id(),
            ordinal,
            attempts as i32 + 1,
            waited,
        )
        .await?;
        let event = done_event(ordinal, step, begun.elapsed() + waited, waited);
        session.append(client, &event).await?;
        fault::around(Write::StepDdl, commit(client)).await
    };
    let result = cancel_on_stop(session, work).await;
    if result.as_ref().is_err_and(|e| !e.is_connection()) {
        client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    }
    result
}

/// What the step drops and makes again is what it was in the plan.
async fn unchanged(client: &Client, step: &Step) -> Result<()> {
    for relies in &step.relies {
        let columns: Vec<&str> = relies.columns.iter().map(String::as_str).collect();
        let now = dependents::of_table(client, &relies.table, &columns).await?;
        let own = dependents::parts(client, &relies.table, &columns).await?;
        if let Some(why) = changed(relies, &now, &own) {
            return Err(Error::new(ErrorKind::Refused, why)
                .left("nothing was changed by this step")
                .hint(
                    "put it back as it was (or drop what is new, and make it again afterwards), \
                     then `pgshift resume`; before contract, `pgshift revert` and `pgshift apply` \
                     plan anew; a way back may be given up by `pgshift revert --call-off`",
                ));
        }
    }
    Ok(())
}

/// The statements of a step, one after another.
async fn run_all(client: &Client, statements: &[String]) -> Result<()> {
    for sql in statements {
        client
            .batch_execute(sql)
            .await
            .map_err(|e| from_pg(e).caused_in(sql))?;
    }
    Ok(())
}

/// One try outside of a transaction. Where it is done and its record is not, it is done again.
async fn attempt_outside(
    session: &Session,
    ordinal: usize,
    step: &Step,
    statements: &[String],
    lock_timeout: Duration,
    waited: Duration,
) -> Result<()> {
    let client = &session.work;
    let begun = Instant::now();
    client
        .batch_execute(&format!(
            "SET lock_timeout = '{}ms'; SET statement_timeout = 0",
            lock_timeout.as_millis().max(1)
        ))
        .await
        .map_err(from_pg)?;
    let result = cancel_on_stop(session, run_all(client, statements)).await;
    if result.as_ref().is_err_and(Error::is_connection) {
        return result;
    }
    client
        .batch_execute("SET lock_timeout = 0")
        .await
        .map_err(from_pg)?;
    result?;
    let event = done_event(ordinal, step, begun.elapsed() + waited, waited);
    record_done(session, ordinal, &event, None).await
}

/// Runs a statement that may take long; a stop cancels it on the server.
pub(super) async fn cancel_on_stop<T>(
    session: &Session,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let mut stop = session.ctx.stop.clone();
    let asked = async {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let (result, asked) = cancel_when(session, work, asked).await;
    result.map_err(|error| {
        if asked.is_some() && error.sqlstate() == Some(CANCELED) {
            session.ctx.stopped()
        } else {
            error
        }
    })
}

/// SQLSTATE `query_canceled`.
pub(super) const CANCELED: &str = "57014";

/// Runs statements on the session's own connection, which are cancelled on the server as soon as
/// there is a reason. It may be done by then; if it is, its result counts.
pub(super) async fn cancel_when<T, R>(
    session: &Session,
    work: impl Future<Output = Result<T>>,
    reason: impl Future<Output = R>,
) -> (Result<T>, Option<R>) {
    tokio::pin!(work);
    tokio::select! {
        result = &mut work => (result, None),
        reason = reason => {
            let _ = session.ctx.target.cancel(&session.work.cancel_token()).await;
            (work.await, Some(reason))
        }
    }
}

trait CausedIn {
    fn caused_in(self, sql: &str) -> Self;
}

impl CausedIn for Error {
    /// Names the statement in the message.
    fn caused_in(self, sql: &str) -> Self {
        let first = sql.lines().next().unwrap_or_default();
        let more = if sql.lines().nth(1).is_some() {
            " …"
        } else {
            ""
        };
        if self.is_connection() || self.kind() == ErrorKind::Lock {
            return self;
        }
        self.context(format!("`{first}{more}`"))
    }
}
