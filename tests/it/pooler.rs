//! A real PgBouncer in front of the database: its queue as a signal, and what works through it.

use std::time::Duration;

use crate::support::{Cli, Db, PgBouncer, Workload};

const ID: &str = "20261123_cents";
const MIGRATION: &str = "\
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;
-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;
-- pgshift: contract
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
";
const ROWS: u32 = 60_000;

async fn scene(name: &str, rows: u32) -> (Db, Cli) {
    let db = Db::with(
        name,
        &format!(
            "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                 total numeric(12,2), note text);
             INSERT INTO orders (total, note)
             SELECT i / 100.0, 'n' FROM generate_series(1, {rows}) i;
             ANALYZE orders"
        ),
    )
    .await;
    let cli = Cli::new(&db);
    cli.migration(ID, MIGRATION);
    (db, cli)
}

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

async fn event(db: &Db, kind: &str, cause: &str) -> String {
    let found =
        format!("FROM pgshift.event WHERE kind = '{kind}' AND detail->>'cause' = '{cause}'");
    db.until(
        PATIENCE,
        &format!("{kind} by {cause}"),
        &format!("SELECT EXISTS (SELECT {found})"),
    )
    .await;
    db.one(&format!(
        "SELECT coalesce(detail->>'reason', '') {found} ORDER BY seq LIMIT 1"
    ))
    .await
}

async fn wrong(db: &Db) -> i64 {
    db.one(
        "SELECT count(*) FROM orders WHERE total_cents IS DISTINCT FROM round(total * 100)::bigint",
    )
    .await
}

async fn untouched(db: &Db) {
    let state: Option<String> = db.one("SELECT to_regclass('pgshift.run')::text").await;
    assert_eq!(state, None);
}

async fn chunks(db: &Db) -> i64 {
    db.one("SELECT coalesce(sum(chunks), 0)::bigint FROM pgshift.checkpoint")
        .await
}

