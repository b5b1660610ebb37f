//! What the server writes down of indexes and constraints, taken apart. Its words are few and in
//! fixed places (`ruleutils.c`), so nothing is guessed.

use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword, lex_code};
use crate::sql::quote::ident;

/// `USING btree (…) …` of `CREATE [UNIQUE] INDEX name ON [ONLY] schema.table USING …`.
pub(super) fn index_tail(definition: &str) -> Option<&str> {
    let tokens = lex_code(definition);
    let mut rest = tokens.as_slice();
    let word = |keyword: &str, rest: &mut &[Token]| {
        let found = rest
            .first()
            .is_some_and(|t| is_keyword(*t, definition, keyword));
        if found {
            *rest = &rest[1..];
        }
        found
    };
    if !word("CREATE", &mut rest) {
        return None;
    }
    word("UNIQUE", &mut rest);
    if !word("INDEX", &mut rest) {
        return None;
    }
    // The name, which may be `on` in quotes only.
    rest = rest.get(1..)?;
    if !word("ON", &mut rest) {
        return None;
    }
    word("ONLY", &mut rest);
    rest = rest.get(1..)?;
    while rest.first().is_some_and(|t| t.kind == TokenKind::Dot) {
        rest = rest.get(2..)?;
    }
    let first = *rest.first()?;
    is_keyword(first, definition, "USING").then(|| &definition[first.span.start..])
}

/// The tail with a tablespace, which stands before WHERE.
pub(super) fn with_tablespace(tail: &str, tablespace: Option<&str>) -> String {
    with_clause(tail, tablespace.map(|t| format!("TABLESPACE {}", ident(t))))
}

/// An exclusion constraint with its index's tablespace.
pub(super) fn exclusion(definition: &str, tablespace: Option<&str>) -> String {
    let clause = tablespace.map(|t| format!("USING INDEX TABLESPACE {}", ident(t)));
    with_clause(definition, clause)
}

/// The text with a clause before its WHERE and DEFERRABLE.
fn with_clause(text: &str, clause: Option<String>) -> String {
    let Some(clause) = clause else {
        return text.to_owned();
    };
    let mut depth = 0_usize;
    for token in lex_code(text) {
        let ends = || {
            ["WHERE", "DEFERRABLE"]
                .iter()
                .any(|w| is_keyword(token, text, w))
        };
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            _ if depth == 0 && ends() => {
                let (before, after) = text.split_at(token.span.start);
                return format!("{before}{clause} {after}");
            }
            _ => {}
        }
    }
    format!("{text} {clause}")
}

/// A foreign key of other columns: names are replaced in `FOREIGN KEY (…)` and in
/// `SET NULL (…)`, `SET DEFAULT (…)`; what it references stays.
pub(super) fn foreign_key(definition: &str, name: impl FnMut(&str) -> Option<String>) -> String {
    let keyword = |tokens: &[Token], at: Option<usize>, word: &str| {
        at.and_then(|at| tokens.get(at))
            .is_some_and(|t| is_keyword(*t, definition, word))
    };
    let mut own = false;
    let is_own = |tokens: &[Token], at: usize| {
        match tokens[at].kind {
            TokenKind::LParen => {
                let is = |n, word| keyword(tokens, at.checked_sub(n), word);
                own = is(1, "KEY") && is(2, "FOREIGN")
                    || is(2, "SET") && (is(1, "NULL") || is(1, "DEFAULT"));
            }
            TokenKind::RParen => own = false,
            _ => return own,
        }
        false
    };
    with_names(definition, is_own, name)
}

/// The definition with other names in the places that `is_name` says.
fn with_names(
    definition: &str,
    mut is_name: impl FnMut(&[Token], usize) -> bool,
    mut name: impl FnMut(&str) -> Option<String>,
) -> String {
    let tokens = lex_code(definition);
    let (mut out, mut copied) = (String::new(), 0);
    for (at, token) in tokens.iter().enumerate() {
        if is_name(&tokens, at)
            && let Some(other) = ident_value(*token, definition).and_then(|n| name(&n))
        {
            out.push_str(&definition[copied..token.span.start]);
            out.push_str(&ident(&other));
            copied = token.span.end;
        }
    }
    out.push_str(&definition[copied..]);
    out
}

/// The columns that the definition of a foreign key references.
pub(super) fn referenced(definition: &str) -> Vec<String> {
    let mut names = Vec::new();
    rewritten(definition, |name| {
        names.push(name.to_owned());
        None
    });
    names
}

/// The definition with other names for the columns that it references, which stand in the first
/// parentheses after REFERENCES (`ruleutils.c`).
pub(super) fn rewritten(definition: &str, name: impl FnMut(&str) -> Option<String>) -> String {
    let (mut depth, mut after, mut within) = (0_usize, false, false);
    let is_referenced = |tokens: &[Token], at: usize| {
        match tokens[at].kind {
            TokenKind::LParen => {
                depth += 1;
                within = after && depth == 1;
                after &= !within;
            }
            TokenKind::RParen => {
                depth = depth.saturating_sub(1);
                within = false;
            }
            _ if depth == 0 && is_keyword(tokens[at], definition, "REFERENCES") => after = true,
            _ => return within,
        }
        false
    };
    with_names(definition, is_referenced, name)
}

