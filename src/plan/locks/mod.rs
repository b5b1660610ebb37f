//! Which locks a statement takes.
//!
//! Sources: PostgreSQL documentation, "Explicit Locking" (13.3.1), ALTER TABLE, CREATE INDEX,
//! CREATE TABLE, COMMENT and the other command pages; where they are silent,
//! `AlterTableGetLockLevel` in `tablecmds.c`. The same in 14 to 18.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::forms::{created, existing, table};
use crate::catalog::{Catalog, ConstraintKind, RelKind, Table};
use crate::lock::{LockMode, LockOn};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, CommentTarget, ReindexTarget};

use LockMode::{
    AccessExclusive, AccessShare, Exclusive, RowExclusive, RowShare, Share, ShareRowExclusive,
    ShareUpdateExclusive,
};

/// The locks that a statement takes on relations, each relation once with its strongest mode, in
/// the order of their names. Locks of plain reads (the tables of a query, `lock_timeout`-free
/// look-ups) are left out but for those that the documentation gives to a command.
///
/// What the statement may lock beyond what it says, as far as the catalog tells: partitions, the
/// other tables of foreign keys. A table that the same plan creates is given like any other; the
/// caller knows that nobody can wait for it.
pub fn locks(action: &Action, catalog: &Catalog) -> Vec<LockOn> {
    let mut locks = Locks {
        catalog,
        found: BTreeMap::new(),
    };
    locks.action(action);
    locks
        .found
        .into_iter()
        .map(|(relation, mode)| LockOn { relation, mode })
        .collect()
}

/// True where the server runs the statement inside a transaction block. Not: what is
/// CONCURRENTLY, VACUUM, REINDEX of more than a table, CREATE DATABASE and its kin. ALTER TYPE …
/// ADD VALUE may be in one since 12 (the value can be used after the commit).
pub fn transactional(action: &Action) -> bool {
    match action {
        Action::CreateIndex { concurrently, .. } | Action::DropIndex { concurrently, .. } => {
            !concurrently
        }
        Action::Reindex {
            target,
            concurrently,
            ..
        } => !concurrently && matches!(target, ReindexTarget::Index | ReindexTarget::Table),
        Action::Vacuum { .. }
        | Action::Cluster { table: None }
        | Action::OutsideTransaction { .. } => false,
        Action::AlterTable { ops, .. } => !ops.iter().any(|op| {
            matches!(
                op.kind,
                AlterOpKind::DetachPartition {
                    concurrently: true,
                    ..
                }
            )
        }),
        _ => true,
    }
}

struct Locks<'a> {
    catalog: &'a Catalog,
    found: BTreeMap<Option<RelName>, LockMode>,
}

