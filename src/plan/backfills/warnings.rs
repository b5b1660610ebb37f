//! What a person should know of a backfill.

use super::Decider;
use super::checks::queries;
use crate::catalog::Table;
use crate::plan::draft::DraftStatement;
use crate::plan::probe::Pin;
use crate::plan::retype;

/// What dead versions are for a backfill while they cannot be removed.
pub(super) fn pinned(table: &Table, pin: &Pin) -> String {
    let age = pin.age.map_or_else(String::new, |age| {
        let whole = std::time::Duration::from_secs(age.as_secs());
        format!(" (open for {})", humantime::format_duration(whole))
    });
    format!(
        "{}{age} keeps dead row versions from being removed: while it does, the backfill of {} \
         finds no room of theirs, writes each row to another block, and the table grows by as \
         much; the figures count with that. End it first, or set max-snapshot-age, which holds the \
         backfill until it is gone",
        pin.holder, table.name
    )
}

impl Decider<'_, '_> {
    pub(super) fn warnings(
        &self,
        statement: &DraftStatement<'_>,
        sync: bool,
        table: &Table,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let fires = |t: &&crate::catalog::Trigger| {
            t.enabled
                && if statement.delete {
                    t.on_delete
                } else {
                    t.on_update
                }
        };
        let firing: Vec<&str> = table
            .triggers
            .iter()
            .filter(fires)
            .map(|t| t.name.as_str())
            .collect();
        if !firing.is_empty() {
            warnings.push(format!(
                "triggers of {} fire for the backfilled rows: {}",
                table.name,
                firing.join(", ")
            ));
        }
        if let Some(from) = statement.from.as_ref().filter(|_| sync) {
            warnings.push(format!(
                "later changes to `{}` are not followed; the sync trigger reads it with the rights \
                 of the writing role",
                from.text
            ));
        }
        if sync && statement.from.is_none() && queries(statement) {
            warnings.push(format!(
                "the backfill of {} reads other rows in a query: later changes of these are not \
                 followed, and verify finds them; the sync trigger runs the query with the rights \
                 of the writing role",
                table.name
            ));
        }
        if let Some(columns) = self.draft.retypes.get(&statement.table) {
            let names: Vec<_> = columns.iter().map(|c| c.column.as_str()).collect();
            warnings.push(retype::order_warning(&statement.table, &names));
            if let Some(answer) = self.probed.retypes.get(&statement.table) {
                let table = &statement.table;
                warnings.extend(retype::narrows(self.draft, table, columns, answer));
                warnings.extend(retype::unsteady(table, columns, answer));
                let table = &self.draft.catalog.tables[table];
                warnings.extend(retype::dependents::mentioned(table, columns));
            }
        }
        if sync
            && !self.draft.retypes.contains_key(&statement.table)
            && !self
                .draft
                .reverses
                .iter()
                .any(|r| r.table == statement.table)
        {
            let columns: Vec<_> = statement
                .assignments
                .iter()
                .map(|a| a.column.as_str())
                .collect();
            warnings.push(format!(
                "no reverse section for {}: what the new application version writes to {} does not \
                 reach the old columns and is lost by a revert",
                table.name,
                columns.join(", ")
            ));
        }
        warnings
    }
}
