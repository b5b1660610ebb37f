//! `pgshift contract`

use clap::Args;

use super::apply::say_state;
use super::context::App;
use super::exit::Exit;
use super::files::{Project, recorded_id};
use super::run_options::RunOptions;
use crate::error::Result;

/// Finish a migration that is READY, when only the new application version runs: verify every row
/// once more, then the contract steps. Dropped columns and tables are kept aside until purge.
#[derive(Debug, Args)]
pub(super) struct ContractArgs {
    /// The migration
    id: String,
    #[command(flatten)]
    options: RunOptions,
}

pub(super) async fn run(app: &App, args: &ContractArgs) -> Result<Exit> {
    let project = Project::load(app).await?;
    project.check_unedited()?;
    let id = recorded_id(&project.recorded, &args.id)?;
    let state = app.engine(Some(&args.options))?.contract(&id).await?;
    say_state(app, &id, state);
    Ok(Exit::Success)
}
