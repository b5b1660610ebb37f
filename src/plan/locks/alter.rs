//! ALTER TABLE.

use super::super::forms::table;
use super::LockMode::{
    AccessExclusive, AccessShare, RowShare, Share, ShareRowExclusive, ShareUpdateExclusive,
};
use super::Locks;
use crate::catalog::{Constraint, ConstraintKind, LinkKind, RelKind, Table};
use crate::lock::LockMode;
use crate::sql::RelName;
use crate::sql::ddl::{AlterOp, AlterOpKind, ConstraintDef};

impl Locks<'_> {
    pub(super) fn alter_table(&mut self, name: &RelName, only: bool, ops: &[AlterOp]) {
        let known = table(self.catalog, name);
        for op in ops {
            let mode = mode(&op.kind);
            self.existing(name, mode);
            if !only {
                match reach(&op.kind, known, self.catalog.major()) {
                    Reach::Table => {}
                    Reach::Partitions => self.partitions(name, mode),
                    Reach::Tree => self.tree(name, mode),
                }
            }
            self.other_relations(name, &op.kind);
            if let Some(table) = known {
                self.other_ends(table, only, &op.kind);
            }
        }
    }

    /// Relations that a sub-command names.
    fn other_relations(&mut self, name: &RelName, op: &AlterOpKind) {
        match op {
            AlterOpKind::AddColumn(column) => {
                for other in column
                    .constraints
                    .iter()
                    .filter_map(|c| c.references.as_ref())
                {
                    self.tree(other, ShareRowExclusive);
                }
            }
            AlterOpKind::AddConstraint(constraint) => {
                if let Some(other) = &constraint.references {
                    self.tree(other, ShareRowExclusive);
                }
            }
            AlterOpKind::AttachPartition { partition, .. } => {
                self.tree(partition, AccessExclusive);
                self.new_partition(name);
                self.merged_keys(name, partition);
            }
            AlterOpKind::DetachPartition { partition, .. } => {
                // CONCURRENTLY takes it too, in its second transaction.
                self.tree(partition, AccessExclusive);
                if let Some(parent) = self.qualified(name) {
                    let catalog = self.catalog;
                    self.these(catalog.default_partition(&parent), AccessExclusive);
                    // Its foreign keys become its own.
                    if let Some(parent) = catalog.tables.get(&parent) {
                        self.referenced(parent, ShareRowExclusive, |_| true);
                    }
                }
            }
            AlterOpKind::Inherit { parent } => self.existing(parent, ShareUpdateExclusive),
            AlterOpKind::NoInherit { parent } => self.existing(parent, AccessShare),
            _ => {}
        }
    }

    /// A foreign key that a new partition has already becomes one with its parent's: its triggers
    /// on the referenced table are dropped.
    fn merged_keys(&mut self, parent: &RelName, partition: &RelName) {
        let (Some(parent), Some(partition)) =
            (table(self.catalog, parent), table(self.catalog, partition))
        else {
            return;
        };
        let own = |text: &str| {
            partition
                .constraints
                .iter()
                .any(|c| c.kind == ConstraintKind::ForeignKey && c.definition == text)
        };
        self.referenced(parent, AccessExclusive, |c| own(&c.definition));
    }

    /// The tables that foreign keys of `table` reference, where these are dropped.
    fn dropped_keys(&mut self, table: &Table, which: impl Fn(&Constraint) -> bool) {
        for constraint in table.constraints.iter().filter(|c| which(c)) {
            if let Some(other) = &constraint.references {
                self.put(Some(other.into()), AccessExclusive);
                self.key_triggers(other);
            }
        }
    }

    /// The other tables of foreign keys that a sub-command drops, rebuilds or reads; the sequences
    /// and views that change or go with a column.
    fn other_ends(&mut self, table: &Table, only: bool, op: &AlterOpKind) {
        let catalog = self.catalog;
        match op {
            AlterOpKind::DropConstraint { name, cascade, .. } => {
                self.dropped_keys(table, |c| c.name == *name);
                let key = table.constraint(name).filter(|c| {
                    matches!(c.kind, ConstraintKind::PrimaryKey | ConstraintKind::Unique)
                });
                if let Some(key) = key.filter(|_| *cascade) {
                    let column = key.columns.first().map(String::as_str);
                    self.referencing(table, column, AccessExclusive);
                }
            }
            AlterOpKind::DropColumn { name, cascade, .. } => {
                self.dropped_keys(table, |c| c.columns.contains(name));
                self.owned_sequences(&table.name, Some(name), AccessExclusive);
                if *cascade {
                    self.referencing(table, Some(name), AccessExclusive);
                    self.these(catalog.readers(&table.name, Some(name)), AccessExclusive);
                }
                if only {
                    // Their columns are their own from now on.
                    let children = catalog.direct(&table.name, LinkKind::Inherits);
                    self.these(children, AccessExclusive);
                }
            }
            AlterOpKind::SetType { column, .. } => {
                self.referenced(table, AccessExclusive, |c| c.columns.contains(column));
                self.referencing(table, Some(column), AccessExclusive);
            }
            // Its triggers come or go.
            AlterOpKind::AlterConstraint {
                name,
                enforced: Some(enforced),
            } => {
                let mode = if *enforced {
                    ShareRowExclusive
                } else {
                    AccessExclusive
                };
                self.referenced(table, mode, |c| c.name == *name);
            }
            AlterOpKind::ValidateConstraint { name } => {
                self.referenced(table, RowShare, |c| c.name == *name && !c.validated);
            }
            AlterOpKind::SetIdentity { column } => {
                self.owned_sequences(&table.name, Some(column), ShareRowExclusive);
            }
            AlterOpKind::DropIdentity { column } => {
                self.owned_sequences(&table.name, Some(column), AccessExclusive);
            }
            AlterOpKind::SetSchema { .. } | AlterOpKind::Owner { .. } => {
                self.owned_sequences(&table.name, None, AccessExclusive);
            }
            AlterOpKind::AddConstraint(constraint)
                if is_index(constraint) && table.kind == RelKind::Partitioned && !only =>
            {
                let mode = if sets_not_null(table, constraint) {
                    AccessExclusive
                } else {
                    Share
                };
                self.below(&table.name, mode);
            }
            _ => {}
        }
    }
}

