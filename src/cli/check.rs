//! `pgshift check`

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, value_parser};

use super::context::{App, path_from_env};
use super::exit::Exit;
use super::{files, snapshot};
use crate::check::{self, Check, LintOptions, PlaceOptions};
use crate::error::{Error, Result};
use crate::migration::Migration;
use crate::migration::order::{self, Applied};
use crate::report;
use crate::snapshot::Snapshot;

/// The snapshot that is read where none is named.
const DEFAULT: &str = "pgshift-snapshot.json";

/// Try migrations out before they are merged: linted, then planned, applied, reverted, applied,
/// contracted, reverted and applied for good on a database of their own with made-up rows; the
/// schema and the rows are compared after every way back, and every lock with the plan. Exit code
/// 1 where something is found.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Migrations, by id, unique prefix or path [default: all that the snapshot does not have]
    #[arg(value_name = "ID|PATH")]
    names: Vec<String>,
    /// Only those whose files are new or changed since this git revision
    #[arg(long, value_name = "REV", conflicts_with = "names")]
    since: Option<String>,
    /// Production as `pgshift snapshot` wrote it [default: pgshift-snapshot.json, where it exists]
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    snapshot: Option<PathBuf>,
    /// Make the schema from the earlier files of the folder instead
    #[arg(long, value_name = "SOURCE")]
    from: Option<From>,
    /// Try it on this server instead of a private one: in a database of its own where the role may
    /// create one, else in the named database. The named database must be empty
    #[arg(long, value_name = "URL")]
    shadow_url: Option<String>,
    /// Rows that are made up for each empty table
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = value_parser!(u64).range(0..=1_000_000))]
    rows: u64,
    /// Share of nulls in columns that allow them, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    nulls: f64,
    /// SQL that inserts rows of your own, before others are made up for the tables still empty
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// A role to be made on the private server, for GRANT in migrations; may be repeated
    #[arg(long, value_name = "NAME")]
    role: Vec<String>,
    /// Without the linter
    #[arg(long)]
    no_lint: bool,
    /// Folder of `initdb` and `postgres` [default: `PGSHIFT_PG_BIN`, else where they usually are]
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// An empty database, and the files before
    Migrations,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|s| (0.0..=1.0).contains(s))
        .ok_or_else(|| "a number from 0 to 1 is wanted".to_owned())
}

pub(super) async fn run(app: &App, args: &CheckArgs) -> Result<Exit> {
    let all = files::load(app)?;
    let snapshot = the_snapshot(args)?;
    if let Some((path, snapshot)) = &snapshot {
        unedited(&all, snapshot, path)?;
    }
    let path = snapshot.as_ref().map(|(path, _)| path.display());
    let snapshot = snapshot.as_ref().map(|(_, snapshot)| snapshot);
    let pending: Vec<&Migration> = all
        .iter()
        .filter(|m| !snapshot.is_some_and(|s| s.has(&m.id)))
        .collect();
    let chosen = chosen(args, &all, &pending)?;
    let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else {
        app.print(
            "nothing to check: no migration is new\n",
            &report::check::json(&check::Report::empty()),
        )?;
        return Ok(Exit::Success);
    };
    if let (Some(snapshot), Some(path)) = (snapshot, path) {
        // Before a server is started for nothing.
        check::schema_of(snapshot).map_err(|e| e.context(path))?;
    }
    // What lies between two chosen files is tried too: the later one may need it.
    let earlier = pending
        .iter()
        .filter(|m| m.id < first.id)
        .copied()
        .collect();
    let files: Vec<&Migration> = pending
        .iter()
        .filter(|m| m.id >= first.id && m.id <= last.id)
        .copied()
        .collect();
    let data = match &args.data {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let text =
                std::fs::read_to_string(path).map_err(|e| Error::usage(format!("{name}: {e}")))?;
            Some((name, text))
        }
    };
    let check = Check {
        place: PlaceOptions {
            shadow: args.shadow_url.clone(),
            pg_bin: args.pg_bin.clone(),
            env_pg_bin: path_from_env("PGSHIFT_PG_BIN"),
            major: snapshot.map(|s| s.catalog.major()),
        },
        files,
        snapshot,
        earlier,
        rows: args.rows,
        nulls: args.nulls,
        data,
        roles: args.role.clone(),
        lint: (!args.no_lint).then(|| LintOptions {
            options: app.config.lint.options(),
            fails_from: app.config.lint.fails_from(),
        }),
        settings: app.settings(),
        stop: app.stop(),
        actor: super::context::actor(),
    };
    let report = check::run(&check, &|text| app.say(text)).await?;
    app.print(
        &report::check::human(&report, app.style()),
        &report::check::json(&report),
    )?;
    Ok(if report.findings.is_empty() {
        Exit::Success
    } else {
        Exit::Findings
    })
}

