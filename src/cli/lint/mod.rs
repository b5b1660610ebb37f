//! `pgshift lint`

mod config;
mod files;
mod fix;
pub(in crate::cli) mod git;
mod parallel;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::Format;
use super::context::App;
use super::exit::Exit;
use crate::catalog::{Catalog, snapshot};
use crate::error::{Error, Result};
use crate::lint::script::{Reading, Script};
use crate::lint::text::{Decoded, decode};
use crate::lint::{self, Level, Options, Runner, Severity, World, baseline};
use crate::pg::catalog::Wanted;
use crate::report::lint::{self as report, File, Report, Unread};
use crate::report::out;
use crate::report::text::line;
use crate::sql::Source;
pub(super) use config::LintConfig;
use config::setting;
use files::Input;

/// The server version that is assumed where nothing tells it.
const DEFAULT_VERSION: u32 = 15;

/// Find hazards in SQL migration files of any runner: what would block, break or destroy.
///
/// Files are read as they are, and no database is needed. Findings of a file can be allowed by
/// `-- pgshift: allow RULE reason="…"` before a statement. `pgshift explain` lists the rules.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// Files and folders; `-` is standard input [default: the migrations folder]
    paths: Vec<PathBuf>,
    /// Report only files that are new or changed since this git revision
    #[arg(long, value_name = "REV")]
    since: Option<String>,
    /// Leave out the findings of this file
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the findings to the baseline file, as known
    #[arg(long, requires = "baseline")]
    write_baseline: bool,
    /// Put statements in their safe form, where the file can hold it, and lint what remains
    #[arg(long, conflicts_with_all = ["diff", "write_baseline"])]
    fix: bool,
    /// Show what --fix would change, as a unified diff, and change nothing; exit code 1 where
    /// there is something
    #[arg(long, conflicts_with_all = ["write_baseline", "fail_on"])]
    diff: bool,
    /// The weakest finding that makes the exit code 1 [default: warning]
    #[arg(long, value_enum, value_name = "LEVEL")]
    fail_on: Option<FailOn>,
    /// Set the severity of a rule: error, warning, note or off
    #[arg(long, value_name = "RULE=LEVEL", value_parser = setting)]
    severity: Vec<(&'static str, Level)>,
    /// Who runs the files [default: told by path, content and project]
    #[arg(long, value_name = "RUNNER", value_parser = runner)]
    runner: Option<Runner>,
    /// Major version of the server, 14 to 18 [default: of the catalog, or 15]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(14..=18))]
    pg_version: Option<u32>,
    /// Ask the database (--database-url) for the tables that the files name
    #[arg(long, conflicts_with = "snapshot")]
    catalog: bool,
    /// Take what is known of the database from this file
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Lint what takes migrations back, too
    #[arg(long)]
    down: bool,
    /// Take every file for one transaction
    #[arg(long)]
    assume_in_transaction: bool,
    /// Tables of at most so many rows are no hazard to read or rewrite [default: 10000]
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(i64).range(0..))]
    small_table_rows: Option<i64>,
}

/// `--fail-on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FailOn {
    /// Errors.
    Error,
    /// Errors and warnings.
    Warning,
    /// Everything.
    Note,
    /// Nothing.
    Never,
}

impl FailOn {
    fn fails(self, severity: Severity) -> bool {
        match self {
            Self::Error => severity >= Severity::Error,
            Self::Warning => severity >= Severity::Warning,
            Self::Note => true,
            Self::Never => false,
        }
    }
}

fn runner(text: &str) -> Result<Runner, String> {
    Runner::named(text).ok_or_else(|| {
        let all: Vec<&str> = Runner::ALL.iter().map(|r| r.name()).collect();
        format!("the runners are {}", all.join(", "))
    })
}

/// A file that was read, before it is judged.
struct Read {
    input: Input,
    /// `None` where it is no text.
    script: Option<Script>,
    /// Another encoding than UTF-8.
    encoding: Option<&'static str>,
    /// How it was read.
    reading: Reading,
}

