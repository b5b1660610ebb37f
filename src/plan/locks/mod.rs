//! Which locks a statement takes.
//!
//! Sources: PostgreSQL documentation, "Explicit Locking" (13.3.1), ALTER TABLE, CREATE INDEX,
//! CREATE TABLE, COMMENT and the other command pages; where they are silent,
//! `AlterTableGetLockLevel` in `tablecmds.c`. What differs from 14 to 18 is taken from the server's
//! version. `tests/it/truth` holds all of it against `pg_locks`.

mod alter;
mod drops;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::forms::{created, existing, table};
use crate::catalog::{Catalog, Constraint, LinkKind, QName, RelKind, Table};
use crate::lock::{LockMode, LockOn};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, CommentTarget, NameChange, ReindexTarget};

use LockMode::{
    AccessExclusive, AccessShare, Exclusive, RowExclusive, Share, ShareRowExclusive,
    ShareUpdateExclusive,
};

/// The locks that a statement takes on relations, each relation once with its strongest mode, in
/// the order of their names. What the queries in it read is apart: see [`read_locks`].
///
/// What the statement may lock beyond what it says, as far as the catalog tells: partitions,
/// inheritance children, the other tables of foreign keys, views, sequences. A table that the same plan creates is given like any other; the
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

/// True for a statement that cannot be in a transaction block, and blocks from the moment that it
/// has its lock: it is tried as one within a transaction is. (What is CONCURRENTLY waits for old
/// snapshots under a lock that blocks nobody, and a timeout would end it.)
pub fn in_tries(action: &Action) -> bool {
    matches!(action, Action::Vacuum { full: true, .. })
}

