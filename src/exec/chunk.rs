//! One chunk: one transaction with guards, fence, the UPDATE, the check of the relation's file,
//! and the checkpoint.

use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::session::Session;
use crate::backfill::sizer::server_time;
use crate::backfill::spec::{Bounds, tid};
use crate::backfill::{
    BackfillSpec, CHUNK_IDLE_TIMEOUT, CHUNK_LOCK_TIMEOUT, ChunkFailure, Stripe, judge_chunk_failure,
};
use crate::catalog::QName;
use crate::error::{Error, Result};
use crate::fault::{self, Write};
use crate::pg::error::from_pg;
use crate::pg::session::EXACT_TEXT;
use crate::plan::sync::{WRITER_BACKFILL, WRITER_SETTING};
use crate::store::checkpoints::{ADVANCE_BLOCKS_SQL, ADVANCE_KEYS_SQL, FailedRow};
use crate::store::{self, runs};

/// The smallest chunk's statement may not run longer than this, nor one whose size the author
/// chose.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which rows a chunk covers and how the checkpoint moves when it commits.
#[derive(Debug, Clone)]
pub(super) enum Span {
    /// Blocks `lo..hi` of a range, or one stripe of them.
    Blocks {
        lo: i64,
        hi: i64,
        stripe: Option<Stripe>,
        /// The first block that is not done when it commits.
        next: i64,
        /// Then the range is done.
        last: bool,
    },
    /// Keys after `after` up to `upto`; the last chunk has no upper key.
    Keys {
        after: Option<Vec<String>>,
        upto: Option<Vec<String>>,
    },
}

impl Span {
    fn bounds(&self) -> Bounds {
        match self {
            Self::Blocks { stripe, .. } => Bounds::Blocks {
                striped: stripe.is_some(),
            },
            Self::Keys { after, upto } => Bounds::Keys {
                after: after.is_some(),
                upto: upto.is_some(),
            },
        }
    }

    fn params(&self) -> Vec<String> {
        match self {
            Self::Blocks { lo, hi, stripe, .. } => {
                let mut params = vec![tid(*lo), tid(*hi)];
                params.extend(stripe.iter().flat_map(|stripe| stripe.params()));
                params
            }
            Self::Keys { after, upto } => after.iter().chain(upto).flatten().cloned().collect(),
        }
    }
}

/// The range that a chunk belongs to.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) session: &'a Session,
    pub(super) ordinal: usize,
    pub(super) range_no: i32,
    pub(super) leaf: &'a QName,
    pub(super) relation: u32,
    /// The file that the scan began on; `None` where moving rows do not matter.
    pub(super) filenode: Option<u32>,
    pub(super) spec: &'a BackfillSpec,
}

/// A committed chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    pub(super) rows: u64,
    /// As seen from here, the network included.
    pub(super) elapsed: Duration,
    /// What of it the server worked.
    pub(super) worked: Duration,
    pub(super) wal: u64,
    /// The log's position before it.
    pub(super) wal_from: u64,
}

/// How a chunk ended.
pub(super) enum Outcome {
    Done(Done),
    /// Rolled back.
    Failed(ChunkFailure, Error),
    /// Rolled back: the relation's file was replaced.
    Rewritten,
}

