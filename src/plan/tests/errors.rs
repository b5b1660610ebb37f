//! What is refused, where, and what to do.

use super::*;

/// The message, the text that it points at, and the help.
fn error(catalog: &Catalog, file: &str) -> (String, String, String) {
    let error = planned(catalog, file).expect_err("an error");
    let (at, help) = match error.places() {
        Some((source, places)) => (
            places[0].span.of(source.text()).to_owned(),
            places[0].help.clone().unwrap_or_default(),
        ),
        None => (
            String::new(),
            error.what_next().unwrap_or_default().to_owned(),
        ),
    };
    (error.message().to_owned(), at, help)
}

#[track_caller]
fn check(file: &str, message: &str, at: &str, help: &str) {
    check_in(&catalog(15), file, message, at, help);
}

#[track_caller]
fn check_in(catalog: &Catalog, file: &str, message: &str, at: &str, help: &str) {
    let (m, a, h) = error(catalog, file);
    assert!(m.contains(message), "message: {m}");
    assert!(a.contains(at), "at: {a}");
    assert!(h.contains(help), "help: {h}");
}

#[test]
fn names_that_are_not_there() {
    check(
        "UPDATE ordrs SET a = 1;",
        "table ordrs does not exist",
        "ordrs",
        "search_path",
    );
    check(
        "UPDATE \"ORDERS\" SET a = 1;",
        "table ORDERS does not exist",
        "ORDERS",
        "there is public.orders",
    );
    check(
        "UPDATE orders SET totl = 1;",
        "has no column totl",
        "totl",
        "did you mean total?",
    );
    for (column, help) in [("totl", "did you mean total?"), ("nosuch", "must exist")] {
        let file = format!("ALTER TABLE orders ALTER {column} TYPE bigint;");
        let message = format!("public.orders has no column {column}");
        check(&file, &message, &format!("ALTER {column}"), help);
    }
    check(
        "-- pgshift: contract\nALTER TABLE nothing DROP COLUMN a;",
        "table nothing does not exist",
        "ALTER TABLE nothing",
        "search_path",
    );
    check(
        "DROP TABLE orders, nothing;",
        "table nothing does not exist",
        "DROP",
        "by this name",
    );
}

const ADD: &str =
    "-- pgshift: expand\nALTER TABLE orders ADD COLUMN b text;\n-- pgshift: backfill\n";

#[test]
fn what_a_triggers_row_has_not() {
    for (expr, what) in [
        ("to_jsonb(orders)", "the whole row"),
        ("row_to_json(orders.*)::text", "the whole row"),
        ("orders.display_name", "the whole row"),
        ("ctid::text", "the system column ctid"),
        ("orders.tableoid::text", "the system column tableoid"),
    ] {
        check(
            &format!("{ADD}UPDATE orders SET b = {expr};"),
            what,
            expr.split(['(', ':', ')'])
                .find(|p| p.contains("orders") || p.contains("ctid"))
                .unwrap_or(expr),
            "sync=off",
        );
    }
    // Names in a query of its own are not the row's.
    let file = format!(
        "{ADD}UPDATE orders o SET b = (SELECT max(x.note) FROM orders x WHERE x.id < o.id);"
    );
    planned(&catalog(15), &file).expect("a plan");
    let mut catalog = catalog(15);
    let orders = catalog
        .tables
        .values_mut()
        .find(|t| t.name.name == "orders");
    orders
        .expect("orders")
        .columns
        .push(crate::catalog::Column {
            generated: true,
            ..column("twice", "text")
        });
    check_in(
        &catalog,
        &format!("{ADD}UPDATE orders SET b = twice;"),
        "twice, a generated column",
        "UPDATE orders",
        "generation expression",
    );
    check_in(
        &catalog,
        "UPDATE orders SET twice = 'x';",
        "is a generated column",
        "twice",
        "generated from",
    );
}

