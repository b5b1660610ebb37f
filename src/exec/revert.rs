//! The way back of a migration.

use serde::Serialize;
use tokio_postgres::Client;

use super::engine::{Engine, begin, commit_or_roll_back, refused};
use super::lease::{self, Lease};
use super::session;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Step, revert_steps};
use crate::run::{Input, RunKind, State, transition};
use crate::store::{self, MigrationRow, RunRow, StepState, overrides};

/// How far `revert` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevertTo {
    /// To before the migration.
    Start,
    /// To READY: the contract is taken back.
    Ready,
}

/// What a revert would do, before it does it.
#[derive(Debug, Clone, Serialize)]
pub struct RevertPlan {
    /// The steps.
    pub steps: Vec<Step>,
    /// What stays as it is: (step, reason).
    pub remaining: Vec<(String, String)>,
}

impl Engine {
    /// What a revert would do now.
    pub async fn revert_plan(&self, id: &str, to: RevertTo) -> Result<RevertPlan> {
        let client = self.connect_initialised().await?;
        let state = store::migrations::get(&client, id)
            .await?
            .map_or(State::Pending, |r| r.state);
        let kind = revert_kind(to);
        match store::runs::open_run(&client, id).await? {
            Some(open) if open.kind == kind => {
                return Ok(RevertPlan {
                    steps: open.steps,
                    remaining: Vec::new(),
                });
            }
            Some(open) if is_part(open.kind, kind) => {
                let rest = revert_of(&client, id, to).await?;
                return Ok(RevertPlan {
                    steps: [open.steps, rest.steps].concat(),
                    remaining: rest.remaining,
                });
            }
            _ => {}
        }
        transition(state, Input::Start(kind)).map_err(|n| refused(id, &n))?;
        revert_of(&client, id, to).await
    }

    /// Takes a migration back. What is left of an earlier revert is finished first.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Refused`] where the way back to READY is asked for and the whole of it
    /// is under way.
    pub async fn revert(&self, id: &str, to: RevertTo) -> Result<State> {
        let ctx = self.check_server().await?;
        let first = self.connect_initialised().await?;
        let mut lease = lease::acquire(ctx, id).await?;
        drop(first);
        let kind = revert_kind(to);
        let mut open = store::runs::open_run(&*lease.client, id).await?;
        let mut part = false;
        if open.as_ref().is_some_and(|run| is_part(run.kind, kind)) {
            session::execute(ctx, id, Some(lease)).await?;
            lease = lease::acquire(ctx, id).await.map_err(after_part)?;
            open = store::runs::open_run(&*lease.client, id).await?;
            part = true;
        }
        if open.as_ref().is_none_or(|run| run.kind != kind) {
            let opened = start(&lease, id, to, open).await;
            let opened = lease::opened(ctx, id, kind, lease, opened).await;
            lease = opened.map_err(|error| if part { after_part(error) } else { error })?;
        }
        session::execute(ctx, id, Some(lease)).await?;
        self.state(id).await
    }
}

/// A refusal of the second of two runs: the first is done.
fn after_part(error: Error) -> Error {
    if error.kind() != ErrorKind::Refused {
        return error;
    }
    error.left("the contract is taken back; apart from that nothing was changed")
}

/// Opens the way back in the place of what is under way, in one transaction.
async fn start(lease: &Lease, id: &str, to: RevertTo, open: Option<RunRow>) -> Result<()> {
    let client = &*lease.client;
    begin(client).await?;
    let work = async {
        let kind = revert_kind(to);
        let state = store::migrations::lock_state(client, id).await?;
        let next = transition(state, Input::Start(kind)).map_err(|n| refused(id, &n))?;
        refuse_later(client, id).await?;
        let plan = revert_of(client, id, to).await?;
        if let Some(open) = open {
            store::runs::close(client, open.id, "abandoned").await?;
        }
        overrides::clear(client, id, overrides::PAUSE).await?;
        store::migrations::set_state(client, id, next).await?;
        store::runs::create(client, id, kind, &plan.steps).await?;
        Ok(())
    };
    commit_or_roll_back(client, work.await).await
}

fn revert_kind(to: RevertTo) -> RunKind {
    match to {
        RevertTo::Start => RunKind::Revert,
        RevertTo::Ready => RunKind::Uncontract,
    }
}

/// An open run to READY is the first part of the way to the start.
fn is_part(open: RunKind, wanted: RunKind) -> bool {
    open == RunKind::Uncontract && wanted == RunKind::Revert
}

/// A revert must not pull the ground from under a later migration of the same tables.
async fn refuse_later(client: &Client, id: &str) -> Result<()> {
    let all = store::migrations::list(client).await?;
    let tables = all
        .iter()
        .find(|m| m.id == id)
        .and_then(|m| m.plan.as_ref())
        .map(|p| p.tables.clone());
    let tables = tables.unwrap_or_default();
    let began = |m: &MigrationRow| {
        let id = m.id.clone();
        async move {
            let runs = store::runs::runs_of(client, &id).await?;
            Ok::<i64, Error>(
                runs.iter()
                    .filter(|r| r.kind == RunKind::Apply)
                    .map(|r| r.id)
                    .max()
                    .unwrap_or(0),
            )
        }
    };
    let Some(this) = all.iter().find(|m| m.id == id) else {
        return Ok(());
    };
    let ours = began(this).await?;
    for other in &all {
        let shared = other
            .plan
            .as_ref()
            .and_then(|p| p.tables.iter().find(|t| tables.contains(t)));
        let Some(table) = shared else { continue };
        let live = other.state.is_applied() && other.state != State::Purged && other.id != id;
        if live && began(other).await? > ours {
            return Err(Error::refused(format!(
                "{} came after {id} and changes {table} too ({})",
                other.id, other.state
            ))
            .left("nothing was changed")
            .hint(format!("`pgshift revert {}` first", other.id)));
        }
    }
    Ok(())
}

/// The way back of everything that the runs of a migration did since it was last pending.
async fn revert_of(client: &Client, id: &str, to: RevertTo) -> Result<RevertPlan> {
    let mut standing: Vec<RunRow> = Vec::new();
    for run in store::runs::runs_of(client, id).await? {
        match run.kind {
            RunKind::Apply | RunKind::Contract => standing.push(run),
            RunKind::Uncontract => standing.retain(|r| r.kind != RunKind::Contract),
            RunKind::Revert => standing.clear(),
            RunKind::Purge => {}
        }
    }
    if to == RevertTo::Ready {
        standing.retain(|r| r.kind == RunKind::Contract);
        if standing.is_empty() {
            return Err(
                Error::refused(format!("{id} has no contract that could be taken back"))
                    .left("nothing was changed")
                    .hint(format!("`pgshift revert {id}` takes all of it back")),
            );
        }
    }
    let mut done = Vec::new();
    for run in &standing {
        let recorded = store::runs::steps(client, run.id).await?;
        for row in recorded {
            if let Some(step) = run.steps.get(row.ordinal - 1) {
                done.push((step.clone(), row.state == StepState::Done));
            }
        }
    }
    let (steps, remaining) = revert_steps(&done);
    Ok(RevertPlan { steps, remaining })
}
