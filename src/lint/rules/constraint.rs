//! Rules about constraints.

use crate::catalog::{ConstraintKind, RelKind};
use crate::lint::context::Cx;
use crate::lint::{Rule, Severity};
use crate::lock::LockMode;
use crate::plan::forms::{NOT_NULL_CONSTRAINTS, proven_not_null};
use crate::plan::work::{Work, op_work};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, ConstraintDef};

static ADD_FOREIGN_KEY: Rule = Rule {
    id: "PS201",
    slug: "add-foreign-key",
    severity: Severity::Error,
    since: 14,
    summary: "A foreign key is added and checked in one step.",
    why: "It holds SHARE ROW EXCLUSIVE on both tables while every row is looked up: writes of both \
          wait. NOT VALID takes the same locks for an instant; VALIDATE CONSTRAINT, in a \
          transaction of its own, then reads under locks that writes do not wait for.",
    safe: "ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT in a later transaction",
    bad: "ALTER TABLE orders ADD CONSTRAINT orders_user FOREIGN KEY (user_id) REFERENCES users (id);",
    good: "ALTER TABLE orders ADD CONSTRAINT orders_user FOREIGN KEY (user_id) REFERENCES users (id) NOT VALID;\n\
           ALTER TABLE orders VALIDATE CONSTRAINT orders_user;",
};

static FOREIGN_KEY_LOCKS_PARENT: Rule = Rule {
    id: "PS202",
    slug: "foreign-key-locks-parent",
    severity: Severity::Note,
    since: 14,
    summary: "A foreign key of a new table or column locks the table that it references.",
    why: "Also within CREATE TABLE it takes SHARE ROW EXCLUSIVE on the referenced table: it waits \
          for every open transaction that has written there, writes wait behind it, and the lock \
          is held to the end of the transaction.",
    safe: "keep the transaction short, with a lock_timeout; or create the table without the key \
           and add it in a transaction of its own",
    bad: "CREATE TABLE notes (id int PRIMARY KEY, user_id int REFERENCES users (id));",
    good: "CREATE TABLE notes (id int PRIMARY KEY, user_id int);",
};

static ADD_CHECK: Rule = Rule {
    id: "PS203",
    slug: "add-check",
    severity: Severity::Error,
    since: 14,
    summary: "A CHECK is added and checked in one step.",
    why: "It holds ACCESS EXCLUSIVE while every row is read: reads and writes wait. NOT VALID adds \
          it at once; VALIDATE CONSTRAINT, in a transaction of its own, reads without blocking.",
    safe: "ADD CONSTRAINT … NOT VALID, then VALIDATE CONSTRAINT in a later transaction",
    bad: "ALTER TABLE orders ADD CONSTRAINT total_positive CHECK (total > 0);",
    good: "ALTER TABLE orders ADD CONSTRAINT total_positive CHECK (total > 0) NOT VALID;\n\
           ALTER TABLE orders VALIDATE CONSTRAINT total_positive;",
};

static ADD_UNIQUE: Rule = Rule {
    id: "PS204",
    slug: "add-unique",
    severity: Severity::Error,
    since: 14,
    summary: "UNIQUE or PRIMARY KEY builds its index under the lock.",
    why: "It holds ACCESS EXCLUSIVE while the index is built: reads and writes wait. A unique \
          index built CONCURRENTLY before is only taken over, in an instant.",
    safe: "CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT … USING INDEX",
    bad: "ALTER TABLE orders ADD CONSTRAINT orders_code UNIQUE (code);",
    good: "CREATE UNIQUE INDEX CONCURRENTLY orders_code ON orders (code);\n\
           ALTER TABLE orders ADD CONSTRAINT orders_code UNIQUE USING INDEX orders_code;",
};

static ADD_EXCLUSION: Rule = Rule {
    id: "PS205",
    slug: "add-exclusion",
    severity: Severity::Error,
    since: 14,
    summary: "An exclusion constraint builds its index under the lock.",
    why: "It holds ACCESS EXCLUSIVE while the index is built, and there is no concurrent form of \
          it.",
    safe: "make a new table with the constraint, move the rows in batches, and swap the names; or \
           add it in a maintenance window",
    bad: "ALTER TABLE bookings ADD CONSTRAINT no_overlap EXCLUDE USING gist (room WITH =, during WITH &&);",
    good: "CREATE TABLE bookings (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));",
};

