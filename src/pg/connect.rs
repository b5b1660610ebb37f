//! Connections: where to, how, and the task that drives each.

mod driver;
mod environment;
mod libpq;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_postgres::config as pg;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Notification, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{self, ChannelBinding, ConnInfo, Host, HostName, SslMode};
use super::error::from_pg;
use super::{passfile, session, sqlstate, tls};
use crate::throttle::pools::CONSOLE;
use crate::{Error, ErrorKind, Result};
use driver::{PoolConnect, drive};
use environment::{default_passfile, home, local_server};

pub use environment::environment;

type Driver = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// A database to connect to: settings resolved, files read. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    settings: Arc<Settings>,
    tls: MakeRustlsConnect,
}

struct Settings {
    servers: Vec<Server>,
    user: String,
    dbname: String,
    info: ConnInfo,
}

/// A host and the password for it.
#[derive(Clone)]
struct Server {
    host: Host,
    password: Option<conninfo::Secret>,
}

impl Target {
    /// A target from a connection string and the process's environment (the `PG…` variables,
    /// the password file, `~/.postgresql`). Nothing is connected yet.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`], naming the parameter or file.
    pub fn new(url: Option<&str>) -> Result<Self> {
        Self::resolve(ConnInfo::parse(url, &environment)?, &environment)
    }

    /// The admin console of a PgBouncer, from a connection string and the environment as in
    /// [`new`](Self::new). Its database is `pgbouncer`; it takes no `options`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`], also where another database or more than one host is named: each
    /// PgBouncer has queues of its own.
    pub fn console(url: &str) -> Result<Self> {
        let env = |name: &str| match name {
            "PGDATABASE" => Some(CONSOLE.to_owned()),
            "PGOPTIONS" | "PGTARGETSESSIONATTRS" => None,
            name => environment(name),
        };
        let info = ConnInfo {
            read_write: false,
            ..ConnInfo::parse(Some(url), &env)?
        };
        let wrong = if info.dbname.as_deref() != Some(CONSOLE) {
            "it names another database than pgbouncer, which is the console's"
        } else if info.hosts.len() > 1 {
            "it names more than one host, and each PgBouncer has queues of its own"
        } else {
            return Self::resolve(info, &env);
        };
        Err(Error::usage(format!("pgbouncer-url {info}: {wrong}"))
            .left("nothing was changed")
            .hint("write postgres://user@host:6432/pgbouncer"))
    }

