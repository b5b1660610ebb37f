//! The contract phase: what only the old application version needs goes, softly, so that it can
//! come back until purge.

use std::collections::BTreeSet;

use crate::catalog::{Catalog, ConstraintKind, QName, Table};
use crate::error::Result;
use crate::lock::LockMode;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, RelName};
use crate::sql::quote::{derived_name, ident, qname};

use super::build::{
    MovedDefault, attach_reverts, line, lock_on, ordinary, remove_sync, text_steps, undo_of,
};
use super::draft::Draft;
use super::inverse::inverse;
use super::sections::Known;
use super::step::{Phase, Step, Undo};
use super::sync::{Form, Renamed, SyncGroup};

/// What the contract phase consists of.
#[derive(Debug, Default)]
pub(super) struct Contract {
    pub(super) steps: Vec<Step>,
    pub(super) purge: Vec<Step>,
    pub(super) warnings: Vec<String>,
}

/// Builds contract and purge.
pub(super) fn build(
    draft: &Draft<'_>,
    after: &Catalog,
    groups: &[SyncGroup],
    defaults: &[MovedDefault],
    verify: &[Step],
) -> Result<Contract> {
    if draft.sections.contract.is_empty() && groups.is_empty() {
        return Ok(Contract::default());
    }
    let mut builder = Builder {
        draft,
        after,
        groups,
        switched: BTreeSet::new(),
        renamed: Vec::new(),
        contract: Contract::default(),
    };
    // A full verify once more: READY may be days ago.
    builder.contract.steps.extend(verify.iter().cloned());
    let first = builder.contract.steps.len();
    for known in &draft.sections.contract {
        builder.statement(known)?;
    }
    attach_reverts(
        draft,
        &mut builder.contract.steps[first..],
        &draft.sections.revert_contract,
    );
    for group in groups {
        if !builder.switched.contains(&group.table) {
            builder.end_sync(group);
        }
    }
    for default in defaults {
        builder.contract.steps.push(
            Step::sql(
                Phase::Contract,
                format!("set the default of {}.{}", default.table, default.column),
                vec![default.sql.clone()],
            )
            .locks(vec![lock_on(&default.table, LockMode::AccessExclusive)])
            .undo(Undo::steps(vec![
                Step::sql(
                    Phase::Revert,
                    format!("drop the default of {}.{}", default.table, default.column),
                    vec![default.undo.clone()],
                )
                .locks(vec![lock_on(&default.table, LockMode::AccessExclusive)]),
            ]))
            .line(default.line),
        );
    }
    // Triggers that still feed soft-dropped columns go first.
    let mut purge: Vec<Step> = groups
        .iter()
        .filter(|g| g.has_reverse())
        .map(|g| {
            let mut step = remove_sync(g);
            step.phase = Phase::Purge;
            step
        })
        .collect();
    purge.append(&mut builder.contract.purge);
    builder.contract.purge = purge
        .into_iter()
        .map(|s| {
            s.undo(Undo::Irreversible {
                reason: "purge is final".to_owned(),
            })
        })
        .collect();
    Ok(builder.contract)
}

struct Builder<'d, 'a> {
    draft: &'d Draft<'a>,
    after: &'d Catalog,
    groups: &'d [SyncGroup],
    /// Tables whose trigger no longer maps forward.
    switched: BTreeSet<QName>,
    /// Soft-dropped columns by table.
    renamed: Vec<(QName, Renamed)>,
    contract: Contract,
}

