//! From the errors of tokio-postgres and its pool to the crate's own.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::{DbError, SqlState};

use super::sqlstate;
use crate::{Error, ErrorKind};

/// What went wrong on a connection, as an [`Error`] that says it in one line.
///
/// | cause | kind |
/// |---|---|
/// | network, TLS, 08…, 57P0…, 53300, a session ended by the server | `Connection` |
/// | 55P03, 40P01 | `Lock` |
/// | 57014, 40…, 53…, 58… | `Interrupted`: it may go through later |
/// | 25006, 42501, 55…, XX… | `Refused`: a person must decide |
/// | wrong credentials, and every other server error | `Usage` |
/// | our own use of the driver | `Internal` |
///
/// The server's SQLSTATE, message, DETAIL, HINT and object names are kept, and so is the
/// original error, as [`source`](std::error::Error::source).
pub fn from_pg(error: tokio_postgres::Error) -> Error {
    match recover(error) {
        Ok(ours) => ours,
        Err(error) => match error.as_db_error() {
            Some(db) => from_db(db, sqlstate::is_connection_lost(&error)).caused_by(error),
            None => from_driver(&error).caused_by(error),
        },
    }
}

/// [`from_pg`] for what a pool's `get` gives.
pub fn from_pool(error: deadpool_postgres::PoolError) -> Error {
    use deadpool_postgres::PoolError;
    match error {
        PoolError::Backend(error) => from_pg(error),
        PoolError::Timeout(_) => Error::connection("no connection became free in the pool in time"),
        other => Error::internal(format!("connection pool: {other}")),
    }
}

/// An error of ours that had to travel as one of tokio-postgres (see [`smuggle`]).
fn recover(error: tokio_postgres::Error) -> Result<Error, tokio_postgres::Error> {
    let carries = |error: &tokio_postgres::Error| {
        error
            .source()?
            .downcast_ref::<io::Error>()?
            .get_ref()?
            .is::<Error>()
            .then_some(())
    };
    if carries(&error).is_none() {
        return Err(error);
    }
    error
        .into_source()
        .and_then(|source| source.downcast::<io::Error>().ok())
        .and_then(|io| io.into_inner())
        .and_then(|inner| inner.downcast::<Error>().ok())
        .map_or_else(
            || Ok(Error::internal("an error was lost on its way")),
            |ours| Ok(*ours),
        )
}

/// An error of ours as one of tokio-postgres, for `deadpool_postgres::Connect`, whose error
/// type cannot be made from outside: a connection over a stream that fails with it.
/// [`from_pg`] gets it back whole.
pub(super) async fn smuggle(error: Error) -> tokio_postgres::Error {
    let mut config = tokio_postgres::Config::new();
    config
        .user("none")
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    let stream = Failing(Some(io::Error::other(error)));
    match config.connect_raw(stream, tokio_postgres::NoTls).await {
        Err(error) => error,
        Ok(_) => unreachable!("the stream never delivers a byte"),
    }
}

/// A stream whose first use fails with the given error.
struct Failing(Option<io::Error>);

impl Failing {
    fn fail<T>(&mut self) -> std::task::Poll<io::Result<T>> {
        let error = self.0.take();
        std::task::Poll::Ready(Err(
            error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
        ))
    }
}

impl tokio::io::AsyncRead for Failing {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.fail()
    }
}

