//! What tables there are: partitioned, with every kind of key and with none, and what is no table.

use crate::cases::{refused, says};
use crate::lifecycle::{Life, Project, assert_same};

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

/// Keys are kept as text between chunks. What the database's settings make of text must not matter:
/// in summer Dublin has `IST`, which is read as Israel's time, and few digits are rounded.
#[tokio::test]
async fn keys_of_every_type_in_a_strange_locale() {
    let settings = [
        "DateStyle TO 'SQL, DMY'",
        "TimeZone TO 'Europe/Dublin'",
        "extra_float_digits TO -9",
        "bytea_output TO 'escape'",
        "IntervalStyle TO 'sql_standard'",
    ];
    let settings: Vec<_> = settings
        .iter()
        .map(|s| {
            let s = s.replace('\'', "''");
            format!("EXECUTE format('ALTER DATABASE %I SET {s}', current_database());")
        })
        .collect();
    for (kind, key) in [
        (
            "timestamptz",
            "timestamptz '2026-06-13 00:00+00' + n * interval '1 minute'",
        ),
        ("float8", "1 + n / 1e7::float8"),
        ("char(5)", "'k' || n"),
        ("bytea", "decode(md5(n::text), 'hex')"),
        ("interval", "n * interval '7 hours' - interval '50 days'"),
        ("numeric", "n / 7.0"),
        ("date", "date '2000-01-01' + n"),
    ] {
        let project = Project::new(
            &format!("key_{}", &kind[..4]),
            &format!(
                "CREATE TABLE t (k {kind} PRIMARY KEY, a int NOT NULL);
                 INSERT INTO t SELECT {key}, n FROM generate_series(1, 400) n;
                 DO $do$ BEGIN {} END $do$;",
                settings.join("\n")
            ),
            "-- pgshift: backfill batch=9\nUPDATE t SET a = a + 100000;",
        )
        .await;
        project.to("apply", "complete").await;
        project
            .holds(&[
                "SELECT min(a) = 100001 AND max(a) = 100400 FROM t",
                "SELECT rows = 400 AND chunks = 45 FROM pgshift.checkpoint",
            ])
            .await;
    }
}

/// Chunks are READ COMMITTED, whatever the database's default is.
#[tokio::test]
async fn serializable_by_default() {
    Life {
        name: "serializable",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL);
            INSERT INTO t SELECT n, n FROM generate_series(1, 2000) n;
            DO $$ BEGIN
                EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation TO serializable',
                               current_database());
            END $$;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN b int;
            CREATE INDEX t_b ON t (b);
            -- pgshift: backfill batch=200
            UPDATE t SET b = a * 2;
            -- pgshift: contract
            ALTER TABLE t ALTER COLUMN b SET NOT NULL;",
        traffic: Some(|n| {
            format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED;
                 UPDATE t SET a = a + 1 WHERE id = {}; COMMIT",
                n % 2000
            )
        }),
        ready: &["SELECT bool_and(b = a * 2) FROM t"],
        ..Life::default()
    }
    .live()
    .await;
}

/// Someone made this database read-only; it is not ours to overrule.
#[tokio::test]
async fn a_read_only_database_is_refused() {
    refused(
        "read_only",
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL);
         DO $$ BEGIN
             EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only TO on',
                            current_database());
         END $$;",
        "ALTER TABLE t ADD COLUMN b int;",
        3,
        &[
            "the session is read-only (default_transaction_read_only)",
            "ALTER DATABASE",
        ],
    )
    .await;
}

/// A view that the file itself drops before the column is in nobody's way; the way back makes it
/// again upon the column.
#[tokio::test]
async fn a_view_and_then_its_column() {
    let setup = "CREATE SCHEMA s; CREATE TABLE t (id int PRIMARY KEY, a int);
        CREATE VIEW seen AS SELECT id, a FROM t; CREATE VIEW s.seen AS SELECT a FROM t;
        COMMENT ON VIEW seen IS 'kept'; INSERT INTO t VALUES (1, 2);";
    let file = "-- pgshift: contract\nDROP VIEW s.seen, seen;\nALTER TABLE t DROP COLUMN a;";
    let project = Project::new("view_then_column", setup, file).await;
    let first = project.picture().await;
    project.to("apply", "ready").await;
    for _ in 0..2 {
        project.to("contract", "complete").await;
        let gone = "SELECT to_regclass('seen') IS NULL AND to_regclass('s.seen') IS NULL";
        project.holds(&[gone]).await;
        project
            .command("revert", &["--to", "ready"])
            .await
            .expect(0);
        assert_same("schema", first.schema(), project.picture().await.schema());
    }
    project
        .holds(&["SELECT a = 2 FROM seen", "SELECT a = 2 FROM s.seen"])
        .await;
    refused(
        "column_then_view",
        setup,
        "-- pgshift: contract\nALTER TABLE t DROP COLUMN a;\nDROP VIEW s.seen, seen;",
        3,
        &["view s.seen, view seen depend on column a of public.t"],
    )
    .await;
}

