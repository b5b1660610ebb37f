//! `pgshift init`

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::config::TEMPLATE;
use super::context::App;
use super::exit::Exit;
use crate::error::{Error, Result};

/// Install the state schema in the database; make the migrations folder and pgshift.toml where
/// they are missing.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Only the folder and the file, no database
    #[arg(long)]
    no_database: bool,
}

pub(super) async fn run(app: &App, args: &InitArgs) -> Result<Exit> {
    let mut done = Vec::new();
    if !args.no_database {
        let installed = app.engine(None)?.init().await?;
        done.push(if installed {
            "installed the state schema pgshift".to_owned()
        } else {
            "the state schema pgshift is there".to_owned()
        });
    }
    let dir = app.migrations_dir();
    if !dir.exists() {
        std::fs::create_dir_all(&dir)
            .map_err(|e| Error::usage(format!("{}: {e}", dir.display())))?;
        done.push(format!("made the folder {}", dir.display()));
    }
    let file = Path::new("pgshift.toml");
    if !file.exists() {
        std::fs::write(file, TEMPLATE).map_err(|e| Error::usage(format!("pgshift.toml: {e}")))?;
        done.push("wrote pgshift.toml".to_owned());
    }
    app.print(&format!("{}\n", done.join("\n")), &json!({ "done": done }))?;
    Ok(Exit::Success)
}
