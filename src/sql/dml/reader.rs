//! A cursor over the tokens of one statement that knows which of them are outermost.

use std::ops::Range;

use super::Piece;
use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword, lex_code};
use crate::sql::source::{Diagnostic, Span};

/// Reserved words that, outermost, can only begin a clause that we do not take. WITH and GROUP
/// are not among them: `timestamp with time zone`, `WITHIN GROUP (…)`.
const NEVER_OUTERMOST: &[&str] = &[
    "RETURNING",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "FOR",
    "SELECT",
];

/// An error with its way out.
pub(super) fn refuse(
    span: Span,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Diagnostic {
    Diagnostic::new(span, message).help(help)
}

pub(super) struct Reader<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// How many parentheses, brackets and CASEs each token is in.
    depth: Vec<usize>,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads the tokens of `text`, which should be one `statement`.
    pub(super) fn new(text: &'a str, statement: &str) -> Result<Self, Diagnostic> {
        let tokens = lex_code(text);
        if let Some(first) = tokens.first()
            && is_keyword(*first, text, "WITH")
        {
            return Err(refuse(
                first.span,
                format!("WITH before {statement} is not taken"),
                "put the query into the statement: `… FROM (SELECT …) AS x WHERE …`, or an EXISTS",
            ));
        }
        let depth = depths(text, &tokens)?;
        let reader = Self {
            text,
            tokens,
            depth,
            at: 0,
        };
        if let Some(i) = (0..reader.tokens.len())
            .find(|i| NEVER_OUTERMOST.iter().any(|k| reader.is_outermost(*i, k)))
        {
            return Err(reader.never_outermost(i, statement));
        }
        Ok(reader)
    }

    fn never_outermost(&self, i: usize, statement: &str) -> Diagnostic {
        let token = self.tokens[i];
        let word = token.text(self.text).to_ascii_uppercase();
        let help = match word.as_str() {
            "RETURNING" => "remove it: nothing reads the rows",
            "ORDER" | "LIMIT" | "OFFSET" | "FETCH" => {
                "remove it: pgshift makes the batches and chooses their order"
            }
            _ => "remove it, or put it into a subquery in parentheses",
        };
        refuse(
            token.span,
            format!("{word} cannot be in this {statement}"),
            help,
        )
    }

    /// The place of the next token, or the end of the text.
    pub(super) fn here(&self) -> Span {
        self.tokens
            .get(self.at)
            .map_or(Span::new(self.text.len(), self.text.len()), |t| t.span)
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn at_kind(&self, kind: TokenKind) -> bool {
        self.tokens.get(self.at).is_some_and(|t| t.kind == kind)
    }

    pub(super) fn at_text(&self, text: &str) -> bool {
        self.tokens
            .get(self.at)
            .is_some_and(|t| t.text(self.text) == text)
    }

    pub(super) fn at_ident(&self) -> bool {
        self.at_kind(TokenKind::Word) || self.at_kind(TokenKind::QuotedIdent)
    }

    pub(super) fn at_keyword(&self, keyword: &str) -> bool {
        self.word_is(self.at, keyword)
    }

    pub(super) fn next_is_keyword(&self, keyword: &str) -> bool {
        self.word_is(self.at + 1, keyword)
    }

    fn word_is(&self, i: usize, keyword: &str) -> bool {
        self.tokens
            .get(i)
            .is_some_and(|t| is_keyword(*t, self.text, keyword))
    }

    pub(super) fn eat(&mut self, kind: TokenKind) -> bool {
        let found = self.at_kind(kind);
        self.at += usize::from(found);
        found
    }

    pub(super) fn eat_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_keyword(&mut self, keyword: &str) -> Result<(), Diagnostic> {
        if self.eat_keyword(keyword) {
            Ok(())
        } else {
            Err(self.expected(keyword))
        }
    }

    /// An error that says what should be at the next token.
    pub(super) fn expected(&self, what: &str) -> Diagnostic {
        let found = match self.tokens.get(self.at) {
            Some(token) => format!("found `{}`", token.text(self.text)),
            None => "but the statement ends".to_owned(),
        };
        refuse(
            self.here(),
            format!("expected {what}, {found}"),
            "see UPDATE and DELETE in the PostgreSQL documentation",
        )
    }

    /// Takes an identifier.
    pub(super) fn ident(&mut self, what: &str) -> Result<(String, Span), Diagnostic> {
        let Some(token) = self.tokens.get(self.at).filter(|_| self.at_ident()) else {
            return Err(self.expected(what));
        };
        let Some(name) = ident_value(*token, self.text) else {
            return Err(refuse(
                token.span,
                "this identifier cannot be read",
                "write it without UESCAPE and with valid escapes",
            ));
        };
        let span = token.span;
        self.at += 1;
        Ok((name, span))
    }

    /// The token is outermost and is this key word, or this text if it is not a word. A word
    /// after a dot or AS is a name; in `IS DISTINCT FROM` the FROM begins nothing.
    fn is_outermost(&self, i: usize, word: &str) -> bool {
        if self.depth[i] > 0 {
            return false;
        }
        let token = self.tokens[i];
        if token.kind != TokenKind::Word {
            return token.text(self.text) == word;
        }
        let after = |keyword| i > 0 && self.word_is(i - 1, keyword);
        is_keyword(token, self.text, word)
            && (i == 0 || self.tokens[i - 1].kind != TokenKind::Dot)
            && !after("AS")
            && !(word == "FROM" && after("DISTINCT"))
    }

    fn piece(&self, tokens: Range<usize>) -> Option<Piece> {
        let tokens = &self.tokens[tokens];
        let span = tokens.first()?.span.to(tokens.last()?.span);
        Some(Piece {
            text: span.of(self.text).to_owned(),
            span,
        })
    }

    /// Takes everything up to the first outermost of `stops`; an error where that is nothing.
    pub(super) fn piece_until(&mut self, stops: &[&str], after: &str) -> Result<Piece, Diagnostic> {
        let start = self.at;
        let end = (start..self.tokens.len())
            .find(|i| stops.iter().any(|stop| self.is_outermost(*i, stop)))
            .unwrap_or(self.tokens.len());
        self.at = end;
        self.piece(start..end).ok_or_else(|| {
            refuse(
                self.here(),
                format!("nothing follows {after}"),
                "write an expression here",
            )
        })
    }

    /// The operands of the outermost ANDs of the rest; takes nothing.
    pub(super) fn conjuncts(&self) -> Result<Vec<Piece>, Diagnostic> {
        let rest = self.at..self.tokens.len();
        if let Some(extra) = rest
            .clone()
            .find(|i| self.is_outermost(*i, "FROM") || self.is_outermost(*i, "WHERE"))
        {
            let token = self.tokens[extra];
            return Err(refuse(
                token.span,
                format!("{} after WHERE", token.text(self.text).to_ascii_uppercase()),
                "WHERE is the last clause, and there is one of it",
            ));
        }
        if rest.clone().any(|i| self.is_outermost(i, "OR")) {
            return Ok(self.piece(rest).into_iter().collect());
        }
        let mut conjuncts = Vec::new();
        let mut start = rest.start;
        let mut betweens = 0_usize;
        for i in rest.clone() {
            if self.is_outermost(i, "BETWEEN") {
                betweens += 1;
            } else if self.is_outermost(i, "AND") {
                if betweens > 0 {
                    betweens -= 1;
                } else {
                    conjuncts.push(self.operand(start..i, i)?);
                    start = i + 1;
                }
            }
        }
        // An empty WHERE is said by the caller.
        if start > rest.start || start < rest.end {
            conjuncts.push(self.operand(start..rest.end, start.saturating_sub(1))?);
        }
        Ok(conjuncts)
    }

    fn operand(&self, tokens: Range<usize>, and: usize) -> Result<Piece, Diagnostic> {
        self.piece(tokens).ok_or_else(|| {
            refuse(
                self.tokens[and].span,
                "AND has no operand on one side",
                "write a condition on both sides",
            )
        })
    }
}

/// How deep each token is; an opening and its closing are as deep as what is around them. Also
/// refuses what is not the text of one statement.
fn depths(text: &str, tokens: &[Token]) -> Result<Vec<usize>, Diagnostic> {
    // The tokens that are open and what closes them.
    let mut open: Vec<(Token, &str)> = Vec::new();
    let mut depths = Vec::with_capacity(tokens.len());
    for (i, &token) in tokens.iter().enumerate() {
        let is_name = i > 0
            && (tokens[i - 1].kind == TokenKind::Dot || is_keyword(tokens[i - 1], text, "AS"));
        let word = |keyword| !is_name && is_keyword(token, text, keyword);
        let mut depth = open.len();
        match token.kind {
            TokenKind::LParen => open.push((token, ")")),
            TokenKind::LBracket => open.push((token, "]")),
            TokenKind::Word if word("CASE") => open.push((token, "END")),
            // END without CASE can be a label: `SELECT 1 end`.
            TokenKind::Word if word("END") && open.last().is_some_and(|o| o.1 == "END") => {
                open.pop();
                depth -= 1;
            }
            TokenKind::RParen | TokenKind::RBracket => {
                if open.pop().is_none_or(|o| o.1 != token.text(text)) {
                    return Err(refuse(
                        token.span,
                        format!("`{}` closes nothing", token.text(text)),
                        "make parentheses, brackets and CASE … END match",
                    ));
                }
                depth -= 1;
            }
            TokenKind::Semicolon => {
                return Err(refuse(
                    token.span,
                    "`;` inside a statement",
                    "write one statement",
                ));
            }
            TokenKind::Unterminated | TokenKind::Stray | TokenKind::PsqlCommand => {
                return Err(refuse(
                    token.span,
                    "this is not SQL",
                    "close what is open and write the SQL as the server reads it",
                ));
            }
            _ => {}
        }
        depths.push(depth);
    }
    if let Some((token, closer)) = open.first() {
        return Err(refuse(
            token.span,
            format!("`{}` is never closed", token.text(text)),
            format!("add the `{closer}`"),
        ));
    }
    Ok(depths)
}
