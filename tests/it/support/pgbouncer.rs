//! A real PgBouncer in front of a server.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::SimpleQueryMessage;

use super::connect;

/// A running PgBouncer; killed where it is dropped.
pub(crate) struct PgBouncer {
    dir: TempDir,
    account: Option<(u32, u32)>,
    port: u16,
    child: Option<Child>,
}

/// `PGSHIFT_PGBOUNCER`, else the one in `PATH` or where Debian puts it.
fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("PGSHIFT_PGBOUNCER") {
        return given.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join("pgbouncer"))
        .find(|file| file.is_file())
        .expect("no pgbouncer: scripts/setup.sh installs it, or PGSHIFT_PGBOUNCER names it")
}

/// The user and group to run as where we are root, which PgBouncer refuses to be. Asked of a
/// folder that we have just made: its owner tells who we are.
fn account(dir: &Path) -> Option<(u32, u32)> {
    if dir.metadata().expect("our folder").uid() != 0 {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    ["postgres", "nobody"].iter().find_map(|name| {
        let line = passwd.lines().find(|l| l.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

impl PgBouncer {
    /// In front of the server of `url`, whose databases it has by their own names, and `alias` as
    /// `aliased`.
    pub(crate) async fn start(url: &str, mode: &str, pool: u32, aliased: &str) -> Self {
        let (server, _) = url.rsplit_once('/').expect("postgres://…/database");
        let (host, server_port) = server
            .rsplit_once('@')
            .and_then(|(_, place)| place.rsplit_once(':'))
            .expect("postgres://user@host:port/…");
        let dir = tempfile::Builder::new()
            .prefix("pgshift-pool-")
            .tempdir()
            .expect("a temporary folder");
        let mut bouncer = Self {
            account: account(dir.path()),
            dir,
            port: 0,
            child: None,
        };
        for _ in 0..10 {
            bouncer.port = fastrand::u16(61_000..65_000);
            let ini = format!(
                "[databases]\n\
                 alias = host={host} port={server_port} dbname={aliased}\n\
                 * = host={host} port={server_port}\n\
                 [pgbouncer]\n\
                 listen_addr = 127.0.0.1\n\
                 listen_port = {}\n\
                 unix_socket_dir =\n\
                 auth_type = trust\n\
                 auth_file = {}\n\
                 stats_users = stats\n\
                 pool_mode = {mode}\n\
                 default_pool_size = {pool}\n\
                 server_login_retry = 1\n",
                bouncer.port,
                bouncer.file("users").display(),
            );
            std::fs::write(bouncer.file("pgbouncer.ini"), ini).expect("pgbouncer.ini");
            std::fs::write(bouncer.file("users"), "\"postgres\" \"\"\n\"stats\" \"\"\n")
                .expect("users");
            if bouncer.starts().await {
                return bouncer;
            }
        }
        panic!("PgBouncer does not start: {}", bouncer.log());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Starts it on its port again after it was killed.
    pub(crate) async fn start_again(&mut self) {
        assert!(self.starts().await, "PgBouncer, again: {}", self.log());
    }

    /// Starts it on its port; false where it ends at once.
    async fn starts(&mut self) -> bool {
        if let Some((user, group)) = self.account {
            chown(self.dir.path(), Some(user), Some(group)).expect("chown");
        }
        let log = File::create(self.file("log")).expect("its log");
        let mut command = Command::new(program());
        command
            .arg(self.file("pgbouncer.ini"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("its log"))
            .stderr(log);
        if let Some((user, group)) = self.account {
            command.uid(user).gid(group);
        }
        self.child = Some(command.spawn().expect("the pgbouncer program"));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            let child = self.child.as_mut().expect("just started");
            if !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            if connect(&self.console()).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `127.0.0.1:port`
    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a database through it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.place())
    }

    /// The URL of its console, for a user that may read only.
    pub(crate) fn console(&self) -> String {
        format!("postgres://stats@{}/pgbouncer", self.place())
    }

    /// True for a version that carries prepared statements by transactions (1.21 and later).
    pub(crate) async fn carries_statements(&self) -> bool {
        let console = connect(&self.console()).await.expect("the console");
        let config = console.simple_query("SHOW CONFIG").await.expect("SHOW");
        config.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => {
                row.get("key") == Some("max_prepared_statements") && row.get("value") != Some("0")
            }
            _ => false,
        })
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.kill();
    }
}
