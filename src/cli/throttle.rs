//! `pgshift throttle`

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::json;

use super::config::Time;
use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use crate::error::{Error, Result};
use crate::exec::Said;
use crate::report::text::table;
use crate::store::overrides::PAUSE;
use crate::throttle::limits::{KEYS, Source, assignment};

/// Show or set the limits of a migration's runs. A change takes effect within a second, also on a
/// run that is under way.
#[derive(Debug, Args)]
pub(super) struct ThrottleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Every limit and where it comes from: the defaults, pgshift.toml, the migration's file, the
    /// command line of its live run, or what is set for it
    Show {
        /// The migration [default: none, only what is configured]
        id: Option<String>,
    },
    /// Set limits: `pgshift throttle set ID max-lag=10s duty=20% --for 1h`
    Set {
        /// The migration
        id: String,
        /// The limits
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = assignment)]
        limits: Vec<(String, String)>,
        /// For how long [default: until cleared]
        #[arg(long = "for", value_name = "TIME")]
        time: Option<Time>,
    },
    /// Take limits back that were set so
    Clear {
        /// The migration
        id: String,
        /// Which [default: all]
        keys: Vec<String>,
    },
}

pub(super) async fn run(app: &App, args: &ThrottleArgs) -> Result<Exit> {
    let engine = app.engine(None)?;
    match &args.what {
        What::Show { id } => {
            let said = match id {
                Some(name) => {
                    let id = recorded_id(&engine.recorded().await?, name)?;
                    engine.said(&id).await?
                }
                None => Said::default(),
            };
            let set = &said.overrides;
            let mut rows = Vec::new();
            let mut values = Vec::new();
            let configured = engine.settings().limits.all();
            let sourced = engine.settings().sources(&said.file, &said.line)?;
            for ((key, configured), below) in configured.zip(sourced) {
                let over = set.iter().find(|o| o.key == key.name);
                let until = over.and_then(|o| o.expires_at).map(|t| t.to_rfc3339());
                let source = over.map_or(below.source, |_| Source::Override);
                let value = over.map_or(below.value, |o| o.value.clone());
                rows.push(vec![
                    key.name.to_owned(),
                    value.clone(),
                    over.map_or_else(
                        || source.name().to_owned(),
                        |o| {
                            let until = until
                                .as_ref()
                                .map_or(String::new(), |t| format!(" until {t}"));
                            format!("set by {}{until}", o.set_by)
                        },
                    ),
                    key.about.to_owned(),
                ]);
                values.push(json!({
                    "key": key.name, "value": value, "source": source.name(),
                    "configured": configured, "about": key.about,
                    "set": over.map(|o| &o.value), "set_by": over.map(|o| &o.set_by),
                    "expires_at": until,
                }));
            }
            let paused = set.iter().find(|o| o.key == PAUSE);
            let mut human = table(&["limit", "value", "from", "meaning"], &rows);
            if let Some(pause) = paused {
                let _ = writeln!(human, "paused by {}", pause.set_by);
            }
            app.print(
                &human,
                &json!({ "limits": values, "paused_by": paused.map(|p| &p.set_by) }),
            )?;
        }
        What::Set { id, limits, time } => {
            let id = recorded_id(&engine.recorded().await?, id)?;
            engine.set_limits(&id, limits, time.map(|t| t.0)).await?;
            app.say(&format!("{id}: set; a run takes it within a second"));
        }
        What::Clear { id, keys } => {
            if let Some(wrong) = keys.iter().find(|k| KEYS.iter().all(|key| key.name != **k)) {
                return Err(Error::usage(format!("there is no limit {wrong:?}"))
                    .hint("`pgshift throttle show` lists them"));
            }
            let id = recorded_id(&engine.recorded().await?, id)?;
            let cleared = engine.clear_limits(&id, keys).await?;
            app.say(&if cleared.is_empty() {
                format!("{id}: nothing was set")
            } else {
                format!("{id}: as configured again: {}", cleared.join(", "))
            });
        }
    }
    Ok(Exit::Success)
}
