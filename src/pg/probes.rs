//! Thin reads of the server's state, for the throttle and for the executor.
//!
//! Each is one round trip with an unnamed statement, so it works through a transaction pooler too.
//! What the role may not see is an error or `None`, never a reassuring value.

mod health;
mod pgbouncer;
mod sessions;

use std::time::Duration;

use chrono::{DateTime, Utc};

use serde::Serialize;
use tokio_postgres::types::{PgLsn, ToSql, Type};
use tokio_postgres::{Client, Row};

pub use health::{
    Archive, Slot, archive, blocked_by_us, forced_checkpoints, free_connections, not_vacuumed,
    prepare_vacuum, rewriting_rules, slots, vacuums, wal_insert_lsn,
};
pub use pgbouncer::{Console, Queues};
pub use sessions::{Blocked, Blocker, blocked_by, blockers_of, would_block};

use super::read::{failed, get, seconds};
use crate::backfill::Horizon;
use crate::error::{Error, Result};

async fn query(
    client: &Client,
    what: &str,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Vec<Row>> {
    client
        .query_typed(sql, parameters)
        .await
        .map_err(|e| failed(&format!("cannot read {what}"), e))
}

async fn query_one(
    client: &Client,
    what: &str,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Row> {
    client
        .query_typed_one(sql, parameters)
        .await
        .map_err(|e| failed(&format!("cannot read {what}"), e))
}

fn unreadable(client_role: &str, what: &str) -> Error {
    Error::refused(format!(
        "role {client_role} cannot see {what}: it is not a member of pg_monitor"
    ))
    .hint(format!("GRANT pg_monitor TO {client_role}"))
}

/// What streams WAL from this server: a standby, a logical subscriber, or an archive receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replica {
    /// `application_name`, with the address or process id where several have the same.
    pub name: String,
    /// `pg_stat_replication.state`: `startup`, `catchup`, `streaming`, `backup` or `stopping`.
    pub state: String,
    /// WAL bytes written here and not yet replayed there. `None` where the receiver does not
    /// replay (`pg_receivewal`, a base backup) or has not reported yet.
    pub replay_bytes: Option<i64>,
    /// `replay_lag`, but zero where no byte is missing: the column keeps its last value for a
    /// while on an idle standby. `None` where the receiver does not replay or the server has not
    /// measured it. It is an estimate from the standby's reports; where replay stops it can stay
    /// behind the truth, so bound `replay_bytes` too.
    pub replay_lag: Option<Duration>,
}

const REPLICAS: &str = "
SELECT coalesce(nullif(r.application_name, ''), 'replica') AS name,
       coalesce(host(r.client_addr), 'pid ' || r.pid) AS place,
       r.state, current_user::text AS role,
       CASE WHEN w.lsn <= r.replay_lsn THEN 0
            ELSE pg_wal_lsn_diff(w.lsn, r.replay_lsn)
       END::bigint AS bytes,
       CASE WHEN w.lsn <= r.replay_lsn THEN 0
            WHEN r.replay_lsn IS NOT NULL THEN extract(epoch FROM r.replay_lag)
       END::float8 AS lag
FROM (SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
                  ELSE pg_current_wal_lsn() END AS lsn) AS w
CROSS JOIN pg_stat_replication r
ORDER BY 1, 2";

/// The receivers of this server's WAL (`pg_stat_replication`), by name.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] where there are some and the role may not see their state: that
/// takes membership in `pg_monitor`.
pub async fn replicas(client: &Client) -> Result<Vec<Replica>> {
    let rows = query(client, "pg_stat_replication", REPLICAS, &[]).await?;
    let mut replicas = Vec::new();
    let mut places = Vec::new();
    for row in &rows {
        let Some(state) = get::<Option<String>>(row, "state")? else {
            return Err(unreadable(
                &get::<String>(row, "role")?,
                "the state of the replicas",
            ));
        };
        places.push(get::<String>(row, "place")?);
        replicas.push(Replica {
            name: get(row, "name")?,
            state,
            replay_bytes: get(row, "bytes")?,
            replay_lag: seconds(row, "lag")?,
        });
    }
    tell_apart(&mut replicas, &places);
    Ok(replicas)
}

/// Adds the place to names that occur more than once, so that readings can be kept by name.
fn tell_apart(replicas: &mut [Replica], places: &[String]) {
    let names: Vec<String> = replicas.iter().map(|r| r.name.clone()).collect();
    for (replica, place) in replicas.iter_mut().zip(places) {
        if names.iter().filter(|n| **n == replica.name).count() > 1 {
            replica.name = format!("{} ({place})", replica.name);
        }
    }
}

/// What holds back the removal of dead rows in this database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OldestSnapshot {
    /// Who: `pid 41 (alice, psql)`, `prepared transaction "x"`, `replication slot s`.
    pub holder: String,
    /// Transaction ids assigned since the snapshot.
    pub transactions: i64,
    /// How long the transaction is open; `None` for a slot.
    pub age: Option<Duration>,
    /// A slot that nobody reads: it holds until it is dropped.
    pub idle_slot: bool,
}

