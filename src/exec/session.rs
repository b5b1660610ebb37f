//! One run from wherever it stands to its end: step by step, and anew after every lost
//! connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::lease::{self, Lease};
use super::ledger::Ledger;
use super::live::LINE;
use super::{Ctx, backfill, commit, concurrent, ddl, lock, ready, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Lost, Progress};
use crate::fault::{self, Write};
use crate::pg::error::from_pg;
use crate::plan::locks::in_tries;
use crate::plan::{PartOf, Step, Work};
use crate::retry::reconnect_pause;
use crate::run::{Input, RunState, transition};
use crate::sql::ddl::understand;
use crate::sql::quote::qname;
use crate::store::{self, RunRow, StepState, overrides};

/// Time between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The account of the time lost is written at every such heartbeat, where it has changed.
const ACCOUNT_EVERY: u32 = 2;

/// A run under one lease and one epoch.
pub(super) struct Session {
    pub(super) ctx: Ctx,
    pub(super) migration: String,
    /// `None` outside a run: an ad-hoc verify.
    pub(super) run: Option<i64>,
    pub(super) epoch: i64,
    /// Heartbeats, events, records of steps.
    pub(super) lease: Arc<Client>,
    /// The steps' own statements.
    pub(super) work: Client,
    /// The last progress, which the heartbeats tell to `pgshift status`.
    pub(super) progress: Mutex<Option<Progress>>,
    /// Time lost by the step under way.
    pub(super) ledger: Ledger,
}

impl Session {
    /// Gives an event to the display and, where it is durable, to the log.
    pub(super) async fn event(&self, event: &Event) -> Result<()> {
        self.ctx.emit(&self.migration, event);
        if event.is_durable() {
            fault::around(Write::Event, self.append(&self.lease, event)).await?;
        }
        Ok(())
    }

    /// Writes an event to the log, in the transaction that `client` is in.
    pub(super) async fn append(&self, client: &Client, event: &Event) -> Result<()> {
        store::events::append(client, &self.migration, self.run, &self.ctx.actor, event).await
    }

    /// Tells where a backfill or verify stands.
    pub(super) fn tell(&self, progress: Progress) {
        *lock(&self.progress) = Some(progress.clone());
        self.ctx.emit(&self.migration, &Event::Progress(progress));
    }

    /// A new step: heartbeats no longer tell the progress of the one before.
    fn begin_progress(&self, step: usize, title: &str) {
        let progress = Progress {
            step,
            title: title.to_owned(),
            ..Progress::default()
        };
        *lock(&self.progress) = Some(progress);
    }

    /// The last progress that was told.
    pub(super) fn progress(&self) -> Option<Progress> {
        lock(&self.progress).clone()
    }

    /// Writes the account of the time lost, where it differs from what is written.
    async fn note_lost(&self, written: &mut Lost) -> Result<()> {
        let Some(step) = self.progress().map(|p| p.step) else {
            return Ok(());
        };
        let lost = self.ledger.total();
        if lost != *written {
            store::runs::note_lost(&*self.lease, self.run_id(), self.epoch, step, &lost).await?;
            *written = lost;
        }
        Ok(())
    }

    /// The run's number; 0 outside a run, which no row has.
    pub(super) fn run_id(&self) -> i64 {
        self.run.unwrap_or(0)
    }

    /// [`Error`] where a stop was asked for.
    pub(super) fn check_stop(&self) -> Result<()> {
        if self.ctx.stopping() {
            Err(self.ctx.stopped())
        } else {
            Ok(())
        }
    }
}

/// What this process held of a run before its connection was lost.
#[derive(Default)]
struct Held {
    /// The run and its epoch; an epoch above it is another runner's.
    run: Option<(i64, i64)>,
    /// The session got its epoch: the server was there.
    connected: bool,
}

