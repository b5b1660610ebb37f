//! The application does not wait for a backfill.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Scene, TOTAL_CENTS, orders, scatter};
use crate::support::Workload;

const ROWS: u32 = 300_000;
/// The longest wait for a lock of ours.
const LONGEST: Duration = Duration::from_millis(100);

/// Sessions that wait for a lock of a backfill, by when they began to.
const WAITING: &str = "SELECT l.pid, l.waitstart::text,
        (extract(epoch FROM clock_timestamp() - l.waitstart) * 1000)::float8,
        left(a.query, 80)
     FROM pg_locks l JOIN pg_stat_activity a USING (pid)
     WHERE NOT l.granted AND l.waitstart IS NOT NULL AND a.datname = current_database()
       AND a.application_name <> 'pgshift' AND a.wait_event_type = 'Lock'
       AND EXISTS (SELECT FROM unnest(pg_blocking_pids(l.pid)) b
                   JOIN pg_stat_activity ours ON ours.pid = b
                   WHERE ours.application_name = 'pgshift')";

/// Looks at who waits for a backfill, until it is stopped.
pub(super) struct Sampler {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Waits>,
}

pub(super) struct Waits {
    samples: u32,
    /// What a statement that waits for no lock took: a busy machine must not fail the test.
    machine: Duration,
    /// Milliseconds and query, longest first.
    all: Vec<(f64, String)>,
}

impl Sampler {
    pub(super) async fn start(scene: &Scene) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, client) = (stop.clone(), scene.db.client().await);
        let task = tokio::spawn(async move {
            let mut waits: HashMap<(i32, String), (f64, String)> = HashMap::new();
            let (mut samples, mut machine) = (0, Duration::ZERO);
            while !seen.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let rows = client.query(WAITING, &[]).await.expect("a sample");
                machine = machine.max(begun.elapsed());
                for row in rows {
                    let entry = waits.entry((row.get(0), row.get(1))).or_default();
                    if row.get::<_, f64>(2) >= entry.0 {
                        *entry = (row.get(2), row.get(3));
                    }
                }
                samples += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let mut all: Vec<(f64, String)> = waits.into_values().collect();
            all.sort_by(|a, b| b.0.total_cmp(&a.0));
            Waits {
                samples,
                machine,
                all,
            }
        });
        Self { stop, task }
    }

    pub(super) async fn stop(self) -> Waits {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the sampler")
    }
}

impl Waits {
    fn are_short(&self) {
        assert!(!self.all.is_empty());
        self.are_below(LONGEST);
    }

    pub(super) fn are_below(&self, limit: Duration) {
        let longest = self.all.first().map_or(0.0, |w| w.0);
        eprintln!(
            "{} samples (the longest took {:?}), {} waits for us, the longest {longest:.1} ms",
            self.samples,
            self.machine,
            self.all.len(),
        );
        assert!(self.samples > 100);
        assert!(
            longest < (limit + self.machine).as_secs_f64() * 1000.0,
            "{:?}",
            &self.all[..self.all.len().min(5)]
        );
    }
}

/// Updates just before the scan's front, where its locks are, and all over the table.
fn application(scene: &Scene, rows: u32, front: u64) -> Workload {
    Workload::start(&scene.db.url(), 4, 120, move |n| {
        if n % 2 == 0 {
            let id = scatter(n, u64::from(rows));
            format!("UPDATE orders SET note = 'seen {n}' WHERE id = {id}")
        } else {
            let ahead = n % front;
            format!(
                "UPDATE orders SET note = 'front {n}' WHERE id = (
                     SELECT (coalesce(max(next::float8 / nullif(hi, 0)), 0) * {rows})::bigint + {ahead}
                     FROM pgshift.checkpoint)"
            )
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_waits_long_for_a_lock_of_a_backfill() {
    // In one pass: else the checkpoint does not tell where the locks are.
    let migration = TOTAL_CENTS.replace("-- pgshift: backfill", "-- pgshift: backfill stripes=1");
    let scene = Scene::new("latency", &orders(ROWS), &migration).await;
    scene.done(&["init"]).await;
    let load = application(&scene, ROWS, 600);
    let apply = scene.spawn(&["apply"]);
    // Steps before it may queue for longer, see `blockers`.
    scene.backfilling().await;
    let sampler = Sampler::start(&scene).await;
    apply.wait().await.expect(0);
    // Chunks of the default length are rarely waited for at all.
    sampler.stop().await.are_short();
    load.stop().await.expect_no_error();
    assert_eq!(scene.wrong_orders().await, 0);
}

/// The chunks have grown upon rows that are quick; then come rows that take a hundred times as
/// long, and the locks of a chunk that was cut short are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunk_that_takes_too_long_is_cut_short() {
    let rows = 40_000;
    let cents = "CREATE FUNCTION cents(n numeric) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
         'BEGIN IF n BETWEEN 200 AND 203 THEN PERFORM pg_sleep(0.003); END IF;
                RETURN round(n * 100); END'";
    let migration = TOTAL_CENTS.replace("round(total * 100)::bigint", "cents(total)");
    let scene = Scene::new(
        "latency_slow",
        &format!("{}; {cents}", orders(rows)),
        &migration,
    )
    .await;
    // Few rows a block: the smallest chunk is short.
    let pad = "UPDATE orders SET note = repeat('long', 350)";
    for sql in [
        "ALTER TABLE orders ALTER COLUMN note SET STORAGE PLAIN",
        pad,
        "VACUUM FULL orders",
    ] {
        scene.db.execute(sql).await;
    }
    scene.done(&["init"]).await;
    let load = application(&scene, rows, 300);
    // Longer than the default: so many slow rows have to be met in one.
    let apply = scene.spawn(&["apply", "--format", "json", "--chunk-target", "20ms"]);
    scene.backfilling().await;
    let sampler = Sampler::start(&scene).await;
    let output = apply.wait().await.expect(0);
    assert!(output.stdout.contains("57014"), "no chunk was cut short");
    let waits = sampler.stop().await;
    assert!(
        !waits.all.is_empty(),
        "nobody was seen to wait: the sampler is blind"
    );
    waits.are_short();
    load.stop().await.expect_no_error();
    assert_eq!(scene.wrong_orders().await, 0);
}
