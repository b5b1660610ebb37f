//! Connections run out: pgshift needs few, takes the last free one never, and waits for others to
//! go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pgshift::demo::Cluster;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::limits::{cluster, held_by, released};
use super::pause::{goes_on, stands_still};
use super::{ID, Scene, TOTAL_CENTS, orders};
use crate::support::{Cli, Db, connect, message};

const ROWS: u32 = 100_000;
/// 20, less three that are reserved to superusers.
const SLOTS: &[(&str, &str)] = &[
    ("max_connections", "20"),
    ("superuser_reserved_connections", "3"),
    // Its workers count as connections of a database.
    ("autovacuum", "off"),
    ("max_parallel_workers_per_gather", "0"),
];
/// Beside the workers: the lease, the steps, the probes. As `docs/throttle.md` tells.
const BESIDE_WORKERS: i64 = 3;

/// A server with few connections, a role that migrates and one that does other things.
async fn scene(cluster: &Cluster, name: &str) -> Scene {
    let db = Db::create_on(&cluster.url("postgres"), name).await;
    db.execute(&orders(ROWS)).await;
    db.execute(&format!(
        "CREATE ROLE deploy LOGIN; CREATE ROLE app LOGIN;
         GRANT CREATE, TEMPORARY ON DATABASE {} TO deploy;
         GRANT CREATE ON SCHEMA public TO deploy;
         ALTER TABLE orders OWNER TO deploy; GRANT SELECT ON orders TO app",
        db.name()
    ))
    .await;
    let url = role_url(&db, "deploy");
    let mut scene = Scene::on(db, TOTAL_CENTS);
    scene.cli = Cli::new(&scene.db).env("DATABASE_URL", &url);
    scene.cli.migration(ID, TOTAL_CENTS);
    scene
}

fn role_url(db: &Db, role: &str) -> String {
    db.url().replacen("postgres@", &format!("{role}@"), 1)
}

