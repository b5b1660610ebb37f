//! One migration: there, back, there, on, back, there for good.

use std::collections::BTreeMap;
use std::time::Instant;

use super::observe::{StepSeen, Watch, stronger};
use super::{Bench, Finding, FindingKind, Outcome, Stage, Tried, schema};
use crate::catalog::shape::{Difference, Shape};
use crate::error::{Error, ErrorKind, Result};
use crate::exec::engine::Through;
use crate::exec::revert::RevertTo;
use crate::migration::Migration;
use crate::pg;
use crate::plan::work::{Work as Cost, rewrites_or_scans};
use crate::plan::{Phase, Plan, Step, Undo, Work};
use crate::run::{RunKind, State};
use crate::sql::ddl::understand;

/// A finding without a place.
pub(super) fn finding(
    file: &Migration,
    kind: FindingKind,
    stage: &'static str,
    message: String,
) -> Finding {
    Finding {
        migration: file.id.clone(),
        kind,
        stage,
        message,
        file: file.source.name().to_owned(),
        line: None,
        column: None,
        sqlstate: None,
        help: None,
        differences: Vec::new(),
    }
}

/// What a database is like.
struct Picture {
    shape: Shape,
    data: BTreeMap<String, String>,
}

/// The trial of one migration.
pub(super) struct Trial<'a> {
    bench: &'a Bench<'a>,
    file: &'a Migration,
    stages: Vec<Stage>,
    steps: Vec<StepSeen>,
    notes: Vec<String>,
    findings: Vec<Finding>,
}

/// What a stage does.
#[derive(Clone, Copy)]
enum Go {
    Apply,
    Contract,
    Revert,
    Purge,
}

