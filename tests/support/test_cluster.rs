//! The primary and standby that the integration tests share.
//!
//! Prints two `export` lines for a shell, then stays until its standard input ends or it gets
//! SIGINT or SIGTERM; then nothing is left of it. Arguments `name=value` are server settings.
//! The server programs are those of `PGSHIFT_PG_BIN`, or the first that are found.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use pgshift::demo::{Cluster, ClusterOptions, Search};
use pgshift::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("test-cluster: {error}");
    if let Some(hint) = error.what_next() {
        eprintln!("  {hint}");
    }
    ExitCode::FAILURE
}

async fn run() -> Result<()> {
    let internal = |e: std::io::Error| Error::internal(e.to_string());
    // From here on a signal no longer ends the process by itself.
    let mut term = signal(SignalKind::terminate()).map_err(internal)?;
    let mut int = signal(SignalKind::interrupt()).map_err(internal)?;
    let binaries = Search::new()
        .env_dir(std::env::var_os("PGSHIFT_PG_BIN").map(PathBuf::from))
        .find()?;
    let version = binaries.version;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let settings: Vec<(&str, &str)> = arguments
        .iter()
        .map(|a| {
            a.split_once('=')
                .ok_or_else(|| Error::usage(format!("{a:?} is not a setting: name=value")))
        })
        .collect::<Result<_>>()?;
    let options = ClusterOptions::new(binaries)
        .standbys(1)
        .settings(&settings);

    let cluster = tokio::select! {
        started = Cluster::start(options) => started?,
        _ = term.recv() => return Ok(()),
        _ = int.recv() => return Ok(()),
    };
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "export PGSHIFT_TEST_URL='{}'\nexport PGSHIFT_TEST_STANDBY_URL='{}'",
        cluster.url("postgres"),
        cluster.standby_url(0, "postgres")
    )
    .and_then(|()| out.flush())
    .map_err(internal)?;
    eprintln!("test-cluster: PostgreSQL {version}, a primary and a standby");

    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = end.send(());
    });
    tokio::select! {
        _ = ended => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
