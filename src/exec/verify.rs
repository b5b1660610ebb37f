//! Verify steps: every row of a table against what it should be, range by range, so that no
//! snapshot is held for long.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use super::control::{Control, with_probes};
use super::ddl::cancel_on_stop;
use super::ledger::Ledger;
use super::session::{Session, done_event, record_done};
use super::{Ctx, lock};
use crate::backfill::{ChunkSizer, Pace, VerifySpec};
use crate::catalog::Leaf;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Progress};
use crate::pg::catalog::{self, Wanted};
use crate::pg::error::from_pg;
use crate::pg::probes::relation_state;
use crate::plan::{Phase, Step, Work};
use crate::sql::quote::literal;
use crate::store::runs::LOST;

/// Working time that a range aims at; reading disturbs less than writing.
const RANGE_TARGET: Duration = Duration::from_millis(100);
/// Wrong rows that are told by key.
const KEYS_TOLD: usize = 10;

/// What a verify found.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// Looked at, estimated.
    rows: i64,
    wrong: i64,
    keys: Vec<String>,
}

pub(super) async fn run(
    session: &Arc<Session>,
    ordinal: usize,
    step: &Step,
    spec: &VerifySpec,
) -> Result<Duration> {
    let begun = Instant::now();
    let control = Control::new(session.clone(), step)?;
    find(session, ordinal, step, spec, &control).await?;
    let waited = session.ledger.of_session();
    let result = serde_json::json!({ "wrong": 0, LOST: session.ledger.total() });
    record_done(
        session,
        ordinal,
        &done_event(ordinal, step, begun.elapsed(), waited),
        Some(&result),
    )
    .await?;
    Ok(waited)
}

/// Verifies outside a run: the steps' tables, which it gives.
pub(super) async fn alone(ctx: &Ctx, migration: &str, steps: &[Step]) -> Result<Vec<String>> {
    let session = Arc::new(Session {
        ctx: ctx.clone(),
        migration: migration.to_owned(),
        run: None,
        epoch: 0,
        lease: Arc::new(ctx.target.connect().await?),
        work: ctx.target.connect().await?,
        progress: Mutex::default(),
        ledger: Ledger::default(),
    });
    let mut tables = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match &step.work {
            Work::Verify(spec) => {
                let control = Control::new(session.clone(), step)?;
                find(&session, index + 1, step, spec, &control).await?;
                tables.push(spec.table.to_string());
            }
            Work::Check { sql } => author(&session, sql).await?,
            _ => {}
        }
    }
    Ok(tables)
}

/// Scans, tells, and makes wrong rows an error.
async fn find(
    session: &Arc<Session>,
    ordinal: usize,
    step: &Step,
    spec: &VerifySpec,
    control: &Arc<Control>,
) -> Result<()> {
    let found = with_probes(control, scan(session, ordinal, step, spec, control)).await?;
    session
        .event(&Event::Verified {
            table: spec.table.to_string(),
            rows: found.rows,
            wrong: found.wrong,
            keys: found.keys.clone(),
        })
        .await?;
    if found.wrong > 0 && step.phase == Phase::Revert {
        return Err(Error::refused(format!(
            "{} {} of {} {} a value that the old type cannot hold: {}",
            found.wrong,
            if found.wrong == 1 { "row" } else { "rows" },
            spec.table,
            if found.wrong == 1 { "has" } else { "have" },
            found.keys.join("; "),
        ))
        .left("nothing was taken back: the new type stands")
        .hint("change or delete these rows and `pgshift resume`"));
    }
    if found.wrong > 0 {
        return Err(Error::new(
            ErrorKind::Findings,
            format!(
                "{} of {} {} not what the backfill gives: {}{}",
                found.wrong,
                spec.table,
                if found.wrong == 1 {
                    "row is"
                } else {
                    "rows are"
                },
                found.keys.join("; "),
                if found.wrong as usize > found.keys.len() {
                    "; …"
                } else {
                    ""
                }
            ),
        )
        .left("nothing was changed by the check; the backfill is kept")
        .hint("mend these rows and `pgshift resume`, which verifies again, or `pgshift revert`"));
    }
    Ok(())
}

