//! Wrong rows, each looked at again under its lock and mended.

use std::time::Duration;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::{Job, KEYS_TOLD, Met};
use crate::backfill::{
    CHUNK_IDLE_TIMEOUT, CHUNK_LOCK_TIMEOUT, ChunkFailure, Side, judge_chunk_failure,
};
use crate::catalog::QName;
use crate::error::Result;
use crate::event::Event;
use crate::exec::chunk::STATEMENT_TIMEOUT;
use crate::exec::commit;
use crate::exec::session::taken_over;
use crate::fault::{self, Write};
use crate::pg::error::from_pg;
use crate::plan::sync::{WRITER_BACKFILL, WRITER_SETTING};
use crate::store::verifications;
use crate::store::{self, WrongRow};

impl Job<'_> {
    /// Mends rows in one transaction, with what became of them and the log's entry.
    pub(super) async fn chunk(&self, rows: &[WrongRow]) -> Result<Vec<Met>> {
        let client = &self.session.work;
        client.batch_execute("BEGIN").await.map_err(from_pg)?;
        let result = self.in_transaction(rows).await;
        match result {
            Ok((met, event)) => {
                fault::around(Write::RepairChunk, commit(client)).await?;
                if let Some(event) = event {
                    self.session.ctx.emit(&self.session.migration, &event);
                }
                Ok(met)
            }
            Err(error) => {
                if !error.is_connection() {
                    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
                }
                Err(error)
            }
        }
    }

    async fn in_transaction(&self, rows: &[WrongRow]) -> Result<(Vec<Met>, Option<Event>)> {
        let client = &self.session.work;
        self.guards().await?;
        let mut all = Vec::new();
        let mut mended = Vec::new();
        for row in rows {
            client
                .batch_execute("SAVEPOINT pgshift_row")
                .await
                .map_err(from_pg)?;
            let met = match self.mend(row).await {
                Ok(met) => met,
                Err(error) => {
                    let code = error.sqlstate().unwrap_or_default();
                    if error.is_connection() || judge_chunk_failure(code) != ChunkFailure::Bisect {
                        return Err(error);
                    }
                    Met::Left(error.message().to_owned())
                }
            };
            let end = match met {
                Met::Left(_) => "ROLLBACK TO pgshift_row; RELEASE pgshift_row",
                _ => "RELEASE pgshift_row",
            };
            client.batch_execute(end).await.map_err(from_pg)?;
            let (state, tid) = match &met {
                Met::Mended(tid) => ("mended", tid),
                Met::Right => ("right", &row.tid),
                Met::Gone => ("gone", &row.tid),
                Met::Left(_) => ("wrong", &row.tid),
            };
            if state != "wrong" {
                verifications::set_row(client, self.verification, row, state, tid).await?;
            }
            if state == "mended" {
                mended.push(self.name(row));
            }
            all.push(met);
        }
        if mended.is_empty() {
            return Ok((all, None));
        }
        let rows = mended.len() as i64;
        mended.truncate(KEYS_TOLD);
        let event = Event::Repaired {
            table: self.spec.table.to_string(),
            from: self.from,
            rows,
            keys: mended,
        };
        self.session.append(client, &event).await?;
        Ok((all, Some(event)))
    }

    /// As in a backfill's chunk: short waits, our own sync trigger skipped, and the fence; here
    /// also the migration's state, which every new run changes.
    async fn guards(&self) -> Result<()> {
        let client = &self.session.work;
        let ms = |time: Duration| format!("{}ms", time.as_millis());
        client
            .query_one(
                "SELECT set_config('lock_timeout', $1, true),
                        set_config('statement_timeout', $2, true),
                        set_config('idle_in_transaction_session_timeout', $3, true),
                        set_config('row_security', 'off', true),
                        set_config('synchronous_commit', 'off', true),
                        set_config('search_path', $4, true), set_config($5, $6, true)",
                &[
                    &ms(CHUNK_LOCK_TIMEOUT),
                    &ms(STATEMENT_TIMEOUT),
                    &ms(CHUNK_IDLE_TIMEOUT),
                    &self.spec.search_path,
                    &WRITER_SETTING,
                    &WRITER_BACKFILL,
                ],
            )
            .await
            .map_err(from_pg)?;
        store::runs::fence(client, self.session.run_id(), self.session.epoch).await?;
        let state = store::migrations::share_state(client, &self.session.migration).await?;
        if state == self.state {
            Ok(())
        } else {
            Err(taken_over())
        }
    }

    async fn prepare(&self, sql: &str) -> Result<Statement> {
        let mut prepared = self.prepared.lock().await;
        if let Some(statement) = prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.session.work.prepare(sql).await.map_err(from_pg)?;
        prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Where a row is now; `None` where it is gone.
    pub(super) async fn locate(&self, row: &WrongRow, lock: bool) -> Result<Option<String>> {
        let sql = self.spec.locate_sql(&row.leaf, &self.types, lock);
        let params: Vec<&(dyn ToSql + Sync)> = if row.key.is_empty() {
            vec![&row.tid]
        } else {
            row.key.iter().map(|k| k as &(dyn ToSql + Sync)).collect()
        };
        let statement = self.prepare(&sql).await?;
        let found = self.session.work.query_opt(&statement, &params).await;
        Ok(found.map_err(from_pg)?.map(|row| row.get(0)))
    }

    pub(super) async fn is_wrong(&self, leaf: &QName, tid: &String, set: bool) -> Result<bool> {
        let sql = self.spec.is_wrong_sql(leaf, set);
        let statement = self.prepare(&sql).await?;
        let row = self.session.work.query_one(&statement, &[tid]).await;
        Ok(row.map_err(from_pg)?.get(0))
    }

    /// Locks a row, looks at it again, and mends it.
    async fn mend(&self, row: &WrongRow) -> Result<Met> {
        let Some(mut tid) = self.locate(row, true).await? else {
            return Ok(Met::Gone);
        };
        if !self.is_wrong(&row.leaf, &tid, false).await? {
            return Ok(Met::Right);
        }
        if self.from == Side::New && !self.is_wrong(&row.leaf, &tid, true).await? {
            return Ok(Met::Left("it has no new value to map back".to_owned()));
        }
        for sql in self.spec.mend_sql(&row.leaf, self.from) {
            let statement = self.prepare(&sql).await?;
            let moved = self.session.work.query_opt(&statement, &[&tid]).await;
            if let Some(moved) = moved.map_err(from_pg)? {
                tid = moved.get(0);
            }
        }
        if self.is_wrong(&row.leaf, &tid, false).await? {
            return Ok(Met::Left(format!(
                "it would be wrong still when mended from the {} side",
                self.from.name()
            )));
        }
        Ok(Met::Mended(tid))
    }
}