#[test]
fn mappings_that_would_not_do_what_they_say() {
    check(
        &format!("{ADD}UPDATE orders SET b = 'x';\nUPDATE orders SET b = 'y' WHERE total > 1;"),
        "an earlier statement fills the column in every row",
        "b = 'y'",
        "IS NULL",
    );
    check(
        &format!(
            "{ADD}UPDATE orders SET b = 'x' WHERE total > 1;\nUPDATE orders SET b = u.name FROM users u WHERE u.id = user_id AND b IS NULL;"
        ),
        "one has a FROM",
        "u.name",
        "CASE",
    );
    check(
        "ALTER TABLE orders ADD b text DEFAULT 'new';\nUPDATE orders SET b = 'old' WHERE id < 9;",
        "has a default, and its backfill leaves rows out",
        "ADD b text DEFAULT 'new'",
        "CASE",
    );
    check(
        &format!("{ADD}UPDATE orders SET b = note, email = note;"),
        "new columns and to existing ones",
        "UPDATE orders",
        "one UPDATE",
    );
    check(
        "-- pgshift: backfill sync=on\nUPDATE orders SET email = lower(email);",
        "it reads email, which it writes",
        "UPDATE",
        "leave sync=on out",
    );
    check(
        "-- pgshift: backfill sync=on\nDELETE FROM orders;",
        "nothing to keep in sync",
        "DELETE",
        "leave sync out",
    );
    check(
        "ALTER TABLE orders ADD b text NOT NULL;\nUPDATE orders SET b = note;",
        "cannot be NOT NULL yet",
        "ADD b text NOT NULL",
        "contract",
    );
    check(
        "ALTER TABLE orders ADD b text GENERATED ALWAYS AS (note) STORED;\nUPDATE orders SET b = note;",
        "the server itself fills b",
        "b",
        "plain column",
    );
}

#[test]
fn reverse_statements() {
    let with =
        |reverse: &str| format!("{ADD}UPDATE orders SET b = note;\n-- pgshift: reverse\n{reverse}");
    check(
        &with("UPDATE orders SET b = note;"),
        "writes to the new column b",
        "b",
        "old columns follow",
    );
    check(
        &with("UPDATE orders SET note = email;"),
        "reads no column that a backfill writes",
        "UPDATE",
        "from the new ones",
    );
    check(
        &with("UPDATE users SET name = '';"),
        "no backfill of this file writes to public.users",
        "UPDATE",
        "same table",
    );
    check(
        &with("UPDATE orders SET note = orders::text || b;"),
        "the whole row",
        "orders",
        "name the columns",
    );
    check(
        "-- pgshift: backfill\nUPDATE orders SET email = note;\n-- pgshift: reverse\nUPDATE orders SET note = email;",
        "has no sync trigger",
        "UPDATE orders SET note",
        "fills new columns",
    );
    let mut catalog = catalog(15);
    let orders = catalog
        .tables
        .values_mut()
        .find(|t| t.name.name == "orders")
        .expect("orders");
    orders
        .dependents
        .insert("note".into(), vec!["partition key of table orders".into()]);
    check_in(
        &catalog,
        &with("UPDATE orders SET note = b;"),
        "by which public.orders is partitioned",
        "note",
        "leave the column out",
    );
}

#[test]
fn phases() {
    check(
        "-- pgshift: expand\nALTER TABLE orders DROP COLUMN note;",
        "this removes something",
        "ALTER",
        "contract",
    );
    check(
        "-- pgshift: expand\nDROP TABLE orders;",
        "this removes something",
        "DROP",
        "contract",
    );
    check(
        "-- pgshift: expand\nUPDATE orders SET note = '';",
        "changes rows of orders in one statement",
        "UPDATE",
        "backfill",
    );
    check(
        "-- pgshift: expand\nCREATE TABLE IF NOT EXISTS orders (id int);\nUPDATE orders SET note = '';",
        "changes rows of orders in one statement",
        "UPDATE",
        "backfill",
    );
    check(
        "-- pgshift: contract\nDELETE FROM orders;",
        "contract does not change rows",
        "DELETE",
        "backfill",
    );
    check(
        "ALTER TABLE orders RENAME note TO remark;\nUPDATE orders SET email = note;",
        "renames in public.orders what its backfill names",
        "RENAME note",
        "migration of its own",
    );
    check(
        "-- pgshift: expand\nCREATE TABLE x (a int);\n-- pgshift: revert\nDROP TABLE x;",
        "every statement of expand already has a way back",
        "DROP TABLE x",
        "remove the revert section",
    );
    check(
        "ALTER TABLE orders DROP COLUMN total;\n-- pgshift: revert\nALTER TABLE orders ADD total int;",
        "every statement of contract already has a way back",
        "ALTER",
        "remove the revert section",
    );
}