pub(super) async fn run(app: &App, args: &LintArgs) -> Result<Exit> {
    let config = &app.config.lint;
    fix::check(app, args)?;
    let changed = match &args.since {
        Some(revision) => Some(git::changed(revision)?),
        None => None,
    };
    let given = if args.paths.is_empty() {
        vec![app.migrations_dir()]
    } else {
        args.paths.clone()
    };
    let mut report = Report::default();
    let mut inputs = files::collect(&given, &mut report.unread);
    if let Some(changed) = &changed {
        for input in &mut inputs {
            input.context |= !input.is_in(changed);
        }
    }
    let nothing = inputs.iter().all(|i| i.context) && report.unread.is_empty();
    let mut read = read_all(app, args, inputs, &mut report);
    let known = known(app, args, &read).await?;
    let mut options = Options {
        small_rows: args
            .small_table_rows
            .or(config.small_table_rows)
            .unwrap_or(Options::default().small_rows),
        levels: config.levels.clone(),
    };
    options.levels.extend(args.severity.iter().copied());
    if args.fix || args.diff {
        fix::fix(app, args, &mut read, &known, &options, &mut report)?;
    }
    judge(&read, &known, &options, &mut report);
    if let Some(path) = &args.baseline {
        if args.write_baseline {
            write_baseline(path, &report)?;
            app.say(&format!(
                "wrote {}: {} findings",
                path.display(),
                report.findings().count()
            ));
            return Ok(unread_exit(app, &report).unwrap_or(Exit::Success));
        }
        leave_out(path, &mut report)?;
    }
    if nothing {
        app.say(if changed.is_some() {
            "no file has changed"
        } else {
            "there are no SQL files"
        });
    }
    if args.diff {
        let exit = fix::print_diff(app, &report)?;
        return Ok(unread_exit(app, &report).unwrap_or(exit));
    }
    if args.fix {
        fix::tell(app, &report);
    }
    let fail_on = args.fail_on.or(config.fail_on).unwrap_or(FailOn::Warning);
    print(app, &report, fail_on)?;
    let fails = report.findings().any(|(_, f)| fail_on.fails(f.severity));
    Ok(unread_exit(app, &report).unwrap_or(if fails { Exit::Findings } else { Exit::Success }))
}

/// Says what could not be read, where the format has no place for it.
fn unread_exit(app: &App, report: &Report) -> Option<Exit> {
    if report.unread.is_empty() {
        return None;
    }
    if !matches!(app.format(), Format::Json | Format::Sarif | Format::Junit) {
        for unread in &report.unread {
            out::stderr(&format!(
                "error: {}: {}\n",
                line(&unread.path),
                line(&unread.message)
            ));
        }
    }
    Some(Exit::Usage)
}

/// Reads and parses every file; what cannot be read is told in the report.
fn read_all(app: &App, args: &LintArgs, inputs: Vec<Input>, report: &mut Report) -> Vec<Read> {
    let mut texts: Vec<(Input, Decoded)> = Vec::new();
    for input in inputs {
        match input.bytes() {
            Ok(bytes) => texts.push((input, decode(&bytes))),
            Err(message) => {
                if !input.context {
                    report.unread.push(Unread {
                        path: input.shown,
                        message,
                    });
                }
            }
        }
    }
    // One file with sections, and all of its folder are files of pgshift.
    let sections = ["expand", "backfill", "contract", "option"].map(|s| format!("-- pgshift: {s}"));
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    if app.config.migrations.is_some() || Path::new("pgshift.toml").exists() {
        folders.insert(files::key_of_folder(&app.migrations_dir()));
    }
    for (input, text) in &texts {
        if let Decoded::Text(text) = text
            && sections.iter().any(|s| text.contains(s.as_str()))
        {
            folders.insert(input.key.clone());
        }
    }
    let mut projects = files::Projects::default();
    let known: Vec<Known> = texts
        .into_iter()
        .map(|(input, decoded)| {
            let (text, encoding) = match decoded {
                Decoded::Text(text) => (Some(text), None),
                Decoded::Other { text, encoding } => (Some(text), Some(encoding)),
                Decoded::Binary => (None, None),
            };
            let mut hints = projects.hints(&input);
            hints.runner = args.runner.or(app.config.lint.runner);
            if folders.contains(&input.key) {
                hints.project = Some(Runner::Pgshift);
            }
            let reading = Reading {
                hints,
                down: args.down,
                assume_transaction: args.assume_in_transaction,
            };
            Known {
                input,
                text,
                encoding,
                reading,
            }
        })
        .collect();
    let scripts = parallel::map(&known, |file| {
        let text = file.text.as_ref()?;
        Some(lint::script::read(&file.input.shown, text, &file.reading))
    });
    known
        .into_iter()
        .zip(scripts)
        .map(|(known, script)| Read {
            input: known.input,
            script,
            encoding: known.encoding,
            reading: known.reading,
        })
        .collect()
}

