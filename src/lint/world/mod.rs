//! What is known of the database before a statement, followed statement by statement.

mod follow;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use super::body;
use crate::catalog::{Catalog, QName, RelKind, Table};
use crate::plan::forms::{created, kind};
use crate::plan::work::constrained_domain;
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOpKind, ReindexTarget};
use shape::blank;

/// Indexes, constraints and columns of a table that are followed; no real one has so many.
const MOST: usize = 500;

/// Rows of a table whose number is not known.
const UNKNOWN: i64 = -1;

/// The database as far as it is known: from a server or a snapshot, from the files before, and
/// from the statements before in the same file.
#[derive(Debug, Clone)]
pub struct World {
    catalog: Catalog,
    /// The catalog was loaded: sizes are known, and what it does not have does not exist.
    loaded: Option<Box<Catalog>>,
    /// Tables that this file has changed, made, dropped or met.
    changed: BTreeSet<QName>,
    /// Relations that are no tables of which the same is so.
    changed_relations: BTreeSet<QName>,
    /// Tables made in this file.
    fresh: BTreeSet<QName>,
    /// Other objects made in this file: functions, views, types, indexes, by name.
    objects: BTreeSet<String>,
    /// Types made in this file.
    types: BTreeSet<String>,
    /// Columns made in this file.
    columns: BTreeSet<(QName, String)>,
    /// Indexes of the constraints of tables made in this file.
    indexes: BTreeSet<String>,
    /// Indexes dropped in this file.
    dropped: BTreeSet<String>,
    /// Functions that some file made, and whether they are volatile.
    functions: BTreeMap<String, bool>,
    /// Tables of which nothing but the name is known, with what the files say of them.
    partial: BTreeSet<QName>,
    /// Types renamed in this file.
    type_renames: usize,
    /// A lock timeout is set.
    pub(in crate::lint) lock_timeout: bool,
}

impl World {
    /// A world of which nothing is known.
    pub fn unknown(major: u32) -> Self {
        Self::of(
            Catalog {
                version: major * 10_000,
                database: String::new(),
                role: String::new(),
                search_path: vec!["public".to_owned()],
                tables: BTreeMap::new(),
                relations: BTreeMap::new(),
                constrained_domains: BTreeSet::new(),
                views: BTreeMap::new(),
                functions: BTreeMap::new(),
                domains: Vec::new(),
                links: None,
                objects: Vec::new(),
                default_rights: Vec::new(),
                utc: false,
                places: crate::catalog::Places::default(),
            },
            None,
        )
    }

    /// The world of a catalog that was loaded.
    pub fn known(mut catalog: Catalog, major: Option<u32>) -> Self {
        if let Some(major) = major {
            catalog.version = major * 10_000;
        }
        catalog.keep_places();
        let loaded = Some(Box::new(catalog.clone()));
        Self::of(catalog, loaded)
    }

    fn of(mut catalog: Catalog, loaded: Option<Box<Catalog>>) -> Self {
        if loaded.is_none() {
            catalog.keep_places();
        }
        Self {
            catalog,
            loaded,
            changed: BTreeSet::new(),
            changed_relations: BTreeSet::new(),
            fresh: BTreeSet::new(),
            objects: BTreeSet::new(),
            types: BTreeSet::new(),
            columns: BTreeSet::new(),
            indexes: BTreeSet::new(),
            dropped: BTreeSet::new(),
            functions: BTreeMap::new(),
            partial: BTreeSet::new(),
            type_renames: 0,
            lock_timeout: false,
        }
    }

    /// What is known, as a catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Major version of the server.
    pub fn major(&self) -> u32 {
        self.catalog.major()
    }

    /// Begins another file: what the last one made is in use now, its settings are gone. Where
    /// the catalog was loaded, it is what counts; of the files only the tables that it does not
    /// have are kept.
    pub fn next_file(&mut self) {
        let (tables, relations) = (
            std::mem::take(&mut self.changed),
            std::mem::take(&mut self.changed_relations),
        );
        if let Some(loaded) = &self.loaded {
            // In the place of what this file changed, as all of it is long for each of many files.
            for name in tables {
                if let Some(table) = loaded.tables.get(&name) {
                    self.catalog.tables.insert(name, table.clone());
                }
            }
            for name in relations {
                match loaded.relations.get(&name) {
                    Some(kind) => self.catalog.relations.insert(name, *kind),
                    None => self.catalog.relations.remove(&name),
                };
            }
            if self.catalog.constrained_domains.len() != loaded.constrained_domains.len() {
                self.catalog
                    .constrained_domains
                    .clone_from(&loaded.constrained_domains);
            }
            self.catalog.search_path.clone_from(&loaded.search_path);
            self.catalog.utc = loaded.utc;
        } else {
            self.catalog.search_path = vec!["public".to_owned()];
            self.catalog.utc = false;
        }
        // How many rows are in it by the time of the next file is not known.
        for name in std::mem::take(&mut self.fresh) {
            let there = self
                .loaded
                .as_ref()
                .is_some_and(|l| l.tables.contains_key(&name));
            if let Some(table) = self.catalog.tables.get_mut(&name).filter(|_| !there) {
                table.rows = UNKNOWN;
                self.partial.insert(name);
            }
        }
        self.objects.clear();
        self.types.clear();
        self.columns.clear();
        self.indexes.clear();
        self.dropped.clear();
        self.type_renames = 0;
        self.lock_timeout = false;
    }