impl<'a> Trial<'a> {
    pub(super) fn new(bench: &'a Bench<'a>, file: &'a Migration) -> Self {
        Self {
            bench,
            file,
            stages: Vec::new(),
            steps: Vec::new(),
            notes: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Gives what was found.
    pub(super) fn into_report(self, tried: &mut Tried, findings: &mut Vec<Finding>) {
        for stage in &mut tried.stages {
            if let Some(done) = self.stages.iter().find(|s| s.stage == stage.stage) {
                *stage = done.clone();
            }
        }
        tried.steps = self.steps;
        tried.notes.extend(self.notes);
        findings.extend(self.findings);
    }

    /// True where it got to its end; differences on the way do not hold it.
    ///
    /// # Errors
    /// What ends the whole check: a lost server, a stop.
    pub(super) async fn run(&mut self) -> Result<bool> {
        let before = self.picture().await?;
        let begun = Instant::now();
        let plan = match self.bench.engine.plan(self.file).await {
            Ok(plan) => plan,
            Err(error) => return self.failed("plan", begun, error, &[], None),
        };
        self.stage("plan", Outcome::Ok, begun);
        for (step, reason) in plan.irreversible() {
            self.notes
                .push(format!("the plan says of \"{step}\": {reason}"));
        }
        let contract = plan.has_contract();
        for (stage, go) in [
            ("apply", Go::Apply),
            ("revert", Go::Revert),
            ("again", Go::Apply),
            ("contract", Go::Contract),
            ("revert_contract", Go::Revert),
            ("final_apply", Go::Apply),
            ("final_contract", Go::Contract),
            ("purge", Go::Purge),
        ] {
            // Without a contract part the way is shorter.
            let nothing = match stage {
                "contract" | "revert_contract" | "final_apply" | "final_contract" => !contract,
                _ => false,
            };
            if nothing {
                self.stage(stage, Outcome::Nothing, Instant::now());
                continue;
            }
            if !self.go(stage, go, &plan).await? {
                return Ok(false);
            }
            if matches!(go, Go::Revert) {
                self.compare(stage, &before, &plan).await?;
            }
        }
        Ok(true)
    }

    async fn picture(&self) -> Result<Picture> {
        Ok(Picture {
            shape: pg::shape::read(&self.bench.client).await?,
            data: schema::checksums(&self.bench.client).await?,
        })
    }

    /// One run, watched. False where it fails.
    async fn go(&mut self, stage: &'static str, go: Go, plan: &Plan) -> Result<bool> {
        let engine = &self.bench.engine;
        let id = &self.file.id;
        let begun = Instant::now();
        let steps = match go {
            Go::Apply => match engine.plan(self.file).await {
                Ok(plan) => plan.steps_of(RunKind::Apply.phases()),
                Err(error) => return self.failed(stage, begun, error, &[], None),
            },
            Go::Contract => plan.steps_of(RunKind::Contract.phases()),
            Go::Purge => plan.steps_of(RunKind::Purge.phases()),
            Go::Revert => match engine.revert_plan(id, RevertTo::Start).await {
                Ok(plan) => plan.steps,
                Err(error) => return self.failed(stage, begun, error, &[], None),
            },
        };
        let catalog = crate::exec::planner::catalog(&self.bench.client, self.file).await?;
        let looker = self.bench.place.target.connect().await?;
        let watch = Watch::start(&self.bench.client, looker, self.bench.recorder.clone()).await?;
        let names = watch.names();
        let begun = Instant::now();
        let result = match go {
            Go::Apply => engine.apply(self.file, None, Through::Ready).await,
            Go::Contract => engine.contract(id).await,
            Go::Revert => engine.revert(id, RevertTo::Start).await,
            Go::Purge => engine.purge(id).await,
        };
        let unfinished = self.bench.recorder.unfinished();
        let seen = watch.end(&self.bench.client, stage, &steps).await?;
        let state = match result {
            Ok(state) => state,
            Err(error) => {
                self.steps.extend(seen);
                return self.failed(stage, begun, error, &steps, unfinished);
            }
        };
        tracing::debug!("{id}: {stage} ends in {state}");
        let wanted: &[State] = match go {
            Go::Apply => &[State::Ready, State::Complete],
            Go::Contract => &[State::Complete],
            Go::Revert => &[State::Reverted],
            Go::Purge => &[State::Purged],
        };
        if !wanted.contains(&state) {
            let error = Error::internal(format!("{stage} ends in {state}"));
            return self.failed(stage, begun, error, &steps, unfinished);
        }
        for seen in &seen {
            if let Some(step) = steps.get(seen.step - 1) {
                self.judge(seen, step, &names, &catalog);
            }
        }
        self.steps.extend(seen);
        self.stage(stage, Outcome::Ok, begun);
        Ok(true)
    }

    fn stage(&mut self, stage: &'static str, outcome: Outcome, begun: Instant) {
        self.stages.push(Stage {
            stage,
            outcome,
            ms: begun.elapsed().as_secs_f64() * 1000.0,
        });
    }

    /// Records a failure of the migration; passes on one of the surroundings.
    fn failed(
        &mut self,
        stage: &'static str,
        begun: Instant,
        error: Error,
        steps: &[Step],
        unfinished: Option<usize>,
    ) -> Result<bool> {
        let stopped = *self.bench.check.stop.borrow();
        if stopped || error.is_connection() {
            return Err(error);
        }
        self.stage(stage, Outcome::Failed, begun);
        let (mut line, mut column) = (None, None);
        if let Some((source, places)) = error.places()
            && let Some(first) = places.first()
        {
            let (l, c) = source.line_column(first.span.start);
            (line, column) = (Some(l), Some(c));
        }
        if line.is_none() {
            line = unfinished
                .and_then(|ordinal| steps.get(ordinal.checked_sub(1)?))
                .and_then(|step| step.line);
        }
        let mut message = error.to_string();
        if error.kind() == ErrorKind::Internal {
            message.push_str(": this is a defect of pgshift, please report it");
        }
        let help = error
            .places()
            .and_then(|(_, places)| places.first()?.help.clone());
        self.findings.push(Finding {
            line,
            column,
            sqlstate: error.sqlstate().map(str::to_owned),
            help,
            ..finding(self.file, FindingKind::Failed, stage, message)
        });
        Ok(false)
    }

    /// Compares what a step did with what the plan said of it.
    fn judge(
        &mut self,
        seen: &StepSeen,
        step: &Step,
        names: &BTreeMap<String, Vec<crate::catalog::QName>>,
        catalog: &crate::catalog::Catalog,
    ) {
        let mut differences: Vec<Difference> = stronger(seen, step, names)
            .into_iter()
            .map(|(table, mode, said)| Difference {
                object: format!("lock on {table}"),
                before: Some(
                    said.map_or("none, or that of a read or write".to_owned(), |m| {
                        m.to_string()
                    }),
                ),
                after: Some(mode.to_string()),
            })
            .collect();
        if !rewrite_said(step, catalog) {
            differences.extend(seen.rewrites.iter().map(|table| Difference {
                object: format!("rewrite of {table}"),
                before: Some("none".to_owned()),
                after: Some("every row was written anew".to_owned()),
            }));
        }
        if differences.is_empty() {
            return;
        }
        self.findings.push(Finding {
            line: step.line,
            help: Some(
                "the prediction differs: this is a defect of pgshift, please report it with the \
                 statement"
                    .to_owned(),
            ),
            differences,
            ..finding(
                self.file,
                FindingKind::Prediction,
                seen.stage,
                format!(
                    "step {}, {}: the server did more than the plan says",
                    seen.step, seen.title
                ),
            )
        });
    }

    /// Compares the database with what it was before the migration.
    async fn compare(&mut self, stage: &'static str, before: &Picture, plan: &Plan) -> Result<()> {
        let now = self.picture().await?;
        let schema = before.shape.differences(&now.shape);
        let stays = plan
            .steps
            .iter()
            .any(|s| matches!(s.undo, Undo::Irreversible { .. }) && s.phase != Phase::Backfill);
        let mut differs = false;
        if !schema.is_empty() {
            if stays {
                self.notes.push(format!(
                    "after {stage} the schema differs, as the plan says it may: {}",
                    objects(&schema)
                ));
            } else {
                differs = true;
                self.findings.push(Finding {
                    help: Some(
                        "a `revert` section after the section says how its statements are taken \
                         back; if it is there, it does something else"
                            .to_owned(),
                    ),
                    differences: schema,
                    ..finding(
                        self.file,
                        FindingKind::Schema,
                        stage,
                        "the way back does not restore the schema".to_owned(),
                    )
                });
            }
        }
        let data: Vec<Difference> = before
            .data
            .iter()
            .filter_map(|(object, was)| {
                let is = now.data.get(object)?;
                (was != is).then(|| difference_of_data(object, was, is))
            })
            .collect();
        let (said, found): (Vec<Difference>, Vec<Difference>) =
            data.into_iter().partition(|d| loss_said(plan, &d.object));
        if !said.is_empty() {
            self.notes.push(format!(
                "after {stage} rows differ, as the plan says: {}",
                objects(&said)
            ));
        }
        if !found.is_empty() {
            differs = true;
            self.findings.push(Finding {
                help: Some(
                    "a `reverse` section says how old columns follow from new ones; triggers of \
                     the application that fire on the backfill's UPDATE change rows too"
                        .to_owned(),
                ),
                differences: found,
                ..finding(
                    self.file,
                    FindingKind::Data,
                    stage,
                    "the way back does not restore the rows".to_owned(),
                )
            });
        }
        if differs && let Some(last) = self.stages.last_mut() {
            last.outcome = Outcome::Differs;
        }
        Ok(())
    }
}

fn objects(differences: &[Difference]) -> String {
    let names: Vec<&str> = differences.iter().map(|d| d.object.as_str()).collect();
    names.join(", ")
}

fn difference_of_data(object: &str, was: &str, is: &str) -> Difference {
    let text = |value: &str| {
        if object.ends_with(" rows") {
            format!("{value} rows")
        } else {
            format!("checksum {value}")
        }
    };
    Difference {
        object: object.to_owned(),
        before: Some(text(was)),
        after: Some(text(is)),
    }
}

/// The plan says that something of the table of this object does not come back.
fn loss_said(plan: &Plan, object: &str) -> bool {
    plan.steps
        .iter()
        .filter(|step| match &step.undo {
            Undo::Irreversible { .. } => true,
            Undo::Steps { lost, .. } => !lost.is_empty(),
            Undo::Nothing => false,
        })
        .any(|step| {
            let mut tables: Vec<String> = step
                .locks
                .iter()
                .filter_map(|l| l.relation.as_ref())
                .map(crate::sql::RelName::sql)
                .collect();
            if let Work::Backfill(spec) = &step.work {
                tables.push(crate::sql::quote::qname(&spec.table));
            }
            tables.iter().any(|table| {
                let plain = table.replace('"', "");
                let object = object.replace('"', "");
                object.starts_with(&format!("{plain} ")) || object.contains(&format!(".{plain} "))
            })
        })
}

/// The plan says that the step rewrites a table, or its statements are known to.
fn rewrite_said(step: &Step, catalog: &crate::catalog::Catalog) -> bool {
    step.estimate
        .basis
        .as_deref()
        .is_some_and(|basis| basis.contains("rewrites"))
        || match &step.work {
            Work::Sql { statements } => statements
                .iter()
                .any(|sql| rewrites_or_scans(&understand(sql), catalog) == Cost::Rewrite),
            _ => false,
        }
}
