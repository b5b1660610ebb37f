//! `pgshift.run`, `pgshift.step` and `pgshift.lease`.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::{GenericClient, Row};

use crate::error::{Error, Result};
use crate::event::Lost;
use crate::pg::error::from_pg;
use crate::plan::Step;
use crate::run::{RunKind, RunState};

/// A run as recorded.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// Its number.
    pub id: i64,
    /// Its migration.
    pub migration: String,
    /// What it does.
    pub kind: RunKind,
    /// How it stands.
    pub state: RunState,
    /// The fence.
    pub epoch: i64,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Why it stopped, if it did.
    pub error: Option<String>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Begun, not finished.
    Running,
    /// Done.
    Done,
    /// Failed; a resume tries it again.
    Failed,
}

impl StepState {
    /// The name in the state table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for StepState {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        [Self::Running, Self::Done, Self::Failed]
            .into_iter()
            .find(|state| state.name() == s)
            .ok_or_else(|| Error::internal(format!("unknown state of a step: {s:?}")))
    }
}

/// A step as recorded.
#[derive(Debug, Clone)]
pub struct StepRow {
    /// From 1.
    pub ordinal: usize,
    /// Where it stands.
    pub state: StepState,
    /// Tries for its locks so far.
    pub attempts: i32,
    /// Time spent waiting, in milliseconds.
    pub waited_ms: i64,
    /// What went wrong the last time.
    pub error: Option<String>,
    /// What it did or found; while it runs, the time that it has lost so far.
    pub result: Option<serde_json::Value>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
}

impl StepRow {
    /// The time that it has lost, by cause.
    pub fn lost(&self) -> Lost {
        let lost = self.result.as_ref().and_then(|r| r.get(LOST));
        lost.and_then(|lost| serde_json::from_value(lost.clone()).ok())
            .unwrap_or_default()
    }
}

/// The key of the time lost in a step's result.
pub const LOST: &str = "waited_ms";

/// Who executes a run.
#[derive(Debug, Clone)]
pub struct Lease {
    /// `user@host pid 123`.
    pub holder: String,
    /// The server process of its advisory lock.
    pub backend_pid: i32,
    /// Last sign of life.
    pub heartbeat_at: DateTime<Utc>,
    /// No sign of life came in time, or its server session is gone.
    pub expired: bool,
    /// The last progress that it told.
    pub progress: Option<serde_json::Value>,
}

const RUN: &str = "id, migration_id, kind, state, epoch, steps, error";

fn run_from(row: &Row) -> Result<RunRow> {
    let (kind, state): (String, String) = (row.get("kind"), row.get("state"));
    let id: i64 = row.get("id");
    Ok(RunRow {
        id,
        migration: row.get("migration_id"),
        kind: kind.parse().map_err(|e: String| Error::internal(e))?,
        state: state.parse().map_err(|e: String| Error::internal(e))?,
        epoch: row.get("epoch"),
        steps: serde_json::from_value(row.get("steps"))
            .map_err(|e| Error::internal(format!("the steps of run {id} cannot be read: {e}")))?,
        error: row.get("error"),
    })
}

/// Records a new open run and gives its number. A second open run of the same migration is a
/// unique violation.
pub async fn create(
    client: &impl GenericClient,
    migration: &str,
    kind: RunKind,
    steps: &[Step],
) -> Result<i64> {
    let steps = serde_json::to_value(steps)
        .map_err(|e| Error::internal(format!("the steps cannot be written: {e}")))?;
    let row = client
        .query_one(
            "INSERT INTO pgshift.run (migration_id, kind, steps) VALUES ($1, $2, $3) RETURNING id",
            &[&migration, &kind.name(), &steps],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.get(0))
}

/// The open run of a migration.
pub async fn open_run(client: &impl GenericClient, migration: &str) -> Result<Option<RunRow>> {
    let sql =
        format!("SELECT {RUN} FROM pgshift.run WHERE migration_id = $1 AND state = 'running'");
    let row = client
        .query_opt(&sql, &[&migration])
        .await
        .map_err(from_pg)?;
    row.as_ref().map(run_from).transpose()
}

