//! ALTER COLUMN … TYPE by way of another column: there and back while the application writes, on,
//! and in the end the same catalog as after the direct statement, but for the order of columns.

mod back;
mod call_off;
mod dependents;
mod drift;
mod keys;
mod matviews;
mod small;

use crate::lifecycle::{Life, Project, assert_same};
use crate::support::Db;

/// A schema without the order of columns.
fn unordered(schema: &str) -> String {
    let order = |line: &&str| !line.contains(" columns: ");
    schema.lines().filter(order).collect::<Vec<_>>().join("\n")
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) setup: &'static str,
    pub(crate) file: &'static str,
    /// What is run directly, where that is not the file.
    pub(crate) direct: &'static str,
    pub(crate) traffic: fn(u64) -> String,
    /// Conditions at READY and after contract.
    pub(crate) ready: &'static [&'static str],
    pub(crate) complete: &'static [&'static str],
    /// What the new version writes after contract, and conditions after the revert.
    pub(crate) after: (&'static str, &'static [&'static str]),
    pub(crate) lost: &'static [&'static str],
}

impl Case {
    /// There and back, on, back, purge; under traffic.
    pub(crate) async fn live(&self) -> Project {
        let project = Project::new(self.name, self.setup, self.file).await;
        Life {
            name: self.name,
            setup: self.setup,
            migration: self.file,
            traffic: Some(self.traffic),
            ready: self.ready,
            complete: self.complete,
            new_version: Some(("SELECT 1", self.after.0, self.after.1)),
            lost: self.lost,
        }
        .live_in(&project)
        .await;
        project
    }

    async fn check(&self) -> Project {
        let direct = Db::with(self.name, self.setup).await;
        let sql = if self.direct.is_empty() {
            self.file
        } else {
            self.direct
        };
        direct.execute(sql).await;
        let project = self.live().await;
        assert_same(
            "schema",
            &unordered(&direct.schema().await),
            &unordered(&project.db.schema().await),
        );
        project
    }
}

#[tokio::test]
async fn an_integer_column_with_everything() {
    Case {
        name: "retype_everything",
        setup: "
            CREATE TABLE users (id bigint PRIMARY KEY);
            INSERT INTO users SELECT n FROM generate_series(0, 99) n;
            CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                user_id int NOT NULL DEFAULT 7 CONSTRAINT of_user REFERENCES users
                    ON UPDATE CASCADE ON DELETE SET DEFAULT DEFERRABLE INITIALLY DEFERRED,
                code int CONSTRAINT positive CHECK (code >= 0), note text,
                CONSTRAINT two CHECK (code < 5000000 OR user_id > 3),
                CONSTRAINT code_key UNIQUE (code, id) INCLUDE (note) DEFERRABLE,
                CONSTRAINT note_check CHECK (note <> ''));
            ALTER TABLE orders ADD CONSTRAINT old_rows CHECK (code <> 77777) NOT VALID;
            CREATE INDEX orders_user ON orders (user_id DESC NULLS LAST, note) WITH (fillfactor = 70);
            CREATE UNIQUE INDEX orders_part ON orders (code) WHERE code > 100 AND user_id > 0;
            CREATE INDEX orders_expr ON orders ((code + user_id), lower(note));
            CREATE INDEX orders_incl ON orders (id) INCLUDE (user_id);
            CREATE INDEX orders_note ON orders (note);
            ALTER TABLE orders CLUSTER ON orders_user;
            ALTER TABLE orders ALTER code SET STATISTICS 500, ALTER code SET (n_distinct = -1);
            COMMENT ON COLUMN orders.code IS 'it''s a code';
            COMMENT ON INDEX orders_user IS 'by user';
            COMMENT ON CONSTRAINT two ON orders IS 'two';
            COMMENT ON CONSTRAINT code_key ON orders IS 'key';
            GRANT SELECT (code), UPDATE (code) ON orders TO PUBLIC;
            INSERT INTO orders (user_id, code, note)
                SELECT n % 100, n, 'n' || n FROM generate_series(1, 2000) n;",
        file: "ALTER TABLE orders ALTER COLUMN code TYPE bigint, ALTER user_id TYPE bigint;",
        direct: "",
        traffic: |n| match n % 4 {
            0 => format!(
                "INSERT INTO orders (user_id, code, note) VALUES ({}, {}, 'x')",
                n % 100,
                10_000 + n
            ),
            1 => format!("UPDATE orders SET user_id = {} WHERE id = {}", n % 100, n % 2000),
            2 => format!("UPDATE orders SET code = NULL WHERE id = {}", n % 50),
            _ => "INSERT INTO orders (note) VALUES ('default')".into(),
        },
        ready: &["SELECT count(*) > 0 FROM orders WHERE user_id = 7"],
        complete: &[
            "SELECT format_type(atttypid, atttypmod) = 'bigint' FROM pg_attribute
             WHERE attrelid = 'orders'::regclass AND attname = 'code'",
            "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'orders' AND attname = 'code'",
        ],
        after: (
            "INSERT INTO orders (user_id, code, note) VALUES (5, 123456, 'new');
             INSERT INTO orders (note) VALUES ('by default');
             UPDATE orders SET code = 654321 WHERE code = 1000",
            &[
                "SELECT count(*) = 1 FROM orders WHERE code = 123456 AND user_id = 5",
                "SELECT count(*) = 1 FROM orders WHERE code = 654321",
                "SELECT count(*) = 1 FROM orders WHERE note = 'by default' AND user_id = 7",
            ],
        ),
        lost: &[],
    }
    .check()
    .await;
}

