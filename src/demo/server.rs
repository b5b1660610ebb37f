//! One PostgreSQL server process that we own.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::account::Account;
use super::binaries::Binaries;
use crate::error::{Error, Result};

/// How long a server may take to start (crash recovery included) or to stop.
const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(20);
/// Under `TIME_WAIT`-free ports and above Linux's default range for outgoing connections, so a
/// stopped server finds its port still free when it starts again.
const PORTS: std::ops::Range<u16> = 61_000..65_000;

/// How to stop a server (PostgreSQL docs, "Shutting Down the Server").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// SIGTERM: waits until every session has ended.
    Smart,
    /// SIGINT: ends the sessions, writes a checkpoint.
    Fast,
    /// SIGQUIT: no checkpoint; the next start does crash recovery.
    Immediate,
}

impl StopMode {
    fn signal(self) -> &'static str {
        match self {
            Self::Smart => "TERM",
            Self::Fast => "INT",
            Self::Immediate => "QUIT",
        }
    }
}

/// One server: a data directory and, while it runs, a postmaster that is our child process.
/// Stopped at once when dropped.
#[derive(Debug)]
pub struct Server {
    name: String,
    binaries: Binaries,
    account: Option<Account>,
    data_dir: PathBuf,
    log: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// A server of an initialised data directory `base/name`, not started, with its settings
    /// still to be written. Picks a port.
    pub(super) fn new(
        name: impl Into<String>,
        base: &Path,
        binaries: Binaries,
        account: Option<Account>,
    ) -> Self {
        let name = name.into();
        Self {
            data_dir: base.join(&name),
            log: base.join(format!("{name}.log")),
            name,
            binaries,
            account,
            port: free_port(),
            child: None,
        }
    }

    /// `primary`, `standby1`, `standby2` …; standbys use it as `application_name` too.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A connection URL of database `db` (a plain name: it is not escaped) for the superuser.
    pub fn url(&self, db: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{db}", self.port)
    }

