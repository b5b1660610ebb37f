//! The program as its user runs it: a process on a project of its own.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use pgshift::{Error, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::contenders::Pgshift;
use crate::procs;
use crate::tables::EXPRESSION;

const MIGRATION: &str = "0001_total_cents";
/// How often its memory is read.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Program {
    exe: PathBuf,
    dir: TempDir,
    /// Options of a backfill that it refuses.
    refused: Vec<&'static str>,
}

fn io(error: std::io::Error) -> Error {
    Error::internal(error.to_string()).caused_by(error)
}

/// What is heard of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    BackfillStarted,
    BackfillDone,
}

impl Program {
    /// With a project of its own; the options that it refuses are found out here, without a
    /// server: a file is read before anything else is done.
    pub(crate) async fn new(exe: &Path, options: &[&'static str]) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("pgshift-bench-")
            .tempdir()
            .map_err(io)?;
        std::fs::create_dir(dir.path().join("migrations")).map_err(io)?;
        let exe = exe.canonicalize().map_err(|e| {
            Error::usage(format!("{}: {e}", exe.display())).hint("name the binary with --pgshift")
        })?;
        let mut program = Self {
            exe,
            dir,
            refused: Vec::new(),
        };
        for &option in options {
            program.write(&[option])?;
            let out = program
                .output("postgres://127.0.0.1:1/none", &["lint"])
                .await?;
            let said = String::from_utf8_lossy(&out.stdout).into_owned()
                + &String::from_utf8_lossy(&out.stderr);
            let name = option.split('=').next().unwrap_or(option);
            if said.contains(&format!("backfill has no option `{name}`")) {
                program.refused.push(option);
            }
        }
        Ok(program)
    }

    /// The options to write for a contender.
    ///
    /// # Errors
    /// The option that this binary lacks.
    pub(crate) fn options(&self, of: &Pgshift) -> Result<Vec<&'static str>, &'static str> {
        of.written(|option| !self.refused.contains(&option))
    }

    fn write(&self, options: &[&str]) -> Result<()> {
        let text = format!(
            "-- pgshift: expand\nALTER TABLE orders ADD COLUMN total_cents bigint;\n\n\
             -- pgshift: backfill {}\nUPDATE orders SET total_cents = {EXPRESSION};\n",
            options.join(" ")
        );
        let file = self.dir.path().join("migrations").join(MIGRATION);
        std::fs::write(file.with_extension("sql"), text).map_err(io)
    }

    fn command(&self, url: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("DATABASE_URL", url)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn output(&self, url: &str, args: &[&str]) -> Result<Output> {
        self.command(url).args(args).output().await.map_err(io)
    }

    /// Its version.
    pub(crate) async fn version(&self) -> Result<String> {
        let out = self.output("", &["--version"]).await?;
        let text = String::from_utf8_lossy(&out.stdout);
        Ok(text.trim().trim_start_matches("pgshift ").to_owned())
    }

    /// The statements of a plan up to the sync trigger.
    pub(crate) async fn up_to_sync(&self, url: &str) -> Result<Vec<String>> {
        self.write(&[])?;
        let out = self
            .output(url, &["plan", MIGRATION, "--format", "json"])
            .await?;
        if !out.status.success() {
            return Err(failed("plan", &out.stderr));
        }
        let plan: Value = serde_json::from_slice(&out.stdout)
            .map_err(|e| Error::internal(format!("the plan cannot be read: {e}")))?;
        let steps = plan["plans"][0]["steps"].as_array();
        let wanted = |s: &&Value| s["phase"] == "expand" || s["phase"] == "sync";
        let all: Vec<String> = steps
            .into_iter()
            .flatten()
            .filter(wanted)
            .flat_map(|s| s["sql"].as_array().cloned().unwrap_or_default())
            .filter_map(|s| s.as_str().map(str::to_owned))
            .collect();
        if all.iter().any(|s| s.contains("CREATE TRIGGER")) {
            Ok(all)
        } else {
            Err(Error::internal("the plan has no sync trigger"))
        }
    }

    /// Starts `pgshift apply`.
    pub(crate) fn apply(&self, url: &str, options: Pgshift) -> Result<Applying> {
        let written = self
            .options(&options)
            .map_err(|o| Error::internal(format!("{o} is refused")))?;
        self.write(&written)?;
        let mut command = self.command(url);
        command.args(["apply", MIGRATION, "--yes", "--format", "json"]);
        command.args(options.arguments);
        let mut child = command.spawn().map_err(io)?;
        let (out, mut err) = (child.stdout.take(), child.stderr.take());
        let missing = || Error::internal("the process has no output");
        let said = tokio::spawn(async move {
            let mut bytes = Vec::new();
            if let Some(err) = &mut err {
                let _ = err.read_to_end(&mut bytes).await;
            }
            bytes
        });
        Ok(Applying {
            lines: BufReader::new(out.ok_or_else(missing)?).lines(),
            child,
            said,
            step: None,
            memory: None,
            last: String::new(),
        })
    }
}

fn failed(what: &str, stderr: &[u8]) -> Error {
    let said = String::from_utf8_lossy(stderr);
    Error::internal(format!("`pgshift {what}` failed: {}", said.trim()))
}

/// A run under way.
pub(crate) struct Applying {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: JoinHandle<Vec<u8>>,
    /// The number of the backfill's step.
    step: Option<u64>,
    memory: Option<u64>,
    /// The last thing said on standard output: an error, where it fails.
    last: String,
}

impl Applying {
    /// What is heard next; `None` at its end.
    pub(crate) async fn next(&mut self) -> Result<Option<Heard>> {
        loop {
            tokio::select! {
                line = self.lines.next_line() => {
                    let Some(line) = line.map_err(io)? else { return Ok(None) };
                    let heard = self.hear(&line);
                    self.last = line;
                    if heard.is_some() {
                        return Ok(heard);
                    }
                }
                () = tokio::time::sleep(LOOK) => self.look(),
            }
        }
    }

    fn hear(&mut self, line: &str) -> Option<Heard> {
        self.look();
        let event: Value = serde_json::from_str(line).ok()?;
        if event["event"] == "step_started" && event["phase"] == "backfill" {
            self.step = event["step"].as_u64();
            return Some(Heard::BackfillStarted);
        }
        let ours = self.step.is_some() && event["step"].as_u64() == self.step;
        (event["event"] == "step_done" && ours).then_some(Heard::BackfillDone)
    }

    /// The largest resident set is gone with the process.
    fn look(&mut self) {
        if let Some(pid) = self.child.id() {
            self.memory = procs::peak_memory(pid).max(self.memory);
        }
    }

    pub(crate) fn cpu_s(&self) -> Option<f64> {
        procs::of_process(self.child.id()?)
    }

    /// Waits for its end; gives its largest resident set in bytes.
    pub(crate) async fn end(mut self) -> Result<Option<u64>> {
        let status = self.child.wait().await.map_err(io)?;
        if status.success() {
            Ok(self.memory)
        } else {
            let mut said = self.said.await.unwrap_or_default();
            said.extend(self.last.bytes());
            Err(failed("apply", &said))
        }
    }
}
