//! The real program, run as anyone would run it: processes of this very binary.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};

/// How to run it.
#[derive(Debug, Clone)]
pub(super) struct Program {
    exe: PathBuf,
    dir: PathBuf,
    url: String,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Output {
    what: String,
    status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Program {
    /// This binary, in the project folder `dir`, on the database at `url`.
    pub(super) fn here(dir: &Path, url: &str) -> Result<Self> {
        let exe = std::env::current_exe().map_err(|e| {
            Error::usage(format!("the path of this program is not known: {e}")).caused_by(e)
        })?;
        Ok(Self {
            exe,
            dir: dir.to_path_buf(),
            url: url.to_owned(),
        })
    }

    /// The project folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts it.
    pub(super) fn start(&self, args: &[&str]) -> Result<Running> {
        let mut command = Command::new(&self.exe);
        command
            .args(args)
            .current_dir(&self.dir)
            // Settings of the user's own must not lead it to another server.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .env("DATABASE_URL", &self.url)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to its whole process group: it is for us to end it.
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| {
            Error::internal(format!("{} cannot be started: {e}", self.exe.display())).caused_by(e)
        })?;
        Ok(Running {
            what: format!("pgshift {}", args.join(" ")),
            stdout: collect(child.stdout.take()),
            stderr: collect(child.stderr.take()),
            child,
        })
    }
}

/// Reads to the end beside the process, so that a full pipe never stops it.
fn collect(from: Option<impl AsyncRead + Unpin + Send + 'static>) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut bytes).await;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A run in the background; killed where it is dropped.
pub(super) struct Running {
    what: String,
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// True while it has not ended.
    pub(super) fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, as the system does when memory runs out. False where it had ended before.
    pub(super) async fn kill(mut self) -> bool {
        let killed = self.running() && self.child.start_kill().is_ok();
        let _ = self.child.wait().await;
        killed
    }

    /// Waits for its end.
    pub(super) async fn end(mut self) -> Result<Output> {
        let status = self
            .child
            .wait()
            .await
            .map_err(|e| Error::internal(format!("`{}`: {e}", self.what)).caused_by(e))?;
        Ok(Output {
            what: self.what,
            status,
            stdout: self.stdout.await.unwrap_or_default(),
            stderr: self.stderr.await.unwrap_or_default(),
        })
    }
}

impl Output {
    /// What went wrong, where it did not end with success.
    pub(super) fn failure(&self) -> Option<Error> {
        if self.status.success() {
            return None;
        }
        let error = self
            .stderr
            .lines()
            .find_map(|line| line.strip_prefix("error: "))
            .unwrap_or("it did not say why");
        let how = self.status.code().map_or_else(
            || self.status.to_string(),
            |code| format!("exit code {code}"),
        );
        Some(
            Error::new(
                ErrorKind::Findings,
                format!("`{}` ended with {how}: {error}", self.what),
            )
            .hint("`pgshift demo --keep` leaves the servers for a look"),
        )
    }
}
