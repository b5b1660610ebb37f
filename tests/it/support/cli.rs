//! The real binary in a project of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::Db;

/// A project folder with `migrations/`, and the binary run in it.
pub(crate) struct Cli {
    dir: TempDir,
    url: Option<String>,
    env: Vec<(String, String)>,
}

/// What a run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// The exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Panics with everything that was printed unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code\n--- stdout\n{}--- stderr\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// The standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("{e}\n--- stdout\n{}", self.stdout))
    }
}

impl Cli {
    /// A project whose database is `db`.
    pub(crate) fn new(db: &Db) -> Self {
        Self {
            url: Some(db.url()),
            ..Self::offline()
        }
    }

    /// A project without a database.
    pub(crate) fn offline() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("pgshift-project-")
            .tempdir()
            .expect("a temporary folder");
        std::fs::create_dir(dir.path().join("migrations")).expect("migrations/");
        Self {
            dir,
            url: None,
            env: Vec::new(),
        }
    }

    /// The project's folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes `migrations/ID.sql`.
    pub(crate) fn migration(&self, id: &str, sql: &str) -> PathBuf {
        self.file(&format!("migrations/{id}.sql"), sql)
    }

    /// Writes a file of the project.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, text).expect(name);
        path
    }

    /// An environment variable of later runs.
    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgshift"));
        command
            .args(args)
            .current_dir(self.dir())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // An option would not do for commands that take no database.
        if let Some(url) = &self.url {
            command.env("DATABASE_URL", url);
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }

    /// Runs it to its end. Five minutes are a failure.
    pub(crate) async fn run(&self, args: &[&str]) -> Output {
        self.spawn(args).wait().await
    }

    /// Starts it and leaves it running.
    pub(crate) fn spawn(&self, args: &[&str]) -> Running {
        self.spawn_with(&[], args)
    }

    /// [`Self::spawn`], with environment variables of this one run.
    pub(crate) fn spawn_with(&self, env: &[(&str, &str)], args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.envs(env.iter().copied());
        let mut child = command.spawn().expect("the pgshift binary");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        Running {
            child,
            stdout,
            stderr,
        }
    }
}

/// Reads to the end beside the process, so that a full pipe never stops it.
fn collect(from: impl tokio::io::AsyncRead + Unpin + Send + 'static) -> JoinHandle<String> {
    tokio::spawn(async move {
        let mut bytes = Vec::new();
        let _ = BufReader::new(from).read_to_end(&mut bytes).await;
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// A run in the background; killed where it is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

impl Running {
    /// Its process id; `None` once it has been waited for.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// True while it has not ended.
    pub(crate) fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and the wait for its end.
    pub(crate) async fn kill(mut self) -> Output {
        self.child.start_kill().expect("SIGKILL");
        self.wait().await
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal("INT");
    }

    /// Any signal, by name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().expect("still running").to_string();
        // The shell's own `kill`: the program is not everywhere.
        let status = std::process::Command::new("sh")
            .args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid])
            .status();
        assert!(status.expect("sh").success(), "kill -s {name} {pid}");
    }

    /// Waits for its end. Five minutes are a failure.
    pub(crate) async fn wait(mut self) -> Output {
        let limit = Duration::from_mins(5);
        let status = tokio::time::timeout(limit, self.child.wait())
            .await
            .expect("pgshift did not end in five minutes")
            .expect("wait");
        Output {
            code: status.code(),
            stdout: self.stdout.await.expect("stdout"),
            stderr: self.stderr.await.expect("stderr"),
        }
    }
}

#[tokio::test]
async fn runs_the_binary_in_a_project() {
    let cli = Cli::offline();
    let file = cli.migration("20261123_x", "SELECT 1;\n");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "SELECT 1;\n");
    let output = cli.run(&["--version"]).await;
    assert!(output.code.is_some(), "{output:?}");
}
