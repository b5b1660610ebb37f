//! `option cascade=true`: the columns that reference a column whose type changes get the same
//! type, those that reference them too, and so on. Each is a change like the author's own.

use super::definition::referenced;
use super::inbound::{is_declared, top};
use super::{Retype, backfill, check_column, check_table, check_unnamed, way_back};
use crate::catalog::{ConstraintKind, Table};
use crate::error::Result;
use crate::plan::draft::{Draft, DraftStatement};
use crate::plan::work::{Work, op_work};
use crate::sql::ddl::{Action, understand};
use crate::sql::quote::{derived_name, ident};

/// Adds the changes of the columns that reference the changed ones.
pub(in crate::plan) fn follow<'a>(
    draft: &Draft<'a>,
    all: &mut Vec<(Retype, DraftStatement<'a>)>,
) -> Result<()> {
    if !draft.migration.options.cascade {
        return Ok(());
    }
    let mut at = 0;
    while let Some((retype, statement)) = all.get(at) {
        let (retype, statement) = (retype.clone(), statement.clone());
        at += 1;
        for (table, column) in referencing(draft, &statement, &retype) {
            let known =
                |(r, s): &(Retype, DraftStatement<'_>)| s.table == table.name && r.column == column;
            if all.iter().any(known) || !rewrites(draft, table, &column, &retype) {
                continue;
            }
            if retype.using.is_some() && !way_back::casts_only(&retype) {
                return Err(draft.refused(
                    retype.span,
                    format!(
                        "{column} of {} references {}, whose values USING changes: nothing says \
                         what becomes of {column}",
                        table.name, retype.column
                    ),
                    &format!(
                        "without cascade=true, write ALTER TABLE {} ALTER COLUMN {column} TYPE … \
                         USING … into the same file",
                        table.name
                    ),
                ));
            }
            let key = format!("{} {} {column}", draft.migration.id, table.name);
            let new = Retype {
                column: column.clone(),
                shadow: derived_name("_pgshift_new_", &column, &key),
                old: derived_name("_pgshift_dropped_", &column, &key),
                using: None,
                ..retype.clone()
            };
            if !table.owned {
                return Err(draft.refused(
                    retype.span,
                    format!(
                        "{column} of {} references {}, and role {} does not own that table",
                        table.name, retype.column, draft.catalog.role
                    ),
                    "run pgshift as a role that owns all the tables",
                ));
            }
            check_unnamed(draft, usize::MAX, table, &new)?;
            check_table(draft, table, &new)?;
            check_column(draft, table, &new)?;
            let statement = backfill(statement.statement, table, &new);
            all.push((new, statement));
        }
    }
    Ok(())
}

/// The columns whose foreign keys reference this one.
fn referencing<'d>(
    draft: &Draft<'d>,
    statement: &DraftStatement<'_>,
    retype: &Retype,
) -> Vec<(&'d Table, String)> {
    let mut found = Vec::new();
    let to = &draft.catalog.tables[&statement.table];
    for table in draft.catalog.tables.values() {
        let keys = table.constraints.iter().filter(|c| {
            c.kind == ConstraintKind::ForeignKey
                && c.references.as_ref() == Some(&to.name)
                && is_declared(to, table, c)
        });
        for key in keys {
            for (own, theirs) in key.columns.iter().zip(referenced(&key.definition)) {
                // The columns of a partition have the types of its table.
                let entry = (top(draft.catalog, table), own.clone());
                if theirs == retype.column && !found.contains(&entry) {
                    found.push(entry);
                }
            }
        }
    }
    found
}

/// The column is not of the type already.
fn rewrites(draft: &Draft<'_>, table: &Table, column: &str, retype: &Retype) -> bool {
    let sql = format!(
        "ALTER TABLE t ALTER COLUMN {} TYPE {}",
        ident(column),
        retype.definition
    );
    let Action::AlterTable { ops, .. } = understand(&sql) else {
        return true;
    };
    ops.iter()
        .any(|op| op_work(&op.kind, Some(table), draft.catalog) > Work::Scan)
}
