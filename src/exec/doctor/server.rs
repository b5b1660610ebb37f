//! What of the server's settings and state bears on a migration.

use tokio_postgres::{Client, Row};

use super::{Finding, Verdict};
use crate::error::{Error, Result};
use crate::pg::error::from_pg;
use crate::pg::session::COMPRESS_PAGES;
use crate::sql::quote::ident;

/// Prepared transactions, wraparound, rights.
pub(super) async fn settings(client: &Client) -> Result<Vec<Finding>> {
    let row = client
        .query_one(
            "SELECT (SELECT count(*) FROM pg_prepared_xacts
                     WHERE database = current_database()
                       AND prepared < clock_timestamp() - interval '1 minute') AS prepared,
                    (SELECT age(datfrozenxid)::bigint FROM pg_database
                     WHERE datname = current_database()) AS xid_age,
                    has_database_privilege(current_database(), 'CREATE') AS may_create,
                    has_database_privilege(current_database(), 'TEMPORARY') AS may_temp,
                    to_regnamespace('pgshift') IS NOT NULL AS initialised,
                    current_user::text AS role,
                    current_setting('deadlock_timeout')::interval
                        < interval '200 milliseconds' AS quick_deadlocks",
            &[],
        )
        .await
        .map_err(from_pg)?;
    let mut all = Vec::new();
    let prepared: i64 = row.get("prepared");
    all.push(if prepared > 0 {
        Finding::new("prepared transactions", format!("{prepared} older than a minute"), Verdict::Note)
            .advice("COMMIT PREPARED or ROLLBACK PREPARED: they hold locks and snapshots (pg_prepared_xacts)")
    } else {
        Finding::new("prepared transactions", "none that is old", Verdict::Fine)
    });
    let age: i64 = row.get("xid_age");
    all.push(if age > 1_000_000_000 {
        Finding::new("transaction id age", age.to_string(), Verdict::Note)
            .advice("let VACUUM FREEZE catch up first: every chunk takes a transaction id")
    } else {
        Finding::new("transaction id age", age.to_string(), Verdict::Fine)
    });
    let role: String = row.get("role");
    let may = row.get::<_, bool>("may_create") || row.get::<_, bool>("initialised");
    all.push(if may {
        Finding::new("state schema", "there, or can be made", Verdict::Fine)
    } else {
        Finding::new("state schema", "cannot be made", Verdict::Stops).advice(format!(
            "GRANT CREATE ON DATABASE … TO {role}; see docs/privileges.md"
        ))
    });
    all.push(if row.get("may_temp") {
        Finding::new("temporary tables", "may be made", Verdict::Fine)
    } else {
        Finding::new("temporary tables", "may not be made", Verdict::Note).advice(format!(
            "GRANT TEMPORARY ON DATABASE … TO {role}, so that plan can check expressions"
        ))
    });
    if row.get("quick_deadlocks") {
        all.push(
            Finding::new("deadlock_timeout", "below 200ms", Verdict::Note)
                .advice("chunks wait for 100 ms: the application may lose a deadlock against them"),
        );
    }
    Ok(all)
}

/// What is written ahead, where it goes, and who must confirm it.
pub(super) async fn wal(client: &Client) -> Result<Vec<Finding>> {
    let row = client
        .query_one(
            "SELECT current_setting('wal_level') AS wal_level,
                    current_setting('max_wal_size') AS max_wal_size,
                    pg_size_bytes(current_setting('max_wal_size')) AS max_wal_bytes,
                    current_setting('checkpoint_timeout') AS checkpoint_timeout,
                    current_setting('archive_mode') AS archive_mode,
                    current_setting('synchronous_commit') AS synchronous_commit,
                    current_setting('synchronous_standby_names') AS standby_names,
                    (SELECT count(*) FROM pg_stat_replication) AS standbys,
                    (SELECT count(*) FROM pg_stat_replication
                     WHERE sync_state IN ('sync', 'quorum')) AS synchronous,
                    pg_has_role('pg_monitor', 'USAGE') AS monitor",
            &[],
        )
        .await
        .map_err(from_pg)?;
    let size: String = row.get("max_wal_size");
    let mut all = vec![
        Finding::new(
            "wal_level",
            row.get::<_, String>("wal_level"),
            Verdict::Fine,
        ),
        if row.get::<_, i64>("max_wal_bytes") < (1 << 30) {
            Finding::new("max_wal_size", size, Verdict::Note)
                .advice("a long backfill forces checkpoints often; 4GB or more makes them rarer")
        } else {
            Finding::new("max_wal_size", size, Verdict::Fine)
        },
        Finding::new(
            "checkpoint_timeout",
            row.get::<_, String>("checkpoint_timeout"),
            Verdict::Fine,
        ),
        Finding::new(
            "archive_mode",
            row.get::<_, String>("archive_mode"),
            Verdict::Fine,
        ),
        synchronous(&row),
        compression(client).await?,
    ];
    all.push(disk(client, row.get("monitor")).await?);
    Ok(all)
}

