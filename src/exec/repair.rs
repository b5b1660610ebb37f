//! `pgshift repair`: mends the rows that a verify found wrong, and only these.
//!
//! Each row is locked and looked at again before it is changed, and what became of it is recorded
//! in the same transaction: a repair that was killed goes on where it was.

mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_postgres::Statement;

use super::control::{Control, with_probes};
use super::engine::{Engine, no_plan};
use super::ledger::Ledger;
use super::session::{Session, heartbeats};
use super::verify::{checks_in, scan, take_verify_lock};
use super::{commit, lease, sampler};
use crate::backfill::verify::{NoSide, key_text, side};
use crate::backfill::{Aim, ChunkFailure, ChunkSizer, Side, VerifySpec, judge_chunk_failure};
use crate::catalog::QName;
use crate::error::{Error, ErrorKind, Result};
use crate::fault::{self, Write};
use crate::pg::error::from_pg;
use crate::plan::sync::is_ours;
use crate::plan::{Step, Work, sync};
use crate::run::{RunState, State};
use crate::store::verifications::{self, MOST_LISTED};
use crate::store::{self, RunRow, StepState, WrongRow};

/// Rows of a chunk, which are locked to its end.
const LEAST_AT_ONCE: u64 = 10;
const MOST_AT_ONCE: u64 = 500;
/// Working time that a chunk aims at: most of it is spent on the way to the server and back.
const TARGET: Duration = Duration::from_millis(30);
/// Rows that an event tells by key.
const KEYS_TOLD: usize = 10;

/// What became of the wrong rows of one table.
#[derive(Debug, Clone)]
pub struct Repaired {
    /// The table.
    pub table: QName,
    /// The side that was taken for right.
    pub from: Side,
    /// Rows that were mended, and are right.
    pub mended: u64,
    /// Rows that were right when they were met again.
    pub right: u64,
    /// Rows that are not there any more.
    pub gone: u64,
    /// Rows that are still wrong: name, and why.
    pub left: Vec<(String, String)>,
    /// The verify was stopped before its end: there may be more.
    pub unfinished: bool,
}

/// One check whose wrong rows are to be mended.
struct Job<'a> {
    session: &'a Arc<Session>,
    state: State,
    step: &'a Step,
    spec: &'a VerifySpec,
    verification: i64,
    from: Side,
    /// Types of the key's columns.
    types: Vec<String>,
    /// Statements of the session by their text.
    prepared: tokio::sync::Mutex<HashMap<String, Statement>>,
}

enum Met {
    Mended(String),
    Right,
    Gone,
    Left(String),
}

impl Engine {
    /// Mends the rows that the newest verify found wrong. `asked` is the side that a person takes
    /// for right; without it only what leaves no choice is mended.
    ///
    /// # Errors
    /// [`ErrorKind::Ambiguous`] where a person must choose; [`ErrorKind::Refused`] where nothing
    /// was verified, or a run is under way. Nothing was changed by these.
    pub async fn repair(&self, id: &str, asked: Option<Side>) -> Result<Vec<Repaired>> {
        let ctx = self.check_server().await?;
        sampler::check(ctx).await?;
        let client = self.connect_initialised().await?;
        let row = store::migrations::get(&client, id)
            .await?
            .ok_or_else(|| no_plan(id))?;
        let state = row.state;
        if !matches!(state, State::Applying | State::Ready | State::Contracting) {
            return Err(refused(
                format!("{id} is {state}: there is nothing to repair"),
                "rows are repaired while old and new columns are both there",
            ));
        }
        let plan = row.plan.ok_or_else(|| no_plan(id))?;
        let lease = lease::acquire(ctx, id).await?;
        take_verify_lock(ctx, &lease.client, id).await?;
        let mut runs = store::runs::runs_of(&client, id).await?.into_iter();
        let run = runs.rfind(|run| run.state != RunState::CalledOff);
        let run = run.ok_or_else(|| no_plan(id))?;
        if state == State::Contracting {
            only_verified(&client, &run).await?;
        }
        let steps = plan.steps_of(&[checks_in(state)]);
        let chosen = choose(&client, id, state, &steps, asked).await?;
        let epoch = lease::begin_epoch(ctx, &lease, run.id).await?;
        let session = Arc::new(Session {
            ctx: ctx.clone(),
            migration: id.to_owned(),
            run: Some(run.id),
            epoch,
            lease: lease.client.clone(),
            work: lease::connect(ctx).await?,
            progress: Mutex::default(),
            ledger: Ledger::default(),
        });
        let work = async {
            let mut all = Vec::new();
            for Chosen {
                step,
                spec,
                verification,
                from,
                unfinished,
            } in chosen
            {
                let job = Job {
                    session: &session,
                    state,
                    step,
                    spec,
                    verification,
                    from,
                    types: types(&session, spec, from).await?,
                    prepared: tokio::sync::Mutex::default(),
                };
                let repaired = job.run().await?;
                all.push(Repaired {
                    unfinished,
                    ..repaired
                });
            }
            Ok(all)
        };
        let result = tokio::select! {
            result = work => result,
            lost = heartbeats(&session) => Err(lost),
        };
        if !result.as_ref().is_err_and(Error::is_connection) {
            store::runs::release_lease(&*session.lease, run.id, epoch).await?;
        }
        result.map_err(|error| {
            if error.what_was_left().is_some() {
                return error;
            }
            error
                .left("the rows that were mended stay so, the others are as they were")
                .hint("`pgshift repair` goes on")
        })
    }
}

