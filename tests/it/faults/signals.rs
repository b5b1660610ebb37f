//! Asked to stop: soon, resumable, and nothing half-done.

use std::time::Duration;

use super::{ID, Scene, TOTAL_CENTS, audit, ended_within, orders};
use crate::support::Running;

/// A stop takes at most this long, whatever is under way.
const SOON: Duration = Duration::from_secs(2);

async fn stopped(running: Running, signal: &str) -> String {
    running.signal(signal);
    let (output, took) = ended_within(Duration::from_secs(20), running).await;
    let output = output.expect(5);
    assert!(took < SOON, "it took {took:?}: {}", output.stderr);
    assert!(
        output.stderr.contains("pgshift resume"),
        "{}",
        output.stderr
    );
    output.stderr
}

async fn in_a_backfill(signal: &str, workers: &str) {
    let setup = format!("{}; {}", orders(100_000), audit("orders"));
    let name = format!("signals_{}", signal.to_ascii_lowercase());
    let mut scene = Scene::new(&name, &setup, TOTAL_CENTS).await;
    let load = scene.old_application(50, 100_000);
    let mut running = scene.spawn(&["apply", "--duty", "0.1", "--workers", workers]);
    scene.backfilling().await;
    for _ in 0..3 {
        let before = scene.chunks().await;
        let time = scene.moment(200, 600);
        tokio::time::sleep(time).await;
        stopped(running, signal).await;
        assert!(scene.chunks().await >= before, "progress is kept");
        assert!(scene.in_backfill().await);
        scene.nothing_redone().await;
        // The lease was given back.
        assert_eq!(
            scene.one::<i64>("SELECT count(*) FROM pgshift.lease").await,
            0
        );
        assert_eq!(scene.one::<i64>(SESSIONS).await, 0);
        running = scene.spawn(&["resume", "--duty", "0.1", "--workers", workers]);
        let chunks = scene.chunks().await;
        let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
        scene.until("chunks of the next runner", &on).await;
    }
    stopped(running, signal).await;
    scene.done(&["resume", "--duty", "100%"]).await;
    load.stop().await.expect_no_error();
    assert_eq!(scene.wrong_orders().await, 0);
    scene.nothing_redone().await;
    assert_eq!(scene.events("stopped").await, 4);
}

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity
     WHERE application_name = 'pgshift' AND datname = current_database() AND state <> 'idle'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_in_a_backfill() {
    in_a_backfill("INT", "1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_in_a_backfill_with_workers() {
    in_a_backfill("TERM", "3").await;
}

/// A function that takes its time for every row, so that a scan is long.
const SLOW: &str = "CREATE FUNCTION slow(n numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS
     'BEGIN PERFORM pg_sleep(0.002); RETURN n; END'";
const FAST: &str = "CREATE OR REPLACE FUNCTION slow(n numeric) RETURNS numeric LANGUAGE plpgsql
     IMMUTABLE AS 'BEGIN RETURN n; END'";

async fn in_a_long_statement(name: &str, migration: &str, running_sql: &str) -> Scene {
    let scene = Scene::new(name, &format!("{}; {SLOW}", orders(20_000)), migration).await;
    let before = scene.db.schema().await;
    let running = scene.spawn(&["apply"]);
    let begun = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgshift'
             AND datname = current_database() AND state = 'active'
             AND query LIKE '{running_sql}' AND query_start < now() - interval '0.3 s')"
    );
    scene.until("the long statement", &begun).await;
    stopped(running, "INT").await;
    scene
        .until(
            "the statement is cancelled",
            &format!("SELECT NOT ({})", &begun[7..]),
        )
        .await;
    scene.no_invalid_index().await;
    scene.db.execute(FAST).await;
    scene.done(&["resume"]).await;
    scene.no_invalid_index().await;
    scene.done(&["revert", ID]).await;
    scene.db.execute("DROP FUNCTION slow").await;
    scene.db.execute(SLOW).await;
    assert_eq!(scene.db.schema().await, before);
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_validate_is_cancelled() {
    in_a_long_statement(
        "signals_validate",
        "-- pgshift: expand\nALTER TABLE orders ADD CONSTRAINT sane CHECK (slow(total) >= 0);\n",
        "%VALIDATE CONSTRAINT%",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_index_build_is_cancelled() {
    in_a_long_statement(
        "signals_index",
        "-- pgshift: expand\nCREATE INDEX orders_slow ON orders (slow(total));\n",
        "CREATE INDEX CONCURRENTLY%",
    )
    .await;
}

/// The build waits for a transaction, and so would the removal of what it left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_build_that_waits_is_cancelled() {
    let scene = Scene::new(
        "signals_waiting",
        &orders(1_000),
        "-- pgshift: expand\nCREATE INDEX orders_customer ON orders (customer);\n",
    )
    .await;
    let writer = scene.db.client().await;
    writer
        .batch_execute("BEGIN; UPDATE orders SET note = 'mine' WHERE id = 1")
        .await
        .expect("a writer");
    let running = scene.spawn(&["apply"]);
    scene
        .until(
            "the build",
            "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index
                 WHERE relid = 'orders'::regclass AND lockers_total > 0)",
        )
        .await;
    let said = stopped(running, "INT").await;
    let left: i64 = scene
        .one("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        .await;
    assert!(
        left == 0 || said.contains("orders_customer is left"),
        "{said}"
    );
    writer.batch_execute("COMMIT").await.expect("COMMIT");
    scene.done(&["resume"]).await;
    scene.no_invalid_index().await;
    assert_eq!(scene.state().await, "complete");
}
