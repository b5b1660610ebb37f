//! What the integration tests share: databases, the command line, an application's load.
#![allow(
    dead_code,
    unused_imports,
    reason = "a toolbox: not every tool has a user at every time"
)]

mod cli;
mod dump;
mod network;
mod pgbouncer;
mod workload;

use std::sync::Once;
use std::time::{Duration, Instant};

use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls};

pub(crate) use cli::{Cli, Output, Running};
pub(crate) use dump::schema_dump;
pub(crate) use network::Network;
pub(crate) use pgbouncer::PgBouncer;
pub(crate) use workload::{Machine, Report, Workload};

/// The URL in an environment variable that `scripts/test.sh` sets.
fn server(variable: &str) -> String {
    std::env::var_os(variable)
        .and_then(|value| value.into_string().ok())
        .unwrap_or_else(|| {
            panic!("{variable} is not set: this test needs servers, run it by scripts/test.sh")
        })
}

/// The URL of `database` on the server of `base`.
fn on(base: &str, database: &str) -> String {
    let (server, _) = base.rsplit_once('/').expect("postgres://…/database");
    format!("{server}/{database}")
}

/// Connects; the task of the connection ends with the client.
pub(crate) async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A database of one test's own on the shared primary. Dropped at the end, whoever is still
/// connected, unless the test failed: then its URL is printed and it stays until the servers end.
pub(crate) struct Db {
    name: String,
    base: String,
    client: Client,
}

impl Db {
    /// A new empty database; its name begins with the test's.
    pub(crate) async fn create(test_name: &str) -> Self {
        Self::create_on(&server("PGSHIFT_TEST_URL"), test_name).await
    }

    /// A new database on another server (of a cluster that a test may stop), named by the URL of
    /// its database `postgres`.
    pub(crate) async fn create_on(base: &str, test_name: &str) -> Self {
        let base = base.to_owned();
        let stem: String = test_name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '_'
                }
            })
            .take(40)
            .collect();
        let name = format!("t_{stem}_{:08x}", fastrand::u32(..));
        let admin = connect(&base).await.expect("the test primary");
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .expect("CREATE DATABASE");
        let client = connect(&on(&base, &name)).await.expect("the new database");
        Self { name, base, client }
    }

    /// Ends its sessions, so that [`Self::copy`] can be made of it; it cannot be asked any more.
    pub(crate) async fn into_template(self) -> Self {
        let admin = connect(&self.base).await.expect("the test primary");
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
            self.name
        );
        while !admin.query(&end, &[]).await.expect(&end).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        self
    }

    /// A new database with all that this one, a template, has.
    pub(crate) async fn copy(&self) -> Self {
        let (base, name) = (
            self.base.clone(),
            format!("{}_{:08x}", self.name, fastrand::u32(..)),
        );
        let admin = connect(&base).await.expect("the test primary");
        let create = format!("CREATE DATABASE {name} TEMPLATE {}", self.name);
        admin.batch_execute(&create).await.expect(&create);
        let client = connect(&on(&base, &name)).await.expect("the new database");
        Self { name, base, client }
    }

    /// A new database in which these statements have run.
    pub(crate) async fn with(test_name: &str, sql: &str) -> Self {
        let db = Self::create(test_name).await;
        db.execute(sql).await;
        db
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its URL on the primary.
    pub(crate) fn url(&self) -> String {
        on(&self.base, &self.name)
    }

    /// Its URL on the standby.
    pub(crate) fn standby_url(&self) -> String {
        on(&server("PGSHIFT_TEST_STANDBY_URL"), &self.name)
    }

    /// A new session.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.url())
            .await
            .expect("a session of the test's database")
    }

    /// Runs statements; panics with the server's message where one fails.
    pub(crate) async fn execute(&self, sql: &str) {
        if let Err(e) = self.client.batch_execute(sql).await {
            panic!("{}\n  in: {sql}", message(&e));
        }
    }

    /// The first column of every row.
    pub(crate) async fn rows<T: FromSqlOwned>(&self, sql: &str) -> Vec<T> {
        match self.client.query(sql, &[]).await {
            Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
            Err(e) => panic!("{}\n  in: {sql}", message(&e)),
        }
    }

    /// The first column of the one row.
    pub(crate) async fn one<T: FromSqlOwned>(&self, sql: &str) -> T {
        let mut rows = self.rows(sql).await;
        assert_eq!(rows.len(), 1, "rows of: {sql}");
        rows.remove(0)
    }

    /// Waits until a query gives true.
    pub(crate) async fn until(&self, limit: Duration, what: &str, sql: &str) {
        let begun = Instant::now();
        while self.rows::<Option<bool>>(sql).await != [Some(true)] {
            assert!(begun.elapsed() < limit, "not in {limit:?}: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the first chunks of a backfill are committed, each part for `limit` at most.
    pub(crate) async fn backfilling(&self, limit: Duration) {
        self.until(
            limit,
            "the state schema",
            "SELECT to_regclass('pgshift.checkpoint') IS NOT NULL",
        )
        .await;
        self.until(
            limit,
            "the first chunks of the backfill",
            "SELECT count(*) FILTER (WHERE chunks > 2) > 0 FROM pgshift.checkpoint",
        )
        .await;
    }

    /// The canonical text of its schema, see [`schema_dump`].
    pub(crate) async fn schema(&self) -> String {
        schema_dump(self).await
    }
}

/// The server's words, or the client's where the server said none.
pub(crate) fn message(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |db| format!("{} ({})", db.message(), db.code().code()),
    )
}

impl Drop for Db {
    fn drop(&mut self) {
        if std::thread::panicking() {
            static SAID: Once = Once::new();
            SAID.call_once(|| eprintln!("the database stays for a look: {}", self.url()));
            return;
        }
        let (base, name) = (self.base.clone(), self.name.clone());
        // A test's runtime cannot be waited for from inside it: use another one.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                // A test may have stopped the server: then there is nothing to drop.
                if let Ok(admin) = connect(&base).await {
                    let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                    let _ = admin.batch_execute(&sql).await;
                }
            });
        });
        let _ = dropped.join();
    }
}

#[tokio::test]
async fn a_database_is_gone_after_its_test() {
    let db = Db::with(
        "Db, itself!",
        "CREATE TABLE t (n bigint); INSERT INTO t VALUES (7)",
    )
    .await;
    assert_eq!(db.one::<i64>("SELECT n FROM t").await, 7);
    let (name, admin) = (db.name().to_owned(), connect(&db.base).await.unwrap());
    let count = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(
        admin.query_one(&count, &[]).await.unwrap().get::<_, i64>(0),
        1
    );
    let _still_connected = db.client().await;
    drop(db);
    assert_eq!(
        admin.query_one(&count, &[]).await.unwrap().get::<_, i64>(0),
        0
    );
}
