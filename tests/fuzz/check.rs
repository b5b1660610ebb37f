//! What must hold of any bytes.

use std::fmt::Display;

use pgshift::Error;
use pgshift::catalog::Catalog;
use pgshift::lint::{self, Options, Runner, World as Known, runner, script};
use pgshift::migration::{Migration, SectionKind, parse_bytes};
use pgshift::plan::probe::{Probed, from_text};
use pgshift::plan::{Draft, build};
use pgshift::report;
use pgshift::report::text::Style;
use pgshift::sql::lex::{TokenKind, lex};
use pgshift::sql::split::split_all;
use pgshift::sql::{Source, Span};
use proptest::test_runner::TestCaseError;

use crate::hostile;

type Outcome = Result<(), TestCaseError>;

fn wrong(what: impl Display) -> TestCaseError {
    TestCaseError::fail(what.to_string())
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(wrong(what())) }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    Lex,
    Split,
    Read,
    Lint,
    Plan,
}

impl Stage {
    pub(crate) const ALL: [Self; 5] = [Self::Lex, Self::Split, Self::Read, Self::Lint, Self::Plan];
}

/// A database to plan against: the tables of all examples.
pub(crate) struct World {
    catalog: Catalog,
}

impl World {
    pub(crate) fn of_examples() -> Self {
        let mut known = Known::unknown(15);
        for setup in hostile::setups() {
            let read = script::read("setup.sql", &setup, &reading(Runner::Psql));
            lint::lint(&read, &mut known, &Options::default());
        }
        let catalog = known.catalog().clone();
        assert!(catalog.tables.len() > 8, "the examples make tables");
        Self { catalog }
    }

    pub(crate) fn all(&self, bytes: &[u8]) -> Outcome {
        Stage::ALL.iter().try_for_each(|s| self.stage(*s, bytes))
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> Outcome {
        [Stage::Lex, Stage::Split, Stage::Read]
            .iter()
            .try_for_each(|s| self.stage(*s, bytes))
    }

    pub(crate) fn stage(&self, stage: Stage, bytes: &[u8]) -> Outcome {
        let text = String::from_utf8_lossy(bytes);
        match stage {
            Stage::Lex => tokens(&text),
            Stage::Split => statements(&text),
            Stage::Read => read(bytes).map(|_| ()),
            Stage::Lint => self.lint(bytes),
            Stage::Plan => match read(bytes)? {
                Some(migration) => self.plan(&migration),
                None => Ok(()),
            },
        }
    }

    fn lint(&self, bytes: &[u8]) -> Outcome {
        let decoded = lint::text::decode(bytes);
        let text = match &decoded {
            lint::text::Decoded::Text(text) => text.clone(),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        };
        for runner in [Runner::Pgshift, Runner::Psql, Runner::Goose, Runner::Sqlx] {
            let read = script::read("x.sql", &text, &reading(runner));
            let text = read.source.text();
            for unit in &read.units {
                within(text, unit.span)?;
                within(text, unit.statement)?;
            }
            for mut known in [Known::unknown(15), Known::known(self.catalog.clone(), None)] {
                let mut before = known.clone();
                let findings = lint::lint(&read, &mut known, &Options::default());
                for finding in &findings {
                    within(text, finding.span)?;
                    within(text, finding.statement)?;
                    for label in &finding.also {
                        within(text, label.span)?;
                    }
                }
                if let Some(fixed) = lint::fix::fix(&read, &findings, &mut before) {
                    for change in &fixed.changes {
                        within(text, change.span)?;
                    }
                }
                let shown = report::lint::Report {
                    files: vec![report::lint::File {
                        path: "x.sql".into(),
                        runner: Some(runner),
                        source: read.source.clone(),
                        findings,
                    }],
                    ..report::lint::Report::default()
                };
                plain(&report::lint::human(&shown, Style::default(), true))?;
                report::lint::sarif(&shown, "0").to_string();
                report::lint::junit(&shown);
                plain(&report::lint::github(&shown))?;
            }
        }
        Ok(())
    }

    fn plan(&self, migration: &Migration) -> Outcome {
        let planned = Draft::new(migration, &self.catalog).and_then(|draft| {
            let probed = Probed {
                answers: from_text(&draft),
                checked: true,
                ..Probed::default()
            };
            build(&draft, &probed)
        });
        match planned {
            Ok(plan) => {
                plain(&report::plan::human(&plan, Style::default()))?;
                let json = serde_json::to_string(&plan).map_err(wrong)?;
                let again = serde_json::from_str(&json).map_err(wrong)?;
                ensure(plan == again, || "a saved plan is another".into())
            }
            Err(error) => told(&error),
        }
    }
}

fn reading(runner: Runner) -> script::Reading {
    script::Reading {
        hints: runner::Hints {
            runner: Some(runner),
            ..runner::Hints::default()
        },
        ..script::Reading::default()
    }
}

/// Places are in the text and do not cut characters.
fn within(text: &str, span: Span) -> Outcome {
    ensure(
        span.start <= span.end && text.get(span.start..span.end).is_some(),
        || format!("{span:?} is no part of a text of {} bytes", text.len()),
    )
}

/// Nothing that a terminal would obey.
fn plain(text: &str) -> Outcome {
    let bad = text
        .chars()
        .find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    ensure(bad.is_none(), || format!("{bad:?} is shown in {text:?}"))
}

/// An error has its places in its text, and can be shown.
fn told(error: &Error) -> Outcome {
    if let Some((source, places)) = error.places() {
        for place in places {
            within(source.text(), place.span)?;
            for label in &place.also {
                within(source.text(), label.span)?;
            }
        }
    }
    plain(&report::error::render(error, false))?;
    report::error::render_json(error).to_string();
    Ok(())
}

/// Tokens are in order, and between them is white space alone.
fn tokens(text: &str) -> Outcome {
    let mut end = 0;
    for token in lex(text) {
        within(text, token.span)?;
        ensure(
            token.span.start >= end && token.span.end > token.span.start,
            || format!("{token:?} begins before {end}"),
        )?;
        blank(&text[end..token.span.start])?;
        end = token.span.end;
    }
    blank(&text[end..])
}

fn blank(between: &str) -> Outcome {
    let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}');
    ensure(between.chars().all(space), || {
        format!("{between:?} is in no token")
    })
}