#[tokio::test]
async fn serial_primary_key() {
    Case {
        name: "retype_serial",
        setup: "
            CREATE TABLE t (id serial PRIMARY KEY, a text);
            INSERT INTO t (a) SELECT 'a' || n FROM generate_series(1, 2000) n;
            COMMENT ON CONSTRAINT t_pkey ON t IS 'the key';",
        file: "ALTER TABLE t ALTER COLUMN id TYPE bigint;",
        direct: "ALTER TABLE t ALTER COLUMN id TYPE bigint; ALTER SEQUENCE t_id_seq AS bigint;",
        traffic: |n| match n % 3 {
            0 => format!("INSERT INTO t (a) VALUES ('b{n}')"),
            1 => format!("UPDATE t SET a = 'c{n}' WHERE id = {}", n % 2000),
            _ => format!("INSERT INTO t (id, a) VALUES ({}, 'd')", 1_000_000 + n),
        },
        ready: &["SELECT count(*) > 2000 FROM t"],
        complete: &["SELECT data_type = 'bigint'::regtype FROM pg_sequences
                     WHERE sequencename = 't_id_seq'"],
        after: (
            "INSERT INTO t (a) VALUES ('new'), ('newer')",
            &["SELECT count(*) = 2 FROM t WHERE a LIKE 'new%' AND id > 2000"],
        ),
        lost: &[],
    }
    .check()
    .await;
}

#[tokio::test]
async fn identity_primary_keys() {
    Case {
        name: "retype_identity",
        setup: "
            CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 3 CACHE 5)
                PRIMARY KEY, a text);
            COMMENT ON SEQUENCE t_id_seq IS 'numbers';
            GRANT SELECT ON SEQUENCE t_id_seq TO PUBLIC;
            INSERT INTO t (a) SELECT 'a' || n FROM generate_series(1, 1000) n;",
        file: "ALTER TABLE t ALTER COLUMN id TYPE bigint;",
        direct: "",
        traffic: |n| match n % 2 {
            0 => format!("INSERT INTO t (a) VALUES ('b{n}')"),
            _ => format!("UPDATE t SET a = 'c{n}' WHERE id = {}", 10 + n % 2000),
        },
        ready: &["SELECT count(*) > 1000 FROM t"],
        complete: &[],
        after: (
            "INSERT INTO t (a) VALUES ('new')",
            &["SELECT count(*) = 1 FROM t WHERE a = 'new' AND id > 1000"],
        ),
        lost: &[],
    }
    .check()
    .await;
    Case {
        name: "retype_composite",
        setup: "
            CREATE TABLE t (tenant smallint NOT NULL, id int NOT NULL, a text,
                PRIMARY KEY (tenant, id) INCLUDE (a));
            ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey;
            INSERT INTO t SELECT n % 10, n, 'a' FROM generate_series(1, 1000) n;",
        file: "ALTER TABLE t ALTER COLUMN id TYPE bigint, ALTER tenant TYPE int;",
        direct: "",
        traffic: |n| {
            format!(
                "INSERT INTO t VALUES ({}, {}, 'b') ON CONFLICT DO NOTHING",
                n % 10,
                5000 + n
            )
        },
        ready: &["SELECT count(*) > 1000 FROM t"],
        complete: &[],
        after: (
            "INSERT INTO t (id, tenant, a) VALUES (3, 20, 'new')",
            &["SELECT count(*) = 1 FROM t WHERE id = 3 AND tenant = 20"],
        ),
        lost: &[],
    }
    .check()
    .await;
}