static SET_NOT_NULL: Rule = Rule {
    id: "PS206",
    slug: "set-not-null",
    severity: Severity::Error,
    since: 14,
    summary: "SET NOT NULL reads the whole table under the lock.",
    why: "It holds ACCESS EXCLUSIVE while every row is read. A valid CHECK (column IS NOT NULL) \
          proves it without reading; from PostgreSQL 18 on NOT NULL itself can be NOT VALID and \
          then validated.",
    safe: "ADD CONSTRAINT … CHECK (column IS NOT NULL) NOT VALID; VALIDATE CONSTRAINT; SET NOT \
           NULL; DROP CONSTRAINT: each in its own transaction",
    bad: "ALTER TABLE orders ALTER COLUMN email SET NOT NULL;",
    good: "ALTER TABLE orders ADD CONSTRAINT email_there CHECK (email IS NOT NULL) NOT VALID;\n\
           ALTER TABLE orders VALIDATE CONSTRAINT email_there;\n\
           ALTER TABLE orders ALTER COLUMN email SET NOT NULL;\n\
           ALTER TABLE orders DROP CONSTRAINT email_there;",
};

static DROP_FOREIGN_KEY: Rule = Rule {
    id: "PS207",
    slug: "drop-foreign-key",
    severity: Severity::Warning,
    since: 14,
    summary: "Dropping a foreign key locks both tables exclusively.",
    why: "Its triggers on the referenced table go with it, so ACCESS EXCLUSIVE is taken there too: \
          reads and writes of both tables wait behind the longest transaction on either.",
    safe: "a transaction of its own, with a short lock_timeout and retries",
    bad: "ALTER TABLE orders ADD CONSTRAINT orders_user FOREIGN KEY (user_id) REFERENCES users NOT VALID;\n\
          -- a later file:\n\
          ALTER TABLE orders DROP CONSTRAINT orders_user;",
    good: "SET lock_timeout = '1s';\nALTER TABLE orders DROP CONSTRAINT total_positive;",
};

static PRIMARY_KEY_USING_INDEX: Rule = Rule {
    id: "PS208",
    slug: "primary-key-using-index",
    severity: Severity::Warning,
    since: 14,
    summary: "PRIMARY KEY USING INDEX sets its columns NOT NULL, which may read the whole table.",
    why: "A primary key's columns become NOT NULL. Where they are not yet, every row is read under \
          ACCESS EXCLUSIVE.",
    safe: "make the columns NOT NULL first, without a scan (see set-not-null)",
    bad: "CREATE UNIQUE INDEX CONCURRENTLY orders_pkey ON orders (id);\n\
          ALTER TABLE orders ADD PRIMARY KEY USING INDEX orders_pkey;",
    good: "ALTER TABLE orders ADD COLUMN IF NOT EXISTS id bigint NOT NULL DEFAULT 0;\n\
           CREATE UNIQUE INDEX CONCURRENTLY orders_pkey ON orders (id);\n\
           ALTER TABLE orders ADD PRIMARY KEY USING INDEX orders_pkey;",
};

static DOMAIN_CONSTRAINT: Rule = Rule {
    id: "PS209",
    slug: "domain-constraint",
    severity: Severity::Error,
    since: 14,
    summary: "A constraint of a domain is checked in every table that uses the domain.",
    why: "ALTER DOMAIN … ADD, VALIDATE and SET NOT NULL read every table with a column of the \
          domain under SHARE: writes of all of them wait. VALIDATE of a domain blocks too.",
    safe: "add the constraint to the domain NOT VALID and leave it so, or add a CHECK to each \
           table instead",
    bad: "ALTER DOMAIN email ADD CONSTRAINT has_at CHECK (VALUE LIKE '%@%');",
    good: "ALTER DOMAIN email ADD CONSTRAINT has_at CHECK (VALUE LIKE '%@%') NOT VALID;",
};