/// A transaction that is open for this long is worth a word.
const LONG: Duration = Duration::from_mins(5);

impl OldestSnapshot {
    /// True where it is not to be expected that it goes by itself within minutes.
    pub fn is_old(&self) -> bool {
        self.idle_slot || self.age.is_some_and(|age| age >= LONG)
    }
}

/// A session holds dead rows by its snapshot, and by its transaction's id between statements too.
/// A walsender's xmin (`hot_standby_feedback`) and a slot's hold back every database; VACUUM itself
/// holds back nothing.
const OLDEST_SNAPSHOT: &str = "
WITH a AS MATERIALIZED (
    SELECT * FROM pg_stat_activity WHERE pid <> pg_backend_pid()),
held AS (
    SELECT format('pid %s (%s)', a.pid,
                  concat_ws(', ', a.usename, nullif(a.application_name, ''))) AS holder,
           greatest(age(a.backend_xmin), age(a.backend_xid)) AS transactions,
           clock_timestamp() - a.xact_start AS age, false AS idle
    FROM a
    WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
      AND (a.datname = current_database() OR a.backend_type = 'walsender')
      AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)
    UNION ALL
    SELECT format('prepared transaction %s', quote_literal(p.gid)), age(p.transaction),
           clock_timestamp() - p.prepared, false
    FROM pg_prepared_xacts p WHERE p.database = current_database()
    UNION ALL
    SELECT format('replication slot %s', s.slot_name), age(s.xmin), NULL, NOT s.active
    FROM pg_replication_slots s WHERE s.xmin IS NOT NULL)
SELECT (SELECT count(*) FROM a WHERE a.query = '<insufficient privilege>') AS hidden,
       current_user::text AS role,
       h.holder, h.transactions::bigint AS transactions, h.idle,
       extract(epoch FROM h.age)::float8 AS age
FROM (SELECT) AS one
LEFT JOIN LATERAL (
    SELECT * FROM held ORDER BY transactions DESC, age DESC NULLS LAST LIMIT 1) AS h ON true";

/// The oldest snapshot that keeps VACUUM from removing dead rows; `None` where there is none
/// beside our own.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] where other roles' sessions are hidden from this one.
pub async fn oldest_snapshot_age(client: &Client) -> Result<Option<OldestSnapshot>> {
    let row = query_one(client, "pg_stat_activity", OLDEST_SNAPSHOT, &[]).await?;
    if get::<i64>(&row, "hidden")? > 0 {
        return Err(unreadable(
            &get::<String>(&row, "role")?,
            "the transactions of other roles",
        ));
    }
    let Some(holder) = get(&row, "holder")? else {
        return Ok(None);
    };
    Ok(Some(OldestSnapshot {
        holder,
        transactions: get(&row, "transactions")?,
        age: seconds(&row, "age")?,
        idle_slot: get(&row, "idle")?,
    }))
}

/// As [`OLDEST_SNAPSHOT`] has it. Snapshot and id are shown to every role. VACUUM holds back
/// nothing; sessions without a database are walsenders, whose xmin (`hot_standby_feedback`) holds
/// back every database.
const HORIZON: &str = "
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next,
       greatest(
           (SELECT max(greatest(CASE WHEN o.own THEN age(a.backend_xmin) END,
                                CASE WHEN o.own OR $1 THEN age(a.backend_xid) END))
            FROM pg_stat_activity a,
                 LATERAL (SELECT coalesce(a.datname = current_database(), true) AS own) AS o
            WHERE a.pid <> pg_backend_pid()
              AND a.pid NOT IN (SELECT v.pid FROM pg_stat_progress_vacuum v)),
           (SELECT max(age(p.transaction)) FROM pg_prepared_xacts p
            WHERE $1 OR p.database = current_database()),
           (SELECT max(age(s.xmin)) FROM pg_replication_slots s), 0)::bigint AS age";

