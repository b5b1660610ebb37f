use proptest::prelude::*;

use super::runner::Hints;
use super::script::{Reading, read};
use super::*;
use crate::plan::testing::catalog;

/// The findings of files that are run one after the other, of the last one.
fn findings_in(world: &mut World, runner: Option<Runner>, files: &str) -> Vec<Finding> {
    let reading = Reading {
        hints: Hints {
            runner,
            ..Hints::default()
        },
        ..Reading::default()
    };
    let mut last = Vec::new();
    for file in files.split("-- a later file:\n") {
        let script = read("x.sql", file, &reading);
        last = lint(&script, world, &Options::default());
    }
    last
}

fn findings(files: &str) -> Vec<Finding> {
    findings_in(&mut World::unknown(17), None, files)
}

/// `rule severity` of what is found and not allowed, in order.
fn slugs(found: &[Finding]) -> Vec<String> {
    found
        .iter()
        .filter(|f| f.allowed.is_none() && f.rule.slug != "missing-lock-timeout")
        .map(|f| format!("{} {}", f.rule.slug, f.severity))
        .collect()
}

#[track_caller]
fn check(files: &str, expected: &[&str]) {
    assert_eq!(slugs(&findings(files)), expected, "{files}");
}

#[track_caller]
fn check_as(runner: Runner, files: &str, expected: &[&str]) {
    let found = findings_in(&mut World::unknown(15), Some(runner), files);
    assert_eq!(slugs(&found), expected, "{files}");
}

#[track_caller]
fn check_known(files: &str, expected: &[&str]) {
    let mut world = World::known(catalog(15), None);
    assert_eq!(
        slugs(&findings_in(&mut world, None, files)),
        expected,
        "{files}"
    );
}

#[test]
fn changes_of_many_rows_in_every_form() {
    let bulk = "bulk-change warning";
    check(
        "MERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE;",
        &[bulk],
    );
    check(
        "MERGE INTO t USING (VALUES (1)) s (id) ON t.id = s.id WHEN MATCHED THEN DELETE;",
        &[],
    );
    check(
        "CREATE TABLE s (id int);\nMERGE INTO t USING s ON t.id = s.id WHEN MATCHED THEN DELETE;",
        &[],
    );
    let moved = "WITH x AS (DELETE FROM t WHERE a RETURNING *) INSERT INTO u SELECT * FROM x;";
    check(moved, &[bulk]);
    check(&moved.replace("WHERE a", "WHERE id = 5"), &[]);
    check_as(Runner::Pgshift, &moved.replace(" t ", " big "), &[bulk]);
    // Whether it is large is not known.
    check("INSERT INTO u SELECT * FROM t;", &[]);
    check_known("INSERT INTO empty SELECT * FROM orders;", &[bulk]);
    check_known(
        "INSERT INTO empty SELECT * FROM orders WHERE total > 5;",
        &[],
    );
    check_known("INSERT INTO empty SELECT * FROM orders LIMIT 5;", &[]);
    check_known("INSERT INTO orders SELECT * FROM empty;", &[]);
}

#[test]
fn an_index_that_nothing_tells_of_is_dropped_safely_all_the_same() {
    let found = findings("DROP INDEX a, s.b;\nREINDEX TABLE t;\nREINDEX INDEX c;");
    let safe: Vec<&str> = found
        .iter()
        .flat_map(|f| &f.safe)
        .map(String::as_str)
        .collect();
    assert_eq!(
        safe,
        [
            "DROP INDEX CONCURRENTLY a",
            "DROP INDEX CONCURRENTLY s.b",
            "REINDEX TABLE CONCURRENTLY t",
            "REINDEX INDEX CONCURRENTLY c",
        ]
    );
}

