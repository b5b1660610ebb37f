//! ALTER TABLE, sub-command by sub-command.

use super::{Allowed, Safe, SafeStep, allow, costly, sql_name};
use crate::catalog::{Catalog, ConstraintKind, RelKind, Table};
use crate::plan::forms::{
    NOT_NULL_CONSTRAINTS, constraint_name, dropped_proofs, kind, not_null_steps, proven_not_null,
    table,
};
use crate::plan::work::{Work, op_work};
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, ConstraintDef};
use crate::sql::lex::{TokenKind, ident_value, lex_code};
use crate::sql::{RelName, quote};

/// The safe form of an ALTER TABLE, whose sub-commands may break these rules.
pub(super) fn safe_form(
    text: &str,
    action: &Action,
    catalog: &Catalog,
    rules: &[&str],
) -> (Safe, Vec<Allowed>) {
    let mut allowed = Vec::new();
    let form = form(text, action, catalog, |form| {
        allow(form, rules, &mut allowed)
    });
    (form, allowed)
}

fn form(
    text: &str,
    action: &Action,
    catalog: &Catalog,
    mut allow: impl FnMut(Safe) -> Safe,
) -> Safe {
    let Action::AlterTable {
        name,
        only,
        head,
        ops,
        ..
    } = action
    else {
        return Safe::AsIs;
    };
    let Some(table) = table(catalog, name) else {
        return Safe::AsIs;
    };
    let cx = Context {
        text,
        head: head.of(text),
        name,
        table,
        only: *only,
        catalog,
    };
    let mut forms: Vec<(&AlterOp, Safe)> = ops.iter().map(|op| (op, allow(cx.op(op)))).collect();
    if let Some(i) = forms
        .iter()
        .position(|(_, s)| matches!(s, Safe::Refused { .. }))
    {
        return forms.swap_remove(i).1;
    }
    let proofs = dropped_proofs(table, ops);
    if proofs.is_empty() && forms.iter().all(|(_, form)| *form == Safe::AsIs) {
        return Safe::AsIs;
    }
    // In one statement the server drops first and adds columns before constraints, whatever the
    // order of the text; one statement each must keep to that.
    // But for a CHECK that proves NOT NULL: it goes last.
    forms.sort_by_key(|(op, _)| match &op.kind {
        AlterOpKind::DropConstraint { name, .. } if proofs.contains(&name.as_str()) => 5,
        kind => pass(kind),
    });
    let mut steps = Vec::new();
    let mut reasons: Vec<String> = Vec::new();
    if !proofs.is_empty() {
        reasons.push(
            "dropped in the same statement, the CHECK does not prove NOT NULL, and every row is \
             read under a lock that blocks reads and writes"
                .to_owned(),
        );
    }
    for (op, form) in forms {
        match form {
            Safe::Rewritten { steps: more, why } => {
                steps.extend(more);
                if !reasons.contains(&why) {
                    reasons.push(why);
                }
            }
            _ => steps.push(SafeStep::plain(cx.statement(op.span.of(text)))),
        }
    }
    Safe::Rewritten {
        steps,
        why: reasons.join("; "),
    }
}

/// The order in which the server runs sub-commands (`AlterTablePass` in `tablecmds.c`).
fn pass(op: &AlterOpKind) -> u8 {
    match op {
        AlterOpKind::DropColumn { .. }
        | AlterOpKind::DropConstraint { .. }
        | AlterOpKind::DropNotNull { .. } => 0,
        AlterOpKind::SetType { .. } => 1,
        AlterOpKind::AddColumn(_) => 2,
        AlterOpKind::AddConstraint(_) => 4,
        _ => 3,
    }
}

pub(super) struct Context<'a> {
    pub(super) text: &'a str,
    /// The author's `ALTER TABLE name`.
    head: &'a str,
    pub(super) name: &'a RelName,
    pub(super) table: &'a Table,
    only: bool,
    pub(super) catalog: &'a Catalog,
}

