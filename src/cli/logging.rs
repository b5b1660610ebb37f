//! The log on standard error.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use super::context::env;
use super::{Global, LogFormat};
use crate::error::Error;
use crate::report::out;
use crate::report::text::{is_unsafe, redact};

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
    let json = format == LogFormat::Json;
    let filter = env("PGSHIFT_LOG").map_or_else(|| EnvFilter::new(default), EnvFilter::new);
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Safe { json })
        .with_ansi(error_color(global));
    let _ = match format {
        LogFormat::Text => log.try_init(),
        LogFormat::Json => log.with_ansi(false).json().with_span_list(false).try_init(),
    };
}

/// Standard error, for lines that hold what the server and other programs say.
struct Safe {
    json: bool,
}

impl std::io::Write for Safe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = visible(&String::from_utf8_lossy(bytes), self.json);
        std::io::stderr().lock().write_all(text.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Control characters of a line of the log escaped, in JSON as JSON does; but for what colours it:
/// the subscriber escapes that of messages itself.
fn visible(text: &str, json: bool) -> String {
    text.chars().fold(String::new(), |mut safe, c| {
        if matches!(c, '\n' | '\t' | '\u{1b}') || !is_unsafe(c) {
            safe.push(c);
        } else if json {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            let _ = write!(safe, "{}", c.escape_unicode());
        }
        safe
    })
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
