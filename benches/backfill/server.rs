//! The throw-away server: one loaded database a table, of which every turn gets a copy.

use std::path::PathBuf;

use pgshift::demo::{Cluster, ClusterOptions, Search};
use pgshift::{Error, Result};
use tokio_postgres::{Client, NoTls};

use crate::tables::{self, Table};

/// The database that is copied.
const SOURCE: &str = "source";
/// The copy.
const TURN: &str = "turn";

pub(crate) struct Server {
    cluster: Cluster,
    pub(crate) version: String,
    major: u32,
}

/// A database of one turn.
pub(crate) struct Turn {
    pub(crate) url: String,
    pub(crate) client: Client,
    data_dir: PathBuf,
}

/// What a server has done by a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) wal: u64,
    pub(crate) cpu_s: Option<f64>,
}

/// Bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) heap: u64,
    pub(crate) indexes: u64,
}

pub(crate) fn sql(statement: &str, error: tokio_postgres::Error) -> Error {
    let said = error
        .as_db_error()
        .map_or_else(|| error.to_string(), ToString::to_string);
    Error::connection(format!("{statement}: {said}")).caused_by(error)
}

pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .map_err(|e| sql("connect", e))?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) async fn run(client: &Client, statement: &str) -> Result<()> {
    client
        .batch_execute(statement)
        .await
        .map_err(|e| sql(statement, e))
}

impl Server {
    pub(crate) async fn start(programs: Option<PathBuf>) -> Result<Self> {
        let binaries = Search::new().env_dir(programs).find()?;
        let (version, major) = (binaries.version.to_string(), binaries.version.major);
        let options = ClusterOptions::new(binaries).settings(&[
            // As a server comes, but for what would make turns unlike each other.
            ("wal_level", "replica"),
            ("max_connections", "50"),
            ("autovacuum", "off"),
            ("checkpoint_timeout", "30min"),
            ("log_checkpoints", "off"),
        ]);
        Ok(Self {
            cluster: Cluster::start(options).await?,
            version,
            major,
        })
    }

    /// Sets the server up for a table and loads it, in place of the one before.
    pub(crate) async fn load(&mut self, table: &Table, rows: u64) -> Result<()> {
        let settings = tables::settings(table.server, rows);
        let settings: Vec<(&str, &str)> = settings.iter().map(|(k, v)| (*k, v.as_str())).collect();
        self.cluster.settings(&settings)?;
        self.cluster.restart().await?;
        let admin = self.admin().await?;
        run(&admin, &format!("DROP DATABASE IF EXISTS {SOURCE}")).await?;
        run(
            &admin,
            &format!("CREATE DATABASE {SOURCE} TEMPLATE template0"),
        )
        .await?;
        let client = connect(&self.cluster.url(SOURCE)).await?;
        // Not every package of the server has it; then what is read first is read from files.
        let _ = run(&client, "CREATE EXTENSION IF NOT EXISTS pg_prewarm").await;
        for statement in tables::load(table, rows) {
            run(&client, &statement).await?;
        }
        Ok(())
    }

    async fn admin(&self) -> Result<Client> {
        connect(&self.cluster.url("postgres")).await
    }

    /// A connection to the loaded database; no turn begins while it is open.
    pub(crate) async fn source(&self) -> Result<Client> {
        connect(&self.cluster.url(SOURCE)).await
    }

