//! Facts about the live database that planning needs, as plain values.
//!
//! Loaded by `pg::catalog`, or built by hand in tests. Names are as stored in the catalog:
//! unquoted and case-exact.

pub mod dependents;
pub mod details;
pub mod facts;
mod links;
mod object;
mod places;
pub mod shape;
mod sizes;
pub mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use links::{Link, LinkKind, reach};
pub use object::{DefaultRights, Granted, OBJECT_CLASSES, Object, ObjectClass};
pub use places::Places;

/// A schema-qualified name, unquoted and case-exact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QName {
    /// Schema.
    pub schema: String,
    /// Name in it.
    pub name: String,
}

impl QName {
    /// `schema.name`.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            name: name.into(),
        }
    }
}

/// For people and for messages; use `sql::quote` for SQL.
impl std::fmt::Display for QName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// What a relation is (`pg_class.relkind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelKind {
    /// Ordinary table (`r`).
    Table,
    /// Partitioned table (`p`).
    Partitioned,
    /// Foreign table (`f`).
    Foreign,
    /// View (`v`).
    View,
    /// Materialized view (`m`).
    MaterializedView,
    /// Sequence (`S`).
    Sequence,
    /// Index (`i`, `I`).
    Index,
    /// Anything else.
    Other,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// `format_type(atttypid, atttypmod)`: SQL text of the type.
    pub type_name: String,
    /// NOT NULL, and no row violates it: `attnotnull` without a NOT VALID constraint behind it
    /// (PostgreSQL 18).
    pub not_null: bool,
    /// `pg_get_expr` of the default; also of the expression of a generated column.
    pub default: Option<String>,
    /// GENERATED ALWAYS AS (…) STORED or VIRTUAL.
    pub generated: bool,
    /// The generated column is VIRTUAL (18).
    #[serde(default)]
    pub is_virtual: bool,
    /// GENERATED … AS IDENTITY: `Some("ALWAYS")` or `Some("BY DEFAULT")`.
    pub identity: Option<String>,
    /// The type has an equality operator (json, xml and point have none).
    pub has_equality: bool,
    /// Comment.
    pub comment: Option<String>,
    /// How its values are kept and counted.
    #[serde(default)]
    pub settings: ColumnSettings,
}

/// Settings that ALTER COLUMN changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnSettings {
    /// `attstattarget`; `None` for the server's default.
    pub statistics: Option<i32>,
    /// `PLAIN`, `EXTERNAL`, `EXTENDED` or `MAIN`; empty where not known.
    pub storage: String,
    /// That is not the storage of its type.
    pub own_storage: bool,
    /// `pglz` or `lz4`; empty for the server's default.
    pub compression: String,
    /// Attribute options, `name=value` (`attoptions`).
    pub options: Vec<String>,
    /// SQL text of its collation, where that is not its type's own.
    pub collation: Option<String>,
}

impl ColumnSettings {
    /// They were read from a server.
    pub(crate) fn known(&self) -> bool {
        !self.storage.is_empty()
    }
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Name; it is in the schema of its table.
    pub name: String,
    /// `pg_get_indexdef`.
    pub definition: String,
    /// UNIQUE.
    pub unique: bool,
    /// PRIMARY KEY.
    pub primary: bool,
    /// `indisvalid`.
    pub valid: bool,
    /// Key columns by name, in order; empty string for an expression.
    pub columns: Vec<String>,
    /// A constraint (primary key, unique, exclusion) owns it.
    pub constraint: bool,
    /// Size in bytes.
    pub bytes: i64,
}

/// What a constraint is (`pg_constraint.contype`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKind {
    /// CHECK (`c`).
    Check,
    /// FOREIGN KEY (`f`).
    ForeignKey,
    /// PRIMARY KEY (`p`).
    PrimaryKey,
    /// UNIQUE (`u`).
    Unique,
    /// EXCLUDE (`x`).
    Exclusion,
    /// NOT NULL (`n`, PostgreSQL 18).
    NotNull,
    /// Anything else.
    Other,
}

/// A constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: ConstraintKind,
    /// `pg_get_constraintdef`.
    pub definition: String,
    /// `convalidated`.
    pub validated: bool,
    /// Columns by name.
    pub columns: Vec<String>,
    /// The other table of a foreign key.
    pub references: Option<QName>,
}