#[test]
fn plain_files_whose_order_would_not_be_kept() {
    for (file, at) in [
        (
            "UPDATE orders SET note = 'x';\nINSERT INTO users SELECT id, note FROM orders;",
            "INSERT",
        ),
        ("DELETE FROM users;\nDO $$ BEGIN NULL; END $$;", "DO"),
        (
            "DROP TABLE empty;\nCREATE TABLE empty (id int);",
            "CREATE TABLE",
        ),
        (
            "ALTER TABLE orders DROP COLUMN note;\nALTER TABLE orders RENAME email TO note;",
            "RENAME",
        ),
        (
            "ALTER TABLE orders DROP COLUMN note;\nUPDATE orders SET email = note;",
            "UPDATE",
        ),
    ] {
        check(
            file,
            "would run before a statement that stands above it",
            at,
            "into sections",
        );
    }
    for fine in [
        "INSERT INTO users SELECT id, note FROM orders;\nUPDATE orders SET note = 'x';",
        "DROP TABLE empty;\nALTER TABLE orders ADD x int;",
        "ALTER TABLE orders DROP COLUMN email;\nALTER TABLE orders ADD x int;",
    ] {
        planned(&catalog(15), fine).expect(fine);
    }
}

#[test]
fn drops_that_would_not_be_what_they_seem() {
    check(
        "DROP TABLE events_1;",
        "is a partition of public.events",
        "DROP",
        "DETACH PARTITION",
    );
    check(
        "DROP TABLE users;",
        "foreign keys of public.orders",
        "DROP",
        "earlier migration",
    );
    check(
        "DROP TABLE empty CASCADE;",
        "CASCADE drops what is not named",
        "DROP",
        "name what depends",
    );
    check(
        "ALTER TABLE orders DROP COLUMN id;",
        "part of the primary key",
        "DROP COLUMN id",
        "another primary key",
    );
    check(
        "ALTER TABLE users DROP COLUMN id;",
        "foreign keys of public.orders may reference",
        "DROP COLUMN id",
        "",
    );
    check(
        "-- pgshift: contract\nALTER TABLE orders RENAME note TO n;\nALTER TABLE orders DROP COLUMN n;",
        "renamed or dropped further up",
        "DROP COLUMN n",
        "later migration",
    );
    let file = format!(
        "{ADD}UPDATE orders SET b = note;\n-- pgshift: contract\nALTER TABLE orders RENAME TO o;"
    );
    check(
        &file,
        "need the name public.orders",
        "RENAME TO o",
        "later migration",
    );

    let mut catalog = catalog(15);
    let orders = catalog
        .tables
        .values_mut()
        .find(|t| t.name.name == "orders")
        .expect("orders");
    orders
        .dependents
        .insert("note".into(), vec!["view report".into()]);
    check_in(
        &catalog,
        "ALTER TABLE orders DROP COLUMN note;",
        "view report depend",
        "note",
        "earlier migration",
    );
    check_in(
        &catalog,
        "DROP TABLE orders;",
        "view report depend",
        "DROP",
        "earlier migration",
    );
    catalog
        .tables
        .values_mut()
        .find(|t| t.name.name == "orders")
        .expect("orders")
        .triggers
        .push(Trigger {
            name: "zzz_pgshift_sync_99_orders_00000000".into(),
            definition: String::new(),
            before: true,
            row: true,
            on_insert: true,
            on_update: true,
            on_delete: false,
            enabled: true,
        });
    for file in [
        "ALTER TABLE orders DROP COLUMN email;",
        "ALTER TABLE orders RENAME email TO e;",
        "ALTER TABLE orders RENAME TO o;",
        "DROP TABLE orders;",
    ] {
        check_in(
            &catalog,
            file,
            "of an earlier migration still writes",
            "",
            "pgshift purge",
        );
    }
}

