//! What lint reads of a statement beyond [`crate::sql::ddl`].

use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword, lex_code};

/// What a transaction command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transaction {
    Begin,
    End,
    /// SAVEPOINT, ROLLBACK TO, SET TRANSACTION, ….
    Other,
}

/// Reads a transaction command.
pub(super) fn transaction(sql: &str) -> Transaction {
    let words = words(sql, 4);
    let is = |at: usize, word: &str| words.get(at).is_some_and(|w| w == word);
    if is(0, "begin") || is(0, "start") {
        Transaction::Begin
    } else if is(0, "commit")
        || is(0, "end")
        || is(0, "abort")
        || is(0, "rollback") && !words.iter().any(|w| w == "to")
    {
        Transaction::End
    } else {
        Transaction::Other
    }
}

/// The first words, lower case.
fn words(sql: &str, count: usize) -> Vec<String> {
    lex_code(sql)
        .into_iter()
        .take(count)
        .filter(|t| t.kind == TokenKind::Word)
        .map(|t| t.text(sql).to_ascii_lowercase())
        .collect()
}

/// A session setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Lower case.
    pub(super) name: String,
    /// Its values without quotes; empty for DEFAULT and RESET.
    pub(super) values: Vec<String>,
}

/// `SET [LOCAL] name = value`, `SET TIME ZONE …`, `RESET name`, `SELECT set_config(…)`.
pub(super) fn setting(sql: &str) -> Option<Setting> {
    let tokens = lex_code(sql);
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| is_keyword(*t, sql, word));
    if is(0, "select") {
        let call = tokens
            .windows(2)
            .position(|w| is_keyword(w[0], sql, "set_config") && w[1].kind == TokenKind::LParen)?;
        let mut arguments = tokens[call + 2..]
            .iter()
            .filter(|t| t.kind == TokenKind::String);
        return Some(Setting {
            name: unquoted(*arguments.next()?, sql).to_ascii_lowercase(),
            values: arguments
                .next()
                .map(|t| unquoted(*t, sql))
                .unwrap_or_default()
                .split(',')
                .map(|v| v.trim().trim_matches('"').to_owned())
                .filter(|v| !v.is_empty())
                .collect(),
        });
    }
    if is(0, "reset") {
        return Some(Setting {
            name: ident_value(*tokens.get(1)?, sql)?,
            values: Vec::new(),
        });
    }
    if !is(0, "set") {
        return None;
    }
    let at = if is(1, "local") || is(1, "session") {
        2
    } else {
        1
    };
    let (name, from) = if is(at, "time") && is(at + 1, "zone") {
        ("timezone".to_owned(), at + 2)
    } else {
        let mut from = at + 1;
        let mut name = ident_value(*tokens.get(at)?, sql)?;
        while tokens.get(from).is_some_and(|t| t.kind == TokenKind::Dot) {
            name = format!("{name}.{}", ident_value(*tokens.get(from + 1)?, sql)?);
            from += 2;
        }
        (name, from + 1)
    };
    let values = tokens[from.min(tokens.len())..]
        .iter()
        .filter(|t| {
            matches!(
                t.kind,
                TokenKind::Word | TokenKind::String | TokenKind::QuotedIdent | TokenKind::Number
            )
        })
        .map(|t| unquoted(*t, sql))
        .filter(|v| !v.eq_ignore_ascii_case("default"))
        .collect();
    Some(Setting { name, values })
}

/// The value of a plain string, an identifier or a number.
pub(super) fn unquoted(token: Token, sql: &str) -> String {
    let written = token.text(sql);
    match token.kind {
        TokenKind::String => written
            .find('\'')
            .map(|i| &written[i + 1..])
            .and_then(|w| w.strip_suffix('\''))
            .map(|w| w.replace("''", "'"))
            .unwrap_or_default(),
        TokenKind::QuotedIdent => ident_value(token, sql).unwrap_or_default(),
        _ => written.to_owned(),
    }
}

/// The procedure of a CALL.
pub(super) fn called(sql: &str) -> Option<String> {
    let tokens = lex_code(sql);
    let open = tokens.iter().position(|t| t.kind == TokenKind::LParen)?;
    ident_value(*tokens.get(open.checked_sub(1)?)?, sql)
}

