//! The server goes away: sessions ended, crashes, and down for long.

use std::time::{Duration, Instant};

use pgshift::demo::{Cluster, ClusterOptions, Search, StopMode};

use super::{Scene, TOTAL_CENTS, audit, ended_within, orders};
use crate::support::Db;

const ROWS: u32 = 120_000;

fn setup() -> String {
    format!("{}; {}", orders(ROWS), audit("orders"))
}

/// A primary of the test's own that keeps what it has committed.
pub(super) async fn durable(standbys: usize) -> Cluster {
    let binaries = Search::new()
        .env_dir(std::env::var_os("PGSHIFT_PG_BIN").map(Into::into))
        .find()
        .expect("PostgreSQL's programs");
    Cluster::start(ClusterOptions::new(binaries).standbys(standbys).settings(&[
        ("fsync", "on"),
        // As late as it may be: chunks are lost, and their checkpoints with them.
        ("wal_writer_delay", "1s"),
    ]))
    .await
    .expect("a cluster")
}

async fn scene(cluster: &Cluster, name: &str) -> Scene {
    let db = Db::create_on(&cluster.url("postgres"), name).await;
    db.execute(&setup()).await;
    Scene::on(db, TOTAL_CENTS)
}

async fn all_right(scene: &Scene) {
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.state().await, "ready");
    scene.nothing_redone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_are_made_anew() {
    let mut scene = Scene::new("outage_sessions", &setup(), TOTAL_CENTS).await;
    let load = scene.old_application(100, u64::from(ROWS));
    let apply = scene.spawn(&["apply", "--duty", "0.2", "--workers", "2"]);
    scene.backfilling().await;
    for _ in 0..5 {
        let time = scene.moment(50, 400);
        tokio::time::sleep(time).await;
        assert!(scene.in_backfill().await);
        let ended: i64 = scene
            .one(
                "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE application_name = 'pgshift' AND datname = current_database()",
            )
            .await;
        assert!(ended > 0);
        let chunks = scene.chunks().await;
        let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
        scene
            .until("chunks after the sessions were ended", &on)
            .await;
    }
    let output = apply.wait().await.expect(0);
    assert!(
        output.stderr.contains("the connection was lost"),
        "{}",
        output.stderr
    );
    load.stop().await.expect_no_error();
    all_right(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashing_server_is_waited_for() {
    let mut cluster = durable(0).await;
    let mut scene = scene(&cluster, "outage_crash").await;
    let load = scene.old_application(100, u64::from(ROWS));
    let mut apply = scene.spawn(&["apply", "--duty", "0.15", "--workers", "2"]);
    scene.backfilling().await;
    for fault in 0..4 {
        let time = scene.moment(100, 500);
        tokio::time::sleep(time).await;
        assert!(scene.in_backfill().await, "before fault {fault}");
        match fault {
            0 | 3 => cluster.stop(StopMode::Immediate).await.expect("a stop"),
            1 => cluster.kill_postmaster().await.expect("SIGKILL"),
            _ => {
                let chunk: i32 = scene
                    .one(
                        "SELECT pid FROM pg_stat_activity
                         WHERE application_name = 'pgshift' AND pid <> pg_backend_pid() LIMIT 1",
                    )
                    .await;
                cluster.primary().kill_backend(chunk).expect("SIGKILL");
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        cluster.start_again().await.expect("a start");
        assert!(apply.running(), "after fault {fault}");
        scene.reconnect(&cluster.url("postgres")).await;
        // What the crash took, it took with its checkpoints.
        scene.nothing_redone().await;
        let chunks = scene.chunks().await;
        let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
        scene.until("chunks after the crash", &on).await;
    }
    let (output, _) = ended_within(Duration::from_mins(1), apply).await;
    output.expect(0);
    let report = load.stop().await;
    assert!(report.done > 100, "{} statements", report.done);
    all_right(&scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stays_away_ends_the_run_and_a_resume_goes_on() {
    let mut cluster = durable(0).await;
    let scene = scene(&cluster, "outage_long").await;
    let apply = scene.spawn(&["apply", "--duty", "0.1", "--reconnect-budget", "3s"]);
    scene.backfilling().await;
    let begun = Instant::now();
    cluster.stop(StopMode::Fast).await.expect("a stop");
    let (output, _) = ended_within(Duration::from_secs(20), apply).await;
    let (output, took) = (output.expect(7), begun.elapsed());
    assert!(took > Duration::from_millis(2_500), "{took:?}");
    assert!(
        output.stderr.contains("pgshift resume"),
        "{}",
        output.stderr
    );
    // A resume finds no server either, and says so.
    scene.cli.run(&["resume"]).await.expect(7);
    cluster.start_again().await.expect("a start");
    scene.reconnect(&cluster.url("postgres")).await;
    assert_eq!(scene.state().await, "applying");
    scene.nothing_redone().await;
    scene.done(&["resume", "--duty", "100%"]).await;
    all_right(&scene).await;
}
