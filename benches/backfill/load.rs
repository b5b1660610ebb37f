//! An application: statements by key at a fixed rate, on a thread of its own.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pgshift::{Error, Result};

use crate::figures::Latency;
use crate::server::{connect, sql};
use crate::stats::percentile;

/// Its connections.
const CLIENTS: u32 = 8;

/// A statement: when it was due, and how long it took from then on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    due: Instant,
    took: Duration,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

impl Load {
    /// Reads and updates the rows with keys from 1 to `rows`, `rate` statements a second.
    pub(crate) fn start(url: &str, rows: u64, rate: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (url, seen) = (url.to_owned(), stop.clone());
        let thread = std::thread::spawn(move || {
            to_the_fore();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| Error::internal(e.to_string()))?;
            runtime.block_on(async {
                let start = Instant::now();
                let clients = (0..CLIENTS).map(|n| client(&url, rows, rate, n, start, &seen));
                let all = futures_util::future::try_join_all(clients).await?;
                Ok(all.concat())
            })
        });
        Self { stop, thread }
    }

    /// Ends it and gives all that it met.
    pub(crate) fn end(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.unwrap_or_else(|_| Err(Error::internal("the application's thread panicked")))
    }
}

/// It stands for clients elsewhere, which do not wait for a CPU of the server: this thread gets a
/// real-time priority, where it may.
fn to_the_fore() {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else {
        return;
    };
    if let Some(id) = thread.file_name() {
        let _ = std::process::Command::new("chrt")
            .args(["--fifo", "--pid", "1"])
            .arg(id)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

/// One connection: every [`CLIENTS`]th statement is its. One that comes due while another is on
/// its way counts from when it was due: a server that stands still is counted in full.
async fn client(
    url: &str,
    rows: u64,
    rate: u32,
    number: u32,
    start: Instant,
    stop: &AtomicBool,
) -> Result<Vec<Sample>> {
    let client = connect(url).await?;
    let prepare = async |text: &str| client.prepare(text).await.map_err(|e| sql(text, e));
    let read = prepare("SELECT total, note FROM orders WHERE id = $1").await?;
    let update = prepare("UPDATE orders SET note = 'seen ' || $1::bigint WHERE id = $1").await?;
    let mut random = fastrand::Rng::with_seed(u64::from(number));
    let mut samples = Vec::new();
    let between = Duration::from_secs_f64(f64::from(CLIENTS) / f64::from(rate));
    let mut due = start + between.mul_f64(f64::from(number) / f64::from(CLIENTS));
    while !stop.load(Ordering::Relaxed) {
        let idle = Instant::now() < due;
        if idle {
            tokio::time::sleep_until(due.into()).await;
        }
        // The timer of this process is no affair of the server's.
        let from = if idle { Instant::now() } else { due };
        let id = random.i64(1..=rows as i64);
        let statement = if random.u8(0..10) < 6 { &read } else { &update };
        let answer = client.query(statement, &[&id]).await;
        answer.map_err(|e| sql("the application's statement", e))?;
        samples.push(Sample {
            due: from,
            took: from.elapsed(),
        });
        due += between;
    }
    Ok(samples)
}

/// What it met between two moments.
pub(crate) fn between(samples: &[Sample], from: Instant, to: Instant) -> Latency {
    let mut times: Vec<f64> = samples
        .iter()
        .filter(|s| s.due >= from && s.due < to)
        .map(|s| s.took.as_secs_f64() * 1000.0)
        .collect();
    times.sort_by(f64::total_cmp);
    Latency {
        statements: times.len() as u64,
        p50_ms: percentile(&times, 50.0),
        p99_ms: percentile(&times, 99.0),
        max_ms: times.last().copied().unwrap_or(0.0),
    }
}
