//! A private primary with streaming standbys under a temporary directory.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use super::account::Account;
use super::binaries::Binaries;
use super::server::{Server, StopMode, cannot_run, connect, io, tool};
use super::watchdog::Watchdog;
use crate::error::{Error, Result};

/// How long a standby may take to stream, catch up or become a primary.
const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(20);

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    binaries: Binaries,
    standbys: usize,
    settings: Vec<(String, String)>,
}

impl ClusterOptions {
    /// A primary alone, run by these programs.
    pub fn new(binaries: Binaries) -> Self {
        Self {
            binaries,
            standbys: 0,
            settings: Vec::new(),
        }
    }

    /// With this many streaming standbys, each with a physical replication slot. At most 8.
    #[must_use]
    pub fn standbys(mut self, count: usize) -> Self {
        self.standbys = count.min(8);
        self
    }

    /// Settings of every server, on top of the cluster's own.
    #[must_use]
    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        self.settings
            .extend(settings.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        self
    }
}

/// A running cluster. Dropping it stops every server at once and removes its directory; so does
/// the end of this process, however it ends.
///
/// The servers listen on 127.0.0.1 only, and trust every local user: not a place for secrets.
#[derive(Debug)]
pub struct Cluster {
    // In the order of dropping: servers end before their directory goes, and the watchdog,
    // which waits for that, goes last.
    standbys: Vec<Server>,
    primary: Server,
    dir: Option<TempDir>,
    watchdog: Option<Watchdog>,
}

impl Cluster {
    /// Makes and starts the cluster; when it returns, every standby streams.
    ///
    /// # Errors
    /// `Usage` where the programs cannot be run here, `Connection` with the end of the log where
    /// a server does not come up. Nothing is left behind.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("pgshift-")
            .tempdir()
            .map_err(|e| {
                Error::usage(format!("no temporary directory can be made: {e}"))
                    .hint("set TMPDIR to a folder that can be written")
                    .caused_by(e)
            })?;
        let watchdog = Watchdog::over(dir.path())?;
        let account = Account::for_servers(dir.path())?;
        Account::own(account.as_ref(), dir.path())?;
        let server =
            |name: String| Server::new(name, dir.path(), options.binaries.clone(), account.clone());
        let primary = server("primary".into());
        let standbys: Vec<Server> = (1..=options.standbys)
            .map(|i| server(format!("standby{i}")))
            .collect();

