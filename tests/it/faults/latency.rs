//! The application does not wait for a backfill.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Scene, scatter};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_waits_long_for_a_lock_of_a_backfill() {
    let scene = Scene::orders("latency", ROWS).await;
    // Updates just before the scan's front, where its locks are, and all over the table.
    let load = Workload::start(&scene.db.url(), 4, 120, |n| {
        if n % 2 == 0 {
            let id = scatter(n, u64::from(ROWS));
            format!("UPDATE orders SET note = 'seen {n}' WHERE id = {id}")
        } else {
            let ahead = n % 3_000;
            format!(
                "UPDATE orders SET note = 'front {n}' WHERE id = (
                     SELECT (coalesce(max(next::float8 / nullif(hi, 0)), 0) * {ROWS})::bigint + {ahead}
                     FROM pgshift.checkpoint)"
            )
        }
    });
    scene.done(&["init"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (seen, client) = (stop.clone(), scene.db.client().await);
    let sampler = tokio::spawn(async move {
        let mut waits: HashMap<(i32, String), (f64, String)> = HashMap::new();
        let mut samples = 0_u32;
        // What a statement that waits for no lock may take: a busy machine must not fail the test.
        let mut machine = Duration::ZERO;
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
        (samples, waits, machine)
    });
    scene.done(&["apply"]).await;
    stop.store(true, Ordering::Relaxed);
    let (samples, waits, machine) = sampler.await.expect("the sampler");
    let report = load.stop().await;
    let mut waits: Vec<(f64, String)> = waits.into_values().collect();
    waits.sort_by(|a, b| b.0.total_cmp(&a.0));
    let longest = waits.first().map_or(0.0, |w| w.0);
    eprintln!(
        "{samples} samples (the longest took {machine:?}), {} waits for a backfill, the longest \
         {longest:.1} ms; {} statements, p99 {:?}, longest {:?}",
        waits.len(),
        report.done,
        report.quantile(0.99),
        report.max(),
    );
    assert!(samples > 100);
    assert!(
        longest < (LONGEST + machine).as_secs_f64() * 1000.0,
        "{:?}",
        &waits[..waits.len().min(5)]
    );
    assert_eq!(scene.wrong_orders().await, 0);
}
