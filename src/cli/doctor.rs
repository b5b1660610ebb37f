//! `pgshift doctor`

use clap::Args;
use serde_json::json;

use super::context::App;
use super::exit::Exit;
use super::run_options::RunOptions;
use crate::error::Result;
use crate::exec::doctor::{Finding, Verdict, examine};
use crate::report::text::table;

/// List every signal of the throttle with its present value and limit, and what else would stop a
/// migration here. Exit code 1 where something would.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    options: RunOptions,
}

pub(super) async fn run(app: &App, args: &DoctorArgs) -> Result<Exit> {
    let engine = app.engine(Some(&args.options))?;
    let findings = examine(&engine).await?;
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|f| {
            vec![
                f.verdict.name().to_owned(),
                f.what.clone(),
                f.value.clone(),
                f.limit.clone().unwrap_or_default(),
                f.advice.clone().unwrap_or_default(),
            ]
        })
        .collect();
    app.print(
        &table(&["", "what", "now", "limit", "to do"], &rows),
        &json!({ "findings": findings }),
    )?;
    let stops = |f: &Finding| f.verdict == Verdict::Stops;
    Ok(if findings.iter().any(stops) {
        Exit::Findings
    } else {
        Exit::Success
    })
}
