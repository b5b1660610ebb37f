//! The schema as SQL, by `pg_dump`.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::demo::Search;
use crate::error::{Error, Result};
use crate::pg::connect::Target;
use crate::report::text::redact;
use crate::snapshot::{Schema, statements};

/// Where `pg_dump` is looked for.
#[derive(Debug, Clone, Default)]
pub struct DumpSearch {
    /// A folder given on the command line.
    pub dir: Option<PathBuf>,
    /// The value of `PGSHIFT_PG_BIN`.
    pub env_dir: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: Option<std::ffi::OsString>,
}

/// A `pg_dump` that can read a server of this major: the same major, else the first newer one
/// (`pg_dump` reads servers up to its own major). `Err` says why there is none.
async fn find(search: &DumpSearch, major: u32) -> std::result::Result<(PathBuf, u32), String> {
    let mut folders: Vec<PathBuf> = search.dir.iter().chain(&search.env_dir).cloned().collect();
    // Beside the server programs of the same major, where packages put both.
    if let Ok(found) = Search::new().major(Some(major)).find() {
        folders.push(found.dir);
    }
    folders.extend(search.path.iter().flat_map(std::env::split_paths));
    let mut newer = None;
    let mut older = Vec::new();
    for folder in folders {
        let program = folder.join("pg_dump");
        if !program.is_file() {
            continue;
        }
        let Some(its) = version(&program).await else {
            continue;
        };
        if its == major {
            return Ok((program, its));
        }
        if its > major {
            newer.get_or_insert((program, its));
        } else {
            older.push(format!("{} is of {its}", program.display()));
        }
    }
    newer.ok_or_else(|| {
        let found = if older.is_empty() {
            "none was found beside the server programs or in PATH".to_owned()
        } else {
            older.join(", ")
        };
        format!("no pg_dump of PostgreSQL {major} or newer: {found}")
    })
}

async fn version(program: &std::path::Path) -> Option<u32> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, rest) = text.split_once("(PostgreSQL)")?;
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// Dumps the schema, without owners and without pgshift's own. The inner `Err` says why there is
/// no program to do it.
///
/// # Errors
/// `Refused` with what `pg_dump` said where it fails.
pub async fn dump(
    target: &Target,
    search: &DumpSearch,
    major: u32,
) -> Result<std::result::Result<Schema, String>> {
    let (program, its) = match find(search, major).await {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let output = Command::new(&program)
        .args(["--schema-only", "--no-owner", "--no-subscriptions"])
        .args(["--no-security-labels", "--no-tablespaces", "--no-password"])
        .args(["--exclude-schema=pgshift", "--lock-wait-timeout=5000"])
        .envs(target.libpq_environment())
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|e| {
            Error::usage(format!("{} cannot be run: {e}", program.display())).caused_by(e)
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::refused(format!(
            "{} failed ({}): {}",
            program.display(),
            output.status,
            redact(said.trim())
        ))
        .left("no snapshot was written")
        .hint(
            "the role needs SELECT on every table; --no-schema leaves the SQL out: then `pgshift \
             check` needs `--from migrations`",
        ));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = statements(&text)
        .into_iter()
        .flat_map(|s| {
            format!("{s};")
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    Ok(Ok(Schema {
        by: format!("pg_dump {its}"),
        lines,
    }))
}
