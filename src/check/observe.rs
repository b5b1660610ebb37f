//! What the steps of a run really do to tables: locks, rewrites, times.
//!
//! On a server where event triggers may be made, a trigger at the end of every DDL command records
//! the locks that its transaction holds, exactly, and another one every rewrite. Besides, and
//! alone where they may not be made, a second session looks at `pg_locks` again and again, which
//! also sees `… CONCURRENTLY` and plain statements, but may miss what is over in a millisecond;
//! rewrites are then told by new file numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::place::SCHEMA;
use crate::catalog::QName;
use crate::error::Result;
use crate::event::{Event, Sink};
use crate::lock::{LockMode, LockOn};
use crate::pg::error::from_pg;
use crate::plan::{Phase, Step};
use crate::sql::RelName;

/// Time between two looks at `pg_locks`.
const LOOK: Duration = Duration::from_millis(2);

/// `{step}` is the step that a runner is at.
const TRIGGERS: &str = "
CREATE SCHEMA IF NOT EXISTS pgshift_check;
CREATE TABLE pgshift_check.seen (
    run bigint, step integer, kind text NOT NULL, relation oid NOT NULL, name text, mode text);
CREATE FUNCTION pgshift_check.locks() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
BEGIN
    IF to_regclass('pgshift.step') IS NULL THEN RETURN; END IF;
    INSERT INTO pgshift_check.seen
    SELECT s.run_id, s.ordinal, 'lock', l.relation, l.relation::regclass::text, l.mode
    FROM pg_locks l, (SELECT run_id, ordinal FROM pgshift.step WHERE state = 'running'
                      ORDER BY run_id DESC, ordinal DESC LIMIT 1) AS s
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
      AND l.relation >= 16384
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database());
END $$;
CREATE FUNCTION pgshift_check.rewrites() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
BEGIN
    IF to_regclass('pgshift.step') IS NULL THEN RETURN; END IF;
    INSERT INTO pgshift_check.seen
    SELECT run_id, ordinal, 'rewrite', pg_event_trigger_table_rewrite_oid(),
           pg_event_trigger_table_rewrite_oid()::regclass::text, NULL
    FROM pgshift.step WHERE state = 'running' ORDER BY run_id DESC, ordinal DESC LIMIT 1;
END $$;
CREATE EVENT TRIGGER pgshift_check_locks ON ddl_command_end
    EXECUTE FUNCTION pgshift_check.locks();
CREATE EVENT TRIGGER pgshift_check_drops ON sql_drop
    EXECUTE FUNCTION pgshift_check.locks();
CREATE EVENT TRIGGER pgshift_check_rewrites ON table_rewrite
    EXECUTE FUNCTION pgshift_check.rewrites()";

/// Puts the event triggers in place.
pub(super) async fn install(client: &Client) -> Result<()> {
    client.batch_execute(TRIGGERS).await.map_err(from_pg)
}

/// A step as it went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSeen {
    /// What the run did: `apply`, `revert`, …
    pub stage: &'static str,
    /// Its number in the run, from 1.
    pub step: usize,
    /// Its phase.
    pub phase: Phase,
    /// What it does.
    pub title: String,
    /// From its start to its end, in milliseconds.
    pub ms: f64,
    /// Locks that the plan said, for people.
    pub predicted: Vec<String>,
    /// The strongest lock seen on each table that was there before the run.
    pub locks: BTreeMap<String, LockMode>,
    /// Tables that were there before the run and were written anew.
    pub rewrites: BTreeSet<String>,
}

/// A table before a run.
#[derive(Debug, Clone)]
struct Known {
    name: QName,
    /// The tables that it is a partition of.
    above: Vec<QName>,
    filenode: Option<u32>,
}

/// Collects the events of runs.
#[derive(Default)]
pub(super) struct Recorder {
    state: Mutex<Timeline>,
}

#[derive(Default)]
struct Timeline {
    current: Option<usize>,
    steps: Vec<(usize, Phase, String, Instant, Option<Instant>)>,
    /// Looks of the second session: step → relation and mode.
    looks: BTreeSet<(usize, u32, String)>,
}

