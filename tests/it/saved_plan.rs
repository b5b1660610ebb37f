//! `plan --out` and `apply --plan`: what was reviewed is what runs, or nothing runs.

use crate::support::{Cli, Db, schema_dump};

const ID: &str = "20260101_cents";
const FILE: &str = "\
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;
-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;
-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
";

async fn project(name: &str) -> (Db, Cli) {
    let db = Db::with(
        name,
        "CREATE TABLE orders (id int PRIMARY KEY, total numeric(10,2) NOT NULL);
         INSERT INTO orders SELECT n, n / 100.0 FROM generate_series(1, 500) n;",
    )
    .await;
    let cli = Cli::new(&db);
    cli.migration(ID, FILE);
    cli.run(&["plan", ID, "--out", "plan.json"]).await.expect(0);
    (db, cli)
}

#[tokio::test]
async fn a_reviewed_plan_runs() {
    let (db, cli) = project("plan_runs").await;
    cli.run(&["apply", ID, "--plan", "plan.json", "--duty", "1"])
        .await
        .expect(0);
    let wrong: i64 = db
        .one("SELECT count(*) FROM orders WHERE total_cents IS DISTINCT FROM total * 100")
        .await;
    assert_eq!(wrong, 0);
}

#[tokio::test]
async fn a_changed_column_is_named_and_nothing_runs() {
    let (db, cli) = project("plan_facts").await;
    db.execute("ALTER TABLE orders ALTER COLUMN total TYPE numeric(12,2)")
        .await;
    let before = schema_dump(&db).await;
    let refused = cli.run(&["apply", ID, "--plan", "plan.json"]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("total") && refused.stderr.contains("numeric(12,2)"),
        "{}",
        refused.stderr
    );
    assert_eq!(schema_dump(&db).await, before);
    // Planning again accepts the database as it is now.
    cli.run(&["plan", ID, "--out", "plan.json"]).await.expect(0);
    cli.run(&["apply", ID, "--plan", "plan.json", "--duty", "1"])
        .await
        .expect(0);
}

#[tokio::test]
async fn rows_and_statistics_are_no_reason_to_refuse() {
    let (db, cli) = project("plan_rows").await;
    db.execute("INSERT INTO orders SELECT n, 1 FROM generate_series(501, 5000) n; ANALYZE orders")
        .await;
    cli.run(&["apply", ID, "--plan", "plan.json", "--duty", "1"])
        .await
        .expect(0);
}

#[tokio::test]
async fn a_changed_file_and_an_edited_plan_are_refused() {
    let (db, cli) = project("plan_edited").await;
    let before = schema_dump(&db).await;
    cli.migration(
        ID,
        &FILE.replace("round(total * 100)", "trunc(total * 100)"),
    );
    let refused = cli.run(&["apply", ID, "--plan", "plan.json"]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("has changed since it was planned"));

    cli.migration(ID, FILE);
    let path = cli.dir().join("plan.json");
    let text = std::fs::read_to_string(&path).expect("the plan");
    std::fs::write(&path, text.replace("total * 100", "total * 10")).expect("write");
    let refused = cli.run(&["apply", ID, "--plan", "plan.json"]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("was edited"), "{}", refused.stderr);

    std::fs::write(&path, "{}").expect("write");
    cli.run(&["apply", ID, "--plan", "plan.json"])
        .await
        .expect(2);
    assert_eq!(schema_dump(&db).await, before);
}

#[tokio::test]
async fn planning_changes_nothing_and_waits_for_nobody() {
    let (db, cli) = project("plan_reads").await;
    // A writer in the middle of its transaction does not delay a plan.
    let writer = db.client().await;
    writer
        .batch_execute("BEGIN; UPDATE orders SET total = total + 1 WHERE id = 1")
        .await
        .expect("a writer");
    let before = schema_dump(&db).await;
    let begun = std::time::Instant::now();
    cli.run(&["plan"]).await.expect(0);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    assert_eq!(schema_dump(&db).await, before);
    writer.batch_execute("ROLLBACK").await.expect("rollback");
    let state: Option<String> = db
        .one("SELECT to_regclass('pgshift.migration')::text")
        .await;
    assert_eq!(state, None, "plan installs no state schema");
}
