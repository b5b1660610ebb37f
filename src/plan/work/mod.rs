//! How much a statement does while it holds its locks.
//!
//! Sources: PostgreSQL documentation, ALTER TABLE ("Notes" on what rewrites and what scans), and
//! where it is silent `tablecmds.c`. The same in 14 to 18 unless said.

mod types;
mod volatility;

use super::forms::{dropped_proofs, proven_not_null, table};
use crate::catalog::{Catalog, Column, ConstraintKind, LinkKind, RelKind, Table};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOpKind, ColumnDef, ConstraintDef, Generated};
use crate::sql::lex::{ident_value, is_keyword, lex_code};

pub(crate) use types::constrained_domain;
use types::{InPlace, converts_in_place};
pub use volatility::{Volatility, volatility};

/// What takes time proportional to the table, lightest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// Only the catalogs are changed.
    None,
    /// Every row is read.
    Scan,
    /// An index is built.
    IndexBuild,
    /// Every row is written anew, and every index built; or what is done is not known.
    Rewrite,
}

/// What the statement does to existing tables while it holds its locks, the heaviest of its
/// sub-commands. What is not recognised is [`Work::Rewrite`].
pub fn rewrites_or_scans(action: &Action, catalog: &Catalog) -> Work {
    match action {
        Action::AlterTable { name, ops, .. } => {
            let table = table(catalog, name);
            let unproven = table.is_some_and(|t| !dropped_proofs(t, ops).is_empty());
            let scan = if unproven { Work::Scan } else { Work::None };
            ops.iter()
                .map(|op| op_work(&op.kind, table, catalog))
                .fold(scan, Ord::max)
        }
        Action::CreateTable {
            partition_of: Some(parent),
            ..
        } => default_partition(parent, catalog),
        Action::CreateIndex {
            table: on,
            only,
            name,
            if_not_exists,
            ..
        } => {
            let on = table(catalog, on);
            let there = name
                .as_ref()
                .is_some_and(|name| on.is_some_and(|t| t.index(&name.name).is_some()));
            // ON ONLY a partitioned table makes an entry of the catalog, without a file.
            let only = *only && on.is_some_and(|t| t.kind == RelKind::Partitioned);
            if only || *if_not_exists && there {
                Work::None
            } else {
                Work::IndexBuild
            }
        }
        Action::Reindex { .. } => Work::IndexBuild,
        Action::AlterDomain {
            name, scans: true, ..
        } => match catalog.tables_with_type(name.schema.as_deref(), &name.name) {
            Some(tables) if tables.is_empty() => Work::None,
            _ => Work::Scan,
        },
        Action::AlterType {
            name,
            attributes: true,
            ..
        } => {
            let typed = catalog.links.is_none()
                || catalog.links().any(|link| {
                    link.kind == LinkKind::OfType
                        && link.to.name == name.name
                        && name.schema.as_ref().is_none_or(|s| *s == link.to.schema)
                });
            if typed { Work::Rewrite } else { Work::None }
        }
        // The rows that differ are written to the old file.
        Action::Refresh {
            concurrently: true, ..
        } => Work::Scan,
        Action::Vacuum { full: true, .. }
        | Action::Cluster { .. }
        | Action::Refresh { .. }
        | Action::Do
        | Action::Call
        | Action::Opaque { .. } => Work::Rewrite,
        Action::Select { functions } if !functions.is_empty() => Work::Rewrite,
        _ => Work::None,
    }
}

