//! Wrong rows made on purpose are named by key; a killed verify goes on.

use serde_json::{Value, json};

use super::{ID, TWO_WAYS, behind, plain, ready};
use crate::support::{Cli, Db, Running};

const COMPOSITE: &str = "
CREATE TABLE orders (region text, no int, total numeric(12,2) NOT NULL, PRIMARY KEY (region, no));
INSERT INTO orders SELECT 'r, ' || n % 3, n, n / 4.0 FROM generate_series(1, 500) n";
const KEYLESS: &str = "
CREATE TABLE orders (n int, total numeric(12,2) NOT NULL);
INSERT INTO orders SELECT n, n / 4.0 FROM generate_series(1, 500) n";
const UUIDS: &str = "
CREATE TABLE orders (id uuid PRIMARY KEY, total numeric(12,2) NOT NULL);
INSERT INTO orders SELECT md5(n::text)::uuid, n / 4.0 FROM generate_series(1, 500) n";
pub(super) const PARTITIONED: &str = "
CREATE TABLE orders (id int, at timestamptz, total numeric(12,2) NOT NULL, PRIMARY KEY (id, at))
    PARTITION BY RANGE (id);
CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (0) TO (250);
CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (250) TO (1000);
INSERT INTO orders SELECT n, '2026-01-01 12:00:00.123456+00'::timestamptz, n / 4.0
FROM generate_series(1, 500) n";

/// What a JSON verify listed.
async fn listed(cli: &Cli, more: &[&str]) -> Vec<Value> {
    let args = [&["--format", "json", "verify", ID], more].concat();
    let output = cli.run(&args).await.expect(1);
    let last: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    let found = last["found"][0].clone();
    assert_eq!(found["wrong"], last["wrong"]);
    found["listed"].as_array().unwrap().clone()
}

#[tokio::test]
async fn wrong_rows_are_named_by_key_on_every_kind_of_table() {
    for (name, table, wrong, keys) in [
        (
            "plain",
            plain(500),
            "id IN (7, 300)",
            json!([{"id": "7"}, {"id": "300"}]),
        ),
        (
            "composite",
            COMPOSITE.into(),
            "no IN (7, 300)",
            json!([{"region": "r, 1", "no": "7"}, {"region": "r, 0", "no": "300"}]),
        ),
        ("keyless", KEYLESS.into(), "n IN (7, 300)", json!([{}, {}])),
        (
            "uuid",
            UUIDS.into(),
            "id = md5('7')::uuid",
            json!([{"id": "8f14e45f-ceea-167a-5a36-dedd4bea2543"}]),
        ),
    ] {
        let (db, cli) = ready(&format!("wrong_{name}"), &table, TWO_WAYS).await;
        cli.run(&["verify", ID]).await.expect(0);
        behind(
            &db,
            &format!("UPDATE orders SET total_cents = -1 WHERE {wrong}"),
        )
        .await;
        let rows = listed(&cli, &[]).await;
        let found: Vec<Value> = rows.iter().map(|row| row["key"].clone()).collect();
        assert_eq!(Value::from(found), keys, "{name}");
        assert!(
            rows.iter().all(|row| row.get("values").is_none()),
            "keys only"
        );
        let rows = listed(&cli, &["--values"]).await;
        assert_eq!(
            rows[0]["values"][0],
            json!({"column": "total_cents", "is": "-1", "should": "175"})
        );
        // Contract sees them too.
        let contract = cli.run(&["contract", ID]).await.expect(1);
        assert!(
            contract.stderr.contains("not what the backfill gives"),
            "{}",
            contract.stderr
        );
    }
}

#[tokio::test]
async fn wrong_rows_of_partitions_are_told_with_their_leaf() {
    let (db, cli) = ready("wrong_leaves", PARTITIONED, TWO_WAYS).await;
    db.execute(
        "ALTER TABLE orders DISABLE TRIGGER USER;
         UPDATE orders SET total_cents = NULL WHERE id IN (7, 300);
         ALTER TABLE orders ENABLE TRIGGER USER",
    )
    .await;
    let rows = listed(&cli, &["--out", "wrong.jsonl"]).await;
    let leaves: Vec<_> = rows
        .iter()
        .map(|r| (r["leaf"].clone(), r["key"]["id"].clone()))
        .collect();
    assert_eq!(
        json!(leaves),
        json!([["public.orders_1", "7"], ["public.orders_2", "300"]])
    );
    let file = std::fs::read_to_string(cli.dir().join("wrong.jsonl")).unwrap();
    assert_eq!(file.lines().count(), 2);
    let human = cli.run(&["verify", ID]).await.expect(1);
    assert!(
        human.stdout.contains("2 wrong rows in public.orders"),
        "{}",
        human.stdout
    );
    assert!(
        human.stdout.contains("of public.orders_2"),
        "{}",
        human.stdout
    );
}

