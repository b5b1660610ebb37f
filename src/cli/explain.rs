//! `pgshift explain`

use clap::Args;
use serde_json::json;

use super::context::App;
use super::exit::Exit;
use crate::error::{Error, Result};
use crate::lint::rules;
use crate::report::lint as report;

/// Explain a rule of lint: why, and SQL that breaks it and that does not.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Name or id of the rule [default: list all]
    rule: Option<String>,
}

pub(super) fn run(app: &App, args: &ExplainArgs) -> Result<Exit> {
    let (human, rules) = match &args.rule {
        None => (
            report::list(app.style()),
            rules::all().map(report::rule_json).collect::<Vec<_>>(),
        ),
        Some(name) => {
            let rule = rules::named(name).ok_or_else(|| {
                Error::usage(format!("there is no rule `{name}`")).hint(rules::suggestion(name))
            })?;
            (
                report::explain(rule, app.style()),
                vec![report::rule_json(rule)],
            )
        }
    };
    app.print(&human, &json!({ "rules": rules }))?;
    Ok(Exit::Success)
}
