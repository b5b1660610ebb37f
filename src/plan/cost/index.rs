//! What building an index needs of the disk.

use super::{Bytes, Disk, Server};
use crate::catalog::{Catalog, Table};
use crate::plan::draft::Draft;
use crate::plan::step::{Estimate, Step, Work};
use crate::sql::ddl::{Action, understand};
use crate::sql::dml::identifiers;

/// Header of an entry and its line pointer.
const ENTRY: f64 = 12.0;
/// A btree is built with pages this full (`fillfactor` of indexes).
const FULL: f64 = 0.9;
/// A value whose width its type does not tell.
const VALUE: i64 = 16;
/// What sorting keeps beside an entry.
const SORT: f64 = 8.0;

/// The width of a type's values in bytes, aligned.
fn width(type_name: &str) -> i64 {
    let base = type_name
        .split(['(', '['])
        .next()
        .unwrap_or_default()
        .trim();
    match base.to_ascii_lowercase().as_str() {
        "bool" | "boolean" | "smallint" | "int2" | "integer" | "int" | "int4" | "real" | "date"
        | "float4" | "oid" | "bigint" | "int8" | "bigserial" | "serial" | "float8"
        | "double precision" | "money" => 8,
        base if base.starts_with("timestamp") || base.starts_with("time ") => 8,
        _ => VALUE,
    }
}

/// Says what a step that builds an index needs, where that is known: the index and the files of
/// its sort.
pub(in crate::plan) fn build(draft: &Draft<'_>, server: Server, step: &mut Step) {
    let Work::Concurrent {
        sql, drops: false, ..
    } = &step.work
    else {
        return;
    };
    let Action::CreateIndex { table, .. } = understand(sql) else {
        return;
    };
    let catalog: &Catalog = draft.catalog;
    let Some(table) = catalog.table(table.schema.as_deref(), &table.name) else {
        return;
    };
    let keys = key_width(draft, table, sql);
    let rows = step.estimate.rows.unwrap_or(table.rows).max(0) as f64;
    let bytes = (rows * (ENTRY + keys as f64) / FULL) as i64;
    let sorted = (rows * (ENTRY + SORT + keys as f64)) as i64;
    step.estimate = Estimate {
        wal: Some(Bytes {
            likely: bytes,
            most: bytes,
        }),
        disk: Some(Disk {
            new_indexes: bytes,
            temporary: if sorted > server.maintenance {
                sorted
            } else {
                0
            },
            pg_wal: server.max_wal,
            ..Disk::default()
        }),
        ..std::mem::take(&mut step.estimate)
    };
}

/// Bytes of the columns that the index names, by their types.
fn key_width(draft: &Draft<'_>, table: &Table, sql: &str) -> i64 {
    let keys = sql.find('(').map_or("", |at| &sql[at..]);
    let mut names: Vec<String> = identifiers(keys).into_iter().map(|(_, n, _)| n).collect();
    names.sort();
    names.dedup();
    let widths = names.iter().filter_map(|name| {
        table.column(name).map(|c| width(&c.type_name)).or_else(|| {
            draft
                .new_column(&table.name, name)
                .map(|c| width(&c.def.type_text))
        })
    });
    let all: i64 = widths.sum();
    if all == 0 { VALUE } else { all }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_types() {
        for (name, is) in [
            ("bigint", 8),
            ("timestamp with time zone", 8),
            ("text", 16),
            ("varchar(9)", 16),
        ] {
            assert_eq!(width(name), is, "{name}");
        }
    }
}
