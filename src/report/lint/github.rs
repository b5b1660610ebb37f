//! Workflow commands of GitHub Actions: annotations of the changed lines.

use std::fmt::Write as _;

use super::{Report, region};
use crate::lint::Severity;
use crate::report::text::{line, redact};

/// One command a finding.
pub fn github(report: &Report) -> String {
    let mut text = String::new();
    for (file, finding) in report.findings() {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "notice",
        };
        let (from, column, to, end_column) = region(file, finding);
        let columns = if from == to {
            format!(",col={column},endColumn={end_column}")
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "::{command} file={},line={from},endLine={to}{columns},title={}::{}%0Ahelp: {}",
            property(&file.path),
            property(finding.rule.slug),
            data(&finding.message),
            data(&finding.help),
        );
    }
    for unread in &report.unread {
        let _ = writeln!(
            text,
            "::error file={}::{}",
            property(&unread.path),
            data(&unread.message)
        );
    }
    text
}

fn data(text: &str) -> String {
    line(&redact(text)).replace('%', "%25")
}

fn property(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
        .replace(':', "%3A")
        .replace(',', "%2C")
}
