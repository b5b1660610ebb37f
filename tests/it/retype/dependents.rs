//! Columns that views, triggers, policies, publications, statistics and functions depend on.

use super::{Case, unordered};
use crate::lifecycle::{Project, assert_same};
use crate::support::Db;

const ROLES: &str = r#"
    DO $$ BEGIN CREATE ROLE "retype reader"; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
    DO $$ BEGIN CREATE ROLE "Retype ""Writer"""; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
    GRANT CREATE, USAGE ON SCHEMA public TO "retype reader", "Retype ""Writer""";"#;

const TABLE: &str = "
    CREATE TABLE log (what text);
    CREATE TABLE orders (id int PRIMARY KEY, code int NOT NULL DEFAULT 5, other int, note text);
    CREATE TABLE notes (order_code int, body text);
    CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END';
    CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO public.log VALUES (TG_OP || TG_NAME); RETURN NULL; END';
    CREATE FUNCTION named(n int) RETURNS bigint LANGUAGE plpgsql AS
        'BEGIN RETURN (SELECT count(*) FROM orders WHERE code = n); END';
    INSERT INTO orders SELECT n, n * 2, n % 7, 'n' || n FROM generate_series(1, 2000) n;";

/// What depends on `code`, and what drops it again.
const DEPENDENTS: &str = r#"
    CREATE VIEW codes WITH (security_barrier = true, check_option = local) AS
        SELECT code, id, note AS "the ""note""" FROM orders WHERE code > 0 AND code::numeric <> 1.5;
    CREATE VIEW summary AS SELECT o.code AS c, count(*) FROM codes o JOIN orders p USING (code)
        GROUP BY o.code;
    CREATE SCHEMA apart;
    CREATE VIEW apart.top AS WITH RECURSIVE up(n) AS
            (SELECT min(c) FROM summary UNION ALL SELECT n + 1 FROM up WHERE n < 10)
        SELECT n, 'it''s' || E'\\' AS text FROM up;
    GRANT SELECT, INSERT ON codes TO "retype reader" WITH GRANT OPTION;
    GRANT SELECT ON codes TO "Retype ""Writer""";
    GRANT UPDATE (code) ON codes TO "Retype ""Writer""";
    GRANT SELECT ON summary TO PUBLIC;
    GRANT SELECT ON orders, codes TO "Retype ""Writer""";
    ALTER VIEW summary OWNER TO "Retype ""Writer""";
    REVOKE INSERT, TRUNCATE ON summary FROM "Retype ""Writer""";
    ALTER VIEW codes ALTER COLUMN code SET DEFAULT 17;
    COMMENT ON VIEW codes IS 'it''s codes';
    COMMENT ON COLUMN codes.code IS 'a \ code';
    CREATE RULE no_delete AS ON DELETE TO codes DO INSTEAD NOTHING;
    COMMENT ON RULE no_delete ON codes IS 'no';
    CREATE TRIGGER instead INSTEAD OF UPDATE ON summary FOR EACH ROW EXECUTE FUNCTION quiet();
    COMMENT ON TRIGGER instead ON summary IS 'quiet';

    CREATE TRIGGER of_code AFTER UPDATE OF code, note ON orders FOR EACH ROW EXECUTE FUNCTION loud();
    CREATE TRIGGER "When ""it""" AFTER INSERT OR UPDATE ON orders FOR EACH ROW
        WHEN (NEW.code > 1000000) EXECUTE FUNCTION loud();
    CREATE CONSTRAINT TRIGGER late AFTER UPDATE OF code ON orders DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (OLD.code IS DISTINCT FROM NEW.code) EXECUTE FUNCTION loud();
    CREATE TRIGGER disabled BEFORE UPDATE OF code ON orders FOR EACH ROW EXECUTE FUNCTION quiet();
    ALTER TABLE orders DISABLE TRIGGER disabled;
    CREATE TRIGGER replica BEFORE UPDATE OF code ON orders FOR EACH ROW EXECUTE FUNCTION quiet();
    ALTER TABLE orders ENABLE REPLICA TRIGGER replica;
    CREATE TRIGGER always BEFORE UPDATE OF code ON orders FOR EACH STATEMENT EXECUTE FUNCTION quiet();
    ALTER TABLE orders ENABLE ALWAYS TRIGGER always;
    COMMENT ON TRIGGER of_code ON orders IS 'of code';

    CREATE POLICY seen ON orders FOR SELECT TO "retype reader", "Retype ""Writer""" USING (code > 5);
    CREATE POLICY strict ON orders AS RESTRICTIVE USING (true) WITH CHECK (code < 100000000);
    CREATE POLICY by_view ON orders FOR DELETE USING (id IN (SELECT c FROM summary));
    CREATE POLICY others ON notes USING (EXISTS (SELECT FROM orders WHERE code = order_code));
    COMMENT ON POLICY seen ON orders IS 'seen';
    ALTER TABLE notes ENABLE ROW LEVEL SECURITY;

    CREATE STATISTICS of_both (ndistinct, mcv) ON code, other FROM orders;
    ALTER STATISTICS of_both SET STATISTICS 55;
    COMMENT ON STATISTICS of_both IS 'both';
    CREATE STATISTICS apart."ON it" ON (code % 10), (extract(year FROM date '2020-01-01' + other)),
        other FROM orders;
    ALTER STATISTICS apart."ON it" OWNER TO "retype reader";
    CREATE STATISTICS of_others ON id, other FROM orders;

    CREATE FUNCTION total(low int) RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE COST 7
        SET work_mem = '1MB' BEGIN ATOMIC SELECT sum(code) FROM orders WHERE code > low; END;
    COMMENT ON FUNCTION total IS 'in total';
    REVOKE ALL ON FUNCTION total FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION total TO "retype reader";
    CREATE PROCEDURE clean() LANGUAGE sql BEGIN ATOMIC DELETE FROM orders WHERE code < 0; END;
    ALTER PROCEDURE clean OWNER TO "retype reader";
    CREATE VIEW totals AS SELECT total(5) AS sum, (SELECT count(*) FROM summary);
    CREATE FUNCTION of_row(r codes) RETURNS int LANGUAGE sql AS 'SELECT 1';"#;

