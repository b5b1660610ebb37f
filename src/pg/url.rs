//! Connection strings: URLs and `key=value` text to named parameters, and back.
//!
//! Both forms of PostgreSQL's documentation, 34.1.1 "Connection Strings", become the same
//! [`Params`]; what the values mean is [`conninfo`](super::conninfo)'s part. Nothing here
//! repeats a piece of the input that could be part of a password.

use std::collections::BTreeMap;
use std::fmt;

use crate::{Error, Result};

/// Parameters that are understood, and the environment variable that stands in for each
/// (PostgreSQL documentation, 34.1.2 and 34.15).
///
/// `application_name` has none on purpose: our sessions are to be found as `pgshift` whatever
/// `PGAPPNAME` says.
pub(super) const KNOWN: &[(&str, Option<&str>)] = &[
    ("host", Some("PGHOST")),
    ("hostaddr", Some("PGHOSTADDR")),
    ("port", Some("PGPORT")),
    ("dbname", Some("PGDATABASE")),
    ("user", Some("PGUSER")),
    ("password", Some("PGPASSWORD")),
    ("passfile", Some("PGPASSFILE")),
    ("sslmode", Some("PGSSLMODE")),
    ("sslrootcert", Some("PGSSLROOTCERT")),
    ("sslcert", Some("PGSSLCERT")),
    ("sslkey", Some("PGSSLKEY")),
    ("sslnegotiation", None),
    ("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    ("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    ("options", Some("PGOPTIONS")),
    ("application_name", None),
    ("fallback_application_name", None),
    ("channel_binding", Some("PGCHANNELBINDING")),
    ("load_balance_hosts", Some("PGLOADBALANCEHOSTS")),
    ("keepalives", None),
    ("keepalives_idle", None),
    ("keepalives_interval", None),
    ("keepalives_count", None),
    ("tcp_user_timeout", None),
    ("client_encoding", None),
    ("gssencmode", None),
];

/// Parameters of libpq that pgshift does not have, and what to do instead.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("service", "give host, port, dbname and user themselves"),
    ("servicefile", "give host, port, dbname and user themselves"),
    (
        "sslpassword",
        "give a client key without a passphrase (sslkey)",
    ),
    ("sslcrl", "revocation lists are not read"),
    ("sslcrldir", "revocation lists are not read"),
    ("requirepeer", "use sslmode=verify-full over TCP"),
    ("require_auth", "use channel_binding=require"),
    ("krbsrvname", "Kerberos is not supported"),
    ("gsslib", "Kerberos is not supported"),
    ("gssdelegation", "Kerberos is not supported"),
    ("replication", "pgshift needs ordinary sessions"),
    ("sslcompression", "TLS compression is not supported"),
    ("sslsni", "the host name is always sent"),
    ("sslcertmode", "leave out sslcert to send no certificate"),
    ("ssl_min_protocol_version", "TLS 1.2 and 1.3 are offered"),
    ("ssl_max_protocol_version", "TLS 1.2 and 1.3 are offered"),
];

/// Parameters by name, each at most once: of duplicates the last one counts, as in libpq.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<&'static str, String>);

