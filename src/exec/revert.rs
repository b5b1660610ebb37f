//! The way back of a migration.

use serde::Serialize;
use tokio_postgres::Client;

use super::engine::{Engine, begin, commit_or_roll_back, no_plan, refused};
use super::lease::{self, Lease};
use super::{commit, session};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fault::{self, Write};
use crate::plan::{Plan, Step, first_change, revert_steps};
use crate::run::{Input, RunKind, RunState, State, transition};
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

    /// Gives up a way back that has changed nothing yet: the migration stands where it stood before,
    /// and a run that was under way then can be resumed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Refused`] where no way back is under way, or it has changed something.
    pub async fn call_off(&self, id: &str) -> Result<State> {
        let ctx = self.check_server().await?;
        drop(self.connect_initialised().await?);
        let lease = lease::acquire(ctx, id).await?;
        let client = &*lease.client;
        begin(client).await?;
        let event = async {
            let (run, event) = close_way_back(client, id).await?;
            store::events::append(client, id, Some(run), &ctx.actor, &event).await?;
            Ok(event)
        };
        let event = match event.await {
            Ok(event) => event,
            Err(error) => {
                let _ = client.batch_execute("ROLLBACK").await;
                return Err(error);
            }
        };
        let said = fault::around(Write::Said, commit(client)).await;
        said.map_err(|error| {
            if !error.is_connection() {
                return error;
            }
            error
                .left("it is not known whether the way back was called off")
                .hint("`pgshift status` tells it")
        })?;
        ctx.emit(id, &event);
        self.state(id).await
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

/// Closes the open way back of a migration, within a transaction. Gives its number and what to tell.
async fn close_way_back(client: &Client, id: &str) -> Result<(i64, Event)> {
    let state = store::migrations::lock_state(client, id).await?;
    let ways_back = [RunKind::Revert, RunKind::Uncontract];
    let open = store::runs::open_run(client, id).await?;
    let Some(open) = open.filter(|run| ways_back.contains(&run.kind)) else {
        return Err(
            Error::refused(format!("{id} is {state}: no way back is under way"))
                .left("nothing was changed")
                .hint("`pgshift status` tells what can be done"),
        );
    };
    // What an earlier runner still does is done or rolled back after this.
    store::runs::close(client, open.id, RunState::CalledOff).await?;
    let recorded = store::runs::steps(client, open.id).await?;
    let recorded = recorded.iter().filter_map(|row| {
        let step = open.steps.get(row.ordinal.checked_sub(1)?)?;
        Some((step, row.state == StepState::Done))
    });
    if let Some(step) = first_change(recorded) {
        return Err(Error::refused(format!(
            "the way back of {id} is past the point where it can be called off: {}",
            step.title
        ))
        .left("nothing was changed")
        .hint(format!("`pgshift resume {id}` finishes it")));
    }
    let before = standing(store::runs::runs_of(client, id).await?).pop();
    let (row, before) = store::migrations::get(client, id)
        .await?
        .zip(before)
        .ok_or_else(|| no_plan(id))?;
    let whole = before.state == RunState::Done;
    let off = Input::CallOff {
        kind: before.kind,
        whole,
        more: row.plan.as_ref().is_some_and(Plan::has_contract),
    };
    let next = transition(state, off).map_err(|n| refused(id, &n))?;
    if !whole {
        store::runs::reopen(client, before.id).await?;
    }
    overrides::clear(client, id, overrides::PAUSE).await?;
    store::migrations::set_state(client, id, next).await?;
    let kind = open.kind;
    Ok((open.id, Event::CalledOff { kind, state: next }))
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
        // What an earlier runner still does is done or rolled back after this.
        if let Some(open) = open {
            store::runs::close(client, open.id, RunState::Abandoned).await?;
        }
        let plan = revert_of(client, id, to).await?;
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

/// The runs whose steps stand, of all runs of a migration.
fn standing(runs: Vec<RunRow>) -> Vec<RunRow> {
    let mut standing: Vec<RunRow> = Vec::new();
    for run in runs {
        match run.kind {
            _ if run.state == RunState::CalledOff => {}
            RunKind::Apply | RunKind::Contract => standing.push(run),
            RunKind::Uncontract => standing.retain(|r| r.kind != RunKind::Contract),
            RunKind::Revert => standing.clear(),
            RunKind::Purge => {}
        }
    }
    standing
}

/// The way back of everything that the runs of a migration did since it was last pending.
async fn revert_of(client: &Client, id: &str, to: RevertTo) -> Result<RevertPlan> {
    let mut standing = standing(store::runs::runs_of(client, id).await?);
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
