//! Which rows a backfill has still to write, and which ones it has not written right.

use crate::backfill::spec::paren;
use crate::plan::sync::{Component, Mapping, Target};
use crate::sql::quote::ident;

/// No target is set.
pub(super) fn unset(mapping: &Mapping) -> String {
    let alias = ident(&mapping.alias);
    let unset: Vec<_> = mapping
        .targets
        .iter()
        .map(|t| format!("{alias}.{} IS NULL", ident(&t.column)))
        .collect();
    unset.join(" AND ")
}

/// A row needs work where no target is set and an expression has a value.
pub(super) fn need(mapping: &Mapping) -> String {
    let unset = unset(mapping);
    // An expression that calls a volatile function must not be evaluated once more.
    if mapping.targets.iter().any(|t| t.volatile) {
        return unset;
    }
    let has_value: Vec<_> = mapping.targets.iter().map(has_value).collect();
    format!("{unset} AND ({})", has_value.join(" OR "))
}

/// The expression is not null. IS NOT NULL of a composite value means that none of its fields is
/// (docs, "Row and Array Comparisons"), IS DISTINCT FROM NULL that the value is there.
fn has_value(target: &Target) -> String {
    let test = if is_scalar(&target.type_name) {
        "IS NOT NULL"
    } else {
        "IS DISTINCT FROM NULL"
    };
    format!("{} {test}", paren(&target.expr))
}

/// One of the server's own types of which no value has fields.
fn is_scalar(type_name: &str) -> bool {
    const SCALAR: &[&str] = &[
        "bigint",
        "boolean",
        "bytea",
        "char",
        "character",
        "date",
        "double",
        "inet",
        "int",
        "integer",
        "interval",
        "json",
        "jsonb",
        "numeric",
        "real",
        "smallint",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "uuid",
        "varchar",
        "xml",
    ];
    let word = type_name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .next()
        .unwrap_or_default();
    SCALAR.contains(&word.to_ascii_lowercase().as_str())
}

/// True for a row whose new columns are neither what the old ones give, nor what they themselves
/// give back.
pub(super) fn wrong(mapping: &Mapping, component: &Component) -> String {
    let mut right = vec![equal(mapping)];
    right.extend(others(mapping, component));
    if !component.reverse.is_empty() {
        // A reverse mapping vouches only for rows that have a value to map back.
        let alias = ident(&mapping.alias);
        let set: Vec<_> = component
            .targets()
            .map(|t| format!("{alias}.{} IS NOT NULL", ident(&t.column)))
            .collect();
        let back: Vec<_> = component
            .reverse
            .iter()
            .map(|m| maps_back(m, &alias))
            .collect();
        right.push(format!(
            "(({}) AND {})",
            set.join(" OR "),
            back.join(" AND ")
        ));
    }
    // Three-valued logic: what is not known to be right is wrong.
    match right.as_slice() {
        [one] => format!("{one} IS NOT TRUE"),
        many => format!("({}) IS NOT TRUE", many.join(" OR ")),
    }
}

/// The targets are what the expressions give. CAST cuts where the assignment of the backfill
/// fails; such a row then has no value and is wrong.
fn equal(mapping: &Mapping) -> String {
    let alias = ident(&mapping.alias);
    let all: Vec<_> = mapping
        .targets
        .iter()
        .map(|t| {
            if t.volatile {
                format!("{alias}.{} IS NOT NULL", ident(&t.column))
            } else {
                same(&alias, t)
            }
        })
        .collect();
    format!("({})", all.join(" AND "))
}

fn same(range: &str, t: &Target) -> String {
    let cast = if !t.has_equality {
        "::text"
    } else if is_text(&t.type_name) {
        // Two columns of different collations cannot be compared by either, and values that one of
        // them takes for equal are not the same.
        " COLLATE \"C\""
    } else {
        ""
    };
    format!(
        "{range}.{}{cast} IS NOT DISTINCT FROM CAST({} AS {}){cast}",
        ident(&t.column),
        paren(&t.expr),
        t.type_name
    )
}

/// A type of which any collation compares the values, but `C` as they are; or an array of it. Not
/// `citext`, which has an equality of its own.
fn is_text(type_name: &str) -> bool {
    let element = type_name.trim_end_matches("[]");
    matches!(element, "text" | "name" | "bpchar" | "character")
        || element.starts_with("character varying")
        || element.starts_with("character(")
}

/// Other mappings that may have set this one's targets: those before one that fills only what is
/// left, and for a row without a value, those after it that do.
fn others(mapping: &Mapping, component: &Component) -> Vec<String> {
    let all = &component.forward;
    let Some(here) = all.iter().position(|m| m == mapping) else {
        return Vec::new();
    };
    let serves = |m: &Mapping| {
        let condition = m.condition.as_ref();
        condition.map_or_else(|| equal(m), |c| format!("({} AND {})", paren(c), equal(m)))
    };
    let no_value: Vec<_> = mapping
        .targets
        .iter()
        .filter(|t| !t.volatile)
        .map(|t| format!("({}) IS NOT TRUE", has_value(t)))
        .collect();
    all.iter()
        .enumerate()
        .filter(|(n, m)| *n != here && m.shares_target(mapping))
        .filter_map(|(n, m)| {
            if n < here {
                mapping.rest.then(|| serves(m))
            } else if m.rest && no_value.len() == mapping.targets.len() {
                Some(format!("({} AND {})", no_value.join(" AND "), serves(m)))
            } else {
                None
            }
        })
        .collect()
}

/// The old columns are what a reverse mapping gives.
fn maps_back(reverse: &Mapping, alias: &str) -> String {
    let range = ident(&reverse.alias);
    let mut columns: Vec<&str> = reverse.reads.iter().map(String::as_str).collect();
    columns.extend(reverse.targets.iter().map(|t| t.column.as_str()));
    columns.sort_unstable();
    columns.dedup();
    let row: Vec<_> = columns
        .iter()
        .map(|c| format!("{alias}.{0} AS {0}", ident(c)))
        .collect();
    let from = reverse.from.as_ref();
    let from = from.map(|f| format!(", {f}\n")).unwrap_or_default();
    let mut filter: Vec<String> = reverse.condition.iter().map(|c| paren(c)).collect();
    filter.extend(
        reverse
            .targets
            .iter()
            .filter(|t| !t.volatile)
            .map(|t| same(&range, t)),
    );
    if filter.is_empty() {
        filter.push("true".to_owned());
    }
    format!(
        "EXISTS (SELECT 1 FROM (SELECT {}) AS {range}{from} WHERE {})",
        row.join(", "),
        filter.join(" AND ")
    )
}

#[cfg(test)]
mod tests {
    use super::is_text;

    #[test]
    fn types_whose_values_a_collation_compares() {
        for (type_name, text) in [
            ("text", true),
            ("text[]", true),
            ("name", true),
            ("bpchar", true),
            ("character(4)", true),
            ("character varying", true),
            ("character varying(40)[]", true),
            ("citext", false),
            ("\"char\"", false),
            ("bigint", false),
            ("jsonb", false),
        ] {
            assert_eq!(is_text(type_name), text, "{type_name}");
        }
    }
}
