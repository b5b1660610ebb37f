//! Names in an expression: columns and functions it may refer to.

use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword, lex_code};
use crate::sql::source::Span;

/// Key words that cannot be the unquoted name of a column: "reserved" and "reserved (can be
/// function or type)" in appendix C of the PostgreSQL documentation, 14 to 18. Sorted.
#[rustfmt::skip]
const NOT_A_COLUMN: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric",
    "authorization", "binary", "both", "case", "cast", "check", "collate", "collation", "column",
    "concurrently", "constraint", "create", "cross", "current_catalog", "current_date",
    "current_role", "current_schema", "current_time", "current_timestamp", "current_user",
    "default", "deferrable", "desc", "distinct", "do", "else", "end", "except", "false", "fetch",
    "for", "foreign", "freeze", "from", "full", "grant", "group", "having", "ilike", "in",
    "initially", "inner", "intersect", "into", "is", "isnull", "join", "lateral", "leading",
    "left", "like", "limit", "localtime", "localtimestamp", "natural", "not", "notnull", "null",
    "offset", "on", "only", "or", "order", "outer", "overlaps", "placing", "primary",
    "references", "returning", "right", "select", "session_user", "similar", "some", "symmetric",
    "system_user", "table", "tablesample", "then", "to", "trailing", "true", "union", "unique",
    "user", "using", "variadic", "verbose", "when", "where", "window", "with",
];

/// The token is a word that cannot be the unquoted name of a table or a column.
pub fn is_reserved(token: Token, text: &str) -> bool {
    let word = token.text(text).to_ascii_lowercase();
    token.kind == TokenKind::Word && NOT_A_COLUMN.binary_search(&word.as_str()).is_ok()
}

/// Of [`NOT_A_COLUMN`], those that can be called as a function in an expression: `left('ab', 1)`.
const STILL_A_FUNCTION: &[&str] = &["collation", "current_schema", "left", "overlaps", "right"];

/// Key words before a parenthesis that are "non-reserved (cannot be function or type)", without
/// those that are called like a function (`coalesce`, `nullif`, `extract` …). Sorted.
#[rustfmt::skip]
const NOT_A_FUNCTION: &[&str] = &[
    "between", "bigint", "bit", "boolean", "char", "character", "dec", "decimal", "exists",
    "float", "inout", "int", "integer", "interval", "national", "nchar", "none", "numeric", "out",
    "precision", "real", "row", "setof", "smallint", "time", "timestamp", "values", "varchar",
];

/// True where the token can be the name of a column.
pub(super) fn is_column_word(token: Token, text: &str) -> bool {
    match token.kind {
        TokenKind::QuotedIdent => true,
        TokenKind::Word => {
            let word = token.text(text).to_ascii_lowercase();
            NOT_A_COLUMN.binary_search(&word.as_str()).is_err()
        }
        _ => false,
    }
}

/// The tokens inside the parentheses that enclose all of `tokens`, if there are any. Only for
/// callers that then look for tokens without parentheses: `(a) + (b)` loses its outer two.
pub(super) fn unwrap_parentheses(mut tokens: &[Token]) -> &[Token] {
    while let [first, inner @ .., last] = tokens
        && first.kind == TokenKind::LParen
        && last.kind == TokenKind::RParen
    {
        tokens = inner;
    }
    tokens
}

/// A dotted name in an expression.
struct Name {
    parts: Vec<Token>,
    /// Ends in `.*`.
    star: bool,
    /// The tokens before and after it.
    before: Option<Token>,
    after: Option<Token>,
}

