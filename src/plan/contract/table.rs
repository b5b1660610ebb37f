//! Tables that contract drops.

use super::Builder;
use crate::catalog::{ConstraintKind, QName, RelKind, Table};
use crate::error::Result;
use crate::lock::LockMode;
use crate::plan::build::{line, lock_on};
use crate::plan::expand::check_old_triggers;
use crate::plan::step::{Phase, Step, Undo};
use crate::plan::title::depend_on;
use crate::sql::Span;
use crate::sql::quote::{derived_name, ident, qname};

impl Builder<'_, '_> {
    /// Renames a table away, without the foreign keys by which it would still have a say in
    /// writes to other tables.
    pub(super) fn drop_table(&mut self, table: &Table, cascade: bool, span: Span) -> Result<()> {
        let draft = self.draft;
        self.check_drop(table, cascade, span)?;
        let now = derived_name(
            "_pgshift_dropped_",
            &table.name.name,
            &format!("{} {}", draft.migration.id, table.name),
        );
        let away = QName::new(&*table.name.schema, &*now);
        let rename =
            |from: &QName, to: &str| format!("ALTER TABLE {} RENAME TO {}", qname(from), ident(to));
        let exclusive = |name: &QName| vec![lock_on(name, LockMode::AccessExclusive)];
        let (mut sql, mut locks) = (Vec::new(), exclusive(&table.name));
        let mut undo = vec![
            Step::sql(
                Phase::Revert,
                format!("bring back table {}", table.name),
                vec![rename(&away, &table.name.name)],
            )
            .locks(exclusive(&away)),
        ];
        let (mut lost, mut gone) = (Vec::new(), Vec::new());
        for constraint in &table.constraints {
            let key = (table.name.clone(), constraint.name.clone());
            let other = constraint.references.as_ref() != Some(&table.name);
            if constraint.kind != ConstraintKind::ForeignKey || !other || !self.dropped.insert(key)
            {
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
        sql.push(rename(&table.name, &now));
        let mut step = Step::sql(
            Phase::Contract,
            format!("soft-drop table {}", table.name),
            sql,
        )
        .locks(locks)
        .undo(Undo::Steps { steps: undo, lost })
        .note(format!(
            "renamed to {now} until purge, so that it can come back"
        ))
        .line(line(draft, span));
        if !gone.is_empty() {
            step = step.note(format!("with its foreign keys {}", gone.join(", ")));
        }
        self.contract.steps.push(step);
        self.contract.purge.push(
            Step::sql(
                Phase::Purge,
                format!("drop table {} for good", table.name),
                vec![format!("DROP TABLE IF EXISTS {}", qname(&away))],
            )
            .locks(exclusive(&away)),
        );
        Ok(())
    }

    fn check_drop(&self, table: &Table, cascade: bool, span: Span) -> Result<()> {
        let draft = self.draft;
        let name = &table.name;
        check_old_triggers(draft, table, span)?;
        if !matches!(table.kind, RelKind::Table | RelKind::Partitioned) {
            return Err(draft.refused(
                span,
                format!("{name} is not a table that can be kept until purge"),
                "drop it in a migration of its own, with a revert section",
            ));
        }
        if self.group(name).is_some() {
            return Err(draft.refused(
                span,
                "this migration backfills the table that it drops",
                "leave the backfill out, or drop the table in a later migration",
            ));
        }
        if cascade {
            return Err(draft.refused(
                span,
                "CASCADE drops what is not named here",
                "name what depends on the table in statements of its own, before this one",
            ));
        }
        if let Some(parent) = &table.partition_of {
            return Err(draft.refused(
                span,
                format!(
                    "{name} is a partition of {parent}: renamed, its rows would still be there"
                ),
                "ALTER TABLE … DETACH PARTITION … CONCURRENTLY first, and drop it in a later \
                 migration",
            ));
        }
        if table.inherited {
            return Err(draft.refused(
                span,
                format!("{name} has inheritance children"),
                "drop these first",
            ));
        }
        let dependents = table.dependents.values().flatten();
        let others = self.left(
            dependents
                .filter(|d| !d.starts_with("partition key of") && !d.starts_with("generated ")),
        );
        if !others.is_empty() {
            return Err(draft.refused(
                span,
                format!("{} {name}", depend_on(&others)),
                "change or drop them in an earlier migration",
            ));
        }
        let tables: Vec<_> = table
            .referenced_by
            .iter()
            .filter(|(t, _)| t != name)
            .map(|(t, _)| t.to_string())
            .collect();
        if !tables.is_empty() {
            return Err(draft.refused(
                span,
                format!("foreign keys of {} reference {name}", tables.join(", ")),
                "drop them in an earlier migration",
            ));
        }
        Ok(())
    }

    /// Refuses to rename a table that later steps name.
    pub(super) fn check_rename_table(&self, table: &Table, span: Span) -> Result<()> {
        check_old_triggers(self.draft, table, span)?;
        let named =
            self.group(&table.name).is_some() || self.renamed.iter().any(|(t, _)| *t == table.name);
        if named {
            return Err(self.draft.refused(
                span,
                format!(
                    "revert and purge of this migration need the name {}",
                    table.name
                ),
                "rename the table in a later migration",
            ));
        }
        Ok(())
    }
}
