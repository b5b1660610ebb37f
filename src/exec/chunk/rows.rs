//! A chunk row by row: which of its rows fails.

use std::time::Instant;

use deadpool_postgres::Object;

use super::{
    Committed, Done, GuardValues, Open, Place, STATEMENT_TIMEOUT, Span, commit, failed, prepare,
    prepare_advance, refs, rollback,
};
use crate::backfill::spec::Bounds;
use crate::backfill::{ChunkFailure, judge_chunk_failure};
use crate::error::{Error, Result};
use crate::pg::error::from_pg;
use crate::store::checkpoints::FailedRow;
use crate::store::{self, runs};

/// What a row-by-row pass over a chunk found.
pub(in crate::exec) enum RowByRow {
    /// Committed, with these rows left out and recorded.
    Done(Done, Vec<FailedRow>),
    /// Rolled back: more rows fail than are allowed.
    TooMany(Vec<FailedRow>),
    /// Rolled back for another reason.
    Failed(ChunkFailure, Error),
}

/// Runs a chunk row by row, each behind a savepoint, so that a failing row is found by key and the
/// others are done. `allowed` rows may fail.
pub(in crate::exec) async fn run_rows(
    client: &Object,
    place: &Place<'_>,
    span: &Span,
    allowed: u64,
) -> Result<RowByRow> {
    let begun = Instant::now();
    let advance = match prepare_advance(client, span).await {
        Ok(advance) => advance,
        Err(error) => return row_by_row_failed(client, error).await,
    };
    let work = rows_in_transaction(client, place, span);
    let (rows, failing, rewritten) = match work.await {
        Ok(result) => result,
        Err(error) => return row_by_row_failed(client, error).await,
    };
    if rewritten {
        rollback(client).await?;
        // The next ordinary chunk meets the new file and reports it.
        return Ok(RowByRow::Failed(
            ChunkFailure::Retry,
            Error::internal("the relation was rewritten meanwhile"),
        ));
    }
    let too_many = failing.len() as u64 > allowed;
    if too_many {
        rollback(client).await?;
    }
    for row in &failing {
        store::checkpoints::record_failed(&***client, place.session.run_id(), place.ordinal, row)
            .await?;
    }
    if too_many {
        return Ok(RowByRow::TooMany(failing));
    }
    let open = Open {
        span: span.clone(),
        advance,
        rows,
        begun,
        on_rows: None,
        wal: 0,
        wal_from: 0,
    };
    Ok(match commit(client, place, open, None).await? {
        Committed::Done(done) => RowByRow::Done(done.0, failing),
        Committed::Failed(failure, error) => RowByRow::Failed(failure, error),
    })
}

async fn row_by_row_failed(client: &Object, error: Error) -> Result<RowByRow> {
    let (failure, error) = failed(client, error).await?;
    Ok(RowByRow::Failed(failure, error))
}

/// (rows changed, failing rows, the file was replaced), the transaction still open.
async fn rows_in_transaction(
    client: &Object,
    place: &Place<'_>,
    span: &Span,
) -> Result<(u64, Vec<FailedRow>, bool)> {
    let spec = place.spec;
    let prepared = prepare(client).await?;
    let list = client
        .prepare_cached(&spec.rows_sql(place.leaf, span.bounds()))
        .await
        .map_err(from_pg)?;
    let one = client
        .prepare_cached(&spec.chunk_sql(place.leaf, Bounds::Row))
        .await
        .map_err(from_pg)?;
    let values = GuardValues::new(place, STATEMENT_TIMEOUT);
    let guards = values.params();
    client.batch_execute("BEGIN").await.map_err(from_pg)?;
    let guard = client
        .query_one(&prepared.guards, &guards)
        .await
        .map_err(from_pg)?;
    runs::check_epoch(guard.get("epoch"), place.session.epoch)?;
    let listed = client
        .query(&list, &refs(&span.params()))
        .await
        .map_err(from_pg)?;
    let mut changed = 0;
    let mut failing = Vec::new();
    for row in listed {
        let tid: String = row.get(0);
        client
            .batch_execute("SAVEPOINT pgshift_row")
            .await
            .map_err(from_pg)?;
        match client.execute(&one, &[&tid]).await {
            Ok(rows) => {
                changed += rows;
                client
                    .batch_execute("RELEASE pgshift_row")
                    .await
                    .map_err(from_pg)?;
            }
            Err(error) => {
                let error = from_pg(error);
                let code = error.sqlstate().unwrap_or_default().to_owned();
                if error.is_connection() || judge_chunk_failure(&code) != ChunkFailure::Bisect {
                    return Err(error);
                }
                client
                    .batch_execute("ROLLBACK TO pgshift_row; RELEASE pgshift_row")
                    .await
                    .map_err(from_pg)?;
                failing.push(FailedRow {
                    relation: place.leaf.to_string(),
                    key: row.get(1),
                    sqlstate: code,
                    message: error.message().to_owned(),
                });
            }
        }
    }
    let after = client
        .query_one(&prepared.after, &[&place.relation])
        .await
        .map_err(from_pg)?;
    let rewritten =
        place.filenode.is_some() && after.get::<_, Option<u32>>("filenode") != place.filenode;
    Ok((changed, failing, rewritten))
}
