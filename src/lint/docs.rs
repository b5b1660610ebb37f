//! `docs/rules.md`, made from the table of rules.

use std::fmt::Write as _;

use super::Rule;
use super::rules::FAMILIES;

/// The page of all rules.
pub fn page() -> String {
    let mut page = String::from(
        "# Rules of `pgshift lint`\n\
         <!-- Made from the table of rules in src/lint/rules; a test holds it equal. -->\n\
         `pgshift explain RULE` shows one. A line `-- a later file:` in an example divides two \
         files: what the first makes is in use in the second.\n",
    );
    for family in FAMILIES {
        let _ = writeln!(page, "\n## {}", family.title);
        for rule in family.rules {
            let _ = write!(page, "\n### {}\n{}", rule.slug, entry(rule));
        }
    }
    page
}

fn entry(rule: &Rule) -> String {
    let mut text = format!("{}, {}", rule.id, rule.severity);
    if rule.since > 14 {
        let _ = write!(text, ", from PostgreSQL {} on", rule.since);
    }
    let _ = write!(
        text,
        ". {}\n\n{}\n\nSafe: {}.\n",
        rule.summary, rule.why, rule.safe
    );
    for (title, sql) in [("Found", rule.bad), ("Not found", rule.good)] {
        if !sql.is_empty() {
            let _ = write!(text, "\n{title}:\n\n```sql\n{sql}\n```\n");
        }
    }
    text
}
