//! What a verify asks of rows, and how single wrong rows are mended.

use serde::{Deserialize, Serialize};

use super::spec::paren;
use crate::catalog::QName;
use crate::sql::quote::{ident, qname};

/// Wrong rows of one range that are listed.
const LISTED: u32 = 10_000;

/// A column with the author's expression for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The column.
    pub column: String,
    /// The expression.
    pub expr: String,
    /// Evaluated again it may give another value: any value is right.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volatile: bool,
}

/// A statement of the `reverse` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// The name by which the author's text refers to the table.
    pub alias: String,
    /// The author's FROM.
    pub from: Option<String>,
    /// The author's WHERE.
    pub condition: Option<String>,
    /// What it assigns.
    pub set: Vec<Assigned>,
}

/// A full check of a backfilled table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySpec {
    /// The table.
    pub table: QName,
    /// The name by which the author's text refers to it.
    pub alias: String,
    /// The author's FROM.
    pub from: Option<String>,
    /// The author's WHERE: which rows have an expected value.
    pub condition: Option<String>,
    /// True for a wrong row.
    pub wrong: String,
    /// Primary key columns by which wrong rows are named; empty where there is none.
    pub key: Vec<String>,
    /// `search_path` of the check.
    pub search_path: String,
    /// What the backfill assigns: the new columns from the old ones. Empty in plans of versions
    /// that could not repair.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward: Vec<Assigned>,
    /// How new columns are mapped back to old ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub back: Vec<Back>,
}

impl VerifySpec {
    fn ctid(&self) -> String {
        format!("{}.ctid", ident(&self.alias))
    }

    fn source(&self, leaf: &QName) -> String {
        let from = self.from.as_ref();
        let from = from.map(|f| format!(", {f}\n")).unwrap_or_default();
        format!("ONLY {} AS {}{from}", qname(leaf), ident(&self.alias))
    }

    fn is_wrong(&self) -> String {
        let mut filter: Vec<String> = self.condition.iter().map(|c| paren(c)).collect();
        filter.push(paren(&self.wrong));
        filter.join(" AND ")
    }

    /// Finds wrong rows of the blocks `$1..$2` (TIDs as text) of `leaf`, or of all of it where
    /// `blocks` is false: (count, TIDs of up to 10,000 of them as text\[\]).
    pub fn sql(&self, leaf: &QName, blocks: bool) -> String {
        let ctid = self.ctid();
        let range = if blocks {
            format!(" AND {ctid} >= $1::text::tid AND {ctid} < $2::text::tid")
        } else {
            String::new()
        };
        // Numbered, so that only the rows that are listed are kept in memory.
        format!(
            "SELECT count(*), array_agg(t) FILTER (WHERE n <= {LISTED}) FROM \
             (SELECT {ctid}::text AS t, row_number() OVER () AS n FROM {} WHERE {}{range}) AS wrong",
            self.source(leaf),
            self.is_wrong(),
        )
    }

    /// Counts the wrong rows of those with the TIDs `$1` (text\[\]): (count, their TIDs).
    pub fn picked_sql(&self, leaf: &QName) -> String {
        let ctid = self.ctid();
        format!(
            "SELECT count(*), array_agg({ctid}::text) FROM {} WHERE {} AND \
             {ctid} = ANY ($1::text[]::tid[])",
            self.source(leaf),
            self.is_wrong(),
        )
    }

    /// The keys of the rows with the TIDs `$1` (text\[\]): (TID, key as a JSON array of texts).
    pub fn keys_sql(&self, leaf: &QName) -> String {
        let row = ident(&self.alias);
        let key: Vec<_> = self
            .key
            .iter()
            .map(|k| format!("{row}.{}::text", ident(k)))
            .collect();
        format!(
            "SELECT {row}.ctid::text, jsonb_build_array({}) FROM ONLY {} AS {row} \
             WHERE {row}.ctid = ANY ($1::text[]::tid[]) ORDER BY {row}.ctid",
            key.join(", "),
            qname(leaf),
        )
    }

