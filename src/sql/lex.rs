//! The lexer: PostgreSQL's tokens, with their places.
//!
//! Follows "Lexical Structure" (section 4.1) of the PostgreSQL documentation and the rules of
//! `scan.l` with `standard_conforming_strings = on`. It never fails: what cannot be a token is
//! [`TokenKind::Stray`], what is not closed is [`TokenKind::Unterminated`].

use super::source::Span;

/// What a [`Token`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// An unquoted identifier or a key word.
    Word,
    /// `"…"` or `U&"…"`.
    QuotedIdent,
    /// `'…'`, `E'…'`, `U&'…'`, `B'…'`, `X'…'` or `N'…'`, prefix included. The segments of a
    /// string that is continued over a line break are tokens of their own.
    String,
    /// `$$…$$` or `$tag$…$tag$`.
    DollarString,
    /// A numeric constant, without sign.
    Number,
    /// `$1`.
    Param,
    /// `-- …` without the line break, or `/* … */`, nested ones included.
    Comment,
    /// An operator, also `::`, `:=`, `:` and `..`.
    Operator,
    /// `(`
    LParen,
    /// `)`
    RParen,
    /// `[`
    LBracket,
    /// `]`
    RBracket,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
    /// `.`
    Dot,
    /// A backslash outside quotes and the rest of its line: a meta-command of psql, not SQL.
    PsqlCommand,
    /// A string, quoted identifier or block comment that is not closed: from its opening to the
    /// end of the text.
    Unterminated,
    /// A character that cannot start a token.
    Stray,
}

/// A token and its place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Where it is.
    pub span: Span,
}

impl Token {
    /// The token as written. `text` is the text that was lexed.
    pub fn text(self, text: &str) -> &str {
        self.span.of(text)
    }

    /// What an [`TokenKind::Unterminated`] token is that is not closed, for messages.
    pub fn unterminated_what(self, text: &str) -> &'static str {
        match self.text(text).as_bytes() {
            [b'/', ..] => "block comment",
            [b'"', ..] | [_, b'&', b'"', ..] => "quoted identifier",
            [b'$', ..] => "dollar-quoted string",
            _ => "string",
        }
    }
}

/// All tokens of `text`, in order; what is between them is white space.
pub fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        at: 0,
        run: Run::default(),
    };
    let mut tokens = Vec::new();
    // `E'a'` <line break> `'b\'c'` is one string constant, and backslashes escape in all of it.
    let mut escapes_from: Option<usize> = None;
    loop {
        lexer.skip_space();
        let start = lexer.at;
        if start >= text.len() {
            return tokens;
        }
        let continues = lexer.bytes[start] == b'\''
            && escapes_from.is_some_and(|end| text[end..start].contains(['\n', '\r']));
        let kind = if continues {
            lexer.string(start, true)
        } else {
            lexer.token()
        };
        let span = Span::new(start, lexer.at);
        let line_comment = kind == TokenKind::Comment && lexer.bytes[start] == b'-';
        if kind == TokenKind::String && (continues || matches!(lexer.bytes[start], b'e' | b'E')) {
            escapes_from = Some(span.end);
        } else if !line_comment {
            escapes_from = None;
        }
        tokens.push(Token { kind, span });
    }
}

/// The tokens of `text` without its comments.
pub fn lex_code(text: &str) -> Vec<Token> {
    let mut tokens = lex(text);
    tokens.retain(|t| t.kind != TokenKind::Comment);
    tokens
}

