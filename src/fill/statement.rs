//! The statement that fills a table.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::hints::{constants, on_column};
use super::values::{pick, value};
use super::{Column, ForeignKey, Table};
use crate::sql::quote::{ident, qname};

/// Which rows a statement makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Batch {
    /// The number of the first.
    pub first: u64,
    /// Rows to try.
    pub tries: u64,
    /// Rows to keep at most.
    pub keep: u64,
    /// Share of nulls where they are allowed, 0 to 1.
    pub nulls: f64,
}

/// `INSERT` of made-up rows. Foreign keys in `left_null` stay null; the rows of all others are
/// taken from their tables, which have some.
///
/// # Errors
/// Why there is no such statement, for people.
pub fn insert(table: &Table, left_null: &BTreeSet<usize>, batch: Batch) -> Result<String, String> {
    if let Some(why) = &table.refused {
        return Err(why.clone());
    }
    let conditions: Vec<&str> = table
        .checks
        .iter()
        .map(|(_, condition)| condition.as_str())
        .chain(table.partitions.iter().map(String::as_str))
        // Any value is in some hash partition; the numbers in the condition are none of its.
        .filter(|condition| !condition.contains("satisfies_hash_partition("))
        .collect();
    let mut with = Vec::new();
    let mut joins = String::new();
    let mut taken: Vec<(String, String)> = Vec::new();
    for (n, key) in table.foreign_keys.iter().enumerate() {
        if left_null.contains(&n) {
            let free = key
                .columns
                .iter()
                .find(|name| table.column(name).is_some_and(|c| !c.not_null));
            if let Some(name) = free.filter(|name| !has(&taken, name)) {
                taken.push((name.clone(), "NULL".to_owned()));
            }
            continue;
        }
        parent_rows(n, key, &taken, &mut with, &mut joins);
        for (position, name) in key.columns.iter().enumerate() {
            if !has(&taken, name) {
                taken.push((name.clone(), format!("k{n}.r{position}")));
            }
        }
    }

    let mut names = Vec::new();
    let mut made = Vec::new();
    let mut casts = Vec::new();
    let mut filters: Vec<String> = Vec::new();
    for (number, column) in table.columns.iter().enumerate() {
        let Some(expression) = expression(column, number, &taken, &conditions, batch.nulls)? else {
            continue;
        };
        let name = ident(&column.name);
        made.push(format!("{expression} AS {name}"));
        casts.push(format!("CAST({name} AS {})", column.declared));
        filters.extend(
            column
                .domain_checks
                .iter()
                .map(|check| format!("coalesce(({}), true)", on_column(check, &name))),
        );
        names.push(name);
    }
    if names.is_empty() {
        // Every value is the server's.
        return Ok(format!(
            "INSERT INTO {} SELECT FROM generate_series(1, {})",
            qname(&table.name),
            batch.keep
        ));
    }
    // A condition that needs what the server makes cannot be judged before.
    let unknown: Vec<&Column> = table
        .columns
        .iter()
        .filter(|c| !names.contains(&ident(&c.name)))
        .collect();
    let judged = |condition: &str| !unknown.iter().any(|c| names_column(condition, &c.name));
    for (_, check) in table.checks.iter().filter(|(_, check)| judged(check)) {
        filters.push(format!("coalesce(({check}), true)"));
    }
    if !table.partitions.is_empty() && table.partitions.iter().all(|p| judged(p)) {
        filters.push(format!("({})", table.partitions.join(" OR ")));
    }

    let distinct = distinct(table, &names, &mut filters);
    let mut sql = format!(
        "INSERT INTO {} ({})\n",
        qname(&table.name),
        names.join(", ")
    );
    if !with.is_empty() {
        let _ = writeln!(sql, "WITH {}", with.join(",\n     "));
    }
    let _ = write!(
        sql,
        "SELECT {distinct}{}\nFROM (SELECT {}\n      FROM generate_series({}::bigint, {}::bigint) AS s(g){joins}) AS {}",
        casts.join(", "),
        made.join(",\n             "),
        batch.first,
        batch.first + batch.tries.max(1) - 1,
        ident(&table.name.name),
    );
    if !filters.is_empty() {
        let _ = write!(sql, "\nWHERE {}", filters.join("\n  AND "));
    }
    let _ = write!(sql, "\nLIMIT {}", batch.keep);
    if !table.deferrable_key {
        sql.push_str("\nON CONFLICT DO NOTHING");
    }
    Ok(sql)
}

