//! A logical slot that nobody reads: the backfill stops before the slot's WAL is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::limits::{cluster, held_by, released};
use super::pause::{goes_on, stands_still};
use super::{ID, Scene, TOTAL_CENTS, orders};
use crate::support::{Db, Workload};

const ROWS: u32 = 100_000;
const MIB: i64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_logical_slot_that_nobody_reads_is_never_lost() {
    // Checkpoints every 32 MiB: they are what drops a slot past its end.
    let cluster = cluster(
        0,
        &[
            ("wal_level", "logical"),
            ("max_slot_wal_keep_size", "160MB"),
            ("max_wal_size", "32MB"),
            ("min_wal_size", "32MB"),
        ],
    )
    .await;
    let db = Db::create_on(&cluster.url("postgres"), "logical_slot").await;
    db.execute(&orders(ROWS)).await;
    let scene = Scene::on(db, TOTAL_CENTS);
    scene.db.execute("CHECKPOINT").await;
    scene
        .db
        .execute("SELECT pg_create_logical_replication_slot('unread', 'pgoutput')")
        .await;
    let apply = scene.spawn(&[
        "apply",
        "--duty",
        "0.05",
        "--throttle",
        "min-slot-headroom=96MiB",
    ]);
    scene.backfilling().await;
    assert_eq!(scene.events("held").await, 0);

    // The application writes 10 MiB of WAL a second until the backfill stands.
    let load = Workload::start(&scene.db.url(), 2, 20, |_| {
        "SELECT pg_logical_emit_message(false, 'load', repeat('x', 512 * 1024))".to_owned()
    });
    let least = Arc::new(AtomicI64::new(i64::MAX));
    let watch = tokio::spawn({
        let (client, least) = (scene.db.client().await, least.clone());
        async move {
            let sql = "SELECT safe_wal_size FROM pg_replication_slots WHERE slot_name = 'unread'";
            while let Ok(Some(row)) = client.query_opt(sql, &[]).await {
                // Null once the slot is lost.
                least.fetch_min(row.get::<_, Option<i64>>(0).unwrap_or(0), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    let reason = held_by(&scene, "slot_headroom", 30).await;
    assert!(reason.starts_with("slot_headroom(unread) "), "{reason}");
    load.stop().await.expect_no_error();
    assert!(scene.in_backfill().await, "held in the middle");

    // The WAL of a run that is held would not reach the slot's end in an hour.
    let position = "SELECT (pg_current_wal_lsn() - '0/0')::bigint";
    let before: i64 = scene.one(position).await;
    stands_still(&scene).await;
    let written = scene.one::<i64>(position).await - before;
    assert!(written < MIB / 10, "{written} bytes in 1.2 s");
    scene.db.execute("CHECKPOINT").await;
    let status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'unread'";
    let status: String = scene.one(status).await;
    assert!(["reserved", "extended"].contains(&&*status), "{status}");
    // Half a second of load and one chunk past the limit, no more.
    let least = least.load(Ordering::Relaxed);
    assert!(least > 64 * MIB, "{least}");

    scene
        .db
        .execute("SELECT pg_drop_replication_slot('unread')")
        .await;
    watch.await.expect("the watch");
    released(&scene, "slot_headroom").await;
    goes_on(&scene).await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}

/// Without anybody else's writes: what the backfill itself writes is enough to lose the slot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wal_of_a_backfill_does_not_lose_a_slot() {
    let cluster = cluster(
        0,
        &[
            ("wal_level", "logical"),
            ("max_slot_wal_keep_size", "32MB"),
            ("max_wal_size", "32MB"),
            ("min_wal_size", "32MB"),
        ],
    )
    .await;
    let db = Db::create_on(&cluster.url("postgres"), "own_wal").await;
    // 60 MiB of rows, each written once again.
    db.execute(&orders(ROWS)).await;
    db.execute("UPDATE orders SET note = repeat('n', 500)")
        .await;
    db.execute("CHECKPOINT").await;
    let scene = Scene::on(db, TOTAL_CENTS);
    scene
        .db
        .execute("SELECT pg_create_logical_replication_slot('unread', 'pgoutput')")
        .await;
    scene.done(&["init"]).await;
    let apply = scene.spawn(&[
        "apply",
        "--duty",
        "100%",
        "--throttle",
        "min-slot-headroom=16MiB",
    ]);
    let reason = held_by(&scene, "slot_headroom", 30).await;
    assert!(reason.starts_with("slot_headroom(unread) "), "{reason}");
    assert!(scene.in_backfill().await);
    stands_still(&scene).await;
    scene.db.execute("CHECKPOINT").await;
    let status: String = scene
        .one("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'unread'")
        .await;
    assert!(["reserved", "extended"].contains(&&*status), "{status}");
    scene
        .db
        .execute("SELECT pg_drop_replication_slot('unread')")
        .await;
    released(&scene, "slot_headroom").await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}