/// How many rows an UPDATE or DELETE can be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has no WHERE.
    All,
    /// WHERE, which does not say how many.
    Some,
    /// WHERE with these columns given as constants.
    Given(Vec<String>),
    /// It takes a limited number of rows.
    Limited,
}

/// Judges an UPDATE or DELETE by its WHERE.
pub(super) fn reach(sql: &str) -> Reach {
    let tokens = lex_code(sql);
    if tokens.iter().any(|t| is_keyword(*t, sql, "limit")) {
        return Reach::Limited;
    }
    let mut depth = 0_usize;
    let mut start = None;
    for (i, token) in tokens.iter().enumerate() {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            _ if depth == 0 && is_keyword(*token, sql, "where") => start = Some(i + 1),
            _ => {}
        }
    }
    let Some(start) = start else {
        return Reach::All;
    };
    let mut given = Vec::new();
    let mut conjunct: Vec<Token> = Vec::new();
    depth = 0;
    for token in &tokens[start..] {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && is_keyword(*token, sql, "or") {
            return Reach::Some;
        }
        let ends =
            depth == 0 && (is_keyword(*token, sql, "and") || is_keyword(*token, sql, "returning"));
        if ends {
            given.extend(given_column(&conjunct, sql));
            conjunct.clear();
        } else {
            conjunct.push(*token);
        }
    }
    given.extend(given_column(&conjunct, sql));
    if given.is_empty() {
        Reach::Some
    } else {
        Reach::Given(given)
    }
}

/// Judges a MERGE by its source: [`Reach::Limited`] for rows that are named or counted,
/// [`Reach::Given`] with the name of a table.
pub(super) fn merge_source(sql: &str) -> Reach {
    let tokens = lex_code(sql);
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| is_keyword(*t, sql, word));
    if tokens.iter().any(|t| is_keyword(*t, sql, "limit")) {
        return Reach::Limited;
    }
    let Some(using) = (0..tokens.len()).find(|at| is(*at, "using")) else {
        return Reach::Some;
    };
    let mut at = using + 1;
    if tokens.get(at).is_some_and(|t| t.kind == TokenKind::LParen) {
        let from = tokens[at..].iter().any(|t| is_keyword(*t, sql, "from"));
        let named = is(at + 1, "values") || is(at + 1, "select") && !from;
        return if named { Reach::Limited } else { Reach::Some };
    }
    if is(at, "only") {
        at += 1;
    }
    let Some(first) = tokens.get(at).and_then(|t| ident_value(*t, sql)) else {
        return Reach::Some;
    };
    let second = tokens
        .get(at + 1)
        .filter(|t| t.kind == TokenKind::Dot)
        .and_then(|_| ident_value(*tokens.get(at + 2)?, sql));
    Reach::Given(vec![match second {
        Some(name) => format!("{first}.{name}"),
        None => first,
    }])
}

/// The column of `t.a = 'x'`, `a = 1::int`, `a = $1` or `a IN (1, 2)`.
fn given_column(tokens: &[Token], sql: &str) -> Option<String> {
    let constant = |t: &Token| {
        matches!(
            t.kind,
            TokenKind::String | TokenKind::Number | TokenKind::Param
        )
    };
    let mut at = 0;
    let mut name = ident_value(*tokens.first()?, sql)?;
    while tokens.get(at + 1)?.kind == TokenKind::Dot {
        at += 2;
        name = ident_value(*tokens.get(at)?, sql)?;
    }
    let rest = &tokens[at + 1..];
    let first = rest.first()?;
    if first.text(sql) == "=" {
        return constant(rest.get(1)?).then_some(name);
    }
    let list = is_keyword(*first, sql, "in")
        && rest.get(1)?.kind == TokenKind::LParen
        && rest[2..]
            .iter()
            .all(|t| constant(t) || matches!(t.kind, TokenKind::Comma | TokenKind::RParen));
    list.then_some(name)
}

/// The new value of `ALTER TYPE … ADD VALUE 'x'`.
pub(super) fn enum_value(sql: &str) -> Option<String> {
    let tokens = lex_code(sql);
    let at = tokens.iter().position(|t| is_keyword(*t, sql, "value"))?;
    let value = tokens[at..].iter().find(|t| t.kind == TokenKind::String)?;
    Some(unquoted(*value, sql))
}