/// What a sub-command of ALTER TABLE does to its table; `None` for a table that the catalog does
/// not have.
pub(crate) fn op_work(op: &AlterOpKind, table: Option<&Table>, catalog: &Catalog) -> Work {
    match op {
        AlterOpKind::AddColumn(column) => add_column(column, table, catalog),
        AlterOpKind::SetNotNull { column } => not_null(table, column),
        AlterOpKind::SetType {
            column,
            type_text,
            using,
            collate,
            ..
        } => {
            let Some((table, old)) = table.and_then(|t| Some((t, t.column(column)?))) else {
                return Work::Rewrite;
            };
            set_type(table, old, (type_text, *collate), using.as_deref(), catalog)
        }
        AlterOpKind::AddConstraint(constraint) => add_constraint(constraint, table),
        AlterOpKind::ValidateConstraint { name } => {
            let validated = table
                .and_then(|t| t.constraint(name))
                .is_some_and(|c| c.validated);
            if validated { Work::None } else { Work::Scan }
        }
        AlterOpKind::AttachPartition { partition, .. } => attach(table, partition, catalog),
        AlterOpKind::AlterConstraint {
            enforced: Some(true),
            ..
        } => Work::Scan,
        // A partitioned table has no file.
        AlterOpKind::SetTablespace | AlterOpKind::SetAccessMethod
            if table.is_some_and(|t| t.kind == RelKind::Partitioned) =>
        {
            Work::None
        }
        // A virtual one is computed on read: only what is checked of it is read again.
        AlterOpKind::SetExpression { column }
            if table
                .and_then(|t| t.column(column))
                .is_some_and(|c| c.generated && c.is_virtual) =>
        {
            let checked = table.is_some_and(|t| is_checked(t, column));
            if checked { Work::Scan } else { Work::None }
        }
        AlterOpKind::SetExpression { .. }
        | AlterOpKind::SetTablespace
        | AlterOpKind::SetAccessMethod
        | AlterOpKind::SetLogged { .. }
        | AlterOpKind::Other { .. } => Work::Rewrite,
        _ => Work::None,
    }
}

/// A type change: the rows where their bytes change, else the indexes that do not fit any more,
/// else the CHECKs of the column, which are made anew.
fn set_type(
    table: &Table,
    old: &Column,
    (new, collate): (&str, bool),
    using: Option<&str>,
    catalog: &Catalog,
) -> Work {
    let same_order = match converts_in_place(old, new, using, catalog) {
        InPlace::No => return Work::Rewrite,
        InPlace::OtherOrder => false,
        InPlace::SameOrder => !collate,
    };
    let rebuilt = table.indexes.iter().any(|index| {
        mentions(&index.definition, &old.name)
            && (!same_order
                || table.kind == RelKind::Partitioned
                || index.columns.iter().any(String::is_empty)
                || is_partial(&index.definition))
    });
    if rebuilt {
        Work::IndexBuild
    } else if is_checked(table, &old.name) {
        Work::Scan
    } else {
        Work::None
    }
}

fn is_checked(table: &Table, column: &str) -> bool {
    table
        .constraints
        .iter()
        .any(|c| c.kind == ConstraintKind::Check && c.columns.iter().any(|c| c == column))
}

/// The identifier is in the text of an index after its table: in its key, expressions or WHERE.
fn mentions(definition: &str, column: &str) -> bool {
    let tokens = lex_code(definition);
    tokens
        .iter()
        .skip_while(|t| !is_keyword(**t, definition, "using"))
        .any(|t| ident_value(*t, definition).is_some_and(|name| name == column))
}

fn is_partial(definition: &str) -> bool {
    lex_code(definition)
        .iter()
        .any(|t| is_keyword(*t, definition, "where"))
}

/// ATTACH PARTITION builds the parent's indexes that the table lacks, and reads the table and the
/// DEFAULT partition unless a valid CHECK implies the bound. Whether one does is the server's to
/// prove; here a valid CHECK of a column of the partition key is taken to.
fn attach(parent: Option<&Table>, partition: &RelName, catalog: &Catalog) -> Work {
    let Some(partition) = table(catalog, partition) else {
        return Work::IndexBuild;
    };
    if partition.rows == 0 {
        return parent.map_or(Work::Scan, |parent| {
            default_partition(&(&parent.name).into(), catalog)
        });
    }
    let Some(parent) = parent else {
        return Work::Scan;
    };
    let lacks = parent.indexes.iter().any(|index| {
        partition.indexes.iter().all(|own| {
            !own.valid
                || own.unique != index.unique
                || index.constraint && !own.constraint
                || shape(&own.definition) != shape(&index.definition)
        })
    });
    if lacks {
        return Work::IndexBuild;
    }
    if !proves_bound(parent, partition) {
        return Work::Scan;
    }
    default_partition(&(&parent.name).into(), catalog)
}

