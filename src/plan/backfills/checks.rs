//! What a sync trigger cannot do as the author's UPDATE would, found before anything runs.

use std::collections::BTreeSet;

use super::Decider;
use crate::error::Result;
use crate::plan::draft::DraftStatement;
use crate::plan::probe::Answer;
use crate::plan::sync::Mapping;
use crate::sql::ddl::Action;
use crate::sql::dml::{function_names, identifiers};
use crate::sql::lex::{TokenKind, is_keyword, lex_code};
use crate::sql::{Diagnostic, Span};

/// Columns that every table has and that a trigger's row has not (docs, "System Columns").
const SYSTEM_COLUMNS: &[&str] = &["cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"];

/// Functions that are not volatile and still give another value in another transaction or for
/// another role.
const UNREPEATABLE: &[&str] = &[
    "age",
    "now",
    "pg_current_xact_id",
    "statement_timestamp",
    "transaction_timestamp",
    "txid_current",
];

/// The same, written without parentheses.
const UNREPEATABLE_WORDS: &[&str] = &[
    "current_date",
    "current_role",
    "current_time",
    "current_timestamp",
    "current_user",
    "localtime",
    "localtimestamp",
    "session_user",
    "user",
];

/// The pieces of a statement that a trigger evaluates over a row, with their place in it.
fn pieces<'s>(statement: &'s DraftStatement<'_>) -> impl Iterator<Item = (&'s str, Span)> {
    let expressions = statement.assignments.iter().map(|a| &a.expr);
    expressions
        .chain(&statement.conditions)
        .map(|piece| (piece.text.as_str(), piece.span))
}

impl Decider<'_, '_> {
    fn has_column(&self, statement: &DraftStatement<'_>, column: &str) -> bool {
        self.table(&statement.table).column(column).is_some()
            || self.draft.new_column(&statement.table, column).is_some()
    }

    /// What a statement reads of its row beside named columns: the whole row, or a system column.
    pub(super) fn beyond_columns(&self, statement: &DraftStatement<'_>) -> Option<(Span, String)> {
        let offset = statement.statement.span.start;
        for (text, place) in pieces(statement) {
            for (qualifier, name, span) in identifiers(text) {
                let of_row = qualifier.as_ref().is_none_or(|q| *q == statement.alias);
                if !of_row || self.has_column(statement, &name) {
                    continue;
                }
                let place = span.shift(place.start + offset);
                if SYSTEM_COLUMNS.contains(&name.as_str()) {
                    return Some((place, format!("the system column {name}")));
                }
                // `t.*`, `f(t)`, and `t.f`, which is f(t) (docs, "Using Composite Types in
                // Queries").
                let table = qualifier.is_none() && after_from(text, span.start);
                if qualifier.is_some() || name == statement.alias && !table {
                    return Some((place, "the whole row".to_owned()));
                }
            }
        }
        None
    }

    /// Refuses what a trigger's row does not have.
    pub(super) fn check_row(&self, statement: &DraftStatement<'_>, answer: &Answer) -> Result<()> {
        if let Some((span, what)) = self.beyond_columns(statement) {
            return Err(self.draft.refused(
                span,
                format!("it reads {what}, which a sync trigger cannot give it"),
                "name the columns that it needs; sync=off does without a trigger",
            ));
        }
        let table = self.table(&statement.table);
        let generated = |column: &&String| {
            table.column(column).is_some_and(|c| c.generated)
                || self
                    .draft
                    .new_column(&statement.table, column)
                    .is_some_and(|c| c.def.generated.is_some())
        };
        if let Some(column) = answer.all().iter().find(generated) {
            return Err(self.draft.refused(
                statement.statement.span,
                format!(
                    "it reads {column}, a generated column, which a BEFORE trigger sees as null"
                ),
                "write the generation expression itself instead of the column's name \
                 (PostgreSQL docs, \"Generated Columns\")",
            ));
        }
        Ok(())
    }

    /// Refuses a reverse statement that would move rows between partitions from within a trigger.
    pub(super) fn check_reverse(&self, statement: &DraftStatement<'_>) -> Result<()> {
        let draft = self.draft;
        let table = self.table(&statement.table);
        for assignment in &statement.assignments {
            let span = assignment.column_span.shift(statement.statement.span.start);
            if draft
                .new_column(&statement.table, &assignment.column)
                .is_some()
            {
                return Err(draft.wrong(
                    span,
                    format!("reverse writes to the new column {}", assignment.column),
                    "reverse says how the old columns follow from the new ones",
                ));
            }
            let routes = table
                .dependents
                .get(&assignment.column)
                .is_some_and(|all| all.iter().any(|d| d.starts_with("partition key of")));
            if routes {
                return Err(draft.refused(
                    span,
                    format!(
                        "reverse writes to {}, by which {} is partitioned",
                        assignment.column, table.name
                    ),
                    "a BEFORE trigger cannot move a row to another partition (PostgreSQL docs, \
                     CREATE TRIGGER); leave the column out",
                ));
            }
        }
        Ok(())
    }

