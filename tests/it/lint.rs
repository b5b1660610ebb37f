//! `lint`, `explain`, `completions` and `man`, by the binary.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Cli, Db, Output};

/// Writes a file of the project with the folders above it.
fn file(cli: &Cli, path: &str, text: impl AsRef<[u8]>) {
    let path = cli.dir().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    std::fs::write(path, text).expect("a file");
}

fn rules(output: &Output) -> Vec<String> {
    output.json()["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|f| {
            format!(
                "{}:{} {} {}",
                f["file"].as_str().unwrap_or_default(),
                f["line"],
                f["rule"].as_str().unwrap_or_default(),
                f["severity"].as_str().unwrap_or_default()
            )
        })
        .filter(|f| !f.contains("missing-lock-timeout"))
        .collect()
}

async fn lint(cli: &Cli, args: &[&str], code: i32) -> Vec<String> {
    let all = [&["lint", "--format", "json"], args].concat();
    rules(&cli.run(&all).await.expect(code))
}

#[tokio::test]
async fn the_migrations_folder_is_linted_without_a_database() {
    let cli = Cli::offline();
    cli.migration(
        "001",
        "CREATE TABLE t (a varchar(10), b int);\nCREATE INDEX ON t (a);",
    );
    cli.migration(
        "002",
        "ALTER TABLE t ALTER a TYPE text;\nALTER TABLE t ALTER b TYPE bigint;",
    );
    let output = cli.run(&["lint"]).await.expect(1);
    assert!(
        output
            .stdout
            .contains("error[change-column-type]: b from int to bigint"),
        "{}",
        output.stdout
    );
    assert!(
        output.stdout.contains("migrations/002.sql:2:15"),
        "{}",
        output.stdout
    );
    assert!(
        output
            .stdout
            .contains("1 error, 1 note (-v shows them) in 1 of 2 files")
    );
    assert!(!output.stdout.contains("missing-lock-timeout"));
    let verbose = cli.run(&["lint", "-v"]).await.expect(1);
    assert!(verbose.stdout.contains("note[missing-lock-timeout]"));
    for (level, code) in [("never", 0), ("error", 1), ("note", 1)] {
        cli.run(&["lint", "--fail-on", level]).await.expect(code);
    }
    cli.run(&["lint", "--severity", "change-column-type=off"])
        .await
        .expect(0);
    cli.run(&["lint", "--severity", "change-column=off"])
        .await
        .expect(2);
    // The history is known for one file alone, too.
    assert_eq!(
        lint(&cli, &["migrations/002.sql"], 1).await,
        ["migrations/002.sql:2 change-column-type error"]
    );
}

#[tokio::test]
async fn the_configuration_is_taken() {
    let cli = Cli::offline();
    cli.migration("001", "DROP TABLE t;\nTRUNCATE u;");
    cli.file(
        "pgshift.toml",
        "[lint]\nfail-on = \"error\"\ndisable = [\"truncate\"]\nrunner = \"psql\"\n\
         [lint.severity]\ndrop-table = \"note\"\n",
    );
    assert_eq!(
        lint(&cli, &[], 0).await,
        ["migrations/001.sql:1 drop-table note"]
    );
    cli.file("pgshift.toml", "[lint]\ndisable = [\"drop-tabel\"]\n");
    let output = cli.run(&["lint"]).await.expect(2);
    assert!(
        output.stderr.contains("did you mean `drop-table`"),
        "{}",
        output.stderr
    );
    cli.file("pgshift.toml", "[lint]\npg-version = 9\n");
    cli.run(&["lint"]).await.expect(2);
}

