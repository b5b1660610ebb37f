//! One chunk: one transaction with guards, fence, the UPDATE, the check of the relation's file,
//! and the checkpoint.

mod keys;
mod rows;

use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};

use super::ddl::CANCELED;
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
use crate::plan::sync::{WRITER_BACKFILL, WRITER_SETTING};
use crate::store::checkpoints::{ADVANCE_BLOCKS_SQL, ADVANCE_KEYS_SQL};
use crate::store::runs;

pub(super) use keys::upper_key;
pub(super) use rows::{RowByRow, run_rows};

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
        /// About how many they are.
        rows: u64,
    },
}

impl Span {
    /// Its size, as the sizer counts: blocks, or rows.
    pub(super) fn units(&self) -> u64 {
        match self {
            Self::Blocks { lo, hi, .. } => hi.abs_diff(*lo),
            Self::Keys { rows, .. } => *rows,
        }
    }

    /// The first block; 0 by key.
    pub(super) fn start(&self) -> i64 {
        match self {
            Self::Blocks { lo, .. } => *lo,
            Self::Keys { .. } => 0,
        }
    }

    /// One past the last block; 0 by key.
    pub(super) fn end(&self) -> i64 {
        match self {
            Self::Blocks { hi, .. } => *hi,
            Self::Keys { .. } => 0,
        }
    }

