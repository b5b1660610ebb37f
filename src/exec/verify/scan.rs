//! The scan of a verify, which goes on where an earlier one was when it ended.
//!
//! A range that was read stays right while the same sync trigger fires: whoever writes a row after
//! that is kept right by it. So a relation is read anew where the trigger is another one (made
//! anew, replaced, disabled, enabled again: each shows in the catalog rows of trigger and function),
//! where its file is another one (rows are elsewhere), and, after a stop, where it has no trigger.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::super::control::Control;
use super::super::ddl::cancel_on_stop;
use super::super::session::Session;
use super::super::{commit, lock};
use super::{Found, Verified};
use crate::backfill::spec::tid;
use crate::backfill::{Aim, ChunkSizer, Pace, VerifySpec};
use crate::catalog::{Leaf, QName, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Progress};
use crate::fault::{self, Write};
use crate::pg::catalog::{self, Wanted};
use crate::pg::error::from_pg;
use crate::pg::probes::relation_state;
use crate::pg::session::EXACT_TEXT;
use crate::plan::{Step, sync};
use crate::sql::quote::literal;
use crate::store::runs;
use crate::store::verifications::{self, VerifyRange};

/// Working time that a range aims at; reading disturbs less than writing.
const RANGE_TARGET: Duration = Duration::from_millis(100);
/// Passes over the leaves, until none was rewritten or got another trigger meanwhile.
const MOST_PASSES: u32 = 100;

/// The sync trigger of a relation as the catalog has it: every change of it makes another text.
const GUARD: &str = "
SELECT coalesce(string_agg(concat_ws('.', t.oid, t.tgenabled, t.xmin, p.oid, p.xmin), ' '
                           ORDER BY t.oid), '') AS guard,
       coalesce(bool_or(t.tgenabled IN ('D', 'R')), false) AS disabled,
       pg_relation_filenode($1::oid) AS filenode
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE t.tgrelid = $1 AND n.nspname = $2 AND p.proname = $3";

#[derive(Debug, Clone, PartialEq, Eq)]
struct Guard {
    text: String,
    disabled: bool,
    filenode: Option<u32>,
}

struct Scan<'a> {
    session: &'a Session,
    spec: &'a VerifySpec,
    control: &'a Control,
    /// The verification.
    id: i64,
    function: QName,
    progress: Progress,
    /// Blocks of all leaves, and of those that are done.
    blocks: i64,
    blocks_before: i64,
    begun: Instant,
    pace: Mutex<Pace>,
}

/// How a range ended.
enum Read {
    Done,
    /// Rolled back: the file or the trigger is another one.
    Other,
}

/// Makes the next verify of this check begin anew.
pub(super) async fn forget(session: &Session, ordinal: usize, spec: &VerifySpec) -> Result<()> {
    verifications::begin(
        &session.work,
        &session.migration,
        session.run,
        ordinal,
        spec,
    )
    .await
    .map(drop)
}

