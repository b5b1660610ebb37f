//! Files without sections: which phase a statement goes to, and whether it may.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::sections::{Known, removes};
use crate::error::Result;
use crate::migration::{Migration, SectionKind};
use crate::sql::Diagnostic;
use crate::sql::ddl::{Action, AlterOpKind, RelName, understand};
use crate::sql::lex::{ident_value, lex_code};

/// Where a statement of a plain file is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// As the others.
    Expand,
    /// It changes rows of a table that is there already.
    Backfill,
    /// It removes something from the old application version.
    Contract,
}

/// The place of each statement of a plain section, in order.
pub(super) fn places<'a>(known: impl Iterator<Item = &'a Known<'a>>) -> Vec<Place> {
    let mut created: BTreeSet<RelName> = BTreeSet::new();
    known
        .map(|known| match &known.action {
            Action::Update { table } | Action::Delete { table } if !created.contains(table) => {
                Place::Backfill
            }
            action if removes(action) => Place::Contract,
            Action::CreateTable {
                name,
                if_not_exists: false,
                ..
            } => {
                created.insert(name.clone());
                Place::Expand
            }
            _ => Place::Expand,
        })
        .collect()
}

/// Refuses a plain file whose order matters and would not be kept.
///
/// # Errors
/// A statement that needs what one before it does, which runs in a later phase.
pub(super) fn check_order(draft: &Draft<'_>, migration: &Migration) -> Result<()> {
    for section in migration.sections_of(SectionKind::Plain) {
        let known: Vec<Known<'_>> = section.statements.iter().map(Known::new).collect();
        let places = places(known.iter());
        for (at, statement) in known.iter().enumerate() {
            let overtaken = (0..at).find(|before| {
                places[*before] > places[at] && needs(statement, &known[*before], places[*before])
            });
            let Some(before) = overtaken else { continue };
            let (why, when) = if places[before] == Place::Contract {
                ("removes something", "at contract")
            } else {
                ("changes rows", "in batches, after expand")
            };
            return Err(crate::Error::at(
                draft.source(),
                vec![
                    Diagnostic::new(
                        statement.statement.span,
                        "this would run before a statement that stands above it",
                    )
                    .also(
                        known[before].statement.span,
                        format!("this {why}, so it is run {when}"),
                    )
                    .help("divide the file into sections, or into two migrations"),
                ],
            )
            .with_kind(crate::ErrorKind::Refused)
            .left("nothing was changed"));
        }
    }
    Ok(())
}

/// True where a statement cannot be told not to need what one above it does.
fn needs(statement: &Known<'_>, above: &Known<'_>, place: Place) -> bool {
    let text = &statement.statement.sql;
    let names: BTreeSet<String> = lex_code(text)
        .into_iter()
        .filter_map(|t| ident_value(t, text))
        .collect();
    match (place, understand(&above.statement.sql)) {
        (Place::Backfill, Action::Update { table } | Action::Delete { table }) => {
            match &statement.action {
                // What code does is not known.
                Action::Do | Action::Call => true,
                Action::Select { functions } => !functions.is_empty(),
                Action::Insert { .. }
                | Action::Merge { .. }
                | Action::Writes { .. }
                | Action::Copy { .. }
                | Action::Refresh { .. }
                | Action::Truncate { .. }
                | Action::CreateTable {
                    as_select: true, ..
                }
                | Action::CreateView {
                    materialized: true, ..
                } => names.contains(&table.name),
                _ => false,
            }
        }
        (
            Place::Contract,
            Action::DropTable { names: dropped, .. } | Action::DropSequence { names: dropped, .. },
        ) => dropped.iter().any(|t| names.contains(&t.name)),
        (Place::Contract, Action::AlterTable { name, ops, .. }) => {
            names.contains(&name.name)
                && ops.iter().any(|op| match &op.kind {
                    AlterOpKind::DropColumn { name, .. } => names.contains(name),
                    AlterOpKind::AddColumn(def) => names.contains(&def.name),
                    _ => false,
                })
        }
        _ => false,
    }
}