#[tokio::test]
async fn formats_are_what_their_readers_take() {
    let cli = Cli::offline();
    cli.migration("001", "DROP TABLE t;");
    let run = async |format| cli.run(&["lint", "--format", format]).await.expect(1);
    let sarif = run("sarif").await.json();
    assert_eq!(sarif["version"], "2.1.0");
    let result = &sarif["runs"][0]["results"][1];
    let rule = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
    assert_eq!(
        sarif["runs"][0]["tool"]["driver"]["rules"][rule]["id"],
        result["ruleId"]
    );
    assert_eq!(
        result["locations"][0]["physicalLocation"]["region"]["startColumn"],
        1
    );
    let gitlab = run("gitlab").await.json();
    assert_eq!(gitlab[1]["location"]["lines"]["begin"], 1);
    assert!(
        run("github")
            .await
            .stdout
            .contains("::warning file=migrations/001.sql,line=1")
    );
    assert!(run("junit").await.stdout.starts_with("<?xml"));
    let other = cli.run(&["status", "--format", "sarif"]).await.expect(2);
    assert!(other.stderr.contains("this format is for lint"));
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_is_linted() {
    let cli = Cli::offline();
    file(&cli, "m/1.sql", "DROP TABLE t;");
    file(&cli, "m/2.sql", b"DROP \0 TABLE");
    file(
        &cli,
        "m/3.sql",
        b"\xff\xfeD\0R\0O\0P\0 \0T\0A\0B\0L\0E\0 \0t\0",
    );
    file(&cli, "m/4.sql", b"DROP TABLE caf\xe9;");
    file(&cli, "m/5.sql", "ALTER TABLE t ADD (");
    file(&cli, "m/6.sql", "");
    std::fs::create_dir(cli.dir().join("empty")).expect("empty/");
    let expected = [
        "m/1.sql:1 drop-table warning",
        "m/2.sql:1 file-encoding error",
        "m/3.sql:1 file-encoding error",
        "m/3.sql:1 drop-table warning",
        "m/4.sql:1 file-encoding error",
        "m/4.sql:1 drop-table warning",
        "m/5.sql:1 not-sql error",
    ];
    assert_eq!(lint(&cli, &["m"], 1).await, expected);
    let output = cli
        .run(&["lint", "--format", "json", "m", "nowhere.sql", "empty", "-"])
        .await
        .expect(2);
    assert_eq!(rules(&output), expected);
    assert_eq!(output.json()["unread"][0]["path"], "nowhere.sql");
    let human = cli.run(&["lint", "m", "nowhere.sql"]).await.expect(2);
    assert!(
        human.stderr.contains("nowhere.sql: No such file"),
        "{}",
        human.stderr
    );
    let empty = cli.run(&["lint", "empty"]).await.expect(0);
    assert!(empty.stderr.contains("there are no SQL files"));
}

#[tokio::test]
async fn runners_are_told_by_what_is_there() {
    let cli = Cli::offline();
    let concurrently = "CREATE INDEX CONCURRENTLY i ON t (a);";
    file(&cli, "diesel/1_x/up.sql", concurrently);
    file(&cli, "diesel/1_x/down.sql", "DROP TABLE t;");
    file(
        &cli,
        "diesel/2_y/up.sql",
        concurrently.replace(" i ", " j "),
    );
    file(
        &cli,
        "diesel/2_y/metadata.toml",
        "run_in_transaction = false\n",
    );
    file(&cli, "sqlx/Cargo.toml", "[dependencies]\nsqlx = \"0.8\"\n");
    file(&cli, "sqlx/migrations/1_x.sql", concurrently);
    file(&cli, "flyway/V2__x.sql", format!("SELECT 1;{concurrently}"));
    file(&cli, "flyway/V3__y.sql", format!("SELECT 1;{concurrently}"));
    file(
        &cli,
        "flyway/V3__y.sql.conf",
        "executeInTransaction=false\n",
    );
    assert_eq!(
        lint(&cli, &["diesel", "sqlx", "flyway"], 1).await,
        [
            "diesel/1_x/up.sql:1 refused-in-transaction error",
            "flyway/V2__x.sql:1 refused-in-transaction error",
            "sqlx/migrations/1_x.sql:1 refused-in-transaction error",
        ]
    );
    assert_eq!(
        lint(&cli, &["diesel", "--down"], 1).await[0],
        "diesel/1_x/down.sql:1 drop-table warning"
    );
    assert!(
        lint(&cli, &["sqlx", "--runner", "psql"], 0)
            .await
            .is_empty()
    );
    cli.run(&["lint", "--runner", "rails"]).await.expect(2);
}

#[tokio::test]
async fn a_file_of_pgshift_is_judged_by_what_the_planner_does() {
    let cli = Cli::offline();
    cli.file("pgshift.toml", "");
    cli.migration("001", "CREATE INDEX i ON t (a);\nVACUUM FULL t;");
    assert_eq!(
        lint(&cli, &[], 1).await,
        [
            "migrations/001.sql:1 create-index-blocking note",
            "migrations/001.sql:2 rewrite-table error",
        ]
    );
    cli.migration("002", "BEGIN;\nDROP TABLE t;");
    let found = lint(&cli, &["migrations/002.sql"], 1).await;
    assert!(found[0].contains("invalid-file"), "{found:?}");
}

#[tokio::test]
async fn a_baseline_holds_while_lines_move() {
    let cli = Cli::offline();
    cli.migration("001", "DROP TABLE t;\nTRUNCATE u;");
    cli.run(&["lint", "--baseline", "b.json"]).await.expect(2);
    cli.run(&["lint", "--baseline", "b.json", "--write-baseline"])
        .await
        .expect(0);
    assert!(lint(&cli, &["--baseline", "b.json"], 0).await.is_empty());
    cli.migration("001", "-- why\n\nDROP  TABLE t;\nTRUNCATE u;\nTRUNCATE v;");
    assert_eq!(
        lint(&cli, &["--baseline", "b.json"], 1).await,
        ["migrations/001.sql:5 truncate warning"]
    );
    cli.file("b.json", "[]");
    cli.run(&["lint", "--baseline", "b.json"]).await.expect(2);
}

fn git(dir: &Path, args: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
        .args(args)
        .current_dir(dir)
        .env("HOME", dir)
        .output()
        .expect("git");
    assert!(status.status.success(), "git {args:?}: {status:?}");
}

#[tokio::test]
async fn only_what_changed_since_a_revision() {
    let cli = Cli::offline();
    let outside = cli.run(&["lint", "--since", "main"]).await.expect(2);
    assert!(
        outside.stderr.contains("needs a git repository"),
        "{}",
        outside.stderr
    );
    cli.migration("001", "CREATE TABLE t (a int);");
    cli.migration("002", "DROP TABLE old;");
    git(cli.dir(), &["init", "-q", "-b", "main"]);
    git(cli.dir(), &["add", "."]);
    git(cli.dir(), &["commit", "-q", "-m", "one"]);
    let nothing = cli.run(&["lint", "--since", "main"]).await.expect(0);
    assert!(
        nothing.stderr.contains("no file has changed"),
        "{}",
        nothing.stderr
    );
    git(cli.dir(), &["checkout", "-q", "-b", "work"]);
    cli.migration("003", "ALTER TABLE t ALTER a TYPE bigint;");
    git(cli.dir(), &["add", "."]);
    git(cli.dir(), &["commit", "-q", "-m", "two"]);
    cli.migration("004 é", "TRUNCATE t;");
    assert_eq!(
        lint(&cli, &["--since", "main"], 1).await,
        [
            "migrations/003.sql:1 change-column-type error",
            "migrations/004 é.sql:1 truncate warning",
        ]
    );
    let unknown = cli.run(&["lint", "--since", "nope"]).await.expect(2);
    assert!(
        unknown.stderr.contains("no revision `nope`"),
        "{}",
        unknown.stderr
    );
    cli.run(&["lint", "--since", "--output=x"]).await.expect(2);
}

#[tokio::test]
async fn the_catalog_tells_sizes_and_types() {
    let db = Db::with(
        "lint_catalog",
        "CREATE TABLE big (id bigint PRIMARY KEY, code varchar(10), n int);
         INSERT INTO big SELECT n, 'x', n FROM generate_series(1, 20000) n;
         CREATE TABLE small (id bigint PRIMARY KEY);
         ANALYZE;",
    )
    .await;
    let cli = Cli::new(&db);
    cli.migration(
        "001",
        "CREATE INDEX b ON big (n);\nCREATE INDEX s ON small (id);\n\
         ALTER TABLE big ALTER code TYPE text;\nALTER TABLE big ALTER n TYPE bigint;",
    );
    let output = cli
        .run(&["lint", "--catalog", "--format", "json"])
        .await
        .expect(1);
    assert_eq!(
        rules(&output),
        [
            "migrations/001.sql:1 create-index-blocking error",
            "migrations/001.sql:4 change-column-type error",
        ]
    );
    let index = output.json()["findings"]
        .as_array()
        .and_then(|f| {
            f.iter()
                .find(|f| f["rule"] == "create-index-blocking")
                .cloned()
        })
        .expect("the index");
    assert_eq!(index["rows"], 20_000);
    assert!(index["bytes"].as_i64() > Some(0));
    // Offline nothing is asked, whatever DATABASE_URL says.
    assert_eq!(lint(&cli, &[], 1).await.len(), 4);
    cli.file("s.json", "{}");
    cli.run(&["lint", "--snapshot", "s.json"]).await.expect(2);
}

#[tokio::test]
async fn rules_are_explained() {
    let cli = Cli::offline();
    let all = cli.run(&["explain"]).await.expect(0);
    assert!(all.stdout.contains("create-index-blocking"));
    let one = cli.run(&["explain", "PS101"]).await.expect(0);
    assert!(
        one.stdout
            .starts_with("create-index-blocking (PS101, error)"),
        "{}",
        one.stdout
    );
    let json: Value = cli
        .run(&["explain", "drop-table", "--format", "json"])
        .await
        .expect(0)
        .json();
    assert_eq!(json["rules"][0]["id"], "PS401");
    let unknown = cli.run(&["explain", "drop-tabel"]).await.expect(2);
    assert!(unknown.stderr.contains("did you mean `drop-table`"));
}

#[tokio::test]
async fn completions_and_manual() {
    let cli = Cli::offline();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = cli.run(&["completions", shell]).await.expect(0);
        assert!(output.stdout.contains("pgshift"), "{shell}");
    }
    assert!(cli.run(&["man"]).await.expect(0).stdout.contains(".TH"));
    cli.run(&["man", "pages"]).await.expect(0);
    assert!(cli.dir().join("pages/pgshift-lint.1").exists());
}