/// apply, contract, and the way back.
async fn whole_cycle(db: &Db, cli: &Cli) {
    cli.run(&["apply"]).await.expect(0);
    assert_eq!(wrong(db).await, 0);
    cli.run(&["contract", ID]).await.expect(0);
    let columns = "SELECT count(*) FROM information_schema.columns
                   WHERE table_name = 'orders' AND column_name = ";
    assert_eq!(db.one::<i64>(&format!("{columns} 'total'")).await, 0);
    cli.run(&["revert", ID, "--yes"]).await.expect(0);
    assert_eq!(db.one::<i64>(&format!("{columns} 'total'")).await, 1);
    assert_eq!(db.one::<i64>(&format!("{columns} 'total_cents'")).await, 0);
    let off: i64 = db
        .one("SELECT count(*) FROM orders WHERE total <> id / 100.0")
        .await;
    assert_eq!(off, 0, "values after the way back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_in_the_pool_holds_the_backfill_until_it_is_gone() {
    let (db, cli) = scene("pool_queue", ROWS).await;
    let pool = PgBouncer::start(&db.url(), "transaction", 5, db.name()).await;
    let apply = cli.spawn(&[
        "apply",
        "--duty",
        "0.05",
        "--pgbouncer-url",
        &pool.console(),
    ]);
    db.backfilling(PATIENCE).await;
    // More than five sessions can do, through an alias.
    let load = Workload::start(&pool.url("alias"), 20, 300, |n| {
        let id = n * 7919 % u64::from(ROWS) + 1;
        format!("SELECT pg_sleep(0.04); UPDATE orders SET note = 'seen {n}' WHERE id = {id}")
    });
    let reason = event(&db, "held", "pgbouncer_waiting").await;
    assert!(
        reason.starts_with("pgbouncer_waiting(alias/postgres) ") && reason.ends_with(">= 1"),
        "{reason}"
    );
    // The chunk that was under way may end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let held = chunks(&db).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(chunks(&db).await, held, "chunks while clients wait");
    let status = cli.run(&["status"]).await.expect(0);
    assert!(status.stdout.contains("pgbouncer_"), "{}", status.stdout);
    load.stop().await.expect_no_error();
    event(&db, "released", "pgbouncer_waiting").await;
    cli.run(&["throttle", "set", ID, "duty=100%"])
        .await
        .expect(0);
    apply.wait().await.expect(0);
    assert!(chunks(&db).await > held);
    assert_eq!(wrong(&db).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_session_a_run_is_refused_with_the_fix() {
    let (db, cli) = scene("pool_refused", 100).await;
    let pool = PgBouncer::start(&db.url(), "transaction", 5, db.name()).await;
    let secret = pool.url(db.name()).replace("postgres@", "postgres:s3cret@");
    let cli = cli.env("DATABASE_URL", &secret);
    let refused = cli.run(&["apply"]).await.expect(3);
    let fix = |text: &str| text.contains("--direct-url") && text.contains(&pool.place());
    assert!(fix(&refused.stderr), "{}", refused.stderr);
    assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
    untouched(&db).await;
    // What is short works where the pooler carries statements, and is refused where it does not.
    let short = if pool.carries_statements().await {
        0
    } else {
        3
    };
    for command in ["plan", "status", "init"] {
        let output = cli.run(&[command]).await.expect(short);
        assert!(short == 0 || fix(&output.stderr), "{}", output.stderr);
    }
    let doctor = cli.run(&["doctor"]).await.expect(1);
    assert!(
        doctor.stdout.contains("transaction pooler") && fix(&doctor.stdout),
        "{}",
        doctor.stdout
    );
    // A pool by statements carries nothing.
    let statements = PgBouncer::start(&db.url(), "statement", 5, db.name()).await;
    let cli = cli.env("DATABASE_URL", &statements.url(db.name()));
    let refused = cli.run(&["status"]).await.expect(3);
    assert!(
        refused.stderr.contains("statement mode"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_direct_url_the_whole_cycle_works() {
    let (db, cli) = scene("pool_direct", 5_000).await;
    let pool = PgBouncer::start(&db.url(), "transaction", 5, db.name()).await;
    let cli = cli
        .env("DATABASE_URL", &pool.url("alias"))
        .env("PGSHIFT_PGBOUNCER_URL", &pool.console());
    // Another database of the same server.
    let other = cli
        .run(&[
            "apply",
            "--direct-url",
            &db.url().replace(db.name(), "postgres"),
        ])
        .await
        .expect(3);
    assert!(
        other.stderr.contains("different places") && other.stderr.contains(db.name()),
        "{}",
        other.stderr
    );
    untouched(&db).await;
    // A pooler is no direct way.
    let pooled = cli
        .run(&["apply", "--direct-url", &pool.url(db.name())])
        .await
        .expect(3);
    assert!(pooled.stderr.contains("past it"), "{}", pooled.stderr);
    untouched(&db).await;

    let cli = cli.env("PGSHIFT_DIRECT_URL", &db.url());
    let plan = cli.run(&["plan"]).await.expect(0);
    assert!(plan.stdout.contains("total_cents"), "{}", plan.stdout);
    cli.run(&["init"]).await.expect(0);
    let doctor = cli.run(&["doctor"]).await;
    assert!(doctor.stdout.contains("way of chunks"), "{}", doctor.stdout);
    assert!(doctor.stdout.contains("PgBouncer 1."), "{}", doctor.stdout);
    let dry = cli.spawn(&["apply"]).wait().await.expect(0);
    let way = if pool.carries_statements().await {
        "chunks go through"
    } else {
        "chunks too"
    };
    assert_eq!(dry.stderr.matches(way).count(), 1, "{}", dry.stderr);
    assert_eq!(wrong(&db).await, 0);
    cli.run(&["revert", ID, "--yes"]).await.expect(0);
    whole_cycle(&db, &cli).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_in_session_mode_needs_no_direct_url() {
    let (db, cli) = scene("pool_session", 5_000).await;
    let pool = PgBouncer::start(&db.url(), "session", 20, db.name()).await;
    let cli = cli.env("DATABASE_URL", &pool.url(db.name()));
    whole_cycle(&db, &cli).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_that_cannot_be_read_is_an_error_before_the_start() {
    let (db, cli) = scene("pool_console", 100).await;
    let mut pool = PgBouncer::start(&db.url(), "transaction", 5, db.name()).await;
    let stranger = pool.console().replace("stats@", "postgres:s3cret@");
    let refused = cli
        .run(&["apply", "--pgbouncer-url", &stranger])
        .await
        .expect(2);
    assert!(
        refused.stderr.contains(&pool.place()) && refused.stderr.contains("stats_users"),
        "{}",
        refused.stderr
    );
    assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
    cli.run(&["apply", "--pgbouncer-url", &pool.url(db.name())])
        .await
        .expect(2);
    pool.kill();
    let gone = cli
        .run(&["apply", "--pgbouncer-url", &pool.console()])
        .await
        .expect(7);
    assert!(
        gone.stderr.contains(&pool.place()) && gone.stderr.contains("console"),
        "{}",
        gone.stderr
    );
    untouched(&db).await;
    // Nobody asks for it: not read.
    cli.run(&[
        "apply",
        "--pgbouncer-url",
        &pool.console(),
        "--throttle",
        "max-pgbouncer-waiting=off",
        "--throttle",
        "max-pgbouncer-wait=off",
    ])
    .await
    .expect(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_dies_holds_and_one_that_is_back_lets_go() {
    let (db, cli) = scene("pool_outage", ROWS).await;
    let mut pool = PgBouncer::start(&db.url(), "transaction", 5, db.name()).await;
    // The console alone.
    let apply = cli.spawn(&[
        "apply",
        "--duty",
        "0.05",
        "--pgbouncer-url",
        &pool.console(),
    ]);
    db.backfilling(PATIENCE).await;
    pool.kill();
    let reason = event(&db, "held", "blind").await;
    assert!(
        reason.starts_with("pgbouncer cannot be read") && reason.contains(&pool.place()),
        "{reason}"
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    let held = chunks(&db).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(chunks(&db).await, held, "chunks while blind");
    pool.start_again().await;
    event(&db, "released", "blind").await;
    cli.run(&["throttle", "set", ID, "duty=100%"])
        .await
        .expect(0);
    apply.wait().await.expect(0);
    assert_eq!(wrong(&db).await, 0);
    cli.run(&["revert", ID, "--yes"]).await.expect(0);
    db.execute("DELETE FROM pgshift.override").await;

    // Live control through a pool: of a version that carries statements, or refused.
    let through = Cli::new(&db).env("DATABASE_URL", &pool.url(db.name()));
    let short = if pool.carries_statements().await {
        0
    } else {
        3
    };
    through.migration(ID, MIGRATION);
    through.run(&["resume", ID]).await.expect(3);

    // Chunks through it, where it carries them.
    let cli = cli
        .env("DATABASE_URL", &pool.url(db.name()))
        .env("PGSHIFT_DIRECT_URL", &db.url());
    let before: i64 = db.one("SELECT max(id) FROM pgshift.run").await;
    let apply = cli.spawn(&["apply", "--duty", "0.05"]);
    db.until(
        PATIENCE,
        "the first chunks",
        &format!(
            "SELECT count(*) FILTER (WHERE chunks > 2) > 0 FROM pgshift.checkpoint
             WHERE run_id > {before}"
        ),
    )
    .await;
    through.run(&["pause", ID]).await.expect(short);
    if short == 0 {
        event(&db, "held", "paused").await;
    }
    through.run(&["resume", ID]).await.expect(short);
    if short == 0 {
        event(&db, "released", "paused").await;
    }
    pool.kill();
    tokio::time::sleep(Duration::from_secs(2)).await;
    pool.start_again().await;
    cli.run(&["throttle", "set", ID, "duty=100%"])
        .await
        .expect(0);
    apply.wait().await.expect(0);
    assert_eq!(wrong(&db).await, 0);
}

/// Blind means stopped: a limit that nothing can watch is an error before anything starts.
#[tokio::test]
async fn a_limit_of_the_queue_without_a_console_is_refused() {
    let (db, cli) = scene("pooler_unwatched", 1000).await;
    let refused = async |args: &[&str]| {
        let error = cli.run(args).await.expect(2).stderr;
        for part in ["max-pgbouncer-wait is set", "--pgbouncer-url", "=off"] {
            assert!(error.contains(part), "{part} in {error}");
        }
    };
    refused(&["apply", "--throttle", "max-pgbouncer-wait=2s"]).await;
    cli.migration(
        ID,
        &format!("-- pgshift: option max-pgbouncer-wait=2s\n{MIGRATION}"),
    );
    refused(&["apply"]).await;
    cli.migration(ID, MIGRATION);
    cli.file("pgshift.toml", "[throttle]\nmax-pgbouncer-wait = \"2s\"\n");
    refused(&["apply"]).await;
    let doctor = cli.run(&["doctor"]).await;
    assert_ne!(doctor.code, Some(0));
    assert!(
        doctor.stdout.contains("max-pgbouncer-wait is set"),
        "{}",
        doctor.stdout
    );
    let nothing = "SELECT to_regnamespace('pgshift') IS NULL";
    assert!(db.one::<bool>(nothing).await);
    cli.run(&["apply", "--throttle", "max-pgbouncer-wait=off"])
        .await
        .expect(0);
    refused(&["contract", ID]).await;
    refused(&["throttle", "set", ID, "max-pgbouncer-wait=2s"]).await;
    // The way back does not depend on it.
    cli.run(&["revert", ID]).await.expect(0);
}

#[tokio::test]
async fn throttle_show_says_where_each_limit_comes_from() {
    let (db, cli) = scene("throttle_show", ROWS).await;
    cli.migration(
        ID,
        &format!("-- pgshift: option max-blocked=7 max-vacuums=2 max-lag-bytes=1GiB\n{MIGRATION}"),
    );
    cli.file(
        "pgshift.toml",
        "[throttle]\nmax-lag = \"8s\"\nmax-blocked = 6\n",
    );
    let apply = cli.spawn(&["apply", "--duty=1%", "--throttle", "max-vacuums=3"]);
    db.backfilling(PATIENCE).await;
    let set = ["throttle", "set", ID, "max-lag-bytes=2GiB", "--for", "1h"];
    cli.run(&set).await.expect(0);
    let told = "SELECT count(*) > 0 FROM pgshift.lease WHERE progress ? 'limits'";
    db.until(PATIENCE, "a sign of life", told).await;
    let show = ["throttle", "show", ID, "--format", "json"];
    let shown = cli.run(&show).await.expect(0).json();
    let limit = |key: &str| {
        let all = shown["limits"].as_array().expect("limits");
        let found = all.iter().find(|l| l["key"] == key).expect("a key");
        format!("{} {}", found["value"], found["source"]).replace('"', "")
    };
    assert_eq!(limit("min-free-connections"), "3 default");
    assert_eq!(limit("max-lag"), "8s pgshift.toml");
    assert_eq!(limit("max-blocked"), "7 migration file");
    assert_eq!(limit("max-vacuums"), "3 command line");
    assert_eq!(limit("duty"), "0.01 command line");
    assert_eq!(limit("max-lag-bytes"), "2GiB override");
    let human = cli.run(&["throttle", "show", ID]).await.expect(0).stdout;
    assert!(human.contains(" until "), "{human}");
    apply.kill().await;
}