impl Recorder {
    fn with<T>(&self, work: impl FnOnce(&mut Timeline) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The step that began and did not end.
    pub(super) fn unfinished(&self) -> Option<usize> {
        self.with(|t| t.current)
    }
}

impl Sink for Recorder {
    fn event(&self, _migration: &str, event: &Event) {
        let now = Instant::now();
        self.with(|t| match event {
            Event::RunStarted { .. } => *t = Timeline::default(),
            Event::StepStarted { step, phase, title } => {
                t.current = Some(*step);
                t.steps.push((*step, *phase, title.clone(), now, None));
            }
            Event::StepDone { step, .. } => {
                t.current = None;
                if let Some(s) = t.steps.iter_mut().rev().find(|s| s.0 == *step) {
                    s.4 = Some(now);
                }
            }
            _ => {}
        });
    }
}

/// Watches one run.
pub(super) struct Watch {
    known: BTreeMap<u32, Known>,
    task: JoinHandle<()>,
    recorder: Arc<Recorder>,
}

const KNOWN: &str = "
SELECT c.oid, n.nspname::text, c.relname::text, pg_relation_filenode(c.oid),
       ARRAY(SELECT a.relname::text FROM pg_partition_ancestors(c.oid) p
             JOIN pg_class a ON a.oid = p.relid WHERE c.relispartition AND a.oid <> c.oid
             ORDER BY a.oid),
       ARRAY(SELECT s.nspname::text FROM pg_partition_ancestors(c.oid) p
             JOIN pg_class a ON a.oid = p.relid JOIN pg_namespace s ON s.oid = a.relnamespace
             WHERE c.relispartition AND a.oid <> c.oid ORDER BY a.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^(pg_(toast|temp)|pgshift(_check)?$)'";

async fn known(client: &Client) -> Result<BTreeMap<u32, Known>> {
    let rows = client.query(KNOWN, &[]).await.map_err(from_pg)?;
    Ok(rows
        .iter()
        .map(|row| {
            let (names, schemas): (Vec<String>, Vec<String>) = (row.get(4), row.get(5));
            let above = schemas
                .into_iter()
                .zip(names)
                .map(|(schema, name)| QName::new(schema, name))
                .collect();
            let known = Known {
                name: QName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
                above,
                filenode: row.get(3),
            };
            (row.get(0), known)
        })
        .collect())
}

const LOCKS: &str = "
SELECT DISTINCT l.relation, l.mode
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'relation' AND l.granted AND l.relation >= 16384
  AND a.application_name = 'pgshift' AND a.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())";

impl Watch {
    /// Begins; `looker` is a session for this alone.
    pub(super) async fn start(
        client: &Client,
        looker: Client,
        recorder: Arc<Recorder>,
    ) -> Result<Self> {
        let known = known(client).await?;
        if client_has_triggers(client).await? {
            client
                .batch_execute(&format!("TRUNCATE {SCHEMA}.seen"))
                .await
                .map_err(from_pg)?;
        }
        let statement = looker.prepare(LOCKS).await.map_err(from_pg)?;
        let to = recorder.clone();
        let task = tokio::spawn(async move {
            loop {
                let before = to.with(|t| t.current);
                if before.is_some() {
                    let Ok(rows) = looker.query(&statement, &[]).await else {
                        return;
                    };
                    to.with(|t| {
                        // A step that ended meanwhile may have been followed by another's locks.
                        if let Some(step) = t.current.filter(|now| Some(*now) == before) {
                            t.looks
                                .extend(rows.iter().map(|r| (step, r.get(0), r.get(1))));
                        }
                    });
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        Ok(Self {
            known,
            task,
            recorder,
        })
    }

    /// Ends, and gives what was seen. `steps` are those of the run.
    pub(super) async fn end(
        self,
        client: &Client,
        stage: &'static str,
        steps: &[Step],
    ) -> Result<Vec<StepSeen>> {
        self.task.abort();
        let mut seen: Vec<StepSeen> = self.recorder.with(|t| {
            t.steps
                .iter()
                .map(|(step, phase, title, from, to)| StepSeen {
                    stage,
                    step: *step,
                    phase: *phase,
                    title: title.clone(),
                    ms: to.unwrap_or(*from).duration_since(*from).as_secs_f64() * 1000.0,
                    predicted: steps.get(step - 1).map_or(Vec::new(), |s| {
                        s.locks.iter().map(ToString::to_string).collect()
                    }),
                    locks: BTreeMap::new(),
                    rewrites: BTreeSet::new(),
                })
                .collect()
        });
        let mut locks: Vec<(usize, u32, String)> =
            self.recorder.with(|t| t.looks.iter().cloned().collect());
        let exact = client_has_triggers(client).await?;
        if exact {
            let sql = format!("SELECT step, relation, kind, mode FROM {SCHEMA}.seen");
            for row in client.query(&sql, &[]).await.map_err(from_pg)? {
                let (step, oid): (i32, u32) = (row.get(0), row.get(1));
                if row.get::<_, String>(2) == "lock" {
                    locks.push((step as usize, oid, row.get(3)));
                } else if let Some(table) = self.known.get(&oid)
                    && let Some(s) = seen.iter_mut().find(|s| s.step == step as usize)
                {
                    s.rewrites.insert(table.name.to_string());
                }
            }
        } else {
            let now = known(client).await?;
            for (oid, was) in &self.known {
                let is = now.get(oid).and_then(|k| k.filenode);
                if is.is_some()
                    && is != was.filenode
                    && let Some(last) = seen.last_mut()
                {
                    last.rewrites.insert(was.name.to_string());
                }
            }
        }
        for (step, oid, mode) in locks {
            let mode = LockMode::ALL
                .into_iter()
                .find(|m| m.pg_locks_name() == mode);
            if let (Some(mode), Some(table)) = (mode, self.known.get(&oid))
                && let Some(s) = seen.iter_mut().find(|s| s.step == step)
            {
                let strongest = s.locks.entry(table.name.to_string()).or_insert(mode);
                *strongest = mode.max(*strongest);
            }
        }
        let above: BTreeMap<String, Vec<QName>> = self
            .known
            .values()
            .map(|k| {
                let mut all = k.above.clone();
                all.push(k.name.clone());
                (k.name.to_string(), all)
            })
            .collect();
        for s in &mut seen {
            if let Some(step) = steps.get(s.step - 1) {
                s.locks.retain(|table, mode| {
                    *mode >= LockMode::ShareUpdateExclusive
                        || above
                            .get(table)
                            .is_some_and(|names| predicted(&step.locks, names).is_some())
                });
            }
        }
        Ok(seen)
    }

    /// The names under which the plan may know a table: its own and those above it.
    pub(super) fn names(&self) -> BTreeMap<String, Vec<QName>> {
        self.known
            .values()
            .map(|k| {
                let mut all = k.above.clone();
                all.push(k.name.clone());
                (k.name.to_string(), all)
            })
            .collect()
    }
}

async fn client_has_triggers(client: &Client) -> Result<bool> {
    let sql = format!("SELECT to_regclass('{SCHEMA}.seen') IS NOT NULL");
    let row = client.query_one(&sql, &[]).await.map_err(from_pg)?;
    Ok(row.get(0))
}

/// The strongest lock that is predicted on a table known by these names.
fn predicted(locks: &[LockOn], names: &[QName]) -> Option<LockMode> {
    let is = |relation: &RelName, name: &QName| {
        relation.name == name.name
            && relation
                .schema
                .as_ref()
                .is_none_or(|schema| *schema == name.schema)
    };
    locks
        .iter()
        .filter(|lock| match &lock.relation {
            None => true,
            Some(relation) => names.iter().any(|name| is(relation, name)),
        })
        .map(|lock| lock.mode)
        .max()
}

/// Locks that reads and writes of the application notice and that the plan did not say: (table,
/// seen, said). Locks of plain reads and writes (up to ROW EXCLUSIVE) are not looked at.
pub(super) fn stronger(
    seen: &StepSeen,
    step: &Step,
    names: &BTreeMap<String, Vec<QName>>,
) -> Vec<(String, LockMode, Option<LockMode>)> {
    seen.locks
        .iter()
        .filter(|(_, mode)| **mode >= LockMode::ShareUpdateExclusive)
        .filter_map(|(table, mode)| {
            let said = predicted(&step.locks, names.get(table).map_or(&[], Vec::as_slice));
            (said < Some(*mode)).then(|| (table.clone(), *mode, said))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(schema: Option<&str>, name: &str, mode: LockMode) -> LockOn {
        LockOn {
            relation: Some(RelName {
                schema: schema.map(str::to_owned),
                name: name.to_owned(),
            }),
            mode,
        }
    }

    #[test]
    fn what_is_stronger_than_said_is_told() {
        let step = Step::sql(Phase::Expand, "x", Vec::new()).locks(vec![
            lock(Some("public"), "orders", LockMode::ShareUpdateExclusive),
            lock(None, "parts", LockMode::AccessExclusive),
        ]);
        let name = |n: &str| QName::new("public", n);
        let names = BTreeMap::from([
            ("public.orders".to_owned(), vec![name("orders")]),
            (
                "public.parts_1".to_owned(),
                vec![name("parts"), name("parts_1")],
            ),
            ("public.other".to_owned(), vec![name("other")]),
        ]);
        let seen = |locks: &[(&str, LockMode)]| StepSeen {
            stage: "apply",
            step: 1,
            phase: Phase::Expand,
            title: "x".to_owned(),
            ms: 1.0,
            predicted: Vec::new(),
            locks: locks.iter().map(|(t, m)| ((*t).to_owned(), *m)).collect(),
            rewrites: BTreeSet::new(),
        };
        let fine = seen(&[
            ("public.orders", LockMode::ShareUpdateExclusive),
            ("public.parts_1", LockMode::AccessExclusive),
            ("public.other", LockMode::RowExclusive),
        ]);
        assert_eq!(stronger(&fine, &step, &names), []);
        let not = seen(&[
            ("public.orders", LockMode::Share),
            ("public.other", LockMode::ShareRowExclusive),
        ]);
        assert_eq!(
            stronger(&not, &step, &names),
            [
                (
                    "public.orders".to_owned(),
                    LockMode::Share,
                    Some(LockMode::ShareUpdateExclusive)
                ),
                ("public.other".to_owned(), LockMode::ShareRowExclusive, None),
            ]
        );
    }
}