/// A unique key that ON CONFLICT cannot judge: one row of each value, and none that is there.
fn distinct(table: &Table, names: &[String], filters: &mut Vec<String>) -> String {
    let key: Vec<&Column> = table
        .deferrable_columns
        .iter()
        .filter_map(|name| table.column(name))
        .filter(|c| names.contains(&ident(&c.name)))
        .collect();
    // Where the server makes a part of it, it is new each time.
    if key.is_empty() || key.len() < table.deferrable_columns.len() {
        return String::new();
    }
    let same: Vec<String> = key
        .iter()
        .map(|c| {
            let name = ident(&c.name);
            format!(
                "there.{name} = CAST({}.{name} AS {})",
                ident(&table.name.name),
                c.declared
            )
        })
        .collect();
    filters.push(format!(
        "NOT EXISTS (SELECT FROM {} AS there WHERE {})",
        qname(&table.name),
        same.join(" AND ")
    ));
    let columns: Vec<String> = key.iter().map(|c| ident(&c.name)).collect();
    format!("DISTINCT ON ({}) ", columns.join(", "))
}

fn has(taken: &[(String, String)], name: &str) -> bool {
    taken.iter().any(|(column, _)| column == name)
}

fn names_column(condition: &str, name: &str) -> bool {
    use crate::sql::lex::{ident_value, lex_code};
    lex_code(condition)
        .iter()
        .any(|t| ident_value(*t, condition).as_deref() == Some(name))
}

/// The rows that a foreign key can reference, and the join that takes one for each new row.
fn parent_rows(
    n: usize,
    key: &ForeignKey,
    taken: &[(String, String)],
    with: &mut Vec<String>,
    joins: &mut String,
) {
    let columns: Vec<String> = key
        .references
        .iter()
        .enumerate()
        .map(|(position, name)| format!("{} AS r{position}", ident(name)))
        .collect();
    let filled: Vec<String> = key
        .references
        .iter()
        .map(|name| format!("{} IS NOT NULL", ident(name)))
        .collect();
    with.push(format!(
        "k{n} AS MATERIALIZED (SELECT row_number() OVER () - 1 AS n, t.* FROM (SELECT {} FROM {} \
         WHERE {} LIMIT 10000) AS t)",
        columns.join(", "),
        qname(&key.table),
        filled.join(" AND ")
    ));
    // Columns that an earlier key gave a value must be the same here.
    let shared: Vec<String> = key
        .columns
        .iter()
        .enumerate()
        .filter_map(|(position, name)| {
            let (_, given) = taken.iter().find(|(column, _)| column == name)?;
            Some(format!("r{position} = {given}"))
        })
        .collect();
    if shared.is_empty() {
        // The first key takes its rows in turn, so that one row each is possible; further ones
        // shift at each turn, so that pairs differ.
        let turn = if n == 0 {
            "g".to_owned()
        } else {
            format!(
                "g * {} + g / nullif((SELECT count(*) FROM k0), 0)",
                n * 2 - 1
            )
        };
        let turn = if n > 0 && !with.iter().any(|w| w.starts_with("k0 ")) {
            "g".to_owned()
        } else {
            turn
        };
        let _ = write!(
            joins,
            "\n      JOIN k{n} ON k{n}.n = ({turn}) % (SELECT count(*) FROM k{n})"
        );
    } else {
        let _ = write!(
            joins,
            "\n      JOIN LATERAL (SELECT * FROM k{n} AS o WHERE {} \
             ORDER BY hashint8extended(o.n, g) LIMIT 1) AS k{n} ON true",
            shared
                .iter()
                .map(|s| format!("o.{s}"))
                .collect::<Vec<_>>()
                .join(" AND ")
        );
    }
}

/// The value of a column; `None` where the server makes it.
fn expression(
    column: &Column,
    number: usize,
    taken: &[(String, String)],
    conditions: &[&str],
    nulls: f64,
) -> Result<Option<String>, String> {
    if column.by_server {
        return Ok(None);
    }
    let salt = number as u32 * 16 + 1;
    let given = taken.iter().find(|(name, _)| *name == column.name);
    let expression = if let Some((_, given)) = given {
        given.clone()
    } else {
        let mut values = constants(&column.name, conditions.iter().copied());
        values.extend(constants(
            "value",
            column.domain_checks.iter().map(String::as_str),
        ));
        let judged = !column.domain_checks.is_empty()
            || conditions.iter().any(|c| names_column(c, &column.name));
        match value(&column.value, salt, judged, &values) {
            Some(expression) => expression,
            None if column.not_null && !column.has_default => {
                return Err(format!(
                    "column {} is NOT NULL and of type {}, for which no values can be made up",
                    column.name, column.declared
                ));
            }
            None => return Ok(None),
        }
    };
    if column.not_null || nulls <= 0.0 || expression == "NULL" {
        return Ok(Some(expression));
    }
    Ok(Some(format!(
        "CASE WHEN {} < {} THEN NULL ELSE {expression} END",
        pick(salt + 9, 1000),
        (nulls.min(1.0) * 1000.0).round() as u64
    )))
}
