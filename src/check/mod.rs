//! `pgshift check`: migrations tried out on a database of its own, there and back, with rows made
//! up for its tables; and `pgshift snapshot`: what such a trial needs to know of production.
//!
//! [`run`] makes the place, the schema and the rows, tries each migration, and takes the place
//! away. What is not as it should be is a [`Finding`].

mod dump;
mod lints;
mod observe;
mod place;
mod schema;
mod trial;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio_postgres::Client;

pub use dump::{DumpSearch, NoDump, dump};
pub use lints::{LintOptions, Linted};
pub use observe::StepSeen;
pub use place::PlaceOptions;
pub use schema::{Filled, schema_of};

use crate::catalog::shape::Difference;
use crate::error::{Error, Result};
use crate::event::Sink;
use crate::exec::engine::Through;
use crate::exec::{Ctx, Engine, Settings};
use crate::migration::Migration;
use crate::pg::connect::Target;
use crate::run::State;
use crate::snapshot::Snapshot;
use observe::Recorder;
use place::Place;

/// What to check, and how.
pub struct Check<'a> {
    /// Where the trial is.
    pub place: PlaceOptions,
    /// The migrations to be tried, in order.
    pub files: Vec<&'a Migration>,
    /// The database that they are for; an empty one where `None`.
    pub snapshot: Option<&'a Snapshot>,
    /// Files before them that the database does not have: applied in order, not tried.
    pub earlier: Vec<&'a Migration>,
    /// Rows of each table; 0 leaves them empty.
    pub rows: u64,
    /// Share of nulls where they are allowed, 0 to 1.
    pub nulls: f64,
    /// The user's own rows: a file's name and its SQL, run before any are made up.
    pub data: Option<(String, String)>,
    /// Roles to be made on a private server.
    pub roles: Vec<String>,
    /// The linter; `None` leaves it out.
    pub lint: Option<LintOptions>,
    /// How migrations are run.
    pub settings: Settings,
    /// Becomes true when the check is to end.
    pub stop: watch::Receiver<bool>,
    /// Who runs it.
    pub actor: String,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// The linter's.
    Lint,
    /// A stage fails.
    Failed,
    /// The way back does not restore the schema.
    Schema,
    /// The way back does not restore the rows.
    Data,
    /// The plan said weaker locks, or no rewrite: a defect of pgshift.
    Prediction,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The migration.
    pub migration: String,
    /// What it is about.
    pub kind: FindingKind,
    /// The stage of the trial: `lint`, `plan`, `apply`, `revert`, …
    pub stage: &'static str,
    /// What is wrong.
    pub message: String,
    /// The file.
    pub file: String,
    /// 1-based line, where it is about one.
    pub line: Option<usize>,
    /// 1-based column, where it is about one.
    pub column: Option<usize>,
    /// The server's SQLSTATE, where it gave one.
    pub sqlstate: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// What is different.
    pub differences: Vec<Difference>,
}

/// How a stage of a trial went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As it should.
    Ok,
    /// It did what it should, but left a difference.
    Differs,
    /// It failed.
    Failed,
    /// There was nothing to do.
    Nothing,
    /// It was not tried, because of what came before.
    Skipped,
}

/// A stage of a trial.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stage {
    /// Its name.
    pub stage: &'static str,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

impl Stage {
    fn skipped(stage: &'static str) -> Self {
        Self {
            stage,
            outcome: Outcome::Skipped,
            ms: 0.0,
        }
    }
}

/// The stages of a trial, in order. The names are those in reports.
pub const STAGES: [&str; 9] = [
    "plan",
    "apply",
    "revert",
    "again",
    "contract",
    "revert_contract",
    "final_apply",
    "final_contract",
    "purge",
];

/// A migration and how it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tried {
    /// Its id.
    pub migration: String,
    /// What the linter said; `None` where it was not asked.
    pub lint: Option<Linted>,
    /// The stages, see [`STAGES`].
    pub stages: Vec<Stage>,
    /// Every step of every stage.
    pub steps: Vec<StepSeen>,
    /// What the plan says is lost on the way back, and what follows from it.
    pub notes: Vec<String>,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `server_version_num` of the server of the trial.
    pub server_version: u32,
    /// The server was a private one.
    pub private_server: bool,
    /// Tables and the rows that were made up for them.
    pub tables: Vec<Filled>,
    /// The migrations, in order.
    pub migrations: Vec<Tried>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Of nothing.
    pub fn empty() -> Self {
        Self {
            server_version: 0,
            private_server: false,
            tables: Vec::new(),
            migrations: Vec::new(),
            findings: Vec::new(),
        }
    }
}

/// Checks migrations.
///
/// # Errors
/// Where no trial is possible: no server programs, a shadow database that is not empty, a schema
/// that cannot be made. A migration that does not pass is a finding of the report, not an error.
pub async fn run(check: &Check<'_>, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let mut stop = check.stop.clone();
    let stopped = || {
        Error::interrupted("the check was stopped")
            .left("its server, or its database, is gone")
            .hint("`pgshift check` begins anew")
    };
    tell("making a database for the trial");
    let mut making = pin!(Place::make(&check.place));
    let made = tokio::select! {
        made = &mut making => made?,
        _ = stop.wait_for(|stop| *stop) => {
            // A server of our own goes with the future; a database on another's does not, and
            // whether it is there already is not known before the end.
            if check.place.shadow.is_some() && let Ok(made) = making.await {
                made.end().await?;
            }
            return Err(stopped());
        }
    };
    let done = tokio::select! {
        done = perform(check, &made, tell) => done,
        _ = stop.wait_for(|stop| *stop) => Err(stopped()),
    };
    // The first error is the one to tell.
    let ended = made.end().await;
    let report = done?;
    ended?;
    Ok(report)
}