    /// Refuses mappings of one column of which a later one would be left without effect.
    pub(super) fn check_shared(
        &self,
        statement: &DraftStatement<'_>,
        mapping: &Mapping,
        before: &[(&DraftStatement<'_>, Mapping)],
    ) -> Result<()> {
        for (other, earlier) in before.iter().filter(|(_, m)| m.shares_target(mapping)) {
            let column = mapping
                .targets
                .iter()
                .find(|t| earlier.writes(&t.column))
                .map_or("", |t| t.column.as_str());
            let (why, help) = if mapping.from.is_some() || earlier.from.is_some() {
                (
                    "two statements fill the column, and one has a FROM",
                    "write one UPDATE for the column, with CASE or COALESCE",
                )
            } else if earlier.condition.is_none() && !mapping.rest {
                (
                    "an earlier statement fills the column in every row",
                    "write one UPDATE with CASE; or, to fill what the earlier one leaves null, add \
                     the column's IS NULL to WHERE",
                )
            } else {
                continue;
            };
            return Err(self.error_at(
                Diagnostic::new(statement.statement.span, format!("{column}: {why}"))
                    .also(other.statement.span, "the earlier one")
                    .help(help),
            ));
        }
        Ok(())
    }

    /// Refuses a default whose rows the backfill would not reach: it is set at contract only, so
    /// that what the backfill leaves out would be null and not the default.
    pub(super) fn check_defaults(&self, synced: &[(&DraftStatement<'_>, Mapping)]) -> Result<()> {
        let columns: BTreeSet<_> = synced
            .iter()
            .flat_map(|(s, m)| m.targets.iter().map(|t| (&s.table, t.column.as_str())))
            .collect();
        for (table, column) in columns {
            let Some(new) = self.draft.new_column(table, column) else {
                continue;
            };
            let writers = || {
                synced
                    .iter()
                    .filter(|(s, m)| s.table == *table && m.writes(column))
            };
            let everywhere = |m: &Mapping| m.condition.is_none() && m.from.is_none();
            if new.def.default.is_none() || writers().any(|(_, m)| everywhere(m)) {
                continue;
            }
            let mut diagnostic = Diagnostic::new(
                new.span,
                format!("{column} has a default, and its backfill leaves rows out"),
            )
            .help(
                "the default is set when the old application version is gone, so those rows would \
                 be null: write the UPDATE for every row, with CASE … ELSE the default, or leave \
                 the default out",
            );
            for (statement, _) in writers() {
                diagnostic = diagnostic.also(statement.statement.span, "the backfill");
            }
            return Err(self.error_at(diagnostic));
        }
        Ok(())
    }

    fn error_at(&self, diagnostic: Diagnostic) -> crate::Error {
        crate::Error::at(&self.draft.migration.source, vec![diagnostic])
            .with_kind(crate::ErrorKind::Refused)
            .left("nothing was changed")
    }

    /// Evaluated again, the expression may give another value.
    pub(super) fn unrepeatable(&self, expr: &str) -> bool {
        let called = function_names(expr);
        called.iter().any(|(_, name)| {
            self.probed.volatile.contains(name)
                || UNREPEATABLE.contains(&name.as_str())
                || self.creates_volatile(name)
        }) || lex_code(expr).iter().any(|t| {
            t.kind == TokenKind::Word
                && UNREPEATABLE_WORDS
                    .iter()
                    .any(|w| t.text(expr).eq_ignore_ascii_case(w))
        })
    }

    /// The file creates a function of this name that does not say that it is not volatile.
    fn creates_volatile(&self, function: &str) -> bool {
        self.draft.sections.expand.iter().any(|known| {
            let sql = &known.statement.sql;
            let says = |word: &str| lex_code(sql).iter().any(|t| is_keyword(*t, sql, word));
            matches!(&known.action, Action::CreateFunction { name, .. } if name.name == function)
                && !says("IMMUTABLE")
                && !says("STABLE")
        })
    }
}

/// The name at this byte is a table's, in a query of its own.
fn after_from(text: &str, at: usize) -> bool {
    let before = lex_code(&text[..at]);
    before
        .last()
        .is_some_and(|t| is_keyword(*t, text, "FROM") || is_keyword(*t, text, "JOIN"))
}

/// An expression reads other tables in a query of its own.
pub(super) fn queries(statement: &DraftStatement<'_>) -> bool {
    pieces(statement).any(|(text, _)| {
        lex_code(text)
            .iter()
            .any(|t| is_keyword(*t, text, "SELECT"))
    })
}
