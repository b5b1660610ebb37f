//! What a database is like without its data, as a file that lives beside the migrations: facts for
//! `lint`, the schema as SQL for `check`, and which migrations it has.
//!
//! The file is also what [`crate::catalog::snapshot`] reads: the facts are in the same place.

use serde::{Deserialize, Serialize};

use crate::catalog::snapshot::FORMAT;
use crate::catalog::{Catalog, QName};
use crate::run::State;
use crate::sql::Span;
use crate::sql::lex::{is_keyword, lex_code};
use crate::sql::split::split_all;

/// A database without its data. Keys that are not known are ignored: newer versions may add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`FORMAT`].
    pub format: u32,
    /// Names of roles, for grants and policies.
    pub roles: Vec<String>,
    /// Migrations that the database has, in order.
    pub migrations: Vec<Recorded>,
    /// The schema as SQL; `None` where it could not be dumped.
    pub schema: Option<Schema>,
    /// Why there is no [`schema`](Self::schema), for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_missing: Option<String>,
    /// Facts and sizes.
    pub catalog: Catalog,
}

/// A migration that a database has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Its id.
    pub id: String,
    /// The checksum of its file.
    pub checksum: String,
    /// Where it stands.
    pub state: String,
}

/// A schema as SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// What made it: `pg_dump 15`.
    pub by: String,
    /// Its lines: a list, so that differences of two versions are readable.
    pub lines: Vec<String>,
}

/// Why a text is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoSnapshot {
    /// What is wrong, for people.
    pub why: String,
    /// What to do.
    pub instead: &'static str,
}

const MAKE: &str = "make it again with `pgshift snapshot --out FILE`";

impl Snapshot {
    /// A snapshot whose text is the same for the same database: object ids are replaced by
    /// places in order, sizes are rounded to two digits, lists are sorted.
    pub fn new(
        mut catalog: Catalog,
        mut roles: Vec<String>,
        mut migrations: Vec<Recorded>,
        schema: Result<Schema, String>,
    ) -> Self {
        steady(&mut catalog);
        roles.sort();
        migrations.sort_by(|a, b| a.id.cmp(&b.id));
        let (schema, schema_missing) = match schema {
            Ok(schema) => (Some(schema), None),
            Err(why) => (None, Some(why)),
        };
        Self {
            format: FORMAT,
            roles,
            migrations,
            schema,
            schema_missing,
            catalog,
        }
    }

    /// The text of the file.
    ///
    /// # Errors
    /// None in practice: it is plain data.
    pub fn write(&self) -> Result<String, String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|e| e.to_string())?;
        text.push('\n');
        Ok(text)
    }

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// [`NoSnapshot`] for a text that is cut short, something else, or of another format.
    pub fn read(text: &str) -> Result<Self, NoSnapshot> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let no = |why: String| NoSnapshot { why, instead: MAKE };
        let json = |e: serde_json::Error| {
            no(if e.is_eof() {
                format!("it is cut short: {e}")
            } else {
                format!("it is no snapshot: {e}")
            })
        };
        let format: Format = serde_json::from_str(text).map_err(json)?;
        if format.format > FORMAT {
            return Err(NoSnapshot {
                why: format!(
                    "it is of format {}, and this pgshift reads {FORMAT}",
                    format.format
                ),
                instead: "use the pgshift that wrote it, or a newer one",
            });
        }
        if format.format < FORMAT {
            return Err(no(format!(
                "it is of format {}, and this pgshift reads {FORMAT}",
                format.format
            )));
        }
        serde_json::from_str(text).map_err(json)
    }

    /// True where the database has this migration.
    pub fn has(&self, id: &str) -> bool {
        self.migrations
            .iter()
            .any(|m| m.id == id && m.state.parse().is_ok_and(State::is_applied))
    }
}

/// Two significant digits: a table that grows by a row a second is the same tomorrow.
fn rounded(n: i64) -> i64 {
    let mut unit = 1_i64;
    while n.unsigned_abs() / unit.unsigned_abs() >= 100 {
        unit *= 10;
    }
    n / unit * unit
}

fn steady(catalog: &mut Catalog) {
    // The minor version says nothing about the schema.
    catalog.version = catalog.version / 10_000 * 10_000;
    let own = |name: &QName| name.schema == "pgshift";
    catalog.tables.retain(|name, _| !own(name));
    catalog.relations.retain(|name, _| !own(name));
    catalog.views.retain(|name, _| !own(name));
    catalog.functions.retain(|name, _| !own(name));
    catalog.domains.sort();
    if let Some(links) = &mut catalog.links {
        links.retain(|link| !own(&link.from) && !own(&link.to));
        links.sort();
        links.dedup();
    }
    let mut next = 0_u32;
    for table in catalog.tables.values_mut() {
        let was = table.oid;
        next += 1;
        table.oid = next;
        table.rows = rounded(table.rows);
        table.bytes = rounded(table.bytes);
        table.indexes.sort_by(|a, b| a.name.cmp(&b.name));
        table.constraints.sort_by(|a, b| a.name.cmp(&b.name));
        table.triggers.sort_by(|a, b| a.name.cmp(&b.name));
        table.leaves.sort_by(|a, b| a.name.cmp(&b.name));
        table.referenced_by.sort();
        for index in &mut table.indexes {
            index.bytes = rounded(index.bytes);
        }
        for leaf in &mut table.leaves {
            leaf.blocks = rounded(leaf.blocks);
            leaf.rows = rounded(leaf.rows);
            if leaf.oid == was {
                leaf.oid = table.oid;
            } else {
                next += 1;
                leaf.oid = next;
            }
        }
        for dependents in table.dependents.values_mut() {
            dependents.sort();
        }
    }
}

