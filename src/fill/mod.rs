//! Rows made up for the tables of a schema: statements that fill an empty table with values that
//! its types, constraints, foreign keys and partitions take.
//!
//! A statement makes more rows than are wanted, keeps those for which every CHECK and a partition
//! holds, and leaves to `ON CONFLICT DO NOTHING` what a unique key or exclusion refuses. Values
//! follow from the row's number alone: two fills of one schema are equal.

mod hints;
mod order;
mod statement;
#[cfg(test)]
mod tests;
mod values;

use crate::catalog::QName;

pub use order::{Turn, order};
pub use statement::{Batch, insert};

/// A type as far as values are concerned; domains are those that they are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// `pg_type.typname`.
    pub name: String,
    /// `format_type` with its modifier, with its schema.
    pub sql: String,
    /// What it is made of.
    pub kind: TypeKind,
}

/// What a type is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeKind {
    /// A base type.
    Base,
    /// The labels of an enum, in order.
    Enum(Vec<String>),
    /// The type of the elements.
    Array(Box<Type>),
    /// The types of the fields.
    Composite(Vec<Type>),
    /// The type of the bounds.
    Range(Box<Type>),
    /// The range type.
    Multirange(Box<Type>),
}

/// A column to be filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// The declared type as SQL, which may be a domain.
    pub declared: String,
    /// Its type without domains.
    pub value: Type,
    /// Conditions of its domains on `VALUE`.
    pub domain_checks: Vec<String>,
    /// NOT NULL, also by its domain.
    pub not_null: bool,
    /// The server makes the value: generated, identity, or `nextval`.
    pub by_server: bool,
    /// It has a default.
    pub has_default: bool,
}

/// A foreign key of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its columns.
    pub columns: Vec<String>,
    /// The table it references.
    pub table: QName,
    /// The columns there, in the same order.
    pub references: Vec<String>,
}

/// A table to be filled; of a partitioned one the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: QName,
    /// Why it cannot be filled, whatever its columns: it is a foreign table, say.
    pub refused: Option<String>,
    /// It has rows already.
    pub has_rows: bool,
    /// Columns in order.
    pub columns: Vec<Column>,
    /// Conditions of CHECK constraints: (name, condition).
    pub checks: Vec<(String, String)>,
    /// What rows of each leaf partition satisfy; empty where it is not partitioned.
    pub partitions: Vec<String>,
    /// A unique key or exclusion is checked at the end of the transaction only: `ON CONFLICT`
    /// cannot judge it.
    pub deferrable_key: bool,
    /// The columns of the first such unique key; empty where there is none.
    pub deferrable_columns: Vec<String>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
}

impl Table {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
}
