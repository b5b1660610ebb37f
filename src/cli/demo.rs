//! `pgshift demo`

use std::path::PathBuf;

use clap::{Args, value_parser};
use serde_json::json;

use super::context::{App, path_from_env};
use super::exit::Exit;
use crate::demo::{self, DemoOptions};
use crate::error::{Error, ErrorKind, Result};

/// Watch a table with a million rows being migrated under an application's traffic: killed,
/// resumed, contracted and reverted, on servers of its own that are gone afterwards. Takes about
/// two minutes, and needs no database, only the server programs of PostgreSQL.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Rows of the table
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = value_parser!(i64).range(1_000..=100_000_000))]
    rows: i64,
    /// Statements a second that the application sends
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Folder of `initdb` and `postgres` [default: `PGSHIFT_PG_BIN`, else where they usually are]
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Keep the folder of the servers
    #[arg(long)]
    keep: bool,
    /// Seed of what the application does
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub(super) async fn run(app: &App, args: &DemoArgs) -> Result<Exit> {
    let options = DemoOptions {
        rows: args.rows,
        rate: args.rate,
        pg_bin: args.pg_bin.clone(),
        env_pg_bin: path_from_env("PGSHIFT_PG_BIN"),
        keep: args.keep,
        seed: args.seed,
    };
    let report = demo::run(options, &|text| app.say(text)).await?;
    let findings = report.findings();
    let mut value = json!(report);
    value["findings"] = json!(findings);
    app.print(&report.human(), &value)?;
    if findings.is_empty() {
        return Ok(Exit::Success);
    }
    if app.json() {
        // The object says them: one is enough.
        return Ok(Exit::Findings);
    }
    Err(Error::new(ErrorKind::Findings, findings.join("; "))
        .hint("please report it, with this output"))
}
