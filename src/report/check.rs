//! What `pgshift check` found.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::text::{Style, counted, hanging, line, lines, millis, table};
use crate::check::{Finding, FindingKind, Outcome, Report, Tried};

const HEADING: [&str; 11] = [
    "migration",
    "lint",
    "plan",
    "apply",
    "revert",
    "again",
    "contract",
    "revert",
    "final",
    "locks",
    "slowest step",
];

/// The report for people.
pub fn human(report: &Report, style: Style) -> String {
    let rows: Vec<Vec<String>> = report
        .migrations
        .iter()
        .map(|tried| row(report, tried))
        .collect();
    let mut text = table(&HEADING, &rows);
    for tried in &report.migrations {
        for note in &tried.notes {
            text.push_str(&hanging(
                &format!("note: {}: ", tried.migration),
                &line(note),
            ));
        }
    }
    let empty: Vec<_> = report
        .tables
        .iter()
        .filter(|t| t.reason.is_some())
        .collect();
    for t in empty {
        let reason = t.reason.as_deref().unwrap_or_default();
        let has = counted(t.rows, "row");
        text.push_str(&hanging(
            &format!("note: table {} has {has}: ", line(&t.table)),
            &line(reason),
        ));
    }
    for finding in &report.findings {
        text.push('\n');
        text.push_str(&one(finding, style));
    }
    text.push('\n');
    let server = format!(
        "PostgreSQL {}{}",
        report.server_version / 10_000,
        if report.private_server {
            ", a private server"
        } else {
            ""
        }
    );
    let all = report.migrations.len();
    let tried = report
        .migrations
        .iter()
        .filter(|m| m.stages.iter().any(|s| s.outcome != Outcome::Skipped))
        .count();
    let mut count = counted(all as i64, "migration");
    if tried < all {
        count = format!("{tried} of {count}");
    }
    let end = if report.findings.is_empty() {
        style.good(&format!("{count} tried on {server}: nothing found"))
    } else {
        let found = counted(report.findings.len() as i64, "finding");
        style.bad(&format!("{count} tried on {server}: {found}"))
    };
    let _ = writeln!(text, "{end}");
    text
}

fn row(report: &Report, tried: &Tried) -> Vec<String> {
    let stage = |name: &str| {
        tried
            .stages
            .iter()
            .find(|s| s.stage == name)
            .map_or("-".to_owned(), |s| match s.outcome {
                Outcome::Ok => "ok".to_owned(),
                Outcome::Differs => "DIFFERS".to_owned(),
                Outcome::Failed => "FAILED".to_owned(),
                Outcome::Nothing | Outcome::Skipped => "-".to_owned(),
            })
    };
    let lint = match &tried.lint {
        None => "-".to_owned(),
        Some(l) if l.errors > 0 => counted(l.errors as i64, "error"),
        Some(l) if l.warnings > 0 => counted(l.warnings as i64, "warning"),
        Some(_) => "ok".to_owned(),
    };
    // The last round is one column: the first of its stages that is not well.
    let last = ["final_apply", "final_contract", "purge"].map(stage);
    let last = last
        .iter()
        .find(|s| *s == "FAILED")
        .or_else(|| last.iter().rev().find(|s| *s != "-"))
        .cloned()
        .unwrap_or("-".to_owned());
    let differ = report
        .findings
        .iter()
        .filter(|f| f.kind == FindingKind::Prediction && f.migration == tried.migration)
        .count();
    let locks = match differ {
        _ if tried.steps.is_empty() => "-".to_owned(),
        0 => "as predicted".to_owned(),
        n => format!("{n} DIFFER"),
    };
    let slowest = tried
        .steps
        .iter()
        .max_by(|a, b| a.ms.total_cmp(&b.ms))
        .map_or("-".to_owned(), |s| {
            let title: String = line(&s.title).chars().take(50).collect();
            format!("{} {} {}", millis(s.ms.round() as u64), s.stage, title)
        });
    vec![
        tried.migration.clone(),
        lint,
        stage("plan"),
        stage("apply"),
        stage("revert"),
        stage("again"),
        stage("contract"),
        stage("revert_contract"),
        last,
        locks,
        slowest,
    ]
}

fn one(finding: &Finding, style: Style) -> String {
    let mut place = finding.file.clone();
    for part in [finding.line, finding.column].into_iter().flatten() {
        let _ = write!(place, ":{part}");
    }
    let code = finding
        .sqlstate
        .as_ref()
        .map_or(String::new(), |c| format!(" (SQLSTATE {})", line(c)));
    let mut text = format!(
        "{}: {}: {}: {}{code}\n",
        line(&place),
        style.bad("error"),
        finding.stage,
        lines(&finding.message),
    );
    for d in &finding.differences {
        let _ = writeln!(text, "  {}", style.bold(&line(&d.object)));
        for (sign, side) in [("-", &d.before), ("+", &d.after)] {
            for part in side.iter().flat_map(|s| s.lines()) {
                let _ = writeln!(text, "    {sign} {}", lines(part));
            }
        }
    }
    if let Some(help) = &finding.help {
        text.push_str(&hanging("  help: ", &line(help)));
    }
    text
}

/// The report for programs; the shape is in `docs/json.md`.
pub fn json(report: &Report) -> Value {
    let mut value = json!(report);
    value["passed"] = json!(report.findings.is_empty());
    value
}