/// A file and how it is to be read.
struct Known {
    input: Input,
    /// `None` where it is no text.
    text: Option<String>,
    encoding: Option<&'static str>,
    reading: Reading,
}

/// What is known of the database.
async fn known(app: &App, args: &LintArgs, read: &[Read]) -> Result<World> {
    let version = args.pg_version;
    if let Some(path) = &args.snapshot {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
        let catalog =
            snapshot::read(&text).map_err(|e| Error::usage(format!("{}: {e}", path.display())))?;
        return Ok(World::known(catalog, version));
    }
    if args.catalog {
        return Ok(World::known(load(app, read).await?, version));
    }
    let version = version.or(app.config.lint.pg_version);
    Ok(World::unknown(version.unwrap_or(DEFAULT_VERSION)))
}

async fn load(app: &App, read: &[Read]) -> Result<Catalog> {
    let names: BTreeSet<Wanted> = read
        .iter()
        .filter_map(|r| r.script.as_ref())
        .flat_map(lint::names)
        .map(|n| Wanted::new(n.schema.as_deref(), &n.name))
        .collect();
    let wanted: Vec<Wanted> = names.into_iter().collect();
    let client = app.engine(None)?.connect().await?;
    crate::pg::catalog::load(&client, &wanted).await
}

/// Judges every file, folder by folder, each after the ones before it.
fn judge(read: &[Read], known: &World, options: &Options, report: &mut Report) {
    let root = files::project_root();
    let mut worlds: HashMap<&Path, World> = HashMap::new();
    for file in read {
        let shown = &file.input.shown;
        let Some(script) = &file.script else {
            if !file.input.context {
                let mut findings = vec![lint::encoding(None)];
                let source = Source::new(shown.as_str(), "");
                baseline::fingerprints(&mut findings, &file.input.within(&root), &source);
                report.files.push(File {
                    path: shown.clone(),
                    source,
                    runner: None,
                    findings,
                });
            }
            continue;
        };
        if script.only_down {
            report.down += usize::from(!file.input.context);
            continue;
        }
        let world = worlds
            .entry(file.input.key.as_path())
            .or_insert_with(|| known.clone());
        let mut findings = lint::lint(script, world, options);
        if file.input.context {
            continue;
        }
        if let Some(encoding) = file.encoding {
            findings.insert(0, lint::encoding(Some(encoding)));
        }
        baseline::fingerprints(&mut findings, &file.input.within(&root), &script.source);
        let before = findings.len();
        findings.retain(|f| f.allowed.is_none());
        report.allowed += before - findings.len();
        report.files.push(File {
            path: shown.clone(),
            source: script.source.clone(),
            runner: Some(script.runner),
            findings,
        });
    }
}

/// The fingerprints of a baseline.
fn baseline_of(path: &Path) -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::usage(format!("{}: {e}", path.display()))
            .hint("`--write-baseline` writes it the first time")
    })?;
    baseline::read(&text).map_err(|e| Error::usage(format!("{}: {e}", path.display())))
}

fn leave_out(path: &Path, report: &mut Report) -> Result<()> {
    let known = baseline_of(path)?;
    for file in &mut report.files {
        let before = file.findings.len();
        file.findings.retain(|f| !known.contains(&f.fingerprint));
        report.known += before - file.findings.len();
    }
    Ok(())
}

fn write_baseline(path: &Path, report: &Report) -> Result<()> {
    let known = report
        .findings()
        .map(|(file, finding)| baseline::Known {
            fingerprint: finding.fingerprint.clone(),
            rule: finding.rule.slug.to_owned(),
            file: file.path.clone(),
        })
        .collect();
    std::fs::write(path, baseline::write(known))
        .map_err(|e| Error::usage(format!("{}: {e}", path.display())))
}

fn print(app: &App, report: &Report, fail_on: FailOn) -> Result<()> {
    let line = |value: &Value| format!("{value}\n");
    let text = match app.format() {
        Format::Human => report::human(report, app.style(), fail_on == FailOn::Note),
        Format::Json => line(&report::json(report)),
        Format::Sarif => line(&report::sarif(report, env!("CARGO_PKG_VERSION"))),
        Format::Github => report::github(report),
        Format::Gitlab => line(&report::gitlab(report)),
        Format::Junit => report::junit(report),
    };
    out::stdout(&text)?;
    Ok(())
}
