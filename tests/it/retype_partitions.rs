//! ALTER COLUMN … TYPE of partitioned tables: there and back while the application writes, on, and
//! in the end the same catalog as after the direct statement.

use std::collections::BTreeSet;

mod keys;

use crate::lifecycle::{Project, assert_same};
use crate::retype::Case;
use crate::support::Db;

/// Three levels, attached tables with other column numbers, and all that a partition may have of
/// its own.
const EVENTS: &str = "
    CREATE TABLE users (id bigint PRIMARY KEY);
    INSERT INTO users SELECT n FROM generate_series(0, 99) n;
    CREATE TABLE events (id int NOT NULL DEFAULT 5, created date NOT NULL, user_id int
            CONSTRAINT of_user REFERENCES users ON DELETE CASCADE, code int, note text,
        CONSTRAINT events_pkey PRIMARY KEY (id, created),
        CONSTRAINT code_key UNIQUE (code, created) INCLUDE (note),
        CONSTRAINT positive CHECK (code > 0))
        PARTITION BY RANGE (created);
    CREATE INDEX events_user ON events (user_id, created DESC) WITH (fillfactor = 80);
    CREATE INDEX events_expr ON events ((code + id)) WHERE user_id > 3;
    CREATE INDEX events_note ON events (note);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2021-01-01')
        PARTITION BY RANGE (created);
    CREATE TABLE events_1a PARTITION OF events_1 FOR VALUES FROM ('2020-01-01') TO ('2020-07-01');
    CREATE TABLE events_1b PARTITION OF events_1 FOR VALUES FROM ('2020-07-01') TO ('2021-01-01');
    CREATE SCHEMA other;
    CREATE TABLE other.events_2 (gone int, note text, code int, \"own x\" int, created date NOT NULL,
        id int CONSTRAINT events_id_not_null NOT NULL, user_id int, CONSTRAINT positive CHECK (code > 0),
        CONSTRAINT own_check CHECK (code < 100000000),
        CONSTRAINT own_unique UNIQUE (code, id) DEFERRABLE);
    ALTER TABLE other.events_2 DROP COLUMN gone, DROP COLUMN \"own x\",
        ALTER code SET DEFAULT 12, ALTER user_id SET NOT NULL;
    CREATE UNIQUE INDEX \"the Key\" ON other.events_2 (id, created);
    CREATE INDEX own_index ON other.events_2 (code DESC, note) WITH (fillfactor = 60);
    CREATE INDEX other_user ON other.events_2 (user_id, created DESC) WITH (fillfactor = 50);
    ALTER TABLE other.events_2 ADD CONSTRAINT \"the Key\" PRIMARY KEY USING INDEX \"the Key\";
    ALTER TABLE events ATTACH PARTITION other.events_2
        FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
    CREATE TABLE events_rest PARTITION OF events DEFAULT;
    ALTER TABLE other.events_2 CLUSTER ON other_user;
    ALTER TABLE events_1a REPLICA IDENTITY USING INDEX events_1a_pkey;
    ALTER TABLE events ALTER code SET STATISTICS 300;
    ALTER TABLE events_1b ALTER code SET STATISTICS 200, ALTER code SET (n_distinct = -1),
        ALTER id DROP DEFAULT;
    ALTER TABLE events_rest ALTER code SET STATISTICS -1;
    COMMENT ON COLUMN events.code IS 'a code';
    COMMENT ON COLUMN events_1a.code IS 'its code';
    COMMENT ON INDEX events_user IS 'by user';
    COMMENT ON INDEX other.other_user IS 'by user there';
    COMMENT ON INDEX other.own_index IS 'own';
    COMMENT ON CONSTRAINT events_pkey ON events IS 'key';
    COMMENT ON CONSTRAINT \"the Key\" ON other.events_2 IS 'key there';
    COMMENT ON CONSTRAINT code_key ON events IS 'code';
    COMMENT ON CONSTRAINT own_unique ON other.events_2 IS 'own';
    CREATE STATISTICS code_user ON code, user_id FROM events;
    CREATE STATISTICS own_statistics ON code, note FROM other.events_2;
    CREATE VIEW recent AS SELECT id, code + 1 AS next FROM events WHERE user_id > 3;
    GRANT SELECT ON recent TO PUBLIC;
    GRANT SELECT (code) ON events TO PUBLIC;
    GRANT UPDATE (code) ON events_1a TO PUBLIC;
    INSERT INTO events (id, created, user_id, code, note)
        SELECT n, '2020-01-01'::date + n % 1100, n % 100, n, 'n' || n
        FROM generate_series(1, 3000) n;";

