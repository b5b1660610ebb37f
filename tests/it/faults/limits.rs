//! Limits of the throttle on real servers: set while it runs, hours, slots, connections, a standby
//! that vanishes; and what `doctor` says.

use std::time::Duration;

use pgshift::demo::{Cluster, ClusterOptions, Search, StopMode};

use super::{ID, Scene, TOTAL_CENTS, orders};
use crate::support::Db;

const ROWS: u32 = 100_000;

/// Waits for a hold by this cause and gives its reason.
pub(super) async fn held_by(scene: &Scene, cause: &str, within: u64) -> String {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'held'
                        AND detail->>'cause' = '{cause}')"
    );
    scene
        .until_within(Duration::from_secs(within), cause, &sql)
        .await;
    scene
        .one::<String>(&format!(
            "SELECT detail->>'reason' FROM pgshift.event
             WHERE kind = 'held' AND detail->>'cause' = '{cause}' LIMIT 1"
        ))
        .await
}

pub(super) async fn released(scene: &Scene, cause: &str) {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'released'
                        AND detail->>'cause' = '{cause}')"
    );
    scene.until("the release", &sql).await;
}

pub(super) async fn cluster(standbys: usize, settings: &[(&str, &str)]) -> Cluster {
    let binaries = Search::new()
        .env_dir(std::env::var_os("PGSHIFT_PG_BIN").map(Into::into))
        .find()
        .expect("PostgreSQL's programs");
    let options = ClusterOptions::new(binaries)
        .standbys(standbys)
        .settings(&[("fsync", "off")])
        .settings(settings);
    Cluster::start(options).await.expect("a cluster")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_set_while_it_runs_and_expire() {
    let scene = Scene::orders("limits_live", ROWS).await;
    let apply = scene.spawn(&["apply", "--duty", "0.1"]);
    scene.backfilling().await;
    // A window that is closed now, for a short time.
    let closed: String = scene
        .one(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '2 hours', 'HH24:MI')
                 || '-' ||
                 to_char(clock_timestamp() AT TIME ZONE 'UTC' + interval '3 hours', 'HH24:MI')",
        )
        .await;
    let window = format!("run-between={closed}");
    scene
        .done(&["throttle", "set", ID, &window, "--for", "3s"])
        .await;
    let shown = scene.done(&["throttle", "show", ID]).await.stdout;
    assert!(
        shown.contains(&closed) && shown.contains(" until "),
        "{shown}"
    );
    let reason = held_by(&scene, "closed", 2).await;
    assert!(reason.contains("outside of its hours"), "{reason}");
    // It expires by itself.
    released(&scene, "closed").await;
    scene
        .done(&["throttle", "set", ID, "duty=100%", "max-lag=off"])
        .await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.events("limit_set").await, 3);
    let cleared = scene.done(&["throttle", "clear", ID]).await.stderr;
    assert!(
        cleared.contains("duty") && cleared.contains("max-lag"),
        "{cleared}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_cannot_be_is_refused_before_anything_starts() {
    let scene = Scene::orders("limits_wrong", 10).await;
    for wrong in [
        "max-lagg=5s",
        "max-lag=5",
        "duty=0",
        "min-free-connections=0",
    ] {
        scene
            .cli
            .run(&["apply", "--throttle", wrong])
            .await
            .expect(2);
    }
    scene
        .cli
        .file("pgshift.toml", "[throttle]\nmax-lag = \"soon\"\n");
    let refused = scene.cli.run(&["apply"]).await.expect(2);
    assert!(
        refused.stderr.contains("pgshift.toml:"),
        "{}",
        refused.stderr
    );
    let none: Option<String> = scene.one("SELECT to_regclass('pgshift.run')::text").await;
    assert_eq!(none, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_run_out_hold() {
    let scene = Scene::orders("limits_connections", ROWS).await;
    let apply = scene.spawn(&["apply", "--duty", "0.1"]);
    scene.backfilling().await;
    // As many as there are now, and two more.
    scene
        .db
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT %s',
                 current_database(),
                 2 + (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()));
             END $$",
        )
        .await;
    let reason = held_by(&scene, "connections_free", 5).await;
    assert!(reason.starts_with("connections_free "), "{reason}");
    scene
        .db
        .execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT -1',
                 current_database()); END $$",
        )
        .await;
    released(&scene, "connections_free").await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_nobody_reads_holds_before_it_is_lost() {
    let cluster = cluster(0, &[("max_slot_wal_keep_size", "64MB")]).await;
    let db = Db::create_on(&cluster.url("postgres"), "slot").await;
    db.execute(&orders(ROWS)).await;
    db.execute("SELECT pg_create_physical_replication_slot('forgotten', true)")
        .await;
    let scene = Scene::on(db, TOTAL_CENTS);
    // More than is safe from the beginning on: held at the first chunk, not after the loss.
    scene.done(&["init"]).await;
    let apply = scene.spawn(&["apply", "--throttle", "min-slot-headroom=1GiB"]);
    let reason = held_by(&scene, "slot_headroom", 20).await;
    assert!(reason.starts_with("slot_headroom(forgotten) "), "{reason}");
    let status: String = scene
        .one("SELECT wal_status FROM pg_replication_slots")
        .await;
    assert_ne!(status, "lost");
    let doctor = scene.cli.run(&["doctor"]).await;
    assert_eq!(doctor.code, Some(1), "{}", doctor.stdout);
    assert!(
        doctor.stdout.contains("slot_headroom(forgotten)"),
        "{}",
        doctor.stdout
    );
    scene
        .db
        .execute("SELECT pg_drop_replication_slot('forgotten')")
        .await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
    scene.done(&["doctor"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_vanishes_is_missed() {
    let mut cluster = cluster(1, &[]).await;
    let db = Db::create_on(&cluster.url("postgres"), "vanished").await;
    db.execute(&orders(ROWS)).await;
    let scene = Scene::on(db, TOTAL_CENTS);
    cluster.catch_up(0).await.expect("the standby");
    let apply = scene.spawn(&["apply", "--duty", "0.05"]);
    scene.backfilling().await;
    // Idle standbys do not hold.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(scene.events("held").await, 0);
    cluster
        .standby(0)
        .stop(StopMode::Immediate)
        .await
        .expect("stopped");
    let reason = held_by(&scene, "blind", 10).await;
    assert!(
        reason.contains("replica_lag(standby1)") && reason.contains("gone"),
        "{reason}"
    );
    scene
        .done(&[
            "throttle",
            "set",
            ID,
            "ignore-standbys=standby1",
            "duty=100%",
        ])
        .await;
    released(&scene, "blind").await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}