impl Locks<'_> {
    fn put(&mut self, relation: Option<RelName>, mode: LockMode) {
        let held = self.found.entry(relation).or_insert(mode);
        *held = (*held).max(mode);
    }

    fn unknown(&mut self) {
        self.put(None, AccessExclusive);
    }

    fn existing(&mut self, name: &RelName, mode: LockMode) {
        self.put(Some(existing(self.catalog, name)), mode);
    }

    fn all(&mut self, names: &[RelName], mode: LockMode) {
        for name in names {
            self.existing(name, mode);
        }
    }

    /// The table and its leaf partitions.
    fn tree(&mut self, name: &RelName, mode: LockMode) {
        self.existing(name, mode);
        if let Some(table) = table(self.catalog, name) {
            for leaf in &table.leaves {
                self.put(Some((&leaf.name).into()), mode);
            }
        }
    }

    /// The tables that the foreign keys of `table` reference, of those that `which` takes.
    fn referenced(
        &mut self,
        table: &Table,
        mode: LockMode,
        which: impl Fn(&crate::catalog::Constraint) -> bool,
    ) {
        for constraint in table.constraints.iter().filter(|c| which(c)) {
            if let Some(other) = &constraint.references {
                self.tree(&other.into(), mode);
            }
        }
    }

    fn referencing(&mut self, table: &Table, mode: LockMode) {
        for (other, _) in &table.referenced_by {
            self.tree(&other.into(), mode);
        }
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::CreateTable {
                name,
                partition_of,
                inherits,
                like,
                references,
                ..
            } => {
                self.put(Some(created(self.catalog, name)), AccessExclusive);
                if let Some(parent) = partition_of {
                    self.existing(parent, AccessExclusive);
                }
                self.all(inherits, ShareUpdateExclusive);
                self.all(like, AccessShare);
                for other in references {
                    self.tree(other, ShareRowExclusive);
                }
            }
            Action::DropTable { names, cascade, .. } => {
                for name in names {
                    self.tree(name, AccessExclusive);
                    let Some(table) = table(self.catalog, name) else {
                        continue;
                    };
                    // Dropping a foreign key drops its triggers on the other table.
                    self.referenced(table, AccessExclusive, |_| true);
                    if *cascade {
                        self.referencing(table, AccessExclusive);
                    }
                    if let Some(parent) = &table.partition_of {
                        self.put(Some(parent.into()), AccessExclusive);
                    }
                }
            }
            Action::AlterTable {
                name, only, ops, ..
            } => self.alter_table(name, *only, ops),
            Action::AlterRelation {
                kind, name, ops, ..
            } => self.alter_relation(*kind, name, ops),
            Action::CreateIndex {
                table,
                only,
                concurrently,
                ..
            } => {
                let mode = if *concurrently {
                    ShareUpdateExclusive
                } else {
                    Share
                };
                if *only {
                    self.existing(table, mode);
                } else {
                    self.tree(table, mode);
                }
            }
            Action::DropIndex {
                names,
                concurrently,
                ..
            } => {
                let mode = if *concurrently {
                    ShareUpdateExclusive
                } else {
                    AccessExclusive
                };
                for name in names {
                    self.existing(name, mode);
                    self.table_of_index(name, mode);
                }
            }
            Action::Reindex {
                target,
                name,
                concurrently,
                ..
            } => self.reindex(*target, name.as_ref(), *concurrently),
            Action::CreateView { name, .. } => {
                self.put(Some(created(self.catalog, name)), AccessExclusive);
            }
            Action::DropView { names, cascade, .. }
            | Action::DropSequence { names, cascade, .. } => {
                self.all(names, AccessExclusive);
                if *cascade {
                    self.unknown();
                }
            }
            Action::AlterDomain { scans: true, .. } => self.put(None, Share),
            Action::AlterType {
                attributes: true, ..
            }
            | Action::Do
            | Action::Call
            | Action::Opaque { .. } => self.unknown(),
            Action::CreateTrigger { table, .. } => self.tree(table, ShareRowExclusive),
            Action::DropOnTable { table, .. }
            | Action::AlterOnTable { table, .. }
            | Action::CreatePolicy { table, .. }
            | Action::CreateRule { table, .. } => self.existing(table, AccessExclusive),
            Action::CreateStatistics {
                table: Some(table), ..
            } => self.existing(table, ShareUpdateExclusive),
            Action::Drop {
                object, cascade, ..
            } => {
                // An extension's own tables go with it.
                if *cascade || matches!(object.as_str(), "OWNED" | "OWNED BY" | "EXTENSION") {
                    self.unknown();
                } else if object == "STATISTICS" {
                    self.put(None, ShareUpdateExclusive);
                }
            }
            Action::Comment { target } => match target {
                CommentTarget::Table(table) | CommentTarget::Column { table, .. } => {
                    self.existing(table, ShareUpdateExclusive);
                }
                CommentTarget::Other {
                    table: Some(table), ..
                } => self.existing(table, AccessShare),
                CommentTarget::Other { table: None, .. } => {}
            },
            Action::Insert { table }
            | Action::Update { table }
            | Action::Delete { table }
            | Action::Merge { table } => self.existing(table, RowExclusive),
            Action::Copy {
                table: Some(table),
                from,
            } => self.existing(table, if *from { RowExclusive } else { AccessShare }),
            Action::Truncate { tables, cascade } => {
                for name in tables {
                    self.tree(name, AccessExclusive);
                    if let Some(table) = table(self.catalog, name).filter(|_| *cascade) {
                        self.referencing(table, AccessExclusive);
                    }
                }
            }
            Action::Select { functions } if !functions.is_empty() => self.unknown(),
            Action::LockTable { tables, mode } => {
                for name in tables {
                    self.tree(name, *mode);
                }
            }
            Action::Vacuum { tables, full } => self.maintain(
                tables,
                if *full {
                    AccessExclusive
                } else {
                    ShareUpdateExclusive
                },
            ),
            Action::Analyze { tables } => self.maintain(tables, ShareUpdateExclusive),
            Action::Cluster { table } => {
                self.maintain(table.as_slice(), AccessExclusive);
            }
            Action::Refresh { name, concurrently } => self.existing(
                name,
                if *concurrently {
                    Exclusive
                } else {
                    AccessExclusive
                },
            ),
            _ => {}
        }
    }

    /// These tables, or any where none is named.
    fn maintain(&mut self, tables: &[RelName], mode: LockMode) {
        if tables.is_empty() {
            self.put(None, mode);
        }
        for name in tables {
            self.tree(name, mode);
        }
    }

    fn table_of_index(&mut self, index: &RelName, mode: LockMode) {
        if let Some((table, _)) = self.catalog.index(index.schema.as_deref(), &index.name) {
            let name = RelName::from(&table.name);
            self.tree(&name, mode);
        }
    }

    fn reindex(&mut self, target: ReindexTarget, name: Option<&RelName>, concurrently: bool) {
        let on_table = if concurrently {
            ShareUpdateExclusive
        } else {
            Share
        };
        // Every plan looks at every index of its tables, so this one blocks reads too.
        let on_index = if concurrently {
            ShareUpdateExclusive
        } else {
            AccessExclusive
        };
        match (target, name) {
            (ReindexTarget::Index, Some(name)) => {
                self.existing(name, on_index);
                self.table_of_index(name, on_table);
            }
            (ReindexTarget::Table, Some(name)) => {
                self.tree(name, on_table);
                if let Some(table) = table(self.catalog, name) {
                    for index in &table.indexes {
                        let index = RelName::new(Some(&table.name.schema), index.name.as_str());
                        self.put(Some(index), on_index);
                    }
                }
            }
            _ => self.put(None, on_index),
        }
    }

    fn alter_relation(&mut self, kind: RelKind, name: &RelName, ops: &[AlterOp]) {
        for op in ops {
            let mode = match (kind, &op.kind) {
                (RelKind::Index, AlterOpKind::RenameTable { .. }) => ShareUpdateExclusive,
                (RelKind::Index, AlterOpKind::AttachPartition { partition, .. }) => {
                    self.existing(partition, AccessExclusive);
                    ShareUpdateExclusive
                }
                // INCREMENT, RESTART, OWNED BY …: nextval waits for it.
                (RelKind::Sequence, AlterOpKind::Other { .. }) => ShareRowExclusive,
                _ => mode(&op.kind),
            };
            self.existing(name, mode);
        }
    }

    fn alter_table(&mut self, name: &RelName, only: bool, ops: &[AlterOp]) {
        let known = table(self.catalog, name);
        for op in ops {
            let mode = mode(&op.kind);
            if only || !recurses(&op.kind) {
                self.existing(name, mode);
            } else {
                self.tree(name, mode);
            }
            match &op.kind {
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
                }
                AlterOpKind::DetachPartition { partition, .. } => {
                    // CONCURRENTLY takes it too, in its second transaction.
                    self.tree(partition, AccessExclusive);
                }
                AlterOpKind::Inherit { parent } => self.existing(parent, ShareUpdateExclusive),
                AlterOpKind::NoInherit { parent } => self.existing(parent, AccessShare),
                _ => {}
            }
            if let Some(table) = known {
                self.other_ends(table, &op.kind);
            }
        }
    }

    /// The other tables of foreign keys that a sub-command drops, rebuilds or reads.
    fn other_ends(&mut self, table: &Table, op: &AlterOpKind) {
        match op {
            AlterOpKind::DropConstraint { name, cascade, .. } => {
                self.referenced(table, AccessExclusive, |c| c.name == *name);
                let key = table.constraint(name).is_some_and(|c| {
                    matches!(c.kind, ConstraintKind::PrimaryKey | ConstraintKind::Unique)
                });
                if *cascade && key {
                    self.referencing(table, AccessExclusive);
                }
            }
            AlterOpKind::DropColumn { name, cascade, .. } => {
                self.referenced(table, AccessExclusive, |c| c.columns.contains(name));
                if *cascade && is_key(table, name) {
                    self.referencing(table, AccessExclusive);
                }
            }
            AlterOpKind::SetType { column, .. } => {
                self.referenced(table, AccessExclusive, |c| c.columns.contains(column));
                if is_key(table, column) {
                    self.referencing(table, AccessExclusive);
                }
            }
            AlterOpKind::ValidateConstraint { name } => {
                self.referenced(table, RowShare, |c| c.name == *name);
            }
            _ => {}
        }
    }
}

fn is_key(table: &Table, column: &str) -> bool {
    table
        .indexes
        .iter()
        .any(|i| i.unique && i.columns.iter().any(|c| c == column))
}

/// The mode that a sub-command takes on the table of ALTER TABLE.
pub(crate) fn mode(op: &AlterOpKind) -> LockMode {
    match op {
        AlterOpKind::AddConstraint(constraint) if constraint.kind == ConstraintKind::ForeignKey => {
            ShareRowExclusive
        }
        AlterOpKind::EnableTrigger { .. } | AlterOpKind::DisableTrigger { .. } => ShareRowExclusive,
        AlterOpKind::ValidateConstraint { .. }
        | AlterOpKind::SetStatistics
        | AlterOpKind::SetColumnOptions
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

/// True where the sub-command goes on to partitions and inheritance children.
fn recurses(op: &AlterOpKind) -> bool {
    !matches!(
        op,
        AlterOpKind::RenameTable { .. }
            | AlterOpKind::SetSchema { .. }
            | AlterOpKind::Owner
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
            | AlterOpKind::Inherit { .. }
            | AlterOpKind::NoInherit { .. }
    )
}
