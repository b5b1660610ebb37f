//! Real faults at random, round after round, under the application's writes: for
//! `scripts/faults.sh`, which prints what came of each kind.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pgshift::demo::{Cluster, StopMode};
use tokio_postgres::Client;

use super::outage::durable;
use super::{ID, Scene, TOTAL_CENTS, audit, orders};
use crate::points::{Row, history, seed, table};
use crate::support::{Cli, Db, Network, PgBouncer, Running, Workload, connect};

const ROWS: u32 = 40_000;
/// A run that has met its faults ends, or says why not, within this time.
const PATIENCE: Duration = Duration::from_mins(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    SessionsEnded,
    ServerStopped,
    FailedOver,
    TailLost,
    Network,
    Frozen,
    Pooler,
    Full,
    Locks,
    Timeouts,
}

/// The kinds, with their names in the table.
const FAULTS: [(Fault, &str); 11] = [
    (Fault::Killed, "pgshift killed (SIGKILL)"),
    (Fault::SessionsEnded, "server sessions terminated"),
    (
        Fault::ServerStopped,
        "primary stopped at once, started again",
    ),
    (Fault::FailedOver, "primary killed, standby promoted"),
    (Fault::TailLost, "the same, and the last commits lost"),
    (Fault::Network, "network slow, cut, replies to COMMIT lost"),
    (Fault::Frozen, "pgshift frozen past its lease"),
    (Fault::Pooler, "PgBouncer killed, started again"),
    (Fault::Full, "no connection left at the server"),
    (Fault::Locks, "long row and table locks, deadlocks"),
    (Fault::Timeouts, "short timeouts on role and database"),
];

/// A round: what was found in the end.
#[derive(Debug, Default)]
struct Found {
    reverted: bool,
    wrong_rows: Vec<String>,
    lost_events: Vec<String>,
}

/// The primary, and the standby that takes its place.
fn both(cluster: &mut Cluster) -> String {
    let (first, second) = (cluster.primary().port(), cluster.standby(0).port());
    format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/postgres")
}

struct Round {
    fault: Fault,
    scene: Scene,
    network: Network,
    pooler: Option<PgBouncer>,
    args: Vec<&'static str>,
}

impl Round {
    async fn new(fault: Fault, cluster: &mut Cluster, rng: &mut Rng) -> Self {
        let db = Db::create_on(&both(cluster), "storm").await;
        db.execute(&format!("{}; {}", orders(ROWS), audit("orders")))
            .await;
        let network = Network::before(cluster.primary().port()).await;
        let mut scene = Scene::on(db, TOTAL_CENTS);
        scene.rng = rng.fork();
        if fault == Fault::Network {
            let (port, name) = (network.port(), scene.db.name());
            let url = format!(
                "postgres://postgres@127.0.0.1:{port}/{name}?sslmode=disable&connect_timeout=2"
            );
            scene.cli = Cli::new(&scene.db).env("DATABASE_URL", &url);
            scene.cli.migration(ID, TOTAL_CENTS);
        }
        let mut pooler = None;
        if fault == Fault::Pooler {
            let primary = cluster.url("postgres");
            let pool = PgBouncer::start(&primary, "transaction", 5, scene.db.name()).await;
            scene.cli = Cli::new(&scene.db)
                .env("DATABASE_URL", &pool.url(scene.db.name()))
                .env("PGSHIFT_DIRECT_URL", &scene.db.url());
            scene.cli.migration(ID, TOTAL_CENTS);
            pooler = Some(pool);
        }
        let workers = ["1", "1", "3"][rng.usize(0..3)];
        let args = vec!["--duty", "0.2", "--workers", workers];
        Self {
            fault,
            scene,
            network,
            pooler,
            args,
        }
    }

    fn command(&self, name: &'static str) -> Running {
        self.scene.spawn(&[&[name], &self.args[..]].concat())
    }

    async fn live(&mut self, cluster: &mut Cluster) -> Found {
        let before = self.schema().await;
        let load = self.scene.old_application(100, u64::from(ROWS));
        let apply = self.command("apply");
        self.scene.backfilling().await;
        let running = self.strike(apply, cluster).await;
        // Not resumed but taken back, at times.
        let back = self.scene.rng.u8(0..4) == 0;
        let reverted = self.end(running, back).await;
        let report = load.stop().await;
        if self.fault == Fault::Locks {
            // Nor did the application lose a deadlock to us.
            report.expect_no_error();
        }
        let mut found = Found {
            reverted,
            lost_events: history::wrong_with(&self.scene.db).await,
            ..Found::default()
        };
        let [written, distinct, counted] = self.scene.audited().await;
        if written != distinct || written != counted {
            found.wrong_rows.push(format!(
                "chunks wrote {written} rows, {distinct} different ones, and counted {counted}"
            ));
        }
        if reverted {
            if self.schema().await != before {
                found
                    .wrong_rows
                    .push("the schema is not as before".to_owned());
            }
        } else {
            let wrong = self.scene.wrong_orders().await;
            if wrong > 0 {
                found.wrong_rows.push(format!("{wrong} wrong rows"));
            }
        }
        found
    }

