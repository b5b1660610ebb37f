//! SARIF 2.1.0 (OASIS standard), for code scanning.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Report, region};
use crate::lint::{Finding, Rule, Severity, rules};
use crate::report::text::redact;

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// One run with its rules, results, and what could not be read.
pub fn sarif(report: &Report, version: &str) -> Value {
    let all: Vec<&Rule> = rules::all().collect();
    let index = |rule: &Rule| all.iter().position(|r| *r == rule);
    let results: Vec<Value> = report
        .findings()
        .map(|(file, finding)| {
            let (line, column, end_line, end_column) = region(file, finding);
            json!({
                "ruleId": finding.rule.id,
                "ruleIndex": index(finding.rule),
                "level": finding.severity,
                "message": { "text": message(finding) },
                "locations": [{
                    "physicalLocation": {
                        "artifactLocation": { "uri": uri(&file.path), "uriBaseId": "%SRCROOT%" },
                        "region": {
                            "startLine": line, "startColumn": column,
                            "endLine": end_line, "endColumn": end_column,
                        },
                    },
                }],
                "partialFingerprints": { "pgshift/v1": finding.fingerprint },
            })
        })
        .collect();
    let notifications: Vec<Value> = report
        .unread
        .iter()
        .map(|u| {
            json!({
                "level": "error",
                "message": { "text": format!("{}: {}", u.path, redact(&u.message)) },
            })
        })
        .collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "pgshift",
                "semanticVersion": version,
                "rules": all.iter().map(|r| descriptor(r)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": { "%SRCROOT%": { "description": { "text": "The folder that pgshift ran in." } } },
            "invocations": [{
                "executionSuccessful": report.unread.is_empty(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    })
}

fn message(finding: &Finding) -> String {
    let mut text = format!("{}.", redact(&finding.message));
    if finding.severity > Severity::Note {
        let _ = write!(text, " Safe: {}.", redact(&finding.help));
    }
    text
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "name": rule.slug,
        "shortDescription": { "text": rule.summary },
        "fullDescription": { "text": rule.why },
        "help": { "text": format!("{} Safe: {}.", rule.why, rule.safe) },
        "defaultConfiguration": { "level": rule.severity },
    })
}

/// A path as a relative URI (RFC 3986).
fn uri(path: &str) -> String {
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}