fn writes(n: u64) -> String {
    let day = n % 1100;
    match n % 5 {
        0 => format!(
            "INSERT INTO events (id, created, user_id, code, note)
             VALUES ({}, '2020-01-01'::date + {day}, {}, {}, 'x')",
            10_000 + n,
            n % 100,
            10_000 + n
        ),
        1 => format!(
            "UPDATE events SET user_id = {} WHERE id = {}",
            n % 100,
            n % 3000
        ),
        2 => format!(
            "UPDATE events SET code = code + 1000000 WHERE id = {}",
            n % 3000
        ),
        // To another partition.
        3 => format!(
            "UPDATE events SET created = '2020-01-01'::date + (created - '2020-01-01' + 400) % 1100
             WHERE id = {}",
            n % 3000
        ),
        _ => format!("DELETE FROM events WHERE id = {}", n % 3000),
    }
}

/// What differs from the direct change: ALTER TYPE makes the indexes of partitions anew with other
/// names, settings and comments, and drops CLUSTER and REPLICA IDENTITY; here they stay.
async fn assert_kept(case: &Case, project: &Project) {
    let (direct, before) = (
        Db::with(case.name, case.setup).await,
        Db::with(case.name, case.setup).await,
    );
    direct.execute(case.direct).await;
    let lines = async |db: &Db| -> BTreeSet<String> {
        let schema = db.schema().await;
        let order = |line: &&str| !line.contains(" columns: ");
        schema.lines().filter(order).map(str::to_owned).collect()
    };
    let (direct, before, found) = (
        lines(&direct).await,
        lines(&before).await,
        lines(&project.db).await,
    );
    let new: Vec<_> = found
        .difference(&direct)
        .filter(|l| !before.contains(*l))
        .collect();
    assert!(
        new.is_empty(),
        "neither as before nor as after ALTER TYPE: {new:#?}"
    );
    let about_index = |line: &&String| {
        !["index ", "comment on index ", "constraint "]
            .iter()
            .any(|w| line.contains(*w))
    };
    let gone: Vec<_> = direct.difference(&found).filter(about_index).collect();
    assert!(gone.is_empty(), "lost: {gone:#?}");
}

#[tokio::test]
async fn a_tree_with_everything() {
    let case = Case {
        name: "retype_tree",
        setup: EVENTS,
        file: "ALTER TABLE events ALTER COLUMN id TYPE bigint, ALTER code TYPE bigint,
                   ALTER user_id TYPE bigint;",
        direct: "DROP VIEW recent;
            ALTER TABLE events ALTER COLUMN id TYPE bigint, ALTER code TYPE bigint,
                ALTER user_id TYPE bigint;
            CREATE VIEW recent AS SELECT id, code + 1 AS next FROM events WHERE user_id > 3;
            GRANT SELECT ON recent TO PUBLIC;",
        traffic: writes,
        ready: &["SELECT count(*) > 2000 FROM events"],
        complete: &[
            "SELECT count(*) = 6 FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
             WHERE relname LIKE 'events%' AND relkind IN ('r', 'p') AND attname = 'id'
               AND format_type(atttypid, atttypmod) = 'bigint'",
            "SELECT count(*) = 0 FROM pg_index WHERE NOT indisvalid",
        ],
        after: (
            "INSERT INTO events (id, created, code, note) VALUES (7, '2020-03-03', 999999999, 'new');
             INSERT INTO events (created, user_id, note) VALUES ('2019-03-03', 3, 'by default');
             INSERT INTO other.events_2 (id, created, user_id) VALUES (1, '2021-03-03', 3);
             DELETE FROM events WHERE code = 12",
            &[
                "SELECT count(*) = 1 FROM events WHERE code = 999999999 AND id = 7",
                "SELECT count(*) = 1 FROM events WHERE note = 'by default' AND id = 5",
            ],
        ),
        lost: &[],
    };
    let project = case.live().await;
    assert_kept(&case, &project).await;
}

