//! `pgshift plan`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::context::App;
use super::exit::Exit;
use super::files::Project;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::report;

/// Show every step before anything runs: SQL, locks, cost, the way back, and what cannot be taken
/// back. Expressions are checked against the server; no table is locked.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The migration [default: every pending one]
    id: Option<String>,
    /// Write the plan to a file, for `pgshift apply --plan`
    #[arg(long, value_name = "FILE", requires = "id")]
    out: Option<PathBuf>,
    /// Count with the rows and sizes of this snapshot, such as production's, instead of those of
    /// the database
    #[arg(long, value_name = "FILE", conflicts_with = "out")]
    snapshot: Option<PathBuf>,
}

pub(super) async fn run(app: &App, args: &PlanArgs) -> Result<Exit> {
    let sizes = args.snapshot.as_deref().map(super::snapshot::read);
    let sizes = sizes.transpose()?.map(|snapshot| snapshot.catalog.into());
    let engine = app.engine(None)?.with_sizes(sizes);
    let project = Project::load_by(app, &engine).await?;
    project.check_unedited()?;
    let ids: Vec<String> = match &args.id {
        Some(name) => vec![project.file(name)?.id.clone()],
        None => project.pending().into_iter().map(str::to_owned).collect(),
    };
    if ids.is_empty() {
        app.print("nothing is pending\n", &json!({ "plans": [] }))?;
        return Ok(Exit::Success);
    }
    let mut plans: Vec<Plan> = Vec::new();
    for id in &ids {
        let file = project.file(id)?;
        match engine.plan(file).await {
            Ok(plan) => plans.push(plan),
            // A later file may need what an earlier one makes.
            Err(error) if !plans.is_empty() => {
                app.say(&format!(
                    "{id} can be planned only after the ones before it are applied: {error}"
                ));
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if let (Some(path), Some(plan)) = (&args.out, plans.first()) {
        write(path, plan)?;
        app.say(&format!(
            "wrote {}; `pgshift apply {} --plan {}` runs it",
            path.display(),
            plan.migration,
            path.display()
        ));
    }
    let human: Vec<String> = plans
        .iter()
        .map(|p| report::plan::human(p, app.style()))
        .collect();
    let values: Vec<Value> = plans.iter().map(report::plan::json).collect();
    app.print(&human.join("\n"), &json!({ "plans": values }))?;
    Ok(Exit::Success)
}

fn write(path: &Path, plan: &Plan) -> Result<()> {
    let text = serde_json::to_string_pretty(&saved(plan)?)
        .map_err(|e| Error::internal(format!("the plan cannot be written: {e}")))?;
    std::fs::write(path, text + "\n").map_err(|e| Error::usage(format!("{}: {e}", path.display())))
}

/// A saved plan: the plan and the hash of it.
fn saved(plan: &Plan) -> Result<Value> {
    let value = serde_json::to_value(plan)
        .map_err(|e| Error::internal(format!("the plan cannot be written: {e}")))?;
    Ok(json!({ "hash": hash(&value), "plan": value }))
}

fn hash(plan: &Value) -> String {
    crate::migration::checksum(&plan.to_string())
}

/// Reads a plan that `--out` wrote.
///
/// # Errors
/// A file that is not one, or that was edited.
pub(super) fn read(path: &Path) -> Result<Plan> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Error::usage(format!("{shown}: {e}")))?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| Error::usage(format!("{shown} is not a plan: {e}")))?;
    let plan = value.get("plan").ok_or_else(|| {
        Error::usage(format!(
            "{shown} is not a plan that `pgshift plan --out` wrote"
        ))
    })?;
    if value.get("hash").and_then(Value::as_str) != Some(hash(plan).as_str()) {
        return Err(
            Error::refused(format!("{shown} was edited after it was written"))
                .left("nothing was changed")
                .hint("change the migration file and plan again"),
        );
    }
    serde_json::from_value(plan.clone())
        .map_err(|e| Error::usage(format!("{shown} is not a plan of this version: {e}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_estimate_is_read_as_it_was_written(seconds in 0.0_f64..1e6) {
            let plan = json!({ "seconds": seconds });
            let text = serde_json::to_string_pretty(&plan).expect("plain data");
            let read: Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(hash(&read), hash(&plan));
        }
    }
}
