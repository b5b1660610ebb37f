//! The steps around the backfill of a column of which the server would compute a value per row.

use super::Builder;
use crate::catalog::Table;
use crate::error::Result;
use crate::lock::LockMode;
use crate::plan::build::lock_on;
use crate::plan::fill;
use crate::plan::step::{Phase, Step, Undo};
use crate::plan::title::title;
use crate::sql::Span;
use crate::sql::ddl::understand;

impl Builder<'_, '_> {
    /// What comes after the backfill of a column that is filled.
    pub(super) fn finish_fill(
        &mut self,
        head: &str,
        column: &str,
        parts: &fill::Parts,
        span: Span,
        table: &Table,
    ) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        if let Some(not_null) = &parts.not_null {
            steps.extend(self.part(&format!("{head} {not_null}"), span)?);
        }
        if let Some((there, back)) = &parts.identity {
            let locks = vec![lock_on(&table.name, LockMode::AccessExclusive)];
            let undo = Step::sql(
                Phase::Revert,
                format!("make {}.{column} an ordinary column again", table.name),
                back.clone(),
            );
            steps.push(
                Step::sql(
                    Phase::Validate,
                    format!("make {}.{column} an identity column", table.name),
                    there.clone(),
                )
                .locks(locks.clone())
                .undo(Undo::steps(vec![undo.locks(locks)])),
            );
        }
        for constraint in &parts.constraints {
            steps.extend(self.part(&format!("{head} {constraint}"), span)?);
        }
        for step in &mut steps {
            step.phase = Phase::Validate;
        }
        Ok(steps)
    }
}

/// The sequence that a new column takes its numbers from.
pub(super) fn before_fill(parts: &fill::Parts) -> Option<Step> {
    let first = parts.before.first()?;
    let undo = Step::sql(
        Phase::Revert,
        "drop the sequence, where it is still there",
        parts.before_undo.clone(),
    );
    Some(
        Step::sql(
            Phase::Expand,
            title(&understand(first), first),
            parts.before.clone(),
        )
        .undo(Undo::steps(vec![undo])),
    )
}

/// The sequence goes with the column.
pub(super) fn after_fill(parts: &fill::Parts, table: &Table) -> Option<Step> {
    let first = parts.after.first()?;
    Some(
        Step::sql(
            Phase::Expand,
            title(&understand(first), first),
            parts.after.clone(),
        )
        .locks(vec![lock_on(&table.name, LockMode::AccessShare)]),
    )
}
