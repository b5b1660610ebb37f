//! What columns there are: generated, identity, without equality, enums, domains, defaults.

use crate::cases::refused;
use crate::lifecycle::Life;

const GENERATED: &str = "
    CREATE TABLE boxes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, w int NOT NULL,
        h int NOT NULL, area int GENERATED ALWAYS AS (w * h) STORED);
    INSERT INTO boxes (w, h) SELECT n, 2 FROM generate_series(1, 2000) n;";

#[tokio::test]
async fn a_generated_column_that_is_not_concerned() {
    Life {
        name: "generated",
        setup: GENERATED,
        migration: "
            -- pgshift: expand
            ALTER TABLE boxes ADD COLUMN half int;
            -- pgshift: backfill
            UPDATE boxes SET half = w / 2;
            -- pgshift: contract
            ALTER TABLE boxes ALTER COLUMN half SET NOT NULL;",
        traffic: Some(|n| match n % 2 {
            0 => "INSERT INTO boxes (w, h) VALUES (5, 5)".into(),
            _ => format!("UPDATE boxes SET w = w + 1 WHERE id = {}", n % 2000),
        }),
        ready: &["SELECT bool_and(half = w / 2 AND area = w * h) FROM boxes"],
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn a_generated_column_that_is_read_or_written() {
    refused(
        "generated_read",
        GENERATED,
        "-- pgshift: expand\nALTER TABLE boxes ADD COLUMN half int;\n\
         -- pgshift: backfill\nUPDATE boxes SET half = area / 2;",
        3,
        &[
            "it reads area, a generated column",
            "generation expression",
            ":4:1",
        ],
    )
    .await;
    refused(
        "generated_written",
        GENERATED,
        "-- pgshift: backfill\nUPDATE boxes SET area = 1 WHERE area IS NULL;",
        3,
        &["area is a generated column", ":2:18"],
    )
    .await;
}

#[tokio::test]
async fn identity_columns() {
    for kind in ["ALWAYS", "BY DEFAULT"] {
        let name = format!("identity_{}", &kind[..2]);
        Life {
            name: &name,
            setup: &format!(
                "CREATE TABLE t (id int GENERATED {kind} AS IDENTITY PRIMARY KEY, a text);
                 INSERT INTO t (a) SELECT 'A' || n FROM generate_series(1, 1000) n;"
            ),
            migration: "
                -- pgshift: expand
                ALTER TABLE t ADD COLUMN slug text;
                -- pgshift: backfill
                UPDATE t SET slug = id || '-' || lower(a);",
            traffic: Some(|n| format!("INSERT INTO t (a) VALUES ('B{n}')")),
            ready: &["SELECT bool_and(slug = id || '-' || lower(a)) FROM t"],
            ..Life::default()
        }
        .live()
        .await;
    }
    refused(
        "identity_written",
        "CREATE TABLE t (id int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY)",
        "-- pgshift: backfill\nUPDATE t SET n = 1;",
        3,
        &["n is an identity column (GENERATED ALWAYS)", ":2:14"],
    )
    .await;
}

/// json has no equality operator: changes are told by its text.
#[tokio::test]
async fn json_into_json() {
    Life {
        name: "json",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, a text, old json);
            INSERT INTO t SELECT n, 'a' || n, json_build_object('n', n)
            FROM generate_series(1, 1000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN doc json;
            -- pgshift: backfill
            UPDATE t SET doc = json_build_object('a', a, 'old', old);
            -- pgshift: reverse
            UPDATE t SET a = doc ->> 'a', old = doc -> 'old';
            -- pgshift: contract
            ALTER TABLE t DROP COLUMN a, DROP COLUMN old;",
        traffic: Some(|n| match n % 2 {
            0 => format!("INSERT INTO t (id, a) VALUES ({}, 'new')", 10_000 + n),
            _ => format!("UPDATE t SET old = '[{n}]' WHERE id = {}", n % 1000),
        }),
        ready: &[
            "SELECT bool_and(doc ->> 'a' = a AND doc ->> 'old' IS NOT DISTINCT FROM old #>> '{}')
             FROM t",
        ],
        complete: &["SELECT bool_and(doc ->> 'a' <> '') FROM t"],
        new_version: Some((
            r#"UPDATE t SET doc = '{"a": "y", "old": 1}' WHERE id = 1"#,
            r#"UPDATE t SET doc = '{"a": "x", "old": 2}' WHERE id = 2"#,
            &["SELECT array_agg(a || old ORDER BY id) = '{y1,x2}' FROM t WHERE id IN (1, 2)"],
        )),
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn an_enum_that_the_file_makes() {
    Life {
        name: "enum",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, status text NOT NULL);
            INSERT INTO t SELECT n, (ARRAY['new', 'done'])[1 + n % 2]
            FROM generate_series(1, 1000) n;",
        migration: "
            -- pgshift: expand
            CREATE TYPE state AS ENUM ('new', 'done');
            ALTER TABLE t ADD COLUMN state state;
            -- pgshift: backfill
            UPDATE t SET state = status::state;
            -- pgshift: reverse
            UPDATE t SET status = state::text;
            -- pgshift: contract
            ALTER TABLE t ALTER COLUMN state SET NOT NULL;
            ALTER TABLE t DROP COLUMN status;",
        traffic: Some(|n| format!("UPDATE t SET status = 'done' WHERE id = {}", n % 1000)),
        ready: &["SELECT bool_and(state::text = status) FROM t"],
        new_version: Some((
            "UPDATE t SET state = 'new' WHERE id = 1",
            "INSERT INTO t (id, state) VALUES (0, 'done')",
            &["SELECT array_agg(status ORDER BY id) = '{done,new}' FROM t WHERE id < 2"],
        )),
        ..Life::default()
    }
    .live()
    .await;
}

#[tokio::test]
async fn a_domain() {
    // One without constraints costs nothing to add.
    Life {
        name: "domain",
        setup: "
            CREATE DOMAIN slug AS text;
            CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL);
            INSERT INTO t SELECT n, 'Name ' || n FROM generate_series(1, 1000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN slug slug;
            -- pgshift: backfill
            UPDATE t SET slug = replace(lower(name), ' ', '-');",
        traffic: Some(|n| format!("UPDATE t SET name = 'Other {n}' WHERE id = {}", n % 1000)),
        ready: &["SELECT bool_and(slug = replace(lower(name), ' ', '-')) FROM t"],
        ..Life::default()
    }
    .live()
    .await;
}

/// The server writes the table anew for a domain with constraints, under an exclusive lock.
#[tokio::test]
async fn a_domain_with_constraints_does_not_rewrite_the_table() {
    let setup = "
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
        INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n;";
    refused(
        "domain_check",
        setup,
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN p positive;\n\
         -- pgshift: backfill\nUPDATE t SET p = n;",
        3,
        &["positive is a domain with constraints", "written anew"],
    )
    .await;
    refused(
        "domain_check_new",
        setup,
        "-- pgshift: expand\nCREATE DOMAIN even AS int CHECK (VALUE % 2 = 0);\n\
         ALTER TABLE t ADD COLUMN p even;",
        3,
        &["even is a domain with constraints", ":3:"],
    )
    .await;
}

#[tokio::test]
async fn a_default_comes_after_the_old_version_is_gone() {
    Life {
        name: "column_default",
        setup: "
            CREATE TABLE t (id int PRIMARY KEY, done bool NOT NULL);
            INSERT INTO t SELECT n, n % 2 = 0 FROM generate_series(1, 1000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN state text DEFAULT 'new', ADD COLUMN note text DEFAULT '-';
            -- pgshift: backfill
            UPDATE t SET state = CASE WHEN done THEN 'done' ELSE 'new' END;
            -- pgshift: contract
            ALTER TABLE t ALTER COLUMN state SET NOT NULL;",
        traffic: Some(|n| format!("INSERT INTO t (id, done) VALUES ({}, true)", 10_000 + n)),
        ready: &[
            "SELECT bool_and((state = 'done') = done) FROM t",
            "SELECT bool_and(note = '-') FROM t",
        ],
        complete: &[
            "SELECT pg_get_expr(adbin, adrelid) = '''new''::text' FROM pg_attrdef
             JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
             WHERE adrelid = 't'::regclass AND attname = 'state'",
        ],
        ..Life::default()
    }
    .live()
    .await;
}
