//! The command line: one file a command. Everything that reads the environment, the clock or the
//! terminal does it here.

mod apply;
mod baseline;
mod check;
mod config;
mod context;
mod contract;
mod demo;
mod doctor;
pub mod exit;
mod explain;
mod files;
mod generate;
mod init;
mod lint;
mod log;
mod logging;
mod metrics;
mod new;
mod pause;
mod plan;
mod purge;
mod repair;
mod resume;
mod revert;
mod run_options;
mod snapshot;
mod status;
mod throttle;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::error::Result;
use crate::report::out::When;
use crate::report::text::lines;
use context::App;
use exit::Exit;

/// Zero-downtime PostgreSQL migrations: expand/contract in plain SQL, batched backfills that
/// survive any crash, and a way back from every step.
#[derive(Debug, Parser)]
#[command(
    name = "pgshift",
    version,
    propagate_version = true,
    after_help = "A migration is named by its id or a unique prefix of it. Exit codes: docs/exit-codes.md."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
struct Global {
    /// The database, as a URL or key=value string; the PG* variables and .pgpass fill what it
    /// does not say
    #[arg(
        long,
        global = true,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    database_url: Option<String>,
    /// The same database past a transaction pooler, where --database-url leads through one: locks,
    /// DDL and state go this way
    #[arg(
        long,
        global = true,
        env = "PGSHIFT_DIRECT_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    direct_url: Option<String>,
    /// Admin console of the PgBouncer in front of the database: backfills hold while clients wait
    /// there
    #[arg(
        long,
        global = true,
        env = "PGSHIFT_PGBOUNCER_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    pgbouncer_url: Option<String>,
    /// Folder of the migration files [default: migrations]
    #[arg(long, global = true, value_name = "DIR")]
    migrations: Option<PathBuf>,
    /// Configuration file [default: pgshift.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is written to standard output; lint also takes sarif, github, gitlab and junit
    #[arg(long, global = true, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// Only errors on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// More: whole function bodies in plans, and the log (-vv: debug)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// How the log is written to standard error [default: text]; json takes the place of the
    /// progress display
    #[arg(
        long,
        global = true,
        value_enum,
        env = "PGSHIFT_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT"
    )]
    log_format: Option<LogFormat>,
    /// Colour
    #[arg(long, global = true, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    color: When,
    /// Do not ask before what cannot be undone
    #[arg(short, long, global = true)]
    yes: bool,
}

/// `--format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// For programs; the shapes are in docs/json.md.
    Json,
    /// Of lint: SARIF 2.1.0, for code scanning.
    #[value(hide = true)]
    Sarif,
    /// Of lint: annotations of GitHub Actions.
    #[value(hide = true)]
    Github,
    /// Of lint: Code Quality of GitLab.
    #[value(hide = true)]
    Gitlab,
    /// Of lint: the XML of `JUnit`.
    #[value(hide = true)]
    Junit,
}

impl Format {
    /// Only findings can be written so.
    fn is_of_findings(self) -> bool {
        !matches!(self, Self::Human | Self::Json)
    }
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prepare a database and a folder for pgshift
    Init(init::InitArgs),
    /// Write a new migration file
    New(new::NewArgs),
    /// Show every step that a migration would take, its locks, cost and way back
    Plan(plan::PlanArgs),
    /// Run migrations to READY: expand, sync, backfill, validate, verify
    Apply(apply::ApplyArgs),
    /// Finish a migration that is READY
    Contract(contract::ContractArgs),
    /// Take a migration back
    Revert(revert::RevertArgs),
    /// Tell where every migration stands
    Status(status::StatusArgs),
    /// Make a running backfill hold
    Pause(pause::PauseArgs),
    /// Show or set the limits of a migration's runs while they run
    Throttle(throttle::ThrottleArgs),
    /// List what the throttle can see here, and what else would stop a migration
    Doctor(doctor::DoctorArgs),
    /// Go on with a run that was paused, interrupted or killed
    Resume(resume::ResumeArgs),
    /// Compare every row of what a migration backfilled
    Verify(verify::VerifyArgs),
    /// Mend the rows that verify found wrong
    Repair(repair::RepairArgs),
    /// Write what a database is like without its data: for `lint` and `check` elsewhere
    Snapshot(snapshot::SnapshotArgs),
    /// Try migrations out on a server of their own, there and back, with made-up rows
    Check(check::CheckArgs),
    /// Show, or check, the log of all that happened
    Log(log::LogArgs),
    /// Drop for good what contract had soft-dropped
    Purge(purge::PurgeArgs),
    /// Mark migrations as applied without running them
    Baseline(baseline::BaselineArgs),
    /// Find hazards in SQL migration files of any runner
    Lint(Box<lint::LintArgs>),
    /// Explain a rule of lint, or list them
    Explain(explain::ExplainArgs),
    /// Write completions for a shell
    Completions(generate::CompletionsArgs),
    /// Write the manual pages
    Man(generate::ManArgs),
    /// Watch a table being migrated under traffic, on servers of its own
    Demo(demo::DemoArgs),
}

/// Runs the command line and gives the process's exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are data; everything else is an error.
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            // It repeats arguments, which may come from anywhere.
            let plain = error.render().to_string();
            let safe = lines(&plain);
            if safe == plain.trim_end() {
                let _ = error.print();
            } else {
                crate::report::out::stderr(&format!("{safe}\n"));
            }
            return code.into();
        }
    };
    let global = cli.global.clone();
    let result = App::new(&cli.global).and_then(|app| {
        // One thread: a run waits for the server, and every wake of another thread costs the machine
        // (and, on the server's own machine, the application) more than it gains.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| crate::Error::internal(format!("no runtime: {e}")))?;
        let code = runtime.block_on(run(&app, cli.command));
        // Connections that hang must not keep the process.
        runtime.shutdown_background();
        app.write_metrics();
        code
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            context::tell_error(&global, &error);
            Exit::from(error.kind()).into()
        }
    }
}

async fn run(app: &App, command: Command) -> Result<Exit> {
    if app.format().is_of_findings() && !matches!(command, Command::Lint(_)) {
        return Err(crate::Error::usage("this format is for lint")
            .hint("the formats of every command are human and json"));
    }
    match command {
        Command::Init(args) => init::run(app, &args).await,
        Command::New(args) => new::run(app, &args),
        Command::Plan(args) => plan::run(app, &args).await,
        Command::Apply(args) => apply::run(app, &args).await,
        Command::Contract(args) => contract::run(app, &args).await,
        Command::Revert(args) => revert::run(app, &args).await,
        Command::Status(args) => status::run(app, &args).await,
        Command::Pause(args) => pause::run(app, &args).await,
        Command::Throttle(args) => throttle::run(app, &args).await,
        Command::Doctor(args) => doctor::run(app, &args).await,
        Command::Resume(args) => resume::run(app, &args).await,
        Command::Verify(args) => verify::run(app, &args).await,
        Command::Repair(args) => repair::run(app, &args).await,
        Command::Snapshot(args) => snapshot::run(app, &args).await,
        Command::Check(args) => check::run(app, &args).await,
        Command::Log(args) => log::run(app, &args).await,
        Command::Purge(args) => purge::run(app, &args).await,
        Command::Baseline(args) => baseline::run(app, &args).await,
        Command::Lint(args) => lint::run(app, &args).await,
        Command::Explain(args) => explain::run(app, &args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(app, &args),
        Command::Demo(args) => demo::run(app, &args).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_shows_every_command() {
        insta::assert_snapshot!(Cli::command().render_help());
    }
}
