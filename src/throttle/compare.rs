//! A query and the number that its answer is compared with, in one text: `SELECT … > 100`.

use super::reading::Bound;
use crate::sql::lex::{TokenKind, lex, lex_code};
use crate::sql::{Diagnostic, Span};

const EXAMPLE: &str = "such as 'SELECT count(*) FROM jobs > 100'";

/// Splits at the last comparison (`>`, `>=`, `<`, `<=`) outside of parentheses: what is before it
/// is the query, what is after it the limit. `>` and `>=` hold at the limit and above, `<` and `<=`
/// at the limit and below.
///
/// # Errors
/// What is wrong, and where in the text.
pub fn comparison(text: &str) -> Result<(String, Bound), Diagnostic> {
    let all = Span::new(0, text.len());
    check(text)?;
    let tokens = lex_code(text);
    let mut depth = 0_i32;
    let mut sign = None;
    for token in &tokens {
        match token.kind {
            TokenKind::LParen | TokenKind::LBracket => depth += 1,
            TokenKind::RParen | TokenKind::RBracket => depth -= 1,
            // `> -5` is lexed as it is written; `>-5` is one operator to PostgreSQL too.
            TokenKind::Operator
                if depth == 0 && ["<", "<=", ">", ">="].contains(&token.text(text)) =>
            {
                sign = Some(token.span);
            }
            _ => {}
        }
    }
    let Some(sign) = sign else {
        return Err(
            Diagnostic::new(all, "there is no comparison with a number").help(format!(
                "write the query, then > or < and its limit, {EXAMPLE}"
            )),
        );
    };
    let after = Span::new(sign.end, text.len());
    let number = after.of(text).trim();
    let limit: f64 = number
        .parse()
        .ok()
        .filter(|n: &f64| n.is_finite())
        .ok_or_else(|| {
            let span = if number.is_empty() {
                sign
            } else {
                trimmed(text, after)
            };
            Diagnostic::new(span, "what the answer is compared with must be a number")
                .help(format!("write it last, {EXAMPLE}"))
        })?;
    let query = Span::new(0, sign.start).of(text).trim();
    if query.is_empty() {
        return Err(
            Diagnostic::new(sign, "there is no query before the comparison")
                .help(format!("write the query first, {EXAMPLE}")),
        );
    }
    let bound = if sign.of(text).starts_with('>') {
        Bound::Above(limit)
    } else {
        Bound::Below(limit)
    };
    Ok((query.to_owned(), bound))
}

/// Refuses what cannot be one query: nothing, unclosed quotes, several statements.
///
/// # Errors
/// What is wrong, and where in the text.
pub fn check(text: &str) -> Result<(), Diagnostic> {
    let tokens = lex(text);
    for token in &tokens {
        let message = match token.kind {
            TokenKind::Unterminated => {
                format!("this {} is not closed", token.unterminated_what(text))
            }
            TokenKind::Semicolon => "one query is wanted, without `;`".to_owned(),
            TokenKind::PsqlCommand | TokenKind::Stray => "this is not SQL".to_owned(),
            TokenKind::Param => "there is no parameter to put here".to_owned(),
            _ => continue,
        };
        return Err(Diagnostic::new(token.span, message));
    }
    if tokens.iter().all(|t| t.kind == TokenKind::Comment) {
        return Err(Diagnostic::new(
            Span::new(0, text.len()),
            "there is no query",
        ));
    }
    Ok(())
}

fn trimmed(text: &str, span: Span) -> Span {
    let inner = span.of(text);
    let start = span.start + (inner.len() - inner.trim_start().len());
    Span::new(start, start + inner.trim().len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_comparison_outside_of_parentheses_counts() {
        for (text, query, bound) in [
            ("SELECT 1 > 100", "SELECT 1", Bound::Above(100.0)),
            ("SELECT 1 >= 1e3", "SELECT 1", Bound::Above(1000.0)),
            (
                "SELECT n FROM t WHERE a > 5 < -2.5",
                "SELECT n FROM t WHERE a > 5",
                Bound::Below(-2.5),
            ),
            (
                "SELECT (SELECT 1 > 2)::int <= 0",
                "SELECT (SELECT 1 > 2)::int",
                Bound::Below(0.0),
            ),
            (
                "SELECT '>' || \"<\" FROM t -- > 9\n > 7",
                "SELECT '>' || \"<\" FROM t -- > 9",
                Bound::Above(7.0),
            ),
            (
                "SELECT a->>'b' FROM t > .5",
                "SELECT a->>'b' FROM t",
                Bound::Above(0.5),
            ),
        ] {
            assert_eq!(comparison(text), Ok((query.to_owned(), bound)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, at, says) in [
            (
                "SELECT count(*) FROM t",
                "SELECT count(*) FROM t",
                "no comparison",
            ),
            ("SELECT 1 > x", "x", "must be a number"),
            ("SELECT 1 >", ">", "must be a number"),
            ("SELECT 1 > inf", "inf", "must be a number"),
            ("> 5", ">", "no query before"),
            ("SELECT 'a > 5", "'a > 5", "not closed"),
            ("SELECT 1; DELETE FROM t > 5", ";", "one query"),
            ("SELECT $1 > 5", "$1", "no parameter"),
            ("SELECT (1 > 5)", "SELECT (1 > 5)", "no comparison"),
            (" ", " ", "no query"),
        ] {
            let error = comparison(text).expect_err(text);
            assert_eq!(error.span.of(text), at, "{text}");
            assert!(error.message.contains(says), "{text}: {}", error.message);
        }
    }

    proptest! {
        #[test]
        fn it_never_panics_and_its_places_are_in_the_text(text in "\\PC{0,40}|[a-z'\"()<>=$;0-9 -]{0,40}") {
            if let Err(error) = comparison(&text) {
                prop_assert!(error.span.end <= text.len() && text.get(error.span.start..error.span.end).is_some());
            }
        }

        #[test]
        fn what_is_written_is_read(query in "SELECT [a-z]{1,5}( FROM [a-z]{1,5})?", limit in -1e9_f64..1e9, above in any::<bool>()) {
            let sign = if above { ">" } else { "<" };
            let bound = if above { Bound::Above(limit) } else { Bound::Below(limit) };
            prop_assert_eq!(comparison(&format!("{query} {sign} {limit}")), Ok((query, bound)));
        }
    }
}
