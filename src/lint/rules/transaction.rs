//! Rules about transactions and locks: what statements do to each other.

use crate::lint::context::{Cx, Held};
use crate::lint::read::mentions_value;
use crate::lint::{Rule, Severity};
use crate::lock::LockMode;
use crate::plan::locks::transactional;
use crate::plan::work::{Work, rewrites_or_scans};
use crate::sql::ddl::{Action, AlterOpKind};

static CANNOT_RUN: Rule = Rule {
    id: "PS701",
    slug: "refused-in-transaction",
    severity: Severity::Error,
    since: 14,
    summary: "A statement that cannot be in a transaction block is in one.",
    why: "The server refuses CONCURRENTLY, VACUUM, CREATE DATABASE and ALTER SYSTEM in a \
          transaction block, also in the implicit one of several statements sent at once. Most \
          runners have a transaction for each file.",
    safe: "run it outside of a transaction",
    bad: "BEGIN;\nCREATE INDEX CONCURRENTLY orders_email ON orders (email);\nCOMMIT;",
    good: "CREATE INDEX CONCURRENTLY orders_email ON orders (email);",
};

static ENUM_VALUE: Rule = Rule {
    id: "PS702",
    slug: "enum-value-in-transaction",
    severity: Severity::Error,
    since: 14,
    summary: "A value added to an enum is used in the same transaction.",
    why: "The server refuses to use a new value before it is committed (unsafe use of new value), \
          unless the type itself was made in the same transaction.",
    safe: "add the value in a migration of its own, before the one that uses it",
    bad: "BEGIN;\nALTER TYPE mood ADD VALUE 'calm';\nINSERT INTO people (mood) VALUES ('calm');\nCOMMIT;",
    good: "ALTER TYPE mood ADD VALUE 'calm';\nINSERT INTO people (mood) VALUES ('calm');",
};

static VALIDATE_AT_ONCE: Rule = Rule {
    id: "PS703",
    slug: "validate-in-transaction",
    severity: Severity::Error,
    since: 14,
    summary: "A constraint is added NOT VALID and validated in one transaction.",
    why: "The lock of ADD CONSTRAINT is held while VALIDATE reads the table: it blocks as long as \
          without NOT VALID.",
    safe: "commit between the two: VALIDATE CONSTRAINT in a later migration, or outside of the \
           transaction",
    bad: "BEGIN;\nALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID;\n\
          ALTER TABLE orders VALIDATE CONSTRAINT c;\nCOMMIT;",
    good: "ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID;\n\
           ALTER TABLE orders VALIDATE CONSTRAINT c;",
};

static WORK_UNDER_LOCK: Rule = Rule {
    id: "PS704",
    slug: "work-under-lock",
    severity: Severity::Warning,
    since: 14,
    summary: "Long work follows in a transaction that blocks a table already.",
    why: "Locks are held to the end of the transaction. A lock that was meant to be short is held \
          while rows are changed, read or indexed afterwards. Said once for a transaction.",
    safe: "commit in between: the short statement that locks in a migration of its own",
    bad: "BEGIN;\nALTER TABLE orders ADD COLUMN region text;\n\
          UPDATE orders SET region = 'eu' WHERE region IS NULL;\nCOMMIT;",
    good: "BEGIN;\nALTER TABLE orders ADD COLUMN region text;\nCOMMIT;",
};

static SEVERAL_TABLES: Rule = Rule {
    id: "PS705",
    slug: "several-tables-locked",
    severity: Severity::Note,
    since: 14,
    summary: "Several tables in use are locked exclusively in one transaction.",
    why: "The first table is blocked while the transaction waits for the next one; and with an \
          application that uses them in another order it is a deadlock, of which either may be the \
          victim.",
    safe: "a migration for each table",
    bad: "BEGIN;\nALTER TABLE orders ADD COLUMN a int;\nALTER TABLE users ADD COLUMN b int;\nCOMMIT;",
    good: "ALTER TABLE orders ADD COLUMN a int;\nALTER TABLE users ADD COLUMN b int;",
};

