//! The facts that a plan relies on, flat and comparable.
//!
//! A plan file keeps them; before it runs they are read again, and any difference is named.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Catalog, Column, Granted, Object, QName, RelKind, Table};

/// Every schema fact of the catalog, by a stable key such as
/// `table public.orders column total` → `numeric(10,2) not null default 0`.
///
/// Without what changes while the schema stays: sizes, row counts, object ids, the minor version.
/// Names that are not plain lower-case identifiers are quoted, so that keys are never ambiguous.
pub fn facts(catalog: &Catalog) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    facts.insert("database".to_owned(), catalog.database.clone());
    facts.insert("role".to_owned(), catalog.role.clone());
    let path: Vec<String> = catalog.search_path.iter().map(|s| ident(s)).collect();
    let path = if path.is_empty() {
        "(empty)".to_owned()
    } else {
        path.join(", ")
    };
    facts.insert("search_path".to_owned(), path);
    facts.insert("server version".to_owned(), catalog.major().to_string());
    for (name, kind) in &catalog.relations {
        let mut fact = kind_text(*kind).to_owned();
        for statement in catalog.views.get(name).iter().flat_map(|v| &v.recreate) {
            let _ = write!(fact, "; {statement}");
        }
        facts.insert(format!("relation {}", qualified(name)), fact);
    }
    for (name, overloads) in &catalog.functions {
        for function in overloads {
            let key = format!("function {}({})", qualified(name), function.arguments);
            facts.insert(key, function.definition.clone());
        }
    }
    for object in catalog.objects.iter().filter(|o| !o.made) {
        let key = format!("object {} {}", object.class.as_str(), object.identity);
        facts.insert(key, object_text(object));
    }
    for default in &catalog.default_rights {
        let schema = default.schema.as_deref().unwrap_or("(any)");
        let key = format!(
            "default rights of {} in {} on {}",
            ident(&default.role),
            ident(schema),
            default.kind
        );
        facts.insert(key, rights_text(&default.grants));
    }
    for table in catalog.tables.values() {
        table_facts(table, &mut facts);
    }
    facts
}

fn object_text(object: &Object) -> String {
    let mut parts = Vec::new();
    if !object.owner.is_empty() {
        parts.push(format!("owner {}", ident(&object.owner)));
    }
    if !object.grants.is_empty() {
        parts.push(rights_text(&object.grants));
    }
    parts.extend(object.comment.iter().map(|c| format!("comment {c}")));
    let columns = &object.column_comments;
    parts.extend(
        columns
            .iter()
            .map(|(c, text)| format!("comment on {} {text}", ident(c))),
    );
    if !object.options.is_empty() {
        parts.push(format!("options {}", object.options.join(", ")));
    }
    parts.extend(object.definition.clone());
    parts.join("; ")
}

fn rights_text(grants: &[Granted]) -> String {
    let texts: Vec<String> = grants
        .iter()
        .map(|g| {
            let column = g
                .column
                .as_ref()
                .map_or_else(String::new, |c| format!(" ({})", ident(c)));
            let option = if g.grantable {
                " with grant option"
            } else {
                ""
            };
            let role = g
                .grantee
                .as_ref()
                .map_or_else(|| "PUBLIC".to_owned(), |r| ident(r));
            format!("{}{column} to {role}{option}", g.privilege)
        })
        .collect();
    texts.join(", ")
}

