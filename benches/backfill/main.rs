//! Backfills side by side: one plain UPDATE, pgshift, and models of other ways, in turns on one
//! private server. `scripts/bench.sh` runs it; `docs/benchmarks/README.md` says what is measured.

mod args;
mod bars;
mod contenders;
mod figures;
mod load;
mod markdown;
mod procs;
mod program;
mod rounds;
mod server;
mod stats;
mod svg;
mod tables;
mod ways;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use pgshift::{Error, Result};

use crate::args::Args;
use crate::figures::Results;

/// Correctness failed.
const WRONG: u8 = 1;
/// It could not be run.
const FAILED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = if let Some(file) = &args.render {
        read(file).and_then(|results| write(&args, &results).map(|()| results))
    } else {
        tokio::select! {
            outcome = rounds::run(&args, |results| write(&args, results)) => outcome,
            // The server ends with this process either way; like this its folder is gone at once.
            _ = tokio::signal::ctrl_c() => Err(Error::usage("interrupted")),
        }
    };
    match outcome {
        Ok(results) => {
            eprintln!("bench: the pages are in {}", args.out.display());
            let wrong = results.wrong();
            for line in &wrong {
                eprintln!("wrong: {line}");
            }
            if wrong.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(WRONG)
            }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            if let Some(hint) = error.what_next() {
                eprintln!("  {hint}");
            }
            ExitCode::from(FAILED)
        }
    }
}

fn read(file: &Path) -> Result<Results> {
    let wrong = |e: String| Error::usage(format!("{}: {e}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

/// Writes the page and the plots, and the raw figures beside the build.
fn write(args: &Args, results: &Results) -> Result<()> {
    let put = |file: &Path, text: &str| {
        let failed = |e| Error::usage(format!("{}: {e}", file.display()));
        if let Some(dir) = file.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        std::fs::write(file, text).map_err(failed)?;
        Ok::<(), Error>(())
    };
    if args.render.is_none() {
        let raw =
            serde_json::to_string_pretty(results).map_err(|e| Error::internal(e.to_string()))?;
        put(&args.raw, &raw)?;
    }
    if args.memory {
        return put(&args.out.join("memory.md"), &markdown::memory(results));
    }
    put(&args.out.join("results.md"), &markdown::page(results))?;
    put(&args.out.join("speed.svg"), &svg::speed(results))?;
    if results.latency_tables().next().is_some() {
        put(&args.out.join("latency.svg"), &svg::latency(results))?;
    }
    Ok(())
}
