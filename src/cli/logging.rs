//! The log on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use super::context::env;
use super::{Global, LogFormat};
use crate::error::Error;
use crate::report::out;
use crate::report::text::redact;

/// The format that the process began with.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// True where everything on standard error is JSON.
pub(super) fn logs_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

pub(super) fn no_color() -> Option<String> {
    env("NO_COLOR")
}

/// Whether standard error is in colour.
pub(super) fn error_color(global: &Global) -> bool {
    out::color(
        no_color().as_deref(),
        global.color,
        std::io::stderr().is_terminal(),
    )
}

/// Starts the log, once a process.
pub(super) fn start(global: &Global, format: LogFormat) {
    let _ = FORMAT.set(format);
    let default = match (global.verbose, format) {
        _ if global.quiet => "error",
        (0, LogFormat::Text) => "error",
        // The log is all there is to see.
        (0, LogFormat::Json) | (1, _) => "pgshift=info",
        (2, _) => "pgshift=debug",
        _ => "debug",
    };
    let filter = env("PGSHIFT_LOG").map_or_else(|| EnvFilter::new(default), EnvFilter::new);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(error_color(global));
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.with_ansi(false).json().with_span_list(false).try_init(),
    };
}

/// An error as a line of the log.
pub(super) fn error(what: &Error) {
    tracing::error!(
        target: "pgshift",
        exit_code = super::exit::Exit::from(what.kind()).code(),
        sqlstate = what.sqlstate(),
        left = what.what_was_left(),
        next = what.what_next(),
        "{}",
        redact(&what.to_string())
    );
}
