//! REINDEX, VACUUM, CLUSTER and LOCK.

use super::{Action, Cursor, ReindexTarget, RelName};
use crate::lock::LockMode;
use crate::sql::lex::TokenKind;

pub(super) fn reindex(c: &mut Cursor<'_>) -> Option<Action> {
    let mut concurrently = false;
    if let Some(group) = c.group() {
        concurrently = group
            .split_commas()
            .into_iter()
            .any(|mut option| option.eat("concurrently") && !is_off(option));
    }
    let _ = c.eat("verbose");
    let target = if c.eat("index") {
        ReindexTarget::Index
    } else if c.eat("table") {
        ReindexTarget::Table
    } else if c.eat("schema") {
        ReindexTarget::Schema
    } else if c.eat("database") {
        ReindexTarget::Database
    } else if c.eat("system") {
        ReindexTarget::System
    } else {
        return None;
    };
    let after_target = c.end_behind();
    concurrently |= c.eat("concurrently");
    Some(Action::Reindex {
        target,
        name: c.rel(),
        concurrently,
        after_target,
    })
}

/// The value of an option in parentheses says no.
pub(super) fn is_off(c: Cursor<'_>) -> bool {
    ["off", "false", "0", "no", "'off'", "'false'"]
        .iter()
        .any(|word| c.here().eq_ignore_ascii_case(word))
}

pub(super) fn vacuum(c: &mut Cursor<'_>) -> Option<Action> {
    let mut full = false;
    if let Some(group) = c.group() {
        full = group
            .split_commas()
            .into_iter()
            .any(|mut option| option.eat("full") && !is_off(option));
    }
    loop {
        if c.eat("full") {
            full = true;
        } else if !c.eat("freeze") && !c.eat("verbose") && !c.eat("analyze") && !c.eat("analyse") {
            break;
        }
    }
    Some(Action::Vacuum {
        tables: relations_with_columns(c)?,
        full,
    })
}

/// `t, u (a, b), …` or nothing.
pub(super) fn relations_with_columns(c: &mut Cursor<'_>) -> Option<Vec<RelName>> {
    let mut tables = Vec::new();
    while !c.done() {
        let _ = c.eat("only");
        tables.push(c.rel()?);
        let _ = c.parens();
        let _ = c.eat_operator("*");
        if !c.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    c.done().then_some(tables)
}

pub(super) fn table_list(c: &mut Cursor<'_>) -> Option<Vec<RelName>> {
    let mut tables = Vec::new();
    loop {
        let _ = c.eat("only");
        tables.push(c.rel()?);
        let _ = c.eat_operator("*");
        if !c.eat_kind(TokenKind::Comma) {
            return Some(tables);
        }
    }
}

pub(super) fn cluster(c: &mut Cursor<'_>) -> Option<Action> {
    let _ = c.parens().is_some() || c.eat("verbose");
    if c.done() {
        return Some(Action::Cluster { table: None });
    }
    let first = c.rel()?;
    // `CLUSTER index ON table` is the old form.
    let table = if c.eat("on") { c.rel()? } else { first };
    Some(Action::Cluster { table: Some(table) })
}

pub(super) fn lock_table(c: &mut Cursor<'_>) -> Option<Action> {
    let _ = c.eat("table");
    let tables = table_list(c)?;
    let mut mode = LockMode::AccessExclusive;
    if c.eat("in") {
        mode = LockMode::ALL
            .into_iter()
            .find(|m| c.eat(&format!("{} mode", m.as_str())))?;
    }
    Some(Action::LockTable { tables, mode })
}
