//! `pgshift purge`

use clap::Args;

use super::apply::say_state;
use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use super::run_options::RunOptions;
use crate::error::Result;
use crate::run::RunKind;

/// Drop for good what contract had soft-dropped. After this the migration cannot be reverted.
#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// The migration
    id: String,
    #[command(flatten)]
    options: RunOptions,
}

pub(super) async fn run(app: &App, args: &PurgeArgs) -> Result<Exit> {
    let engine = app.engine(Some(&args.options))?;
    let id = recorded_id(&engine.recorded().await?, &args.id)?;
    engine.check_start(&id, RunKind::Purge).await?;
    app.confirm(&format!("{id} cannot be reverted after a purge."))?;
    let state = engine.purge(&id).await?;
    say_state(app, &id, state);
    Ok(Exit::Success)
}