async fn scan(
    session: &Session,
    ordinal: usize,
    step: &Step,
    spec: &VerifySpec,
    control: &Control,
) -> Result<Found> {
    let client = &session.work;
    let wanted = Wanted::new(Some(&spec.table.schema), &spec.table.name);
    let catalog = catalog::load(client, &[wanted]).await?;
    let table = catalog
        .tables
        .get(&spec.table)
        .ok_or_else(|| Error::refused(format!("table {} is gone", spec.table)))?;
    let mut scan = Scan {
        session,
        spec,
        control,
        progress: Progress {
            step: ordinal,
            title: step.title.clone(),
            rows_total: table.rows,
            ..Progress::default()
        },
        blocks: table.leaves.iter().map(|l| l.blocks).sum(),
        blocks_before: 0,
        begun: Instant::now(),
        pace: Mutex::default(),
    };
    let mut found = Found::default();
    for leaf in &table.leaves {
        // In a file that is put in the place of another, rows are elsewhere.
        while let Some(before) = relation_state(client, leaf.oid).await? {
            let part = scan.leaf(leaf, before.blocks).await?;
            let after = relation_state(client, leaf.oid).await?;
            if after.is_none_or(|after| after.filenode == before.filenode) {
                found.add(part);
                scan.blocks_before += before.blocks;
                break;
            }
            session
                .event(&Event::ScanRestarted {
                    relation: leaf.name.to_string(),
                    blocks: after.map_or(0, |after| after.blocks),
                })
                .await?;
        }
    }
    found.rows = table.rows;
    Ok(found)
}

impl Found {
    fn add(&mut self, part: Self) {
        self.wrong += part.wrong;
        let room = KEYS_TOLD.saturating_sub(self.keys.len());
        self.keys.extend(part.keys.into_iter().take(room));
    }
}

struct Scan<'a> {
    session: &'a Session,
    spec: &'a VerifySpec,
    control: &'a Control,
    progress: Progress,
    /// Blocks of all leaves, and of those that are done.
    blocks: i64,
    blocks_before: i64,
    begun: Instant,
    pace: Mutex<Pace>,
}

impl Scan<'_> {
    async fn leaf(&self, leaf: &Leaf, blocks: i64) -> Result<Found> {
        let heap = leaf.access_method == "heap";
        let sql = self.spec.sql(&leaf.name, heap);
        let mut sizer = ChunkSizer::adaptive(64, 65_536, RANGE_TARGET, u64::MAX);
        let mut found = Found::default();
        let mut next = 0;
        while next < blocks.max(1) {
            self.control.gate(Duration::ZERO).await?;
            let units = if heap {
                sizer.size()
            } else {
                blocks.max(1) as u64
            };
            let end = next + units as i64;
            let started = Instant::now();
            found.add(self.range(&sql, heap.then_some((next, end))).await?);
            sizer.observe(units, started.elapsed(), 0);
            next = end;
            self.tell(next.min(blocks));
        }
        Ok(found)
    }

    /// One range, as soon as the table can be read: VACUUM FULL, for example, may take its time.
    async fn range(&self, sql: &str, range: Option<(i64, i64)>) -> Result<Found> {
        let session = self.session;
        let begun = Instant::now();
        loop {
            let part = cancel_on_stop(session, one(session, self.spec, sql, range)).await;
            match part {
                Err(error)
                    if error.kind() == ErrorKind::Lock
                        && begun.elapsed() < session.ctx.settings.ladder.budget =>
                {
                    session.ctx.sleep(Duration::from_millis(200)).await;
                    session.check_stop()?;
                }
                part => return part,
            }
        }
    }

    fn tell(&self, next: i64) {
        let rows_total = self.progress.rows_total;
        let done = self.blocks_before + next;
        let fraction = (done as f64 / self.blocks.max(1) as f64).min(1.0);
        let rows = (fraction * rows_total as f64) as i64;
        let mut pace = lock(&self.pace);
        pace.note(self.begun.elapsed(), fraction, rows);
        self.control.tell(Progress {
            fraction,
            rows,
            rate: pace.rate(),
            eta: pace.eta(),
            blocks_done: done,
            blocks_total: self.blocks,
            ..self.progress.clone()
        });
    }
}

