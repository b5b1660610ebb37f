//! `kill -9` in every phase, and back: the schema is that of a run that nothing disturbed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{ID, Scene};
use crate::support::{Output, Running};

const ROWS: u32 = 150;
/// Kills in all, and at least so many in each of apply, contract and revert.
const KILLS: u32 = 24;
const KILLS_EACH: u32 = 4;

/// Index builds and constraint checks of some length (a sleep takes 1 ms or more), so that kills
/// hit them.
fn setup() -> String {
    format!(
        "CREATE FUNCTION slow(n numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN PERFORM pg_sleep(0.00001); RETURN n; END';
         CREATE TABLE orders (
             id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             customer integer,
             total numeric(12,2) NOT NULL DEFAULT 1,
             note text DEFAULT 'none'
         );
         INSERT INTO orders (customer, total)
         SELECT n % 1000, n / 100.0 FROM generate_series(1, {ROWS}) n;
         CREATE INDEX orders_note ON orders (note);
         ANALYZE orders"
    )
}

const MIGRATION: &str = "-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
CREATE INDEX orders_customer ON orders (slow(customer));
ALTER TABLE orders ADD CONSTRAINT orders_total_sane CHECK (slow(total) >= 0);
ALTER TABLE orders ALTER COLUMN customer SET NOT NULL;
CREATE INDEX orders_total_cents ON orders (slow(total_cents), id);
CREATE VIEW order_cents AS SELECT id, total_cents FROM orders;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
CREATE UNIQUE INDEX orders_cents_unique ON orders (total_cents, id);
DROP INDEX orders_note;
ALTER TABLE orders DROP COLUMN total;
";

/// What the schema is before, at READY, and when complete.
async fn undisturbed() -> [String; 3] {
    let scene = Scene::new("phases_reference", &setup(), MIGRATION).await;
    let before = scene.db.schema().await;
    scene.done(&["apply"]).await;
    let ready = scene.db.schema().await;
    scene.done(&["contract", ID]).await;
    let complete = scene.db.schema().await;
    scene.done(&["revert", ID]).await;
    assert_eq!(scene.db.schema().await, before, "undisturbed");
    [before, ready, complete]
}

struct Phases {
    scene: Scene,
    /// Kills by command.
    kills: BTreeMap<String, u32>,
    /// Steps that were under way at a kill.
    hit: BTreeSet<String>,
}

impl Phases {
    fn new(scene: Scene) -> Self {
        Self {
            scene,
            kills: BTreeMap::new(),
            hit: BTreeSet::new(),
        }
    }

    fn enough(&self) -> bool {
        self.kills.values().sum::<u32>() >= KILLS
            && ["apply", "contract", "revert"]
                .iter()
                .all(|c| self.kills.get(*c).is_some_and(|n| *n >= KILLS_EACH))
    }

    async fn state(&self) -> String {
        if !self
            .scene
            .rows_true("SELECT to_regclass('pgshift.migration') IS NOT NULL")
            .await
        {
            return "pending".to_owned();
        }
        self.scene
            .rows::<String>("SELECT state FROM pgshift.migration")
            .await
            .pop()
            .unwrap_or_else(|| "pending".to_owned())
    }

    /// Runs a command to the state that it leads to, through kills.
    async fn to(&mut self, command: &[&str], goal: &str) {
        let start = self.state().await;
        for _ in 0..100 {
            let state = self.state().await;
            if state == goal {
                return;
            }
            let args: &[&str] = if state == start { command } else { &["resume"] };
            let running = self.scene.spawn(args);
            if self.enough() {
                running.wait().await.expect(0);
                continue;
            }
            if let Some(output) = self.kill_some_steps_on(running).await {
                output.expect(0);
            } else {
                *self.kills.entry(command[0].to_owned()).or_default() += 1;
                self.note().await;
            }
        }
        panic!("{goal} was not reached: {}", self.state().await);
    }

    /// Kills a runner at a random moment of one of its next steps.
    async fn kill_some_steps_on(&mut self, mut running: Running) -> Option<Output> {
        let goal = self.done().await + self.scene.rng.i64(0..3);
        while running.running() && self.done().await < goal {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let time = self.scene.moment(0, 60);
        self.scene.kill_after(running, time).await
    }

    async fn done(&self) -> i64 {
        if self.state().await == "pending" {
            return 0;
        }
        self.scene
            .one("SELECT count(*) FROM pgshift.step WHERE state = 'done'")
            .await
    }

    async fn note(&mut self) {
        if self.state().await == "pending" {
            return;
        }
        let at = self
            .scene
            .rows::<String>(
                "SELECT phase || ': ' || title FROM pgshift.step WHERE state <> 'done'
                 ORDER BY run_id DESC, ordinal LIMIT 1",
            )
            .await;
        self.hit.extend(at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_every_phase_it_ends_as_if_undisturbed() {
    let [before, ready, complete] = undisturbed().await;
    let scene = Scene::new("phases", &setup(), MIGRATION).await;
    let mut phases = Phases::new(scene);
    let mut rounds = 0;
    loop {
        rounds += 1;
        phases.to(&["apply"], "ready").await;
        assert_eq!(
            phases.scene.db.schema().await,
            ready,
            "at READY, round {rounds}"
        );
        phases.to(&["contract", ID], "complete").await;
        assert_eq!(phases.scene.db.schema().await, complete, "round {rounds}");
        assert_eq!(phases.scene.one::<i64>(WRONG).await, 0);
        phases.to(&["revert", ID], "reverted").await;
        assert_eq!(phases.scene.db.schema().await, before, "round {rounds}");
        let rows: i64 = phases
            .scene
            .one("SELECT count(*) FROM orders WHERE total = id / 100.0")
            .await;
        assert_eq!(rows, i64::from(ROWS));
        phases.scene.no_invalid_index().await;
        if phases.enough() {
            break;
        }
        assert!(rounds < 8, "kills do not hit: {:?}", phases.kills);
    }
    eprintln!(
        "{rounds} rounds, kills {:?}: {:#?}",
        phases.kills, phases.hit
    );
}

const WRONG: &str = "SELECT count(*) FROM orders WHERE total_cents IS DISTINCT FROM id";

/// Not resumed but taken back, from wherever the kill left it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_can_be_reverted_from_anywhere() {
    let scene = Scene::new("phases_revert", &setup(), MIGRATION).await;
    let before = scene.db.schema().await;
    let mut phases = Phases::new(scene);
    for round in 0..6 {
        let contract = round % 3 == 2;
        if contract {
            phases.scene.done(&["apply"]).await;
        }
        let args: &[&str] = if contract {
            &["contract", ID]
        } else {
            &["apply"]
        };
        let running = phases.scene.spawn(args);
        let time = phases.scene.moment(60, 1_200);
        if phases.scene.kill_after(running, time).await.is_none() {
            phases.note().await;
        }
        if ["pending", "reverted"].contains(&&*phases.state().await) {
            continue;
        }
        phases.to(&["revert", ID], "reverted").await;
        assert_eq!(
            phases.scene.db.schema().await,
            before,
            "round {round}, kills hit {:#?}",
            phases.hit
        );
        phases.scene.no_invalid_index().await;
    }
    eprintln!("kills hit: {:#?}", phases.hit);
}
