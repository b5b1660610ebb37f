//! What tables there are: partitioned, with every kind of key and with none, and what is no table.

use crate::cases::{refused, says};
use crate::lifecycle::{Life, Project};

#[tokio::test]
async fn rows_move_between_partitions_meanwhile() {
    let project = Life {
        name: "partitioned",
        setup: "
            CREATE TABLE m (id bigint, at date, v numeric(10, 2) NOT NULL, PRIMARY KEY (id, at))
                PARTITION BY RANGE (at);
            CREATE TABLE m_1 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
            CREATE TABLE m_2 PARTITION OF m FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
            CREATE TABLE m_rest PARTITION OF m DEFAULT;
            INSERT INTO m SELECT n, date '2026-01-01' + n % 90, n * 0.01
            FROM generate_series(0, 7999) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE m ADD COLUMN cents bigint;
            -- pgshift: backfill batch=200
            UPDATE m SET cents = round(v * 100);
            -- pgshift: reverse
            UPDATE m SET v = cents / 100.0;
            -- pgshift: contract
            ALTER TABLE m ALTER COLUMN cents SET NOT NULL;
            ALTER TABLE m DROP COLUMN v;",
        traffic: Some(|n| {
            let id = (n * 37) % 8000;
            match n % 4 {
                0 => format!(
                    "INSERT INTO m VALUES ({}, '2026-02-10', {n} * 0.03)",
                    10_000 + n
                ),
                1 | 2 => format!(
                    "UPDATE m SET at = date '2026-01-01' + ({n} * 31 % 90)::int WHERE id = {id}"
                ),
                _ => format!("UPDATE m SET v = v + 1 WHERE id = {id}"),
            }
        }),
        ready: &[
            "SELECT count(*) >= 8000 AND bool_and(cents = round(v * 100)) FROM m",
            "SELECT count(*) = 3 FROM pg_trigger
             WHERE tgname LIKE '%pgshift%' AND tgrelid::regclass::text LIKE 'm\\__%'",
        ],
        complete: &["SELECT bool_and(attnotnull) FROM pg_attribute
                     WHERE attrelid::regclass::text LIKE 'm%' AND attname = 'cents'"],
        new_version: Some((
            "INSERT INTO m VALUES (20000, '2026-01-05', NULL, 1234);
             UPDATE m SET cents = 42 WHERE id = 20000;
             UPDATE m SET at = '2026-02-05' WHERE id = 20000",
            "INSERT INTO m (id, at, cents) VALUES (20001, '2026-01-05', 99);
             UPDATE m SET at = '2026-05-05', cents = 100 WHERE id = 20001",
            &["SELECT array_agg(v ORDER BY id) = '{0.42,1.00}' FROM m WHERE id >= 20000"],
        )),
        ..Life::default()
    }
    .live()
    .await;
    drop(project);
}

#[tokio::test]
async fn a_composite_key_is_followed() {
    Life {
        name: "composite",
        setup: "
            CREATE TABLE stock (region text, n int, amount int, PRIMARY KEY (region, n));
            INSERT INTO stock SELECT (ARRAY['eu', 'us', 'Ünited ''x'' ', 'a,b'])[1 + n % 4], n, n
            FROM generate_series(1, 4000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE stock ADD COLUMN twice int;
            -- pgshift: backfill strategy=keyset batch=150
            UPDATE stock SET twice = amount * 2;",
        traffic: Some(|n| match n % 2 {
            0 => format!("INSERT INTO stock VALUES ('eu', {}, {n})", 100_000 + n),
            _ => format!(
                "UPDATE stock SET amount = amount + 1 WHERE n = {}",
                n % 4000
            ),
        }),
        ready: &[
            "SELECT bool_and(twice = amount * 2) FROM stock",
            "SELECT bool_and(strategy = 'keyset') AND sum(chunks) >= 26 FROM pgshift.checkpoint",
        ],
        complete: &["SELECT bool_and(twice = amount * 2) FROM stock"],
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn a_uuid_key_is_followed_and_each_row_changed_once() {
    Life {
        name: "uuid_key",
        setup: "
            CREATE TABLE counters (id uuid PRIMARY KEY, n int NOT NULL);
            INSERT INTO counters SELECT md5(i::text)::uuid, i FROM generate_series(1, 3000) i;",
        migration: "
            -- pgshift: backfill batch=100
            UPDATE counters SET n = n + 100000;",
        // An update moves the row; its key stays, so it is not met twice.
        traffic: Some(|n| {
            format!(
                "UPDATE counters SET n = n WHERE id = md5('{}')::uuid",
                n % 3000 + 1
            )
        }),
        ready: &[
            "SELECT bool_and(n % 100000 BETWEEN 1 AND 3000) AND min(n) >= 100000
                 AND count(DISTINCT n / 100000) = 1 FROM counters",
            "SELECT sum(rows) = 3000 FROM pgshift.checkpoint WHERE run_id =
                 (SELECT max(run_id) FROM pgshift.checkpoint)",
        ],
        lost: &["overwritten values are not kept"],
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn without_a_key_a_synced_backfill_works() {
    Life {
        name: "no_key",
        setup: "
            CREATE TABLE log (line text);
            INSERT INTO log SELECT 'line ' || n FROM generate_series(1, 5000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE log ADD COLUMN len int;
            -- pgshift: backfill
            UPDATE log SET len = length(line);
            -- pgshift: contract
            ALTER TABLE log ALTER COLUMN len SET NOT NULL;",
        traffic: Some(|n| match n % 3 {
            0 => format!(
                "UPDATE log SET line = line || '!' WHERE line = 'line {}'",
                n % 5000
            ),
            _ => format!("INSERT INTO log (line) VALUES ('new {n}')"),
        }),
        ready: &["SELECT bool_and(len = length(line)) FROM log"],
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn without_a_key_nothing_can_read_what_it_writes() {
    refused(
        "no_key_self",
        "CREATE TABLE log (n int); INSERT INTO log SELECT generate_series(1, 100)",
        "-- pgshift: backfill\nUPDATE log SET n = n + 1;",
        3,
        &[
            "public.log: it needs a primary key",
            "--> migrations/",
            ":2:1",
        ],
    )
    .await;
}

#[tokio::test]
async fn what_holds_no_rows_of_its_own_is_refused() {
    let setup = "
        CREATE TABLE parent (a int PRIMARY KEY, b int);
        CREATE TABLE child () INHERITS (parent);
        CREATE VIEW seen AS SELECT * FROM parent;
        CREATE MATERIALIZED VIEW kept AS SELECT * FROM parent;
        CREATE FOREIGN DATA WRAPPER nowhere;
        CREATE SERVER away FOREIGN DATA WRAPPER nowhere;
        CREATE FOREIGN TABLE far (a int, b int) SERVER away;
        CREATE TABLE parts (a int, b int) PARTITION BY RANGE (a);
        CREATE FOREIGN TABLE parts_far PARTITION OF parts FOR VALUES FROM (0) TO (9) SERVER away;";
    for (table, words) in [
        ("seen", "public.seen is not a table"),
        ("kept", "public.kept is not a table"),
        ("far", "public.far is not a table"),
        ("parts", "has a foreign table as a partition"),
        ("parent", "has inheritance children that are not partitions"),
    ] {
        let migration = format!("-- pgshift: backfill\nUPDATE {table} SET b = a WHERE b IS NULL;");
        let name = format!("no_table_{table}");
        // The dummy wrapper cannot be read or analysed.
        let project = Project::new(&name, "", &migration).await;
        project.db.execute(setup).await;
        for command in ["plan", "apply"] {
            let output = project.command(command, &[]).await.expect(3);
            says(&output, &[words, "nothing was changed", ":2:8"]);
        }
        assert_eq!(project.state().await, "pending");
    }
}
