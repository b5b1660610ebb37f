//! `pgshift.event`: the append-only, hash-chained log.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_postgres::GenericClient;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::event::chain::{self, Chain, Fault, Head, Odd, Summary};
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

/// Recomputes the chain and compares its end with the head; `noted` is an entry (number, hash) that
/// somebody noted elsewhere.
pub async fn verify(
    client: &impl GenericClient,
    noted: Option<&Head>,
) -> Result<(Summary, Vec<Fault>)> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client.batch_execute(begin).await.map_err(from_pg)?;
    let read = read_chain(client, noted).await;
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    let (chain, noted_hash) = read?;
    let faults = chain::judge(&chain, noted.map(|head| (head, noted_hash.as_deref())));
    let summary = Summary {
        entries: chain.entries,
        head: chain.last,
    };
    Ok((summary, faults))
}

async fn read_chain(
    client: &impl GenericClient,
    noted: Option<&Head>,
) -> Result<(Chain, Option<String>)> {
    let odd = client
        .query(
            "SELECT seq, before, follows FROM (
                 SELECT seq, lag(seq) OVER entries AS before,
                        hash = pgshift.event_hash(
                            coalesce(lag(hash) OVER entries, ''), seq, at, migration_id,
                            run_id, actor, kind, detail) AS follows
                 FROM pgshift.event WINDOW entries AS (ORDER BY seq)
             ) chain
             WHERE NOT follows OR seq <> coalesce(before, 0) + 1 ORDER BY seq",
            &[],
        )
        .await
        .map_err(from_pg)?;
    let head = |row: &tokio_postgres::Row| Head {
        seq: row.get("seq"),
        hash: row.get("hash"),
    };
    let end = "SELECT seq, hash FROM pgshift.event ORDER BY seq DESC LIMIT 1";
    let last = client.query_opt(end, &[]).await.map_err(from_pg)?;
    let count = "SELECT count(*), to_regclass('pgshift.event_head') IS NOT NULL FROM pgshift.event";
    let count = client.query_one(count, &[]).await.map_err(from_pg)?;
    let with_head: bool = count.get(1);
    let kept = if with_head {
        let kept = "SELECT seq, hash FROM pgshift.event_head";
        client.query_opt(kept, &[]).await.map_err(from_pg)?
    } else {
        None
    };
    let noted_hash = match noted {
        Some(noted) => client
            .query_opt(
                "SELECT hash FROM pgshift.event WHERE seq = $1",
                &[&noted.seq],
            )
            .await
            .map_err(from_pg)?
            .map(|row| row.get(0)),
        None => None,
    };
    let chain = Chain {
        entries: count.get(0),
        odd: odd
            .iter()
            .map(|row| Odd {
                seq: row.get("seq"),
                before: row.get("before"),
                follows: row.get("follows"),
            })
            .collect(),
        last: last.as_ref().map(head),
        head: if with_head {
            Some(kept.as_ref().map(head))
        } else {
            None
        },
    };
    Ok((chain, noted_hash))
}
