//! The order of migrations, and how files compare with what was applied.

use std::collections::BTreeSet;

use super::Migration;
use super::options::closest;
use crate::error::{Error, Result};

/// A migration that was applied, as the database knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied<'a> {
    /// Its id.
    pub id: &'a str,
    /// The checksum of the file that was applied.
    pub checksum: &'a str,
}

/// Sorts by id, byte by byte: the order in which migrations are applied.
pub fn sort(migrations: &mut [Migration]) {
    migrations.sort_by(|a, b| a.id.cmp(&b.id));
}

/// Ids that are there more than once, sorted.
pub fn duplicates<'a>(ids: &[&'a str]) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = ids.iter().copied().filter(|id| !seen.insert(*id)).collect();
    twice.into_iter().collect()
}

/// Ids of files that were not applied, in order.
pub fn pending<'a>(ids: &[&'a str], applied: &[Applied<'_>]) -> Vec<&'a str> {
    let applied: BTreeSet<&str> = applied.iter().map(|a| a.id).collect();
    let pending: BTreeSet<&str> = ids
        .iter()
        .copied()
        .filter(|id| !applied.contains(id))
        .collect();
    pending.into_iter().collect()
}

/// Pending ids that sort before one that was applied, in order, each with the last applied one.
pub fn out_of_order<'a>(ids: &[&'a str], applied: &[Applied<'a>]) -> Vec<(&'a str, &'a str)> {
    let Some(last) = applied.iter().map(|a| a.id).max() else {
        return Vec::new();
    };
    pending(ids, applied)
        .into_iter()
        .take_while(|id| *id < last)
        .map(|id| (id, last))
        .collect()
}

/// Files whose content is not what was applied, in the order given.
pub fn edited<'a>(files: &'a [Migration], applied: &[Applied<'_>]) -> Vec<&'a Migration> {
    let differs = |f: &&Migration| {
        applied
            .iter()
            .any(|a| a.id == f.id && a.checksum != f.checksum)
    };
    files.iter().filter(differs).collect()
}

/// Applied ids that have no file, sorted.
pub fn missing<'a>(ids: &[&str], applied: &[Applied<'a>]) -> Vec<&'a str> {
    let mut missing: Vec<&str> = applied
        .iter()
        .map(|a| a.id)
        .filter(|id| !ids.contains(id))
        .collect();
    missing.sort_unstable();
    missing
}

/// The id that `name` is, or the only one that it begins.
///
/// # Errors
/// No id fits, or several do and none is `name` itself.
pub fn resolve<'a>(ids: &[&'a str], name: &str) -> Result<&'a str> {
    if let Some(id) = ids.iter().copied().find(|id| *id == name) {
        return Ok(id);
    }
    // A set, for a file and its record in the database may both name it.
    let fits: BTreeSet<&str> = ids
        .iter()
        .copied()
        .filter(|id| !name.is_empty() && id.starts_with(name))
        .collect();
    let fits: Vec<&str> = fits.into_iter().collect();
    match fits.as_slice() {
        [id] => Ok(id),
        [] => {
            let error = Error::usage(format!("there is no migration `{name}`"));
            Err(match (closest(name, ids), ids) {
                (Some(close), _) => error.hint(format!("did you mean `{close}`?")),
                (None, []) => error.hint("there are no migrations"),
                (None, ids) => error.hint(format!("there are {}", list(ids))),
            })
        }
        several => Err(Error::usage(format!(
            "`{name}` begins {} migrations: {}",
            several.len(),
            list(several)
        ))
        .hint("write more of the id")),
    }
}

/// The first few, for a message.
fn list(ids: &[&str]) -> String {
    const SHOWN: usize = 5;
    let shown = ids[..ids.len().min(SHOWN)].join(", ");
    match ids.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::parse;
    use crate::sql::Source;

    fn applied(id: &str) -> Applied<'_> {
        Applied { id, checksum: "" }
    }

    fn migration(id: &str, sql: &str) -> Migration {
        parse(id, Source::new(format!("{id}.sql"), sql)).expect("parses")
    }

    #[test]
    fn sorts_and_finds_duplicates() {
        let mut files = vec![migration("b", "SELECT 1"), migration("B", "SELECT 1")];
        sort(&mut files);
        assert_eq!(files[0].id, "B");
        assert_eq!(duplicates(&["b", "a", "b", "c", "a", "b"]), ["a", "b"]);
        assert!(duplicates(&["a", "b"]).is_empty());
    }

    #[test]
    fn finds_what_comes_late() {
        let ids = ["5", "1", "2", "3"];
        assert_eq!(pending(&ids, &[applied("2")]), ["1", "3", "5"]);
        assert_eq!(
            out_of_order(&ids, &[applied("0"), applied("3")]),
            [("1", "3"), ("2", "3")]
        );
        assert!(out_of_order(&ids, &[]).is_empty());
        assert!(out_of_order(&ids, &[applied("1")]).is_empty());
    }

    #[test]
    fn finds_edited_and_missing_files() {
        let files = [migration("a", "SELECT 1;"), migration("b", "SELECT 1;")];
        let then = migration("a", "SELECT 2;").checksum;
        let records = [
            Applied {
                id: "a",
                checksum: &then,
            },
            Applied {
                id: "b",
                checksum: &files[1].checksum,
            },
            Applied {
                id: "c",
                checksum: "",
            },
        ];
        let found: Vec<&str> = edited(&files, &records)
            .iter()
            .map(|f| f.id.as_str())
            .collect();
        assert_eq!(found, ["a"]);
        assert_eq!(missing(&["a", "b"], &records), ["c"]);
    }

    #[test]
    fn resolves_prefixes() {
        let ids = ["20261123_a", "20261124_b", "20261124_bc", "x"];
        assert_eq!(resolve(&ids, "20261123").expect("one"), "20261123_a");
        assert_eq!(resolve(&ids, "20261124_b").expect("exact"), "20261124_b");
        assert_eq!(resolve(&["a1", "a1"], "a").expect("same twice"), "a1");
        let error = |ids: &[&str], name: &str| {
            let e = resolve(ids, name).expect_err("fails");
            format!("{e}; {}", e.what_next().unwrap_or_default())
        };
        insta::assert_snapshot!(error(&ids, "2026112"), @"`2026112` begins 3 migrations: 20261123_a, 20261124_b, 20261124_bc; write more of the id");
        insta::assert_snapshot!(error(&ids, "20261123_b"), @"there is no migration `20261123_b`; did you mean `20261123_a`?");
        insta::assert_snapshot!(error(&ids, "orders"), @"there is no migration `orders`; there are 20261123_a, 20261124_b, 20261124_bc, x");
        insta::assert_snapshot!(error(&[], ""), @"there is no migration ``; there are no migrations");
        let many: Vec<String> = (0..9).map(|i| format!("m{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        insta::assert_snapshot!(error(&many, "m"), @"`m` begins 9 migrations: m0, m1, m2, m3, m4 and 4 more; write more of the id");
    }
}
