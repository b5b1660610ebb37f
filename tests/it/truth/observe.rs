//! What a statement does on a real server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pgshift::lock::LockMode;
use pgshift::plan::work::Work;
use tokio_postgres::Client;

use super::super::support::{Db, message};

/// A relation before the statement, in schemas that are not the system's.
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) name: String,
    kind: String,
    /// Of an index, its table; else itself.
    pub(super) table: u32,
    file: u32,
    schema: String,
}

impl Relation {
    pub(super) fn is_index(&self) -> bool {
        self.kind == "i" || self.kind == "I"
    }
}

/// What happened.
pub(super) struct Observed {
    pub(super) locks: BTreeMap<u32, LockMode>,
    pub(super) work: Work,
}

const RELATIONS: &str = "
SELECT c.oid, c.relname::text, c.relkind::text, coalesce(x.indrelid, c.oid), c.relfilenode,
       n.nspname::text
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index x ON x.indexrelid = c.oid
WHERE c.relkind <> 'c' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 2";

/// The relations of the schema that is first in the path; their names are their own.
pub(super) async fn relations(client: &Client) -> Vec<Relation> {
    let schema: String = client
        .query_one("SELECT current_schema()::text", &[])
        .await
        .expect("current_schema")
        .get(0);
    all(client)
        .await
        .into_iter()
        .filter(|r| r.schema == schema)
        .collect()
}

async fn all(client: &Client) -> Vec<Relation> {
    let rows = client.query(RELATIONS, &[]).await.expect("pg_class");
    rows.iter()
        .map(|row| Relation {
            oid: row.get(0),
            name: row.get(1),
            kind: row.get(2),
            table: row.get(3),
            file: row.get(4),
            schema: row.get(5),
        })
        .collect()
}

async fn locks(client: &Client, pid: i32, waiting: bool) -> BTreeMap<u32, LockMode> {
    let rows = client
        .query(
            "SELECT relation, mode FROM pg_locks
             WHERE locktype = 'relation' AND pid = $1 AND (granted OR $2)
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[&pid, &waiting],
        )
        .await
        .expect("pg_locks");
    let mut found = BTreeMap::new();
    for row in rows {
        let name: String = row.get(1);
        let mode = LockMode::ALL
            .into_iter()
            .find(|m| m.pg_locks_name() == name)
            .expect("a mode");
        let held = found.entry(row.get(0)).or_insert(mode);
        *held = mode.max(*held);
    }
    found
}

/// Rows read from each of the relations so far in this transaction.
async fn read(client: &Client, relations: &[Relation]) -> Vec<i64> {
    let oids: Vec<u32> = relations.iter().map(|r| r.oid).collect();
    client
        .query(
            "SELECT coalesce(pg_stat_get_xact_tuples_returned(o), 0)
                  + coalesce(pg_stat_get_xact_tuples_fetched(o), 0)
             FROM unnest($1::oid[]) WITH ORDINALITY AS u(o, n) ORDER BY n",
            &[&oids],
        )
        .await
        .expect("pg_stat")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn is_filled(client: &Client, oid: u32) -> bool {
    client
        .query_one("SELECT coalesce(pg_relation_size($1::oid), 0) > 0", &[&oid])
        .await
        .expect("pg_relation_size")
        .get(0)
}

async fn files(client: &Client, before: &[Relation]) -> Work {
    let tables: BTreeMap<u32, &Relation> = before
        .iter()
        .filter(|r| matches!(r.kind.as_str(), "r" | "m"))
        .map(|r| (r.oid, r))
        .collect();
    let indexes: BTreeSet<u32> = before
        .iter()
        .filter(|r| r.is_index())
        .map(|r| r.file)
        .collect();
    let mut work = Work::None;
    for now in all(client).await {
        let Some(was) = tables.get(&now.table) else {
            continue;
        };
        if now.oid == now.table && now.file != was.file && is_filled(client, now.oid).await {
            work = Work::Rewrite;
        }
        if now.kind == "i" && !indexes.contains(&now.file) && is_filled(client, was.oid).await {
            work = work.max(Work::IndexBuild);
        }
    }
    work
}

async fn pid(client: &Client) -> i32 {
    client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .expect("pg_backend_pid")
        .get(0)
}

/// Runs it in a transaction that is rolled back.
pub(super) async fn in_transaction(
    client: &Client,
    sql: &str,
    relations: &[Relation],
) -> Result<Observed, String> {
    let run = async |sql: &str| {
        client
            .batch_execute(sql)
            .await
            .map_err(|e| format!("{} in: {sql}", message(&e)))
    };
    run("BEGIN").await?;
    let observed = async {
        let rows = read(client, relations).await;
        run(sql).await?;
        let locks = locks(client, pid(client).await, false).await;
        let read_now = read(client, relations).await;
        let scanned = relations
            .iter()
            .zip(rows.iter().zip(&read_now))
            .any(|(r, (was, now))| !r.is_index() && now > was);
        let scan = if scanned { Work::Scan } else { Work::None };
        let work = files(client, relations).await.max(scan);
        Ok(Observed { locks, work })
    }
    .await;
    run("ROLLBACK").await?;
    observed
}

/// Runs it in a session of its own, which `holder` keeps from going on: the locks that it holds and
/// waits for then. It is let go on to its end.
pub(super) async fn held(
    db: &Db,
    client: &Client,
    session: &str,
    holder: &str,
    sql: &str,
    relations: &[Relation],
) -> Result<Observed, String> {
    let other = db.client().await;
    let runner = db.client().await;
    let path: String = client
        .query_one("SHOW search_path", &[])
        .await
        .expect("search_path")
        .get(0);
    let settings = format!("SET search_path = {path}; {session}");
    for c in [&other, &runner] {
        c.batch_execute(&settings).await.expect("settings");
    }
    let failed = |e: tokio_postgres::Error, sql: &str| format!("{} in: {sql}", message(&e));
    other
        .batch_execute(&format!("BEGIN; {holder}"))
        .await
        .map_err(|e| failed(e, holder))?;
    let runner_pid = pid(&runner).await;
    let text = sql.to_owned();
    let task = tokio::spawn(async move { runner.batch_execute(&text).await });
    let mut locks_seen = BTreeMap::new();
    for _ in 0..400 {
        let waits: bool = client
            .query_one(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND NOT granted)",
                &[&runner_pid],
            )
            .await
            .expect("pg_locks")
            .get(0);
        if waits || task.is_finished() {
            locks_seen = locks(client, runner_pid, true).await;
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let finished = task.is_finished();
    other.batch_execute("ROLLBACK").await.expect("ROLLBACK");
    task.await.expect("the task").map_err(|e| failed(e, sql))?;
    if finished || locks_seen.is_empty() {
        return Err("it did not stand still".to_owned());
    }
    let work = files(client, relations).await;
    Ok(Observed {
        locks: locks_seen,
        work,
    })
}