    /// A target from settings; `env` says where the home directory is.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn resolve(info: ConnInfo, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let home = home(env);
        let user = match &info.user {
            Some(user) => user.clone(),
            None => whoami::username().map_err(|error| {
                Error::usage(format!("the operating system's user has no name: {error}"))
                    .hint("give the user in the database URL or in PGUSER")
            })?,
        };
        let dbname = info.dbname.clone().unwrap_or_else(|| user.clone());
        let passwords = match &info.password {
            Some(_) => None,
            None => info
                .passfile
                .clone()
                .or_else(|| default_passfile(home.as_deref(), env))
                .and_then(|path| passfile::read(&path)),
        };
        let servers = info
            .hosts
            .iter()
            .map(|host| Server {
                password: info.password.clone().or_else(|| {
                    let lookup = passfile::Lookup {
                        host: &host.passfile_name(),
                        port: host.port,
                        dbname: &dbname,
                        user: &user,
                    };
                    passfile::find(passwords.as_deref()?, &lookup).map(conninfo::Secret::new)
                }),
                host: match (&host.name, host.addr) {
                    (HostName::Default, None) => Host {
                        name: local_server(host.port),
                        ..host.clone()
                    },
                    _ => host.clone(),
                },
            })
            .collect();
        let tls = MakeRustlsConnect::new(tls::client_config(&info, home.as_deref())?);
        Ok(Self {
            settings: Arc::new(Settings {
                servers,
                user,
                dbname,
                info,
            }),
            tls,
        })
    }

    /// The role that connects.
    pub fn user(&self) -> &str {
        &self.settings.user
    }

    /// The database's name.
    pub fn dbname(&self) -> &str {
        &self.settings.dbname
    }

    /// The servers, in the order given.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.settings.servers.iter().map(|server| &server.host)
    }

    /// Connects to the first server that answers and, unless `target_session_attrs=any`, takes
    /// writes. The connection is driven by a task that ends with the client; notices of the
    /// server go to the log.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] if no server can be reached, [`ErrorKind::Refused`] if all
    /// that can be are standbys or read-only, [`ErrorKind::Usage`] for wrong credentials (the
    /// servers after it are not tried, as in libpq).
    pub async fn connect(&self) -> Result<Client> {
        let (client, driver) = self.open().await?;
        tokio::spawn(drive(driver, None));
        Ok(client)
    }

    /// [`connect`](Self::connect), with what LISTEN brings. The channel closes when the
    /// connection ends, which is how a lost connection shows while nothing is asked.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_listening(
        &self,
    ) -> Result<(Client, mpsc::UnboundedReceiver<Notification>)> {
        let (client, driver) = self.open().await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(drive(driver, Some(sender)));
        Ok((client, receiver))
    }

    /// A pool of at most `size` connections, made as [`connect`](Self::connect) makes them.
    /// Its errors become ours by [`from_pool`](super::error::from_pool).
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the pool cannot be built.
    pub fn pool(&self, size: usize) -> Result<deadpool_postgres::Pool> {
        Self::built(self.pool_builder(size))
    }

    /// A [`pool`](Self::pool) of sessions of a run, see
    /// [`make_of_run`](session::make_of_run).
    ///
    /// # Errors
    /// As [`pool`](Self::pool).
    pub fn session_pool(&self, size: usize) -> Result<deadpool_postgres::Pool> {
        let hook = deadpool_postgres::Hook::async_fn(|client, _| {
            Box::pin(async move {
                session::make_of_run(client)
                    .await
                    .map_err(deadpool_postgres::HookError::Backend)
            })
        });
        Self::built(self.pool_builder(size).post_create(hook))
    }

    fn built(builder: deadpool_postgres::PoolBuilder) -> Result<deadpool_postgres::Pool> {
        builder
            .build()
            .map_err(|error| Error::internal(format!("connection pool: {error}")))
    }

    fn pool_builder(&self, size: usize) -> deadpool_postgres::PoolBuilder {
        let manager = deadpool_postgres::Manager::from_connect(
            Config::new(),
            PoolConnect(self.clone()),
            deadpool_postgres::ManagerConfig {
                recycling_method: deadpool_postgres::RecyclingMethod::Fast,
            },
        );
        deadpool_postgres::Pool::builder(manager).max_size(size.max(1))
    }

    /// True where it asks for a server that takes writes.
    pub(super) fn wants_writes(&self) -> bool {
        self.settings.info.read_write
    }

    /// Asks the server to cancel what a connection of this target is running. That it was
    /// asked is all that is known: the query may end otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::Connection`] if the server cannot be reached.
    pub async fn cancel(&self, token: &CancelToken) -> Result<()> {
        self.in_time(async { token.cancel_query(self.tls.clone()).await.map_err(from_pg) })
            .await
    }

    /// This target, only the server at `address`.
    pub(super) fn only(&self, address: &Address) -> Self {
        let mut server = self.settings.servers[address.server].clone();
        server.host.addr = address.addr;
        Self {
            settings: Arc::new(Settings {
                servers: vec![server],
                user: self.settings.user.clone(),
                dbname: self.settings.dbname.clone(),
                info: self.settings.info.clone(),
            }),
            tls: self.tls.clone(),
        }
    }

    /// This target without the demand that the server takes writes: connecting then sends no
    /// query.
    pub(super) fn any_session(&self) -> Self {
        Self {
            settings: Arc::new(Settings {
                servers: self.settings.servers.clone(),
                user: self.settings.user.clone(),
                dbname: self.settings.dbname.clone(),
                info: ConnInfo {
                    read_write: false,
                    ..self.settings.info.clone()
                },
            }),
            tls: self.tls.clone(),
        }
    }

    /// [`connect`](Self::connect), telling which server it was.
    pub(super) async fn connect_where(&self) -> Result<(Client, Address)> {
        let (client, driver, address) = self.open_where().await?;
        tokio::spawn(drive(driver, None));
        Ok((client, address))
    }

    async fn open(&self) -> Result<(Client, Driver)> {
        let (client, driver, _) = self.open_where().await?;
        Ok((client, driver))
    }

    /// Tries each address of each server in turn.
    async fn open_where(&self) -> Result<(Client, Driver, Address)> {
        let servers = &self.settings.servers;
        let mut order: Vec<usize> = (0..servers.len()).collect();
        if self.settings.info.random_order {
            fastrand::shuffle(&mut order);
        }
        let mut failures: Vec<Error> = Vec::new();
        for index in order {
            let server = &servers[index];
            let mut addresses = match self.addresses(&server.host).await {
                Ok(addresses) => addresses,
                Err(error) => {
                    failures.push(self.at(&server.host, error));
                    continue;
                }
            };
            if self.settings.info.random_order {
                fastrand::shuffle(&mut addresses);
            }
            for addr in addresses {
                match self.open_address(server, addr).await {
                    Ok((client, driver)) => {
                        tracing::debug!(target: "pgshift::pg", "connected to {}", server.host);
                        let address = Address {
                            server: index,
                            addr,
                        };
                        return Ok((client, driver, address));
                    }
                    Err(error) => {
                        tracing::debug!(target: "pgshift::pg", "{}: {error}", server.host);
                        let last_word = error.kind() == ErrorKind::Usage;
                        failures.push(self.at(&server.host, error));
                        if last_word {
                            return Err(self.none_of(failures));
                        }
                    }
                }
            }
        }
        Err(self.none_of(failures))
    }

    /// What to connect to for a host: nothing for a socket, else its addresses.
    async fn addresses(&self, host: &Host) -> Result<Vec<Option<IpAddr>>> {
        let name = match (&host.name, host.addr) {
            (_, Some(addr)) => return Ok(vec![Some(addr)]),
            (HostName::Unix(_), None) => return Ok(vec![None]),
            (HostName::Tcp(name), None) => name.as_str(),
            (HostName::Default, None) => "localhost",
        };
        let looked_up = self
            .in_time(async {
                tokio::net::lookup_host((name, host.port))
                    .await
                    .map(|found| found.map(|socket: SocketAddr| Some(socket.ip())).collect())
                    .map_err(|error| {
                        Error::connection(format!("the host name cannot be looked up: {error}"))
                            .hint("check the host name and the network")
                    })
            })
            .await?;
        let mut addresses: Vec<Option<IpAddr>> = looked_up;
        addresses.dedup();
        if addresses.is_empty() {
            return Err(Error::connection("the host name has no address"));
        }
        Ok(addresses)
    }

    /// One address: with TLS and without as `sslmode` allows.
    async fn open_address(
        &self,
        server: &Server,
        addr: Option<IpAddr>,
    ) -> Result<(Client, Driver)> {
        let (first, second) = if server.host.is_socket() {
            (pg::SslMode::Disable, None)
        } else {
            match self.settings.info.sslmode {
                SslMode::Disable => (pg::SslMode::Disable, None),
                SslMode::Allow => (pg::SslMode::Disable, Some(pg::SslMode::Require)),
                SslMode::Prefer => (pg::SslMode::Prefer, Some(pg::SslMode::Disable)),
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                    (pg::SslMode::Require, None)
                }
            }
        };
        let config = self.config(server, addr, first);
        let tried = self.in_time(self.attempt(&config)).await;
        match (tried, second) {
            (Err(error), Some(second)) if other_way_may_help(&error) => {
                if second == pg::SslMode::Disable {
                    tracing::warn!(
                        target: "pgshift::pg",
                        "{}: {error}; trying without TLS, as sslmode=prefer allows", server.host
                    );
                }
                let config = self.config(server, addr, second);
                // The first way's error is the one that says why the second was needed.
                match self.in_time(self.attempt(&config)).await {
                    Ok(opened) => Ok(opened),
                    Err(_) if second == pg::SslMode::Require => Err(error),
                    Err(second) => Err(second),
                }
            }
            (tried, _) => tried,
        }
    }

    async fn attempt(&self, config: &Config) -> Result<(Client, Driver)> {
        // Boxed: it is 20 kB, and every future that connects would carry it.
        let connecting = Box::pin(config.connect(self.tls.clone()));
        let (client, mut driver) = connecting.await.map_err(from_pg)?;
        let other_strings = driver.parameter("standard_conforming_strings") == Some("off");
        if self.settings.info.read_write || other_strings {
            // The connection's messages move only while it is polled, which its task does not
            // do yet.
            let check = async {
                if other_strings {
                    session::standard_strings(&client).await?;
                }
                if self.settings.info.read_write {
                    session::require_read_write(&client).await?;
                }
                Ok(())
            };
            let mut check = std::pin::pin!(check);
            tokio::select! {
                biased;
                checked = &mut check => checked?,
                ended = &mut driver => {
                    ended.map_err(from_pg)?;
                    return Err(Error::connection("the server closed the connection"));
                }
            }
        }
        Ok((client, driver))
    }

    /// By hand, since [`Config`] cannot express every `sslmode`, nor a password for each host.
    fn config(&self, server: &Server, addr: Option<IpAddr>, sslmode: pg::SslMode) -> Config {
        let info = &self.settings.info;
        let mut config = Config::new();
        config
            .user(&self.settings.user)
            .dbname(&self.settings.dbname)
            .application_name(&info.application_name)
            .ssl_mode(sslmode)
            .port(server.host.port)
            .channel_binding(match info.channel_binding {
                ChannelBinding::Disable => pg::ChannelBinding::Disable,
                ChannelBinding::Prefer => pg::ChannelBinding::Prefer,
                ChannelBinding::Require => pg::ChannelBinding::Require,
            })
            .keepalives(info.keepalive.enabled)
            .keepalives_idle(info.keepalive.idle)
            .keepalives_interval(info.keepalive.interval)
            .keepalives_retries(info.keepalive.count);
        if !info.keepalive.user_timeout.is_zero() {
            config.tcp_user_timeout(info.keepalive.user_timeout);
        }
        if let Some(timeout) = info.connect_timeout {
            config.connect_timeout(timeout);
        }
        if let Some(options) = &info.options {
            config.options(options);
        }
        if let Some(password) = &server.password {
            config.password(password.reveal());
        }
        match (&server.host.name, addr) {
            // The name is what the certificate is checked for.
            (HostName::Tcp(name), Some(addr)) => config.host(name).hostaddr(addr),
            (_, Some(addr)) => config.host(addr.to_string()).hostaddr(addr),
            (HostName::Unix(directory), None) => config.host(directory.display().to_string()),
            (HostName::Tcp(name), None) => config.host(name),
            (HostName::Default, None) => config.host("localhost"),
        };
        config
    }

    /// Within the connect timeout, authenticating included: a server that accepts and then
    /// says nothing must not hold us.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.settings.info.connect_timeout {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or_else(|_| Err(no_answer(limit))),
        }
    }

    /// Says which host an error is about, where there are several.
    fn at(&self, host: &Host, error: Error) -> Error {
        if self.settings.servers.len() == 1 {
            return error;
        }
        error.context(host)
    }

    /// The one error of several attempts: the kind of the one that says most.
    fn none_of(&self, mut failures: Vec<Error>) -> Error {
        // Wrong credentials end the attempts, so they are last; where a server may come back,
        // trying again can help, and a standby only says where not to go.
        let decisive = failures
            .iter()
            .rposition(|e| e.kind() == ErrorKind::Usage)
            .or_else(|| {
                failures
                    .iter()
                    .position(|e| e.kind() == ErrorKind::Connection)
            })
            .unwrap_or(0);
        let others: Vec<String> = failures.iter().map(ToString::to_string).collect();
        if failures.is_empty() {
            return Error::internal("no server to connect to");
        }
        let error = failures.swap_remove(decisive);
        let mut all = Error::new(
            error.kind(),
            format!("cannot connect to {self}: {}", distinct(&others)),
        );
        if let Some(state) = error.sqlstate() {
            all = all.with_sqlstate(state);
        }
        if let Some(left) = error.what_was_left() {
            all = all.left(left);
        }
        if let Some(hint) = error.what_next() {
            all = all.hint(hint);
        }
        all.caused_by(error)
    }
}

/// `postgres://user@host1:5432,host2:5432/db`, without the password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<Host> = self.hosts().cloned().collect();
        let settings = &self.settings;
        conninfo::write_url(f, Some(&settings.user), &hosts, Some(&settings.dbname))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// Which of a target's servers was reached, and at which address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address {
    server: usize,
    addr: Option<IpAddr>,
}

/// Whether going without TLS (prefer) or with it (allow) can change the outcome: the handshake
/// failed, or `pg_hba.conf` has no line for this kind of connection (28000).
fn other_way_may_help(error: &Error) -> bool {
    let tls = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<tokio_postgres::Error>())
        .is_some_and(sqlstate::is_tls);
    tls || error.sqlstate() == Some("28000")
}

fn no_answer(limit: Duration) -> Error {
    Error::connection(format!("no answer within {} s", limit.as_secs()))
        .hint("check host, port and firewall; connect_timeout=SECONDS waits longer")
}

/// The messages once each: the addresses of a host often fail alike.
fn distinct(messages: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    for message in messages {
        if !seen.contains(&message.as_str()) {
            seen.push(message);
        }
    }
    seen.join("; ")
}

#[cfg(test)]
mod tests;
