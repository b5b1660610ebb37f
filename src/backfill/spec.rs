//! What a backfill does, and the statements of its chunks.
//!
//! The author's pieces (SET list, FROM, WHERE) are kept verbatim; everything around them is built
//! here. Each piece is followed by a newline, so that a trailing `--` comment of the author cannot
//! swallow what we add.

use serde::{Deserialize, Serialize};

use super::{Stripes, Vacuum};
use crate::catalog::QName;
use crate::sql::quote::{ident, qname};

/// A column of the key that a keyset scan follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Name.
    pub name: String,
    /// SQL text of its type.
    pub type_name: String,
}

/// How the rows are walked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Strategy {
    /// The heap's blocks in order, once: TID range scans (PostgreSQL ≥ 14). Complete because any
    /// row version written after the sync trigger was created is right by the trigger.
    Ctid,
    /// The primary key in order: each row exactly once, whatever moves.
    Keyset {
        /// Its columns in index order.
        key: Vec<KeyColumn>,
    },
}

/// UPDATE or DELETE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verb {
    /// UPDATE with the author's SET list.
    Update {
        /// The text after SET.
        set: String,
    },
    /// DELETE.
    Delete,
}

/// A batched UPDATE or DELETE of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillSpec {
    /// The table that the author names; its leaves are walked one by one.
    pub table: QName,
    /// The name by which the author's text refers to it.
    pub alias: String,
    /// What is done to a row.
    pub verb: Verb,
    /// The author's FROM (or USING).
    pub from: Option<String>,
    /// The author's WHERE, without tests that the target is still null.
    pub condition: Option<String>,
    /// When a row needs work; added to the author's WHERE.
    pub need: Option<String>,
    /// How the rows are walked.
    pub strategy: Strategy,
    /// The passes over each part of the table; one where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripes: Option<Stripes>,
    /// How often the table is vacuumed on the way; not at all where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vacuum: Option<Vacuum>,
    /// Rows a chunk, fixed by the author; adaptive where `None`.
    pub batch: Option<u32>,
    /// Concurrent workers, by the author.
    pub workers: Option<u16>,
    /// `search_path` of the chunks: the names resolve as at plan time.
    pub search_path: String,
    /// Primary key columns by which a failing row is named; empty where there is none.
    pub key: Vec<String>,
}

/// The part of a chunk that says which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// Blocks: `$1` and `$2` are the TIDs `(lo,0)` and `(hi,0)` as text.
    Blocks {
        /// Of these the rows of one stripe: `$3` is the mask and `$4` the number, as text.
        striped: bool,
    },
    /// One row version: `$1` is its TID as text.
    Row,
    /// Keys: after the key in the first parameters, if `after`; up to the key in the last ones, if
    /// `upto`. Keys are passed as text, one parameter a column.
    Keys {
        /// There is a lower bound.
        after: bool,
        /// There is an upper bound.
        upto: bool,
    },
}

/// A TID at the start of a block, as text: `(block,0)` sorts before every row of the block.
pub fn tid(block: i64) -> String {
    format!("({block},0)")
}

impl BackfillSpec {
    fn key_columns(&self) -> &[KeyColumn] {
        match &self.strategy {
            Strategy::Ctid => &[],
            Strategy::Keyset { key } => key,
        }
    }

    /// `(a.k1, a.k2)`
    fn key_row(&self) -> String {
        let alias = ident(&self.alias);
        let columns: Vec<_> = self
            .key_columns()
            .iter()
            .map(|k| format!("{alias}.{}", ident(&k.name)))
            .collect();
        format!("({})", columns.join(", "))
    }

    /// `($1::text::int4, $2::text::uuid)`, the parameters from `first` on.
    fn key_params(&self, first: usize) -> String {
        let params: Vec<_> = self
            .key_columns()
            .iter()
            .enumerate()
            .map(|(n, k)| format!("${}::text::{}", first + n, k.type_name))
            .collect();
        format!("({})", params.join(", "))
    }

    /// A row is of the stripe, where the scan is striped.
    fn stripe(&self, bounds: Bounds) -> Option<String> {
        (bounds == Bounds::Blocks { striped: true }).then(|| {
            format!(
                "(pg_catalog.hashtid({}.ctid) & $3::text::int4) = $4::text::int4",
                ident(&self.alias)
            )
        })
    }

