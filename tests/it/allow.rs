//! What blocks runs as written where the author allows it: shown, warned of, and tried for its lock.

use crate::support::{Cli, Db};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b text);
    INSERT INTO t SELECT n, n, n FROM generate_series(1, 100) n; ANALYZE t;";

/// The file of the table, which a rewrite replaces.
async fn file(db: &Db) -> u32 {
    db.one("SELECT pg_relation_filenode('t')").await
}

#[tokio::test]
async fn statements_that_rewrite_run_where_they_are_allowed() {
    let allow = "-- pgshift: allow rewrite-table reason=\"at night, 100 rows\"";
    for (name, sql, revert) in [
        ("cluster", format!("{allow}\nCLUSTER t USING t_pkey;"), ""),
        ("vacuum", format!("{allow}\nVACUUM (FULL, ANALYZE) t;"), ""),
        (
            "type",
            "-- pgshift: allow PS301 reason=\"small\"\nALTER TABLE t ALTER a TYPE bigint;"
                .to_owned(),
            "\n-- pgshift: revert\nALTER TABLE t ALTER a TYPE int;",
        ),
    ] {
        let db = Db::with(&format!("allow_{name}"), TABLE).await;
        let cli = Cli::new(&db);
        let id = rule_id(&cli, "change-column-type").await;
        cli.migration("001", &format!("{}{revert}", sql.replace("PS301", &id)));
        let plan = cli.run(&["plan", "001"]).await.expect(0);
        assert!(
            plan.stdout.contains("allowed as written ("),
            "{}",
            plan.stdout
        );
        assert!(
            plan.stdout.to_uppercase().contains("ACCESS EXCLUSIVE"),
            "{}",
            plan.stdout
        );
        let before = file(&db).await;
        // Somebody reads the table: the step tries for its lock, and gives up without a queue.
        let reader = db.client().await;
        reader
            .batch_execute("BEGIN; SELECT * FROM t")
            .await
            .expect("a reader");
        let blocked = cli
            .run(&["--yes", "apply", "001", "--lock-budget", "2s"])
            .await
            .expect(4);
        assert!(blocked.stderr.contains("in the way"), "{}", blocked.stderr);
        assert_eq!(file(&db).await, before, "{name}");
        reader.batch_execute("COMMIT").await.expect("a commit");
        cli.run(&["--yes", "resume", "001"]).await.expect(0);
        assert_ne!(file(&db).await, before, "{name}");
        let rows: i64 = db.one("SELECT count(*) FROM t").await;
        assert_eq!(rows, 100);
        cli.run(&["--yes", "revert", "001"]).await.expect(0);
    }
}

async fn rule_id(cli: &Cli, rule: &str) -> String {
    let rules = cli.run(&["explain", rule, "--format", "json"]).await;
    let id = rules.expect(0).json()["rules"][0]["id"].clone();
    id.as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn an_allow_must_name_the_rule() {
    let db = Db::with("allow_none", TABLE).await;
    let cli = Cli::new(&db);
    cli.migration("001", "VACUUM FULL t;");
    let refused = cli.run(&["plan", "001"]).await.expect(3);
    assert!(
        refused.stderr.contains("allow rewrite-table reason="),
        "{}",
        refused.stderr
    );
    cli.migration(
        "001",
        "-- pgshift: allow truncate reason=\"x\"\nVACUUM FULL t;",
    );
    cli.run(&["plan", "001"]).await.expect(3);
    cli.migration(
        "001",
        "-- pgshift: allow rewrite-tabel reason=\"x\"\nVACUUM FULL t;",
    );
    let unknown = cli.run(&["--yes", "apply", "001"]).await.expect(2);
    assert!(
        unknown.stderr.contains("there is no rule `rewrite-tabel`")
            && unknown.stderr.contains("did you mean `rewrite-table`"),
        "{}",
        unknown.stderr
    );
}
