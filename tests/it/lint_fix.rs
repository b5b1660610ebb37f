//! `lint --fix` and `lint --diff`, by the binary; what is fixed makes the same schema.

use pgshift::sql::Span;
use pgshift::sql::split::split;

use crate::support::{Cli, Db};

const INDEX: &str = "CREATE INDEX i ON t (a);\n";
const SAFE: &str = "CREATE INDEX CONCURRENTLY i ON t (a);\n";

fn put(cli: &Cli, path: &str, text: impl AsRef<[u8]>) {
    let path = cli.dir().join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    std::fs::write(path, text).expect("a file");
}

fn text(cli: &Cli, path: &str) -> String {
    std::fs::read_to_string(cli.dir().join(path)).expect("a file")
}

#[tokio::test]
async fn a_diff_changes_nothing_and_a_fix_makes_it_true() {
    let cli = Cli::offline();
    let before = "-- why\nCREATE INDEX i ON t (a);\nDROP TABLE u;\n";
    put(&cli, "m/1.sql", before);
    put(&cli, "m/2.sql", "SELECT 1;\n");
    let diff = cli.run(&["lint", "--diff", "m"]).await.expect(1);
    assert_eq!(
        diff.stdout,
        "--- a/m/1.sql\n+++ b/m/1.sql\n@@ -1,3 +1,3 @@\n -- why\n-CREATE INDEX i ON t (a);\n\
         +CREATE INDEX CONCURRENTLY i ON t (a);\n DROP TABLE u;\n"
    );
    assert!(diff.stderr.contains("m/1.sql: 1 change"), "{}", diff.stderr);
    assert_eq!(text(&cli, "m/1.sql"), before);
    let fix = cli.run(&["lint", "--fix", "m"]).await.expect(1);
    assert!(
        fix.stderr.contains("fixed m/1.sql: 1 change"),
        "{}",
        fix.stderr
    );
    assert!(fix.stdout.contains("[drop-table]"), "{}", fix.stdout);
    assert!(!fix.stdout.contains("create-index-blocking"));
    assert_eq!(
        text(&cli, "m/1.sql"),
        "-- why\nCREATE INDEX CONCURRENTLY i ON t (a);\nDROP TABLE u;\n"
    );
    let again = cli.run(&["lint", "--diff", "m"]).await.expect(0);
    assert_eq!(again.stdout, "");
    let left: Vec<_> = std::fs::read_dir(cli.dir().join("m"))
        .expect("m")
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn json_says_what_was_changed_and_what_needs_a_person() {
    let cli = Cli::offline();
    put(&cli, "m/1.sql", format!("-- migrate:up\n{INDEX}"));
    put(
        &cli,
        "m/2.sql",
        "BEGIN;\nALTER TABLE t ALTER a SET NOT NULL;\nCOMMIT;\n",
    );
    let fixed = cli
        .run(&["lint", "--fix", "m", "--format", "json"])
        .await
        .expect(1)
        .json();
    let fixes = fixed["fixes"].as_array().expect("fixes");
    assert_eq!(fixes.len(), 2);
    assert_eq!(fixes[0]["runner"], "dbmate");
    assert_eq!(fixes[0]["written"], true);
    assert_eq!(fixes[0]["changes"][0]["text"], "transaction:false");
    assert_eq!(fixes[0]["changes"][1]["line"], 2);
    assert_eq!(fixes[1]["written"], false);
    assert_eq!(fixes[1]["advice"][0]["line"], 2);
    assert_eq!(
        fixes[1]["advice"][0]["files"].as_array().map(Vec::len),
        Some(3)
    );
    assert_eq!(
        text(&cli, "m/1.sql"),
        format!("-- migrate:up transaction:false\n{SAFE}")
    );
    let plain = cli
        .run(&["lint", "m", "--format", "json"])
        .await
        .expect(1)
        .json();
    assert!(plain.get("fixes").is_none());
}

#[tokio::test]
async fn only_what_is_reported_is_fixed() {
    let cli = Cli::offline();
    cli.file("pgshift.toml", "");
    cli.migration("001", INDEX);
    put(&cli, "m/1.sql", INDEX);
    put(
        &cli,
        "n/1.sql",
        format!("-- pgshift: allow create-index-blocking reason=\"at night\"\n{INDEX}"),
    );
    let left = cli
        .run(&["lint", "--fix", "migrations", "n"])
        .await
        .expect(0);
    assert!(left.stderr.contains("files of pgshift"), "{}", left.stderr);
    assert_eq!(text(&cli, "migrations/001.sql"), INDEX);
    cli.run(&["lint", "m", "--baseline", "b.json", "--write-baseline"])
        .await
        .expect(0);
    for args in [
        ["--baseline", "b.json"],
        ["--severity", "create-index-blocking=off"],
    ] {
        let args = [&["lint", "--fix", "m"], &args[..]].concat();
        cli.run(&args).await.expect(0);
        assert_eq!(text(&cli, "m/1.sql"), INDEX, "{args:?}");
    }
    cli.run(&["lint", "--fix", "m"]).await.expect(0);
    assert_eq!(text(&cli, "m/1.sql"), SAFE);
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_written_is_named_and_the_rest_is_fixed() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let cli = Cli::offline();
    put(&cli, "elsewhere/x.sql", INDEX);
    std::fs::create_dir(cli.dir().join("m")).expect("m");
    symlink("../elsewhere/x.sql", cli.dir().join("m/1.sql")).expect("a link");
    let mode = |path: &str, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(cli.dir().join(path), mode).expect("a mode");
    };
    put(&cli, "m/2.sql", INDEX);
    mode("m/2.sql", 0o444);
    put(&cli, "m/3.sql", b"CREATE INDEX caf\xe9 ON t (a);");
    put(
        &cli,
        "m/4.sql",
        format!("\u{feff}{}", INDEX.replace('\n', "\r\n")),
    );
    mode("m/4.sql", 0o640);
    let fix = cli.run(&["lint", "--fix", "m"]).await.expect(2);
    for said in [
        "m/1.sql: not fixed: it is a symbolic link; fix what it leads to: ../elsewhere/x.sql",
        "m/2.sql: not fixed: it is read-only",
        "m/3.sql: not fixed: it is not UTF-8 (read as Latin-1); save it as UTF-8",
        "fixed m/4.sql: 1 change",
    ] {
        assert!(fix.stderr.contains(said), "{said}:\n{}", fix.stderr);
    }
    assert_eq!(text(&cli, "elsewhere/x.sql"), INDEX);
    assert_eq!(text(&cli, "m/2.sql"), INDEX);
    assert_eq!(
        text(&cli, "m/4.sql"),
        format!("\u{feff}{}", SAFE.replace('\n', "\r\n"))
    );
    let meta = std::fs::metadata(cli.dir().join("m/4.sql")).expect("a file");
    assert_eq!(meta.permissions().mode() & 0o777, 0o640);
    let stdin = cli.run(&["lint", "--fix", "-"]).await.expect(2);
    assert!(stdin.stderr.contains("--diff -"), "{}", stdin.stderr);
    let sarif = cli
        .run(&["lint", "--diff", "m", "--format", "sarif"])
        .await
        .expect(2);
    assert!(sarif.stderr.contains("unified diff"), "{}", sarif.stderr);
}