/// True where a string constant of this value, or a dollar-quoted text with it, is in `sql`.
pub(super) fn mentions_value(sql: &str, value: &str) -> bool {
    let quoted = format!("'{}'", value.replace('\'', "''"));
    lex_code(sql).into_iter().any(|t| match t.kind {
        TokenKind::String => unquoted(t, sql) == value,
        TokenKind::DollarString => t.text(sql).contains(&quoted),
        _ => false,
    })
}

/// True where `sql` has the key words one after the other, anywhere.
pub(super) fn has(sql: &str, keywords: &str) -> bool {
    let words: Vec<&str> = keywords.split(' ').collect();
    lex_code(sql).windows(words.len()).any(|w| {
        w.iter()
            .zip(&words)
            .all(|(token, word)| is_keyword(*token, sql, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let read = |sql: &str| setting(sql).map(|s| format!("{}={}", s.name, s.values.join(",")));
        for (sql, expected) in [
            ("SET lock_timeout = '2s'", "lock_timeout=2s"),
            ("SET LOCAL lock_timeout TO 500", "lock_timeout=500"),
            (
                "set session search_path = app, \"Other\"",
                "search_path=app,Other",
            ),
            ("SET LOCAL TIME ZONE 'UTC'", "timezone=UTC"),
            ("SET app.user = 'x'", "app.user=x"),
            ("RESET lock_timeout", "lock_timeout="),
            ("SET lock_timeout TO DEFAULT", "lock_timeout="),
            (
                "SELECT pg_catalog.set_config('search_path', '', false)",
                "search_path=",
            ),
        ] {
            assert_eq!(read(sql).as_deref(), Some(expected), "{sql}");
        }
        assert_eq!(setting("SELECT 1"), None);
    }

    #[test]
    fn reaches() {
        let given = |c: &[&str]| Reach::Given(c.iter().map(|&c| c.to_owned()).collect());
        for (sql, expected) in [
            ("UPDATE t SET a = 1", Reach::All),
            (
                "UPDATE t SET a = (SELECT 1 FROM u WHERE u.x = 1)",
                Reach::All,
            ),
            ("UPDATE t SET a = 1 WHERE a IS NULL", Reach::Some),
            ("UPDATE t SET a = 1 WHERE t.id = 5", given(&["id"])),
            (
                "DELETE FROM t WHERE k IN ('a', 'b') AND x RETURNING id",
                given(&["k"]),
            ),
            ("DELETE FROM t WHERE k = 1 OR x", Reach::Some),
            (
                "DELETE FROM t WHERE id IN (SELECT id FROM t LIMIT 10)",
                Reach::Limited,
            ),
            ("DELETE FROM t WHERE a = b", Reach::Some),
        ] {
            assert_eq!(reach(sql), expected, "{sql}");
        }
    }

    #[test]
    fn sources_of_a_merge() {
        let given = |c: &str| Reach::Given(vec![c.to_owned()]);
        for (source, expected) in [
            ("s", given("s")),
            ("ONLY app.s AS x", given("app.s")),
            ("(VALUES (1), (2)) AS v (id)", Reach::Limited),
            ("(SELECT 1 AS id) s", Reach::Limited),
            ("(SELECT * FROM s) s", Reach::Some),
            ("(SELECT * FROM s LIMIT 5) s", Reach::Limited),
        ] {
            let sql = format!("MERGE INTO t USING {source} ON t.id = 1 WHEN MATCHED THEN DELETE");
            assert_eq!(merge_source(&sql), expected, "{sql}");
        }
    }

    #[test]
    fn values_of_an_enum() {
        let sql = "ALTER TYPE mood ADD VALUE IF NOT EXISTS 'it''s' BEFORE 'x'";
        assert_eq!(enum_value(sql).as_deref(), Some("it's"));
        assert!(mentions_value("SELECT 'it''s'", "it's"));
        assert!(mentions_value("DO $$ x := 'it''s'; $$", "it's"));
        assert!(!mentions_value("SELECT 'its'", "it's"));
    }

    #[test]
    fn transactions() {
        assert_eq!(transaction("BEGIN WORK"), Transaction::Begin);
        assert_eq!(transaction("START TRANSACTION"), Transaction::Begin);
        assert_eq!(transaction("END"), Transaction::End);
        assert_eq!(transaction("ROLLBACK"), Transaction::End);
        assert_eq!(transaction("ROLLBACK TO s"), Transaction::Other);
        assert_eq!(transaction("SAVEPOINT s"), Transaction::Other);
    }
}
