//! For people.

use std::fmt::Write as _;

use annotate_snippets::Level;

use super::Report;
use crate::lint::rules::FAMILIES;
use crate::lint::{Finding, Rule, Severity};
use crate::report::error::{safe, titled};
use crate::report::text::{Style, WIDTH, lines, wrap};
use crate::sql::{Diagnostic, Label, Span};

/// Bytes of a statement that are put under the caret.
const MARKED: usize = 2_000;

/// Every finding with its lines of the file, and a summary. Notes are counted, and shown where
/// the style is verbose or `notes` says so.
pub fn human(report: &Report, style: Style, notes: bool) -> String {
    let mut text = String::new();
    let notes = notes || style.verbose;
    for file in &report.files {
        let mut shown: Option<(Span, &[String])> = None;
        for finding in &file.findings {
            if finding.severity == Severity::Note && !notes {
                continue;
            }
            let source_is_there = !file.source.text().is_empty();
            if source_is_there {
                text.push_str(&titled(
                    &file.source,
                    &place(file.source.text(), finding),
                    level(finding.severity)
                        .primary_title(safe(&finding.message))
                        .id(finding.rule.slug),
                    style.color,
                ));
            } else {
                let _ = writeln!(
                    text,
                    "{}[{}]: {}: {}\n  help: {}",
                    finding.severity,
                    finding.rule.slug,
                    safe(&file.path),
                    safe(&finding.message),
                    safe(&finding.help)
                );
            }
            // Several findings of one statement have the same safe form.
            let this = (finding.statement, finding.safe.as_slice());
            if !finding.safe.is_empty() && shown != Some(this) {
                text.push_str(&safe_form(&finding.safe, style));
                shown = Some(this);
            }
            text.push('\n');
        }
    }
    text.push_str(&summary(report, style, notes));
    text
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    }
}

/// A finding as a place: a long statement is marked at its beginning.
fn place(text: &str, finding: &Finding) -> Diagnostic {
    let short = |span: Span| {
        let part = text.get(span.start..span.end).unwrap_or_default();
        let end = match part.find('\n') {
            Some(i) if part.len() > MARKED || part.matches('\n').count() > 6 => span.start + i,
            _ => span.end,
        };
        Span::new(span.start, end)
    };
    Diagnostic {
        message: finding.message.clone(),
        span: short(finding.span),
        label: finding.label.clone(),
        also: finding
            .also
            .iter()
            .map(|label| Label {
                span: short(label.span),
                text: label.text.clone(),
            })
            .collect(),
        help: Some(finding.help.clone()),
    }
}

fn safe_form(statements: &[String], style: Style) -> String {
    let title = if statements.len() == 1 {
        "  safe form:"
    } else {
        "  safe form, each in a transaction of its own:"
    };
    let mut text = format!("{}\n", style.bold(title));
    for statement in statements {
        for line in lines(statement).lines() {
            let _ = writeln!(text, "      {line}");
        }
        text.truncate(text.trim_end().len());
        text.push_str(";\n");
    }
    text
}

fn summary(report: &Report, style: Style, notes: bool) -> String {
    let number = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let files = number(report.files.len(), "file");
    let mut text = if report.findings().next().is_none() {
        format!("{}: {files}", style.good("no findings"))
    } else {
        let counts: Vec<String> = Severity::ALL
            .into_iter()
            .rev()
            .map(|s| (report.count(s), s))
            .filter(|(n, _)| *n > 0)
            .map(|(n, s)| {
                let shown = number(n, s.name());
                match s {
                    Severity::Error => style.bad(&shown),
                    Severity::Warning => style.warn(&shown),
                    Severity::Note if notes => shown,
                    Severity::Note => format!("{shown} (-v shows them)"),
                }
            })
            .collect();
        format!(
            "{} in {} of {files}",
            counts.join(", "),
            report.files_with_findings()
        )
    };
    for (n, what) in [
        (report.allowed, "allowed"),
        (report.known, "in the baseline"),
        (report.down, "down files left out"),
    ] {
        if n > 0 {
            let _ = write!(text, "; {n} {what}");
        }
    }
    text.push('\n');
    text
}

/// One rule: why, and examples.
pub fn explain(rule: &Rule, style: Style) -> String {
    let mut text = format!("{} ({}, {}", style.bold(rule.slug), rule.id, rule.severity);
    if rule.since > 14 {
        let _ = write!(text, ", from PostgreSQL {} on", rule.since);
    }
    text.push_str(")\n");
    for paragraph in [rule.summary, rule.why] {
        text.push('\n');
        for line in wrap(paragraph, WIDTH) {
            let _ = writeln!(text, "{line}");
        }
    }
    let _ = writeln!(text, "\n{}", style.bold("Safe"));
    for line in wrap(rule.safe, WIDTH - 2) {
        let _ = writeln!(text, "  {line}");
    }
    for (title, sql) in [("Found", rule.bad), ("Not found", rule.good)] {
        if sql.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{}", style.bold(title));
        for line in sql.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// All rules, one line each.
pub fn list(style: Style) -> String {
    let mut text = String::new();
    for family in FAMILIES {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{}", style.bold(family.title));
        for rule in family.rules {
            let _ = writeln!(
                text,
                "  {:<30} {:<8} {}",
                rule.slug,
                rule.severity.name(),
                rule.summary
            );
        }
    }
    text
}