/// A word outside of parentheses.
pub(super) fn has_word(definition: &str, words: &[&str]) -> bool {
    lex_code(definition)
        .into_iter()
        .any(|token| words.iter().any(|w| is_keyword(token, definition, w)))
}

/// SET DEFAULT as an action of a key.
pub(super) fn sets_default(definition: &str) -> bool {
    lex_code(definition).windows(2).any(|pair| {
        is_keyword(pair[0], definition, "SET") && is_keyword(pair[1], definition, "DEFAULT")
    })
}

/// `DEFERRABLE …` at the end of a key's definition.
pub(super) fn deferrable(definition: &str) -> &str {
    let mut depth = 0_usize;
    for token in lex_code(definition) {
        match token.kind {
            TokenKind::LParen => depth += 1,
            TokenKind::RParen => depth = depth.saturating_sub(1),
            _ if depth == 0 && is_keyword(token, definition, "DEFERRABLE") => {
                return &definition[token.span.start..];
            }
            _ => {}
        }
    }
    ""
}

/// Without the NOT VALID at the end.
pub(super) fn as_valid(definition: &str) -> &str {
    definition.strip_suffix(" NOT VALID").unwrap_or(definition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_referenced_gets_another_name() {
        let definition = "FOREIGN KEY (a, b) REFERENCES \"REFERENCES (a)\".\"t (b)\"(b, \"A\") MATCH \
                          FULL ON DELETE SET NULL (b) DEFERRABLE";
        assert_eq!(referenced(definition), ["b", "A"]);
        assert_eq!(
            rewritten(definition, |name| (name == "b").then(|| "new".to_owned())),
            "FOREIGN KEY (a, b) REFERENCES \"REFERENCES (a)\".\"t (b)\"(\"new\", \"A\") MATCH FULL ON \
             DELETE SET NULL (b) DEFERRABLE"
        );
    }

    #[test]
    fn the_tail_of_an_index() {
        for (definition, tail) in [
            (
                "CREATE INDEX i ON public.t USING btree (a)",
                Some("USING btree (a)"),
            ),
            (
                "CREATE UNIQUE INDEX \"on USING\" ON ONLY \"S.\"\"USING\".\"t USING\" USING gin (a, \
                 \"USING\") WHERE (b = 'USING'::text)",
                Some("USING gin (a, \"USING\") WHERE (b = 'USING'::text)"),
            ),
            ("CREATE INDEX i ON t USING hash (a)", Some("USING hash (a)")),
            ("CREATE TABLE t (a int)", None),
            ("CREATE INDEX i", None),
        ] {
            assert_eq!(index_tail(definition), tail, "{definition}");
        }
    }

    #[test]
    fn a_tablespace_stands_before_where() {
        let tail =
            "USING btree (a, (CASE WHEN b THEN 'WHERE' END)) WITH (fillfactor='70') WHERE (a > 0)";
        assert_eq!(
            with_tablespace(tail, Some("fast \"disk")),
            "USING btree (a, (CASE WHEN b THEN 'WHERE' END)) WITH (fillfactor='70') TABLESPACE \
             \"fast \"\"disk\" WHERE (a > 0)"
        );
        assert_eq!(
            with_tablespace("USING btree (a)", Some("x")),
            "USING btree (a) TABLESPACE \"x\""
        );
        assert_eq!(with_tablespace(tail, None), tail);
        assert_eq!(
            exclusion(
                "EXCLUDE USING gist (\"WHERE\" WITH =, b WITH &&) DEFERRABLE",
                Some("fast")
            ),
            "EXCLUDE USING gist (\"WHERE\" WITH =, b WITH &&) USING INDEX TABLESPACE \"fast\" \
             DEFERRABLE"
        );
    }

    #[test]
    fn only_the_own_columns_of_a_foreign_key() {
        let name = |name: &str| (name == "key").then(|| "n \"w\"".to_owned());
        assert_eq!(
            foreign_key(
                "FOREIGN KEY (key, \"key\", \"Key\", b) REFERENCES key(key, a) MATCH FULL ON UPDATE \
                 CASCADE ON DELETE SET NULL (key) DEFERRABLE INITIALLY DEFERRED",
                name
            ),
            "FOREIGN KEY (\"n \"\"w\"\"\", \"n \"\"w\"\"\", \"Key\", b) REFERENCES key(key, a) MATCH FULL \
             ON UPDATE CASCADE ON DELETE SET NULL (\"n \"\"w\"\"\") DEFERRABLE INITIALLY DEFERRED"
        );
        assert_eq!(
            foreign_key(
                "FOREIGN KEY (key) REFERENCES t(key) ON DELETE SET DEFAULT (key)",
                name
            ),
            "FOREIGN KEY (\"n \"\"w\"\"\") REFERENCES t(key) ON DELETE SET DEFAULT (\"n \"\"w\"\"\")"
        );
    }

    #[test]
    fn the_end_of_a_key() {
        assert_eq!(
            deferrable("UNIQUE (a, \"DEFERRABLE\") INCLUDE (b) DEFERRABLE INITIALLY DEFERRED"),
            "DEFERRABLE INITIALLY DEFERRED"
        );
        assert_eq!(deferrable("UNIQUE (\"deferrable\")"), "");
        assert_eq!(as_valid("CHECK ((a > 0)) NOT VALID"), "CHECK ((a > 0))");
        assert_eq!(as_valid("CHECK ((a > 0))"), "CHECK ((a > 0))");
    }
}
