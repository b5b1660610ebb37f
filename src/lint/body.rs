//! The statements within a DO block or a function's body, as far as tokens tell.

use super::read::unquoted;
use crate::sql::Span;
use crate::sql::ddl::{Action, understand};
use crate::sql::lex::{Token, TokenKind, is_keyword, lex_code};

/// What stands for a name that is made at run time.
pub(super) const DYNAMIC: &str = "a_name_made_at_run_time";

/// What is in a body.
#[derive(Debug, Clone, Default)]
pub(super) struct Body {
    pub(super) statements: Vec<Inner>,
    /// It executes texts that are not known.
    pub(super) dynamic: bool,
    /// The place in the file of the first of them, where that is known.
    pub(super) dynamic_at: Option<Span>,
    /// It commits in a loop.
    pub(super) commits: bool,
}

impl Body {
    fn made_at_run_time(&mut self, at: Option<Span>) {
        if !self.dynamic {
            self.dynamic = true;
            self.dynamic_at = at;
        }
    }
}

/// A statement in a body.
#[derive(Debug, Clone)]
pub(super) struct Inner {
    pub(super) sql: String,
    /// Where it is in the file, where that is known.
    pub(super) place: Option<Span>,
    /// Where `sql` begins in the file, where it is there byte for byte.
    pub(super) offset: Option<usize>,
    pub(super) action: Action,
}

/// The body of `DO`, whose text begins at byte `offset` of the file.
pub(super) fn of_do(sql: &str, offset: Option<usize>) -> Option<Body> {
    lex_code(sql)
        .into_iter()
        .find(|t| is_quoted(*t))
        .map(|t| body(t, sql, offset))
}

/// The body of `CREATE FUNCTION` or `PROCEDURE` in SQL or PL/pgSQL; `None` where it has none that
/// can be read.
pub(super) fn of_function(sql: &str, offset: Option<usize>) -> Option<Body> {
    let tokens = lex_code(sql);
    let language = tokens
        .windows(2)
        .find(|w| is_keyword(w[0], sql, "language"))
        .map(|w| unquoted(w[1], sql).to_ascii_lowercase())?;
    if !matches!(language.as_str(), "sql" | "plpgsql") {
        return None;
    }
    let at = tokens
        .windows(2)
        .position(|w| is_keyword(w[0], sql, "as") && is_quoted(w[1]))?;
    Some(body(tokens[at + 1], sql, offset))
}

fn is_quoted(token: Token) -> bool {
    matches!(token.kind, TokenKind::DollarString | TokenKind::String)
}

/// What is between the quotes, where it is in the token's text.
fn inside(token: Token, sql: &str) -> (String, Option<usize>) {
    let written = token.text(sql);
    if token.kind == TokenKind::DollarString {
        let tag = written[1..].find('$').map_or(1, |i| i + 2);
        let end = written.len().saturating_sub(tag).max(tag);
        let text = written.get(tag..end).unwrap_or_default();
        return (text.to_owned(), Some(tag));
    }
    let plain = written.starts_with('\'') && !written[1..written.len() - 1].contains('\'');
    (unquoted(token, sql), plain.then_some(1))
}

fn body(token: Token, sql: &str, offset: Option<usize>) -> Body {
    let (text, within) = inside(token, sql);
    let base = match (offset, within) {
        (Some(offset), Some(within)) => Some(offset + token.span.start + within),
        _ => None,
    };
    let mut found = Body::default();
    let tokens = lex_code(&text);
    let (mut loops, mut commits) = (false, false);
    for segment in tokens.split(|t| t.kind == TokenKind::Semicolon) {
        loops |= segment.iter().any(|t| is_keyword(*t, &text, "loop"));
        let segment = statement(segment, &text);
        let (Some(first), Some(last)) = (segment.first(), segment.last()) else {
            continue;
        };
        commits |= is_keyword(*first, &text, "commit");
        if is_keyword(*first, &text, "execute") {
            executed(&segment[1..], &text, base, &mut found);
            continue;
        }
        let span = first.span.to(last.span);
        // PERFORM is SELECT whose result is thrown away; both are of the same use here, and the
        // blank keeps the places.
        let written = span.of(&text);
        let statement = if is_keyword(*first, &text, "perform") {
            format!("SELECT {}", &written[7..])
        } else {
            written.to_owned()
        };
        let action = understand(&statement);
        let assigns = matches!(
            action,
            Action::CreateTable {
                as_select: true,
                ..
            }
        ) && !is_keyword(*first, &text, "create");
        if assigns || matches!(action, Action::Opaque { .. } | Action::Transaction) {
            continue;
        }
        found.statements.push(Inner {
            sql: statement,
            place: base.map(|base| span.shift(base)),
            offset: base.map(|base| base + span.start),
            action,
        });
    }
    found.commits = loops && commits;
    found
}

/// A segment of PL/pgSQL without the control words before its statement.
fn statement<'a>(mut tokens: &'a [Token], text: &str) -> &'a [Token] {
    loop {
        let Some(first) = tokens.first() else {
            return tokens;
        };
        let is = |word: &str| is_keyword(*first, text, word);
        let after = |word: &str| {
            let mut depth = 0_usize;
            tokens
                .iter()
                .position(|t| {
                    match t.kind {
                        TokenKind::LParen => depth += 1,
                        TokenKind::RParen => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    depth == 0 && is_keyword(*t, text, word)
                })
                .map(|i| i + 1)
        };
        let skip = if is("begin") || is("else") || is("loop") || is("exception") {
            Some(1)
        } else if is("if") || is("elsif") || is("elseif") || is("when") {
            after("then")
        } else if is("for") || is("foreach") || is("while") {
            after("loop")
        } else if is("declare") {
            // The first declaration ends at the semicolon; the block begins after the last.
            after("begin")
        } else if is("case") {
            after("then")
        } else if first.text(text) == "<<" {
            tokens
                .iter()
                .position(|t| t.text(text) == ">>")
                .map(|i| i + 1)
        } else {
            return tokens;
        };
        match skip {
            Some(skip) => tokens = &tokens[skip..],
            None => return &[],
        }
    }
}

