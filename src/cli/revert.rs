//! `pgshift revert`

use clap::{Args, ValueEnum};

use super::apply::say_state;
use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use super::run_options::RunOptions;
use crate::error::Result;
use crate::exec::revert::RevertTo;

/// Take a migration back, from anywhere before purge, also after contract. What the new
/// application version wrote stays, through the reverse section.
#[derive(Debug, Args)]
pub(super) struct RevertArgs {
    /// The migration
    id: String,
    /// How far back
    #[arg(long, value_enum, default_value_t = To::Start)]
    to: To,
    /// Call off a way back that has changed nothing yet, such as one that a value stops: the
    /// migration stands where it stood before
    #[arg(long, conflicts_with = "to")]
    call_off: bool,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// To before the migration
    Start,
    /// To READY: only the contract is taken back
    Ready,
}

pub(super) async fn run(app: &App, args: &RevertArgs) -> Result<Exit> {
    let engine = app.engine(Some(&args.options))?;
    let id = recorded_id(&engine.recorded().await?, &args.id)?;
    if args.call_off {
        let state = engine.call_off(&id).await?;
        say_state(app, &id, state);
        return Ok(Exit::Success);
    }
    let to = match args.to {
        To::Start => RevertTo::Start,
        To::Ready => RevertTo::Ready,
    };
    let plan = engine.revert_plan(&id, to).await?;
    if !plan.remaining.is_empty() {
        let list: Vec<_> = plan
            .remaining
            .iter()
            .map(|(step, why)| format!("  {step}: {why}"))
            .collect();
        app.confirm(&format!(
            "{id}: these steps cannot be taken back and stay as they are:\n{}\n",
            list.join("\n")
        ))?;
    }
    let state = engine.revert(&id, to).await?;
    say_state(app, &id, state);
    Ok(Exit::Success)
}
