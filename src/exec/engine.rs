//! What the commands do, one method each, on one database. The way back and the control of a live
//! run have files of their own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_postgres::Client;

use super::lease::{self, Lease};
use super::ready::{self, Ready};
use super::{Ctx, commit, lock, planner, sampler, session};
use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fault::{self, Write};
use crate::migration::Migration;
use crate::pg::error::from_pg;
use crate::pg::pooler::{First, Pooling};
use crate::pg::session::supported_version;
use crate::plan::Plan;
use crate::run::{Input, RunKind, State, transition};
use crate::store::{self, MigrationRow, RunRow, schema};

/// The operations of pgshift on one database.
pub struct Engine {
    pub(super) ctx: Ctx,
    pub(super) ready: OnceCell<Ready>,
    /// A connection by which was looked what is in between, for whoever connects next.
    pub(super) spare: Mutex<Option<First>>,
    /// A connection that a short command is done with.
    idle: Mutex<Option<Client>>,
}

/// How long the first look at the server may take.
const LOOK: Duration = Duration::from_secs(2);

/// How far `apply` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// To READY.
    Ready,
    /// On through contract: for development databases.
    Contract,
}

impl Engine {
    /// Operations with this context.
    pub fn new(ctx: Ctx) -> Self {
        Self {
            ctx,
            ready: OnceCell::new(),
            spare: Mutex::default(),
            idle: Mutex::default(),
        }
    }

    /// Plans with the sizes of another database, where there is one.
    #[must_use]
    pub fn with_sizes(mut self, sizes: Option<Arc<Catalog>>) -> Self {
        self.ctx.settings.sizes = sizes;
        self
    }

    /// How runs are executed.
    pub fn settings(&self) -> &super::Settings {
        &self.ctx.settings
    }

    /// The database.
    pub fn target(&self) -> &crate::pg::connect::Target {
        &self.ctx.target
    }

    /// Leaves a connection that is as it was made, outside of a transaction, to whoever connects
    /// next.
    fn put_down(&self, client: Client) {
        *lock(&self.idle) = Some(client);
    }

    /// Connects, and refuses servers that are too old and poolers that carry no transactions.
    pub async fn connect(&self) -> Result<Client> {
        let idle = lock(&self.idle).take();
        if let Some(client) = idle.filter(|client| !client.is_closed()) {
            return Ok(client);
        }
        self.check_short().await?;
        let client = self.session().await?;
        supported_version(&client).await?;
        Ok(client)
    }

    pub(super) fn take_spare(&self) -> Option<First> {
        lock(&self.spare).take()
    }

    /// A connection: one that is there already, or a new one.
    pub(super) async fn session(&self) -> Result<Client> {
        let target = &self.ctx.target;
        if let Some(first) = self.take_spare()
            && let Some(client) = first.into_client(target).await
        {
            return Ok(client);
        }
        target.connect().await
    }

    /// Connects to a database that has the state schema.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] where pgshift was never used there.
    pub async fn connect_initialised(&self) -> Result<Client> {
        let client = self.connect().await?;
        match schema::version(&client).await? {
            Some(version) => schema::check_version(version)?,
            None => {
                return Err(Error::refused(format!(
                    "pgshift has not been used in database {}",
                    self.ctx.target.dbname()
                ))
                .left("nothing was changed")
                .hint("`pgshift init` prepares it; is it the right database?"));
            }
        }
        Ok(client)
    }

