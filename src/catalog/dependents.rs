//! What depends on columns of a table beside its own indexes, constraints and statistics: views,
//! triggers, policies, publications, functions with a parsed body, and what depends on those.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::QName;
use super::details::Definition;

/// What kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependentKind {
    /// A view.
    View,
    /// A materialized view.
    MaterializedView,
    /// A rule on a view, beside the view's own query.
    ViewRule,
    /// A trigger.
    Trigger,
    /// A policy.
    Policy,
    /// A table in a publication, with a list of columns or a condition.
    Publication,
    /// A function or procedure in SQL whose body is kept parsed (`BEGIN ATOMIC`), or of the type of
    /// a view's rows.
    Function,
    /// A generated column of the table.
    Generated,
    /// Anything else.
    Other,
}

/// Why an object cannot be made again as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// The current role is no member of its owner.
    Owner,
    /// The current role may not create in its schema.
    Schema,
    /// The server changes no expression there: of a virtual generated column that is NOT NULL, in a
    /// table with a CHECK, or in a publication. Up to PostgreSQL 16, of a stored one in a foreign key,
    /// or in an index, a constraint or statistics together with a column that changes.
    Fixed,
    /// It belongs to an extension.
    Extension,
    /// It has a security label.
    Label,
    /// It is temporary: of another session.
    Temporary,
    /// Rights on it were given by others than its owner.
    PassedOn,
    /// It depends on itself by way of others.
    Circle,
}

/// An object, with the statements that drop it and make it again. Names in them are qualified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependent {
    /// What it is.
    pub kind: DependentKind,
    /// Its oid, in the catalog of its kind.
    pub oid: u32,
    /// `pg_describe_object`, names qualified: `view public.totals`.
    pub what: String,
    /// How many objects the longest way from the columns to it has, itself counted.
    pub depth: i32,
    /// The relation that dropping it locks: the view itself, or the table of a trigger.
    pub relation: Option<QName>,
    /// The generated column's name.
    pub column: Option<String>,
    /// Drops it; empty where nothing needs to be: the kind [`DependentKind::Other`], and from
    /// PostgreSQL 17 on [`DependentKind::Generated`].
    pub drop: String,
    /// Makes it, and gives it all that it had: owner, rights, comments, state.
    pub create: Vec<String>,
    /// Why that would not be all of it.
    pub obstacles: Vec<Obstacle>,
    /// Which of the objects found with it it reads itself: their places. Known only where there is
    /// a materialized view among them.
    pub reads: Vec<usize>,
    /// What a materialized view has beside that.
    pub stored: Option<Stored>,
}

/// What a materialized view has under names of their own, and how much it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Its indexes and extended statistics.
    pub definitions: Vec<Definition>,
    /// What the statistics have beside, in the order of their definitions.
    pub statistics: Vec<StatisticsDetails>,
    /// Size with its indexes, in bytes.
    pub bytes: i64,
}

impl Dependent {
    /// Whether it is a generated column that is dropped and added again, as up to PostgreSQL 16 none
    /// gets another expression.
    pub fn is_added_again(&self) -> bool {
        self.kind == DependentKind::Generated && !self.drop.is_empty()
    }

    /// Tells this state of the object from any other: the SHA-256 of its statements, in
    /// hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for statement in &self.create {
            hash.update(statement.as_bytes());
            hash.update([0]);
        }
        if let Some(stored) = &self.stored {
            for definition in &stored.definitions {
                hash.update(format!("{definition:?}").as_bytes());
            }
            hash.update(format!("{:?}", stored.statistics).as_bytes());
        }
        let mut text = String::new();
        for byte in hash.finalize() {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// What kind of thing a column has of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// An index, a constraint, extended statistics.
    Object,
    /// A foreign key of any table that references it.
    Key,
    /// Its default.
    Default,
    /// NOT NULL, rights, a comment, targets and options.
    Setting,
}

/// Something that a column has of its own, whoever made it; what a migration made for itself is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What kind it is.
    pub kind: PartKind,
    /// What it is, names qualified: `index public.by_code`, `default of code`.
    pub what: String,
    /// What a default or a setting is.
    pub value: String,
}

/// Extended statistics of a table, beside their definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatisticsDetails {
    /// Name.
    pub name: QName,
    /// Owner's role name, where it is not the current role.
    pub owner: Option<String>,
    /// SET STATISTICS, where it was set.
    pub target: Option<i32>,
}