/// The statements of what `pg_dump` wrote that belong into a snapshot: without commands of psql,
/// without what may hold a password (user mappings, subscriptions), and without pgshift's own
/// triggers.
pub fn statements(dump: &str) -> Vec<String> {
    // `\restrict` and `\unrestrict` of newer versions.
    let text: String = dump
        .lines()
        .filter(|line| !line.starts_with('\\'))
        .flat_map(|line| [line, "\n"])
        .collect();
    split_all(&text, Span::new(0, text.len()))
        .statements
        .into_iter()
        .map(|s| s.span.of(&text).to_owned())
        .filter(|s| belongs(s))
        .collect()
}

fn belongs(statement: &str) -> bool {
    let tokens = lex_code(statement);
    let begins = |words: &[&str]| {
        words.iter().enumerate().all(|(n, word)| {
            tokens
                .get(n)
                .is_some_and(|t| is_keyword(*t, statement, word))
        })
    };
    let secret = begins(&["create", "user", "mapping"])
        || begins(&["alter", "user", "mapping"])
        || begins(&["create", "subscription"])
        || begins(&["alter", "subscription"]);
    let ours = begins(&["create", "trigger"]) && statement.contains("EXECUTE FUNCTION pgshift.");
    !secret && !ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::catalog;

    fn snapshot() -> Snapshot {
        let recorded = |id: &str, state: &str| Recorded {
            id: id.to_owned(),
            checksum: "c".to_owned(),
            state: state.to_owned(),
        };
        Snapshot::new(
            catalog(15),
            vec!["b".to_owned(), "a".to_owned()],
            vec![recorded("2", "reverted"), recorded("1", "complete")],
            Ok(Schema {
                by: "pg_dump 15".to_owned(),
                lines: vec!["CREATE TABLE t ();".to_owned()],
            }),
        )
    }

    #[test]
    fn what_is_written_is_read_here_and_by_lint() {
        let snapshot = snapshot();
        let text = snapshot.write().expect("plain data");
        assert_eq!(Snapshot::read(&text), Ok(snapshot.clone()));
        assert_eq!(
            crate::catalog::snapshot::read(&text),
            Ok(snapshot.catalog.clone())
        );
        assert!(snapshot.has("1") && !snapshot.has("2") && !snapshot.has("3"));
    }

    #[test]
    fn object_ids_and_small_growth_leave_no_trace() {
        let mut grown = catalog(15);
        for (n, table) in grown.tables.values_mut().enumerate() {
            table.oid += 1000 + n as u32;
            table.rows += table.rows / 1000;
            for leaf in &mut table.leaves {
                leaf.oid += 1000 + n as u32;
            }
        }
        let text = |c: Catalog| {
            Snapshot::new(c, Vec::new(), Vec::new(), Err("why".to_owned()))
                .write()
                .expect("plain data")
        };
        assert_eq!(text(grown), text(catalog(15)));
    }

    #[test]
    fn what_is_no_snapshot_says_why() {
        let text = snapshot().write().expect("plain data");
        let why = |text: &str| Snapshot::read(text).expect_err("no snapshot").why;
        assert!(why(&text[..text.len() / 2]).contains("cut short"));
        assert!(why("").contains("cut short"));
        assert!(why("[1]").contains("no snapshot"));
        assert!(why("{\"format\": 9}").contains("format 9"));
        assert!(why("{\"format\": 0}").contains("format 0"));
        assert!(why("{\"format\": 1}").contains("missing field"));
    }

    #[test]
    fn secrets_and_psql_stay_out() {
        let dump = "\\restrict abc\nSET x = 0;\n-- a comment\nCREATE USER MAPPING FOR a SERVER s \
                    OPTIONS (password 'hush');\nCREATE SUBSCRIPTION s CONNECTION 'password=hush' \
                    PUBLICATION p;\nCREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; \
                    $$;\nCREATE TRIGGER zzz BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION \
                    pgshift.f();\n\\unrestrict abc\n";
        let kept = statements(dump);
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert_eq!(kept[0], "SET x = 0");
        assert!(kept[1].starts_with("CREATE FUNCTION"));
    }

    #[test]
    fn sizes_keep_two_digits() {
        for (n, is) in [(0, 0), (99, 99), (-1, -1), (1234, 1200), (999_999, 990_000)] {
            assert_eq!(rounded(n), is);
        }
    }
}
