//! The application: statements at a steady rate, and what they met.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{connect, message};

/// Sessions that send statements until they are stopped.
///
/// The clock of a statement starts when it was due, not when it was sent: a session that hangs
/// in one statement makes the next ones late, as users would see it.
pub(crate) struct Workload {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    sessions: JoinSet<Report>,
}

/// What the statements met.
#[derive(Debug)]
pub(crate) struct Report {
    /// Statements that succeeded.
    pub(crate) done: u64,
    /// What the server or the client said of those that failed.
    pub(crate) errors: Vec<String>,
    /// Latency of those that succeeded, in microseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Report {
    fn new() -> Self {
        Self {
            done: 0,
            errors: Vec::new(),
            // Up to an hour.
            latency: Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("valid bounds"),
        }
    }

    /// The longest that a statement took.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_micros(self.latency.max())
    }

    /// The latency that this part (0 to 1) of the statements did not exceed.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(part))
    }

    /// Panics where a statement failed or none was sent.
    #[track_caller]
    pub(crate) fn expect_no_error(&self) -> &Self {
        assert!(
            self.errors.is_empty(),
            "{} of {} statements failed, the first: {}",
            self.errors.len(),
            self.done + self.errors.len() as u64,
            self.errors[0]
        );
        assert!(self.done > 0, "no statement was sent");
        self
    }
}

impl Workload {
    /// Sends `statement(n)` for n = 0, 1, 2 … over `sessions` sessions, `per_second` in all.
    /// A session that loses its connection makes a new one.
    pub(crate) fn start<F>(url: &str, sessions: u32, per_second: u32, statement: F) -> Self
    where
        F: Fn(u64) -> String + Send + Sync + 'static,
    {
        assert!(sessions > 0 && per_second > 0);
        let mut workload = Self {
            stop: Arc::default(),
            sent: Arc::default(),
            sessions: JoinSet::new(),
        };
        let statement = Arc::new(statement);
        let gap = Duration::from_secs(1) * sessions / per_second;
        let start = Instant::now();
        for i in 0..sessions {
            let session = Session {
                url: url.to_owned(),
                stop: workload.stop.clone(),
                sent: workload.sent.clone(),
                due: start + gap * i / sessions,
                gap,
            };
            workload.sessions.spawn(session.run(statement.clone()));
        }
        workload
    }

    /// Statements sent so far, whatever came of them.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until this many statements have been sent.
    pub(crate) async fn reach(&self, statements: u64) {
        let within = Duration::from_mins(1);
        let reached = async {
            while self.sent() < statements {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(within, reached)
            .await
            .expect("the workload does not get on");
    }

    /// Ends it after the statements under way, and gives what all sessions met.
    pub(crate) async fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        let mut report = Report::new();
        while let Some(session) = self.sessions.join_next().await {
            let session = session.expect("a workload session");
            report.done += session.done;
            report.errors.extend(session.errors);
            report.latency += session.latency;
        }
        report
    }
}

struct Session {
    url: String,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    due: Instant,
    gap: Duration,
}

impl Session {
    async fn run<F: Fn(u64) -> String>(mut self, statement: Arc<F>) -> Report {
        let mut report = Report::new();
        let mut client: Option<Client> = None;
        loop {
            tokio::time::sleep_until(self.due.into()).await;
            if self.stop.load(Ordering::Relaxed) {
                return report;
            }
            let n = self.sent.fetch_add(1, Ordering::Relaxed);
            match self.send(&mut client, &statement(n)).await {
                Ok(()) => {
                    report.done += 1;
                    let took = self.due.elapsed().as_micros();
                    report.latency.saturating_record(took as u64);
                }
                Err(error) => report.errors.push(error),
            }
            self.due += self.gap;
        }
    }

    async fn send(&self, client: &mut Option<Client>, sql: &str) -> Result<(), String> {
        if client.as_ref().is_none_or(Client::is_closed) {
            *client = Some(connect(&self.url).await.map_err(|e| message(&e))?);
        }
        let Some(client) = client else {
            return Ok(());
        };
        client
            .batch_execute(sql)
            .await
            .map_err(|e| format!("{} in: {sql}", message(&e)))
    }
}

/// What a commit that waits for nobody takes meanwhile: a busy machine must not fail a test of
/// waits.
pub(crate) struct Machine {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Duration>,
}

impl Machine {
    pub(crate) async fn start(url: &str) -> Self {
        let client = connect(url).await.expect("a connection");
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let task = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            let commit = "SELECT pg_logical_emit_message(true, 'machine', '')";
            while !seen.load(Ordering::Relaxed) {
                let due = Instant::now() + Duration::from_millis(5);
                tokio::time::sleep_until(due.into()).await;
                client.batch_execute(commit).await.expect(commit);
                longest = longest.max(due.elapsed());
            }
            longest
        });
        Self { stop, task }
    }

    /// The longest that it took.
    pub(crate) async fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the machine's session")
    }
}

#[tokio::test]
async fn measures_waits_and_records_errors() {
    let db = super::Db::with("workload", "CREATE TABLE t (n bigint PRIMARY KEY)").await;
    let load = Workload::start(&db.url(), 2, 100, |n| format!("INSERT INTO t VALUES ({n})"));
    load.reach(20).await;
    let report = load.stop().await;
    report.expect_no_error();
    assert_eq!(
        db.one::<i64>("SELECT count(*) FROM t").await,
        i64::try_from(report.done).unwrap()
    );

    // A lock of 300 ms is seen, and so is every statement that became late behind it.
    let load = Workload::start(&db.url(), 1, 100, |n| {
        format!("INSERT INTO t VALUES ({n} + 1000)")
    });
    load.reach(5).await;
    db.execute("BEGIN; LOCK TABLE t; SELECT pg_sleep(0.3); COMMIT")
        .await;
    load.reach(60).await;
    let report = load.stop().await;
    report.expect_no_error();
    assert!(
        report.max() >= Duration::from_millis(280),
        "{:?}",
        report.max()
    );
    assert!(
        report.latency.count_between(100_000, 1_000_000) >= 10,
        "late ones are late"
    );

    let load = Workload::start(&db.url(), 1, 100, |_| "INSERT INTO t VALUES (1)".into());
    load.reach(3).await;
    let report = load.stop().await;
    assert_eq!(report.done, 0);
    assert!(report.errors[0].contains("23505"), "{:?}", report.errors);
}
