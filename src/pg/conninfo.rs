//! What a connection string and the environment mean: typed settings, libpq's defaults and
//! ours. Pure; [`Target`](super::connect::Target) adds files and the operating system.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::url::{self, Params};
use crate::{Error, Result};

/// Port of a server that says nothing else.
pub const DEFAULT_PORT: u16 = 5432;
/// Time that one address gets for answering, authenticating included. libpq waits for ever;
/// a tool that runs in a deployment must not.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A value that no output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the wire only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `sslmode` (PostgreSQL documentation, 34.19.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Without TLS; with it only if the server insists.
    Allow,
    /// With TLS; without it if that fails.
    Prefer,
    /// TLS, whoever the server is; with a root certificate the same as `verify-ca`.
    Require,
    /// TLS, with a certificate that a known authority signed.
    VerifyCa,
    /// TLS, with a certificate that a known authority signed for this host.
    VerifyFull,
}

/// `sslrootcert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootCert {
    /// The operating system's authorities.
    System,
    /// A PEM file.
    File(PathBuf),
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where both sides can.
    Prefer,
    /// Or fail.
    Require,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// A host name or IP address.
    Tcp(String),
    /// The directory of a Unix-domain socket.
    Unix(PathBuf),
    /// Not said: the local server, by socket or `localhost`.
    Default,
}

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Host name, address or socket directory.
    pub name: HostName,
    /// Address to connect to instead of looking the name up (`hostaddr`).
    pub addr: Option<IpAddr>,
    /// Port.
    pub port: u16,
}

impl Host {
    /// The name by which a password file knows the host.
    pub(super) fn passfile_name(&self) -> String {
        match (&self.name, self.addr) {
            (HostName::Tcp(name), _) => name.clone(),
            (HostName::Unix(directory), None) => directory.display().to_string(),
            (_, Some(addr)) => addr.to_string(),
            (HostName::Default, None) => String::new(),
        }
    }

    /// True for a connection that does not leave the machine's kernel and has no TLS.
    pub(super) fn is_socket(&self) -> bool {
        self.addr.is_none() && matches!(self.name, HostName::Unix(_))
    }
}

/// `host:port`, as in a URL.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            HostName::Tcp(name) if name.contains(':') => write!(f, "[{}]", escape_host(name))?,
            HostName::Tcp(name) => f.write_str(&escape_host(name))?,
            HostName::Unix(directory) => {
                f.write_str(&url::encode(&directory.display().to_string()))?;
            }
            HostName::Default => {}
        }
        write!(f, ":{}", self.port)
    }
}

/// Host names are shown plainly; what a URL could not hold is encoded.
fn escape_host(name: &str) -> String {
    name.split(':')
        .map(url::encode)
        .collect::<Vec<_>>()
        .join(":")
}

/// TCP liveness settings.
///
/// libpq leaves them to the operating system (two hours); a dead peer must be noticed while a
/// lock or a lease of ours still matters to the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepalive {
    /// Whether probes are sent at all.
    pub enabled: bool,
    /// Silence before the first probe.
    pub idle: Duration,
    /// Time between probes.
    pub interval: Duration,
    /// Lost probes after which the connection is dead.
    pub count: u32,
    /// Time that sent data may stay unacknowledged; zero leaves it to the operating system.
    pub user_timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            enabled: true,
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            user_timeout: Duration::from_mins(1),
        }
    }
}

/// Everything that connection string and environment say.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnInfo {
    /// Servers in the order to try, never empty.
    pub hosts: Vec<Host>,
    /// Role; the operating system's user if not said.
    pub user: Option<String>,
    /// Password; the password file is asked if not said.
    pub password: Option<Secret>,
    /// Password file instead of `~/.pgpass`.
    pub passfile: Option<PathBuf>,
    /// Database; the user's name if not said.
    pub dbname: Option<String>,
    /// Name of our sessions in `pg_stat_activity`.
    pub application_name: String,
    /// Server options (`-c name=value`).
    pub options: Option<String>,
    /// How much TLS.
    pub sslmode: SslMode,
    /// Authorities.
    pub sslrootcert: Option<RootCert>,
    /// Client certificate file (PEM).
    pub sslcert: Option<PathBuf>,
    /// Client key file (PEM).
    pub sslkey: Option<PathBuf>,
    /// Whether a server that refuses writes is passed over (`target_session_attrs=read-write`).
    pub read_write: bool,
    /// Time that one address gets; none waits for ever.
    pub connect_timeout: Option<Duration>,
    /// TCP liveness.
    pub keepalive: Keepalive,
    /// Whether hosts are tried in random order.
    pub random_order: bool,
    /// Channel binding of SCRAM authentication.
    pub channel_binding: ChannelBinding,
}

