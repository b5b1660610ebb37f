//! A file with its statements in their safe form, where that can be said in SQL.
//!
//! A pgshift file, and a file whose statements commit one by one, can have every safe form. Within
//! one transaction only what is safe there is changed: CONCURRENTLY cannot be in it, and NOT VALID
//! gains nothing when VALIDATE runs under the same lock. That is said as advice instead.

use std::borrow::Cow;

use super::follow::follow;
use super::forms::concurrently;
use super::safe::{Safe, SafeStep, safe_form};
use crate::catalog::{Catalog, Column};
use crate::sql::Span;
use crate::sql::ddl::{Action, Generated, understand};
use crate::sql::lex::{TokenKind, lex};

/// What may stand where a statement stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// One statement that can be in a transaction: it shares one with others, or the runner gives
    /// it one.
    Transaction,
    /// One statement, in no transaction: several would share one.
    Single,
    /// Any statements; each commits for itself.
    Each,
}

/// A statement of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// Its place in the file, without the semicolon.
    pub span: Span,
    /// What may stand there.
    pub room: Room,
    /// Its safe form is wanted; else it only counts for those after it.
    pub wanted: bool,
}

/// A statement put in its safe form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The author's statement.
    pub span: Span,
    /// What stands there instead, without the last semicolon.
    pub text: String,
    /// Why, for people.
    pub why: String,
    /// It needs what [`Room::Transaction`] is not.
    pub apart: bool,
}

/// What the file itself cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The author's statement.
    pub span: Span,
    /// Why, for people.
    pub why: String,
    /// What to do.
    pub help: String,
    /// Statements for further files, in order; each entry is a file or transaction of its own.
    pub files: Vec<String>,
}

/// A file and its safe form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fixed {
    /// The whole text.
    pub text: String,
    /// What was changed, in the order of the file.
    pub changes: Vec<Change>,
    /// What was not.
    pub advice: Vec<Advice>,
}

/// Puts the statements of `text` in their safe form. `statements` are in the order of the file and
/// do not overlap; everything between them stays as it is. `catalog` is what is there before the
/// file: a table that it does not have is taken to be made by the file, and stays as it is.
pub fn fix(text: &str, statements: &[Statement], catalog: &Catalog) -> Fixed {
    let mut catalog = Cow::Borrowed(catalog);
    // What comes after the last that is wanted need not be followed, nor a catalog copied for it.
    let last = statements.iter().rposition(|s| s.wanted).unwrap_or(0);
    let mut fixed = Fixed::default();
    let line_end = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut from = 0;
    for (number, statement) in statements.iter().enumerate() {
        let sql = statement.span.of(text);
        let mut runs = vec![sql.to_owned()];
        let form = if statement.wanted {
            form(sql, &catalog)
        } else {
            Safe::AsIs
        };
        match form {
            Safe::AsIs => {}
            Safe::Refused { why, way_out, .. } => fixed.advice.push(Advice {
                span: statement.span,
                why,
                help: way_out,
                files: Vec::new(),
            }),
            Safe::Rewritten { steps, why } if fits(&steps, statement.room) => {
                let apart = !fits(&steps, Room::Transaction);
                runs = steps.into_iter().map(|s| s.sql).collect();
                let break_ = format!("{line_end}{}", indent(text, statement.span.start));
                let mut new = runs.join(&format!(";{break_}"));
                for comment in comments(sql)
                    .filter(|c| !new.contains(c))
                    .collect::<Vec<_>>()
                {
                    new = format!("{comment}{break_}{new}");
                }
                fixed.text.push_str(&text[from..statement.span.start]);
                fixed.text.push_str(&new);
                from = statement.span.end;
                fixed.changes.push(Change {
                    span: statement.span,
                    text: new,
                    why,
                    apart,
                });
            }
            Safe::Rewritten { steps, why } => fixed.advice.push(Advice {
                span: statement.span,
                why,
                help: if steps.iter().any(|s| s.concurrent) {
                    CONCURRENTLY
                } else {
                    "one transaction holds its locks to its end, so each of these needs one of \
                     its own"
                }
                .to_owned(),
                files: files(steps),
            }),
        }
        for sql in runs.iter().filter(|_| number < last) {
            follow(catalog.to_mut(), sql, |_, def| Column {
                name: def.name.clone(),
                type_name: def.type_text.clone(),
                not_null: def.not_null,
                default: def.default.clone(),
                generated: def.generated.is_some(),
                is_virtual: matches!(def.generated, Some((Generated::Virtual, _))),
                identity: def.identity.then(|| "BY DEFAULT".to_owned()),
                has_equality: true,
                comment: None,
                settings: crate::catalog::ColumnSettings::default(),
            });
        }
    }
    fixed.text.push_str(&text[from..]);
    fixed
}

