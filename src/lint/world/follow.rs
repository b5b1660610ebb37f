//! What statements change in the world.

use super::shape::{add_column, add_constraint, alter, blank, index, key_columns};
use super::{MOST, World};
use crate::catalog::{Column, QName, RelKind};
use crate::lint::read;
use crate::lint::script::Unit;
use crate::plan::forms::{constraint_name, created};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, NameChange, table_elements};

impl World {
    /// Takes in what a statement changes.
    pub(in crate::lint) fn follow(&mut self, unit: &Unit) {
        let sql = unit.sql.as_str();
        match &unit.action {
            Action::CreateTable {
                name,
                if_not_exists,
                ..
            } if !*if_not_exists || self.table(name).is_none() => {
                self.create_table(name, &unit.action, sql);
            }
            Action::DropTable { names, .. } => {
                for name in names {
                    let qname = self.qname(name);
                    self.changed.insert(qname.clone());
                    self.catalog.tables.remove(&qname);
                    self.fresh.remove(&qname);
                    self.partial.remove(&qname);
                }
            }
            Action::AlterTable { name, ops, .. } => self.alter_table(name, ops, sql),
            Action::CreateIndex { .. } => self.create_index(&unit.action, sql),
            Action::DropIndex { names, .. } => {
                for name in names {
                    self.objects.remove(&name.name);
                    self.dropped.insert(name.name.clone());
                    let qname = self.qname(name);
                    self.changed_relations.insert(qname.clone());
                    self.catalog.relations.remove(&qname);
                    for on in self.catalog.with_index(&name.name) {
                        if let Some(table) = self.catalog.tables.get_mut(&on) {
                            table.indexes.retain(|i| i.name != name.name);
                            self.changed.insert(on);
                        }
                    }
                }
            }
            Action::CreateView { name, .. } | Action::CreateSequence { name, .. } => {
                self.objects.insert(name.name.clone());
            }
            Action::CreateFunction { name, .. } => {
                self.objects.insert(name.name.clone());
                let volatile = !read::has(sql, "immutable") && !read::has(sql, "stable");
                self.functions.insert(name.name.clone(), volatile);
            }
            Action::CreateTrigger { name, .. } => {
                self.objects.insert(name.clone());
            }
            Action::CreateType { name } => {
                self.objects.insert(name.name.clone());
                self.types.insert(name.name.clone());
            }
            Action::CreateDomain { name } => {
                self.objects.insert(name.name.clone());
                self.types.insert(name.name.clone());
                if read::has(sql, "check") || read::has(sql, "not null") {
                    let qname = self.qname(name);
                    self.catalog.constrained_domains.insert(qname);
                }
            }
            Action::AlterDomain { name, scans, .. } if *scans => {
                let qname = self.qname(name);
                self.catalog.constrained_domains.insert(qname);
            }
            Action::AlterType {
                name,
                change: NameChange::Rename { to },
                ..
            } => {
                if self.types.remove(&name.name) {
                    self.types.insert(to.clone());
                }
                // Each looks at every column of every table.
                self.type_renames += 1;
                if self.type_renames > MOST {
                    return;
                }
                let old = name.to_string();
                for (table, known) in &mut self.catalog.tables {
                    let of_type = |c: &&mut Column| c.type_name == old || c.type_name == name.name;
                    for column in known.columns.iter_mut().filter(of_type) {
                        column.type_name.clone_from(to);
                        self.changed.insert(table.clone());
                    }
                }
            }
            Action::Set | Action::Select { .. } => self.setting(sql),
            _ => {}
        }
    }

    fn setting(&mut self, sql: &str) {
        let Some(setting) = read::setting(sql) else {
            return;
        };
        match setting.name.as_str() {
            "lock_timeout" => {
                let off = |v: &String| {
                    v.trim_start_matches('0')
                        .trim_matches(char::is_alphabetic)
                        .trim()
                        .is_empty()
                };
                self.lock_timeout = setting.values.first().is_some_and(|v| !off(v));
            }
            "timezone" => {
                self.catalog.utc = setting.values.first().is_some_and(|v| {
                    matches!(
                        v.to_ascii_lowercase().as_str(),
                        "utc" | "gmt" | "0" | "etc/utc" | "zulu"
                    )
                });
            }
            "search_path" => {
                let path: Vec<String> = setting
                    .values
                    .into_iter()
                    .filter(|v| v != "$user" && v != "pg_catalog")
                    .collect();
                if !path.is_empty() {
                    self.catalog.search_path = path;
                }
            }
            _ => {}
        }
    }

