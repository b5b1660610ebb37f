//! Scans in stripes: the table stays small, each row is changed once, and a snapshot that keeps
//! dead rows from being pruned ends the striping, not the backfill.

use super::{Scene, TOTAL_CENTS, audit, orders};

const ROWS: u32 = 200_000;

pub(super) fn with_options(options: &str) -> String {
    TOTAL_CENTS.replace(
        "-- pgshift: backfill",
        &format!("-- pgshift: backfill {options}"),
    )
}

async fn blocks(scene: &Scene) -> i64 {
    scene
        .one("SELECT pg_relation_size('orders', 'main') / current_setting('block_size')::bigint")
        .await
}

/// Backfills a table in these stripes; gives its size before and after, in blocks.
pub(super) async fn grown(scene: &Scene) -> [i64; 2] {
    let before = blocks(scene).await;
    scene.done(&["apply", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
    let grown = [before, blocks(scene).await];
    eprintln!("blocks before and after: {grown:?}");
    grown
}

/// Autovacuum would make the table small in its own way.
pub(super) fn quiet_orders() -> String {
    format!(
        "{}; ALTER TABLE orders SET (autovacuum_enabled = off)",
        orders(ROWS)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stripes_keep_the_table_small() {
    let mut after = Vec::new();
    for (name, options) in [
        ("striped_plain", "stripes=1 vacuum=off"),
        ("striped_four", "stripes=4"),
        ("striped_batch", "stripes=8 batch=5000"),
        ("striped_chosen", ""),
    ] {
        let scene = Scene::new(name, &quiet_orders(), &with_options(options)).await;
        let [before, grown] = grown(&scene).await;
        after.push(grown as f64 / before as f64);
        let rows: i64 = scene
            .one("SELECT sum(rows)::bigint FROM pgshift.checkpoint")
            .await;
        assert_eq!(rows, i64::from(ROWS), "{options}");
        assert_eq!(scene.events("pruning_held").await, 0, "{options}");
    }
    let [plain, four, batch, chosen] = after[..] else {
        panic!("{after:?}");
    };
    assert!(plain > 1.8, "{after:?}");
    for striped in [four, batch, chosen] {
        assert!(striped < 1.6, "{after:?}");
    }
}

/// So few rows have no value that the sample of the plan meets none: they may be written for
/// nothing, and are right all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_without_a_value_that_no_sample_meets() {
    let setup = format!(
        "{}; ALTER TABLE orders ALTER total DROP NOT NULL; \
         UPDATE orders SET total = NULL WHERE id = 77777; ANALYZE orders",
        quiet_orders()
    );
    let scene = Scene::new("striped_valueless", &setup, &with_options("stripes=4")).await;
    let shown = scene.done(&["plan"]).await.stdout;
    assert!(shown.contains("each sampled row gets one"), "{shown}");
    grown(&scene).await;
    let without: i64 = scene
        .one("SELECT count(*) FROM orders WHERE total_cents IS NULL")
        .await;
    assert_eq!(without, 1);
    let rows: i64 = scene
        .one("SELECT sum(rows)::bigint FROM pgshift.checkpoint")
        .await;
    // Once in each pass at most.
    assert!((0..4).contains(&(rows - i64::from(ROWS))), "{rows}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_ends_the_striping() {
    let setup = format!("{}; {}", quiet_orders(), audit("orders"));
    let scene = Scene::new("striped_held", &setup, &with_options("stripes=8")).await;
    let other = scene.db.client().await;
    other
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await
        .expect("a snapshot");
    let apply = scene.spawn(&["apply", "--duty", "100%"]);
    scene.backfilling().await;
    let output = apply.wait().await.expect(0);
    assert!(
        output.stderr.contains("from being pruned"),
        "{}",
        output.stderr
    );
    assert_eq!(scene.events("pruning_held").await, 1);
    assert_eq!(scene.wrong_orders().await, 0);
    scene.nothing_redone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stripe_is_a_scan_of_its_blocks_alone() {
    let scene = Scene::new("striped_scan", &quiet_orders(), TOTAL_CENTS).await;
    let plan: Vec<String> = scene
        .rows(
            "EXPLAIN UPDATE ONLY orders AS orders SET note = 'x' WHERE note IS NULL
                 AND orders.ctid >= '(10,0)'::text::tid AND orders.ctid < '(20,0)'::text::tid
                 AND (pg_catalog.hashtid(orders.ctid) & 3::text::int4) = 1::text::int4",
        )
        .await;
    assert!(plan.join("\n").contains("Tid Range Scan"), "{plan:#?}");
    // Every row is in one stripe, and the stripes are about as large.
    let shares: Vec<i64> = scene
        .rows("SELECT count(*) FROM orders GROUP BY pg_catalog.hashtid(ctid) & 7 ORDER BY 1")
        .await;
    assert_eq!(shares.len(), 8);
    assert_eq!(shares.iter().sum::<i64>(), i64::from(ROWS));
    assert!(shares[0] * 10 > shares[7] * 8, "{shares:?}");
}