/// Executes an open run to its end, through lost connections.
///
/// `first` is a lease that the caller already holds.
pub async fn execute(ctx: &Ctx, migration: &str, first: Option<Lease>) -> Result<()> {
    let mut lease = first;
    let mut held = Held::default();
    let mut lost: Option<Instant> = None;
    let mut attempt = 0;
    loop {
        held.connected = false;
        let result = once(ctx, migration, lease.take(), &mut held).await;
        let Err(error) = result else { return Ok(()) };
        if !error.is_connection() {
            return Err(error);
        }
        if ctx.stopping() {
            return Err(ctx.stopped());
        }
        if held.connected {
            lost = None;
            attempt = 0;
        }
        let since = *lost.get_or_insert_with(Instant::now);
        if since.elapsed() > ctx.settings.reconnect_budget {
            let reason = error.to_string();
            let asked = false;
            ctx.emit(migration, &Event::Stopped { reason, asked });
            return Err(error
                .left("all committed chunks and steps are kept")
                .hint("`pgshift resume` goes on from there when the server is back"));
        }
        ctx.emit(
            migration,
            &Event::Reconnecting {
                reason: error.to_string(),
            },
        );
        ctx.sleep(reconnect_pause(attempt, fastrand::f64())).await;
        attempt += 1;
    }
}

/// The session of an open run; `None` where there is nothing left to do.
async fn open(
    ctx: &Ctx,
    migration: &str,
    lease: Option<Lease>,
    held: &mut Held,
) -> Result<Option<(Arc<Session>, RunRow)>> {
    let lease = match lease {
        Some(lease) => lease,
        None => lease::acquire_again(ctx, migration).await?,
    };
    lease::enough_connections(ctx, &lease.client).await?;
    let open = store::runs::open_run(&*lease.client, migration).await?;
    if let Some((ours, epoch)) = held.run {
        let go_on = match &open {
            Some(run) => run.id == ours && run.epoch <= epoch,
            // The COMMIT whose reply was lost, or another session, finished it.
            None => store::runs::is_done(&*lease.client, ours).await?,
        };
        if !go_on {
            return Err(taken_over());
        }
    }
    let Some(run) = open else { return Ok(None) };
    let chunks = |step: &Step| matches!(step.work, Work::Backfill(_));
    if held.run.is_some() && run.steps.iter().any(chunks) {
        ready::check_way(ctx, &lease.client).await?;
    }
    // Before it is raised: the reply may be lost.
    held.run = Some((run.id, run.epoch + 1));
    let epoch = lease::begin_epoch(ctx, &lease, run.id).await?;
    held.run = Some((run.id, epoch));
    let session = Arc::new(Session {
        ctx: ctx.clone(),
        migration: migration.to_owned(),
        run: Some(run.id),
        epoch,
        lease: lease.client.clone(),
        work: lease::connect(ctx).await?,
        progress: Mutex::default(),
        ledger: Ledger::default(),
    });
    if let Some(from) = lease.took_over {
        session.event(&Event::TookOver { from }).await?;
    }
    Ok(Some((session, run)))
}

async fn once(ctx: &Ctx, migration: &str, lease: Option<Lease>, held: &mut Held) -> Result<()> {
    let mut stop = ctx.stop.clone();
    let opened = tokio::select! {
        opened = open(ctx, migration, lease, held) => opened?,
        // No step is under way: nothing has to be waited for.
        _ = stop.wait_for(|stop| *stop) => return Err(ctx.stopped()),
    };
    let Some((session, run)) = opened else {
        return Ok(());
    };
    held.connected = true;
    session
        .event(&Event::RunStarted {
            kind: run.kind,
            epoch: session.epoch,
            resumed: session.epoch > 1,
        })
        .await?;
    let forget = store::runs::set_error(&*session.lease, run.id, None);
    fault::around(Write::RunBegun, forget).await?;

    let work = steps(&session, &run);
    let result = tokio::select! {
        result = work => result,
        lost = heartbeats(&session) => Err(lost),
    };
    match result {
        Ok(()) => finish(&session, &run).await,
        Err(error) => {
            record_stop(&session, &error).await;
            Err(error)
        }
    }
}

/// This runner was thought dead, and is no longer the one.
pub(super) fn taken_over() -> Error {
    Error::interrupted("another runner has taken over this migration")
        .left("this runner wrote nothing after that")
        .hint("`pgshift status` tells who runs it")
}

/// Renews the lease until it is lost; gives the reason.
pub(super) async fn heartbeats(session: &Session) -> Error {
    let ttl = session.ctx.settings.lease_ttl;
    let (mut beat, mut written) = (0, Lost::new());
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        beat += 1;
        let progress = session.progress();
        let mut progress = progress.and_then(|p| serde_json::to_value(p).ok());
        if let Some(told) = &mut progress {
            let line: BTreeMap<_, _> = session.ctx.settings.over.limits.iter().cloned().collect();
            told[LINE] = serde_json::json!(line);
        }
        let renewal = async {
            let beat_once = store::runs::heartbeat(
                &*session.lease,
                session.run_id(),
                session.epoch,
                ttl,
                progress.as_ref(),
            );
            let ours = fault::around(Write::Heartbeat, beat_once).await?;
            if ours && beat % ACCOUNT_EVERY == 0 {
                session.note_lost(&mut written).await?;
            }
            Ok(ours)
        };
        match tokio::time::timeout(ttl / 2, renewal).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return taken_over(),
            Ok(Err(error)) => return error,
            Err(_) => return Error::connection("the server does not answer heartbeats"),
        }
    }
}

