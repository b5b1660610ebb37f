//! Errors for people and for programs: what was wrong, where, what was left as it was, and what
//! to do next.

use std::error::Error as _;
use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet, Title};
use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::error::Error;
use crate::report::text::{Style, WIDTH, hanging, is_unsafe, line, redact};
use crate::sql::{Diagnostic, Source, Span};

/// Causes that are shown; a longer chain says nothing more.
const CAUSES: usize = 5;

/// Places of an error that are shown; who mends these sees the next ones.
const PLACES: usize = 50;

/// Bytes of a source line that are shown around a place; a migration may be one line of megabytes.
const LINE: usize = 400;

/// An error for people, ending in a newline.
pub fn render(error: &Error, color: bool) -> String {
    let style = Style {
        color,
        verbose: false,
    };
    let message = safe(error.message());
    let mut text = String::new();
    match error.places() {
        Some((source, places)) if !places.is_empty() => {
            let mut places = places.iter().peekable();
            // The error's message may say more than the place's (a context before it).
            if let Some(first) = places.next_if(|p| message.ends_with(&safe(&p.message))) {
                text.push_str(&snippet(source, first, &message, color));
            } else {
                let _ = writeln!(text, "{}: {}", style.bad("error"), style.bold(&message));
            }
            for place in places.by_ref().take(PLACES) {
                text.push_str(&snippet(source, place, &safe(&place.message), color));
            }
            let more = places.count();
            if more > 0 {
                let _ = writeln!(text, "  … and {more} more places");
            }
        }
        _ => {
            let _ = writeln!(text, "{}: {}", style.bad("error"), style.bold(&message));
        }
    }
    for cause in causes(error) {
        text.push_str(&hanging("  cause: ", &cause));
    }
    if let Some(code) = error.sqlstate() {
        let _ = writeln!(text, "  SQLSTATE {}", line(code));
    }
    if let Some(left) = error.what_was_left() {
        text.push_str(&hanging("  left as it was: ", &safe(left)));
    }
    if let Some(next) = error.what_next() {
        text.push_str(&hanging("  next: ", &safe(next)));
    }
    text
}

/// An error for programs; a documented shape.
pub fn render_json(error: &Error) -> Value {
    let places: Vec<Value> = error.places().map_or_else(Vec::new, |(source, places)| {
        places
            .iter()
            .map(|place| {
                let (line, column) = source.line_column(place.span.start);
                json!({
                    "file": source.name(),
                    "line": line,
                    "column": column,
                    "message": redact(&place.message),
                    "help": place.help.as_deref().map(redact),
                })
            })
            .collect()
    });
    let exit = Exit::from(error.kind());
    json!({
        "error": {
            "kind": exit.name(),
            "message": redact(error.message()),
            "sqlstate": error.sqlstate(),
            "places": places,
            "causes": causes(error),
            "left": error.what_was_left().map(redact),
            "next": error.what_next().map(redact),
            "exit_code": exit.code(),
        }
    })
}

pub(super) fn safe(text: &str) -> String {
    line(&redact(text))
}

/// The chain of causes, without those that an error before has already quoted.
fn causes(error: &Error) -> Vec<String> {
    // Of a server's error the message says all; the driver's own wording adds nothing.
    let driver = |text: &str| {
        error.sqlstate().is_some()
            && (text == "db error"
                || ["ERROR: ", "FATAL: ", "PANIC: "]
                    .iter()
                    .any(|s| text.starts_with(s)))
    };
    let mut said = safe(error.message());
    let mut all = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = safe(&cause.to_string());
        if !text.is_empty() && !driver(&text) && !said.contains(&text) && all.len() < CAUSES {
            said.push('\n');
            said.push_str(&text);
            all.push(text);
        }
        next = cause.source();
    }
    all
}

/// One place with its lines of the source, the caret, further labels and help.
fn snippet(source: &Source, place: &Diagnostic, title: &str, color: bool) -> String {
    titled(source, place, Level::ERROR.primary_title(title), color)
}

/// A place under any title.
pub(super) fn titled(source: &Source, place: &Diagnostic, title: Title<'_>, color: bool) -> String {
    let label = safe(&place.label);
    let also: Vec<(Span, String)> = place
        .also
        .iter()
        .map(|other| (other.span, safe(&other.text)))
        .collect();
    let spans = std::iter::once(place.span).chain(also.iter().map(|(span, _)| *span));
    let excerpt = Excerpt::of(source, spans.collect());
    let name = line(source.name());

    let mut marked = excerpt.spans.iter().cloned();
    let primary = marked.next().unwrap_or(0..0);
    let mut view = Snippet::source(excerpt.text.as_str())
        .path(name.as_str())
        .line_start(excerpt.line)
        .fold(true)
        .annotation(
            AnnotationKind::Primary
                .span(primary)
                .label((!label.is_empty()).then_some(label.as_str())),
        );
    for (span, (_, text)) in marked.zip(&also) {
        view = view.annotation(AnnotationKind::Context.span(span).label(text.as_str()));
    }
    let mut elements: Vec<Element<'_>> = vec![view.into()];
    let help = place.help.as_deref().map(safe);
    if let Some(help) = &help {
        elements.push(Level::HELP.message(help.as_str()).into());
    }
    let group = Group::with_title(title).elements(elements);
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut text = renderer.term_width(WIDTH).render(&[group]);
    // A cut line has lost its column; the header tells the place in the file.
    if let Some((shown, column)) = excerpt.column {
        let line = source.line_column(place.span.start).0;
        text = text.replacen(
            &format!("{name}:{line}:{shown}"),
            &format!("{name}:{line}:{column}"),
            1,
        );
    }
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "{}", line.trim_end());
        all
    })
}

