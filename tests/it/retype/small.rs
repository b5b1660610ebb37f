//! What the server does under a lock only, and is therefore done for small tables: exclusion
//! constraints and stored generated columns.

use super::Case;
use super::dependents::major;
use crate::lifecycle::{Project, assert_same};
use crate::support::Cli;

#[tokio::test]
async fn exclusion_constraints() {
    Case {
        name: "retype_exclusion",
        setup: "CREATE TABLE bookings (id int PRIMARY KEY, room int NOT NULL, slot int, during tsrange,
                note text, CONSTRAINT \"No \"\"two\"\"\" EXCLUDE USING gist
                    (numrange(room, room, '[]') WITH &&, during WITH &&) WITH (fillfactor = 80)
                    WHERE (room > 0),
                CONSTRAINT \"where\" EXCLUDE (room WITH =, slot WITH =) DEFERRABLE INITIALLY DEFERRED,
                EXCLUDE USING hash (note WITH =));
             COMMENT ON CONSTRAINT \"No \"\"two\"\"\" ON bookings IS 'it''s one room';
             COMMENT ON INDEX \"where\" IS 'an index too';
             ALTER INDEX \"No \"\"two\"\"\" ALTER COLUMN 1 SET STATISTICS 12;
             INSERT INTO bookings SELECT n, n, n % 5,
                 tsrange('2024-01-01'::timestamp + n * interval '1 hour',
                         '2024-01-01'::timestamp + (n + 1) * interval '1 hour'), 'n' || n
             FROM generate_series(1, 2000) n;",
        file: "ALTER TABLE bookings ALTER COLUMN room TYPE bigint;",
        // The server forgets the target.
        direct: "ALTER TABLE bookings ALTER COLUMN room TYPE bigint;
             ALTER INDEX \"No \"\"two\"\"\" ALTER COLUMN 1 SET STATISTICS 12;",
        traffic: |n| match n % 4 {
            0 => format!(
                "INSERT INTO bookings (id, room, slot, during, note) VALUES ({0}, {0}, 1, tsrange('2025-01-01', '2025-01-02'), NULL)",
                10_000 + n
            ),
            1 => format!(
                "UPDATE bookings SET room = {} WHERE id = {}",
                1_000_000 + n,
                1 + n % 2000
            ),
            2 => format!("DELETE FROM bookings WHERE id = {}", 10_000 + n - 2),
            _ => format!("SELECT * FROM bookings WHERE room = {n}"),
        },
        ready: &["SELECT count(*) = 5 FROM pg_constraint
                  WHERE conrelid = 'bookings'::regclass AND contype = 'x'"],
        complete: &["SELECT count(*) = 3 FROM pg_constraint
                  WHERE conrelid = 'bookings'::regclass AND contype = 'x'"],
        after: (
            "INSERT INTO bookings (id, room, slot, during, note) VALUES (90000, 2000001, 1, tsrange('2025-01-01', '2025-01-02'), NULL)",
            &["SELECT room = 2000001 FROM bookings WHERE id = 90000"],
        ),
        lost: &[],
    }
    .check()
    .await;
}

/// What others than the new column's own have at every moment: no two rows that exclude each other.
#[tokio::test]
async fn a_constraint_holds_all_the_time() {
    let project = Project::new(
        "retype_exclusion_holds",
        "CREATE TABLE t (id int PRIMARY KEY, n int, EXCLUDE (n WITH =));
         INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;",
        "ALTER TABLE t ALTER n TYPE bigint;",
    )
    .await;
    let twice = "INSERT INTO t (id, n) VALUES (900, 7)";
    for (command, state) in [
        ("apply", "ready"),
        ("contract", "complete"),
        ("revert", "reverted"),
    ] {
        project.to(command, state).await;
        let error = project.db.client().await.batch_execute(twice).await;
        let error = error.expect_err("two rows of 7");
        let code = error.code().map(|c| c.code().to_owned());
        assert_eq!(code.as_deref(), Some("23P01"), "{state}: {error}");
    }
}

/// The direct statements: what the server wants to be away before is dropped and added again.
const ADDED: &str = "
    ALTER TABLE orders ADD twice numeric(20, 2) GENERATED ALWAYS AS (code * 2.0) STORED NOT NULL;
    ALTER TABLE orders ADD \"Sum of\" bigint
        GENERATED ALWAYS AS (id + code + coalesce(length(note), 0)) STORED;
    ALTER TABLE orders ADD as_text text COLLATE \"C\" GENERATED ALWAYS AS (code::text) STORED;
    ALTER TABLE orders ALTER as_text SET STORAGE EXTERNAL, ALTER as_text SET COMPRESSION pglz,
        ALTER as_text SET STATISTICS 77, ALTER as_text SET (n_distinct = -0.5);
    COMMENT ON COLUMN orders.twice IS 'it''s twice';
    GRANT SELECT (twice), UPDATE (twice) ON orders TO PUBLIC;
    CREATE INDEX \"By \"\"sum\"\"\" ON orders ((\"Sum of\" + 1), note) WHERE note IS NOT NULL;
    COMMENT ON INDEX \"By \"\"sum\"\"\" IS 'by the sum';
    ALTER INDEX \"By \"\"sum\"\"\" ALTER COLUMN 1 SET STATISTICS 13;
    CREATE UNIQUE INDEX by_twice ON orders (twice, id);
    ALTER TABLE orders CLUSTER ON by_twice;
    ALTER TABLE orders REPLICA IDENTITY USING INDEX by_twice;
    ALTER TABLE orders ADD CONSTRAINT one UNIQUE (\"Sum of\", id) DEFERRABLE,
        ADD CONSTRAINT filled CHECK (twice IS NOT NULL) NOT VALID,
        ADD CONSTRAINT other EXCLUDE (as_text WITH =, id WITH =);
    COMMENT ON CONSTRAINT one ON orders IS 'one of a sum';
    COMMENT ON CONSTRAINT filled ON orders IS 'not null';
    CREATE STATISTICS of_note (dependencies) ON twice, note FROM orders;
    ALTER STATISTICS of_note SET STATISTICS 55;
    COMMENT ON STATISTICS of_note IS 'statistics';
    CREATE VIEW doubled AS SELECT twice, code FROM orders;
    GRANT SELECT ON doubled TO PUBLIC;
    CREATE VIEW summed AS SELECT sum(\"Sum of\") FROM orders;
    CREATE POLICY of_sum ON orders FOR SELECT USING (\"Sum of\" > 0);";

#[tokio::test]
async fn stored_generated_columns() {
    let setup = format!(
        "CREATE TABLE orders (id int PRIMARY KEY, code int NOT NULL, note text);
         INSERT INTO orders SELECT n, n * 2, 'n' || n FROM generate_series(1, 2000) n;
         {ADDED} CREATE INDEX ON orders (code);"
    );
    let direct = format!(
        "DROP VIEW doubled; DROP VIEW summed; DROP POLICY of_sum ON orders;
         ALTER TABLE orders DROP twice, DROP \"Sum of\", DROP as_text;
         ALTER TABLE orders ALTER COLUMN code TYPE bigint;
         {ADDED}"
    );
    Case {
        name: "retype_stored",
        setup: setup.leak(),
        file: "ALTER TABLE orders ALTER COLUMN code TYPE bigint;",
        direct: direct.leak(),
        traffic: |n| match n % 4 {
            0 => format!("INSERT INTO orders (id, code) VALUES ({}, {n})", 10_000 + n),
            1 => format!("UPDATE orders SET code = {n} WHERE id = {}", 1 + n % 2000),
            2 => "SELECT * FROM summed".into(),
            _ => format!("SELECT twice FROM doubled WHERE code = {n}"),
        },
        ready: &["SELECT bool_and(twice = code * 2) FROM orders"],
        complete: &[
            "SELECT bool_and(twice = code * 2 AND \"Sum of\" = id + code + coalesce(length(note), 0)
                 AND as_text = code::text)
             FROM orders",
        ],
        after: (
            "INSERT INTO orders (id, code) VALUES (9000, 2000001)",
            &["SELECT twice = 4000002 FROM orders WHERE id = 9000"],
        ),
        lost: &[],
    }
    .check()
    .await;
}

/// Some 6 MB.
const LARGE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, pad text,
             g int GENERATED ALWAYS AS (n + 1) STORED, m int, EXCLUDE (m WITH =));
         INSERT INTO t (id, n, m, pad) SELECT n, n, n, repeat('x', 1000)
             FROM generate_series(1, 6000) n;";

/// A larger table is refused with a way out, which leads there and back.
#[tokio::test]
async fn a_larger_table_is_refused_unless_taken_on() {
    for (name, file, words) in [
        (
            "stored",
            "ALTER TABLE t ALTER n TYPE bigint;",
            [
                "generated column g of table t",
                "more than the 4 MB",
                "allow add-column-generated-stored",
            ],
        ),
        (
            "exclusion",
            "ALTER TABLE t ALTER m TYPE bigint;",
            [
                "exclusion constraint t_m_excl on m",
                "more than the 4 MB",
                "allow add-exclusion",
            ],
        ),
    ] {
        let project = Project::new(&format!("retype_large_{name}"), LARGE, file).await;
        let plan = project.command("plan", &[]).await.expect(3);
        let said: Vec<_> = plan.stderr.split_whitespace().collect();
        for word in words {
            assert!(
                said.join(" ").contains(word),
                "{word} is not in {}",
                plan.stderr
            );
        }
        let rule = words[2];
        let file = format!("-- pgshift: {rule} reason=\"at night\"\n{file}");
        let project = Project::new(&format!("retype_taken_{name}"), LARGE, &file).await;
        let first = project.picture().await;
        let plan = project.command("plan", &[]).await.expect(0);
        assert!(plan.stdout.contains("nobody can use"), "{}", plan.stdout);
        project.to("apply", "ready").await;
        project.to("contract", "complete").await;
        project.to("revert", "reverted").await;
        let now = project.picture().await;
        assert_same("data", first.data(), now.data());
    }
}

/// A table that has grown since the plan stops the step, and nothing is lost.
#[tokio::test]
async fn a_table_that_has_grown_stops_the_swap() {
    let mut project = Project::new(
        "retype_grown",
        "CREATE TABLE t (id int PRIMARY KEY, n int, pad text,
             g int GENERATED ALWAYS AS (n + 1) STORED);
         INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;",
        "ALTER TABLE t ALTER n TYPE bigint;",
    )
    .await;
    project.to("apply", "ready").await;
    project
        .db
        .execute("INSERT INTO t SELECT n, n, repeat('x', 1000) FROM generate_series(1001, 16000) n")
        .await;
    let stopped = project.command("contract", &[]).await;
    assert_ne!(stopped.code, Some(0));
    for word in ["has grown to", "PGOPTIONS", "pgshift.small"] {
        assert!(stopped.stderr.contains(word), "{}", stopped.stderr);
    }
    let cli = std::mem::replace(&mut project.cli, Cli::offline());
    project.cli = cli.env("PGOPTIONS", "-c pgshift.small=1GB");
    project.to("resume", "complete").await;
    project.to("revert", "reverted").await;
}

/// Up to PostgreSQL 16 a generated column is dropped and added again.
#[tokio::test]
async fn what_would_go_with_a_generated_column_is_refused() {
    if major().await >= 17 {
        return;
    }
    for (name, more, word) in [
        (
            "index",
            "CREATE INDEX ON t (n, g);",
            "an index, a constraint or statistics have both",
        ),
        (
            "key",
            "ALTER TABLE t ADD UNIQUE (g); CREATE TABLE u (g int REFERENCES t (g));",
            "where a foreign key has it",
        ),
        (
            "matview",
            "CREATE MATERIALIZED VIEW m AS SELECT g FROM t;",
            "which materialized view public.m would not outlive",
        ),
    ] {
        let setup = format!(
            "CREATE TABLE t (id int PRIMARY KEY, n int, g int GENERATED ALWAYS AS (n + 1) STORED);
             {more}"
        );
        let file = "ALTER TABLE t ALTER n TYPE bigint;";
        let project = Project::new(&format!("retype_again_{name}"), &setup, file).await;
        let plan = project.command("plan", &[]).await.expect(3);
        let said: Vec<_> = plan.stderr.split_whitespace().collect();
        assert!(said.join(" ").contains(word), "{name}: {}", plan.stderr);
    }
}