    fn bounds(&self, bounds: Bounds) -> Vec<String> {
        let ctid = format!("{}.ctid", ident(&self.alias));
        match bounds {
            Bounds::Blocks { .. } => vec![
                format!("{ctid} >= $1::text::tid"),
                format!("{ctid} < $2::text::tid"),
            ],
            Bounds::Row => vec![format!("{ctid} = $1::text::tid")],
            Bounds::Keys { after, upto } => {
                let mut all = Vec::new();
                let mut next = 1;
                if after {
                    all.push(format!("{} > {}", self.key_row(), self.key_params(next)));
                    next += self.key_columns().len();
                }
                if upto {
                    all.push(format!("{} <= {}", self.key_row(), self.key_params(next)));
                }
                all
            }
        }
    }

    /// The statement of a chunk on `leaf` (`self.table` itself where it is not partitioned).
    pub fn chunk_sql(&self, leaf: &QName, bounds: Bounds) -> String {
        // The server tries tests of the same estimated cost in this order: a row of another stripe
        // is to be left out before the author's expressions are computed.
        let mut conditions: Vec<String> = self.stripe(bounds).into_iter().collect();
        let pieces = [&self.condition, &self.need].into_iter().flatten();
        conditions.extend(pieces.map(|c| paren(c)));
        conditions.extend(self.bounds(bounds));
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let (table, alias) = (qname(leaf), ident(&self.alias));
        let from = self.from.as_deref();
        match &self.verb {
            Verb::Update { set } => {
                let from = from.map(|f| format!(" FROM {f}\n")).unwrap_or_default();
                format!("UPDATE ONLY {table} AS {alias} SET {set}\n{from}{filter}")
            }
            Verb::Delete => {
                let using = from.map(|f| format!(" USING {f}\n")).unwrap_or_default();
                format!("DELETE FROM ONLY {table} AS {alias}{using}{filter}")
            }
        }
    }

    /// The bounds of a whole scan's chunks, for showing the statement in a plan.
    pub fn shown_bounds(&self) -> Bounds {
        match self.strategy {
            Strategy::Ctid => Bounds::Blocks {
                striped: self.stripes.is_some(),
            },
            Strategy::Keyset { .. } => Bounds::Keys {
                after: true,
                upto: true,
            },
        }
    }

    /// The upper key of the next keyset chunk of at most `rows` rows: one row of text columns, or
    /// no row where fewer are left. Parameters are the key after which to look, if `after`, and
    /// the number of rows less one (bigint).
    pub fn upper_key_sql(&self, leaf: &QName, after: bool) -> String {
        let filter: Vec<_> = self.bounds(Bounds::Keys { after, upto: false });
        let filter = if filter.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", filter.join(""))
        };
        let alias = ident(&self.alias);
        let key = self.key_columns();
        let order: Vec<_> = key
            .iter()
            .map(|k| format!("{alias}.{}", ident(&k.name)))
            .collect();
        let texts: Vec<_> = order.iter().map(|k| format!("{k}::text")).collect();
        format!(
            "SELECT {} FROM ONLY {} AS {alias}{filter} ORDER BY {} OFFSET ${} LIMIT 1",
            texts.join(", "),
            qname(leaf),
            order.join(", "),
            if after { key.len() + 1 } else { 1 },
        )
    }

    /// Locks and lists the rows within bounds, for finding one that fails: (tid, key) as text.
    /// The author's text is not evaluated.
    pub fn rows_sql(&self, leaf: &QName, bounds: Bounds) -> String {
        let alias = ident(&self.alias);
        let mut filter: Vec<String> = self.stripe(bounds).into_iter().collect();
        filter.extend(self.bounds(bounds));
        let filter = if filter.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", filter.join(" AND "))
        };
        format!(
            "SELECT {alias}.ctid::text, {} FROM ONLY {} AS {alias}{filter} ORDER BY {alias}.ctid \
             FOR UPDATE",
            key_text(&self.alias, &self.key),
            qname(leaf),
        )
    }
}

