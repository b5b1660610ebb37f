//! Signals of a person's own, and the other limits that are read from the server: each holds and
//! lets go again, live; what can never be read is refused before anything starts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgshift::demo::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::limits::cluster;
use super::{ID, Scene, TOTAL_CENTS, orders};
use crate::support::Db;

const ROWS: u32 = 100_000;

/// Waits until the last hold or release is this one, and gives the reason of a hold.
async fn last(scene: &Scene, kind: &str, cause: &str) -> String {
    let sql = format!(
        "SELECT coalesce((SELECT kind = '{kind}' AND detail->>'cause' = '{cause}'
                          FROM pgshift.event WHERE kind IN ('held', 'released')
                          ORDER BY seq DESC LIMIT 1), false)"
    );
    let what = format!("{kind} {cause}");
    scene
        .until_within(Duration::from_secs(15), &what, &sql)
        .await;
    scene
        .one(
            "SELECT coalesce(detail->>'reason', '') FROM pgshift.event
             WHERE kind IN ('held', 'released') ORDER BY seq DESC LIMIT 1",
        )
        .await
}

async fn to_the_end(scene: &Scene, apply: crate::support::Running) {
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}

async fn untouched(scene: &Scene) {
    let none: Option<String> = scene.one("SELECT to_regnamespace('pgshift')::text").await;
    assert_eq!(none, None, "nothing was begun");
}

/// A small HTTP server that gives one answer to everything.
struct Http {
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<Vec<String>>>,
    port: u16,
    task: JoinHandle<()>,
}