impl Context<'_> {
    pub(super) fn statement(&self, op: &str) -> String {
        format!("{} {op}", self.head)
    }

    fn partitioned(&self) -> bool {
        self.table.kind == RelKind::Partitioned
    }

    fn op(&self, op: &AlterOp) -> Safe {
        let work = op_work(&op.kind, Some(self.table), self.catalog);
        if work == Work::None {
            return match &op.kind {
                AlterOpKind::AddConstraint(constraint) if constraint.name.is_none() => {
                    self.named(constraint)
                }
                _ => Safe::AsIs,
            };
        }
        let table = self.name;
        match &op.kind {
            AlterOpKind::AddColumn(column) => self.add_column(op, column),
            AlterOpKind::SetNotNull { column } => self.set_not_null(column),
            AlterOpKind::AddConstraint(constraint) => self.add_constraint(op, constraint),
            AlterOpKind::SetType { column, .. } if work == Work::Scan => costly(
                "change-column-type",
                format!(
                    "changing the type of {column} checks its CHECK constraints again, and \
                     blocks reads and writes of {table} while it reads every row"
                ),
                "drop the CHECK, change the type, and add the CHECK again (it is made NOT VALID \
                 and then validated)",
            ),
            AlterOpKind::SetType {
                column, type_text, ..
            } => costly(
                "change-column-type",
                format!(
                    "changing the type of {column} to {type_text} blocks reads and writes of \
                     {table} while every row is written anew"
                ),
                format!(
                    "add a new column of type {type_text} in expand, fill it in backfill, map it \
                     back in reverse, and drop the old one in contract"
                ),
            ),
            AlterOpKind::AttachPartition { partition, .. } => {
                // A partition that the same plan makes is empty or its own concern.
                if kind(self.catalog, partition).is_none() {
                    return Safe::AsIs;
                }
                costly(
                    "attach-partition",
                    format!(
                        "ATTACH PARTITION blocks reads and writes of {partition} while it reads \
                         every row of it"
                    ),
                    format!(
                        "first add a CHECK to {partition} that says the bounds, with IS NOT NULL \
                         for the key (it is made NOT VALID and then validated); drop it \
                         afterwards"
                    ),
                )
            }
            AlterOpKind::SetLogged { .. } => self.rewrite_refused(
                "rewrite-table",
                "SET LOGGED or UNLOGGED",
                "make a new table of that kind, move the rows in batches, and swap the names",
            ),
            AlterOpKind::SetTablespace => self.rewrite_refused(
                "rewrite-table",
                "SET TABLESPACE",
                "move it in a maintenance window, or use an online tool such as pg_repack \
                 outside of a migration",
            ),
            AlterOpKind::SetAccessMethod => self.rewrite_refused(
                "rewrite-table",
                "SET ACCESS METHOD",
                "make a new table with that access method, move the rows in batches, and swap \
                 the names",
            ),
            AlterOpKind::SetExpression { column } => self.rewrite_refused(
                "set-expression",
                "SET EXPRESSION",
                &format!(
                    "add a new column beside {column} that the application or a trigger fills, \
                     and swap them"
                ),
            ),
            // VALIDATE reads without blocking. What is not recognised is not fatal: it is given
            // the strongest lock, and so its timeout.
            _ => Safe::AsIs,
        }
    }

    fn rewrite_refused(&self, rule: &'static str, what: &str, way_out: &str) -> Safe {
        costly(
            rule,
            format!(
                "{what} blocks reads and writes of {} while every row is written anew",
                self.name
            ),
            way_out,
        )
    }

    pub(super) fn not_valid_then_validate(&self, name: &str, body: &str) -> Vec<SafeStep> {
        let name = quote::ident(name);
        vec![
            SafeStep::plain(self.statement(&format!("ADD CONSTRAINT {name} {body} NOT VALID"))),
            SafeStep::validate(self.statement(&format!("VALIDATE CONSTRAINT {name}"))),
        ]
    }

    fn set_not_null(&self, column: &str) -> Safe {
        // ONLY on a parent cannot add a constraint that its children inherit.
        if self.only && (self.partitioned() || self.table.inherited) {
            return Safe::AsIs;
        }
        Safe::Rewritten {
            steps: self.not_null(column),
            why: NOT_NULL_WHY.to_owned(),
        }
    }

    fn not_null(&self, column: &str) -> Vec<SafeStep> {
        let major = self.catalog.major();
        not_null_steps(self.head, self.table, column, major, None)
            .into_iter()
            .map(|step| {
                if step.validates {
                    SafeStep::validate(step.sql)
                } else {
                    SafeStep::plain(step.sql)
                }
            })
            .collect()
    }

    /// A constraint without a name cannot be taken back: it gets the one that the server would
    /// give it.
    fn named(&self, constraint: &ConstraintDef) -> Safe {
        let Some(name) = self.name_of(constraint) else {
            return Safe::AsIs;
        };
        Safe::Rewritten {
            steps: vec![self.add_named(constraint, &name)],
            why: "named, so that it can be taken back".to_owned(),
        }
    }

    fn add_named(&self, constraint: &ConstraintDef, name: &str) -> SafeStep {
        SafeStep::plain(self.statement(&format!(
            "ADD CONSTRAINT {} {}",
            quote::ident(name),
            constraint.body.of(self.text)
        )))
    }

    /// The name that the server would choose; `None` where it is not known.
    fn name_of(&self, constraint: &ConstraintDef) -> Option<String> {
        let of = |columns: &[String], suffix| Some(constraint_name(self.table, columns, suffix));
        match constraint.kind {
            // Without a name a constraint takes its index's.
            ConstraintKind::Unique | ConstraintKind::PrimaryKey => constraint.using_index.clone(),
            ConstraintKind::ForeignKey => of(&constraint.columns, "fkey"),
            ConstraintKind::NotNull => of(&constraint.columns, "not_null"),
            ConstraintKind::Check => {
                let columns = self.columns_in(constraint.body.of(self.text));
                // As the server does: the column's name only where there is just one.
                let one = columns.len() == 1;
                of(if one { &columns } else { &[] }, "check")
            }
            _ => None,
        }
    }

    fn add_constraint(&self, op: &AlterOp, constraint: &ConstraintDef) -> Safe {
        match constraint.kind {
            ConstraintKind::NotNull => self.add_not_null(op, constraint),
            ConstraintKind::Check | ConstraintKind::ForeignKey => self.add_checked(op, constraint),
            ConstraintKind::Unique | ConstraintKind::PrimaryKey => self.add_key(op, constraint),
            _ => costly(
                "add-exclusion",
                format!(
                    "an exclusion constraint builds its index under a lock that blocks reads and \
                     writes of {}, and there is no concurrent form",
                    self.name
                ),
                "make a new table with the constraint, move the rows in batches, and swap the \
                 names; or add it in a maintenance window",
            ),
        }
    }

    fn add_checked(&self, op: &AlterOp, constraint: &ConstraintDef) -> Safe {
        let foreign = constraint.kind == ConstraintKind::ForeignKey;
        if foreign {
            if self.leaves_have(constraint) {
                return Safe::AsIs;
            }
            if let Some(refusal) = self.refuse_not_valid_key() {
                return refusal;
            }
        }
        let why = if foreign {
            "adding a foreign key blocks writes of both tables while every row is checked; NOT \
             VALID adds it at once, and VALIDATE checks the rows without blocking"
        } else {
            "adding a CHECK blocks reads and writes while every row is checked; NOT VALID adds it \
             at once, and VALIDATE checks the rows without blocking"
        };
        let steps = if let Some(name) = &constraint.name {
            let add = format!("{} NOT VALID", op.span.of(self.text));
            let validate = format!("VALIDATE CONSTRAINT {}", quote::ident(name));
            vec![
                SafeStep::plain(self.statement(&add)),
                SafeStep::validate(self.statement(&validate)),
            ]
        } else {
            let name = self.name_of(constraint).unwrap_or_default();
            self.not_valid_then_validate(&name, constraint.body.of(self.text))
        };
        Safe::Rewritten {
            steps,
            why: why.to_owned(),
        }
    }

    /// Columns of the table that the text names, in their order of the table.
    fn columns_in(&self, text: &str) -> Vec<String> {
        let words: Vec<String> = lex_code(text)
            .into_iter()
            .filter(|t| matches!(t.kind, TokenKind::Word | TokenKind::QuotedIdent))
            .filter_map(|t| ident_value(t, text))
            .collect();
        self.table
            .columns
            .iter()
            .map(|c| c.name.clone())
            .filter(|name| words.contains(name))
            .collect()
    }

    /// Before 18 a foreign key of a partitioned table cannot be NOT VALID.
    pub(super) fn refuse_not_valid_key(&self) -> Option<Safe> {
        (self.partitioned() && self.catalog.major() < NOT_NULL_CONSTRAINTS).then(|| {
            costly(
                "add-foreign-key",
                format!(
                    "{} is partitioned, and before PostgreSQL 18 its foreign keys cannot be NOT \
                     VALID: adding one blocks writes while every row of every partition is checked",
                    self.name
                ),
                format!(
                    "add the foreign key to each partition first (it is made NOT VALID and then \
                     validated), then to {} in a later migration, which takes those over without \
                     a check",
                    self.name
                ),
            )
        })
    }

    /// Every partition has this foreign key already, validated: the parent's takes them over.
    fn leaves_have(&self, constraint: &ConstraintDef) -> bool {
        let Some(other) = constraint
            .references
            .as_ref()
            .and_then(|name| table(self.catalog, name))
        else {
            return false;
        };
        self.partitioned()
            && self.table.leaves.iter().all(|leaf| {
                self.catalog.tables.get(&leaf.name).is_some_and(|leaf| {
                    leaf.constraints.iter().any(|c| {
                        c.kind == ConstraintKind::ForeignKey
                            && c.validated
                            && c.columns == constraint.columns
                            && c.references.as_ref() == Some(&other.name)
                    })
                })
            })
    }

    fn add_not_null(&self, op: &AlterOp, constraint: &ConstraintDef) -> Safe {
        // This form is of 18, where it can be NOT VALID.
        let name = constraint
            .name
            .clone()
            .unwrap_or_else(|| constraint_name(self.table, &constraint.columns, "not_null"));
        let add = if constraint.name.is_some() {
            format!("{} NOT VALID", op.span.of(self.text))
        } else {
            format!(
                "ADD CONSTRAINT {} {} NOT VALID",
                quote::ident(&name),
                constraint.body.of(self.text)
            )
        };
        Safe::Rewritten {
            steps: vec![
                SafeStep::plain(self.statement(&add)),
                SafeStep::validate(
                    self.statement(&format!("VALIDATE CONSTRAINT {}", quote::ident(&name))),
                ),
            ],
            why: NOT_NULL_WHY.to_owned(),
        }
    }

    fn add_key(&self, op: &AlterOp, constraint: &ConstraintDef) -> Safe {
        let primary = constraint.kind == ConstraintKind::PrimaryKey;
        let word = if primary { "PRIMARY KEY" } else { "UNIQUE" };
        if let Some(index) = &constraint.using_index {
            // PRIMARY KEY USING INDEX of columns that may be null.
            let columns = self
                .table
                .index(index)
                .map_or(&[][..], |i| i.columns.as_slice());
            let mut steps = self.not_null_of(columns);
            if steps.is_empty() {
                return Safe::AsIs;
            }
            steps.push(match &constraint.name {
                Some(_) => SafeStep::plain(self.statement(op.span.of(self.text))),
                None => self.add_named(constraint, index),
            });
            return Safe::Rewritten {
                steps,
                why: NOT_NULL_WHY.to_owned(),
            };
        }
        if self.partitioned() {
            if self.only {
                return Safe::AsIs;
            }
            return costly(
                "add-unique",
                format!(
                    "{word} builds an index on every partition of {} under a lock that blocks \
                     reads and writes, and CONCURRENTLY does not work on a partitioned table",
                    self.name
                ),
                format!(
                    "ALTER TABLE ONLY {} ADD CONSTRAINT … {word} (…); then for each partition \
                     CREATE UNIQUE INDEX CONCURRENTLY, ADD CONSTRAINT … {word} USING INDEX, and \
                     ALTER INDEX … ATTACH PARTITION",
                    self.name
                ),
            );
        }
        if constraint.without_overlaps {
            return costly(
                "add-unique",
                format!(
                    "a key WITHOUT OVERLAPS builds its index under a lock that blocks reads and \
                     writes of {}, and there is no concurrent form",
                    self.name
                ),
                "make a new table with the constraint, move the rows in batches, and swap the \
                 names; or add it in a maintenance window",
            );
        }
        let Some(key) = constraint.key else {
            return Safe::AsIs;
        };
        let name = constraint.name.clone().unwrap_or_else(|| {
            if primary {
                constraint_name(self.table, &[], "pkey")
            } else {
                constraint_name(self.table, &constraint.columns, "key")
            }
        });
        let mut index = key.of(self.text).to_owned();
        for part in [constraint.include, constraint.nulls, constraint.with]
            .into_iter()
            .flatten()
        {
            index.push(' ');
            index.push_str(part.of(self.text));
        }
        if let Some(tablespace) = constraint.tablespace {
            index.push_str(" TABLESPACE ");
            index.push_str(tablespace.of(self.text));
        }
        let mut steps = if primary {
            self.not_null_of(&constraint.columns)
        } else {
            Vec::new()
        };
        match self.unique_steps(&name, word, &index, constraint.deferrable.of(self.text)) {
            Safe::Rewritten { steps: more, why } => {
                steps.extend(more);
                Safe::Rewritten { steps, why }
            }
            other => other,
        }
    }

    fn not_null_of(&self, columns: &[String]) -> Vec<SafeStep> {
        columns
            .iter()
            .filter(|column| !proven_not_null(self.table, column))
            .flat_map(|column| self.not_null(column))
            .collect()
    }

    /// A unique index built CONCURRENTLY, then the constraint of the same name on it.
    pub(super) fn unique_steps(
        &self,
        name: &str,
        word: &str,
        index: &str,
        deferrable: &str,
    ) -> Safe {
        if self.partitioned() {
            return costly(
                "add-column-constraint",
                format!(
                    "{} is partitioned: a unique index of it is built under a lock that blocks \
                     reads and writes",
                    self.name
                ),
                "add the column first, and the constraint partition by partition: ON ONLY the \
                 parent, CONCURRENTLY on each partition, then ATTACH",
            );
        }
        let name = quote::ident(name);
        let mut add = format!("ADD CONSTRAINT {name} {word} USING INDEX {name}");
        if !deferrable.is_empty() {
            add.push(' ');
            add.push_str(deferrable);
        }
        Safe::Rewritten {
            steps: vec![
                SafeStep::concurrent(format!(
                    "CREATE UNIQUE INDEX CONCURRENTLY {name} ON {} {index}",
                    sql_name(self.catalog, self.name)
                )),
                SafeStep::plain(self.statement(&add)),
            ],
            why: format!(
                "{word} builds its index under a lock that blocks reads and writes; built \
                 CONCURRENTLY first, it is only taken over"
            ),
        }
    }
}

const NOT_NULL_WHY: &str = "NOT NULL blocks reads and writes while every row is read; a constraint \
                            that is NOT VALID first, and then validated, does not";
