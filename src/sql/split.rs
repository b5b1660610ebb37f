//! Splitting a script into statements.

use super::lex::{Token, TokenKind, is_keyword, lex};
use super::source::{Diagnostic, Span};

/// The place of one statement in a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementText {
    /// From the first to the last token that is not a comment, without the `;`. It never ends in
    /// a comment, so text may be put after it on the same line.
    pub span: Span,
    /// The `;`; `None` where the text ends without one.
    pub semicolon: Option<Span>,
}

impl StatementText {
    /// True where `offset` is after the first byte of the statement and before its end, which is
    /// the `;`, or the end of the script where there is none.
    pub fn encloses(self, offset: usize) -> bool {
        offset > self.span.start && self.semicolon.is_none_or(|s| offset < s.start)
    }
}

/// What [`split_all`] found.
#[derive(Debug, Default)]
pub struct Split {
    /// The statements in order; empty ones are dropped.
    pub statements: Vec<StatementText>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// Where reading stopped because the rest cannot be told apart (an open quote, data of
    /// COPY); nothing from there on is in `statements`.
    pub stopped_at: Option<usize>,
}

/// The statements of the part `span` of `text`, split at each `;` that is not in a quote, a
/// comment, parentheses, or the `BEGIN ATOMIC … END` body of a function.
///
/// # Errors
/// The first thing wrong; [`split_all`] gives all.
///
/// # Panics
/// Where `span` is not a part of `text`, as slicing does.
pub fn split(text: &str, span: Span) -> Result<Vec<StatementText>, Diagnostic> {
    let split = split_all(text, span);
    match split.diagnostics.into_iter().next() {
        Some(diagnostic) => Err(diagnostic),
        None => Ok(split.statements),
    }
}

/// As [`split`], with everything that is wrong.
pub fn split_all(text: &str, span: Span) -> Split {
    let part = span.of(text);
    let tokens: Vec<Token> = lex(part)
        .into_iter()
        .filter(|t| t.kind != TokenKind::Comment)
        .map(|t| Token {
            kind: t.kind,
            span: t.span.shift(span.start),
        })
        .collect();
    let mut splitter = Splitter {
        text,
        split: Split::default(),
        current: Vec::new(),
        open: Vec::new(),
        brackets: 0,
        blocks: 0,
    };
    splitter.run(&tokens);
    splitter.split
}

struct Splitter<'a> {
    text: &'a str,
    split: Split,
    /// The tokens of the statement so far.
    current: Vec<Token>,
    /// Open parentheses and brackets.
    open: Vec<Token>,
    /// How many of them are brackets.
    brackets: usize,
    /// Depth of `BEGIN ATOMIC` and the CASEs in it.
    blocks: usize,
}