/// A place with what runs on it.
struct Bench<'a> {
    check: &'a Check<'a>,
    place: &'a Place,
    engine: Engine,
    recorder: Arc<Recorder>,
    /// For the schema, rows and comparisons.
    client: Client,
}

async fn perform(check: &Check<'_>, place: &Place, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let client = place.target.connect().await?;
    let recorder = Arc::new(Recorder::default());
    let engine = engine(check, &place.target, recorder.clone());
    if place.private() {
        schema::roles(&client, check.roles.iter().map(String::as_str)).await?;
    }
    let mut bench = Bench {
        check,
        place,
        engine,
        recorder,
        client,
    };
    if let Some(snapshot) = check.snapshot {
        tell("making the schema of the snapshot");
        if place.private() {
            schema::roles(&bench.client, snapshot.roles.iter().map(String::as_str)).await?;
        }
        schema::make(&bench.client, snapshot, place.private()).await?;
        // What a setting of the dump did to the session ends with it.
        bench.client = place.target.connect().await?;
    }
    if !check.earlier.is_empty() {
        let count = check.earlier.len() as i64;
        let files = crate::report::text::counted(count, "earlier migration");
        tell(&format!("applying {files}"));
    }
    for file in &check.earlier {
        through(&bench.engine, file).await.map_err(|e| {
            e.context(format!("{}, an earlier migration", file.id))
                .left("nothing of what was to be checked was tried")
                .hint(
                    "a schema that did not begin with the first file of the folder needs a \
                     snapshot; see docs/ci.md",
                )
        })?;
    }
    if let Some((name, sql)) = &check.data {
        schema::data(&bench.client, name, sql).await?;
    }
    let tables = bench.fill(tell).await?;
    // The state schema must be there before the first plan is compared with anything.
    bench.engine.init().await?;
    if place.superuser {
        observe::install(&bench.client).await?;
    }
    let mut report = Report {
        server_version: place.version,
        private_server: place.private(),
        tables,
        migrations: Vec::new(),
        findings: Vec::new(),
    };
    bench.lint(&mut report);
    bench.try_all(&mut report, tell).await?;
    Ok(report)
}

impl Bench<'_> {
    async fn fill(&self, tell: &(dyn Fn(&str) + Sync)) -> Result<Vec<Filled>> {
        tell("making up rows");
        let check = self.check;
        schema::fill(&self.client, self.place.superuser, check.rows, check.nulls).await
    }

    fn lint(&self, report: &mut Report) {
        let catalog = self.check.snapshot.map(|s| &s.catalog);
        let major = self.place.version / 10_000;
        let check = self.check;
        let mut linted = check
            .lint
            .as_ref()
            .map_or(Vec::new(), |how| {
                lints::run(&check.earlier, &check.files, catalog, major, how)
            })
            .into_iter();
        for file in &check.files {
            let (counts, failing) = match linted.next() {
                Some((counts, failing)) => (Some(counts), failing),
                None => (None, Vec::new()),
            };
            for found in failing {
                let (line, column) = file.source.line_column(found.at);
                report.findings.push(Finding {
                    line: Some(line),
                    column: Some(column),
                    help: Some(found.help),
                    ..trial::finding(file, FindingKind::Lint, "lint", found.message)
                });
            }
            report.migrations.push(Tried {
                migration: file.id.clone(),
                lint: counts,
                stages: STAGES.map(Stage::skipped).to_vec(),
                steps: Vec::new(),
                notes: Vec::new(),
            });
        }
    }

    async fn try_all(&self, report: &mut Report, tell: &(dyn Fn(&str) + Sync)) -> Result<()> {
        let mut broken: Option<&str> = None;
        for (at, file) in self.check.files.iter().enumerate() {
            let tried = &mut report.migrations[at];
            if let Some(earlier) = broken {
                tried.notes.push(format!(
                    "not tried: {earlier}, which comes before it, did not get through"
                ));
                continue;
            }
            tell(&format!("trying {}", file.id));
            let mut trial = trial::Trial::new(self, file);
            let whole = trial.run().await;
            trial.into_report(tried, &mut report.findings);
            if !whole? {
                broken = Some(&file.id);
                continue;
            }
            // Tables that it made have rows for the next one.
            if at + 1 < self.check.files.len() {
                let new = schema::fill(
                    &self.client,
                    self.place.superuser,
                    self.check.rows,
                    self.check.nulls,
                )
                .await?;
                report
                    .tables
                    .retain(|t| !new.iter().any(|n| n.table == t.table));
                report.tables.extend(new);
            }
        }
        report.tables.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(())
    }
}

fn engine(check: &Check<'_>, target: &Target, sink: Arc<dyn Sink>) -> Engine {
    let mut settings = check.settings.clone();
    // Nobody else is there.
    settings.limits = crate::throttle::Limits {
        duty: 1.0,
        max_lag: None,
        run_between: None,
        ..crate::throttle::Limits::default()
    };
    settings.ladder.budget = settings.ladder.budget.min(Duration::from_secs(30));
    Engine::new(Ctx {
        target: target.clone(),
        direct: false,
        pooling: Arc::default(),
        pooled: None,
        chunks: None,
        settings,
        sink,
        stop: check.stop.clone(),
        actor: check.actor.clone(),
    })
}

/// Applies, contracts and purges a migration.
async fn through(engine: &Engine, file: &Migration) -> Result<()> {
    if engine.apply(file, None, Through::Contract).await? == State::Complete {
        engine.purge(&file.id).await?;
    }
    Ok(())
}
