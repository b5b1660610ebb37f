//! Materialized views that read a column whose type changes.

use std::time::Duration;

use super::{Case, unordered};
use crate::lifecycle::{Project, assert_same};

const TABLE: &str = r#"
    DO $$ BEGIN CREATE ROLE "retype reader"; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
    GRANT CREATE, USAGE ON SCHEMA public TO "retype reader";
    CREATE SCHEMA apart;
    GRANT CREATE, USAGE ON SCHEMA apart TO "retype reader";
    CREATE TABLE orders (id int PRIMARY KEY, code int NOT NULL DEFAULT 5, other int, note text);
    GRANT SELECT ON orders TO "retype reader";
    CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN coalesce(NEW, OLD); END';
    INSERT INTO orders SELECT n, n * 2, n % 7, 'n' || n FROM generate_series(1, 2000) n;"#;

/// Materialized views on the table, on a view, on each other; views on those.
const VIEWS: &str = r#"
    CREATE VIEW codes WITH (security_barrier = true) AS
        SELECT code AS c, id, other, note FROM orders WHERE code > 0;
    GRANT SELECT ON codes TO "retype reader";
    CREATE TRIGGER instead INSTEAD OF UPDATE ON codes FOR EACH ROW EXECUTE FUNCTION quiet();
    CREATE MATERIALIZED VIEW apart."Sum ""it""" (other, "the sum", number, text) WITH (fillfactor = 70,
            toast.autovacuum_enabled = false) AS
        SELECT other, sum(c), count(*), max(note || '; it''s') FROM codes GROUP BY other;
    CREATE UNIQUE INDEX "by ""other""" ON apart."Sum ""it""" (other);
    CREATE INDEX large ON apart."Sum ""it""" (("the sum" + 1) DESC, text) INCLUDE (number)
        WITH (fillfactor = 60) WHERE number > 5;
    ALTER MATERIALIZED VIEW apart."Sum ""it""" CLUSTER ON "by ""other""";
    COMMENT ON INDEX apart.large IS 'large ones';
    CREATE STATISTICS apart.of_sums (ndistinct) ON other, number FROM apart."Sum ""it""";
    ALTER STATISTICS apart.of_sums SET STATISTICS 77;
    COMMENT ON STATISTICS apart.of_sums IS 'both';
    ALTER MATERIALIZED VIEW apart."Sum ""it""" ALTER COLUMN number SET STATISTICS 200;
    ALTER MATERIALIZED VIEW apart."Sum ""it""" ALTER COLUMN text SET STORAGE EXTERNAL;
    ALTER MATERIALIZED VIEW apart."Sum ""it""" OWNER TO "retype reader";
    COMMENT ON MATERIALIZED VIEW apart."Sum ""it""" IS 'it''s a sum';
    COMMENT ON COLUMN apart."Sum ""it""".number IS 'how many';
    GRANT SELECT ON apart."Sum ""it""" TO PUBLIC;
    CREATE MATERIALIZED VIEW large AS SELECT code, id FROM orders WHERE code > 3000;
    CREATE INDEX ON large (code);
    GRANT SELECT (code) ON large TO "retype reader" WITH GRANT OPTION;
    CREATE VIEW over AS SELECT s."the sum", l.code FROM apart."Sum ""it""" s, large l;
    COMMENT ON VIEW over IS 'over both';
    CREATE MATERIALIZED VIEW top AS SELECT max("the sum") AS most, max(code) AS code FROM over;
    CREATE VIEW most AS SELECT most FROM top;
    CREATE FUNCTION of_row(r large) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE MATERIALIZED VIEW empty AS SELECT code FROM orders WITH NO DATA;"#;

const DROP: &str = r#"
    DROP FUNCTION of_row; DROP VIEW most; DROP MATERIALIZED VIEW top, empty; DROP VIEW over;
    DROP MATERIALIZED VIEW apart."Sum ""it""", large; DROP VIEW codes;"#;

#[tokio::test]
async fn materialized_views_and_what_stands_upon_them() {
    there_and_back("retype_matviews", TABLE).await;
}

/// The same of a partitioned table.
#[tokio::test]
async fn materialized_views_of_a_partitioned_table() {
    let tree = TABLE.replace(
        "note text);",
        "note text) PARTITION BY HASH (id);
    CREATE TABLE orders_0 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE orders_1 PARTITION OF orders FOR VALUES WITH (MODULUS 2, REMAINDER 1);",
    );
    assert_ne!(tree, TABLE);
    there_and_back("retype_matviews_of_tree", &tree).await;
}

