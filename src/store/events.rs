//! `pgshift.event`: the append-only, hash-chained log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::GenericClient;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::pg::error::from_pg;

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Its number; without gaps.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// The migration.
    pub migration: Option<String>,
    /// The run.
    pub run: Option<i64>,
    /// Who: `user@host pid 123`.
    pub actor: String,
    /// The kind of event.
    pub kind: String,
    /// The event as JSON.
    pub detail: serde_json::Value,
}

/// Appends an event. In a transaction, other writers of the log wait for its end: make it the last
/// thing before COMMIT.
pub async fn append(
    client: &impl GenericClient,
    migration: &str,
    run: Option<i64>,
    actor: &str,
    event: &Event,
) -> Result<()> {
    let detail = serde_json::to_value(event)
        .map_err(|e| Error::internal(format!("an event cannot be written: {e}")))?;
    client
        .query_one(
            "SELECT pgshift.append_event($1, $2, $3, $4, $5)",
            &[&migration, &run, &actor, &event.name(), &detail],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Entries after `after`, oldest first, of one migration or of all, at most `limit` of the newest.
pub async fn list(
    client: &impl GenericClient,
    migration: Option<&str>,
    after: i64,
    limit: i64,
) -> Result<Vec<LogEntry>> {
    let rows = client
        .query(
            "SELECT * FROM (
                 SELECT seq, at, migration_id, run_id, actor, kind, detail FROM pgshift.event
                 WHERE ($1::text IS NULL OR migration_id = $1) AND seq > $2
                 ORDER BY seq DESC LIMIT $3
             ) newest ORDER BY seq",
            &[&migration, &after, &limit],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows
        .iter()
        .map(|row| LogEntry {
            seq: row.get("seq"),
            at: row.get("at"),
            migration: row.get("migration_id"),
            run: row.get("run_id"),
            actor: row.get("actor"),
            kind: row.get("kind"),
            detail: row.get("detail"),
        })
        .collect())
}

/// What a check of the whole chain found.
#[derive(Debug, Clone, Serialize)]
pub struct ChainCheck {
    /// Entries checked.
    pub entries: i64,
    /// Numbers of entries that were edited, or before which one is missing.
    pub broken: Vec<i64>,
}

/// Recomputes the chain. An entry cut off the end leaves no trace in the chain itself.
pub async fn verify(client: &impl GenericClient) -> Result<ChainCheck> {
    let row = client
        .query_one(
            "SELECT count(*),
                    coalesce(array_agg(seq ORDER BY seq) FILTER (WHERE NOT right_one), '{}')
             FROM (
                 SELECT seq,
                        seq = row_number() OVER (ORDER BY seq)
                        AND hash = pgshift.event_hash(
                            coalesce(lag(hash) OVER (ORDER BY seq), ''), seq, at, migration_id,
                            run_id, actor, kind, detail) AS right_one
                 FROM pgshift.event
             ) chain",
            &[],
        )
        .await
        .map_err(from_pg)?;
    Ok(ChainCheck {
        entries: row.get(0),
        broken: row.get(1),
    })
}