/// The first token that is not a comment.
fn first_code(text: &str) -> Option<Token> {
    let mut lexer = Lexer {
        text,
        bytes: text.as_bytes(),
        at: 0,
        run: Run::default(),
    };
    loop {
        lexer.skip_space();
        let start = lexer.at;
        if start >= text.len() {
            return None;
        }
        let kind = lexer.token();
        if kind != TokenKind::Comment {
            let span = Span::new(start, lexer.at);
            return Some(Token { kind, span });
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    run: Run,
}

/// Characters of operators that stand together, looked at once: `+-+-+-…` is as many operators.
#[derive(Default)]
struct Run {
    /// One past its last.
    end: usize,
    /// Where the `+` and `-` at its end begin.
    tail: usize,
    /// One past the last character that standard SQL does not use in operators; 0 for none.
    special: usize,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Every byte of a non-ASCII character may be in an identifier.
fn is_word_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn is_word_part(byte: u8) -> bool {
    is_word_start(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn rest_starts_with(&self, prefix: &[u8]) -> bool {
        self.bytes[self.at..].starts_with(prefix)
    }

    fn skip_while(&mut self, accept: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&accept) {
            self.at += 1;
        }
    }

    fn skip_space(&mut self) {
        self.skip_while(is_space);
    }

    fn unterminated(&mut self) -> TokenKind {
        self.at = self.bytes.len();
        TokenKind::Unterminated
    }

    /// Reads one token; the lexer stands on its first byte.
    fn token(&mut self) -> TokenKind {
        let byte = self.bytes[self.at];
        match byte {
            b'-' if self.peek(1) == Some(b'-') => self.line_comment(),
            b'/' if self.peek(1) == Some(b'*') => self.block_comment(),
            b'\'' => self.string(self.at, false),
            b'"' => self.quoted_ident(self.at),
            b'e' | b'E' if self.peek(1) == Some(b'\'') => self.string(self.at + 1, true),
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if self.peek(1) == Some(b'\'') => {
                self.string(self.at + 1, false)
            }
            b'u' | b'U' if self.peek(1) == Some(b'&') && self.peek(2) == Some(b'\'') => {
                self.string(self.at + 2, false)
            }
            b'u' | b'U' if self.peek(1) == Some(b'&') && self.peek(2) == Some(b'"') => {
                self.quoted_ident(self.at + 2)
            }
            b'$' => self.dollar(),
            b'0'..=b'9' => self.number(),
            b'.' if self.peek(1).is_some_and(|b| b.is_ascii_digit()) => self.number(),
            b'.' if self.peek(1) == Some(b'.') => self.take(2, TokenKind::Operator),
            b'.' => self.take(1, TokenKind::Dot),
            b':' if matches!(self.peek(1), Some(b':' | b'=')) => self.take(2, TokenKind::Operator),
            b':' => self.take(1, TokenKind::Operator),
            b'(' => self.take(1, TokenKind::LParen),
            b')' => self.take(1, TokenKind::RParen),
            b'[' => self.take(1, TokenKind::LBracket),
            b']' => self.take(1, TokenKind::RBracket),
            b',' => self.take(1, TokenKind::Comma),
            b';' => self.take(1, TokenKind::Semicolon),
            b'\\' => self.psql_command(),
            _ if is_word_start(byte) => {
                self.skip_while(is_word_part);
                TokenKind::Word
            }
            _ if is_operator(byte) => self.operator(),
            // Only ASCII gets here, so one byte is one character.
            _ => self.take(1, TokenKind::Stray),
        }
    }

    fn take(&mut self, length: usize, kind: TokenKind) -> TokenKind {
        self.at += length;
        kind
    }

    fn line_comment(&mut self) -> TokenKind {
        self.skip_while(|b| !matches!(b, b'\n' | b'\r'));
        TokenKind::Comment
    }

    fn block_comment(&mut self) -> TokenKind {
        let mut depth = 0_usize;
        while self.at < self.bytes.len() {
            if self.rest_starts_with(b"/*") {
                depth += 1;
                self.at += 2;
            } else if self.rest_starts_with(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return TokenKind::Comment;
                }
            } else {
                self.at += 1;
            }
        }
        self.unterminated()
    }

    /// A string whose opening quote is at `quote`.
    fn string(&mut self, quote: usize, escapes: bool) -> TokenKind {
        self.at = quote + 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\'' if self.peek(1) == Some(b'\'') => self.at += 2,
                b'\'' => return self.take(1, TokenKind::String),
                b'\\' if escapes => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.unterminated()
    }

    /// A quoted identifier whose opening quote is at `quote`.
    fn quoted_ident(&mut self, quote: usize) -> TokenKind {
        self.at = quote + 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'"' if self.peek(1) == Some(b'"') => self.at += 2,
                b'"' => return self.take(1, TokenKind::QuotedIdent),
                _ => self.at += 1,
            }
        }
        self.unterminated()
    }

    fn dollar(&mut self) -> TokenKind {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(|b| b.is_ascii_digit()) {
            self.skip_while(|b| b.is_ascii_digit());
            return TokenKind::Param;
        }
        // A tag is an identifier without dollar signs.
        self.skip_while(|b| is_word_part(b) && b != b'$');
        if self.peek(0) != Some(b'$') {
            self.at = start + 1;
            return TokenKind::Stray;
        }
        self.at += 1;
        let delimiter = &self.text[start..self.at];
        if let Some(offset) = self.text[self.at..].find(delimiter) {
            return self.take(offset + delimiter.len(), TokenKind::DollarString);
        }
        self.unterminated()
    }

    /// Digits with single underscores between them (PostgreSQL 16).
    fn digits(&mut self, digit: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&digit)
            || (self.peek(0) == Some(b'_') && self.peek(1).is_some_and(&digit))
        {
            self.at += 1;
        }
    }

    fn number(&mut self) -> TokenKind {
        let decimal = |b: u8| b.is_ascii_digit();
        if self.peek(0) == Some(b'0') {
            let radix: Option<fn(u8) -> bool> = match self.peek(1) {
                Some(b'x' | b'X') => Some(|b| b.is_ascii_hexdigit()),
                Some(b'o' | b'O') => Some(|b| matches!(b, b'0'..=b'7')),
                Some(b'b' | b'B') => Some(|b| matches!(b, b'0' | b'1')),
                _ => None,
            };
            if let Some(digit) = radix {
                let start = self.at;
                self.at += 2;
                self.digits(digit);
                if self.at > start + 2 {
                    return TokenKind::Number;
                }
                self.at = start;
            }
        }
        self.digits(decimal);
        // `1..10` is `1`, `..`, `10`.
        if self.peek(0) == Some(b'.') && self.peek(1) != Some(b'.') {
            self.at += 1;
            if self.peek(0).is_some_and(decimal) {
                self.digits(decimal);
            }
        }
        if matches!(self.peek(0), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(self.peek(1), Some(b'+' | b'-')));
            if self.peek(1 + sign).is_some_and(decimal) {
                self.at += 1 + sign;
                self.digits(decimal);
            }
        }
        TokenKind::Number
    }

    /// `scan.l`: an operator ends before a comment, and one of several characters ends in `+` or
    /// `-` only if it has a character that standard SQL does not use in operators.
    fn operator(&mut self) -> TokenKind {
        let start = self.at;
        if start >= self.run.end {
            self.run = self.operator_run();
        }
        let run = &self.run;
        self.at = if run.special > start {
            run.end
        } else {
            run.tail.max(start + 1)
        };
        TokenKind::Operator
    }

    fn operator_run(&self) -> Run {
        let start = self.at;
        let mut run = Run {
            end: start,
            tail: start,
            special: 0,
        };
        while let Some(&byte) = self.bytes.get(run.end)
            && is_operator(byte)
        {
            let rest = &self.bytes[run.end..];
            if rest.starts_with(b"--") || rest.starts_with(b"/*") {
                break;
            }
            run.end += 1;
            if !matches!(byte, b'+' | b'-') {
                run.tail = run.end;
            }
            if b"~!@#^&|`?%".contains(&byte) {
                run.special = run.end;
            }
        }
        run
    }

    fn psql_command(&mut self) -> TokenKind {
        let start = self.at;
        self.line_comment();
        while self.at > start + 1 && is_space(self.bytes[self.at - 1]) {
            self.at -= 1;
        }
        TokenKind::PsqlCommand
    }
}