fn dotted_names(text: &str, tokens: &[Token]) -> Vec<Name> {
    let is_ident = |t: &Token| matches!(t.kind, TokenKind::Word | TokenKind::QuotedIdent);
    let mut names = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if !is_ident(&tokens[i]) {
            i += 1;
            continue;
        }
        let before = i.checked_sub(1).map(|b| tokens[b]);
        let mut parts = vec![tokens[i]];
        let mut star = false;
        i += 1;
        while tokens.get(i).is_some_and(|t| t.kind == TokenKind::Dot) {
            match tokens.get(i + 1) {
                Some(next) if is_ident(next) => parts.push(*next),
                Some(next) if next.text(text) == "*" => star = true,
                _ => break,
            }
            i += 2;
            if star {
                break;
            }
        }
        names.push(Name {
            parts,
            star,
            before,
            after: tokens.get(i).copied(),
        });
    }
    names
}

/// The last two parts: qualifier and name.
fn value(name: &Name, text: &str) -> Option<(Option<String>, String)> {
    let last = |back: usize| {
        let at = name.parts.len().checked_sub(back)?;
        ident_value(name.parts[at], text)
    };
    if name.star {
        Some((Some(last(1)?), "*".to_owned()))
    } else {
        Some((last(2), last(1)?))
    }
}

/// Everything in an expression that may be a reference to a column: (qualifier, name, place of
/// the whole reference). Function names, types after `::` or AS, and reserved words are left
/// out. Words of special syntax remain (`year` in `extract(year FROM …)`), so compare with the
/// columns that there are. Of `schema.table.column` the qualifier is the table; the name of
/// `table.*` is `*`, and so the whole row is read.
pub fn identifiers(text: &str) -> Vec<(Option<String>, String, Span)> {
    let tokens = lex_code(text);
    let mut found = Vec::new();
    for name in dotted_names(text, &tokens) {
        let first = name.parts[0];
        let is_call = name.after.is_some_and(|t| t.kind == TokenKind::LParen);
        let is_type = name
            .before
            .is_some_and(|t| t.text(text) == "::" || is_keyword(t, text, "AS"));
        // A field of a value in parentheses or brackets: `(t.c).field`.
        let is_field = name.before.is_some_and(|t| t.kind == TokenKind::Dot);
        if is_call || is_type || is_field || !is_column_word(first, text) {
            continue;
        }
        if let Some((qualifier, column)) = value(&name, text) {
            let mut span = first.span;
            if let Some(last) = name.parts.last() {
                span = span.to(last.span);
            }
            if name.star
                && let Some(after_dot) = tokens
                    .iter()
                    .find(|t| t.span.start >= span.end && t.text(text) == "*")
            {
                span = span.to(after_dot.span);
            }
            found.push((qualifier, column, span));
        }
    }
    found
}

/// The one word at this place of an expression is not a column's name, although it may be one
/// elsewhere: `TIME` of AT TIME ZONE, `year` of `extract(year FROM …)`, the type in `date '…'`,
/// the name of an argument in `make_interval(days => 1)`.
pub fn is_syntax(text: &str, span: Span) -> bool {
    let before = lex_code(&text[..span.start]);
    let rest = &text[span.end..];
    let after = lex_code(rest);
    let word = |word: &str| span.of(text).eq_ignore_ascii_case(word);
    let last = |word: &str| before.last().is_some_and(|t| is_keyword(*t, text, word));
    let next = |word: &str| after.first().is_some_and(|t| is_keyword(*t, rest, word));
    let extracts = matches!(before.as_slice(), [.., name, _] if is_keyword(*name, text, "EXTRACT"));
    let names_argument = after
        .first()
        .is_some_and(|t| matches!(t.text(rest), "=>" | ":="));
    let is_string = |t: Option<&Token>| t.is_some_and(|t| t.kind == TokenKind::String);
    names_argument
        || last("COLLATE")
        || (extracts && next("FROM"))
        // `date '…'`, and `year` of `interval '5' year`: nothing else stands beside a string.
        || is_string(after.first())
        || is_string(before.last())
        || (word("at") && (next("TIME") || next("LOCAL")))
        || (word("local") && last("AT"))
        || (word("time") && next("ZONE") && last("AT"))
        || (word("zone") && last("TIME"))
        || (word("precision") && last("DOUBLE"))
}

