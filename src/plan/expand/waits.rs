//! What of expand must wait for the backfill.

use super::Builder;
use super::text::{names, sql_of};
use crate::catalog::{QName, Table};
use crate::plan::step::Step;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, understand};

impl Builder<'_, '_> {
    pub(super) fn must_wait(&self, step: &Step) -> bool {
        sql_of(step).iter().any(|sql| {
            let waits = match understand(sql) {
                // An entry of the catalog, which no row has a part in yet.
                Action::CreateIndex { only: true, .. } => false,
                Action::CreateIndex { table, .. } => self
                    .draft
                    .table(&table)
                    .is_some_and(|t| self.names_filled(&t.name, sql)),
                Action::AlterTable { name, ops, .. } => self
                    .draft
                    .table(&name)
                    .is_some_and(|t| ops.iter().any(|op| self.op_waits(t, op, sql))),
                _ => false,
            };
            waits || names(sql).any(|name| self.waiting.contains(&name))
        })
    }

    /// A constraint of what the backfill has still to fill would refuse the writes of the
    /// application to the rows that it has not reached, NOT VALID or not.
    pub(super) fn op_waits(&self, table: &Table, op: &AlterOp, sql: &str) -> bool {
        match &op.kind {
            AlterOpKind::AddConstraint(_) => {
                self.thinned.contains(&table.name)
                    || self.names_filled(&table.name, op.span.of(sql))
            }
            AlterOpKind::SetNotNull { column } => {
                self.thinned.contains(&table.name) || self.is_filled(&table.name, column)
            }
            _ => false,
        }
    }

    pub(super) fn is_filled(&self, table: &QName, column: &str) -> bool {
        self.filled.contains(&(table.clone(), column.to_owned()))
    }

    pub(super) fn is_synced(&self, table: &QName, column: &str) -> bool {
        self.synced.contains(&(table.clone(), column.to_owned()))
    }

    pub(super) fn names_filled(&self, table: &QName, text: &str) -> bool {
        names(text).any(|name| self.is_filled(table, &name))
    }
}
