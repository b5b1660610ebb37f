//! Which files are linted, in which order, and what lies beside them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::lint::Runner;
use crate::lint::runner::Hints;
use crate::report::lint::Unread;

/// A file to be read.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// `None` for standard input.
    path: Option<PathBuf>,
    /// As messages name it, with `/`.
    pub(super) shown: String,
    /// The folder whose files are one history.
    pub(super) key: PathBuf,
    /// Read only for what it tells of the tables, not reported.
    pub(super) context: bool,
}

impl Input {
    fn new(path: PathBuf, context: bool) -> Self {
        let shown = path.to_string_lossy().replace('\\', "/");
        Self {
            shown: shown.strip_prefix("./").unwrap_or(&shown).to_owned(),
            key: key(&path),
            path: Some(path),
            context,
        }
    }

    /// `None` for standard input.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        let Some(path) = &self.path else {
            let mut bytes = Vec::new();
            return std::io::stdin()
                .read_to_end(&mut bytes)
                .map(|_| bytes)
                .map_err(|e| e.to_string());
        };
        std::fs::read(path).map_err(|e| e.to_string())
    }

    /// True where it is one of these absolute paths.
    pub(super) fn is_in(&self, paths: &BTreeSet<PathBuf>) -> bool {
        self.path
            .as_ref()
            .and_then(|p| p.canonicalize().ok())
            .is_some_and(|p| paths.contains(&p))
    }

    /// Its name within the project, so that a baseline holds wherever it is read.
    pub(super) fn within(&self, root: &Path) -> String {
        self.path
            .as_ref()
            .and_then(|p| p.canonicalize().ok())
            .and_then(|p| p.strip_prefix(root).map(Path::to_path_buf).ok())
            .map_or_else(
                || self.shown.clone(),
                |p| p.to_string_lossy().replace('\\', "/"),
            )
    }
}

/// The folder of the repository, else the current one.
pub(super) fn project_root() -> PathBuf {
    let here = std::env::current_dir()
        .and_then(|p| p.canonicalize())
        .unwrap_or_default();
    here.ancestors()
        .find(|p| p.join(".git").exists())
        .unwrap_or(&here)
        .to_path_buf()
}

/// One migration a folder (Diesel, Prisma) or a file.
fn key(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .and_then(|n| n.to_str())
        .unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = if matches!(name, "up.sql" | "down.sql" | "migration.sql") {
        folder.parent().unwrap_or(folder)
    } else {
        folder
    };
    key_of_folder(folder)
}

/// A folder, by its one name.
pub(super) fn key_of_folder(folder: &Path) -> PathBuf {
    let named = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    named.canonicalize().unwrap_or_else(|_| named.to_path_buf())
}

/// The files of these paths: each folder's in order, with what is in it. The files of a folder
/// that sort before one that was named alone are taken in for what they tell.
pub(super) fn collect(given: &[PathBuf], unread: &mut Vec<Unread>) -> Vec<Input> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut seen: HashSet<PathBuf> = HashSet::new();
    let mut alone: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for path in given {
        if path.as_os_str() == "-" {
            inputs.push(Input {
                path: None,
                shown: "<stdin>".to_owned(),
                key: PathBuf::from("-"),
                context: false,
            });
            continue;
        }
        let found = match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                let mut found = Vec::new();
                walk(path, &mut found, unread);
                found
            }
            Ok(_) => {
                let last = alone.entry(key(path)).or_insert_with(|| path.clone());
                if natural(path, last) == Ordering::Greater {
                    last.clone_from(path);
                }
                vec![path.clone()]
            }
            Err(e) => {
                unread.push(Unread {
                    path: path.display().to_string(),
                    message: e.to_string(),
                });
                continue;
            }
        };
        for path in found {
            let one = path.canonicalize().unwrap_or_else(|_| path.clone());
            if seen.insert(one) {
                inputs.push(Input::new(path, false));
            }
        }
    }
    for (folder, last) in alone {
        let last = last.canonicalize().unwrap_or(last);
        for path in siblings(&folder, &last) {
            let one = path.canonicalize().unwrap_or_else(|_| path.clone());
            if natural(&one, &last) == Ordering::Less && seen.insert(one) {
                inputs.push(Input::new(path, true));
            }
        }
    }
    // Each path is looked up once, not at every comparison.
    let mut sorted: Vec<(Option<PathBuf>, Input)> = inputs
        .into_iter()
        .map(|input| {
            let path = input
                .path
                .as_ref()
                .map(|p| p.canonicalize().unwrap_or_else(|_| p.clone()));
            (path, input)
        })
        .collect();
    sorted.sort_by(|(a, _), (b, _)| match (a, b) {
        (Some(a), Some(b)) => natural(a, b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    });
    sorted.into_iter().map(|(_, input)| input).collect()
}

/// The files of the same history as `of`, which is in `folder` or in a folder of it.
fn siblings(folder: &Path, of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let nested = of.parent() != Some(folder);
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .map(|path| match of.file_name() {
            Some(name) if nested => path.join(name),
            _ => path,
        })
        .filter(|path| path.extension().is_some_and(|e| e == "sql") && path.is_file())
        .collect()
}

/// Folders that hold no migrations of the project.
const SKIPPED: [&str; 3] = ["node_modules", "target", "vendor"];

