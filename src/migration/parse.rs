//! Reading a migration file.

use sha2::{Digest, Sha256};

use super::directive::{self, Directive, Kind};
use super::{Allow, FileOptions, Migration, Section, SectionKind, Statement, options};
use crate::error::{Error, Result};
use crate::sql::lex::{TokenKind, lex, lex_code};
use crate::sql::split::{StatementText, split_all};
use crate::sql::{Diagnostic, Source, Span};

/// The longest id in bytes.
const MAX_ID: usize = 200;

/// Reads a migration from the bytes of its file. `name` is what messages call the file.
///
/// A UTF-8 byte order mark is dropped.
///
/// # Errors
/// As [`parse`]; text that is not UTF-8, with the line and the byte.
pub fn parse_bytes(id: &str, name: &str, bytes: &[u8]) -> Result<Migration> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let offset = e.valid_up_to();
        let line = bytes[..offset].split(|b| *b == b'\n').count();
        let utf16 = bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]);
        let what = if utf16 {
            "UTF-16, not UTF-8"
        } else {
            "not UTF-8"
        };
        Error::usage(format!(
            "{name} is {what}: byte 0x{:02X} at offset {offset}, line {line}",
            bytes[offset]
        ))
        .hint("save the file as UTF-8")
    })?;
    let source = Source::new(name, without_bom(text));
    parse(id, source.clone()).map_err(|diagnostics| Error::at(&source, diagnostics))
}

