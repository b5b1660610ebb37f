//! Names and statements that several parts of planning build in the same way.

use std::collections::HashSet;

use crate::catalog::{Catalog, Constraint, ConstraintKind, RelKind, Table};
use crate::sql::ddl::{AlterOp, AlterOpKind};
use crate::sql::lex::{TokenKind, ident_value, lex_code};
use crate::sql::{RelName, quote};

/// First release where NOT NULL is a constraint that can be NOT VALID, and where a foreign key of
/// a partitioned table can be.
pub(crate) const NOT_NULL_CONSTRAINTS: u32 = 18;

/// The relation that a name means, with its schema where the catalog knows it.
pub fn existing(catalog: &Catalog, name: &RelName) -> RelName {
    if name.schema.is_some() {
        return name.clone();
    }
    let found = |schema: &&String| {
        let relation = crate::catalog::QName::new(schema.as_str(), name.name.as_str());
        catalog.tables.contains_key(&relation)
            || catalog.relations.contains_key(&relation)
            || catalog.index(Some(schema.as_str()), &name.name).is_some()
    };
    RelName {
        schema: catalog.search_path.iter().find(found).cloned(),
        name: name.name.clone(),
    }
}

/// The name of something that a statement creates: an unqualified one goes to the first schema of
/// the search path.
pub fn created(catalog: &Catalog, name: &RelName) -> RelName {
    RelName {
        schema: name
            .schema
            .clone()
            .or_else(|| catalog.search_path.first().cloned()),
        name: name.name.clone(),
    }
}

/// The table of this name.
pub(crate) fn table<'a>(catalog: &'a Catalog, name: &RelName) -> Option<&'a Table> {
    catalog.table(name.schema.as_deref(), &name.name)
}

/// What the relation of this name is; `None` where the catalog does not have it.
pub(crate) fn kind(catalog: &Catalog, name: &RelName) -> Option<RelKind> {
    if let Some(table) = table(catalog, name) {
        return Some(table.kind);
    }
    let resolved = existing(catalog, name);
    let schema = resolved.schema?;
    if catalog.index(Some(&schema), &resolved.name).is_some() {
        return Some(RelKind::Index);
    }
    catalog
        .relations
        .get(&crate::catalog::QName::new(schema, resolved.name))
        .copied()
}

/// `{table}_{columns}_{suffix}`, as PostgreSQL names a constraint that has no name, made unique
/// with a number among the constraints and indexes of the table. Where that is too long for the
/// server, a stable cut of it.
pub(crate) fn constraint_name(table: &Table, columns: &[String], suffix: &str) -> String {
    let mut parts = vec![table.name.name.as_str()];
    parts.extend(columns.iter().map(String::as_str));
    parts.push(suffix);
    let base = parts.join("_");
    // What follows the base in the names that are there: nothing, or a number.
    let all = table.constraints.iter().map(|c| c.name.as_str());
    let taken: HashSet<&str> = all
        .chain(table.indexes.iter().map(|i| i.name.as_str()))
        .filter_map(|name| name.strip_prefix(base.as_str()))
        .collect();
    let mut end = String::new();
    let mut number = 0_usize;
    while taken.contains(end.as_str()) {
        number += 1;
        end = number.to_string();
    }
    let name = format!("{base}{end}");
    if name.len() <= crate::sql::lex::MAX_IDENT {
        name
    } else {
        quote::derived_name("", &base, &format!("{} {name}", table.name))
    }
}

/// The column cannot be null already: it says so, or a valid CHECK (column IS NOT NULL) proves it
/// to SET NOT NULL without a scan (since PostgreSQL 12).
pub(crate) fn proven_not_null(table: &Table, column: &str) -> bool {
    table.column(column).is_some_and(|c| c.not_null)
        || table
            .constraints
            .iter()
            .any(|c| c.validated && is_not_null_check(c, column))
}

