//! Texts that try to get out of what we put around them. The table `canary` is what they are after.

use super::run;
use crate::lifecycle::Project;
use crate::support::Cli;

const SETUP: &str = "CREATE TABLE canary (id int);
    CREATE TABLE t (id int PRIMARY KEY, a int, note text, c int, b int);
    INSERT INTO t SELECT n, n, 'x' FROM generate_series(1, 300) n;";

async fn canary_lives(project: &Project, what: &str) {
    let there: bool = project
        .db
        .one("SELECT to_regclass('public.canary') IS NOT NULL")
        .await;
    assert!(there, "the canary is gone by {what}");
}

/// A file that plan and apply refuse, in whatever words.
async fn refused(project: &Project, migration: &str) {
    project.cli.migration(&project.id, migration);
    for command in ["plan", "apply"] {
        let output = project.command(command, &[]).await;
        super::plain(migration, &output);
        assert!(
            matches!(output.code, Some(2 | 3)),
            "{command} of {migration}\n{output:?}"
        );
        canary_lives(project, migration).await;
    }
    assert_eq!(project.state().await, "pending");
}

#[tokio::test]
async fn expressions_that_close_what_is_around_them() {
    let project = Project::new("escape_refused", SETUP, "SELECT 1;").await;
    for update in [
        "UPDATE t SET b = a); DROP TABLE canary; --",
        "UPDATE t SET b = (a; DROP TABLE canary)",
        "UPDATE t SET b = a) FROM t; DROP TABLE canary; SELECT (1",
        "UPDATE t SET b = a WHERE true) OR (true",
        "UPDATE t SET b = a WHERE a = 1) LIMIT 1; DROP TABLE canary; --",
        "UPDATE t SET b = 1) AS c0 INTO pgshift_row; DROP TABLE canary; SELECT (1",
        "UPDATE t SET b = (SELECT a INTO pgshift_row)",
        "UPDATE t SET b = (SELECT a INTO canary2 FROM t x LIMIT 1)",
        "UPDATE t SET b = a RETURNING *; DROP TABLE canary",
        "UPDATE t SET b = [a; DROP TABLE canary]",
        "UPDATE t SET b = a /* ; DROP TABLE canary",
        "UPDATE t SET b = 'x; DROP TABLE canary",
        "UPDATE t SET b = $$1; DROP TABLE canary; --",
        "UPDATE t SET b = a\\; DROP TABLE canary",
        "UPDATE t SET b = a, (c) = (1)",
        "UPDATE t SET b = a FROM (SELECT 1) x); DROP TABLE canary; --",
        "UPDATE t AS \"x\" \"y\" SET b = 1",
        "DELETE FROM t WHERE a = 1); DROP TABLE canary; --",
    ] {
        refused(&project, &format!("-- pgshift: backfill\n{update};")).await;
    }
    for file in [
        "-- pgshift: option lock_timeout=\"1s'; DROP TABLE canary; --\"\nALTER TABLE t ADD x int;",
        "-- pgshift: option max-lag=\"1s'; DROP TABLE canary; --\"\nALTER TABLE t ADD x int;",
        "-- pgshift: backfill batch=1;DROP\nUPDATE t SET b = a;",
        "-- pgshift: verify\nSELECT 1; DROP TABLE canary;",
        "-- pgshift: verify\nWITH x AS (DELETE FROM canary RETURNING 1) SELECT * FROM x;",
        "-- pgshift: verify\nSELECT (SELECT 1; DROP TABLE canary);",
        "-- pgshift: reverse\nUPDATE t SET a = b); DROP TABLE canary; --;",
    ] {
        refused(&project, file).await;
    }
}

/// What looks as if it ended something, and does not.
#[tokio::test]
async fn expressions_that_only_look_like_it() {
    let migration = r#"
        -- pgshift: expand
        ALTER TABLE t ADD COLUMN n1 text, ADD COLUMN n2 text, ADD COLUMN n3 int;
        -- pgshift: backfill
        UPDATE t SET n1 = $pgshift$) ; DROP TABLE canary; -- $pgshift1$ $pgshift$ || '$pgshift$'
            /* ) ; DROP TABLE canary; */ -- ) ; DROP TABLE canary
            || '$pgshift2$' || "note" -- ', b = 1
            ;
        -- pgshift: backfill
        UPDATE t SET n2 = '\', n1 = '; DROP TABLE canary; --' || E'\'' WHERE note <> '\' -- '
            /* ' */;
        -- pgshift: backfill
        UPDATE t SET n3 = a -- 1
            + 1 --
            WHERE a > 0 --;
            AND true -- )
        ;
        -- pgshift: reverse
        UPDATE t SET a = n3 -- + 1
            - 1 /* ) */;
        -- pgshift: contract
        ALTER TABLE t DROP COLUMN c;"#
        .replace(
            "'\\', n1 = '; DROP TABLE canary; --'",
            "'\\' || '; DROP TABLE canary; --'",
        );
    for strings in ["on", "off"] {
        let project = Project::new("escape_looks", SETUP, &migration).await;
        // Application and pgshift have sessions in which a backslash escapes.
        let db = project.db.name();
        project
            .db
            .execute(&format!(
                "ALTER DATABASE {db} SET standard_conforming_strings = {strings};
                 ALTER DATABASE {db} SET escape_string_warning = off;
                 ALTER DATABASE {db} SET search_path = \"a\"\"; DROP TABLE canary; --\", public"
            ))
            .await;
        let id = project.id.clone();
        run(&project, 0, &["plan", &id]).await;
        run(&project, 0, &["apply", &id, "--duty", "1"]).await;
        // By the trigger, in a session of the application.
        let application = project.db.client().await;
        application
            .batch_execute(
                "INSERT INTO t (id, a, note) VALUES (1000, 5, 'x');
                 UPDATE t SET n3 = 8 WHERE id = 3;",
            )
            .await
            .expect("the application's writes");
        project
            .holds(&[
                "SELECT bool_and(n1 = $y$) ; DROP TABLE canary; -- $pgshift1$ $pgshift$$pgshift2$x$y$)
                 FROM t",
                "SELECT bool_and(n2 = chr(92) || '; DROP TABLE canary; --' || chr(39)) FROM t",
                "SELECT bool_and(n3 = a + 1) FROM t",
            ])
            .await;
        for command in ["verify", "contract", "revert"] {
            run(&project, 0, &[command, &id]).await;
            canary_lives(&project, command).await;
        }
    }
}

