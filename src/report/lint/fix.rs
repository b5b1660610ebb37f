//! What `--fix` changed, or `--diff` would.

use std::fmt::Write as _;

use serde_json::{Value, json};
use similar::TextDiff;

use super::{FixedFile, Report};
use crate::report::text::{Style, counted, hanging, line, lines, redact};
use crate::sql::Span;

/// Every change as a unified diff, which `git apply` and `patch -p1` take.
pub fn diff(report: &Report) -> String {
    report.fixes.iter().flatten().map(one).collect()
}

fn one(file: &FixedFile) -> String {
    if file.changes.is_empty() {
        return String::new();
    }
    // Of standard input and of absolute paths nothing can be put before.
    let side = |side: &str| {
        if file.path.starts_with(['/', '<']) {
            file.path.clone()
        } else {
            format!("{side}/{}", file.path)
        }
    };
    TextDiff::from_lines(file.source.text(), &file.text)
        .unified_diff()
        .context_radius(3)
        .header(&side("a"), &side("b"))
        .to_string()
}

/// For people: what was changed in each file, and what needs a person.
pub fn fixes(report: &Report, style: Style) -> String {
    let mut text = String::new();
    for file in report.fixes.iter().flatten() {
        let place = |span: Span| {
            let (at, _) = file.source.line_column(span.start);
            format!("{}:{at}", line(&file.path))
        };
        if !file.changes.is_empty() && file.error.is_none() {
            let changes = counted(file.changes.len() as i64, "change");
            let heading = if file.written {
                format!("fixed {}: {changes}", line(&file.path))
            } else {
                format!("{}: {changes}", line(&file.path))
            };
            let _ = writeln!(text, "{}", style.bold(&heading));
            for change in &file.changes {
                let lead = format!("  {}: ", place(change.span));
                text.push_str(&hanging(&lead, &line(&redact(&change.why))));
            }
        }
        for advice in &file.advice {
            let lead = style.warn(&format!("{} needs a person: ", place(advice.span)));
            let said = format!("{}; {}", advice.why, advice.help);
            text.push_str(&hanging(&lead, &line(&redact(&said))));
            for (at, sql) in advice.files.iter().enumerate() {
                if advice.files.len() > 1 {
                    let _ = writeln!(text, "    -- {} of {}", at + 1, advice.files.len());
                }
                for sql in lines(sql).lines() {
                    let _ = writeln!(text, "    {sql}");
                }
            }
        }
    }
    text
}

/// For programs.
pub(super) fn json(file: &FixedFile) -> Value {
    let at = |span: Span| file.source.line_column(span.start).0;
    let changes: Vec<Value> = file
        .changes
        .iter()
        .map(|c| {
            json!({
                "line": at(c.span),
                "end_line": file.source.line_column(c.span.end).0,
                "text": c.text,
                "why": redact(&c.why),
            })
        })
        .collect();
    let advice: Vec<Value> = file
        .advice
        .iter()
        .map(|a| {
            json!({
                "line": at(a.span),
                "why": redact(&a.why),
                "help": redact(&a.help),
                "files": a.files,
            })
        })
        .collect();
    json!({
        "file": file.path,
        "runner": file.runner.name(),
        "written": file.written,
        "error": file.error.as_deref().map(redact),
        "changes": changes,
        "advice": advice,
        "diff": one(file),
    })
}