async fn there_and_back(name: &'static str, table: &str) {
    let file = "ALTER TABLE orders ALTER COLUMN code TYPE bigint;";
    Case {
        name,
        setup: format!("{table}{VIEWS}").leak(),
        file,
        direct: format!("{DROP}{file}{VIEWS}").leak(),
        traffic: |n| match n % 30 {
            0 => "REFRESH MATERIALIZED VIEW CONCURRENTLY apart.\"Sum \"\"it\"\"\"".into(),
            15 => "REFRESH MATERIALIZED VIEW top".into(),
            n if n % 3 == 0 => format!("INSERT INTO orders VALUES ({}, {n}, 1, 'x') ON CONFLICT DO NOTHING", 10_000 + n),
            n if n % 3 == 1 => format!("UPDATE orders SET code = {n} + 1 WHERE id = {}", 1 + n % 2000),
            _ => "SELECT * FROM most, over, apart.\"Sum \"\"it\"\"\" LIMIT 10".into(),
        },
        ready: &["SELECT count(*) > 0 FROM large"],
        complete: &[
            "SELECT pg_typeof(code) = 'bigint'::regtype FROM large LIMIT 1",
            "SELECT sum(code) FILTER (WHERE code > 3000) = (SELECT sum(code) FROM large) FROM orders",
            "SELECT sum(code) = (SELECT sum(\"the sum\") FROM apart.\"Sum \"\"it\"\"\") FROM orders",
            "SELECT most = (SELECT max(\"the sum\") FROM over) FROM most",
            "SELECT bool_and(relispopulated <> (relname = 'empty')) FROM pg_class WHERE relkind = 'm'",
            "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'large'",
        ],
        after: (
            "INSERT INTO orders (id, code, other, note) VALUES (9000, 2000001, 3, 'new');
             REFRESH MATERIALIZED VIEW CONCURRENTLY apart.\"Sum \"\"it\"\"\"",
            &[
                "SELECT count(*) = 1 FROM large WHERE id = 9000",
                "SELECT pg_typeof(code) = 'integer'::regtype FROM large LIMIT 1",
                "SELECT sum(code) = (SELECT sum(\"the sum\") FROM apart.\"Sum \"\"it\"\"\") FROM orders",
                "SELECT count(*) = 3 FROM pg_class WHERE relkind = 'm' AND relispopulated",
            ],
        ),
        lost: &[],
    }
    .check()
    .await;
}

/// Views over tables that change together, each made once of all new columns.
const BOTH: &str = "
    CREATE VIEW pairs AS SELECT o.id, l.n, l.order_id, o.code FROM orders o JOIN lines l
        ON l.order_id = o.id;
    CREATE MATERIALIZED VIEW sums AS SELECT id, code, sum(n) AS n FROM pairs GROUP BY id, code;
    CREATE UNIQUE INDEX sums_id ON sums (id);
    COMMENT ON MATERIALIZED VIEW sums IS 'by order';
    GRANT SELECT ON sums TO PUBLIC;
    CREATE MATERIALIZED VIEW ids AS SELECT id FROM orders;
    CREATE VIEW over AS SELECT s.n, i.id FROM sums s JOIN ids i USING (id) JOIN lines l
        ON l.order_id = i.id;
    CREATE MATERIALIZED VIEW top AS SELECT max(n) AS most FROM over;
    CREATE VIEW plain AS SELECT count(*) AS n FROM orders o, lines l WHERE o.id = l.order_id;";

