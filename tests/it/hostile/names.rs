//! Names of everything that a migration touches.

use super::{live, run};
use crate::lifecycle::Project;
use crate::support::Cli;

/// Quotes of every kind, a tab and a backslash.
pub(super) const QUOTES: &str = "a\"b'c`\t\\d";
/// A second statement and a comment.
pub(super) const LINES: &str = "x\n'; DROP TABLE canary; --\r\n/*";
/// What quotes function bodies, and what formats strings.
pub(super) const DOLLARS: &str = "$$ $pgshift$ %I %s {0} {} :x ?";
/// Commands of a terminal: clear the screen, ring, write the other way round.
pub(super) const TERMINAL: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{202e}";
/// Beyond ASCII: combining, emoji, right to left; a no-break space; capitals.
pub(super) const UNICODE: &str = "Ä e\u{301} 🦀 שלום\u{a0}É";
/// As names of our own.
const OURS: [&str; 4] = [
    "_pgshift_new_total_00000000",
    "_pgshift_dropped_total",
    "pgshift_row",
    "zzz_pgshift_sync_99_t",
];

/// As long as the server takes them, in characters of two bytes after one of one.
fn long() -> String {
    format!("l{}", "é".repeat(31))
}

pub(super) fn q(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Puts quoted names in place of `<0>`, `<1>`, …
fn fill(text: &str, names: &[&str]) -> String {
    names
        .iter()
        .enumerate()
        .fold(text.to_owned(), |t, (n, name)| {
            t.replace(&format!("<{n}>"), &q(name))
        })
}

async fn project(test: &str, names: &[&str], setup: &str, migration: &str) -> Project {
    let setup = format!("CREATE TABLE canary (id int); {}", fill(setup, names));
    Project::new(test, &setup, &fill(migration, names)).await
}

#[tokio::test]
async fn backfilled_and_dropped() {
    let long = long();
    let names = [
        LINES, QUOTES, DOLLARS, TERMINAL, UNICODE, &long, OURS[0], OURS[2],
    ];
    let project = project(
        "hostile_backfill",
        &names,
        "CREATE SCHEMA <0>;
         CREATE TABLE <0>.<1> (<2> int PRIMARY KEY, <3> int NOT NULL, <4> text, <6> int);
         CREATE FUNCTION <0>.<5>() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER <7> BEFORE UPDATE ON <0>.<1> FOR EACH ROW EXECUTE FUNCTION <0>.<5>();
         INSERT INTO <0>.<1> SELECT n, n, 'x', n FROM generate_series(1, 900) n;",
        "-- pgshift: expand
         ALTER TABLE <0>.<1> ADD COLUMN <5> bigint;
         CREATE INDEX <3> ON <0>.<1> (<5>);
         -- pgshift: backfill
         UPDATE <0>.<1> AS <4> SET <5> = <4>.<3> * 2 WHERE <4>.<4> <> '$pgshift$ $$ '' ; --';
         -- pgshift: reverse
         UPDATE <0>.<1> SET <3> = <5> / 2;
         -- pgshift: contract
         ALTER TABLE <0>.<1> ALTER COLUMN <5> SET NOT NULL, DROP COLUMN <3>;",
    )
    .await;
    live(&project).await;
    assert_eq!(
        project.db.one::<i64>("SELECT count(*) FROM canary").await,
        0
    );
}

/// Wrong rows are named by keys that have such values, and mended.
#[tokio::test]
async fn wrong_rows_are_named_and_mended() {
    let names = [QUOTES, TERMINAL, LINES];
    let key = format!("{TERMINAL}{LINES}{QUOTES}").replace('\'', "''");
    let project = project(
        "hostile_repair",
        &names,
        &format!(
            "CREATE TABLE <0> (<1> text PRIMARY KEY, a int);
             INSERT INTO <0> SELECT '{key}' || n, n FROM generate_series(1, 50) n;"
        ),
        "-- pgshift: expand
         ALTER TABLE <0> ADD COLUMN <2> int;
         -- pgshift: backfill
         UPDATE <0> SET <2> = a * 2;
         -- pgshift: contract
         ALTER TABLE <0> ALTER COLUMN <2> SET NOT NULL;",
    )
    .await;
    let id = project.id.clone();
    run(&project, 0, &["apply", &id, "--duty", "1"]).await;
    let wrong = fill(
        "SET session_replication_role = replica; UPDATE <0> SET <2> = NULL WHERE a IN (3, 40);
         RESET session_replication_role",
        &names,
    );
    project.db.execute(&wrong).await;
    let output = project.cli.run(&["verify", &id]).await;
    super::plain("verify", &output);
    assert_ne!(output.code, Some(0), "{output:?}");
    let output = project.cli.run(&["--format", "json", "verify", &id]).await;
    let json = output.stdout;
    assert!(json.contains("DROP TABLE canary"), "{json}");
    run(&project, 0, &["repair", &id]).await;
    run(&project, 0, &["verify", &id]).await;
    run(&project, 0, &["log", &id]).await;
    project
        .holds(&[&fill("SELECT bool_and(<2> = a * 2) FROM <0>", &names)])
        .await;
}

#[tokio::test]
async fn changed_in_type() {
    let names = [DOLLARS, LINES, TERMINAL, QUOTES, UNICODE, OURS[1]];
    let project = project(
        "hostile_type",
        &names,
        "CREATE TABLE <0> (id int PRIMARY KEY, <1> int NOT NULL DEFAULT 7, <5> int,
             CONSTRAINT <2> CHECK (<1> >= 0), CONSTRAINT <3> UNIQUE (<1>, id));
         CREATE INDEX <4> ON <0> (<1>) WHERE <1> > 5;
         COMMENT ON COLUMN <0>.<1> IS '$pgshift$ ''; DROP TABLE canary; --';
         INSERT INTO <0> SELECT n, n FROM generate_series(1, 900) n;",
        "ALTER TABLE <0> ALTER COLUMN <1> TYPE bigint;",
    )
    .await;
    live(&project).await;
    assert_eq!(
        project.db.one::<i64>("SELECT count(*) FROM canary").await,
        0
    );
}