    /// What wrong rows with the TIDs `$1` (text\[\]) have and should have: (TID, one text\[\] of a
    /// column's two values after the other's); a volatile expression's is null.
    pub fn values_sql(&self, leaf: &QName) -> String {
        let pairs: Vec<_> = self
            .forward
            .iter()
            .map(|a| {
                let is = format!("{}.{}::text", ident(&self.alias), ident(&a.column));
                let should = if a.volatile {
                    "NULL".to_owned()
                } else {
                    format!("{}::text", paren(&a.expr))
                };
                format!("{is}, {should}")
            })
            .collect();
        let ctid = self.ctid();
        format!(
            "SELECT {ctid}::text, ARRAY[{}]::text[] FROM {} WHERE {} AND \
             {ctid} = ANY ($1::text[]::tid[])",
            pairs.join(", "),
            self.source(leaf),
            self.is_wrong(),
        )
    }

    /// Locks one row (if `lock`) and gives its TID: by key (one text parameter a column), of
    /// `types`, or by the TID `$1` where there is no key.
    pub fn locate_sql(&self, leaf: &QName, types: &[String], lock: bool) -> String {
        let filter: Vec<_> = self
            .key
            .iter()
            .zip(types)
            .enumerate()
            .map(|(n, (k, t))| format!("{} = ${}::text::{t}", ident(k), n + 1))
            .collect();
        let filter = if filter.is_empty() {
            "ctid = $1::text::tid".to_owned()
        } else {
            filter.join(" AND ")
        };
        let lock = if lock { " FOR UPDATE" } else { "" };
        format!(
            "SELECT ctid::text FROM ONLY {} WHERE {filter}{lock}",
            qname(leaf)
        )
    }

    /// True for one row where the row with the TID `$1` is wrong; `set` asks further that it has a
    /// new value.
    pub fn is_wrong_sql(&self, leaf: &QName, set: bool) -> String {
        let set = if set {
            let some: Vec<_> = self
                .forward
                .iter()
                .map(|a| format!("{}.{} IS NOT NULL", ident(&self.alias), ident(&a.column)))
                .collect();
            format!(" AND ({})", some.join(" OR "))
        } else {
            String::new()
        };
        format!(
            "SELECT EXISTS (SELECT FROM {} WHERE {}{set} AND {} = $1::text::tid)",
            self.source(leaf),
            self.is_wrong(),
            self.ctid(),
        )
    }

    /// The statements that mend the wrong row with the TID `$1`, in order; each gives the TID that
    /// the row has afterwards, or no row where it has nothing to do.
    pub fn mend_sql(&self, leaf: &QName, from: Side) -> Vec<String> {
        let table = qname(leaf);
        let set = |all: &[Assigned]| {
            let all: Vec<_> = all
                .iter()
                .map(|a| format!("{} = {}", ident(&a.column), paren(&a.expr)))
                .collect();
            all.join(", ")
        };
        let using =
            |from: Option<&String>| from.map(|f| format!(" FROM {f}\n")).unwrap_or_default();
        match from {
            Side::Old => vec![format!(
                "UPDATE ONLY {table} AS {} SET {}{} WHERE {} AND {ctid} = $1::text::tid \
                 RETURNING {ctid}::text",
                ident(&self.alias),
                set(&self.forward),
                using(self.from.as_ref()),
                self.is_wrong(),
                ctid = self.ctid(),
            )],
            Side::New => self
                .back
                .iter()
                .map(|back| {
                    let alias = ident(&back.alias);
                    let filter = back.condition.as_ref();
                    let filter = filter.map(|c| format!("{} AND ", paren(c)));
                    format!(
                        "UPDATE ONLY {table} AS {alias} SET {}{} WHERE {}{alias}.ctid = \
                         $1::text::tid RETURNING {alias}.ctid::text",
                        set(&back.set),
                        using(back.from.as_ref()),
                        filter.unwrap_or_default(),
                    )
                })
                .collect(),
        }
    }
}

/// The side of a wrong row that is taken for right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The old columns: the new ones are computed anew by the backfill.
    Old,
    /// The new columns: the old ones are computed anew by the reverse section.
    New,
}

