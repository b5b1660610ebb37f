//! Large tables: what a plan says of them, and that neither a plan's questions nor the state grow
//! with them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Cli, Db};

const ID: &str = "20260101_cents";
const FILE: &str = "\
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
CREATE INDEX orders_total_cents ON orders (total_cents);
-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;
-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;
-- pgshift: contract
ALTER TABLE orders DROP COLUMN total;
";
const TABLE: &str = "\
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint NOT NULL,
                     total numeric(10,2) NOT NULL, note text NOT NULL)
    WITH (autovacuum_enabled = off);
CREATE INDEX orders_customer ON orders (customer);
INSERT INTO orders SELECT n, hashint8(n), n / 100.0, repeat('x', 120)
    FROM generate_series(1, 20000) n;
ANALYZE orders;";
const GIB: i64 = 1 << 30;

async fn plan(cli: &Cli, more: &[&str]) -> Value {
    let args = [&["plan", "--format", "json", ID], more].concat();
    cli.run(&args).await.expect(0).json()["plans"][0].clone()
}

fn step<'p>(plan: &'p Value, phase: &str, kind: &str) -> &'p Value {
    let steps = plan["steps"].as_array().expect("steps");
    let of = |s: &&Value| s["phase"] == phase && s["work"]["kind"] == kind;
    steps.iter().find(of).expect("the step")
}