const PUBLICATIONS: &str = r#"
    CREATE PUBLICATION several FOR TABLE orders (id, code), notes WITH (publish = 'insert');
    CREATE PUBLICATION "rows" FOR TABLE orders WHERE (code > 5 AND note IS NOT NULL)
        WITH (publish = 'insert');
    COMMENT ON PUBLICATION several IS 'some';"#;

const DROP: &str = r#"
    DROP VIEW totals; DROP FUNCTION of_row; DROP PROCEDURE clean; DROP FUNCTION total;
    DROP STATISTICS of_both, apart."ON it", of_others;
    DROP POLICY seen ON orders; DROP POLICY strict ON orders; DROP POLICY by_view ON orders;
    DROP POLICY others ON notes;
    DROP TRIGGER of_code ON orders; DROP TRIGGER "When ""it""" ON orders; DROP TRIGGER late ON orders;
    DROP TRIGGER disabled ON orders; DROP TRIGGER replica ON orders; DROP TRIGGER always ON orders;
    DROP SCHEMA apart CASCADE; DROP VIEW summary; DROP VIEW codes;"#;

pub(super) async fn major() -> i32 {
    let db = Db::create("retype_dependents_version").await;
    db.one::<i32>("SELECT current_setting('server_version_num')::int")
        .await
        / 10_000
}

