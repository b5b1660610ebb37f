//! Rules about indexes.

use crate::catalog::RelKind;
use crate::lint::context::Cx;
use crate::lint::{Rule, Severity};
use crate::lock::LockMode;
use crate::plan::forms::kind;
use crate::sql::ddl::{Action, ReindexTarget};

static CREATE_INDEX: Rule = Rule {
    id: "PS101",
    slug: "create-index-blocking",
    severity: Severity::Error,
    since: 14,
    summary: "CREATE INDEX without CONCURRENTLY on a table in use.",
    why: "It holds SHARE on the table while the index is built: every INSERT, UPDATE and DELETE \
          waits, for seconds to hours. CONCURRENTLY takes only SHARE UPDATE EXCLUSIVE, which \
          writes do not wait for; it takes longer, cannot be in a transaction block, and leaves \
          an invalid index where it fails.",
    safe: "CREATE INDEX CONCURRENTLY, outside of a transaction",
    bad: "CREATE INDEX orders_email ON orders (email);",
    good: "CREATE INDEX CONCURRENTLY orders_email ON orders (email);",
};

static DROP_INDEX: Rule = Rule {
    id: "PS102",
    slug: "drop-index-blocking",
    severity: Severity::Warning,
    since: 14,
    summary: "DROP INDEX without CONCURRENTLY on a table in use.",
    why: "It takes ACCESS EXCLUSIVE on the table. Dropping is quick, but it waits for every \
          transaction that has read the table, and every statement that comes after waits behind \
          it.",
    safe: "DROP INDEX CONCURRENTLY, outside of a transaction",
    bad: "DROP INDEX orders_email;",
    good: "DROP INDEX CONCURRENTLY orders_email;",
};

static REINDEX: Rule = Rule {
    id: "PS103",
    slug: "reindex-blocking",
    severity: Severity::Error,
    since: 14,
    summary: "REINDEX without CONCURRENTLY.",
    why: "It blocks writes of the table, and ACCESS EXCLUSIVE on the index stops every query whose \
          planning looks at it, while the index is built.",
    safe: "REINDEX … CONCURRENTLY, outside of a transaction",
    bad: "REINDEX TABLE orders;",
    good: "REINDEX TABLE CONCURRENTLY orders;",
};

static CONCURRENT_IF_NOT_EXISTS: Rule = Rule {
    id: "PS104",
    slug: "concurrent-index-if-not-exists",
    severity: Severity::Note,
    since: 14,
    summary: "CREATE INDEX CONCURRENTLY IF NOT EXISTS takes an invalid leftover for the index.",
    why: "A concurrent build that fails leaves an index that is not valid: no query uses it, every \
          write pays for it, and a unique one may still refuse rows. IF NOT EXISTS finds it by \
          name, and the migration succeeds without an index.",
    safe: "DROP INDEX CONCURRENTLY IF EXISTS first, then CREATE INDEX CONCURRENTLY",
    bad: "CREATE INDEX CONCURRENTLY IF NOT EXISTS orders_email ON orders (email);",
    good: "DROP INDEX CONCURRENTLY IF EXISTS orders_email;\n\
           CREATE INDEX CONCURRENTLY orders_email ON orders (email);",
};

static PARTITIONED: Rule = Rule {
    id: "PS105",
    slug: "partitioned-index-concurrently",
    severity: Severity::Error,
    since: 14,
    summary: "CREATE INDEX CONCURRENTLY on a partitioned table.",
    why: "The server refuses it.",
    safe: "CREATE INDEX … ON ONLY the parent, then CREATE INDEX CONCURRENTLY on each partition, \
           and ALTER INDEX … ATTACH PARTITION",
    bad: "CREATE TABLE events (at date) PARTITION BY RANGE (at);\n\
          CREATE INDEX CONCURRENTLY events_at ON events (at);",
    good: "CREATE TABLE events (at date) PARTITION BY RANGE (at);\n\
           CREATE INDEX events_at ON ONLY events (at);",
};

