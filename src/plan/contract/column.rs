//! Columns that contract drops and renames.

use super::Builder;
use crate::catalog::{Column, ConstraintKind, Table};
use crate::error::Result;
use crate::lock::LockMode;
use crate::plan::build::{line, lock_on};
use crate::plan::expand::check_old_triggers;
use crate::plan::inverse::inverse;
use crate::plan::sections::Known;
use crate::plan::statements::undo_of;
use crate::plan::step::{Phase, Step, Undo};
use crate::plan::sync::Renamed;
use crate::plan::title::depend_on;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, RelName};
use crate::sql::quote::{derived_name, ident, qname};

impl Builder<'_, '_> {
    /// Renames a column away. What would go with it in a real drop and still has a say in the
    /// application's writes goes in the same transaction: NOT NULL, CHECKs, foreign keys, the
    /// forward sync.
    pub(super) fn drop_column(
        &mut self,
        table: &Table,
        name: &str,
        cascade: bool,
        span: Span,
    ) -> Result<()> {
        let draft = self.draft;
        let column = self.column(table, name, span)?;
        self.droppable(table, name, cascade, span)?;
        let in_key = table
            .primary_key()
            .is_some_and(|k| k.iter().any(|c| c == name));
        if in_key && column.default.is_none() && column.identity.is_none() {
            return Err(draft.refused(
                span,
                format!("{name} is part of the primary key of {}", table.name),
                "give the table another primary key first",
            ));
        }
        let now = derived_name(
            "_pgshift_dropped_",
            name,
            &format!("{} {} {name}", draft.migration.id, table.name),
        );
        let (t, old, new) = (qname(&table.name), ident(name), ident(&now));
        let mut sql = vec![format!("ALTER TABLE {t} RENAME COLUMN {old} TO {new}")];
        let mut back = vec![format!("ALTER TABLE {t} RENAME COLUMN {new} TO {old}")];
        let mut locks = vec![lock_on(&table.name, LockMode::AccessExclusive)];
        let relax = column.not_null && !in_key && column.identity.is_none();
        if relax {
            sql.push(format!("ALTER TABLE {t} ALTER COLUMN {new} DROP NOT NULL"));
        }
        let (mut undo, mut lost, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for constraint in &table.constraints {
            let key = (table.name.clone(), constraint.name.clone());
            let speaks = matches!(
                constraint.kind,
                ConstraintKind::Check | ConstraintKind::ForeignKey | ConstraintKind::Exclusion
            ) && constraint.columns.iter().any(|c| c == name);
            if !speaks || !self.dropped.insert(key) {
                continue;
            }
            let this = self.drop_constraint(table, constraint);
            sql.push(this.sql);
            locks.extend(this.locks);
            undo.extend(this.undo);
            lost.extend(this.lost);
            gone.push(constraint.name.as_str());
        }
        locks.dedup();
        let feeds = self.feeds(table, name);
        let rename = Renamed {
            column: name.to_owned(),
            now: now.clone(),
        };
        let (switch, switch_back) = self.switch_sync(&table.name, rename);
        sql.extend(switch);
        back.extend(switch_back);
        if !feeds {
            lost.push(format!(
                "rows inserted after contract have no value in {name}{}",
                if relax {
                    ", and NOT NULL comes back only where every row has one"
                } else {
                    ""
                }
            ));
        }
        let mut ways = vec![
            Step::sql(
                Phase::Revert,
                format!("bring back column {name} of {}", table.name),
                back,
            )
            .locks(vec![lock_on(&table.name, LockMode::AccessExclusive)]),
        ];
        if relax {
            ways.extend(self.not_null_again(table, name));
        }
        ways.extend(undo);
        let title = format!("soft-drop column {name} of {}", table.name);
        let mut step = Step::sql(Phase::Contract, title, sql)
            .locks(locks)
            .undo(Undo::Steps { steps: ways, lost })
            .note(format!(
                "renamed to {now} until purge, so that it can come back"
            ))
            .line(line(draft, span));
        if !gone.is_empty() {
            step = step.note(format!("with its constraints {}", gone.join(", ")));
        }
        if feeds {
            step = step.note("the sync trigger goes on writing it, for a revert");
            self.warn_of_unique(table, name);
        }
        self.contract.steps.push(step);
        self.contract.purge.push(
            Step::sql(
                Phase::Purge,
                format!("drop column {name} of {} for good", table.name),
                vec![format!("ALTER TABLE {t} DROP COLUMN IF EXISTS {new}")],
            )
            .locks(vec![lock_on(&table.name, LockMode::AccessExclusive)]),
        );
        Ok(())
    }

    /// Renames a column together with its name in the sync trigger's function.
    pub(super) fn rename_column(
        &mut self,
        table: &Table,
        known: &Known<'_>,
        from: &str,
        to: &str,
    ) -> Result<()> {
        let span = known.statement.span;
        check_old_triggers(self.draft, table, span)?;
        let earlier = self
            .renamed
            .iter()
            .any(|(t, r)| *t == table.name && (r.column == from || r.now == from));
        if earlier {
            return Err(self.again(table, from, span));
        }
        let first = self.contract.steps.len();
        self.ordinary(known)?;
        let rename = Renamed {
            column: from.to_owned(),
            now: to.to_owned(),
        };
        let (switch, back) = self.switch_sync(&table.name, rename);
        if let Some(step) = self.contract.steps.get_mut(first)
            && let crate::plan::Work::Sql { statements } = &mut step.work
        {
            statements.extend(switch);
            if let Undo::Steps { steps, .. } = &mut step.undo
                && let Some(undo) = steps.first_mut()
                && let crate::plan::Work::Sql { statements } = &mut undo.work
            {
                statements.extend(back);
            }
        }
        Ok(())
    }

    /// The column as it was before the migration, where contract has not touched it.
    fn column<'t>(&self, table: &'t Table, name: &str, span: Span) -> Result<&'t Column> {
        let earlier = self
            .renamed
            .iter()
            .any(|(t, r)| *t == table.name && (r.column == name || r.now == name));
        if earlier {
            return Err(self.again(table, name, span));
        }
        table.column(name).ok_or_else(|| {
            self.draft.wrong(
                span,
                format!("{} has no column {name}", table.name),
                "it must exist before the migration",
            )
        })
    }

    fn again(&self, table: &Table, name: &str, span: Span) -> crate::Error {
        self.draft.refused(
            span,
            format!(
                "column {name} of {} is renamed or dropped further up",
                table.name
            ),
            "do one of them in a later migration",
        )
    }

    /// A reverse mapping writes the column.
    fn feeds(&self, table: &Table, name: &str) -> bool {
        self.group(&table.name).is_some_and(|group| {
            let mut reverse = group.components.iter().flat_map(|c| &c.reverse);
            reverse.any(|m| m.writes(name))
        })
    }

    fn warn_of_unique(&mut self, table: &Table, name: &str) {
        let unique = |i: &&crate::catalog::Index| i.unique && i.columns.iter().any(|c| c == name);
        for index in table.indexes.iter().filter(unique) {
            self.contract.warnings.push(format!(
                "unique index {} stays with the soft-dropped column {name} of {} until purge: two \
                 rows of the new application version that map back to one value fail",
                index.name, table.name
            ));
        }
    }

    /// The safe way back to NOT NULL: as for any column, scanned without a blocking lock.
    fn not_null_again(&self, table: &Table, name: &str) -> Vec<Step> {
        let relaxed = Action::AlterTable {
            name: RelName::from(&table.name),
            only: false,
            if_exists: false,
            head: Span::default(),
            ops: vec![AlterOp {
                kind: AlterOpKind::DropNotNull {
                    column: name.to_owned(),
                },
                span: Span::default(),
            }],
        };
        let catalog = self.draft.catalog;
        match undo_of(inverse(&relaxed, catalog), catalog) {
            Undo::Steps { steps, .. } => steps,
            _ => Vec::new(),
        }
    }

    pub(super) fn droppable(
        &self,
        table: &Table,
        name: &str,
        cascade: bool,
        span: Span,
    ) -> Result<()> {
        let draft = self.draft;
        check_old_triggers(draft, table, span)?;
        if cascade {
            return Err(draft.refused(
                span,
                "CASCADE drops what is not named here",
                "name what depends on the column in statements of its own, before this one",
            ));
        }
        let dependents = self.left(table.dependents.get(name).into_iter().flatten());
        if !dependents.is_empty() {
            return Err(draft.refused(
                span,
                format!("{} column {name} of {}", depend_on(&dependents), table.name),
                "change or drop them in an earlier migration; a view may be dropped before it in this file",
            ));
        }
        let keyed = table.constraints.iter().any(|c| {
            matches!(c.kind, ConstraintKind::PrimaryKey | ConstraintKind::Unique)
                && c.columns.iter().any(|c| c == name)
        });
        if keyed && !table.referenced_by.is_empty() {
            let tables: Vec<_> = table
                .referenced_by
                .iter()
                .map(|(t, _)| t.to_string())
                .collect();
            return Err(draft.refused(
                span,
                format!(
                    "{name} is in a key that foreign keys of {} may reference",
                    tables.join(", ")
                ),
                "drop those foreign keys in an earlier migration",
            ));
        }
        Ok(())
    }
}
