//! The way back of ALTER TABLE, sub-command by sub-command.

use super::names::{moved_back, renamed_back};
use super::object::options_back;
use super::rights::together;
use super::{Context, Inverse, InverseStep, give_revert, sql};
use crate::catalog::{Column, Constraint, ConstraintKind, RelKind, Table};
use crate::plan::forms::{NOT_NULL_CONSTRAINTS, concurrently, existing, not_null_steps};
use crate::plan::work::{Work, op_work};
use crate::sql::ddl::AlterOpKind;
use crate::sql::{RelName, quote};

impl Context<'_> {
    pub(super) fn alter_table<'b>(
        self,
        name: &RelName,
        found: Option<&Table>,
        ops: impl DoubleEndedIterator<Item = &'b AlterOpKind> + Clone,
    ) -> Inverse {
        // What is done to a column that the same statement adds goes with the column.
        let added: Vec<&str> = ops
            .clone()
            .filter_map(|op| match op {
                AlterOpKind::AddColumn(column) => Some(column.name.as_str()),
                _ => None,
            })
            .filter(|name| found.is_none_or(|t| t.column(name).is_none()))
            .collect();
        let ways = ops.rev().map(|op| match column_of(op) {
            Some(column) if added.contains(&column) => Inverse::Nothing,
            _ => self.alter_op(name, found, op),
        });
        Self::chain(ways)
    }

    fn alter_op(self, name: &RelName, found: Option<&Table>, op: &AlterOpKind) -> Inverse {
        let resolved = existing(self.before, name);
        let head = format!("ALTER TABLE {}", resolved.sql());
        match op {
            AlterOpKind::AddColumn(column) => {
                if column.if_not_exists && found.is_some_and(|t| t.column(&column.name).is_some()) {
                    Inverse::Nothing
                } else {
                    sql(format!("{head} DROP COLUMN {}", quote::ident(&column.name)))
                }
            }
            AlterOpKind::DropColumn {
                name: column,
                if_exists,
                ..
            } => {
                if *if_exists && found.is_some_and(|t| t.column(column).is_none()) {
                    Inverse::Nothing
                } else {
                    give_revert(format!("the data of the column {column} is not kept"))
                }
            }
            AlterOpKind::AddConstraint(constraint) => {
                let Some(name) = &constraint.name else {
                    return give_revert(
                        "the server chooses the name of a constraint that has none; name the \
                         constraint",
                    );
                };
                let mut steps = vec![InverseStep::new(format!(
                    "{head} DROP CONSTRAINT {}",
                    quote::ident(name)
                ))];
                // The index that it took over goes with it.
                let taken = constraint
                    .using_index
                    .as_ref()
                    .and_then(|index| found?.index(index))
                    .and_then(|index| concurrently(&index.definition));
                steps.extend(taken.map(InverseStep::concurrent));
                Inverse::Sql(steps)
            }
            AlterOpKind::DropConstraint {
                name: constraint,
                if_exists,
                cascade,
            } => {
                let Some(table) = found else {
                    return unknown_table(name);
                };
                match table.constraint(constraint) {
                    Some(found) => self.add_back(&head, table, found, *cascade),
                    None if *if_exists => Inverse::Nothing,
                    None => give_revert(format!(
                        "the definition of the constraint {constraint} is not known"
                    )),
                }
            }
            AlterOpKind::RenameColumn { from, to } => sql(format!(
                "{head} RENAME COLUMN {} TO {}",
                quote::ident(to),
                quote::ident(from)
            )),
            AlterOpKind::RenameConstraint { from, to } => sql(format!(
                "{head} RENAME CONSTRAINT {} TO {}",
                quote::ident(to),
                quote::ident(from)
            )),
            AlterOpKind::RenameTable { to } => sql(renamed_back("TABLE", &resolved, to)),
            AlterOpKind::SetSchema { to } => moved_back("TABLE", &resolved, to),
            AlterOpKind::AddIdentity { column } => sql(format!(
                "{head} ALTER COLUMN {} DROP IDENTITY",
                quote::ident(column)
            )),
            AlterOpKind::AttachPartition { partition, .. } => sql(format!(
                "{head} DETACH PARTITION {}",
                self.existing(partition)
            )),
            AlterOpKind::Inherit { parent } => {
                sql(format!("{head} NO INHERIT {}", self.existing(parent)))
            }
            AlterOpKind::NoInherit { parent } => {
                sql(format!("{head} INHERIT {}", self.existing(parent)))
            }
            AlterOpKind::ValidateConstraint { .. } | AlterOpKind::WithoutOids => Inverse::Nothing,
            AlterOpKind::Other { leading } => {
                give_revert(format!("{leading} has no way back that is known"))
            }
            _ => match found {
                Some(table) => self.alter_known(&head, table, op),
                None => unknown_table(name),
            },
        }
    }

    /// What is taken back with what the catalog says of the table.
    fn alter_known(self, head: &str, table: &Table, op: &AlterOpKind) -> Inverse {
        let column = column_of(op).and_then(|name| table.column(name));
        match op {
            AlterOpKind::Owner { to } => match self.before.relation_object(&table.name) {
                Some(object) => self.owner_back("TABLE", object, to.as_ref()),
                None => sql(format!("{head} OWNER TO {}", quote::ident(&table.owner))),
            },
            AlterOpKind::SetStatistics { .. }
            | AlterOpKind::SetStorage { .. }
            | AlterOpKind::SetColumnOptions {
                column: Some(_), ..
            } => match column {
                Some(column) => column_setting_back(head, column, op),
                None => give_revert("what the column was before is not known"),
            },
            AlterOpKind::EnableTrigger { name: Some(name) }
            | AlterOpKind::DisableTrigger { name: Some(name) } => {
                let enables = matches!(op, AlterOpKind::EnableTrigger { .. });
                match table.triggers.iter().find(|t| t.name == *name) {
                    Some(trigger) if trigger.enabled == enables => Inverse::Nothing,
                    Some(_) => sql(format!(
                        "{head} {} TRIGGER {}",
                        if enables { "DISABLE" } else { "ENABLE" },
                        quote::ident(name)
                    )),
                    None => give_revert(format!("the trigger {name} is not known")),
                }
            }
            AlterOpKind::SetNotNull { .. }
            | AlterOpKind::DropNotNull { .. }
            | AlterOpKind::SetDefault { .. }
            | AlterOpKind::DropDefault { .. } => {
                let Some(column) = column else {
                    return give_revert("what the column was before is not known");
                };
                let ident = quote::ident(&column.name);
                match op {
                    AlterOpKind::SetNotNull { .. } if column.not_null => Inverse::Nothing,
                    AlterOpKind::SetNotNull { .. } => {
                        sql(format!("{head} ALTER COLUMN {ident} DROP NOT NULL"))
                    }
                    AlterOpKind::DropNotNull { .. } if !column.not_null => Inverse::Nothing,
                    AlterOpKind::DropNotNull { .. } => {
                        self.not_null_again(head, table, &column.name)
                    }
                    _ => match &column.default {
                        Some(old) => sql(format!("{head} ALTER COLUMN {ident} SET DEFAULT {old}")),
                        None if matches!(op, AlterOpKind::DropDefault { .. }) => Inverse::Nothing,
                        None => sql(format!("{head} ALTER COLUMN {ident} DROP DEFAULT")),
                    },
                }
            }
            AlterOpKind::SetType { .. } => self.type_back(head, table, column, op),
            AlterOpKind::DetachPartition { partition, .. } => {
                self.attach_again(head, table, partition)
            }
            AlterOpKind::SetOptions { names } => {
                let parts = options_back(names, &table.settings.options);
                sql(format!("{head} {}", parts.join(", ")))
            }
            AlterOpKind::RowSecurity => {
                let word =
                    |is: bool, yes: &'static str, no: &'static str| if is { yes } else { no };
                sql(format!(
                    "{head} {} ROW LEVEL SECURITY, {} ROW LEVEL SECURITY",
                    word(table.settings.row_security, "ENABLE", "DISABLE"),
                    word(table.settings.force_row_security, "FORCE", "NO FORCE"),
                ))
            }
            AlterOpKind::ReplicaIdentity if !table.settings.replica_identity.is_empty() => {
                sql(format!(
                    "{head} REPLICA IDENTITY {}",
                    table.settings.replica_identity
                ))
            }
            _ => give_revert("the setting that was there before is not kept"),
        }
    }

    /// The old type, where the new one changed no row: what does not fit it stops the way back,
    /// before anything is changed.
    fn type_back(
        self,
        head: &str,
        table: &Table,
        column: Option<&Column>,
        op: &AlterOpKind,
    ) -> Inverse {
        let (Some(old), AlterOpKind::SetType { collate, using, .. }) = (column, op) else {
            return give_revert("what the column was before is not known");
        };
        let free = op_work(op, Some(table), self.before) == Work::None;
        if !free || *collate || using.is_some() || !old.settings.known() {
            return give_revert(format!(
                "values of the new type of {} may not fit the old one",
                old.name
            ));
        }
        let (name, kind) = (quote::ident(&old.name), &old.type_name);
        let collation = old.settings.collation.as_ref();
        let collation = collation.map_or_else(String::new, |c| format!(" COLLATE {c}"));
        let mut parts = vec![format!("ALTER COLUMN {name} TYPE {kind}{collation}")];
        // A change of type sets these to the type's own.
        if old.settings.own_storage {
            parts.push(format!(
                "ALTER COLUMN {name} SET STORAGE {}",
                old.settings.storage
            ));
        }
        if !old.settings.compression.is_empty() {
            parts.push(format!(
                "ALTER COLUMN {name} SET COMPRESSION {}",
                old.settings.compression
            ));
        }
        let mut back = InverseStep::new(format!("{head} {}", parts.join(", ")));
        back.lost = Some(format!(
            "values of {} that do not fit {kind}: while there are any, revert stops before it \
             changes the type; and the server may write the table anew for {kind}, under a lock \
             that blocks reads and writes: on a big table leave the type as it is (a revert \
             section with SELECT 1)",
            old.name
        ));
        if !old.has_equality {
            return Inverse::Sql(vec![back]);
        }
        let on = quote::qname(&table.name);
        let message = quote::literal(
            &format!("values of {}.{} do not fit {}", table.name, old.name, kind)
                .replace('%', "%%"),
        );
        let hint = quote::literal(&format!(
            "shorten them, or leave the type as it is: a revert section with SELECT 1 in the file; \
             they are those with {name} IS DISTINCT FROM {name}::{kind}"
        ));
        let mut check = InverseStep::new(format!(
            "DO {}",
            quote::dollar(&format!(
                " BEGIN IF EXISTS (SELECT FROM {on} WHERE {name} IS DISTINCT FROM {name}::{kind}) \
                 THEN RAISE EXCEPTION {message} USING HINT = {hint}; END IF; END "
            ))
        ));
        check.reads = Some(RelName::from(&table.name));
        check.title = Some(format!(
            "look for values of {}.{} that do not fit {kind}",
            table.name, old.name
        ));
        Inverse::Sql(vec![check, back])
    }

    /// ATTACH PARTITION without a scan: a CHECK proves the bound first.
    fn attach_again(self, head: &str, parent: &Table, partition: &RelName) -> Inverse {
        let Some(part) = crate::plan::forms::table(self.before, partition) else {
            return give_revert(format!("the partition {partition} is not known"));
        };
        let (Some(bound), Some(check)) = (&part.partitioning.bound, &part.partitioning.check)
        else {
            return give_revert(format!(
                "what a default partition like {partition} may hold depends on the others"
            ));
        };
        if parent.partitioning.default.is_some() {
            return give_revert(format!(
                "rows of {partition}'s bound may go to the default partition meanwhile"
            ));
        }
        let name = quote::qname(&part.name);
        let aid = quote::ident(&quote::derived_name(
            "pgshift_",
            &format!("{}_bound", part.name.name),
            &format!("{} bound", part.name),
        ));
        Inverse::Sql(vec![
            InverseStep::new(format!(
                "ALTER TABLE {name} ADD CONSTRAINT {aid} CHECK ({check}) NOT VALID"
            )),
            InverseStep::new(format!("ALTER TABLE {name} VALIDATE CONSTRAINT {aid}")),
            InverseStep::new(format!("{head} ATTACH PARTITION {name} {bound}")),
            InverseStep::new(format!("ALTER TABLE {name} DROP CONSTRAINT {aid}")),
        ])
    }

    /// SET NOT NULL without a scan that blocks. The statement that dropped it is taken back in a
    /// catalog where the old constraint is gone, so its name is free again.
    fn not_null_again(self, head: &str, table: &Table, column: &str) -> Inverse {
        let mut without = table.clone();
        let old = without
            .constraints
            .iter()
            .position(|c| c.kind == ConstraintKind::NotNull && c.columns == [column])
            .map(|i| without.constraints.remove(i).name);
        let steps = not_null_steps(head, &without, column, self.before.major(), old.as_deref());
        Inverse::Sql(
            steps
                .into_iter()
                .map(|step| InverseStep::new(step.sql))
                .collect(),
        )
    }

    /// Adds a dropped constraint again, without a scan or build under a lock that blocks.
    fn add_back(
        self,
        head: &str,
        table: &Table,
        constraint: &Constraint,
        cascade: bool,
    ) -> Inverse {
        let name = quote::ident(&constraint.name);
        let definition = &constraint.definition;
        let partitioned = table.kind == RelKind::Partitioned;
        match constraint.kind {
            ConstraintKind::ForeignKey
                if partitioned && self.before.major() < NOT_NULL_CONSTRAINTS =>
            {
                give_revert(format!(
                    "the foreign key {} of a partitioned table cannot be added NOT VALID before \
                     PostgreSQL 18",
                    constraint.name
                ))
            }
            ConstraintKind::Check | ConstraintKind::ForeignKey | ConstraintKind::NotNull => {
                let add = |not_valid: &str| {
                    InverseStep::new(format!(
                        "{head} ADD CONSTRAINT {name} {definition}{not_valid}"
                    ))
                };
                // Not enforced (18), or not valid as it was: nothing is checked, so as it was.
                if !constraint.validated {
                    return Inverse::Sql(vec![add("")]);
                }
                Inverse::Sql(vec![
                    add(" NOT VALID"),
                    InverseStep::new(format!("{head} VALIDATE CONSTRAINT {name}")),
                ])
            }
            ConstraintKind::Unique | ConstraintKind::PrimaryKey => {
                if cascade && !table.referenced_by.is_empty() {
                    return give_revert(format!(
                        "CASCADE drops the foreign keys that need {} too",
                        constraint.name
                    ));
                }
                let build = table
                    .index(&constraint.name)
                    .filter(|_| !partitioned)
                    .and_then(|index| concurrently(&index.definition));
                // A temporal key (18) is a GiST index, which USING INDEX does not take.
                let (Some(build), false) = (build, definition.contains("WITHOUT OVERLAPS")) else {
                    return give_revert(format!(
                        "the index of {} cannot be built again CONCURRENTLY",
                        constraint.name
                    ));
                };
                let word = if constraint.kind == ConstraintKind::Unique {
                    "UNIQUE"
                } else {
                    "PRIMARY KEY"
                };
                let deferrable = if definition.ends_with("DEFERRABLE INITIALLY DEFERRED") {
                    " DEFERRABLE INITIALLY DEFERRED"
                } else if definition.ends_with("DEFERRABLE") {
                    " DEFERRABLE"
                } else {
                    ""
                };
                Inverse::Sql(vec![
                    InverseStep::concurrent(build),
                    InverseStep::new(format!(
                        "{head} ADD CONSTRAINT {name} {word} USING INDEX {name}{deferrable}"
                    )),
                ])
            }
            ConstraintKind::Exclusion | ConstraintKind::Other => give_revert(format!(
                "the constraint {} cannot be added again without blocking writes while its index \
                 is built",
                constraint.name
            )),
        }
    }
}

