//! Probes of the server's health beside replication: slots, connections, sessions that wait for
//! us, the archiver, VACUUM.

use std::collections::BTreeSet;

use serde::Serialize;
use tokio_postgres::Client;
use tokio_postgres::types::{PgLsn, ToSql, Type};

use super::super::read::get;
use super::{query, query_one};
use crate::error::Result;

/// A replication slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// Name.
    pub name: String,
    /// `pg_replication_slots.wal_status`: `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL bytes that may still be written before the slot is lost; `None` where
    /// `max_slot_wal_keep_size` sets no end.
    pub safe_wal_size: Option<i64>,
    /// WAL bytes that the slot keeps back.
    pub retained: Option<i64>,
}

/// The replication slots (PostgreSQL docs, `pg_replication_slots`). Needs no privilege.
pub async fn slots(client: &Client) -> Result<Vec<Slot>> {
    let sql = "SELECT slot_name::text AS name, wal_status, safe_wal_size,
                      pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint AS retained
               FROM pg_replication_slots ORDER BY 1";
    let rows = query(client, "pg_replication_slots", sql, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(Slot {
                name: get(row, "name")?,
                wal_status: get(row, "wal_status")?,
                safe_wal_size: get(row, "safe_wal_size")?,
                retained: get(row, "retained")?,
            })
        })
        .collect()
}

/// Connections that an ordinary role could still open: the least of what the server, the role's
/// and the database's limit leave. Needs no privilege.
pub async fn free_connections(client: &Client) -> Result<i64> {
    // `numbackends` is visible to everybody; it also counts workers, so the answer errs to less.
    let sql = "
        SELECT least(
            current_setting('max_connections')::bigint
            - current_setting('superuser_reserved_connections')::bigint
            - coalesce(nullif(current_setting('reserved_connections', true), '')::bigint, 0)
            - (SELECT sum(numbackends) FROM pg_stat_database),
            (SELECT r.rolconnlimit - (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)
             FROM pg_roles r WHERE r.rolname = current_user AND r.rolconnlimit >= 0),
            (SELECT d.datconnlimit - (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)
             FROM pg_database d WHERE d.datname = current_database() AND d.datconnlimit >= 0)
        )::bigint AS free";
    get(
        &query_one(client, "the number of connections", sql, &[]).await?,
        "free",
    )
}

/// Sessions of others that wait for a lock which a session of ours holds or is before them in the
/// queue for. Ours are those of this role named `pgshift`.
pub async fn blocked_by_us(client: &Client) -> Result<i64> {
    let sql = "
        WITH ours AS MATERIALIZED (
            SELECT pid FROM pg_stat_activity
            WHERE application_name = 'pgshift' AND usename = current_user)
        SELECT count(DISTINCT w.pid) AS blocked FROM pg_locks w
        WHERE NOT w.granted AND w.pid NOT IN (SELECT pid FROM ours)
          AND pg_blocking_pids(w.pid) && (SELECT array_agg(pid) FROM ours)";
    get(&query_one(client, "pg_locks", sql, &[]).await?, "blocked")
}

/// What the archiver is behind with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Archive {
    /// WAL files that wait for it.
    pub ready: i64,
    /// The file whose last try failed, with the number of failures so far; `None` where the last
    /// try went well.
    pub failing: Option<(String, i64)>,
}

/// The archiver's backlog (`archive_status/*.ready`) and whether it fails (`pg_stat_archiver`).
///
/// # Errors
/// [`crate::ErrorKind::Refused`] without membership in `pg_monitor`.
pub async fn archive(client: &Client) -> Result<Archive> {
    let sql = "SELECT (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')
                      AS ready,
                      CASE WHEN current_setting('archive_mode') <> 'off'
                            AND a.last_failed_time > coalesce(a.last_archived_time, '-infinity')
                           THEN a.last_failed_wal END AS failing,
                      a.failed_count
               FROM pg_stat_archiver a";
    let row = query_one(client, "the archiver's backlog", sql, &[]).await?;
    Ok(Archive {
        ready: get(&row, "ready")?,
        failing: get::<Option<String>>(&row, "failing")?
            .map(|file| Ok::<_, crate::Error>((file, get(&row, "failed_count")?)))
            .transpose()?,
    })
}

/// Checkpoints that were asked for since the statistics began: by WAL (`max_wal_size`), and by hand
/// (`CHECKPOINT`, `pg_basebackup`), which the server does not count apart
/// (`pg_stat_checkpointer.num_requested`; `pg_stat_bgwriter.checkpoints_req` up to version 16).
/// Needs no privilege.
pub async fn forced_checkpoints(client: &Client) -> Result<i64> {
    let version = "SELECT current_setting('server_version_num')::int AS version";
    let row = query_one(client, "the server's version", version, &[]).await?;
    let sql = if get::<i32>(&row, "version")? >= 170_000 {
        "SELECT num_requested AS forced FROM pg_stat_checkpointer"
    } else {
        "SELECT checkpoints_req AS forced FROM pg_stat_bgwriter"
    };
    let row = query_one(client, "the number of checkpoints", sql, &[]).await?;
    get(&row, "forced")
}

