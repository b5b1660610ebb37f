//! `pgshift log`

use clap::Args;
use serde_json::json;

use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use crate::error::{Error, ErrorKind, Result};
use crate::event::chain::{Fault, Head};
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
    /// An entry that an earlier `log --verify` told, noted elsewhere: it must still be there
    #[arg(long, value_name = "NUMBER:HASH", requires = "verify")]
    noted: Option<Head>,
    /// At most this many of the newest entries
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: u32,
}

pub(super) async fn run(app: &App, args: &LogArgs) -> Result<Exit> {
    let engine = app.engine(None)?;
    let client = engine.connect_initialised().await?;
    if args.verify {
        let (found, faults) = events::verify(&client, args.noted.as_ref()).await?;
        let noted = found.head.as_ref().map(ToString::to_string);
        let broken: Vec<i64> = faults
            .iter()
            .filter_map(|fault| match fault {
                Fault::Edited { seq } | Fault::Rewritten { seq } => Some(*seq),
                _ => None,
            })
            .collect();
        let json = json!({
            "entries": found.entries, "broken": broken, "faults": faults, "last": noted,
        });
        if faults.is_empty() {
            let last = noted.map_or_else(String::new, |n| format!("; the last one is {n}"));
            let text = format!(
                "{} entries, none edited, none missing{last}\n",
                found.entries
            );
            app.print(&text, &json)?;
            return Ok(Exit::Success);
        }
        if app.json() {
            out::stdout(&format!("{json}\n"))?;
            return Ok(Exit::Findings);
        }
        let list: Vec<_> = faults.iter().map(ToString::to_string).collect();
        return Err(Error::new(
            ErrorKind::Findings,
            format!(
                "the log was tampered with: {} (of {})",
                list.join("; "),
                found.entries
            ),
        )
        .hint("compare with a backup: rows of pgshift.event are only ever added"));
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