#[tokio::test]
async fn renamed_columns() {
    let long = long();
    let names = [TERMINAL, LINES, DOLLARS, &long, QUOTES];
    let project = project(
        "hostile_rename",
        &names,
        "CREATE TABLE <0> (id int PRIMARY KEY, <1> int NOT NULL, <3> text);
         INSERT INTO <0> SELECT n, n, 'x' FROM generate_series(1, 900) n;",
        "ALTER TABLE <0> RENAME COLUMN <1> TO <2>;
         ALTER TABLE <0> RENAME COLUMN <3> TO <4>;",
    )
    .await;
    live(&project).await;
    assert_eq!(
        project.db.one::<i64>("SELECT count(*) FROM canary").await,
        0
    );
}

#[tokio::test]
async fn renamed_and_dropped_tables() {
    let long = long();
    let names = [DOLLARS, &long, LINES, TERMINAL, UNICODE, OURS[3]];
    let project = project(
        "hostile_tables",
        &names,
        "CREATE SCHEMA <2>;
         CREATE TABLE <2>.<0> (<3> int PRIMARY KEY, <4> text);
         CREATE TABLE <2>.<3> (id int CONSTRAINT <5> PRIMARY KEY);
         INSERT INTO <2>.<0> VALUES (1, 'a'), (2, 'b');",
        "-- pgshift: expand
         ALTER TABLE <2>.<0> RENAME TO <1>;
         -- pgshift: contract
         DROP TABLE <2>.<3>;",
    )
    .await;
    live(&project).await;
    assert_eq!(
        project.db.one::<i64>("SELECT count(*) FROM canary").await,
        0
    );
}

#[tokio::test]
async fn constraints_and_indexes() {
    let long = long();
    let names = [DOLLARS, QUOTES, LINES, TERMINAL, &long, OURS[2], UNICODE];
    let project = project(
        "hostile_constraints",
        &names,
        "CREATE TABLE <0> (id int PRIMARY KEY, <1> int, <2> int, <5> int, <3> varchar(10));
         CREATE TABLE <1> (<3> int PRIMARY KEY);
         INSERT INTO <1> SELECT generate_series(1, 300);
         INSERT INTO <0> SELECT n, n, n FROM generate_series(1, 300) n;",
        "ALTER TABLE <0> ADD CONSTRAINT <2> FOREIGN KEY (<1>) REFERENCES <1> (<3>);
         ALTER TABLE <0> ADD CONSTRAINT <3> CHECK (<2> > 0);
         ALTER TABLE <0> ADD CONSTRAINT <4> UNIQUE (<2>);
         ALTER TABLE <0> ALTER COLUMN <1> SET NOT NULL;
         ALTER TABLE <0> ALTER COLUMN <3> TYPE varchar(20);
         CREATE INDEX <6> ON <0> (<5>) WHERE <2> <> 3;
         COMMENT ON INDEX <6> IS 'a'' b \\ $pgshift$';",
    )
    .await;
    live(&project).await;
}

/// Names of files, of folders and of options that come from outside.
#[tokio::test]
async fn files_and_arguments() {
    let cli = Cli::offline();
    for name in [
        "-x",
        ".x",
        "a b",
        "a'b",
        "a;b",
        "a\u{1b}[2Jb",
        "ä",
        "a$(id)b",
    ] {
        cli.migration(name, "SELECT 1;");
        let output = cli.run(&["lint", "migrations"]).await;
        super::plain(name, &output);
        let output = cli
            .run(&["plan", "--database-url", "postgres://127.0.0.1:1/x"])
            .await;
        super::plain(name, &output);
        assert_eq!(output.code, Some(2), "{name:?} {output:?}");
        std::fs::remove_file(cli.dir().join(format!("migrations/{name}.sql"))).expect(name);
    }
    for args in [
        &["plan", "\u{1b}[2J"][..],
        &["--database-url", "postgres://\u{1b}[2J@[/", "status"],
        &["--database-url", "x\u{1b}[2Jy=z", "status"],
        &[
            "--migrations",
            "\u{1b}[2J",
            "--database-url",
            "postgres://127.0.0.1:1/x",
            "plan",
        ],
        &["--config", "\u{1b}[2J", "status"],
        &["new", "a\u{1b}[2Jb"],
        &["new", "../x"],
        &["explain", "\u{1b}[2J"],
        &["lint", "\u{1b}[2J"],
        &["lint", "--catalog", "\u{1b}[2J", "migrations"],
        &[
            "snapshot",
            "--out",
            "\u{1b}[2J/x",
            "--database-url",
            "postgres://127.0.0.1:1/x",
        ],
        &["\u{1b}[2J"],
        &["apply", "--duty", "\u{1b}[2J"],
        &["apply", "--\u{1b}[2J"],
    ] {
        let output = cli.run(args).await;
        super::plain(&format!("{args:?}"), &output);
        assert!(matches!(output.code, Some(1..=7)), "{args:?} {output:?}");
    }
    assert!(!cli.dir().join("x.sql").exists());
}