    async fn schema(&self) -> String {
        let client = self.scene.db.client().await;
        pgshift::pg::shape::read(&client)
            .await
            .expect("the schema")
            .text()
    }

    /// The fault, some times over; gives the run that is to end.
    async fn strike(&mut self, apply: Running, cluster: &mut Cluster) -> Running {
        let mut running = apply;
        let times = match self.fault {
            Fault::FailedOver | Fault::TailLost | Fault::Frozen => 1,
            Fault::ServerStopped => self.scene.rng.usize(1..3),
            _ => self.scene.rng.usize(1..5),
        };
        for _ in 0..times {
            let time = self.scene.moment(20, 600);
            tokio::time::sleep(time).await;
            match self.fault {
                Fault::Killed => {
                    running.kill().await;
                    running = self.command("resume");
                }
                Fault::SessionsEnded => {
                    let _: Vec<bool> = self
                        .scene
                        .rows(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                             WHERE application_name = 'pgshift' AND datname = current_database()
                               AND random() < 0.7",
                        )
                        .await;
                }
                Fault::ServerStopped => {
                    cluster.stop(StopMode::Immediate).await.expect("a stop");
                    cluster.start_again().await.expect("a start");
                    self.scene.reconnect(&cluster.url("postgres")).await;
                }
                Fault::FailedOver | Fault::TailLost => self.fail_over(cluster).await,
                Fault::Network => {
                    let late = self.scene.moment(0, 30);
                    match self.scene.rng.u8(0..3) {
                        0 => self.network.cut(),
                        1 => self.network.delay(late),
                        _ => self.network.lose_one_reply_in(8),
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    self.network.delay(Duration::ZERO);
                    self.network.lose_one_reply_in(0);
                }
                Fault::Frozen => {
                    running.signal("STOP");
                    let out = "SELECT bool_and(expires_at < clock_timestamp()) FROM pgshift.lease";
                    self.scene.until("the lease runs out", out).await;
                    let second = self.command("resume");
                    let taken = "SELECT epoch > 1 FROM pgshift.run";
                    self.scene.until("the takeover", taken).await;
                    running.signal("CONT");
                    running.wait().await.expect(5);
                    running = second;
                }
                Fault::Pooler => {
                    let pool = self.pooler.as_mut().expect("a pooler");
                    pool.kill();
                    let time = Duration::from_millis(self.scene.rng.u64(10..2_000));
                    tokio::time::sleep(time).await;
                    pool.start_again().await;
                }
                Fault::Full => self.fill().await,
                Fault::Locks => self.lock().await,
                Fault::Timeouts => self.hurry().await,
            }
        }
        running
    }

    async fn end_sessions(&self) {
        let _: Vec<bool> = self
            .scene
            .rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE application_name = 'pgshift' AND datname = current_database()",
            )
            .await;
    }