/// The names that are called like a function: (schema, name). Types with a length
/// (`numeric(10, 2)`) and reserved words are left out; `coalesce`, `nullif` and the like, which
/// are no functions in the catalog, are not.
pub fn function_names(text: &str) -> Vec<(Option<String>, String)> {
    let tokens = lex_code(text);
    let is_function = |name: &Name| {
        let one_word = name.parts.len() == 1 && name.parts[0].kind == TokenKind::Word;
        let word = name.parts[0].text(text).to_ascii_lowercase();
        let word = word.as_str();
        let before = |what: &str| name.before.is_some_and(|t| t.text(text) == what);
        let before_word = |what: &str| name.before.is_some_and(|t| is_keyword(t, text, what));
        if before("::") || before_word("AS") {
            return false;
        }
        if !one_word {
            return true;
        }
        let no_function = NOT_A_FUNCTION.binary_search(&word).is_ok()
            || (NOT_A_COLUMN.binary_search(&word).is_ok() && !STILL_A_FUNCTION.contains(&word));
        let syntax = match word {
            "over" | "filter" => before(")"),
            "by" => before_word("PARTITION") || before_word("ORDER") || before_word("GROUP"),
            "zone" => before_word("TIME"),
            "operator" => true,
            _ => false,
        };
        !no_function && !syntax
    };
    dotted_names(text, &tokens)
        .iter()
        .filter(|n| !n.star && n.after.is_some_and(|t| t.kind == TokenKind::LParen))
        .filter(|n| is_function(n))
        .filter_map(|n| value(n, text))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(NOT_A_COLUMN.is_sorted() && NOT_A_FUNCTION.is_sorted());
        assert!(STILL_A_FUNCTION.iter().all(|w| NOT_A_COLUMN.contains(w)));
    }

    fn columns(text: &str) -> String {
        let found: Vec<String> = identifiers(text)
            .into_iter()
            .map(|(q, n, span)| {
                format!(
                    "{}{n}={}",
                    q.map_or(String::new(), |q| q + "."),
                    span.of(text)
                )
            })
            .collect();
        found.join(" ")
    }

    fn functions(text: &str) -> String {
        let found: Vec<String> = function_names(text)
            .into_iter()
            .map(|(q, n)| q.map_or(String::new(), |q| q + ".") + &n)
            .collect();
        found.join(" ")
    }

    #[test]
    fn finds_columns() {
        assert_eq!(columns("round(Total * 100)::bigint"), "total=Total");
        assert_eq!(
            columns("o . \"Total\" + s.o.qty"),
            "o.Total=o . \"Total\" o.qty=s.o.qty"
        );
        assert_eq!(
            columns("CASE WHEN a IS NULL THEN b ELSE NULL END"),
            "a=a b=b"
        );
        assert_eq!(columns("cast(a AS text) || 'b' /* c */ -- d"), "a=a");
        assert_eq!(columns("row_to_json(t.*)"), "t.*=t.*");
        assert_eq!(columns("(t.addr).city, a[i]"), "t.addr=t.addr a=a i=i");
        assert_eq!(columns("extract(year FROM ts)"), "year=year ts=ts");
        assert_eq!(columns("count(*) * 2"), "");
        assert_eq!(columns("t.end"), "t.end=t.end");
    }

    #[test]
    fn finds_functions() {
        assert_eq!(
            functions("Lower(trim(a)) || pg_catalog.now () || \"F\"(1)"),
            "lower trim pg_catalog.now F"
        );
        assert_eq!(
            functions("a IN (1) AND (b) OR EXISTS (SELECT 1) AND c = ANY (x)"),
            ""
        );
        assert_eq!(functions("a::numeric(10,2) + cast(b AS s.dom(3))"), "");
        assert_eq!(
            functions("sum(a) FILTER (WHERE b) OVER (PARTITION BY (c)) AT TIME ZONE (z)"),
            "sum"
        );
        assert_eq!(
            functions("coalesce(left(a, 1), over(1))"),
            "coalesce left over"
        );
    }
}