    /// What must be so before a run begins: connections enough, and [`ready`](Self::ready).
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] and [`ErrorKind::Refused`]; nothing was changed.
    pub(super) async fn check_server(&self) -> Result<&Ctx> {
        let look = async {
            let first = First::connect(&self.ctx.target).await?;
            lease::enough_connections(&self.ctx, &first.client).await?;
            *lock(&self.spare) = Some(first);
            Ok::<(), Error>(())
        };
        // Through a pooler that is full the answer does not come: that is told below.
        if let Ok(enough) = tokio::time::timeout(LOOK, look).await {
            enough.map_err(|error| error.left("nothing was changed"))?;
        }
        let ctx = self.ready().await?;
        self.upgrade().await?;
        Ok(ctx)
    }

    /// Brings the state schema of an earlier pgshift up to date, where there is one.
    pub(super) async fn upgrade(&self) -> Result<()> {
        let mut client = self.connect().await?;
        if schema::version(&client).await?.is_some() {
            schema::install(&mut client).await?;
        }
        Ok(())
    }

    /// Installs or upgrades the state schema; true where it was not there.
    pub async fn init(&self) -> Result<bool> {
        let mut client = self.connect().await?;
        Ok(schema::install(&mut client).await?.is_none())
    }

    /// Plans a migration against the live catalog. Changes nothing.
    pub async fn plan(&self, migration: &Migration) -> Result<Plan> {
        let client = self.connect().await?;
        let plan = planner::plan_with(&client, migration, &self.ctx.settings).await?;
        self.put_down(client);
        Ok(plan)
    }

    /// All migrations that the database knows, without their plans and texts; none where pgshift
    /// was never used there.
    pub async fn recorded(&self) -> Result<Vec<MigrationRow>> {
        let client = self.connect().await?;
        let recorded = match schema::version(&client).await? {
            None => Vec::new(),
            Some(version) => {
                schema::check_version(version)?;
                store::migrations::overview(&client).await?
            }
        };
        self.put_down(client);
        Ok(recorded)
    }

    /// Applies a migration to READY, or through contract. `saved` is a reviewed plan, which is
    /// run as it is or refused.
    pub async fn apply(
        &self,
        migration: &Migration,
        saved: Option<&Plan>,
        through: Through,
    ) -> Result<State> {
        let ctx = self.check_server().await?;
        ready::check_console(&ctx.settings, &migration.options.throttle).await?;
        sampler::check(ctx).await?;
        self.init().await?;
        let id = &migration.id;
        let lease = lease::acquire(ctx, id).await?;
        let state = store::migrations::get(&*lease.client, id)
            .await?
            .map_or(State::Pending, |row| row.state);
        let ran = matches!(state, State::Pending | State::Reverted | State::Applying);
        let state = match state {
            State::Pending | State::Reverted => {
                let plan = match saved {
                    Some(saved) => {
                        planner::check_saved(&lease.client, migration, saved).await?;
                        saved.clone()
                    }
                    None => planner::plan_with(&lease.client, migration, &ctx.settings).await?,
                };
                let opened = self.start_apply(&lease, migration, &plan).await;
                let lease = lease::opened(ctx, id, RunKind::Apply, lease, opened).await?;
                session::execute(ctx, id, Some(lease)).await?;
                self.state(id).await?
            }
            State::Applying => {
                session::execute(ctx, id, Some(lease)).await?;
                self.state(id).await?
            }
            other => {
                // A contract takes the lease itself.
                drop(lease);
                other
            }
        };
        if through == Through::Contract && state == State::Ready {
            let contracted = self.contract(id).await;
            return contracted.map_err(|error| if ran { after_apply(error) } else { error });
        }
        if matches!(state, State::Ready | State::Complete) {
            return Ok(state);
        }
        // Its run is done, and another one has begun since.
        if ran && through == Through::Ready {
            return Ok(state);
        }
        let (kind, then): (_, fn(Error) -> Error) = if ran {
            (RunKind::Contract, after_apply)
        } else {
            (RunKind::Apply, |error| error)
        };
        Err(then(not_possible(id, state, kind)))
    }

    /// Refuses where a run of this kind can neither start nor be gone on with.
    pub async fn check_start(&self, id: &str, kind: RunKind) -> Result<()> {
        let client = self.connect_initialised().await?;
        if store::runs::open_run(&client, id)
            .await?
            .is_some_and(|open| open.kind == kind)
        {
            return Ok(());
        }
        let state = self.state(id).await?;
        transition(state, Input::Start(kind))
            .map(drop)
            .map_err(|no| refused(id, &no))
    }

    pub(super) async fn state(&self, id: &str) -> Result<State> {
        let client = self.connect_initialised().await?;
        Ok(store::migrations::get(&client, id)
            .await?
            .map_or(State::Pending, |row| row.state))
    }

    /// Records the plan and opens the run, in one transaction.
    async fn start_apply(&self, lease: &Lease, migration: &Migration, plan: &Plan) -> Result<()> {
        let client = &*lease.client;
        let id = &migration.id;
        begin(client).await?;
        let work = async {
            // One opening at a time: the check of open tables must see every other one.
            client
                .batch_execute("SELECT pg_advisory_xact_lock(1885827169, 2)")
                .await
                .map_err(from_pg)?;
            let state = store::migrations::lock_state(client, id).await?;
            let next =
                transition(state, Input::Start(RunKind::Apply)).map_err(|n| refused(id, &n))?;
            for other in store::migrations::overview(client).await? {
                if other.id == *id || !other.state.is_open() {
                    continue;
                }
                let recorded = store::migrations::get(client, &other.id).await?;
                let tables = recorded.and_then(|m| m.plan).map(|p| p.tables);
                let tables = tables.unwrap_or_default();
                if let Some(table) = plan.tables.iter().find(|t| tables.contains(t)) {
                    return Err(Error::refused(format!(
                        "{table} is between expand and contract by {} ({})",
                        other.id, other.state
                    ))
                    .left("nothing was changed")
                    .hint(format!(
                        "`pgshift contract {0}` or `pgshift revert {0}` first",
                        other.id
                    )));
                }
            }
            let text = migration.source.text();
            store::migrations::record(client, id, &migration.checksum, text, next, Some(plan))
                .await?;
            let steps = plan.steps_of(RunKind::Apply.phases());
            store::runs::create(client, id, RunKind::Apply, &steps).await?;
            Ok(())
        };
        commit_or_roll_back(client, work.await).await
    }

    /// Finishes a migration that is READY: a full verify once more, then the contract steps.
    pub async fn contract(&self, id: &str) -> Result<State> {
        self.run_part(id, RunKind::Contract).await
    }

    /// Drops what contract had soft-dropped. Final.
    pub async fn purge(&self, id: &str) -> Result<State> {
        self.run_part(id, RunKind::Purge).await
    }

    async fn run_part(&self, id: &str, kind: RunKind) -> Result<State> {
        let ctx = self.check_server().await?;
        let client = self.connect_initialised().await?;
        if kind == RunKind::Contract {
            let row = store::migrations::get(&client, id).await?;
            ready::check_console(&ctx.settings, &ready::file_limits(row.as_ref())).await?;
            sampler::check(ctx).await?;
        }
        let mut lease = lease::acquire(ctx, id).await?;
        if let Some(open) = store::runs::open_run(&client, id).await? {
            if open.kind != kind {
                return Err(open_run_refused(&open));
            }
        } else {
            let opened = start_part(&lease, id, kind).await;
            lease = lease::opened(ctx, id, kind, lease, opened).await?;
        }
        session::execute(ctx, id, Some(lease)).await?;
        self.state(id).await
    }

    /// Goes on with a run that stopped, or ends the pause of a live one. Gives the state after it;
    /// `None` where a live runner goes on by itself.
    pub async fn resume(&self, id: &str) -> Result<Option<State>> {
        if *self.pooling().await? != Pooling::Session {
            return self.end_pause(id).await.map(|()| None);
        }
        let ctx = self.check_server().await?;
        let client = self.connect_initialised().await?;
        let row = store::migrations::get(&client, id).await?;
        ready::check_console(&ctx.settings, &ready::file_limits(row.as_ref())).await?;
        sampler::check(ctx).await?;
        if store::runs::open_run(&client, id).await?.is_none() {
            let state = row.map_or(State::Pending, |row| row.state);
            return Err(nothing_to_resume(id, state));
        }
        let paused = self.unpause(&client, id).await?;
        let lease = match lease::acquire(ctx, id).await {
            Ok(lease) => lease,
            // A live runner was paused and goes on now.
            Err(error) if paused && error.kind() == ErrorKind::Refused => return Ok(None),
            Err(error) => return Err(error),
        };
        // Whoever had the lease until now may have finished it, let go by us or before.
        if store::runs::open_run(&*lease.client, id).await?.is_none() {
            let state = self.state(id).await?;
            return if paused {
                Ok(Some(state))
            } else {
                Err(nothing_to_resume(id, state))
            };
        }
        session::execute(ctx, id, Some(lease)).await?;
        self.state(id).await.map(Some)
    }

    /// Marks migrations as applied without running them.
    pub async fn baseline(&self, migrations: &[&Migration]) -> Result<usize> {
        self.init().await?;
        let client = self.connect_initialised().await?;
        begin(&client).await?;
        let work = async {
            let mut marked = 0;
            for migration in migrations {
                let id = &migration.id;
                let state = store::migrations::lock_state(&client, id).await?;
                if state.is_applied() {
                    continue;
                }
                let next = transition(state, Input::Baseline).map_err(|n| refused(id, &n))?;
                let text = migration.source.text();
                store::migrations::record(&client, id, &migration.checksum, text, next, None)
                    .await?;
                store::events::append(&client, id, None, &self.ctx.actor, &Event::Baselined)
                    .await?;
                marked += 1;
            }
            Ok(marked)
        };
        commit_or_roll_back(&client, work.await).await
    }
}

