//! `pgshift pause`

use clap::Args;

use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use crate::error::Result;

/// Make a running backfill hold between two chunks, until `pgshift resume`.
#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// The migration
    id: String,
}

pub(super) async fn run(app: &App, args: &PauseArgs) -> Result<Exit> {
    let engine = app.engine(None)?;
    let id = recorded_id(&engine.recorded().await?, &args.id)?;
    engine.pause(&id).await?;
    app.say(&format!(
        "{id} holds within a second; `pgshift resume {id}` lets it go on"
    ));
    Ok(Exit::Success)
}
