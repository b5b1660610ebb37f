//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Backfills side by side on a private server.
#[derive(Debug, Clone, Parser)]
pub(crate) struct Args {
    /// Rows of a table [default: 300000]
    #[arg(long)]
    rows: Option<u64>,
    /// Rounds, in each of which every contender has one turn [default: 5]
    #[arg(long)]
    rounds: Option<usize>,
    /// These tables, separated by commas
    #[arg(long, value_delimiter = ',')]
    tables: Vec<String>,
    /// These contenders, separated by commas, beside the plain UPDATE that all are compared with
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Fewer rows, rounds and tables
    #[arg(long)]
    quick: bool,
    /// Nothing but pgshift's memory and CPU, on a tenth of the rows and on all of them
    /// [default rows: 10000000]
    #[arg(long)]
    pub(crate) memory: bool,
    /// Statements a second of the application
    #[arg(long, default_value_t = 300)]
    pub(crate) rate: u32,
    /// Where the pages go
    #[arg(long, default_value = "docs/benchmarks")]
    pub(crate) out: PathBuf,
    /// Where the figures of every turn go
    #[arg(long, default_value = "target/bench.json")]
    pub(crate) raw: PathBuf,
    /// Write the pages of such a file again, without a run
    #[arg(long, value_name = "FILE")]
    pub(crate) render: Option<PathBuf>,
    /// The binary to measure [default: built beside this program]
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_pgshift"), hide_default_value = true)]
    pub(crate) pgshift: PathBuf,
    /// The folder of the server's programs [default: the first that are found]
    #[arg(long, env = "PGSHIFT_PG_BIN", value_name = "DIR")]
    pub(crate) server_programs: Option<PathBuf>,
    /// Cargo says this to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(crate) fn rows(&self) -> u64 {
        let usual = match (self.memory, self.quick) {
            (true, _) => 10_000_000,
            (false, true) => 150_000,
            (false, false) => 300_000,
        };
        self.rows.unwrap_or(usual).max(1000)
    }

    pub(crate) fn rounds(&self) -> usize {
        let usual = if self.quick { 3 } else { 5 };
        self.rounds.unwrap_or(usual).max(1)
    }

    /// The tables that were asked for, or those of a usual run, and `app` for the application.
    pub(crate) fn tables(&self) -> Vec<&str> {
        if !self.tables.is_empty() {
            return self.tables.iter().map(String::as_str).collect();
        }
        if self.quick {
            return vec!["int0", "int2", "app"];
        }
        let all = crate::tables::TABLES.iter().map(|t| t.name);
        all.chain([crate::tables::APPLICATION.name]).collect()
    }

    /// As it was given, without the places of files.
    pub(crate) fn told(&self) -> String {
        let mut all = vec![
            format!("--rows {}", self.rows()),
            format!("--rounds {}", self.rounds()),
        ];
        if self.memory {
            all = vec![format!("--memory --rows {}", self.rows())];
        }
        if self.quick && !self.memory {
            all.push("--quick".to_owned());
        }
        if !self.tables.is_empty() {
            all.push(format!("--tables {}", self.tables.join(",")));
        }
        if !self.only.is_empty() {
            all.push(format!("--only {}", self.only.join(",")));
        }
        all.join(" ")
    }
}
