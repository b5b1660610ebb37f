//! How much a statement does while it holds its locks.
//!
//! Sources: PostgreSQL documentation, ALTER TABLE ("Notes" on what rewrites and what scans), and
//! where it is silent `tablecmds.c`. The same in 14 to 18 unless said.

mod types;
mod volatility;

use super::forms::{dropped_proofs, proven_not_null, table};
use crate::catalog::{Catalog, ConstraintKind, Table};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOpKind, ColumnDef, ConstraintDef, Generated};

pub(crate) use types::constrained_domain;
use types::converts_in_place;
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
        Action::CreateIndex { .. } | Action::Reindex { .. } => Work::IndexBuild,
        Action::AlterDomain { scans: true, .. } => Work::Scan,
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
        } => {
            let Some(old) = table.and_then(|t| t.column(column)) else {
                return Work::Rewrite;
            };
            if *collate || !converts_in_place(old, type_text, using.as_deref()) {
                return Work::Rewrite;
            }
            // The CHECKs of the column are made anew, and so checked.
            let checked = table.is_some_and(|t| {
                t.constraints
                    .iter()
                    .any(|c| c.kind == ConstraintKind::Check && c.columns.contains(column))
            });
            if checked { Work::Scan } else { Work::None }
        }
        AlterOpKind::AddConstraint(constraint) => add_constraint(constraint, table),
        AlterOpKind::ValidateConstraint { name } => {
            let validated = table
                .and_then(|t| t.constraint(name))
                .is_some_and(|c| c.validated);
            if validated { Work::None } else { Work::Scan }
        }
        AlterOpKind::AttachPartition { partition, .. } => attach(partition, catalog),
        AlterOpKind::SetExpression { .. }
        | AlterOpKind::SetTablespace
        | AlterOpKind::SetAccessMethod
        | AlterOpKind::SetLogged { .. }
        | AlterOpKind::Other { .. } => Work::Rewrite,
        _ => Work::None,
    }
}

/// ATTACH PARTITION reads the table that it attaches unless a valid CHECK implies the bound.
/// Whether one does is the server's to prove; here any valid CHECK is taken to. One that the same
/// plan makes is empty.
fn attach(partition: &RelName, catalog: &Catalog) -> Work {
    let proven = table(catalog, partition).is_none_or(|t| {
        t.rows == 0
            || t.constraints
                .iter()
                .any(|c| c.kind == ConstraintKind::Check && c.validated)
    });
    if proven { Work::None } else { Work::Scan }
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
        || column.not_null && default.is_none() && column.generated.is_none();
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
