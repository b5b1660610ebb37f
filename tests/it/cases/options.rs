//! UPDATE with FROM, several backfills, and the options of a backfill.

use crate::cases::says;
use crate::lifecycle::{Life, Project};

#[tokio::test]
async fn update_from_under_traffic() {
    Life {
        name: "update_from",
        setup: "
            CREATE TABLE customers (id int PRIMARY KEY, country text NOT NULL);
            INSERT INTO customers SELECT n, 'C' || n % 7 FROM generate_series(1, 100) n;
            CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers);
            INSERT INTO orders SELECT n, 1 + n % 100 FROM generate_series(1, 5000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE orders ADD COLUMN country text;
            -- pgshift: backfill batch=300
            UPDATE orders o SET country = c.country FROM customers c
            WHERE c.id = o.customer; -- nothing else",
        traffic: Some(|n| match n % 3 {
            0 => format!(
                "INSERT INTO orders (id, customer) VALUES ({}, {})",
                10_000 + n,
                1 + n % 100
            ),
            1 => format!("INSERT INTO orders (id) VALUES ({})", 10_000 + n),
            _ => format!(
                "UPDATE orders SET customer = {} WHERE id = {}",
                1 + n * 7 % 100,
                n % 5000
            ),
        }),
        ready: &[
            "SELECT bool_and(o.country IS NOT DISTINCT FROM c.country) FROM orders o
                  LEFT JOIN customers c ON c.id = o.customer",
        ],
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn two_backfills_of_one_table() {
    Life {
        name: "two_backfills",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b text NOT NULL);
            INSERT INTO t SELECT n, n, 'B' || n FROM generate_series(1, 3000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN a2 bigint;
            ALTER TABLE t ADD COLUMN b2 text;
            -- pgshift: backfill
            UPDATE t SET a2 = a * 2;
            -- pgshift: backfill batch=100
            UPDATE t SET b2 = lower(b);
            -- pgshift: reverse
            UPDATE t SET a = a2 / 2;
            UPDATE t SET b = upper(b2);
            -- pgshift: contract
            ALTER TABLE t DROP COLUMN a, DROP COLUMN b;",
        traffic: Some(|n| match n % 3 {
            0 => format!("INSERT INTO t (id, a, b) VALUES ({}, 1, 'N')", 10_000 + n),
            1 => format!("UPDATE t SET a = a + 1 WHERE id = {}", n % 3000),
            _ => format!("UPDATE t SET b = 'U{n}' WHERE id = {}", n % 3000),
        }),
        ready: &["SELECT bool_and(a2 = a * 2 AND b2 = lower(b)) FROM t"],
        complete: &["SELECT bool_and(a2 > 0 AND b2 <> '') FROM t"],
        new_version: Some((
            "UPDATE t SET a2 = 100 WHERE id = 1; UPDATE t SET b2 = 'x' WHERE id = 2",
            "UPDATE t SET b2 = 'y' WHERE id = 3; INSERT INTO t (id, a2, b2) VALUES (0, 8, 'z')",
            &[
                "SELECT array_agg(a || b ORDER BY id) = '{4Z,50B1,2X,3Y}' FROM t
               WHERE id < 4 AND id NOT IN (SELECT -1)",
            ],
        )),
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn two_tables_in_one_file() {
    Life {
        name: "two_tables",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL);
            CREATE TABLE u (id int PRIMARY KEY, b int NOT NULL);
            INSERT INTO t SELECT n, n FROM generate_series(1, 2000) n;
            INSERT INTO u SELECT n, n FROM generate_series(1, 2000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN a2 bigint;
            ALTER TABLE u ADD COLUMN b2 bigint;
            -- pgshift: backfill
            UPDATE t SET a2 = a * 2;
            UPDATE u SET b2 = b * 3;
            -- pgshift: reverse
            UPDATE u SET b = b2 / 3;
            -- pgshift: contract
            ALTER TABLE t ALTER COLUMN a2 SET NOT NULL;
            ALTER TABLE u DROP COLUMN b;",
        traffic: Some(|n| match n % 2 {
            0 => format!("UPDATE t SET a = a + 1 WHERE id = {}", n % 2000),
            _ => format!("UPDATE u SET b = b + 1 WHERE id = {}", n % 2000),
        }),
        ready: &[
            "SELECT bool_and(a2 = a * 2) FROM t",
            "SELECT bool_and(b2 = b * 3) FROM u",
        ],
        ..Life::default()
    }
    .live()
    .await;
}

const PLAIN: &str = "
    CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL);
    INSERT INTO t SELECT n, n FROM generate_series(1, 5000) n;";

#[tokio::test]
async fn without_sync_there_is_no_trigger() {
    let project = Life {
        name: "sync_off",
        setup: PLAIN,
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN a2 bigint;
            -- pgshift: backfill sync=off
            UPDATE t SET a2 = a * 2;",
        ready: &[
            "SELECT bool_and(a2 = a * 2) FROM t",
            "NOT EXISTS (SELECT FROM pg_trigger WHERE tgname LIKE '%pgshift%')",
        ],
        ..Life::default()
    }
    .live()
    .await;
    drop(project);
}

/// What a later insert leaves null is found by verify, and named.
#[tokio::test]
async fn without_sync_verify_finds_what_was_missed() {
    let project = Project::new(
        "sync_off_missed",
        PLAIN,
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN a2 bigint;\n\
         -- pgshift: backfill sync=off\nUPDATE t SET a2 = a * 2;\n\
         -- pgshift: contract\nALTER TABLE t ALTER COLUMN a2 SET NOT NULL;",
    )
    .await;
    project.to("apply", "ready").await;
    project.db.execute("INSERT INTO t VALUES (99999, 1)").await;
    let output = project.command("verify", &[]).await.expect(1);
    says(&output, &["verified public.t: 1 wrong row: id=99999"]);
    let output = project.command("contract", &[]).await.expect(1);
    says(&output, &["id=99999", "pgshift resume"]);
    project
        .db
        .execute("UPDATE t SET a2 = 2 WHERE id = 99999")
        .await;
    project.to("resume", "complete").await;
}

#[tokio::test]
async fn by_key_with_a_trigger() {
    Life {
        name: "keyset",
        setup: PLAIN,
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN a2 bigint;
            -- pgshift: backfill strategy=keyset
            UPDATE t SET a2 = a * 2;",
        traffic: Some(|n| match n % 2 {
            0 => format!("INSERT INTO t (id, a) VALUES ({}, 1)", 10_000 + n),
            _ => format!("UPDATE t SET a = a + 1 WHERE id = {}", n % 5000),
        }),
        ready: &[
            "SELECT bool_and(a2 = a * 2) FROM t",
            "SELECT bool_and(strategy = 'keyset') FROM pgshift.checkpoint",
        ],
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn batches_of_a_fixed_size() {
    let project = Project::new(
        "batch",
        PLAIN,
        "-- pgshift: backfill batch=100\nUPDATE t SET a = a + 1;",
    )
    .await;
    project.to("apply", "complete").await;
    project
        .holds(&[
            "SELECT sum(a) = (5000 * 5001) / 2 + 5000 FROM t",
            // The last one finds that nothing is left.
            "SELECT rows = 5000 AND chunks IN (50, 51) FROM pgshift.checkpoint",
        ])
        .await;
}

#[tokio::test]
async fn several_workers() {
    let project = Life {
        name: "workers",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, pad text) WITH (fillfactor = 10);
            INSERT INTO t SELECT n, n, repeat('x', 100) FROM generate_series(1, 20000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN a2 bigint;
            -- pgshift: backfill workers=4 batch=500
            UPDATE t SET a2 = a * 2;",
        traffic: Some(|n| match n % 2 {
            0 => format!("INSERT INTO t (id, a) VALUES ({}, 1)", 100_000 + n),
            _ => format!("UPDATE t SET a = a + 1 WHERE id = {}", n * 101 % 20000),
        }),
        ready: &[
            "SELECT bool_and(a2 = a * 2) FROM t",
            "SELECT count(*) >= 8 AND bool_and(done AND chunks > 1) FROM pgshift.checkpoint
             WHERE run_id = (SELECT max(run_id) FROM pgshift.checkpoint)",
        ],
        ..Life::default()
    }
    .live()
    .await;
    drop(project);
}
