//! Rules about tables.

use super::object;
use crate::lint::context::Cx;
use crate::lint::read::has;
use crate::lint::{Rule, Severity};
use crate::lock::LockMode;
use crate::migration::SectionKind;
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind};

static DROP_TABLE: Rule = Rule {
    id: "PS401",
    slug: "drop-table",
    severity: Severity::Warning,
    since: 14,
    summary: "Dropping a table breaks applications that still use it, and loses its data.",
    why: "The old version of the application still runs while the new one is rolled out. The rows \
          are gone, and a foreign key of the table takes ACCESS EXCLUSIVE on the table that it \
          references.",
    safe: "first deploy a version that does not use the table, then drop it",
    bad: "DROP TABLE orders;",
    good: "-- pgshift: allow drop-table reason=\"replaced by sales in release 41\"\nDROP TABLE orders;",
};

static RENAME_TABLE: Rule = Rule {
    id: "PS402",
    slug: "rename-table",
    severity: Severity::Error,
    since: 14,
    summary: "Renaming a table or view, or moving it to another schema, breaks every running application.",
    why: "From the commit on the old version fails, and before it the new one would: no order of \
          deployment works.",
    safe: "rename it and make a view of the old name in the same transaction, or move in two \
           deployments",
    bad: "ALTER TABLE orders RENAME TO sales;",
    good: "BEGIN;\nSET LOCAL lock_timeout = '1s';\nALTER TABLE orders RENAME TO sales;\n\
           CREATE VIEW orders AS SELECT * FROM sales;\nCOMMIT;",
};

static TRUNCATE: Rule = Rule {
    id: "PS403",
    slug: "truncate",
    severity: Severity::Warning,
    since: 14,
    summary: "TRUNCATE empties a table in use.",
    why: "The rows are gone, ACCESS EXCLUSIVE stops reads and writes until the commit, and \
          transactions with an older snapshot see an empty table.",
    safe: "DELETE in batches, or let the application stop using the table first",
    bad: "TRUNCATE orders;",
    good: "DELETE FROM orders WHERE id IN (SELECT id FROM orders LIMIT 1000);",
};

static TRUNCATE_CASCADE: Rule = Rule {
    id: "PS404",
    slug: "truncate-cascade",
    severity: Severity::Error,
    since: 14,
    summary: "TRUNCATE … CASCADE empties every table that references it, too.",
    why: "All tables with a foreign key to it, and those with one to these, are emptied without \
          being named.",
    safe: "name every table that is to be emptied",
    bad: "TRUNCATE users CASCADE;",
    good: "DELETE FROM users WHERE id IN (SELECT id FROM users LIMIT 1000);",
};

static REWRITE: Rule = Rule {
    id: "PS405",
    slug: "rewrite-table",
    severity: Severity::Error,
    since: 14,
    summary: "CLUSTER, VACUUM FULL, SET LOGGED, UNLOGGED, TABLESPACE or ACCESS METHOD writes the table anew.",
    why: "All of it is copied under ACCESS EXCLUSIVE, with its indexes: reads and writes wait. A \
          table that is SET UNLOGGED is emptied by a crash, and is not on standbys.",
    safe: "an online tool such as pg_repack, outside of migrations; VACUUM without FULL",
    bad: "ALTER TABLE orders SET UNLOGGED;",
    good: "ALTER TABLE orders SET (fillfactor = 90);",
};

static REFRESH: Rule = Rule {
    id: "PS406",
    slug: "refresh-blocking",
    severity: Severity::Warning,
    since: 14,
    summary: "REFRESH MATERIALIZED VIEW without CONCURRENTLY blocks its readers.",
    why: "It holds ACCESS EXCLUSIVE on the view while its query runs.",
    safe: "REFRESH MATERIALIZED VIEW CONCURRENTLY, which needs a unique index on plain columns of \
           the view, without WHERE",
    bad: "REFRESH MATERIALIZED VIEW totals;",
    good: "REFRESH MATERIALIZED VIEW CONCURRENTLY totals;",
};

