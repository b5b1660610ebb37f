//! The private cluster itself. These tests start their own.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgshift::demo::{Binaries, Cluster, ClusterOptions, Search, StopMode};
use tokio_postgres::{Client, NoTls};

fn binaries() -> Binaries {
    Search::new()
        .env_dir(std::env::var_os("PGSHIFT_PG_BIN").map(PathBuf::from))
        .find()
        .expect("server programs: scripts/setup.sh installs them")
}

fn options(standbys: usize) -> ClusterOptions {
    ClusterOptions::new(binaries()).standbys(standbys)
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect(url);
    tokio::spawn(connection);
    client
}

async fn number(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.expect(query).get(0)
}

/// True when nothing is left of the cluster that had this folder.
fn gone(dir: &Path) -> bool {
    let within = Instant::now() + Duration::from_secs(15);
    while dir.exists() && Instant::now() < within {
        std::thread::sleep(Duration::from_millis(20));
    }
    !dir.exists()
}

#[tokio::test]
async fn replicates_survives_a_crash_and_fails_over() {
    let mut cluster = Cluster::start(options(1)).await.unwrap();
    let primary = client(&cluster.url("postgres")).await;
    assert_eq!(
        number(
            &primary,
            "SELECT current_setting('max_connections')::bigint"
        )
        .await,
        100
    );
    let shown: String = primary
        .query_one(
            "SELECT current_setting('wal_level') || ' ' || current_setting('fsync')",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert_eq!(shown, "logical on");
    primary
        .batch_execute("CREATE TABLE t (n bigint); INSERT INTO t VALUES (1), (2)")
        .await
        .unwrap();

    cluster.catch_up(0).await.unwrap();
    let standby = client(&cluster.standby_url(0, "postgres")).await;
    assert_eq!(number(&standby, "SELECT count(*) FROM t").await, 2);
    let name: String = primary
        .query_one("SELECT application_name FROM pg_stat_replication", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(name, "standby1");

    // Lag on demand.
    standby
        .batch_execute("SELECT pg_wal_replay_pause()")
        .await
        .unwrap();
    primary
        .batch_execute("INSERT INTO t VALUES (3)")
        .await
        .unwrap();
    let behind = "SELECT (pg_current_wal_lsn() - replay_lsn)::bigint FROM pg_stat_replication";
    assert!(number(&primary, behind).await > 0);
    assert_eq!(number(&standby, "SELECT count(*) FROM t").await, 2);
    standby
        .batch_execute("SELECT pg_wal_replay_resume()")
        .await
        .unwrap();
    cluster.catch_up(0).await.unwrap();
    assert_eq!(number(&standby, "SELECT count(*) FROM t").await, 3);

    // Without a checkpoint, then without even a signal that could be handled.
    cluster.stop(StopMode::Immediate).await.unwrap();
    assert!(primary.batch_execute("SELECT 1").await.is_err());
    cluster.start_again().await.unwrap();
    cluster.kill_postmaster().await.unwrap();
    assert_eq!(cluster.primary().pid(), None);
    cluster.start_again().await.unwrap();
    let primary = client(&cluster.url("postgres")).await;
    assert_eq!(number(&primary, "SELECT count(*) FROM t").await, 3);
    primary
        .batch_execute("INSERT INTO t VALUES (4)")
        .await
        .unwrap();
    cluster.catch_up(0).await.unwrap();

    cluster.stop(StopMode::Immediate).await.unwrap();
    cluster.promote(0).await.unwrap();
    standby
        .batch_execute("INSERT INTO t VALUES (5)")
        .await
        .unwrap();
    assert_eq!(number(&standby, "SELECT count(*) FROM t").await, 5);
}

#[tokio::test]
async fn a_killed_backend_takes_the_sessions_not_the_server() {
    let mut cluster = Cluster::start(options(0)).await.unwrap();
    let url = cluster.url("postgres");
    let (victim, witness) = (client(&url).await, client(&url).await);
    let pid = number(&victim, "SELECT pg_backend_pid()::bigint").await;
    let postmaster = cluster.primary().pid();
    cluster
        .primary()
        .kill_backend(pid.try_into().unwrap())
        .unwrap();
    assert!(victim.batch_execute("SELECT pg_sleep(5)").await.is_err());
    assert!(witness.batch_execute("SELECT pg_sleep(5)").await.is_err());
    let within = Instant::now() + Duration::from_secs(30);
    while tokio_postgres::connect(&url, NoTls).await.is_err() {
        assert!(Instant::now() < within, "no recovery");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cluster.primary().pid(), postmaster);
}

#[tokio::test]
async fn settings_hold_from_the_next_start() {
    let mut cluster = Cluster::start(options(0).settings(&[("work_mem", "5MB")]))
        .await
        .unwrap();
    let read = "SELECT setting::bigint FROM pg_settings WHERE name = 'work_mem'";
    assert_eq!(
        number(&client(&cluster.url("postgres")).await, read).await,
        5 * 1024
    );
    cluster
        .settings(&[("work_mem", "7MB"), ("cluster_name", "it's")])
        .unwrap();
    cluster.restart().await.unwrap();
    assert_eq!(
        number(&client(&cluster.url("postgres")).await, read).await,
        7 * 1024
    );
}

#[tokio::test]
async fn a_server_that_does_not_start_says_why_and_leaves_nothing() {
    let error = Cluster::start(options(0).settings(&[("shared_buffers", "lots")]))
        .await
        .unwrap_err();
    assert!(error.is_connection());
    assert!(error.message().contains("primary"), "{error}");
    assert!(error.message().contains("shared_buffers"), "{error}");
}

#[tokio::test]
async fn cleanup_leaves_nothing_and_can_be_repeated() {
    let mut cluster = Cluster::start(options(1)).await.unwrap();
    let dir = cluster.data_dir().parent().unwrap().to_path_buf();
    let url = cluster.url("postgres");
    assert!(dir.exists());
    cluster.cleanup();
    assert!(!dir.exists());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
    cluster.cleanup();
}

/// Not a test: the process that [`servers_end_with_a_killed_parent`] kills.
#[tokio::test]
#[ignore = "a part of another test"]
async fn starts_a_cluster_and_waits() {
    use std::io::Write as _;
    let cluster = Cluster::start(options(1)).await.unwrap();
    let dir = cluster.data_dir().parent().unwrap().display();
    writeln!(
        std::io::stdout(),
        "\nDIR={dir}\nURL={}",
        cluster.url("postgres")
    )
    .unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

#[tokio::test]
async fn servers_end_with_a_killed_parent() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "cluster::starts_a_cluster_and_waits",
            "--ignored",
            "--nocapture",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut value = |key: &str| {
        lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| line.strip_prefix(key).map(str::to_owned))
            .expect(key)
    };
    let (dir, url) = (PathBuf::from(value("DIR=")), value("URL="));
    let session = client(&url).await;
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(gone(&dir), "{} is still there", dir.display());
    assert!(session.batch_execute("SELECT 1").await.is_err());
    assert!(tokio_postgres::connect(&url, NoTls).await.is_err());
}