/// Opens a run of a part of the recorded plan, in one transaction.
async fn start_part(lease: &Lease, id: &str, kind: RunKind) -> Result<()> {
    let client = &*lease.client;
    begin(client).await?;
    let work = async {
        let state = store::migrations::lock_state(client, id).await?;
        let next = transition(state, Input::Start(kind)).map_err(|n| refused(id, &n))?;
        let row = store::migrations::get(client, id).await?;
        let plan = row.and_then(|r| r.plan).ok_or_else(|| no_plan(id))?;
        store::migrations::set_state(client, id, next).await?;
        store::runs::create(client, id, kind, &plan.steps_of(kind.phases())).await?;
        Ok(())
    };
    commit_or_roll_back(client, work.await).await
}

fn nothing_to_resume(id: &str, state: State) -> Error {
    Error::refused(format!("{id} is {state}: there is nothing to resume"))
        .left("nothing was changed")
        .hint("`pgshift status` tells what can be done")
}

/// A refusal of the second of two runs: the first is done.
fn after_apply(error: Error) -> Error {
    if error.kind() != ErrorKind::Refused {
        return error;
    }
    error.left("the apply is done; nothing was changed by the contract")
}

fn not_possible(id: &str, state: State, kind: RunKind) -> Error {
    match transition(state, Input::Start(kind)) {
        Err(no) => refused(id, &no),
        Ok(_) => Error::internal(format!("{id} is {state} after its run")),
    }
}