#[test]
fn tables_that_cannot_be_walked() {
    let with = |change: fn(&mut crate::catalog::Table)| {
        let mut catalog = catalog(15);
        let name = crate::catalog::QName::new("public", "orders");
        change(catalog.tables.get_mut(&name).expect("orders"));
        catalog
    };
    let file = "UPDATE orders SET note = 'x';";
    check_in(
        &with(|t| t.row_security = true),
        file,
        "row security hides rows",
        "orders",
        "BYPASSRLS",
    );
    check_in(
        &with(|t| t.owned = false),
        file,
        "does not own",
        "orders",
        "as the owner",
    );
    check_in(
        &with(|t| t.inherited = true),
        file,
        "inheritance children",
        "orders",
        "each table",
    );
    check_in(
        &with(|t| t.leaves[0].kind = crate::catalog::RelKind::Foreign),
        file,
        "foreign table as a partition",
        "orders",
        "own server",
    );
    check_in(
        &with(|t| t.indexes.clear()),
        file,
        "needs a primary key",
        "UPDATE",
        "add one",
    );
    check(
        "UPDATE orders SET id = id + 1;",
        "writes to the primary key",
        "UPDATE",
        "new column and swap",
    );
    check(
        "UPDATE ONLY events SET at = NULL;",
        "holds no rows itself",
        "events",
        "leave ONLY out",
    );
    check(
        "-- pgshift: backfill strategy=ctid\nUPDATE orders SET note = 'x';",
        "escape or be met twice",
        "UPDATE",
        "strategy=ctid",
    );
    let mut catalog = catalog(15);
    let late = Trigger {
        name: "\u{7f}".into(),
        definition: String::new(),
        before: true,
        row: true,
        on_insert: true,
        on_update: true,
        on_delete: false,
        enabled: true,
    };
    catalog
        .tables
        .values_mut()
        .find(|t| t.name.name == "orders")
        .expect("orders")
        .triggers
        .push(late);
    check_in(
        &catalog,
        &format!("{ADD}UPDATE orders SET b = note;"),
        "sorts after every name",
        "",
        "rename that trigger",
    );
    // Only here for its use: a table of another name has no such trigger.
    catalog.tables.insert(
        crate::catalog::QName::new("public", "free"),
        table(
            "free",
            vec![
                super::super::testing::not_null("id", "int"),
                column("a", "int"),
            ],
        ),
    );
    planned(
        &catalog,
        "ALTER TABLE free ADD b int; UPDATE free SET b = a;",
    )
    .expect("a plan");
}

#[test]
fn answers_from_the_text_are_never_too_few() {
    let file = format!(
        "{ADD}UPDATE orders o SET b = o.note || \"email\" || lower(x.total) FROM users x WHERE user_id = x.id;"
    );
    let migration = parse("m", Source::new("m.sql", &*file)).expect("a file");
    let catalog = catalog(15);
    let draft = Draft::new(&migration, &catalog).expect("a draft");
    let Answer {
        expressions,
        condition,
    } = &from_text(&draft)[0];
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|n| (*n).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(expressions, &[set(&["email", "note"])]);
    assert_eq!(condition, &set(&["user_id"]));
}

