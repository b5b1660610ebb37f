//! What a session is good for: writes, the server's version, and whether it is one session.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::connect::Target;
use super::error::from_pg;
use crate::{Error, Result};

/// The oldest server that pgshift works with: TID range scans came with 14.
pub const OLDEST_VERSION: u32 = 140_000;

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

/// How long a probe of [`behind_transaction_pooler`] may wait for its answer.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// The order in which the two probes ask. Alternating alone would not do: a pooler that goes
/// round two servers would give each probe its own. Asking twice in a row catches that.
const ROUNDS: [Probe; 10] = {
    use Probe::{A, B};
    [A, B, A, A, B, B, A, B, A, A]
};

#[derive(Clone, Copy)]
enum Probe {
    A,
    B,
}

/// Whether a pooler gives each transaction its own server session (PgBouncer's
/// `pool_mode=transaction` or `statement`, and others' alike), so that session state, such as
/// advisory locks, LISTEN and temporary tables, does not last.
///
/// Two connections are opened at once and asked in turn which backend serves them. Each has
/// its own for as long as it lives, directly and through a pooler by sessions; so one backend
/// under both, or two under one, is a pooler by transactions. That holds for a pool of one
/// server too. A second connection that gets no answer while the first still does is a pooler
/// by sessions that is full. Nothing is left behind on the server. The answer can be a false "no" only where the pooler, by
/// chance, serves every question of each connection from the same server.
///
/// # Errors
/// [`ErrorKind::Connection`](crate::ErrorKind::Connection) if the server does not answer.
pub async fn behind_transaction_pooler(target: &Target) -> Result<bool> {
    // No query at connecting: through a full pooler it would wait.
    let target = target.any_session();
    let (first, address) = target.connect_where().await?;
    let mut seen = [
        Some(in_time(backend(&first)).await.ok_or_else(no_answer)??),
        None,
    ];
    let Some(second) = in_time(target.only(&address).connect()).await else {
        return starved(&first, seen[0].as_deref()).await;
    };
    let second = second?;
    for probe in ROUNDS {
        let (client, index) = match probe {
            Probe::A => (&first, 0),
            Probe::B => (&second, 1),
        };
        let Some(answer) = in_time(backend(client)).await else {
            return match probe {
                Probe::A => Err(no_answer()),
                Probe::B => starved(&first, seen[0].as_deref()).await,
            };
        };
        let answer = answer?;
        let changed = seen[index].as_ref().is_some_and(|before| *before != answer);
        if changed || seen[1 - index].as_ref() == Some(&answer) {
            return Ok(true);
        }
        seen[index] = Some(answer);
    }
    Ok(false)
}

/// The second probe waits for a backend. Poolers serve waiting clients in order, so a first
/// that is answered before it has a backend of its own. Where neither is answered, nothing is
/// known: the pool may be full, or the server frozen.
async fn starved(first: &Client, before: Option<&str>) -> Result<bool> {
    match in_time(backend(first)).await {
        Some(answer) => Ok(before != Some(&*answer?)),
        None => Err(no_answer()),
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PROBE_LIMIT, work).await.ok()
}

fn no_answer() -> Error {
    Error::connection(format!(
        "no answer within {} s; it cannot be told whether a transaction pooler is in between",
        PROBE_LIMIT.as_secs()
    ))
    .hint("the server or the pool is overloaded: try again when it is not")
}

/// Refuses a target behind a transaction pooler.
///
/// # Errors
/// [`ErrorKind::Refused`](crate::ErrorKind::Refused) behind one, and those of
/// [`behind_transaction_pooler`].
pub async fn refuse_transaction_pooler(target: &Target) -> Result<()> {
    if !behind_transaction_pooler(target).await? {
        return Ok(());
    }
    Err(Error::refused(format!(
        "{target} is a connection pooler that gives every transaction another server session; \
         locks that must outlive a transaction cannot work through it"
    ))
    .left("nothing was changed")
    .hint("connect to PostgreSQL itself, or to a pool in session mode (pool_mode=session)"))
}

/// Which backend serves this query: process ids are used again, and two servers can use the
/// same ones, hence the times.
async fn backend(client: &Client) -> Result<String> {
    let row = one_row(
        client,
        "SELECT pg_catalog.concat_ws(' ', a.pid, a.backend_start, \
         pg_catalog.pg_postmaster_start_time()) \
         FROM pg_catalog.pg_stat_activity a WHERE a.pid = pg_catalog.pg_backend_pid()",
    )
    .await?;
    column(&row, 0).map(str::to_owned)
}

/// The simple protocol prepares nothing, so it works through any pooler.
async fn one_row(client: &Client, query: &str) -> Result<SimpleQueryRow> {
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

fn column(row: &SimpleQueryRow, index: usize) -> Result<&str> {
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
