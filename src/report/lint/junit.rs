//! The XML of `JUnit`: a suite a file, a failed case a finding.

use std::fmt::Write as _;

use super::{File, Report, region};
use crate::report::text::redact;

/// The whole document.
pub fn junit(report: &Report) -> String {
    let failures: usize = report.findings().count();
    let passed = report.files.len() - report.files_with_findings();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        xml,
        "<testsuites name=\"pgshift lint\" tests=\"{}\" failures=\"{failures}\" errors=\"{}\">",
        failures + passed + report.unread.len(),
        report.unread.len(),
    );
    for file in &report.files {
        suite(&mut xml, file);
    }
    for unread in &report.unread {
        let path = escape(&unread.path);
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{path}\" tests=\"1\" failures=\"0\" errors=\"1\">\n    \
             <testcase name=\"read\" classname=\"{path}\"><error message=\"{}\"/></testcase>\n  \
             </testsuite>",
            escape(&redact(&unread.message)),
        );
    }
    xml.push_str("</testsuites>\n");
    xml
}

fn suite(xml: &mut String, file: &File) {
    let path = escape(&file.path);
    let count = file.findings.len();
    let _ = writeln!(
        xml,
        "  <testsuite name=\"{path}\" tests=\"{}\" failures=\"{count}\" errors=\"0\">",
        count.max(1)
    );
    if count == 0 {
        let _ = writeln!(xml, "    <testcase name=\"lint\" classname=\"{path}\"/>");
    }
    for finding in &file.findings {
        let (line, column, _, _) = region(file, finding);
        let message = escape(&redact(&finding.message));
        let _ = writeln!(
            xml,
            "    <testcase name=\"{}:{line}\" classname=\"{path}\">\n      <failure type=\"{}\" \
             message=\"{message}\">{path}:{line}:{column}: {message}\nhelp: {}</failure>\n    \
             </testcase>",
            finding.rule.slug,
            finding.severity,
            escape(&redact(&finding.help)),
        );
    }
    xml.push_str("  </testsuite>\n");
}

/// Text in XML 1.0, which has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push_str("&#10;"),
            '\t' => safe.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}