    /// A copy of the loaded database, byte by byte, all of it in memory as far as it fits.
    pub(crate) async fn turn(&self) -> Result<Turn> {
        let admin = self.admin().await?;
        run(
            &admin,
            &format!("DROP DATABASE IF EXISTS {TURN} WITH (FORCE)"),
        )
        .await?;
        // Copied without WAL; before 15 there was no other way.
        let strategy = if self.major >= 15 {
            " STRATEGY file_copy"
        } else {
            ""
        };
        let copy = format!("CREATE DATABASE {TURN} TEMPLATE {SOURCE}{strategy}");
        // A session that has ended is gone a moment later.
        let mut tries = 0;
        while let Err(error) = run(&admin, &copy).await {
            tries += 1;
            if tries == 50 {
                return Err(error);
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let url = self.cluster.url(TURN);
        let client = connect(&url).await?;
        let warm = "SELECT sum(pg_prewarm(oid)) FROM pg_class \
                    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')";
        let _ = client.simple_query(warm).await;
        Ok(Turn {
            url,
            client,
            data_dir: self.cluster.data_dir().to_path_buf(),
        })
    }

    /// Drops the copy.
    pub(crate) async fn end_turn(&self, turn: Turn) -> Result<()> {
        drop(turn);
        let admin = self.admin().await?;
        run(
            &admin,
            &format!("DROP DATABASE IF EXISTS {TURN} WITH (FORCE)"),
        )
        .await
    }

    /// The date by the server's clock.
    pub(crate) async fn date(&self) -> Result<String> {
        let query = "SELECT current_date::text";
        let row = self.admin().await?.query_one(query, &[]).await;
        Ok(row.map_err(|e| sql(query, e))?.get(0))
    }
}

impl Turn {
    /// What the server has done by now.
    pub(crate) async fn done(&self) -> Result<Done> {
        let query = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
        let row = self.client.query_one(query, &[]).await;
        let wal: i64 = row.map_err(|e| sql(query, e))?.get(0);
        Ok(Done {
            wal: u64::try_from(wal).unwrap_or(0),
            cpu_s: crate::procs::of_server(&self.data_dir),
        })
    }

    pub(crate) async fn sizes(&self) -> Result<Sizes> {
        let query = "SELECT coalesce(sum(pg_relation_size(oid)) FILTER (WHERE relkind = 'r'), 0)::bigint, \
                     coalesce(sum(pg_relation_size(oid)) FILTER (WHERE relkind = 'i'), 0)::bigint \
                     FROM pg_class WHERE relnamespace = 'public'::regnamespace";
        let row = self.client.query_one(query, &[]).await;
        let row = row.map_err(|e| sql(query, e))?;
        let bytes = |n: usize| u64::try_from(row.get::<_, i64>(n)).unwrap_or(0);
        Ok(Sizes {
            heap: bytes(0),
            indexes: bytes(1),
        })
    }
}

/// What a table must be afterwards: its rows, and a sum over a hash of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    rows: i64,
    sum: String,
}

async fn content(client: &Client, columns: &str, value: &str) -> Result<Content> {
    let query = format!(
        "SELECT count(*), coalesce(sum(hashtextextended(ROW({columns}, {value})::text, 0)::numeric), 0)::text \
         FROM orders"
    );
    let row = client.query_one(&query, &[]).await;
    let row = row.map_err(|e| sql(&query, e))?;
    Ok(Content {
        rows: row.get(0),
        sum: row.get(1),
    })
}

impl Server {
    /// What every backfill of the loaded table must lead to.
    pub(crate) async fn wanted(&self, columns: &str) -> Result<Content> {
        content(&self.source().await?, columns, tables::EXPRESSION).await
    }
}

impl Turn {
    /// What is wrong: rows with another value than the expression's, rows too many or too few, or
    /// another content of these columns.
    pub(crate) async fn wrong(&self, columns: &str, wanted: &Content) -> Result<Option<String>> {
        let query = format!(
            "SELECT count(*) FROM orders WHERE total_cents IS DISTINCT FROM {}",
            tables::EXPRESSION
        );
        let row = self.client.query_one(&query, &[]).await;
        let wrong: i64 = row.map_err(|e| sql(&query, e))?.get(0);
        let is = content(&self.client, columns, "total_cents").await?;
        Ok(if wrong > 0 {
            Some(format!("{wrong} rows have a wrong value"))
        } else if is.rows != wanted.rows {
            Some(format!("{} rows in place of {}", is.rows, wanted.rows))
        } else if is.sum != wanted.sum {
            Some("other columns were changed".to_owned())
        } else {
            None
        })
    }
}