pub(super) static RULES: [&Rule; 9] = [
    &ADD_FOREIGN_KEY,
    &FOREIGN_KEY_LOCKS_PARENT,
    &ADD_CHECK,
    &ADD_UNIQUE,
    &ADD_EXCLUSION,
    &SET_NOT_NULL,
    &DROP_FOREIGN_KEY,
    &PRIMARY_KEY_USING_INDEX,
    &DOMAIN_CONSTRAINT,
];

pub(super) fn check(cx: &mut Cx<'_>) {
    match &cx.unit.action {
        Action::CreateTable { references, .. } => {
            locks_parents(cx, references, "the foreign key of the new table");
        }
        Action::AlterTable { name, ops, .. } => {
            for op in ops {
                alter(cx, name, op);
            }
        }
        Action::AlterDomain {
            name, scans: true, ..
        } if !cx.world.made_type(&name.name) => {
            let finding = cx.found(
                &DOMAIN_CONSTRAINT,
                cx.whole(),
                format!(
                    "every table with a column of the domain {name} is read, and its writes wait"
                ),
            );
            cx.report(finding);
        }
        _ => {}
    }
}

/// Says that tables in use are locked by a foreign key that needs no check.
pub(super) fn locks_parents(cx: &mut Cx<'_>, parents: &[RelName], what: &str) {
    let mut seen: Vec<&RelName> = Vec::new();
    for parent in parents {
        if !cx.in_use(parent) || seen.contains(&parent) || cx.pgshift() {
            continue;
        }
        seen.push(parent);
        let finding = cx
            .found(
                &FOREIGN_KEY_LOCKS_PARENT,
                cx.whole(),
                format!(
                    "{what} takes SHARE ROW EXCLUSIVE on {}: writes there wait until the commit",
                    cx.named(parent)
                ),
            )
            .on(cx, parent, LockMode::ShareRowExclusive);
        cx.report(finding);
    }
}

fn alter(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp) {
    match &op.kind {
        AlterOpKind::AddConstraint(def) => add(cx, name, op, def),
        AlterOpKind::SetNotNull { column } if cx.heavy(name) => {
            let catalog = cx.world.catalog();
            if op_work(&op.kind, cx.table(name), catalog) == Work::None {
                return;
            }
            let mut finding = cx
                .found(
                    &SET_NOT_NULL,
                    op.span,
                    format!(
                        "SET NOT NULL of {column} reads every row of {}{} under ACCESS EXCLUSIVE",
                        cx.named(name),
                        cx.facts(name)
                    ),
                )
                .on(cx, name, LockMode::AccessExclusive);
            if cx.world.major() >= NOT_NULL_CONSTRAINTS {
                finding = finding.help(
                    "ADD CONSTRAINT … NOT NULL column NOT VALID, then VALIDATE CONSTRAINT in a \
                     later transaction",
                );
            }
            let finding = cx.with_safe_form(finding);
            cx.report(finding);
        }
        AlterOpKind::DropConstraint {
            name: constraint, ..
        } if cx.in_use(name) => drop(cx, name, op, constraint),
        _ => {}
    }
}