    fn create_table(&mut self, name: &RelName, action: &Action, sql: &str) {
        let qname = {
            let created = created(&self.catalog, name);
            QName::new(
                created.schema.unwrap_or_else(|| "public".to_owned()),
                created.name,
            )
        };
        let mut table = blank(qname.clone(), 0);
        if let Action::CreateTable {
            partition_of,
            inherits,
            like,
            ..
        } = action
        {
            table.partition_of = partition_of.as_ref().map(|p| self.qname(p));
            for other in partition_of.iter().chain(inherits).chain(like) {
                if let Some(other) = self.table(other) {
                    table.columns.extend(other.columns.iter().cloned());
                }
            }
        }
        let elements = table_elements(sql);
        if elements.partitioned {
            table.kind = RelKind::Partitioned;
            table.leaves.clear();
        }
        for column in &elements.columns {
            add_column(&mut table, column, &self.catalog);
        }
        for constraint in &elements.constraints {
            add_constraint(&mut table, constraint, sql, &self.catalog);
        }
        self.partial.remove(&qname);
        self.indexes
            .extend(table.indexes.iter().map(|i| i.name.clone()));
        self.changed.insert(qname.clone());
        self.catalog.tables.insert(qname.clone(), table);
        self.catalog.note_places(&qname);
        self.fresh.insert(qname);
    }

    fn create_index(&mut self, action: &Action, sql: &str) {
        let Action::CreateIndex {
            name,
            table,
            unique,
            ..
        } = action
        else {
            return;
        };
        if let Some(name) = name {
            self.objects.insert(name.name.clone());
        }
        let qname = self.qname(table);
        let Some(table) = self
            .catalog
            .tables
            .get_mut(&qname)
            .filter(|t| t.indexes.len() < MOST)
        else {
            return;
        };
        let columns = key_columns(sql);
        let name = match name {
            Some(name) => name.name.clone(),
            None => constraint_name(table, &columns, "idx"),
        };
        if self.fresh.contains(&qname) {
            self.indexes.insert(name.clone());
        }
        self.changed.insert(qname.clone());
        table.indexes.retain(|i| i.name != name);
        table
            .indexes
            .push(index(name.clone(), sql, columns, *unique));
        self.catalog.note_index(&qname, &name);
    }

    fn alter_table(&mut self, name: &RelName, ops: &[AlterOp], sql: &str) {
        let qname = self.qname(name);
        let Some(mut table) = self.catalog.tables.remove(&qname) else {
            return;
        };
        self.changed.insert(qname.clone());
        let mut moved: Option<QName> = None;
        for op in ops {
            match &op.kind {
                AlterOpKind::RenameTable { to } => {
                    moved = Some(QName::new(qname.schema.as_str(), to.as_str()));
                }
                AlterOpKind::SetSchema { to } => {
                    moved = Some(QName::new(to.as_str(), qname.name.as_str()));
                }
                AlterOpKind::AttachPartition { partition, .. } => {
                    let partition = self.qname(partition);
                    if let Some(p) = self.catalog.tables.get_mut(&partition) {
                        p.partition_of = Some(qname.clone());
                        self.changed.insert(partition);
                    }
                    table.kind = RelKind::Partitioned;
                }
                AlterOpKind::DetachPartition { partition, .. } => {
                    let partition = self.qname(partition);
                    if let Some(p) = self.catalog.tables.get_mut(&partition) {
                        p.partition_of = None;
                        self.changed.insert(partition);
                    }
                }
                kind => {
                    match kind {
                        AlterOpKind::AddColumn(def) => {
                            self.columns.insert((qname.clone(), def.name.clone()));
                        }
                        AlterOpKind::RenameColumn { to, .. } => {
                            self.columns.insert((qname.clone(), to.clone()));
                        }
                        _ => {}
                    }
                    alter(&mut table, kind, sql, &self.catalog);
                }
            }
        }
        if self.fresh.contains(&qname) {
            self.indexes
                .extend(table.indexes.iter().map(|i| i.name.clone()));
        }
        let to = moved.unwrap_or_else(|| qname.clone());
        if to != qname {
            for set in [&mut self.fresh, &mut self.partial] {
                if set.remove(&qname) {
                    set.insert(to.clone());
                }
            }
            table.name = to.clone();
            for name in self.catalog.with_reference_to(&qname) {
                if let Some(other) = self.catalog.tables.get_mut(&name) {
                    for constraint in &mut other.constraints {
                        if constraint.references.as_ref() == Some(&qname) {
                            constraint.references = Some(to.clone());
                        }
                    }
                    self.changed.insert(name.clone());
                    self.catalog.note_places(&name);
                }
            }
        }
        self.changed.insert(to.clone());
        self.catalog.tables.insert(to.clone(), table);
        self.catalog.note_places(&to);
    }
}
