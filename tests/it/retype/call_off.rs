//! A way back that nobody wants any more.

use std::time::Duration;

use crate::lifecycle::{Project, assert_same};

/// What a value stops is complete again, and can be taken back when the value has gone.
#[tokio::test]
async fn a_value_that_the_old_type_cannot_hold() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, c int); INSERT INTO t SELECT n, n
        FROM generate_series(1, 500) n";
    let file = "ALTER TABLE t ALTER c TYPE bigint;";
    for to in ["start", "ready"] {
        let project = Project::new(&format!("call_off_{to}"), setup, file).await;
        let first = project.picture().await;
        project.to("apply", "ready").await;
        for state in ["ready", "complete"] {
            let output = project.command("revert", &["--call-off"]).await.expect(3);
            let why = format!("is {state}: no way back is under way");
            assert!(output.stderr.contains(&why), "{}", output.stderr);
            if state == "ready" {
                project.to("contract", "complete").await;
            }
        }
        let complete = project.picture().await;
        project
            .db
            .execute("UPDATE t SET c = 5000000000 WHERE id = 7")
            .await;
        for _ in 0..2 {
            let output = project.command("revert", &["--to", to]).await.expect(3);
            for said in ["id=7", "nothing was taken back", "revert --call-off"] {
                assert!(output.stderr.contains(said), "{}", output.stderr);
            }
            let status = project.command("status", &[]).await.expect(0).stdout;
            for said in ["reverting", "--call-off"] {
                assert!(status.contains(said), "{status}");
            }
            project.command("contract", &[]).await.expect(3);
            project.command("revert", &["--call-off"]).await.expect(0);
            assert_eq!(project.state().await, "complete");
            assert_same(
                "schema",
                complete.schema(),
                project.picture().await.schema(),
            );
        }
        let log = project.command("log", &[]).await.expect(0).stdout;
        assert!(log.contains("called off: complete as before"), "{log}");
        project.cli.run(&["log", "--verify"]).await.expect(0);

        project.db.execute("UPDATE t SET c = 8 WHERE id = 7").await;
        if to == "ready" {
            project
                .command("revert", &["--to", "ready"])
                .await
                .expect(0);
            project.to("contract", "complete").await;
        }
        project.command("revert", &[]).await.expect(0);
        assert_same("schema", first.schema(), project.picture().await.schema());
        project
            .holds(&[
                "SELECT sum(c) = 125251 FROM t",
                "SELECT count(*) = 500 FROM t",
            ])
            .await;
        // A run of which a way back took the place, or that was called off, is nobody's any more.
        project
            .holds(&["SELECT bool_and(epoch > 1) FROM pgshift.run WHERE state = 'called_off'"])
            .await;
    }
}

/// Where locks could not be had, the migration stands again where it stood: READY, or on its way.
#[tokio::test]
async fn a_way_back_that_got_no_lock() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, c int); CREATE TABLE o (id int, n int);
        INSERT INTO t SELECT n, n FROM generate_series(1, 500) n";
    let file = "-- pgshift: expand\nALTER TABLE o ADD COLUMN first int;
        ALTER TABLE t ADD COLUMN d bigint;\n-- pgshift: backfill\nUPDATE t SET d = c * 2;
        -- pgshift: contract\nALTER TABLE t DROP COLUMN c;";
    let project = Project::new("call_off_lock", setup, file).await;
    let first = project.picture().await;
    let short = ["--lock-budget", "500ms", "--lock-timeout", "200ms"];
    let in_the_way = || async {
        let client = project.db.client().await;
        let lock = "BEGIN; LOCK TABLE t IN SHARE MODE; LOCK TABLE o IN SHARE MODE";
        client.batch_execute(lock).await.expect("a lock");
        client
    };
    let mut other = in_the_way().await;
    other
        .batch_execute("ROLLBACK; BEGIN; LOCK TABLE t IN SHARE MODE")
        .await
        .expect("a lock");
    project.command("apply", &short).await.expect(4);
    assert_eq!(project.state().await, "applying");
    for state in ["applying", "ready"] {
        drop(other);
        other = in_the_way().await;
        project.command("revert", &short).await.expect(4);
        assert_eq!(project.state().await, "reverting");
        project.command("revert", &["--call-off"]).await.expect(0);
        assert_eq!(project.state().await, state);
        other.batch_execute("ROLLBACK").await.expect("an end");
        let next = if state == "applying" {
            "resume"
        } else {
            "contract"
        };
        project.command(next, &[]).await.expect(0);
    }
    assert_eq!(project.state().await, "complete");
    project.holds(&["SELECT bool_and(d = id * 2) FROM t"]).await;
    project.command("revert", &[]).await.expect(0);
    assert_same("schema", first.schema(), project.picture().await.schema());
}

/// An index may be half dropped: there is no way but on.
#[tokio::test]
async fn not_where_something_is_taken_back() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, c int); CREATE INDEX ON t (c);
        INSERT INTO t SELECT n, n FROM generate_series(1, 500) n";
    let file = "ALTER TABLE t ALTER c TYPE bigint;";
    let project = Project::new("call_off_late", setup, file).await;
    let first = project.picture().await;
    project.to("apply", "ready").await;
    let other = project.db.client().await;
    let lock = "BEGIN; LOCK TABLE t IN SHARE MODE";
    other.batch_execute(lock).await.expect("a lock");
    let runner = project.cli.spawn(&["--yes", "revert", &project.id]);
    let dropping = "SELECT count(*) > 0 FROM pg_stat_activity
        WHERE query LIKE 'DROP INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'";
    let limit = Duration::from_secs(30);
    project
        .db
        .until(limit, "the drop of an index", dropping)
        .await;
    runner.kill().await;
    let output = project.command("revert", &["--call-off"]).await.expect(3);
    assert!(
        output.stderr.contains("past the point"),
        "{}",
        output.stderr
    );
    assert_eq!(project.state().await, "reverting");
    other.batch_execute("ROLLBACK").await.expect("an end");
    project.command("resume", &[]).await.expect(0);
    assert_same("schema", first.schema(), project.picture().await.schema());
}
