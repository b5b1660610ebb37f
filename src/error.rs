//! The crate's one error type.
//!
//! An [`Error`] is opaque, with a [`kind`](Error::kind) that decides the exit code, and carries
//! what a user needs: what was wrong, where, what was left as it was, and what to do next.

use std::fmt;

use crate::sql::{Diagnostic, Source};

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What sort of failure it is; each has one documented exit code (see `cli::exit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Checks found something: wrong rows, hazards.
    Findings,
    /// The input is wrong: arguments, configuration, a migration file, an expression.
    Usage,
    /// pgshift will not do this without a decision of a person.
    Refused,
    /// A lock could not be had within the budget; nothing was changed by the step.
    Lock,
    /// Stopped on the way; `pgshift resume` goes on from the last committed chunk or step.
    Interrupted,
    /// The outcome is not known and a person must choose.
    Ambiguous,
    /// The server cannot be reached or went away.
    Connection,
    /// A defect of pgshift.
    Internal,
}

/// An error of pgshift. Built by kind, then enriched.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    at: Option<(Source, Vec<Diagnostic>)>,
    sqlstate: Option<String>,
    left: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            at: None,
            sqlstate: None,
            left: None,
            hint: None,
            source: None,
        }))
    }

    /// [`ErrorKind::Usage`].
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// [`ErrorKind::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// [`ErrorKind::Connection`].
    pub fn connection(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Connection, message)
    }

    /// [`ErrorKind::Interrupted`].
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Interrupted, message)
    }

    /// [`ErrorKind::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Wrong input at places of a source text: file, line, column and caret are shown.
    /// `diagnostics` must not be empty; the first one's message is the error's.
    pub fn at(source: &Source, diagnostics: Vec<Diagnostic>) -> Self {
        let message = diagnostics
            .first()
            .map_or_else(String::new, |d| d.message.clone());
        let mut error = Self::usage(message);
        error.0.at = Some((source.clone(), diagnostics));
        error
    }

    /// Points at places of a source text, keeping the kind.
    #[must_use]
    pub fn with_places(mut self, source: &Source, diagnostics: Vec<Diagnostic>) -> Self {
        self.0.at = Some((source.clone(), diagnostics));
        self
    }

    /// Changes the kind, keeping everything else.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Says what was left as it was.
    #[must_use]
    pub fn left(mut self, left: impl Into<String>) -> Self {
        self.0.left = Some(left.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Puts `context: ` before the message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// Records the SQLSTATE that the server gave.
    #[must_use]
    pub fn with_sqlstate(mut self, code: impl Into<String>) -> Self {
        self.0.sqlstate = Some(code.into());
        self
    }

    /// Keeps the underlying error as [`std::error::Error::source`].
    #[must_use]
    pub fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was wrong, one line.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The places in a source text, if the error is about one.
    pub fn places(&self) -> Option<(&Source, &[Diagnostic])> {
        self.0
            .at
            .as_ref()
            .map(|(source, list)| (source, list.as_slice()))
    }

    /// The server's SQLSTATE, if the server gave the error.
    pub fn sqlstate(&self) -> Option<&str> {
        self.0.sqlstate.as_deref()
    }

    /// What was left as it was.
    pub fn what_was_left(&self) -> Option<&str> {
        self.0.left.as_deref()
    }

    /// What to do next.
    pub fn what_next(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// True where the connection to the server was lost or could not be made.
    pub fn is_connection(&self) -> bool {
        self.0.kind == ErrorKind::Connection
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_ref()
            .map(|e| &**e as &(dyn std::error::Error + 'static))
    }
}