impl Side {
    /// The name in CLI, JSON and log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::New => "new",
        }
    }
}

/// Why a repair does not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSide {
    /// Either side may be the newer one.
    Ask,
    /// There is no reverse section.
    NoReverse,
    /// The plan does not say how: it is of an earlier version.
    OldPlan,
}

/// Which side of the wrong rows is right. `both` says that the new application version may write
/// (from READY on): then nothing tells which of two values is the newer one. Without a reverse
/// section such a verify finds only rows without any new value, and there is nothing to choose.
///
/// # Errors
/// [`NoSide`].
pub fn side(spec: &VerifySpec, both: bool, asked: Option<Side>) -> Result<Side, NoSide> {
    if spec.forward.is_empty() {
        return Err(NoSide::OldPlan);
    }
    match asked {
        Some(Side::New) if spec.back.is_empty() => Err(NoSide::NoReverse),
        Some(side) => Ok(side),
        None if both && !spec.back.is_empty() => Err(NoSide::Ask),
        None => Ok(Side::Old),
    }
}

/// Names a row for people: `id=42, region=eu`, or its TID where there is no key.
pub fn key_text(columns: &[String], key: &[String], tid: &str) -> String {
    if key.is_empty() {
        return format!("ctid={tid}");
    }
    let parts: Vec<_> = columns
        .iter()
        .zip(key)
        .map(|(column, value)| format!("{column}={value}"))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VerifySpec {
        let assigned = |column: &str, expr: &str| Assigned {
            column: column.into(),
            expr: expr.into(),
            volatile: false,
        };
        VerifySpec {
            table: QName::new("public", "orders"),
            alias: "o".into(),
            from: None,
            condition: Some("a > 0 -- all".into()),
            wrong: "b IS DISTINCT FROM f(a)".into(),
            key: vec!["id".into(), "it's".into()],
            search_path: String::new(),
            forward: vec![assigned("b", "f(a)")],
            back: vec![Back {
                alias: "t".into(),
                from: None,
                condition: None,
                set: vec![assigned("a", "g(b)")],
            }],
        }
    }

    #[test]
    fn statements() {
        let spec = spec();
        let leaf = QName::new("public", "orders_1");
        let types = ["bigint".to_owned(), "text".to_owned()];
        let mut all = vec![
            spec.sql(&leaf, true),
            spec.sql(&leaf, false),
            spec.picked_sql(&leaf),
            spec.keys_sql(&leaf),
            spec.values_sql(&leaf),
            spec.locate_sql(&leaf, &types, true),
            spec.is_wrong_sql(&leaf, true),
        ];
        all.extend(spec.mend_sql(&leaf, Side::Old));
        all.extend(spec.mend_sql(&leaf, Side::New));
        insta::assert_snapshot!(all.join("\n\n"));
    }

    #[test]
    fn nobody_guesses_which_side_is_newer() {
        let two = spec();
        let one = VerifySpec {
            back: Vec::new(),
            ..spec()
        };
        assert_eq!(side(&two, false, None), Ok(Side::Old));
        assert_eq!(side(&two, true, None), Err(NoSide::Ask));
        assert_eq!(side(&two, true, Some(Side::New)), Ok(Side::New));
        assert_eq!(side(&two, true, Some(Side::Old)), Ok(Side::Old));
        assert_eq!(side(&one, true, None), Ok(Side::Old));
        assert_eq!(side(&one, true, Some(Side::New)), Err(NoSide::NoReverse));
        let old = VerifySpec {
            forward: Vec::new(),
            ..spec()
        };
        assert_eq!(side(&old, false, Some(Side::Old)), Err(NoSide::OldPlan));
    }

    #[test]
    fn rows_are_named_by_key_or_place() {
        let columns = ["id".to_owned(), "region".to_owned()];
        let key = ["42".to_owned(), "eu".to_owned()];
        assert_eq!(key_text(&columns, &key, "(0,1)"), "id=42, region=eu");
        assert_eq!(key_text(&[], &[], "(0,1)"), "ctid=(0,1)");
    }
}
