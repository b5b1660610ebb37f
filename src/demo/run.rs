//! The demo itself: who does what, in which order.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::binaries::Search;
use super::cluster::{Cluster, ClusterOptions};
use super::report::Report;
use super::scene::Scene;
use crate::error::{Error, Result};
use crate::report::text::{count, lines};

/// The window of the latencies that the others are compared with.
pub(super) const BASELINE: &str = "baseline";

/// What to show.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// Orders in the table at the beginning.
    pub rows: i64,
    /// Statements a second that the application sends, over four connections.
    pub rate: u32,
    /// Folder of the server programs.
    pub pg_bin: Option<PathBuf>,
    /// The value of `PGSHIFT_PG_BIN`; [`pg_bin`](Self::pg_bin) is stronger.
    pub env_pg_bin: Option<PathBuf>,
    /// Keep the servers' folder.
    pub keep: bool,
    /// Seed of what the application does.
    pub seed: u64,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            rows: 1_000_000,
            rate: 200,
            pg_bin: None,
            env_pg_bin: None,
            keep: false,
            seed: 1,
        }
    }
}

/// Tells people what happens, with the time since the start.
pub(super) struct Narrator<'a> {
    started: Instant,
    tell: &'a (dyn Fn(&str) + Sync),
}

impl Narrator<'_> {
    /// One thing that happens.
    pub(super) fn say(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        (self.tell)(&format!("[{seconds:6.1}s] {text}"));
    }

    /// What a program printed, at most so many lines of it.
    pub(super) fn show(&self, text: &str, most: usize) {
        let text = lines(text);
        let all: Vec<&str> = text.trim_end().lines().collect();
        for line in all.iter().take(most) {
            (self.tell)(format!("          | {line}").trim_end());
        }
        if all.len() > most {
            let more = all.len() - most;
            (self.tell)(&format!("          | … and {more} more lines"));
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Runs the demo: starts a primary and a standby of its own, lets an application work, and has
/// this very binary migrate its table, be killed, resume, contract and revert. `tell` takes the
/// narration, line by line. Servers, processes and files are gone when it returns, unless they
/// are to be kept; also on SIGINT and SIGTERM.
///
/// # Errors
/// `Usage` where there are no server programs, `Interrupted` by a signal, `Findings` where a run
/// of pgshift fails. A [`Report`] with [`findings`](Report::findings) is no error here.
pub async fn run(options: DemoOptions, tell: &(dyn Fn(&str) + Sync)) -> Result<Report> {
    let narrator = Narrator {
        started: Instant::now(),
        tell,
    };
    let stopped = stop_signal()?;
    tokio::pin!(stopped);

    let binaries = Search::new()
        .dir(options.pg_bin.clone())
        .env_dir(options.env_pg_bin.clone())
        .find()?;
    narrator.say(&format!(
        "starting a primary and a streaming standby of PostgreSQL {} ({}) in a temporary folder",
        binaries.version,
        binaries.dir.display()
    ));
    let version = binaries.version.to_string();
    let start = Cluster::start(ClusterOptions::new(binaries).standbys(1));
    let mut cluster = tokio::select! {
        started = start => started?,
        name = &mut stopped => return Err(interrupted(name, false)),
    };
    let outcome = tokio::select! {
        done = perform(&cluster, &options, &narrator, &version) => done,
        name = &mut stopped => Err(interrupted(name, options.keep)),
    };
    if options.keep {
        let dir = cluster.keep().await?;
        narrator.say(&format!(
            "the servers are stopped; their folder stays: {}",
            dir.display()
        ));
    } else {
        cluster.cleanup();
    }
    outcome
}

async fn perform(
    cluster: &Cluster,
    options: &DemoOptions,
    narrator: &Narrator<'_>,
    version: &str,
) -> Result<Report> {
    narrator.say(&format!("loading {} orders", count(options.rows)));
    let mut scene = Scene::set(cluster, options, narrator).await?;
    scene.baseline().await?;
    scene.plan().await?;
    scene.apply_and_kill().await?;
    scene.resume().await?;
    scene.deploy_new().await?;
    scene.contract().await?;
    scene.revert().await?;
    scene.end(version).await
}

/// Ends with the name of the signal that asks for the end.
fn stop_signal() -> Result<impl Future<Output = &'static str>> {
    let on = |kind| {
        signal(kind)
            .map_err(|e| Error::internal(format!("signals cannot be waited for: {e}")).caused_by(e))
    };
    let (mut int, mut term) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = int.recv() => "SIGINT",
            _ = term.recv() => "SIGTERM",
        }
    })
}

fn interrupted(signal: &str, kept: bool) -> Error {
    Error::interrupted(format!("the demo was stopped by {signal}"))
        .left(if kept {
            "its servers are stopped, their folder is kept"
        } else {
            "its servers and files are gone"
        })
        .hint("`pgshift demo` begins anew")
}
