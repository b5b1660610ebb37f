//! Who waits for whom.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::super::read::{get, seconds};
use super::query;
use crate::error::Result;

/// Characters of a query that are kept.
const QUERY_LENGTH: usize = 200;

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn as_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(|d| d.as_secs_f64()).serialize(serializer)
}

/// A session, or a prepared transaction, that holds locks in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocker {
    /// Process id; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// Global identifier of a prepared transaction.
    pub prepared: Option<String>,
    /// Role.
    pub user: Option<String>,
    /// What the client calls itself; `None` where it does not.
    pub application_name: Option<String>,
    /// `active`, `idle in transaction` …; `None` for a prepared transaction, and where the role
    /// may not see it.
    pub state: Option<String>,
    /// `client backend`, `autovacuum worker` (which gives way by itself, except against
    /// wraparound) …
    pub backend_type: Option<String>,
    /// How long its transaction is open, in JSON seconds.
    #[serde(serialize_with = "as_seconds")]
    pub transaction_age: Option<Duration>,
    /// Its last query on one line, at most 200 characters; `None` where the role may not see it.
    pub query: Option<String>,
    /// The locks in the way: `RowExclusiveLock on public.orders`.
    pub locks: Vec<String>,
}

/// One line for people: `pid 41 (alice, psql, idle in transaction for 12s): UPDATE …`.
impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.prepared) {
            (Some(pid), _) => write!(f, "pid {pid}")?,
            (None, Some(gid)) => write!(f, "prepared transaction '{gid}'")?,
            (None, None) => f.write_str("a session that has ended")?,
        }
        let mut notes: Vec<String> = Vec::new();
        notes.extend(self.user.clone());
        notes.extend(self.application_name.clone());
        if let Some(kind) = &self.backend_type
            && kind != "client backend"
        {
            notes.push(kind.clone());
        }
        let state = self.state.as_deref().unwrap_or("in transaction");
        match self.transaction_age {
            Some(age) => notes.push(format!("{state} for {}", age_text(age))),
            None => notes.extend(self.state.clone()),
        }
        if !notes.is_empty() {
            write!(f, " ({})", notes.join(", "))?;
        }
        match &self.query {
            Some(query) => write!(f, ": {query}"),
            None => Ok(()),
        }
    }
}