fn walk(folder: &Path, found: &mut Vec<PathBuf>, unread: &mut Vec<Unread>) {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) => {
            unread.push(Unread {
                path: folder.display().to_string(),
                message: e.to_string(),
            });
            return;
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Links to folders are not followed: they may lead in a circle.
        let is_folder = entry.file_type().is_ok_and(|t| t.is_dir());
        if is_folder {
            if !name.starts_with('.') && !SKIPPED.contains(&name.as_ref()) {
                walk(&path, found, unread);
            }
        } else if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("sql"))
            && !path.is_dir()
        {
            found.push(path);
        }
    }
}

/// Digits of a number that is a date.
const DATE: usize = 8;

/// Order of paths as people number them: `V2` before `V10`.
fn natural(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.to_string_lossy(), b.to_string_lossy());
    natural_text(&a, &b)
}

fn natural_text(left: &str, right: &str) -> Ordering {
    let (mut x, mut y) = (left, right);
    loop {
        let digits = |t: &str| t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
        let (dx, dy) = (digits(x), digits(y));
        if dx > 0 && dy > 0 {
            let (first, second) = (&x[..dx], &y[..dy]);
            // Dates and times of different precision are ordered as text.
            let order = if dx >= DATE && dy >= DATE {
                first.cmp(second)
            } else {
                let (first, second) = (
                    first.trim_start_matches('0'),
                    second.trim_start_matches('0'),
                );
                first
                    .len()
                    .cmp(&second.len())
                    .then_with(|| first.cmp(second))
            };
            if order != Ordering::Equal {
                return order;
            }
            (x, y) = (&x[dx..], &y[dy..]);
            continue;
        }
        match (x.chars().next(), y.chars().next()) {
            (Some(c), Some(d)) if c == d => {
                (x, y) = (&x[c.len_utf8()..], &y[d.len_utf8()..]);
            }
            (Some(c), Some(d)) => {
                // A folder before the files beside it whose names go on.
                let rank = |c: char| if c == '/' { '\0' } else { c };
                return rank(c).cmp(&rank(d));
            }
            (None, None) => return left.cmp(right),
            (c, d) => return c.is_some().cmp(&d.is_some()),
        }
    }
}

/// What the files beside a migration say of its runner, each folder read once.
#[derive(Debug, Default)]
pub(super) struct Projects {
    folders: BTreeMap<PathBuf, Option<Runner>>,
}

impl Projects {
    pub(super) fn hints(&mut self, input: &Input) -> Hints {
        let mut hints = Hints::default();
        let Some(path) = &input.path else {
            return hints;
        };
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        if matches!(name, "up.sql" | "down.sql") {
            let metadata = path.with_file_name("metadata.toml");
            hints.in_transaction = std::fs::read_to_string(metadata)
                .ok()
                .and_then(|text| text.parse::<toml::Table>().ok())
                .and_then(|table| table.get("run_in_transaction")?.as_bool());
        } else if name.contains("__") {
            let mut conf = path.clone().into_os_string();
            conf.push(".conf");
            hints.in_transaction = std::fs::read_to_string(conf).ok().and_then(|text| {
                text.lines().find_map(|line| {
                    let (key, value) = line.split_once('=')?;
                    let key = key.trim().trim_start_matches("flyway.");
                    (key == "executeInTransaction").then(|| value.trim() != "false")
                })
            });
        }
        hints.project = *self
            .folders
            .entry(input.key.clone())
            .or_insert_with(|| project(&input.key));
        hints
    }
}

/// The migration library in the nearest Cargo.toml above, up to the repository's root.
fn project(folder: &Path) -> Option<Runner> {
    for folder in folder.ancestors() {
        if let Ok(text) = std::fs::read_to_string(folder.join("Cargo.toml")) {
            let manifest: toml::Table = text.parse().ok()?;
            let depends = |name: &str| {
                let tables = [
                    manifest.get("dependencies"),
                    manifest.get("dev-dependencies"),
                    manifest
                        .get("workspace")
                        .and_then(|w| w.get("dependencies")),
                ];
                tables
                    .into_iter()
                    .flatten()
                    .any(|table| table.get(name).is_some())
            };
            let mut found = [
                ("sqlx", Runner::Sqlx),
                ("refinery", Runner::Refinery),
                ("diesel_migrations", Runner::Diesel),
            ]
            .into_iter()
            .filter(|(name, _)| depends(name));
            if let Some((_, runner)) = found.next() {
                return found.next().is_none().then_some(runner);
            }
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ordered_as_people_number_them() {
        let mut names = vec![
            "m/V10__b.sql",
            "m/V2__a.sql",
            "m/V2__b.sql",
            "m/a/1.sql",
            "m/002.sql",
            "m/1.sql",
            "m/10.sql",
            "m/20250101120000_x.sql",
            "m/20260101_y.sql",
        ];
        names.sort_by(|a, b| natural_text(a, b));
        assert_eq!(
            names,
            [
                "m/1.sql",
                "m/002.sql",
                "m/10.sql",
                "m/20250101120000_x.sql",
                "m/20260101_y.sql",
                "m/V2__a.sql",
                "m/V2__b.sql",
                "m/V10__b.sql",
                "m/a/1.sql"
            ]
        );
    }
}