    /// The table, as far as anything is known of it.
    pub fn table(&self, name: &RelName) -> Option<&Table> {
        self.catalog.table(name.schema.as_deref(), &name.name)
    }

    /// True for a table that this file made: nobody uses it.
    pub fn is_fresh(&self, name: &RelName) -> bool {
        match self.table(name) {
            Some(table) => self.fresh.contains(&table.name),
            None => self.objects.contains(&name.name),
        }
    }

    /// True for an object other than a table that this file made.
    pub fn made(&self, name: &str) -> bool {
        self.objects.contains(name)
    }

    /// True for a type that this file made.
    pub fn made_type(&self, name: &str) -> bool {
        self.types.contains(name)
    }

    /// True for a column that this file added.
    pub(super) fn is_fresh_column(&self, table: &RelName, column: &str) -> bool {
        let key = (self.qname(table), column.to_owned());
        self.columns.contains(&key)
    }

    /// Whether a function is volatile, where a file made it.
    pub(super) fn is_volatile(&self, function: &str) -> Option<bool> {
        self.functions.get(function).copied()
    }

    /// True for an index that this file dropped.
    pub(super) fn dropped(&self, index: &str) -> bool {
        self.dropped.contains(index)
    }

    /// Rows and bytes, where the catalog tells.
    pub fn size(&self, name: &RelName) -> Option<(i64, i64)> {
        let table = self.table(name)?;
        (table.rows != UNKNOWN && self.loaded.is_some() && !self.fresh.contains(&table.name))
            .then_some((table.rows, table.bytes))
    }

    /// The index of this name was made in this file, or is on a table that was.
    pub fn is_fresh_index(&self, name: &RelName) -> bool {
        self.objects.contains(&name.name) || self.indexes.contains(&name.name)
    }

    fn qname(&self, name: &RelName) -> QName {
        if let Some(table) = self.table(name) {
            return table.name.clone();
        }
        let created = created(&self.catalog, name);
        QName::new(
            created.schema.unwrap_or_else(|| "public".to_owned()),
            created.name,
        )
    }

    /// Makes the tables that the statement is about known by name, if they are not. Gives what was
    /// not known before.
    pub(super) fn meet(&mut self, action: &Action) -> Met {
        let mut met = Met::default();
        for name in tables_of(action) {
            if self.table(name).is_none()
                && !self.objects.contains(&name.name)
                && name.name != body::DYNAMIC
            {
                let qname = self.qname(name);
                self.partial.insert(qname.clone());
                self.changed.insert(qname.clone());
                met.tables.push(qname.clone());
                self.catalog
                    .tables
                    .insert(qname.clone(), blank(qname, UNKNOWN));
            }
        }
        let indexes: &[RelName] = match action {
            Action::DropIndex { names, .. } => names,
            Action::Reindex {
                target: ReindexTarget::Index,
                name: Some(name),
                ..
            } => std::slice::from_ref(name),
            _ => &[],
        };
        for name in indexes {
            if !self.dropped(&name.name) && kind(&self.catalog, name).is_none() {
                let qname = self.qname(name);
                self.changed_relations.insert(qname.clone());
                met.relations.push(qname.clone());
                self.catalog.relations.insert(qname, RelKind::Index);
            }
        }
        met
    }

    /// Takes back a [`World::meet`]; nothing must have been followed since.
    pub(super) fn forget(&mut self, met: Met) {
        for name in met.tables {
            self.catalog.tables.remove(&name);
            self.partial.remove(&name);
        }
        for name in met.relations {
            self.catalog.relations.remove(&name);
        }
    }
}

/// What a statement made known by its name alone.
#[derive(Debug, Default)]
pub(super) struct Met {
    tables: Vec<QName>,
    relations: Vec<QName>,
}

