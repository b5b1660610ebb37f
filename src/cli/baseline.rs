//! `pgshift baseline`

use clap::Args;
use serde_json::json;

use super::context::App;
use super::exit::Exit;
use super::files::Project;
use crate::error::Result;
use crate::migration::Migration;

/// Mark every migration up to and including this one as applied, without running anything: for a
/// database whose schema came from elsewhere.
#[derive(Debug, Args)]
pub(super) struct BaselineArgs {
    /// The last migration that is in the database already
    id: String,
}

pub(super) async fn run(app: &App, args: &BaselineArgs) -> Result<Exit> {
    let engine = app.engine(None)?;
    let project = Project::load_by(app, &engine).await?;
    project.check_unedited()?;
    let last = project.file(&args.id)?.id.clone();
    let all: Vec<&Migration> = project.files.iter().filter(|m| m.id <= last).collect();
    let marked = engine.baseline(&all).await?;
    app.print(
        &format!(
            "{marked} of {} migrations up to {last} marked as applied\n",
            all.len()
        ),
        &json!({ "marked": marked, "last": last }),
    )?;
    Ok(Exit::Success)
}