/// The most connections that pgshift had at a moment; looked at until `stop`.
fn most_connections(client: Client, stop: Arc<AtomicBool>) -> JoinHandle<i64> {
    tokio::spawn(async move {
        let count = client
            .prepare("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgshift'")
            .await
            .expect("pg_stat_activity");
        let mut most = 0;
        while !stop.load(Ordering::Relaxed) {
            let row = client.query_one(&count, &[]).await.expect("the count");
            most = row.get::<_, i64>(0).max(most);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        most
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_has_no_more_connections_than_documented() {
    let cluster = cluster(0, SLOTS).await;
    let scene = scene(&cluster, "counted").await;
    for workers in [1_i64, 4] {
        let stop = Arc::new(AtomicBool::new(false));
        let most = most_connections(scene.db.client().await, stop.clone());
        let number = workers.to_string();
        scene
            .done(&["apply", "--duty", "0.4", "--workers", &number])
            .await;
        scene.done(&["contract", ID]).await;
        scene.done(&["revert", ID]).await;
        stop.store(true, Ordering::Relaxed);
        let most = most.await.expect("the count");
        // A worker may have found nothing left to do before it had a connection.
        assert!(
            most <= workers + BESIDE_WORKERS && most > BESIDE_WORKERS,
            "{most} with --workers {workers}"
        );
    }
}

/// Who comes and goes, by `application_name`.
const GUEST: &str = "guest";

/// Others' sessions, of an ordinary role, until `left` more could be opened, the guest not counted:
/// whether it is there at this moment is chance.
async fn fill(scene: &Scene, left: i64) -> Vec<Client> {
    let mut clients = Vec::new();
    while free_but_for(scene, GUEST).await > left {
        let url = role_url(&scene.db, "app");
        clients.push(connect(&url).await.expect("a free connection"));
    }
    clients
}

/// Connections that an ordinary role could open; the tests' own are counted as others'.
async fn free(scene: &Scene) -> i64 {
    free_but_for(scene, "nobody").await
}

/// [`free`] if this client were not there.
async fn free_but_for(scene: &Scene, name: &str) -> i64 {
    scene
        .one(&format!(
            "SELECT current_setting('max_connections')::int
                  - current_setting('superuser_reserved_connections')::int
                  - count(*)
             FROM pg_stat_activity
             WHERE backend_type = 'client backend' AND application_name <> '{name}'"
        ))
        .await
}

/// Another client that comes and goes all the time. Gives how often it came; it must always get in.
fn comes_and_goes(url: String, stop: Arc<AtomicBool>) -> JoinHandle<Result<i64, String>> {
    tokio::spawn(async move {
        let mut came = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut config: tokio_postgres::Config = url.parse().expect("a URL");
            let (client, connection) = config
                .application_name(GUEST)
                .connect(tokio_postgres::NoTls)
                .await
                .map_err(|e| format!("after {came} times: {}", message(&e)))?;
            came += 1;
            // Gone only when the server has closed it.
            drop(client);
            let _ = connection.await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(came)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_free_connection_is_left_to_others() {
    let cluster = cluster(0, SLOTS).await;
    let scene = scene(&cluster, "last_free").await;
    scene.done(&["init"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let guest = comes_and_goes(role_url(&scene.db, "app"), stop.clone());
    // Room for the lease, the steps, the probes and one of the four workers.
    let filled = fill(&scene, 6).await;
    let apply = scene.spawn(&["apply", "--duty", "0.2", "--workers", "4"]);
    let reason = held_by(&scene, "connections_free", 20).await;
    assert!(reason.starts_with("connections_free "), "{reason}");
    stands_still(&scene).await;
    assert!(free(&scene).await >= 2, "the guest takes one at most");
    // The others take what is left, but for the one that comes and goes, and one on its way out.
    let more = fill(&scene, 2).await;
    stands_still(&scene).await;
    // Probes that lose their session take one again, and no more.
    scene
        .until(
            "the probes' end",
            "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity
             WHERE application_name = 'pgshift' AND query ~ 'ours AS MATERIALIZED'",
        )
        .await;
    stands_still(&scene).await;
    assert!(free(&scene).await >= 1);

    drop(more);
    drop(filled);
    released(&scene, "connections_free").await;
    goes_on(&scene).await;
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    stop.store(true, Ordering::Relaxed);
    let came = guest.await.expect("the guest").expect("always let in");
    assert!(came > 50, "{came}");
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.one::<i64>("SELECT epoch FROM pgshift.run").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_told_before_anything_begins() {
    let cluster = cluster(0, SLOTS).await;
    let scene = scene(&cluster, "full").await;
    let nothing_done = async || {
        let schema: Option<String> = scene.one("SELECT to_regclass('pgshift.run')::text").await;
        assert_eq!(schema, None);
        let column: i64 = scene
            .one("SELECT count(*) FROM pg_attribute WHERE attname = 'total_cents'")
            .await;
        assert_eq!(column, 0);
    };
    // Room for one connection, and for some but not for all.
    let mut filled = fill(&scene, 4).await;
    let refused = scene.cli.run(&["apply"]).await.expect(7).stderr;
    assert!(
        refused.contains("too few connections are free"),
        "{refused}"
    );
    assert!(refused.contains("nothing was changed"), "{refused}");
    nothing_done().await;
    // Full.
    scene
        .until(
            "the last session's end",
            &format!(
                "SELECT {} = 0",
                "(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgshift')"
            ),
        )
        .await;
    filled.extend(fill(&scene, 0).await);
    let refused = scene.cli.run(&["apply"]).await.expect(7).stderr;
    assert!(
        refused.contains("53300") || refused.contains("connection slots"),
        "{refused}"
    );
    nothing_done().await;
    // Who says so may take them all.
    filled.truncate(filled.len() - 4);
    scene
        .until(
            "four that are free",
            "SELECT count(*) <= 13 FROM pg_stat_activity WHERE backend_type = 'client backend'",
        )
        .await;
    scene
        .done(&[
            "apply",
            "--duty",
            "100%",
            "--throttle",
            "min-free-connections=off",
        ])
        .await;
    assert_eq!(scene.wrong_orders().await, 0);
}
