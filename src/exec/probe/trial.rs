//! Tries statements on copies of their tables.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use super::{BEGIN, located, prelude};
use crate::catalog::QName;
use crate::error::Result;
use crate::pg::error::from_pg;
use crate::plan::Draft;
use crate::plan::probe::probe;
use crate::plan::trial::{Trial, named, refuses, trials};

/// Tries all that can be, in a transaction that is rolled back.
///
/// # Errors
/// What the server refuses, at its place in the file.
pub(in crate::exec) async fn run(client: &Client, draft: &Draft<'_>) -> Result<()> {
    let trials = trials(draft);
    if trials.is_empty() {
        return Ok(());
    }
    client.batch_execute(BEGIN).await.map_err(from_pg)?;
    let result = all(client, draft, &trials).await;
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    result
}

async fn all(client: &Client, draft: &Draft<'_>, trials: &BTreeMap<QName, Trial>) -> Result<()> {
    if let Err(error) = prelude(client, draft.migration, &probe(draft)).await {
        // It may need what is not made before the trials: then nothing is known.
        return if error.is_connection() {
            Err(error)
        } else {
            Ok(())
        };
    }
    for trial in trials.values() {
        client
            .batch_execute("SAVEPOINT pgshift_trial")
            .await
            .map_err(from_pg)?;
        one(client, draft, trial).await?;
        client
            .batch_execute("ROLLBACK TO SAVEPOINT pgshift_trial")
            .await
            .map_err(from_pg)?;
    }
    Ok(())
}

async fn one(client: &Client, draft: &Draft<'_>, trial: &Trial) -> Result<()> {
    for sql in &trial.copies {
        if let Err(error) = client.batch_execute(sql).await {
            let error = from_pg(error);
            if error.is_connection() {
                return Err(error);
            }
            // Nothing is known of the statements: they are not tried.
            tracing::debug!("{sql}: {error}");
            return Ok(());
        }
    }
    for (sql, span) in &trial.statements {
        let Err(error) = client.batch_execute(sql.sql()).await else {
            continue;
        };
        let code = error.code().map(|code| code.code().to_owned());
        let message = error.as_db_error().map_or("", DbError::message);
        let place = named(span.of(draft.source().text()), message)
            .map_or(*span, |word| word.shift(span.start));
        let error = located(draft.migration, place, sql, sql.sql(), 0, error);
        if error.is_connection() || code.is_some_and(|code| refuses(&code)) {
            return Err(error);
        }
        tracing::debug!("{}: {error}", sql.sql());
        return Ok(());
    }
    Ok(())
}
