//! `pgshift apply`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::context::App;
use super::exit::Exit;
use super::files::Project;
use super::run_options::RunOptions;
use crate::error::{Error, Result};
use crate::exec::engine::Through;
use crate::run::State;

/// Run migrations to READY. What was begun and not finished is gone on with.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    /// The migration [default: every pending one, in order]
    id: Option<String>,
    /// Run this reviewed plan, or refuse where the file or the database has changed since
    #[arg(long, value_name = "FILE", requires = "id")]
    plan: Option<PathBuf>,
    /// Go on through contract at once: for development databases
    #[arg(long, value_name = "PHASE")]
    through: Option<ThroughArg>,
    /// Allow a file that sorts before an applied one
    #[arg(long)]
    out_of_order: bool,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ThroughArg {
    /// Expand to contract in one go
    Contract,
}

pub(super) async fn run(app: &App, args: &ApplyArgs) -> Result<Exit> {
    let saved = args.plan.as_deref().map(super::plan::read).transpose()?;
    let project = Project::load(app).await?;
    project.check_unedited()?;
    let through = match args.through {
        Some(ThroughArg::Contract) => Through::Contract,
        None => Through::Ready,
    };
    let ids: Vec<String> = if let Some(name) = &args.id {
        vec![project.file(name)?.id.clone()]
    } else {
        let begun = |id: &&str| {
            project.state(id) == State::Applying
                || (through == Through::Contract && project.state(id) == State::Ready)
        };
        let all = project.files.iter().map(|m| m.id.as_str());
        let pending = project.pending();
        all.filter(|id| pending.contains(id) || begun(id))
            .map(str::to_owned)
            .collect()
    };
    if !args.out_of_order {
        let wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
        project.check_order(&wanted)?;
    }
    if ids.is_empty() {
        app.say("nothing is pending");
        return Ok(Exit::Success);
    }
    let engine = app.engine(Some(&args.options))?;
    app.check_ways(&engine).await?;
    for (index, id) in ids.iter().enumerate() {
        let result = engine
            .apply(project.file(id)?, saved.as_ref(), through)
            .await;
        let state = result.map_err(|e| after(e, &ids[..index]))?;
        say_state(app, id, state);
    }
    Ok(Exit::Success)
}

/// Says which migrations were done before the one that failed.
fn after(error: Error, done: &[String]) -> Error {
    if done.is_empty() {
        return error;
    }
    let left = error.what_was_left().unwrap_or_default().to_owned();
    error.left(format!("{left}; applied before it: {}", done.join(", ")))
}

/// Says where a migration stands after a run, and what is next.
pub(super) fn say_state(app: &App, id: &str, state: State) {
    let next = crate::report::status::next(id, state, None);
    app.say(&format!("{id} is {state}: {next}"));
}