const DAYS: &str = "
    CREATE TABLE days (id bigserial, day int NOT NULL, n int NOT NULL, PRIMARY KEY (id, day))
        PARTITION BY RANGE (day);
    CREATE INDEX days_n ON days (n);
    CREATE UNIQUE INDEX days_n_day ON days (n, day, id);
    CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (10);
    CREATE TABLE days_2 PARTITION OF days FOR VALUES FROM (10) TO (20);
    CREATE TABLE days_3 PARTITION OF days FOR VALUES FROM (20) TO (30);
    ALTER TABLE days ALTER id TYPE int;
    INSERT INTO days (day, n) SELECT n % 30, n FROM generate_series(1, 3000) n;";

/// Foreign keys of other tables, and what depends on the root's columns.
#[tokio::test]
async fn a_tree_that_others_reference() {
    let case = Case {
        name: "retype_tree_referenced",
        setup: "
            CREATE TABLE days (id int NOT NULL, day int NOT NULL, n int NOT NULL,
                CONSTRAINT days_pkey PRIMARY KEY (id, day), CONSTRAINT other_key UNIQUE (n, day, id))
                PARTITION BY RANGE (day);
            CREATE TABLE days_1 PARTITION OF days FOR VALUES FROM (0) TO (10) PARTITION BY LIST (day);
            CREATE TABLE days_1a PARTITION OF days_1 FOR VALUES IN (0, 1, 2, 3);
            CREATE TABLE days_1b PARTITION OF days_1 DEFAULT;
            CREATE TABLE days_2 PARTITION OF days DEFAULT;
            INSERT INTO days SELECT n, n % 30, n FROM generate_series(1, 2000) n;
            CREATE TABLE notes (day int, day_id int, CONSTRAINT of_day FOREIGN KEY (day_id, day)
                REFERENCES days ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE);
            CREATE TABLE wrong (day int, day_id int);
            INSERT INTO wrong VALUES (5, -1);
            ALTER TABLE wrong ADD CONSTRAINT unchecked FOREIGN KEY (day_id, day) REFERENCES days NOT VALID;
            INSERT INTO notes SELECT day, id FROM days WHERE id % 3 = 0;
            CREATE INDEX ON notes (day_id, day);
            COMMENT ON CONSTRAINT of_day ON notes IS 'its day';
            CREATE TABLE heard (what text);
            CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN INSERT INTO heard VALUES (TG_OP || TG_NAME); RETURN NULL; END';
            CREATE TRIGGER on_id AFTER UPDATE OF id ON days FOR EACH ROW
                WHEN (OLD.id <> NEW.id) EXECUTE FUNCTION loud();
            COMMENT ON TRIGGER on_id ON days IS 'of ids';
            CREATE TRIGGER off AFTER UPDATE OF n, id ON days FOR EACH ROW EXECUTE FUNCTION loud();
            ALTER TABLE days DISABLE TRIGGER off;
            CREATE POLICY who ON days USING (id > 0);
            DO $$ BEGIN
                IF current_setting('server_version_num')::int >= 150000 THEN
                    EXECUTE 'CREATE PUBLICATION of_days FOR TABLE days (id, day) WHERE (id > 3)
                        WITH (publish_via_partition_root)';
                END IF;
            END $$;",
        file: "ALTER TABLE days ALTER COLUMN id TYPE bigint;",
        direct: "ALTER TABLE wrong DROP CONSTRAINT unchecked;
            DROP TRIGGER on_id ON days; DROP TRIGGER off ON days; DROP POLICY who ON days;
            DO $$ BEGIN
                IF current_setting('server_version_num')::int >= 150000 THEN
                    ALTER PUBLICATION of_days DROP TABLE days;
                END IF;
            END $$;
            ALTER TABLE days ALTER COLUMN id TYPE bigint;
            ALTER TABLE wrong ADD CONSTRAINT unchecked FOREIGN KEY (day_id, day) REFERENCES days NOT VALID;
            CREATE TRIGGER on_id AFTER UPDATE OF id ON days FOR EACH ROW
                WHEN (OLD.id <> NEW.id) EXECUTE FUNCTION loud();
            COMMENT ON TRIGGER on_id ON days IS 'of ids';
            CREATE TRIGGER off AFTER UPDATE OF n, id ON days FOR EACH ROW EXECUTE FUNCTION loud();
            ALTER TABLE days DISABLE TRIGGER off;
            CREATE POLICY who ON days USING (id > 0);
            DO $$ BEGIN
                IF current_setting('server_version_num')::int >= 150000 THEN
                    EXECUTE 'ALTER PUBLICATION of_days ADD TABLE days (id, day) WHERE (id > 3)';
                END IF;
            END $$;",
        traffic: |n| {
            let id = n % 2000;
            match n % 5 {
                0 => format!("INSERT INTO days (id, day, n) VALUES ({}, {}, {n})", 10_000 + n, n % 30),
                1 => format!(
                    "INSERT INTO notes (day, day_id) SELECT day, id FROM days WHERE id = {id} FOR KEY SHARE"
                ),
                2 => format!("UPDATE days SET n = n + 100000 WHERE id = {id}"),
                3 => format!("UPDATE days SET id = id + 100000 WHERE id = {id}"),
                _ => format!("DELETE FROM days WHERE id = {id}"),
            }
        },
        ready: &["SELECT count(*) > 1000 FROM days"],
        complete: &[
            "SELECT format_type(atttypid, atttypmod) = 'bigint' FROM pg_attribute
             WHERE attrelid = 'days'::regclass AND attname = 'id'",
            "SELECT convalidated FROM pg_constraint WHERE conname = 'of_day'",
            "SELECT count(*) = 0 FROM notes LEFT JOIN days ON (day_id, notes.day) = (id, days.day)
             WHERE id IS NULL",
            "SELECT count(*) > 0 FROM heard WHERE what = 'UPDATEon_id'",
            "SELECT count(*) = 0 FROM heard WHERE what = 'UPDATEoff'",
        ],
        after: (
            "INSERT INTO days (id, day, n) VALUES (9876543, 3, 3);
             INSERT INTO notes (day, day_id) VALUES (3, 9876543);
             UPDATE days SET id = 9876544 WHERE id = 9876543",
            &["SELECT count(*) = 1 FROM notes WHERE day_id = 9876544"],
        ),
        lost: &[],
    };
    let project = case.live().await;
    assert_kept(&case, &project).await;
}

