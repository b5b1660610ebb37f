//! Constants in conditions: values worth trying.

use std::collections::BTreeSet;

use crate::sql::lex::{TokenKind, ident_value, lex_code};

/// Constants of the conditions that name `column`: strings without quotes, and numbers.
pub(super) fn constants<'a>(
    column: &str,
    conditions: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for condition in conditions {
        let tokens = lex_code(condition);
        let names = tokens
            .iter()
            .any(|t| ident_value(*t, condition).as_deref() == Some(column));
        if !names {
            continue;
        }
        let mut negative = false;
        for token in &tokens {
            let text = token.text(condition);
            match token.kind {
                TokenKind::String => {
                    // As the server writes them: plain, with doubled quotes.
                    if let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''))
                    {
                        found.insert(inner.replace("''", "'"));
                    }
                }
                TokenKind::Number if negative => {
                    found.insert(format!("-{text}"));
                }
                TokenKind::Number => {
                    found.insert(text.to_owned());
                }
                _ => {}
            }
            negative = token.kind == TokenKind::Operator && text == "-";
        }
    }
    found
}

/// The condition of a domain with the column in place of `VALUE`.
pub(super) fn on_column(condition: &str, column: &str) -> String {
    let mut text = String::new();
    let mut at = 0;
    for token in lex_code(condition) {
        if token.kind == TokenKind::Word && token.text(condition).eq_ignore_ascii_case("value") {
            text.push_str(&condition[at..token.span.start]);
            text.push_str(column);
            at = token.span.end;
        }
    }
    text.push_str(&condition[at..]);
    text
}
