//! One directive: a line comment that begins with `-- pgshift:`.

use super::options::{self, suggest};
use super::{Allow, BackfillOptions, SectionKind};
use crate::sql::{Diagnostic, Span};

/// A word of a directive: `key`, `key=value` or `key="value"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arg {
    pub(super) key: String,
    /// Where the key is.
    pub(super) span: Span,
    /// The value, unquoted, and where it is.
    pub(super) value: Option<(String, Span)>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Section(SectionKind, BackfillOptions),
    Allow(Allow),
    Option(Vec<Arg>),
    /// Wrong, but surely not meant to begin a section.
    Nothing,
    /// Not understood; it may have been meant to begin a section.
    Broken,
}

#[derive(Debug)]
pub(super) struct Directive {
    /// The whole comment.
    pub(super) span: Span,
    /// The word that says what it is.
    pub(super) word: Span,
    pub(super) kind: Kind,
    pub(super) diagnostics: Vec<Diagnostic>,
}

const ALLOW: &str = "allow";
const OPTION: &str = "option";

/// All words that a directive can begin with.
fn names() -> Vec<&'static str> {
    let sections = SectionKind::NAMED.iter().map(|s| s.name());
    sections.chain([ALLOW, OPTION]).collect()
}

/// Reads the comment at `span`; `None` where it is no directive and does not look as if it were
/// meant to be one.
pub(super) fn read(text: &str, span: Span) -> Option<Directive> {
    let comment = span.of(text);
    let Some(body) = comment.strip_prefix("--") else {
        let inside = comment.trim_start_matches(['/', '*']).trim_start();
        return starts_directive(inside).then(|| {
            broken(
                span,
                Diagnostic::new(span, "a directive cannot be in a block comment")
                    .help("write it as a line comment: `-- pgshift: …`"),
            )
        });
    };
    let trimmed = body.trim_start();
    let start = span.end - trimmed.len();
    let Some(rest) = trimmed.strip_prefix("pgshift:") else {
        return near_miss(trimmed, start).map(|d| broken(span, d));
    };
    let line = text[..span.start].rfind('\n').map_or(0, |i| i + 1);
    if !text[line..span.start].trim().is_empty() {
        return Some(broken(
            span,
            Diagnostic::new(span, "a directive must be alone on its line")
                .help("move it to a line of its own, before what it is about"),
        ));
    }
    let (args, mut diagnostics) = args(text, Span::new(span.end - rest.len(), span.end));
    let Some((word, args)) = args.split_first() else {
        let here = Span::new(start, start + "pgshift:".len());
        return Some(broken(
            span,
            Diagnostic::new(here, "this directive says nothing")
                .help(format!("the directives are {}", names().join(", "))),
        ));
    };
    let mut directive = Directive {
        span,
        word: word.span,
        kind: Kind::Broken,
        diagnostics: Vec::new(),
    };
    let section = SectionKind::NAMED.iter().find(|s| s.name() == word.key);
    directive.kind = match (section, word.key.as_str()) {
        (Some(section), _) => section_options(*section, args, &mut diagnostics),
        (None, ALLOW) => allow(word, args, &mut diagnostics),
        (None, OPTION) => {
            if args.is_empty() && diagnostics.is_empty() {
                diagnostics.push(
                    Diagnostic::new(word.span, "`option` names no option")
                        .help("for example: `-- pgshift: option lock_timeout=2s`"),
                );
            }
            Kind::Option(args.to_vec())
        }
        (None, _) => {
            diagnostics.push(
                Diagnostic::new(word.span, format!("unknown directive `{}`", word.key))
                    .help(suggest(&word.key, &names(), "directives")),
            );
            Kind::Broken
        }
    };
    if let (Some((_, value)), false) = (
        &word.value,
        matches!(directive.kind, Kind::Broken | Kind::Nothing),
    ) {
        diagnostics.push(
            Diagnostic::new(*value, format!("`{}` takes no value", word.key))
                .help(format!("write `-- pgshift: {}`", word.key)),
        );
    }
    directive.diagnostics = diagnostics;
    Some(directive)
}

/// The `allow` in the comment at `span`, or what is wrong with it; `None` where it is none.
pub(crate) fn allow_at(text: &str, span: Span) -> Option<Result<Allow, Vec<Diagnostic>>> {
    let directive = read(text, span)?;
    let is_allow = directive.word.of(text) == ALLOW;
    match directive.kind {
        Kind::Allow(allow) if directive.diagnostics.is_empty() => Some(Ok(allow)),
        _ if is_allow && !directive.diagnostics.is_empty() => Some(Err(directive.diagnostics)),
        _ => None,
    }
}

fn broken(span: Span, diagnostic: Diagnostic) -> Directive {
    Directive {
        span,
        word: diagnostic.span,
        kind: Kind::Broken,
        diagnostics: vec![diagnostic],
    }
}

/// `pgshift:` in any case.
fn starts_directive(text: &str) -> bool {
    text.get(..8)
        .is_some_and(|head| head.eq_ignore_ascii_case("pgshift:"))
}