impl Builder<'_, '_> {
    fn statement(&mut self, known: &Known<'_>) -> Result<()> {
        let draft = self.draft;
        let span = known.statement.span;
        match &known.action {
            Action::AlterTable {
                name, ops, head, ..
            } if ops
                .iter()
                .any(|op| matches!(op.kind, AlterOpKind::DropColumn { .. })) =>
            {
                let Some(table) = draft.table(name) else {
                    return self.ordinary(known);
                };
                for op in ops {
                    if let AlterOpKind::DropColumn {
                        name,
                        if_exists,
                        cascade,
                    } = &op.kind
                    {
                        let at = Dropped {
                            op,
                            known,
                            if_exists: *if_exists,
                            cascade: *cascade,
                        };
                        self.drop_column(table, name, &at)?;
                    } else {
                        let sql = &known.statement.sql;
                        let text = format!("{} {}", head.of(sql), op.span.of(sql));
                        let created = BTreeSet::new();
                        let mut steps =
                            text_steps(draft, self.after, &text, span, Phase::Contract, &created)?;
                        self.push(&mut steps, span);
                    }
                }
                Ok(())
            }
            Action::DropTable {
                names,
                cascade,
                if_exists,
            } => {
                for name in names {
                    if *if_exists && draft.table(name).is_none() {
                        continue;
                    }
                    self.drop_table(name, *cascade, span)?;
                }
                Ok(())
            }
            Action::Update { .. } | Action::Delete { .. } => Err(draft.wrong(
                span,
                "contract does not change rows",
                "put it into a `-- pgshift: backfill` section",
            )),
            _ => self.ordinary(known),
        }
    }

    fn ordinary(&mut self, known: &Known<'_>) -> Result<()> {
        let created = BTreeSet::new();
        let mut steps = ordinary(self.draft, self.after, known, Phase::Contract, &created)?;
        self.push(&mut steps, known.statement.span);
        Ok(())
    }

    fn push(&mut self, steps: &mut Vec<Step>, span: Span) {
        for step in steps.iter_mut() {
            step.line = Some(line(self.draft, span));
        }
        self.contract.steps.append(steps);
    }

    fn group(&self, table: &QName) -> Option<&SyncGroup> {
        self.groups.iter().find(|g| g.table == *table)
    }

    fn renamed(&self, table: &QName) -> Vec<Renamed> {
        self.renamed
            .iter()
            .filter(|(t, _)| t == table)
            .map(|(_, r)| r.clone())
            .collect()
    }