/// A trigger that is not internal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Name.
    pub name: String,
    /// `pg_get_triggerdef`.
    pub definition: String,
    /// Fires before the row operation.
    pub before: bool,
    /// Row level.
    pub row: bool,
    /// Fires on INSERT.
    pub on_insert: bool,
    /// Fires on UPDATE.
    pub on_update: bool,
    /// Fires on DELETE.
    pub on_delete: bool,
    /// Enabled in the origin mode.
    pub enabled: bool,
}

/// A leaf partition (or the table itself where it is not partitioned).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaf {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Name.
    pub name: QName,
    /// Kind.
    pub kind: RelKind,
    /// Access method name (`heap`); empty where it has none.
    pub access_method: String,
    /// Size of the main fork in blocks.
    pub blocks: i64,
    /// Estimated rows.
    pub rows: i64,
}

/// How a table is partitioned, and its place in what it is a partition of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partitioning {
    /// `pg_get_partkeydef`: `RANGE (created)`.
    pub key: Option<String>,
    /// The default partition.
    pub default: Option<QName>,
    /// As a partition: `FOR VALUES …` or `DEFAULT`.
    pub bound: Option<String>,
    /// As a partition: `pg_get_partition_constraintdef`, the condition that all its rows meet.
    pub check: Option<String>,
}

/// Settings that ALTER TABLE changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSettings {
    /// Storage parameters, `name=value` (`reloptions`).
    pub options: Vec<String>,
    /// ROW LEVEL SECURITY is enabled.
    pub row_security: bool,
    /// … and forced on the owner.
    pub force_row_security: bool,
    /// `DEFAULT`, `FULL`, `NOTHING` or `USING INDEX name`, as SQL text; empty where not known.
    pub replica_identity: String,
    /// Tablespace, where it is not the database's.
    #[serde(default)]
    pub tablespace: Option<String>,
    /// Access method of a partitioned table, which its partitions take over (17).
    #[serde(default)]
    pub access_method: Option<String>,
}

/// A function whose text names a table, or that is called by a trigger of it.
///
/// What names in a text mean is known only where it runs, so this is what it may be about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mention {
    /// `schema.name(argument types)`, as `regprocedure` shows it.
    pub function: String,
    /// The trigger of the table that calls it.
    pub trigger: Option<String>,
    /// Columns of the table whose names are in its text.
    pub columns: Vec<String>,
}

/// A view, as the statements that make it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// CREATE VIEW, its owner, rights and comment; empty where it has more than those (triggers,
    /// rules, rights or comments of columns), or where another view stands upon it.
    pub recreate: Vec<String>,
}

/// A function or procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// `pg_get_function_identity_arguments`: `x integer, VARIADIC y text[]`.
    pub arguments: String,
    /// `pg_get_functiondef`; empty for an aggregate.
    pub definition: String,
}

/// A table with all that planning reads of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Name.
    pub name: QName,
    /// Kind.
    pub kind: RelKind,
    /// Owner's role name.
    pub owner: String,
    /// The current role may alter it (is its owner's member).
    pub owned: bool,
    /// Estimated live rows (`reltuples`, or measured where never analyzed), partitions summed.
    pub rows: i64,
    /// Heap size in bytes with TOAST, without indexes, partitions summed.
    pub bytes: i64,
    /// Row security applies to the current role (`row_security_active`).
    pub row_security: bool,
    /// Has inheritance children that are not partitions.
    pub inherited: bool,
    /// Is a partition of this table.
    pub partition_of: Option<QName>,
    /// How it is partitioned, and its place in what it is a partition of.
    #[serde(default)]
    pub partitioning: Partitioning,
    /// Settings that ALTER TABLE changes.
    #[serde(default)]
    pub settings: TableSettings,
    /// Comment.
    pub comment: Option<String>,
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Indexes.
    pub indexes: Vec<Index>,
    /// Constraints.
    pub constraints: Vec<Constraint>,
    /// Foreign keys of other tables that reference this one: (table, constraint).
    pub referenced_by: Vec<(QName, String)>,
    /// Triggers.
    pub triggers: Vec<Trigger>,
    /// Leaf partitions; the table itself where it is not partitioned.
    pub leaves: Vec<Leaf>,
    /// Views, rules, policies, functions … that depend on a column: column → descriptions
    /// (`pg_describe_object`).
    pub dependents: BTreeMap<String, Vec<String>>,
    /// Rights of roles other than the owner.
    #[serde(default)]
    pub grants: Vec<Granted>,
    /// Functions whose text names the table, and those of its triggers.
    #[serde(default)]
    pub mentions: Vec<Mention>,
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// The primary key's columns in order; `None` where it has none.
    pub fn primary_key(&self) -> Option<&[String]> {
        self.indexes
            .iter()
            .find(|i| i.primary)
            .map(|i| i.columns.as_slice())
    }

    /// The index of this name.
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|i| i.name == name)
    }

    /// A unique index has this column.
    pub(crate) fn is_key(&self, column: &str) -> bool {
        self.indexes
            .iter()
            .any(|i| i.unique && i.columns.iter().any(|c| c == column))
    }

    /// The constraint of this name.
    pub fn constraint(&self, name: &str) -> Option<&Constraint> {
        self.constraints.iter().find(|c| c.name == name)
    }
}

