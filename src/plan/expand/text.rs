//! What the text of a step names and makes.

use crate::plan::step::{Step, Work};
use crate::sql::ddl::{Action, AlterOpKind, understand};
use crate::sql::lex::{ident_value, is_keyword, lex_code};

/// Every name in a text.
pub(super) fn names(text: &str) -> impl Iterator<Item = String> {
    lex_code(text)
        .into_iter()
        .filter_map(|t| ident_value(t, text))
        .collect::<Vec<_>>()
        .into_iter()
}

pub(super) fn sql_of(step: &Step) -> Vec<&str> {
    match &step.work {
        Work::Sql { statements } => statements.iter().map(String::as_str).collect(),
        Work::Concurrent { sql, .. } => vec![sql],
        _ => Vec::new(),
    }
}

pub(super) fn makes_index(step: &Step) -> bool {
    sql_of(step)
        .iter()
        .any(|sql| matches!(understand(sql), Action::CreateIndex { .. }))
}

/// Indexes and constraints that a step makes or needs.
pub(super) fn made_by(step: &Step) -> Vec<String> {
    let mut all = Vec::new();
    for sql in sql_of(step) {
        match understand(sql) {
            Action::CreateIndex { name, .. } => all.extend(name.map(|n| n.name)),
            Action::AlterTable { ops, .. } => {
                for op in ops {
                    match op.kind {
                        AlterOpKind::AddConstraint(def) => all.extend(def.name),
                        AlterOpKind::ValidateConstraint { name } => all.push(name),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    all
}

/// The text of ADD COLUMN without `DEFAULT expr`.
pub(super) fn without_default(text: &str, default: &str) -> Option<String> {
    let mut found = None;
    for token in lex_code(text) {
        if is_keyword(token, text, "DEFAULT") {
            let rest = &text[token.span.end..];
            let gap = rest.len() - rest.trim_start().len();
            if rest[gap..].starts_with(default) {
                found = Some((token.span.start, token.span.end + gap + default.len()));
                break;
            }
        }
    }
    let (start, end) = found?;
    Some(format!("{}{}", text[..start].trim_end(), &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_cut_out_exactly() {
        assert_eq!(
            without_default("ADD COLUMN a int DEFAULT 1 + 1 CHECK (a > 0)", "1 + 1").as_deref(),
            Some("ADD COLUMN a int CHECK (a > 0)")
        );
        assert_eq!(
            without_default("ADD COLUMN \"default\" text DEFAULT 'default'", "'default'")
                .as_deref(),
            Some("ADD COLUMN \"default\" text")
        );
        assert_eq!(without_default("ADD COLUMN a int", "1"), None);
    }
}
