//! What others may do to a table while it is scanned: write, delete, vacuum, and put another file
//! in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Scene, TOTAL_CENTS, audit, orders};

const ROWS: u32 = 150_000;

/// VACUUM without a pause, until it is stopped.
struct Vacuum {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<u32>,
}

impl Vacuum {
    async fn start(scene: &Scene) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, client) = (stop.clone(), scene.db.client().await);
        let task = tokio::spawn(async move {
            let mut times = 0;
            while !seen.load(Ordering::Relaxed) {
                client.batch_execute("VACUUM orders").await.expect("VACUUM");
                times += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            times
        });
        Self { stop, task }
    }

    async fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the vacuum loop")
    }
}

/// Runs a backfill under writes, with these statements in the middle of it, one after the other.
async fn survives(name: &str, options: &[&str], faults: &[&str], restarts: bool) {
    let setup = format!("{}; {}", orders(ROWS), audit("orders"));
    let striped = TOTAL_CENTS.replace("-- pgshift: backfill", "-- pgshift: backfill stripes=4");
    let scene = Scene::new(name, &setup, &striped).await;
    let load = scene.old_application(120, u64::from(ROWS));
    let vacuum = Vacuum::start(&scene).await;
    let apply = scene.spawn(&[&["apply", "--duty", "0.15"], options].concat());
    scene.backfilling().await;
    let other = scene.db.client().await;
    for fault in faults {
        assert!(scene.in_backfill().await, "in the middle: {fault}");
        other.batch_execute(fault).await.expect(fault);
        let chunks = scene.chunks().await;
        let go_on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
        scene.until(&format!("chunks after {fault}"), &go_on).await;
    }
    let output = apply.wait().await.expect(0);
    assert!(vacuum.stop().await > 3);
    load.stop().await.expect_no_error();

    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.state().await, "ready");
    scene.nothing_redone().await;
    if restarts {
        assert!(
            scene.events("scan_restarted").await >= 1,
            "{}",
            output.stderr
        );
        assert!(
            output.stderr.contains("scan begins again"),
            "{}",
            output.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_and_vacuum_full_in_the_middle() {
    survives(
        "churn_full",
        &[],
        &[
            "DELETE FROM orders WHERE id BETWEEN 30000 AND 100000",
            "VACUUM FULL orders",
        ],
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vacuum_full_and_cluster_under_several_workers() {
    survives(
        "churn_cluster",
        &["--workers", "3"],
        &[
            // Dead rows, which the new files do not have: the blocks shift.
            "UPDATE orders SET note = 'moved' WHERE id % 3 = 0",
            "CLUSTER orders USING orders_pkey",
            "VACUUM FULL orders",
        ],
        true,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncate_in_the_middle() {
    let setup = format!("{}; {}", orders(ROWS), audit("orders"));
    let scene = Scene::new("churn_truncate", &setup, TOTAL_CENTS).await;
    let load = scene.old_application(120, u64::from(ROWS));
    let apply = scene.spawn(&["apply", "--duty", "0.15"]);
    scene.backfilling().await;
    // As a reload does it: gone, and there again, in one transaction.
    let other = scene.db.client().await;
    other
        .batch_execute(
            "BEGIN; TRUNCATE orders; \
             INSERT INTO orders (customer, total) SELECT 1, n / 100.0 FROM generate_series(1, 20000) n; \
             COMMIT",
        )
        .await
        .expect("TRUNCATE");
    apply.wait().await.expect(0);
    load.stop().await.expect_no_error();
    assert_eq!(scene.wrong_orders().await, 0);
    assert!(scene.one::<i64>("SELECT count(*) FROM orders").await > 19_000);
    assert!(scene.events("scan_restarted").await >= 1);
    scene.nothing_redone().await;
}

/// A verify waits for the table, and looks at the file that is there in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_and_vacuum_full_during_a_verify() {
    let slow = "CREATE FUNCTION cents(n numeric) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
                    'BEGIN PERFORM pg_sleep(0.001); RETURN round(n * 100); END'";
    let migration = TOTAL_CENTS.replace("round(total * 100)::bigint", "cents(total)");
    // Long rows, so that the table has more blocks than one range.
    let setup = format!(
        "{}; UPDATE orders SET note = repeat('long', 200); {slow}",
        orders(1_000)
    );
    let scene = Scene::new("churn_verify", &setup, &migration).await;
    let apply = scene.spawn(&["apply", "--duty", "100%"]);
    scene
        .until(
            "the state schema",
            "SELECT to_regclass('pgshift.checkpoint') IS NOT NULL",
        )
        .await;
    scene
        .until(
            "the verify",
            "SELECT EXISTS (SELECT FROM pgshift.step WHERE phase = 'verify' AND state = 'running')
                AND EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgshift'
                    AND datname = current_database() AND state = 'active'
                    AND query LIKE 'SELECT %cents(total)%')",
        )
        .await;
    // Longer than the lock_timeout of a range.
    scene
        .db
        .execute("BEGIN; LOCK TABLE orders; SELECT pg_sleep(3); COMMIT")
        .await;
    let verifying = "SELECT state = 'running' FROM pgshift.step WHERE phase = 'verify'";
    assert!(scene.rows_true(verifying).await);
    scene.db.execute("VACUUM FULL orders").await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.events("scan_restarted").await, 1);
}