/// The part of a database that a plan looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalog {
    /// `server_version_num`, for example 150018.
    pub version: u32,
    /// Database name.
    pub database: String,
    /// Current role.
    pub role: String,
    /// Schemas that unqualified names are looked up in, in order, existing ones only
    /// (`current_schemas(false)`).
    pub search_path: Vec<String>,
    /// Tables, and materialized views, by name.
    #[serde(with = "snapshot::tables")]
    pub tables: BTreeMap<QName, Table>,
    /// Every other relation that the migration names: views, sequences, indexes.
    /// For an index, the table it is on is in `tables`.
    #[serde(with = "snapshot::relations")]
    pub relations: BTreeMap<QName, RelKind>,
    /// Domains with constraints, their base type's included: a column of one cannot be added
    /// without writing the table anew.
    pub constrained_domains: BTreeSet<QName>,
    /// Those of `relations` that are views.
    #[serde(default, with = "snapshot::named")]
    pub views: BTreeMap<QName, View>,
    /// Functions and procedures of the names that the migration creates, of any arguments.
    #[serde(default, with = "snapshot::named")]
    pub functions: BTreeMap<QName, Vec<Function>>,
    /// Every domain with the SQL text of the type that it is over.
    #[serde(default)]
    pub domains: Vec<(QName, String)>,
    /// How relations that the migration names are tied to others, directly or not; `None` where
    /// that was not read.
    #[serde(default)]
    pub links: Option<Vec<Link>>,
    /// Objects of which the migration changes rights, comments or options.
    #[serde(default)]
    pub objects: Vec<Object>,
    /// Rights that new objects get, where the migration changes those.
    #[serde(default)]
    pub default_rights: Vec<DefaultRights>,
    /// `TimeZone` is UTC: `timestamp` and `timestamptz` are the same bytes.
    #[serde(default)]
    pub utc: bool,
    /// Where indexes and foreign keys are, where the owner of the catalog keeps that.
    #[serde(skip)]
    pub places: Places,
}

impl Catalog {
    /// True where a type's SQL text is the name of a domain with constraints.
    pub fn is_constrained_domain(&self, schema: Option<&str>, name: &str) -> bool {
        let there = |schema: &str| self.constrained_domains.contains(&QName::new(schema, name));
        match schema {
            Some(schema) => there(schema),
            None => self.search_path.iter().any(|schema| there(schema)),
        }
    }

    /// The major version: 15 for 150018.
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }

    /// The table that a possibly unqualified name means.
    pub fn table(&self, schema: Option<&str>, name: &str) -> Option<&Table> {
        match schema {
            Some(schema) => self.tables.get(&QName::new(schema, name)),
            None => self
                .search_path
                .iter()
                .find_map(|schema| self.tables.get(&QName::new(schema.as_str(), name))),
        }
    }

    /// The table and index that a possibly unqualified index name means.
    pub fn index(&self, schema: Option<&str>, name: &str) -> Option<(&Table, &Index)> {
        let known = self.places.of_index(name);
        let in_schema = |schema: &str| match known {
            Some(tables) => tables
                .iter()
                .filter(|t| t.schema == schema)
                .filter_map(|t| self.tables.get(t))
                .find_map(|t| t.index(name).map(|i| (t, i))),
            None => self
                .tables
                .values()
                .filter(|t| t.name.schema == schema)
                .find_map(|t| t.index(name).map(|i| (t, i))),
        };
        match schema {
            Some(schema) => in_schema(schema),
            None => self.search_path.iter().find_map(|schema| in_schema(schema)),
        }
    }
}
