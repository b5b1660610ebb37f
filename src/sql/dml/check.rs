//! The second opinion: what `sqlparser` makes of the same statement.
//!
//! Where it cannot parse the text, the token-level reading stands alone; the server judges it in
//! any case.

use sqlparser::ast::{FromTable, ObjectName, Statement, TableFactor, TableWithJoins};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use super::reader::refuse;
use super::{Delete, TableRef, Update};
use crate::sql::lex::{MAX_IDENT, floor_char_boundary, lex_code};
use crate::sql::source::{Diagnostic, Span};

pub(super) fn update(text: &str, ours: &Update) -> Result<(), Diagnostic> {
    match parse(text).as_deref() {
        Some([Statement::Update(theirs)]) => {
            if theirs.assignments.len() != ours.assignments.len() {
                return Err(disagree(
                    Span::new(0, text.len()),
                    "how many columns it sets",
                ));
            }
            same_table(&theirs.table, &ours.table, ours.only)
        }
        Some(_) => Err(disagree(Span::new(0, text.len()), "what statement it is")),
        None => Ok(()),
    }
}

pub(super) fn delete(text: &str, ours: &Delete) -> Result<(), Diagnostic> {
    match parse(text).as_deref() {
        Some([Statement::Delete(theirs)]) => {
            let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &theirs.from;
            match from.as_slice() {
                [table] => same_table(table, &ours.table, ours.only),
                _ => Err(disagree(ours.table.span, "which table it is about")),
            }
        }
        Some(_) => Err(disagree(Span::new(0, text.len()), "what statement it is")),
        None => Ok(()),
    }
}

/// Tokens of a statement that is given to `sqlparser`. Its limit of recursion does not count chains
/// (`a || a || …`), whose tree is as deep as they are long: dropping it would overflow the stack.
const MOST_TOKENS: usize = 5_000;

fn parse(text: &str) -> Option<Vec<Statement>> {
    if lex_code(text).len() > MOST_TOKENS {
        return None;
    }
    Parser::parse_sql(&PostgreSqlDialect {}, text).ok()
}

fn disagree(span: Span, what: &str) -> Diagnostic {
    refuse(
        span,
        format!("two readings of this statement disagree on {what}"),
        "write it in a simpler form, with names quoted and expressions in parentheses",
    )
}

fn same_table(theirs: &TableWithJoins, ours: &TableRef, only: bool) -> Result<(), Diagnostic> {
    // `sqlparser` takes ONLY for the table and the table for its alias.
    if only {
        return Ok(());
    }
    let same = match &theirs.relation {
        TableFactor::Table { name, .. } => {
            theirs.joins.is_empty()
                && parts(name).is_some_and(|p| match p.as_slice() {
                    [name] => ours.schema.is_none() && *name == ours.name,
                    [schema, name] => ours.schema.as_ref() == Some(schema) && *name == ours.name,
                    _ => false,
                })
        }
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(disagree(ours.span, "which table it is about"))
    }
}

/// The parts of a name as the catalog has them.
fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0
        .iter()
        .map(|part| {
            let ident = part.as_ident()?;
            let mut value = match ident.quote_style {
                Some(_) => ident.value.clone(),
                None => ident.value.to_ascii_lowercase(),
            };
            value.truncate(floor_char_boundary(&value, MAX_IDENT));
            Some(value)
        })
        .collect()
}