/// Whether whole pages are compressed in the log, or would be in the sessions of a run.
async fn compression(client: &Client) -> Result<Finding> {
    let setting = async || {
        let row = client
            .query_one(
                "SELECT setting, 'lz4' = ANY (enumvals) AS lz4, current_user::text AS role
                 FROM pg_settings WHERE name = 'wal_compression'",
                &[],
            )
            .await
            .map_err(from_pg)?;
        let lz4: Option<bool> = row.get("lz4");
        Ok::<_, Error>((
            row.get::<_, String>("setting"),
            lz4.unwrap_or(false),
            row.get::<_, String>("role"),
        ))
    };
    let (before, lz4, role) = setting().await?;
    client
        .batch_execute(&format!("BEGIN; {COMPRESS_PAGES}"))
        .await
        .map_err(from_pg)?;
    let of_runs = setting().await;
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    let (of_runs, ..) = of_runs?;
    let what = "wal_compression";
    Ok(if of_runs != before {
        Finding::new(what, format!("{before}, {of_runs} in runs"), Verdict::Fine)
    } else if before == "off" && lz4 {
        Finding::new(what, before, Verdict::Note).advice(format!(
            "GRANT SET ON PARAMETER wal_compression TO {} lets runs write less log",
            ident(&role)
        ))
    } else {
        Finding::new(what, before, Verdict::Fine)
    })
}

/// A synchronous standby that is gone makes every synchronous COMMIT wait for its return.
fn synchronous(row: &Row) -> Finding {
    let what = "synchronous commit";
    let (names, level): (String, String) =
        (row.get("standby_names"), row.get("synchronous_commit"));
    let (wanted, there) = (wanted_standbys(&names), row.get::<_, i64>("synchronous"));
    if wanted == 0 || ["off", "local"].contains(&level.as_str()) {
        return Finding::new(
            what,
            format!("{level}, waits for no standby"),
            Verdict::Fine,
        );
    }
    let value = format!("{level}, {there} of {wanted} synchronous standbys");
    if there >= wanted {
        return Finding::new(what, value, Verdict::Fine);
    }
    if !row.get::<_, bool>("monitor") && row.get::<_, i64>("standbys") > 0 {
        return Finding::new(
            what,
            format!("{level}, standbys not visible"),
            Verdict::Note,
        )
        .advice("GRANT pg_monitor: without it nobody can tell whether a COMMIT would hang");
    }
    Finding::new(what, value, Verdict::Stops).advice(
        "every COMMIT of a step hangs until it is back: mend the standby, or take it out of \
         synchronous_standby_names",
    )
}

/// How many standbys a COMMIT waits for: `a, b` one, `2 (a, b)`, `FIRST 2 (a, b)` and
/// `ANY 2 (a, b)` two (PostgreSQL documentation, `synchronous_standby_names`).
fn wanted_standbys(names: &str) -> i64 {
    let names = names.trim();
    if names.is_empty() {
        return 0;
    }
    names
        .split_once('(')
        .and_then(|(head, _)| head.split_whitespace().last()?.parse().ok())
        .unwrap_or(1)
}

/// The size of the WAL on disk. SQL does not show how much of the disk is free.
async fn disk(client: &Client, monitor: bool) -> Result<Finding> {
    let what = "disk";
    if !monitor {
        return Ok(Finding::new(what, "not visible", Verdict::Note)
            .advice("GRANT pg_monitor shows the size of the WAL; the free space no query shows"));
    }
    let row = client
        .query_one(
            "SELECT pg_size_pretty(sum(size)) AS wal,
                    pg_size_pretty(pg_database_size(current_database())) AS database
             FROM pg_ls_waldir()",
            &[],
        )
        .await
        .map_err(from_pg)?;
    let text = |column| row.get::<_, Option<String>>(column).unwrap_or_default();
    let value = format!(
        "WAL {}, database {}; free space is not visible from SQL",
        text("wal"),
        text("database")
    );
    Ok(Finding::new(what, value, Verdict::Fine))
}

#[cfg(test)]
mod tests {
    use super::wanted_standbys;

    #[test]
    fn standbys_that_a_commit_waits_for() {
        for (names, wanted) in [
            ("", 0),
            ("a", 1),
            ("*", 1),
            ("a, b", 1),
            ("2 (a, b, c)", 2),
            ("FIRST 3 (a, b, c)", 3),
            ("ANY 2(a, b)", 2),
        ] {
            assert_eq!(wanted_standbys(names), wanted, "{names}");
        }
    }
}
