//! `pgshift.checkpoint` and `pgshift.failed_row`: progress that is committed with the data.

use tokio_postgres::{GenericClient, Row};

use crate::backfill::BlockRange;
use crate::catalog::QName;
use crate::error::Result;
use crate::pg::error::from_pg;

/// Progress of one range of one relation.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Number within the step.
    pub range_no: i32,
    /// The relation.
    pub relation: u32,
    /// Its name.
    pub name: QName,
    /// `ctid` or `keyset`.
    pub strategy: String,
    /// `pg_relation_filenode` when the scan began.
    pub filenode: Option<u32>,
    /// Blocks, for a ctid range.
    pub blocks: BlockRange,
    /// Last key done, for a keyset range.
    pub cursor: Option<Vec<String>>,
    /// Nothing is left.
    pub done: bool,
    /// Rows changed.
    pub rows: i64,
    /// Chunks committed.
    pub chunks: i64,
    /// Time spent in chunks, in milliseconds.
    pub worked_ms: f64,
}

fn from_row(row: &Row) -> Checkpoint {
    Checkpoint {
        range_no: row.get("range_no"),
        relation: row.get("relation"),
        name: QName::new(
            row.get::<_, String>("schema_name"),
            row.get::<_, String>("table_name"),
        ),
        strategy: row.get("strategy"),
        filenode: row.get("filenode"),
        blocks: BlockRange {
            lo: row.get("lo"),
            hi: row.get("hi"),
            next: row.get("next"),
        },
        cursor: row.get("cursor"),
        done: row.get("done"),
        rows: row.get("rows"),
        chunks: row.get("chunks"),
        worked_ms: row.get("worked_ms"),
    }
}

/// All ranges of a step, in order.
pub async fn list(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
) -> Result<Vec<Checkpoint>> {
    let rows = client
        .query(
            "SELECT range_no, relation, schema_name, table_name, strategy, filenode, lo, hi, next,
                    cursor, done, rows, chunks, worked_ms
             FROM pgshift.checkpoint WHERE run_id = $1 AND ordinal = $2 ORDER BY range_no",
            &[&run, &(ordinal as i32)],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows.iter().map(from_row).collect())
}

/// Records a new range.
pub async fn insert(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
    c: &Checkpoint,
) -> Result<()> {
    client
        .execute(
            "INSERT INTO pgshift.checkpoint (run_id, ordinal, range_no, relation, schema_name,
                 table_name, strategy, filenode, lo, hi, next, done)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            &[
                &run,
                &(ordinal as i32),
                &c.range_no,
                &c.relation,
                &c.name.schema,
                &c.name.name,
                &c.strategy,
                &c.filenode,
                &c.blocks.lo,
                &c.blocks.hi,
                &c.blocks.next,
                &c.done,
            ],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Marks the open ranges of a relation as given up, because its file was replaced: what they did
/// stays counted, a new scan does the rest.
pub async fn give_up(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
    relation: u32,
) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.checkpoint SET done = true, hi = next, updated_at = clock_timestamp()
             WHERE run_id = $1 AND ordinal = $2 AND relation = $3 AND NOT done",
            &[&run, &(ordinal as i32), &relation],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Statement that advances a ctid range in the chunk's transaction: run, ordinal, range, next
/// block, done, rows, milliseconds.
pub const ADVANCE_BLOCKS_SQL: &str = "UPDATE pgshift.checkpoint SET next = $4::bigint, done = $5, rows = rows + $6, \
     chunks = chunks + 1, worked_ms = worked_ms + $7, updated_at = clock_timestamp() \
     WHERE run_id = $1 AND ordinal = $2 AND range_no = $3";

/// Statement that advances a keyset range in the chunk's transaction: run, ordinal, range, cursor,
/// done, rows, milliseconds.
pub const ADVANCE_KEYS_SQL: &str = "UPDATE pgshift.checkpoint SET cursor = coalesce($4::text[], cursor), done = $5, \
     rows = rows + $6, chunks = chunks + 1, worked_ms = worked_ms + $7, \
     updated_at = clock_timestamp() \
     WHERE run_id = $1 AND ordinal = $2 AND range_no = $3";

/// A row that a backfill could not change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRow {
    /// The relation.
    pub relation: String,
    /// Its key, for people.
    pub key: String,
    /// SQLSTATE.
    pub sqlstate: String,
    /// What the server said.
    pub message: String,
}

/// Records a failed row.
pub async fn record_failed(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
    row: &FailedRow,
) -> Result<()> {
    client
        .execute(
            "INSERT INTO pgshift.failed_row (run_id, ordinal, relation, key, sqlstate, message)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (run_id, ordinal, relation, key)
             DO UPDATE SET sqlstate = $5, message = $6, at = clock_timestamp()",
            &[
                &run,
                &(ordinal as i32),
                &row.relation,
                &row.key,
                &row.sqlstate,
                &row.message,
            ],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// The failed rows of a step.
pub async fn failed(
    client: &impl GenericClient,
    run: i64,
    ordinal: usize,
) -> Result<Vec<FailedRow>> {
    let rows = client
        .query(
            "SELECT relation, key, sqlstate, message FROM pgshift.failed_row
             WHERE run_id = $1 AND ordinal = $2 ORDER BY at",
            &[&run, &(ordinal as i32)],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows
        .iter()
        .map(|row| FailedRow {
            relation: row.get(0),
            key: row.get(1),
            sqlstate: row.get(2),
            message: row.get(3),
        })
        .collect())
}

/// Forgets the failed rows of a step: a resume tries them again.
pub async fn clear_failed(client: &impl GenericClient, run: i64, ordinal: usize) -> Result<()> {
    client
        .execute(
            "DELETE FROM pgshift.failed_row WHERE run_id = $1 AND ordinal = $2",
            &[&run, &(ordinal as i32)],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}
