//! What only a change of a column's type needs to know of a table, read for the tables of such a
//! change.

use std::collections::{BTreeMap, BTreeSet};

use super::{QName, Table};

/// What a [`Definition`] defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefinitionKind {
    /// An index, a constraint's own included.
    Index,
    /// A constraint.
    Constraint,
    /// Extended statistics.
    Statistics,
}

/// An object of a table as the server writes it down, in the order of their making.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// What it is.
    pub kind: DefinitionKind,
    /// Name.
    pub name: String,
    /// `pg_get_indexdef`, `pg_get_constraintdef`, or of `pg_get_statisticsobjdef` what stands between
    /// name and FROM.
    pub text: String,
    /// Comment.
    pub comment: Option<String>,
    /// An index's tablespace, where it is not the database's.
    pub tablespace: Option<String>,
    /// CLUSTER goes by this index.
    pub clustered: bool,
    /// This index is the replica identity.
    pub replica_identity: bool,
    /// Statistics targets of an index's expressions, by number of the index's column.
    pub targets: Vec<(i16, i32)>,
}

/// A right on a column or a sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `SELECT`.
    pub privilege: String,
    /// Role; `None` is PUBLIC.
    pub grantee: Option<String>,
    /// WITH GRANT OPTION.
    pub grantable: bool,
}

/// A sequence that belongs to a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedSequence {
    /// Name.
    pub name: QName,
    /// `format_type` of its values.
    pub type_name: String,
    /// It is the column's identity, not only owned by it.
    pub identity: bool,
    /// START.
    pub start: i64,
    /// INCREMENT.
    pub increment: i64,
    /// MINVALUE.
    pub min: i64,
    /// MAXVALUE.
    pub max: i64,
    /// CACHE.
    pub cache: i64,
    /// CYCLE.
    pub cycle: bool,
    /// Rights, beside the owner's.
    pub grants: Vec<Grant>,
    /// Comment.
    pub comment: Option<String>,
}

/// What a column keeps when its type changes, beside what [`super::Column`] has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnDetails {
    /// SET STATISTICS, where it was set.
    pub statistics: Option<i32>,
    /// SET (…), `name=value`.
    pub options: Vec<String>,
    /// Rights on the column.
    pub grants: Vec<Grant>,
    /// Sequences that belong to it.
    pub sequences: Vec<OwnedSequence>,
}

/// How two types convert.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversion {
    /// It is the same type with other modifiers.
    pub same: bool,
    /// There is a cast (`pg_cast`) from the new type to the old one.
    pub back: bool,
    /// One of the two is text: every value has a text, which may be read as the other type.
    pub text: bool,
    /// The way there depends on settings of the session, such as `TimeZone`.
    pub depends: bool,
    /// The way back does.
    pub back_depends: bool,
}

/// A foreign key as one of the relations of its table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPart {
    /// The table, or a partition of it.
    pub table: QName,
    /// The key's name there.
    pub name: String,
    /// Its comment there.
    pub comment: Option<String>,
}

/// A partition, at any level, of a table whose column changes its type.
#[derive(Debug, Clone)]
pub struct Partition {
    /// The partition with all that it has.
    pub table: Table,
    /// Its indexes that belong to an index of its parent: name, and the parent's.
    pub attached: BTreeMap<String, String>,
    /// Its constraints that it has from its parent.
    pub inherited: BTreeSet<String>,
    /// Its definitions.
    pub definitions: Vec<Definition>,
    /// By column: what it has.
    pub details: BTreeMap<String, ColumnDetails>,
}
