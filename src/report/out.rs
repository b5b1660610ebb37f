//! Writing to stdout and stderr without panics, and whether to write in colour.

use std::io::{self, Write};

use crate::error::{Error, Result};

/// `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// In a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Whether to write in colour. `no_color` is the value of the variable `NO_COLOR`: any but the
/// empty one turns colour off, and an explicit `--color` is stronger (<https://no-color.org>).
pub fn color(no_color: Option<&str>, when: When, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => is_terminal && no_color.is_none_or(str::is_empty),
    }
}

/// Whether anyone reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// It was written.
    Open,
    /// The reader has closed the pipe, as `head` does. This is no error: a command that only
    /// writes data ends with success, and a migration goes on unseen.
    Closed,
}

/// Writes data to `stream` and flushes it.
///
/// # Errors
/// When it cannot be written for any other reason than a closed pipe, for example a full disk:
/// data that is cut short must not look whole.
pub fn write(stream: &mut dyn Write, text: &str) -> Result<Pipe> {
    let outcome = stream
        .write_all(text.as_bytes())
        .and_then(|()| stream.flush());
    match outcome {
        Ok(()) => Ok(Pipe::Open),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Pipe::Closed),
        Err(e) => Err(Error::usage("the output could not be written in full")
            .hint("look at the disk or device that the output goes to")
            .caused_by(e)),
    }
}

/// [`write()`] to stdout, which is for data.
///
/// # Errors
/// As [`write()`].
pub fn stdout(text: &str) -> Result<Pipe> {
    write(&mut io::stdout().lock(), text)
}

/// Writes to stderr, which is for people. There is nobody to tell if that fails.
pub fn stderr(text: &str) {
    let _ = write(&mut io::stderr().lock(), text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn colour_is_decided_by_flag_then_variable_then_terminal() {
        assert!(color(None, When::Auto, true));
        assert!(!color(None, When::Auto, false));
        assert!(!color(Some("1"), When::Auto, true));
        assert!(color(Some(""), When::Auto, true), "empty is as unset");
        assert!(color(Some("1"), When::Always, false));
        assert!(!color(None, When::Never, true));
    }

    struct Broken(io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_quiet_and_a_full_disk_is_not() {
        let closed = write(&mut Broken(io::ErrorKind::BrokenPipe), "x");
        assert_eq!(closed.expect("no error"), Pipe::Closed);
        let full = write(&mut Broken(io::ErrorKind::StorageFull), "x").expect_err("cut short");
        assert_eq!(full.kind(), ErrorKind::Usage);
        let mut kept = Vec::new();
        assert_eq!(write(&mut kept, "x\n").expect("written"), Pipe::Open);
        assert_eq!(kept, b"x\n");
    }
}