/// Nothing is built under the lock: the files of the indexes are those of before the swap.
#[tokio::test]
async fn the_swap_builds_nothing() {
    let project = Project::new(
        "retype_tree_files",
        DAYS,
        "ALTER TABLE days ALTER id TYPE bigint, ALTER n TYPE bigint;",
    )
    .await;
    let files = "SELECT c.relfilenode::bigint FROM pg_index x JOIN pg_class c ON c.oid = indexrelid
                 WHERE indrelid::regclass::text LIKE 'days%' AND relkind = 'i' ORDER BY 1";
    let plan = project.command("plan", &[]).await.expect(0);
    assert!(
        plan.stdout.contains("not with rows"),
        "the swap says what its time grows with: {}",
        plan.stdout
    );
    project.to("apply", "ready").await;
    let before: Vec<i64> = project.db.rows(files).await;
    assert_eq!(before.len(), 18);
    project.to("contract", "complete").await;
    let after: Vec<i64> = project.db.rows(files).await;
    assert_eq!(after.len(), 9);
    assert!(after.iter().all(|file| before.contains(file)));
}

/// Partitions come and go between apply and contract, and between contract and revert.
#[tokio::test]
async fn partitions_that_come_and_go() {
    let project = Project::new(
        "retype_tree_moves",
        DAYS,
        "ALTER TABLE days ALTER id TYPE bigint, ALTER n TYPE bigint;",
    )
    .await;
    project.to("apply", "ready").await;
    let comes = |n: u32| {
        format!(
            "CREATE TABLE days_{n} PARTITION OF days FOR VALUES FROM ({n}0) TO ({n}9);
             INSERT INTO days (day, n) SELECT {n}0 + n % 9, n FROM generate_series(1, 300) n"
        )
    };
    project.db.execute(&comes(4)).await;
    project
        .db
        .execute("ALTER TABLE days DETACH PARTITION days_1")
        .await;
    project.command("verify", &[]).await.expect(0);
    project.to("contract", "complete").await;
    project
        .holds(&[
            "SELECT count(*) = 0 FROM pg_index WHERE NOT indisvalid",
            "SELECT count(*) = 4 FROM pg_index x JOIN pg_inherits i ON i.inhrelid = x.indexrelid
             WHERE x.indrelid IN ('days_4'::regclass, 'days_3'::regclass) AND indisunique",
            "SELECT count(*) = 1 FROM pg_index WHERE indrelid = 'days_4'::regclass AND indisprimary",
        ])
        .await;
    project.db.execute(&comes(5)).await;
    project.db.execute("DROP TABLE days_2").await;
    project.to("revert", "reverted").await;
    project
        .holds(&[
            "SELECT count(*) = 0 FROM pg_index WHERE NOT indisvalid",
            "SELECT count(*) = 4 FROM pg_index WHERE indrelid::regclass::text LIKE 'days%'
                 AND indisprimary AND indrelid <> 'days_1'::regclass",
            "SELECT count(*) = 1600 AND count(DISTINCT id) = 1600 FROM days",
        ])
        .await;
}

