//! Rules about changes of rows.

use crate::lint::context::Cx;
use crate::lint::read::{Reach, merge_source, reach};
use crate::lint::{Rule, Severity};
use crate::plan::locks::reads;
use crate::sql::RelName;
use crate::sql::ddl::Action;

static BULK_CHANGE: Rule = Rule {
    id: "PS601",
    slug: "bulk-change",
    severity: Severity::Warning,
    since: 14,
    summary: "An UPDATE, DELETE or MERGE of many rows in one transaction.",
    why: "Every row that it changes stays locked until the commit: applications that write one of \
          them wait. It writes a version of each row and its index entries at once, which a \
          standby has to replay and VACUUM cannot clean up before the end. A statement whose WHERE \
          gives a key is no finding, nor is one that takes a limited number of rows; nor a MERGE \
          of rows that it names, or of a small table. An INSERT … SELECT of a whole table is one \
          where that is known to be large.",
    safe: "batches of some thousand rows, each committed: a `-- pgshift: backfill` section, or a \
           loop outside of the migration",
    bad: "UPDATE orders SET region = 'eu' WHERE region IS NULL;",
    good: "UPDATE orders SET region = 'eu' WHERE id IN (SELECT id FROM orders WHERE region IS NULL LIMIT 1000);",
};

pub(super) static RULES: [&Rule; 1] = [&BULK_CHANGE];

/// Columns that name one thing, where the keys of the table are not known.
const NAMES: &str = "id uuid key name code slug username email version identifier";

pub(super) fn check(cx: &mut Cx<'_>) {
    if cx.unit.batched {
        return;
    }
    let unit = cx.unit;
    match &unit.action {
        Action::Writes { parts } => {
            for (action, span) in parts {
                part(cx, action, span.of(&unit.sql));
            }
        }
        action => part(cx, action, &unit.sql),
    }
}

/// INSERT, UPDATE, DELETE or MERGE, with its text.
fn part(cx: &mut Cx<'_>, action: &Action, sql: &str) {
    // What pgshift divides into batches, or refuses.
    let planned = cx.pgshift()
        && matches!(
            cx.unit.action,
            Action::Update { .. } | Action::Delete { .. }
        );
    let (table, what) = match action {
        Action::Update { table } => (table, "UPDATE"),
        Action::Delete { table } => (table, "DELETE"),
        Action::Merge { table } => (table, "MERGE"),
        Action::Insert { table } => return insert(cx, table, sql),
        _ => return,
    };
    if !cx.heavy(table) || planned {
        return;
    }
    let rows = if what == "MERGE" {
        match merge_source(sql) {
            Reach::Limited => return,
            Reach::Given(source) if source.first().is_some_and(|s| is_small(cx, s)) => return,
            _ => "many rows",
        }
    } else {
        match reach(sql) {
            Reach::Limited => return,
            Reach::Given(columns) if is_key(cx, table, &columns) => return,
            Reach::All => "every row",
            _ => "many rows",
        }
    };
    let finding = cx
        .found(
            &BULK_CHANGE,
            cx.whole(),
            format!(
                "{what} of {rows} of {}{} in one transaction: each stays locked until the commit",
                cx.named(table),
                cx.facts(table)
            ),
        )
        .relation(table);
    cx.report(finding);
}

/// INSERT … SELECT of all rows of a table that is known to be large. Nobody waits for new rows,
/// but they are written, and replayed by standbys, all at once.
fn insert(cx: &mut Cx<'_>, table: &RelName, sql: &str) {
    if reach(sql) != Reach::All {
        return;
    }
    let large = |name: &RelName| name != table && cx.world.size(name).is_some() && cx.heavy(name);
    let Some(from) = reads(sql).into_iter().find(large) else {
        return;
    };
    let finding = cx
        .found(
            &BULK_CHANGE,
            cx.whole(),
            format!(
                "INSERT of every row of {}{} into {} in one transaction",
                cx.named(&from),
                cx.facts(&from),
                cx.named(table)
            ),
        )
        .relation(table);
    cx.report(finding);
}

/// A table made in this file, or known to be small, by the name as written.
fn is_small(cx: &Cx<'_>, name: &str) -> bool {
    let (schema, name) = match name.split_once('.') {
        Some((schema, name)) => (Some(schema.to_owned()), name),
        None => (None, name),
    };
    !cx.heavy(&RelName {
        schema,
        name: name.to_owned(),
    })
}

/// One row, or few, are meant.
fn is_key(cx: &Cx<'_>, table: &RelName, columns: &[String]) -> bool {
    let mut keys = cx
        .table(table)
        .into_iter()
        .flat_map(|t| t.indexes.iter().filter(|i| i.unique))
        .peekable();
    let known = keys.peek().is_some();
    keys.any(|k| !k.columns.is_empty() && k.columns.iter().all(|c| columns.contains(c)))
        || !known
            && columns
                .iter()
                .any(|c| NAMES.split_ascii_whitespace().any(|n| n == c))
}
