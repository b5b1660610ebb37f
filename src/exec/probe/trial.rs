//! Tries statements on copies of their tables.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use super::{BEGIN, located};
use crate::catalog::QName;
use crate::error::Result;
use crate::pg::error::from_pg;
use crate::plan::Draft;
use crate::plan::trial::{Made, Trial, made, named, refuses, trials};
use crate::sql::Span;
use crate::sql::mapped::MappedSql;

/// Tries all that can be, in a transaction that is rolled back.
///
/// # Errors
/// What the server refuses, at its place in the file.
pub(in crate::exec) async fn run(client: &Client, draft: &Draft<'_>) -> Result<()> {
    let (made, trials) = (made(draft), trials(draft));
    if made.is_empty() && trials.is_empty() {
        return Ok(());
    }
    client.batch_execute(BEGIN).await.map_err(from_pg)?;
    let result = all(client, draft, &made, &trials).await;
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    result
}

async fn all(
    client: &Client,
    draft: &Draft<'_>,
    made: &[Made],
    trials: &BTreeMap<QName, Trial>,
) -> Result<()> {
    for made in made {
        let Err(error) = client.batch_execute(made.sql.sql()).await else {
            continue;
        };
        return judge(draft, made.span, &made.sql, error, made.judged);
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

/// An error that is the statement's own; any other one leaves it to the step.
fn judge(
    draft: &Draft<'_>,
    span: Span,
    sql: &MappedSql,
    error: tokio_postgres::Error,
    judged: bool,
) -> Result<()> {
    let code = error.code().map(|code| code.code().to_owned());
    let message = error.as_db_error().map_or("", DbError::message);
    let place =
        named(span.of(draft.source().text()), message).map_or(span, |word| word.shift(span.start));
    let error = located(draft.migration, place, sql, sql.sql(), 0, error);
    if error.is_connection() || judged && code.is_some_and(|code| refuses(&code)) {
        return Err(error);
    }
    tracing::debug!("{}: {error}", sql.sql());
    Ok(())
}

const PATH: &str = "
SELECT pg_catalog.set_config('search_path', concat_ws(', ', 'pg_temp', nullif(
    pg_catalog.current_setting('search_path'), '')), true)";

async fn one(client: &Client, draft: &Draft<'_>, trial: &Trial) -> Result<()> {
    // What is written without a schema means the copies.
    client.batch_execute(PATH).await.map_err(from_pg)?;
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
        return judge(draft, *span, sql, error, true);
    }
    Ok(())
}
