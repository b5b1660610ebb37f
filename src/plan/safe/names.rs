//! Names that the server gives.

use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword};

/// The columns of an index as the server names them for the index's own name, those of INCLUDE too
/// (`ChooseIndexColumnNames`, `FigureColname`): a column by its name, a call by its function,
/// another expression as `expr`; each made unique by a number.
pub(super) fn index_columns(tokens: &[Token], text: &str) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    let mut from = 0;
    for _ in 0..2 {
        let Some((elements, end)) = elements(tokens, from) else {
            break;
        };
        for element in elements {
            let base = element_name(element, text).unwrap_or_else(|| "expr".to_owned());
            let mut name = base.clone();
            let mut number = 0_usize;
            while columns.contains(&name) {
                number += 1;
                name = format!("{base}{number}");
            }
            columns.push(name);
        }
        let include = tokens.get(end);
        if include.is_none_or(|t| !is_keyword(*t, text, "INCLUDE")) {
            break;
        }
        from = end;
    }
    columns
}

/// The elements of the first group in parentheses, and where it ends.
fn elements(tokens: &[Token], from: usize) -> Option<(Vec<&[Token]>, usize)> {
    let open = from
        + tokens[from..]
            .iter()
            .position(|t| t.kind == TokenKind::LParen)?;
    let (mut all, mut depth, mut start) = (Vec::new(), 0_usize, open + 1);
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => {
                depth -= 1;
                if depth == 0 {
                    all.push(&tokens[start..at]);
                    return Some((all, at + 1));
                }
            }
            TokenKind::Comma if depth == 1 => {
                all.push(&tokens[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    None
}

fn element_name(element: &[Token], text: &str) -> Option<String> {
    let first = element.first()?;
    if first.kind == TokenKind::LParen {
        let (inner, _) = elements(element, 0)?;
        return expression_name(inner.first()?, text);
    }
    name_at(element, text)
}

/// `a`, `f(a)`, or one of them in parentheses: anything more is an expression without a name.
fn expression_name(tokens: &[Token], text: &str) -> Option<String> {
    let first = tokens.first()?;
    if tokens.len() == 1 {
        return ident_value(*first, text);
    }
    let open = tokens.iter().position(|t| t.kind == TokenKind::LParen)?;
    let (inner, end) = elements(tokens, open)?;
    if end < tokens.len() {
        None
    } else if open == 0 {
        expression_name(inner.first()?, text)
    } else {
        name_at(tokens, text)
    }
}

/// The last part of `a`, `s.f` or `d.s.f`.
fn name_at(tokens: &[Token], text: &str) -> Option<String> {
    let mut at = 0;
    let mut name = ident_value(*tokens.first()?, text)?;
    while tokens.get(at + 1).is_some_and(|t| t.kind == TokenKind::Dot) {
        at += 2;
        name = ident_value(*tokens.get(at)?, text)?;
    }
    Some(name)
}