impl Splitter<'_> {
    fn run(&mut self, tokens: &[Token]) {
        for &token in tokens {
            match token.kind {
                TokenKind::Semicolon if self.open.is_empty() && self.blocks == 0 => {
                    if !self.finish(Some(token.span)) {
                        return;
                    }
                    continue;
                }
                TokenKind::Unterminated => {
                    let what = token.unterminated_what(self.text);
                    self.stop(not_closed(token, self.text, what));
                    return;
                }
                TokenKind::PsqlCommand => {
                    self.report(psql_command(token, self.text));
                    continue;
                }
                TokenKind::Stray => self.report(stray(token, self.text)),
                TokenKind::Operator if token.text(self.text) == ":" && self.brackets == 0 => {
                    self.report(psql_variable(token));
                }
                TokenKind::LParen | TokenKind::LBracket => {
                    self.brackets += usize::from(token.kind == TokenKind::LBracket);
                    self.open.push(token);
                }
                TokenKind::RParen | TokenKind::RBracket if !self.close(token) => return,
                TokenKind::Word => self.word(token),
                _ => {}
            }
            self.current.push(token);
        }
        if let Some(&open) = self.open.first() {
            let here = open.text(self.text);
            let closer = closer(open.kind);
            self.stop(
                Diagnostic::new(open.span, format!("this `{here}` is never closed")).help(format!(
                    "add the `{closer}`; without it every `;` that follows is in the same statement"
                )),
            );
        } else if self.blocks > 0 {
            let start = self
                .current
                .iter()
                .rfind(|t| is_keyword(**t, self.text, "ATOMIC"))
                .or(self.current.first());
            if let Some(&start) = start {
                self.stop(
                    Diagnostic::new(start.span, "this BEGIN ATOMIC body has no END")
                        .help("end the body with `END;`"),
                );
            }
        } else {
            self.finish(None);
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.split.diagnostics.push(diagnostic);
    }

    /// Reports, and gives up the statement and all after it.
    fn stop(&mut self, diagnostic: Diagnostic) {
        let statement = self.current.first().map(|t| t.span.start);
        self.split.stopped_at = Some(statement.unwrap_or(diagnostic.span.start));
        self.report(diagnostic);
        self.current.clear();
    }

    /// Ends the current statement; false where reading cannot go on.
    fn finish(&mut self, semicolon: Option<Span>) -> bool {
        if let Some(diagnostic) = self.copy_data() {
            self.stop(diagnostic);
            return false;
        }
        if let (Some(first), Some(last)) = (self.current.first(), self.current.last()) {
            self.split.statements.push(StatementText {
                span: first.span.to(last.span),
                semicolon,
            });
        }
        self.current.clear();
        true
    }

    /// False where nothing that is open fits.
    fn close(&mut self, token: Token) -> bool {
        let here = token.text(self.text);
        let diagnostic = match self.open.pop() {
            Some(open) if closer(open.kind) == here => {
                self.brackets -= usize::from(open.kind == TokenKind::LBracket);
                return true;
            }
            Some(open) => Diagnostic::new(
                token.span,
                format!("`{here}` closes `{}`", open.text(self.text)),
            )
            .also(open.span, "opened here"),
            None => Diagnostic::new(token.span, format!("`{here}` closes nothing")),
        };
        self.stop(diagnostic.help("make the parentheses and brackets of the statement match"));
        false
    }

    /// Follows `CREATE FUNCTION … BEGIN ATOMIC …; … END`. CASE and END are reserved, so they are
    /// names only after a dot or AS.
    fn word(&mut self, token: Token) {
        let Some(&previous) = self.current.last() else {
            return;
        };
        let is = |keyword| is_keyword(token, self.text, keyword);
        if is("ATOMIC") && is_keyword(previous, self.text, "BEGIN") && self.is_routine() {
            self.blocks += 1;
        } else if self.blocks > 0
            && previous.kind != TokenKind::Dot
            && !is_keyword(previous, self.text, "AS")
        {
            if is("CASE") {
                self.blocks += 1;
            } else if is("END") {
                self.blocks -= 1;
            }
        }
    }

    /// The statement begins with `CREATE [OR REPLACE] FUNCTION` or `PROCEDURE`.
    fn is_routine(&self) -> bool {
        let word = |at: usize, keyword| {
            self.current
                .get(at)
                .is_some_and(|t| is_keyword(*t, self.text, keyword))
        };
        let at = if word(1, "OR") && word(2, "REPLACE") {
            3
        } else {
            1
        };
        word(0, "CREATE") && (word(at, "FUNCTION") || word(at, "PROCEDURE"))
    }

    /// `COPY … FROM STDIN` and `COPY … TO STDOUT` need a client that sends and reads data.
    fn copy_data(&self) -> Option<Diagnostic> {
        let first = *self.current.first()?;
        if !is_keyword(first, self.text, "COPY") {
            return None;
        }
        let stream = self.current.windows(2).find_map(|pair| {
            let word = |at: usize, keyword| is_keyword(pair[at], self.text, keyword);
            let found =
                (word(0, "FROM") && word(1, "STDIN")) || (word(0, "TO") && word(1, "STDOUT"));
            found.then_some(pair[1])
        })?;
        Some(
            Diagnostic::new(
                first.span.to(stream.span),
                "COPY with data in the script is for psql, it is not SQL",
            )
            .help("write the rows as INSERT statements"),
        )
    }
}

fn closer(kind: TokenKind) -> &'static str {
    if kind == TokenKind::LParen { ")" } else { "]" }
}

