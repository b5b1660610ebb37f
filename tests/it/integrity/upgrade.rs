//! State schemas of other versions.

use super::{ID, TWO_WAYS, plain};
use crate::support::{Cli, Db};

/// The state schema of the first release.
const V1: &str = include_str!("../../../src/store/v1.sql");

/// With a migration that is READY, a log, and a person's word, as the first release left it.
async fn first_release(name: &str) -> (Db, Cli) {
    let db = Db::with(name, &plain(1_000)).await;
    let cli = Cli::new(&db);
    cli.migration(ID, TWO_WAYS);
    cli.run(&["apply"]).await.expect(0);
    db.execute(&format!(
        "ALTER SCHEMA pgshift RENAME TO later; {V1}
         INSERT INTO pgshift.migration SELECT * FROM later.migration;
         INSERT INTO pgshift.run OVERRIDING SYSTEM VALUE SELECT * FROM later.run;
         SELECT setval(pg_get_serial_sequence('pgshift.run', 'id'), (SELECT max(id) FROM later.run));
         INSERT INTO pgshift.step SELECT * FROM later.step;
         INSERT INTO pgshift.checkpoint SELECT * FROM later.checkpoint;
         INSERT INTO pgshift.event SELECT * FROM later.event;
         INSERT INTO pgshift.override VALUES ('{ID}', 'duty', '90%', 'me');
         DO $$ DECLARE f regprocedure; BEGIN
             FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'later'::regnamespace
                      AND proname LIKE 'sync%' LOOP
                 EXECUTE format('ALTER FUNCTION %s SET SCHEMA pgshift', f);
             END LOOP; END $$;
         DROP SCHEMA later CASCADE"
    ))
    .await;
    (db, cli)
}

const VERSION: &str = "SELECT max(version) FROM pgshift.schema_version";
const HEAD: &str = "SELECT (SELECT (seq, hash) FROM pgshift.event_head)
    = (SELECT (seq, hash) FROM pgshift.event ORDER BY seq DESC LIMIT 1)";

#[tokio::test]
async fn the_first_release_is_upgraded_with_its_data() {
    let (db, cli) = first_release("upgrade").await;
    let kept = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (
        SELECT m::text AS t FROM pgshift.migration m UNION ALL SELECT r::text FROM pgshift.run r
        UNION ALL SELECT s::text FROM pgshift.step s UNION ALL SELECT c::text FROM pgshift.checkpoint c
        UNION ALL SELECT e::text FROM pgshift.event e UNION ALL SELECT o::text FROM pgshift.override o) t";
    let before: String = db.one(kept).await;
    // Reading needs no upgrade.
    let status = cli.run(&["status"]).await.expect(0);
    assert!(status.stdout.contains("ready"), "{}", status.stdout);
    cli.run(&["log", "--verify"]).await.expect(0);
    assert_eq!(db.one::<i32>(VERSION).await, 1);

    cli.run(&["init"]).await.expect(0);
    assert_eq!(db.one::<i32>(VERSION).await, 2);
    assert_eq!(db.one::<String>(kept).await, before);
    assert!(db.one::<bool>(HEAD).await);
    cli.run(&["verify", ID]).await.expect(0);
    cli.run(&["contract", ID]).await.expect(0);
    cli.run(&["log", "--verify"]).await.expect(0);
    assert!(db.one::<bool>(HEAD).await);
}

#[tokio::test]
async fn a_run_upgrades_by_itself() {
    let (db, cli) = first_release("upgrade_run").await;
    cli.run(&["contract", ID]).await.expect(0);
    assert_eq!(db.one::<i32>(VERSION).await, 2);
    cli.run(&["log", "--verify"]).await.expect(0);
}

#[tokio::test]
async fn a_newer_one_is_refused() {
    let (db, cli) = first_release("upgrade_newer").await;
    db.execute("INSERT INTO pgshift.schema_version (version) VALUES (99)")
        .await;
    for args in [
        &["status"][..],
        &["init"],
        &["apply"],
        &["verify", ID],
        &["repair", ID],
        &["log"],
    ] {
        let output = cli.run(args).await.expect(3);
        assert!(
            output
                .stderr
                .contains("of version 99, this pgshift knows up to 2"),
            "{args:?}: {}",
            output.stderr
        );
    }
    db.execute("DELETE FROM pgshift.schema_version").await;
    let output = cli.run(&["init"]).await.expect(3);
    assert!(
        output.stderr.contains("says no version"),
        "{}",
        output.stderr
    );
}

/// Killed while it waits in the middle of the upgrade: nothing of it is there.
#[tokio::test]
async fn a_killed_upgrade_is_not_there() {
    let (db, cli) = first_release("upgrade_killed").await;
    let log = db.client().await;
    log.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1885827169, 1)")
        .await
        .unwrap();
    let running = cli.spawn(&["init"]);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgshift'
                 AND datname = current_database() AND wait_event = 'advisory'";
    while db.one::<i64>(waits).await == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    running.kill().await;
    log.batch_execute("COMMIT").await.unwrap();
    assert_eq!(db.one::<i32>(VERSION).await, 1);
    let ends = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgshift'
                AND datname = current_database()";
    while db.one::<i64>(ends).await > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // The killed one's server process may have found the way free: whole, or not there.
    let version: i32 = db.one(VERSION).await;
    let tables: i64 = db
        .one(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'pgshift'::regnamespace
              AND relname IN ('event_head', 'verification', 'verify_range', 'wrong_row')",
        )
        .await;
    assert_eq!((version, tables), (1, 0));
    cli.run(&["init"]).await.expect(0);
    assert_eq!(db.one::<i32>(VERSION).await, 2);
}

#[tokio::test]
async fn two_that_upgrade_at_once_do_it_once() {
    let (db, cli) = first_release("upgrade_twice").await;
    let gate = db.client().await;
    gate.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1885827169, 0)")
        .await
        .unwrap();
    let (one, other) = (cli.spawn(&["init"]), cli.spawn(&["verify", ID]));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgshift'
                 AND datname = current_database() AND wait_event = 'advisory'";
    while db.one::<i64>(waits).await < 2 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gate.batch_execute("COMMIT").await.unwrap();
    one.wait().await.expect(0);
    other.wait().await.expect(0);
    let versions: Vec<i32> = db
        .rows("SELECT version FROM pgshift.schema_version ORDER BY 1")
        .await;
    assert_eq!(versions, [1, 2]);
}