/// Whole seconds from ten on, else milliseconds.
fn age_text(age: Duration) -> humantime::FormattedDuration {
    let age = if age.as_secs() >= 10 {
        Duration::from_secs(age.as_secs())
    } else {
        Duration::from_millis(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    };
    humantime::format_duration(age)
}

/// Folds white space, cuts to [`QUERY_LENGTH`] characters; `None` where there is nothing to show.
fn one_line(query: Option<String>) -> Option<String> {
    let query = query?;
    if query == "<insufficient privilege>" {
        return None;
    }
    let folded = query.split_whitespace().collect::<Vec<_>>().join(" ");
    if folded.is_empty() {
        return None;
    }
    if folded.chars().count() <= QUERY_LENGTH {
        return Some(folded);
    }
    let mut cut: String = folded.chars().take(QUERY_LENGTH - 1).collect();
    cut.push('…');
    Some(cut)
}

/// Completes `held(pid, vxid, mode, relation)`, one row per lock of the snapshot `l` of `pg_locks`,
/// to one row per holder.
///
/// A prepared transaction is found by the lock on its own transaction id. The documentation of
/// `pg_locks` joins by `'-1/' || transaction`, which holds only after a restart of the server:
/// until then the locks keep the virtual transaction id of the session that prepared it.
const HOLDERS: &str = "
SELECT h.pid, p.gid::text AS prepared,
       coalesce(a.usename, p.owner)::text AS usename,
       nullif(a.application_name, '') AS application_name, a.state, a.backend_type, a.query,
       extract(epoch FROM clock_timestamp()
               - coalesce(a.xact_start, p.prepared))::float8 AS transaction_age,
       array_agg(DISTINCT concat_ws(' on ', h.mode, n.nspname || '.' || c.relname))
           FILTER (WHERE h.mode IS NOT NULL) AS locks
FROM held h
LEFT JOIN pg_stat_activity a ON a.pid = h.pid
LEFT JOIN (l AS x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid)
       ON h.pid IS NULL AND x.pid IS NULL AND x.locktype = 'transactionid' AND x.granted
      AND x.virtualtransaction = h.vxid
LEFT JOIN pg_class c ON c.oid = h.relation
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE h.pid IS NOT NULL OR p.gid IS NOT NULL
GROUP BY h.pid, p.gid, coalesce(a.usename, p.owner), a.application_name, a.state,
         a.backend_type, a.query, coalesce(a.xact_start, p.prepared)
ORDER BY transaction_age DESC NULLS LAST, h.pid";

fn blocker(row: &Row) -> Result<Blocker> {
    Ok(Blocker {
        pid: get(row, "pid")?,
        prepared: get(row, "prepared")?,
        user: get(row, "usename")?,
        application_name: get(row, "application_name")?,
        state: get(row, "state")?,
        backend_type: get(row, "backend_type")?,
        transaction_age: seconds(row, "transaction_age")?,
        query: one_line(get(row, "query")?),
        locks: get::<Option<Vec<String>>>(row, "locks")?.unwrap_or_default(),
    })
}

const WOULD_BLOCK: &str = "
WITH l AS MATERIALIZED (SELECT * FROM pg_locks),
held AS MATERIALIZED (
    SELECT l.pid, l.virtualtransaction AS vxid, l.mode, l.relation
    FROM l
    WHERE l.locktype = 'relation' AND l.granted
      AND l.relation = ANY ($1::oid[]) AND l.mode = ANY ($2::text[])
      AND l.database IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
      AND l.pid IS DISTINCT FROM pg_backend_pid())";

/// Other sessions and prepared transactions that hold one of the lock modes `conflicting`
/// (`RowExclusiveLock` …, as in `pg_locks.mode`) on one of the relations (oids), oldest
/// transaction first.
pub async fn would_block(
    client: &Client,
    relations: &[u32],
    conflicting: &[&str],
) -> Result<Vec<Blocker>> {
    query(
        client,
        "pg_locks",
        &format!("{WOULD_BLOCK}{HOLDERS}"),
        &[
            (&relations, Type::OID_ARRAY),
            (&conflicting, Type::TEXT_ARRAY),
        ],
    )
    .await?
    .iter()
    .map(blocker)
    .collect()
}

/// `pg_blocking_pids` gives 0 for a prepared transaction; it is found by the object waited for.
const BLOCKERS_OF: &str = "
WITH l AS MATERIALIZED (SELECT * FROM pg_locks),
held AS MATERIALIZED (
    SELECT nullif(b.pid, 0) AS pid, o.virtualtransaction AS vxid, o.mode, o.relation
    FROM (SELECT DISTINCT unnest(pg_blocking_pids($1::int)) AS pid) AS b
    LEFT JOIN (l AS w
               JOIN l AS o
                 ON o.pid IS DISTINCT FROM w.pid
                AND ROW(o.locktype, o.database, o.relation, o.page, o.tuple, o.virtualxid,
                        o.transactionid, o.classid, o.objid, o.objsubid)
                    IS NOT DISTINCT FROM
                    ROW(w.locktype, w.database, w.relation, w.page, w.tuple, w.virtualxid,
                        w.transactionid, w.classid, w.objid, w.objsubid))
           ON w.pid = $1 AND NOT w.granted AND coalesce(o.pid, 0) = b.pid)";

/// What the session `pid` waits for: those that hold the lock or are before it in the queue.
/// Empty where it does not wait.
pub async fn blockers_of(client: &Client, pid: i32) -> Result<Vec<Blocker>> {
    query(
        client,
        "pg_locks",
        &format!("{BLOCKERS_OF}{HOLDERS}"),
        &[(&pid, Type::INT4)],
    )
    .await?
    .iter()
    .map(blocker)
    .collect()
}

/// A session that waits for a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// Process id.
    pub pid: i32,
    /// Role.
    pub user: Option<String>,
    /// What the client calls itself; `None` where it does not.
    pub application_name: Option<String>,
    /// How long it waits, in JSON seconds; `None` in the first instant.
    #[serde(serialize_with = "as_seconds")]
    pub waited: Option<Duration>,
    /// Its query on one line, at most 200 characters; `None` where the role may not see it.
    pub query: Option<String>,
    /// Those of the given sessions that it waits for.
    pub by: Vec<i32>,
}

