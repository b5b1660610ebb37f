//! `pgshift verify`

use clap::Args;
use serde_json::json;

use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use super::run_options::RunOptions;
use crate::error::Result;

/// Compare every row of what a migration backfilled with what it should be. Exit code 1 where
/// rows are wrong.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The migration
    id: String,
    #[command(flatten)]
    options: RunOptions,
}

pub(super) async fn run(app: &App, args: &VerifyArgs) -> Result<Exit> {
    let engine = app.engine(Some(&args.options))?;
    let id = recorded_id(&engine.recorded().await?, &args.id)?;
    let tables = engine.verify(&id).await?;
    app.print(
        &format!("{id}: no wrong row in {}\n", tables.join(", ")),
        &json!({ "migration": id, "tables": tables, "wrong": 0 }),
    )?;
    Ok(Exit::Success)
}
