//! What `pgshift lint` found, in the formats of people, programs and review tools.

mod fix;
mod github;
mod gitlab;
mod human;
mod json;
mod junit;
mod sarif;
#[cfg(test)]
mod tests;

use crate::lint::{Finding, Runner, Severity};
use crate::plan::fix::{Advice, Change};
use crate::sql::Source;

pub use fix::{diff, fixes};
pub use github::github;
pub use gitlab::gitlab;
pub use human::{explain, human, list};
pub use json::{json, rule as rule_json};
pub use junit::junit;
pub use sarif::sarif;

/// A file that was linted.
#[derive(Debug, Clone)]
pub struct File {
    /// As shown, with `/`.
    pub path: String,
    /// Its text; empty where it is none.
    pub source: Source,
    /// Who runs it; `None` where that is not known because it could not be read.
    pub runner: Option<Runner>,
    /// What is reported, in order of place; without what is allowed or known.
    pub findings: Vec<Finding>,
}

/// A file that can be fixed, or of which a person can.
#[derive(Debug, Clone)]
pub struct FixedFile {
    /// As shown, with `/`.
    pub path: String,
    /// Its text as it was.
    pub source: Source,
    /// Who runs it.
    pub runner: Runner,
    /// Its text with the changes.
    pub text: String,
    /// What is changed, in order of place.
    pub changes: Vec<Change>,
    /// What is not.
    pub advice: Vec<Advice>,
    /// The changes are in the file.
    pub written: bool,
    /// Why the file could not be changed.
    pub error: Option<String>,
}

/// A file or folder that could not be read, or not be fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// As given.
    pub path: String,
    /// Why.
    pub message: String,
}

/// The result of a run.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Files in order, those without findings too.
    pub files: Vec<File>,
    /// What could not be read.
    pub unread: Vec<Unread>,
    /// Findings left out because the file allows them.
    pub allowed: usize,
    /// Findings left out because the baseline has them.
    pub known: usize,
    /// Files left out because they only take migrations back.
    pub down: usize,
    /// What `--fix` changed, or `--diff` would; `None` where that was not asked.
    pub fixes: Option<Vec<FixedFile>>,
}

impl Report {
    /// Every finding with its file.
    pub fn findings(&self) -> impl Iterator<Item = (&File, &Finding)> {
        self.files
            .iter()
            .flat_map(|file| file.findings.iter().map(move |f| (file, f)))
    }

    /// Findings of this severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings()
            .filter(|(_, f)| f.severity == severity)
            .count()
    }

    /// Files that have findings.
    pub fn files_with_findings(&self) -> usize {
        self.files.iter().filter(|f| !f.findings.is_empty()).count()
    }
}

/// First and one past the last place of a finding: line, column, line, column; 1-based, columns in
/// characters.
fn region(file: &File, finding: &Finding) -> (usize, usize, usize, usize) {
    let (line, column) = file.source.line_column(finding.span.start);
    let (end_line, end_column) = file.source.line_column(finding.span.end);
    (line, column, end_line, end_column)
}
