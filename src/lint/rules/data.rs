//! Rules about changes of rows.

use crate::lint::context::Cx;
use crate::lint::read::{Reach, reach};
use crate::lint::{Rule, Severity};
use crate::sql::RelName;
use crate::sql::ddl::Action;

static BULK_CHANGE: Rule = Rule {
    id: "PS601",
    slug: "bulk-change",
    severity: Severity::Warning,
    since: 14,
    summary: "An UPDATE or DELETE of many rows in one transaction.",
    why: "Every row that it changes stays locked until the commit: applications that write one of \
          them wait. It writes a version of each row and its index entries at once, which a \
          standby has to replay and VACUUM cannot clean up before the end. A statement whose WHERE \
          gives a key is no finding, nor is one that takes a limited number of rows.",
    safe: "batches of some thousand rows, each committed: a `-- pgshift: backfill` section, or a \
           loop outside of the migration",
    bad: "UPDATE orders SET region = 'eu' WHERE region IS NULL;",
    good: "UPDATE orders SET region = 'eu' WHERE id IN (SELECT id FROM orders WHERE region IS NULL LIMIT 1000);",
};

pub(super) static RULES: [&Rule; 1] = [&BULK_CHANGE];

/// Columns that name one thing, where the keys of the table are not known.
const NAMES: &str = "id uuid key name code slug username email version identifier";

pub(super) fn check(cx: &mut Cx<'_>) {
    let (table, what) = match &cx.unit.action {
        Action::Update { table } => (table, "UPDATE"),
        Action::Delete { table } => (table, "DELETE"),
        _ => return,
    };
    if !cx.heavy(table) || cx.unit.batched || cx.pgshift() {
        return;
    }
    let rows = match reach(&cx.unit.sql) {
        Reach::Limited => return,
        Reach::Given(columns) if is_key(cx, table, &columns) => return,
        Reach::All => "every row",
        _ => "many rows",
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