/// What would break with the column is named before anything is done.
#[tokio::test]
async fn what_depends_on_a_dropped_column() {
    let setup = "
        CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int,
            g int GENERATED ALWAYS AS (c * 2) STORED, UNIQUE (b));
        CREATE VIEW seen AS SELECT id, a FROM t;
        CREATE TABLE r (b int REFERENCES t (b));";
    for (column, words) in [
        ("a", "view seen depends on column a of public.t"),
        (
            "b",
            "b is in a key that foreign keys of public.r may reference",
        ),
        ("c", "depends on column c of public.t"),
        ("id", "id of public.t"),
        ("a CASCADE", "CASCADE drops what is not named here"),
    ] {
        refused(
            &format!("dependent_{}", &column[..1]),
            setup,
            &format!("-- pgshift: contract\nALTER TABLE t DROP COLUMN {column};"),
            3,
            &[words, ":2:15"],
        )
        .await;
    }
}

/// A rule would make something else of a chunk: nothing, or more than its rows.
#[tokio::test]
async fn rules_that_rewrite_what_a_chunk_does() {
    let setup = "
        CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t VALUES (1, 2);
        CREATE TABLE log (id int);
        CREATE TABLE p (id int, a int) PARTITION BY LIST (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
        CREATE RULE of_leaf AS ON UPDATE TO p1 DO INSTEAD NOTHING;
        CREATE RULE quiet AS ON UPDATE TO t DO INSTEAD NOTHING;
        CREATE RULE noted AS ON DELETE TO t DO ALSO INSERT INTO log VALUES (1);
        CREATE RULE none AS ON INSERT TO log DO ALSO NOTHING;";
    let column = "ADD COLUMN b int;\n-- pgshift: backfill\nUPDATE";
    for (name, file, words) in [
        (
            "update",
            format!("-- pgshift: expand\nALTER TABLE t {column} t SET b = a;"),
            "rule quiet of public.t rewrites UPDATE",
        ),
        (
            "delete",
            "-- pgshift: backfill\nDELETE FROM t WHERE a = 2;".to_owned(),
            "rule noted of public.t rewrites DELETE",
        ),
        (
            "leaf",
            format!("-- pgshift: expand\nALTER TABLE p {column} p SET b = a;"),
            "rule of_leaf of public.p1 rewrites UPDATE",
        ),
        (
            "type",
            "ALTER TABLE t ALTER a TYPE bigint;".to_owned(),
            "rule quiet of public.t rewrites UPDATE",
        ),
    ] {
        refused(&format!("rule_{name}"), setup, &file, 3, &[words]).await;
    }
    let disabled = format!("{setup} ALTER TABLE t DISABLE RULE quiet;");
    let file = format!("-- pgshift: expand\nALTER TABLE t {column} t SET b = a;");
    let project = Project::new("rule_disabled", &disabled, &file).await;
    project.to("apply", "ready").await;
    project.holds(&["SELECT b = 2 FROM t"]).await;
}

/// Indexes, checks and defaults of a dropped column come back with it.
#[tokio::test]
async fn what_a_dropped_column_has_of_its_own() {
    Life {
        name: "own",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, a numeric(10, 2) NOT NULL DEFAULT 1.5
                CONSTRAINT t_a_check CHECK (a > 0), b int, UNIQUE (a, b));
            CREATE INDEX t_a ON t (a) WHERE a > 10;
            CREATE STATISTICS t_ab ON a, b FROM t;
            COMMENT ON COLUMN t.a IS 'amount';
            ALTER TABLE t ALTER COLUMN a SET STATISTICS 500;
            INSERT INTO t SELECT n, n, n FROM generate_series(1, 1000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN c bigint;
            -- pgshift: backfill
            UPDATE t SET c = a * 100;
            -- pgshift: reverse
            UPDATE t SET a = c / 100.0;
            -- pgshift: contract
            ALTER TABLE t DROP COLUMN a;",
        traffic: Some(|n| match n % 2 {
            0 => format!(
                "INSERT INTO t (id, b) VALUES ({}, {})",
                10_000 + n,
                10_000 + n
            ),
            _ => format!("UPDATE t SET a = a + 0.01 WHERE id = {}", n % 1000),
        }),
        ready: &["SELECT bool_and(c = a * 100) FROM t"],
        new_version: Some((
            "INSERT INTO t (id, b, c) VALUES (-1, 1, 250)",
            "INSERT INTO t (id, b, c) VALUES (-2, 1, 350)",
            &["SELECT array_agg(a ORDER BY id) = '{3.50,2.50}' FROM t WHERE id < 0"],
        )),
        ..Life::default()
    }
    .live()
    .await;
}

/// The author's condition decides which rows have a value at all.
#[tokio::test]
async fn rows_that_come_and_go_with_the_condition() {
    Life {
        name: "condition",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, kind text, a int NOT NULL);
            INSERT INTO t SELECT n, (ARRAY['x', 'y', NULL])[1 + n % 3], n
            FROM generate_series(1, 3000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN b int;
            -- pgshift: backfill batch=200
            UPDATE t SET b = a * 2 WHERE kind = 'x' AND b IS NULL;",
        traffic: Some(|n| match n % 4 {
            0 => format!("INSERT INTO t VALUES ({}, 'x', 1)", 10_000 + n),
            1 => format!("UPDATE t SET kind = 'x' WHERE id = {}", n % 3000),
            2 => format!("UPDATE t SET kind = NULL WHERE id = {}", n * 7 % 3000),
            _ => format!("UPDATE t SET a = a + 1 WHERE id = {}", n % 3000),
        }),
        ready: &[
            "SELECT bool_and(b IS NOT DISTINCT FROM CASE WHEN kind = 'x' THEN a * 2 END) FROM t",
        ],
        ..Life::default()
    }
    .live()
    .await;
}