/// There, back, on and purged under traffic; in the end as by hand.
#[tokio::test]
async fn everything_that_depends_on_a_column() {
    let publications = if major().await >= 15 {
        PUBLICATIONS
    } else {
        ""
    };
    let drop = if publications.is_empty() {
        DROP.to_owned()
    } else {
        format!("DROP PUBLICATION several, \"rows\"; {DROP}")
    };
    let file = "ALTER TABLE orders ALTER COLUMN code TYPE bigint;";
    let setup = format!("{ROLES}{TABLE}{DEPENDENTS}{publications}").leak();
    Case {
        name: "retype_dependents",
        setup,
        file,
        direct: format!("{drop}{file}{DEPENDENTS}{publications}").leak(),
        traffic: |n| match n % 6 {
            0 => format!("INSERT INTO orders VALUES ({}, {n}, 1, 'x')", 10_000 + n),
            1 => format!("UPDATE orders SET code = {n} WHERE id = {}", 1 + n % 2000),
            2 => format!("INSERT INTO codes (id, code) VALUES ({}, {n} + 1)", 500_000 + n),
            3 => format!("UPDATE codes SET code = code + 1 WHERE id = {}", 1 + n % 2000),
            4 => "SELECT count(*) FROM summary".into(),
            _ => "SELECT * FROM totals, apart.top".into(),
        },
        ready: &[
            "SELECT count(*) > 0 FROM log WHERE what = 'UPDATEof_code'",
            "SELECT count(*) = 0 FROM log WHERE what LIKE '%When%'",
        ],
        complete: &[
            "SELECT pg_typeof(code) = 'bigint'::regtype FROM codes LIMIT 1",
            "SELECT count(*) = 3 FROM pg_statistic_ext_data d JOIN pg_statistic_ext s ON s.oid = stxoid",
        ],
        after: (
            "INSERT INTO codes (id, code) VALUES (9000, 2000001); INSERT INTO codes (id) VALUES (9001);
             UPDATE orders SET code = 11 WHERE id = 9000",
            &[
                "SELECT count(*) = 1 FROM codes WHERE id = 9000 AND code = 11",
                "SELECT count(*) = 1 FROM orders WHERE id = 9001 AND code = 17",
                "SELECT count(*) > 0 FROM log WHERE what = 'INSERTWhen \"it\"'",
            ],
        ),
        lost: &[],
    }
    .check()
    .await;
}

/// What cannot follow is refused, with its name.
#[tokio::test]
async fn what_cannot_follow_is_refused() {
    for (name, setup, file, words) in [
        (
            "matview_function",
            "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT sum(n) FROM t; END;
             CREATE VIEW v AS SELECT f(); CREATE MATERIALIZED VIEW m AS SELECT * FROM v;",
            "ALTER TABLE t ALTER n TYPE bigint;",
            &["a materialized view reads function public.f()", "earlier migration"][..],
        ),
        (
            "matview_rows",
            "CREATE MATERIALIZED VIEW m AS SELECT t FROM t;",
            "ALTER TABLE t ALTER n TYPE bigint;",
            &["column t of materialized view m holds whole rows of public.t"],
        ),
        (
            "table_rows",
            "CREATE TABLE u (row t[]);",
            "ALTER TABLE t ALTER n TYPE bigint;",
            &["column row of table u holds whole rows of public.t"],
        ),
        (
            "matview_index",
            "CREATE MATERIALIZED VIEW m AS SELECT n FROM t; CREATE INDEX ON m ((n + 1));",
            "ALTER TABLE t ALTER n TYPE text;",
            &["materialized view public.m cannot be made again with the new type"],
        ),
        (
            "in_place_view",
            "CREATE TABLE w (id int PRIMARY KEY, name varchar(9)); CREATE VIEW v AS SELECT name FROM w;",
            "ALTER TABLE w ALTER name TYPE varchar(20);",
            &["view v depends on column name of public.w", "earlier migration"],
        ),
        (
            "in_place_generated",
            "SET timezone = 'UTC'; CREATE TABLE w (id int PRIMARY KEY, name varchar(9),
                 upper text GENERATED ALWAYS AS (upper(name)) STORED);",
            "ALTER TABLE w ALTER name TYPE text;",
            &["generated column upper of table w depends on column name of public.w"],
        ),
        (
            "key_to",
            "CREATE TABLE u (id int PRIMARY KEY, \"A b\" varchar(9) COLLATE \"C\" UNIQUE);
             ALTER TABLE t ADD FOREIGN KEY (n) REFERENCES u;",
            "ALTER TABLE t ALTER n TYPE text;",
            &["foreign key t_n_fkey of public.t cannot lead from the new type to id of public.u",
              "cascade=true"],
        ),
        (
            "key_to_itself",
            "ALTER TABLE t ADD FOREIGN KEY (n) REFERENCES t;",
            "ALTER TABLE t ALTER n TYPE text;",
            &["cannot lead from the new type to id of public.t"],
        ),
        (
            "rule",
            "CREATE RULE r AS ON INSERT TO t WHERE NEW.n > 5 DO ALSO NOTHING;",
            "ALTER TABLE t ALTER n TYPE bigint;",
            &["rule r on table public.t depends on it"],
        ),
        (
            "rows",
            "CREATE VIEW v AS SELECT n FROM t; CREATE TABLE of_v (v v);",
            "ALTER TABLE t ALTER n TYPE bigint;",
            &["table public.of_v depends on it"],
        ),
        (
            "rehearsed_view",
            "CREATE VIEW v AS SELECT n + 1 AS m FROM t; CREATE VIEW w AS SELECT m FROM v;",
            "ALTER TABLE t ALTER n TYPE text;",
            &["view public.v cannot be made again with the new type", "operator does not exist"],
        ),
        (
            "rehearsed_above",
            "CREATE VIEW v AS SELECT n FROM t; CREATE VIEW w AS SELECT n + 1 AS m FROM v;",
            "ALTER TABLE t ALTER n TYPE text;",
            &["view public.w cannot be made again with the new type"],
        ),
        (
            "rehearsed_policy",
            "CREATE POLICY p ON t USING (n > 5);",
            "ALTER TABLE t ALTER n TYPE text;",
            &["policy p on table public.t cannot be made again"],
        ),
        (
            "rehearsed_trigger",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW WHEN (NEW.n > 5) EXECUTE FUNCTION f();",
            "ALTER TABLE t ALTER n TYPE text;",
            &["trigger g on table public.t cannot be made again"],
        ),
        (
            "rehearsed_function",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT n + 1 FROM t; END;",
            "ALTER TABLE t ALTER n TYPE text;",
            &["function public.f() cannot be made again"],
        ),
    ] {
        let setup = format!("CREATE TABLE t (id int PRIMARY KEY, n int); {setup}");
        let project = Project::new(&format!("retype_not_{name}"), &setup, file).await;
        let before = project.picture().await;
        let output = project.command("apply", &[]).await;
        assert!(
            matches!(output.code, Some(2 | 3)),
            "{name}: {:?}\n{}",
            output.code,
            output.stderr
        );
        let said = output.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(said.contains(word), "{name}: {word:?} is not in\n{said}");
        }
        let now = project.picture().await;
        assert_same("schema", before.schema(), now.schema());
    }
}