fn refused(what: String, hint: &str) -> Error {
    Error::refused(what)
        .left("nothing was changed")
        .hint(hint.to_owned())
}

/// Before its first change a contract only reads.
async fn only_verified(client: &tokio_postgres::Client, run: &RunRow) -> Result<()> {
    let steps = store::runs::steps(client, run.id).await?;
    let reads = |ordinal: usize| {
        let step = run.steps.get(ordinal.saturating_sub(1));
        step.is_some_and(|s| matches!(s.work, Work::Verify(_) | Work::Check { .. }))
    };
    if steps
        .iter()
        .all(|step| reads(step.ordinal) || step.state != StepState::Done)
    {
        return Ok(());
    }
    Err(refused(
        format!("the contract of {} has changed its tables", run.migration),
        "`pgshift resume` finishes it, `pgshift revert --to ready` takes it back",
    ))
}

struct Chosen<'a> {
    step: &'a Step,
    spec: &'a VerifySpec,
    verification: i64,
    from: Side,
    unfinished: bool,
}

/// The checks that have wrong rows, each with the side that is right.
async fn choose<'a>(
    client: &tokio_postgres::Client,
    id: &str,
    state: State,
    steps: &'a [Step],
    asked: Option<Side>,
) -> Result<Vec<Chosen<'a>>> {
    let mut all = Vec::new();
    let mut verified = false;
    for step in steps {
        let Work::Verify(spec) = &step.work else {
            continue;
        };
        let Some((verification, done)) = verifications::newest(client, id, spec).await? else {
            continue;
        };
        verified = true;
        let listed = verifications::wrong_rows(client, verification, "wrong", 1).await?;
        let mended = verifications::wrong_rows(client, verification, "mended", 1).await?;
        if listed.is_empty() && mended.is_empty() {
            continue;
        }
        let from = match side(spec, state != State::Applying, asked) {
            Ok(from) => from,
            Err(no) => return Err(no_side(id, state, spec, no)),
        };
        all.push(Chosen {
            step,
            spec,
            verification,
            from,
            unfinished: !done,
        });
    }
    if verified {
        return Ok(all);
    }
    Err(refused(
        format!("{id} was not verified: nothing says which rows are wrong"),
        "`pgshift verify` finds them",
    ))
}

fn no_side(id: &str, state: State, spec: &VerifySpec, no: NoSide) -> Error {
    let table = &spec.table;
    match no {
        NoSide::Ask => Error::new(
            ErrorKind::Ambiguous,
            format!(
                "{id} is {state}: old and new application version may both have written the wrong \
                 rows of {table}, and nothing tells which value is the newer one"
            ),
        )
        .left("nothing was changed")
        .hint(format!(
            "`pgshift verify {id} --values` shows them; then choose: `pgshift repair {id} --from \
             old` computes the new columns anew from the old ones, `pgshift repair {id} --from \
             new` the old columns from the new ones (rows without a new value stay as they are); \
             the other side's values are overwritten"
        )),
        NoSide::NoReverse => refused(
            format!(
                "{table} has no reverse section: nothing says how old columns follow from new ones"
            ),
            "--from old computes the new columns anew",
        ),
        NoSide::OldPlan => refused(
            format!("the recorded plan of {id} is of a pgshift that could not repair {table}"),
            "mend the rows by hand: `pgshift verify` lists them",
        ),
    }
}