/// Foreign keys or not, a view that reads both tables makes their swap one.
#[tokio::test]
async fn materialized_views_over_tables_that_change_together() {
    for (name, key, file) in [
        (
            "retype_matviews_of_keys",
            "REFERENCES orders ON DELETE CASCADE",
            "-- pgshift: option cascade=true
             ALTER TABLE orders ALTER COLUMN id TYPE bigint;",
        ),
        (
            "retype_matviews_of_two",
            "",
            "ALTER TABLE orders ALTER COLUMN id TYPE bigint;
             ALTER TABLE lines ALTER COLUMN order_id TYPE bigint;",
        ),
    ] {
        let table = format!(
            "CREATE TABLE orders (id int PRIMARY KEY, code int NOT NULL DEFAULT 5);
             CREATE TABLE lines (order_id int NOT NULL {key}, n int, PRIMARY KEY (order_id, n));
             INSERT INTO orders SELECT n, n * 2 FROM generate_series(1, 2000) n;
             INSERT INTO lines SELECT o, n FROM generate_series(1, 2000) o, generate_series(1, 3) n;"
        );
        let drop = "DROP VIEW plain; DROP MATERIALIZED VIEW top; DROP VIEW over;
             DROP MATERIALIZED VIEW ids, sums; DROP VIEW pairs;";
        let direct = "ALTER TABLE orders ALTER COLUMN id TYPE bigint;
             ALTER TABLE lines ALTER COLUMN order_id TYPE bigint;";
        Case {
            name,
            setup: format!("{table}{BOTH}").leak(),
            file,
            direct: format!("{drop}{direct}{BOTH}").leak(),
            traffic: |n| match n % 20 {
                0 => "REFRESH MATERIALIZED VIEW CONCURRENTLY sums".into(),
                10 => "REFRESH MATERIALIZED VIEW top".into(),
                n if n % 3 == 0 => format!(
                    "INSERT INTO orders VALUES ({}) ON CONFLICT DO NOTHING",
                    10_000 + n
                ),
                n if n % 3 == 1 => format!(
                    "UPDATE lines SET n = n + 100 WHERE order_id = {}",
                    1 + n % 2000
                ),
                _ => "SELECT * FROM top, over, plain LIMIT 10".into(),
            },
            ready: &["SELECT count(*) > 0 FROM sums"],
            complete: &[
                "SELECT pg_typeof(id) = 'bigint'::regtype FROM sums LIMIT 1",
                "SELECT pg_typeof(order_id) = 'bigint'::regtype FROM pairs LIMIT 1",
                "SELECT count(*) = 2000 FROM sums JOIN orders o USING (id)",
                "SELECT bool_and(relispopulated) FROM pg_class WHERE relkind = 'm'",
            ],
            after: (
                "INSERT INTO orders (id) VALUES (9000); INSERT INTO lines (order_id, n) VALUES (9000, 77);
                 REFRESH MATERIALIZED VIEW CONCURRENTLY sums",
                &[
                    "SELECT n = 77 FROM sums WHERE id = 9000",
                    "SELECT pg_typeof(id) = 'integer'::regtype FROM sums LIMIT 1",
                    "SELECT pg_typeof(order_id) = 'integer'::regtype FROM pairs LIMIT 1",
                ],
            ),
            lost: &[],
        }
        .check()
        .await;
    }
}

