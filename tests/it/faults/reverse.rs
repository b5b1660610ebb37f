//! What the new application version wrote is in the old columns after a revert.

use super::{Scene, scatter};
use crate::support::{Report, Workload};

const ROWS: u32 = 20_000;

/// Writes of the new application version, each with a note of what it wrote last, in the order in
/// which the row had it.
fn new_application(scene: &Scene) -> Workload {
    Workload::start(&scene.db.url(), 3, 150, |n| {
        let id = scatter(n, u64::from(ROWS));
        let write = match n % 4 {
            0 => format!("INSERT INTO orders (customer, total_cents) VALUES ({id}, {n} + 7)"),
            1 => format!("UPDATE orders SET note = 'new {n}' WHERE id = {id}"),
            _ => format!("UPDATE orders SET total_cents = {n} + 1000000 WHERE id = {id}"),
        };
        format!(
            "WITH w AS ({write} RETURNING id, total_cents)
             INSERT INTO written (id, cents) SELECT id, total_cents FROM w"
        )
    })
}

/// Every error is of the column that is gone.
fn only_after_the_column_was_gone(report: &Report) {
    let other = report.errors.iter().find(|e| !e.contains("42703"));
    assert_eq!(other, None, "of {} errors", report.errors.len());
    assert!(report.done > 100, "{} statements", report.done);
}

async fn kept(scene: &Scene) {
    let written: i64 = scene.one("SELECT count(DISTINCT id) FROM written").await;
    assert!(written > 50, "{written} rows written");
    let lost: i64 = scene
        .one(
            "WITH last AS (SELECT DISTINCT ON (id) id, cents FROM written ORDER BY id, seq DESC)
             SELECT count(*) FROM last LEFT JOIN orders USING (id)
             WHERE orders.total IS DISTINCT FROM cents / 100.0",
        )
        .await;
    assert_eq!(lost, 0, "of {written} rows");
    let moved: i64 = scene
        .one(
            "SELECT count(*) FROM orders LEFT JOIN written USING (id)
             WHERE written.id IS NULL AND orders.total <> (orders.id % 100000) / 100.0",
        )
        .await;
    assert_eq!(moved, 0, "rows that nobody wrote changed");
}

async fn scene(name: &str) -> Scene {
    let scene = Scene::orders(name, ROWS).await;
    scene
        .db
        .execute(
            "CREATE TABLE written (seq bigint GENERATED ALWAYS AS IDENTITY, id bigint, cents bigint)",
        )
        .await;
    scene
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_after_ready_survive_a_revert() {
    let scene = scene("reverse_ready").await;
    let before = scene.db.schema().await;
    scene.done(&["apply", "--duty", "100%"]).await;
    let load = new_application(&scene);
    load.reach(300).await;
    scene.done(&["revert", super::ID]).await;
    only_after_the_column_was_gone(&load.stop().await);
    kept(&scene).await;
    assert_eq!(scene.db.schema().await, before);
    assert_eq!(scene.state().await, "reverted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_before_and_after_contract_survive_a_revert() {
    let scene = scene("reverse_contract").await;
    let before = scene.db.schema().await;
    scene.done(&["apply", "--duty", "100%"]).await;
    let load = new_application(&scene);
    load.reach(150).await;
    scene.done(&["contract", super::ID]).await;
    load.reach(load.sent() + 200).await;
    // Back to READY, and forth again: both versions can be there.
    scene.done(&["revert", super::ID, "--to", "ready"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
    load.reach(load.sent() + 100).await;
    scene.done(&["contract", super::ID]).await;
    load.reach(load.sent() + 100).await;
    assert_eq!(load.sent(), load.sent().max(550));
    scene.done(&["revert", super::ID]).await;
    only_after_the_column_was_gone(&load.stop().await);
    kept(&scene).await;
    assert_eq!(scene.db.schema().await, before);
}
