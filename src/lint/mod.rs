//! Hazards in plain SQL migration files: what would block, break or destroy, statement by
//! statement, whoever runs the file.
//!
//! [`script::read`] reads a file, [`World`] is what is known of the database before a statement,
//! and [`lint`] follows the one through the other. The rules are in [`rules::all`], one file per
//! family.

pub mod baseline;
mod body;
mod check;
mod context;
pub mod docs;
pub mod fix;
mod read;
pub mod rules;
pub mod runner;
pub mod script;
#[cfg(test)]
mod tests;
pub mod text;
mod world;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::lock::LockMode;
use crate::sql::{Label, Span};
pub use check::{encoding, follow, lint, names};
pub use runner::Runner;
pub use world::World;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// Will hurt in some deployments, or destroys something.
    Warning,
    /// Blocks reads or writes for long, breaks running clients, or fails.
    Error,
}

impl Severity {
    /// All, weakest first.
    pub const ALL: [Self; 3] = [Self::Note, Self::Warning, Self::Error];

    /// The name in output and configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a rule is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Not reported.
    Off,
    /// Reported with this severity.
    At(Severity),
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        Severity::ALL
            .into_iter()
            .find(|s| s.name() == text)
            .map(Self::At)
            .ok_or_else(|| format!("`{text}` is no severity: error, warning, note or off"))
    }
}

/// A hazard that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable, short.
    pub id: &'static str,
    /// Stable; the name in output, configuration and `allow`.
    pub slug: &'static str,
    /// Usual severity.
    pub severity: Severity,
    /// The first major version of PostgreSQL that it is about.
    pub since: u32,
    /// What is found, one line.
    pub summary: &'static str,
    /// What happens, and why.
    pub why: &'static str,
    /// What to do instead.
    pub safe: &'static str,
    /// SQL that it finds; a line `-- a later file:` divides files.
    pub bad: &'static str,
    /// SQL that does the same without the hazard.
    pub good: &'static str,
}

/// A hazard that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// As configured, and lowered where pgshift makes it safe.
    pub severity: Severity,
    /// Where in the file.
    pub span: Span,
    /// The statement that it is in.
    pub statement: Span,
    /// What would happen, one line with the facts.
    pub message: String,
    /// What is under the caret; may be empty.
    pub label: String,
    /// Other places that matter.
    pub also: Vec<Label>,
    /// What to do instead.
    pub help: String,
    /// Statements that do the same safely, each in a transaction of its own; may be empty.
    pub safe: Vec<String>,
    /// The table that is hurt.
    pub relation: Option<String>,
    /// The lock that it takes there.
    pub lock: Option<LockMode>,
    /// Rows of the table, where known.
    pub rows: Option<i64>,
    /// Bytes of the table, where known.
    pub bytes: Option<i64>,
    /// `pgshift plan` rewrites it by itself.
    pub planned: bool,
    /// Where it is not in a statement of the file itself: `a DO block`.
    pub inside: Option<&'static str>,
    /// Allowed in the file, for this reason.
    pub allowed: Option<String>,
    /// Known by this across changes elsewhere in the file; set by [`baseline::fingerprints`].
    pub fingerprint: String,
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Tables of at most so many rows are read, rewritten and indexed in no time.
    pub small_rows: i64,
    /// Rules whose severity is not the usual one, by slug.
    pub levels: BTreeMap<&'static str, Level>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            small_rows: 10_000,
            levels: BTreeMap::new(),
        }
    }
}
