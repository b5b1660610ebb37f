//! What a session is good for: writes, the server's version, and where it leads.

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::error::from_pg;
use crate::{Error, Result};

/// The oldest server that pgshift works with: TID range scans came with 14.
pub const OLDEST_VERSION: u32 = 140_000;

/// Has whole pages in the log compressed where nothing says otherwise and the role may: with lz4 a
/// backfill, and an index that is built, write less log for no time that can be measured. Not before
/// PostgreSQL 15, which has neither lz4 nor a right to grant (documentation, "Write Ahead Log").
pub const COMPRESS_PAGES: &str = "
DO $$ BEGIN
    IF pg_catalog.current_setting('wal_compression') = 'off' THEN
        SET wal_compression = lz4;
    END IF;
EXCEPTION WHEN insufficient_privilege OR invalid_parameter_value THEN NULL;
END $$";

/// Makes a session one of a run. It notices a cut network: the server misses a silent client within
/// about 11 s, and a statement whose client is gone ends within a second instead of holding its
/// locks to the end. The timeouts that a role or database has for the application are taken back:
/// each step and chunk sets its own. And it has [`COMPRESS_PAGES`]. For sessions alone: through a
/// transaction pooler it would be another client's.
///
/// # Errors
/// What the server says.
pub async fn make_of_run(client: &Client) -> Result<(), tokio_postgres::Error> {
    client
        .batch_execute(&format!(
            "{COMPRESS_PAGES}; SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; \
             SET tcp_keepalives_count = 3; SET statement_timeout = 0; SET lock_timeout = 0; \
             SET idle_session_timeout = 0; SET idle_in_transaction_session_timeout = '1min'; \
             SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
             WHERE name = 'transaction_timeout'"
        ))
        .await?;
    // Not on every platform of the server (PostgreSQL docs, "TCP Settings").
    match client
        .batch_execute("SET client_connection_check_interval = '1s'")
        .await
    {
        Err(error) if error.as_db_error().is_none() => Err(error),
        Err(error) => {
            tracing::debug!("no client_connection_check_interval: {error}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Makes the server read strings as files are read here: a backslash in `'…'` is a backslash. With
/// `standard_conforming_strings = off`, which a role or database may have, a string would end
/// elsewhere, and SQL of the file would not be what was reviewed. `PgBouncer` keeps the setting for
/// each client (docs, `track_extra_parameters`).
///
/// # Errors
/// What the server says.
pub(super) async fn standard_strings(client: &Client) -> Result<()> {
    client
        .batch_execute("SET standard_conforming_strings = on")
        .await
        .map_err(from_pg)
}

/// Text that is read back as the same value, whatever the database's settings are: with others a
/// time has the name of its zone, which need not be read as that zone, and digits are rounded.
/// The author's expressions never run under these.
pub const EXACT_TEXT: &str = "
SELECT set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', 'postgres', true),
       set_config('extra_float_digits', '3', true), set_config('bytea_output', 'hex', true)";

/// The server's version as a number: 150008 is 15.8.
///
/// # Errors
/// What the query gives.
pub async fn server_version(client: &Client) -> Result<u32> {
    let row = one_row(client, "SHOW server_version_num").await?;
    column(&row, 0)?
        .parse()
        .map_err(|_| Error::internal("server_version_num is not a number"))
}

/// [`server_version`], refused below [`OLDEST_VERSION`].
///
/// # Errors
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a server that is too old.
pub async fn supported_version(client: &Client) -> Result<u32> {
    check_version(server_version(client).await?)
}

fn check_version(version: u32) -> Result<u32> {
    if version >= OLDEST_VERSION {
        return Ok(version);
    }
    // Before 10 the first two numbers made the major version.
    let name = match (version / 10_000, version / 100 % 100) {
        (major @ 10.., _) => major.to_string(),
        (major, minor) => format!("{major}.{minor}"),
    };
    Err(Error::refused(format!(
        "the server is PostgreSQL {name}; pgshift needs {} or later",
        OLDEST_VERSION / 10_000
    ))
    .left("nothing was changed")
    .hint("upgrade the server first"))
}

/// Refuses a server that takes no writes.
///
/// # Errors
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) for a standby or a read-only session.
pub async fn require_read_write(client: &Client) -> Result<()> {
    let row = one_row(
        client,
        "SELECT pg_catalog.pg_is_in_recovery(), \
         pg_catalog.current_setting('transaction_read_only')",
    )
    .await?;
    if column(&row, 0)? == "t" {
        return Err(
            Error::refused("the server is a standby (in recovery) and takes no writes")
                .left("nothing was changed")
                .hint(
                    "add the primary's host to the database URL: postgres://user@host1,host2/db \
                 finds it",
                ),
        );
    }
    if column(&row, 1)? == "on" {
        return Err(
            Error::refused("the session is read-only (default_transaction_read_only)")
                .left("nothing was changed")
                .hint(
                    "add the primary's host to the database URL, or look who made this one \
                 read-only: ALTER SYSTEM, ALTER DATABASE, ALTER ROLE, or PGOPTIONS",
                ),
        );
    }
    Ok(())
}

/// Which database of which server a session is in. Two connections that lead to the same one say
/// the same, whatever is in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's system identifier, where the server tells it; a copy of a data directory has
    /// its original's.
    pub system: Option<String>,
    /// When the server started: it tells a copy from its original.
    pub started: String,
    /// The database's oid.
    pub database_oid: String,
    /// The database's name on the server.
    pub database: String,
    /// The role on the server.
    pub role: String,
}

/// Where a session has got to; any role may ask.
///
/// # Errors
/// What the query gives.
pub async fn identity(client: &Client) -> Result<Identity> {
    let row = one_row(
        client,
        "SELECT extract(epoch FROM pg_catalog.pg_postmaster_start_time()),
                d.oid, d.datname, current_user
         FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
    )
    .await?;
    let value = |index| column(&row, index).map(str::to_owned);
    // Any role may ask PostgreSQL itself; hosted ones need not have the function.
    let system = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    let system = match one_row(client, system).await {
        Ok(row) => Some(column(&row, 0)?.to_owned()),
        Err(error) if error.is_connection() => return Err(error),
        Err(_) => None,
    };
    Ok(Identity {
        system,
        started: value(0)?,
        database_oid: value(1)?,
        database: value(2)?,
        role: value(3)?,
    })
}

/// The simple protocol prepares nothing, so it works through any pooler.
pub(super) async fn one_row(client: &Client, query: &str) -> Result<SimpleQueryRow> {
    client
        .simple_query(query)
        .await
        .map_err(from_pg)?
        .into_iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .ok_or_else(|| Error::internal("a query that always gives a row gave none"))
}

pub(super) fn column(row: &SimpleQueryRow, index: usize) -> Result<&str> {
    row.try_get(index)
        .map_err(from_pg)?
        .ok_or_else(|| Error::internal("a value that is never null was null"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn old_servers_are_refused_by_their_name() {
        assert_eq!(check_version(140_000).unwrap(), 140_000);
        assert_eq!(check_version(180_004).unwrap(), 180_004);
        for (version, name) in [(139_999, "PostgreSQL 13;"), (90_624, "PostgreSQL 9.6;")] {
            let error = check_version(version).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.message().contains(name), "{error}");
        }
    }
}