/// The constraints that one ALTER TABLE drops although its own SET NOT NULL would need them as
/// proof: the server runs all drops of a statement first, and then has to scan.
pub(crate) fn dropped_proofs<'a>(table: &Table, ops: &'a [AlterOp]) -> Vec<&'a str> {
    let set: Vec<&str> = ops
        .iter()
        .filter_map(|op| match &op.kind {
            AlterOpKind::SetNotNull { column } => Some(column.as_str()),
            _ => None,
        })
        .filter(|column| table.column(column).is_some_and(|c| !c.not_null))
        .collect();
    ops.iter()
        .filter_map(|op| match &op.kind {
            AlterOpKind::DropConstraint { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .filter(|name| {
            table.constraint(name).is_some_and(|c| {
                c.validated && set.iter().any(|column| is_not_null_check(c, column))
            })
        })
        .collect()
}

/// `CHECK ((column IS NOT NULL))`, in as many parentheses as may be.
fn is_not_null_check(constraint: &Constraint, column: &str) -> bool {
    if constraint.kind != ConstraintKind::Check {
        return false;
    }
    let text = constraint.definition.as_str();
    let words: Option<Vec<String>> = lex_code(text)
        .into_iter()
        .filter(|t| !matches!(t.kind, TokenKind::LParen | TokenKind::RParen))
        .map(|t| ident_value(t, text))
        .collect();
    words.is_some_and(|words| {
        matches!(
            words.iter().map(String::as_str).collect::<Vec<_>>()[..],
            ["check", name, "is", "not", "null"] if name == column
        )
    })
}

/// Statements that make a column NOT NULL without a scan under a lock that blocks. Each must be
/// committed before the next. `head` is `ALTER TABLE …`.
///
/// Before 18: a CHECK that is NOT VALID, its validation (which lets writes go on), SET NOT NULL
/// (which the CHECK proves without a scan), and the CHECK goes. From 18 NOT NULL itself can be
/// NOT VALID.
pub(crate) fn not_null_steps(
    head: &str,
    table: &Table,
    column: &str,
    major: u32,
    name: Option<&str>,
) -> Vec<NotNullStep> {
    let ident = quote::ident(column);
    let step = |sql: String, validates: bool| NotNullStep { sql, validates };
    if major >= NOT_NULL_CONSTRAINTS {
        // One that is NOT VALID already cannot be added again.
        let there = table
            .constraints
            .iter()
            .find(|c| c.kind == ConstraintKind::NotNull && c.columns == [column]);
        if let Some(there) = there {
            let name = quote::ident(&there.name);
            return vec![step(format!("{head} VALIDATE CONSTRAINT {name}"), true)];
        }
        let name = quote::ident(&name.map_or_else(
            || constraint_name(table, &[column.to_owned()], "not_null"),
            str::to_owned,
        ));
        return vec![
            step(
                format!("{head} ADD CONSTRAINT {name} NOT NULL {ident} NOT VALID"),
                false,
            ),
            step(format!("{head} VALIDATE CONSTRAINT {name}"), true),
        ];
    }
    let check = quote::ident(&quote::derived_name(
        "pgshift_",
        &format!("{}_{column}_not_null", table.name.name),
        &format!("{} {column} not null", table.name),
    ));
    vec![
        step(
            format!("{head} ADD CONSTRAINT {check} CHECK ({ident} IS NOT NULL) NOT VALID"),
            false,
        ),
        step(format!("{head} VALIDATE CONSTRAINT {check}"), true),
        step(format!("{head} ALTER COLUMN {ident} SET NOT NULL"), false),
        step(format!("{head} DROP CONSTRAINT {check}"), false),
    ]
}

/// One of [`not_null_steps`].
pub(crate) struct NotNullStep {
    /// The statement.
    pub(crate) sql: String,
    /// Reads the whole table, without blocking writes.
    pub(crate) validates: bool,
}

/// `CREATE INDEX …` with CONCURRENTLY put in; `None` where the text is no CREATE INDEX.
pub(crate) fn concurrently(definition: &str) -> Option<String> {
    match crate::sql::ddl::understand(definition) {
        crate::sql::ddl::Action::CreateIndex {
            after_index,
            concurrently,
            ..
        } => Some(if concurrently {
            definition.to_owned()
        } else {
            let (before, after) = definition.split_at(after_index);
            format!("{before} CONCURRENTLY{after}")
        }),
        _ => None,
    }
}