impl Params {
    /// Reads a URL (`postgres://` or `postgresql://`) or `key=value` text.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the part that is wrong.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme));
        let mut params = Self::default();
        match rest {
            Some(rest) => params.read_url(rest)?,
            None if text.contains("://") && !text.contains('=') => {
                return Err(Error::usage("the database URL has an unknown scheme")
                    .hint("write postgres://user@host:5432/dbname"));
            }
            None => params.read_pairs(text)?,
        }
        Ok(params)
    }

    /// The value of a parameter. An empty value counts as none, as in libpq.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Fills what is not given from the libpq environment variables.
    pub fn fill(&mut self, env: &dyn Fn(&str) -> Option<String>) {
        for (name, variable) in KNOWN {
            if self.get(name).is_none()
                && let Some(value) = variable.and_then(env).filter(|value| !value.is_empty())
            {
                self.0.insert(name, value);
            }
        }
    }

    /// Sets a known parameter.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the parameter, if it is unknown
    /// or not supported.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> Result<()> {
        let value = value.into();
        if name == "ssl" && value == "true" {
            // libpq takes it for JDBC's sake.
            self.0.insert("sslmode", "require".to_owned());
            return Ok(());
        }
        if name == "keepalives_retries" {
            return self.set("keepalives_count", value);
        }
        if let Some((known, _)) = KNOWN.iter().find(|(known, _)| *known == name) {
            self.0.insert(known, value);
            return Ok(());
        }
        if let Some((_, instead)) = UNSUPPORTED.iter().find(|(known, _)| *known == name) {
            return Err(
                Error::usage(format!("connection parameter `{name}` is not supported"))
                    .hint(*instead),
            );
        }
        Err(Error::usage(format!(
            "unknown connection parameter `{}`",
            printable(name)
        ))
        .hint("parameter names are libpq's: host, port, dbname, user, sslmode, …"))
    }

    /// The part after `scheme://`.
    fn read_url(&mut self, rest: &str) -> Result<()> {
        let (before_query, query) = match rest.split_once('?') {
            Some((before, query)) => (before, Some(query)),
            None => (rest, None),
        };
        let (authority, path) = match before_query.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (before_query, None),
        };
        // An unescaped `/`, `?` or `@` in the password moves its rest into a part that
        // messages would show; all three leave an `@` where none belongs.
        let hosts = match authority.split_once('@') {
            Some((userinfo, hosts)) => {
                let (user, password) = match userinfo.split_once(':') {
                    Some((user, password)) => (user, Some(password)),
                    None => (userinfo, None),
                };
                self.put("user", &decode(user, "user")?);
                if let Some(password) = password {
                    self.put("password", &decode(password, "password")?);
                }
                hosts
            }
            None => authority,
        };
        if hosts.contains('@') || path.is_some_and(|path| path.contains('@')) {
            return Err(unescaped());
        }
        self.read_hosts(hosts)?;
        if let Some(path) = path {
            self.put("dbname", &decode(path, "database name")?);
        }
        for pair in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(Error::usage(
                    "a query parameter of the database URL has no `=` and value",
                )
                .hint("if the password contains `?`, write it as %3F"));
            };
            let stray = !authority.contains('@') && value.contains('@') && !is_known(name);
            if name.contains('@') || stray {
                return Err(unescaped());
            }
            if value.contains('=') {
                return Err(
                    Error::usage("a query parameter of the database URL has two `=`")
                        .hint("write `=` in a value as %3D"),
                );
            }
            let name = decode(name, "parameter name")?;
            let value = decode(value, "parameter value")?;
            self.set(&name, value)?;
        }
        Ok(())
    }

    /// `host:port,[v6]:port,…` to the lists `host` and `port`.
    fn read_hosts(&mut self, hosts: &str) -> Result<()> {
        let mut names = Vec::new();
        let mut ports = Vec::new();
        for (number, one) in (1..).zip(hosts.split(',')) {
            let (name, port) = if let Some(rest) = one.strip_prefix('[') {
                let Some((address, after)) = rest.split_once(']') else {
                    return Err(Error::usage(format!(
                        "host {number} of the database URL: `[` without `]`"
                    )));
                };
                if address.is_empty() {
                    return Err(Error::usage(format!(
                        "host {number} of the database URL: the IPv6 address is empty"
                    )));
                }
                let port = match after.strip_prefix(':') {
                    Some(port) => port,
                    None if after.is_empty() => "",
                    None => {
                        return Err(Error::usage(format!(
                            "host {number} of the database URL: something other than `:port` \
                             follows the `]`"
                        )));
                    }
                };
                (address, port)
            } else {
                one.split_once(':').unwrap_or((one, ""))
            };
            names.push(decode(name, "host")?);
            if !port.is_empty() && port.parse::<u16>().is_err() {
                return Err(Error::usage(format!(
                    "host {number} of the database URL: the port is not a number from 1 to 65535"
                ))
                .hint(
                    "if the password contains `/`, `?`, `@` or `:`, write it percent-encoded \
                     (%2F, %3F, %40, %3A)",
                ));
            }
            ports.push(port);
        }
        self.put("host", &names.join(","));
        self.put("port", &ports.join(","));
        Ok(())
    }

    /// An empty part of a URL says nothing, so that the environment can.
    fn put(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.0.insert(name, value.to_owned());
        }
    }

    /// `key = 'value' key=value`, with `\'` and `\\` (34.1.1.1).
    fn read_pairs(&mut self, text: &str) -> Result<()> {
        let mut chars = text.chars().peekable();
        let mut after_password = false;
        loop {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            let mut name = String::new();
            while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != '=') {
                name.push(c);
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            if name.is_empty() && chars.peek().is_none() {
                return Ok(());
            }
            if chars.next_if_eq(&'=').is_none() || name.is_empty() {
                // The word may be the second half of an unquoted password: not repeated.
                return Err(Error::usage(
                    "the connection string has a word that is not `parameter=value`",
                )
                .hint(
                    "write postgres://user@host/dbname, or host=… dbname=…; a value with \
                     spaces needs quotes: options='-c work_mem=64MB'",
                ));
            }
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
            let quoted = chars.next_if_eq(&'\'').is_some();
            let mut value = String::new();
            let mut closed = !quoted;
            while let Some(&c) = chars.peek() {
                if !quoted && c.is_whitespace() {
                    break;
                }
                chars.next();
                match c {
                    '\\' => value.extend(chars.next()),
                    '\'' if quoted => {
                        closed = true;
                        break;
                    }
                    c => value.push(c),
                }
            }
            if !closed {
                return Err(Error::usage(
                    "the connection string has a quoted value without its closing quote",
                ));
            }
            if after_password && !is_known(&name) {
                return Err(Error::usage(
                    "an unknown parameter follows `password` in the connection string",
                )
                .hint("a password with spaces needs quotes: password='…'"));
            }
            after_password = name == "password" && !quoted;
            self.set(&name, value)?;
        }
    }
}

/// Names without values: values may be secret.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn is_known(name: &str) -> bool {
    KNOWN.iter().any(|(known, _)| *known == name)
}

fn unescaped() -> Error {
    Error::usage("the database URL has an unescaped special character in user or password")
        .hint("percent-encode it: `@` is %40, `/` is %2F, `?` is %3F, `:` is %3A")
}

/// What may be shown of an unknown parameter name.
fn printable(name: &str) -> String {
    name.chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(40)
        .collect()
}

/// Percent-decoding; `what` names the part in errors.
fn decode(text: &str, what: &str) -> Result<String> {
    let wrong = |why: &str| {
        Error::usage(format!("the {what} in the database URL {why}"))
            .hint("a literal `%` is written %25")
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let digit = |i: usize| after.get(i).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(wrong("has a `%` that two hexadecimal digits do not follow"));
        };
        match u8::try_from(high * 16 + low) {
            Ok(0) | Err(_) => return Err(wrong("contains %00")),
            Ok(byte) => bytes.push(byte),
        }
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 once decoded"))
}

/// Percent-encodes everything but unreserved characters (RFC 3986, 2.3).
pub(super) fn encode(text: &str) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests;
