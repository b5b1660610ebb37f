//! `pgshift status`

use std::time::Duration;

use clap::Args;

use super::context::App;
use super::exit::Exit;
use super::files;
use crate::error::{Error, Result};
use crate::event::Lost;
use crate::exec::view;
use crate::migration::order;
use crate::report::out::{self, Pipe};
use crate::report::status::{MigrationView, StatusView, human};
use crate::run::State;

/// Tell where every migration stands, and what is next. Of one that is under way: step, rows done
/// and to do, rate, time left, why it waits, and who runs it.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The migration [default: all]
    id: Option<String>,
    /// Again every second, until interrupted
    #[arg(long)]
    watch: bool,
}

pub(super) async fn run(app: &App, args: &StatusArgs) -> Result<Exit> {
    loop {
        let view = view(app, args.id.as_deref()).await?;
        let pipe = if app.json() {
            let json = serde_json::to_string(&view)
                .map_err(|e| Error::internal(format!("the status cannot be written: {e}")))?;
            out::stdout(&format!("{json}\n"))?
        } else {
            out::stdout(&human(&view))?
        };
        if !args.watch || matches!(pipe, Pipe::Closed) {
            return Ok(Exit::Success);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !app.json() {
            out::stdout("\n")?;
        }
    }
}

async fn view(app: &App, name: Option<&str>) -> Result<StatusView> {
    let engine = app.engine(None)?;
    let recorded = engine.recorded().await?;
    // Without a folder the status of the database alone is told.
    let files = if app.migrations_dir().is_dir() {
        files::load(app)?
    } else {
        Vec::new()
    };
    let mut ids: Vec<&str> = recorded.iter().map(|m| m.id.as_str()).collect();
    ids.extend(files.iter().map(|m| m.id.as_str()));
    ids.sort_unstable();
    ids.dedup();
    if let Some(name) = name {
        ids = vec![order::resolve(&ids, name)?];
    }
    let mut migrations = Vec::new();
    let client = if recorded.is_empty() {
        None
    } else {
        Some(engine.connect_initialised().await?)
    };
    for id in ids {
        let row = recorded.iter().find(|m| m.id == id);
        let run = match (&client, row) {
            (Some(client), Some(_)) => view::run(client, id).await?,
            _ => None,
        };
        let state = row.map_or(State::Pending, |m| m.state);
        let lost = match (&client, row) {
            (Some(client), Some(_)) => crate::store::runs::lost(client, id).await?,
            _ => Lost::new(),
        };
        let updated_at = row.map(|m| m.updated_at);
        migrations.push(MigrationView::new(id, state, run, updated_at).with_lost(lost));
    }
    Ok(StatusView { migrations })
}
