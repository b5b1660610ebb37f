//! ADD COLUMN.

use super::alter::Context;
use super::{Safe, SafeStep, costly, refused};
use crate::catalog::ConstraintKind;
use crate::plan::forms::constraint_name;
use crate::plan::work::{Volatility, constrained_domain, volatility};
use crate::sql::ddl::{AlterOp, ColumnDef, Generated, InlineConstraint};
use crate::sql::quote;

impl Context<'_> {
    pub(super) fn add_column(&self, op: &AlterOp, column: &ColumnDef) -> Safe {
        let (name, table) = (&column.name, self.name);
        let fill = |value: &str| {
            format!(
                "add the column without it, ALTER COLUMN {name} SET DEFAULT {value} in the \
                 statement after, and fill the old rows in a backfill section"
            )
        };
        if matches!(column.generated, Some((Generated::Stored, _))) {
            return costly(
                "add-column-generated-stored",
                format!(
                    "a stored generated column {name} writes every row of {table} anew under a \
                     lock that blocks reads and writes"
                ),
                "add a plain column and fill it in a backfill section; the sync trigger keeps it \
                 right until the application does",
            );
        }
        if column.identity || column.is_serial() {
            return costly(
                "add-column-serial",
                format!(
                    "the column {name} takes a number from a sequence for every row, so {table} \
                     is written anew under a lock that blocks reads and writes"
                ),
                format!(
                    "add {name} as a nullable bigint, CREATE SEQUENCE, ALTER COLUMN {name} SET \
                     DEFAULT nextval(…), fill the old rows in a backfill section, and SET NOT \
                     NULL in contract"
                ),
            );
        }
        if constrained_domain(&column.type_text, self.catalog) {
            return costly(
                "add-column-constrained-domain",
                format!(
                    "{} is a domain with constraints: to add a column of it, every row of {table} \
                     is written anew under a lock that blocks reads and writes",
                    column.type_text
                ),
                format!(
                    "give {name} the base type of the domain, and its CHECK to the table (it is \
                     made NOT VALID and then validated)"
                ),
            );
        }
        if let Some(default) = &column.default {
            match volatility(default) {
                Volatility::Safe => {}
                Volatility::Volatile(function) => {
                    return costly(
                        "add-column-volatile-default",
                        format!(
                            "the default of {name} calls {function}(), which is volatile: every \
                             row of {table} is written anew under a lock that blocks reads and \
                             writes"
                        ),
                        fill(default),
                    );
                }
                Volatility::Unknown(function) => {
                    return costly(
                        "add-column-volatile-default",
                        format!(
                            "the default of {name} calls {function}(); where that is volatile, \
                             every row of {table} is written anew under a lock that blocks reads \
                             and writes"
                        ),
                        fill(default),
                    );
                }
            }
        }
        if column.not_null && column.default.is_none() && self.table.rows > 0 {
            return refused(
                format!("{table} has rows, and the column {name} would be null in them"),
                "give a constant DEFAULT, or add the column nullable, fill it in a backfill \
                 section, and SET NOT NULL in contract",
            );
        }
        if column.has(ConstraintKind::PrimaryKey) {
            return refused(
                format!("{table} has rows, and the new column {name} cannot identify them"),
                "add the column, fill it in a backfill section, and ADD PRIMARY KEY in contract",
            );
        }
        self.move_constraints_out(op, column)
    }

    /// ADD COLUMN without the constraints that would read the table, then each of those on its
    /// own.
    fn move_constraints_out(&self, op: &AlterOp, column: &ColumnDef) -> Safe {
        // A foreign key of a column that is null everywhere is not checked, so it stays.
        let moves =
            |c: &InlineConstraint| c.kind != ConstraintKind::ForeignKey || column.default.is_some();
        let apart: Vec<_> = column.constraints.iter().filter(|c| moves(c)).collect();
        if apart.is_empty() {
            return Safe::AsIs;
        }
        let mut definition = String::new();
        let mut from = op.span.start;
        for constraint in &apart {
            definition.push_str(self.text[from..constraint.span.start].trim_end());
            from = constraint.span.end;
        }
        definition.push_str(&self.text[from..op.span.end]);
        let mut steps = vec![SafeStep::plain(self.statement(definition.trim_end()))];
        let columns = vec![column.name.clone()];
        for constraint in apart {
            let body = constraint.body.of(self.text);
            let more = match constraint.kind {
                ConstraintKind::Unique => match self.unique_of_column(constraint, column) {
                    Safe::Rewritten { steps, .. } => steps,
                    other => return other,
                },
                kind => {
                    let foreign = kind == ConstraintKind::ForeignKey;
                    if foreign && let Some(refusal) = self.refuse_not_valid_key() {
                        return refusal;
                    }
                    let name = constraint.name.clone().unwrap_or_else(|| {
                        constraint_name(
                            self.table,
                            &columns,
                            if foreign { "fkey" } else { "check" },
                        )
                    });
                    let body = if foreign {
                        format!("FOREIGN KEY ({}) {body}", quote::ident(&column.name))
                    } else {
                        body.to_owned()
                    };
                    self.not_valid_then_validate(&name, &body)
                }
            };
            steps.extend(more);
        }
        Safe::Rewritten {
            steps,
            why: "a constraint within ADD COLUMN is checked, or its index built, under a lock \
                  that blocks reads and writes; on its own it need not be"
                .to_owned(),
        }
    }

    fn unique_of_column(&self, constraint: &InlineConstraint, column: &ColumnDef) -> Safe {
        let columns = vec![column.name.clone()];
        let body = constraint.body.of(self.text);
        // Only the plain form: parameters of the index would have to be read again.
        if !body.eq_ignore_ascii_case("unique") {
            return costly(
                "add-column-constraint",
                format!(
                    "the unique index of the new column {} is built under a lock that blocks \
                     reads and writes",
                    column.name
                ),
                "write the constraint as a statement of its own, ALTER TABLE … ADD CONSTRAINT … \
                 UNIQUE (…)",
            );
        }
        let name = constraint
            .name
            .clone()
            .unwrap_or_else(|| constraint_name(self.table, &columns, "key"));
        self.unique_steps(
            &name,
            "UNIQUE",
            &format!("({})", quote::ident(&column.name)),
            "",
        )
    }
}