fn the_snapshot(args: &CheckArgs) -> Result<Option<(PathBuf, Snapshot)>> {
    if args.from.is_some() {
        return Ok(None);
    }
    let path = match &args.snapshot {
        Some(path) => path.clone(),
        None if Path::new(DEFAULT).exists() => PathBuf::from(DEFAULT),
        None => return Ok(None),
    };
    let snapshot = snapshot::read(&path)?;
    Ok(Some((path, snapshot)))
}

/// Refuses files that were changed after the database had them.
fn unedited(all: &[Migration], snapshot: &Snapshot, path: &Path) -> Result<()> {
    let applied: Vec<Applied<'_>> = snapshot
        .migrations
        .iter()
        .filter(|m| snapshot.has(&m.id))
        .map(|m| Applied {
            id: &m.id,
            checksum: &m.checksum,
        })
        .collect();
    let edited = order::edited(all, &applied);
    let Some(first) = edited.first() else {
        return Ok(());
    };
    let ids: Vec<&str> = edited.iter().map(|m| m.id.as_str()).collect();
    Err(Error::usage(format!(
        "{} was changed after it was applied ({}, says {})",
        ids.join(", "),
        first.source.name(),
        path.display()
    ))
    .left("nothing was tried")
    .hint("put the file back as it was, and write a new migration for the change"))
}

/// The migrations that are asked for, in order.
fn chosen<'a>(
    args: &CheckArgs,
    all: &'a [Migration],
    pending: &[&'a Migration],
) -> Result<Vec<&'a Migration>> {
    if let Some(revision) = &args.since {
        let changed = super::lint::git::changed(revision)?;
        let new = |m: &&&Migration| {
            std::fs::canonicalize(m.source.name()).is_ok_and(|path| changed.contains(&path))
        };
        return Ok(pending.iter().filter(new).copied().collect());
    }
    if args.names.is_empty() {
        return Ok(pending.to_vec());
    }
    let ids: Vec<&str> = all.iter().map(|m| m.id.as_str()).collect();
    let mut chosen: Vec<&Migration> = Vec::new();
    for name in &args.names {
        let found = if let Some(found) = by_path(name, all) {
            found
        } else {
            let id = order::resolve(&ids, name)?;
            all.iter()
                .find(|m| m.id == id)
                .ok_or_else(|| Error::internal(format!("{id} was there a moment ago")))?
        };
        if !pending.iter().any(|m| m.id == found.id) {
            return Err(Error::usage(format!(
                "{} is applied already, says the snapshot",
                found.id
            ))
            .left("nothing was tried")
            .hint("make the schema from the earlier files instead: --from migrations"));
        }
        chosen.push(found);
    }
    chosen.sort_by(|a, b| a.id.cmp(&b.id));
    chosen.dedup_by(|a, b| a.id == b.id);
    Ok(chosen)
}

/// The migration whose file this path is.
fn by_path<'a>(name: &str, all: &'a [Migration]) -> Option<&'a Migration> {
    let path = std::fs::canonicalize(name).ok().filter(|p| p.is_file())?;
    all.iter()
        .find(|m| std::fs::canonicalize(m.source.name()).is_ok_and(|its| its == path))
}
