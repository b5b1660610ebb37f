//! Held: by a person, and by a standby that lags.

use std::time::{Duration, Instant};

use super::limits::cluster;
use super::{ID, Scene, TOTAL_CENTS, audit, ended_within, orders};
use crate::support::{Db, connect};

const ROWS: u32 = 100_000;

/// No chunk is committed for a while.
pub(super) async fn stands_still(scene: &Scene) {
    let before = scene.chunks().await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(scene.chunks().await, before, "chunks while held");
}

pub(super) async fn goes_on(scene: &Scene) {
    let chunks = scene.chunks().await;
    let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
    scene.until("chunks again", &on).await;
}

async fn waiting(scene: &Scene) -> String {
    let status = scene.done(&["status", ID, "--format", "json"]).await.json();
    status["migrations"][0]["run"]["waiting"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_until_a_resume_also_through_a_kill() {
    let setup = format!("{}; {}", orders(ROWS), audit("orders"));
    let scene = Scene::new("pause", &setup, TOTAL_CENTS).await;
    let apply = scene.spawn(&["apply", "--duty", "0.1"]);
    scene.backfilling().await;

    let pause = scene.spawn(&["pause", ID]);
    let who = format!("pid {}", pause.pid().expect("it runs"));
    pause.wait().await.expect(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    stands_still(&scene).await;
    let reason = waiting(&scene).await;
    assert!(
        reason.starts_with("paused by ") && reason.ends_with(&who),
        "{reason}"
    );

    // A resume elsewhere ends the pause and leaves the work to the live runner.
    let begun = Instant::now();
    scene.done(&["resume", ID]).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    goes_on(&scene).await;
    // What the runner says of itself comes with its heartbeats.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(waiting(&scene).await, "");
    assert_eq!(scene.one::<i64>("SELECT epoch FROM pgshift.run").await, 1);

    // Killed while paused: it stays paused until somebody resumes it.
    scene.done(&["pause", ID]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    apply.kill().await;
    let reason = waiting(&scene).await;
    assert!(reason.starts_with("paused by "), "{reason}");
    scene.done(&["resume", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.state().await, "ready");
    scene.nothing_redone().await;
    assert_eq!(scene.events("paused").await, 2);
    assert_eq!(scene.events("unpaused").await, 2);
    let held: i64 = scene
        .one(
            "SELECT count(*) FROM pgshift.event WHERE kind = 'released'
             AND detail->>'cause' = 'paused' AND (detail->>'held_ms')::int > 1000",
        )
        .await;
    assert_eq!(held, 1, "the time is accounted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_heard_while_held() {
    let scene = Scene::orders("pause_stop", ROWS).await;
    let apply = scene.spawn(&["apply", "--duty", "0.1"]);
    scene.backfilling().await;
    scene.done(&["pause", ID]).await;
    scene
        .until(
            "held",
            "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'held')",
        )
        .await;
    apply.interrupt();
    let (output, took) = ended_within(Duration::from_secs(10), apply).await;
    output.expect(5);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lags_holds_the_backfill() {
    let cluster = cluster(1, &[]).await;
    let db = Db::create_on(&cluster.url("postgres"), "lag").await;
    db.execute(&orders(ROWS)).await;
    let scene = Scene::on(db, TOTAL_CENTS);
    cluster.catch_up(0).await.expect("the standby");
    let standby = connect(&cluster.standby_url(0, "postgres"))
        .await
        .expect("the standby");
    let apply = scene.spawn(&["apply", "--duty", "0.05", "--max-lag", "2s"]);
    scene.backfilling().await;

    standby
        .batch_execute("SELECT pg_wal_replay_pause()")
        .await
        .expect("a pause");
    let held = "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'held'
                    AND detail->>'reason' LIKE 'replica\\_lag(standby1) %')";
    let after = scene
        .until_within(Duration::from_secs(10), "the hold", held)
        .await;
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(5)).contains(&after),
        "{after:?}"
    );
    assert!(scene.in_backfill().await);
    stands_still(&scene).await;
    let reason = waiting(&scene).await;
    assert!(reason.contains("standby1"), "{reason}");

    standby
        .batch_execute("SELECT pg_wal_replay_resume()")
        .await
        .expect("a resume");
    goes_on(&scene).await;
    assert_eq!(scene.events("released").await, 1);
    apply.interrupt();
    apply.wait().await.expect(5);
    scene.done(&["resume", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
}
