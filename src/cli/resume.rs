//! `pgshift resume`

use clap::Args;

use super::apply::say_state;
use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use super::run_options::RunOptions;
use crate::error::{Error, Result};

/// Go on with a run that was paused, interrupted or killed, from the last committed chunk or step.
#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The migration [default: the one that is under way]
    id: Option<String>,
    #[command(flatten)]
    options: RunOptions,
}

pub(super) async fn run(app: &App, args: &ResumeArgs) -> Result<Exit> {
    let engine = app.engine(Some(&args.options))?;
    let recorded = engine.recorded().await?;
    let id = if let Some(name) = &args.id {
        recorded_id(&recorded, name)?
    } else {
        let moving: Vec<&str> = recorded
            .iter()
            .filter(|m| m.state.in_motion())
            .map(|m| m.id.as_str())
            .collect();
        match moving[..] {
            [] => {
                return Err(Error::refused("nothing is under way")
                    .left("nothing was changed")
                    .hint("`pgshift status` tells what can be done"));
            }
            [one] => one.to_owned(),
            _ => {
                return Err(
                    Error::usage(format!("several are under way: {}", moving.join(", ")))
                        .left("nothing was changed")
                        .hint("name one of them"),
                );
            }
        }
    };
    app.check_ways(&engine).await?;
    match engine.resume(&id).await? {
        Some(state) => say_state(app, &id, state),
        None => app.say(&format!("{id} goes on: its runner is alive and was paused")),
    }
    Ok(Exit::Success)
}
