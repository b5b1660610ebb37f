use proptest::prelude::*;

use super::TokenKind::{
    Comma, Comment, DollarString, Dot, LBracket, LParen, Number, Operator, Param, PsqlCommand,
    QuotedIdent, RBracket, RParen, Semicolon, Stray, String as Str, Unterminated, Word,
};
use super::*;

#[track_caller]
fn check(text: &str, expected: &[(TokenKind, &str)]) {
    let found: Vec<_> = lex(text)
        .into_iter()
        .map(|t| (t.kind, t.text(text)))
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn strings() {
    check("'a''b'", &[(Str, "'a''b'")]);
    check(r"'a\' 'b'", &[(Str, r"'a\'"), (Str, "'b'")]);
    check(r"E'a\'b\\' x", &[(Str, r"E'a\'b\\'"), (Word, "x")]);
    check("b'01' X'ff'", &[(Str, "b'01'"), (Str, "X'ff'")]);
    check(r"U&'d\0061' N'x'", &[(Str, r"U&'d\0061'"), (Str, "N'x'")]);
    check("name'x'", &[(Word, "name"), (Str, "'x'")]);
    check("'a;--b/*'", &[(Str, "'a;--b/*'")]);
}

#[test]
fn an_escape_string_goes_on_over_a_line_break() {
    check(
        "E'a' -- c\n 'b\\'c' d",
        &[
            (Str, "E'a'"),
            (Comment, "-- c"),
            (Str, r"'b\'c'"),
            (Word, "d"),
        ],
    );
    check(
        "E'a'\n,'b\\'",
        &[(Str, "E'a'"), (Comma, ","), (Str, "'b\\'")],
    );
    check("E'a' 'b\\'", &[(Str, "E'a'"), (Str, "'b\\'")]);
}

#[test]
fn dollar_quotes() {
    check("$$a;'b$$", &[(DollarString, "$$a;'b$$")]);
    check("$f$ $$x$$ $F$ $f$", &[(DollarString, "$f$ $$x$$ $F$ $f$")]);
    check("$é1$x$é1$", &[(DollarString, "$é1$x$é1$")]);
    check("a$$b", &[(Word, "a$$b")]);
    check("$1+$23", &[(Param, "$1"), (Operator, "+"), (Param, "$23")]);
    check("$ab c", &[(Stray, "$"), (Word, "ab"), (Word, "c")]);
    check("$1$x$", &[(Param, "$1"), (Unterminated, "$x$")]);
}

#[test]
fn comments() {
    check("a--b\nc", &[(Word, "a"), (Comment, "--b"), (Word, "c")]);
    check("--a\r\nb", &[(Comment, "--a"), (Word, "b")]);
    check(
        "/* a /* b */ ' c */d",
        &[(Comment, "/* a /* b */ ' c */"), (Word, "d")],
    );
    check("/*/ a */", &[(Comment, "/*/ a */")]);
}

#[test]
fn operators() {
    check(
        "a<=-1",
        &[
            (Word, "a"),
            (Operator, "<="),
            (Operator, "-"),
            (Number, "1"),
        ],
    );
    check("a@-1", &[(Word, "a"), (Operator, "@-"), (Number, "1")]);
    check(
        "a->-1",
        &[
            (Word, "a"),
            (Operator, "->"),
            (Operator, "-"),
            (Number, "1"),
        ],
    );
    check("+--x", &[(Operator, "+"), (Comment, "--x")]);
    check("*/*x*/", &[(Operator, "*"), (Comment, "/*x*/")]);
    check(
        "a::int:=b",
        &[
            (Word, "a"),
            (Operator, "::"),
            (Word, "int"),
            (Operator, ":="),
            (Word, "b"),
        ],
    );
    check(
        "a[1:2]",
        &[
            (Word, "a"),
            (LBracket, "["),
            (Number, "1"),
            (Operator, ":"),
            (Number, "2"),
            (RBracket, "]"),
        ],
    );
    check("x?|y", &[(Word, "x"), (Operator, "?|"), (Word, "y")]);
}

#[test]
fn numbers() {
    check(
        "1.5e-3 .5 4. 1e",
        &[
            (Number, "1.5e-3"),
            (Number, ".5"),
            (Number, "4."),
            (Number, "1"),
            (Word, "e"),
        ],
    );
    check("1..10", &[(Number, "1"), (Operator, ".."), (Number, "10")]);
    check(
        "0xFF_ff 1_000 0x",
        &[
            (Number, "0xFF_ff"),
            (Number, "1_000"),
            (Number, "0"),
            (Word, "x"),
        ],
    );
    check("t.1", &[(Word, "t"), (Number, ".1")]);
}

#[test]
fn punctuation_words_and_the_rest() {
    check(
        "f(a.b);",
        &[
            (Word, "f"),
            (LParen, "("),
            (Word, "a"),
            (Dot, "."),
            (Word, "b"),
            (RParen, ")"),
            (Semicolon, ";"),
        ],
    );
    check(
        "größe_1$ \"a\"\"b\" U&\"x\"",
        &[
            (Word, "größe_1$"),
            (QuotedIdent, "\"a\"\"b\""),
            (QuotedIdent, "U&\"x\""),
        ],
    );
    check("\\i a.sql  \nx", &[(PsqlCommand, "\\i a.sql"), (Word, "x")]);
    check("{\0", &[(Stray, "{"), (Stray, "\0")]);
}

#[test]
fn unterminated() {
    for (text, what) in [
        ("'a", "string"),
        ("e'a\\", "string"),
        ("E'é\\é", "string"),
        ("\"a", "quoted identifier"),
        ("u&\"a", "quoted identifier"),
        ("$a$ $b$", "dollar-quoted string"),
        ("/* /* */", "block comment"),
    ] {
        let tokens = lex(text);
        assert_eq!(tokens.len(), 1, "{text}");
        assert_eq!(tokens[0].kind, Unterminated, "{text}");
        assert_eq!(tokens[0].text(text), text);
        assert_eq!(tokens[0].unterminated_what(text), what, "{text}");
    }
}

#[test]
fn identifier_values() {
    let value = |text: &str| ident_value(lex(text)[0], text);
    assert_eq!(value("FooÄ").as_deref(), Some("fooÄ"));
    assert_eq!(value("\"Foo\"\"x\"").as_deref(), Some("Foo\"x"));
    assert_eq!(
        value(r#"U&"d\0061t\+000061 \D83D\DE00\\""#).as_deref(),
        Some("data 😀\\")
    );
    assert_eq!(value(r#"U&"\00zz""#), None);
    assert_eq!(value(r#"U&"\D83D""#), None);
    assert_eq!(value(r#"U&"d!0061" UESCAPE '!'"#), None);
    assert_eq!(value("'a'"), None);
    let long = format!("{}é", "x".repeat(62));
    assert_eq!(value(&long).as_deref(), Some("x".repeat(62).as_str()));
}

#[test]
fn keywords() {
    let is = |text: &str| is_keyword(lex(text)[0], text, "UPDATE");
    assert!(is("update") && is("UpDate"));
    assert!(!is("\"update\"") && !is("updates") && !is("'update'"));
}

/// Text that is rich in what the lexer cares for.
fn sql_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("'".to_owned()),
        Just("\"".to_owned()),
        Just("$".to_owned()),
        Just("$a$".to_owned()),
        Just("E'".to_owned()),
        Just("U&\"".to_owned()),
        Just("\\".to_owned()),
        Just("/*".to_owned()),
        Just("*/".to_owned()),
        Just("--".to_owned()),
        Just("\n".to_owned()),
        "[a-z0-9.;:,()é€😀 +*<>=|{}-]{0,4}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|v| v.concat())
}

fn check_invariants(text: &str) {
    let mut end = 0;
    for token in lex(text) {
        assert!(token.span.start >= end && token.span.end > token.span.start);
        assert!(text.is_char_boundary(token.span.start));
        assert!(text.is_char_boundary(token.span.end));
        assert!(text[end..token.span.start].bytes().all(is_space));
        let _ = ident_value(token, text);
        end = token.span.end;
    }
    assert!(text[end..].bytes().all(is_space));
}

proptest! {
    #[test]
    fn tokens_cover_any_text(text in any::<String>()) {
        check_invariants(&text);
    }

    #[test]
    fn tokens_cover_sql_like_text(text in sql_like()) {
        check_invariants(&text);
    }
}