        let copies: Vec<_> = standbys
            .iter()
            .map(|s| s.data_dir().to_path_buf())
            .collect();
        let (source, binaries) = (primary.data_dir().to_path_buf(), options.binaries.clone());
        let owner = account.clone();
        let mut cluster = Self {
            standbys,
            primary,
            dir: Some(dir),
            watchdog: Some(watchdog),
        };
        tokio::task::spawn_blocking(move || {
            init(&binaries, owner.as_ref(), &source)?;
            // A copy of a cluster that was shut down is a base backup (PostgreSQL docs, "File
            // System Level Backup"): quicker than pg_basebackup, which not every package has.
            for copy in copies {
                copy_tree(owner.as_ref(), &source, &copy)?;
            }
            Ok(())
        })
        .await
        .map_err(|e| Error::internal(e.to_string()).caused_by(e))??;
        cluster.configure_and_start(&options.settings).await?;
        Ok(cluster)
    }

    async fn configure_and_start(&mut self, settings: &[(String, String)]) -> Result<()> {
        let socket_dir = self.socket_dir();
        let common = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", socket_dir.as_str()),
            ("wal_level", "logical"),
            ("max_prepared_transactions", "10"),
            ("max_connections", "100"),
            ("shared_buffers", "256MB"),
            ("log_line_prefix", "%m [%p] "),
            ("log_lock_waits", "on"),
        ];
        let chosen: Vec<(&str, &str)> = settings
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();

        self.primary.settings(&common)?;
        self.primary.settings(&chosen)?;
        self.primary.first_start().await?;

        if self.standbys.is_empty() {
            return Ok(());
        }
        let client = connect(&self.primary.url("postgres")).await?;
        let port = self.primary.port();
        for standby in &mut self.standbys {
            let name = standby.name().to_owned();
            // The slot keeps the WAL written since the copy was made, from its first byte on.
            let slot = format!("SELECT pg_create_physical_replication_slot('{name}', true)");
            client
                .batch_execute(&slot)
                .await
                .map_err(|e| sql(&slot, e))?;
            let upstream = format!(
                "host=127.0.0.1 port={port} user=postgres application_name={name} sslmode=disable"
            );
            standby.settings(&common)?;
            standby.settings(&[
                ("hot_standby", "on"),
                ("primary_conninfo", &upstream),
                ("primary_slot_name", &name),
                // A primary that comes back is found soon (5 s otherwise).
                ("wal_retrieve_retry_interval", "200ms"),
            ])?;
            standby.settings(&chosen)?;
            let signal = standby.data_dir().join("standby.signal");
            fs::write(&signal, "").map_err(|e| io(&signal, e))?;
            standby.first_start().await?;
        }
        for i in 0..self.standbys.len() {
            self.wait_for_streaming(i).await?;
        }
        Ok(())
    }

    /// The sockets go beside the data, unless the path is too long for one (the limit is 104
    /// bytes on macOS, 108 on Linux, with the file name); then there are none.
    fn socket_dir(&self) -> String {
        self.dir
            .as_ref()
            .and_then(|dir| dir.path().to_str())
            .filter(|path| path.len() <= 80)
            .unwrap_or_default()
            .to_owned()
    }

    /// A URL of database `db` on the primary.
    pub fn url(&self, db: &str) -> String {
        self.primary.url(db)
    }

    /// A URL of database `db` on standby `i`, counted from 0.
    ///
    /// # Panics
    /// Where there is no such standby.
    pub fn standby_url(&self, i: usize, db: &str) -> String {
        self.standbys[i].url(db)
    }

    /// The primary's data directory.
    pub fn data_dir(&self) -> &Path {
        self.primary.data_dir()
    }

    /// The primary.
    pub fn primary(&mut self) -> &mut Server {
        &mut self.primary
    }

    /// Standby `i`, counted from 0.
    ///
    /// # Panics
    /// Where there is no such standby.
    pub fn standby(&mut self, i: usize) -> &mut Server {
        &mut self.standbys[i]
    }

    /// Appends settings to the primary's `postgresql.conf`, for its next start.
    pub fn settings(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.primary.settings(settings)
    }

    /// Starts the primary again after it was stopped or killed; nothing if it runs.
    pub async fn start_again(&mut self) -> Result<()> {
        self.primary.start().await
    }

    /// Stops the primary.
    pub async fn stop(&mut self, mode: StopMode) -> Result<()> {
        self.primary.stop(mode).await
    }

    /// Stops the primary in fast mode and starts it again.
    pub async fn restart(&mut self) -> Result<()> {
        self.primary.restart().await
    }

    /// Kills the primary's postmaster with SIGKILL.
    pub async fn kill_postmaster(&mut self) -> Result<()> {
        self.primary.kill().await
    }

    /// Makes standby `i` a primary; when it returns, it takes writes. The old primary is left as
    /// it is: stop it before, as a failover does.
    pub async fn promote(&mut self, i: usize) -> Result<()> {
        let url = self.standby_url(i, "postgres");
        let client = connect(&url).await?;
        let promote = format!("SELECT pg_promote(true, {})", PATIENCE.as_secs());
        let row = client
            .query_one(&promote, &[])
            .await
            .map_err(|e| sql(&promote, e))?;
        if row.get::<_, bool>(0) {
            Ok(())
        } else {
            Err(Error::connection(format!(
                "{} was not promoted in {} s; its log ends with:\n{}",
                self.standbys[i].name(),
                PATIENCE.as_secs(),
                self.standbys[i].log_tail(12)
            )))
        }
    }

    /// Waits until standby `i` has replayed everything that the primary has written by now.
    pub async fn catch_up(&self, i: usize) -> Result<()> {
        let primary = connect(&self.url("postgres")).await?;
        let read = "SELECT pg_current_wal_flush_lsn()::text";
        let lsn: String = primary
            .query_one(read, &[])
            .await
            .map_err(|e| sql(read, e))?
            .get(0);
        let client = connect(&self.standby_url(i, "postgres")).await?;
        let reached = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn");
        self.wait(i, &client, &reached, &format!("has not replayed {lsn}"))
            .await
    }

    async fn wait_for_streaming(&self, i: usize) -> Result<()> {
        let primary = connect(&self.url("postgres")).await?;
        let streams = format!(
            "SELECT count(*) > 0 FROM pg_stat_replication \
             WHERE application_name = '{}' AND state = 'streaming'",
            self.standbys[i].name()
        );
        self.wait(i, &primary, &streams, "does not stream").await
    }

    /// Waits until a query is true.
    async fn wait(
        &self,
        i: usize,
        client: &tokio_postgres::Client,
        query: &str,
        failure: &str,
    ) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = client
                .query_one(query, &[])
                .await
                .map_err(|e| sql(query, e))?;
            if row.get::<_, Option<bool>>(0) == Some(true) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::connection(format!(
                    "{} {failure} after {} s; its log ends with:\n{}",
                    self.standbys[i].name(),
                    PATIENCE.as_secs(),
                    self.standbys[i].log_tail(12)
                )));
            }
            sleep(POLL).await;
        }
    }

    /// Stops the servers cleanly and leaves their directory, which it gives.
    pub async fn keep(&mut self) -> Result<PathBuf> {
        self.primary.stop(StopMode::Fast).await?;
        for standby in &mut self.standbys {
            standby.stop(StopMode::Fast).await?;
        }
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.stand_down();
        }
        self.dir
            .take()
            .map(TempDir::keep)
            .ok_or_else(|| Error::internal("the cluster's directory is gone already"))
    }

    /// Stops every server at once and removes the directory. Blocks for some 0.1 s. Doing it
    /// again does nothing; dropping the cluster does it too.
    pub fn cleanup(&mut self) {
        for standby in &mut self.standbys {
            standby.end();
        }
        self.primary.end();
        // A backend that outlives its postmaster for a moment may still write a file; the
        // watchdog tries again until the folder is gone.
        drop(self.dir.take());
        drop(self.watchdog.take());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cleanup();
    }
}

