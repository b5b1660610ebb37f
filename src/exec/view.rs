//! What an open run is doing, read from the state tables.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio_postgres::Client;

use crate::error::Result;
use crate::event::Progress;
use crate::plan::{Phase, Work};
use crate::run::RunKind;
use crate::store::{self, StepState, checkpoints, overrides};

/// A run that is not finished.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunView {
    /// What it does.
    pub kind: RunKind,
    /// How often it was taken up.
    pub epoch: i64,
    /// Who executes it: `user@host pid 123`; `None` where nobody does.
    pub holder: Option<String>,
    /// No sign of life of the holder came in time.
    pub lease_expired: bool,
    /// The step that it is at, from 1; 0 before the first.
    pub step: usize,
    /// How many steps it has.
    pub steps: usize,
    /// The phase of the step.
    pub phase: Option<Phase>,
    /// What the step does.
    pub title: Option<String>,
    /// Rows that the step has changed or looked at.
    pub rows_done: i64,
    /// Rows that it has to look at, estimated.
    pub rows_total: Option<i64>,
    /// Share of the step that is done, in `0..=1`.
    pub fraction: Option<f64>,
    /// Chunks that the step has committed.
    pub chunks: i64,
    /// Rows a second, waiting included.
    pub rate: Option<f64>,
    /// Expected time left of the step; in JSON `eta_seconds`.
    #[serde(rename = "eta_seconds", serialize_with = "as_seconds")]
    pub eta: Option<Duration>,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
    /// The longest replay lag of the watched standbys, in seconds.
    pub lag_seconds: Option<f64>,
    /// The share of the time that chunks may work now.
    pub duty: Option<f64>,
    /// Time that the step spent waiting, in milliseconds.
    pub waited_ms: i64,
    /// Why it stopped, if it did.
    pub error: Option<String>,
    /// Rows that fail.
    pub failed_rows: i64,
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn as_seconds<S: Serializer>(eta: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    eta.map(|d| d.as_secs_f64()).serialize(serializer)
}

impl RunView {
    /// True where a live runner executes it.
    pub fn is_running(&self) -> bool {
        self.holder.is_some() && !self.lease_expired
    }
}

/// The open run of a migration.
pub async fn run(client: &Client, migration: &str) -> Result<Option<RunView>> {
    let Some(run) = store::runs::open_run(client, migration).await? else {
        return Ok(None);
    };
    let recorded = store::runs::steps(client, run.id).await?;
    let lease = store::runs::lease(client, run.id).await?;
    let at = recorded
        .iter()
        .find(|s| s.state != StepState::Done)
        .or(recorded.last());
    let ordinal = at.map_or(0, |s| s.ordinal);
    let step = ordinal.checked_sub(1).and_then(|n| run.steps.get(n));
    let ranges = checkpoints::list(client, run.id, ordinal).await?;
    let failed = checkpoints::failed(client, run.id, ordinal).await?;
    let live = lease.as_ref().is_some_and(|l| !l.expired);
    let said: Option<Progress> = lease
        .as_ref()
        .filter(|l| !l.expired)
        .and_then(|l| l.progress.clone())
        .and_then(|p| serde_json::from_value(p).ok())
        .filter(|p: &Progress| p.step == ordinal);
    let blocks: i64 = ranges.iter().map(|r| r.blocks.hi - r.blocks.lo).sum();
    let by_blocks = (blocks > 0).then(|| {
        ranges
            .iter()
            .map(|r| r.blocks.next - r.blocks.lo)
            .sum::<i64>() as f64
            / blocks as f64
    });
    let backfill = step.is_some_and(|s| matches!(s.work, Work::Backfill(_)));
    let paused = overrides::list(client, migration)
        .await?
        .into_iter()
        .find(|o| o.key == overrides::PAUSE)
        .map(|o| format!("paused by {}", o.set_by));
    let rows_done = if backfill {
        ranges.iter().map(|r| r.rows).sum()
    } else {
        said.as_ref().map_or(0, |p| p.rows)
    };
    Ok(Some(RunView {
        kind: run.kind,
        epoch: run.epoch,
        holder: lease.as_ref().map(|l| l.holder.clone()),
        lease_expired: lease.is_some() && !live,
        step: ordinal,
        steps: run.steps.len(),
        phase: step.map(|s| s.phase),
        title: step.map(|s| s.title.clone()),
        rows_done,
        rows_total: said
            .as_ref()
            .map(|p| p.rows_total)
            .or_else(|| step.and_then(|s| s.estimate.rows)),
        fraction: by_blocks.or(said.as_ref().map(|p| p.fraction)),
        chunks: ranges.iter().map(|r| r.chunks).sum(),
        rate: said.as_ref().map(|p| p.rate),
        eta: said.as_ref().and_then(|p| p.eta),
        lag_seconds: said.as_ref().and_then(|p| p.lag_seconds),
        duty: said.as_ref().and_then(|p| p.duty),
        waiting: said.and_then(|p| p.waiting).or(paused),
        waited_ms: at.map_or(0, |s| {
            let lost: u64 = s.lost().values().sum();
            s.waited_ms.max(lost as i64)
        }),
        error: run.error,
        failed_rows: failed.len() as i64,
    }))
}
