//! A file with its statements in their safe form, where that can be said in SQL.
//!
//! A pgshift file, and a file whose statements commit one by one, can have every safe form. Within
//! one transaction only what is safe there is changed: CONCURRENTLY cannot be in it, and NOT VALID
//! gains nothing when VALIDATE runs under the same lock. That is said as advice instead.

use super::follow::follow;
use super::safe::{Safe, SafeStep, safe_form};
use crate::catalog::{Catalog, Column};
use crate::sql::Span;
use crate::sql::ddl::{Generated, understand};

/// A statement of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// Its place in the file, without the semicolon.
    pub span: Span,
    /// It shares a transaction with others, or the runner gives it one.
    pub in_transaction: bool,
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
    let mut catalog = catalog.clone();
    let mut fixed = Fixed::default();
    let mut from = 0;
    for statement in statements {
        let sql = statement.span.of(text);
        let mut runs = vec![sql.to_owned()];
        match safe_form(sql, &understand(sql), &catalog) {
            Safe::AsIs => {}
            Safe::Refused { why, way_out } => fixed.advice.push(Advice {
                span: statement.span,
                why,
                help: way_out,
                files: Vec::new(),
            }),
            Safe::Rewritten { steps, why } if fits(&steps, statement.in_transaction) => {
                runs = steps.into_iter().map(|s| s.sql).collect();
                let indent = indent(text, statement.span.start);
                let new = runs.join(&format!(";\n{indent}"));
                fixed.text.push_str(&text[from..statement.span.start]);
                fixed.text.push_str(&new);
                from = statement.span.end;
                fixed.changes.push(Change {
                    span: statement.span,
                    text: new,
                    why,
                });
            }
            Safe::Rewritten { steps, why } => fixed.advice.push(Advice {
                span: statement.span,
                why,
                help: if steps.iter().any(|s| s.concurrent) {
                    "CONCURRENTLY cannot be in a transaction: each of these statements needs a \
                     file that the runner runs without one"
                } else {
                    "one transaction holds its locks to its end, so each of these files needs one \
                     of its own"
                }
                .to_owned(),
                files: files(steps),
            }),
        }
        for sql in &runs {
            follow(&mut catalog, sql, |_, def| Column {
                name: def.name.clone(),
                type_name: def.type_text.clone(),
                not_null: def.not_null,
                default: def.default.clone(),
                generated: def.generated.is_some(),
                is_virtual: matches!(def.generated, Some((Generated::Virtual, _))),
                identity: def.identity.then(|| "BY DEFAULT".to_owned()),
                has_equality: true,
                comment: None,
                collation: None,
            });
        }
    }
    fixed.text.push_str(&text[from..]);
    fixed
}

/// The steps are as safe where they run as they are meant to be.
fn fits(steps: &[SafeStep], in_transaction: bool) -> bool {
    !in_transaction || steps.len() == 1 && !steps[0].concurrent
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

    fn statements(text: &str, in_transaction: bool) -> Vec<Statement> {
        split_all(text, Span::new(0, text.len()))
            .statements
            .into_iter()
            .map(|s| Statement {
                span: s.span,
                in_transaction,
            })
            .collect()
    }

    fn fixed(text: &str, in_transaction: bool) -> Fixed {
        fix(text, &statements(text, in_transaction), &catalog(15))
    }

    #[test]
    fn what_commits_by_itself_is_rewritten_in_place() {
        let text = "-- first\nCREATE INDEX i ON orders (total); -- why\n\
                    \x20 ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0);\nSELECT 1;\n";
        let fixed = fixed(text, false);
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
        let fixed = fixed(text, true);
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
    fn what_has_no_safe_form_says_the_way_out() {
        let fixed = fixed("VACUUM FULL orders;", false);
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
            in_transaction: bool,
            gap in "[ \n]{1,3}",
        ) {
            let parts: Vec<String> = pieces.iter().map(|p| format!("{p};{gap}")).collect();
            let text = parts.concat();
            let once = fixed(&text, in_transaction);
            let mut rest = text.clone();
            for change in once.changes.iter().rev() {
                rest.replace_range(change.span.start..change.span.end, &change.text);
            }
            prop_assert_eq!(&rest, &once.text);
            let again = fixed(&once.text, in_transaction);
            prop_assert_eq!(again.changes.len(), 0, "{:?}", again.changes);
        }
    }
}
