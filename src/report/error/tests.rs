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