/// Files such as nobody writes take time in proportion to their size.
#[test]
fn very_many_objects_take_no_longer_each() {
    use std::fmt::Write as _;
    const TABLES: usize = 2_000;
    let mut text = String::new();
    for n in 0..TABLES {
        let _ = writeln!(
            text,
            "CREATE TABLE t{n} (id int PRIMARY KEY, o int REFERENCES t0);"
        );
    }
    for n in 0..TABLES {
        let _ = writeln!(
            text,
            "CREATE INDEX i{n} ON t{n} (id);\nDROP INDEX i{n};\nDROP INDEX nothing{n};\n\
             ALTER TABLE t{} ADD CHECK (id > {n});\nALTER TABLE t{n} RENAME TO u{n};",
            TABLES - 1
        );
    }
    let script = read("x.sql", &text, &Reading::default());
    assert_eq!(script.units.len(), 6 * TABLES);
    let mut world = World::unknown(17);
    lint(&script, &mut world, &Options::default());
    assert_eq!(world.catalog().tables.len(), TABLES);
    let other = &world.catalog().tables[&crate::catalog::QName::new("public", "u9")];
    let referenced = other.constraints.iter().find_map(|c| c.references.as_ref());
    assert_eq!(referenced.expect("a key").name, "u0");
}

#[test]
fn every_rule_finds_its_bad_example_and_not_its_good_one() {
    for rule in rules::all() {
        if !rule.bad.is_empty() {
            let found = findings(rule.bad);
            assert!(
                found.iter().any(|f| f.rule == rule && f.allowed.is_none()),
                "{}: {found:#?}",
                rule.slug
            );
        }
        let found = findings(rule.good);
        assert!(
            !found.iter().any(|f| f.rule == rule && f.allowed.is_none()),
            "{}: {found:#?}",
            rule.slug
        );
        // What is recommended must not break another rule that fails the run.
        let worse: Vec<_> = found
            .iter()
            .filter(|f| f.severity == Severity::Error && f.allowed.is_none())
            .collect();
        assert!(worse.is_empty(), "{}: {worse:#?}", rule.slug);
    }
}