/// Points at the opening only: the rest of the text is no help under a caret.
fn not_closed(token: Token, text: &str, what: &str) -> Diagnostic {
    let written = token.text(text);
    let after = |quote: char| written.find(quote).map_or(1, |i| i + 1);
    let (length, help) = match what {
        "block comment" => (
            2,
            "close it with `*/`; block comments nest, each `/*` needs its own".to_owned(),
        ),
        "quoted identifier" => (
            after('"'),
            "close it with `\"`; a quote inside is written twice: `\"\"`".to_owned(),
        ),
        "dollar-quoted string" => {
            let length = written[1..].find('$').map_or(1, |i| i + 2);
            (length, format!("close it with `{}`", &written[..length]))
        }
        _ => (
            after('\''),
            "close it with `'`; a quote inside is written twice: `''`".to_owned(),
        ),
    };
    let span = Span::new(token.span.start, token.span.start + length);
    Diagnostic::new(span, format!("this {what} is not closed"))
        .label("opened here")
        .help(help)
}

fn psql_command(token: Token, text: &str) -> Diagnostic {
    let written = token.text(text);
    let word = written.split_whitespace().next().unwrap_or("\\");
    let help = match word {
        "\\i" | "\\ir" | "\\include" | "\\include_relative" => {
            "put the SQL of that file into this migration"
        }
        "\\connect" | "\\c" => "name the database with --database-url",
        "\\." => "write the rows as INSERT statements",
        _ => "remove the line; a migration file holds SQL only",
    };
    let span = Span::new(token.span.start, token.span.start + word.len());
    Diagnostic::new(span, format!("`{word}` is a command of psql, not SQL")).help(help)
}

fn psql_variable(token: Token) -> Diagnostic {
    Diagnostic::new(token.span, "`:` is not SQL here")
        .help("variables of psql are not filled in: write the value; a cast is written `::`")
}

