//! Migration files: the format, its errors, and the order of files.
//!
//! A file is one SQL script. Directives, comments that begin with `-- pgshift:`, divide it into
//! sections and say what plain SQL cannot. See `docs/migration-files.md`.

mod directive;
mod options;
pub mod order;
mod parse;
mod statement;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sql::{Source, Span};
pub(crate) use directive::allow_at;
pub use parse::{check_id, checksum, parse, parse_bytes};

/// A migration file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The stem of the file's name.
    pub id: String,
    /// The text, without a byte order mark.
    pub source: Source,
    /// See [`checksum`].
    pub checksum: String,
    /// The file has no sections other than a `revert` at its end.
    pub plain: bool,
    /// File-level options.
    pub options: FileOptions,
    /// The sections in the order of the file. A plain file has one [`SectionKind::Plain`], and
    /// may have a [`SectionKind::Revert`].
    pub sections: Vec<Section>,
}

impl Migration {
    /// The sections of a kind, in order.
    pub fn sections_of(&self, kind: SectionKind) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |s| s.kind == kind)
    }

    /// The `revert` section that belongs to the section of this kind.
    pub fn revert_of(&self, kind: SectionKind) -> Option<&Section> {
        self.sections.iter().find(|s| s.of == Some(kind))
    }
}

/// What a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SectionKind {
    /// SQL of a file without sections.
    Plain,
    /// Changes that the old application version can live with.
    Expand,
    /// UPDATE or DELETE statements to run in batches.
    Backfill,
    /// UPDATE statements that say how a write of the new application version maps back.
    Reverse,
    /// Queries that must find nothing.
    Verify,
    /// Changes that only the new application version can live with.
    Contract,
    /// SQL that takes back statements of the section before it.
    Revert,
}

impl SectionKind {
    /// The sections that a file can name, in the order they must have; `revert` stands directly
    /// after one of the others.
    pub const NAMED: [Self; 6] = [
        Self::Expand,
        Self::Backfill,
        Self::Reverse,
        Self::Verify,
        Self::Contract,
        Self::Revert,
    ];

    /// The word in a file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Expand => "expand",
            Self::Backfill => "backfill",
            Self::Reverse => "reverse",
            Self::Verify => "verify",
            Self::Contract => "contract",
            Self::Revert => "revert",
        }
    }
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A section and its statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it is for.
    pub kind: SectionKind,
    /// The directive; for a plain section an empty span at its first statement.
    pub span: Span,
    /// Options of a backfill; empty for every other kind.
    pub options: BackfillOptions,
    /// At least one.
    pub statements: Vec<Statement>,
    /// For a revert: what it takes back, `Expand`, `Contract` or `Plain`.
    pub of: Option<SectionKind>,
}

/// A statement as the author wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text without `;` and without comments around it.
    pub sql: String,
    /// Where it is in the file.
    pub span: Span,
    /// Rules that the author allows it to break.
    pub allows: Vec<Allow>,
}

/// `-- pgshift: allow RULE reason="…"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allow {
    /// Name of the rule, as written; whether there is such a rule is not known here.
    pub rule: String,
    /// Why; never empty.
    pub reason: String,
    /// Where the name of the rule is.
    pub span: Span,
}

/// How the rows of a backfill are walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// By physical place, in ranges of blocks.
    Ctid,
    /// By ranges of the primary key.
    Keyset,
}

/// Options of a backfill section; `None` is the default of pgshift.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillOptions {
    /// Rows of a batch; at least 1.
    pub batch: Option<u32>,
    /// Batches that run at the same time; at least 1.
    pub workers: Option<u16>,
    /// How the rows are walked.
    pub strategy: Option<Strategy>,
    /// Whether triggers keep old and new columns in step.
    pub sync: Option<bool>,
    /// Passes over each part of the table: a power of two.
    #[serde(default)]
    pub stripes: Option<u16>,
    /// A VACUUM after each such part of the table, in percent; 0 for none.
    #[serde(default)]
    pub vacuum: Option<u8>,
}

/// Options of a whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOptions {
    /// `lock_timeout` of the DDL steps; whole milliseconds, at least 1.
    pub lock_timeout: Option<Duration>,
    /// What references a column whose type changes, changes too.
    #[serde(default)]
    pub cascade: bool,
    /// Limits of the throttle for this migration: keys and values of
    /// [`KEYS`](crate::throttle::limits::KEYS).
    #[serde(default)]
    pub throttle: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests;