/// One range in a read-only transaction of its own.
async fn one(
    session: &Session,
    spec: &VerifySpec,
    sql: &str,
    range: Option<(i64, i64)>,
) -> Result<Found> {
    let client = &session.work;
    client
        .batch_execute(&format!(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '2s'; \
             SET LOCAL row_security = off; SELECT set_config('search_path', {}, true)",
            literal(&spec.search_path)
        ))
        .await
        .map_err(from_pg)?;
    let tids = range.map(|(lo, hi)| {
        [
            crate::backfill::spec::tid(lo),
            crate::backfill::spec::tid(hi),
        ]
    });
    let result = match &tids {
        Some([lo, hi]) => client.query_one(sql, &[lo, hi]).await,
        None => client.query_one(sql, &[]).await,
    };
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    let row = result.map_err(|e| {
        let error = from_pg(e);
        // The author's expressions were checked in plan: it is a row that is wrong, not the input.
        let kind = match error.kind() {
            ErrorKind::Usage => ErrorKind::Findings,
            kind => kind,
        };
        error
            .with_kind(kind)
            .context(format!("{} cannot be verified", spec.table))
            .hint("the expression fails for a row; mend the row and `pgshift resume`")
    })?;
    Ok(Found {
        rows: 0,
        wrong: row.get(0),
        keys: row.get::<_, Option<Vec<String>>>(1).unwrap_or_default(),
    })
}

/// The author's check: no row, or one row of zero, false or null.
pub(super) async fn check(
    session: &Session,
    ordinal: usize,
    step: &Step,
    sql: &str,
) -> Result<Duration> {
    let begun = Instant::now();
    author(session, sql).await?;
    record_done(
        session,
        ordinal,
        &done_event(ordinal, step, begun.elapsed(), Duration::ZERO),
        None,
    )
    .await?;
    Ok(Duration::ZERO)
}

async fn author(session: &Session, sql: &str) -> Result<()> {
    let client = &session.work;
    client
        .batch_execute(
            "BEGIN READ ONLY; SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '2s'",
        )
        .await
        .map_err(from_pg)?;
    let work = async { client.simple_query(sql).await.map_err(from_pg) };
    let result = cancel_on_stop(session, work).await;
    if result.as_ref().is_err_and(Error::is_connection) {
        return result.map(drop);
    }
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    let rows: Vec<Vec<String>> = result?
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|n| row.get(n).unwrap_or("null").to_owned())
                    .collect(),
            ),
            _ => None,
        })
        .collect();
    if !nothing_wrong(&rows) {
        let shown: Vec<_> = rows
            .iter()
            .take(KEYS_TOLD)
            .map(|row| row.join(", "))
            .collect();
        return Err(Error::new(
            ErrorKind::Findings,
            format!("the verify query found: {}", shown.join("; ")),
        )
        .left("nothing was changed by the check")
        .hint("mend these rows and `pgshift resume`, which verifies again, or `pgshift revert`"));
    }
    Ok(())
}

/// No row, or a single value that is zero, false or null.
fn nothing_wrong(rows: &[Vec<String>]) -> bool {
    match rows {
        [] => true,
        [row] => matches!(row.as_slice(), [value] if ["0", "f", "null"].contains(&value.as_str())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_false_null_and_no_row_are_fine() {
        let row = |v: &str| vec![vec![v.to_owned()]];
        assert!(nothing_wrong(&[]));
        assert!(
            nothing_wrong(&row("0")) && nothing_wrong(&row("f")) && nothing_wrong(&row("null"))
        );
        assert!(!nothing_wrong(&row("1")) && !nothing_wrong(&row("t")));
        assert!(!nothing_wrong(&[row("0"), row("0")].concat()));
        assert!(!nothing_wrong(&[vec!["0".to_owned(), "0".to_owned()]]));
    }
}