impl Http {
    async fn start(status: u16, body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let answer = Arc::new(Mutex::new((status, body.to_owned())));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (said, heard) = (answer.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                let mut part = [0; 1024];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut part).await {
                        Ok(n) if n > 0 => request.extend_from_slice(&part[..n]),
                        _ => break,
                    }
                }
                heard
                    .lock()
                    .expect("no panic")
                    .push(String::from_utf8_lossy(&request).into_owned());
                let (status, body) = said.lock().expect("no panic").clone();
                let text = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        Self {
            answer,
            asked,
            port,
            task,
        }
    }

    fn say(&self, status: u16, body: &str) {
        *self.answer.lock().expect("no panic") = (status, body.to_owned());
    }

    fn first_request(&self) -> String {
        self.asked.lock().expect("no panic")[0].clone()
    }

    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_query_holds_and_lets_go() {
    let setup = format!(
        "{}; CREATE TABLE knob (v numeric); INSERT INTO knob VALUES (0)",
        orders(ROWS)
    );
    let scene = Scene::new("custom_sql", &setup, TOTAL_CENTS).await;
    scene.cli.file(
        "pgshift.toml",
        "[[throttle.signal]]\nname = \"knob\"\nsql = \"SELECT v FROM knob\"\nabove = 10\n\
         every = \"200ms\"\n",
    );
    let doctor = scene.done(&["doctor"]).await.stdout;
    assert!(
        doctor.contains("knob") && doctor.contains("< 10"),
        "{doctor}"
    );
    let never = "SELECT make_interval(secs => 3) > 3600";
    let apply = scene.spawn(&["apply", "--duty", "0.1", "--signal", never]);
    scene.backfilling().await;
    assert_eq!(scene.events("held").await, 0);
    scene.db.execute("UPDATE knob SET v = 12.5").await;
    assert_eq!(last(&scene, "held", "knob").await, "knob 12.5 >= 10");
    scene.db.execute("UPDATE knob SET v = NULL").await;
    let reason = last(&scene, "held", "blind").await;
    assert!(
        reason.contains("knob") && reason.contains("NULL"),
        "{reason}"
    );
    scene.db.execute("UPDATE knob SET v = 0").await;
    last(&scene, "released", "blind").await;
    // It cannot be read for longer than it may take: blind too, and the others go on being read.
    scene
        .db
        .execute("ALTER TABLE knob RENAME TO knob_; CREATE VIEW knob AS SELECT 1::numeric AS v FROM pg_sleep(5)")
        .await;
    let reason = last(&scene, "held", "blind").await;
    assert!(reason.contains("knob"), "{reason}");
    scene
        .db
        .execute("DROP VIEW knob; ALTER TABLE knob_ RENAME TO knob")
        .await;
    last(&scene, "released", "blind").await;
    to_the_end(&scene, apply).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_holds_and_lets_go() {
    let gate = Http::start(204, "").await;
    let scene = Scene::orders("custom_gate", ROWS).await;
    let url = format!("http://ops:geheim@127.0.0.1:{}/go", gate.port);
    scene.cli.file(
        "pgshift.toml",
        &format!("[[throttle.gate]]\nname = \"deploys\"\nurl = \"{url}\"\nevery = \"200ms\"\n"),
    );
    let apply = scene.spawn(&["apply", "--duty", "0.1"]);
    scene.backfilling().await;
    let request = gate.first_request();
    assert!(request.starts_with("GET /go HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains("authorization: Basic b3BzOmdlaGVpbQ=="),
        "{request}"
    );
    gate.say(503, "maintenance");
    let reason = last(&scene, "held", "deploys").await;
    assert!(
        reason.contains("says 503") && !reason.contains("geheim"),
        "{reason}"
    );
    gate.say(200, "");
    last(&scene, "released", "deploys").await;
    gate.stop().await;
    let reason = last(&scene, "held", "blind").await;
    assert!(
        reason.contains("deploys") && !reason.contains("geheim"),
        "{reason}"
    );
    // Killed while it is blind: a resume asks the gate before anything else.
    apply.kill().await;
    let refused = scene.cli.run(&["resume"]).await.expect(7);
    assert!(
        refused.stderr.contains("signal deploys") && !refused.stderr.contains("geheim"),
        "{}",
        refused.stderr
    );
    scene.cli.file("pgshift.toml", "");
    scene.done(&["resume"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
}

fn vector(value: &str) -> String {
    format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\"value\":[1,\"{value}\"]}}]}}}}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_holds_and_lets_go() {
    let server = Http::start(200, &vector("0.1")).await;
    let scene = Scene::orders("custom_prometheus", ROWS).await;
    scene.cli.file(
        "pgshift.toml",
        &format!(
            "[[throttle.prometheus]]\nname = \"p99\"\nurl = \"http://127.0.0.1:{}/base/\"\n\
             query = \"max(p99) > 0\"\nabove = 0.5\nevery = \"200ms\"\n",
            server.port
        ),
    );
    let apply = scene.spawn(&["apply", "--duty", "0.1"]);
    scene.backfilling().await;
    let request = server.first_request();
    assert!(
        request.starts_with("GET /base/api/v1/query?query=max%28p99%29%20%3E%200&timeout=200ms "),
        "{request}"
    );
    server.say(200, &vector("0.75"));
    assert_eq!(last(&scene, "held", "p99").await, "p99 0.75 >= 0.5");
    server.say(
        200,
        "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}",
    );
    let reason = last(&scene, "held", "blind").await;
    assert!(
        reason.contains("p99") && reason.contains("no series"),
        "{reason}"
    );
    server.say(200, &vector("0.2"));
    last(&scene, "released", "blind").await;
    to_the_end(&scene, apply).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_read_is_refused_before_anything_starts() {
    let scene = Scene::orders("custom_wrong", 10).await;
    for (signal, says) in [
        (
            "SELECT cout(*) FROM orders > 5",
            "function cout() does not exist",
        ),
        ("SELECT note FROM orders > 5", "type text"),
        ("SELECT 1, 2 > 5", "2 columns"),
        ("SELECT 1", "no comparison"),
        ("SELECT 1; DROP TABLE orders > 5", "one query"),
    ] {
        let refused = scene
            .cli
            .run(&["apply", "--signal", signal])
            .await
            .expect(2);
        assert!(
            refused.stderr.contains(says) && refused.stderr.contains('^'),
            "{signal}: {}",
            refused.stderr
        );
    }
    let writes = "DELETE FROM orders RETURNING 1 > 5";
    let refused = scene.cli.run(&["apply", "--signal", writes]).await;
    assert_ne!(refused.code, Some(0));
    assert_eq!(scene.one::<i64>("SELECT count(*) FROM orders").await, 10);

    // A port that nobody listens on.
    let closed = Http::start(200, "").await;
    let port = closed.port;
    closed.stop().await;
    let gate = format!("http://ops:geheim@127.0.0.1:{port}/go?token=geheim");
    let refused = scene.cli.run(&["apply", "--gate", &gate]).await.expect(7);
    assert!(
        refused
            .stderr
            .contains(&format!("http://127.0.0.1:{port}/go"))
            && !refused.stderr.contains("geheim"),
        "{}",
        refused.stderr
    );
    let server = Http::start(
        400,
        "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error at char 4\"}",
    )
    .await;
    scene.cli.file(
        "pgshift.toml",
        &format!(
            "[[throttle.prometheus]]\nname = \"p99\"\nurl = \"http://127.0.0.1:{}\"\nquery = \"max(\"\nabove = 1\n",
            server.port
        ),
    );
    let refused = scene.cli.run(&["apply"]).await.expect(2);
    assert!(
        refused.stderr.contains("parse error at char 4"),
        "{}",
        refused.stderr
    );
    scene.cli.file("pgshift.toml", "");

    scene.cli.migration(
        ID,
        &format!("-- pgshift: option max-lag=10s max-lagg=5s duty=200%\n{TOTAL_CENTS}"),
    );
    let refused = scene.cli.run(&["apply"]).await.expect(2);
    assert!(
        refused.stderr.contains(".sql:1:32")
            && refused.stderr.contains("did you mean `max-lag`?")
            && refused.stderr.contains("`200%` is not a value of duty"),
        "{}",
        refused.stderr
    );
    untouched(&scene).await;
}

/// `pgshift.toml`, then the migration file, then the command line, then what is set live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_later_of_four_places_wins() {
    let scene = Scene::orders("custom_precedence", ROWS).await;
    let closed: String = scene
        .one(
            "SELECT to_char(clock_timestamp() AT TIME ZONE 'Asia/Tokyo' + interval '2 hours', 'HH24:MI')
                 || '-' ||
                 to_char(clock_timestamp() AT TIME ZONE 'Asia/Tokyo' + interval '3 hours', 'HH24:MI')
                 || ' Asia/Tokyo'",
        )
        .await;
    scene.cli.file(
        "pgshift.toml",
        &format!("[throttle]\nrun-between = \"{closed}\"\nduty = 0.9\n"),
    );
    scene.cli.migration(
        ID,
        &format!("-- pgshift: option run-between=off duty=0.1\n{TOTAL_CENTS}"),
    );
    let apply = scene.spawn(&["apply"]);
    scene.backfilling().await;
    assert_eq!(scene.events("held").await, 0, "the migration file's hours");
    apply.kill().await;
    let window = format!("run-between={closed}");
    let resume = scene.spawn(&["resume", "--throttle", &window]);
    let reason = last(&scene, "held", "closed").await;
    assert!(reason.ends_with(" Asia/Tokyo"), "{reason}");
    scene
        .done(&["throttle", "set", ID, "run-between=off", "duty=100%"])
        .await;
    last(&scene, "released", "closed").await;
    resume.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
}

async fn alone(name: &str) -> (Cluster, Scene) {
    alone_with(name, ROWS).await
}

async fn alone_with(name: &str, rows: u32) -> (Cluster, Scene) {
    let cluster = cluster(0, &[]).await;
    let db = Db::create_on(&cluster.url("postgres"), name).await;
    db.execute(&orders(rows)).await;
    (cluster, Scene::on(db, TOTAL_CENTS))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_that_are_forced_hold() {
    let (_cluster, scene) = alone("custom_checkpoints").await;
    // Before 15 the server counts late, and CREATE DATABASE makes a checkpoint.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let apply = scene.spawn(&[
        "apply",
        "--duty",
        "0.1",
        "--throttle",
        "max-forced-checkpoints=2",
    ]);
    scene.backfilling().await;
    // What was before the run does not count.
    assert_eq!(scene.events("held").await, 0);
    scene.db.execute("CHECKPOINT").await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(scene.events("held").await, 0, "one is not two");
    scene.db.execute("CHECKPOINT").await;
    let reason = last(&scene, "held", "forced_checkpoints").await;
    assert_eq!(reason, "forced_checkpoints 2 >= 2");
    scene
        .done(&["throttle", "set", ID, "max-forced-checkpoints=off"])
        .await;
    last(&scene, "released", "forced_checkpoints").await;
    to_the_end(&scene, apply).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wal_rate_is_kept() {
    const LIMIT: f64 = 1024.0 * 1024.0;
    let (_cluster, scene) = alone_with("custom_wal", 4 * ROWS).await;
    let apply = scene.spawn(&["apply", "--duty", "1", "--throttle", "max-wal-rate=1MiB/s"]);
    scene.backfilling().await;
    let lsn = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (begun, before) = (std::time::Instant::now(), scene.one::<f64>(lsn).await);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(scene.in_backfill().await, "too quick to tell");
    let rate = (scene.one::<f64>(lsn).await - before) / begun.elapsed().as_secs_f64();
    assert!(rate < LIMIT * 1.2, "{rate} bytes a second");
    assert!(rate > LIMIT * 0.2, "{rate} bytes a second");
    let holds = scene.events("held").await;
    assert!(holds <= 4, "{holds} holds: stop and go");
    let doctor = scene.done(&["doctor"]).await.stdout;
    assert!(doctor.contains("wal_rate(application)"), "{doctor}");
    scene
        .done(&["throttle", "set", ID, "max-wal-rate=off"])
        .await;
    to_the_end(&scene, apply).await;
}
