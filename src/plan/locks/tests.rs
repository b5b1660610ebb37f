use super::*;
use crate::catalog::{Link, LinkKind, QName};
use crate::plan::testing::catalog;
use crate::sql::ddl::understand;

fn locked(text: &str) -> Vec<String> {
    locks(&understand(text), &catalog(15))
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn check(text: &str, expected: &[&str]) {
    check_in(&catalog(15), text, expected);
}

fn check_in(catalog: &Catalog, text: &str, expected: &[&str]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let action = understand(text);
    let all = locks(&action, catalog)
        .into_iter()
        .chain(read_locks(text, &action, catalog));
    let mut found: Vec<String> = all.map(|lock| lock.to_string()).collect();
    found.sort_unstable();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn alter_table() {
    let orders = |mode: &str| vec![format!("{mode} on public.orders")];
    for (op, mode) in [
        ("ADD COLUMN a int", "ACCESS EXCLUSIVE"),
        ("DROP COLUMN note", "ACCESS EXCLUSIVE"),
        ("ALTER a SET DEFAULT 1", "ACCESS EXCLUSIVE"),
        ("ALTER a SET NOT NULL", "ACCESS EXCLUSIVE"),
        ("ALTER note TYPE text", "ACCESS EXCLUSIVE"),
        ("ADD CHECK (id > 0) NOT VALID", "ACCESS EXCLUSIVE"),
        ("ADD UNIQUE (total)", "ACCESS EXCLUSIVE"),
        ("RENAME TO x", "ACCESS EXCLUSIVE"),
        ("SET SCHEMA app", "ACCESS EXCLUSIVE"),
        ("ENABLE ROW LEVEL SECURITY", "ACCESS EXCLUSIVE"),
        ("FROBNICATE", "ACCESS EXCLUSIVE"),
        ("SET (user_catalog_table = on)", "ACCESS EXCLUSIVE"),
        ("ALTER a SET STORAGE EXTERNAL", "ACCESS EXCLUSIVE"),
        ("DISABLE TRIGGER audit", "SHARE ROW EXCLUSIVE"),
        (
            "VALIDATE CONSTRAINT orders_total_check",
            "SHARE UPDATE EXCLUSIVE",
        ),
        ("ALTER a SET STATISTICS 100", "SHARE UPDATE EXCLUSIVE"),
        ("ALTER a SET (n_distinct = 5)", "SHARE UPDATE EXCLUSIVE"),
        (
            "SET (fillfactor = 70, toast.autovacuum_enabled = off)",
            "SHARE UPDATE EXCLUSIVE",
        ),
        ("CLUSTER ON orders_email_idx", "SHARE UPDATE EXCLUSIVE"),
        // The strongest of its sub-commands.
        (
            "ALTER a SET STATISTICS 1, ADD COLUMN b int",
            "ACCESS EXCLUSIVE",
        ),
    ] {
        assert_eq!(
            locked(&format!("ALTER TABLE orders {op}")),
            orders(mode),
            "{op}"
        );
    }
}

#[test]
fn foreign_keys_lock_both_tables() {
    let both = |mode: &str| {
        [
            format!("{mode} on public.orders"),
            format!("{mode} on public.users"),
        ]
    };
    assert_eq!(
        locked("ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES users NOT VALID"),
        both("SHARE ROW EXCLUSIVE")
    );
    for text in [
        "ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey",
        "ALTER TABLE orders DROP COLUMN user_id",
        "ALTER TABLE orders ALTER user_id TYPE int",
        "DROP TABLE orders",
        "DROP TABLE users CASCADE",
        "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE",
        "TRUNCATE users CASCADE",
    ] {
        assert_eq!(locked(text), both("ACCESS EXCLUSIVE"), "{text}");
    }
    check(
        "ALTER TABLE orders ADD COLUMN u bigint REFERENCES users",
        &[
            "ACCESS EXCLUSIVE on public.orders",
            "SHARE ROW EXCLUSIVE on public.users",
        ],
    );
    check(
        "ALTER TABLE orders VALIDATE CONSTRAINT orders_user_id_fkey",
        &["SHARE UPDATE EXCLUSIVE on public.orders"],
    );
    let mut later = catalog(15);
    let orders = later.tables.get_mut(&QName::new("public", "orders"));
    for constraint in &mut orders.unwrap().constraints {
        constraint.validated = false;
    }
    check_in(
        &later,
        "ALTER TABLE orders VALIDATE CONSTRAINT orders_user_id_fkey",
        &[
            "SHARE UPDATE EXCLUSIVE on public.orders",
            "ROW SHARE on public.users",
        ],
    );
    check(
        "CREATE TABLE t (id int REFERENCES users, LIKE orders)",
        &[
            "ACCESS EXCLUSIVE on app.t",
            "SHARE ROW EXCLUSIVE on public.users",
            "ACCESS SHARE on public.orders",
        ],
    );
}

#[test]
fn partitions_are_locked_with_their_parent() {
    check(
        "ALTER TABLE events ADD COLUMN a int",
        &[
            "ACCESS EXCLUSIVE on public.events",
            "ACCESS EXCLUSIVE on public.events_1",
        ],
    );
    check(
        "ALTER TABLE events RENAME TO e",
        &["ACCESS EXCLUSIVE on public.events"],
    );
    check(
        "CREATE INDEX ON ONLY events (at)",
        &["SHARE on public.events"],
    );
    check(
        "DROP TABLE events_1",
        &[
            "ACCESS EXCLUSIVE on public.events",
            "ACCESS EXCLUSIVE on public.events_1",
        ],
    );
    check(
        "CREATE TABLE e2 PARTITION OF events FOR VALUES IN (2)",
        &[
            "ACCESS EXCLUSIVE on app.e2",
            "ACCESS EXCLUSIVE on public.events",
        ],
    );
    check(
        "ALTER TABLE events ATTACH PARTITION users FOR VALUES IN (2)",
        &[
            "SHARE UPDATE EXCLUSIVE on public.events",
            "ACCESS EXCLUSIVE on public.users",
        ],
    );
    check(
        "ALTER TABLE events DETACH PARTITION events_1",
        &[
            "ACCESS EXCLUSIVE on public.events",
            "ACCESS EXCLUSIVE on public.events_1",
        ],
    );
    check(
        "ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY",
        &[
            "SHARE UPDATE EXCLUSIVE on public.events",
            "ACCESS EXCLUSIVE on public.events_1",
        ],
    );
}

#[test]
fn other_statements() {
    for (text, expected) in [
        (
            "CREATE INDEX i ON orders (total)",
            vec!["SHARE on public.orders"],
        ),
        (
            "CREATE INDEX CONCURRENTLY i ON orders (total)",
            vec!["SHARE UPDATE EXCLUSIVE on public.orders"],
        ),
        (
            "DROP INDEX orders_email_idx",
            vec![
                "ACCESS EXCLUSIVE on public.orders",
                "ACCESS EXCLUSIVE on public.orders_email_idx",
            ],
        ),
        (
            "REINDEX INDEX orders_email_idx",
            vec![
                "SHARE on public.orders",
                "ACCESS EXCLUSIVE on public.orders_email_idx",
            ],
        ),
        (
            "CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f()",
            vec!["SHARE ROW EXCLUSIVE on public.orders"],
        ),
        (
            "DROP TRIGGER audit ON orders",
            vec!["ACCESS EXCLUSIVE on public.orders"],
        ),
        (
            "CREATE POLICY p ON orders",
            vec!["ACCESS EXCLUSIVE on public.orders"],
        ),
        (
            "CREATE STATISTICS st ON a, b FROM orders",
            vec!["SHARE UPDATE EXCLUSIVE on public.orders"],
        ),
        (
            "COMMENT ON TABLE orders IS 'x'",
            vec!["SHARE UPDATE EXCLUSIVE on public.orders"],
        ),
        (
            "COMMENT ON COLUMN report.a IS 'x'",
            vec!["SHARE UPDATE EXCLUSIVE on public.report"],
        ),
        (
            "VACUUM orders",
            vec!["SHARE UPDATE EXCLUSIVE on public.orders"],
        ),
        (
            "VACUUM FULL orders",
            vec!["ACCESS EXCLUSIVE on public.orders"],
        ),
        ("CLUSTER orders", vec!["ACCESS EXCLUSIVE on public.orders"]),
        (
            "REFRESH MATERIALIZED VIEW daily",
            vec!["ACCESS EXCLUSIVE on public.daily"],
        ),
        (
            "REFRESH MATERIALIZED VIEW CONCURRENTLY daily",
            vec!["EXCLUSIVE on public.daily"],
        ),
        (
            "LOCK orders IN EXCLUSIVE MODE",
            vec!["EXCLUSIVE on public.orders"],
        ),
        (
            "UPDATE orders SET total = 1",
            vec!["ROW EXCLUSIVE on public.orders"],
        ),
        (
            "ALTER INDEX orders_email_idx RENAME TO i",
            vec!["SHARE UPDATE EXCLUSIVE on public.orders_email_idx"],
        ),
        (
            "ALTER SEQUENCE orders_id_seq INCREMENT BY 2",
            vec!["SHARE ROW EXCLUSIVE on public.orders_id_seq"],
        ),
        (
            "ALTER DOMAIN d ADD CHECK (VALUE > 0)",
            vec!["SHARE on unknown tables"],
        ),
        ("ALTER DOMAIN d ADD CHECK (VALUE > 0) NOT VALID", vec![]),
        (
            "DO $$ BEGIN END $$",
            vec!["ACCESS EXCLUSIVE on unknown tables"],
        ),
        (
            "FROBNICATE orders",
            vec!["ACCESS EXCLUSIVE on unknown tables"],
        ),
        (
            "DROP TYPE mood CASCADE",
            vec!["ACCESS EXCLUSIVE on unknown tables"],
        ),
        ("DROP TYPE mood", vec![]),
        ("CREATE TYPE mood AS ENUM ()", vec![]),
        ("ALTER TYPE mood ADD VALUE 'x'", vec![]),
        ("SELECT 1", vec![]),
        ("GRANT SELECT ON orders TO app", vec![]),
    ] {
        check(text, &expected);
    }
}

#[test]
fn what_the_server_refuses_in_a_transaction_block() {
    for text in [
        "CREATE INDEX CONCURRENTLY i ON orders (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX TABLE CONCURRENTLY orders",
        "REINDEX DATABASE shop",
        "VACUUM orders",
        "CLUSTER",
        "ALTER TABLE events DETACH PARTITION events_1 CONCURRENTLY",
        "CREATE DATABASE x",
        "ALTER SYSTEM RESET ALL",
    ] {
        assert!(!transactional(&understand(text)), "{text}");
    }
    for text in [
        "CREATE INDEX i ON orders (a)",
        "ALTER TYPE mood ADD VALUE 'x'",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY daily",
        "CLUSTER orders",
        "ANALYZE",
        "FROBNICATE",
    ] {
        assert!(transactional(&understand(text)), "{text}");
    }
}

fn link(from: &str, to: &str, kind: LinkKind, columns: &[&str]) -> Link {
    Link {
        from: QName::new("public", from),
        to: QName::new("public", to),
        kind,
        columns: columns.iter().map(|&c| c.to_owned()).collect(),
    }
}

#[test]
fn what_is_tied_to_a_table_is_locked_with_it() {
    let mut catalog = catalog(15);
    catalog.links = Some(vec![
        link("orders", "users", LinkKind::ForeignKey, &["id"]),
        link("items", "orders", LinkKind::ForeignKey, &["id"]),
        link("report", "orders", LinkKind::Reads, &["total"]),
        link("daily", "report", LinkKind::Reads, &["total"]),
        link("orders_id_seq", "orders", LinkKind::OwnedBy, &["id"]),
        link("old_orders", "orders", LinkKind::Inherits, &[]),
        link("orders", "mood", LinkKind::Column, &["note"]),
    ]);
    let exclusive = |names: &[&str]| -> Vec<String> {
        let one = |name: &&str| format!("ACCESS EXCLUSIVE on public.{name}");
        names.iter().map(one).collect()
    };
    for (text, names) in [
        (
            "ALTER TABLE orders ADD COLUMN n int",
            &["old_orders", "orders"][..],
        ),
        (
            "ALTER TABLE ONLY orders ALTER note DROP DEFAULT",
            &["orders"],
        ),
        (
            "ALTER TABLE orders OWNER TO x",
            &["orders", "orders_id_seq"],
        ),
        (
            "ALTER TABLE orders DROP COLUMN total CASCADE",
            &["daily", "old_orders", "orders", "report"],
        ),
        ("DROP VIEW report CASCADE", &["daily", "report"]),
        (
            "DROP SEQUENCE orders_id_seq CASCADE",
            &["orders", "orders_id_seq"],
        ),
        (
            "TRUNCATE users CASCADE",
            &["items", "old_orders", "orders", "users"],
        ),
        ("DROP TYPE public.mood CASCADE", &["orders"]),
    ] {
        let found: Vec<String> = locks(&understand(text), &catalog)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, exclusive(names), "{text}");
    }
    check_in(
        &catalog,
        "SELECT * FROM report FOR UPDATE",
        &[
            "ROW SHARE on public.old_orders",
            "ROW SHARE on public.orders",
            "ROW SHARE on public.report",
        ],
    );
    check_in(
        &catalog,
        "UPDATE users SET name = email FROM orders WHERE user_id = users.id",
        &[
            "ACCESS SHARE on public.old_orders",
            "ACCESS SHARE on public.orders",
            "ROW EXCLUSIVE on public.users",
        ],
    );
}

#[test]
fn publications_lock_their_tables() {
    check(
        "ALTER PUBLICATION p ADD TABLE orders (id), TABLE users WHERE (id > 0)",
        &[
            "SHARE UPDATE EXCLUSIVE on public.orders",
            "SHARE UPDATE EXCLUSIVE on public.users",
        ],
    );
    check("ALTER PUBLICATION p SET (publish = 'insert')", &[]);
}
