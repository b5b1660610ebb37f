//! Locks in the way of a step: it tries in short tries, and says who.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{Scene, ended_within};
use crate::support::{Machine, Running, Workload};

const ROWS: u32 = 1_000;
/// The longest that a statement of the application may wait behind a step.
const LONGEST: Duration = Duration::from_millis(1_200);

/// A session that sits in a transaction.
async fn sitting(scene: &Scene, sql: &str) -> (Client, i32) {
    let client = scene.db.client().await;
    client.batch_execute("BEGIN").await.expect("BEGIN");
    client.batch_execute(sql).await.expect(sql);
    let row = client.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid = row.expect("its pid").get(0);
    (client, pid)
}

/// Reads and writes that conflict with ACCESS EXCLUSIVE.
fn application(scene: &Scene) -> Workload {
    Workload::start(&scene.db.url(), 4, 100, |n| {
        let id = n % 900 + 101;
        if n % 2 == 0 {
            format!("SELECT total FROM orders WHERE id = {id}")
        } else {
            format!("UPDATE orders SET note = '{n}' WHERE id = {id}")
        }
    })
}

/// Waits until the log names this session, and checks that the application does not wait.
async fn named(scene: &Scene, pid: i32) {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'lock_waiting'
                        AND detail->>'blockers' LIKE '%pid {pid} (postgres%')"
    );
    scene
        .until(
            "the state schema",
            "SELECT to_regclass('pgshift.event') IS NOT NULL",
        )
        .await;
    scene.until(&format!("pid {pid} in the log"), &sql).await;
}

async fn held_for_ten_seconds(name: &str, blocker: &str) {
    let scene = Scene::orders(name, ROWS).await;
    let (client, pid) = sitting(&scene, blocker).await;
    let begun = Instant::now();
    let machine = Machine::start(&scene.db.url()).await;
    let load = application(&scene);
    let mut apply = scene.spawn(&["apply"]);
    named(&scene, pid).await;
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(begun.elapsed())).await;
    assert!(apply.running(), "it waits");
    client.batch_execute("COMMIT").await.expect("COMMIT");
    let (output, _) = ended_within(Duration::from_secs(20), apply).await;
    let output = output.expect(0);
    assert!(
        output.stderr.contains(&format!("pid {pid} (postgres")),
        "{}",
        output.stderr
    );
    let report = load.stop().await;
    report.expect_no_error();
    let machine = machine.stop().await;
    assert!(
        report.max() < LONGEST + machine,
        "{:?}, the machine {machine:?}",
        report.max()
    );
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_idle_in_transaction_is_waited_for() {
    held_for_ten_seconds(
        "blockers_writer",
        "UPDATE orders SET note = 'mine' WHERE id = 1",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_idle_in_transaction_is_waited_for() {
    held_for_ten_seconds("blockers_reader", "SELECT count(*) FROM orders").await;
}

/// No transaction is old, but there is always one: the step has to queue, and the application
/// queues behind it, for a short time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_take_turns_do_not_starve_a_step() {
    let scene = Scene::orders("blockers_turns", ROWS).await;
    // It would be waited for, for longer than for a transaction.
    scene
        .db
        .execute("ALTER TABLE orders SET (autovacuum_enabled = false)")
        .await;
    let url = scene.db.url();
    // Each holds its lock for 0.4 s or 0.8 s; eight of them, so that there is no gap.
    let turns = Workload::start(&url, 8, 8, |n| {
        let (id, time) = (n % 100 + 1, if n % 2 == 0 { 0.4 } else { 0.8 });
        format!(
            "BEGIN; UPDATE orders SET note = 'turn' WHERE id = {id}; SELECT pg_sleep({time}); COMMIT"
        )
    });
    turns.reach(8).await;
    let machine = Machine::start(&scene.db.url()).await;
    let load = application(&scene);
    load.reach(10).await;
    let apply = scene.spawn(&["apply"]);
    let (output, _) = ended_within(Duration::from_secs(30), apply).await;
    output.expect(0);
    turns.stop().await.expect_no_error();
    let report = load.stop().await;
    report.expect_no_error();
    let machine = machine.stop().await;
    assert!(
        report.max() < LONGEST + machine,
        "{:?}, the machine {machine:?}",
        report.max()
    );
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_budget_is_an_exit_code_of_its_own() {
    let scene = Scene::orders("blockers_budget", ROWS).await;
    let before = scene.db.schema().await;
    let (client, pid) = sitting(&scene, "SELECT count(*) FROM orders").await;
    let apply: Running = scene.spawn(&["apply", "--lock-budget", "2s"]);
    let (output, took) = ended_within(Duration::from_secs(10), apply).await;
    let output = output.expect(4);
    assert!(took > Duration::from_millis(1_900), "{took:?}");
    assert!(
        output.stderr.contains(&format!("pid {pid} (postgres")),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("pgshift resume"),
        "{}",
        output.stderr
    );
    assert_eq!(scene.state().await, "applying");
    client.batch_execute("ROLLBACK").await.expect("ROLLBACK");
    assert_eq!(scene.db.schema().await, before, "nothing half-done");
    scene.done(&["resume"]).await;
    assert_eq!(scene.state().await, "ready");
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blockers_are_ended_only_where_that_is_allowed() {
    let scene = Scene::orders("blockers_cancel", ROWS).await;
    let (client, pid) = sitting(&scene, "UPDATE orders SET note = 'mine' WHERE id = 1").await;
    let apply = scene.spawn(&["apply", "--cancel-blockers"]);
    let (output, _) = ended_within(Duration::from_secs(15), apply).await;
    let output = output.expect(0);
    assert!(
        output.stderr.contains(&format!("pid {pid} (postgres")),
        "{}",
        output.stderr
    );
    assert!(scene.events("blockers_cancelled").await >= 1);
    let error = client
        .batch_execute("COMMIT")
        .await
        .expect_err("it was ended");
    assert!(client.is_closed() || error.code().is_some(), "{error}");
    let mine: i64 = scene
        .one("SELECT count(*) FROM orders WHERE note = 'mine'")
        .await;
    assert_eq!(mine, 0);
}
