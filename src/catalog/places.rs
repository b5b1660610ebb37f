//! Finding indexes and foreign keys among very many tables.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Catalog, QName};

/// By index name and by referenced table, the tables where it may be; or nothing, and every table
/// is looked at. Whoever begins it says of each table that is changed afterwards, by
/// `Catalog::note_places`. It says nothing that the tables do not, so it does not count where
/// catalogs are compared.
#[derive(Debug, Clone, Default)]
pub struct Places(Option<Box<Known>>);

#[derive(Debug, Clone, Default)]
struct Known {
    indexes: HashMap<String, BTreeSet<QName>>,
    references: HashMap<QName, BTreeSet<QName>>,
    /// Names of objects, of whatever class and schema.
    objects: HashSet<String>,
}

impl Known {
    fn note_index(&mut self, index: &str, table: &QName) {
        match self.indexes.get_mut(index) {
            Some(tables) if tables.contains(table) => {}
            Some(tables) => {
                tables.insert(table.clone());
            }
            None => {
                let tables = BTreeSet::from([table.clone()]);
                self.indexes.insert(index.to_owned(), tables);
            }
        }
    }
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

impl Places {
    /// Tables that may have an index of this name; `None` where that is not kept.
    pub(super) fn of_index(&self, name: &str) -> Option<&BTreeSet<QName>> {
        static NONE: BTreeSet<QName> = BTreeSet::new();
        let known = self.0.as_ref()?;
        Some(known.indexes.get(name).unwrap_or(&NONE))
    }
}

impl Catalog {
    /// Begins to keep places.
    pub(crate) fn keep_places(&mut self) {
        self.places = Places(Some(Box::default()));
        let names: Vec<QName> = self.tables.keys().cloned().collect();
        for name in &names {
            self.note_places(name);
        }
        if let Some(known) = &mut self.places.0 {
            known.objects = self.objects.iter().map(|o| o.name.clone()).collect();
        }
    }

    /// Takes in what a table has now, where places are kept.
    pub(crate) fn note_places(&mut self, name: &QName) {
        let (Some(known), Some(table)) = (&mut self.places.0, self.tables.get(name)) else {
            return;
        };
        for index in &table.indexes {
            known.note_index(&index.name, name);
        }
        for other in table
            .constraints
            .iter()
            .filter_map(|c| c.references.as_ref())
        {
            let tables = known.references.entry(other.clone()).or_default();
            if !tables.contains(name) {
                tables.insert(name.clone());
            }
        }
    }

    /// Takes in one index that a table has got: of a table with thousands, all of them would be
    /// long for each.
    pub(crate) fn note_index(&mut self, table: &QName, index: &str) {
        if let Some(known) = &mut self.places.0 {
            known.note_index(index, table);
        }
    }

    /// Takes in an object that is there now; false where none of its name was before, as far as
    /// that is kept.
    pub(crate) fn note_object(&mut self, name: &str) -> bool {
        let known = self.places.0.as_mut();
        known.is_none_or(|known| !known.objects.insert(name.to_owned()))
    }

    /// True where this table may have an index of this name.
    pub(crate) fn may_have_index(&self, table: &QName, index: &str) -> bool {
        let tables = self.places.of_index(index);
        tables.is_none_or(|tables| tables.contains(table))
    }

    /// Every table, of any schema, that may have an index of this name.
    pub(crate) fn with_index(&self, name: &str) -> Vec<QName> {
        match self.places.of_index(name) {
            Some(tables) => tables.iter().cloned().collect(),
            None => self.tables.keys().cloned().collect(),
        }
    }

    /// Every table that may have a foreign key that references this one.
    pub(crate) fn with_reference_to(&self, name: &QName) -> Vec<QName> {
        match &self.places.0 {
            Some(known) => known
                .references
                .get(name)
                .map_or_else(Vec::new, |tables| tables.iter().cloned().collect()),
            None => self.tables.keys().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::testing::{catalog, index};

    #[test]
    fn kept_places_say_what_the_tables_do() {
        let mut kept = catalog(15);
        kept.keep_places();
        assert_eq!(kept, catalog(15));
        let orders = kept.table(None, "orders").expect("orders").name.clone();
        let table = kept.tables.get_mut(&orders).expect("orders");
        table
            .indexes
            .push(index("orders", "new", &["total"], false));
        assert_eq!(kept.index(None, "new"), None);
        kept.note_places(&orders);
        let table = kept.tables.get_mut(&orders).expect("orders");
        table
            .indexes
            .push(index("orders", "newer", &["total"], false));
        assert!(!kept.may_have_index(&orders, "newer"));
        kept.note_index(&orders, "newer");
        assert!(kept.may_have_index(&orders, "newer"));
        let mut looked = catalog(15);
        looked.tables.clone_from(&kept.tables);
        let all = kept.tables.values().flat_map(|t| &t.indexes);
        for name in all.map(|i| i.name.as_str()).chain(["nothing"]) {
            for schema in [None, Some("public"), Some("app")] {
                assert_eq!(
                    kept.index(schema, name),
                    looked.index(schema, name),
                    "{name}"
                );
            }
        }
        let users = kept.table(None, "users").expect("users").name.clone();
        assert_eq!(kept.with_reference_to(&users), [orders]);
    }
}