/// A constraint with an index of its own.
fn is_index(constraint: &ConstraintDef) -> bool {
    matches!(
        constraint.kind,
        ConstraintKind::Unique | ConstraintKind::PrimaryKey | ConstraintKind::Exclusion
    )
}

/// A primary key whose columns can be null until now.
fn sets_not_null(table: &Table, constraint: &ConstraintDef) -> bool {
    constraint.kind == ConstraintKind::PrimaryKey
        && constraint
            .columns
            .iter()
            .any(|name| table.column(name).is_none_or(|c| !c.not_null))
}

/// The mode that a sub-command takes on the table of ALTER TABLE.
pub(crate) fn mode(op: &AlterOpKind) -> LockMode {
    match op {
        AlterOpKind::AddConstraint(constraint) if constraint.kind == ConstraintKind::ForeignKey => {
            ShareRowExclusive
        }
        AlterOpKind::EnableTrigger { .. } | AlterOpKind::DisableTrigger { .. } => ShareRowExclusive,
        AlterOpKind::ValidateConstraint { .. }
        | AlterOpKind::SetStatistics { .. }
        | AlterOpKind::SetColumnOptions { .. }
        | AlterOpKind::ClusterOn
        | AlterOpKind::AttachPartition { .. }
        | AlterOpKind::DetachPartition {
            concurrently: true, ..
        }
        | AlterOpKind::DetachPartition { finalize: true, .. } => ShareUpdateExclusive,
        AlterOpKind::SetOptions { names } if names.iter().all(|name| is_light(name)) => {
            ShareUpdateExclusive
        }
        _ => AccessExclusive,
    }
}

/// Storage parameters that ALTER TABLE sets under SHARE UPDATE EXCLUSIVE: "fillfactor, toast and
/// autovacuum storage parameters, as well as the planner parameter `parallel_workers`".
fn is_light(parameter: &str) -> bool {
    let name = parameter.strip_prefix("toast.").unwrap_or(parameter);
    name.starts_with("autovacuum_")
        || name.starts_with("vacuum_")
        || matches!(
            name,
            "fillfactor"
                | "toast_tuple_target"
                | "parallel_workers"
                | "log_autovacuum_min_duration"
        )
}

/// Which tables below its own a sub-command goes on to.
enum Reach {
    Table,
    Partitions,
    Tree,
}

fn reach(op: &AlterOpKind, table: Option<&Table>, major: u32) -> Reach {
    match op {
        AlterOpKind::RenameTable { .. }
        | AlterOpKind::SetSchema { .. }
        | AlterOpKind::Owner { .. }
        | AlterOpKind::AttachPartition { .. }
        | AlterOpKind::DetachPartition { .. }
        | AlterOpKind::Rule
        | AlterOpKind::RowSecurity
        | AlterOpKind::SetOptions { .. }
        | AlterOpKind::ReplicaIdentity
        | AlterOpKind::ClusterOn
        | AlterOpKind::SetTablespace
        | AlterOpKind::SetAccessMethod
        | AlterOpKind::SetLogged { .. }
        | AlterOpKind::OfType
        | AlterOpKind::Inherit { .. }
        | AlterOpKind::NoInherit { .. } => Reach::Table,
        // Before it looks at what the constraint is.
        AlterOpKind::AddConstraint(_) if major >= 18 => Reach::Tree,
        AlterOpKind::AddConstraint(constraint) => match constraint.kind {
            ConstraintKind::ForeignKey => Reach::Partitions,
            _ if is_index(constraint) || constraint.no_inherit => Reach::Table,
            _ => Reach::Tree,
        },
        AlterOpKind::AlterConstraint { .. } => Reach::Partitions,
        AlterOpKind::ValidateConstraint { name } => {
            let valid = table
                .and_then(|t| t.constraint(name))
                .is_some_and(|c| c.validated);
            if valid { Reach::Table } else { Reach::Tree }
        }
        AlterOpKind::RenameConstraint { from, .. } => {
            let inherited = table.and_then(|t| t.constraint(from)).is_none_or(|c| {
                matches!(c.kind, ConstraintKind::Check | ConstraintKind::NotNull)
                    && !c.definition.ends_with("NO INHERIT")
            });
            if inherited { Reach::Tree } else { Reach::Table }
        }
        // Only triggers of rows are on partitions too; those of foreign keys are.
        AlterOpKind::EnableTrigger { name } | AlterOpKind::DisableTrigger { name } => {
            let of_rows = name.as_ref().is_none_or(|name| {
                table.is_none_or(|t| t.triggers.iter().any(|t| t.name == *name && t.row))
            });
            if of_rows {
                Reach::Partitions
            } else {
                Reach::Table
            }
        }
        _ => Reach::Tree,
    }
}
