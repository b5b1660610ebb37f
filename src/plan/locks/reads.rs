//! The relations that queries in a statement read.

use super::super::forms::existing;
use crate::catalog::{Catalog, QName};
use crate::lock::{LockMode, LockOn};
use crate::sql::RelName;
use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword, lex_code};

/// Names that stand where a query names what it reads: after FROM, JOIN, USING, TABLE, ONLY, or a
/// comma. More than that: also names of columns and of common table expressions, for the catalog
/// to tell.
pub fn reads(text: &str) -> Vec<RelName> {
    let tokens = lex_code(text);
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let starts = ["from", "join", "using", "table", "only", "into"]
            .iter()
            .any(|word| is_keyword(tokens[i], text, word))
            || tokens[i].kind == TokenKind::Comma;
        i += 1;
        if starts && let Some((name, next)) = name_at(&tokens, text, i) {
            // A call.
            if tokens.get(next).is_none_or(|t| t.kind != TokenKind::LParen) {
                found.push(name);
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// `a`, `s.a` or `d.s.a` at a token, and where it ends.
fn name_at(tokens: &[Token], text: &str, mut at: usize) -> Option<(RelName, usize)> {
    let mut name = ident_value(*tokens.get(at)?, text)?;
    let mut schema = None;
    at += 1;
    while tokens.get(at).is_some_and(|t| t.kind == TokenKind::Dot) {
        let part = ident_value(*tokens.get(at + 1)?, text)?;
        schema = Some(std::mem::replace(&mut name, part));
        at += 2;
    }
    Some((RelName { schema, name }, at))
}

/// The locks of what the queries in a statement read: ACCESS SHARE, or ROW SHARE with FOR UPDATE and
/// its kin, on tables, what is below them, and what views read. They stop nothing but ACCESS
/// EXCLUSIVE (and EXCLUSIVE), but wait for it. Not those that the rows decide: foreign keys,
/// triggers, functions.
pub fn read_locks(text: &str, catalog: &Catalog) -> Vec<LockOn> {
    let tokens = lex_code(text);
    let of_rows = rows_locked(&tokens, text);
    let mut found = std::collections::BTreeMap::new();
    for name in reads(text) {
        let name = existing(catalog, &name);
        let Some(schema) = name.schema.clone() else {
            continue;
        };
        let name = QName::new(schema, name.name);
        if !catalog.tables.contains_key(&name) && !catalog.relations.contains_key(&name) {
            continue;
        }
        let mode = match &of_rows {
            Some(of) if of.is_empty() || of.contains(&name.name) => LockMode::RowShare,
            _ => LockMode::AccessShare,
        };
        let mut all = catalog.read_by(&name);
        all.insert(&name);
        for name in all {
            for name in catalog.below(name).into_iter().chain([name]) {
                let held = found.entry(RelName::from(name)).or_insert(mode);
                *held = mode.max(*held);
            }
        }
    }
    found
        .into_iter()
        .map(|(relation, mode)| LockOn {
            relation: Some(relation),
            mode,
        })
        .collect()
}

/// FOR UPDATE, FOR SHARE and their kin: the tables after OF, none meaning all.
fn rows_locked(tokens: &[Token], text: &str) -> Option<Vec<String>> {
    let is = |i: usize, word: &str| tokens.get(i).is_some_and(|t| is_keyword(*t, text, word));
    let mut at = (0..tokens.len()).find(|&i| {
        is(i, "for") && (is(i + 1, "update") || is(i + 1, "share") || is(i + 1, "no") || is(i + 1, "key"))
    })?;
    let mut of = Vec::new();
    while at < tokens.len() && !is(at, "of") {
        at += 1;
    }
    while let Some((name, next)) = name_at(tokens, text, at + 1) {
        of.push(name.name);
        if tokens.get(next).is_none_or(|t| t.kind != TokenKind::Comma) {
            break;
        }
        at = next;
    }
    Some(of)
}