pub(super) async fn table(
    session: &Session,
    ordinal: usize,
    step: &Step,
    spec: &VerifySpec,
    control: &Control,
    most: i64,
) -> Result<Verified> {
    let client = &session.work;
    let table = load(session, spec).await?;
    let (migration, run) = (session.migration.as_str(), session.run);
    let earlier = verifications::unfinished(client, migration, run, ordinal, spec).await?;
    let id = if let Some(id) = earlier {
        id
    } else {
        let begin = verifications::begin(client, migration, run, ordinal, spec);
        fault::around(Write::VerifyBegun, begin).await?
    };
    let mut scan = Scan {
        session,
        spec,
        control,
        id,
        function: sync::function_name(&spec.table, migration),
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
    if earlier.is_some() {
        scan.go_on(&table).await?;
    }
    let unguarded = scan.read_all(table).await?;
    let ranges = verifications::ranges(client, id).await?;
    let listed = verifications::wrong_rows(client, id, "wrong", most).await?;
    fault::around(Write::VerifyEnd, verifications::end(client, id)).await?;
    Ok(Verified {
        table: spec.table.clone(),
        rows: scan.progress.rows_total,
        wrong: ranges.iter().map(|r| r.wrong).sum(),
        key: spec.key.clone(),
        listed: listed
            .into_iter()
            .map(|row| Found {
                row,
                values: Vec::new(),
            })
            .collect(),
        unguarded,
    })
}

pub(in crate::exec) async fn load(session: &Session, spec: &VerifySpec) -> Result<Table> {
    let wanted = Wanted::new(Some(&spec.table.schema), &spec.table.name);
    let mut catalog = catalog::load(&session.work, &[wanted]).await?;
    let table = catalog.tables.remove(&spec.table);
    table.ok_or_else(|| Error::refused(format!("table {} is gone", spec.table)))
}

impl Scan<'_> {
    /// Tells what an earlier verify did, and forgets what nothing has kept right since.
    async fn go_on(&self, table: &Table) -> Result<()> {
        let client = &self.session.work;
        let mut kept = 0;
        for range in verifications::ranges(client, self.id).await? {
            if range.guard.is_empty() {
                verifications::forget_range(client, self.id, range.relation).await?;
            } else {
                kept += range.next;
            }
        }
        if kept > 0 {
            let event = Event::VerifyResumed {
                table: table.name.to_string(),
                blocks_done: kept,
                blocks_total: self.blocks,
            };
            self.session.event(&event).await?;
        }
        Ok(())
    }

    /// Reads until every leaf was read under the trigger and in the file that it has; true where a
    /// trigger is disabled.
    async fn read_all(&mut self, mut table: Table) -> Result<bool> {
        let client = &self.session.work;
        for _ in 0..MOST_PASSES {
            let known = verifications::ranges(client, self.id).await?;
            let present: BTreeSet<u32> = table.leaves.iter().map(|l| l.oid).collect();
            for gone in known.iter().filter(|r| !present.contains(&r.relation)) {
                verifications::forget_range(client, self.id, gone.relation).await?;
            }
            self.blocks_before = 0;
            let (mut open, mut unguarded) = (false, false);
            for leaf in &table.leaves {
                let guard = self.guard(leaf.oid).await?;
                unguarded |= guard.disabled;
                let range = known.iter().find(|r| r.relation == leaf.oid);
                let same = |r: &&VerifyRange| r.guard == guard.text && r.filenode == guard.filenode;
                let range = match range.filter(same) {
                    Some(range) => range.clone(),
                    None => match self.begin(leaf, &guard, range.is_some()).await? {
                        Some(range) => range,
                        None => continue,
                    },
                };
                if !range.done {
                    open = true;
                    self.leaf(leaf, &range).await?;
                }
                self.blocks_before += range.blocks;
            }
            if !open {
                return Ok(unguarded);
            }
            table = load(self.session, self.spec).await?;
        }
        Err(Error::refused(format!(
            "{} is being rewritten, or its sync trigger changed, again and again",
            self.spec.table
        ))
        .hint("verify again when that has ended"))
    }

    async fn guard(&self, relation: u32) -> Result<Guard> {
        let (schema, name) = (&self.function.schema, &self.function.name);
        let client = &self.session.work;
        let row = client
            .query_one(GUARD, &[&relation, schema, name])
            .await
            .map_err(from_pg)?;
        Ok(Guard {
            text: row.get("guard"),
            disabled: row.get("disabled"),
            filenode: row.get("filenode"),
        })
    }

    /// Records that a leaf is read from its beginning; `None` where it is gone.
    async fn begin(&self, leaf: &Leaf, guard: &Guard, again: bool) -> Result<Option<VerifyRange>> {
        let client = &self.session.work;
        let Some(state) = relation_state(client, leaf.oid).await? else {
            return Ok(None);
        };
        let range = VerifyRange {
            relation: leaf.oid,
            name: leaf.name.clone(),
            filenode: guard.filenode,
            guard: guard.text.clone(),
            // An empty one is read too: storage that is not a heap may say 0.
            blocks: state.blocks.max(1),
            next: 0,
            done: false,
            wrong: 0,
        };
        if again {
            let event = Event::ScanRestarted {
                relation: leaf.name.to_string(),
                blocks: state.blocks,
            };
            self.session.event(&event).await?;
        }
        let begin = verifications::begin_range(client, self.id, &range);
        fault::around(Write::VerifyRelation, begin).await?;
        Ok(Some(range))
    }

    async fn leaf(&self, leaf: &Leaf, range: &VerifyRange) -> Result<()> {
        let heap = leaf.access_method == "heap";
        let sql = self.spec.sql(&leaf.name, heap);
        let mut sizer = ChunkSizer::adaptive(64, 65_536, Aim::time(RANGE_TARGET));
        let mut next = range.next;
        let mut worked = Duration::ZERO;
        while next < range.blocks {
            self.control.gate(worked).await?;
            let units = if heap {
                sizer.size()
            } else {
                range.blocks as u64
            };
            let end = (next + units as i64).min(range.blocks);
            let started = Instant::now();
            if let Read::Other = self.range(&sql, heap, range, (next, end)).await? {
                return Ok(());
            }
            worked = started.elapsed();
            sizer.observe(units, worked, 0);
            next = end;
            self.tell(next);
        }
        Ok(())
    }

    /// One range, as soon as the table can be read: VACUUM FULL, for example, may take its time.
    async fn range(
        &self,
        sql: &str,
        heap: bool,
        range: &VerifyRange,
        blocks: (i64, i64),
    ) -> Result<Read> {
        let session = self.session;
        let begun = Instant::now();
        loop {
            let part = cancel_on_stop(session, self.one(sql, heap, range, blocks)).await;
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

    /// One range and its record, in a transaction of its own with one snapshot.
    async fn one(
        &self,
        sql: &str,
        heap: bool,
        range: &VerifyRange,
        blocks: (i64, i64),
    ) -> Result<Read> {
        let client = &self.session.work;
        begin(self.session, self.spec).await?;
        let read = self.in_transaction(sql, heap, range, blocks).await;
        match &read {
            Ok(Read::Done) => fault::around(Write::VerifyRange, commit(client)).await?,
            Err(error) if error.is_connection() => return read,
            Ok(Read::Other) | Err(_) => {
                client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
            }
        }
        read
    }

    async fn in_transaction(
        &self,
        sql: &str,
        heap: bool,
        range: &VerifyRange,
        (lo, hi): (i64, i64),
    ) -> Result<Read> {
        let client = &self.session.work;
        // Rows beyond the last block are later ones: right by the trigger, if there is one.
        let found = if heap {
            client.query_one(sql, &[&tid(lo), &tid(hi)]).await
        } else {
            client.query_one(sql, &[]).await
        };
        let found = found.map_err(|e| failed(self.spec, e))?;
        // The read holds a lock on the relation: its file stays to the end of the transaction.
        let guard = self.guard(range.relation).await?;
        if guard.filenode != range.filenode || guard.text != range.guard {
            return Ok(Read::Other);
        }
        let wrong: i64 = found.get(0);
        let tids: Vec<String> = found.get::<_, Option<_>>(1).unwrap_or_default();
        if !tids.is_empty() {
            client.batch_execute(EXACT_TEXT).await.map_err(from_pg)?;
            let rows = client
                .query(&self.spec.keys_sql(&range.name), &[&tids])
                .await
                .map_err(from_pg)?;
            let tids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            let keys: Vec<serde_json::Value> = rows.iter().map(|row| row.get(1)).collect();
            verifications::list_wrong(client, self.id, range.relation, &tids, &keys).await?;
        }
        if let Some(run) = self.session.run {
            runs::fence(client, run, self.session.epoch).await?;
        }
        verifications::advance(client, self.id, range.relation, (lo, hi), wrong).await?;
        Ok(Read::Done)
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

/// Begins a transaction that reads rows as the author's text means them. Its commit is
/// asynchronous: what a crash takes is read once more.
pub(in crate::exec) async fn begin(session: &Session, spec: &VerifySpec) -> Result<()> {
    session
        .work
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL statement_timeout = 0; \
             SET LOCAL lock_timeout = '2s'; SET LOCAL row_security = off; \
             SET LOCAL synchronous_commit = off; \
             SET LOCAL idle_in_transaction_session_timeout = '5s'; \
             SELECT set_config('search_path', {}, true)",
            literal(&spec.search_path)
        ))
        .await
        .map_err(from_pg)
}

/// The author's expressions were checked in plan: it is a row that is wrong, not the input.
pub(super) fn failed(spec: &VerifySpec, error: tokio_postgres::Error) -> Error {
    let error = from_pg(error);
    let kind = match error.kind() {
        ErrorKind::Usage => ErrorKind::Findings,
        kind => kind,
    };
    error
        .with_kind(kind)
        .context(format!("{} cannot be verified", spec.table))
        .hint("the expression fails for a row; mend the row and `pgshift resume`")
}
