//! What every command needs: the environment read once, output, signals.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::watch;

use super::config::Config;
use super::run_options::RunOptions;
use super::{Format, Global};
use crate::error::{Error, Result};
use crate::event::Sink;
use crate::exec::{Ctx, Engine, Settings};
use crate::pg::connect::Target;
use crate::report::text::Style;
use crate::report::{error, out, progress};

/// The invocation.
pub(super) struct App {
    global: Global,
    /// The configuration file.
    pub(super) config: Config,
    /// Made at its first use, once: it is a task.
    stop: OnceLock<watch::Receiver<bool>>,
}

/// The present time: the one place of the command line that reads the clock.
#[allow(
    clippy::disallowed_methods,
    reason = "the shell gives the time to everything else"
)]
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

fn env(name: &str) -> Option<String> {
    crate::pg::connect::environment(name)
}

/// A path in an environment variable.
pub(super) fn path_from_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn no_color() -> Option<String> {
    env("NO_COLOR")
}

fn error_color(global: &Global) -> bool {
    out::color(
        no_color().as_deref(),
        global.color,
        std::io::stderr().is_terminal(),
    )
}

/// Writes an error where the format wants it.
pub(super) fn tell_error(global: &Global, what: &Error) {
    if global.format == Format::Json {
        let _ = out::stdout(&format!("{}\n", error::render_json(what)));
    } else {
        out::stderr(&error::render(what, error_color(global)));
    }
}

impl App {
    pub(super) fn new(global: &Global) -> Result<Self> {
        start_log(global);
        let config = Config::read(global.config.as_deref())?;
        Ok(Self {
            global: global.clone(),
            config,
            stop: OnceLock::new(),
        })
    }

    pub(super) fn format(&self) -> Format {
        self.global.format
    }

    pub(super) fn json(&self) -> bool {
        self.global.format == Format::Json
    }

    pub(super) fn migrations_dir(&self) -> PathBuf {
        self.global
            .migrations
            .clone()
            .or_else(|| self.config.migrations.clone())
            .unwrap_or_else(|| PathBuf::from("migrations"))
    }

    /// Style of standard output.
    pub(super) fn style(&self) -> Style {
        let terminal = std::io::stdout().is_terminal();
        Style {
            color: out::color(no_color().as_deref(), self.global.color, terminal),
            verbose: self.global.verbose > 0,
        }
    }

    pub(super) fn target(&self) -> Result<Target> {
        Target::new(
            self.global
                .database_url
                .as_deref()
                .or(self.config.database_url.as_deref()),
        )
    }

    /// Data for people or programs.
    pub(super) fn print(&self, human: &str, json: &Value) -> Result<out::Pipe> {
        if self.json() {
            out::stdout(&format!("{json}\n"))
        } else {
            out::stdout(human)
        }
    }

    /// A remark for people, on standard error.
    pub(super) fn say(&self, text: &str) {
        if !self.global.quiet && !self.json() {
            out::stderr(&format!("{text}\n"));
        }
    }

    fn sink(&self) -> Arc<dyn Sink> {
        if self.json() {
            return Arc::new(progress::Json::new(Box::new(std::io::stdout()), now));
        }
        let stderr = Box::new(std::io::stderr());
        if self.global.quiet {
            Arc::new(progress::Quiet::new(stderr, now))
        } else if std::io::stderr().is_terminal() {
            Arc::new(progress::Bar::new(error_color(&self.global)))
        } else {
            Arc::new(progress::Lines::new(stderr, now))
        }
    }

    /// The settings of the configuration.
    pub(super) fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        self.config.settings(&mut settings);
        settings
    }

    /// Becomes true at the first SIGINT or SIGTERM.
    pub(super) fn stop(&self) -> watch::Receiver<bool> {
        self.stop.get_or_init(stop_signal).clone()
    }

    /// The operations, with the settings of configuration and command line.
    pub(super) fn engine(&self, options: Option<&RunOptions>) -> Result<Engine> {
        let mut settings = self.settings();
        if let Some(options) = options {
            options.settings(&mut settings);
        }
        Ok(Engine::new(Ctx {
            target: self.target()?,
            settings,
            sink: self.sink(),
            stop: self.stop(),
            actor: actor(),
        }))
    }

    /// Asks before what cannot be undone.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Refused`] where the answer is no, or nobody can be asked.
    pub(super) fn confirm(&self, question: &str) -> Result<()> {
        if self.global.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Error::refused(question)
                .left("nothing was changed")
                .hint("say --yes: nobody can be asked here"));
        }
        out::stderr(&format!("{question} Go on? [y/N] "));
        let mut answer = String::new();
        std::io::stdin()
            .read_line(&mut answer)
            .map_err(|e| Error::usage(format!("no answer could be read: {e}")))?;
        if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
            return Ok(());
        }
        Err(Error::refused("not confirmed").left("nothing was changed"))
    }
}

/// Who we are in leases and in the log.
pub(super) fn actor() -> String {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
    format!("{user}@{host} pid {}", std::process::id())
}

/// Becomes true at the first SIGINT or SIGTERM; the second one ends the process at once.
fn stop_signal() -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut count = 0;
        loop {
            wait_for_signal().await;
            count += 1;
            if count > 1 {
                std::process::exit(i32::from(super::exit::Exit::Interrupted.code()));
            }
            out::stderr("stopping after the chunk in hand (once more: at once)\n");
            let _ = sender.send(true);
        }
    });
    receiver
}

#[cfg(unix)]
async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn wait_for_signal() {
    let _ = tokio::signal::ctrl_c().await;
}

fn start_log(global: &Global) {
    use tracing_subscriber::EnvFilter;
    let default = match global.verbose {
        0 => "error",
        1 => "pgshift=info",
        2 => "pgshift=debug",
        _ => "debug",
    };
    let filter = env("PGSHIFT_LOG").map_or_else(|| EnvFilter::new(default), EnvFilter::new);
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(error_color(global))
        .try_init();
}