/// The longest identifier in bytes: `NAMEDATALEN - 1` of a PostgreSQL built as usual.
pub const MAX_IDENT: usize = 63;

/// The name that an identifier means, as it is in the catalog: an unquoted one folded to lower
/// case (ASCII only, as the server does in UTF-8), a quoted one unescaped, both cut at
/// [`MAX_IDENT`] bytes.
///
/// `None` where the token is not an identifier, or is a `U&"…"` with an invalid escape or an own
/// escape character (`UESCAPE`).
pub fn ident_value(token: Token, text: &str) -> Option<String> {
    let written = token.text(text);
    let mut value = match token.kind {
        TokenKind::Word => written.to_ascii_lowercase(),
        TokenKind::QuotedIdent if written.starts_with('"') => unquote(written),
        TokenKind::QuotedIdent => {
            let after = &text[token.span.end..];
            if first_code(after).is_some_and(|t| is_keyword(t, after, "uescape")) {
                return None;
            }
            unescape_unicode(&unquote(&written[2..]))?
        }
        _ => return None,
    };
    if value.len() > MAX_IDENT {
        value.truncate(floor_char_boundary(&value, MAX_IDENT));
    }
    Some(value)
}

fn unquote(written: &str) -> String {
    written[1..written.len() - 1].replace("\"\"", "\"")
}

/// The greatest character boundary that is at most `at`.
pub(super) fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// `\XXXX`, `\+XXXXXX` and `\\`, surrogate pairs joined (section 4.1.2.3).
fn unescape_unicode(escaped: &str) -> Option<String> {
    let mut units: Vec<u16> = Vec::new();
    let mut rest = escaped;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let mut point = c;
        if c == '\\' {
            if let Some(after) = rest.strip_prefix('\\') {
                rest = after;
            } else {
                let (digits, length) = match rest.strip_prefix('+') {
                    Some(after) => (after, 6),
                    None => (rest, 4),
                };
                let hex = digits.get(..length)?;
                if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                rest = &digits[length..];
                let code = u32::from_str_radix(hex, 16).ok()?;
                if code == 0 {
                    return None;
                }
                if let Ok(unit @ 0xD800..=0xDFFF) = u16::try_from(code) {
                    units.push(unit);
                    continue;
                }
                point = char::from_u32(code)?;
            }
        }
        units.extend_from_slice(point.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).ok()
}

/// True where the token is this key word, in any case. A quoted identifier is never one.
pub fn is_keyword(token: Token, text: &str, keyword: &str) -> bool {
    token.kind == TokenKind::Word && token.text(text).eq_ignore_ascii_case(keyword)
}

#[cfg(test)]
mod tests;
