//! `pgshift.verification`, `pgshift.verify_range` and `pgshift.wrong_row`: where verifies stand,
//! and what they found.

use tokio_postgres::{GenericClient, Row};

use crate::backfill::VerifySpec;
use crate::catalog::QName;
use crate::error::{Error, Result};
use crate::pg::error::from_pg;

/// Wrong rows that one verify lists; it counts all.
pub const MOST_LISTED: i64 = 100_000;

/// Progress of a verify in one relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyRange {
    /// The relation.
    pub relation: u32,
    /// Its name.
    pub name: QName,
    /// `pg_relation_filenode` when the scan began.
    pub filenode: Option<u32>,
    /// Names the sync trigger that keeps the rows right that were read; empty where there is none.
    pub guard: String,
    /// Blocks to read.
    pub blocks: i64,
    /// Blocks below this one are done.
    pub next: i64,
    /// Nothing is left.
    pub done: bool,
    /// Wrong rows.
    pub wrong: i64,
}

/// A row that a verify found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongRow {
    /// The relation.
    pub relation: u32,
    /// Its name.
    pub leaf: QName,
    /// Where it was.
    pub tid: String,
    /// Texts of the primary key's columns; empty where there is none.
    pub key: Vec<String>,
}

fn json(spec: &VerifySpec) -> Result<serde_json::Value> {
    serde_json::to_value(spec)
        .map_err(|e| Error::internal(format!("a check cannot be written: {e}")))
}

/// The verify of this check that did not end, and what it had done; `None` where there is none.
pub async fn unfinished(
    client: &impl GenericClient,
    migration: &str,
    run: Option<i64>,
    ordinal: usize,
    spec: &VerifySpec,
) -> Result<Option<i64>> {
    let row = client
        .query_opt(
            "SELECT id FROM pgshift.verification
             WHERE migration_id = $1 AND run_id IS NOT DISTINCT FROM $2 AND ordinal = $3
               AND NOT done AND spec = $4
             ORDER BY id DESC LIMIT 1",
            &[&migration, &run, &(ordinal as i32), &json(spec)?],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.map(|row| row.get(0)))
}

/// Records a new verify in the place of earlier ones of the same check.
pub async fn begin(
    client: &impl GenericClient,
    migration: &str,
    run: Option<i64>,
    ordinal: usize,
    spec: &VerifySpec,
) -> Result<i64> {
    let row = client
        .query_one(
            "WITH earlier AS (
                 DELETE FROM pgshift.verification
                 WHERE migration_id = $1 AND run_id IS NOT DISTINCT FROM $2 AND ordinal = $3
             )
             INSERT INTO pgshift.verification (migration_id, run_id, ordinal, spec)
             VALUES ($1, $2, $3, $4) RETURNING id",
            &[&migration, &run, &(ordinal as i32), &json(spec)?],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.get(0))
}

