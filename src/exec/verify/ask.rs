//! `pgshift verify`: outside a run, as often as wanted.

use super::super::engine::{Engine, no_plan};
use super::super::sampler;
use super::super::session::Session;
use super::sample::{self, Sampled};
use super::{Compared, Verified, alone, session_alone};
use crate::backfill::VerifySpec;
use crate::backfill::sample::Size;
use crate::error::{Error, Result};
use crate::pg::error::from_pg;
use crate::plan::{Phase, Step};
use crate::run::State;
use crate::store;

/// How to verify.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// Tell the values of wrong rows too.
    pub values: bool,
    /// Do not go on where an earlier verify was stopped.
    pub anew: bool,
}

impl Engine {
    /// Verifies now what a migration backfilled, without changing its state; an earlier verify
    /// that was stopped is gone on with.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Refused`] before the backfill and after contract. Wrong rows are no
    /// error here.
    pub async fn verify(&self, id: &str, asked: &Asked) -> Result<Vec<Verified>> {
        let steps = self.verify_steps(id).await?;
        let session = session_alone(self.ready().await?, id).await?;
        alone(&session, &steps, asked).await
    }

    /// Verifies randomly chosen rows. This never counts as the verify that contract wants.
    ///
    /// # Errors
    /// As [`Engine::verify`]; [`crate::ErrorKind::Refused`] for storage other than heap.
    pub async fn sample(&self, id: &str, size: Size, asked: &Asked) -> Result<Vec<Sampled>> {
        let steps = self.verify_steps(id).await?;
        let session = session_alone(self.ready().await?, id).await?;
        sample::tables(&session, &steps, size, asked).await
    }

    /// The checks that hold in the state that a migration is in.
    async fn verify_steps(&self, id: &str) -> Result<Vec<Step>> {
        self.ready().await?;
        self.upgrade().await?;
        let client = self.connect_initialised().await?;
        let row = store::migrations::get(&client, id)
            .await?
            .ok_or_else(|| no_plan(id))?;
        if !matches!(row.state, State::Ready | State::Applying) {
            return Err(Error::refused(format!(
                "{id} is {}: there is nothing to compare with",
                row.state
            ))
            .hint(
                "verify compares old and new columns while both are there: after the backfill \
                   and before contract",
            ));
        }
        let plan = row.plan.ok_or_else(|| no_plan(id))?;
        sampler::check(&self.ctx).await?;
        Ok(plan.steps_of(&[checks_in(row.state)]))
    }
}

/// From READY on the new application version writes too: the checks of contract.
pub(in crate::exec) fn checks_in(state: State) -> Phase {
    if state == State::Applying {
        Phase::Verify
    } else {
        Phase::Contract
    }
}

/// Rows whose values are read at once.
const AT_ONCE: usize = 1_000;

/// Adds the values of the rows that are still where they were, and still wrong.
pub(super) async fn values(
    session: &Session,
    spec: &VerifySpec,
    verified: &mut Verified,
) -> Result<()> {
    if spec.forward.is_empty() {
        return Ok(());
    }
    for rows in verified
        .listed
        .chunk_by_mut(|a, b| a.row.relation == b.row.relation)
        .flat_map(|leaf| leaf.chunks_mut(AT_ONCE))
    {
        let Some(leaf) = rows.first().map(|found| found.row.leaf.clone()) else {
            continue;
        };
        let tids: Vec<String> = rows.iter().map(|found| found.row.tid.clone()).collect();
        super::scan::begin(session, spec).await?;
        let read = session
            .work
            .query(&spec.values_sql(&leaf), &[&tids])
            .await
            .map_err(|e| super::scan::failed(spec, e));
        session
            .work
            .batch_execute("ROLLBACK")
            .await
            .map_err(from_pg)?;
        for row in read? {
            let tid: String = row.get(0);
            let values: Vec<Option<String>> = row.get(1);
            if let Some(found) = rows.iter_mut().find(|found| found.row.tid == tid) {
                found.values = spec
                    .forward
                    .iter()
                    .zip(values.chunks_exact(2))
                    .map(|(assigned, pair)| Compared {
                        column: assigned.column.clone(),
                        is: pair[0].clone(),
                        should: pair[1].clone(),
                    })
                    .collect();
            }
        }
    }
    Ok(())
}