#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let setup = "
        CREATE TABLE p (k int, w int, v int, u int) PARTITION BY RANGE (k);
        CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (v);
        CREATE TABLE p_1a PARTITION OF p_1 DEFAULT;
        CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20);
        CREATE VIEW of_leaf AS SELECT w FROM p_2;
        CREATE INDEX of_middle ON p_1 (u);
        CREATE TABLE e (k int, w int) PARTITION BY RANGE ((k + w));
        CREATE TABLE parent (a int);
        CREATE TABLE child () INHERITS (parent);";
    for (name, file, words) in [
        (
            "key",
            "ALTER TABLE p ALTER k TYPE bigint;",
            "p is partitioned by k",
        ),
        (
            "expression",
            "ALTER TABLE e ALTER w TYPE bigint;",
            "e is partitioned by w",
        ),
        (
            "inner",
            "ALTER TABLE p ALTER v TYPE bigint;",
            "partition key of table",
        ),
        (
            "leaf",
            "ALTER TABLE p_2 ALTER w TYPE bigint;",
            "p_2 is a partition of public.p",
        ),
        (
            "view",
            "ALTER TABLE p ALTER w TYPE bigint;",
            "view of_leaf depends on column w of",
        ),
        (
            "middle",
            "ALTER TABLE p ALTER u TYPE bigint;",
            "index of_middle is not of public.p",
        ),
        (
            "parent",
            "ALTER TABLE parent ALTER a TYPE bigint;",
            "has inheritance children",
        ),
        (
            "child",
            "ALTER TABLE child ALTER a TYPE bigint;",
            "inherits its columns",
        ),
    ] {
        let project = Project::new(&format!("retype_tree_no_{name}"), setup, file).await;
        let before = project.picture().await;
        let output = project.command("apply", &[]).await;
        assert_eq!(output.code, Some(3), "{name}: {}", output.stderr);
        let said: Vec<_> = output.stderr.split_whitespace().collect();
        assert!(
            said.join(" ").contains(words),
            "{name}: {words:?} is not in\n{}",
            output.stderr
        );
        assert!(output.stderr.contains("help:"), "{name}: {}", output.stderr);
        assert_same("schema", before.schema(), project.picture().await.schema());
    }
}

