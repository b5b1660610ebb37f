//! Reading rows without panics: one place where a driver error becomes an [`Error`].

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::FromSqlOwned;

use crate::error::{Error, ErrorKind, Result};

/// A driver error met while doing `context`.
pub(super) fn failed(context: &str, error: tokio_postgres::Error) -> Error {
    let Some(db) = error.as_db_error() else {
        return Error::connection(format!("{context}: {error}")).caused_by(error);
    };
    let kind = match *db.code() {
        SqlState::LOCK_NOT_AVAILABLE => ErrorKind::Lock,
        SqlState::INSUFFICIENT_PRIVILEGE => ErrorKind::Refused,
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            ErrorKind::Connection
        }
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("{context}: {}", db.message()))
        .with_sqlstate(db.code().code())
        .caused_by(error)
}

/// The value of a column by name. A wrong type or an unexpected null is a defect of the query.
pub(super) fn get<T: FromSqlOwned>(row: &Row, column: &str) -> Result<T> {
    row.try_get(column).map_err(|e| {
        Error::internal(format!(
            "unexpected value of \"{column}\" from the server: {e}"
        ))
        .caused_by(e)
    })
}

/// A column in seconds (`float8`); below zero, as clocks may give, is zero.
pub(super) fn seconds(row: &Row, column: &str) -> Result<Option<Duration>> {
    let seconds: Option<f64> = get(row, column)?;
    Ok(seconds.map(|s| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX)))
}