fn int(value: &Value) -> i64 {
    value
        .as_i64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// What a plan of 500 million rows in 100 GiB has to say.
fn is_of_500_million(plan: &Value) {
    let estimate = &step(plan, "backfill", "backfill")["estimate"];
    let rows = int(&estimate["rows"]);
    assert!((490_000_000..=510_000_000).contains(&rows), "{estimate}");
    let chunks = int(&estimate["chunks"]);
    assert!((100_000..=13_200_000).contains(&chunks), "{estimate}");
    let (wal, most) = (
        int(&estimate["wal"]["likely"]),
        int(&estimate["wal"]["most"]),
    );
    assert!(wal > 200 * GIB && most > wal, "{estimate}");
    // In four passes: a quarter of the rows finds no room in its block, or a little more.
    let heap = int(&estimate["disk"]["heap"]["likely"]);
    assert!((20 * GIB..60 * GIB).contains(&heap), "{estimate}");
    let index = int(&estimate["disk"]["indexes"]["likely"]);
    assert!(index > 5 * GIB, "{estimate}");
    let (least, likely) = (
        estimate["time"]["least"].as_f64().expect("a time"),
        estimate["time"]["likely"].as_f64().expect("a time"),
    );
    assert!(least > 300.0 && likely > 2.0 * least, "{estimate}");
    let build = &step(plan, "validate", "concurrent")["estimate"]["disk"];
    assert!(int(&build["new_indexes"]) > 8 * GIB, "{build}");
    assert!(int(&build["temporary"]) > 8 * GIB, "{build}");
    let totals = &plan["totals"];
    assert_eq!(int(&totals["chunks"]), chunks);
    assert!(int(&totals["wal"]["likely"]) > wal, "{totals}");
    assert!(int(&totals["disk"]["likely"]) > heap + index, "{totals}");
}

#[tokio::test]
async fn a_table_of_500_million_rows_is_planned_at_once() {
    let db = Db::with("scale_plan", TABLE).await;
    // Files of 100 GiB with holes: pages of zeroes are empty pages.
    let grow = |relation: &str, gib: u32| {
        format!(
            "DO $$ BEGIN EXECUTE format(
                 $f$COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; truncate -s 1G %1$s; \
                    for n in $(seq 1 {}); do truncate -s 1G %1$s.$n; done'$f$,
                 pg_relation_filepath('{relation}')); END $$;",
            gib - 1
        )
    };
    db.execute(&grow("orders", 100)).await;
    db.execute(&grow("orders_pkey", 11)).await;
    db.execute(&grow("orders_customer", 11)).await;
    db.execute(
        "UPDATE pg_class SET reltuples = 5e8, relpages = pg_relation_size(oid) / 8192
         WHERE relname = 'orders'",
    )
    .await;
    let cli = Cli::new(&db);
    cli.migration(ID, FILE);
    let begun = Instant::now();
    let plan = plan(&cli, &[]).await;
    // Reading the table would take minutes; this bound is for the busiest of machines.
    assert!(begun.elapsed() < Duration::from_secs(30), "{begun:?}");
    is_of_500_million(&plan);
    let text = cli.run(&["plan"]).await.expect(0).stdout;
    for part in ["Until READY, estimated", "at a duty of 50%", "max_wal_size"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let doctor = cli.run(&["doctor"]).await.stdout;
    let words: Vec<&str> = doctor.split_whitespace().collect();
    let doctor = words.join(" ");
    for part in [
        "log of a large backfill",
        "a backfill of public.orders writes about 1",
        "ALTER SYSTEM SET max_wal_size = '",
    ] {
        assert!(doctor.contains(part), "{part}\n{doctor}");
    }
    db.execute("DROP TABLE orders").await;
}

#[tokio::test]
async fn a_plan_counts_with_the_sizes_of_a_snapshot() {
    let db = Db::with("scale_snapshot", TABLE).await;
    let cli = Cli::new(&db);
    cli.migration(ID, FILE);
    cli.run(&["snapshot", "--out", "s.json"]).await.expect(0);
    let text = std::fs::read_to_string(cli.dir().join("s.json")).expect("the snapshot");
    let mut snapshot: Value = serde_json::from_str(&text).expect("JSON");
    let table = &mut snapshot["catalog"]["tables"][0];
    table["rows"] = json!(500_000_000);
    table["bytes"] = json!(100 * GIB);
    table["leaves"][0]["rows"] = json!(500_000_000);
    table["leaves"][0]["blocks"] = json!(100 * GIB / 8192);
    for index in table["indexes"].as_array_mut().expect("indexes") {
        index["bytes"] = json!(11 * GIB);
    }
    std::fs::write(cli.dir().join("s.json"), snapshot.to_string()).expect("written");
    let large = plan(&cli, &["--snapshot", "s.json"]).await;
    is_of_500_million(&large);
    let warnings = large["warnings"].to_string();
    assert!(warnings.contains("are those of the snapshot"), "{warnings}");
    let small = plan(&cli, &[]).await;
    let rows = int(&step(&small, "backfill", "backfill")["estimate"]["rows"]);
    assert!((19_000..=21_000).contains(&rows), "{rows}");
    // What was reviewed is to run here.
    cli.run(&["plan", ID, "--snapshot", "s.json", "--out", "p.json"])
        .await
        .expect(2);
    cli.run(&["plan", "--snapshot", "none.json"])
        .await
        .expect(2);
}

#[tokio::test]
async fn log_and_growth_are_about_what_the_server_says() {
    let db = Db::with("scale_truth", TABLE).await;
    let cli = Cli::new(&db);
    cli.migration(ID, FILE);
    let plan = plan(&cli, &[]).await;
    let estimate = &step(&plan, "backfill", "backfill")["estimate"];
    db.execute("ALTER TABLE orders ADD COLUMN total_cents bigint; CHECKPOINT")
        .await;
    let size = "SELECT pg_relation_size('orders')";
    let before: i64 = db.one(size).await;
    // The log of this statement alone, whatever others write.
    let explained: Value = db
        .one(
            "EXPLAIN (ANALYZE, WAL, FORMAT JSON)
             UPDATE orders SET total_cents = round(total * 100)::bigint",
        )
        .await;
    let wal = int(&explained[0]["Plan"]["WAL Bytes"]);
    let grown = db.one::<i64>(size).await - before;
    let near = |what: &str, estimated: &Value, is: i64| {
        let ratio = int(estimated) as f64 / is as f64;
        assert!((0.7..1.4).contains(&ratio), "{what}: {ratio} {estimate}");
    };
    near("WAL", &estimate["wal"]["likely"], wal);
    near("heap", &estimate["disk"]["heap"]["likely"], grown);
}

/// The passes of a striped walk as the executor makes them, beside a trigger that it skips.
#[tokio::test]
async fn log_and_growth_of_stripes_are_about_what_the_server_says() {
    let db = Db::with("scale_stripes", TABLE).await;
    let cli = Cli::new(&db);
    cli.migration(ID, &FILE.replace("backfill\n", "backfill stripes=4\n"));
    let plan = plan(&cli, &[]).await;
    let estimate = &step(&plan, "backfill", "backfill")["estimate"];
    db.execute(
        "ALTER TABLE orders ADD COLUMN total_cents bigint;
         CREATE FUNCTION same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER same BEFORE UPDATE ON orders FOR EACH ROW WHEN (false)
             EXECUTE FUNCTION same();
         CHECKPOINT",
    )
    .await;
    let size = "SELECT pg_relation_size('orders')";
    let before: i64 = db.one(size).await;
    let mut wal = 0;
    for pass in 0..4 {
        let explained: Value = db
            .one(&format!(
                "EXPLAIN (ANALYZE, WAL, FORMAT JSON)
                 UPDATE orders SET total_cents = round(total * 100)::bigint
                 WHERE total_cents IS NULL AND hashtid(ctid) & 3 = {pass}"
            ))
            .await;
        wal += int(&explained[0]["Plan"]["WAL Bytes"]);
    }
    let grown = db.one::<i64>(size).await - before;
    let near = |what: &str, estimated: &Value, is: i64| {
        let ratio = int(estimated) as f64 / is as f64;
        assert!((0.75..1.3).contains(&ratio), "{what}: {ratio} {estimate}");
    };
    near("WAL", &estimate["wal"]["likely"], wal);
    near("heap", &estimate["disk"]["heap"]["likely"], grown);
}

#[tokio::test]
async fn a_long_backfill_leaves_few_rows_of_state() {
    let db = Db::with(
        "scale_state",
        "CREATE TABLE orders (id int PRIMARY KEY, total numeric(10,2) NOT NULL, pad text)
             WITH (fillfactor = 10);
         INSERT INTO orders SELECT n, n, repeat('x', 60) FROM generate_series(1, 7000) n;
         ANALYZE orders;",
    )
    .await;
    let cli = Cli::new(&db);
    cli.migration(ID, &FILE.replace("backfill\n", "backfill batch=5\n"));
    cli.run(&["apply", "--duty", "1"]).await.expect(0);
    let chunks: i64 = db
        .one("SELECT max(chunks)::bigint FROM pgshift.checkpoint")
        .await;
    assert!(chunks > 700, "{chunks} chunks are not many");
    let steps: i64 = db.one("SELECT count(*) FROM pgshift.step").await;
    let rows = "SELECT count(*) FROM pgshift.";
    for (table, most) in [
        // One a range: of the backfill and of verify.
        ("checkpoint", 2),
        ("verify_range", 4),
        // Begun, tried and done, and what the run says of itself.
        ("event", 4 * steps + 10),
        ("run", 1),
        ("lease", 1),
        ("failed_row", 0),
        ("wrong_row", 0),
    ] {
        let there: i64 = db.one(&format!("{rows}{table}")).await;
        assert!(there <= most, "{there} rows in {table}");
    }
    // The row of a range is written anew by each chunk, and its old versions are pruned.
    let size: i64 = db
        .one("SELECT pg_total_relation_size('pgshift.checkpoint')")
        .await;
    assert!(size < 1 << 20, "{size} bytes of checkpoints");
}

/// Sessions and transactions of a command, by the database's own account: the least of three, as
/// an autovacuum worker that comes along counts too.
async fn cost(db: &Db, cli: &Cli, args: &[&str]) -> (i64, i64) {
    let mut least = (i64::MAX, i64::MAX);
    for _ in 0..3 {
        let (sessions, transactions) = cost_once(db, cli, args).await;
        least = (least.0.min(sessions), least.1.min(transactions));
    }
    least
}

async fn cost_once(db: &Db, cli: &Cli, args: &[&str]) -> (i64, i64) {
    let account = "SELECT ARRAY[sessions, xact_commit + xact_rollback]
                   FROM pg_stat_database WHERE datname = $$NAME$$"
        .replace("NAME", db.name());
    // The account is of another database, so that asking is not counted.
    let admin = Db::create("scale_admin").await;
    let settled = async || {
        let mut last: Vec<i64> = admin.one(&account).await;
        loop {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let now: Vec<i64> = admin.one(&account).await;
            if now == last {
                return now;
            }
            last = now;
        }
    };
    let before = settled().await;
    cli.run(args).await.expect(0);
    let after = settled().await;
    (after[0] - before[0], after[1] - before[1])
}

#[tokio::test]
async fn a_plan_asks_as_much_of_a_large_catalog_as_of_a_small_one() {
    let db = Db::with("scale_catalog", TABLE).await;
    let cli = Cli::new(&db);
    cli.run(&["init"]).await.expect(0);
    cli.migration(ID, FILE);
    let small = cost(&db, &cli, &["plan"]).await;
    // A way of 300 foreign keys leads to the table.
    db.execute(
        "DO $$ BEGIN FOR n IN 1..300 LOOP
             EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, up bigint REFERENCES %s)',
                            n, CASE WHEN n = 1 THEN 'orders' ELSE 't' || n - 1 END);
         END LOOP; END $$",
    )
    .await;
    for n in 0..60 {
        let id = format!("20250101_{n:02}");
        cli.migration(&id, &format!("ALTER TABLE t1 ADD COLUMN c{n} int;\n"));
    }
    cli.run(&["baseline", "--yes", "20250101_59"])
        .await
        .expect(0);
    let large = cost(&db, &cli, &["plan"]).await;
    assert!(small.0 <= 2, "{small:?} sessions, transactions");
    assert!(
        large.0 <= small.0 && large.1 <= small.1 + 3,
        "{small:?} and {large:?} sessions, transactions"
    );
}
