//! Verify steps: every row of a table against what it should be, range by range, so that no
//! snapshot is held for long. Its progress is recorded with each range.

mod ask;
mod sample;
pub(super) mod scan;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::control::{Control, with_probes};
use super::ddl::cancel_on_stop;
use super::ledger::Ledger;
use super::session::{Session, done_event, record_done};
use super::{Ctx, lease};
use crate::backfill::VerifySpec;
use crate::backfill::verify::key_text;
use crate::catalog::QName;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::pg::error::from_pg;
use crate::plan::{Phase, Step, Work};
use crate::store::WrongRow;
use crate::store::runs::LOST;
use crate::store::verifications;

pub use ask::Asked;
pub(super) use ask::checks_in;
pub use sample::Sampled;

/// Wrong rows that are told by key.
const KEYS_TOLD: usize = 10;

/// What a verify of one table found.
#[derive(Debug, Clone)]
pub struct Verified {
    /// The table.
    pub table: QName,
    /// Rows looked at, estimated.
    pub rows: i64,
    /// Wrong rows.
    pub wrong: i64,
    /// Primary key columns; empty where there is none.
    pub key: Vec<String>,
    /// Wrong rows by key, up to [`verifications::MOST_LISTED`].
    pub listed: Vec<Found>,
    /// A sync trigger of it does not fire: what is right now does not stay so.
    pub unguarded: bool,
}

/// A wrong row.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which one.
    pub row: WrongRow,
    /// What its columns have and should have, where it was asked for and could still be read.
    pub values: Vec<Compared>,
}

/// A column of a wrong row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// The column.
    pub column: String,
    /// What it has.
    pub is: Option<String>,
    /// What the backfill gives.
    pub should: Option<String>,
}

impl Verified {
    /// The first of them, for people.
    fn keys(&self) -> Vec<String> {
        let listed = self.listed.iter().take(KEYS_TOLD);
        listed.map(|found| self.name(&found.row)).collect()
    }

    /// Names a row for people, with its leaf where it is not the table itself.
    pub fn name(&self, row: &WrongRow) -> String {
        let key = key_text(&self.key, &row.key, &row.tid);
        if row.leaf == self.table {
            key
        } else {
            format!("{key} of {}", row.leaf)
        }
    }
}

pub(super) async fn run(
    session: &Arc<Session>,
    ordinal: usize,
    step: &Step,
    spec: &VerifySpec,
) -> Result<Duration> {
    let begun = Instant::now();
    let control = Control::new(session.clone(), step)?;
    let verified = find(session, ordinal, step, spec, &control, KEYS_TOLD as i64).await?;
    judge(&verified, step.phase)?;
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

/// A session outside a run. Its lease is of the verify alone: a run may begin beside it.
///
/// # Errors
/// [`ErrorKind::Refused`] where another one has it.
pub(super) async fn session_alone(ctx: &Ctx, migration: &str) -> Result<Arc<Session>> {
    let lease = lease::connect(ctx).await?;
    take_verify_lock(ctx, &lease, migration).await?;
    Ok(Arc::new(Session {
        ctx: ctx.clone(),
        migration: migration.to_owned(),
        run: None,
        epoch: 0,
        lease: Arc::new(lease),
        work: lease::connect(ctx).await?,
        progress: Mutex::default(),
        ledger: Ledger::default(),
    }))
}

/// Takes the lock under which one session at a time verifies or repairs by itself.
pub(super) async fn take_verify_lock(ctx: &Ctx, client: &Client, migration: &str) -> Result<()> {
    let key = lease::lock_key(&format!("verify {migration}"));
    let begun = Instant::now();
    loop {
        let row = client
            .query_one("SELECT pg_try_advisory_lock($1)", &[&key])
            .await
            .map_err(from_pg)?;
        if row.get(0) {
            return Ok(());
        }
        // Of one that was just killed the server may not know yet.
        if begun.elapsed() > Duration::from_secs(5) {
            return Err(Error::refused(format!(
                "{migration} is being verified or repaired by another session"
            ))
            .left("nothing was changed")
            .hint("wait for its end"));
        }
        ctx.sleep(Duration::from_millis(200)).await;
        if ctx.stopping() {
            return Err(ctx.stopped());
        }
    }
}

/// Verifies outside a run: the steps' tables, of which it gives what it found.
async fn alone(session: &Arc<Session>, steps: &[Step], asked: &Asked) -> Result<Vec<Verified>> {
    let mut all = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match &step.work {
            Work::Verify(spec) => {
                let control = Control::new(session.clone(), step)?;
                if asked.anew {
                    scan::forget(session, index + 1, spec).await?;
                }
                let most = verifications::MOST_LISTED;
                let mut verified = find(session, index + 1, step, spec, &control, most).await?;
                if asked.values {
                    ask::values(session, spec, &mut verified).await?;
                }
                all.push(verified);
            }
            Work::Check { sql } => author(session, sql).await?,
            _ => {}
        }
    }
    Ok(all)
}

/// Scans and tells.
async fn find(
    session: &Arc<Session>,
    ordinal: usize,
    step: &Step,
    spec: &VerifySpec,
    control: &Arc<Control>,
    most: i64,
) -> Result<Verified> {
    let verified = with_probes(
        control,
        scan::table(session, ordinal, step, spec, control, most),
    )
    .await?;
    session
        .event(&Event::Verified {
            table: spec.table.to_string(),
            rows: verified.rows,
            wrong: verified.wrong,
            keys: verified.keys(),
        })
        .await?;
    Ok(verified)
}

/// Makes wrong rows an error.
fn judge(found: &Verified, phase: Phase) -> Result<()> {
    if found.wrong > 0 && phase == Phase::Revert {
        return Err(Error::refused(format!(
            "{} {} of {} {} a value that the old type cannot hold: {}",
            found.wrong,
            if found.wrong == 1 { "row" } else { "rows" },
            found.table,
            if found.wrong == 1 { "has" } else { "have" },
            found.keys().join("; "),
        ))
        .left("nothing was taken back: the new type stands")
        .hint(
            "change or delete these rows and `pgshift resume`, or keep the new type: `pgshift \
             revert --call-off`",
        ));
    }
    if found.wrong > 0 {
        let keys = found.keys();
        return Err(Error::new(
            ErrorKind::Findings,
            format!(
                "{} of {} {} not what the backfill gives: {}{}",
                if found.wrong == 1 {
                    "1 row".to_owned()
                } else {
                    format!("{} rows", found.wrong)
                },
                found.table,
                if found.wrong == 1 { "is" } else { "are" },
                keys.join("; "),
                if found.wrong as usize > keys.len() {
                    "; …"
                } else {
                    ""
                }
            ),
        )
        .left("nothing was changed by the check; the backfill is kept")
        .hint(
            "`pgshift verify` lists all of them, `pgshift repair` mends them; then `pgshift \
             resume`, which verifies again, or `pgshift revert`",
        ));
    }
    if found.unguarded {
        return Err(Error::new(
            ErrorKind::Findings,
            format!(
                "the sync trigger of {} is disabled: rows that are right do not stay so",
                found.table
            ),
        )
        .left("nothing was changed by the check; the backfill is kept")
        .hint("ALTER TABLE … ENABLE TRIGGER, then `pgshift resume`, which verifies again"));
    }
    Ok(())
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
