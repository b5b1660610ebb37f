//! Standbys that fall behind, one of several; and idle ones, which do not.

use std::time::{Duration, Instant};

use pgshift::demo::Cluster;
use tokio_postgres::Client;

use super::limits::{cluster, held_by, released};
use super::pause::{goes_on, stands_still};
use super::{ID, Scene, TOTAL_CENTS, orders};
use crate::support::{Db, connect, message};

const ROWS: u32 = 100_000;

async fn scene(cluster: &Cluster, name: &str) -> Scene {
    let db = Db::create_on(&cluster.url("postgres"), name).await;
    db.execute(&orders(ROWS)).await;
    Scene::on(db, TOTAL_CENTS)
}

/// A session on a standby.
async fn on_standby(cluster: &Cluster, i: usize, db: &str) -> Client {
    let url = cluster.standby_url(i, db);
    connect(&url).await.expect("a session on the standby")
}

async fn run(client: &Client, sql: &str) {
    if let Err(e) = client.batch_execute(sql).await {
        panic!("{}\n  in: {sql}", message(&e));
    }
}

/// Lets a standby apply commits this much later than they were made.
async fn apply_delay(standby: &Client, delay: &str) {
    let set = format!("ALTER SYSTEM SET recovery_min_apply_delay = '{delay}'");
    run(standby, &set).await;
    run(standby, "SELECT pg_reload_conf()").await;
}

/// The reasons of all holds.
async fn reasons(scene: &Scene) -> Vec<String> {
    scene
        .rows("SELECT detail->>'reason' FROM pgshift.event WHERE kind = 'held' ORDER BY seq")
        .await
}

/// The figure of `replica_lag(NAME) 1.2s >= 1.0s`, in seconds.
fn figure(reason: &str, standby: &str) -> f64 {
    reason
        .strip_prefix(&format!("replica_lag({standby}) "))
        .and_then(|rest| rest.split_once("s >= "))
        .and_then(|(figure, _)| figure.parse().ok())
        .unwrap_or_else(|| panic!("no figure of {standby}: {reason}"))
}