/// The WAL insert position in bytes: what was written so far, flushed or not.
pub async fn wal_insert_lsn(client: &Client) -> Result<u64> {
    let sql = "SELECT pg_current_wal_insert_lsn() AS lsn";
    let lsn: PgLsn = get(
        &query_one(client, "the WAL position", sql, &[]).await?,
        "lsn",
    )?;
    Ok(lsn.into())
}

/// Those of these relations (oids) that the role may not vacuum: it takes their owner's rights, the database's owner's, or MAINTAIN (PostgreSQL 17; PostgreSQL docs, VACUUM, "Notes").
pub async fn not_vacuumed(client: &Client, relations: &[u32]) -> Result<BTreeSet<u32>> {
    let sql = "
        SELECT c.oid FROM pg_class c, pg_database d
        WHERE c.oid = ANY ($1::oid[]) AND d.datname = current_database()
          AND NOT pg_has_role(c.relowner, 'USAGE') AND NOT pg_has_role(d.datdba, 'USAGE')
          AND NOT CASE WHEN current_setting('server_version_num')::int >= 170000
                       THEN has_table_privilege(c.oid, 'MAINTAIN') ELSE false END";
    let relations: (&(dyn ToSql + Sync), Type) = (&relations, Type::OID_ARRAY);
    let rows = query(client, "rights on the table", sql, &[relations]).await?;
    rows.iter().map(|row| get(row, "oid")).collect()
}

/// Enabled rules that rewrite UPDATE or DELETE of these relations (oids): (relation, name, it is one
/// of DELETE).
pub async fn rewriting_rules(
    client: &Client,
    relations: &[u32],
) -> Result<Vec<(u32, String, bool)>> {
    let sql = "
        SELECT ev_class AS relation, rulename::text AS name, ev_type = '4' AS of_delete
        FROM pg_rewrite
        WHERE ev_class = ANY ($1::oid[]) AND ev_type IN ('2', '4') AND ev_enabled IN ('O', 'A')
        ORDER BY 1, 2";
    let relations: (&(dyn ToSql + Sync), Type) = (&relations, Type::OID_ARRAY);
    let rows = query(client, "rules of the table", sql, &[relations]).await?;
    rows.iter()
        .map(|row| {
            Ok((
                get(row, "relation")?,
                get(row, "name")?,
                get(row, "of_delete")?,
            ))
        })
        .collect()
}

/// Gets a session ready for a VACUUM, and gives its server process. Unless it may go at `full`
/// speed it keeps to the pace of autovacuum (`autovacuum_vacuum_cost_delay`, `…_limit`; -1 stands
/// for the settings of a VACUUM by hand).
pub async fn prepare_vacuum(client: &Client, full: bool) -> Result<i32> {
    let sql = "
        SELECT set_config('vacuum_cost_delay', CASE
                   WHEN $1 THEN '0'
                   WHEN current_setting('autovacuum_vacuum_cost_delay') = '-1'
                   THEN (SELECT reset_val FROM pg_settings WHERE name = 'vacuum_cost_delay')
                   ELSE current_setting('autovacuum_vacuum_cost_delay') END, false),
               set_config('vacuum_cost_limit', CASE
                   WHEN current_setting('autovacuum_vacuum_cost_limit') = '-1'
                   THEN (SELECT reset_val FROM pg_settings WHERE name = 'vacuum_cost_limit')
                   ELSE current_setting('autovacuum_vacuum_cost_limit') END, false),
               set_config('statement_timeout', '0', false), pg_backend_pid() AS pid";
    let row = query_one(client, "VACUUM's pace", sql, &[(&full, Type::BOOL)]).await?;
    get(&row, "pid")
}

/// VACUUMs of others at work on these relations (oids), automatic or by hand.
pub async fn vacuums(client: &Client, relations: &[u32]) -> Result<i64> {
    let sql = "
        SELECT count(*) AS running FROM pg_stat_progress_vacuum v
        WHERE v.relid = ANY ($1::oid[]) AND NOT EXISTS (
            SELECT FROM pg_stat_activity a WHERE a.pid = v.pid
              AND a.application_name = 'pgshift' AND a.usename = current_user)";
    let row = query_one(
        client,
        "pg_stat_progress_vacuum",
        sql,
        &[(&relations, Type::OID_ARRAY)],
    )
    .await?;
    get(&row, "running")
}