/// The safe form. An index without a name gets none here: the server finds one that is free.
fn form(sql: &str, catalog: &Catalog) -> Safe {
    let action = understand(sql);
    let form = safe_form(sql, &action, catalog);
    let Action::CreateIndex {
        name: None,
        concurrently: already,
        ..
    } = action
    else {
        return form;
    };
    match (form, concurrently(sql)) {
        (Safe::Rewritten { .. }, _) if already => Safe::AsIs,
        (Safe::Rewritten { .. }, Some(sql)) => Safe::Rewritten {
            steps: vec![SafeStep {
                sql,
                concurrent: true,
                phase_hint: None,
            }],
            why: "CREATE INDEX blocks writes while it builds; CONCURRENTLY does not".to_owned(),
        },
        (form, _) => form,
    }
}

/// Why a safe form is not in the file, for people.
pub const CONCURRENTLY: &str = "CONCURRENTLY cannot be in a transaction";

/// The steps are as safe where they run as they are meant to be.
fn fits(steps: &[SafeStep], room: Room) -> bool {
    match room {
        Room::Each => true,
        Room::Single => steps.len() == 1,
        Room::Transaction => steps.len() == 1 && !steps[0].concurrent,
    }
}

/// The comments within a statement.
fn comments(sql: &str) -> impl Iterator<Item = &str> {
    lex(sql)
        .into_iter()
        .rev()
        .filter(|t| t.kind == TokenKind::Comment)
        .map(|t| t.text(sql).trim_end())
}

/// Each step that runs outside of a transaction, or reads the whole table, alone.
fn files(steps: Vec<SafeStep>) -> Vec<String> {
    let mut files: Vec<(String, bool)> = Vec::new();
    for step in steps {
        let alone = step.concurrent || step.phase_hint.is_some();
        match files.last_mut() {
            Some((file, false)) if !alone => {
                file.push_str(&step.sql);
                file.push_str(";\n");
            }
            _ => files.push((format!("{};\n", step.sql), alone)),
        }
    }
    files.into_iter().map(|(file, _)| file).collect()
}