/// True where a run did its last step.
pub async fn is_done(client: &impl GenericClient, run: i64) -> Result<bool> {
    let row = client
        .query_opt(
            "SELECT state = 'done' FROM pgshift.run WHERE id = $1",
            &[&run],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Every run of a migration, oldest first.
pub async fn runs_of(client: &impl GenericClient, migration: &str) -> Result<Vec<RunRow>> {
    let sql = format!("SELECT {RUN} FROM pgshift.run WHERE migration_id = $1 ORDER BY id");
    let rows = client.query(&sql, &[&migration]).await.map_err(from_pg)?;
    rows.iter().map(run_from).collect()
}

/// Closes a run with a final state. Where it is not [`RunState::Done`], another runner may think
/// that it still goes on: then it waits for every transaction of that one, as [`raise_epoch`] does,
/// and none comes after it.
pub async fn close(client: &impl GenericClient, run: i64, state: RunState) -> Result<()> {
    let fence = i64::from(state != RunState::Done);
    client
        .execute(
            "UPDATE pgshift.run SET state = $2, finished_at = clock_timestamp(), error = NULL,
                 epoch = epoch + $3
             WHERE id = $1",
            &[&run, &state.name(), &fence],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Opens a run again that was abandoned for a way back which is called off.
pub async fn reopen(client: &impl GenericClient, run: i64) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.run SET state = 'running', finished_at = NULL WHERE id = $1",
            &[&run],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Notes why a run stopped; it stays open.
pub async fn set_error(client: &impl GenericClient, run: i64, error: Option<&str>) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.run SET error = $2 WHERE id = $1",
            &[&run, &error],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Raises the epoch and gives the new one. Waits for every transaction of the epoch before, which
/// hold the row FOR SHARE.
pub async fn raise_epoch(client: &impl GenericClient, run: i64) -> Result<i64> {
    let row = client
        .query_one(
            "UPDATE pgshift.run SET epoch = epoch + 1 WHERE id = $1 RETURNING epoch",
            &[&run],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.get(0))
}

/// Text of the fence: gives the epoch of run `$1` and holds it to the end of the transaction.
pub const FENCE_SQL: &str = "SELECT epoch FROM pgshift.run WHERE id = $1 FOR SHARE";

/// Checks the fence within a transaction.
///
/// # Errors
/// [`crate::ErrorKind::Interrupted`] where another runner has taken over.
pub async fn fence(client: &impl GenericClient, run: i64, epoch: i64) -> Result<()> {
    let row = client
        .query_opt(FENCE_SQL, &[&run])
        .await
        .map_err(from_pg)?;
    check_epoch(row.map(|r| r.get(0)), epoch)
}

/// Compares the epoch found with ours.
///
/// # Errors
/// [`crate::ErrorKind::Interrupted`] where they differ.
pub fn check_epoch(found: Option<i64>, ours: i64) -> Result<()> {
    if found == Some(ours) {
        return Ok(());
    }
    Err(
        Error::interrupted("another runner has taken over this migration")
            .left("this runner wrote nothing after that")
            .hint("`pgshift status` tells who runs it"),
    )
}

/// The recorded steps of a run, in order.
pub async fn steps(client: &impl GenericClient, run: i64) -> Result<Vec<StepRow>> {
    let rows = client
        .query(
            "SELECT ordinal, state, attempts, waited_ms, error, result, started_at, finished_at
             FROM pgshift.step WHERE run_id = $1 ORDER BY ordinal",
            &[&run],
        )
        .await
        .map_err(from_pg)?;
    rows.iter()
        .map(|row| {
            Ok(StepRow {
                ordinal: usize::try_from(row.get::<_, i32>("ordinal")).unwrap_or(0),
                state: row.get::<_, String>("state").parse()?,
                attempts: row.get("attempts"),
                waited_ms: row.get("waited_ms"),
                error: row.get("error"),
                result: row.get("result"),
                started_at: row.get("started_at"),
                finished_at: row.get("finished_at"),
            })
        })
        .collect()
}

/// Records the intent to do a step, before anything of it is done.
pub async fn start_step(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
    step: &Step,
) -> Result<()> {
    client
        .execute(
            "INSERT INTO pgshift.step (run_id, ordinal, phase, title, state)
             VALUES ($1, $2, $3, $4, 'running')
             ON CONFLICT (run_id, ordinal) DO UPDATE SET state = 'running', error = NULL",
            &[&run, &(ordinal as i32), &step.phase.name(), &step.title],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Records a step as done, in the step's own transaction where it has one.
pub async fn finish_step(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
    result: Option<&serde_json::Value>,
) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.step SET state = 'done', error = NULL, result = $3,
                 finished_at = clock_timestamp()
             WHERE run_id = $1 AND ordinal = $2",
            &[&run, &(ordinal as i32), &result],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Records why a step failed; a resume tries it again.
pub async fn fail_step(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
    error: &str,
) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.step SET state = 'failed', error = $3
             WHERE run_id = $1 AND ordinal = $2 AND state <> 'done'",
            &[&run, &(ordinal as i32), &error],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Adds tries and waiting time to a step.
pub async fn add_waiting(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
    attempts: i32,
    waited: Duration,
) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.step SET attempts = attempts + $3, waited_ms = waited_ms + $4
             WHERE run_id = $1 AND ordinal = $2",
            &[
                &run,
                &(ordinal as i32),
                &attempts,
                &(waited.as_millis() as i64),
            ],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Notes the time that a step under way has lost. That of a finished one is in its result, and a
/// runner of another epoch has an account of its own.
pub async fn note_lost(
    client: &impl GenericClient,
    run: i64,
    epoch: i64,
    ordinal: usize,
    lost: &Lost,
) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.step SET result = $3 WHERE run_id = $1 AND ordinal = $2
                 AND state <> 'done'
                 AND EXISTS (SELECT FROM pgshift.run WHERE id = $1 AND epoch = $4)",
            &[
                &run,
                &(ordinal as i32),
                &serde_json::json!({ LOST: lost }),
                &epoch,
            ],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// The time that all steps of all runs of a migration have lost, by cause.
pub async fn lost(client: &impl GenericClient, migration: &str) -> Result<Lost> {
    let mut all = Lost::new();
    let rows = client
        .query(
            "SELECT s.result -> $2 FROM pgshift.run r JOIN pgshift.step s ON s.run_id = r.id
             WHERE r.migration_id = $1 AND s.result ? $2",
            &[&migration, &LOST],
        )
        .await
        .map_err(from_pg)?;
    for row in rows {
        let step: Lost = serde_json::from_value(row.get(0)).unwrap_or_default();
        for (cause, ms) in step {
            *all.entry(cause).or_default() += ms;
        }
    }
    Ok(all)
}

/// Takes the lease for an epoch.
pub async fn take_lease(
    client: &impl GenericClient,
    run: i64,
    epoch: i64,
    holder: &str,
    ttl: Duration,
) -> Result<()> {
    client
        .execute(
            "INSERT INTO pgshift.lease (run_id, epoch, holder, backend_pid, heartbeat_at, expires_at)
             VALUES ($1, $2, $3, pg_backend_pid(), clock_timestamp(),
                     clock_timestamp() + make_interval(secs => $4))
             ON CONFLICT (run_id) DO UPDATE SET epoch = $2, holder = $3,
                 backend_pid = pg_backend_pid(), heartbeat_at = clock_timestamp(),
                 expires_at = clock_timestamp() + make_interval(secs => $4)",
            &[&run, &epoch, &holder, &ttl.as_secs_f64()],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Renews the lease and tells the progress; false where another epoch holds it.
pub async fn heartbeat(
    client: &impl GenericClient,
    run: i64,
    epoch: i64,
    ttl: Duration,
    progress: Option<&serde_json::Value>,
) -> Result<bool> {
    let renewed = client
        .execute(
            "UPDATE pgshift.lease SET heartbeat_at = clock_timestamp(),
                 expires_at = clock_timestamp() + make_interval(secs => $3), progress = $4
             WHERE run_id = $1 AND epoch = $2",
            &[&run, &epoch, &ttl.as_secs_f64(), &progress],
        )
        .await
        .map_err(from_pg)?;
    Ok(renewed == 1)
}

/// Gives the lease back.
pub async fn release_lease(client: &impl GenericClient, run: i64, epoch: i64) -> Result<()> {
    client
        .execute(
            "DELETE FROM pgshift.lease WHERE run_id = $1 AND epoch = $2",
            &[&run, &epoch],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Who holds a run.
pub async fn lease(client: &impl GenericClient, run: i64) -> Result<Option<Lease>> {
    let row = client
        .query_opt(
            "SELECT holder, backend_pid, heartbeat_at, expires_at < clock_timestamp() OR NOT EXISTS (
                        SELECT FROM pg_stat_activity a WHERE a.pid = backend_pid) AS expired,
                    progress
             FROM pgshift.lease WHERE run_id = $1",
            &[&run],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.map(|row| Lease {
        holder: row.get("holder"),
        backend_pid: row.get("backend_pid"),
        heartbeat_at: row.get("heartbeat_at"),
        expired: row.get("expired"),
        progress: row.get("progress"),
    }))
}