/// Each with rows, there, back, on, and as ALTER TYPE leaves it.
#[tokio::test]
async fn types_of_all_kinds() {
    const REVERSE: &str = "-- pgshift: reverse\nUPDATE t SET c = ";
    for (name, column, rows, ops, reverse) in [
        (
            "enum_text",
            "mood NOT NULL DEFAULT 'ok'",
            "'sad'",
            "ALTER c TYPE text",
            "",
        ),
        (
            "text_enum",
            "text NOT NULL DEFAULT 'ok'",
            "'sad'",
            "ALTER c DROP DEFAULT, ALTER c TYPE mood USING c::mood, ALTER c SET DEFAULT 'sad'",
            "",
        ),
        ("enums", "mood[]", "'{sad,ok}'", "ALTER c TYPE text[]", ""),
        (
            "shorter",
            "varchar(50) UNIQUE",
            "'n' || n",
            "ALTER c TYPE varchar(10)",
            "",
        ),
        (
            "scale",
            "numeric(10, 4) DEFAULT 1.25",
            "n / 8.0",
            "ALTER c TYPE numeric(12, 2)",
            "",
        ),
        (
            "zone",
            "timestamp NOT NULL DEFAULT '2020-01-01'",
            "'2020-01-01'::timestamp + n * '1 h'::interval",
            "ALTER c TYPE timestamptz USING c AT TIME ZONE 'Europe/Berlin'",
            "c AT TIME ZONE 'Europe/Berlin'",
        ),
        (
            "jsonb",
            "text DEFAULT '{}'",
            "'{\"a\": 1}'",
            "ALTER c DROP DEFAULT, ALTER c TYPE jsonb USING c::jsonb, ALTER c SET DEFAULT '{}'",
            "",
        ),
        (
            "array",
            "int[] NOT NULL DEFAULT '{1,2}'",
            "ARRAY[n]",
            "ALTER c TYPE bigint[]",
            "",
        ),
        ("array_text", "int[]", "ARRAY[n]", "ALTER c TYPE text", ""),
        (
            "boolean",
            "int DEFAULT 0",
            "n % 2",
            "ALTER c DROP DEFAULT, ALTER c TYPE boolean USING c <> 0",
            "c::int",
        ),
        (
            "domain",
            "positive NOT NULL DEFAULT 3",
            "n",
            "ALTER c TYPE bigint",
            "",
        ),
        ("to_domain", "int DEFAULT 3", "n", "ALTER c TYPE big", ""),
        (
            "uuid",
            "uuid",
            "md5(n::text)::uuid",
            "ALTER c TYPE text",
            "",
        ),
        (
            "float",
            "real",
            "n / 8.0",
            "ALTER c TYPE numeric(20, 6)",
            "",
        ),
        (
            "padded",
            "char(10) DEFAULT 'x'",
            "'a' || n",
            "ALTER c TYPE text",
            "",
        ),
    ] {
        let setup = format!(
            "CREATE TYPE mood AS ENUM ('sad', 'ok');
             CREATE DOMAIN positive AS int CHECK (VALUE > 0);
             CREATE DOMAIN big AS bigint;
             CREATE TABLE t (id int PRIMARY KEY, c {column});
             CREATE INDEX t_c ON t (c, id);
             INSERT INTO t SELECT n, {rows} FROM generate_series(1, 300) n;"
        );
        let direct = Db::with(name, &setup).await;
        let alter = format!("ALTER TABLE t {ops};\n");
        direct.execute(&alter).await;
        let file = if reverse.is_empty() {
            alter
        } else {
            format!("-- pgshift: expand\n{alter}\n{REVERSE}{reverse};\n")
        };
        let project = Project::new(&format!("retype_type_{name}"), &setup, &file).await;
        let first = project.picture().await;
        project.to("apply", "ready").await;
        project
            .db
            .execute("INSERT INTO t (id) VALUES (900); DELETE FROM t WHERE id = 900")
            .await;
        project.to("contract", "complete").await;
        project.to("revert", "reverted").await;
        let back = project.picture().await;
        assert_same(name, first.schema(), back.schema());
        if name != "scale" {
            assert_same(name, first.data(), back.data());
        }
        project.to("apply", "ready").await;
        project.to("contract", "complete").await;
        project.to("purge", "purged").await;
        let unordered = |schema: String| {
            let order = |line: &&str| !line.contains(" columns: ");
            schema.lines().filter(order).collect::<Vec<_>>().join("\n")
        };
        assert_same(
            name,
            &unordered(direct.schema().await),
            &unordered(project.db.schema().await),
        );
        assert_same(
            name,
            &crate::lifecycle::data(&direct).await,
            &crate::lifecycle::data(&project.db).await,
        );
    }
}