static NO_LOCK_TIMEOUT: Rule = Rule {
    id: "PS706",
    slug: "missing-lock-timeout",
    severity: Severity::Note,
    since: 14,
    summary: "A lock that blocks the application is waited for without a limit.",
    why: "A statement that waits for its lock makes everything that comes after it wait too, \
          behind one long query. With a lock_timeout it gives up, and can be tried again. Said \
          once for a file. (pgshift sets it for each step.)",
    safe: "SET lock_timeout = '1s' (SET LOCAL in a transaction) before it, and try again where it \
           fails",
    bad: "ALTER TABLE orders ADD COLUMN region text;",
    good: "SET lock_timeout = '1s';\nALTER TABLE orders ADD COLUMN region text;",
};

pub(super) static RULES: [&Rule; 6] = [
    &CANNOT_RUN,
    &ENUM_VALUE,
    &VALIDATE_AT_ONCE,
    &WORK_UNDER_LOCK,
    &SEVERAL_TABLES,
    &NO_LOCK_TIMEOUT,
];

pub(super) fn check(cx: &mut Cx<'_>) {
    refused(cx);
    enum_value(cx);
    if cx.pgshift() {
        return;
    }
    validated(cx);
    under_lock(cx);
    several(cx);
    lock_timeout(cx);
}

fn refused(cx: &mut Cx<'_>) {
    if !cx.unit.in_block || cx.pgshift() || transactional(&cx.unit.action) {
        return;
    }
    let what = match &cx.unit.action {
        Action::CreateIndex { .. } => "CREATE INDEX CONCURRENTLY",
        Action::DropIndex { .. } => "DROP INDEX CONCURRENTLY",
        Action::Reindex { .. } => "this REINDEX",
        Action::Vacuum { .. } => "VACUUM",
        Action::AlterTable { .. } => "DETACH PARTITION CONCURRENTLY",
        Action::Cluster { .. } => "CLUSTER without a table",
        Action::OutsideTransaction { leading } => leading,
        _ => "this statement",
    };
    let runner = cx.script.runner;
    let block = if cx.unit.inside.is_some() {
        "a block of code".to_owned()
    } else if cx.unit.transaction.is_some() {
        format!("a transaction block ({runner})")
    } else {
        format!("one query of several statements ({runner})")
    };
    let help = if cx.unit.inside.is_some() {
        "write it as a statement of its own"
    } else {
        runner.without_transaction()
    };
    let finding = cx
        .found(
            &CANNOT_RUN,
            cx.whole(),
            format!("{what} cannot run inside {block}"),
        )
        .help(help);
    cx.report(finding);
}

fn enum_value(cx: &mut Cx<'_>) {
    if matches!(
        cx.unit.action,
        Action::AlterTypeAddValue { .. } | Action::CreateFunction { .. } | Action::Comment { .. }
    ) || cx.pgshift()
    {
        return;
    }
    let used = cx.transaction.enum_values.iter().find(|(_, value, _)| {
        cx.unit
            .sql
            .contains(value.split('\'').next().unwrap_or_default())
            && mentions_value(&cx.unit.sql, value)
    });
    if let Some((enumeration, value, span)) = used {
        let finding = cx
            .found(
                &ENUM_VALUE,
                cx.whole(),
                format!("'{value}' of {enumeration} is used before it is committed"),
            )
            .also(*span, "added here");
        cx.report(finding);
    }
}

fn validated(cx: &mut Cx<'_>) {
    let ops: Vec<_> = cx.ops().collect();
    for (name, op) in ops {
        let AlterOpKind::ValidateConstraint { name: constraint } = &op.kind else {
            continue;
        };
        let added = cx
            .transaction
            .not_valid
            .iter()
            .find(|(added, _)| added == constraint);
        if let Some((_, span)) = added
            && cx.heavy(name)
        {
            let finding = cx
                .found(
                    &VALIDATE_AT_ONCE,
                    op.span,
                    format!(
                        "{constraint} is validated while the lock of adding it is still held: {}{} \
                         is blocked while every row is read",
                        cx.named(name),
                        cx.facts(name)
                    ),
                )
                .also(*span, "added here, in the same transaction");
            cx.report(finding);
        }
    }
}

