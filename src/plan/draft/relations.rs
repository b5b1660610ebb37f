//! The relations that a file's statements name.

use crate::migration::Migration;
use crate::plan::sections::Sections;
use crate::plan::{fill, rename};
use crate::sql::ddl::{Action, AlterOpKind, RelName, RightsOn};

/// The relations that a migration names, for loading the catalog: (schema, name).
pub fn wanted(migration: &Migration) -> Vec<(Option<String>, String)> {
    let sections = Sections::of(migration);
    let mut names: Vec<RelName> = Vec::new();
    for known in sections.statements() {
        names.extend(relations(&known.action));
        names.extend(fill::wanted(&known.action));
        names.extend(rename::wanted(&known.action));
        match &known.action {
            Action::CreateFunction { name, .. } => names.push(name.clone()),
            Action::Grant {
                rights: Some(rights),
            }
            | Action::Revoke {
                rights: Some(rights),
            } if rights.on == RightsOn::Table && !rights.in_schema => {
                names.extend(rights.names.iter().map(|one| one.name.clone()));
            }
            _ => {}
        }
    }
    names.sort();
    names.dedup();
    names.into_iter().map(|n| (n.schema, n.name)).collect()
}

/// Relations that an action names.
pub fn relations(action: &Action) -> Vec<RelName> {
    let one = |name: &RelName| vec![name.clone()];
    match action {
        Action::CreateTable {
            name,
            references,
            partition_of,
            inherits,
            like,
            ..
        } => {
            let mut all = one(name);
            all.extend(
                references
                    .iter()
                    .chain(partition_of)
                    .chain(inherits)
                    .chain(like)
                    .cloned(),
            );
            all
        }
        Action::DropTable { names, .. }
        | Action::DropIndex { names, .. }
        | Action::DropView { names, .. }
        | Action::DropSequence { names, .. } => names.clone(),
        Action::AlterTable { name, ops, .. } => {
            let mut all = one(name);
            for op in ops {
                match &op.kind {
                    AlterOpKind::AddColumn(def) => {
                        all.extend(def.constraints.iter().filter_map(|c| c.references.clone()));
                    }
                    AlterOpKind::AddConstraint(def) => all.extend(def.references.clone()),
                    AlterOpKind::AttachPartition { partition, .. }
                    | AlterOpKind::DetachPartition { partition, .. } => all.push(partition.clone()),
                    AlterOpKind::Inherit { parent } | AlterOpKind::NoInherit { parent } => {
                        all.push(parent.clone());
                    }
                    _ => {}
                }
            }
            all
        }
        Action::AlterRelation { name, ops, .. } => {
            let mut all = one(name);
            all.extend(ops.iter().filter_map(|op| match &op.kind {
                AlterOpKind::AttachPartition { partition, .. } => Some(partition.clone()),
                _ => None,
            }));
            all
        }
        Action::Refresh { name, .. }
        | Action::AlterType { name, .. }
        | Action::AlterTypeAddValue { name, .. }
        | Action::AlterDomain { name, .. }
        | Action::CreateView { name, .. }
        | Action::CreateSequence { name, .. } => one(name),
        Action::CreateIndex { table, name, .. } => {
            let mut all = one(table);
            all.extend(name.clone());
            all
        }
        Action::Reindex { name, .. } => name.iter().cloned().collect(),
        Action::CreateTrigger { table, .. }
        | Action::DropOnTable { table, .. }
        | Action::AlterOnTable { table, .. }
        | Action::CreatePolicy { table, .. }
        | Action::CreateRule { table, .. }
        | Action::Insert { table }
        | Action::Update { table }
        | Action::Delete { table }
        | Action::Merge { table } => one(table),
        Action::Writes { parts } => parts.iter().flat_map(|(p, _)| relations(p)).collect(),
        Action::Cluster { table }
        | Action::Copy { table, .. }
        | Action::CreateStatistics { table, .. } => table.iter().cloned().collect(),
        Action::Drop { object, names, .. } if matches!(object.as_str(), "TYPE" | "DOMAIN") => {
            crate::sql::ddl::names(names)
        }
        Action::Members { name, tables, .. } => {
            let mut all = one(&RelName::new(None, name));
            all.extend(tables.iter().cloned());
            all
        }
        Action::LockTable { tables, .. }
        | Action::Truncate { tables, .. }
        | Action::Vacuum { tables, .. }
        | Action::Analyze { tables, .. } => tables.clone(),
        Action::Comment { target } => match target {
            crate::sql::ddl::CommentTarget::Table(name)
            | crate::sql::ddl::CommentTarget::Column { table: name, .. } => one(name),
            crate::sql::ddl::CommentTarget::Other { table, .. } => table.iter().cloned().collect(),
        },
        _ => Vec::new(),
    }
}