pub(super) async fn begin(client: &Client) -> Result<()> {
    client
        .batch_execute("BEGIN; SET LOCAL lock_timeout = '10s'")
        .await
        .map_err(from_pg)
}

pub(super) async fn commit_or_roll_back<T>(client: &Client, result: Result<T>) -> Result<T> {
    match result {
        Ok(value) => {
            let committed = fault::around(Write::RunOpen, commit(client)).await;
            committed.map_err(|error| {
                if !error.is_connection() {
                    return error;
                }
                error
                    .left(
                        "it is not known whether the beginning was recorded; nothing else was done",
                    )
                    .hint("`pgshift status` tells it, and what to do next")
            })?;
            Ok(value)
        }
        Err(error) => {
            let _ = client.batch_execute("ROLLBACK").await;
            Err(error)
        }
    }
}

pub(super) fn refused(id: &str, no: &crate::run::NotPossible) -> Error {
    Error::refused(format!("{id}: {}", no.why))
        .left("nothing was changed")
        .hint(no.instead.clone())
}

pub(super) fn no_plan(id: &str) -> Error {
    Error::refused(format!("{id} has no recorded plan"))
        .left("nothing was changed")
        .hint("`pgshift status` lists the migrations that were applied here")
}

fn open_run_refused(open: &RunRow) -> Error {
    Error::refused(format!(
        "{}: its {} is not finished",
        open.migration, open.kind
    ))
    .left("nothing was changed")
    .hint("`pgshift resume` finishes it, `pgshift revert` takes the migration back")
}
