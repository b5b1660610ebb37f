//! The schema as SQL, by `pg_dump`.

use std::fmt;
use std::path::{Path, PathBuf};
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

/// No `pg_dump` fits; displayed with the paths of those that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoDump {
    /// The server's major.
    pub major: u32,
    /// Those that were found, and of which major they are; `None` where one does not run.
    pub found: Vec<(PathBuf, Option<u32>)>,
}

impl NoDump {
    /// The same without paths, for a file that others read.
    pub fn reason(&self) -> String {
        self.said(|_, version| version)
    }

    fn said(&self, one: impl Fn(&Path, String) -> String) -> String {
        let found: Vec<String> = self
            .found
            .iter()
            .map(|(path, its)| {
                let version = its.map_or("one that does not run".to_owned(), |v| v.to_string());
                one(path, version)
            })
            .collect();
        let found = if found.is_empty() {
            "none was found".to_owned()
        } else {
            format!("found was {}", found.join(", "))
        };
        format!("no pg_dump of PostgreSQL {} or newer: {found}", self.major)
    }
}

impl fmt::Display for NoDump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said(|path, version| format!("{version} ({})", path.display())))
    }
}

/// A `pg_dump` that can read a server of this major: the same major, else the first newer one
/// (`pg_dump` reads servers up to its own major).
async fn find(search: &DumpSearch, major: u32) -> std::result::Result<(PathBuf, u32), NoDump> {
    let mut folders: Vec<PathBuf> = search.dir.iter().chain(&search.env_dir).cloned().collect();
    // Beside the server programs of the same major, where packages put both.
    if let Ok(found) = Search::new().major(Some(major)).find() {
        folders.push(found.dir);
    }
    folders.extend(search.path.iter().flat_map(std::env::split_paths));
    let mut newer = None;
    let mut unfit: Vec<(PathBuf, Option<u32>)> = Vec::new();
    for folder in folders {
        let program = folder.join("pg_dump");
        if !program.is_file() {
            continue;
        }
        match version(&program).await {
            Some(its) if its == major => return Ok((program, its)),
            Some(its) if its > major => {
                newer.get_or_insert((program, its));
            }
            its if unfit.iter().all(|(path, _)| *path != program) => unfit.push((program, its)),
            _ => {}
        }
    }
    newer.ok_or(NoDump {
        major,
        found: unfit,
    })
}

async fn version(program: &Path) -> Option<u32> {
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

/// Dumps the schema, without owners and without pgshift's own. The inner `Err` says that there is
/// no program to do it.
///
/// # Errors
/// `Refused` with what `pg_dump` said where it fails.
pub async fn dump(
    target: &Target,
    search: &DumpSearch,
    major: u32,
) -> Result<std::result::Result<Schema, NoDump>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_and_without_paths() {
        let none = NoDump {
            major: 18,
            found: Vec::new(),
        };
        let text = "no pg_dump of PostgreSQL 18 or newer: none was found";
        assert_eq!(
            (none.to_string(), none.reason()),
            (text.into(), text.into())
        );
        let some = NoDump {
            found: vec![("/a/pg_dump".into(), Some(15)), ("/b/pg_dump".into(), None)],
            ..none
        };
        assert_eq!(
            some.to_string(),
            "no pg_dump of PostgreSQL 18 or newer: found was 15 (/a/pg_dump), one that does not \
             run (/b/pg_dump)"
        );
        assert_eq!(
            some.reason(),
            "no pg_dump of PostgreSQL 18 or newer: found was 15, one that does not run"
        );
    }
}
