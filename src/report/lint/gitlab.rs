//! GitLab's Code Quality report.

use serde_json::{Value, json};

use super::{Report, region};
use crate::lint::Severity;
use crate::report::text::redact;

/// A list of issues.
pub fn gitlab(report: &Report) -> Value {
    report
        .findings()
        .map(|(file, finding)| {
            let (line, _, end, _) = region(file, finding);
            json!({
                "description": format!("{}: {}", finding.rule.slug, redact(&finding.message)),
                "check_name": finding.rule.slug,
                "fingerprint": finding.fingerprint,
                "severity": match finding.severity {
                    Severity::Error => "critical",
                    Severity::Warning => "major",
                    Severity::Note => "info",
                },
                "location": { "path": file.path, "lines": { "begin": line, "end": end } },
            })
        })
        .collect()
}