fn refs(params: &[String]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

const GUARDS: &str = "
SELECT set_config('lock_timeout', $2, true), set_config('statement_timeout', $3, true),
       set_config('idle_in_transaction_session_timeout', $4, true),
       set_config('synchronous_commit', 'off', true), set_config('row_security', 'off', true),
       set_config('search_path', $5, true), set_config($6, $7, true),
       (SELECT epoch FROM pgshift.run WHERE id = $1 FOR SHARE) AS epoch,
       extract(epoch FROM clock_timestamp())::float8 AS at,
       (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS lsn";

/// The state after the UPDATE, whose lock keeps the file in place until COMMIT.
const AFTER: &str = "SELECT pg_relation_filenode($1::oid::regclass) AS filenode,
       extract(epoch FROM clock_timestamp())::float8 AS at,
       (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS lsn";

struct Prepared {
    guards: tokio_postgres::Statement,
    after: tokio_postgres::Statement,
}

async fn prepare(client: &Object) -> Result<Prepared> {
    Ok(Prepared {
        guards: client.prepare_cached(GUARDS).await.map_err(from_pg)?,
        after: client.prepare_cached(AFTER).await.map_err(from_pg)?,
    })
}

/// The values of [`GUARDS`].
struct GuardValues {
    run: i64,
    settings: [String; 6],
}

impl GuardValues {
    fn new(place: &Place<'_>, statement_timeout: Duration) -> Self {
        let ms = |d: Duration| format!("{}ms", d.as_millis());
        Self {
            run: place.session.run_id(),
            settings: [
                ms(CHUNK_LOCK_TIMEOUT),
                ms(statement_timeout),
                ms(CHUNK_IDLE_TIMEOUT),
                place.spec.search_path.clone(),
                WRITER_SETTING.to_owned(),
                WRITER_BACKFILL.to_owned(),
            ],
        }
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&self.run];
        all.extend(refs(&self.settings));
        all
    }
}

fn wal_between(before: &Row, after: &Row) -> u64 {
    let (before, after): (i64, i64) = (before.get("lsn"), after.get("lsn"));
    u64::try_from(after - before).unwrap_or(0)
}

/// Time between two rows by the server's clock; `None` where that was set back meanwhile.
fn time_between(before: &Row, after: &Row) -> Option<Duration> {
    let (before, after): (f64, f64) = (before.get("at"), after.get("at"));
    Duration::try_from_secs_f64(after - before).ok()
}

/// Runs a chunk to COMMIT or ROLLBACK; its statement may take `longest`. An error is a lost
/// connection or a lost fence: the caller reads the server's state anew.
pub(super) async fn run(
    client: &Object,
    place: &Place<'_>,
    span: &Span,
    longest: Duration,
) -> Result<Outcome> {
    let spec = place.spec;
    let prepared = prepare(client).await?;
    let sql = spec.chunk_sql(place.leaf, span.bounds());
    let update = match client.prepare_cached(&sql).await {
        Ok(update) => update,
        Err(error) => return failed(client, from_pg(error)).await,
    };
    let (values, params) = (GuardValues::new(place, longest), span.params());
    let guards = values.params();
    let begun = Instant::now();
    let params = refs(&params);
    let relation: [&(dyn ToSql + Sync); 1] = [&place.relation];
    // One flight: the statements are sent together and the answers read in order. A failed one
    // makes those after it fail with 25P02.
    let (begin, guard, update, after) = tokio::join!(
        biased;
        client.batch_execute("BEGIN"),
        client.query_one(&prepared.guards, &guards),
        client.execute(&update, &params),
        client.query_one(&prepared.after, &relation),
    );
    begin.map_err(from_pg)?;
    let guard = match guard {
        Ok(row) => row,
        Err(error) => return failed(client, from_pg(error)).await,
    };
    if let Err(error) = runs::check_epoch(guard.get("epoch"), place.session.epoch) {
        rollback(client).await?;
        return Err(error);
    }
    let rows = match update {
        Ok(rows) => rows,
        Err(error) => return failed(client, from_pg(error)).await,
    };
    let after = match after {
        Ok(row) => row,
        Err(error) => return failed(client, from_pg(error)).await,
    };
    if place.filenode.is_some() && after.get::<_, Option<u32>>("filenode") != place.filenode {
        rollback(client).await?;
        return Ok(Outcome::Rewritten);
    }
    let on_rows = time_between(&guard, &after);
    let worked = server_time(on_rows, begun.elapsed());
    if let Err(error) = commit(client, place, span, rows, worked).await {
        return failed(client, error).await;
    }
    let elapsed = begun.elapsed();
    Ok(Outcome::Done(Done {
        rows,
        elapsed,
        worked: server_time(on_rows, elapsed),
        wal: wal_between(&guard, &after),
        wal_from: u64::try_from(guard.get::<_, i64>("lsn")).unwrap_or(0),
    }))
}

/// The checkpoint and COMMIT, in one flight.
async fn commit(
    client: &Object,
    place: &Place<'_>,
    span: &Span,
    rows: u64,
    worked: Duration,
) -> Result<()> {
    let (run, ordinal, rows) = (place.session.run_id(), place.ordinal as i32, rows as i64);
    let worked_ms = worked.as_secs_f64() * 1000.0;
    let advanced = match span {
        Span::Blocks { next, last, .. } => {
            let advance = client
                .prepare_cached(ADVANCE_BLOCKS_SQL)
                .await
                .map_err(from_pg)?;
            let params: [&(dyn ToSql + Sync); 7] = [
                &run,
                &ordinal,
                &place.range_no,
                next,
                last,
                &rows,
                &worked_ms,
            ];
            fault::around(Write::Chunk, advance_and_commit(client, &advance, &params)).await?
        }
        Span::Keys { upto, .. } => {
            let advance = client
                .prepare_cached(ADVANCE_KEYS_SQL)
                .await
                .map_err(from_pg)?;
            let last = upto.is_none();
            let params: [&(dyn ToSql + Sync); 7] = [
                &run,
                &ordinal,
                &place.range_no,
                upto,
                &last,
                &rows,
                &worked_ms,
            ];
            fault::around(Write::Chunk, advance_and_commit(client, &advance, &params)).await?
        }
    };
    if advanced == 1 {
        return Ok(());
    }
    // Cannot happen while the fence holds; the data is committed, so do not go on blindly.
    Err(Error::connection(
        "the checkpoint's row is gone; the state is read anew",
    ))
}

/// Gives the number of checkpoints that were advanced.
async fn advance_and_commit(
    client: &Object,
    advance: &tokio_postgres::Statement,
    params: &[&(dyn ToSql + Sync)],
) -> Result<u64> {
    let (advanced, committed) = tokio::join!(
        biased;
        client.execute(advance, params),
        client.batch_execute("COMMIT")
    );
    let advanced = advanced.map_err(from_pg)?;
    committed.map_err(from_pg)?;
    Ok(advanced)
}

async fn rollback(client: &Object) -> Result<()> {
    client.batch_execute("ROLLBACK").await.map_err(from_pg)
}

/// Rolls back and judges. A lost connection is passed on as an error.
async fn failed(client: &Object, error: Error) -> Result<Outcome> {
    if error.is_connection() {
        return Err(error);
    }
    rollback(client).await?;
    let failure = match error.sqlstate() {
        // Our own statement_timeout: a smaller chunk may do.
        Some("57014") => ChunkFailure::Retry,
        Some(code) => judge_chunk_failure(code),
        None => ChunkFailure::Stop,
    };
    if failure == ChunkFailure::Reconnect {
        return Err(error.with_kind(crate::ErrorKind::Connection));
    }
    Ok(Outcome::Failed(failure, error))
}

/// What a row-by-row pass over a chunk found.
pub(super) enum RowByRow {
    /// Committed, with these rows left out and recorded.
    Done(Done, Vec<FailedRow>),
    /// Rolled back: more rows fail than are allowed.
    TooMany(Vec<FailedRow>),
    /// Rolled back for another reason.
    Failed(ChunkFailure, Error),
}

/// Runs a chunk row by row, each behind a savepoint, so that a failing row is found by key and the
/// others are done. `allowed` rows may fail.
pub(super) async fn run_rows(
    client: &Object,
    place: &Place<'_>,
    span: &Span,
    allowed: u64,
) -> Result<RowByRow> {
    let begun = Instant::now();
    let work = rows_in_transaction(client, place, span);
    let (rows, failing, rewritten) = match work.await {
        Ok(result) => result,
        Err(error) => {
            return Ok(match failed(client, error).await? {
                Outcome::Failed(failure, error) => RowByRow::Failed(failure, error),
                _ => RowByRow::Failed(ChunkFailure::Retry, Error::internal("unexpected outcome")),
            });
        }
    };
    if rewritten {
        rollback(client).await?;
        // The next ordinary chunk meets the new file and reports it.
        return Ok(RowByRow::Failed(
            ChunkFailure::Retry,
            Error::internal("the relation was rewritten meanwhile"),
        ));
    }
    if failing.len() as u64 > allowed {
        rollback(client).await?;
        for row in &failing {
            store::checkpoints::record_failed(
                &***client,
                place.session.run_id(),
                place.ordinal,
                row,
            )
            .await?;
        }
        return Ok(RowByRow::TooMany(failing));
    }
    for row in &failing {
        store::checkpoints::record_failed(&***client, place.session.run_id(), place.ordinal, row)
            .await?;
    }
    if let Err(error) = commit(client, place, span, rows, begun.elapsed()).await {
        return Ok(match failed(client, error).await? {
            Outcome::Failed(failure, error) => RowByRow::Failed(failure, error),
            _ => RowByRow::Failed(ChunkFailure::Stop, Error::internal("unexpected outcome")),
        });
    }
    Ok(RowByRow::Done(
        Done {
            rows,
            elapsed: begun.elapsed(),
            worked: begun.elapsed(),
            wal: 0,
            wal_from: 0,
        },
        failing,
    ))
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

/// The upper key of the next keyset chunk; `None` where fewer rows are left.
pub(super) async fn upper_key(
    client: &Object,
    place: &Place<'_>,
    after: Option<&Vec<String>>,
    rows: u64,
) -> Result<Option<Vec<String>>> {
    let sql = place.spec.upper_key_sql(place.leaf, after.is_some());
    let statement = client.prepare_cached(&sql).await.map_err(from_pg)?;
    let offset = i64::try_from(rows.saturating_sub(1)).unwrap_or(i64::MAX);
    let keys: Vec<String> = after.into_iter().flatten().cloned().collect();
    let mut params = refs(&keys);
    params.push(&offset);
    let exact = client.prepare_cached(EXACT_TEXT).await.map_err(from_pg)?;
    // One flight, as in `run`; the COMMIT of a failed transaction is a rollback.
    let (begin, set, row, end) = tokio::join!(
        client.batch_execute("BEGIN READ ONLY"),
        client.query_one(&exact, &[]),
        client.query_opt(&statement, &params),
        client.batch_execute("COMMIT"),
    );
    begin.map_err(from_pg)?;
    set.map_err(from_pg)?;
    let row = row.map_err(from_pg)?;
    end.map_err(from_pg)?;
    Ok(row.map(|row| (0..row.len()).map(|n| row.get(n)).collect()))
}