/// The text of an index after its name and table.
fn shape(definition: &str) -> &str {
    definition
        .find(" USING ")
        .map_or(definition, |at| &definition[at..])
}

/// A new partition makes the server read the DEFAULT one, where that may have rows of it.
fn default_partition(parent: &RelName, catalog: &Catalog) -> Work {
    let Some(parent) = table(catalog, parent) else {
        return Work::None;
    };
    match catalog.default_partition(&parent.name) {
        None => Work::None,
        Some(name) => {
            let proven = catalog
                .tables
                .get(name)
                .is_some_and(|t| t.rows == 0 || proves_bound(parent, t));
            if proven { Work::None } else { Work::Scan }
        }
    }
}

fn proves_bound(parent: &Table, partition: &Table) -> bool {
    let is_key = |column: &String| {
        parent
            .dependents
            .get(column)
            .is_some_and(|all| all.iter().any(|d| d.starts_with("partition key of ")))
    };
    let expression = !parent.columns.iter().any(|c| is_key(&c.name));
    partition.constraints.iter().any(|c| {
        c.kind == ConstraintKind::Check
            && c.validated
            && (expression || c.columns.iter().any(is_key))
    })
}

fn not_null(table: Option<&Table>, column: &str) -> Work {
    if table.is_some_and(|t| proven_not_null(t, column)) {
        Work::None
    } else {
        Work::Scan
    }
}

fn add_column(column: &ColumnDef, table: Option<&Table>, catalog: &Catalog) -> Work {
    if column.if_not_exists && table.is_some_and(|t| t.column(&column.name).is_some()) {
        return Work::None;
    }
    let stored = matches!(column.generated, Some((Generated::Stored, _)));
    let default = column.default.as_deref();
    if stored
        || column.identity
        || column.is_serial()
        || constrained_domain(&column.type_text, catalog)
        || default.is_some_and(|d| volatility(d) != Volatility::Safe)
    {
        return Work::Rewrite;
    }
    if column.has(ConstraintKind::Unique) || column.has(ConstraintKind::PrimaryKey) {
        return Work::IndexBuild;
    }
    // A foreign key of a column that is null in every row is not checked.
    let checks = column.has(ConstraintKind::Check)
        || column.has(ConstraintKind::ForeignKey) && default.is_some()
        || column.not_null && default.is_none();
    if checks { Work::Scan } else { Work::None }
}

