//! The default of a column whose type changes, where the old one cannot be cast to the new type
//! (`nextval` of a uuid): as for the server, DROP DEFAULT or DROP IDENTITY and SET DEFAULT stand in
//! the same ALTER TABLE. The old column keeps its own until the swap, and gets it again on the way
//! back.

use super::super::fill::given;
use super::Retype;
use super::dress::{Swapped, grant_sql};
use super::sequences::sequence_options;
use crate::catalog::QName;
use crate::catalog::details::OwnedSequence;
use crate::sql::ddl::{AlterOp, AlterOpKind};
use crate::sql::quote::{ident, literal, qname};

/// What the author says of the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewDefault {
    /// DROP DEFAULT.
    pub drops: bool,
    /// DROP IDENTITY.
    pub drops_identity: bool,
    /// The text of SET DEFAULT.
    pub set: Option<String>,
}

impl NewDefault {
    /// What the statement says of the default of a column.
    pub(super) fn of(column: &str, ops: &[AlterOp]) -> Self {
        let mut all = Self::default();
        for op in ops.iter().filter(|op| about(&op.kind) == Some(column)) {
            match &op.kind {
                AlterOpKind::SetDefault { expr, .. } => all.set = Some(expr.clone()),
                AlterOpKind::DropDefault { .. } => all.drops = true,
                AlterOpKind::DropIdentity { .. } => all.drops_identity = true,
                _ => {}
            }
        }
        all
    }

    /// The statements on a table before its column changes, and after.
    pub(super) fn around(&self, table: &str, column: &str) -> (Vec<String>, Vec<String>) {
        let alter = format!("ALTER TABLE {table} ALTER COLUMN {}", ident(column));
        let mut before = Vec::new();
        if self.drops {
            before.push(format!("{alter} DROP DEFAULT"));
        }
        if self.drops_identity {
            before.push(format!("{alter} DROP IDENTITY"));
        }
        let after = self.set.iter();
        let after = after.map(|expr| format!("{alter} SET DEFAULT {expr}"));
        (before, after.collect())
    }
}

fn about(op: &AlterOpKind) -> Option<&str> {
    match op {
        AlterOpKind::SetDefault { column, .. }
        | AlterOpKind::DropDefault { column }
        | AlterOpKind::DropIdentity { column } => Some(column),
        _ => None,
    }
}

/// It is about the default of a column whose type the same statement changes.
pub(in crate::plan) fn goes_along(op: &AlterOp, ops: &[AlterOp]) -> bool {
    let Some(column) = about(&op.kind) else {
        return false;
    };
    ops.iter()
        .any(|op| matches!(&op.kind, AlterOpKind::SetType { column: c, .. } if c == column))
}

impl Swapped<'_> {
    /// The identity of a column that the new type cannot have: from contract to purge its sequence
    /// is an ordinary one under the same name, so that the way back, and functions of the file,
    /// count on from it.
    pub(super) fn free_sequence(self, retype: &Retype, sequence: &OwnedSequence) -> Vec<String> {
        let head = self.head();
        let (now, next, aid) = self.sequence_names(sequence);
        let mut sql = vec![
            format!(
                "CREATE SEQUENCE {next} AS {} {}",
                sequence.type_name,
                sequence_options(sequence)
            ),
            format!(
                "SELECT setval({}::regclass, last_value, is_called) FROM {now}",
                literal(&next)
            ),
            format!(
                "{head} ALTER COLUMN {} DROP IDENTITY",
                ident(&retype.column)
            ),
            format!(
                "ALTER SEQUENCE {} RENAME TO {}",
                qname(&aid),
                ident(&sequence.name.name)
            ),
        ];
        sql.extend(given(&sequence.name, self.table, self.role));
        sql.push(self.owned(sequence, &retype.shadow));
        sql.extend(Self::sequence_details(sequence));
        sql
    }

    /// It becomes the identity of the old column again.
    pub(super) fn bind_sequence(self, retype: &Retype, sequence: &OwnedSequence) -> Vec<String> {
        let head = self.head();
        let (now, next, aid) = self.sequence_names(sequence);
        let mut sql = vec![
            format!(
                "{head} ALTER COLUMN {} ADD GENERATED {} AS IDENTITY (SEQUENCE NAME {next} {})",
                ident(&retype.old),
                self.identity_kind(retype),
                sequence_options(sequence)
            ),
            format!(
                "SELECT setval({}::regclass, last_value, is_called) FROM {now}",
                literal(&next)
            ),
            format!("DROP SEQUENCE {now}"),
            format!(
                "ALTER SEQUENCE {} RENAME TO {}",
                qname(&aid),
                ident(&sequence.name.name)
            ),
        ];
        sql.extend(Self::sequence_details(sequence));
        sql
    }

    /// What purge drops beside the old columns.
    pub(super) fn freed(self) -> Vec<String> {
        self.columns
            .iter()
            .filter(|r| r.default.drops_identity)
            .flat_map(|r| self.sequences(r).filter(|s| s.identity))
            .map(|s| format!("DROP SEQUENCE IF EXISTS {}", qname(&s.name)))
            .collect()
    }

    /// Its name, the one that the next one is made under, and the same unquoted.
    fn sequence_names(self, sequence: &OwnedSequence) -> (String, String, QName) {
        let aid = self.aid(super::dress::Side::New, &sequence.name.name);
        let aid = QName::new(sequence.name.schema.as_str(), aid);
        (qname(&sequence.name), qname(&aid), aid)
    }

    fn sequence_details(sequence: &OwnedSequence) -> Vec<String> {
        let now = qname(&sequence.name);
        let grants = sequence.grants.iter();
        let on = format!("SEQUENCE {now}");
        let comment = sequence.comment.iter();
        grants
            .map(|grant| grant_sql(grant, "", &on))
            .chain(comment.map(|c| format!("COMMENT ON SEQUENCE {now} IS {}", literal(c))))
            .collect()
    }
}