#[test]
fn rules_are_in_order_and_named_once() {
    let ids: Vec<_> = rules::all().map(|r| r.id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let mut names: Vec<_> = rules::all().flat_map(|r| [r.id, r.slug]).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for rule in rules::all() {
        assert!(rule.summary.ends_with('.'), "{}", rule.slug);
        assert!(
            rule.why.ends_with('.') || rule.why.ends_with(')'),
            "{}",
            rule.slug
        );
        assert!(!rule.safe.ends_with('.'), "{}", rule.slug);
    }
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/rules.md");

#[test]
fn the_page_of_rules_is_as_the_table() {
    let page = std::fs::read_to_string(PAGE).expect("docs/rules.md");
    assert!(
        page == docs::page(),
        "docs/rules.md is old; to write it: cargo test --lib write_the_page_of_rules -- --ignored"
    );
}

#[test]
#[ignore = "writes docs/rules.md"]
fn write_the_page_of_rules() {
    std::fs::write(PAGE, docs::page()).expect("docs/rules.md");
}

#[test]
fn what_the_file_makes_is_no_hazard() {
    check(
        "CREATE TABLE t (id int PRIMARY KEY, a int);
         CREATE INDEX ON t (a);
         ALTER TABLE t ADD UNIQUE (a), ADD CHECK (a > 0), ALTER a SET NOT NULL;
         ALTER TABLE t ADD COLUMN b uuid DEFAULT gen_random_uuid();
         ALTER TABLE t RENAME TO u;
         ALTER TABLE u ALTER COLUMN a TYPE bigint, RENAME CONSTRAINT x TO y;
         UPDATE u SET a = 1; TRUNCATE u; CLUSTER u USING u_pkey; DROP TABLE u;",
        &[],
    );
    check(
        "CREATE TABLE IF NOT EXISTS app.t (a int); SET search_path = app; CREATE INDEX ON t (a);",
        &[],
    );
    check(
        "CREATE TABLE app.t (a int); CREATE INDEX ON t (a);",
        &["create-index-blocking error"],
    );
    check(
        "CREATE TABLE t (a int);\n-- a later file:\nCREATE INDEX ON t (a);",
        &["create-index-blocking error"],
    );
    check(
        "CREATE INDEX i ON t (a); DROP INDEX i;",
        &["create-index-blocking error"],
    );
    check("DROP VIEW v; CREATE VIEW v AS SELECT 1;", &[]);
    check("CREATE TEMP TABLE t (a int); UPDATE t SET a = 1;", &[]);
}

#[test]
fn foreign_keys_lock_both_tables() {
    check(
        "CREATE TABLE t (a int REFERENCES users);",
        &["foreign-key-locks-parent note"],
    );
    check(
        "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE t (a int REFERENCES users);",
        &[],
    );
    check(
        "CREATE TABLE t (a int); ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES users;",
        &["foreign-key-locks-parent note"],
    );
    check(
        "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES users;",
        &["add-foreign-key error"],
    );
    check(
        "ALTER TABLE t ADD COLUMN a int REFERENCES users;",
        &["foreign-key-locks-parent note"],
    );
    check(
        "ALTER TABLE t ADD COLUMN a int DEFAULT 1 REFERENCES users;",
        &["add-column-constraint error"],
    );
}

#[test]
fn types_are_judged_by_the_old_type() {
    let to = |old: &str, new: &str| {
        format!(
            "CREATE TABLE t (a {old});\n-- a later file:\nALTER TABLE t ALTER COLUMN a TYPE {new};"
        )
    };
    for (old, new) in [
        ("varchar(10)", "varchar(20)"),
        ("varchar(10)", "text"),
        ("numeric(10,2)", "numeric(12,2)"),
        ("int", "integer"),
    ] {
        check(&to(old, new), &[]);
    }
    for (old, new) in [
        ("int", "bigint"),
        ("varchar(20)", "varchar(10)"),
        ("serial", "bigint"),
        ("numeric(10,2)", "numeric(12,3)"),
        ("timestamp", "timestamptz"),
    ] {
        check(&to(old, new), &["change-column-type error"]);
    }
    let utc = "CREATE TABLE t (a timestamp);\n-- a later file:\nSET TIME ZONE 'UTC';\nALTER TABLE t ALTER COLUMN a TYPE timestamptz;";
    check(utc, &[]);
    check(
        "ALTER TABLE t ALTER COLUMN a TYPE text;",
        &["change-column-type warning"],
    );
    check(
        "ALTER TABLE t ALTER COLUMN a TYPE bigint;",
        &["change-column-type error"],
    );
    check_known("ALTER TABLE orders ALTER note TYPE text;", &[]);
    check_known(
        "ALTER TABLE orders ALTER email TYPE text;",
        &["change-column-type error"],
    );
}

#[test]
fn the_safe_way_of_not_null_is_free() {
    check(
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID;
         ALTER TABLE t VALIDATE CONSTRAINT c;
         ALTER TABLE t ALTER a SET NOT NULL;
         ALTER TABLE t DROP CONSTRAINT c;",
        &[],
    );
    check(
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID;
         -- a later file:
         ALTER TABLE t ALTER a SET NOT NULL;",
        &["set-not-null error"],
    );
}

#[test]
fn facts_of_the_catalog_count() {
    let mut world = World::known(catalog(15), None);
    let found = findings_in(&mut world, None, "CREATE INDEX ON orders (total);");
    let index = &found[0];
    assert_eq!(index.rows, Some(1_000_000));
    assert!(
        index.message.contains("about 1,000,000 rows, 95 MiB"),
        "{}",
        index.message
    );
    assert_eq!(index.safe.len(), 1);
    check_known("CREATE INDEX ON empty (id);", &[]);
    check_known("ALTER TABLE orders ALTER user_id SET NOT NULL;", &[]);
    // A column of a domain with constraints.
    check_known(
        "ALTER TABLE orders ADD COLUMN n positive;",
        &["add-column-constrained-domain error"],
    );
    check_known(
        "ALTER TABLE orders DROP CONSTRAINT orders_user_fkey;",
        &["drop-foreign-key warning"],
    );
}

#[test]
fn transactions_of_runners() {
    let concurrently = "CREATE INDEX CONCURRENTLY i ON t (a);";
    for runner in [Runner::Sqlx, Runner::Diesel, Runner::Refinery] {
        check_as(runner, concurrently, &["refused-in-transaction error"]);
    }
    for runner in [
        Runner::Psql,
        Runner::Flyway,
        Runner::Prisma,
        Runner::GolangMigrate,
        Runner::Pgshift,
    ] {
        check_as(runner, concurrently, &[]);
    }
    let two = "CREATE INDEX CONCURRENTLY i ON t (a); CREATE INDEX CONCURRENTLY j ON t (a);";
    let twice = ["refused-in-transaction error"; 2];
    check_as(Runner::Prisma, two, &twice);
    check_as(Runner::GolangMigrate, two, &twice);
    check_as(Runner::Flyway, two, &[]);
    check_as(
        Runner::Sqlx,
        &format!("-- no-transaction\n{concurrently}"),
        &[],
    );
    check_as(Runner::Sqlx, &format!("-- no-transaction\n{two}"), &twice);
    check_as(
        Runner::Goose,
        &format!("-- +goose NO TRANSACTION\n-- +goose Up\n{two}"),
        &[],
    );
    check_as(
        Runner::Dbmate,
        &format!("-- migrate:up transaction:false\n{concurrently}\n-- migrate:down\nDROP TABLE t;"),
        &[],
    );
    check_as(
        Runner::Flyway,
        &format!("CREATE TABLE u (a int); {concurrently}"),
        &["refused-in-transaction error"],
    );
    check_as(
        Runner::Sqlx,
        "BEGIN; CREATE TABLE t (a int); COMMIT;",
        &["transaction-control warning"],
    );
    check_as(
        Runner::GolangMigrate,
        "BEGIN; CREATE TABLE t (a int); COMMIT;",
        &[],
    );
    check(
        "BEGIN; CREATE TABLE t (a int);",
        &["unfinished-transaction error"],
    );
    check("BEGIN; CREATE TABLE t (a int); ROLLBACK;", &[]);
    check(
        "DO $$ BEGIN CREATE INDEX CONCURRENTLY i ON t (a); END $$;",
        &["refused-in-transaction error"],
    );
}

#[test]
fn work_under_a_lock() {
    let two = "ALTER TABLE t ADD COLUMN a int; CREATE INDEX i ON u (a);";
    check(two, &["create-index-blocking error"]);
    check_as(
        Runner::Sqlx,
        two,
        &["create-index-blocking error", "work-under-lock warning"],
    );
    // The statement's own lock is as strong: said already.
    check_as(
        Runner::Sqlx,
        "ALTER TABLE t ADD CHECK (a > 0) NOT VALID; ALTER TABLE t ADD CHECK (b > 0);",
        &["add-check error"],
    );
    check_as(
        Runner::Sqlx,
        "ALTER TABLE t ADD a int; ALTER TABLE u ADD a int;",
        &["several-tables-locked note"],
    );
}

#[test]
fn enum_values_in_one_transaction() {
    let sql = "ALTER TYPE mood ADD VALUE 'calm'; UPDATE t SET m = 'calm' WHERE id = 1;";
    check(sql, &[]);
    check_as(Runner::Sqlx, sql, &["enum-value-in-transaction error"]);
    check_as(
        Runner::Sqlx,
        "CREATE TYPE mood AS ENUM ('x'); ALTER TYPE mood ADD VALUE 'calm'; CREATE TABLE t (m mood DEFAULT 'calm');",
        &[],
    );
}

#[test]
fn code_is_looked_into() {
    check(
        "DO $$ BEGIN IF true THEN CREATE INDEX i ON t (a); END IF; END $$;",
        &["create-index-blocking error"],
    );
    check(
        "DO $$ BEGIN EXECUTE format('ALTER TABLE %I ALTER a SET NOT NULL', x); END $$;",
        &["set-not-null error"],
    );
    check(
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE t; END $$;",
        &[],
    );
    check(
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN DROP TABLE t; END $$;
         SELECT f();",
        &["drop-table warning"],
    );
    check(
        "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ SELECT f() $$; SELECT f();",
        &[],
    );
    let found = findings("DO $$ BEGIN DROP TABLE t; END $$;");
    assert!(found[0].message.starts_with("in a DO block: "), "{found:?}");
    assert_eq!(found[0].span.start, 12);
    check(
        "DO $$ BEGIN LOOP UPDATE t SET a = 1 WHERE a IS NULL; COMMIT; END LOOP; END $$;",
        &[],
    );
}

#[test]
fn the_planner_makes_it_safe() {
    check_as(
        Runner::Pgshift,
        "CREATE INDEX i ON t (a);
         ALTER TABLE t ADD CHECK (a > 0);
         ALTER TABLE t DROP COLUMN b;
         UPDATE t SET a = 1;",
        &[
            "create-index-blocking note",
            "add-check note",
            "drop-column note",
        ],
    );
    check_as(
        Runner::Pgshift,
        "-- pgshift: expand
ALTER TABLE t DROP COLUMN b;
-- pgshift: contract
ALTER TABLE t DROP COLUMN c;",
        &["drop-column warning"],
    );
    // What it cannot make safe stays as bad.
    check_as(
        Runner::Pgshift,
        "ALTER TABLE t ADD n bigserial; ALTER TABLE t RENAME a TO b;",
        &["add-column-serial error", "rename-column error"],
    );
}

#[test]
fn what_is_allowed() {
    let allowed = "-- pgshift: allow drop-table reason=\"unused since 41\"\nDROP TABLE t;";
    check(allowed, &[]);
    assert_eq!(
        findings(allowed)[0].allowed.as_deref(),
        Some("unused since 41")
    );
    check(
        &format!("{allowed}\nDROP TABLE u;"),
        &["drop-table warning"],
    );
    check(
        "-- pgshift: allow PS401 reason=\"by id\"\nDROP TABLE t;",
        &[],
    );
    check(
        "-- pgshift: allow drop-tables reason=\"x\"\nSELECT 1;",
        &["unknown-rule error"],
    );
    check(
        "-- pgshift: allow drop-table reason=\"x\"\nSELECT 1;",
        &["unused-allow warning"],
    );
    check(
        "-- pgshift: allow drop-table\nDROP TABLE t;",
        &["invalid-file error", "drop-table warning"],
    );
}

#[test]
fn severities_can_be_set() {
    let script = read("x.sql", "DROP TABLE t; TRUNCATE u;", &Reading::default());
    let options = Options {
        levels: [
            ("drop-table", Level::At(Severity::Note)),
            ("truncate", Level::Off),
            ("missing-lock-timeout", Level::Off),
        ]
        .into(),
        ..Options::default()
    };
    let found = lint(&script, &mut World::unknown(15), &options);
    assert_eq!(slugs(&found), ["drop-table note"]);
}

#[test]
fn versions_count() {
    let sql = "ALTER TABLE t ALTER COLUMN a SET EXPRESSION AS (b);";
    let on = |major| slugs(&findings_in(&mut World::unknown(major), None, sql));
    assert!(on(16).is_empty());
    assert_eq!(on(17), ["set-expression error"]);
}

#[test]
fn fingerprints_survive_what_is_put_before() {
    let print = |text: &str| {
        let script = read("x.sql", text, &Reading::default());
        let mut found = lint(&script, &mut World::unknown(15), &Options::default());
        baseline::fingerprints(&mut found, "x.sql", &script.source);
        found.into_iter().map(|f| f.fingerprint).collect::<Vec<_>>()
    };
    let before = print("DROP TABLE t; DROP TABLE t; TRUNCATE u;");
    let after = print(
        "-- new\nCREATE TABLE n (a int);\n\nDROP  TABLE t /* x */; DROP TABLE t;\nTRUNCATE u;",
    );
    assert_eq!(before, after);
    let mut unique = before.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), before.len());
}