fn table_facts(table: &Table, facts: &mut BTreeMap<String, String>) {
    let key = format!("table {}", qualified(&table.name));
    let mut add = |rest: String, value: String| {
        facts.insert(format!("{key} {rest}"), value);
    };
    let owned = if table.owned {
        "may alter it"
    } else {
        "may not alter it"
    };
    add(
        "owner".to_owned(),
        format!("{} (the current role {owned})", ident(&table.owner)),
    );
    let row_security = if table.row_security {
        "applies to the current role"
    } else {
        "does not apply"
    };
    add("row security".to_owned(), row_security.to_owned());
    let parts = &table.partitioning;
    let default = parts.default.as_ref().map(qualified);
    for (what, value) in [
        ("partition key", parts.key.as_ref()),
        ("default partition", default.as_ref()),
        ("bound", parts.bound.as_ref()),
    ] {
        if let Some(value) = value {
            add(what.to_owned(), value.clone());
        }
    }
    let settings = &table.settings;
    for (what, value) in [
        ("tablespace", &settings.tablespace),
        ("access method", &settings.access_method),
    ] {
        if let Some(value) = value {
            add(what.to_owned(), value.clone());
        }
    }
    if !settings.options.is_empty() {
        add("options".to_owned(), settings.options.join(", "));
    }
    if settings.row_security {
        let forced = if settings.force_row_security {
            "forced"
        } else {
            "enabled"
        };
        add("row level security".to_owned(), forced.to_owned());
    }
    if !matches!(settings.replica_identity.as_str(), "" | "DEFAULT") {
        add(
            "replica identity".to_owned(),
            settings.replica_identity.clone(),
        );
    }
    if table.inherited {
        add("inheritance children".to_owned(), "yes".to_owned());
    }
    if let Some(parent) = &table.partition_of {
        add("partition of".to_owned(), qualified(parent));
    }
    for column in &table.columns {
        let name = ident(&column.name);
        add(format!("column {name}"), column_text(column));
        if let Some(comment) = &column.comment {
            add(format!("column {name} comment"), comment.clone());
        }
    }
    for (column, dependents) in &table.dependents {
        for dependent in dependents {
            add(
                format!("column {} dependent {dependent}", ident(column)),
                "yes".to_owned(),
            );
        }
    }
    for index in &table.indexes {
        let mut text = index.definition.clone();
        if !index.valid {
            text.push_str(" (invalid)");
        }
        if index.constraint {
            text.push_str(" (of a constraint)");
        }
        add(format!("index {}", ident(&index.name)), text);
    }
    for constraint in &table.constraints {
        let mut text = constraint.definition.clone();
        if !constraint.validated && !text.contains("NOT VALID") {
            text.push_str(" (not validated)");
        }
        add(format!("constraint {}", ident(&constraint.name)), text);
    }
    for (other, constraint) in &table.referenced_by {
        add(
            format!(
                "referenced by {} constraint {}",
                qualified(other),
                ident(constraint)
            ),
            "yes".to_owned(),
        );
    }
    for grant in &table.grants {
        let on = grant
            .column
            .as_ref()
            .map_or_else(String::new, |c| format!(" of column {}", ident(c)));
        let to = grant
            .grantee
            .as_ref()
            .map_or_else(|| "PUBLIC".to_owned(), |role| ident(role));
        let option = if grant.grantable {
            "with grant option"
        } else {
            "yes"
        };
        add(
            format!("right {}{on} of {to}", grant.privilege),
            option.to_owned(),
        );
    }
    for trigger in &table.triggers {
        let mut text = trigger.definition.clone();
        if !trigger.enabled {
            text.push_str(" (disabled)");
        }
        add(format!("trigger {}", ident(&trigger.name)), text);
    }
    for leaf in &table.leaves {
        let mut text = kind_text(leaf.kind).to_owned();
        if !leaf.access_method.is_empty() {
            let _ = write!(text, ", {}", leaf.access_method);
        }
        if leaf.oid == table.oid {
            add("storage".to_owned(), text);
        } else {
            add(format!("partition {}", qualified(&leaf.name)), text);
        }
    }
    facts.insert(key, kind_text(table.kind).to_owned());
}

fn column_text(column: &Column) -> String {
    let mut text = column.type_name.clone();
    if column.not_null {
        text.push_str(" not null");
    }
    if let Some(how) = &column.identity {
        let _ = write!(text, " generated {} as identity", how.to_lowercase());
    }
    match &column.default {
        Some(expression) if column.generated => {
            let _ = write!(text, " generated always as ({expression})");
        }
        Some(expression) => {
            let _ = write!(text, " default {expression}");
        }
        None => {}
    }
    text
}

/// What is different now, a line each: `public.orders column total: was numeric(10,2), is
/// numeric(12,2)`, `public.orders index i is gone`, `public.orders constraint c is new`.
/// The parts of something gone or new are not listed beside it. Empty where nothing changed.
pub fn changed(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let gone = whole(then, now);
    let new = whole(now, then);
    let keys: std::collections::BTreeSet<&String> = then.keys().chain(now.keys()).collect();
    let mut lines = Vec::new();
    for key in keys {
        let subject = key.strip_prefix("table ").unwrap_or(key);
        match (then.get(key), now.get(key)) {
            (Some(was), Some(is)) if was != is => {
                lines.push(format!("{subject}: was {was}, is {is}"));
            }
            (Some(_), None) if gone.contains(&key.as_str()) => {
                lines.push(format!("{subject} is gone"));
            }
            (None, Some(_)) if new.contains(&key.as_str()) => {
                lines.push(format!("{subject} is new"));
            }
            _ => {}
        }
    }
    lines
}

/// The keys of `a` that `b` lacks, without those inside another such key.
fn whole<'a>(a: &'a BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    // A key sorts after every key that it is inside of.
    for key in a.keys().filter(|key| !b.contains_key(*key)) {
        let inside = found.iter().any(|outer| {
            key.strip_prefix(outer)
                .is_some_and(|rest| rest.starts_with(' '))
        });
        if !inside {
            found.push(key);
        }
    }
    found
}

fn kind_text(kind: RelKind) -> &'static str {
    match kind {
        RelKind::Table => "table",
        RelKind::Partitioned => "partitioned table",
        RelKind::Foreign => "foreign table",
        RelKind::View => "view",
        RelKind::MaterializedView => "materialized view",
        RelKind::Sequence => "sequence",
        RelKind::Index => "index",
        RelKind::Other => "other relation",
    }
}

fn qualified(name: &QName) -> String {
    format!("{}.{}", ident(&name.schema), ident(&name.name))
}

/// Quoted unless plain; key words stay plain, since this is not for SQL.
fn ident(name: &str) -> String {
    let plain = name
        .chars()
        .next()
        .is_some_and(|c| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '$');
    if plain {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

#[cfg(test)]
mod tests;