/// `pg_locks` is visible to every role, unlike `wait_event`. `pg_blocking_pids` stops the lock
/// manager for an instant, so it is asked only for sessions that wait.
const BLOCKED_BY: &str = "
WITH waiting AS MATERIALIZED (
    SELECT l.pid, extract(epoch FROM clock_timestamp() - min(l.waitstart))::float8 AS waited
    FROM pg_locks l
    WHERE NOT l.granted AND l.pid IS NOT NULL AND l.pid <> ALL ($1::int[])
    GROUP BY l.pid),
blocked AS MATERIALIZED (
    SELECT w.pid, w.waited,
           ARRAY(SELECT DISTINCT b FROM unnest(pg_blocking_pids(w.pid)) AS b
                 WHERE b = ANY ($1) ORDER BY b) AS by
    FROM waiting w)
SELECT b.pid, b.waited, b.by, a.usename::text AS usename,
       nullif(a.application_name, '') AS application_name, a.query
FROM blocked b
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
WHERE cardinality(b.by) > 0
ORDER BY b.waited DESC NULLS LAST, b.pid";

/// The sessions that wait for a lock that one of the sessions `pids` holds or queues for,
/// longest wait first.
pub async fn blocked_by(client: &Client, pids: &[i32]) -> Result<Vec<Blocked>> {
    query(client, "pg_locks", BLOCKED_BY, &[(&pids, Type::INT4_ARRAY)])
        .await?
        .iter()
        .map(|row| {
            Ok(Blocked {
                pid: get(row, "pid")?,
                user: get(row, "usename")?,
                application_name: get(row, "application_name")?,
                waited: seconds(row, "waited")?,
                query: one_line(get(row, "query")?),
                by: get(row, "by")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocker() -> Blocker {
        Blocker {
            pid: Some(41),
            prepared: None,
            user: Some("alice".to_owned()),
            application_name: Some("psql".to_owned()),
            state: Some("idle in transaction".to_owned()),
            backend_type: Some("client backend".to_owned()),
            transaction_age: Some(Duration::from_millis(12_345)),
            query: Some("UPDATE t SET a = 1".to_owned()),
            locks: vec!["RowExclusiveLock on public.t".to_owned()],
        }
    }

    #[test]
    fn a_blocker_reads_as_one_line() {
        assert_eq!(
            blocker().to_string(),
            "pid 41 (alice, psql, idle in transaction for 12s): UPDATE t SET a = 1"
        );
        let prepared = Blocker {
            pid: None,
            prepared: Some("x1".to_owned()),
            application_name: None,
            state: None,
            backend_type: None,
            query: None,
            ..blocker()
        };
        assert_eq!(
            prepared.to_string(),
            "prepared transaction 'x1' (alice, in transaction for 12s)"
        );
        let hidden = Blocker {
            state: None,
            backend_type: None,
            transaction_age: None,
            query: None,
            ..blocker()
        };
        assert_eq!(hidden.to_string(), "pid 41 (alice, psql)");
    }

    #[test]
    fn a_query_is_folded_and_cut_at_characters() {
        assert_eq!(
            one_line(Some(" SELECT\n\t1,\r\n  2 ".to_owned())).as_deref(),
            Some("SELECT 1, 2")
        );
        let long = one_line(Some("ж".repeat(300))).unwrap();
        assert_eq!(long.chars().count(), 200);
        assert!(long.ends_with('…'));
        assert_eq!(one_line(Some("<insufficient privilege>".to_owned())), None);
        assert_eq!(one_line(Some("\n ".to_owned())), None);
        assert_eq!(one_line(None), None);
    }

    #[test]
    fn ages_are_seconds_in_json() {
        let json = serde_json::to_value(blocker()).unwrap();
        assert_eq!(json["transaction_age"], 12.345);
    }
}