/// Pieces of SQL that are as bad on a table as can be.
fn hazard() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("CREATE INDEX ON t (a)"),
        Just("CREATE UNIQUE INDEX i ON t (a)"),
        Just("DROP INDEX i"),
        Just("REINDEX TABLE t"),
        Just("ALTER TABLE t ADD COLUMN b serial"),
        Just("ALTER TABLE t ADD COLUMN c uuid DEFAULT gen_random_uuid() NOT NULL UNIQUE"),
        Just("ALTER TABLE t ADD COLUMN d int NOT NULL CHECK (d > 0)"),
        Just("ALTER TABLE t ADD COLUMN e int REFERENCES t"),
        Just("ALTER TABLE t ALTER COLUMN a TYPE bigint"),
        Just("ALTER TABLE t ALTER COLUMN a SET NOT NULL"),
        Just("ALTER TABLE t ALTER COLUMN a DROP NOT NULL"),
        Just("ALTER TABLE t ADD CONSTRAINT k UNIQUE (a)"),
        Just("ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING gist (a WITH =)"),
        Just("ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES t (a)"),
        Just("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)"),
        Just("ALTER TABLE t DROP CONSTRAINT t_a_fkey"),
        Just("ALTER TABLE t DROP COLUMN a"),
        Just("ALTER TABLE t RENAME COLUMN a TO z"),
        Just("ALTER TABLE t SET UNLOGGED"),
        Just("ALTER TABLE t SET TABLESPACE s"),
        Just("ALTER TABLE t DISABLE TRIGGER ALL"),
        Just("ALTER TABLE t ENABLE ROW LEVEL SECURITY"),
        Just("CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"),
        Just("UPDATE t SET a = 1"),
        Just("DELETE FROM t"),
        Just("TRUNCATE t"),
        Just("LOCK TABLE t"),
        Just("CLUSTER t USING i"),
        Just("CREATE TABLE p PARTITION OF t DEFAULT"),
        Just("ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME TO t"),
        Just("DO $$ BEGIN ALTER TABLE t ALTER COLUMN a TYPE text; END $$"),
    ]
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn a_table_of_the_same_file_is_no_hazard(
        hazards in proptest::collection::vec(hazard(), 0..12),
        major in 14..=18_u32,
        runner in proptest::sample::select(&Runner::ALL[..]),
        known in any::<bool>(),
    ) {
        let sql = format!("CREATE INDEX i ON t (a); {};\nDROP TABLE t;\n", hazards.join(";\n"));
        let text = format!("-- +goose Up\nCREATE TABLE t (a int);\n{sql}");
        let mut world = if known { World::known(catalog(major), None) } else { World::unknown(major) };
        let found = findings_in(&mut world, Some(runner), &text);
        prop_assert!(found.is_empty(), "{text}\n{found:#?}");
    }

    #[test]
    fn any_soup_of_tokens_is_read(
        soup in proptest::collection::vec(prop_oneof![
            hazard(),
            proptest::sample::select(&[
                ";", "(", ")", "'", "\"", "$$", "$x$", "--", "\n", "/*", "*/", "[", "]", ",", ".",
                ":", "::", "\\i x\n", "DO", "BEGIN", "COMMIT", "END", "EXECUTE", "format(", "IF",
                "THEN", "LOOP", "ALTER TABLE", "CREATE TABLE", "t", "ADD", "CHECK", "REFERENCES",
                "-- pgshift: allow drop-table reason=\"x\"\n", "-- pgshift: expand\n",
                "-- +goose Up\n", "-- migrate:up\n", "COPY t FROM stdin;\n", "\\.\n", "${x}",
                "{{ y }}", "%I", "'%s'", "U&\"\\0041\"", "SET search_path =", "é", "\u{feff}",
                "SELECT f()", "WITH x AS (", "UPDATE t SET a = 1 WHERE", "ADD VALUE 'x'",
                "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS",
            ][..]).prop_map(str::to_owned),
            ".{0,3}",
        ], 0..30),
        runner in proptest::option::of(proptest::sample::select(&Runner::ALL[..])),
        down in any::<bool>(),
    ) {
        let text = soup.join(" ");
        let reading = Reading {
            hints: Hints { runner, ..Hints::default() },
            down,
            assume_transaction: false,
        };
        let script = read("m/x.sql", &text, &reading);
        let mut world = World::unknown(15);
        let mut found = lint(&script, &mut world, &Options::default());
        baseline::fingerprints(&mut found, "x", &script.source);
        for finding in &found {
            let length = script.source.text().len();
            prop_assert!(finding.span.start <= finding.span.end && finding.span.end <= length);
            prop_assert!(script.source.text().is_char_boundary(finding.span.start));
            prop_assert!(script.source.text().is_char_boundary(finding.span.end));
        }
        // And again, with what was learnt.
        lint(&script, &mut world, &Options::default());
    }
}
