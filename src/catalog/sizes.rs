//! Sizes of another database of the same schema, such as production's by a snapshot.

use super::{Catalog, QName};

impl Catalog {
    /// Takes rows, blocks and sizes of tables and indexes over from `other`, by name. Gives the
    /// tables that it does not have: they keep their own.
    pub fn sizes_of(&mut self, other: &Catalog) -> Vec<QName> {
        let mut missing = Vec::new();
        for table in self.tables.values_mut() {
            let Some(from) = other.tables.get(&table.name) else {
                missing.push(table.name.clone());
                continue;
            };
            table.rows = from.rows;
            table.bytes = from.bytes;
            // All its partitions, which are often fewer elsewhere.
            if !from.leaves.is_empty() {
                table.leaves.clone_from(&from.leaves);
            }
            for index in &mut table.indexes {
                if let Some(from) = from.index(&index.name) {
                    index.bytes = from.bytes;
                }
            }
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::QName;
    use crate::plan::testing::catalog;

    #[test]
    fn sizes_are_taken_over_by_name() {
        let name = |name| QName::new("public", name);
        let mut here = catalog(15);
        let mut there = catalog(15);
        there.tables.remove(&name("users"));
        let orders = there.tables.get_mut(&name("orders")).expect("orders");
        orders.rows = 500_000_000;
        orders.bytes = 100 << 30;
        orders.leaves[0].blocks = 13_107_200;
        orders.indexes[0].bytes = 10 << 30;
        assert_eq!(here.sizes_of(&there), [name("users")]);
        let orders = &here.tables[&name("orders")];
        assert_eq!(
            (orders.rows, orders.leaves[0].blocks),
            (500_000_000, 13_107_200)
        );
        assert_eq!(
            (orders.bytes, orders.indexes[0].bytes),
            (100 << 30, 10 << 30)
        );
        assert_eq!(here.tables[&name("users")].rows, 1_000_000);
    }
}