pub(crate) use alter::mode;
use drops::{sequence_users, view_readers};
pub use reads::{read_locks, reads};

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

    fn these<'n>(&mut self, names: impl IntoIterator<Item = &'n QName>, mode: LockMode) {
        for name in names {
            self.put(Some(name.into()), mode);
        }
    }

    /// The name with the schema that it is found in.
    fn qualified(&self, name: &RelName) -> Option<QName> {
        let name = existing(self.catalog, name);
        Some(QName::new(name.schema?, name.name))
    }

    fn is_partitioned(&self, name: &RelName) -> bool {
        table(self.catalog, name).is_some_and(|t| t.kind == RelKind::Partitioned)
    }

    /// The table and all partitions and inheritance children below it.
    fn tree(&mut self, name: &RelName, mode: LockMode) {
        self.existing(name, mode);
        if let Some(name) = self.qualified(name) {
            self.below(&name, mode);
        }
    }

    fn below(&mut self, name: &QName, mode: LockMode) {
        let catalog = self.catalog;
        self.these(catalog.below(name), mode);
    }

    /// The table and its partitions, not inheritance children.
    fn partitions(&mut self, name: &RelName, mode: LockMode) {
        if self.is_partitioned(name) {
            self.tree(name, mode);
        } else {
            self.existing(name, mode);
        }
    }

    /// The table and its inheritance children, not partitions.
    fn inheritors(&mut self, name: &RelName, mode: LockMode) {
        if self.is_partitioned(name) {
            self.existing(name, mode);
        } else {
            self.tree(name, mode);
        }
    }

    /// The tables that the foreign keys of `table` reference, of those that `which` takes.
    fn referenced(&mut self, table: &Table, mode: LockMode, which: impl Fn(&Constraint) -> bool) {
        for constraint in table.constraints.iter().filter(|c| which(c)) {
            if let Some(other) = &constraint.references {
                self.tree(&other.into(), mode);
            }
        }
    }

    /// The tables that reference this one, or one that it is a partition of; where a column is
    /// given, those that reference it.
    fn referencing(&mut self, table: &Table, column: Option<&str>, mode: LockMode) {
        let catalog = self.catalog;
        let mut next = Some(table);
        while let Some(table) = next {
            for other in catalog.referencing(table, column) {
                self.tree(&(&other).into(), mode);
            }
            next = table
                .partition_of
                .as_ref()
                .and_then(|parent| catalog.tables.get(parent));
        }
    }

    /// The sequences of the table's serial and identity columns, or of one of them.
    fn owned_sequences(&mut self, of: &QName, column: Option<&str>, mode: LockMode) {
        let catalog = self.catalog;
        let owned = catalog.links().filter(|link| {
            link.kind == LinkKind::OwnedBy
                && link.to == *of
                && column.is_none_or(|column| link.columns.iter().any(|c| c == column))
        });
        self.these(owned.map(|link| &link.from), mode);
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::CreateTable { .. } => self.create_table(action),
            Action::DropTable { names, cascade, .. } => {
                for name in names {
                    self.drop_table(name, *cascade);
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
                    self.partitions(table, mode);
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
            Action::CreateView {
                name,
                temporary: false,
                ..
            } => self.put(Some(created(self.catalog, name)), AccessExclusive),
            Action::DropView { names, cascade, .. } => {
                self.all(names, AccessExclusive);
                if *cascade {
                    self.dependent(names, view_readers);
                }
            }
            Action::DropSequence { names, cascade, .. } => {
                self.all(names, AccessExclusive);
                if *cascade {
                    self.dependent(names, sequence_users);
                }
            }
            Action::AlterDomain {
                name, scans: true, ..
            } => self.domain(name, Share),
            Action::AlterType {
                name,
                attributes,
                change,
            } => {
                let part = matches!(change, NameChange::Part { part, .. } if *part == "ATTRIBUTE");
                if *attributes || part {
                    self.typed_tables(name, AccessExclusive);
                }
            }
            Action::Do | Action::Call | Action::Opaque { .. } => self.unknown(),
            Action::CreateTrigger { table, row, .. } => {
                if *row {
                    self.partitions(table, ShareRowExclusive);
                } else {
                    self.existing(table, ShareRowExclusive);
                }
            }
            Action::DropOnTable {
                object,
                name,
                table: on,
                if_exists,
                ..
            } => {
                let known = table(self.catalog, on).filter(|_| *object == "TRIGGER");
                let gone = known.is_some_and(|t| t.triggers.iter().all(|t| t.name != *name));
                if !(gone && *if_exists) {
                    self.on_table(object, name, on);
                }
            }
            Action::AlterOnTable {
                object,
                name,
                table,
                rename_to,
            } => {
                // Renaming goes on to the copies on partitions since 15.
                if rename_to.is_some() && self.catalog.major() >= 15 {
                    self.on_table(object, name, table);
                } else {
                    self.existing(table, AccessExclusive);
                }
            }
            Action::CreatePolicy { table, .. } | Action::CreateRule { table, .. } => {
                self.existing(table, AccessExclusive);
            }
            Action::CreateStatistics {
                table: Some(table), ..
            } => self.existing(table, ShareUpdateExclusive),
            Action::Drop {
                object,
                cascade,
                names,
                ..
            } => self.drop_other(object, names, *cascade),
            Action::Comment { target } => match target {
                CommentTarget::Table(table) | CommentTarget::Column { table, .. } => {
                    self.existing(table, ShareUpdateExclusive);
                }
                CommentTarget::Other {
                    table: Some(table),
                    object,
                    ..
                } => {
                    let of_table = matches!(
                        object.as_str(),
                        "CONSTRAINT" | "TRIGGER" | "POLICY" | "RULE"
                    );
                    self.existing(
                        table,
                        if of_table {
                            AccessShare
                        } else {
                            ShareUpdateExclusive
                        },
                    );
                }
                CommentTarget::Other { table: None, .. } => {}
            },
            Action::Members {
                object,
                name,
                tables,
                replaces,
                ..
            } => {
                for table in tables {
                    if *object == "PUBLICATION" {
                        self.inheritors(table, ShareUpdateExclusive);
                    } else {
                        self.existing(table, ShareUpdateExclusive);
                    }
                }
                if *replaces {
                    let publication = QName::new("", name.as_str());
                    let catalog = self.catalog;
                    let members = catalog
                        .links()
                        .filter(|l| l.kind == LinkKind::Publishes && l.from == publication);
                    self.these(members.map(|link| &link.to), ShareUpdateExclusive);
                }
            }
            Action::Insert { table } | Action::Merge { table } => {
                self.partitions(table, RowExclusive);
            }
            Action::Update { table } | Action::Delete { table } => self.tree(table, RowExclusive),
            Action::Writes { parts } => parts.iter().for_each(|(part, _)| self.action(part)),
            Action::Copy {
                table: Some(table),
                from,
            } => {
                if *from {
                    self.partitions(table, RowExclusive);
                } else {
                    self.existing(table, AccessShare);
                }
            }
            Action::Truncate {
                tables,
                cascade,
                restart_identity,
            } => self.truncate(tables, *cascade, *restart_identity),
            Action::Select { functions } if !functions.is_empty() => self.unknown(),
            Action::LockTable { tables, mode } => {
                for name in tables {
                    self.tree(name, *mode);
                    if let Some(view) = self.qualified(name) {
                        let catalog = self.catalog;
                        self.these(catalog.read_by(&view), *mode);
                    }
                }
            }
            Action::Vacuum { tables, full } => self.maintain(
                tables,
                if *full {
                    AccessExclusive
                } else {
                    ShareUpdateExclusive
                },
                false,
            ),
            Action::Analyze { tables } => self.maintain(tables, ShareUpdateExclusive, true),
            Action::Cluster { table } => {
                self.maintain(table.as_slice(), AccessExclusive, false);
            }
            Action::Refresh { name, concurrently } => {
                self.existing(
                    name,
                    if *concurrently {
                        Exclusive
                    } else {
                        AccessExclusive
                    },
                );
                if let Some(view) = self.qualified(name) {
                    let catalog = self.catalog;
                    self.these(catalog.read_by(&view), AccessShare);
                }
            }
            _ => {}
        }
    }

    fn create_table(&mut self, action: &Action) {
        let Action::CreateTable {
            name,
            if_not_exists,
            partition_of,
            inherits,
            like,
            references,
            temporary,
            ..
        } = action
        else {
            return;
        };
        if *if_not_exists && table(self.catalog, name).is_some() {
            return;
        }
        if !temporary {
            self.put(Some(created(self.catalog, name)), AccessExclusive);
        }
        if let Some(parent) = partition_of {
            self.existing(parent, AccessExclusive);
            self.new_partition(parent);
        }
        self.all(inherits, ShareUpdateExclusive);
        self.all(like, AccessShare);
        for other in references {
            self.tree(other, ShareRowExclusive);
        }
    }

    /// What a new partition locks beside itself and its parent: the DEFAULT partition, whose rows
    /// may be of the new one, and both ends of the parent's foreign keys.
    fn new_partition(&mut self, parent: &RelName) {
        let Some(parent) = self.qualified(parent) else {
            return;
        };
        let catalog = self.catalog;
        self.these(catalog.default_partition(&parent), AccessExclusive);
        if let Some(parent) = catalog.tables.get(&parent) {
            self.referenced(parent, ShareRowExclusive, |_| true);
            let mode = if catalog.major() >= 15 {
                ShareRowExclusive
            } else {
                AccessShare
            };
            self.referencing(parent, None, mode);
        }
    }

    /// DROP and ALTER of a trigger, policy or rule.
    fn on_table(&mut self, object: &str, name: &str, on: &RelName) {
        let cloned = object == "TRIGGER"
            && table(self.catalog, on)
                .is_none_or(|t| t.triggers.iter().any(|t| t.name == name && t.row));
        if cloned {
            self.partitions(on, AccessExclusive);
        } else {
            self.existing(on, AccessExclusive);
        }
    }

    /// These tables, or any where none is named.
    fn maintain(&mut self, tables: &[RelName], mode: LockMode, samples: bool) {
        if tables.is_empty() {
            self.put(None, mode);
        }
        for name in tables {
            self.partitions(name, mode);
            if self.catalog.major() >= 18 {
                self.tree(name, mode);
            } else if samples {
                // ANALYZE reads the children for the statistics of the whole tree.
                self.existing(name, mode);
                if let Some(name) = self.qualified(name) {
                    self.below(&name, AccessShare);
                }
            }
        }
    }

    fn table_of_index(&mut self, index: &RelName, mode: LockMode) {
        if let Some((table, _)) = self.catalog.index(index.schema.as_deref(), &index.name) {
            let name = RelName::from(&table.name);
            self.partitions(&name, mode);
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
                self.table_of_index(name, on_table);
                self.index(name, on_index);
            }
            (ReindexTarget::Table, Some(name)) => {
                self.partitions(name, on_table);
                if let Some(table) = table(self.catalog, name) {
                    for index in &table.indexes {
                        let index = RelName::new(Some(&table.name.schema), index.name.as_str());
                        self.index(&index, on_index);
                    }
                }
            }
            _ => self.put(None, on_index),
        }
    }

    /// An index and those attached to it.
    fn index(&mut self, name: &RelName, mode: LockMode) {
        self.existing(name, mode);
        if let Some(name) = self.qualified(name) {
            let catalog = self.catalog;
            self.these(
                catalog.dependents_of(&name, &[LinkKind::IndexPartition]),
                mode,
            );
        }
    }

    fn alter_relation(&mut self, kind: RelKind, name: &RelName, ops: &[AlterOp]) {
        for op in ops {
            let mode = match (kind, &op.kind) {
                (RelKind::Index, AlterOpKind::RenameTable { .. }) => ShareUpdateExclusive,
                (RelKind::Index, AlterOpKind::AttachPartition { partition, .. }) => {
                    for index in [name, partition] {
                        let on = self.catalog.index(index.schema.as_deref(), &index.name);
                        if let Some((table, _)) = on {
                            self.put(Some((&table.name).into()), AccessShare);
                        }
                    }
                    self.existing(partition, AccessExclusive);
                    ShareUpdateExclusive
                }
                // INCREMENT, RESTART, OWNED BY …: nextval waits for it.
                (RelKind::Sequence, AlterOpKind::SequenceOptions { .. }) => ShareRowExclusive,
                _ => mode(&op.kind),
            };
            self.existing(name, mode);
        }
    }
}