/// The lines of a source that some spans touch, long lines cut, and the spans in it.
struct Excerpt {
    text: String,
    /// 1-based number of its first line.
    line: usize,
    /// Byte ranges in `text`, in the order of the spans given.
    spans: Vec<Range<usize>>,
    /// Column of the first span as shown and in the file, where they differ.
    column: Option<(usize, usize)>,
}

impl Excerpt {
    fn of(source: &Source, spans: Vec<Span>) -> Self {
        let text = source.text();
        let spans: Vec<Range<usize>> = spans.into_iter().map(|s| within(text, s)).collect();
        let first = spans.iter().map(|s| s.start).min().unwrap_or(0);
        let last = spans.iter().map(|s| s.end).max().unwrap_or(0);
        let start = text[..first].rfind('\n').map_or(0, |i| i + 1);
        let end = text[last..].find('\n').map_or(text.len(), |i| last + i);

        // Of each line, the parts that are far from every end of a span are left out.
        let mut shown = String::new();
        let mut moved: Vec<(usize, usize)> = Vec::new(); // from here on: offset in `shown`
        let edges: Vec<usize> = spans.iter().flat_map(|s| [s.start, s.end]).collect();
        let mut at = start;
        for part in text[start..end].split_inclusive('\n') {
            let here = at..at + part.len();
            at = here.end;
            if part.len() <= 2 * LINE {
                moved.push((here.start, shown.len()));
                push_plain(&mut shown, part);
                continue;
            }
            let mut near: Vec<Range<usize>> = edges
                .iter()
                .filter(|e| here.contains(e) || **e == here.end)
                .map(|e| {
                    let low = floor(text, e.saturating_sub(LINE / 2).max(here.start));
                    let high = ceil(text, (e + LINE / 2).min(here.end));
                    low..high
                })
                .collect();
            if near.is_empty() {
                near.push(here.start..floor(text, here.start + LINE / 2));
            }
            near.sort_by_key(|r| r.start);
            let mut done = here.start;
            for range in near {
                let from = range.start.max(done);
                if from > done {
                    shown.push('…');
                }
                if range.end > from {
                    moved.push((from, shown.len()));
                    push_plain(&mut shown, &text[from..range.end]);
                    done = range.end;
                }
            }
            if done < here.end {
                shown.push('…');
                if part.ends_with('\n') {
                    shown.push('\n');
                }
            }
        }
        let map = |offset: usize| {
            let (from, to) = moved
                .iter()
                .rev()
                .find(|(from, _)| *from <= offset)
                .copied()
                .unwrap_or((start, 0));
            floor(&shown, (to + (offset - from)).min(shown.len()))
        };
        let marked: Vec<Range<usize>> = spans
            .iter()
            .map(|s| {
                let low = map(s.start);
                low..map(s.end).max(low)
            })
            .collect();
        let column = marked.first().zip(spans.first()).and_then(|(m, s)| {
            let before = &shown[..m.start];
            let shown_column = before[before.rfind('\n').map_or(0, |i| i + 1)..]
                .chars()
                .count()
                + 1;
            let column = source.line_column(s.start).1;
            (shown_column != column).then_some((shown_column, column))
        });
        Self {
            line: source.line_column(start).0,
            text: shown,
            spans: marked,
            column,
        }
    }
}

/// Control characters become blanks of the same length, so that offsets hold.
fn push_plain(shown: &mut String, text: &str) {
    for c in text.chars() {
        if is_unsafe(c) && !matches!(c, '\t' | '\n') {
            shown.extend(std::iter::repeat_n(' ', c.len_utf8()));
        } else {
            shown.push(c);
        }
    }
}

/// A span as a range within `text`, at character boundaries.
fn within(text: &str, span: Span) -> Range<usize> {
    let start = floor(text, span.start);
    start..ceil(text, span.end).max(start)
}

fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

fn ceil(text: &str, offset: usize) -> usize {
    if offset >= text.len() {
        text.len()
    } else {
        text.ceil_char_boundary(offset)
    }
}

#[cfg(test)]
mod tests;