    /// Renames a column away, and turns the sync trigger to reverse in the same transaction.
    fn drop_column(&mut self, table: &Table, name: &str, at: &Dropped<'_>) -> Result<()> {
        let draft = self.draft;
        let span = at.op.span.shift(at.known.statement.span.start);
        let Some(column) = table.column(name) else {
            if at.if_exists {
                return Ok(());
            }
            return Err(draft.wrong(span, format!("{} has no column {name}", table.name), ""));
        };
        self.droppable(table, name, at.cascade, span)?;
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
        let before = self.renamed(&table.name);
        self.renamed.push((
            table.name.clone(),
            Renamed {
                column: name.to_owned(),
                now: now.clone(),
            },
        ));
        let after = self.renamed(&table.name);

        let mut sql = vec![format!("ALTER TABLE {t} RENAME COLUMN {old} TO {new}")];
        let mut back = vec![format!("ALTER TABLE {t} RENAME COLUMN {new} TO {old}")];
        let relax = column.not_null && !in_key && column.identity.is_none();
        if relax {
            sql.push(format!("ALTER TABLE {t} ALTER COLUMN {new} DROP NOT NULL"));
        }
        let mut lost = Vec::new();
        let group = self.group(&table.name).cloned();
        let mut feeds = false;
        if let Some(group) = &group {
            let first = !self.switched.contains(&table.name);
            feeds = group
                .components
                .iter()
                .flat_map(|c| &c.reverse)
                .flat_map(|m| &m.targets)
                .any(|t| t.column == name);
            if group.has_reverse() {
                sql.extend(group.replace_function(Form::ReverseOnly, &after));
                let form = if first { Form::Both } else { Form::ReverseOnly };
                back.extend(group.replace_function(form, &before));
            } else if first {
                sql.extend(group.remove());
                back.extend(group.create(Form::Both, &before));
            }
            self.switched.insert(table.name.clone());
        }
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
        let mut undo = vec![
            Step::sql(
                Phase::Revert,
                format!("bring back column {name} of {}", table.name),
                back,
            )
            .locks(vec![lock_on(&table.name, LockMode::AccessExclusive)]),
        ];
        if relax {
            // The safe way back to NOT NULL: as for any column, scanned without a blocking lock.
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
            if let Undo::Steps { steps, .. } =
                undo_of(inverse(&relaxed, draft.catalog), draft.catalog)
            {
                undo.extend(steps);
            }
        }
        let title = format!("soft-drop column {name} of {}", table.name);
        let mut step = Step::sql(Phase::Contract, title, sql)
            .locks(vec![lock_on(&table.name, LockMode::AccessExclusive)])
            .undo(Undo::Steps { steps: undo, lost })
            .note(format!(
                "renamed to {now} until purge, so that it can come back"
            ))
            .line(line(draft, at.known.statement.span));
        if feeds {
            step = step.note("the sync trigger goes on writing it, for a revert");
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

    fn droppable(&self, table: &Table, name: &str, cascade: bool, span: Span) -> Result<()> {
        let draft = self.draft;
        if cascade {
            return Err(draft.refused(
                span,
                "CASCADE drops what is not named here",
                "name what depends on the column in statements of its own, before this one",
            ));
        }
        let dependents = table.dependents.get(name).cloned().unwrap_or_default();
        if !dependents.is_empty() {
            return Err(draft.refused(
                span,
                format!(
                    "{} depend on column {name} of {}",
                    dependents.join(", "),
                    table.name
                ),
                "change or drop them in an earlier migration",
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

    fn drop_table(&mut self, name: &RelName, cascade: bool, span: Span) -> Result<()> {
        let draft = self.draft;
        let Some(table) = draft.table(name) else {
            return Err(draft.wrong(
                span,
                format!("table {name} does not exist"),
                "it must exist before the migration",
            ));
        };
        if self.group(&table.name).is_some() {
            return Err(draft.refused(
                span,
                "this migration backfills the table that it drops",
                "",
            ));
        }
        for column in &table.columns {
            self.droppable(table, &column.name, cascade, span)?;
        }
        if !table.referenced_by.is_empty() {
            let tables: Vec<_> = table
                .referenced_by
                .iter()
                .map(|(t, _)| t.to_string())
                .collect();
            return Err(draft.refused(
                span,
                format!(
                    "foreign keys of {} reference {}",
                    tables.join(", "),
                    table.name
                ),
                "drop them in an earlier migration",
            ));
        }
        let now = derived_name(
            "_pgshift_dropped_",
            &table.name.name,
            &format!("{} {}", draft.migration.id, table.name),
        );
        let away = QName::new(&*table.name.schema, &*now);
        let rename =
            |from: &QName, to: &str| format!("ALTER TABLE {} RENAME TO {}", qname(from), ident(to));
        let exclusive = |name: &QName| vec![lock_on(name, LockMode::AccessExclusive)];
        self.contract.steps.push(
            Step::sql(
                Phase::Contract,
                format!("soft-drop table {}", table.name),
                vec![rename(&table.name, &now)],
            )
            .locks(exclusive(&table.name))
            .undo(Undo::steps(vec![
                Step::sql(
                    Phase::Revert,
                    format!("bring back table {}", table.name),
                    vec![rename(&away, &table.name.name)],
                )
                .locks(exclusive(&away)),
            ]))
            .note(format!(
                "renamed to {now} until purge, so that it can come back"
            ))
            .line(line(draft, span)),
        );
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

    /// Ends the forward sync of a table of which no column was dropped.
    fn end_sync(&mut self, group: &SyncGroup) {
        let renamed = self.renamed(&group.table);
        let (title, sql, back) = if group.has_reverse() {
            (
                format!("turn the sync trigger of {} to reverse only", group.table),
                group.replace_function(Form::ReverseOnly, &renamed),
                group.replace_function(Form::Both, &renamed),
            )
        } else {
            (
                format!("drop the sync trigger of {}", group.table),
                group.remove(),
                group.create(Form::Both, &renamed),
            )
        };
        let lock = if group.has_reverse() {
            Vec::new()
        } else {
            vec![lock_on(&group.table, LockMode::AccessExclusive)]
        };
        let undo = Step::sql(
            Phase::Revert,
            format!("restore the sync trigger of {}", group.table),
            back,
        )
        .locks(vec![lock_on(&group.table, LockMode::ShareRowExclusive)]);
        self.contract.steps.push(
            Step::sql(Phase::Contract, title, sql)
                .locks(lock)
                .undo(Undo::steps(vec![undo])),
        );
    }
}

/// A DROP COLUMN in its place.
struct Dropped<'k> {
    op: &'k AlterOp,
    known: &'k Known<'k>,
    if_exists: bool,
    cascade: bool,
}
