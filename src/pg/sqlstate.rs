//! What a server error means for going on (PostgreSQL documentation, Appendix A).

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, ErrorPosition, Severity, SqlState};

/// The connection is gone or the server is going: 08 (connection exception), 57P01 to 57P03
/// (shutdown, crash, starting up), 57P05 and 25P03 (idle timeouts), or any error that ended
/// the session.
pub fn is_connection_lost(error: &Error) -> bool {
    match error.as_db_error() {
        Some(db) => {
            ends_connection(db.code())
                || matches!(
                    db.parsed_severity(),
                    Some(Severity::Fatal | Severity::Panic)
                )
        }
        None => error.is_closed() || is_transport(error),
    }
}

/// [`is_connection_lost`] by code alone.
pub fn ends_connection(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_SESSION_TIMEOUT,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ]
        .contains(code)
}

/// Network, TLS or protocol trouble below the server's own errors.
pub(super) fn is_transport(error: &Error) -> bool {
    // The kind of an error is private to tokio-postgres; its text is the only way to it
    // (`error::tests` pins what can be provoked).
    [
        "error communicating with the server",
        "error performing TLS handshake",
        "error connecting to server",
        "error parsing response from server",
        "unexpected message from server",
        "timeout waiting for server",
        "connection closed",
    ]
    .contains(&&*error.to_string())
}

/// The TLS handshake failed, or the server has no TLS.
pub(super) fn is_tls(error: &Error) -> bool {
    error.to_string() == "error performing TLS handshake"
}

fn is(error: &Error, code: &SqlState) -> bool {
    error.code() == Some(code)
}

/// 55P03: the lock was not had within `lock_timeout`, or at once with NOWAIT.
pub fn is_lock_timeout(error: &Error) -> bool {
    is(error, &SqlState::LOCK_NOT_AVAILABLE)
}

/// 40P01: the server broke a deadlock and chose us.
pub fn is_deadlock(error: &Error) -> bool {
    is(error, &SqlState::T_R_DEADLOCK_DETECTED)
}

/// 40001: a concurrent change, or a replay conflict.
pub fn is_serialization(error: &Error) -> bool {
    is(error, &SqlState::T_R_SERIALIZATION_FAILURE)
}

/// The transaction had no effect and may be run again on the same connection: a lock timeout,
/// a deadlock or a serialization failure. A lost connection is not among them: its
/// transaction's outcome has to be read first.
pub fn is_retryable(error: &Error) -> bool {
    error.code().is_some_and(is_retryable_code)
}

/// [`is_retryable`] by code.
pub fn is_retryable_code(code: &SqlState) -> bool {
    [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ]
    .contains(code)
}

/// 57014: `statement_timeout`, a cancel request, or `pg_cancel_backend`.
pub fn is_query_canceled(error: &Error) -> bool {
    is(error, &SqlState::QUERY_CANCELED)
}

/// 53300: no connection slot is free.
pub fn is_too_many_connections(error: &Error) -> bool {
    is(error, &SqlState::TOO_MANY_CONNECTIONS)
}

/// 53100: a disk of the server is full.
pub fn is_disk_full(error: &Error) -> bool {
    is(error, &SqlState::DISK_FULL)
}

/// 25006: the server is a standby, or the transaction read-only.
pub fn is_read_only(error: &Error) -> bool {
    is(error, &SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// Where in the text that was sent the error is: 1-based, in characters. None also where the
/// place is in a query inside a function.
pub fn position(error: &Error) -> Option<u32> {
    match error.as_db_error().and_then(DbError::position)? {
        ErrorPosition::Original(position) => Some(*position),
        ErrorPosition::Internal { .. } => None,
    }
}

/// A server's 1-based character position as a byte offset of `query`; past the end gives the
/// length.
pub fn byte_offset(query: &str, position: u32) -> usize {
    let characters = usize::try_from(position.saturating_sub(1)).unwrap_or(usize::MAX);
    query
        .char_indices()
        .nth(characters)
        .map_or(query.len(), |(offset, _)| offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shutdowns_and_timeouts_end_the_connection_and_ordinary_errors_do_not() {
        for code in [
            "08000", "08006", "08P01", "57P01", "57P02", "57P03", "57P05", "25P03",
        ] {
            assert!(ends_connection(&SqlState::from_code(code)), "{code}");
        }
        for code in [
            "57014", "57P04", "53300", "40001", "55P03", "25006", "42601",
        ] {
            assert!(!ends_connection(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn only_transactions_without_effect_are_retryable() {
        for code in ["55P03", "40P01", "40001"] {
            assert!(is_retryable_code(&SqlState::from_code(code)), "{code}");
        }
        for code in ["08006", "57P01", "57014", "40003", "40002", "23505"] {
            assert!(!is_retryable_code(&SqlState::from_code(code)), "{code}");
        }
    }

    #[test]
    fn positions_count_characters() {
        let query = "SELECT 'é', nope";
        assert_eq!(&query[byte_offset(query, 13)..], "nope");
        assert_eq!(byte_offset(query, 1), 0);
        assert_eq!(byte_offset(query, 0), 0);
        assert_eq!(byte_offset(query, 999), query.len());
    }

    proptest! {
        #[test]
        fn an_offset_is_always_a_boundary(query in ".{0,20}", position in 0u32..30) {
            prop_assert!(query.is_char_boundary(byte_offset(&query, position)));
        }
    }
}