pub(super) static RULES: [&Rule; 5] = [
    &CREATE_INDEX,
    &DROP_INDEX,
    &REINDEX,
    &CONCURRENT_IF_NOT_EXISTS,
    &PARTITIONED,
];

pub(super) fn check(cx: &mut Cx<'_>) {
    match &cx.unit.action {
        Action::CreateIndex {
            table,
            only,
            concurrently,
            if_not_exists,
            unique,
            name,
            ..
        } => {
            let dropped = name.as_ref().is_some_and(|n| cx.world.dropped(&n.name));
            let partitioned = kind(cx.world.catalog(), table) == Some(RelKind::Partitioned);
            if *concurrently {
                if partitioned && !only {
                    let finding = cx.found(
                        &PARTITIONED,
                        cx.whole(),
                        format!("{table} is partitioned: CONCURRENTLY does not work there"),
                    );
                    cx.report(finding);
                } else if *if_not_exists && !cx.pgshift() && !dropped {
                    let finding = cx.found(
                        &CONCURRENT_IF_NOT_EXISTS,
                        cx.whole(),
                        "IF NOT EXISTS takes an invalid index, left by a build that failed, for \
                         the one wanted"
                            .to_owned(),
                    );
                    cx.report(finding);
                }
                return;
            }
            if !cx.heavy(table) || partitioned && *only {
                return;
            }
            let what = if *unique {
                "CREATE UNIQUE INDEX"
            } else {
                "CREATE INDEX"
            };
            let mut finding = cx.found(
                &CREATE_INDEX,
                cx.whole(),
                format!(
                    "{what} blocks writes to {}{} while the index is built",
                    cx.named(table),
                    cx.facts(table)
                ),
            );
            if partitioned {
                finding = finding.help(PARTITIONED.safe);
            } else if cx.unit.in_block && !cx.pgshift() {
                finding = finding.help(format!(
                    "CREATE INDEX CONCURRENTLY; {}",
                    cx.script.runner.without_transaction()
                ));
            }
            let finding = cx.with_safe_form(finding.on(cx, table, LockMode::Share));
            cx.report(finding);
        }
        Action::DropIndex {
            names,
            concurrently: false,
            ..
        } => {
            let used: Vec<String> = names
                .iter()
                .filter(|n| !cx.world.is_fresh_index(n) && !cx.world.dropped(&n.name))
                .map(ToString::to_string)
                .collect();
            if used.is_empty() {
                return;
            }
            let index = &names[0];
            let table = cx
                .world
                .catalog()
                .index(index.schema.as_deref(), &index.name)
                .map(|(table, _)| crate::sql::RelName::from(&table.name));
            let on = table
                .as_ref()
                .map_or_else(|| "its table".to_owned(), |t| cx.named(t));
            let mut finding = cx.found(
                &DROP_INDEX,
                cx.whole(),
                format!(
                    "DROP INDEX {} waits for everyone who uses {on}, and everyone waits behind it",
                    used.join(", ")
                ),
            );
            if let Some(table) = &table {
                finding = finding.on(cx, table, LockMode::AccessExclusive);
            }
            let finding = cx.with_safe_form(finding);
            cx.report(finding);
        }
        Action::Reindex {
            target,
            name,
            concurrently: false,
            ..
        } => {
            let fresh = name
                .as_ref()
                .is_some_and(|n| cx.world.is_fresh(n) || cx.world.is_fresh_index(n));
            let small =
                *target == ReindexTarget::Table && name.as_ref().is_some_and(|n| !cx.heavy(n));
            if fresh || small {
                return;
            }
            let what = name
                .as_ref()
                .map_or_else(|| "whole database".to_owned(), ToString::to_string);
            let finding = cx.found(
                &REINDEX,
                cx.whole(),
                format!("REINDEX of {what} blocks writes, and queries that look at the indexes"),
            );
            let finding = cx.with_safe_form(finding);
            cx.report(finding);
        }
        _ => {}
    }
}