/// A view that is refreshed after the other one was filled does not become older by the swap.
#[tokio::test]
async fn a_refresh_before_the_swap_is_not_lost() {
    for (name, refresh) in [
        ("plain", "REFRESH MATERIALIZED VIEW m"),
        ("concurrently", "REFRESH MATERIALIZED VIEW CONCURRENTLY m"),
        // Nothing in it differs: the row that comes is gone again.
        (
            "same",
            "DELETE FROM t WHERE id = 7; REFRESH MATERIALIZED VIEW CONCURRENTLY m",
        ),
        ("emptied", "REFRESH MATERIALIZED VIEW m WITH NO DATA"),
    ] {
        let project = Project::new(
            &format!("retype_refreshed_{name}"),
            "CREATE TABLE t (id int PRIMARY KEY, n int);
             INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;
             CREATE MATERIALIZED VIEW m AS SELECT count(*) AS all, sum(n) AS n FROM t;
             CREATE UNIQUE INDEX ON m (\"all\");
             DELETE FROM t WHERE id = 7",
            "ALTER TABLE t ALTER n TYPE bigint;",
        )
        .await;
        if name == "same" {
            project
                .db
                .execute("REFRESH MATERIALIZED VIEW m; INSERT INTO t VALUES (7, 7)")
                .await;
        }
        project.to("apply", "ready").await;
        let meanwhile = async {
            let limit = Duration::from_mins(1);
            let there = "FROM pg_class WHERE relname LIKE '\\_pgshift\\_%' AND relkind = 'm'";
            let (db, busy) = (&project.db, project.db.client().await);
            db.until(
                limit,
                "the other one",
                &format!("SELECT count(*) = 1 {there}"),
            )
            .await;
            // In the way of the swap, not of the query.
            busy.batch_execute("BEGIN; SELECT FROM t LIMIT 1")
                .await
                .expect("a read");
            db.until(limit, "its rows", &format!("SELECT relispopulated {there}"))
                .await;
            db.execute("INSERT INTO t VALUES (1000, 1000)").await;
            if name == "same" {
                db.execute("DELETE FROM t WHERE id = 1000").await;
            }
            db.execute(refresh).await;
            busy.batch_execute("COMMIT").await.expect("its end");
        };
        let (output, ()) = tokio::join!(project.command("contract", &[]), meanwhile);
        output.expect(0);
        let right = match name {
            "emptied" => "SELECT NOT relispopulated FROM pg_class WHERE oid = 'm'::regclass",
            _ => {
                "SELECT m.n = (SELECT sum(n) FROM t) AND pg_typeof(m.n) = 'numeric'::regtype FROM m"
            }
        };
        project.holds(&[right]).await;
    }
}

/// Every transaction of contract and of the way back is ended before and after its COMMIT, or its
/// reply is lost: made, filled, looked at before the try, swapped.
#[tokio::test]
async fn every_step_around_the_swap_survives_its_end() {
    let project = Project::new(
        "retype_matview_faults",
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE VIEW v AS SELECT n, id FROM t;
         INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;
         CREATE MATERIALIZED VIEW m AS SELECT sum(n) AS n FROM v;
         CREATE UNIQUE INDEX by_n ON m (n); COMMENT ON MATERIALIZED VIEW m IS 'kept';
         CREATE VIEW over AS SELECT n FROM m;",
        "ALTER TABLE t ALTER n TYPE bigint;",
    )
    .await;
    project.to("apply", "ready").await;
    let ready = project.picture().await;
    let mut complete = None;
    let (mut met, mut row) = (0, 1000);
    for side in ["before", "after", "unlearned"] {
        for number in 1..=4 {
            for (command, state) in [
                (&["contract"][..], "complete"),
                (&["revert", "--to", "ready"], "ready"),
            ] {
                row += 1;
                let insert = format!("INSERT INTO t (id, n) VALUES ({row}, {row})");
                project.db.execute(&insert).await;
                let fault = format!("step_ddl.{side}:{number}");
                let mut args = vec!["--yes", command[0], project.id.as_str()];
                args.extend(&command[1..]);
                let running = project.cli.spawn_with(&[("PGSHIFT_FAULT", &fault)], &args);
                let output = running.wait().await;
                met += i32::from(output.code != Some(0) || output.stderr.contains("fault point"));
                if output.code != Some(0) {
                    project.command("resume", &[]).await.expect(0);
                }
                assert_eq!(project.state().await, state, "{command:?} with {fault}");
                project
                    .holds(&["SELECT n = (SELECT sum(n) FROM t) FROM over"])
                    .await;
                let now = project.db.schema().await;
                let same = match state {
                    "ready" => ready.schema(),
                    _ => complete.get_or_insert(now.clone()).as_str(),
                };
                assert_same("schema", same, &now);
            }
        }
    }
    assert!(met >= 20, "{met} faults");
}

/// What an application does to one between plan and contract stops the swap; the one beside goes
/// with a revert.
#[tokio::test]
async fn a_changed_one_stops_the_swap_and_nothing_is_left() {
    let project = Project::new(
        "retype_matview_meanwhile",
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE MATERIALIZED VIEW m AS SELECT n FROM t;
         INSERT INTO t SELECT n, n FROM generate_series(1, 100) n;",
        "ALTER TABLE t ALTER n TYPE bigint;",
    )
    .await;
    let first = project.picture().await;
    let plan = project.command("plan", &[]).await.expect(0);
    let said = plan.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in [
        "make materialized views of public.t beside the old ones",
        "materialized view public.m",
        "fill the materialized views of public.t",
    ] {
        assert!(said.contains(word), "{word:?} is not in\n{}", plan.stdout);
    }
    project.to("apply", "ready").await;
    project.db.execute("CREATE INDEX later ON m (n)").await;
    let stopped = project.command("contract", &[]).await.expect(3);
    let word = "materialized view public.m is not as it was";
    assert!(stopped.stderr.contains(word), "{}", stopped.stderr);
    project.db.execute("DROP INDEX later").await;
    project.command("resume", &[]).await.expect(0);
    assert_eq!(project.state().await, "complete");
    project.to("revert", "reverted").await;
    let now = project.picture().await;
    assert_same(
        "schema",
        &unordered(first.schema()),
        &unordered(now.schema()),
    );
    project.nothing_left().await;
}