/// PostgreSQL 18: columns that are computed when they are read.
#[tokio::test]
async fn virtual_generated_columns_of_a_column() {
    if major().await < 18 {
        return;
    }
    let file = "ALTER TABLE orders ALTER COLUMN code TYPE bigint;";
    let role = "GRANT SELECT (twice), UPDATE (twice) ON orders TO PUBLIC;";
    Case {
        name: "retype_virtual",
        setup: format!(
            "CREATE TABLE orders (id int PRIMARY KEY, code int, twice numeric
                 GENERATED ALWAYS AS (code * 2.0) VIRTUAL, note text);
             ALTER TABLE orders ADD \"Sum of\" bigint
                 GENERATED ALWAYS AS (id + code + coalesce(length(note), 0)) VIRTUAL;
             COMMENT ON COLUMN orders.twice IS 'it''s twice'; {role}
             CREATE VIEW doubled AS SELECT twice, code FROM orders;
             CREATE VIEW summed AS SELECT sum(\"Sum of\") FROM orders;
             CREATE INDEX ON orders (code);
             INSERT INTO orders (id, code, note)
                 SELECT n, n * 2, 'n' || n FROM generate_series(1, 2000) n;"
        )
        .leak(),
        file,
        direct: "DROP VIEW doubled;
             ALTER TABLE orders ALTER twice SET EXPRESSION AS (0),
                 ALTER \"Sum of\" SET EXPRESSION AS (0);
             ALTER TABLE orders ALTER COLUMN code TYPE bigint;
             ALTER TABLE orders ALTER twice SET EXPRESSION AS (code * 2.0),
                 ALTER \"Sum of\" SET EXPRESSION AS (id + code + coalesce(length(note), 0));
             CREATE VIEW doubled AS SELECT twice, code FROM orders;",
        traffic: |n| match n % 4 {
            0 => format!("INSERT INTO orders VALUES ({}, {n})", 10_000 + n),
            1 => format!("UPDATE orders SET code = {n} WHERE id = {}", 1 + n % 2000),
            2 => "SELECT * FROM summed".into(),
            _ => format!("SELECT twice FROM doubled WHERE code = {n}"),
        },
        ready: &["SELECT bool_and(twice = code * 2) FROM orders"],
        complete: &[
            "SELECT bool_and(twice = code * 2 AND \"Sum of\" = id + code + coalesce(length(note), 0))
             FROM orders",
        ],
        after: (
            "INSERT INTO orders VALUES (9000, 2000001)",
            &["SELECT twice = 4000002 FROM orders WHERE id = 9000"],
        ),
        lost: &[],
    }
    .check()
    .await;
    for (name, more) in [
        ("check", "ALTER TABLE t ADD CHECK (id > 0);"),
        ("not_null", "ALTER TABLE t ALTER g SET NOT NULL;"),
        ("published", "CREATE PUBLICATION of_t FOR TABLE t;"),
    ] {
        let setup = format!(
            "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, g int GENERATED ALWAYS AS (n + 1));
             {more}"
        );
        let file = "ALTER TABLE t ALTER n TYPE bigint;";
        let project = Project::new(&format!("retype_virtual_{name}"), &setup, file).await;
        let plan = project.command("plan", &[]).await.expect(3);
        let word = "generated column g of table public.t depends on it";
        assert!(plan.stderr.contains(word), "{name}: {}", plan.stderr);
    }
}