/// Columns that have the names of words of the expressions around them.
#[tokio::test]
async fn hostile_names() {
    Case {
        name: "retype_hostile",
        setup: r#"
            CREATE SCHEMA "My ""App";
            CREATE TABLE "My ""App"."T on USING" (id int PRIMARY KEY, date int DEFAULT 5, year int,
                lower text, "WHERE" int, ts timestamp,
                CONSTRAINT "c (date)" CHECK ((date)::text <> 'date'::text AND date > 0));
            CREATE INDEX "on" ON "My ""App"."T on USING"
                ((extract(year FROM ts) + year), lower(lower)) WHERE ts > '2020-01-01'::date;
            CREATE INDEX "USING (date)" ON "My ""App"."T on USING" (date, "WHERE")
                WHERE "WHERE" > 0 AND (date)::numeric > 1;
            CREATE INDEX ON "My ""App"."T on USING" (ts) INCLUDE (year);
            INSERT INTO "My ""App"."T on USING" (id, date, year, lower, "WHERE", ts)
                SELECT n, n, n, 'L' || n, n, now() FROM generate_series(1, 1000) n;"#,
        file: r#"ALTER TABLE "My ""App"."T on USING" ALTER date TYPE bigint, ALTER year TYPE bigint
                 USING year::bigint, ALTER "WHERE" TYPE numeric, ALTER lower TYPE varchar(90);"#,
        direct: "",
        traffic: |n| {
            format!(
                r#"UPDATE "My ""App"."T on USING" SET date = date + 1, "WHERE" = {n} WHERE id = {}"#,
                n % 1000
            )
        },
        ready: &[],
        complete: &[],
        after: (
            r#"UPDATE "My ""App"."T on USING" SET date = 70, lower = 'XY', year = 3 WHERE id = 1"#,
            &[r#"SELECT date = 70 AND lower = 'XY' AND year = 3
                 FROM "My ""App"."T on USING" WHERE id = 1"#],
        ),
        lost: &["WHERE come back as integer keeps them"],
    }
    .check()
    .await;
}

#[tokio::test]
async fn using_with_a_reverse_section() {
    Case {
        name: "retype_using",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, total numeric(10, 2) NOT NULL DEFAULT 0, at timestamp);
            CREATE INDEX t_total ON t (total);
            INSERT INTO t SELECT n, n / 4.0, now() FROM generate_series(1, 1000) n;",
        file: "-- pgshift: expand
            ALTER TABLE t ALTER COLUMN total TYPE bigint USING (t.total * 100)::bigint,
                ALTER at TYPE timestamptz USING at AT TIME ZONE 'UTC';
            -- pgshift: reverse
            UPDATE t SET total = total / 100.0, at = t.at AT TIME ZONE 'UTC';",
        direct: "ALTER TABLE t ALTER COLUMN total TYPE bigint USING (total * 100)::bigint,
                ALTER at TYPE timestamptz USING at AT TIME ZONE 'UTC';",
        traffic: |n| format!("UPDATE t SET total = total + 1.5 WHERE id = {}", n % 1000),
        ready: &[],
        complete: &["SELECT total = 250 * 100 FROM t WHERE id = 1000"],
        after: (
            "UPDATE t SET total = 155, at = '2020-01-01 00:00Z' WHERE id = 1;
             INSERT INTO t (id, at) VALUES (0, NULL)",
            &[
                "SELECT total = 1.55 AND at = '2020-01-01' FROM t WHERE id = 1",
                "SELECT total = 0 FROM t WHERE id = 0",
            ],
        ),
        lost: &[],
    }
    .check()
    .await;
}

/// The new version writes what the old type cannot hold: the application does not notice, and
/// the way back stops before anything is lost.
#[tokio::test]
async fn a_value_that_the_old_type_cannot_hold() {
    let project = Project::new(
        "retype_overflow",
        "CREATE TABLE t (id serial PRIMARY KEY, n varchar(5));
         INSERT INTO t (n) SELECT 'n' || n FROM generate_series(1, 500) n;",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint, ALTER n TYPE int USING substr(n, 2)::int;",
    )
    .await;
    let plan = project.command("plan", &[]).await.expect(3);
    assert!(
        plan.stderr.contains("nothing says how n follows"),
        "{}",
        plan.stderr
    );
    let project = Project::new(
        "retype_overflow",
        "CREATE TABLE t (id serial PRIMARY KEY, n int);
         INSERT INTO t (n) SELECT n FROM generate_series(1, 500) n;",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint, ALTER n TYPE text;",
    )
    .await;
    let first = project.picture().await;
    project.to("apply", "ready").await;
    project.to("contract", "complete").await;
    project
        .db
        .execute(
            "INSERT INTO t (id, n) VALUES (3000000000, 'x'); UPDATE t SET n = 'y' WHERE id = 5",
        )
        .await;
    let stopped = project.command("revert", &[]).await.expect(3);
    assert!(
        stopped
            .stderr
            .contains("2 rows of public.t have a value that the old type cannot hold"),
        "{}",
        stopped.stderr
    );
    project
        .db
        .execute("DELETE FROM t WHERE id = 3000000000; UPDATE t SET n = '5' WHERE id = 5")
        .await;
    project.command("resume", &[]).await.expect(0);
    assert_eq!(project.state().await, "reverted");
    let now = project.picture().await;
    assert_same("schema", first.schema(), now.schema());
    assert_same("data", first.data(), now.data());
    project.nothing_left().await;
}

