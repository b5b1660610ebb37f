//! Wrong rows are mended, and only these.

use serde_json::{Value, json};

use super::verify::PARTITIONED;
use super::{ID, TWO_WAYS, behind, plain, ready};
use crate::support::{Cli, Db};

const FORWARD: &str = "-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
";

/// Row versions that are not of the first writes: (ctid, xmin) of all rows.
const VERSIONS: &str = "SELECT md5(string_agg(ctid::text || xmin::text, ',' ORDER BY ctid))
    FROM orders WHERE id NOT IN (7, 300)";

async fn repair(cli: &Cli, code: i32, more: &[&str]) -> Value {
    let args = [&["--format", "json", "repair", ID], more].concat();
    let output = cli.run(&args).await.expect(code);
    serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn before_ready_the_old_side_is_right() {
    let db = Db::with("repair_applying", &plain(500)).await;
    let cli = Cli::new(&db);
    // The application's trigger spoils two rows of the backfill.
    db.execute(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN IF NEW.id IN (7, 300) THEN NEW.total_cents := 1; END IF; RETURN NEW; END';
         CREATE TRIGGER a_spoil BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    .await;
    cli.migration(ID, TWO_WAYS);
    cli.run(&["apply"]).await.expect(1);
    // Still spoiled: each is told, and nothing is half done.
    let told = repair(&cli, 1, &[]).await;
    assert_eq!(
        told["tables"][0]["left"].as_array().unwrap().len(),
        2,
        "{told}"
    );
    db.execute("DROP TRIGGER a_spoil ON orders").await;
    let before: String = db.one(VERSIONS).await;
    let told = repair(&cli, 0, &[]).await;
    assert_eq!(told["tables"][0]["mended"], 2, "{told}");
    assert_eq!(told["tables"][0]["from"], "old");
    assert_eq!(
        db.one::<String>(VERSIONS).await,
        before,
        "no other row was touched"
    );
    cli.run(&["resume", ID]).await.expect(0);
    let logged: i64 = db
        .one("SELECT sum((detail->>'rows')::int) FROM pgshift.event WHERE kind = 'repaired'")
        .await;
    assert_eq!(logged, 2);
    cli.run(&["log", "--verify"]).await.expect(0);
}

#[tokio::test]
async fn from_ready_on_a_person_chooses() {
    let spoil = "UPDATE orders SET total_cents = 5 WHERE id = 7;
                 UPDATE orders SET total_cents = NULL WHERE id = 300";
    let right = "SELECT total = 1.75 AND total_cents = 175 FROM orders WHERE id = 7";
    let (db, cli) = ready("repair_ready", &plain(500), TWO_WAYS).await;
    let output = cli.run(&["repair", ID]).await;
    assert_eq!(
        output.code,
        Some(0),
        "the run's verify is of another phase: {}",
        output.stderr
    );
    behind(&db, spoil).await;
    cli.run(&["verify", ID]).await.expect(1);
    let before: String = db
        .one("SELECT md5(string_agg(orders::text, '')) FROM orders")
        .await;
    let output = cli.run(&["repair", ID]).await.expect(6);
    for words in [
        format!("{ID} is ready"),
        format!("`pgshift verify {ID} --values`"),
        format!("`pgshift repair {ID} --from old`"),
        format!("`pgshift repair {ID} --from new`"),
    ] {
        assert!(output.stderr.contains(&words), "{words}: {}", output.stderr);
    }
    let after: String = db
        .one("SELECT md5(string_agg(orders::text, '')) FROM orders")
        .await;
    assert_eq!(after, before, "nothing was changed");

    // The new side: the row without a new value stays, and is told.
    let told = repair(&cli, 1, &["--from", "new"]).await;
    assert_eq!(told["tables"][0]["mended"], 1, "{told}");
    assert_eq!(told["tables"][0]["left"][0]["row"], "id=300");
    assert!(
        db.one::<bool>("SELECT total = 0.05 FROM orders WHERE id = 7")
            .await
    );
    // The old side does the rest.
    let told = repair(&cli, 0, &["--from", "old"]).await;
    assert_eq!(told["tables"][0]["left"], json!([]), "{told}");
    assert!(
        db.one::<bool>("SELECT total_cents = 7500 FROM orders WHERE id = 300")
            .await
    );
    cli.run(&["verify", ID]).await.expect(0);
    assert_eq!(repair(&cli, 0, &[]).await["tables"], json!([]));

    // In contract, before its first change.
    behind(
        &db,
        "UPDATE orders SET total = 1.75, total_cents = 9 WHERE id = 7",
    )
    .await;
    cli.run(&["contract", ID]).await.expect(1);
    cli.run(&["repair", ID]).await.expect(6);
    repair(&cli, 0, &["--from", "old"]).await;
    assert!(db.one::<bool>(right).await);
    cli.run(&["resume", ID]).await.expect(0);
    cli.run(&["repair", ID, "--from", "old"]).await.expect(3);
}

#[tokio::test]
async fn without_a_reverse_section_there_is_nothing_to_choose() {
    let (db, cli) = ready("repair_forward", &plain(500), FORWARD).await;
    behind(&db, "UPDATE orders SET total_cents = NULL WHERE id = 7").await;
    cli.run(&["verify", ID]).await.expect(1);
    let output = cli.run(&["repair", ID, "--from", "new"]).await.expect(3);
    assert!(
        output.stderr.contains("no reverse section"),
        "{}",
        output.stderr
    );
    repair(&cli, 0, &[]).await;
    cli.run(&["contract", ID]).await.expect(0);
}

#[tokio::test]
async fn every_kind_of_table_is_mended() {
    let keyless = "CREATE TABLE orders (id int, total numeric(12,2) NOT NULL);
                   INSERT INTO orders SELECT n, n / 4.0 FROM generate_series(1, 500) n";
    let composite = "CREATE TABLE orders (\"Key\" text, id int, total numeric(12,2) NOT NULL,
                         PRIMARY KEY (\"Key\", id));
                     INSERT INTO orders SELECT '\"x, ' || n, n, n / 4.0 FROM generate_series(1, 500) n";
    let uuid = "CREATE TABLE orders (u uuid PRIMARY KEY, id int, total numeric(12,2) NOT NULL);
                INSERT INTO orders SELECT md5(n::text)::uuid, n, n / 4.0 FROM generate_series(1, 500) n";
    for (name, table) in [
        ("keyless", keyless),
        ("composite", composite),
        ("uuid", uuid),
        ("partitioned", PARTITIONED),
    ] {
        for from in ["old", "new"] {
            let (db, cli) = ready(&format!("repair_{name}"), table, TWO_WAYS).await;
            behind(
                &db,
                "UPDATE orders SET total_cents = 5 WHERE id IN (7, 300, 400, 401)",
            )
            .await;
            cli.run(&["verify", ID]).await.expect(1);
            // One became right meanwhile, one is gone.
            behind(
                &db,
                "UPDATE orders SET total_cents = round(total * 100) WHERE id = 400;
                 DELETE FROM orders WHERE id = 401",
            )
            .await;
            let told = repair(&cli, 0, &["--from", from]).await;
            let of = &told["tables"][0];
            assert_eq!(of["mended"], 2, "{name}: {told}");
            assert_eq!(
                of["right"].as_i64().unwrap() + of["gone"].as_i64().unwrap(),
                2,
                "{name}: {told}"
            );
            let rows: Vec<String> = db
                .rows("SELECT DISTINCT total || ' ' || total_cents FROM orders WHERE id IN (7, 300) ORDER BY 1")
                .await;
            if from == "old" {
                assert_eq!(rows, ["1.75 175", "75.00 7500"], "{name}");
            } else {
                assert_eq!(rows, ["0.05 5"], "{name}");
            }
            cli.run(&["verify", ID]).await.expect(0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_repair_goes_on_and_mends_no_row_twice() {
    let (db, cli) = ready("repair_killed", &plain(6_000), TWO_WAYS).await;
    behind(&db, "UPDATE orders SET total_cents = 0 WHERE id % 2 = 0").await;
    cli.run(&["verify", ID, "--duty", "100%"]).await.expect(1);
    db.execute(
        "CREATE TABLE audit (id bigint);
         CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.audit VALUES (NEW.id); RETURN NULL; END';
         CREATE TRIGGER audit AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION audit()",
    )
    .await;
    for part in [200, 1_000] {
        let running = cli.spawn(&["repair", ID, "--from", "old", "--duty", "30%"]);
        let sql = format!("SELECT count(*) >= {part} FROM audit");
        while !db.one::<bool>(&sql).await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        running.kill().await;
    }
    let told = repair(&cli, 0, &["--from", "old", "--duty", "100%"]).await;
    assert_eq!(told["tables"][0]["mended"], 3_000, "{told}");
    let (all, different): (i64, i64) = (
        db.one("SELECT count(*) FROM audit").await,
        db.one("SELECT count(DISTINCT id) FROM audit").await,
    );
    assert_eq!((all, different), (3_000, 3_000));
    let logged: i64 = db
        .one("SELECT sum((detail->>'rows')::int) FROM pgshift.event WHERE kind = 'repaired'")
        .await;
    assert_eq!(logged, 3_000);
    cli.run(&["verify", ID, "--duty", "100%"]).await.expect(0);
    cli.run(&["log", "--verify"]).await.expect(0);
}
