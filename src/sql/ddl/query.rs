//! Statements that read and write data.

use super::other::statement;
use super::{Action, Cursor};
use crate::sql::lex::TokenKind;

pub(super) fn copy(c: &mut Cursor<'_>) -> Option<Action> {
    let _ = c.eat("binary");
    let table = if c.kind() == Some(TokenKind::LParen) {
        None
    } else {
        Some(c.rel()?)
    };
    c.skip_to(|c| c.is_any(&["from", "to"]));
    if c.done() {
        return None;
    }
    Some(Action::Copy {
        table,
        from: c.is("from"),
    })
}

/// INSERT, UPDATE, DELETE or MERGE at the cursor.
pub(super) fn dml(c: &mut Cursor<'_>) -> Option<Action> {
    if c.eat("insert into") {
        return Some(Action::Insert { table: c.rel()? });
    }
    if c.eat("update") {
        let _ = c.eat("only");
        return Some(Action::Update { table: c.rel()? });
    }
    if c.eat("delete from") {
        let _ = c.eat("only");
        return Some(Action::Delete { table: c.rel()? });
    }
    if c.eat("merge into") {
        let _ = c.eat("only");
        return Some(Action::Merge { table: c.rel()? });
    }
    None
}

/// After the word WITH.
pub(super) fn with(c: &mut Cursor<'_>, whole: Cursor<'_>) -> Option<Action> {
    let _ = c.eat("recursive");
    let mut parts = Vec::new();
    loop {
        c.ident()?;
        let _ = c.parens();
        if !c.eat("as") {
            return None;
        }
        let _ = c.eat("not materialized") || c.eat("materialized");
        let mut query = c.group()?;
        if query.is_any(&["insert", "update", "delete", "merge"]) {
            let start = query.offset();
            let action = dml(&mut query)?;
            query.finish();
            parts.push((action, query.span_from(start)));
        }
        // SEARCH and CYCLE clauses may follow.
        c.skip_to(|c| {
            c.kind() == Some(TokenKind::Comma)
                || c.is_any(&[
                    "select", "insert", "update", "delete", "merge", "values", "table",
                ])
                || c.kind() == Some(TokenKind::LParen)
        });
        if !c.eat_kind(TokenKind::Comma) {
            break;
        }
    }
    let start = c.offset();
    let main = dml(c);
    if parts.is_empty() {
        return Some(main.unwrap_or_else(|| select(whole)));
    }
    if let Some(action) = main {
        c.finish();
        parts.push((action, c.span_from(start)));
    }
    Some(Action::Writes { parts })
}

pub(super) fn explain(c: &mut Cursor<'_>) -> Option<Action> {
    let mut runs = false;
    if let Some(group) = c.group() {
        runs = group.split_commas().into_iter().any(|mut option| {
            (option.eat("analyze") || option.eat("analyse")) && !super::maintenance::is_off(option)
        });
    } else {
        runs |= c.eat("analyze") || c.eat("analyse");
        let _ = c.eat("verbose");
    }
    if runs {
        // The server has no EXPLAIN of an EXPLAIN; without this a text could recurse at will.
        return if c.is("explain") { None } else { statement(*c) };
    }
    Some(Action::Select {
        functions: Vec::new(),
    })
}

/// Words that are followed by a parenthesis without being a call, and functions that are known
/// to change nothing.
const HARMLESS: &str = "\
    all and any array array_agg array_length as avg between bool_and bool_or by case cast \
    ceil coalesce concat count cube current_database current_schema current_setting \
    current_user date_trunc decimal distinct else end except exists extract filter floor \
    format from generate_series greatest group grouping having in in intersect is join \
    json_agg jsonb_agg least length like limit lower materialized max md5 min not now \
    nullif numeric offset on only or order over partition percentile_cont pg_relation_size \
    pg_total_relation_size replace returning rollup round row row_number select sets \
    similar some string_agg substring sum table then to_char to_regclass to_regtype trim \
    union upper using values varchar version when where with within";

/// A query from its first word.
pub(super) fn select(mut c: Cursor<'_>) -> Action {
    let mut functions: Vec<String> = Vec::new();
    // SELECT … INTO makes a table; a group cannot have it.
    let mut into = c;
    into.skip_to(|c| c.is("into"));
    if into.eat("into") {
        let temporary = {
            let _ = into.eat("global") || into.eat("local");
            into.eat("temporary") || into.eat("temp")
        };
        let _ = into.eat("unlogged");
        let _ = into.eat("table");
        if let Some(name) = into.rel() {
            return Action::CreateTable {
                name,
                if_not_exists: false,
                partition_of: None,
                partition: None,
                inherits: Vec::new(),
                like: Vec::new(),
                references: Vec::new(),
                as_select: true,
                temporary,
                foreign: false,
            };
        }
    }
    let mut in_alias = false;
    while !c.done() {
        let word = matches!(c.kind(), Some(TokenKind::Word | TokenKind::QuotedIdent));
        let mut next = c;
        let Some(name) = next.ident().filter(|_| word) else {
            in_alias = false;
            c.bump();
            continue;
        };
        if next.kind() == Some(TokenKind::LParen)
            && !in_alias
            && !HARMLESS.split_ascii_whitespace().any(|w| w == name)
            && !functions.contains(&name)
        {
            functions.push(name.clone());
        }
        // `WITH x (a) AS (…)` and `AS x (a)` name columns.
        in_alias = matches!(name.as_str(), "as" | "with" | "recursive");
        c = next;
    }
    Action::Select { functions }
}