#[tokio::test]
async fn a_fixed_file_makes_the_same_schema() {
    const BEFORE: &str = "CREATE TABLE users (id bigint PRIMARY KEY, email text);
        CREATE TABLE orders (id bigint NOT NULL, user_id bigint, total numeric, note text,
                             created date);
        CREATE INDEX old ON orders (note);
        CREATE INDEX older ON orders (total);
        INSERT INTO users SELECT n, n || '@example.org' FROM generate_series(1, 50) n;
        INSERT INTO orders SELECT n, n, n, 'x', '2026-01-01' FROM generate_series(1, 50) n;";
    let files = [
        "CREATE INDEX orders_total ON orders (total) WHERE total > 1;\n\
         CREATE UNIQUE INDEX ON users (lower(email));\nCREATE INDEX ON orders (user_id, (total + 1), note);",
        "DROP INDEX old, older;\nREINDEX TABLE users;",
        "ALTER TABLE orders -- said here\n  ALTER total SET NOT NULL,\n  ALTER note SET NOT NULL;",
        "ALTER TABLE orders ADD CHECK (total > 0), ADD CONSTRAINT k CHECK (total < 1000 AND id > 0);",
        "ALTER TABLE orders ADD PRIMARY KEY (id);\nALTER TABLE users ADD UNIQUE (email);",
        "ALTER TABLE orders ADD FOREIGN KEY (user_id) REFERENCES users;\n\
         ALTER TABLE orders ADD COLUMN of bigint REFERENCES users, ADD COLUMN n int CHECK (n > 0);",
        "ALTER TABLE orders ADD COLUMN code text UNIQUE, DROP COLUMN note;",
        "CREATE TABLE t (a int);\nCREATE INDEX ON t (a);\nALTER TABLE t ALTER a SET NOT NULL;",
    ];
    for (number, file) in files.iter().enumerate() {
        let (one, two) = (format!("fix_{number}_a"), format!("fix_{number}_b"));
        let (original, changed) = (Db::with(&one, BEFORE).await, Db::with(&two, BEFORE).await);
        let cli = Cli::new(&original);
        put(&cli, "m/1.sql", file);
        let fixed = cli
            .run(&["lint", "--fix", "--catalog", "--small-table-rows", "0", "m"])
            .await;
        let now = text(&cli, "m/1.sql");
        assert_eq!(now != *file, number < 7, "{file}\n{}", fixed.stderr);
        for (db, text) in [(&original, *file), (&changed, now.as_str())] {
            let statements = split(text, Span::new(0, text.len())).expect("SQL");
            for statement in statements {
                db.execute(statement.span.of(text)).await;
            }
        }
        assert_eq!(original.schema().await, changed.schema().await, "{now}");
    }
}
