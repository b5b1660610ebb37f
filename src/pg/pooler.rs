//! Whether a connection pooler is in between, and what it carries.

use std::time::Duration;

use tokio_postgres::Client;

use super::connect::{Address, Target};
use super::error::from_pg;
use super::session::{column, one_row, require_read_write};
use crate::sql::quote::literal;
use crate::{Error, Result};

/// What the connections of a target are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pooling {
    /// Sessions: PostgreSQL itself, or a pooler that gives each connection a session of its own.
    Session,
    /// Another server session for each transaction.
    Transaction {
        /// Named prepared statements work: the pooler prepares them on each server session under
        /// names of its own. Without, a name may stand for another client's statement.
        prepared: bool,
        /// What the pooler is, where its names tell.
        software: Option<String>,
    },
    /// Another server session for each statement; transactions are refused.
    Statement,
}

impl Pooling {
    /// True where single transactions work as everywhere: sessions, or a pooler by transactions
    /// that carries prepared statements.
    pub fn carries_transactions(&self) -> bool {
        matches!(
            self,
            Self::Session | Self::Transaction { prepared: true, .. }
        )
    }
}

/// For people: `a transaction pooler that carries no prepared statements`.
impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session => f.write_str("no pooler, or one in session mode"),
            Self::Statement => {
                f.write_str("a pooler in statement mode, which takes no transactions")
            }
            Self::Transaction { prepared, software } => {
                f.write_str("a transaction pooler")?;
                if let Some(software) = software {
                    write!(f, " ({software})")?;
                }
                f.write_str(if *prepared {
                    " that carries prepared statements"
                } else {
                    " that carries no prepared statements"
                })
            }
        }
    }
}

/// A connection of a target, by which can be looked what is in between, and which is good for more.
pub struct First {
    /// The connection; nothing was asked for at connecting.
    pub client: Client,
    address: Address,
}

impl First {
    /// Connects.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn connect(target: &Target) -> Result<Self> {
        // No query at connecting: through a full pooler it would wait.
        let (client, address) = target.any_session().connect_where().await?;
        Ok(Self { client, address })
    }

    /// Looks what is between us and the server.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`](crate::ErrorKind::Connection) if the server, or a pooler that is
    /// full, does not answer in time.
    pub async fn pooling(&self, target: &Target) -> Result<Pooling> {
        if !shares_sessions(self, target).await? {
            return Ok(Pooling::Session);
        }
        let client = target.any_session().connect().await?;
        in_time(carried(&client)).await.ok_or_else(no_answer)?
    }

    /// The connection, where it is as [`Target::connect`] would have made it.
    pub async fn into_client(self, target: &Target) -> Option<Client> {
        if self.client.is_closed() {
            return None;
        }
        if target.wants_writes() && require_read_write(&self.client).await.is_err() {
            return None;
        }
        Some(self.client)
    }
}

/// Looks what is between us and the server.
///
/// # Errors
/// As [`First::pooling`].
pub async fn pooling(target: &Target) -> Result<Pooling> {
    First::connect(target).await?.pooling(target).await
}

/// What a pooler that shares sessions carries. Inside of one transaction there is one server
/// session: if it knows a statement by another name than the one that our driver gave it, the
/// pooler keeps account of statements. Trying it out would prove nothing: the next transaction
/// may meet the same session by chance.
async fn carried(client: &Client) -> Result<Pooling> {
    if let Err(error) = client.simple_query("BEGIN READ ONLY").await {
        return if error.as_db_error().is_some() {
            Ok(Pooling::Statement)
        } else {
            Err(from_pg(error))
        };
    }
    let statement = format!("SELECT 1 AS pgshift_probe_{:016x}", fastrand::u64(..));
    let prepared = async {
        // Executed too: a pooler may put off the preparing.
        let prepared = client.prepare(&statement).await?;
        client.query_one(&prepared, &[]).await
    };
    let name = match prepared.await {
        Ok(_) => {
            let row = one_row(
                client,
                &format!(
                    "SELECT pg_catalog.max(name) FROM pg_catalog.pg_prepared_statements \
                     WHERE statement = {}",
                    literal(&statement)
                ),
            )
            .await?;
            row.try_get(0).map_err(from_pg)?.map(str::to_owned)
        }
        Err(error) if error.as_db_error().is_some() => None,
        Err(error) => return Err(from_pg(error)),
    };
    client.simple_query("ROLLBACK").await.map_err(from_pg)?;
    Ok(by_name(name.as_deref()))
}

/// What the name of a prepared statement on the server tells.
fn by_name(name: Option<&str>) -> Pooling {
    // The driver's own names: `s0`, `s1` …
    let ours = |name: &str| {
        name.strip_prefix('s')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let renamed = name.filter(|name| !ours(name));
    Pooling::Transaction {
        prepared: renamed.is_some(),
        software: renamed
            .filter(|name| name.starts_with("PGBOUNCER_"))
            .map(|_| "PgBouncer".to_owned()),
    }
}

/// How long a probe of [`shares_sessions`] may wait for its answer.
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
async fn shares_sessions(first: &First, target: &Target) -> Result<bool> {
    let target = target.any_session();
    let First {
        client: first,
        address,
    } = first;
    let mut seen = [
        Some(in_time(backend(first)).await.ok_or_else(no_answer)??),
        None,
    ];
    let Some(second) = in_time(target.only(address).connect()).await else {
        return starved(first, seen[0].as_deref()).await;
    };
    let second = second?;
    for probe in ROUNDS {
        let (client, index) = match probe {
            Probe::A => (first, 0),
            Probe::B => (&second, 1),
        };
        let Some(answer) = in_time(backend(client)).await else {
            return match probe {
                Probe::A => Err(no_answer()),
                Probe::B => starved(first, seen[0].as_deref()).await,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_poolers_own_tell_that_it_carries_statements() {
        let carried = by_name(Some("PGBOUNCER_12"));
        assert!(carried.carries_transactions());
        assert_eq!(
            carried.to_string(),
            "a transaction pooler (PgBouncer) that carries prepared statements"
        );
        assert!(by_name(Some("__other_3")).carries_transactions());
        for lost in [by_name(Some("s12")), by_name(None), Pooling::Statement] {
            assert!(!lost.carries_transactions(), "{lost}");
        }
        assert!(Pooling::Session.carries_transactions());
    }
}