/// The white space before a statement on its line.
fn indent(text: &str, start: usize) -> &str {
    let line = text[..start].rfind('\n').map_or(0, |i| i + 1);
    let before = &text[line..start];
    let end = before.len() - before.trim_start().len();
    &before[..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::plan::testing::catalog;
    use crate::sql::split::split_all;

    fn statements(text: &str, room: Room) -> Vec<Statement> {
        split_all(text, Span::new(0, text.len()))
            .statements
            .into_iter()
            .map(|s| Statement {
                span: s.span,
                room,
                wanted: true,
            })
            .collect()
    }

    fn fixed(text: &str, room: Room) -> Fixed {
        fix(text, &statements(text, room), &catalog(15))
    }

    #[test]
    fn what_commits_by_itself_is_rewritten_in_place() {
        let text = "-- first\nCREATE INDEX i ON orders (total); -- why\n\
                    \x20 ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0);\nSELECT 1;\n";
        let fixed = fixed(text, Room::Each);
        assert_eq!(
            fixed.text,
            "-- first\nCREATE INDEX CONCURRENTLY i ON orders (total); -- why\n\
             \x20 ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID;\n\
             \x20 ALTER TABLE orders VALIDATE CONSTRAINT \"c\";\nSELECT 1;\n"
        );
        assert_eq!(fixed.changes.len(), 2);
        assert_eq!(fixed.advice, []);
    }

    #[test]
    fn in_a_transaction_it_is_advice() {
        let text = "CREATE INDEX i ON orders (total);\n\
                    ALTER TABLE orders ALTER total SET NOT NULL;\n\
                    ALTER TABLE orders ADD CHECK (id > 0) NOT VALID;\n";
        let fixed = fixed(text, Room::Transaction);
        // A name is safe anywhere.
        assert_eq!(fixed.changes.len(), 1);
        assert!(
            fixed
                .text
                .contains("ADD CONSTRAINT \"orders_id_check\" CHECK")
        );
        assert!(
            fixed
                .text
                .starts_with("CREATE INDEX i ON orders (total);\nALTER")
        );
        let files: Vec<usize> = fixed.advice.iter().map(|a| a.files.len()).collect();
        assert_eq!(files, [1, 3]);
        assert!(fixed.advice[0].help.contains("CONCURRENTLY"));
        assert_eq!(
            fixed.advice[1].files[1].matches(';').count(),
            1,
            "VALIDATE alone: {:?}",
            fixed.advice[1].files
        );
    }

    #[test]
    fn one_statement_alone_is_one_statement_after() {
        let index = fixed("CREATE INDEX i ON orders (total)", Room::Single);
        assert_eq!(index.text, "CREATE INDEX CONCURRENTLY i ON orders (total)");
        assert!(index.changes[0].apart);
        let check = fixed("ALTER TABLE orders ADD CHECK (total > 0)", Room::Single);
        assert_eq!((check.changes.len(), check.advice[0].files.len()), (0, 2));
    }

    #[test]
    fn comments_and_line_ends_are_kept() {
        let text = "ALTER TABLE orders -- the one\r\n  ADD CHECK (total > 0); -- end\r\n";
        let fixed = fixed(text, Room::Each);
        assert_eq!(
            fixed.text,
            "-- the one\r\nALTER TABLE orders ADD CONSTRAINT \"orders_total_check1\" CHECK (total > 0) \
             NOT VALID;\r\nALTER TABLE orders VALIDATE CONSTRAINT \"orders_total_check1\"; -- end\r\n"
        );
    }

    #[test]
    fn what_is_not_wanted_stays() {
        let text = "CREATE INDEX i ON orders (total);";
        let mut all = statements(text, Room::Each);
        all[0].wanted = false;
        assert_eq!(fix(text, &all, &catalog(15)).text, text);
    }

    #[test]
    fn what_has_no_safe_form_says_the_way_out() {
        let fixed = fixed("VACUUM FULL orders;", Room::Each);
        assert_eq!((fixed.changes.len(), fixed.advice.len()), (0, 1));
        assert!(fixed.advice[0].help.contains("VACUUM without FULL"));
    }

    const PIECES: &[&str] = &[
        "CREATE INDEX i ON orders (total)",
        "CREATE INDEX ON orders (email)",
        "DROP INDEX orders_email_idx, orders_total_idx",
        "ALTER TABLE orders ALTER total SET NOT NULL",
        "ALTER TABLE orders ADD CHECK (total > 0), ADD UNIQUE (email)",
        "ALTER TABLE orders ADD COLUMN n int CHECK (n > 0)",
        "ALTER TABLE orders ADD FOREIGN KEY (total) REFERENCES users",
        "ALTER TABLE orders ADD COLUMN u uuid DEFAULT gen_random_uuid()",
        "CREATE TABLE t (id int)",
        "UPDATE orders SET total = 1",
        "\u{e4} = \u{2026}",
        "/* ; */",
    ];

    proptest! {
        /// What is fixed needs no more fixing, and what is not named stays byte for byte.
        #[test]
        fn fixing_ends(
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..6),
            room in prop::sample::select(&[Room::Transaction, Room::Single, Room::Each][..]),
            gap in "[ \n]{1,3}",
        ) {
            let parts: Vec<String> = pieces.iter().map(|p| format!("{p};{gap}")).collect();
            let text = parts.concat();
            let once = fixed(&text, room);
            let mut rest = text.clone();
            for change in once.changes.iter().rev() {
                rest.replace_range(change.span.start..change.span.end, &change.text);
            }
            prop_assert_eq!(&rest, &once.text);
            let again = fixed(&once.text, room);
            prop_assert_eq!(again.changes.len(), 0, "{:?}", again.changes);
        }
    }
}