/// `EXECUTE 'text'` and `EXECUTE format('text', …)`.
fn executed(tokens: &[Token], text: &str, base: Option<usize>, found: &mut Body) {
    let place = |span: Span| base.map(|base| span.shift(base));
    let whole = match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => place(first.span.to(last.span)),
        _ => None,
    };
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| is_keyword(*t, text, word));
    let ends = |at: usize| tokens.get(at).is_none() || is(at, "into") || is(at, "using");
    match tokens.first() {
        Some(token) if is_quoted(*token) && ends(1) => {
            let (inner, within) = inside(*token, text);
            let at = within.map(|w| token.span.start + w);
            push(
                &inner,
                at.and_then(|at| base.map(|b| b + at)),
                place(token.span),
                found,
            );
        }
        Some(_) if is(0, "format") && tokens.get(2).is_some_and(|t| is_quoted(*t)) => {
            let token = tokens[2];
            let (inner, _) = inside(token, text);
            push(&filled(&inner), None, place(token.span), found);
        }
        _ => {
            found.made_at_run_time(whole);
        }
    }
}

/// The statements of a text that EXECUTE runs.
fn push(text: &str, offset: Option<usize>, place: Option<Span>, found: &mut Body) {
    let tokens = lex_code(text);
    for segment in tokens.split(|t| t.kind == TokenKind::Semicolon) {
        let (Some(first), Some(last)) = (segment.first(), segment.last()) else {
            continue;
        };
        let span = first.span.to(last.span);
        let sql = span.of(text).to_owned();
        let action = understand(&sql);
        if matches!(action, Action::Opaque { .. }) {
            found.made_at_run_time(place);
            continue;
        }
        found.statements.push(Inner {
            place: offset.map_or(place, |offset| Some(span.shift(offset))),
            offset: offset.map(|offset| offset + span.start),
            sql,
            action,
        });
    }
}

/// A template of `format()` with its places filled.
fn filled(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '$' && c != '-')
            .unwrap_or(rest.len());
        let kind = rest[digits..].chars().next();
        match kind {
            Some('I' | 's') => text.push_str(DYNAMIC),
            Some('L') => text.push_str("'x'"),
            Some('%') => text.push('%'),
            _ => {
                text.push('%');
                continue;
            }
        }
        rest = &rest[digits + 1..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(sql: &str) -> Vec<String> {
        let body = of_do(sql, Some(0)).expect("a body");
        for inner in &body.statements {
            if let Some(offset) = inner.offset
                && !inner.sql.starts_with("SELECT ")
            {
                assert_eq!(&sql[offset..offset + inner.sql.len()], inner.sql);
            }
        }
        let mut all: Vec<String> = body.statements.into_iter().map(|s| s.sql).collect();
        if body.dynamic {
            all.push("?".into());
        }
        all
    }

    #[test]
    fn statements_of_a_block() {
        assert_eq!(
            found(
                "DO $x$ DECLARE a int; b text; BEGIN
                   IF NOT EXISTS (SELECT 1 FROM t WHERE x = 1) THEN
                     ALTER TABLE t ADD COLUMN c int;
                   ELSIF true THEN DROP TABLE u; ELSE TRUNCATE v;
                   END IF;
                   FOR a IN SELECT 1 LOOP UPDATE t SET d = 1; END LOOP;
                   x := 5; SELECT 1 INTO a; PERFORM f(1); RAISE NOTICE 'x';
                 EXCEPTION WHEN duplicate_object THEN NULL; END $x$"
            ),
            [
                "ALTER TABLE t ADD COLUMN c int",
                "DROP TABLE u",
                "TRUNCATE v",
                "UPDATE t SET d = 1",
                "SELECT  f(1)",
            ]
        );
    }

    #[test]
    fn what_execute_runs() {
        assert_eq!(
            found(
                "DO $$ BEGIN EXECUTE 'DROP TABLE t'; EXECUTE format('ALTER TABLE %I.%2$I ADD c int', a, b);
                 EXECUTE 'DROP TABLE ' || x; END $$"
            ),
            [
                "DROP TABLE t",
                "ALTER TABLE a_name_made_at_run_time.a_name_made_at_run_time ADD c int",
                "?"
            ]
        );
    }

    #[test]
    fn bodies_in_plain_quotes_and_of_functions() {
        assert_eq!(found("DO 'BEGIN DROP TABLE t; END'"), ["DROP TABLE t"]);
        let body = of_function(
            "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DROP TABLE t $$",
            Some(0),
        );
        assert_eq!(body.expect("a body").statements.len(), 1);
        assert!(of_function("CREATE FUNCTION f() RETURNS void AS 'x' LANGUAGE c", None).is_none());
        assert!(of_do("DO $$", Some(0)).is_none());
    }

    #[test]
    fn a_loop_that_commits() {
        let body = of_do(
            "DO $$ BEGIN LOOP UPDATE t SET a = 1 WHERE a IS NULL; COMMIT; END LOOP; END $$",
            None,
        );
        assert!(body.expect("a body").commits);
    }
}
