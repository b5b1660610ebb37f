//! Which statements may be in which section, told by their leading words.

use super::SectionKind;
use crate::sql::lex::{Token, TokenKind, is_keyword, lex_code};
use crate::sql::{Diagnostic, Span};

/// Checks that `sql` may be in a section of this kind. Spans are relative to `sql`.
pub(super) fn check(kind: SectionKind, sql: &str) -> Result<(), Diagnostic> {
    let tokens = lex_code(sql);
    let Some(&first) = tokens.first() else {
        return Ok(());
    };
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| is_keyword(*t, sql, word));
    let lead = |words: &[&str]| words.iter().any(|w| is(0, w));

    // One in parentheses does not end the statement for psql, nor here; the server takes it in
    // rules and in bodies of SQL alone.
    let creates = is(0, "CREATE")
        && ["RULE", "FUNCTION", "PROCEDURE"]
            .iter()
            .any(|w| is(1, w) || (is(1, "OR") && is(2, "REPLACE") && is(3, w)));
    if let Some(inside) = tokens.iter().find(|t| t.kind == TokenKind::Semicolon)
        && !creates
    {
        return Err(
            Diagnostic::new(inside.span, "`;` inside a statement").help("write one statement")
        );
    }

    let transaction = lead(&[
        "BEGIN",
        "START",
        "COMMIT",
        "END",
        "ROLLBACK",
        "ABORT",
        "SAVEPOINT",
        "RELEASE",
    ]) || (is(0, "PREPARE") && is(1, "TRANSACTION"));
    if transaction {
        let word = first.text(sql).to_ascii_uppercase();
        return Err(
            Diagnostic::new(first.span, format!("{word} cannot be in a migration"))
                .help("remove it: pgshift decides on transactions, and the plan shows them"),
        );
    }
    if lead(&["SET", "RESET", "DISCARD"]) {
        return Err(session(sql, &tokens));
    }
    let name = kind.name();
    match kind {
        SectionKind::Backfill if !lead(&["UPDATE", "DELETE"]) => Err(misplaced(
            first,
            format!("section {name} takes UPDATE and DELETE only"),
            if is(0, "WITH") {
                "put the query of WITH into the statement: `UPDATE … FROM (SELECT …) AS x WHERE …`"
            } else {
                "move the statement to `expand` or `contract`"
            },
        )),
        SectionKind::Reverse if !is(0, "UPDATE") => Err(misplaced(
            first,
            format!("section {name} takes UPDATE only"),
            "write how the old columns follow from the new: `UPDATE t SET old = f(new)`",
        )),
        SectionKind::Verify => verify(sql, &tokens),
        _ => Ok(()),
    }
}

fn misplaced(token: Token, message: String, help: &str) -> Diagnostic {
    Diagnostic::new(token.span, message).help(help)
}

/// SET, RESET and DISCARD: with a pool, another statement may run in another session.
fn session(sql: &str, tokens: &[Token]) -> Diagnostic {
    let scope = ["SESSION", "LOCAL"];
    let names = tokens.iter().skip(1);
    let setting = names
        .clone()
        .find(|t| !scope.iter().any(|s| is_keyword(**t, sql, s)));
    let setting = setting.map_or("", |t| t.text(sql)).to_ascii_lowercase();
    let help = match setting.as_str() {
        "lock_timeout" => "write `-- pgshift: option lock_timeout=2s` at the top of the file",
        "search_path" => "write names with their schema: `app.orders`",
        "role" | "authorization" => "connect as the role that is to run the migration",
        "constraints" | "transaction" | "characteristics" => {
            "remove it: pgshift decides on transactions, and the plan shows them"
        }
        _ => "remove it: pgshift makes the settings of its sessions, and the plan shows them",
    };
    let end = names.last().map_or(tokens[0].span, |t| t.span);
    let word = tokens[0].text(sql).to_ascii_uppercase();
    Diagnostic::new(
        tokens[0].span.to(Span::new(tokens[0].span.start, end.end)),
        format!("{word} of the session cannot be in a migration"),
    )
    .help(help)
}

/// SELECT, or WITH … SELECT that changes nothing.
fn verify(sql: &str, tokens: &[Token]) -> Result<(), Diagnostic> {
    const WRITES: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "MERGE"];
    const HELP: &str = "write a query that finds the wrong rows: `SELECT … WHERE …`";
    let is = |t: Token, words: &[&str]| words.iter().any(|w| is_keyword(t, sql, w));
    let first = tokens[0];
    if is(first, &["SELECT"]) {
        return Ok(());
    }
    if !is(first, &["WITH"]) {
        let message = "section verify takes SELECT only".to_owned();
        return Err(misplaced(first, message, HELP));
    }
    let mut depth = 0_usize;
    let mut previous = first;
    for &token in &tokens[1..] {
        let opens = previous.kind == TokenKind::LParen;
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            TokenKind::Word if depth == 0 && is(token, &["SELECT"]) => return Ok(()),
            TokenKind::Word if is(token, &WRITES) && (opens || depth == 0) => {
                let message = "a query of section verify cannot write".to_owned();
                return Err(misplaced(token, message, HELP));
            }
            _ => {}
        }
        previous = token;
    }
    let message = "section verify takes SELECT only".to_owned();
    Err(misplaced(first, message, HELP))
}