fn stray(token: Token, text: &str) -> Diagnostic {
    let written = token.text(text).escape_default();
    Diagnostic::new(token.span, format!("`{written}` is not SQL"))
        .help("placeholders and templates are not filled in: write the SQL as the server reads it")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Span {
        Span::new(0, text.len())
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found: Vec<&str> = split(text, whole(text))
            .expect("splits")
            .into_iter()
            .map(|s| s.span.of(text))
            .collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn error(text: &str) -> String {
        let d = split(text, whole(text)).expect_err("is refused");
        assert!(d.help.is_some());
        format!("{} @ {}", d.message, d.span.of(text))
    }

    #[test]
    fn splits_at_semicolons() {
        check("a; b ;;\n c", &["a", "b", "c"]);
        check(" -- x\n/* y */ a -- z\n; -- end", &["a"]);
        check("a /* ; */ b -- ;\n c;", &["a /* ; */ b -- ;\n c"]);
        check(
            "select ';', E'\\';', \";\", $$;$$, $x$;$$;$x$; b",
            &["select ';', E'\\';', \";\", $$;$$, $x$;$$;$x$", "b"],
        );
        check("", &[]);
        check("; -- nothing\n;", &[]);
    }

    #[test]
    fn keeps_a_rule_in_one_piece() {
        let rule = "CREATE RULE r AS ON INSERT TO t DO (DELETE FROM a; DELETE FROM b;)";
        check(&format!("{rule}; x"), &[rule, "x"]);
    }

    #[test]
    fn keeps_sql_bodies_in_one_piece() {
        let body = "create or replace function f(a int) returns int language sql
            begin atomic
              select case when a > 0 then case a when 1 then 2 end end;
              select u.end, u.case, 1 as end from u;
              select 1;
            end";
        check(&format!("{body};\nselect 1;"), &[body, "select 1"]);
        check("BEGIN ATOMIC; END; x", &["BEGIN ATOMIC", "END", "x"]);
        let quoted = "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$BEGIN ATOMIC; END$$";
        check(&format!("{quoted}; y"), &[quoted, "y"]);
        check(
            "CREATE FUNCTION f() RETURNS int RETURN 1; y",
            &["CREATE FUNCTION f() RETURNS int RETURN 1", "y"],
        );
    }

    #[test]
    fn takes_a_part_of_the_text() {
        let text = "skip 'it; a; b";
        let statements = split(text, Span::new(9, 14)).expect("splits");
        assert_eq!(statements.len(), 2);
        assert_eq!(statements[0].span, Span::new(10, 11));
        assert_eq!(statements[0].semicolon, Some(Span::new(11, 12)));
        assert_eq!(statements[1].semicolon, None);
        assert!(statements[1].encloses(99) && !statements[0].encloses(12));
    }

    #[test]
    fn what_is_not_closed_is_shown_at_its_opening() {
        insta::assert_snapshot!(error("a; select 'x; b"), @"this string is not closed @ '");
        insta::assert_snapshot!(error("select $fn$ $$ x;"), @"this dollar-quoted string is not closed @ $fn$");
        insta::assert_snapshot!(error("/* /* */ a"), @"this block comment is not closed @ /*");
        insta::assert_snapshot!(error("select U&\"a"), @r#"this quoted identifier is not closed @ U&""#);
        insta::assert_snapshot!(error("select (a; b; c"), @"this `(` is never closed @ (");
        insta::assert_snapshot!(error("select a)"), @"`)` closes nothing @ )");
        insta::assert_snapshot!(error("select a[(1]"), @"`]` closes `(` @ ]");
        insta::assert_snapshot!(error("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;"), @"this BEGIN ATOMIC body has no END @ ATOMIC");
    }

    #[test]
    fn psql_is_not_sql() {
        insta::assert_snapshot!(error("\\i other.sql\nselect 1;"), @r#"`\i` is a command of psql, not SQL @ \i"#);
        insta::assert_snapshot!(error("select 1 \\gexec"), @r#"`\gexec` is a command of psql, not SQL @ \gexec"#);
        insta::assert_snapshot!(error("COPY t (a) FROM stdin;\n1\t'\n\\."), @"COPY with data in the script is for psql, it is not SQL @ COPY t (a) FROM stdin");
        insta::assert_snapshot!(error("select :'x'"), @"`:` is not SQL here @ :");
        insta::assert_snapshot!(error("select ${x}"), @"`$` is not SQL @ $");
        check(
            "COPY t FROM '/x'; select a[1:2]",
            &["COPY t FROM '/x'", "select a[1:2]"],
        );
    }

    #[test]
    fn finds_several_errors() {
        let text = "\\set a 1\n\\set b 2\nselect 1; select 'x";
        let found = split_all(text, whole(text));
        assert_eq!(found.diagnostics.len(), 3);
        assert_eq!(found.statements.len(), 1);
        assert_eq!(found.stopped_at, Some(28));
    }

    proptest! {
        #[test]
        fn statements_are_in_order_and_hold_no_outer_semicolon(
            text in proptest::collection::vec(
                prop_oneof![
                    Just(";".to_owned()), Just("'".to_owned()), Just("$$".to_owned()),
                    Just("(".to_owned()), Just(")".to_owned()), Just("--".to_owned()),
                    Just("\n".to_owned()), Just("/*".to_owned()), Just("*/".to_owned()),
                    Just("CREATE FUNCTION f BEGIN ATOMIC ".to_owned()), Just(" END".to_owned()),
                    "[a-zé ]{0,4}", ".{0,2}",
                ],
                0..24,
            ).prop_map(|v| v.concat())
        ) {
            let found = split_all(&text, whole(&text));
            let mut end = 0;
            for statement in &found.statements {
                prop_assert!(statement.span.start >= end);
                prop_assert!(statement.span.end > statement.span.start);
                prop_assert_eq!(statement.span.of(&text).trim(), statement.span.of(&text));
                end = statement.semicolon.unwrap_or(statement.span).end;
            }
            // Splitting what was split gives the same.
            if found.diagnostics.is_empty() {
                for statement in &found.statements {
                    let again = split(&text, statement.span).expect("splits");
                    prop_assert_eq!(again.len(), 1);
                    prop_assert_eq!(again[0].span, statement.span);
                }
            }
        }
    }
}