/// A comment that is almost a directive would silently change what the file means.
fn near_miss(text: &str, start: usize) -> Option<Diagnostic> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = words.first()?;
    let head = Span::new(start, start + 7);
    if starts_directive(text) {
        return Some(
            Diagnostic::new(head, "a directive begins with `pgshift:` in lower case")
                .help("write `-- pgshift: …`"),
        );
    }
    // `-- pgshift expand`, `-- pgshift : expand`
    let rest: Vec<&str> = words[1..].iter().copied().filter(|w| *w != ":").collect();
    let looks_so = name.eq_ignore_ascii_case("pgshift")
        && rest.first().is_some_and(|word| names().contains(word))
        && (words.get(1) == Some(&":") || rest.len() == 1 || rest.iter().any(|w| w.contains('=')));
    looks_so.then(|| {
        Diagnostic::new(head, "this looks like a directive, but is a mere comment").help(format!(
            "write `-- pgshift: {}`, or change the wording",
            rest.join(" ")
        ))
    })
}

fn section_options(section: SectionKind, args: &[Arg], diagnostics: &mut Vec<Diagnostic>) -> Kind {
    let mut options = BackfillOptions::default();
    let what = section.name();
    if section == SectionKind::Backfill {
        let mut seen = Vec::new();
        let found = options::apply(options::BACKFILL, args, what, &mut options, &mut seen);
        diagnostics.extend(found);
    } else if let Some(arg) = args.first() {
        diagnostics.push(
            Diagnostic::new(arg.span, format!("`{what}` takes no options"))
                .help(format!("write `-- pgshift: {what}` alone on its line")),
        );
    }
    Kind::Section(section, options)
}

fn allow(word: &Arg, args: &[Arg], diagnostics: &mut Vec<Diagnostic>) -> Kind {
    const EXAMPLE: &str = "write `-- pgshift: allow RULE reason=\"why it is safe here\"`";
    if !diagnostics.is_empty() {
        return Kind::Nothing;
    }
    let mut rule: Option<&Arg> = None;
    let mut reason: Option<&(String, Span)> = None;
    for arg in args {
        let wrong = match (&arg.value, arg.key.as_str()) {
            (None, "reason") => Some("`reason` has no value".to_owned()),
            (None, _) if rule.is_none() => {
                rule = Some(arg);
                None
            }
            (None, _) => Some("one rule for each `allow`".to_owned()),
            (Some(value), "reason") if reason.is_none() => {
                reason = Some(value);
                None
            }
            (Some(_), "reason") => Some("`reason` is given twice".to_owned()),
            (Some(_), key) => Some(format!("`allow` has no option `{key}`")),
        };
        if let Some(message) = wrong {
            diagnostics.push(Diagnostic::new(arg.span, message).help(EXAMPLE));
        }
    }
    if !diagnostics.is_empty() {
        return Kind::Nothing;
    }
    match (rule, reason) {
        (Some(rule), Some((reason, _))) if !reason.trim().is_empty() => Kind::Allow(Allow {
            rule: rule.key.clone(),
            reason: reason.trim().to_owned(),
            span: rule.span,
        }),
        (None, _) => {
            diagnostics.push(Diagnostic::new(word.span, "`allow` names no rule").help(EXAMPLE));
            Kind::Nothing
        }
        (Some(rule), reason) => {
            let span = reason.map_or(rule.span, |r| r.1);
            diagnostics.push(Diagnostic::new(span, "`allow` gives no reason").help(EXAMPLE));
            Kind::Nothing
        }
    }
}

/// Reads `key`, `key=value` and `key="value"`; `""` in a quoted value is a quote.
fn args(text: &str, span: Span) -> (Vec<Arg>, Vec<Diagnostic>) {
    let mut args = Vec::new();
    let mut at = span.start;
    let end = span.end;
    let until =
        |from: usize, stop: fn(char) -> bool| text[from..end].find(stop).map_or(end, |i| from + i);
    loop {
        at = until(at, |c| !c.is_whitespace());
        if at >= end {
            return (args, Vec::new());
        }
        let key_end = until(at, |c| c.is_whitespace() || c == '=');
        let key = Span::new(at, key_end);
        at = key_end;
        let mut value = None;
        if text[at..end].starts_with('=') {
            at += 1;
            if text[at..end].starts_with('"') {
                let Some(length) = quoted_length(&text[at..end]) else {
                    let quote = Span::new(at, at + 1);
                    let diagnostic = Diagnostic::new(quote, "this quote is not closed")
                        .help("close it with `\"` on the same line; a quote inside is `\"\"`");
                    return (args, vec![diagnostic]);
                };
                let quoted = Span::new(at, at + length);
                let inner = &text[at + 1..at + length - 1];
                value = Some((inner.replace("\"\"", "\""), quoted));
                at += length;
            } else {
                let value_end = until(at, char::is_whitespace);
                let bare = Span::new(at, value_end);
                // An empty value is no value.
                if value_end > at {
                    value = Some((bare.of(text).to_owned(), bare));
                }
                at = value_end;
            }
        }
        args.push(Arg {
            key: key.of(text).to_owned(),
            // `=x` has an empty key; point at the sign.
            span: if key.start == key.end {
                Span::new(key.start, key.start + 1)
            } else {
                key
            },
            value,
        });
    }
}

/// Bytes of the quoted text at the start, quotes included.
fn quoted_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' if bytes.get(at + 1) == Some(&b'"') => at += 2,
            b'"' => return Some(at + 1),
            _ => at += 1,
        }
    }
}