/// Who removes dead rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// A query that meets a nearly full page. It goes by its own snapshot, which is no newer than
    /// the oldest running transaction of any database (`GetSnapshotData`, `procarray.c`).
    Pruning,
    /// VACUUM, which counts this database's transactions (`ComputeXidHorizons`).
    Vacuum,
}

/// How far back sessions, prepared transactions and slots keep dead rows of this database from
/// being removed.
///
/// # Errors
/// A lost connection.
pub async fn horizon(client: &Client, by: Removal) -> Result<Horizon> {
    let all = by == Removal::Pruning;
    let row = query_one(client, "pg_stat_activity", HORIZON, &[(&all, Type::BOOL)]).await?;
    let next: i64 = get(&row, "next")?;
    let age: i64 = get(&row, "age")?;
    Ok(Horizon {
        next,
        oldest: next - age,
    })
}

/// The storage of a relation at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RelationState {
    /// `pg_relation_filenode`; changes when the table is rewritten (VACUUM FULL, CLUSTER,
    /// TRUNCATE), which moves every row.
    pub filenode: u32,
    /// Size of the main fork in blocks.
    pub blocks: i64,
}

const RELATION_STATE: &str = "
SELECT pg_relation_filenode($1::oid) AS filenode,
       pg_relation_size($1::oid, 'main') / current_setting('block_size')::int AS blocks";

/// The storage of a relation; `None` where it has none or does not exist.
///
/// Takes ACCESS SHARE on the relation for the size, so it can wait behind ACCESS EXCLUSIVE: set
/// `lock_timeout`, or call it in a transaction that holds a lock already.
pub async fn relation_state(client: &Client, oid: u32) -> Result<Option<RelationState>> {
    let row = query_one(
        client,
        "the table's storage",
        RELATION_STATE,
        &[(&oid, Type::OID)],
    )
    .await?;
    Ok(get::<Option<u32>>(&row, "filenode")?
        .zip(get::<Option<i64>>(&row, "blocks")?)
        .map(|(filenode, blocks)| RelationState { filenode, blocks }))
}

/// `shared_buffers` in blocks.
///
/// # Errors
/// A lost connection.
pub async fn shared_buffers(client: &Client) -> Result<i64> {
    let sql = "SELECT pg_size_bytes(current_setting('shared_buffers'))
                      / current_setting('block_size')::bigint AS blocks";
    get(
        &query_one(client, "shared_buffers", sql, &[]).await?,
        "blocks",
    )
}

/// The server's clock.
pub async fn now(client: &Client) -> Result<DateTime<Utc>> {
    let sql = "SELECT clock_timestamp() AS now";
    get(&query_one(client, "the time", sql, &[]).await?, "now")
}

/// True on a standby.
pub async fn is_in_recovery(client: &Client) -> Result<bool> {
    let sql = "SELECT pg_is_in_recovery() AS yes";
    get(
        &query_one(client, "the recovery state", sql, &[]).await?,
        "yes",
    )
}

/// The WAL write position in bytes (on a standby, the replay position); differences are WAL bytes.
pub async fn wal_lsn(client: &Client) -> Result<u64> {
    let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
               ELSE pg_current_wal_lsn() END AS lsn";
    let lsn: PgLsn = get(
        &query_one(client, "the WAL position", sql, &[]).await?,
        "lsn",
    )?;
    Ok(lsn.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str) -> Replica {
        Replica {
            name: name.to_owned(),
            state: "streaming".to_owned(),
            replay_bytes: Some(0),
            replay_lag: Some(Duration::ZERO),
        }
    }

    #[test]
    fn replicas_of_one_name_are_told_apart_by_place() {
        let mut replicas = [replica("a"), replica("walreceiver"), replica("walreceiver")];
        tell_apart(
            &mut replicas,
            &["10.0.0.1".into(), "10.0.0.2".into(), "pid 7".into()],
        );
        let names: Vec<_> = replicas.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(
            names,
            ["a", "walreceiver (10.0.0.2)", "walreceiver (pid 7)"]
        );
    }
}