/// Statements are in order, and between them are comments and semicolons alone: nothing is lost
/// and nothing is there twice. A statement alone is the same statement.
fn statements(text: &str) -> Outcome {
    let whole = Span::new(0, text.len());
    let found = split_all(text, whole);
    for diagnostic in &found.diagnostics {
        within(text, diagnostic.span)?;
        told(&Error::at(
            &Source::new("x.sql", text),
            vec![diagnostic.clone()],
        ))?;
    }
    if !found.diagnostics.is_empty() {
        return Ok(());
    }
    let code = |part: &str| {
        lex(part)
            .iter()
            .any(|t| !matches!(t.kind, TokenKind::Comment | TokenKind::Semicolon))
    };
    let mut end = 0;
    for statement in &found.statements {
        within(text, statement.span)?;
        let before = text.get(end..statement.span.start);
        let before = before.ok_or_else(|| wrong("statements overlap"))?;
        ensure(!code(before), || format!("{before:?} is in no statement"))?;
        end = statement.span.end;
        let alone = split_all(
            statement.span.of(text),
            Span::new(0, statement.span.end - statement.span.start),
        );
        ensure(
            alone.diagnostics.is_empty() && alone.statements.len() == 1,
            || format!("{:?} is not one statement", statement.span.of(text)),
        )?;
    }
    ensure(!code(&text[end..]), || {
        format!("{:?} is in no statement", &text[end..])
    })
}

/// Reads a file; what it gives is the author's text.
fn read(bytes: &[u8]) -> Result<Option<Migration>, TestCaseError> {
    let migration = match parse_bytes("20260101_x", "x.sql", bytes) {
        Ok(migration) => migration,
        Err(error) => {
            told(&error)?;
            return Ok(None);
        }
    };
    let text = migration.source.text();
    for section in &migration.sections {
        within(text, section.span)?;
        ensure(
            migration.plain || section.kind != SectionKind::Plain,
            || "a plain section beside others".into(),
        )?;
        for statement in &section.statements {
            within(text, statement.span)?;
            ensure(statement.span.of(text) == statement.sql, || {
                format!("{:?} is not the author's text", statement.sql)
            })?;
        }
    }
    Ok(Some(migration))
}