    fn bounds(&self) -> Bounds {
        match self {
            Self::Blocks { stripe, .. } => Bounds::Blocks {
                striped: stripe.is_some(),
            },
            Self::Keys { after, upto, .. } => Bounds::Keys {
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
            Self::Keys { after, upto, .. } => after.iter().chain(upto).flatten().cloned().collect(),
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

/// A chunk whose rows are changed and whose transaction is still open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) span: Span,
    /// Of the checkpoint: prepared, so that nothing is waited for before COMMIT is on its way, and
    /// what is sent behind it is behind it.
    advance: Statement,
    rows: u64,
    begun: Instant,
    /// Time from the guards to the end of the UPDATE, by the server's clock.
    on_rows: Option<Duration>,
    wal: u64,
    wal_from: u64,
}

impl Open {
    /// Rows changed.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How long the server has worked on it so far.
    pub(super) fn worked(&self) -> Duration {
        server_time(self.on_rows, self.begun.elapsed())
    }
}

/// A committed chunk.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) span: Span,
    pub(super) rows: u64,
    /// As seen from here, the network included.
    pub(super) elapsed: Duration,
    /// What of it the server worked.
    pub(super) worked: Duration,
    pub(super) wal: u64,
    /// The log's position before it.
    pub(super) wal_from: u64,
}

/// How the change of a chunk's rows ended.
#[derive(Debug)]
pub(super) enum Begun {
    Open(Open),
    /// Rolled back.
    Failed(ChunkFailure, Error),
    /// Rolled back: the relation's file was replaced.
    Rewritten,
}

/// How the COMMIT of a chunk ended.
#[derive(Debug)]
pub(super) enum Committed {
    /// With the next chunk, where one was to be begun.
    Done(Box<(Done, Option<Begun>)>),
    /// Rolled back, and so is the next one.
    Failed(ChunkFailure, Error),
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
    guards: Statement,
    after: Statement,
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

/// A chunk's statements up to its COMMIT, prepared, with their parameters.
struct Flight {
    prepared: Prepared,
    update: Statement,
    advance: Statement,
    values: GuardValues,
    params: Vec<String>,
    relation: u32,
    span: Span,
}

/// What they were answered.
struct Answers {
    begin: Result<(), tokio_postgres::Error>,
    guard: Result<Row, tokio_postgres::Error>,
    update: Result<u64, tokio_postgres::Error>,
    after: Result<Row, tokio_postgres::Error>,
}

impl Flight {
    /// The statement of the chunk may take `longest`.
    async fn prepare(
        client: &Object,
        place: &Place<'_>,
        span: &Span,
        longest: Duration,
    ) -> Result<Self> {
        let sql = place.spec.chunk_sql(place.leaf, span.bounds());
        Ok(Self {
            prepared: prepare(client).await?,
            update: client.prepare_cached(&sql).await.map_err(from_pg)?,
            advance: prepare_advance(client, span).await?,
            values: GuardValues::new(place, longest),
            params: span.params(),
            relation: place.relation,
            span: span.clone(),
        })
    }

    /// Sends the statements together and reads the answers in order. A failed one makes those
    /// after it fail with 25P02.
    async fn fly(&self, client: &Object) -> Answers {
        let (guards, params) = (self.values.params(), refs(&self.params));
        let relation: [&(dyn ToSql + Sync); 1] = [&self.relation];
        let (begin, guard, update, after) = tokio::join!(
            biased;
            client.batch_execute("BEGIN"),
            client.query_one(&self.prepared.guards, &guards),
            client.execute(&self.update, &params),
            client.query_one(&self.prepared.after, &relation),
        );
        Answers {
            begin,
            guard,
            update,
            after,
        }
    }

    /// What the answers mean; the server began at `begun`.
    async fn land(
        self,
        client: &Object,
        place: &Place<'_>,
        answers: Answers,
        begun: Instant,
    ) -> Result<Begun> {
        answers.begin.map_err(from_pg)?;
        let guard = match answers.guard {
            Ok(row) => row,
            Err(error) => return begin_failed(client, from_pg(error)).await,
        };
        if let Err(error) = runs::check_epoch(guard.get("epoch"), place.session.epoch) {
            rollback(client).await?;
            return Err(error);
        }
        let (rows, after) = match (answers.update, answers.after) {
            (Ok(rows), Ok(after)) => (rows, after),
            (Err(error), _) | (_, Err(error)) => {
                return begin_failed(client, from_pg(error)).await;
            }
        };
        if place.filenode.is_some() && after.get::<_, Option<u32>>("filenode") != place.filenode {
            rollback(client).await?;
            return Ok(Begun::Rewritten);
        }
        Ok(Begun::Open(Open {
            span: self.span,
            advance: self.advance,
            rows,
            begun,
            on_rows: time_between(&guard, &after),
            wal: wal_between(&guard, &after),
            wal_from: u64::try_from(guard.get::<_, i64>("lsn")).unwrap_or(0),
        }))
    }
}

/// Changes the rows of a chunk, in one flight; its statement may take `longest`. An error is a lost
/// connection or a lost fence: the caller reads the server's state anew.
pub(super) async fn begin(
    client: &Object,
    place: &Place<'_>,
    span: &Span,
    longest: Duration,
) -> Result<Begun> {
    let flight = match Flight::prepare(client, place, span, longest).await {
        Ok(flight) => flight,
        Err(error) => return begin_failed(client, error).await,
    };
    let begun = Instant::now();
    let answers = flight.fly(client).await;
    flight.land(client, place, answers, begun).await
}

/// Commits a chunk with its checkpoint and begins the next one, if there is one, in one flight: the
/// server goes from one to the other without waiting for us. The next one is a transaction of its
/// own, and nothing commits it but another call of this.
///
/// Where there is no next one, COMMIT is sent when this is polled first.
pub(super) async fn commit(
    client: &Object,
    place: &Place<'_>,
    open: Open,
    next: Option<(&Span, Duration)>,
) -> Result<Committed> {
    // Before anything is sent: what comes behind COMMIT must be sent behind it.
    let next = match next {
        Some((span, longest)) => Some(Flight::prepare(client, place, span, longest).await?),
        None => None,
    };
    let work = async {
        let advanced = advance(client, place, &open).await;
        (advanced, Instant::now())
    };
    let ((advanced, ended), answers) = match &next {
        Some(flight) => {
            let (work, answers) = tokio::join!(biased; work, flight.fly(client));
            (work, Some(answers))
        }
        None => (work.await, None),
    };
    match advanced {
        Ok(1) => {}
        // Cannot happen while the fence holds; the data is committed, so do not go on blindly.
        Ok(_) => {
            return Err(Error::connection(
                "the checkpoint's row is gone; the state is read anew",
            ));
        }
        Err(error) => {
            let (failure, error) = failed(client, error).await?;
            return Ok(Committed::Failed(failure, error));
        }
    }
    let elapsed = ended - open.begun;
    let done = Done {
        span: open.span,
        rows: open.rows,
        elapsed,
        worked: server_time(open.on_rows, elapsed),
        wal: open.wal,
        wal_from: open.wal_from,
    };
    let begun = match next.zip(answers) {
        Some((flight, answers)) => Some(flight.land(client, place, answers, ended).await?),
        None => None,
    };
    Ok(Committed::Done(Box::new((done, begun))))
}

async fn prepare_advance(client: &Object, span: &Span) -> Result<Statement> {
    let sql = match span {
        Span::Blocks { .. } => ADVANCE_BLOCKS_SQL,
        Span::Keys { .. } => ADVANCE_KEYS_SQL,
    };
    client.prepare_cached(sql).await.map_err(from_pg)
}

/// The checkpoint and COMMIT, in one flight: both are sent when this is polled first. Gives the
/// number of checkpoints that were advanced.
async fn advance(client: &Object, place: &Place<'_>, open: &Open) -> Result<u64> {
    let (run, ordinal) = (place.session.run_id(), place.ordinal as i32);
    let rows = open.rows as i64;
    let worked_ms = open.worked().as_secs_f64() * 1000.0;
    let (to, last): (&(dyn ToSql + Sync), bool) = match &open.span {
        Span::Blocks { next, last, .. } => (next, *last),
        Span::Keys { upto, .. } => (upto, upto.is_none()),
    };
    let params: [&(dyn ToSql + Sync); 7] = [
        &run,
        &ordinal,
        &place.range_no,
        to,
        &last,
        &rows,
        &worked_ms,
    ];
    let work = async {
        let (advanced, committed) = tokio::join!(
            biased;
            client.execute(&open.advance, &params),
            client.batch_execute("COMMIT")
        );
        let advanced = advanced.map_err(from_pg)?;
        committed.map_err(from_pg)?;
        Ok(advanced)
    };
    fault::around(Write::Chunk, work).await
}

async fn rollback(client: &Object) -> Result<()> {
    client.batch_execute("ROLLBACK").await.map_err(from_pg)
}

async fn begin_failed(client: &Object, error: Error) -> Result<Begun> {
    let (failure, error) = failed(client, error).await?;
    Ok(Begun::Failed(failure, error))
}

/// Rolls back and judges. A lost connection is passed on as an error.
async fn failed(client: &Object, error: Error) -> Result<(ChunkFailure, Error)> {
    if error.is_connection() {
        return Err(error);
    }
    rollback(client).await?;
    let failure = match error.sqlstate() {
        // Our own statement_timeout: a smaller chunk may do.
        Some(CANCELED) => ChunkFailure::Retry,
        Some(code) => judge_chunk_failure(code),
        None => ChunkFailure::Stop,
    };
    if failure == ChunkFailure::Reconnect {
        return Err(error.with_kind(crate::ErrorKind::Connection));
    }
    Ok((failure, error))
}