#[tokio::test]
async fn a_disabled_trigger_is_a_finding() {
    let (db, cli) = ready("verify_disabled", &plain(100), TWO_WAYS).await;
    db.execute("ALTER TABLE orders DISABLE TRIGGER USER").await;
    let output = cli.run(&["verify", ID]).await.expect(1);
    assert!(output.stderr.contains("is disabled"), "{}", output.stderr);
    cli.run(&["contract", ID]).await.expect(1);
    db.execute("ALTER TABLE orders ENABLE TRIGGER USER").await;
    cli.run(&["resume", ID]).await.expect(0);
}

const ROWS: u32 = 60_000;

/// As [`TWO_WAYS`], with an expression that counts how often it is evaluated.
const COUNTED: &str = "-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = cents(total);

-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
";

fn counted() -> String {
    format!(
        "CREATE SEQUENCE evaluations;
         CREATE FUNCTION cents(total numeric) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS
             'BEGIN PERFORM nextval(''public.evaluations''); RETURN round(total * 100); END';
         {}",
        plain(ROWS)
    )
}

/// Waits until a verify stands at or past this share of the blocks.
async fn stands_at(db: &Db, share: f64) {
    let sql = format!(
        "SELECT coalesce(sum(next) >= sum(blocks) * {share}, false) AND NOT coalesce(bool_and(done), true)
         FROM pgshift.verify_range
         WHERE verification_id = (SELECT max(id) FROM pgshift.verification WHERE NOT done)"
    );
    for _ in 0..3_000 {
        let there: bool = db
            .one("SELECT to_regclass('pgshift.verify_range') IS NOT NULL")
            .await;
        if there && db.one(&sql).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("the verify does not get there");
}

async fn kill_at(db: &Db, running: Running, share: f64) {
    stands_at(db, share).await;
    running.kill().await;
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgshift'
                AND datname = current_database() AND state <> 'idle'";
    while db.one::<i64>(ours).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

const EVALUATIONS: &str = "SELECT last_value FROM evaluations";
const DONE: &str = "SELECT sum(next)::bigint FROM pgshift.verify_range
    WHERE verification_id = (SELECT max(id) FROM pgshift.verification)";

/// Verify in the run that applies: killed twice, each block is read once but for the range in hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_verify_of_a_run_goes_on() {
    let db = Db::with("verify_killed", &counted()).await;
    let cli = Cli::new(&db);
    cli.migration(ID, COUNTED);
    let slow = ["--throttle", "duty=5%"];
    let apply = cli.spawn(&["apply", "--duty", "100%"]);
    // The backfill at full speed, the verify slowly.
    while db
        .one::<i64>("SELECT count(*) FROM pg_class WHERE oid = to_regclass('pgshift.override')")
        .await
        == 0
    {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    loop {
        let backfilling: bool = db
            .one("SELECT EXISTS (SELECT FROM pgshift.step WHERE phase = 'backfill')")
            .await;
        if backfilling {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let _ = apply.kill().await;
    let before: i64 = {
        // To the end of the backfill, but not of the verify.
        let resume = cli.spawn(&[&["resume", ID][..], &["--duty", "100%"]].concat());
        loop {
            let at_verify: bool = db
                .one("SELECT EXISTS (SELECT FROM pgshift.step WHERE phase = 'verify')")
                .await;
            if at_verify {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        drop(resume.kill().await);
        db.execute("DELETE FROM pgshift.verification").await;
        db.one(EVALUATIONS).await
    };
    for share in [0.2, 0.5] {
        let resume = cli.spawn(&[&["resume", ID][..], &slow].concat());
        kill_at(&db, resume, share).await;
        let done: i64 = db.one(DONE).await;
        let blocks: i64 = db
            .one("SELECT sum(blocks)::bigint FROM pgshift.verify_range")
            .await;
        let read = db.one::<i64>(EVALUATIONS).await - before;
        eprintln!("{done} of {blocks} blocks, {read} rows read");
    }
    cli.run(&["resume", ID, "--duty", "100%"]).await.expect(0);
    let read = db.one::<i64>(EVALUATIONS).await - before;
    // Two ranges were in hand; none is larger than what remained of a fifth of the table.
    assert!(
        read >= i64::from(ROWS),
        "{read} of {ROWS}: some were skipped"
    );
    assert!(
        read < i64::from(ROWS) * 16 / 10,
        "{read} of {ROWS}: read again"
    );
    let resumed: i64 = db
        .one("SELECT count(*) FROM pgshift.event WHERE kind = 'verify_resumed'")
        .await;
    assert_eq!(resumed, 2);
}

/// By itself: goes on, finds what was found before the kill too, and begins anew where the trigger
/// is another one or the file is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_verify_by_itself_goes_on_while_rows_stay_right() {
    let (db, cli) = ready("verify_alone", &plain(ROWS), TWO_WAYS).await;
    behind(
        &db,
        &format!("UPDATE orders SET total_cents = 0 WHERE id IN (5, {ROWS} - 5)"),
    )
    .await;
    // The changed rows are at the end of the table: one at its beginning.
    db.execute("VACUUM orders").await;
    behind(&db, "UPDATE orders SET total_cents = 0 WHERE id = 9").await;
    let slow = ["verify", ID, "--duty", "3%"];
    kill_at(&db, cli.spawn(&slow), 0.3).await;
    let done: i64 = db.one(DONE).await;
    let rows = listed(&cli, &["--duty", "100%"]).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    let told: i64 = db
        .one("SELECT (detail->>'blocks_done')::bigint FROM pgshift.event WHERE kind = 'verify_resumed'")
        .await;
    assert_eq!(told, done, "it went on where it was");
    let whole: bool = db
        .one("SELECT bool_and(next = blocks AND done) FROM pgshift.verify_range")
        .await;
    assert!(whole);
    behind(
        &db,
        "UPDATE orders SET total_cents = round(total * 100) WHERE id IN (5, 9)",
    )
    .await;

    // Rows that were read are made wrong while the trigger is off: only a new scan finds them.
    for change in [
        "ALTER TABLE orders DISABLE TRIGGER USER;
         UPDATE orders SET total_cents = -1 WHERE id = 1;
         ALTER TABLE orders ENABLE TRIGGER USER",
        "VACUUM FULL orders",
    ] {
        kill_at(&db, cli.spawn(&slow), 0.3).await;
        db.execute(change).await;
        let rows = listed(&cli, &["--duty", "100%"]).await;
        assert_eq!(rows.len(), 2, "{change}: {rows:?}");
        let restarted: i64 = db
            .one("SELECT count(*) FROM pgshift.event WHERE kind = 'scan_restarted'")
            .await;
        assert!(restarted > 0, "{change}");
        db.execute("UPDATE pgshift.event SET kind = 'seen' WHERE kind = 'scan_restarted'")
            .await;
    }
    // Anew, as asked for.
    kill_at(&db, cli.spawn(&slow), 0.3).await;
    let before: i64 = db.one("SELECT max(id) FROM pgshift.verification").await;
    listed(&cli, &["--restart", "--duty", "100%"]).await;
    assert!(
        db.one::<i64>("SELECT max(id) FROM pgshift.verification")
            .await
            > before
    );
}

#[tokio::test]
async fn a_sample_tells_its_bound_and_never_counts() {
    let (db, cli) = ready("sample", &plain(20_000), TWO_WAYS).await;
    let output = cli
        .run(&["--format", "json", "verify", ID, "--sample", "5000"])
        .await
        .expect(0);
    let last: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    let found = &last["found"][0];
    let rows = found["rows"].as_f64().unwrap();
    assert!((4_000.0..6_000.0).contains(&rows), "{rows}");
    assert!((found["at_most"].as_f64().unwrap() - 3.0 / rows).abs() < 1e-12);
    let human = cli.run(&["verify", ID, "--sample", "50%"]).await.expect(0);
    // About 10,000 rows: how many exactly is chance.
    let said = |words: &str| human.stdout.contains(words);
    assert!(
        said("at most 0.0") && said(" % are wrong, with 95 % confidence"),
        "{}",
        human.stdout
    );
    assert_eq!(
        db.one::<i64>("SELECT count(*) FROM pgshift.verification WHERE run_id IS NULL")
            .await,
        0
    );

    behind(&db, "UPDATE orders SET total_cents = 0 WHERE id % 10 = 0").await;
    let output = cli
        .run(&["--format", "json", "verify", ID, "--sample", "20%"])
        .await
        .expect(1);
    let last: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    let found = &last["found"][0];
    let share = found["wrong"].as_f64().unwrap() / found["rows"].as_f64().unwrap();
    assert!((0.07..0.13).contains(&share), "one in ten: {share}");
    assert!(found["at_most"].as_f64().unwrap() > share);
    // Every one that it names is wrong.
    let listed = found["listed"].as_array().unwrap();
    assert!(!listed.is_empty());
    for row in listed {
        let id: i64 = row["key"]["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(id % 10, 0, "{row}");
    }
    for wrong in ["0", "200%", "many"] {
        cli.run(&["verify", ID, "--sample", wrong]).await.expect(2);
    }
    cli.run(&["contract", ID]).await.expect(1);
}
