//! The sequences of a column whose type changes: owned ones go over, those of an identity are made
//! again.

use super::Retype;
use super::dress::{Side, Swapped, grant_sql};
use crate::catalog::QName;
use crate::catalog::details::OwnedSequence;
use crate::sql::quote::{ident, literal, qname};

impl<'d> Swapped<'d> {
    pub(super) fn sequences(
        self,
        retype: &Retype,
    ) -> impl Iterator<Item = &'d OwnedSequence> + use<'d> {
        let details = self.answer.details.get(&retype.column);
        details.into_iter().flat_map(|d| &d.sequences)
    }

    /// The type that a column's own sequence gets: the column's, where that is a wider integer.
    /// ALTER COLUMN … TYPE leaves the sequence of a serial column as it is, which then ends where
    /// the old type does.
    pub(super) fn widened(self, retype: &Retype, sequence: &OwnedSequence) -> Option<&'d str> {
        let width = |name: &str| {
            ["smallint", "integer", "bigint"]
                .iter()
                .position(|t| *t == name)
        };
        let new = self.answer.types.get(&retype.column)?;
        let wider = width(new)? > width(&sequence.type_name)?;
        (wider && !sequence.identity).then_some(new.as_str())
    }

    pub(super) fn owned(self, sequence: &OwnedSequence, column: &str) -> String {
        format!(
            "ALTER SEQUENCE {} OWNED BY {}.{}",
            qname(&sequence.name),
            qname(&self.table.name),
            ident(column)
        )
    }

    /// Makes `to` the identity column that `from` is: the server has no statement that moves it,
    /// so another sequence goes on where the one before was, under its name.
    pub(super) fn take_identity(self, retype: &Retype, from: &str, to: &str) -> Vec<String> {
        let Some(sequence) = self.sequences(retype).find(|s| s.identity) else {
            return Vec::new();
        };
        if retype.default.drops_identity {
            return if from == retype.column && to == retype.shadow {
                self.free_sequence(retype, sequence)
            } else {
                self.bind_sequence(retype, sequence)
            };
        }
        let kind = self.identity_kind(retype);
        let head = self.head();
        let schema = &sequence.name.schema;
        let aid = QName::new(schema.as_str(), self.aid(Side::New, &sequence.name.name));
        let (now, next) = (qname(&sequence.name), qname(&aid));
        let mut sql = vec![
            format!(
                "{head} ALTER COLUMN {} ADD GENERATED {kind} AS IDENTITY (SEQUENCE NAME {next} {})",
                ident(to),
                sequence_options(sequence)
            ),
            format!(
                "SELECT setval({}::regclass, last_value, is_called) FROM {now}",
                literal(&next)
            ),
            format!("{head} ALTER COLUMN {} DROP IDENTITY", ident(from)),
            format!(
                "ALTER SEQUENCE {next} RENAME TO {}",
                ident(&sequence.name.name)
            ),
        ];
        sql.extend(
            sequence
                .grants
                .iter()
                .map(|grant| grant_sql(grant, "", &format!("SEQUENCE {now}"))),
        );
        if let Some(comment) = &sequence.comment {
            sql.push(format!("COMMENT ON SEQUENCE {now} IS {}", literal(comment)));
        }
        sql
    }

    pub(super) fn identity_kind(self, retype: &Retype) -> String {
        let column = self.table.column(&retype.column);
        let kind = column.and_then(|c| c.identity.clone());
        kind.unwrap_or_else(|| "BY DEFAULT".to_owned())
    }
}

/// The options of a sequence that are not those of its type.
pub(super) fn sequence_options(sequence: &OwnedSequence) -> String {
    let full = match sequence.type_name.as_str() {
        "smallint" => i64::from(i16::MAX),
        "integer" => i64::from(i32::MAX),
        _ => i64::MAX,
    };
    let up = sequence.increment > 0;
    let mut all = vec![
        format!("START {}", sequence.start),
        format!("INCREMENT {}", sequence.increment),
        format!("CACHE {}", sequence.cache),
    ];
    if (up && sequence.max != full) || (!up && sequence.max != -1) {
        all.push(format!("MAXVALUE {}", sequence.max));
    }
    if (up && sequence.min != 1) || (!up && sequence.min != -full - 1) {
        all.push(format!("MINVALUE {}", sequence.min));
    }
    if sequence.cycle {
        all.push("CYCLE".to_owned());
    }
    all.join(" ")
}
