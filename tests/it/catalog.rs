//! The catalog loader and the probes against a live server: `PGSHIFT_TEST_URL`, a superuser's
//! URL. Each test has a database of its own.

mod parts;
mod probes;
mod tables;

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

use pgshift::Result;
use pgshift::catalog::{Catalog, QName, Table};
use pgshift::pg::catalog::{Wanted, load};
use tokio_postgres::{Client, Config, NoTls};

/// One test's database.
#[derive(Clone)]
struct Database {
    config: Config,
    name: String,
}

impl Database {
    async fn connect(&self) -> Client {
        connect(&self.config).await
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("connect");
    tokio::spawn(connection);
    client
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests get the server's URL this way"
)]
fn server() -> Config {
    std::env::var("PGSHIFT_TEST_URL")
        .expect("PGSHIFT_TEST_URL must name a server (scripts/test.sh starts one)")
        .parse()
        .expect("PGSHIFT_TEST_URL is a connection URL")
}

/// Runs the test in a new database and drops it, also where the test panics.
fn in_database<F, T>(test: F)
where
    F: FnOnce(Database) -> T,
    T: Future<Output = Result<()>> + Send + 'static,
{
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let mut config = server();
        let admin = connect(&config).await;
        let name = format!(
            "catalog_{}_{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .expect("create database");
        config.dbname(&name);
        let result = tokio::spawn(test(Database {
            config,
            name: name.clone(),
        }))
        .await;
        admin
            .batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)"))
            .await
            .expect("drop database");
        match result {
            Ok(done) => done.expect("no error"),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    });
}

/// Runs statements that must succeed.
async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        let message = error.as_db_error().map_or("", |e| e.message());
        panic!("{error}: {message}\n{sql}");
    }
}

/// Loads by `name` or `schema.name`.
async fn loaded(client: &Client, names: &[&str]) -> Result<Catalog> {
    let wanted: Vec<Wanted> = names
        .iter()
        .map(|name| match name.split_once('.') {
            Some((schema, name)) => Wanted::new(Some(schema), name),
            None => Wanted::new(None, name),
        })
        .collect();
    load(client, &wanted).await
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog.tables.keys().map(ToString::to_string).collect()
}

fn public<'a>(catalog: &'a Catalog, name: &str) -> &'a Table {
    &catalog.tables[&QName::new("public", name)]
}
