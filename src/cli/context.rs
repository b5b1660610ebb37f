//! What every command needs: the environment read once, output, signals.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::{OnceCell, watch};

use super::config::Config;
use super::logging::{self, error_color, logs_json, no_color};
use super::metrics::Metering;
use super::run_options::RunOptions;
use super::{Format, Global};
use crate::error::{Error, Result};
use crate::event::Sink;
use crate::exec::{Ctx, Engine, Pools, Settings};
use crate::pg::connect::Target;
use crate::pg::pooler::Pooling;
use crate::report::fan::Fan;
use crate::report::text::{Style, lines};
use crate::report::trace::Trace;
use crate::report::{error, out, progress};

/// The invocation.
pub(super) struct App {
    global: Global,
    /// The configuration file.
    pub(super) config: Config,
    /// What is between us and the server; looked at once, whatever is done how often.
    pooling: Arc<OnceCell<Pooling>>,
    /// Made at its first use, once: it is a task.
    stop: OnceLock<watch::Receiver<bool>>,
    /// Made at the first engine that is to tell metrics, once: it has an address.
    metering: OnceLock<Metering>,
}

/// The present time: the one place of the command line that reads the clock.
#[allow(
    clippy::disallowed_methods,
    reason = "the shell gives the time to everything else"
)]
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

pub(super) fn env(name: &str) -> Option<String> {
    crate::pg::connect::environment(name)
}

/// A path in an environment variable.
pub(super) fn path_from_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// What the command line or the environment gives, else the configuration file. An empty text is
/// none, as with libpq's variables.
fn given<'a>(first: Option<&'a str>, second: Option<&'a str>) -> Option<&'a str> {
    let said = |text: &&str| !text.trim().is_empty();
    first.filter(said).or(second.filter(said))
}

/// Writes an error where the format wants it.
pub(super) fn tell_error(global: &Global, what: &Error) {
    match global.format {
        Format::Json => {
            let _ = out::stdout(&format!("{}\n", error::render_json(what)));
        }
        _ if logs_json() => logging::error(what),
        _ => out::stderr(&error::render(what, error_color(global))),
    }
}

impl App {
    pub(super) fn new(global: &Global) -> Result<Self> {
        // The file may say how, but an error in it must be told as the command line wants it.
        let config = Config::read(global.config.as_deref());
        let configured = config.as_ref().ok().and_then(|c| c.log_format);
        logging::start(global, global.log_format.or(configured).unwrap_or_default());
        let config = config?;
        Ok(Self {
            global: global.clone(),
            config,
            pooling: Arc::default(),
            stop: OnceLock::new(),
            metering: OnceLock::new(),
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

    /// Where sessions go; and the same database by `--database-url`, where `--direct-url` is given
    /// beside it.
    fn targets(&self) -> Result<(Target, Option<Target>)> {
        let database = given(
            self.global.database_url.as_deref(),
            self.config.database_url.as_deref(),
        );
        let Some(direct) = self.direct_url() else {
            return Ok((Target::new(database)?, None));
        };
        let named = |name: &'static str| move |error: Error| error.context(name);
        let target = Target::new(Some(direct)).map_err(named("--direct-url"))?;
        let pooled = database
            .filter(|database| *database != direct)
            .map(|database| Target::new(Some(database)).map_err(named("--database-url")))
            .transpose()?;
        Ok((target, pooled))
    }

    fn direct_url(&self) -> Option<&str> {
        given(
            self.global.direct_url.as_deref(),
            self.config.direct_url.as_deref(),
        )
    }

    /// The PgBouncer whose queues count.
    fn pools(&self) -> Result<Option<Pools>> {
        given(
            self.global.pgbouncer_url.as_deref(),
            self.config.pgbouncer_url.as_deref(),
        )
        .map(|url| {
            let console = Target::console(url).map_err(|e| e.context("--pgbouncer-url"))?;
            Ok(Pools {
                console,
                database: None,
            })
        })
        .transpose()
    }

    /// Checks what a run needs, and says which way its chunks go, where there are two.
    pub(super) async fn check_ways(&self, engine: &Engine) -> Result<()> {
        if let Some(way) = engine.chunks_way().await? {
            self.say(way);
        }
        Ok(())
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
        if logs_json() {
            tracing::info!("{text}");
        } else if !self.global.quiet && !self.json() {
            out::stderr(&format!("{}\n", lines(text)));
        }
    }

    /// Writes the metrics' last state to their file, if they have one.
    pub(super) fn write_metrics(&self) {
        if let Some(metering) = self.metering.get() {
            metering.write();
        }
    }

    /// Where events go. Metrics are told by the commands that have options to run.
    fn sink(&self, options: Option<&RunOptions>) -> Result<Arc<dyn Sink>> {
        let display = self.display();
        let Some(options) = options else {
            return Ok(display);
        };
        if self.metering.get().is_none() {
            let metering = Metering::start(self, options)?;
            let _ = self.metering.set(metering);
        }
        let metrics = self.metering.get().and_then(Metering::sink);
        Ok(match metrics {
            Some(metrics) => Arc::new(Fan::new(vec![metrics, display])),
            None => display,
        })
    }

    fn display(&self) -> Arc<dyn Sink> {
        if self.json() {
            let json = Arc::new(progress::Json::new(Box::new(std::io::stdout()), now));
            if logs_json() {
                return Arc::new(Fan::new(vec![json, Arc::new(Trace::new(now))]));
            }
            return json;
        }
        if logs_json() {
            return Arc::new(Trace::new(now));
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
            options.settings(&mut settings)?;
        }
        settings.pools = self.pools()?;
        let (target, pooled) = self.targets()?;
        Ok(Engine::new(Ctx {
            target,
            direct: self.direct_url().is_some(),
            pooling: self.pooling.clone(),
            pooled,
            chunks: None,
            settings,
            sink: self.sink(options)?,
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
            let text = "stopping after the chunk in hand (once more: at once)";
            if logs_json() {
                tracing::warn!("{text}");
            } else {
                out::stderr(&format!("{text}\n"));
            }
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
