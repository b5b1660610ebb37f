//! `pgshift log`

use clap::Args;
use serde_json::json;

use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use crate::error::{Error, ErrorKind, Result};
use crate::report;
use crate::report::out;
use crate::store::events;

/// Show what happened, who did it and when; or check that nothing of it was edited or removed.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// The migration [default: all]
    id: Option<String>,
    /// Check the hash chain of the whole log
    #[arg(long, conflicts_with = "id")]
    verify: bool,
    /// At most this many of the newest entries
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: u32,
}

pub(super) async fn run(app: &App, args: &LogArgs) -> Result<Exit> {
    let engine = app.engine(None)?;
    let client = engine.connect_initialised().await?;
    if args.verify {
        let check = events::verify(&client).await?;
        if !check.broken.is_empty() {
            let list: Vec<_> = check.broken.iter().map(ToString::to_string).collect();
            return Err(Error::new(
                ErrorKind::Findings,
                format!(
                    "entries were edited, or removed before: {} (of {})",
                    list.join(", "),
                    check.entries
                ),
            )
            .hint("compare with a backup: rows of pgshift.event are only ever added"));
        }
        app.print(
            &format!("{} entries, none edited, none missing\n", check.entries),
            &json!({ "entries": check.entries, "broken": [] }),
        )?;
        return Ok(Exit::Success);
    }
    let id = match &args.id {
        Some(name) => Some(recorded_id(&engine.recorded().await?, name)?),
        None => None,
    };
    let entries = events::list(&client, id.as_deref(), 0, i64::from(args.limit)).await?;
    if app.json() {
        out::stdout(&report::log::json(&entries))?;
    } else {
        out::stdout(&report::log::human(&entries, app.style()))?;
    }
    Ok(Exit::Success)
}
