//! The sub-commands of ALTER TABLE.

use super::{ColumnDef, ConstraintDef, Grantee, RelName};
use crate::sql::source::Span;

/// A sub-command of ALTER TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterOp {
    /// What it does.
    pub kind: AlterOpKind,
    /// The author's text of it in the statement.
    pub span: Span,
}

/// What a sub-command of ALTER TABLE does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AlterOpKind {
    /// ADD COLUMN.
    AddColumn(Box<ColumnDef>),
    /// DROP COLUMN.
    DropColumn {
        /// Column.
        name: String,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// ALTER COLUMN … SET NOT NULL.
    SetNotNull {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … DROP NOT NULL.
    DropNotNull {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … SET DEFAULT.
    SetDefault {
        /// Column.
        column: String,
        /// The author's text of the expression.
        expr: String,
    },
    /// ALTER COLUMN … DROP DEFAULT.
    DropDefault {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … TYPE.
    SetType {
        /// Column.
        column: String,
        /// The author's text of the type.
        type_text: String,
        /// COLLATE is given.
        collate: bool,
        /// The author's text of the USING expression.
        using: Option<String>,
        /// The type with its COLLATE.
        definition: Span,
        /// Where the USING expression is.
        using_span: Option<Span>,
    },
    /// ALTER COLUMN … ADD GENERATED … AS IDENTITY.
    AddIdentity {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … SET GENERATED, RESTART, SET INCREMENT ….
    SetIdentity {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … DROP IDENTITY.
    DropIdentity {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … SET EXPRESSION AS (17).
    SetExpression {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … DROP EXPRESSION.
    DropExpression {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … SET STATISTICS.
    SetStatistics {
        /// Column.
        column: String,
    },
    /// ALTER COLUMN … SET (…) or RESET (…).
    SetColumnOptions {
        /// Column; `None` for OPTIONS (…) of a foreign table.
        column: Option<String>,
        /// Names of the options, lower case.
        names: Vec<String>,
    },
    /// ALTER COLUMN … SET STORAGE or SET COMPRESSION.
    SetStorage {
        /// Column.
        column: String,
        /// COMPRESSION.
        compression: bool,
    },
    /// ADD CONSTRAINT, with or without a name.
    AddConstraint(Box<ConstraintDef>),
    /// DROP CONSTRAINT.
    DropConstraint {
        /// Name.
        name: String,
        /// IF EXISTS.
        if_exists: bool,
        /// CASCADE.
        cascade: bool,
    },
    /// VALIDATE CONSTRAINT.
    ValidateConstraint {
        /// Name.
        name: String,
    },
    /// ALTER CONSTRAINT.
    AlterConstraint {
        /// Name.
        name: String,
        /// ENFORCED or NOT ENFORCED (18); `None` where neither is said.
        enforced: Option<bool>,
    },
    /// RENAME COLUMN.
    RenameColumn {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// RENAME TO.
    RenameTable {
        /// New name.
        to: String,
    },
    /// RENAME CONSTRAINT.
    RenameConstraint {
        /// Old name.
        from: String,
        /// New name.
        to: String,
    },
    /// SET SCHEMA.
    SetSchema {
        /// New schema.
        to: String,
    },
    /// OWNER TO.
    Owner {
        /// New owner; `None` where it is not understood.
        to: Option<Grantee>,
    },
    /// ATTACH PARTITION; of ALTER INDEX also.
    AttachPartition {
        /// The table that becomes a partition.
        partition: RelName,
        /// DEFAULT.
        default: bool,
    },
    /// DETACH PARTITION.
    DetachPartition {
        /// The partition.
        partition: RelName,
        /// CONCURRENTLY.
        concurrently: bool,
        /// FINALIZE.
        finalize: bool,
    },
    /// ENABLE TRIGGER.
    EnableTrigger {
        /// Name; `None` for ALL and USER.
        name: Option<String>,
    },
    /// DISABLE TRIGGER.
    DisableTrigger {
        /// Name; `None` for ALL and USER.
        name: Option<String>,
    },
    /// ENABLE or DISABLE RULE.
    Rule,
    /// ENABLE, DISABLE, FORCE or NO FORCE ROW LEVEL SECURITY.
    RowSecurity,
    /// SET (…) or RESET (…).
    SetOptions {
        /// Names of the storage parameters, lower case.
        names: Vec<String>,
    },
    /// REPLICA IDENTITY.
    ReplicaIdentity,
    /// CLUSTER ON, SET WITHOUT CLUSTER: only marks.
    ClusterOn,
    /// SET TABLESPACE.
    SetTablespace,
    /// SET ACCESS METHOD.
    SetAccessMethod,
    /// SET LOGGED or SET UNLOGGED.
    SetLogged {
        /// LOGGED.
        logged: bool,
    },
    /// INHERIT.
    Inherit {
        /// Parent.
        parent: RelName,
    },
    /// NO INHERIT.
    NoInherit {
        /// Parent.
        parent: RelName,
    },
    /// Of ALTER SEQUENCE: AS, INCREMENT, MINVALUE, START, CACHE, OWNED BY, ….
    SequenceOptions {
        /// RESTART is among them.
        restart: bool,
    },
    /// OF a composite type, NOT OF: only marks.
    OfType,
    /// SET WITHOUT OIDS: does nothing since 12.
    WithoutOids,
    /// Not recognised.
    Other {
        /// The leading words, upper case.
        leading: String,
    },
}