/// Files that other commands read.
#[tokio::test]
async fn files_of_other_kinds() {
    let project = Project::new("escape_files", SETUP, "ALTER TABLE t ADD COLUMN x int;").await;
    let id = project.id.clone();
    // A saved plan is bound to its content: one with another statement is refused.
    run(&project, 0, &["plan", &id, "--out", "plan.json"]).await;
    let path = project.cli.dir().join("plan.json");
    let plan = std::fs::read_to_string(&path).expect("the plan");
    let edited = plan.replace("ADD COLUMN x int", "ADD COLUMN x int; DROP TABLE canary");
    assert_ne!(plan, edited);
    for text in [edited.as_str(), "{", "[]", &"[".repeat(200_000), "\0", ""] {
        std::fs::write(&path, text).expect("the plan");
        let output = project.command("apply", &["--plan", "plan.json"]).await;
        super::plain("apply --plan", &output);
        assert!(matches!(output.code, Some(2 | 3)), "{output:?}");
        canary_lives(&project, "a saved plan").await;
    }
    // A query of one's own is one statement, and reads.
    for signal in [
        "SELECT 1; DROP TABLE canary",
        "DROP TABLE canary",
        "WITH x AS (DELETE FROM canary RETURNING 1) SELECT count(*) FROM x",
        "COMMIT; DROP TABLE canary",
    ] {
        let output = project
            .command("apply", &["--signal", &format!("{signal} > 1")])
            .await;
        super::plain(signal, &output);
        assert!(matches!(output.code, Some(2 | 3)), "{signal}: {output:?}");
        canary_lives(&project, signal).await;
    }
    // Limits that are set while it runs.
    for (key, value) in [
        ("max-lag", "1s'; DROP TABLE canary; --"),
        ("x'; DROP TABLE canary; --", "1"),
    ] {
        let set = format!("{key}={value}");
        let output = project.cli.run(&["throttle", &id, "set", &set]).await;
        super::plain(&set, &output);
        assert_ne!(output.code, Some(0), "{output:?}");
        canary_lives(&project, &set).await;
    }
    let config = project.cli.dir().join("pgshift.toml");
    for text in [
        "lock-timeout = \"1s'; DROP TABLE canary; --\"",
        "max-lag = \"1s'; DROP TABLE canary; --\"",
        "\u{1b}[2J = 1",
        "x = \"\u{1b}[2J\"",
        "[",
        &format!("x = {}", "[".repeat(100_000)),
    ] {
        std::fs::write(&config, text).expect("the configuration");
        let output = project.command("apply", &[]).await;
        super::plain(&text[..text.len().min(80)], &output);
        assert_eq!(output.code, Some(2), "{output:?}");
        canary_lives(&project, "a configuration").await;
    }
}

/// Catalogs and snapshots that lint and check read.
#[tokio::test]
async fn catalogs_and_snapshots() {
    let cli = Cli::offline();
    cli.migration("1", "ALTER TABLE t ADD COLUMN x int;");
    for text in [
        "",
        "{",
        "null",
        "\0\u{1b}[2J",
        "{\"format\": \"\u{1b}[2J\"}",
        "{\"format\": 1, \"catalog\": {\"\u{1b}[2J\": 1}}",
        "{\"format\": 1e999}",
        "{\"format\": 99999999999999999999}",
        &"[".repeat(300_000),
        &"{\"a\":".repeat(300_000),
    ] {
        cli.file("catalog.json", text);
        for args in [
            &["lint", "--snapshot", "catalog.json", "migrations"][..],
            &["check", "--snapshot", "catalog.json"],
        ] {
            let output = cli.run(args).await;
            let start: String = text.chars().take(60).collect();
            super::plain(&start, &output);
            assert_eq!(output.code, Some(2), "{args:?} {start:?} {output:?}");
        }
    }
}
