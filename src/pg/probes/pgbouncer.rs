//! PgBouncer's admin console (PgBouncer documentation, "Admin console").
//!
//! It speaks the simple protocol only, and refuses startup parameters that it does not know.

use std::time::Duration;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::super::connect::Target;
use super::super::error::from_pg;
use crate::error::{Error, ErrorKind, Result};
use crate::throttle::pools::{Alias, Pool};

/// The console of one PgBouncer; connects at its first use, and again after an error.
pub struct Console {
    target: Target,
    client: Option<Client>,
}

/// What the console says at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queues {
    /// `SHOW DATABASES`
    pub aliases: Vec<Alias>,
    /// `SHOW POOLS`
    pub pools: Vec<Pool>,
}

impl Console {
    /// The console at a target made by [`Target::console`]. Nothing is connected yet.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            client: None,
        }
    }

    /// Reads databases and pools.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] where PgBouncer cannot be reached or does not answer within
    /// `limit`, [`ErrorKind::Usage`] where it refuses the user.
    pub async fn queues(&mut self, limit: Duration) -> Result<Queues> {
        self.ask(limit, async |client| {
            let databases = rows(client, "SHOW DATABASES").await?;
            let pools = rows(client, "SHOW POOLS").await?;
            Ok(Queues {
                aliases: databases.iter().map(alias).collect::<Result<_>>()?,
                pools: pools.iter().map(pool).collect::<Result<_>>()?,
            })
        })
        .await
    }

    /// Its version (`PgBouncer 1.24.1`), and `max_prepared_statements` where it has that setting.
    ///
    /// # Errors
    /// As [`queues`](Self::queues).
    pub async fn about(&mut self, limit: Duration) -> Result<(String, Option<String>)> {
        self.ask(limit, async |client| {
            let version = rows(client, "SHOW VERSION").await?;
            // 1.11 and before tell the version as a notice.
            let version = version
                .first()
                .and_then(|row| row.try_get(0).ok().flatten())
                .unwrap_or("PgBouncer")
                .to_owned();
            let prepared = rows(client, "SHOW CONFIG")
                .await?
                .iter()
                .find(|row| text(row, "key").as_deref() == Some("max_prepared_statements"))
                .and_then(|row| text(row, "value"));
            Ok((version, prepared))
        })
        .await
    }

    async fn ask<T>(
        &mut self,
        limit: Duration,
        question: impl AsyncFnOnce(&Client) -> Result<T>,
    ) -> Result<T> {
        let asked = async {
            let client = match &mut self.client {
                Some(client) if !client.is_closed() => client,
                slot => slot.insert(self.target.connect().await?),
            };
            question(client).await
        };
        let answer = tokio::time::timeout(limit, asked)
            .await
            .unwrap_or_else(|_| {
                Err(Error::connection(format!(
                    "no answer within {:.0} s",
                    limit.as_secs_f64()
                )))
            });
        answer.map_err(|error| {
            // What state the connection is in is not known.
            self.client = None;
            self.failed(error)
        })
    }

    /// Says which console, and what PgBouncer's terse refusals mean.
    fn failed(&self, error: Error) -> Error {
        let place = format!("PgBouncer's console {}", self.target);
        // It speaks for itself: reached, and not willing.
        if error.sqlstate().is_some() {
            return error
                .with_kind(ErrorKind::Usage)
                .context(place)
                .hint("the user of --pgbouncer-url must be in stats_users (or admin_users) of pgbouncer.ini, see docs/pgbouncer.md");
        }
        let next = error.what_next().map_or_else(
            || "check host and port of --pgbouncer-url, and that PgBouncer runs".to_owned(),
            str::to_owned,
        );
        error.context(place).hint(next)
    }
}

async fn rows(client: &Client, command: &str) -> Result<Vec<SimpleQueryRow>> {
    let messages = client.simple_query(command).await.map_err(from_pg)?;
    Ok(messages
        .into_iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect())
}

/// A value by its column's name, where this version has such a column.
fn text(row: &SimpleQueryRow, column: &str) -> Option<String> {
    let index = row.columns().iter().position(|c| c.name() == column)?;
    row.try_get(index).ok().flatten().map(str::to_owned)
}

fn needed(row: &SimpleQueryRow, column: &str) -> Result<String> {
    text(row, column).ok_or_else(|| unexpected(column))
}

fn number(row: &SimpleQueryRow, column: &str) -> Result<u64> {
    needed(row, column)?.parse().map_err(|_| unexpected(column))
}

fn unexpected(column: &str) -> Error {
    Error::refused(format!("its answer has no usable column {column:?}"))
        .hint("is it the console of PgBouncer?")
}

fn alias(row: &SimpleQueryRow) -> Result<Alias> {
    let name = needed(row, "name")?;
    Ok(Alias {
        // Where the file does not say, the name is the same.
        database: text(row, "database").unwrap_or_else(|| name.clone()),
        name,
    })
}

fn pool(row: &SimpleQueryRow) -> Result<Pool> {
    let micros = match text(row, "maxwait_us") {
        // Before 1.8 there are whole seconds only.
        None => 0,
        Some(micros) => micros.parse().map_err(|_| unexpected("maxwait_us"))?,
    };
    Ok(Pool {
        database: needed(row, "database")?,
        user: needed(row, "user")?,
        waiting: number(row, "cl_waiting")?,
        longest: Duration::from_secs(number(row, "maxwait")?) + Duration::from_micros(micros),
        mode: text(row, "pool_mode"),
    })
}