/// Back to READY only, and on again.
#[tokio::test]
async fn back_to_ready_and_on() {
    let project = Project::new(
        "retype_ready",
        "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
             n int NOT NULL DEFAULT 3 UNIQUE CHECK (n > 0));
         INSERT INTO t (n) SELECT n FROM generate_series(1, 500) n;",
        "ALTER TABLE t ALTER id TYPE bigint, ALTER n TYPE bigint;",
    )
    .await;
    project.to("apply", "ready").await;
    let ready = project.picture().await;
    project.to("contract", "complete").await;
    project
        .command("revert", &["--to", "ready"])
        .await
        .expect(0);
    assert_eq!(project.state().await, "ready");
    let now = project.picture().await;
    assert_same("schema", ready.schema(), now.schema());
    assert_same("data", ready.data(), now.data());
    project.command("verify", &[]).await.expect(0);
    project.to("contract", "complete").await;
    project.db.execute("INSERT INTO t (n) VALUES (700)").await;
    project.to("purge", "purged").await;
    project.nothing_left().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let setup = "
        CREATE TABLE users (id int PRIMARY KEY, parent int REFERENCES users);
        CREATE TABLE t (id int PRIMARY KEY, n int, at timestamptz, b boolean, u int REFERENCES users,
            g int GENERATED ALWAYS AS (n + 1) STORED, seen int, p point);
        CREATE MATERIALIZED VIEW v AS SELECT seen FROM t;
        CREATE TABLE off (id int PRIMARY KEY);
        CREATE TABLE unchecked (off int CONSTRAINT of_off REFERENCES off);
        ALTER TABLE unchecked DISABLE TRIGGER ALL;";
    for (name, file, words) in [
        (
            "generated2",
            "ALTER TABLE t ALTER g TYPE bigint;",
            &["g is a generated column"][..],
        ),
        (
            "disabled",
            "ALTER TABLE off ALTER id TYPE bigint;",
            &["triggers of foreign key of_off of unchecked are disabled"],
        ),
        (
            "disabled2",
            "ALTER TABLE unchecked ALTER off TYPE bigint;",
            &["triggers of foreign key of_off of unchecked are disabled"],
        ),
        (
            "zone",
            "ALTER TABLE t ALTER at TYPE date;",
            &["depends on settings of the session"],
        ),
        (
            "no_cast",
            "ALTER TABLE t ALTER p TYPE int;",
            &["is of type integer but expression is of type point"],
        ),
        (
            "no_back",
            "ALTER TABLE t ALTER b TYPE int USING CASE WHEN b THEN 1 ELSE 0 END;",
            &["nothing says how b follows", "pgshift: reverse"],
        ),
        (
            "together",
            "ALTER TABLE t ALTER u TYPE bigint, ADD COLUMN x int;",
            &["changes by way of another column", ":1:36"],
        ),
        (
            "other",
            "CREATE INDEX i ON t (u);\nALTER TABLE t ALTER u TYPE bigint;",
            &["this names public.t", ":1:1"],
        ),
        (
            "wrong",
            "ALTER TABLE t ALTER u TYPE bigint USING nope;",
            &["column \"nope\" does not exist", ":1:41"],
        ),
    ] {
        let project = Project::new(&format!("retype_no_{name}"), setup, file).await;
        let before = project.picture().await;
        let output = project.command("apply", &[]).await;
        assert!(
            matches!(output.code, Some(2 | 3)),
            "{name}: {:?}",
            output.code
        );
        let said: Vec<_> = output.stderr.split_whitespace().collect();
        for word in words {
            assert!(
                said.join(" ").contains(word),
                "{name}: {word:?} is not in\n{}",
                output.stderr
            );
        }
        let now = project.picture().await;
        assert_same("schema", before.schema(), now.schema());
    }
}