    /// The postmaster's process id, while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        self.running().then(|| self.child.as_ref().map(Child::id))?
    }

    /// True while the postmaster runs.
    pub fn running(&mut self) -> bool {
        match &mut self.child {
            None => false,
            Some(child) => {
                if matches!(child.try_wait(), Ok(None)) {
                    return true;
                }
                self.child = None;
                false
            }
        }
    }

    /// Appends settings to `postgresql.conf`; they hold from the next [`start`](Self::start).
    /// The last value given for a name wins.
    pub fn settings(&self, settings: &[(&str, &str)]) -> Result<()> {
        let path = self.data_dir.join("postgresql.conf");
        let mut text = String::from("\n");
        for (name, value) in settings {
            text.push_str(name);
            text.push_str(" = '");
            text.push_str(&value.replace('\'', "''"));
            text.push_str("'\n");
        }
        OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|e| io(&path, e))
    }

    /// Starts it and waits until it accepts connections; nothing if it runs already.
    ///
    /// # Errors
    /// `Connection` with the end of the server's log where it does not come up.
    pub async fn start(&mut self) -> Result<()> {
        if self.running() {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log_start = fs::metadata(&self.log).map_or(0, |m| m.len());
            self.spawn()?;
            match self.wait_until_ready(deadline).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    // After SIGKILL of a postmaster its backends live on for a moment, and the
                    // next postmaster refuses to start beside them.
                    let orphans = self
                        .log_since(log_start)
                        .contains("pre-existing shared memory block");
                    if !orphans || Instant::now() >= deadline {
                        return Err(error);
                    }
                    sleep(POLL).await;
                }
            }
        }
    }

    /// Starts it for the first time: where its port was taken in the meantime, takes another one.
    pub(super) async fn first_start(&mut self) -> Result<()> {
        for _ in 0..10 {
            let port = self.port.to_string();
            self.settings(&[("port", &port)])?;
            let log_start = fs::metadata(&self.log).map_or(0, |m| m.len());
            match self.start().await {
                Err(_) if self.log_since(log_start).contains("could not bind") => {
                    self.port = free_port();
                }
                done => return done,
            }
        }
        Err(Error::connection(
            "no free port on 127.0.0.1: ten ports were tried",
        ))
    }

    fn spawn(&mut self) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|e| io(&self.log, e))?;
        let second = log.try_clone().map_err(|e| io(&self.log, e))?;
        let mut command = tool(&self.binaries, "postgres", self.account.as_ref());
        command
            .arg("-D")
            .arg(&self.data_dir)
            .current_dir(&self.data_dir)
            .stdout(log)
            .stderr(second)
            // Ctrl-C in a terminal goes to its whole process group: it is for us to stop it.
            .process_group(0);
        let child = command
            .spawn()
            .map_err(|e| cannot_run(&self.binaries, "postgres", self.account.as_ref(), e))?;
        self.child = Some(child);
        Ok(())
    }

    async fn wait_until_ready(&mut self, deadline: Instant) -> Result<()> {
        let url = self.url("postgres");
        loop {
            if !self.running() {
                return Err(self.failed("did not start"));
            }
            // A child that runs and a connection that works are the same server: the port was
            // ours or the child would have ended.
            if connect(&url).await.is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.failed("accepts no connections"));
            }
            sleep(POLL).await;
        }
    }

    /// Stops it and waits until it has ended; nothing if it does not run.
    pub async fn stop(&mut self, mode: StopMode) -> Result<()> {
        if let Some(pid) = self.pid() {
            signal(pid, mode.signal())?;
            self.wait_until_ended().await?;
        }
        Ok(())
    }

    /// Stops it in [`StopMode::Fast`] and starts it again.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop(StopMode::Fast).await?;
        self.start().await
    }

    /// Kills the postmaster with SIGKILL, as the system does when memory runs out. Its backends
    /// notice and end by themselves; WAL that was not flushed yet is lost.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child {
            child.kill().map_err(|e| {
                Error::internal(format!("{} cannot be killed: {e}", self.name)).caused_by(e)
            })?;
            self.wait_until_ended().await?;
        }
        Ok(())
    }

    /// Kills one backend (`pg_backend_pid()`) with SIGKILL: the server ends all sessions, recovers
    /// and takes connections again, under the same postmaster.
    ///
    /// # Errors
    /// `Internal` where there is no such process.
    pub fn kill_backend(&self, pid: i32) -> Result<()> {
        let pid = u32::try_from(pid)
            .map_err(|e| Error::internal(format!("no process {pid}")).caused_by(e))?;
        signal(pid, "KILL")
    }

    async fn wait_until_ended(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.running() {
            if Instant::now() >= deadline {
                return Err(self.failed("does not stop"));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops it at once, blocking, however it resists; used where nothing may fail.
    pub(super) fn end(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        // A zombie counts as a process for `kill`, so the pid is still ours until `try_wait`.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = signal(child.id(), StopMode::Immediate.signal());
            // PostgreSQL kills what is left of its own after five seconds.
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        self.child = None;
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = self.log_since(0);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The last part of the log from byte `start` on.
    fn log_since(&self, start: u64) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = fs::File::open(&self.log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(1 << 20))))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }

    fn failed(&self, what: &str) -> Error {
        Error::connection(format!(
            "PostgreSQL {} ({}) {what}; its log ends with:\n{}",
            self.binaries.version,
            self.name,
            self.log_tail(12)
        ))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A command for one of the server programs: runs as the account, in a clean environment (the
/// user's `PGPORT` or `LC_ALL` must not change the server).
pub(super) fn tool(binaries: &Binaries, name: &str, account: Option<&Account>) -> Command {
    let mut command = Command::new(binaries.program(name));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    Account::apply(account, &mut command);
    command
}

pub(super) fn cannot_run(
    binaries: &Binaries,
    name: &str,
    account: Option<&Account>,
    error: std::io::Error,
) -> Error {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let path = binaries.program(name);
    let message = match account {
        Some(account) => format!(
            "{} cannot be run as user {}: {error}",
            path.display(),
            account.name
        ),
        None => format!("{} cannot be run: {error}", path.display()),
    };
    let error = Error::usage(message).caused_by(error);
    match account {
        Some(account) if denied => error.hint(format!(
            "every folder above it, and the folder for temporary files, must be open to user {}",
            account.name
        )),
        _ => error,
    }
}

pub(super) fn io(path: &Path, error: std::io::Error) -> Error {
    Error::usage(format!("{}: {error}", path.display())).caused_by(error)
}

/// Sends a signal with the shell's own `kill`: not every system has the program.
fn signal(pid: u32, name: &str) -> Result<()> {
    let run = || -> std::io::Result<ExitStatus> {
        Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    match run() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Error::internal(format!(
            "signal {name} could not be sent to process {pid}"
        ))),
        Err(e) => Err(Error::internal(format!("`sh` cannot be started: {e}")).caused_by(e)),
    }
}

/// Connects; the connection's task ends with the client.
pub(super) async fn connect(url: &str) -> Result<tokio_postgres::Client> {
    let failed = |message: String, e: tokio_postgres::Error| {
        Error::connection(format!("{url}: {message}")).caused_by(e)
    };
    let (client, connection) = tokio::time::timeout(
        Duration::from_secs(5),
        tokio_postgres::connect(url, tokio_postgres::NoTls),
    )
    .await
    .map_err(|e| Error::connection(format!("{url}: no answer in 5 s")).caused_by(e))?
    .map_err(|e| failed(e.to_string(), e))?;
    tokio::spawn(connection);
    Ok(client)
}

/// A port that is free now.
fn free_port() -> u16 {
    for _ in 0..200 {
        let port = fastrand::u16(PORTS);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    fastrand::u16(PORTS)
}