/// The types of the key's columns; refuses what a repair would put out of step.
async fn types(session: &Session, spec: &VerifySpec, from: Side) -> Result<Vec<String>> {
    let table = scan::load(session, spec).await?;
    let own = sync::function_name(&spec.table, &session.migration);
    let other = table
        .triggers
        .iter()
        .find(|t| is_ours(&t.name) && !t.definition.contains(&own.name));
    if let Some(other) = other.filter(|_| from == Side::New) {
        return Err(refused(
            format!(
                "an earlier migration of {} is not purged: its trigger {} would not follow the old \
                 columns",
                spec.table, other.name
            ),
            "`pgshift purge` it first",
        ));
    }
    spec.key
        .iter()
        .map(|name| {
            let column = table.column(name);
            column.map(|c| c.type_name.clone()).ok_or_else(|| {
                refused(
                    format!("{} has no column {name} any more", spec.table),
                    "verify again",
                )
            })
        })
        .collect()
}

impl Job<'_> {
    async fn run(&self) -> Result<Repaired> {
        let control = Control::new(self.session.clone(), self.step)?;
        with_probes(&control, self.to_the_end(&control)).await
    }

    async fn to_the_end(&self, control: &Control) -> Result<Repaired> {
        let client = &self.session.work;
        let id = self.verification;
        let mut done = Repaired {
            table: self.spec.table.clone(),
            from: self.from,
            mended: 0,
            right: 0,
            gone: 0,
            left: Vec::new(),
            unfinished: false,
        };
        let rows = verifications::wrong_rows(client, id, "wrong", MOST_LISTED).await?;
        let mut sizer = ChunkSizer::adaptive(LEAST_AT_ONCE, MOST_AT_ONCE, Aim::time(TARGET));
        let mut rows = rows.as_slice();
        let mut worked = Duration::ZERO;
        let mut blocked: Option<Instant> = None;
        let mut least = LEAST_AT_ONCE;
        while !rows.is_empty() {
            control.gate(worked).await?;
            let (now, later) = rows.split_at(rows.len().min(sizer.size().max(least) as usize));
            let begun = Instant::now();
            match self.chunk(now).await {
                Ok(met) => {
                    for (row, met) in now.iter().zip(met) {
                        match met {
                            // Counted when they were verified again.
                            Met::Mended(_) => {}
                            Met::Right => done.right += 1,
                            Met::Gone => done.gone += 1,
                            Met::Left(why) => done.left.push((self.name(row), why)),
                        }
                    }
                    rows = later;
                    blocked = None;
                    worked = begun.elapsed();
                    sizer.observe(now.len() as u64, worked, 0);
                }
                Err(error) => {
                    let code = error.sqlstate().unwrap_or_default();
                    let retry =
                        !error.is_connection() && judge_chunk_failure(code) == ChunkFailure::Retry;
                    let since = *blocked.get_or_insert_with(Instant::now);
                    if !retry || since.elapsed() > self.session.ctx.settings.ladder.budget {
                        return Err(error);
                    }
                    sizer.shrink(now.len() as u64);
                    // One locked row must not keep its neighbours.
                    least = 1;
                    let pause = Duration::from_millis(fastrand::u64(20..200));
                    self.session.ctx.sleep(pause).await;
                }
            }
        }
        self.verify_again(&mut done).await?;
        Ok(done)
    }

    fn name(&self, row: &WrongRow) -> String {
        let key = key_text(&self.spec.key, &row.key, &row.tid);
        if row.leaf == self.spec.table {
            key
        } else {
            format!("{key} of {}", row.leaf)
        }
    }

    /// Looks at all mended rows once more, those of a repair that was killed too.
    async fn verify_again(&self, done: &mut Repaired) -> Result<()> {
        let client = &self.session.work;
        let id = self.verification;
        let rows = verifications::wrong_rows(client, id, "mended", MOST_LISTED).await?;
        for rows in rows.chunks(MOST_AT_ONCE as usize) {
            self.session.check_stop()?;
            scan::begin(self.session, self.spec).await?;
            let look = async {
                for row in rows {
                    let Some(tid) = self.locate(row, false).await? else {
                        done.gone += 1;
                        continue;
                    };
                    if self.is_wrong(&row.leaf, &tid, false).await? {
                        verifications::set_row(client, id, row, "wrong", &tid).await?;
                        let why = "it was made wrong again meanwhile".to_owned();
                        done.left.push((self.name(row), why));
                    } else {
                        done.mended += 1;
                    }
                }
                fault::around(Write::RepairLook, commit(client)).await
            };
            if let Err(error) = look.await {
                if !error.is_connection() {
                    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }
}