static LOCK_TABLE: Rule = Rule {
    id: "PS407",
    slug: "lock-table",
    severity: Severity::Warning,
    since: 14,
    summary: "LOCK TABLE stops the application.",
    why: "The lock is held to the end of the transaction, whatever it does.",
    safe: "leave it out: DDL takes the locks that it needs",
    bad: "BEGIN;\nLOCK TABLE orders;\nCOMMIT;",
    good: "BEGIN;\nLOCK TABLE orders IN ACCESS SHARE MODE;\nCOMMIT;",
};

pub(super) static RULES: [&Rule; 13] = [
    &DROP_TABLE,
    &RENAME_TABLE,
    &TRUNCATE,
    &TRUNCATE_CASCADE,
    &REWRITE,
    &REFRESH,
    &LOCK_TABLE,
    &object::DROP_OBJECT,
    &object::DROP_CASCADE,
    &object::DROP_DATABASE,
    &object::ROW_SECURITY,
    &object::CREATE_TRIGGER,
    &object::DISABLE_TRIGGER,
];

pub(super) fn check(cx: &mut Cx<'_>) {
    match &cx.unit.action {
        Action::DropTable { names, .. } => {
            for name in names {
                drop(cx, name);
            }
        }
        Action::AlterTable { .. } => alter(cx),
        Action::AlterRelation {
            kind, name, ops, ..
        } => {
            let moves = ops.iter().find(|op| {
                matches!(
                    op.kind,
                    AlterOpKind::RenameTable { .. } | AlterOpKind::SetSchema { .. }
                )
            });
            let relation = matches!(
                kind,
                crate::catalog::RelKind::View | crate::catalog::RelKind::MaterializedView
            );
            if let Some(op) = moves
                && relation
                && !cx.world.made(&name.name)
            {
                let to = target(&op.kind);
                let finding = cx.found(
                    &RENAME_TABLE,
                    op.span,
                    format!("running applications read {name}; from the commit on it is {to}"),
                );
                cx.report(finding);
            }
        }
        Action::Truncate {
            tables, cascade, ..
        } => {
            for table in tables {
                truncate(cx, table, *cascade);
            }
        }
        Action::Cluster { table } if table.as_ref().is_none_or(|t| cx.heavy(t)) => {
            rewrite(cx, table.as_ref(), "CLUSTER", cx.whole());
        }
        Action::Vacuum { tables, full: true }
            if tables.is_empty() || tables.iter().any(|t| cx.heavy(t)) =>
        {
            rewrite(cx, tables.first(), "VACUUM FULL", cx.whole());
        }
        Action::Refresh {
            name,
            concurrently: false,
        } if cx.heavy(name) => {
            let finding = cx
                .found(
                    &REFRESH,
                    cx.whole(),
                    format!("reads of {name} wait while its query runs"),
                )
                .on(cx, name, LockMode::AccessExclusive);
            cx.report(finding);
        }
        Action::LockTable { tables, mode } if mode.blocks_writes() => {
            for table in tables {
                if cx.in_use(table) {
                    let finding = cx
                        .found(
                            &LOCK_TABLE,
                            cx.whole(),
                            format!(
                                "{} is locked to the end of the transaction",
                                cx.named(table)
                            ),
                        )
                        .on(cx, table, *mode);
                    cx.report(finding);
                }
            }
        }
        Action::Opaque { leading }
            if leading.starts_with("ALTER") && has(&cx.unit.sql, "all in tablespace") =>
        {
            rewrite(cx, None, "SET TABLESPACE of ALL", cx.whole());
        }
        _ => {}
    }
}