fn add(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp, def: &ConstraintDef) {
    if !cx.heavy(name) {
        // Nothing to check, but the other table is locked.
        if let Some(parent) = &def.references {
            locks_parents(cx, std::slice::from_ref(parent), "the foreign key");
        }
        return;
    }
    let work = op_work(&op.kind, cx.table(name), cx.world.catalog());
    let (rule, lock, what) = match def.kind {
        _ if work == Work::None => return,
        ConstraintKind::ForeignKey => (
            &ADD_FOREIGN_KEY,
            LockMode::ShareRowExclusive,
            "every row is looked up, and writes of both tables wait",
        ),
        ConstraintKind::Check => (
            &ADD_CHECK,
            LockMode::AccessExclusive,
            "every row is read, and reads and writes wait",
        ),
        ConstraintKind::NotNull => (
            &SET_NOT_NULL,
            LockMode::AccessExclusive,
            "every row is read, and reads and writes wait",
        ),
        ConstraintKind::PrimaryKey if def.using_index.is_some() => {
            primary_key_using_index(cx, name, op, def);
            return;
        }
        ConstraintKind::Unique | ConstraintKind::PrimaryKey => (
            &ADD_UNIQUE,
            LockMode::AccessExclusive,
            "an index is built, and reads and writes wait",
        ),
        ConstraintKind::Exclusion => (
            &ADD_EXCLUSION,
            LockMode::AccessExclusive,
            "an index is built, and reads and writes wait",
        ),
        ConstraintKind::Other => return,
    };
    let kind = match def.kind {
        ConstraintKind::ForeignKey => "foreign key",
        ConstraintKind::Check => "CHECK",
        ConstraintKind::NotNull => "NOT NULL",
        ConstraintKind::Unique => "UNIQUE",
        ConstraintKind::PrimaryKey => "PRIMARY KEY",
        _ => "exclusion constraint",
    };
    let both = def
        .references
        .as_ref()
        .map_or_else(String::new, |other| format!(", referencing {other}"));
    let mut finding = cx
        .found(
            rule,
            op.span,
            format!(
                "{kind} on {}{}{both}: {what}",
                cx.named(name),
                cx.facts(name)
            ),
        )
        .on(cx, name, lock);
    let partitioned = cx
        .table(name)
        .is_some_and(|t| t.kind == RelKind::Partitioned);
    if partitioned
        && def.kind == ConstraintKind::ForeignKey
        && cx.world.major() < NOT_NULL_CONSTRAINTS
    {
        finding = finding.help(
            "add the foreign key to each partition first (NOT VALID, then validated): before \
             PostgreSQL 18 one of a partitioned table cannot be NOT VALID",
        );
    }
    let finding = cx.with_safe_form(finding);
    cx.report(finding);
}

fn primary_key_using_index(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp, def: &ConstraintDef) {
    let table = cx.table(name);
    let index = def
        .using_index
        .as_ref()
        .and_then(|index| table.and_then(|t| t.index(index)));
    let proven = |column: &String| table.is_some_and(|t| proven_not_null(t, column));
    if index.is_some_and(|i| !i.columns.is_empty() && i.columns.iter().all(proven)) {
        return;
    }
    let finding = cx
        .found(
            &PRIMARY_KEY_USING_INDEX,
            op.span,
            format!(
                "where a column of the key may be null, every row of {}{} is read under ACCESS \
                 EXCLUSIVE",
                cx.named(name),
                cx.facts(name)
            ),
        )
        .on(cx, name, LockMode::AccessExclusive);
    let finding = cx.with_safe_form(finding);
    cx.report(finding);
}

fn drop(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp, constraint: &str) {
    let known = cx.table(name).and_then(|t| t.constraint(constraint));
    let lower = constraint.to_ascii_lowercase();
    let looks = ["_fkey", "_fk"].iter().any(|s| lower.ends_with(s))
        || ["fk_", "fk-"].iter().any(|s| lower.starts_with(s))
        || lower.contains("foreign");
    let (other, sure) = match known {
        Some(c) if c.kind == ConstraintKind::ForeignKey => (c.references.clone(), true),
        None if looks => (None, false),
        _ => return,
    };
    if other
        .as_ref()
        .is_some_and(|o| !cx.in_use(&RelName::from(o)))
        || cx.pgshift()
    {
        return;
    }
    let both = other.map_or_else(
        || "the table that it references".to_owned(),
        |o| o.to_string(),
    );
    let which = if sure {
        format!("dropping the foreign key {constraint}")
    } else {
        format!("dropping {constraint}, a foreign key by its name,")
    };
    let finding = cx
        .found(
            &DROP_FOREIGN_KEY,
            op.span,
            format!(
                "{which} takes ACCESS EXCLUSIVE on {} and on {both}",
                cx.named(name)
            ),
        )
        .on(cx, name, LockMode::AccessExclusive);
    cx.report(finding);
}