/// Best effort: why the run stopped, and the lease given back, so that a resume need not wait.
async fn record_stop(session: &Session, error: &Error) {
    if error.is_connection() {
        return;
    }
    let reason = error.to_string();
    // What was asked for is nothing to mend.
    let wrong = (!session.ctx.stopping()).then_some(reason.as_str());
    let record = async {
        store::runs::set_error(&*session.lease, session.run_id(), wrong).await?;
        session
            .event(&Event::Stopped {
                reason: reason.clone(),
                asked: session.ctx.stopping(),
            })
            .await?;
        session.note_lost(&mut Lost::new()).await?;
        store::runs::release_lease(&*session.lease, session.run_id(), session.epoch).await
    };
    if let Err(second) = record.await {
        tracing::warn!(migration = %session.migration, "the stop could not be recorded: {second}");
    }
}

async fn steps(session: &Arc<Session>, run: &RunRow) -> Result<()> {
    let recorded = store::runs::steps(&*session.lease, run.id).await?;
    for (index, step) in run.steps.iter().enumerate() {
        let ordinal = index + 1;
        let before = recorded.iter().find(|r| r.ordinal == ordinal);
        if before.is_some_and(|r| r.state == StepState::Done) {
            continue;
        }
        session.check_stop()?;
        session.ledger.begin(before);
        session.begin_progress(ordinal, &step.title);
        let intent = store::runs::start_step(&*session.lease, run.id, ordinal, step);
        fault::around(Write::StepIntent, intent).await?;
        session
            .event(&Event::StepStarted {
                step: ordinal,
                phase: step.phase,
                title: step.title.clone(),
            })
            .await?;
        let begun = Instant::now();
        match execute_step(session, ordinal, step, before.is_some()).await {
            Ok(waited) => {
                session.ctx.emit(
                    &session.migration,
                    &done_event(ordinal, step, begun.elapsed(), waited),
                );
            }
            Err(error) => {
                if !error.is_connection() && error.kind() != ErrorKind::Interrupted {
                    store::runs::fail_step(&*session.lease, run.id, ordinal, &error.to_string())
                        .await?;
                }
                return Err(explain(error, session.ctx.stopping(), run, ordinal, step));
            }
        }
    }
    Ok(())
}

/// The event of a finished step; those with a transaction of their own log it there.
pub(super) fn done_event(
    ordinal: usize,
    step: &Step,
    elapsed: Duration,
    waited: Duration,
) -> Event {
    Event::StepDone {
        step: ordinal,
        title: step.title.clone(),
        elapsed_ms: elapsed.as_millis() as u64,
        waited_ms: waited.as_millis() as u64,
    }
}

fn explain(error: Error, stopping: bool, run: &RunRow, ordinal: usize, step: &Step) -> Error {
    if error.is_connection() || stopping {
        return error;
    }
    let place = step
        .line
        .map_or(String::new(), |line| format!(" (line {line})"));
    let mut error = error.context(format!(
        "{}: step {ordinal} of {}, {}{place}",
        run.migration,
        run.steps.len(),
        step.title
    ));
    if error.what_was_left().is_none() {
        error = error.left(match step.work {
            Work::Backfill(_) => {
                "the chunk in hand was rolled back; all committed chunks and steps are kept"
            }
            _ => "the step was rolled back; the steps before it are kept",
        });
    }
    let ways = "`pgshift resume` tries again, `pgshift revert` takes the migration back";
    let next = match error.what_next() {
        None => ways.to_owned(),
        Some(next) if next.contains("`pgshift ") => return error,
        // A server's hint, which does not know of these.
        Some(next) => format!("{}; then {ways}", next.trim_end_matches('.')),
    };
    error.hint(next)
}

