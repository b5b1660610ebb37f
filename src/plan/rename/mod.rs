//! Renames of what is in use: both names work, for reads and for writes, until contract.
//!
//! A **table** keeps its old name as a view that the server writes through; a **column** gets a
//! second one of the new name, kept equal both ways by the sync trigger, and at contract the
//! column itself takes the name over, with all that hangs on it.
//!
//! Why a view serves the one and not the other: a view of a table stands only for the version that
//! goes, while one that shows a column by both names would stand for the new version too, and
//! through a view some statements do not work (see `table::NOT_THROUGH_A_VIEW`).

pub(super) mod column;
pub(super) mod table;

use super::draft::Draft;
use super::expand::check_old_triggers;
use super::sections::{Known, Sections};
use crate::catalog::{QName, RelKind, Table};
use crate::error::Result;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOpKind, RelName};
use crate::sql::lex::{ident_value, lex_code};

/// A table of another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRename {
    /// The name that it has.
    pub from: QName,
    /// The name that it gets.
    pub to: QName,
    /// The statement, in the file.
    pub span: Span,
}

/// A column of another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnRename {
    /// The table.
    pub table: QName,
    /// The name that it has.
    pub from: String,
    /// The name that it gets.
    pub to: String,
    /// Place of the sub-command in the file.
    pub span: Span,
}

/// The renames of expand that leave both names working.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renames {
    /// Of tables.
    pub tables: Vec<TableRename>,
    /// Of columns.
    pub columns: Vec<ColumnRename>,
}

impl Renames {
    /// The rename of this table.
    pub(super) fn table(&self, from: &QName) -> Option<&TableRename> {
        self.tables.iter().find(|r| r.from == *from)
    }

    /// The renames of columns of this table.
    pub(super) fn of(&self, table: &QName) -> impl Iterator<Item = &ColumnRename> {
        self.columns.iter().filter(move |r| r.table == *table)
    }

    /// The tables with renamed columns, each once.
    pub(super) fn column_tables(&self) -> Vec<&QName> {
        let mut all: Vec<&QName> = self.columns.iter().map(|r| &r.table).collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The relations of which it must be known whether their names are taken.
pub(super) fn wanted(action: &Action) -> Vec<RelName> {
    let Action::AlterTable { name, ops, .. } = action else {
        return Vec::new();
    };
    ops.iter()
        .filter_map(|op| match &op.kind {
            AlterOpKind::RenameTable { to } => Some(RelName {
                schema: name.schema.clone(),
                name: to.clone(),
            }),
            _ => None,
        })
        .collect()
}

/// Finds the renames of the expand section.
///
/// # Errors
/// What neither a view nor a second column can stand for, with the way out.
pub(super) fn collect<'a>(draft: &Draft<'a>, sections: &Sections<'a>) -> Result<Renames> {
    let mut renames = Renames::default();
    for (number, known) in sections.expand.iter().enumerate() {
        let Some((table, ops)) = draft.altered(known) else {
            continue;
        };
        for op in ops {
            let span = op.span.shift(known.statement.span.start);
            let renames_it = matches!(
                op.kind,
                AlterOpKind::RenameTable { .. }
                    | AlterOpKind::RenameColumn { .. }
                    | AlterOpKind::SetSchema { .. }
            );
            if !renames_it {
                continue;
            }
            check_old_triggers(draft, table, span)?;
            if let Some(backfill) = sections
                .backfill
                .iter()
                .find(|(k, _)| writes(k, draft, table))
            {
                return Err(draft.refused(
                    span,
                    format!("this renames in {} what its backfill names", table.name),
                    &format!(
                        "rename in a migration of its own (the backfill is on line {})",
                        super::build::line(draft, backfill.0.statement.span)
                    ),
                ));
            }
            match &op.kind {
                AlterOpKind::RenameTable { to } => {
                    let swap = takes_over(sections, number, &table.name)
                        || freed(draft, sections, number, table, to);
                    if serves(table) && !swap {
                        table::check(draft, sections, number, table, to, span)?;
                        renames.tables.push(TableRename {
                            from: table.name.clone(),
                            to: QName::new(table.name.schema.as_str(), to.as_str()),
                            span: known.statement.span,
                        });
                    }
                }
                AlterOpKind::RenameColumn { from, to } if serves(table) => {
                    column::check(draft, sections, number, table, (from, to), span)?;
                    renames.columns.push(ColumnRename {
                        table: table.name.clone(),
                        from: from.clone(),
                        to: to.clone(),
                        span,
                    });
                }
                _ => {}
            }
        }
    }
    Ok(renames)
}

fn writes(known: &Known<'_>, draft: &Draft<'_>, table: &Table) -> bool {
    match &known.action {
        Action::Update { table: name } | Action::Delete { table: name } => {
            draft.table(name).is_some_and(|t| t.name == table.name)
        }
        _ => false,
    }
}

/// Rows are written to it, by its name.
fn serves(table: &Table) -> bool {
    matches!(table.kind, RelKind::Table | RelKind::Partitioned)
}

/// Something else of the file gets the name: the author's own view, or a table that replaces it.
fn takes_over(sections: &Sections<'_>, number: usize, name: &QName) -> bool {
    let is = |made: &RelName| {
        made.name == name.name && made.schema.as_ref().is_none_or(|s| *s == name.schema)
    };
    let named = |made: &str| made == name.name;
    sections.expand[number + 1..]
        .iter()
        .any(|known| match &known.action {
            Action::CreateView { name, .. } | Action::CreateTable { name, .. } => is(name),
            Action::AlterTable { ops, .. } => ops
                .iter()
                .any(|op| matches!(&op.kind, AlterOpKind::RenameTable { to } if named(to))),
            Action::AlterRelation { ops, .. } => ops
                .iter()
                .any(|op| matches!(&op.kind, AlterOpKind::RenameTable { to } if named(to))),
            _ => false,
        })
}

/// An earlier statement of the file renames the table that has the new name: the usual swap.
fn freed(
    draft: &Draft<'_>,
    sections: &Sections<'_>,
    number: usize,
    table: &Table,
    to: &str,
) -> bool {
    sections.expand[..number].iter().any(|known| {
        let Action::AlterTable { name, ops, .. } = &known.action else {
            return false;
        };
        let away = ops.iter().any(|op| {
            matches!(
                op.kind,
                AlterOpKind::RenameTable { .. } | AlterOpKind::SetSchema { .. }
            )
        });
        let there = draft.table(name).map(|t| &t.name);
        away && there.is_some_and(|t| t.name == to && t.schema == table.name.schema)
    })
}

/// The first other statement that has this name in its text.
fn other_naming<'s, 'a>(
    sections: &'s Sections<'a>,
    number: usize,
    name: &str,
    but: impl Fn(&Known<'a>) -> bool,
) -> Option<&'s Known<'a>> {
    let expand = sections.expand.iter().enumerate();
    let expand = expand.filter(|(n, _)| *n != number).map(|(_, known)| known);
    let backfills = sections.backfill.iter().map(|(known, _)| known);
    expand
        .chain(backfills)
        .chain(&sections.reverse)
        .chain(&sections.contract)
        .filter(|known| !but(known))
        .find(|known| {
            let text = &known.statement.sql;
            lex_code(text)
                .into_iter()
                .any(|token| ident_value(token, text).is_some_and(|n| n == name))
        })
}
