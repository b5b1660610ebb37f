//! What a statement does: one case for each that planning tells apart.

use super::{AlterOp, Grantee, ObjectName, RelName, Rights};
use crate::catalog::RelKind;
use crate::lock::LockMode;
use crate::sql::source::Span;

/// What a statement does. Spans and offsets are of the text given to [`understand`](super::understand).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// CREATE TABLE, CREATE FOREIGN TABLE, CREATE TABLE AS, SELECT INTO.
    CreateTable {
        /// Name.
        name: RelName,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// PARTITION OF this table.
        partition_of: Option<RelName>,
        /// What follows PARTITION OF.
        partition: Option<PartitionDef>,
        /// INHERITS these tables.
        inherits: Vec<RelName>,
        /// LIKE these tables.
        like: Vec<RelName>,
        /// Tables that its foreign keys reference.
        references: Vec<RelName>,
        /// Made from a query.
        as_select: bool,
        /// TEMPORARY.
        temporary: bool,
        /// FOREIGN.
        foreign: bool,
    },
    /// DROP TABLE, DROP FOREIGN TABLE.
    DropTable {
        /// Names.
        names: Vec<RelName>,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// ALTER TABLE, ALTER FOREIGN TABLE.
    AlterTable {
        /// Name.
        name: RelName,
        /// ONLY.
        only: bool,
        /// IF EXISTS.
        if_exists: bool,
        /// `ALTER TABLE IF EXISTS ONLY name`: the author's text before the sub-commands.
        head: Span,
        /// Sub-commands.
        ops: Vec<AlterOp>,
    },
    /// ALTER INDEX, VIEW, MATERIALIZED VIEW or SEQUENCE.
    AlterRelation {
        /// What the statement says it is.
        kind: RelKind,
        /// Name.
        name: RelName,
        /// IF EXISTS.
        if_exists: bool,
        /// Sub-commands.
        ops: Vec<AlterOp>,
    },
    /// CREATE INDEX.
    CreateIndex {
        /// Name, in the schema of its table.
        name: Option<RelName>,
        /// Table.
        table: RelName,
        /// ON ONLY.
        only: bool,
        /// UNIQUE.
        unique: bool,
        /// CONCURRENTLY.
        concurrently: bool,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// Where CONCURRENTLY goes: one past the word INDEX.
        after_index: usize,
        /// One past the name of the table.
        after_table: usize,
    },
    /// DROP INDEX.
    DropIndex {
        /// Names.
        names: Vec<RelName>,
        /// IF EXISTS.
        if_exists: bool,
        /// CONCURRENTLY.
        concurrently: bool,
        /// CASCADE.
        cascade: bool,
        /// Where CONCURRENTLY goes: one past the word INDEX.
        after_index: usize,
        /// The author's text of each name.
        spans: Vec<Span>,
    },
    /// REINDEX.
    Reindex {
        /// What is rebuilt.
        target: ReindexTarget,
        /// Name of the index, table, schema or database, where given.
        name: Option<RelName>,
        /// CONCURRENTLY.
        concurrently: bool,
        /// Where CONCURRENTLY goes: one past the word INDEX, TABLE, ….
        after_target: usize,
    },
    /// CREATE VIEW, CREATE MATERIALIZED VIEW, CREATE RECURSIVE VIEW.
    CreateView {
        /// Name.
        name: RelName,
        /// OR REPLACE.
        or_replace: bool,
        /// MATERIALIZED.
        materialized: bool,
        /// IF NOT EXISTS (materialized only).
        if_not_exists: bool,
        /// TEMPORARY.
        temporary: bool,
    },
    /// DROP VIEW, DROP MATERIALIZED VIEW.
    DropView {
        /// Names.
        names: Vec<RelName>,
        /// MATERIALIZED.
        materialized: bool,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// CREATE SEQUENCE.
    CreateSequence {
        /// Name.
        name: RelName,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP SEQUENCE.
    DropSequence {
        /// Names.
        names: Vec<RelName>,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// CREATE TYPE.
    CreateType {
        /// Name.
        name: RelName,
    },
    /// ALTER TYPE … ADD VALUE.
    AlterTypeAddValue {
        /// Name of the type.
        name: RelName,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// Any other ALTER TYPE.
    AlterType {
        /// Name.
        name: RelName,
        /// What it does, where it is one of the forms that can be taken back.
        change: NameChange,
        /// ADD, DROP or ALTER ATTRIBUTE, RENAME ATTRIBUTE … CASCADE: may change the tables typed
        /// by it, and write their rows anew.
        attributes: bool,
    },
    /// CREATE DOMAIN.
    CreateDomain {
        /// Name.
        name: RelName,
    },
    /// ALTER DOMAIN.
    AlterDomain {
        /// Name.
        name: RelName,
        /// What it does, where it is one of the forms that can be taken back.
        change: NameChange,
        /// Reads every table that has a column of this domain (ADD without NOT VALID, VALIDATE,
        /// SET NOT NULL).
        scans: bool,
    },
    /// CREATE SCHEMA.
    CreateSchema {
        /// Name; `None` for `CREATE SCHEMA AUTHORIZATION role`.
        name: Option<String>,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// Creates objects in it too.
        elements: bool,
    },
    /// CREATE EXTENSION.
    CreateExtension {
        /// Name.
        name: String,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// CREATE FUNCTION, PROCEDURE or AGGREGATE.
    CreateFunction {
        /// `FUNCTION`, `PROCEDURE` or `AGGREGATE`.
        object: &'static str,
        /// Name.
        name: RelName,
        /// OR REPLACE.
        or_replace: bool,
        /// The author's text of the parameters in parentheses, without their defaults.
        signature: Option<String>,
    },
    /// CREATE TRIGGER.
    CreateTrigger {
        /// Name.
        name: String,
        /// Table.
        table: RelName,
        /// OR REPLACE.
        or_replace: bool,
        /// FOR EACH ROW.
        row: bool,
    },
    /// DROP TRIGGER, POLICY or RULE.
    DropOnTable {
        /// `TRIGGER`, `POLICY` or `RULE`.
        object: &'static str,
        /// Name.
        name: String,
        /// Table.
        table: RelName,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// ALTER TRIGGER, POLICY or RULE.
    AlterOnTable {
        /// `TRIGGER`, `POLICY` or `RULE`.
        object: &'static str,
        /// Name.
        name: String,
        /// Table.
        table: RelName,
        /// RENAME TO this name; `None` for any other change.
        rename_to: Option<String>,
    },
    /// CREATE POLICY.
    CreatePolicy {
        /// Name.
        name: String,
        /// Table.
        table: RelName,
    },
    /// CREATE RULE.
    CreateRule {
        /// Name.
        name: String,
        /// Table.
        table: RelName,
        /// OR REPLACE.
        or_replace: bool,
    },
    /// CREATE STATISTICS.
    CreateStatistics {
        /// Name; optional since 16.
        name: Option<RelName>,
        /// Table, where it is a plain name.
        table: Option<RelName>,
        /// IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// DROP of anything that has no variant of its own.
    Drop {
        /// What, in upper case: `TYPE`, `DOMAIN`, `FUNCTION`, `SCHEMA`, `EXTENSION`, ….
        object: String,
        /// The author's text of the names.
        names: String,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// COMMENT ON.
    Comment {
        /// On what.
        target: CommentTarget,
    },
    /// SECURITY LABEL.
    SecurityLabel,
    /// GRANT.
    Grant {
        /// What it gives; `None` for membership in roles, and where it is not understood.
        rights: Option<Box<Rights>>,
    },
    /// REVOKE.
    Revoke {
        /// What it takes; `None` as in [`Action::Grant`].
        rights: Option<Box<Rights>>,
    },
    /// ALTER DEFAULT PRIVILEGES.
    DefaultPrivileges {
        /// FOR ROLE; empty for the current one.
        roles: Vec<Grantee>,
        /// IN SCHEMA; empty for all.
        schemas: Vec<String>,
        /// GRANT, not REVOKE.
        grant: bool,
        /// What it gives or takes, without objects; `None` where it is not understood.
        rights: Option<Box<Rights>>,
    },
    /// ALTER FUNCTION, PROCEDURE or ROUTINE.
    AlterFunction {
        /// `FUNCTION`, `PROCEDURE` or `ROUTINE`.
        object: &'static str,
        /// Which.
        function: ObjectName,
        /// What it does to it.
        change: FunctionChange,
    },
    /// INSERT.
    Insert {
        /// Table.
        table: RelName,
    },
    /// UPDATE.
    Update {
        /// Table.
        table: RelName,
    },
    /// DELETE.
    Delete {
        /// Table.
        table: RelName,
    },
    /// MERGE.
    Merge {
        /// Table.
        table: RelName,
    },
    /// WITH whose queries change rows: INSERT, UPDATE, DELETE and MERGE in them, and in the main
    /// part.
    Writes {
        /// Each with its place.
        parts: Vec<(Self, Span)>,
    },
    /// TRUNCATE.
    Truncate {
        /// Tables.
        tables: Vec<RelName>,
        /// CASCADE.
        cascade: bool,
        /// RESTART IDENTITY.
        restart_identity: bool,
    },
    /// COPY … FROM or TO.
    Copy {
        /// Table; `None` for a query.
        table: Option<RelName>,
        /// FROM: writes the table.
        from: bool,
    },
    /// SELECT, VALUES, TABLE, WITH … SELECT, EXPLAIN without ANALYZE, SHOW.
    Select {
        /// Functions that it calls and that are not known to be without effect.
        functions: Vec<String>,
    },
    /// LOCK TABLE.
    LockTable {
        /// Tables.
        tables: Vec<RelName>,
        /// Mode.
        mode: LockMode,
    },
    /// VACUUM.
    Vacuum {
        /// Tables; empty means all.
        tables: Vec<RelName>,
        /// FULL.
        full: bool,
    },
    /// ANALYZE.
    Analyze {
        /// Tables; empty means all.
        tables: Vec<RelName>,
    },
    /// CLUSTER.
    Cluster {
        /// Table; `None` means all that were clustered before.
        table: Option<RelName>,
    },
    /// REFRESH MATERIALIZED VIEW.
    Refresh {
        /// The view.
        name: RelName,
        /// CONCURRENTLY.
        concurrently: bool,
    },
    /// DO: a block of code.
    Do,
    /// CALL.
    Call,
    /// SET, RESET: session settings.
    Set,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT, ….
    Transaction,
    /// CREATE or DROP DATABASE or TABLESPACE, ALTER SYSTEM, SUBSCRIPTION with a slot: what the
    /// server refuses inside a transaction block.
    OutsideTransaction {
        /// The leading words, upper case.
        leading: String,
    },
    /// CREATE or ALTER PUBLICATION … TABLE, ALTER EXTENSION … ADD or DROP of a relation: what has
    /// members, and the tables that become, are or were.
    Members {
        /// `CREATE` or `ALTER`.
        verb: &'static str,
        /// `PUBLICATION` or `EXTENSION`.
        object: &'static str,
        /// Its name.
        name: String,
        /// The tables named.
        tables: Vec<RelName>,
        /// SET: the members until now are no more.
        replaces: bool,
    },
    /// CREATE ROLE, COLLATION, OPERATOR, CAST, PUBLICATION, FOREIGN SERVER, … and their ALTER:
    /// recognised by kind only.
    Other {
        /// `CREATE` or `ALTER`.
        verb: &'static str,
        /// What, in upper case: `ROLE`, `PUBLICATION`, ….
        object: String,
    },
    /// Not recognised.
    Opaque {
        /// The leading words, upper case; empty where there is none.
        leading: String,
    },
}

/// What follows PARTITION OF and the name of the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionDef {
    /// It has column options or constraints of its own.
    pub elements: bool,
    /// `FOR VALUES …` or `DEFAULT`.
    pub bound: Span,
    /// What follows the bound: PARTITION BY, USING, WITH, TABLESPACE.
    pub rest: Span,
}

/// What a REINDEX rebuilds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReindexTarget {
    /// One index.
    Index,
    /// All indexes of a table.
    Table,
    /// All of a schema.
    Schema,
    /// All of the database.
    Database,
    /// All system catalogs; has no concurrent form.
    System,
}

/// A change of a name or place that has a mechanical way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameChange {
    /// RENAME TO.
    Rename {
        /// New name.
        to: String,
    },
    /// SET SCHEMA.
    Schema {
        /// New schema.
        to: String,
    },
    /// RENAME VALUE, RENAME ATTRIBUTE or RENAME CONSTRAINT.
    Part {
        /// `VALUE`, `ATTRIBUTE` or `CONSTRAINT`.
        part: &'static str,
        /// Old name, as SQL text.
        from: String,
        /// New name, as SQL text.
        to: String,
    },
    /// OWNER TO.
    Owner {
        /// New owner.
        to: Grantee,
    },
    /// ADD CONSTRAINT of this name, ALTER DOMAIN only.
    AddConstraint {
        /// Name.
        name: String,
    },
    /// Anything else.
    None,
}

/// What ALTER FUNCTION does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionChange {
    /// RENAME TO.
    Rename {
        /// New name.
        to: String,
    },
    /// SET SCHEMA.
    Schema {
        /// New schema.
        to: String,
    },
    /// OWNER TO.
    Owner {
        /// New owner.
        to: Grantee,
    },
    /// DEPENDS ON EXTENSION, and its opposite.
    Depends,
    /// VOLATILE, STRICT, COST, SET …: what CREATE OR REPLACE sets too.
    Options,
}

/// What a COMMENT is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommentTarget {
    /// A table.
    Table(RelName),
    /// A column of a table or view.
    Column {
        /// Table or view.
        table: RelName,
        /// Column.
        column: String,
    },
    /// Anything else.
    Other {
        /// The words before the name, upper case: `FUNCTION`, `MATERIALIZED VIEW`.
        object: String,
        /// `ON table` of a constraint, trigger, policy or rule; else the relation itself, where it
        /// is one (a view, sequence or index).
        table: Option<RelName>,
        /// The object, where its kind has a plain name or one with arguments.
        name: Option<ObjectName>,
        /// `ON DOMAIN name` of a constraint.
        domain: Option<RelName>,
    },
}

impl Action {
    /// True where the statement only changes data, never the schema.
    pub fn is_dml(&self) -> bool {
        matches!(
            self,
            Self::Insert { .. }
                | Self::Update { .. }
                | Self::Delete { .. }
                | Self::Merge { .. }
                | Self::Writes { .. }
                | Self::Truncate { .. }
                | Self::Copy { .. }
        )
    }
}
