//! How relations are tied to each other: where a statement on one locks others.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

use super::{Catalog, QName, Table};

/// One tie of two relations, or of a relation and a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// What depends on the other.
    pub from: QName,
    /// What it depends on.
    pub to: QName,
    /// How.
    pub kind: LinkKind,
    /// The columns of `to` that it is about ([`LinkKind::Column`] and [`LinkKind::Default`]: of
    /// `from`); empty where it is about the whole.
    pub columns: Vec<String>,
}

/// The kinds of [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// Partition `from` of the partitioned table `to`.
    Partition,
    /// The DEFAULT partition `from` of the partitioned table `to`.
    DefaultPartition,
    /// Table `from` inherits from `to`.
    Inherits,
    /// Index `from` is attached to the partitioned index `to`.
    IndexPartition,
    /// A foreign key of table `from`, as declared, references `to`.
    ForeignKey,
    /// View or materialized view `from` reads `to`.
    Reads,
    /// Sequence `from` is owned by a column of table `to` (serial, identity).
    OwnedBy,
    /// A default of table `from` calls the sequence `to`.
    Default,
    /// Table `from` is OF the composite type `to`.
    OfType,
    /// Table `from` has a column of the type `to` of a user, or an array of it.
    Column,
    /// Domain `from` is over the type `to`.
    DomainOver,
    /// The publication `from` (its schema is empty) has the table `to`.
    Publishes,
}

/// All that can be reached from these, themselves included: each way is looked at once.
pub fn reach<N: Copy + Eq + Hash>(from: Vec<N>, ways: &[(N, N)]) -> HashSet<N> {
    let mut next: HashMap<N, Vec<N>> = HashMap::new();
    for (from, to) in ways {
        next.entry(*from).or_default().push(*to);
    }
    let mut reached: HashSet<N> = from.iter().copied().collect();
    let mut left = from;
    while let Some(node) = left.pop() {
        for to in next.remove(&node).unwrap_or_default() {
            if reached.insert(to) {
                left.push(to);
            }
        }
    }
    reached
}

impl Catalog {
    /// The links that are known; none where the catalog was not read from a server.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().flatten()
    }

    /// What depends on `to` in one of these ways, and what depends on that, and so on.
    pub(crate) fn dependents_of(&self, to: &QName, kinds: &[LinkKind]) -> BTreeSet<&QName> {
        let mut found = BTreeSet::new();
        let mut open = vec![to];
        while let Some(next) = open.pop() {
            for link in self.links() {
                if link.to == *next && kinds.contains(&link.kind) && found.insert(&link.from) {
                    open.push(&link.from);
                }
            }
        }
        found
    }

    /// All partitions and inheritance children below a relation.
    pub(crate) fn below(&self, parent: &QName) -> BTreeSet<&QName> {
        use LinkKind::{DefaultPartition, Inherits, Partition};
        let mut found = self.dependents_of(parent, &[Partition, DefaultPartition, Inherits]);
        if let Some(table) = self.tables.get(parent) {
            found.extend(table.leaves.iter().map(|leaf| &leaf.name));
        }
        found.remove(parent);
        found
    }

    /// Its partitions, but for those of partitions.
    pub(crate) fn partitions_of(&self, parent: &QName) -> impl Iterator<Item = &QName> {
        use LinkKind::{DefaultPartition, Partition};
        self.links()
            .filter(move |l| l.to == *parent && matches!(l.kind, Partition | DefaultPartition))
            .map(|link| &link.from)
    }

    /// The DEFAULT partition of a partitioned table.
    pub(crate) fn default_partition(&self, parent: &QName) -> Option<&QName> {
        self.direct(parent, LinkKind::DefaultPartition).next()
    }

    /// What depends on `to` in this way.
    pub(crate) fn direct(&self, to: &QName, kind: LinkKind) -> impl Iterator<Item = &QName> {
        self.links()
            .filter(move |link| link.to == *to && link.kind == kind)
            .map(|link| &link.from)
    }

    /// Views and materialized views that read a relation, or this column of it, and those that
    /// read them.
    pub(crate) fn readers(&self, of: &QName, column: Option<&str>) -> BTreeSet<&QName> {
        let mut found = BTreeSet::new();
        for link in self.links() {
            if link.kind == LinkKind::Reads
                && link.to == *of
                && column.is_none_or(|column| link.columns.iter().any(|c| c == column))
            {
                found.insert(&link.from);
                found.extend(self.dependents_of(&link.from, &[LinkKind::Reads]));
            }
        }
        found
    }

    /// What a view reads, and what the views in it read.
    pub(crate) fn read_by(&self, view: &QName) -> BTreeSet<&QName> {
        let mut found = BTreeSet::new();
        let mut open = vec![view];
        while let Some(next) = open.pop() {
            for link in self.links() {
                if link.from == *next && link.kind == LinkKind::Reads && found.insert(&link.to) {
                    open.push(&link.to);
                }
            }
        }
        found
    }

    /// Tables that reference this one by foreign keys, or these columns of it.
    pub(crate) fn referencing(&self, table: &Table, column: Option<&str>) -> BTreeSet<QName> {
        if self.links.is_none() {
            // Which columns is not known then.
            let is_key = column.is_none_or(|column| table.is_key(column));
            return table
                .referenced_by
                .iter()
                .filter(|_| is_key)
                .map(|(other, _)| other.clone())
                .collect();
        }
        self.links()
            .filter(|link| {
                link.kind == LinkKind::ForeignKey
                    && link.to == table.name
                    && column.is_none_or(|column| link.columns.iter().any(|c| c == column))
            })
            .map(|link| link.from.clone())
            .collect()
    }

    /// The tables with a column of the type or domain, or of a domain over it; `None` where that
    /// is not known.
    pub(crate) fn tables_with_type(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> Option<BTreeSet<(&QName, &Link)>> {
        self.links.as_ref()?;
        let of = |name: QName| {
            let mut types: BTreeSet<&QName> = self.dependents_of(&name, &[LinkKind::DomainOver]);
            let mut found = BTreeSet::new();
            types.insert(&name);
            for link in self.links() {
                if link.kind == LinkKind::Column && types.contains(&link.to) {
                    found.insert((&link.from, link));
                }
            }
            found
        };
        Some(match schema {
            Some(schema) => of(QName::new(schema, name)),
            None => self
                .search_path
                .iter()
                .map(|schema| of(QName::new(schema.as_str(), name)))
                .find(|found| !found.is_empty())
                .unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_follows_long_ways_and_circles_in_their_direction() {
        let mut ways: Vec<(u32, u32)> = (0..100_000).map(|n| (n, n + 1)).collect();
        ways.push((100_000, 50));
        assert_eq!(reach(vec![10], &ways).len(), 99_991);
        assert_eq!(reach(vec![7, 7], &[(1, 7), (7, 7)]), HashSet::from([7]));
        assert!(reach(Vec::<u32>::new(), &ways).is_empty());
    }
}