/// The tables that a statement names as tables.
pub(super) fn tables_of(action: &Action) -> Vec<&RelName> {
    match action {
        Action::AlterTable { name, ops, .. } => {
            let mut all = vec![name];
            for op in ops {
                match &op.kind {
                    AlterOpKind::AddColumn(def) => {
                        all.extend(def.constraints.iter().filter_map(|c| c.references.as_ref()));
                    }
                    AlterOpKind::AddConstraint(def) => all.extend(&def.references),
                    AlterOpKind::AttachPartition { partition, .. }
                    | AlterOpKind::DetachPartition { partition, .. } => all.push(partition),
                    _ => {}
                }
            }
            all
        }
        Action::CreateTable {
            partition_of,
            references,
            inherits,
            ..
        } => partition_of
            .iter()
            .chain(references)
            .chain(inherits)
            .collect(),
        Action::DropTable { names, .. } => names.iter().collect(),
        Action::Truncate { tables, .. }
        | Action::LockTable { tables, .. }
        | Action::Vacuum { tables, .. } => tables.iter().collect(),
        Action::CreateIndex { table, .. }
        | Action::CreateTrigger { table, .. }
        | Action::DropOnTable { table, .. }
        | Action::AlterOnTable { table, .. }
        | Action::CreatePolicy { table, .. }
        | Action::CreateRule { table, .. }
        | Action::Insert { table }
        | Action::Update { table }
        | Action::Delete { table }
        | Action::Merge { table }
        | Action::Copy {
            table: Some(table), ..
        }
        | Action::Cluster { table: Some(table) }
        | Action::Reindex {
            target: ReindexTarget::Table,
            name: Some(table),
            ..
        } => vec![table],
        Action::Writes { parts } => parts.iter().flat_map(|(p, _)| tables_of(p)).collect(),
        _ => Vec::new(),
    }
}

/// True where the type is a domain with constraints, as far as is known.
pub(super) fn is_constrained(world: &World, type_text: &str) -> bool {
    constrained_domain(type_text, &world.catalog)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::script::{Reading, read};
    use crate::lint::{Options, follow, lint};
    use crate::plan::testing::catalog;

    const FILE: &str = "\
BEGIN;
CREATE INDEX added ON orders (total);
CREATE INDEX ON users (id);
DROP INDEX orders_email_idx, unheard_of;
ALTER TABLE users RENAME TO people;
ALTER TABLE orders ADD COLUMN x int, DROP COLUMN note;
ALTER TABLE nobody ADD COLUMN y int;
CREATE TYPE t AS ENUM ('a');
ALTER TYPE bigint RENAME TO other;
CREATE DOMAIN d AS int CHECK (VALUE > 0);
CREATE TABLE made (id int PRIMARY KEY);
DROP TABLE empty;
SET search_path = elsewhere;
SET timezone = 'UTC';
";

    fn followed(mut world: World) -> World {
        follow(&read("m/1.sql", FILE, &Reading::default()), &mut world);
        world
    }

    #[test]
    fn of_the_next_file_a_loaded_catalog_is_as_loaded() {
        let mut world = followed(World::known(catalog(15), None));
        assert!(world.catalog.search_path == ["elsewhere"] && world.catalog.utc);
        world.next_file();
        let mut left = world.catalog.clone();
        let own: Vec<QName> = left.tables.keys().cloned().collect();
        let new = |name: &QName| !catalog(15).tables.contains_key(name);
        let new: Vec<QName> = own.into_iter().filter(new).collect();
        assert!(new.iter().any(|n| n.name == "made"), "{new:?}");
        for name in new {
            left.tables.remove(&name);
        }
        assert_eq!(left, catalog(15));
    }

    #[test]
    fn following_alone_knows_what_looking_knows() {
        for world in [World::unknown(15), World::known(catalog(15), None)] {
            let mut looked = world.clone();
            let script = read("m/1.sql", FILE, &Reading::default());
            assert!(!lint(&script, &mut looked, &Options::default()).is_empty());
            assert_eq!(followed(world).catalog, looked.catalog);
        }
    }

    #[test]
    fn what_was_met_is_forgotten() {
        let mut world = World::unknown(15);
        let before = world.clone();
        let script = read("m/1.sql", FILE, &Reading::default());
        let met: Vec<Met> = script.units.iter().map(|u| world.meet(&u.action)).collect();
        assert_ne!(world.catalog, before.catalog);
        for met in met {
            world.forget(met);
        }
        assert_eq!(world.catalog, before.catalog);
        assert_eq!(world.partial, before.partial);
    }
}