impl tokio::io::AsyncWrite for Failing {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        self.fail()
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.fail()
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

fn from_db(db: &DbError, connection_lost: bool) -> Error {
    let kind = kind_of(db.code(), connection_lost);
    let mut error = Error::new(kind, describe(db)).with_sqlstate(db.code().code());
    let hint = db.hint().map(one_line);
    let hint = hint.or_else(|| match db.code().code() {
        "42501" => Some(grant_for(db.message())),
        _ => hint_for(db.code()),
    });
    if let Some(hint) = hint {
        error = error.hint(hint);
    }
    error
}

/// The kind of a server error; `connection_lost` says that it ended the session.
fn kind_of(code: &SqlState, connection_lost: bool) -> ErrorKind {
    let text = code.code();
    let class = text.get(..2).unwrap_or("");
    match text {
        // These end the session too, being about its start; but coming again will not help.
        _ if class == "28" || text == "3D000" || text == "42501" => match text {
            "42501" => ErrorKind::Refused,
            _ => ErrorKind::Usage,
        },
        "53300" => ErrorKind::Connection,
        _ if connection_lost || sqlstate::ends_connection(code) => ErrorKind::Connection,
        "55P03" | "40P01" => ErrorKind::Lock,
        "57014" => ErrorKind::Interrupted,
        "25006" => ErrorKind::Refused,
        _ => match class {
            "40" | "53" | "58" => ErrorKind::Interrupted,
            "55" | "XX" | "F0" => ErrorKind::Refused,
            _ => ErrorKind::Usage,
        },
    }
}

/// Tables of the state schema, which the server names without it.
const STATE_TABLES: &[&str] = &[
    "schema_version",
    "migration",
    "run",
    "step",
    "lease",
    "checkpoint",
    "failed_row",
    "override",
    "event",
    "event_head",
    "verification",
    "verify_range",
    "wrong_row",
];

/// The grant that a role lacks, by the server's words (`aclcheck_error` of `PostgreSQL`); in other
/// languages than English where to look.
fn grant_for(message: &str) -> String {
    let denied = |what: &str| {
        message
            .strip_prefix("permission denied ")?
            .strip_prefix(what)
    };
    let grant = if let Some(database) = denied("to create temporary tables in database ") {
        format!("GRANT TEMPORARY ON DATABASE {database} TO the role")
    } else if let Some(database) = denied("for database ") {
        format!("GRANT CREATE ON DATABASE {database} TO the role")
    } else if let Some(schema) = denied("for schema ") {
        format!("GRANT USAGE ON SCHEMA {schema} TO the role, and CREATE to make objects in it")
    } else if denied("for function pg_").is_some() {
        "GRANT pg_monitor TO the role".to_owned()
    } else if denied("for function append_event").is_some()
        || denied("for table ").is_some_and(|name| STATE_TABLES.contains(&name))
    {
        // The server names no schema, and others have such names too.
        "what is in the schema pgshift is written by the role that runs migrations alone: connect \
         as that one; to look it takes GRANT SELECT"
            .to_owned()
    } else if let Some(function) = denied("for function ") {
        format!("GRANT EXECUTE ON FUNCTION {function} TO the role")
    } else if let Some(sequence) = denied("for sequence ") {
        format!("GRANT USAGE, SELECT ON SEQUENCE {sequence} TO the role")
    } else if let Some(name) = denied("for table ").or_else(|| denied("for view ")) {
        format!(
            "GRANT SELECT ON {name} TO the role if it is to read, REFERENCES if a foreign key is to \
             point there, else connect as the owner or grant the role membership in it"
        )
    } else if message.starts_with("must be owner of ") {
        "connect as the owner, or GRANT the owner's role TO the role".to_owned()
    } else {
        "grant the role what is missing, or connect as the owner of the tables".to_owned()
    };
    one_line(&format!("{grant}; see docs/privileges.md"))
}

/// What to do about an error for which servers give no hint.
fn hint_for(code: &SqlState) -> Option<String> {
    let hint = match code.code() {
        "28P01" => {
            "check user and password: the database URL, PGPASSWORD, or ~/.pgpass (mode 0600)"
        }
        "28000" => "the server's pg_hba.conf does not admit this user, host or kind of connection",
        "3D000" => "check the database name; without one it is the user's name",
        "25006" => "connect to the primary: add its host to the database URL",
        "53100" => "make room on the server's disk, then run `pgshift resume`",
        "53300" => "wait for connections to end, or use fewer workers",
        "57P03" => "the server is starting up or recovering: try again in a moment",
        "55P03" => "another session holds the lock; see `pg_stat_activity`, then try again",
        "08P01" => {
            "a connection pooler in between may not know a startup parameter; connect directly"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// One line: message, the objects it is about, DETAIL.
fn describe(db: &DbError) -> String {
    let mut text = one_line(db.message());
    let named: Vec<String> = [
        ("table", db.table()),
        ("column", db.column()),
        ("constraint", db.constraint()),
        ("type", db.datatype()),
    ]
    .into_iter()
    .filter_map(|(what, name)| Some((what, name?)))
    // Most messages name their objects themselves.
    .filter(|(_, name)| !text.contains(&format!("\"{name}\"")))
    .map(|(what, name)| match (what, db.schema()) {
        ("table", Some(schema)) => format!("{what} {schema}.{name}"),
        _ => format!("{what} {name}"),
    })
    .collect();
    if !named.is_empty() {
        text = format!("{text} ({})", named.join(", "));
    }
    if let Some(detail) = db.detail() {
        text = format!("{text}: {}", one_line(detail));
    }
    text
}

fn one_line(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// An error that the server did not send.
fn from_driver(error: &tokio_postgres::Error) -> Error {
    let text = error.to_string();
    let cause = cause_of(error);
    let with_cause = |what: &str| match cause_of(error) {
        Some(cause) => format!("{what}: {cause}"),
        None => what.to_owned(),
    };
    if sqlstate::is_tls(error) {
        let ours = Error::connection(with_cause("TLS"));
        return match rustls_error(error).map(super::tls::hint_for) {
            Some(Some(hint)) => ours.hint(hint),
            Some(None) => ours,
            None => ours.hint("sslmode=prefer or disable goes without TLS"),
        };
    }
    if error.is_closed() {
        return Error::connection("the server closed the connection");
    }
    if sqlstate::is_transport(error) {
        return match (&*text, cause) {
            // The cause says it all: "Connection refused (os error 111)".
            ("error connecting to server", Some(cause)) => {
                Error::connection(cause).hint("is the server running there? check host and port")
            }
            (text, _) => Error::connection(with_cause(text)),
        };
    }
    match &*text {
        "invalid configuration" if cause.as_deref() == Some("password missing") => {
            Error::usage("the server asks for a password and none was given").hint(
                "set PGPASSWORD, or add a line to ~/.pgpass (mode 0600): \
                 host:port:database:user:password",
            )
        }
        "authentication error" | "invalid configuration" | "invalid connection string" => {
            Error::usage(with_cause(&text))
        }
        _ => Error::internal(with_cause(&text)),
    }
}

/// The innermost cause that says something, TLS in plain words.
fn cause_of(error: &tokio_postgres::Error) -> Option<String> {
    Some(match rustls_error(error) {
        Some(rustls) => super::tls::explain(rustls),
        None => one_line(&error.source()?.to_string()),
    })
}

fn rustls_error(error: &tokio_postgres::Error) -> Option<&rustls::Error> {
    let io = error.source()?.downcast_ref::<io::Error>()?;
    io.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str) -> ErrorKind {
        kind_of(&SqlState::from_code(code), false)
    }

    #[test]
    fn a_missing_right_is_named_with_what_grants_it() {
        for (message, grant) in [
            (
                "permission denied for schema app",
                "GRANT USAGE ON SCHEMA app TO",
            ),
            (
                "permission denied for database shop",
                "GRANT CREATE ON DATABASE shop TO",
            ),
            (
                "permission denied to create temporary tables in database \"shop\"",
                "GRANT TEMPORARY ON DATABASE \"shop\" TO",
            ),
            ("permission denied for table t", "GRANT SELECT ON t TO"),
            (
                "permission denied for function f",
                "GRANT EXECUTE ON FUNCTION f TO",
            ),
            (
                "permission denied for sequence s",
                "GRANT USAGE, SELECT ON SEQUENCE s TO",
            ),
            ("must be owner of table t", "GRANT the owner's role"),
            ("keine Berechtigung", "connect as the owner"),
        ] {
            let hint = grant_for(message);
            assert!(hint.contains(grant), "{hint}");
            assert!(hint.contains("docs/privileges.md"), "{hint}");
        }
    }

    #[test]
    fn codes_have_the_documented_kinds() {
        for (code, expected) in [
            ("08006", ErrorKind::Connection),
            ("57P01", ErrorKind::Connection),
            ("57P03", ErrorKind::Connection),
            ("53300", ErrorKind::Connection),
            ("55P03", ErrorKind::Lock),
            ("40P01", ErrorKind::Lock),
            ("40001", ErrorKind::Interrupted),
            ("57014", ErrorKind::Interrupted),
            ("53100", ErrorKind::Interrupted),
            ("42501", ErrorKind::Refused),
            ("25006", ErrorKind::Refused),
            ("55006", ErrorKind::Refused),
            ("28P01", ErrorKind::Usage),
            ("3D000", ErrorKind::Usage),
            ("23505", ErrorKind::Usage),
            ("42601", ErrorKind::Usage),
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
        let fatal = |code| kind_of(&SqlState::from_code(code), true);
        assert_eq!(fatal("28P01"), ErrorKind::Usage);
        assert_eq!(fatal("XX000"), ErrorKind::Connection);
    }

    #[tokio::test]
    async fn our_error_survives_as_one_of_the_driver() {
        let sent = Error::refused("is a standby")
            .hint("add the primary")
            .context("h:1");
        let got = from_pg(smuggle(sent).await);
        assert_eq!(got.kind(), ErrorKind::Refused);
        assert_eq!(got.message(), "h:1: is a standby");
        assert_eq!(got.what_next(), Some("add the primary"));
    }

    /// A "server" that reads what comes and answers with the given bytes.
    async fn answered(answer: Vec<u8>) -> Error {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let server = async move {
            let _ = theirs.read(&mut [0; 1024]).await;
            let _ = theirs.write_all(&answer).await;
        };
        let mut config = tokio_postgres::Config::new();
        config.user("u");
        let connected = async { config.connect_raw(ours, tokio_postgres::NoTls).await.err() };
        let ((), error) = tokio::join!(server, connected);
        from_pg(error.unwrap())
    }

    fn error_response(fields: &[(char, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in fields {
            body.push(u8::try_from(*kind).unwrap());
            body.extend(value.as_bytes());
            body.push(0);
        }
        body.push(0);
        let mut message = vec![b'E'];
        message.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
        message.extend(body);
        message
    }

    #[tokio::test]
    async fn a_server_error_keeps_everything_a_person_needs() {
        let error = answered(error_response(&[
            ('S', "ERROR"),
            ('V', "ERROR"),
            ('C', "23514"),
            ('M', "new row violates check constraint \"positive\""),
            ('D', "Failing row contains\n (1, -1)."),
            ('H', "Look at it."),
            ('s', "public"),
            ('t', "orders"),
            ('n', "positive"),
        ]))
        .await;
        assert_eq!(
            error.message(),
            "new row violates check constraint \"positive\" (table public.orders): \
             Failing row contains; (1, -1)."
        );
        assert_eq!(error.sqlstate(), Some("23514"));
        assert_eq!(error.what_next(), Some("Look at it."));
        assert_eq!(error.kind(), ErrorKind::Usage);
        let source = error
            .source()
            .unwrap()
            .downcast_ref::<tokio_postgres::Error>()
            .unwrap();
        assert!(!sqlstate::is_retryable(source));
    }

    #[tokio::test]
    async fn missing_password_and_broken_connections_are_told_apart() {
        // AuthenticationCleartextPassword.
        let error = answered(vec![b'R', 0, 0, 0, 8, 0, 0, 0, 3]).await;
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.message().contains("asks for a password"), "{error}");
        // AuthenticationGSS.
        let error = answered(vec![b'R', 0, 0, 0, 8, 0, 0, 0, 7]).await;
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.message().contains("authentication"), "{error}");
        // Not the protocol at all.
        let error = answered(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");

        let fatal = [
            ('S', "FATAL"),
            ('V', "FATAL"),
            ('C', "XX000"),
            ('M', "gone"),
        ];
        assert_eq!(
            answered(error_response(&fatal)).await.kind(),
            ErrorKind::Connection
        );
    }
}