const ALLOWABLE: &[(&str, &str)] = &[
    ("rewrite-table", "CLUSTER orders USING orders_email_idx"),
    ("rewrite-table", "VACUUM FULL orders"),
    ("rewrite-table", "ALTER TABLE orders SET TABLESPACE fast"),
    ("rewrite-table", "ALTER TABLE orders SET UNLOGGED"),
    ("refresh-blocking", "REFRESH MATERIALIZED VIEW daily"),
    ("create-index-blocking", "CREATE INDEX i ON events (id)"),
    (
        "add-exclusion",
        "ALTER TABLE orders ADD CONSTRAINT x EXCLUDE (id WITH =)",
    ),
    (
        "add-unique",
        "ALTER TABLE events ADD CONSTRAINT u UNIQUE (id)",
    ),
    (
        "bulk-change",
        "WITH x AS (DELETE FROM orders RETURNING *) INSERT INTO old SELECT * FROM x",
    ),
];

#[test]
fn what_costs_runs_as_written_where_the_author_allows_it() {
    let revert = "-- pgshift: revert\nSELECT 1;";
    for (rule, sql) in ALLOWABLE {
        let help = format!("`-- pgshift: allow {rule} reason=\"…\"`");
        check(&format!("{sql};"), "", "", &help);
        assert!(crate::lint::rules::named(rule).is_some(), "{rule}");
        let with = |rule: &str| format!("-- pgshift: allow {rule} reason=\"at night\"\n{sql};\n");
        check(&with("drop-table"), "", "", &help);
        let plan = planned(&catalog(15), &with(rule))
            .or_else(|_| planned(&catalog(15), &format!("{}{revert}", with(rule))))
            .unwrap_or_else(|e| panic!("{sql}: {e}"));
        let [step] = plan.steps.as_slice() else {
            panic!("{sql}: {:?}", plan.steps);
        };
        match &step.work {
            Work::Sql { statements } => assert_eq!(statements, &[(*sql).to_owned()]),
            Work::Concurrent { sql: run, .. } => assert_eq!(run, sql),
            other => panic!("{other:?}"),
        }
        assert!(!step.locks.is_empty(), "{sql}");
        let note = format!("allowed as written ({rule}: at night): ");
        assert!(step.notes[0].starts_with(&note), "{:?}", step.notes);
        let warned = |w: &&String| w.starts_with(&format!("line 2: {note}"));
        assert_eq!(plan.warnings.iter().filter(warned).count(), 1, "{sql}");
    }
}

#[test]
fn what_is_wrong_is_refused_whatever_is_allowed() {
    for (rule, sql) in [
        ("lock-table", "LOCK TABLE orders"),
        (
            "add-column-not-null",
            "ALTER TABLE orders ADD COLUMN n int NOT NULL",
        ),
        (
            "partitioned-index-concurrently",
            "CREATE INDEX CONCURRENTLY i ON events (id)",
        ),
        ("drop-index-blocking", "DROP INDEX orders_email_idx CASCADE"),
        ("rewrite-table", "VACUUM FULL"),
    ] {
        let file = format!("-- pgshift: allow {rule} reason=\"at night\"\n{sql};");
        assert!(planned(&catalog(15), &file).is_err(), "{sql}");
    }
}

#[test]
fn an_allow_is_for_its_sub_command_alone() {
    let file = "-- pgshift: allow change-column-type reason=\"small\"\n\
                ALTER TABLE orders ALTER total TYPE text, ADD CONSTRAINT c CHECK (id > 0);";
    let plan = planned(
        &catalog(15),
        &format!("{file}\n-- pgshift: revert\nSELECT 1;"),
    )
    .expect("a plan");
    let shown = shown(&plan);
    assert!(
        shown.contains("ALTER TABLE orders ALTER total TYPE text\n"),
        "{shown}"
    );
    assert!(shown.contains("CHECK (id > 0) NOT VALID"), "{shown}");
    let two = file.replace("ADD CONSTRAINT c CHECK (id > 0)", "SET UNLOGGED");
    check(
        &two,
        "SET LOGGED or UNLOGGED blocks",
        "",
        "allow rewrite-table",
    );
}
