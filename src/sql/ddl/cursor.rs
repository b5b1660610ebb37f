//! A cursor over the tokens of one statement.

use super::RelName;
use crate::sql::lex::{Token, TokenKind, ident_value, is_keyword};
use crate::sql::source::Span;

/// A position in the tokens of a statement, comments left out. `Copy`, so a try that fails costs
/// nothing to take back.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str, tokens: &'a [Token]) -> Self {
        Self {
            text,
            tokens,
            at: 0,
        }
    }

    pub(super) fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub(super) fn kind(&self) -> Option<TokenKind> {
        self.ahead(0).map(|t| t.kind)
    }

    fn ahead(&self, n: usize) -> Option<Token> {
        self.tokens.get(self.at + n).copied()
    }

    /// The token before the cursor.
    pub(super) fn behind(&self) -> Option<Token> {
        self.at.checked_sub(1).map(|i| self.tokens[i])
    }

    /// True where the token before the cursor is the key word.
    pub(super) fn behind_is(&self, keyword: &str) -> bool {
        self.behind()
            .is_some_and(|t| is_keyword(t, self.text, keyword))
    }

    /// The token here, as written; empty at the end.
    pub(super) fn here(&self) -> &'a str {
        self.ahead(0).map_or("", |t| t.text(self.text))
    }

    pub(super) fn bump(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len());
    }

    /// True where the token `n` further on is the key word.
    pub(super) fn is_at(&self, n: usize, keyword: &str) -> bool {
        self.ahead(n)
            .is_some_and(|t| is_keyword(t, self.text, keyword))
    }

    pub(super) fn is(&self, keyword: &str) -> bool {
        self.is_at(0, keyword)
    }

    pub(super) fn is_any(&self, keywords: &[&str]) -> bool {
        keywords.iter().any(|k| self.is(k))
    }

    /// Steps over the key words, all of them or none. They are separated by one space.
    pub(super) fn eat(&mut self, keywords: &str) -> bool {
        let mut n = 0;
        for keyword in keywords.split(' ') {
            if !self.is_at(n, keyword) {
                return false;
            }
            n += 1;
        }
        self.at += n;
        true
    }

    pub(super) fn eat_kind(&mut self, kind: TokenKind) -> bool {
        let there = self.kind() == Some(kind);
        if there {
            self.bump();
        }
        there
    }

    /// Steps over one operator of this text.
    pub(super) fn eat_operator(&mut self, operator: &str) -> bool {
        let there = self.kind() == Some(TokenKind::Operator) && self.here() == operator;
        if there {
            self.bump();
        }
        there
    }

    /// An identifier: folded, unquoted, cut to 63 bytes as the server does. Any key word passes.
    pub(super) fn ident(&mut self) -> Option<String> {
        let value = ident_value(self.ahead(0)?, self.text)?;
        self.bump();
        Some(value)
    }

    /// `name`, `schema.name` or `database.schema.name`.
    pub(super) fn rel(&mut self) -> Option<RelName> {
        let mut name = self.ident()?;
        let mut schema = None;
        while self.kind() == Some(TokenKind::Dot) {
            self.bump();
            schema = Some(std::mem::replace(&mut name, self.ident()?));
        }
        Some(RelName { schema, name })
    }

    /// `rel, rel, …`
    pub(super) fn rels(&mut self) -> Option<Vec<RelName>> {
        let mut all = vec![self.rel()?];
        while self.eat_kind(TokenKind::Comma) {
            all.push(self.rel()?);
        }
        Some(all)
    }

    /// `(a, b, …)` of plain identifiers, as their values and the place of the whole. Anything
    /// else in the parentheses is left out of the values.
    pub(super) fn ident_list(&mut self) -> Option<(Vec<String>, Span)> {
        let mut inner = *self;
        let span = self.parens()?;
        inner.bump();
        let mut names = Vec::new();
        while inner.at + 1 < self.at {
            if let Some(name) = inner.ident() {
                names.push(name);
            }
            inner.skip_to(|c| c.kind() == Some(TokenKind::Comma) || c.at + 1 >= self.at);
            inner.bump();
        }
        Some((names, span))
    }

    /// Steps over a parenthesised group; `None` (and no step) where there is none or it is not
    /// closed.
    pub(super) fn parens(&mut self) -> Option<Span> {
        let first = self.ahead(0).filter(|t| t.kind == TokenKind::LParen)?;
        let mut depth = 0_usize;
        for (i, token) in self.tokens.iter().enumerate().skip(self.at) {
            match token.kind {
                TokenKind::LParen => depth += 1,
                TokenKind::RParen => {
                    depth -= 1;
                    if depth == 0 {
                        self.at = i + 1;
                        return Some(first.span.to(token.span));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Steps on, over whole groups, until `stop` or the end.
    pub(super) fn skip_to(&mut self, stop: impl Fn(&Self) -> bool) {
        while !self.done() && !stop(self) {
            if self.parens().is_none() && self.brackets().is_none() {
                self.bump();
            }
        }
    }

    fn brackets(&mut self) -> Option<()> {
        self.ahead(0).filter(|t| t.kind == TokenKind::LBracket)?;
        let mut depth = 0_usize;
        for (i, token) in self.tokens.iter().enumerate().skip(self.at) {
            match token.kind {
                TokenKind::LBracket => depth += 1,
                TokenKind::RBracket => {
                    depth -= 1;
                    if depth == 0 {
                        self.at = i + 1;
                        return Some(());
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Steps to the end.
    pub(super) fn finish(&mut self) {
        self.at = self.tokens.len();
    }

    /// Where the token here starts; at the end, where the last one ends.
    pub(super) fn offset(&self) -> usize {
        self.ahead(0)
            .map_or_else(|| self.end_behind(), |t| t.span.start)
    }

    /// Where the statement's first token starts.
    pub(super) fn start_of_all(&self) -> usize {
        self.tokens.first().map_or(0, |t| t.span.start)
    }

    /// Where the token before the cursor ends.
    pub(super) fn end_behind(&self) -> usize {
        self.behind().map_or(0, |t| t.span.end)
    }

    /// From `start` to the end of the token before the cursor.
    pub(super) fn span_from(&self, start: usize) -> Span {
        Span::new(start, self.end_behind().max(start))
    }

    /// The author's text of a span.
    pub(super) fn text_of(&self, span: Span) -> &'a str {
        &self.text[span.start..span.end]
    }

    /// What is left, cut at the commas that are in no group.
    pub(super) fn split_commas(mut self) -> Vec<Self> {
        let mut parts = Vec::new();
        loop {
            let start = self.at;
            self.skip_to(|c| c.kind() == Some(TokenKind::Comma));
            parts.push(Self {
                text: self.text,
                tokens: &self.tokens[..self.at],
                at: start,
            });
            if self.done() {
                return parts;
            }
            self.bump();
        }
    }

    /// What is in the parenthesised group here, as a cursor of its own, and steps over it.
    pub(super) fn group(&mut self) -> Option<Self> {
        let start = self.at + 1;
        self.parens()?;
        Some(Self {
            text: self.text,
            tokens: &self.tokens[..self.at - 1],
            at: start,
        })
    }

    /// The key words ahead, in upper case, at most `n`, for messages.
    pub(super) fn leading(&self, n: usize) -> String {
        let words: Vec<String> = self.tokens[self.at.min(self.tokens.len())..]
            .iter()
            .take(n)
            .take_while(|t| t.kind == TokenKind::Word)
            .map(|t| t.text(self.text).to_ascii_uppercase())
            .collect();
        words.join(" ")
    }
}