/// A view that changed after the plan is not made again as it was before.
#[tokio::test]
async fn what_changed_meanwhile_stops_the_swap() {
    let project = Project::new(
        "retype_meanwhile",
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE VIEW v AS SELECT n FROM t;
         INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;",
        "ALTER TABLE t ALTER n TYPE bigint;",
    )
    .await;
    let first = project.picture().await;
    let plan = project.command("plan", &[]).await.expect(0);
    assert!(plan.stdout.contains("view public.v"), "{}", plan.stdout);
    project.to("apply", "ready").await;
    project
        .db
        .execute("GRANT SELECT ON v TO PUBLIC; CREATE VIEW w AS SELECT n FROM t")
        .await;
    let stopped = project.command("contract", &[]).await.expect(3);
    for word in ["view public.v is not as it was", "view public.w is new"] {
        assert!(stopped.stderr.contains(word), "{}", stopped.stderr);
    }
    project
        .db
        .execute("REVOKE SELECT ON v FROM PUBLIC; DROP VIEW w")
        .await;
    project.command("resume", &[]).await.expect(0);
    assert_eq!(project.state().await, "complete");
    project.db.execute("CREATE VIEW w AS SELECT n FROM v").await;
    let stopped = project.command("revert", &[]).await.expect(3);
    assert!(
        stopped.stderr.contains("view public.w is new"),
        "{}",
        stopped.stderr
    );
    project.db.execute("DROP VIEW w").await;
    project.command("resume", &[]).await.expect(0);
    assert_eq!(project.state().await, "reverted");
    let now = project.picture().await;
    assert_same(
        "schema",
        &unordered(first.schema()),
        &unordered(now.schema()),
    );
    assert_same("data", first.data(), now.data());
    project.nothing_left().await;
}

/// Rows of foreign tables are another server's.
#[tokio::test]
async fn foreign_tables_are_refused() {
    let foreign = "CREATE FOREIGN DATA WRAPPER nothing;
         CREATE SERVER far FOREIGN DATA WRAPPER nothing;
         CREATE FOREIGN TABLE f (id int, n int) SERVER far;
         CREATE TABLE r (id int, n int) PARTITION BY LIST (id);
         CREATE FOREIGN TABLE r1 PARTITION OF r FOR VALUES IN (1) SERVER far;";
    for (name, file, words) in [
        (
            "table",
            "ALTER TABLE f ALTER n TYPE bigint;",
            ["public.f is a foreign table", "allow change-column-type"],
        ),
        (
            "partition",
            "ALTER TABLE r ALTER n TYPE bigint;",
            [
                "public.r has a foreign table as a partition",
                "detach it first",
            ],
        ),
    ] {
        let project = Project::new(&format!("retype_foreign_{name}"), "", file).await;
        project.db.execute(foreign).await;
        let plan = project.command("plan", &[]).await.expect(3);
        let said = plan.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(said.contains(word), "{name}: {word:?} is not in\n{said}");
        }
    }
    let project = Project::new(
        "retype_foreign_allowed",
        "",
        "-- pgshift: allow change-column-type reason=\"of no rows here\"
         ALTER TABLE f ALTER n TYPE bigint;",
    )
    .await;
    project.db.execute(foreign).await;
    project.command("apply", &[]).await.expect(0);
    let type_name: String = project
        .db
        .one(
            "SELECT format_type(atttypid, NULL) FROM pg_attribute
              WHERE attrelid = 'f'::regclass AND attname = 'n'",
        )
        .await;
    assert_eq!(type_name, "bigint");
}