/// It is still there, and a partition of its root.
async fn is_part(session: &Session, part: &PartOf) -> Result<bool> {
    let (partition, root) = (qname(&part.partition), qname(&part.root));
    let row = session
        .lease
        .query_one(
            "WITH RECURSIVE up(oid) AS (
                 SELECT to_regclass($1)::oid
                 UNION ALL
                 SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid
                 WHERE NOT i.inhdetachpending)
             SELECT coalesce(bool_or(oid = to_regclass($2)), false) FROM up",
            &[&partition, &root],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.get(0))
}

/// Executes one step and gives the time that it waited.
async fn execute_step(
    session: &Arc<Session>,
    ordinal: usize,
    step: &Step,
    begun_before: bool,
) -> Result<Duration> {
    if let Some(part) = &step.part_of
        && !is_part(session, part).await?
    {
        let event = done_event(ordinal, step, Duration::ZERO, Duration::ZERO);
        record_done(session, ordinal, &event, None).await?;
        return Ok(Duration::ZERO);
    }
    match &step.work {
        Work::Sql { statements } => ddl::run(session, ordinal, step, statements).await,
        Work::Concurrent { sql, .. } if in_tries(&understand(sql)) => {
            ddl::run(session, ordinal, step, std::slice::from_ref(sql)).await
        }
        Work::Concurrent { sql, index, drops } => {
            let target = concurrent::Target {
                sql,
                index: index.as_ref(),
                drops: *drops,
            };
            concurrent::run(session, ordinal, step, &target, begun_before).await
        }
        Work::Backfill(spec) => backfill::run(session, ordinal, step, spec).await,
        Work::Verify(spec) => verify::run(session, ordinal, step, spec).await,
        Work::Check { sql } => verify::check(session, ordinal, step, sql).await,
    }
}

/// Records a step without a transaction of its own as done. Its commit is synchronous: chunks
/// before it, which were not, are on disk with it.
pub(super) async fn record_done(
    session: &Session,
    ordinal: usize,
    event: &Event,
    result: Option<&serde_json::Value>,
) -> Result<()> {
    let client = &session.work;
    client
        .batch_execute(
            "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '10s'; \
             SET LOCAL idle_in_transaction_session_timeout = '5s'",
        )
        .await
        .map_err(from_pg)?;
    let record = async {
        store::runs::fence(client, session.run_id(), session.epoch).await?;
        store::runs::finish_step(client, session.run_id(), ordinal, result).await?;
        session.append(client, event).await?;
        fault::around(Write::StepRecord, commit(client)).await
    };
    let result = record.await;
    if result.is_err() {
        let _ = client.batch_execute("ROLLBACK").await;
    }
    result
}

/// Closes the run and moves the migration on, in one transaction.
async fn finish(session: &Session, run: &RunRow) -> Result<()> {
    let client = &session.work;
    // A runner that is frozen here must not hold the log and the fence for long.
    client
        .batch_execute(
            "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '10s'; \
             SET LOCAL idle_in_transaction_session_timeout = '5s'",
        )
        .await
        .map_err(from_pg)?;
    let closing = async {
        store::runs::fence(client, run.id, session.epoch).await?;
        let row = store::migrations::get(client, &run.migration)
            .await?
            .ok_or_else(|| Error::internal("the migration's record is gone"))?;
        let more = row
            .plan
            .as_ref()
            .is_some_and(crate::plan::Plan::has_contract);
        let next = transition(
            row.state,
            Input::Finish {
                kind: run.kind,
                more,
            },
        )
        .map_err(|n| Error::internal(n.why))?;
        store::runs::close(client, run.id, RunState::Done).await?;
        // It was said of this run: the next one must not wait for somebody to take it back.
        overrides::clear(client, &run.migration, overrides::PAUSE).await?;
        store::migrations::set_state(client, &run.migration, next).await?;
        let mut lost_ms = Lost::new();
        for step in store::runs::steps(client, run.id).await? {
            for (cause, ms) in step.lost() {
                *lost_ms.entry(cause).or_default() += ms;
            }
        }
        let event = Event::RunFinished {
            kind: run.kind,
            lost_ms,
        };
        session.append(client, &event).await?;
        fault::around(Write::RunClose, commit(client)).await?;
        Ok(event)
    };
    match closing.await {
        Ok(event) => {
            session.ctx.emit(&session.migration, &event);
            let release = store::runs::release_lease(&*session.lease, run.id, session.epoch);
            fault::around(Write::LeaseRelease, release).await
        }
        Err(error) => {
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}
