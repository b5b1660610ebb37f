//! `kill -9` at any moment of a change of type, there, on and back, while the application writes:
//! it uses the same names all the time, and notices nothing.

use std::time::Duration;

use super::{ID, Scene, scatter};
use crate::support::Workload;

const ROWS: u64 = 3_000;

const FILE: &str =
    "ALTER TABLE items ALTER COLUMN id TYPE bigint, ALTER COLUMN kind TYPE bigint;\n";

fn setup() -> String {
    format!(
        "CREATE FUNCTION slow(n bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN IF n % 30 = 0 THEN PERFORM pg_sleep(0.0001); END IF; RETURN n; END';
         CREATE TABLE kinds (id int PRIMARY KEY);
         INSERT INTO kinds SELECT n FROM generate_series(0, 9) n;
         CREATE TABLE items (id serial PRIMARY KEY, kind int NOT NULL DEFAULT 1 REFERENCES kinds,
             copy bigint, CONSTRAINT sane CHECK (slow(kind) >= 0));
         CREATE INDEX items_slow ON items (slow(kind), id);
         CREATE VIEW of_kind AS SELECT kind, count(*) FROM items GROUP BY kind;
         CREATE VIEW most AS SELECT max(count) FROM of_kind;
         GRANT SELECT ON of_kind TO PUBLIC;
         CREATE MATERIALIZED VIEW kept AS SELECT kind, count FROM of_kind;
         CREATE UNIQUE INDEX kept_kind ON kept (kind);
         CREATE VIEW over_kept AS SELECT max(kind) FROM kept;
         CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER on_kind AFTER UPDATE OF kind ON items FOR EACH ROW EXECUTE FUNCTION quiet();
         CREATE POLICY known ON items USING (kind < 10);
         CREATE STATISTICS both_kinds ON kind, copy FROM items;
         INSERT INTO items (kind, copy) SELECT n % 10, n % 10 FROM generate_series(1, {ROWS}) n;
         ANALYZE items"
    )
}

/// Kills of one command.
const KILLS_EACH: u32 = 3;

/// Runs a command, killed at random moments, until the migration is in `state`.
async fn through(scene: &mut Scene, command: &[&str], state: &str) -> u32 {
    let mut kills = 0;
    let mut args = command.to_vec();
    let mut ended = false;
    while kills < KILLS_EACH {
        let running = scene.spawn(&args);
        let time = scene.moment(100, 2_500);
        if let Some(output) = scene.kill_after(running, time).await {
            if output.code == Some(0) {
                ended = true;
                break;
            }
            // A kill before the run was recorded: the command itself comes again.
            assert!(kills > 0, "{}", output.stderr);
            args = command.to_vec();
            kills += 1;
        } else {
            kills += 1;
            args = vec!["resume", ID];
        }
    }
    // The last kill may have come after the end, or all of them before the beginning.
    let reached: Vec<String> = scene.rows("SELECT state FROM pgshift.migration").await;
    ended |= reached == [state];
    if !ended && scene.cli.run(&args).await.code != Some(0) {
        scene.done(command).await;
    }
    assert_eq!(scene.state().await, state, "after {command:?}");
    kills
}

/// The same, of a table with partitions on two levels, without what is refused there.
fn partitioned() -> String {
    let refused = |line: &&str| {
        let words = ["CREATE TRIGGER", "CREATE POLICY", "kept"];
        !words.iter().any(|word| line.contains(word))
    };
    let setup = setup();
    let lines: Vec<&str> = setup.lines().filter(refused).collect();
    lines
        .join("\n")
        .replace(
            "CREATE TABLE items (id serial PRIMARY KEY,",
            "CREATE TABLE items (id serial, day int NOT NULL DEFAULT (random() * 9)::int,
                 PRIMARY KEY (id, day),",
        )
        .replace(
            "CHECK (slow(kind) >= 0));",
            "CHECK (slow(kind) >= 0)) PARTITION BY RANGE (day);
             CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (6)
                 PARTITION BY RANGE (day);
             CREATE TABLE items_1a PARTITION OF items_1 FOR VALUES FROM (0) TO (3);
             CREATE TABLE items_1b PARTITION OF items_1 DEFAULT;
             CREATE TABLE items_2 PARTITION OF items DEFAULT;",
        )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_type_survives_kills_while_the_application_writes() {
    survives_kills("kill_retype", &setup()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_type_of_partitions_survives_kills() {
    survives_kills("kill_retype_tree", &partitioned()).await;
}

async fn survives_kills(name: &str, setup: &str) {
    let mut scene = Scene::new(name, setup, FILE).await;
    let before = scene.db.schema().await;
    let refreshes = setup.contains("kept");
    let load = Workload::start(&scene.db.url(), 2, 60, move |n| {
        let (id, kind) = (scatter(n, ROWS), n % 10);
        match n % 5 {
            4 if refreshes && n % 50 == 4 => {
                "REFRESH MATERIALIZED VIEW CONCURRENTLY kept".to_owned()
            }
            4 if refreshes && n % 2 == 0 => "SELECT * FROM kept, over_kept".to_owned(),
            4 => "SELECT max FROM most".to_owned(),
            0 => format!("INSERT INTO items (kind, copy) VALUES ({kind}, {kind})"),
            1 => "INSERT INTO items (copy) VALUES (1)".to_owned(),
            2 => format!("UPDATE items SET kind = {kind}, copy = {kind} WHERE id = {id}"),
            _ => format!("DELETE FROM items WHERE id = {id}"),
        }
    });
    let right = "SELECT count(*) FROM items WHERE kind IS DISTINCT FROM copy";
    let mut kills = through(&mut scene, &["apply"], "ready").await;
    kills += through(&mut scene, &["contract", ID], "complete").await;
    assert_eq!(scene.one::<i64>(right).await, 0);
    kills += through(&mut scene, &["revert", ID, "--to", "ready"], "ready").await;
    kills += through(&mut scene, &["contract", ID], "complete").await;
    kills += through(&mut scene, &["revert", ID], "reverted").await;
    assert_eq!(scene.one::<i64>(right).await, 0);
    assert_eq!(scene.db.schema().await, before);
    kills += through(&mut scene, &["apply"], "ready").await;
    kills += through(&mut scene, &["contract", ID], "complete").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    load.stop().await.expect_no_error();
    assert_eq!(scene.one::<i64>(right).await, 0);
    scene.no_invalid_index().await;
    eprintln!("{kills} kills");
    assert!(kills >= 8, "only {kills} kills");
}