/// Text that names a row for people: `id=42, region=eu`, or its TID where there is no key.
fn key_text(alias: &str, key: &[String]) -> String {
    let alias = ident(alias);
    if key.is_empty() {
        return format!("'ctid=' || {alias}.ctid::text");
    }
    let parts: Vec<_> = key
        .iter()
        .map(|k| {
            let label = crate::sql::quote::literal(&format!("{k}="));
            format!("{label} || coalesce({alias}.{}::text, 'null')", ident(k))
        })
        .collect();
    parts.join(" || ', ' || ")
}

/// `(text)` with a newline that ends a trailing comment.
pub fn paren(text: &str) -> String {
    if text.contains("--") {
        format!("({text}\n)")
    } else {
        format!("({text})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(strategy: Strategy) -> BackfillSpec {
        BackfillSpec {
            table: QName::new("public", "orders"),
            alias: "orders".into(),
            verb: Verb::Update {
                set: "total_cents = round(total * 100)::bigint".into(),
            },
            from: None,
            condition: Some("total > 0 -- paid".into()),
            need: Some("total_cents IS NULL".into()),
            strategy,
            stripes: None,
            vacuum: None,
            batch: None,
            workers: None,
            search_path: "\"public\"".into(),
            key: vec!["id".into()],
        }
    }

    fn keyset() -> Strategy {
        Strategy::Keyset {
            key: vec![
                KeyColumn {
                    name: "id".into(),
                    type_name: "integer".into(),
                },
                KeyColumn {
                    name: "Region".into(),
                    type_name: "text".into(),
                },
            ],
        }
    }

    #[test]
    fn a_ctid_chunk_keeps_the_authors_text_and_bounds_it() {
        let spec = spec(Strategy::Ctid);
        insta::assert_snapshot!(spec.chunk_sql(&spec.table, Bounds::Blocks { striped: false }), @r#"
        UPDATE ONLY "public"."orders" AS "orders" SET total_cents = round(total * 100)::bigint
         WHERE (total > 0 -- paid
        ) AND (total_cents IS NULL) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
        "#);
    }

    #[test]
    fn a_striped_chunk_takes_the_rows_of_one_hash() {
        let mut spec = spec(Strategy::Ctid);
        spec.condition = None;
        spec.stripes = Some(Stripes {
            count: 4,
            window: 100,
        });
        insta::assert_snapshot!(spec.chunk_sql(&spec.table, spec.shown_bounds()), @r#"
        UPDATE ONLY "public"."orders" AS "orders" SET total_cents = round(total * 100)::bigint
         WHERE (pg_catalog.hashtid("orders".ctid) & $3::text::int4) = $4::text::int4 AND (total_cents IS NULL) AND "orders".ctid >= $1::text::tid AND "orders".ctid < $2::text::tid
        "#);
    }

    #[test]
    fn a_keyset_chunk_numbers_its_parameters() {
        let spec = spec(keyset());
        let sql = spec.chunk_sql(
            &spec.table,
            Bounds::Keys {
                after: true,
                upto: true,
            },
        );
        assert!(sql.contains(
            r#"("orders"."id", "orders"."Region") > ($1::text::integer, $2::text::text)"#
        ));
        assert!(sql.contains(
            r#"("orders"."id", "orders"."Region") <= ($3::text::integer, $4::text::text)"#
        ));
        let first = spec.chunk_sql(
            &spec.table,
            Bounds::Keys {
                after: false,
                upto: true,
            },
        );
        assert!(first.contains("<= ($1::text::integer, $2::text::text)"));
        insta::assert_snapshot!(spec.upper_key_sql(&spec.table, false), @r#"SELECT "orders"."id"::text, "orders"."Region"::text FROM ONLY "public"."orders" AS "orders" ORDER BY "orders"."id", "orders"."Region" OFFSET $1 LIMIT 1"#);
    }

    #[test]
    fn a_delete_uses_using() {
        let mut spec = spec(Strategy::Ctid);
        spec.verb = Verb::Delete;
        spec.from = Some("customers c".into());
        spec.condition = Some("c.id = customer_id AND c.gone".into());
        spec.need = None;
        insta::assert_snapshot!(spec.chunk_sql(&spec.table, Bounds::Row), @r#"
        DELETE FROM ONLY "public"."orders" AS "orders" USING customers c
         WHERE (c.id = customer_id AND c.gone) AND "orders".ctid = $1::text::tid
        "#);
    }
}