impl ConnInfo {
    /// Reads a connection string (none is the same as an empty one) and fills it from `env`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage), naming the parameter.
    pub fn parse(text: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut params = Params::parse(text.unwrap_or(""))?;
        params.fill(env);
        if params.get("host").is_none()
            && params.get("hostaddr").is_none()
            && env("PGSERVICE").is_some_and(|service| !service.is_empty())
        {
            // Going to the local default server instead would be the wrong database.
            return Err(
                Error::usage("PGSERVICE is set, and service files are not supported")
                    .hint("give the host in the database URL or in PGHOST"),
            );
        }
        Self::from_params(&params)
    }

    /// What the parameters mean.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_params(params: &Params) -> Result<Self> {
        let text = |name: &str| params.get(name).map(str::to_owned);
        let path = |name: &str| params.get(name).map(PathBuf::from);
        one_of(
            params,
            "client_encoding",
            &["UTF8", "UTF-8", "utf8", "utf-8", "auto"],
        )?;
        one_of(params, "gssencmode", &["disable", "prefer"])?;
        one_of(params, "sslnegotiation", &["postgres"])?;

        let sslrootcert = path("sslrootcert").map(|path| {
            if path == Path::new("system") {
                RootCert::System
            } else {
                RootCert::File(path)
            }
        });
        let sslmode = sslmode(params, sslrootcert.as_ref())?;
        Ok(Self {
            hosts: hosts(params)?,
            user: text("user"),
            password: params.get("password").map(Secret::new),
            passfile: path("passfile"),
            dbname: text("dbname"),
            application_name: text("application_name").unwrap_or_else(|| "pgshift".to_owned()),
            options: text("options"),
            sslmode,
            sslrootcert,
            sslcert: path("sslcert"),
            sslkey: path("sslkey"),
            read_write: read_write(params)?,
            connect_timeout: match number(params, "connect_timeout")? {
                None => Some(DEFAULT_CONNECT_TIMEOUT),
                Some(seconds) if seconds <= 0 => None,
                Some(seconds) => Some(seconds_of(seconds)),
            },
            keepalive: keepalive(params)?,
            random_order: one_of(params, "load_balance_hosts", &["disable", "random"])?
                == Some("random"),
            channel_binding: match one_of(
                params,
                "channel_binding",
                &["prefer", "require", "disable"],
            )? {
                Some("require") => ChannelBinding::Require,
                Some("disable") => ChannelBinding::Disable,
                _ => ChannelBinding::Prefer,
            },
        })
    }
}

/// The settings as a URL without the password, for people: it leads to the same servers,
/// user and database.
impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_url(f, self.user.as_deref(), &self.hosts, self.dbname.as_deref())
    }
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnInfo({self})")
    }
}

/// `postgres://user@host1:5432,host2:5432/db`.
pub(super) fn write_url(
    f: &mut fmt::Formatter<'_>,
    user: Option<&str>,
    hosts: &[Host],
    dbname: Option<&str>,
) -> fmt::Result {
    f.write_str("postgres://")?;
    if let Some(user) = user {
        write!(f, "{}@", url::encode(user))?;
    }
    for (i, host) in hosts.iter().enumerate() {
        write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
    }
    match dbname {
        Some(dbname) => write!(f, "/{}", url::encode(dbname)),
        None => Ok(()),
    }
}