/// The newest verify of this check since the migration was last applied, whoever made it, and
/// whether it ended.
pub async fn newest(
    client: &impl GenericClient,
    migration: &str,
    spec: &VerifySpec,
) -> Result<Option<(i64, bool)>> {
    let row = client
        .query_opt(
            "SELECT id, done FROM pgshift.verification WHERE migration_id = $1 AND spec = $2
               AND started_at >= (SELECT max(started_at) FROM pgshift.run
                                  WHERE migration_id = $1 AND kind = 'apply')
             ORDER BY id DESC LIMIT 1",
            &[&migration, &json(spec)?],
        )
        .await
        .map_err(from_pg)?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Marks a verify as ended.
pub async fn end(client: &impl GenericClient, id: i64) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.verification SET done = true, finished_at = clock_timestamp()
             WHERE id = $1",
            &[&id],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

fn range_from(row: &Row) -> VerifyRange {
    VerifyRange {
        relation: row.get("relation"),
        name: QName::new(
            row.get::<_, String>("schema_name"),
            row.get::<_, String>("table_name"),
        ),
        filenode: row.get("filenode"),
        guard: row.get("guard"),
        blocks: row.get("blocks"),
        next: row.get("next"),
        done: row.get("done"),
        wrong: row.get("wrong"),
    }
}

/// Where a verify stands in each relation.
pub async fn ranges(client: &impl GenericClient, id: i64) -> Result<Vec<VerifyRange>> {
    let rows = client
        .query(
            "SELECT relation, schema_name, table_name, filenode, guard, blocks, next, done, wrong
             FROM pgshift.verify_range WHERE verification_id = $1
             ORDER BY schema_name, table_name",
            &[&id],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows.iter().map(range_from).collect())
}

/// Begins a relation, anew where it was begun before: what was found in it is forgotten.
pub async fn begin_range(client: &impl GenericClient, id: i64, range: &VerifyRange) -> Result<()> {
    forget_range(client, id, range.relation).await?;
    client
        .execute(
            "INSERT INTO pgshift.verify_range (verification_id, relation, schema_name, table_name,
                 filenode, guard, blocks, next, done)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            &[
                &id,
                &range.relation,
                &range.name.schema,
                &range.name.name,
                &range.filenode,
                &range.guard,
                &range.blocks,
                &range.next,
                &range.done,
            ],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Forgets a relation that is not of the table any more.
pub async fn forget_range(client: &impl GenericClient, id: i64, relation: u32) -> Result<()> {
    client
        .execute(
            "DELETE FROM pgshift.verify_range WHERE verification_id = $1 AND relation = $2",
            &[&id, &relation],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Advances a relation from block `from` to `to`, in the transaction that read these blocks.
///
/// # Errors
/// [`crate::ErrorKind::Interrupted`] where it does not stand at `from`: another verify took over.
pub async fn advance(
    client: &impl GenericClient,
    id: i64,
    relation: u32,
    (from, to): (i64, i64),
    wrong: i64,
) -> Result<()> {
    let advanced = client
        .execute(
            "UPDATE pgshift.verify_range SET next = $4, done = $4 >= blocks, wrong = wrong + $5,
                 ranges = ranges + 1, updated_at = clock_timestamp()
             WHERE verification_id = $1 AND relation = $2 AND next = $3 AND NOT done",
            &[&id, &relation, &from, &to, &wrong],
        )
        .await
        .map_err(from_pg)?;
    if advanced == 1 {
        return Ok(());
    }
    Err(
        Error::interrupted("another verify of this migration has taken over")
            .left("this one recorded nothing after that"),
    )
}

/// Lists wrong rows of a relation (TID and key each), up to [`MOST_LISTED`] of a verify.
pub async fn list_wrong(
    client: &impl GenericClient,
    id: i64,
    relation: u32,
    tids: &[String],
    keys: &[serde_json::Value],
) -> Result<()> {
    client
        .execute(
            "INSERT INTO pgshift.wrong_row (verification_id, relation, tid, key)
             SELECT $1, $2, tid, key FROM unnest($3::text[], $4::jsonb[]) AS found (tid, key)
             LIMIT greatest(0, $5 - (SELECT count(*) FROM pgshift.wrong_row
                                     WHERE verification_id = $1))
             ON CONFLICT DO NOTHING",
            &[&id, &relation, &tids, &keys, &MOST_LISTED],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Rows that are listed as wrong, relation by relation, at most `limit`.
pub async fn wrong_rows(
    client: &impl GenericClient,
    id: i64,
    state: &str,
    limit: i64,
) -> Result<Vec<WrongRow>> {
    let rows = client
        .query(
            "SELECT w.relation, r.schema_name, r.table_name, w.tid,
                    ARRAY(SELECT jsonb_array_elements_text(w.key)) AS key
             FROM pgshift.wrong_row w
             JOIN pgshift.verify_range r USING (verification_id, relation)
             WHERE w.verification_id = $1 AND w.state = $2
             ORDER BY r.schema_name, r.table_name, w.tid::tid LIMIT $3",
            &[&id, &state, &limit],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows
        .iter()
        .map(|row| WrongRow {
            relation: row.get("relation"),
            leaf: QName::new(
                row.get::<_, String>("schema_name"),
                row.get::<_, String>("table_name"),
            ),
            tid: row.get("tid"),
            key: row.get("key"),
        })
        .collect())
}

/// Says what became of a wrong row, in the transaction that mended it: `mended`, `right` (it was
/// by itself), `gone`, `failed` or `wrong`. A row without a key is at `tid` now, where one that was
/// listed there before may have been; one with a key is found by that and stays listed as it was.
pub async fn set_row(
    client: &impl GenericClient,
    id: i64,
    row: &WrongRow,
    state: &str,
    tid: &str,
) -> Result<()> {
    let tid = if row.key.is_empty() { tid } else { &row.tid };
    if tid != row.tid {
        // Another listed row was there, so it is not any more.
        client
            .execute(
                "DELETE FROM pgshift.wrong_row
                 WHERE verification_id = $1 AND relation = $2 AND tid = $3",
                &[&id, &row.relation, &tid],
            )
            .await
            .map_err(from_pg)?;
    }
    client
        .execute(
            "UPDATE pgshift.wrong_row SET state = $4, tid = $5
             WHERE verification_id = $1 AND relation = $2 AND tid = $3",
            &[&id, &row.relation, &row.tid, &state, &tid],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}
