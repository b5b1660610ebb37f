//! `pgshift snapshot`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::context::{App, path_from_env};
use super::exit::Exit;
use crate::check::{DumpSearch, dump};
use crate::error::{Error, Result};
use crate::pg::catalog::{everything, load};
use crate::pg::error::from_pg;
use crate::report::out;
use crate::report::text::counted;
use crate::snapshot::{Recorded, Snapshot};

/// Write what the database is like without its data: schema, sizes, applied migrations. `lint` and
/// `check` read the file where production cannot be reached.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// The file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave out the schema as SQL, which needs `pg_dump`
    #[arg(long)]
    no_schema: bool,
    /// Folder of `pg_dump` [default: `PGSHIFT_PG_BIN`, else beside the server programs, else PATH]
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
}

pub(super) async fn run(app: &App, args: &SnapshotArgs) -> Result<Exit> {
    let engine = app.engine(None)?;
    let recorded = engine.recorded().await?;
    let client = engine.connect().await?;
    let wanted = everything(&client).await?;
    let catalog = load(&client, &wanted).await?;
    let roles = client
        .query(
            "SELECT DISTINCT r.rolname::text FROM pg_roles r
             WHERE r.rolname !~ '^pg_' AND (r.rolname = current_user OR EXISTS (
                 SELECT FROM pg_shdepend d JOIN pg_database b ON b.oid = d.dbid
                 WHERE b.datname = current_database() AND d.refobjid = r.oid
                   AND d.refclassid = 'pg_authid'::regclass))",
            &[],
        )
        .await
        .map_err(from_pg)?
        .iter()
        .map(|row| row.get(0))
        .collect();
    let mut missing = None;
    let schema = if args.no_schema {
        Err("it was made with --no-schema".to_owned())
    } else {
        let search = DumpSearch {
            dir: args.pg_bin.clone(),
            env_dir: path_from_env("PGSHIFT_PG_BIN"),
            path: std::env::var_os("PATH"),
        };
        match dump(engine.target(), &search, catalog.major()).await? {
            Ok(schema) => Ok(schema),
            Err(no) => {
                missing = Some(no.to_string());
                Err(no.reason())
            }
        }
    };
    let migrations = recorded
        .into_iter()
        .map(|row| Recorded {
            id: row.id,
            checksum: row.checksum,
            state: row.state.name().to_owned(),
        })
        .collect();
    let snapshot = Snapshot::new(catalog, roles, migrations, schema);
    let text = snapshot.write().map_err(Error::internal)?;
    if let Some(why) = &missing {
        app.say(&format!(
            "the snapshot is without the schema as SQL: {why}. `lint` does not need it; `check` \
             then needs `--from migrations`. Install the client programs of PostgreSQL {} \
             (postgresql-client-{0} of apt.postgresql.org), or name their folder with --pg-bin",
            snapshot.catalog.major()
        ));
    }
    let Some(path) = &args.out else {
        out::stdout(&text)?;
        return Ok(Exit::Success);
    };
    write(path, &text)?;
    let tables = snapshot.catalog.tables.len();
    let count = snapshot.migrations.len();
    let by = snapshot.schema.as_ref().map(|s| s.by.clone());
    app.print(
        &format!(
            "wrote {}: {}, {}, {}\n",
            path.display(),
            counted(tables as i64, "table"),
            counted(count as i64, "migration"),
            by.as_ref().map_or_else(
                || "without the schema as SQL".to_owned(),
                |by| format!("the schema by {by}")
            )
        ),
        &json!({ "path": path, "tables": tables, "migrations": count, "schema_by": by,
                 "schema_missing": missing }),
    )?;
    Ok(Exit::Success)
}

/// The old file or the new one, whole, whatever happens.
fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let io = |e: std::io::Error| {
        Error::usage(format!("{}: {e}", path.display()))
            .left("the file is as it was")
            .caused_by(e)
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".pgshift-snapshot-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // As any other file of the project; the process's umask holds.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.as_file().sync_all())
        .map_err(io)?;
    file.persist(path).map_err(|e| io(e.error))?;
    Ok(())
}

/// Reads a snapshot.
///
/// # Errors
/// `Usage` naming the file and what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Snapshot> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::usage(format!("the snapshot {shown} cannot be read: {e}"))
            .left("nothing was tried")
            .hint("`pgshift snapshot --out FILE` makes it, where production can be reached")
    })?;
    Snapshot::read(&text).map_err(|no| {
        Error::usage(format!("{shown} cannot be used: {}", no.why))
            .left("nothing was tried")
            .hint(no.instead)
    })
}
