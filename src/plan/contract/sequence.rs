//! Sequences that contract drops.

use super::Builder;
use crate::catalog::{LinkKind, QName, RelKind};
use crate::error::Result;
use crate::lock::LockMode;
use crate::plan::build::{line, lock_on};
use crate::plan::forms::existing;
use crate::plan::step::{Phase, Step, Undo};
use crate::sql::Span;
use crate::sql::ddl::RelName;
use crate::sql::quote::{derived_name, ident, qname};

impl Builder<'_, '_> {
    /// Renames a sequence away: it comes back with its rights, its owner and where it stood.
    pub(super) fn drop_sequence(
        &mut self,
        name: &RelName,
        if_exists: bool,
        cascade: bool,
        span: Span,
    ) -> Result<()> {
        let draft = self.draft;
        let found = existing(draft.catalog, name);
        let found = found.schema.map(|schema| QName::new(schema, found.name));
        let found =
            found.filter(|name| draft.catalog.relations.get(name) == Some(&RelKind::Sequence));
        let Some(name) = found else {
            return if if_exists {
                Ok(())
            } else {
                Err(draft.wrong(
                    span,
                    format!("sequence {name} does not exist"),
                    "it must exist, by this name, before the migration",
                ))
            };
        };
        self.check_drop_sequence(&name, cascade, span)?;
        let now = derived_name(
            "_pgshift_dropped_",
            &name.name,
            &format!("{} {name}", draft.migration.id),
        );
        let away = QName::new(&*name.schema, &*now);
        let rename = |from: &QName, to: &str| {
            format!("ALTER SEQUENCE {} RENAME TO {}", qname(from), ident(to))
        };
        let exclusive = |name: &QName| vec![lock_on(name, LockMode::AccessExclusive)];
        let undo = Step::sql(
            Phase::Revert,
            format!("bring back sequence {name}"),
            vec![rename(&away, &name.name)],
        );
        let step = Step::sql(
            Phase::Contract,
            format!("soft-drop sequence {name}"),
            vec![rename(&name, &now)],
        );
        self.contract.steps.push(
            step.locks(exclusive(&name))
                .undo(Undo::steps(vec![undo.locks(exclusive(&away))]))
                .note(format!(
                    "renamed to {now} until purge, so that it can come back"
                ))
                .line(line(draft, span)),
        );
        self.contract.purge.push(
            Step::sql(
                Phase::Purge,
                format!("drop sequence {name} for good"),
                vec![format!("DROP SEQUENCE IF EXISTS {}", qname(&away))],
            )
            .locks(exclusive(&away)),
        );
        Ok(())
    }

    /// A default that calls the sequence would go on calling it by another name.
    fn check_drop_sequence(&self, name: &QName, cascade: bool, span: Span) -> Result<()> {
        let draft = self.draft;
        if cascade {
            return Err(draft.refused(
                span,
                "CASCADE drops what is not named here",
                "drop the defaults that call the sequence before it, by ALTER COLUMN … DROP DEFAULT",
            ));
        }
        let after = self.before.after;
        let used = draft.catalog.links().find(|link| {
            let calls = link.kind == LinkKind::Default && link.to == *name;
            let table = after.tables.get(&link.from);
            calls
                && link.columns.iter().any(|column| {
                    table.is_none_or(|t| t.column(column).is_some_and(|c| c.default.is_some()))
                })
        });
        if let Some(link) = used {
            return Err(draft.refused(
                span,
                format!(
                    "the default of {}.{} calls the sequence {name}",
                    link.from,
                    link.columns.join(", ")
                ),
                "drop the default before it, by ALTER COLUMN … DROP DEFAULT",
            ));
        }
        Ok(())
    }
}