/// SET STATISTICS, STORAGE, COMPRESSION and the options of a column as they were.
fn column_setting_back(head: &str, column: &Column, op: &AlterOpKind) -> Inverse {
    let settings = &column.settings;
    if !settings.known() {
        return give_revert("the setting that was there before is not known");
    }
    let head = format!("{head} ALTER COLUMN {}", quote::ident(&column.name));
    match op {
        AlterOpKind::SetStatistics { .. } => sql(format!(
            "{head} SET STATISTICS {}",
            settings.statistics.unwrap_or(-1)
        )),
        AlterOpKind::SetStorage {
            compression: true, ..
        } => sql(format!(
            "{head} SET COMPRESSION {}",
            match settings.compression.as_str() {
                "" => "default",
                known => known,
            }
        )),
        AlterOpKind::SetStorage { .. } => sql(format!("{head} SET STORAGE {}", settings.storage)),
        AlterOpKind::SetColumnOptions { names, .. } => together(
            options_back(names, &settings.options)
                .into_iter()
                .map(|part| format!("{head} {part}"))
                .collect(),
        ),
        _ => Inverse::Nothing,
    }
}

fn unknown_table(name: &RelName) -> Inverse {
    give_revert(format!(
        "the table {name} is not known before this statement"
    ))
}

/// The one column that a sub-command changes.
fn column_of(op: &AlterOpKind) -> Option<&str> {
    match op {
        AlterOpKind::SetNotNull { column }
        | AlterOpKind::DropNotNull { column }
        | AlterOpKind::SetDefault { column, .. }
        | AlterOpKind::DropDefault { column }
        | AlterOpKind::SetType { column, .. }
        | AlterOpKind::SetStatistics { column }
        | AlterOpKind::SetStorage { column, .. }
        | AlterOpKind::SetColumnOptions {
            column: Some(column),
            ..
        }
        | AlterOpKind::AddIdentity { column }
        | AlterOpKind::SetIdentity { column }
        | AlterOpKind::DropIdentity { column }
        | AlterOpKind::SetExpression { column }
        | AlterOpKind::DropExpression { column } => Some(column),
        _ => None,
    }
}