pub(super) fn sql(statement: &str, error: tokio_postgres::Error) -> Error {
    let message = error
        .as_db_error()
        .map_or_else(|| error.to_string(), |db| db.message().to_owned());
    Error::connection(format!("{statement}: {message}")).caused_by(error)
}

/// Makes a data directory. `--no-sync`: it need not survive the machine.
fn init(binaries: &Binaries, account: Option<&Account>, data_dir: &Path) -> Result<()> {
    let Output { status, stderr, .. } = tool(binaries, "initdb", account)
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8"])
        .args(["--no-locale", "--no-sync", "--no-instructions", "-D"])
        .arg(data_dir)
        .current_dir(data_dir.parent().unwrap_or(data_dir))
        .output()
        .map_err(|e| cannot_run(binaries, "initdb", account, e))?;
    if !status.success() {
        let text = String::from_utf8_lossy(&stderr);
        return Err(Error::usage(format!(
            "{} failed ({status}): {}",
            binaries.program("initdb").display(),
            text.trim()
        )));
    }
    // initdb allows ::1 too; the server listens on 127.0.0.1 alone.
    let hba = data_dir.join("pg_hba.conf");
    let rules = "local all all trust\n\
                 host all all 127.0.0.1/32 trust\n\
                 host replication all 127.0.0.1/32 trust\n";
    fs::write(&hba, rules).map_err(|e| io(&hba, e))
}

/// Copies a data directory that no server uses.
fn copy_tree(account: Option<&Account>, from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).map_err(|e| io(to, e))?;
    // The server refuses a data directory that others can read.
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).map_err(|e| io(to, e))?;
    Account::own(account, to)?;
    for entry in fs::read_dir(from).map_err(|e| io(from, e))? {
        let entry = entry.map_err(|e| io(from, e))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(|e| io(&source, e))?.is_dir() {
            copy_tree(account, &source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(|e| io(&source, e))?;
            Account::own(account, &target)?;
        }
    }
    Ok(())
}
