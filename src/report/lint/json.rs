//! For programs; the shapes are in docs/json.md.

use serde_json::{Value, json};

use super::{File, Report, region};
use crate::lint::{Finding, Rule, Severity};
use crate::report::text::redact;

/// All that was found.
pub fn json(report: &Report) -> Value {
    let findings: Vec<Value> = report
        .findings()
        .map(|(file, found)| finding(file, found))
        .collect();
    let unread: Vec<Value> = report
        .unread
        .iter()
        .map(|u| json!({ "path": u.path, "message": redact(&u.message) }))
        .collect();
    let mut all = json!({
        "findings": findings,
        "unread": unread,
        "summary": {
            "files": report.files.len(),
            "files_with_findings": report.files_with_findings(),
            "errors": report.count(Severity::Error),
            "warnings": report.count(Severity::Warning),
            "notes": report.count(Severity::Note),
            "allowed": report.allowed,
            "known": report.known,
            "down_files": report.down,
        },
    });
    if let Some(fixes) = &report.fixes {
        all["fixes"] = fixes.iter().map(super::fix::json).collect();
    }
    all
}

fn finding(file: &File, found: &Finding) -> Value {
    let (line, column, end_line, end_column) = region(file, found);
    json!({
        "rule": found.rule.slug,
        "id": found.rule.id,
        "severity": found.severity,
        "file": file.path,
        "runner": file.runner.map(crate::lint::Runner::name),
        "line": line,
        "column": column,
        "end_line": end_line,
        "end_column": end_column,
        "message": redact(&found.message),
        "help": redact(&found.help),
        "safe": found.safe,
        "relation": found.relation,
        "lock": found.lock,
        "rows": found.rows,
        "bytes": found.bytes,
        "planned": found.planned,
        "inside": found.inside,
        "fingerprint": found.fingerprint,
    })
}

/// A rule.
pub fn rule(rule: &Rule) -> Value {
    json!({
        "rule": rule.slug,
        "id": rule.id,
        "severity": rule.severity,
        "since": rule.since,
        "summary": rule.summary,
        "why": rule.why,
        "safe": rule.safe,
        "bad": rule.bad,
        "good": rule.good,
    })
}