fn drop(cx: &mut Cx<'_>, name: &RelName) {
    if !cx.in_use(name) || cx.unit.section == SectionKind::Contract {
        return;
    }
    let parents: Vec<String> = cx
        .table(name)
        .map(|t| {
            t.constraints
                .iter()
                .filter_map(|c| c.references.as_ref())
                .map(ToString::to_string)
                .collect()
        })
        .unwrap_or_default();
    let locks = if parents.is_empty() {
        String::new()
    } else {
        format!(
            "; ACCESS EXCLUSIVE is taken on {} too, for its foreign keys",
            parents.join(", ")
        )
    };
    let mut finding = cx
        .found(
            &DROP_TABLE,
            cx.whole(),
            format!(
                "running applications may still use {}{}, and its data is lost{locks}",
                cx.named(name),
                cx.facts(name)
            ),
        )
        .label("gone from the commit on");
    if cx.pgshift() && cx.unit.section == SectionKind::Plain {
        finding = finding
            .severity(Severity::Note)
            .help("pgshift drops it at contract, and keeps it aside until purge");
        finding.planned = true;
    }
    cx.report(finding);
}

fn target(op: &AlterOpKind) -> String {
    match op {
        AlterOpKind::RenameTable { to } => to.clone(),
        AlterOpKind::SetSchema { to } => format!("in schema {to}"),
        _ => String::new(),
    }
}

fn alter(cx: &mut Cx<'_>) {
    let ops: Vec<_> = cx.ops().collect();
    for (name, op) in ops {
        match &op.kind {
            AlterOpKind::RenameTable { to } => {
                // The old name lives on as a view, or the new table takes the place of another.
                let replaced = cx.makes.after(cx.number, &name.name) || cx.world.made(to);
                if !replaced {
                    renamed(cx, name, op, &target(&op.kind));
                }
            }
            AlterOpKind::SetSchema { .. } => renamed(cx, name, op, &target(&op.kind)),
            AlterOpKind::SetLogged { logged } if cx.heavy(name) => {
                let what = if *logged {
                    "SET LOGGED"
                } else {
                    "SET UNLOGGED"
                };
                rewrite(cx, Some(name), what, op.span);
            }
            AlterOpKind::SetTablespace if cx.heavy(name) => {
                rewrite(cx, Some(name), "SET TABLESPACE", op.span);
            }
            AlterOpKind::SetAccessMethod if cx.heavy(name) => {
                rewrite(cx, Some(name), "SET ACCESS METHOD", op.span);
            }
            _ => {}
        }
    }
}

fn renamed(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp, to: &str) {
    let mut finding = cx
        .found(
            &RENAME_TABLE,
            op.span,
            format!(
                "running applications use {}; from the commit on it is {to}",
                cx.named(name)
            ),
        )
        .label("the old version fails after it, the new one before it");
    let table = matches!(op.kind, AlterOpKind::RenameTable { .. });
    if table && cx.pgshift() && cx.unit.section != SectionKind::Contract {
        finding = finding
            .severity(Severity::Note)
            .help("pgshift makes a view of the old name, until contract");
        finding.planned = true;
    }
    cx.report(finding);
}

fn truncate(cx: &mut Cx<'_>, table: &RelName, cascade: bool) {
    if !cx.in_use(table) {
        return;
    }
    let (rule, what) = if cascade {
        (
            &TRUNCATE_CASCADE,
            ", and every table with a foreign key to it",
        )
    } else {
        (&TRUNCATE, "")
    };
    let finding = cx
        .found(
            rule,
            cx.whole(),
            format!(
                "all rows of {}{}{what} are gone",
                cx.named(table),
                cx.facts(table)
            ),
        )
        .on(cx, table, LockMode::AccessExclusive);
    cx.report(finding);
}

fn rewrite(cx: &mut Cx<'_>, table: Option<&RelName>, what: &str, at: crate::sql::Span) {
    let on = table.map_or_else(
        || "its tables".to_owned(),
        |t| format!("{}{}", cx.named(t), cx.facts(t)),
    );
    let mut finding = cx.found(
        &REWRITE,
        at,
        format!("{what} writes all of {on} anew while reads and writes wait"),
    );
    if let Some(table) = table {
        finding = finding.on(cx, table, LockMode::AccessExclusive);
    }
    let finding = cx.with_safe_form(finding);
    cx.report(finding);
}
