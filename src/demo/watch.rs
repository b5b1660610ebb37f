//! Where the migration stands, by pgshift's own tables.

use std::cmp::Ordering;

use tokio_postgres::{Client, Statement};

use super::cluster::sql;
use super::server::connect;
use super::shop::MIGRATION;
use crate::error::Result;

/// The step that runs, and the checkpoints of the backfill, in one look.
const LOOK: &str = "
WITH latest AS (
    SELECT id, state FROM pgshift.run WHERE migration_id = $1 ORDER BY id DESC LIMIT 1
), backfill AS (
    SELECT c.* FROM pgshift.checkpoint c
    JOIN pgshift.step s USING (run_id, ordinal)
    JOIN pgshift.run r ON r.id = c.run_id
    WHERE r.migration_id = $1 AND r.kind = 'apply' AND s.phase = 'backfill'
)
SELECT (SELECT s.phase FROM pgshift.step s JOIN latest ON latest.id = s.run_id
        WHERE s.state = 'running' ORDER BY s.ordinal DESC LIMIT 1) AS phase,
       coalesce(sum(next - lo), 0)::int8 AS blocks,
       coalesce(sum(hi - lo), 0)::int8 AS blocks_total,
       coalesce(sum(rows), 0)::int8 AS rows,
       coalesce(sum(chunks), 0)::int8 AS chunks,
       coalesce(sum(worked_ms), 0)::float8 AS worked_ms
FROM backfill";

/// What one look saw.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Look {
    /// The phase of the step that runs.
    pub(super) phase: Option<String>,
    /// Blocks of the table that are done, of [`blocks_total`](Self::blocks_total).
    pub(super) blocks: i64,
    /// Blocks that the backfill scans; 0 before it begins.
    pub(super) blocks_total: i64,
    /// Rows that it changed.
    pub(super) rows: i64,
    /// Chunks that it committed.
    pub(super) chunks: i64,
    /// Time that it worked, in milliseconds.
    pub(super) worked_ms: f64,
}

impl Look {
    /// Share of the backfill that is done.
    pub(super) fn fraction(&self) -> f64 {
        if self.blocks_total == 0 {
            0.0
        } else {
            self.blocks as f64 / self.blocks_total as f64
        }
    }
}

/// Looks again and again.
pub(super) struct Watch {
    client: Client,
    statement: Statement,
    last: Look,
    redone: i64,
}

impl Watch {
    /// The state schema must be there.
    pub(super) async fn start(url: &str) -> Result<Self> {
        let client = connect(url).await?;
        let statement = client.prepare(LOOK).await.map_err(|e| sql(LOOK, e))?;
        Ok(Self {
            client,
            statement,
            last: Look::default(),
            redone: 0,
        })
    }

    /// Looks.
    pub(super) async fn look(&mut self) -> Result<Look> {
        let row = self
            .client
            .query_one(&self.statement, &[&MIGRATION])
            .await
            .map_err(|e| sql(LOOK, e))?;
        let now = Look {
            phase: row.get("phase"),
            blocks: row.get("blocks"),
            blocks_total: row.get("blocks_total"),
            rows: row.get("rows"),
            chunks: row.get("chunks"),
            worked_ms: row.get("worked_ms"),
        };
        self.redone += redone(&self.last, &now);
        self.last = now.clone();
        Ok(now)
    }

    /// Chunks that were done although they had been done.
    pub(super) fn redone(&self) -> i64 {
        self.redone
    }

    /// Sessions of pgshift that the server has.
    pub(super) async fn runners(&self) -> Result<i64> {
        let query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgshift%'";
        let row = self
            .client
            .query_one(query, &[])
            .await
            .map_err(|e| sql(query, e))?;
        Ok(row.get(0))
    }
}

/// Chunks known to have been redone between two looks: the checkpoint moved back, or chunks were
/// committed while it stood.
fn redone(before: &Look, now: &Look) -> i64 {
    match now.blocks.cmp(&before.blocks) {
        Ordering::Less => before.chunks.max(1),
        Ordering::Equal => (now.chunks - before.chunks).max(0),
        Ordering::Greater => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(blocks: i64, chunks: i64) -> Look {
        Look {
            blocks,
            blocks_total: 1000,
            chunks,
            ..Look::default()
        }
    }

    #[test]
    fn progress_is_not_taken_for_repetition() {
        assert_eq!(redone(&Look::default(), &look(0, 0)), 0);
        assert_eq!(redone(&look(100, 5), &look(140, 6)), 0);
        assert_eq!(redone(&look(100, 5), &look(100, 5)), 0);
    }

    #[test]
    fn repetition_shows() {
        assert_eq!(redone(&look(400, 20), &look(0, 20)), 20);
        assert_eq!(redone(&look(400, 20), &look(400, 23)), 3);
    }
}