fn hosts(params: &Params) -> Result<Vec<Host>> {
    let list = |name| {
        params
            .get(name)
            .map(|list| list.split(',').collect::<Vec<_>>())
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = match (&names, &addresses) {
        (Some(names), Some(addresses)) if names.len() != addresses.len() => {
            return Err(Error::usage(format!(
                "`host` names {} hosts and `hostaddr` {} addresses",
                names.len(),
                addresses.len()
            )));
        }
        (Some(names), _) => names.len(),
        (None, Some(addresses)) => addresses.len(),
        (None, None) => 1,
    };
    let ports = ports.unwrap_or_else(|| vec![""]);
    if ports.len() != 1 && ports.len() != count {
        return Err(Error::usage(format!(
            "`port` gives {} ports for {count} hosts",
            ports.len()
        ))
        .hint("give one port for all hosts, or one for each"));
    }
    let item = |list: &Option<Vec<&str>>, i: usize| {
        list.as_ref()
            .and_then(|list| list.get(i))
            .map_or("", |item| item.trim())
            .to_owned()
    };
    (0..count)
        .map(|i| {
            let name = match item(&names, i) {
                name if name.is_empty() => HostName::Default,
                name if name.starts_with('@') => {
                    return Err(Error::usage("abstract Unix sockets are not supported")
                        .hint("give the directory of the socket as host"));
                }
                name if name.starts_with('/') => HostName::Unix(PathBuf::from(name)),
                name => HostName::Tcp(name),
            };
            let addr = match item(&addresses, i) {
                addr if addr.is_empty() => None,
                addr => Some(addr.parse::<IpAddr>().map_err(|_| {
                    Error::usage(format!("`hostaddr` number {} is not an IP address", i + 1))
                })?),
            };
            let port = ports
                .get(i)
                .or(ports.first())
                .map_or("", |port| port.trim());
            let port = match port {
                "" => DEFAULT_PORT,
                port => port
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| Error::usage("`port` is not a number from 1 to 65535"))?,
            };
            Ok(Host { name, addr, port })
        })
        .collect()
}

fn sslmode(params: &Params, root: Option<&RootCert>) -> Result<SslMode> {
    let mode = one_of(
        params,
        "sslmode",
        &[
            "disable",
            "allow",
            "prefer",
            "require",
            "verify-ca",
            "verify-full",
        ],
    )?;
    let system = root == Some(&RootCert::System);
    match mode {
        // As libpq: anyone can get a certificate from a public authority, so only the host
        // name says who the server is.
        None | Some("verify-full") if system => Ok(SslMode::VerifyFull),
        Some(mode) if system => Err(Error::usage(format!(
            "sslmode={mode} may not be used with sslrootcert=system"
        ))
        .hint("use sslmode=verify-full")),
        Some("disable") => Ok(SslMode::Disable),
        Some("allow") => Ok(SslMode::Allow),
        Some("require") => Ok(SslMode::Require),
        Some("verify-ca") => Ok(SslMode::VerifyCa),
        Some("verify-full") => Ok(SslMode::VerifyFull),
        _ => Ok(SslMode::Prefer),
    }
}

fn read_write(params: &Params) -> Result<bool> {
    match params.get("target_session_attrs") {
        None | Some("read-write") => Ok(true),
        Some("any") => Ok(false),
        Some(other @ ("read-only" | "primary" | "standby" | "prefer-standby")) => Err(
            Error::usage(format!("target_session_attrs={other} is not supported"))
                .hint("pgshift writes: use read-write (the default), or any"),
        ),
        Some(_) => Err(Error::usage("`target_session_attrs` has an unknown value")
            .hint("use read-write (the default), or any")),
    }
}

fn keepalive(params: &Params) -> Result<Keepalive> {
    let mut keepalive = Keepalive::default();
    if let Some(on) = number(params, "keepalives")? {
        keepalive.enabled = on != 0;
    }
    let positive = |name: &str| Ok::<_, Error>(number(params, name)?.filter(|n| *n > 0));
    if let Some(seconds) = positive("keepalives_idle")? {
        keepalive.idle = seconds_of(seconds);
    }
    if let Some(seconds) = positive("keepalives_interval")? {
        keepalive.interval = seconds_of(seconds);
    }
    if let Some(count) = positive("keepalives_count")? {
        keepalive.count = count.unsigned_abs();
    }
    if let Some(millis) = number(params, "tcp_user_timeout")? {
        keepalive.user_timeout = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    }
    Ok(keepalive)
}

fn seconds_of(seconds: i32) -> Duration {
    Duration::from_secs(u64::from(seconds.unsigned_abs()))
}

fn number(params: &Params, name: &str) -> Result<Option<i32>> {
    params
        .get(name)
        .map(|text| {
            text.trim()
                .parse()
                .map_err(|_| Error::usage(format!("`{name}` is not a whole number")))
        })
        .transpose()
}

/// The value, if it is one that is allowed.
fn one_of<'a>(params: &'a Params, name: &str, allowed: &[&str]) -> Result<Option<&'a str>> {
    match params.get(name) {
        Some(value) if !allowed.contains(&value) => Err(Error::usage(format!(
            "`{name}` has a value that is not supported"
        ))
        .hint(format!("use one of: {}", allowed.join(", ")))),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests;
