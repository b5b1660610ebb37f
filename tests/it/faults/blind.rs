//! The probes lose sight of the server: their session is ended, no new one can be had, their
//! connection goes silent, what they read is locked. Each holds the backfill and passes by itself.

use std::time::{Duration, Instant};

use super::limits::{cluster, held_by, released};
use super::pause::{goes_on, stands_still};
use super::{ID, Scene, TOTAL_CENTS, orders};
use crate::support::{Cli, Db, Network};

const ROWS: u32 = 100_000;
/// The longest from the loss to the hold.
const SOON: Duration = Duration::from_secs(2);

/// Who takes the readings: the session whose last statement is one of theirs.
const PROBES: &str = "SELECT pid FROM pg_stat_activity
    WHERE application_name = 'pgshift' AND datname = current_database()
      AND query ~ 'ours AS MATERIALIZED|pg_stat_replication|pg_replication_slots|pgshift.override'";

/// The process of the session that takes the readings, none of those `before`.
async fn probes(scene: &Scene, before: &[i32]) -> i32 {
    let begun = Instant::now();
    loop {
        let pids: Vec<i32> = scene.rows(PROBES).await;
        if let Some(pid) = pids.iter().find(|pid| !before.contains(pid)) {
            return *pid;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no probes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn end(scene: &Scene, pid: i32) {
    let ended: bool = scene
        .one(&format!("SELECT pg_terminate_backend({pid})"))
        .await;
    assert!(ended);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_session_of_the_probes_is_made_anew() {
    let cluster = cluster(0, &[]).await;
    let db = Db::create_on(&cluster.url("postgres"), "probes_ended").await;
    db.execute(&orders(ROWS)).await;
    let name = db.name().to_owned();
    let scene = Scene::on(db, TOTAL_CENTS);
    let admin = crate::support::connect(&cluster.url("postgres"))
        .await
        .expect("a session of another database");
    let apply = scene.spawn(&["apply", "--duty", "0.05"]);
    scene.backfilling().await;

    // Ended while a new one can be had: at most held for an instant.
    for _ in 0..3 {
        let pid = probes(&scene, &[]).await;
        end(&scene, pid).await;
        let begun = Instant::now();
        probes(&scene, &[pid]).await;
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        goes_on(&scene).await;
    }

    // Ended while no new one can be had.
    let allow = |allowed| format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}");
    let pid = probes(&scene, &[]).await;
    let before = scene.events("held").await;
    admin.batch_execute(&allow(false)).await.expect("closed");
    end(&scene, pid).await;
    let held = format!(
        "SELECT count(*) > {before} AND (array_agg(detail->>'cause' ORDER BY seq DESC))[1] = 'blind'
         FROM pgshift.event WHERE kind = 'held'"
    );
    scene.until_within(SOON, "the hold", &held).await;
    stands_still(&scene).await;
    let reason: String = scene
        .one(
            "SELECT detail->>'reason' FROM pgshift.event WHERE kind = 'held'
             ORDER BY seq DESC LIMIT 1",
        )
        .await;
    assert!(
        reason.starts_with("server cannot be read: ") && reason.contains("not currently accepting"),
        "{reason}"
    );
    admin.batch_execute(&allow(true)).await.expect("open");
    goes_on(&scene).await;
    // The run itself lost nothing.
    assert_eq!(scene.one::<i64>("SELECT epoch FROM pgshift.run").await, 1);
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_of_the_probes_holds_and_is_given_up() {
    let mut cluster = cluster(0, &[]).await;
    let network = Network::before(cluster.primary().port()).await;
    let db = Db::create_on(&cluster.url("postgres"), "silent").await;
    db.execute(&orders(ROWS)).await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable&connect_timeout=2",
        network.port(),
        db.name()
    );
    let mut scene = Scene::on(db, TOTAL_CENTS);
    scene.cli = Cli::new(&scene.db).env("DATABASE_URL", &url);
    scene.cli.migration(ID, TOTAL_CENTS);
    let apply = scene.spawn(&["apply", "--duty", "0.05"]);
    scene.backfilling().await;
    let port = async |pid: i32| -> i32 {
        let port = format!("SELECT client_port FROM pg_stat_activity WHERE pid = {pid}");
        scene.one(&port).await
    };

    // It is given up and made anew before its last readings are too old, or soon after.
    let first = probes(&scene, &[]).await;
    let begun = Instant::now();
    network.silence(port(first).await);
    let second = probes(&scene, &[first]).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    goes_on(&scene).await;

    // New ones are silent too.
    let held = "SELECT count(*) FROM pgshift.event
                WHERE kind = 'held' AND detail->>'cause' = 'blind'";
    let before: i64 = scene.one(held).await;
    network.close(true);
    let begun = Instant::now();
    network.silence(port(second).await);
    let again = held.replacen("count(*)", &format!("count(*) > {before}"), 1);
    scene.until_within(SOON, "the hold", &again).await;
    let reason: String = scene
        .one(
            "SELECT detail->>'reason' FROM pgshift.event WHERE kind = 'held'
             ORDER BY seq DESC LIMIT 1",
        )
        .await;
    assert!(reason.contains(" cannot be read: "), "{reason}");
    stands_still(&scene).await;
    assert!(begun.elapsed() > Duration::from_secs(1));
    network.close(false);
    let begun = Instant::now();
    // The server has not missed the first two yet.
    probes(&scene, &[first, second]).await;
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    goes_on(&scene).await;
    let while_blind: i64 = scene
        .one(
            "SELECT count(*) FROM pgshift.checkpoint c, pgshift.event held, pgshift.event released
             WHERE held.kind = 'held' AND released.kind = 'released'
               AND released.seq = (SELECT min(seq) FROM pgshift.event e
                                   WHERE e.kind = 'released' AND e.seq > held.seq)
               AND c.updated_at BETWEEN held.at AND released.at",
        )
        .await;
    assert_eq!(
        while_blind, 0,
        "the last chunk is from a time that was not blind"
    );
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.one::<i64>("SELECT epoch FROM pgshift.run").await, 1);
}

/// What waits for a lock and was given up must not stay there, and one more every second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_overrides_hold_and_connections_do_not_pile_up() {
    let scene = Scene::orders("locked_overrides", ROWS).await;
    let apply = scene.spawn(&["apply", "--duty", "0.05"]);
    scene.backfilling().await;
    let others = scene.db.client().await;
    others
        .batch_execute("BEGIN; LOCK TABLE pgshift.override")
        .await
        .expect("the lock");
    let begun = Instant::now();
    held_by(&scene, "blind", 5).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let mut most = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        let ours: i64 = scene
            .one(
                "SELECT count(*) FROM pg_stat_activity
                 WHERE application_name = 'pgshift' AND datname = current_database()",
            )
            .await;
        most = ours.max(most);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Lease, steps, worker, probes; and one that ends.
    assert!(most <= 5, "{most} connections");
    others.batch_execute("COMMIT").await.expect("the end");
    released(&scene, "blind").await;
    goes_on(&scene).await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}