/// SHA-256 in hexadecimal of a file's text without a byte order mark and with line ends as LF,
/// so that a checkout with other line ends is the same migration.
pub fn checksum(text: &str) -> String {
    let digest = Sha256::digest(without_bom(text).replace("\r\n", "\n").as_bytes());
    digest.iter().fold(String::new(), |mut hex, byte| {
        use std::fmt::Write as _;
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn without_bom(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Checks that an id, the stem of a file's name, can be one: letters, digits, `_`, `.` and `-`
/// of ASCII, beginning with a letter, a digit or `_`; at most 200 bytes.
pub fn check_id(id: &str) -> Result<()> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let wrong = if id.is_empty() {
        "it is empty".to_owned()
    } else if id.len() > MAX_ID {
        format!("it has {} bytes, more than {MAX_ID}", id.len())
    } else if let Some(c) = id.chars().find(|c| !valid(*c)) {
        format!("`{}` cannot be in it", c.escape_debug())
    } else if id.starts_with(['-', '.']) {
        "it begins with `-` or `.`".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::usage(format!(
        "the file name `{id}` cannot be a migration's id: {wrong}"
    ))
    .hint("name the file like 20261123_orders_total_cents.sql"))
}

/// Reads a migration.
///
/// # Errors
/// Everything that is wrong in the file and can be told at once, in the order of the file; never
/// empty. Their places are in the text without a byte order mark.
pub fn parse(id: &str, source: Source) -> Result<Migration, Vec<Diagnostic>> {
    let source = match source.text().strip_prefix('\u{feff}') {
        Some(text) => Source::new(source.name(), text),
        None => source,
    };
    let text = source.text();
    if let Some(at) = text.find('\0') {
        return Err(vec![
            Diagnostic::new(Span::new(at, at + 1), "a zero byte cannot be in SQL")
                .help("remove it; is the file saved as UTF-8?"),
        ]);
    }
    let mut parser = Parser::new(text);
    if let Err(error) = check_id(id) {
        let help = error.what_next().unwrap_or_default();
        parser.report(Diagnostic::new(Span::default(), error.message()).help(help));
    }
    parser.run();
    let (sections, options, mut diagnostics) = parser.finish();
    if diagnostics.is_empty() {
        Ok(Migration {
            id: id.to_owned(),
            checksum: checksum(text),
            plain: sections
                .iter()
                .all(|s| matches!(s.kind, SectionKind::Plain | SectionKind::Revert)),
            options,
            sections,
            source,
        })
    } else {
        diagnostics.sort_by_key(|d| d.span.start);
        Err(diagnostics)
    }
}

struct Parser<'a> {
    text: &'a str,
    diagnostics: Vec<Diagnostic>,
    options: FileOptions,
    options_seen: Vec<(String, Span)>,
    sections: Vec<Section>,
    /// Allows that wait for their statement.
    allows: Vec<Allow>,
    /// A statement was met.
    any_statement: bool,
    /// A directive that may have begun a section was not understood: what follows is in a
    /// section that is not known, so its place is not judged.
    lost: bool,
    /// Something in the last section was not understood: it may look empty and not be.
    incomplete: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            diagnostics: Vec::new(),
            options: FileOptions::default(),
            options_seen: Vec::new(),
            sections: Vec::new(),
            allows: Vec::new(),
            any_statement: false,
            lost: false,
            incomplete: false,
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn run(&mut self) {
        let split = split_all(self.text, Span::new(0, self.text.len()));
        let end = split.stopped_at.unwrap_or(self.text.len());
        self.diagnostics.extend(split.diagnostics);
        let mut statements = split.statements.into_iter().peekable();
        let mut last: Option<StatementText> = None;
        let comments = lex(self.text)
            .into_iter()
            .filter(|t| t.kind == TokenKind::Comment && t.span.start < end);
        for comment in comments {
            let Some(directive) = directive::read(self.text, comment.span) else {
                continue;
            };
            while let Some(s) = statements.next_if(|s| s.span.start < comment.span.start) {
                self.statement(s);
                last = Some(s);
            }
            let around = last.filter(|s| s.encloses(comment.span.start));
            self.directive(directive, around);
        }
        for statement in statements {
            self.statement(statement);
        }
        self.lost |= end < self.text.len();
        self.end_section();
        if !self.any_statement && self.diagnostics.is_empty() {
            self.report(
                Diagnostic::new(Span::default(), "this migration has no statement")
                    .help("write its SQL, or remove the file"),
            );
        }
    }

    fn finish(self) -> (Vec<Section>, FileOptions, Vec<Diagnostic>) {
        (self.sections, self.options, self.diagnostics)
    }

    fn directive(&mut self, directive: Directive, around: Option<StatementText>) {
        let understood = directive.diagnostics.is_empty();
        self.diagnostics.extend(directive.diagnostics);
        if let Some(statement) = around
            && understood
        {
            let first = lex_code(statement.span.of(self.text));
            let first = first
                .first()
                .map_or(statement.span, |t| t.span.shift(statement.span.start));
            self.diagnostics.push(
                Diagnostic::new(directive.span, "this directive is inside a statement")
                    .also(first, "the statement begins here")
                    .help("end the statement before it with `;`, or move the directive out of it"),
            );
        }
        match directive.kind {
            Kind::Nothing => {}
            Kind::Broken => {
                self.lost = true;
                self.incomplete = true;
            }
            Kind::Section(kind, options) => {
                self.end_section();
                // Inside a statement its place says nothing.
                let of = match around {
                    Some(_) => None,
                    None => self.check_place(kind, directive.word),
                };
                self.sections.push(Section {
                    kind,
                    span: directive.span,
                    options,
                    statements: Vec::new(),
                    of,
                });
                self.lost = false;
                self.incomplete = around.is_some() || !understood;
            }
            Kind::Allow(allow) => {
                if let Some(first) = self.allows.iter().find(|a| a.rule == allow.rule) {
                    let diagnostic = Diagnostic::new(
                        allow.span,
                        format!("`{}` is allowed twice for one statement", allow.rule),
                    )
                    .also(first.span, "first here")
                    .help("keep one of them");
                    self.report(diagnostic);
                } else if around.is_none() {
                    self.allows.push(allow);
                }
            }
            Kind::Option(args) => {
                if self.any_statement && around.is_none() {
                    self.report(
                        Diagnostic::new(directive.word, "an option of the file comes too late")
                            .help("move it before the first statement"),
                    );
                }
                let found = options::of_file(&args, &mut self.options, &mut self.options_seen);
                self.diagnostics.extend(found);
            }
        }
    }

    /// Judges what is known only at the end of a section.
    fn end_section(&mut self) {
        for allow in std::mem::take(&mut self.allows) {
            if !self.lost {
                self.report(
                    Diagnostic::new(
                        allow.span,
                        "no statement follows this `allow` in its section",
                    )
                    .help("put it directly before the statement that it is about"),
                );
            }
        }
        if let Some(section) = self.sections.last()
            && section.statements.is_empty()
            && !self.lost
            && !self.incomplete
        {
            let diagnostic =
                Diagnostic::new(section.span, format!("section {} is empty", section.kind))
                    .help("write its statements, or remove the directive");
            self.report(diagnostic);
        }
    }

    /// Checks that a section may follow those before it; for a revert, gives what it reverts.
    fn check_place(&mut self, kind: SectionKind, word: Span) -> Option<SectionKind> {
        let last = self.sections.last();
        if kind == SectionKind::Revert {
            let of = last.map(|s| s.kind).filter(|k| {
                matches!(
                    k,
                    SectionKind::Plain | SectionKind::Expand | SectionKind::Contract
                )
            });
            if of.is_none() && !self.lost {
                let after = match last {
                    Some(section) => format!(", not {}", section.kind),
                    None => ", and there is nothing before it".to_owned(),
                };
                self.report(
                    Diagnostic::new(word, format!("revert follows what it takes back{after}"))
                        .help(
                            "put it directly after `expand` or `contract`, or at the end of a \
                             file without sections",
                        ),
                );
            }
            return of;
        }
        if let Some(plain) = self
            .sections
            .first()
            .filter(|s| s.kind == SectionKind::Plain)
        {
            // Said once, at the first section.
            let named = self
                .sections
                .iter()
                .any(|s| !matches!(s.kind, SectionKind::Plain | SectionKind::Revert));
            if !named && let Some(statement) = plain.statements.first() {
                let span = first_word(&statement.sql, statement.span);
                let diagnostic = Diagnostic::new(span, "this statement is before the first section")
                    .also(word, "the first section")
                    .help("in a file with sections, each statement is in one: begin with `-- pgshift: expand`");
                self.report(diagnostic);
            }
        }
        let rank = |k: SectionKind| SectionKind::NAMED.iter().position(|n| *n == k);
        let wrong = self
            .sections
            .iter()
            .filter(|s| !matches!(s.kind, SectionKind::Plain | SectionKind::Revert))
            .find(|s| {
                rank(s.kind) > rank(kind) || (s.kind == kind && kind != SectionKind::Backfill)
            });
        if let Some(other) = wrong {
            let diagnostic = if other.kind == kind {
                Diagnostic::new(word, format!("a second section {kind}"))
                    .also(other.span, "the first")
                    .help("put the statements into one section")
            } else {
                Diagnostic::new(word, format!("section {kind} is after {}", other.kind))
                    .also(other.span, format!("{} is here", other.kind))
                    .help("the order is expand, backfill, reverse, verify, contract")
            };
            self.report(diagnostic);
        }
        None
    }

    fn statement(&mut self, statement: StatementText) {
        self.any_statement = true;
        let sql = statement.span.of(self.text).to_owned();
        if self.sections.is_empty() && !self.lost {
            self.sections.push(Section {
                kind: SectionKind::Plain,
                span: Span::new(statement.span.start, statement.span.start),
                options: super::BackfillOptions::default(),
                statements: Vec::new(),
                of: None,
            });
        }
        let kind = match self.sections.last() {
            Some(section) if !self.lost => section.kind,
            _ => SectionKind::Plain,
        };
        if let Err(diagnostic) = super::statement::check(kind, &sql) {
            self.report(diagnostic.shift(statement.span.start));
        }
        let allows = std::mem::take(&mut self.allows);
        if let Some(section) = self.sections.last_mut() {
            section.statements.push(Statement {
                sql,
                span: statement.span,
                allows,
            });
        }
    }
}

/// The place of a statement's first word.
fn first_word(sql: &str, span: Span) -> Span {
    lex_code(sql)
        .first()
        .map_or(span, |t| t.span.shift(span.start))
}