/// The table is right, and the same on every server.
async fn same_everywhere(scene: &Scene, cluster: &Cluster, standbys: usize) {
    assert_eq!(scene.wrong_orders().await, 0);
    let sum = "SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM orders o";
    let here: String = scene.one(sum).await;
    for i in 0..standbys {
        cluster.catch_up(i).await.expect("the standby");
        let there: String = on_standby(cluster, i, scene.db.name())
            .await
            .query_one(sum, &[])
            .await
            .expect("the standby's rows")
            .get(0);
        assert_eq!(there, here, "standby {i}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_standbys_that_stops_replaying_holds_by_name() {
    let cluster = cluster(2, &[]).await;
    let scene = scene(&cluster, "one_of_two").await;
    cluster.catch_up(0).await.expect("standby1");
    cluster.catch_up(1).await.expect("standby2");
    let standby = on_standby(&cluster, 1, "postgres").await;
    let load = scene.old_application(50, u64::from(ROWS));
    let apply = scene.spawn(&["apply", "--duty", "0.05", "--max-lag", "1s"]);
    scene.backfilling().await;
    // Time enough for readings of a standby that keeps up.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(reasons(&scene).await, Vec::<String>::new());

    let begun = Instant::now();
    run(&standby, "SELECT pg_wal_replay_pause()").await;
    let reason = held_by(&scene, "replica_lag", 10).await;
    let after = begun.elapsed();
    // 2 s from the moment at which the lag passed its limit of 1 s.
    assert!(after < Duration::from_secs(3), "{after:?}");
    assert!(figure(&reason, "standby2") >= 1.0, "{reason}");
    assert!(scene.in_backfill().await);
    stands_still(&scene).await;

    run(&standby, "SELECT pg_wal_replay_resume()").await;
    released(&scene, "replica_lag").await;
    goes_on(&scene).await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    load.stop().await.expect_no_error();
    let all = reasons(&scene).await;
    assert!(all.iter().all(|r| r.contains("standby2")), "{all:?}");
    same_everywhere(&scene, &cluster, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_standby_holds_unless_it_is_ignored() {
    let cluster = cluster(2, &[]).await;
    let scene = scene(&cluster, "delayed").await;
    let standby = on_standby(&cluster, 0, "postgres").await;
    cluster.catch_up(0).await.expect("standby1");
    apply_delay(&standby, "4s").await;
    let load = scene.old_application(50, u64::from(ROWS));
    let apply = scene.spawn(&[
        "apply",
        "--duty",
        "0.05",
        "--max-lag",
        "1s",
        "--throttle",
        "ignore-standbys=standby1",
    ]);
    scene.backfilling().await;
    let behind = "SELECT EXISTS (SELECT FROM pg_stat_replication
                    WHERE application_name = 'standby1' AND replay_lag > interval '2 s')";
    scene.until("the delay", behind).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(reasons(&scene).await, Vec::<String>::new());

    let begun = Instant::now();
    scene
        .done(&["throttle", "set", ID, "ignore-standbys=off"])
        .await;
    let reason = held_by(&scene, "replica_lag", 10).await;
    let after = begun.elapsed();
    assert!(after < Duration::from_secs(2), "{after:?}");
    assert!(figure(&reason, "standby1") >= 2.0, "{reason}");
    stands_still(&scene).await;

    apply_delay(&standby, "0").await;
    released(&scene, "replica_lag").await;
    goes_on(&scene).await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    load.stop().await.expect_no_error();
    let all = reasons(&scene).await;
    assert!(all.iter().all(|r| r.contains("standby1")), "{all:?}");
    same_everywhere(&scene, &cluster, 2).await;
}

/// What moves the log of an idle server: pgshift's heartbeats, checkpoints, records of running
/// transactions (every 15 s), VACUUM, a forced switch of segments, and a transaction that wrote
/// something and then sleeps: its record may cross a page that is flushed and one that is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_standby_never_holds() {
    let cluster = cluster(1, &[("wal_receiver_status_interval", "10s")]).await;
    let scene = scene(&cluster, "idle_standby").await;
    cluster.catch_up(0).await.expect("the standby");
    let apply = scene.spawn(&["apply", "--duty", "0.01", "--max-lag", "2s"]);
    scene.backfilling().await;
    let others = scene.db.client().await;
    let begun = Instant::now();
    let working = Duration::from_secs(30);
    for n in 0_u32..10 {
        tokio::time::sleep_until((begun + working * n / 10).into()).await;
        match n % 4 {
            1 => run(&others, "CHECKPOINT").await,
            2 => run(&others, "SELECT pg_switch_wal()").await,
            3 => run(&others, "VACUUM pg_class").await,
            _ => {}
        }
    }
    assert!(scene.in_backfill().await, "it was at work all the time");
    assert_eq!(reasons(&scene).await, Vec::<String>::new());

    // Held by another limit, only just passed: a lagging standby would be the worse one.
    let free: i64 = scene
        .one(
            "SELECT current_setting('max_connections')::int
                 - current_setting('superuser_reserved_connections')::int
                 - (SELECT sum(numbackends) FROM pg_stat_database)",
        )
        .await;
    let limit = format!("min-free-connections={}", free + 1);
    scene.done(&["throttle", "set", ID, &limit]).await;
    held_by(&scene, "connections_free", 5).await;
    run(
        &others,
        "CREATE TABLE idle AS SELECT n, repeat('x', 300) FROM generate_series(1, 100) n;
         BEGIN; INSERT INTO idle SELECT n, repeat('y', 300) FROM generate_series(1, 500) n",
    )
    .await;
    stands_still(&scene).await;
    tokio::time::sleep(Duration::from_secs(28)).await;
    let all = reasons(&scene).await;
    assert!(
        all.iter().all(|r| r.starts_with("connections_free ")),
        "{all:?}"
    );
    run(&others, "ROLLBACK").await;
    scene
        .done(&["throttle", "set", ID, "min-free-connections=off"])
        .await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    same_everywhere(&scene, &cluster, 1).await;
}
