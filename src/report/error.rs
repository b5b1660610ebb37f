//! Errors for people and for programs: what was wrong, where, what was left as it was, and what
//! to do next.

use std::error::Error as _;
use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::error::Error;
use crate::report::text::{Style, WIDTH, hanging, line, redact};
use crate::sql::{Diagnostic, Source, Span};

/// Causes that are shown; a longer chain says nothing more.
const CAUSES: usize = 5;

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
            for place in places {
                text.push_str(&snippet(source, place, &safe(&place.message), color));
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

fn safe(text: &str) -> String {
    line(&redact(text))
}

/// The chain of causes, without those that an error before has already quoted.
fn causes(error: &Error) -> Vec<String> {
    let mut said = safe(error.message());
    let mut all = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = safe(&cause.to_string());
        if !text.is_empty() && !said.contains(&text) && all.len() < CAUSES {
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
    let label = safe(&place.label);
    let also: Vec<(Span, String)> = place
        .also
        .iter()
        .map(|other| (other.span, safe(&other.text)))
        .collect();
    let spans = std::iter::once(place.span).chain(also.iter().map(|(span, _)| *span));
    let excerpt = Excerpt::of(source, spans.collect());

    let mut marked = excerpt.spans.iter().cloned();
    let primary = marked.next().unwrap_or(0..0);
    let mut view = Snippet::source(excerpt.text.as_str())
        .path(source.name())
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
    let group = Group::with_title(Level::ERROR.primary_title(title)).elements(elements);
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
            &format!("{}:{line}:{shown}", source.name()),
            &format!("{}:{line}:{column}", source.name()),
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
        if c.is_control() && !matches!(c, '\t' | '\n') {
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
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;

    fn source() -> Source {
        Source::new(
            "migrations/1_orders.sql",
            "-- pgshift: expand\nALTER TABLE orders ADD COLUMN total_cents bigint;\n\n\
             -- pgshift: backfill\nUPDATE orders SET totl_cents = total * 100;\n",
        )
    }

    fn misspelt() -> Error {
        let source = source();
        let at = source.text().find("totl_cents").expect("it is there");
        let made = source.text().find("total_cents").expect("it is there");
        Error::at(
            &source,
            vec![
                Diagnostic::new(
                    Span::new(at, at + 10),
                    "column \"totl_cents\" does not exist",
                )
                .label("no such column")
                .also(Span::new(made, made + 11), "this one is added here")
                .help("did you mean \"total_cents\"?"),
            ],
        )
    }

    #[test]
    fn a_place_is_shown_with_caret_label_and_help() {
        insta::assert_snapshot!(render(&misspelt(), false), @r#"
        error: column "totl_cents" does not exist
         --> migrations/1_orders.sql:5:19
          |
        2 | ALTER TABLE orders ADD COLUMN total_cents bigint;
          |                               ----------- this one is added here
        ...
        5 | UPDATE orders SET totl_cents = total * 100;
          |                   ^^^^^^^^^^ no such column
          |
          = help: did you mean "total_cents"?
        "#);
    }

    #[test]
    fn everything_that_an_error_carries_is_shown() {
        let error = misspelt()
            .context("migration 1_orders")
            .with_sqlstate("42703")
            .left("nothing was changed")
            .hint("correct the file and run `pgshift plan` again")
            .caused_by(std::io::Error::other("outer: inner"));
        insta::assert_snapshot!(render(&error, false), @r#"
        error: migration 1_orders: column "totl_cents" does not exist
         --> migrations/1_orders.sql:5:19
          |
        2 | ALTER TABLE orders ADD COLUMN total_cents bigint;
          |                               ----------- this one is added here
        ...
        5 | UPDATE orders SET totl_cents = total * 100;
          |                   ^^^^^^^^^^ no such column
          |
          = help: did you mean "total_cents"?
          cause: outer: inner
          SQLSTATE 42703
          left as it was: nothing was changed
          next: correct the file and run `pgshift plan` again
        "#);
    }

    #[test]
    fn without_a_place_it_is_a_line() {
        let error = Error::connection("the server went away")
            .caused_by(std::io::Error::other("the server went away"))
            .hint("x ".repeat(80));
        insta::assert_snapshot!(render(&error, false), @"
        error: the server went away
          next: x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
                x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x
        ");
    }

    #[test]
    fn a_message_of_its_own_comes_before_the_places() {
        let source = source();
        let error = Error::refused("two statements need a decision").with_places(
            &source,
            vec![
                Diagnostic::new(Span::new(19, 30), "first"),
                Diagnostic::new(Span::new(69, 500), "second"),
            ],
        );
        insta::assert_snapshot!(render(&error, false), @"
        error: two statements need a decision
        error: first
         --> migrations/1_orders.sql:2:1
          |
        2 | ALTER TABLE orders ADD COLUMN total_cents bigint;
          | ^^^^^^^^^^^
        error: second
         --> migrations/1_orders.sql:3:1
          |
        3 | /
        4 | | -- pgshift: backfill
        5 | | UPDATE orders SET totl_cents = total * 100;
          | |____________________________________________^
        ");
    }

    #[test]
    fn colour_only_where_asked_for() {
        assert!(!render(&misspelt(), false).contains('\u{1b}'));
        assert!(render(&misspelt(), true).contains('\u{1b}'));
    }

    #[test]
    fn json_has_the_documented_shape() {
        let error = misspelt()
            .with_sqlstate("42703")
            .with_kind(ErrorKind::Refused)
            .left("all")
            .caused_by(std::io::Error::other("at postgres://u:pw@h/d"));
        insta::assert_snapshot!(
            serde_json::to_string_pretty(&render_json(&error)).expect("plain data"), @r#"
        {
          "error": {
            "kind": "refused",
            "message": "column \"totl_cents\" does not exist",
            "sqlstate": "42703",
            "places": [
              {
                "file": "migrations/1_orders.sql",
                "line": 5,
                "column": 19,
                "message": "column \"totl_cents\" does not exist",
                "help": "did you mean \"total_cents\"?"
              }
            ],
            "causes": [
              "at postgres://u:***@h/d"
            ],
            "left": "all",
            "next": null,
            "exit_code": 3
          }
        }
        "#);
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        let error = Error::connection("no connection to postgres://app:s3cret@db/x")
            .caused_by(std::io::Error::other("password=s3cret"))
            .left("s3cret is fine at password='s3cret'".replace("s3cret is fine", "x"))
            .hint("try postgres://app:s3cret@db/y");
        for shown in [render(&error, false), render_json(&error).to_string()] {
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_place() {
        let text = format!(
            "SELECT 1;\nSELECT {}oops{};\n",
            "x,".repeat(500_000),
            ",y".repeat(500_000)
        );
        let at = text.find("oops").expect("it is there");
        let source = Source::new("long.sql", text.as_str());
        let error = Error::at(
            &source,
            vec![Diagnostic::new(Span::new(at, at + 4), "wrong").label("this")],
        );
        let shown = render(&error, false);
        assert!(shown.len() < 2000, "{} bytes", shown.len());
        assert!(shown.contains("long.sql:2:1000008"), "{shown}");
        assert!(
            shown.contains("oops") && shown.contains("^^^^ this"),
            "{shown}"
        );
        let whole = Error::at(
            &source,
            vec![Diagnostic::new(Span::new(10, text.len()), "wrong")],
        );
        assert!(render(&whole, false).len() < 4000);
    }

    #[test]
    fn tabs_and_wide_characters_are_no_problem() {
        let text = "\tSELECT\t'日本語\u{1f468}\u{200d}\u{1f469}', é, wrong\r\n";
        let at = text.find("wrong").expect("it is there");
        let source = Source::new("ü.sql", text);
        let error = Error::at(
            &source,
            vec![Diagnostic::new(Span::new(at, at + 5), "x").label("here")],
        );
        insta::assert_snapshot!(render(&error, false), @"
        error: x
         --> ü.sql:1:22
          |
        1 |     SELECT    '日本語👨👩', é, wrong
          |                                ^^^^^ here
        ");
    }

    proptest! {
        #[test]
        fn no_text_and_no_span_make_it_panic(
            text in "(?s)(.|\n|\t|\r\n|日|[a-z ]{1,30}){0,40}",
            spans in prop::collection::vec((0usize..300, 0usize..300), 1..4),
            color: bool,
        ) {
            let source = Source::new("f.sql", text.as_str());
            let mut place = Diagnostic::new(Span::new(spans[0].0, spans[0].1), "m\nn").label("l\tl");
            for (start, end) in &spans[1..] {
                place = place.also(Span::new(*start, *end), "also");
            }
            let error = Error::at(&source, vec![place]);
            prop_assert!(render(&error, color).contains("m n"));
            render_json(&error);
        }

        #[test]
        fn long_lines_keep_their_spans(
            parts in prop::collection::vec("(a{1,900}|日{1,400}|\n|b)", 1..8),
            start in 0usize..3000, len in 0usize..1500,
        ) {
            let text = parts.concat();
            let source = Source::new("f.sql", text.as_str());
            let span = within(&text, Span::new(start, start + len));
            let excerpt = Excerpt::of(&source, vec![Span::new(span.start, span.end)]);
            let shown = &excerpt.text[excerpt.spans[0].clone()];
            // The same beginning and end, whatever is left out between them.
            let wanted = &text[span];
            prop_assert_eq!(shown.chars().next(), wanted.chars().next());
            prop_assert_eq!(shown.chars().last(), wanted.chars().last());
            prop_assert!(excerpt.text.len() <= text.len() + 8);
        }
    }
}