    /// Others take every connection, those of the runner too, and keep them for a while.
    async fn fill(&mut self) {
        let url = self.scene.db.url();
        let mut others: Vec<Client> = Vec::new();
        let until = Instant::now() + self.scene.moment(500, 3_000);
        while Instant::now() < until {
            if let Ok(client) = connect(&url).await {
                others.push(client);
            } else {
                self.end_sessions().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// The table is locked for longer than any try of ours lasts, and rows are taken in the order
    /// that meets a chunk's.
    async fn lock(&mut self) {
        let crossing = Workload::start(&self.scene.db.url(), 4, 40, |n| {
            let id = n * 7919 % u64::from(ROWS - 20) + 20;
            // Always the later row first: these never wait for each other in a circle.
            format!(
                "BEGIN; UPDATE orders SET note = 'later' WHERE id = {id};
                 SELECT pg_sleep(0.05);
                 UPDATE orders SET note = 'earlier' WHERE id = {}; COMMIT",
                id - 19
            )
        });
        let holder = self.scene.db.client().await;
        let time = self.scene.moment(300, 2_500).as_secs_f64();
        let table =
            format!("BEGIN; LOCK TABLE orders IN SHARE MODE; SELECT pg_sleep({time}); COMMIT");
        holder.batch_execute(&table).await.expect(&table);
        tokio::time::sleep(Duration::from_millis(500)).await;
        crossing.stop().await.expect_no_error();
    }

    /// Timeouts that are meant for the application, and sessions that are made under them.
    async fn hurry(&mut self) {
        let version: i32 = self
            .scene
            .one("SELECT current_setting('server_version_num')::int")
            .await;
        let name = self.scene.db.name();
        let mut names = vec![
            "statement_timeout",
            "lock_timeout",
            "idle_in_transaction_session_timeout",
            "idle_session_timeout",
        ];
        if version >= 170_000 {
            names.push("transaction_timeout");
        }
        let client = connect(&self.scene.db.url()).await.expect("a session");
        for name_of in names {
            let time = self.scene.rng.u64(200..1_000);
            let sql = format!("ALTER DATABASE {name} SET {name_of} = {time}");
            client.batch_execute(&sql).await.expect(&sql);
        }
        self.end_sessions().await;
    }

    async fn fail_over(&mut self, cluster: &mut Cluster) {
        if self.fault == Fault::TailLost {
            let standby = connect(&cluster.standby_url(0, "postgres"))
                .await
                .expect("a standby");
            for sql in [
                "ALTER SYSTEM SET primary_conninfo = ''",
                "SELECT pg_reload_conf()",
            ] {
                standby.batch_execute(sql).await.expect(sql);
            }
            let time = self.scene.moment(100, 900);
            tokio::time::sleep(time).await;
        }
        cluster.kill_postmaster().await.expect("SIGKILL");
        cluster.promote(0).await.expect("a new primary");
        self.scene
            .reconnect(&cluster.standby_url(0, "postgres"))
            .await;
    }

    /// Waits for the run's end and goes on as its errors tell; true where it was taken back.
    async fn end(&mut self, running: Running, back: bool) -> bool {
        let begun = Instant::now();
        if back {
            running.interrupt();
        }
        let mut running = running;
        while running.running() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ended = !running.running();
        if !ended {
            let sessions: Vec<String> = self
                .scene
                .rows(
                    "SELECT concat_ws(' ', pid, backend_start, state, state_change, wait_event,
                            query) FROM pg_stat_activity WHERE application_name = 'pgshift'",
                )
                .await;
            eprintln!("it does not end; its sessions: {sessions:#?}");
            // What it said is wanted.
            running.signal("KILL");
        }
        let output = running.wait().await;
        assert!(ended, "it does not end: {}", output.stderr);
        let mut said = vec![output.stderr];
        let mut done = output.code == Some(0) && !back;
        while !done {
            assert!(begun.elapsed() < PATIENCE, "it does not end: {said:#?}");
            let args: &[&str] = if back {
                &["--yes", "revert", ID]
            } else {
                &["resume", "--duty", "100%"]
            };
            let output = self.scene.cli.run(args).await;
            done = output.code == Some(0);
            said.push(output.stderr);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let state = self.scene.state().await;
        assert_eq!(state, if back { "reverted" } else { "ready" }, "{said:#?}");
        back
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "as long as it is told, for scripts/faults.sh"]
async fn in_every_storm_nothing_is_lost() {
    let mut rng = Rng::with_seed(seed());
    let begun = Instant::now();
    // `scripts/faults.sh --kind WORDS`: only those.
    let words = std::env::var_os("PGSHIFT_FAULTS_KIND").unwrap_or_default();
    let words = words.to_string_lossy().into_owned();
    let kinds: Vec<_> = FAULTS
        .into_iter()
        .filter(|(_, name)| name.contains(&words))
        .collect();
    assert!(!kinds.is_empty(), "no kind of fault is named {words:?}");
    let mut bad = Vec::new();
    let mut cluster: Option<Cluster> = None;
    let mut bag: Vec<(Fault, &'static str)> = Vec::new();
    while begun.elapsed() < table::time() {
        if bag.is_empty() {
            bag.clone_from(&kinds);
            rng.shuffle(&mut bag);
        }
        let Some((fault, name)) = bag.pop() else {
            continue;
        };
        eprintln!("{:?}: {name}", begun.elapsed());
        let mut servers = match cluster.take() {
            Some(cluster) => cluster,
            None => durable(2).await,
        };
        let mut round = Round::new(fault, &mut servers, &mut rng).await;
        let found = round.live(&mut servers).await;
        let mut row = Row::default();
        row.count(
            found.reverted,
            found.wrong_rows.len(),
            found.lost_events.len(),
        );
        table::write(&BTreeMap::from([(name, row)]));
        if !found.wrong_rows.is_empty() || !found.lost_events.is_empty() {
            bad.push(format!("{name}: {found:#?}"));
        }
        drop(round);
        if !matches!(fault, Fault::FailedOver | Fault::TailLost) {
            cluster = Some(servers);
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
