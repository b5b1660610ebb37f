//! DROP and TRUNCATE, and changes of types: what goes or changes with other things.

use std::collections::BTreeSet;

use super::LockMode::{AccessExclusive, ShareUpdateExclusive};
use super::Locks;
use crate::catalog::{Catalog, LinkKind, QName};
use crate::lock::LockMode;
use crate::sql::RelName;

impl Locks<'_> {
    pub(super) fn drop_table(&mut self, name: &RelName, cascade: bool) {
        self.tree(name, AccessExclusive);
        let Some(name) = self.qualified(name) else {
            return;
        };
        let catalog = self.catalog;
        let mut gone = catalog.below(&name);
        gone.insert(&name);
        for table in gone {
            self.owned_sequences(table, None, AccessExclusive);
            // Dropping a foreign key drops its triggers on the other table. One that a partition
            // has from its parent has none.
            let others = catalog
                .links()
                .filter(|l| l.kind == LinkKind::ForeignKey && l.from == *table);
            for other in others {
                self.key_triggers(&other.to);
            }
            if let Some(table) = catalog.tables.get(table) {
                if catalog.links.is_none() {
                    self.referenced(table, AccessExclusive, |_| true);
                }
                if cascade {
                    self.referencing(table, None, AccessExclusive);
                }
            }
            if cascade {
                self.these(catalog.readers(table, None), AccessExclusive);
            }
        }
        if let Some(parent) = catalog
            .tables
            .get(&name)
            .and_then(|t| t.partition_of.as_ref())
        {
            self.put(Some(parent.into()), AccessExclusive);
            self.these(catalog.default_partition(parent), AccessExclusive);
        }
    }

    /// The tables with the triggers of a foreign key that references this one: all of its tree, before
    /// 15 without those that have partitions.
    pub(super) fn key_triggers(&mut self, referenced: &QName) {
        let catalog = self.catalog;
        for name in catalog.below(referenced).into_iter().chain([referenced]) {
            if catalog.major() >= 15 || catalog.partitions_of(name).next().is_none() {
                self.put(Some(name.into()), AccessExclusive);
            }
        }
    }

    pub(super) fn truncate(&mut self, tables: &[RelName], cascade: bool, restart_identity: bool) {
        let catalog = self.catalog;
        self.all(tables, AccessExclusive);
        let mut open: Vec<QName> = tables.iter().filter_map(|t| self.qualified(t)).collect();
        let mut all = BTreeSet::new();
        while let Some(name) = open.pop() {
            if !all.insert(name.clone()) {
                continue;
            }
            open.extend(catalog.below(&name).into_iter().cloned());
            if cascade {
                if let Some(table) = catalog.tables.get(&name) {
                    open.extend(catalog.referencing(table, None));
                }
                open.extend(catalog.direct(&name, LinkKind::ForeignKey).cloned());
            }
        }
        self.these(&all, AccessExclusive);
        if restart_identity {
            for name in &all {
                self.owned_sequences(name, None, AccessExclusive);
            }
        }
    }

    /// DROP … CASCADE of relations: what goes with them, or anything where that is not known.
    pub(super) fn dependent(
        &mut self,
        names: &[RelName],
        of: for<'c> fn(&'c Catalog, &QName) -> BTreeSet<&'c QName>,
    ) {
        if self.catalog.links.is_none() {
            self.unknown();
        }
        for name in names {
            if let Some(name) = self.qualified(name) {
                let catalog = self.catalog;
                self.these(of(catalog, &name), AccessExclusive);
            }
        }
    }

    /// DROP of what is no relation.
    pub(super) fn drop_other(&mut self, object: &str, names: &str, cascade: bool) {
        match object {
            "TYPE" | "DOMAIN" if cascade && self.catalog.links.is_some() => {
                for name in crate::sql::ddl::names(names) {
                    self.drop_type(&name);
                }
            }
            "STATISTICS" => self.put(None, ShareUpdateExclusive),
            // An extension's own tables go with it.
            "OWNED" | "OWNED BY" | "EXTENSION" => self.unknown(),
            _ if cascade => self.unknown(),
            _ => {}
        }
    }

    fn drop_type(&mut self, name: &RelName) {
        let catalog = self.catalog;
        let found = catalog
            .tables_with_type(name.schema.as_deref(), &name.name)
            .unwrap_or_default();
        for (table, link) in found {
            self.put(Some(table.into()), AccessExclusive);
            for column in &link.columns {
                self.these(catalog.readers(table, Some(column)), AccessExclusive);
            }
        }
        self.typed_tables(name, AccessExclusive);
    }

    /// The tables that are OF a composite type.
    pub(super) fn typed_tables(&mut self, name: &RelName, mode: LockMode) {
        let catalog = self.catalog;
        if catalog.links.is_none() {
            self.unknown();
        }
        let typed = catalog.links().filter(|link| {
            link.kind == LinkKind::OfType
                && link.to.name == name.name
                && name.schema.as_ref().is_none_or(|s| *s == link.to.schema)
        });
        for table in typed {
            self.tree(&(&table.from).into(), mode);
        }
    }

    pub(super) fn domain(&mut self, name: &RelName, mode: LockMode) {
        let catalog = self.catalog;
        match catalog.tables_with_type(name.schema.as_deref(), &name.name) {
            None => self.put(None, mode),
            Some(found) => self.these(found.into_iter().map(|(table, _)| table), mode),
        }
    }
}

/// The tables whose defaults call a sequence, and the one that owns it.
pub(super) fn sequence_users<'c>(catalog: &'c Catalog, sequence: &QName) -> BTreeSet<&'c QName> {
    let owners = catalog
        .links()
        .filter(|l| l.kind == LinkKind::OwnedBy && l.from == *sequence)
        .map(|l| &l.to);
    catalog
        .direct(sequence, LinkKind::Default)
        .chain(owners)
        .collect()
}

pub(super) fn view_readers<'c>(catalog: &'c Catalog, view: &QName) -> BTreeSet<&'c QName> {
    catalog.readers(view, None)
}