/// What a statement does that takes long, in words.
fn long_work(cx: &Cx<'_>) -> Option<&'static str> {
    match &cx.unit.action {
        Action::Update { .. }
        | Action::Delete { .. }
        | Action::Merge { .. }
        | Action::Writes { .. } => cx
            .out
            .last()
            .is_some_and(|f| f.rule.slug == "bulk-change" && f.statement == cx.unit.statement)
            .then_some("rows are changed"),
        Action::AlterTable { name, .. } if cx.heavy(name) => {
            match rewrites_or_scans(&cx.unit.action, cx.world.catalog()) {
                Work::None => None,
                Work::Scan => Some("every row is read"),
                Work::IndexBuild => Some("an index is built"),
                Work::Rewrite => cx
                    .out
                    .last()
                    .is_some_and(|f| f.statement == cx.unit.statement)
                    .then_some("every row is written anew"),
            }
        }
        Action::CreateIndex { table, only, .. } if cx.heavy(table) && !only => {
            Some("an index is built")
        }
        Action::Refresh { name, .. } if cx.heavy(name) => Some("its query runs"),
        _ => None,
    }
}

fn under_lock(cx: &mut Cx<'_>) {
    if cx.unit.transaction.is_none() || cx.said.work_under_lock == cx.unit.transaction {
        return;
    }
    let Some(work) = long_work(cx) else { return };
    if cx
        .out
        .last()
        .is_some_and(|f| f.rule == &VALIDATE_AT_ONCE && f.statement == cx.unit.statement)
    {
        return;
    }
    // A lock that the statement itself takes as strongly is its own concern.
    let own = |held: &Held| {
        cx.locks
            .iter()
            .any(|l| l.table == held.table && l.mode >= held.mode)
    };
    let held = cx
        .transaction
        .held
        .values()
        .filter(|h| h.mode.blocks_writes() && h.span != cx.unit.span && !own(h))
        .max_by_key(|h| h.mode);
    if let Some(held) = held {
        let finding = cx
            .found(
                &WORK_UNDER_LOCK,
                cx.whole(),
                format!(
                    "{work} while {} on {} is held, taken earlier in the same transaction",
                    held.mode,
                    cx.named(&held.table)
                ),
            )
            .also(held.span, format!("{} is taken here", held.mode));
        cx.said.work_under_lock = cx.unit.transaction;
        cx.report(finding);
    }
}

fn several(cx: &mut Cx<'_>) {
    if cx.unit.transaction.is_none() || cx.said.several_tables == cx.unit.transaction {
        return;
    }
    let exclusive = |h: &&Held| h.mode == LockMode::AccessExclusive;
    let Some(second) = cx.locks.iter().find(exclusive) else {
        return;
    };
    let first = cx
        .transaction
        .held
        .values()
        .filter(exclusive)
        .find(|h| h.table != second.table);
    if let Some(first) = first {
        let finding = cx
            .found(
                &SEVERAL_TABLES,
                cx.whole(),
                format!(
                    "{} is blocked while this waits for {}",
                    cx.named(&first.table),
                    cx.named(&second.table)
                ),
            )
            .also(
                first.span,
                format!("ACCESS EXCLUSIVE on {} is taken here", first.table),
            );
        cx.said.several_tables = cx.unit.transaction;
        cx.report(finding);
    }
}

fn lock_timeout(cx: &mut Cx<'_>) {
    if cx.world.lock_timeout || cx.said.lock_timeout {
        return;
    }
    let Some(lock) = cx.locks.iter().max_by_key(|l| l.mode) else {
        return;
    };
    if !lock.mode.blocks_writes() {
        return;
    }
    cx.said.lock_timeout = true;
    let finding = cx
        .found(
            &NO_LOCK_TIMEOUT,
            cx.whole(),
            format!(
                "{} on {} is waited for without a limit",
                lock.mode,
                cx.named(&lock.table)
            ),
        )
        .on(cx, &lock.table, lock.mode);
    cx.report(finding);
}
