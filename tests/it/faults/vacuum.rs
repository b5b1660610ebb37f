//! VACUUM on the way: the table stays small, and a VACUUM under way is in nobody's way.

use std::time::{Duration, Instant};

use pgshift::demo::Cluster;
use pgshift::pg::probes;

use super::limits::cluster;
use super::pause::stands_still;
use super::striped::{grown, quiet_orders, with_options};
use super::{ID, Scene, TOTAL_CENTS};
use crate::support::Db;

/// Autovacuum's pace, which ours keeps to below full duty: a block or so in 100 ms.
const SLOW: [(&str, &str); 2] = [
    ("autovacuum_vacuum_cost_delay", "100ms"),
    ("autovacuum_vacuum_cost_limit", "1"),
];
const VACUUMING: &str =
    "SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = 'orders'::regclass)";

/// A backfill of which VACUUM takes the most time, several times.
async fn slow() -> (Cluster, Scene) {
    let server = cluster(0, &SLOW).await;
    let db = Db::create_on(&server.url("postgres"), "vacuum").await;
    db.execute(&quiet_orders()).await;
    let scene = Scene::on(db, &with_options("stripes=1 vacuum=20%"));
    (server, scene)
}

/// Its output tells of one event each line.
fn vacuumed(output: &str) -> Vec<bool> {
    output
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["event"] == "vacuumed")
        .map(|event| event["done"].as_bool().expect("done"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_table_small() {
    let mut after = Vec::new();
    for (name, options) in [
        ("vacuum_off", "stripes=1 vacuum=off"),
        ("vacuum_five", "stripes=1 vacuum=5%"),
        ("vacuum_chosen", "stripes=1"),
        ("vacuum_workers", "stripes=1 vacuum=5% workers=2"),
        ("vacuum_keys", "strategy=keyset vacuum=5%"),
        ("vacuum_striped", "stripes=4 vacuum=10%"),
    ] {
        let scene = Scene::new(name, &quiet_orders(), &with_options(options)).await;
        let [before, grown] = grown(&scene).await;
        after.push(grown as f64 / before as f64);
        assert_eq!(scene.events("pruning_held").await, 0, "{options}");
    }
    assert!(after[0] > 1.8, "{after:?}");
    // A chunk of the other worker may put one off.
    assert!(after[1..].iter().all(|grown| *grown < 1.6), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_its_lock_ends_it() {
    let (_server, scene) = slow().await;
    let apply = scene.spawn(&["apply", "--format", "json"]);
    scene.until("a VACUUM", VACUUMING).await;
    let other = scene.db.client().await;
    let begun = Instant::now();
    other
        .batch_execute("ALTER TABLE orders ALTER COLUMN note SET STATISTICS 10")
        .await
        .expect("it is let through");
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    // The next ones would take their time too.
    apply.interrupt();
    let output = apply.wait().await.expect(5);
    assert!(
        vacuumed(&output.stdout).contains(&false),
        "{}",
        output.stdout
    );
    scene.done(&["resume", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_it_does_not_end_the_run() {
    let (_server, scene) = slow().await;
    let apply = scene.spawn(&["apply", "--format", "json"]);
    scene.until("a VACUUM", VACUUMING).await;
    scene
        .db
        .execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum
             WHERE relid = 'orders'::regclass",
        )
        .await;
    let none = VACUUMING.replace("EXISTS", "NOT EXISTS");
    scene.until("the end of the VACUUM", &none).await;
    scene.until("the next VACUUM", VACUUMING).await;
    apply.interrupt();
    let output = apply.wait().await.expect(5);
    assert!(
        vacuumed(&output.stdout).contains(&false),
        "{}",
        output.stdout
    );
    scene.done(&["resume", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_ends_it_and_so_does_ctrl_c() {
    let (_server, scene) = slow().await;
    let apply = scene.spawn(&["apply"]);
    scene.until("a VACUUM", VACUUMING).await;
    scene.done(&["pause", ID]).await;
    let none = VACUUMING.replace("EXISTS", "NOT EXISTS");
    scene
        .until_within(Duration::from_secs(5), "the end of the VACUUM", &none)
        .await;
    stands_still(&scene).await;
    apply.interrupt();
    apply.wait().await.expect(5);
    let again = scene.spawn(&["resume"]);
    scene.until("a VACUUM", VACUUMING).await;
    let begun = Instant::now();
    again.interrupt();
    again.wait().await.expect(5);
    assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
    scene.until("the end of the VACUUM", &none).await;
    // At full duty it goes at full speed.
    scene.done(&["resume", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.state().await, "ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_says_what_it_waits_for() {
    let (_server, scene) = slow().await;
    let apply = scene.spawn(&["apply"]);
    scene.until("a VACUUM", VACUUMING).await;
    scene
        .until(
            "the reason",
            "SELECT EXISTS (SELECT FROM pgshift.lease
             WHERE progress->>'waiting' = 'VACUUM of public.orders')",
        )
        .await;
    apply.kill().await;
    // The server notices within a second; until then the next run leaves its own out.
    scene.done(&["resume", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_makes_it_useless() {
    let options = "stripes=1 vacuum=5%";
    let scene = Scene::new("vacuum_held", &quiet_orders(), &with_options(options)).await;
    let other = scene.db.client().await;
    other
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        .await
        .expect("a snapshot");
    let output = scene
        .done(&["apply", "--duty", "100%", "--format", "json"])
        .await;
    assert_eq!(vacuumed(&output.stdout), Vec::<bool>::new());
    assert_eq!(scene.events("pruning_held").await, 1);
    assert_eq!(scene.wrong_orders().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plan_knows_who_may() {
    let scene = Scene::new("vacuum_rights", &quiet_orders(), TOTAL_CENTS).await;
    let client = scene.db.client().await;
    let oid: u32 = scene.one("SELECT 'orders'::regclass::oid").await;
    let role = format!("{}_role", scene.db.name());
    let barred = async || {
        let barred = probes::not_vacuumed(&client, &[oid]).await;
        barred.expect("an answer").contains(&oid)
    };
    assert!(!barred().await);
    client
        .batch_execute(&format!("CREATE ROLE {role}; SET ROLE {role}"))
        .await
        .expect("a role");
    assert!(barred().await);
    let major: i32 = scene
        .one("SELECT current_setting('server_version_num')::int / 10000")
        .await;
    let grant = if major >= 17 {
        format!("GRANT MAINTAIN ON orders TO {role}")
    } else {
        format!("ALTER TABLE orders OWNER TO {role}")
    };
    client
        .batch_execute(&format!("RESET ROLE; {grant}; SET ROLE {role}"))
        .await
        .expect(&grant);
    assert!(!barred().await);
    client
        .batch_execute(&format!("RESET ROLE; ALTER TABLE orders OWNER TO current_user; DROP OWNED BY {role}; DROP ROLE {role}"))
        .await
        .expect("gone");
}
