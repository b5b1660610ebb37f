//! One runner at a time, whatever becomes of the others.

use std::time::{Duration, Instant};

use super::{ID, Scene, TOTAL_CENTS, audit, ended_within, orders};
use crate::support::Running;

const ROWS: u32 = 100_000;

async fn scene(name: &str) -> Scene {
    let setup = format!("{}; {}", orders(ROWS), audit("orders"));
    Scene::new(name, &setup, TOTAL_CENTS).await
}

fn pid(running: &Running) -> String {
    format!("pid {}", running.pid().expect("it runs"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_runner_is_refused_with_the_name_of_the_first() {
    let scene = scene("runners_two").await;
    let first = scene.spawn(&["apply", "--duty", "0.1"]);
    let name = pid(&first);
    scene.backfilling().await;
    for command in [
        &["apply"][..],
        &["resume"],
        &["resume", ID],
        &["revert", ID],
    ] {
        let second = scene.cli.run(command).await.expect(3);
        assert!(
            second.stderr.contains(&name),
            "{command:?}: {}",
            second.stderr
        );
        assert_eq!(second.stdout, "");
    }
    assert_eq!(scene.state().await, "applying");
    let chunks = scene.chunks().await;
    let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
    scene.until("the first goes on", &on).await;
    first.kill().await;
}

/// Two that start in the same instant: one runs, the other says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_runners_that_start_together_one_runs() {
    let scene = scene("runners_together").await;
    scene.done(&["init"]).await;
    let all: Vec<Running> = (0..4)
        .map(|_| scene.spawn(&["apply", "--duty", "100%"]))
        .collect();
    let mut codes = Vec::new();
    for one in all {
        let output = one.wait().await;
        if output.code != Some(0) {
            assert!(
                output.stderr.contains("is being run by"),
                "{}",
                output.stderr
            );
        }
        codes.push(output.code);
    }
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(3), Some(3), Some(3)]);
    assert_eq!(scene.wrong_orders().await, 0);
    scene.nothing_redone().await;
    assert_eq!(
        scene.one::<i64>("SELECT count(*) FROM pgshift.run").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_lease_is_taken_over_at_once() {
    let mut scene = scene("runners_dead").await;
    let mut running = scene.spawn(&["apply", "--duty", "0.3"]);
    scene.backfilling().await;
    for _ in 0..5 {
        let time = scene.moment(50, 300);
        assert_eq!(scene.kill_after(running, time).await, None);
        let (chunks, begun) = (scene.chunks().await, Instant::now());
        running = scene.spawn(&["resume", "--duty", "0.3"]);
        let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
        scene.until("chunks of the next runner", &on).await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
    running.kill().await;
    scene.nothing_redone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_runner_is_taken_over_and_writes_nothing_more() {
    let scene = scene("runners_frozen").await;
    let frozen = scene.spawn(&["apply", "--duty", "0.1"]);
    let name = pid(&frozen);
    scene.backfilling().await;
    frozen.signal("STOP");
    // Its lease is good for 15 s: until then it is respected.
    let refused = scene.cli.run(&["resume"]).await.expect(3);
    assert!(refused.stderr.contains(&name), "{}", refused.stderr);
    scene
        .until(
            "the lease runs out",
            "SELECT expires_at < clock_timestamp() FROM pgshift.lease",
        )
        .await;

    let second = scene.spawn(&["resume", "--duty", "0.1"]);
    scene
        .until("the takeover", "SELECT epoch > 1 FROM pgshift.run")
        .await;
    let chunks = scene.chunks().await;
    let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
    scene.until("chunks of the second", &on).await;
    let took_over: String = scene
        .one("SELECT detail->>'from' FROM pgshift.event WHERE kind = 'took_over'")
        .await;
    assert!(took_over.ends_with(&name), "{took_over}");

    let last = "SELECT coalesce(max(seq), 0) FROM pgshift.event WHERE actor LIKE '%' || ";
    let last = format!("{last}'{name}'");
    let before: i64 = scene.one(&last).await;
    frozen.signal("CONT");
    let (output, _) = ended_within(Duration::from_secs(10), frozen).await;
    let output = output.expect(5);
    assert!(output.stderr.contains("taken over"), "{}", output.stderr);
    assert_eq!(scene.one::<i64>(&last).await, before, "it wrote to the log");
    assert_eq!(
        scene
            .rows::<Option<String>>("SELECT error FROM pgshift.run")
            .await,
        [None],
        "it wrote to the run"
    );
    assert_eq!(scene.one::<i64>("SELECT epoch FROM pgshift.run").await, 2);
    scene.nothing_redone().await;

    // The second one was not disturbed.
    second.kill().await;
    scene.done(&["resume", "--duty", "100%"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
    scene.nothing_redone().await;
}

/// What a takeover does first, alone: the runner is alive, and its lease and connections are good.
async fn raise_the_epoch(scene: &Scene) -> i64 {
    let other = scene.db.client().await;
    let sql = "BEGIN; UPDATE pgshift.run SET epoch = epoch + 1";
    other.batch_execute(sql).await.expect(sql);
    let row = other
        .query_one(
            "SELECT coalesce(sum(chunks), 0)::bigint FROM pgshift.checkpoint",
            &[],
        )
        .await
        .expect("the chunks");
    other.batch_execute("COMMIT").await.expect("COMMIT");
    row.get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_chunk_of_an_earlier_epoch_is_committed() {
    for workers in ["1", "3"] {
        let scene = scene("runners_fence").await;
        let first = scene.spawn(&["apply", "--duty", "0.3", "--workers", workers]);
        scene.backfilling().await;
        let chunks = raise_the_epoch(&scene).await;
        let (output, _) = ended_within(Duration::from_secs(5), first).await;
        let output = output.expect(5);
        assert!(output.stderr.contains("taken over"), "{}", output.stderr);
        assert_eq!(scene.chunks().await, chunks);
        scene.nothing_redone().await;
        scene.done(&["resume", "--duty", "100%"]).await;
        assert_eq!(scene.wrong_orders().await, 0);
        scene.nothing_redone().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_step_of_an_earlier_epoch_is_committed() {
    let scene = Scene::orders("runners_fence_ddl", 100).await;
    let before = scene.db.schema().await;
    let blocker = scene.db.client().await;
    blocker
        .batch_execute("BEGIN; SELECT count(*) FROM orders")
        .await
        .expect("a blocker");
    let first = scene.spawn(&["apply"]);
    scene
        .until(
            "the run",
            "SELECT to_regclass('pgshift.checkpoint') IS NOT NULL",
        )
        .await;
    scene
        .until(
            "the wait",
            "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'lock_waiting')",
        )
        .await;
    raise_the_epoch(&scene).await;
    blocker.batch_execute("COMMIT").await.expect("COMMIT");
    let (output, _) = ended_within(Duration::from_secs(10), first).await;
    output.expect(5);
    assert_eq!(scene.db.schema().await, before);
    scene.done(&["resume"]).await;
    assert_eq!(scene.state().await, "ready");
}

/// A statement of a frozen runner goes on at the server, in a transaction that holds the fence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_frozen_in_a_long_step_is_taken_over() {
    let migration = "-- pgshift: expand
ALTER TABLE orders ADD CONSTRAINT sane CHECK (slow(total) >= 0);
";
    let slow = "CREATE FUNCTION slow(n numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS
                    'BEGIN PERFORM pg_sleep(0.01); RETURN n; END'";
    let setup = format!("{}; {slow}", orders(10_000));
    let scene = Scene::new("runners_frozen_step", &setup, migration).await;
    let frozen = scene.spawn(&["apply"]);
    let long = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgshift'
                    AND datname = current_database() AND state = 'active'
                    AND query LIKE '%VALIDATE CONSTRAINT%' AND query_start < now() - interval '0.2 s')";
    scene.until("the long step", long).await;
    frozen.signal("STOP");
    scene
        .until(
            "the lease runs out",
            "SELECT expires_at < clock_timestamp() FROM pgshift.lease",
        )
        .await;
    assert!(scene.rows_true(long).await, "it is still at work");
    let fast = slow
        .replace("CREATE", "CREATE OR REPLACE")
        .replace("PERFORM pg_sleep(0.01);", "");
    scene.db.execute(&fast).await;
    let second = scene.spawn(&["resume"]);
    let (output, _) = ended_within(Duration::from_secs(12), second).await;
    output.expect(0);
    assert_eq!(scene.state().await, "complete");
    frozen.signal("CONT");
    let (output, _) = ended_within(Duration::from_secs(10), frozen).await;
    // What it was to do is done.
    output.expect(0);
    assert_eq!(scene.one::<i64>("SELECT epoch FROM pgshift.run").await, 2);
}