fn add_constraint(constraint: &ConstraintDef, table: Option<&Table>) -> Work {
    if constraint.not_valid || constraint.not_enforced {
        return Work::None;
    }
    match (constraint.kind, &constraint.using_index) {
        (ConstraintKind::PrimaryKey, Some(index)) => {
            // Its columns become NOT NULL.
            let proven = table.is_some_and(|t| {
                t.index(index)
                    .is_some_and(|i| i.columns.iter().all(|c| proven_not_null(t, c)))
            });
            if proven { Work::None } else { Work::Scan }
        }
        (ConstraintKind::Unique, Some(_)) => Work::None,
        (ConstraintKind::NotNull, _) => constraint
            .columns
            .first()
            .map_or(Work::Scan, |column| not_null(table, column)),
        (ConstraintKind::Check | ConstraintKind::ForeignKey, _) => Work::Scan,
        _ => Work::IndexBuild,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::catalog;
    use crate::sql::ddl::understand;

    #[test]
    fn work_of_statements() {
        let catalog = catalog(15);
        for (text, work) in [
            ("ALTER TABLE orders ADD COLUMN n text", Work::None),
            (
                "ALTER TABLE orders ADD COLUMN n int NOT NULL DEFAULT 0",
                Work::None,
            ),
            ("ALTER TABLE orders ADD COLUMN n int NOT NULL", Work::Scan),
            (
                "ALTER TABLE orders ADD COLUMN n uuid DEFAULT gen_random_uuid()",
                Work::Rewrite,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int DEFAULT app.f()",
                Work::Rewrite,
            ),
            ("ALTER TABLE orders ADD COLUMN n bigserial", Work::Rewrite),
            ("ALTER TABLE orders ADD COLUMN n positive", Work::Rewrite),
            (
                "ALTER TABLE orders ADD COLUMN n public.\"positive\" DEFAULT 1",
                Work::Rewrite,
            ),
            ("ALTER TABLE orders ADD COLUMN n app.positive", Work::None),
            ("ALTER TABLE orders ADD COLUMN n positive[]", Work::None),
            (
                "ALTER TABLE orders ADD COLUMN n int GENERATED ALWAYS AS IDENTITY",
                Work::Rewrite,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int GENERATED ALWAYS AS (1) STORED",
                Work::Rewrite,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int GENERATED ALWAYS AS (1) VIRTUAL",
                Work::None,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int REFERENCES users",
                Work::None,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int DEFAULT 1 REFERENCES users",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int CHECK (n > 0)",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders ADD COLUMN n int UNIQUE",
                Work::IndexBuild,
            ),
            (
                "ALTER TABLE orders ADD COLUMN IF NOT EXISTS total bigserial",
                Work::None,
            ),
            ("ALTER TABLE orders ALTER total SET NOT NULL", Work::Scan),
            ("ALTER TABLE orders ALTER user_id SET NOT NULL", Work::None),
            ("ALTER TABLE orders ALTER email SET NOT NULL", Work::None),
            (
                "ALTER TABLE orders ALTER email SET NOT NULL, DROP CONSTRAINT orders_email_check",
                Work::Scan,
            ),
            ("ALTER TABLE orders ALTER email TYPE text", Work::Scan),
            ("ALTER TABLE orders ALTER note TYPE text", Work::None),
            ("ALTER TABLE orders ALTER id TYPE numeric", Work::Rewrite),
            ("ALTER TABLE orders ADD CHECK (total > 0)", Work::Scan),
            (
                "ALTER TABLE orders ADD CHECK (total > 0) NOT VALID",
                Work::None,
            ),
            ("ALTER TABLE orders ADD UNIQUE (total)", Work::IndexBuild),
            (
                "ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX orders_email_idx",
                Work::None,
            ),
            (
                "ALTER TABLE orders ADD PRIMARY KEY USING INDEX orders_total_idx",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders VALIDATE CONSTRAINT orders_total_check",
                Work::Scan,
            ),
            (
                "ALTER TABLE orders VALIDATE CONSTRAINT orders_email_check",
                Work::None,
            ),
            (
                "ALTER TABLE orders DROP COLUMN total, SET UNLOGGED",
                Work::Rewrite,
            ),
            ("ALTER TABLE orders FROBNICATE", Work::Rewrite),
            (
                "ALTER TABLE orders ALTER total SET STATISTICS 100",
                Work::None,
            ),
            ("CREATE INDEX i ON orders (total)", Work::IndexBuild),
            ("FROBNICATE orders", Work::Rewrite),
            ("VACUUM FULL orders", Work::Rewrite),
            ("VACUUM orders", Work::None),
            ("DROP TABLE orders", Work::None),
        ] {
            assert_eq!(
                rewrites_or_scans(&understand(text), &catalog),
                work,
                "{text}"
            );
        }
    }
}
