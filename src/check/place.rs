//! The database of a trial: on a private server, or on one that the user names.

use std::path::PathBuf;

use tokio_postgres::Client;

use crate::demo::{Cluster, ClusterOptions, Search};
use crate::error::{Error, Result};
use crate::pg::connect::{Target, environment};
use crate::pg::conninfo::ConnInfo;
use crate::pg::error::from_pg;
use crate::pg::pooler::{Pooling, pooling};
use crate::pg::session::{server_version, supported_version};
use crate::sql::quote::{ident, literal};

/// Our databases' names begin so.
const PREFIX: &str = "pgshift_check_";

/// The schema of our own records in the database of a trial; its comment marks an emptied
/// database that an earlier check was given.
pub(super) const SCHEMA: &str = "pgshift_check";

/// Where a trial may be.
#[derive(Debug, Clone, Default)]
pub struct PlaceOptions {
    /// A server that the user names; a private one where `None`.
    pub shadow: Option<String>,
    /// Folder of the server programs.
    pub pg_bin: Option<PathBuf>,
    /// The value of `PGSHIFT_PG_BIN`; [`pg_bin`](Self::pg_bin) is stronger.
    pub env_pg_bin: Option<PathBuf>,
    /// The major of a private server: production's, where it is known.
    pub major: Option<u32>,
}

/// A database of our own, gone after [`end`](Self::end).
pub(super) struct Place {
    kind: Kind,
    /// It.
    pub(super) target: Target,
    /// `server_version_num`.
    pub(super) version: u32,
    /// The role may make event triggers, and roles.
    pub(super) superuser: bool,
}

enum Kind {
    Private(Box<Cluster>),
    /// A database that we made on the user's server.
    Made {
        server: Target,
        name: String,
    },
    /// The user's own, which was empty.
    Given,
}

impl Place {
    /// The server is ours alone.
    pub(super) fn private(&self) -> bool {
        matches!(self.kind, Kind::Private(_))
    }

    /// Makes it.
    pub(super) async fn make(options: &PlaceOptions) -> Result<Self> {
        match &options.shadow {
            Some(url) => Self::shadow(url).await,
            None => Self::on_private_server(options).await,
        }
    }

    async fn on_private_server(options: &PlaceOptions) -> Result<Self> {
        let search = Search::new()
            .dir(options.pg_bin.clone())
            .env_dir(options.env_pg_bin.clone());
        // Another major than production's is better than no trial: the report names it.
        let binaries = match search.clone().major(options.major).find() {
            Err(_) if options.major.is_some() => search.find(),
            found => found,
        }
        .map_err(|e| {
            let hint = e.what_next().unwrap_or_default().to_owned();
            e.hint(format!(
                "{hint}; or name an empty database with --shadow-url"
            ))
        })?;
        // It need not survive anything.
        let settings = [
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("autovacuum", "off"),
            ("shared_buffers", "64MB"),
        ];
        let cluster = Cluster::start(ClusterOptions::new(binaries).settings(&settings)).await?;
        let admin = private(&cluster.url("postgres"))?.connect().await?;
        let name = new_name();
        admin
            .batch_execute(&format!(
                "CREATE DATABASE {} TEMPLATE template0",
                ident(&name)
            ))
            .await
            .map_err(from_pg)?;
        let target = private(&cluster.url(&name))?;
        Ok(Self {
            version: server_version(&admin).await?,
            kind: Kind::Private(Box::new(cluster)),
            target,
            superuser: true,
        })
    }

    async fn shadow(url: &str) -> Result<Self> {
        let server = Target::new(Some(url))?;
        if pooling(&server).await? != Pooling::Session {
            return Err(
                Error::refused("--shadow-url leads through a transaction pooler")
                    .left("nothing was changed")
                    .hint("name the server itself: a trial needs sessions of its own"),
            );
        }
        let client = server.connect().await?;
        let version = supported_version(&client).await?;
        let row = client
            .query_one(
                "SELECT rolsuper, rolsuper OR rolcreatedb FROM pg_roles
                 WHERE rolname = current_user",
                &[],
            )
            .await
            .map_err(from_pg)?;
        let (superuser, may_create): (bool, bool) = (row.get(0), row.get(1));
        if marked(&client).await? {
            // An earlier check was killed here.
            empty(&client).await?;
        }
        if let Some(what) = occupant(&client).await? {
            return Err(Error::refused(format!(
                "the shadow database {} is not empty: it has {what}",
                server.dbname()
            ))
            .left("nothing was changed")
            .hint(
                "--shadow-url must name an empty database; where the role may create databases, \
                 the trial is in one of its own beside it",
            ));
        }
        if !may_create {
            mark(&client).await?;
            return Ok(Self {
                kind: Kind::Given,
                target: server,
                version,
                superuser,
            });
        }
        let name = new_name();
        client
            .batch_execute(&format!(
                "CREATE DATABASE {} TEMPLATE template0",
                ident(&name)
            ))
            .await
            .map_err(from_pg)?;
        let mut info = ConnInfo::parse(Some(url), &environment)?;
        info.dbname = Some(name.clone());
        Ok(Self {
            target: Target::resolve(info, &environment)?,
            kind: Kind::Made { server, name },
            version,
            superuser,
        })
    }

    /// Takes everything away again.
    pub(super) async fn end(self) -> Result<()> {
        match self.kind {
            Kind::Private(mut cluster) => {
                cluster.cleanup();
                Ok(())
            }
            Kind::Made { server, name } => {
                let client = server.connect().await?;
                client
                    .batch_execute(&format!(
                        "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                        ident(&name)
                    ))
                    .await
                    .map_err(|e| from_pg(e).context(format!("database {name} was not dropped")))
            }
            Kind::Given => empty(&self.target.connect().await?).await,
        }
    }
}

/// A server of our own: what the environment says of other servers is not for it.
fn private(url: &str) -> Result<Target> {
    let url = format!("{url}?sslmode=disable");
    Target::resolve(ConnInfo::parse(Some(&url), &|_| None)?, &|_| None)
}

fn new_name() -> String {
    format!("{PREFIX}{:012x}", fastrand::u64(..) & 0xffff_ffff_ffff)
}

const OWN: &str = "n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname !~ '^pg_(toast|temp)'";

/// The first thing of anyone's that is in a database.
async fn occupant(client: &Client) -> Result<Option<String>> {
    let not_of_extension = |class: &str, oid: &str| {
        format!(
            "NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '{class}'::regclass \
             AND d.objid = {oid} AND d.deptype = 'e')"
        )
    };
    let sql = format!(
        "SELECT format('%s %I.%I', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence'
                    ELSE 'table' END, n.nspname, c.relname)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE {OWN} AND {}
         UNION ALL
         SELECT 'function ' || p.oid::regprocedure
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OWN} AND {}
         UNION ALL
         SELECT format('type %I.%I', n.nspname, t.typname)
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
         WHERE {OWN} AND t.typtype IN ('e', 'd', 'r') AND {}
         UNION ALL
         SELECT format('schema %I', n.nspname) FROM pg_namespace n
         WHERE {OWN} AND n.nspname <> 'public' AND {}
         LIMIT 1",
        not_of_extension("pg_class", "c.oid"),
        not_of_extension("pg_proc", "p.oid"),
        not_of_extension("pg_type", "t.oid"),
        not_of_extension("pg_namespace", "n.oid"),
    );
    let row = client.query_opt(&sql, &[]).await.map_err(from_pg)?;
    Ok(row.map(|row| row.get(0)))
}

const MARK: &str = "made by pgshift check in an empty database, which it may empty again";

async fn marked(client: &Client) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}' \
         AND obj_description(oid, 'pg_namespace') = {})",
        literal(MARK)
    );
    let row = client.query_one(&sql, &[]).await.map_err(from_pg)?;
    Ok(row.get(0))
}

async fn mark(client: &Client) -> Result<()> {
    let sql = format!(
        "BEGIN; CREATE SCHEMA {SCHEMA}; COMMENT ON SCHEMA {SCHEMA} IS {}; COMMIT",
        literal(MARK)
    );
    client.batch_execute(&sql).await.map_err(from_pg)
}

/// Drops every schema of a marked database, its mark last.
async fn empty(client: &Client) -> Result<()> {
    let sql = format!(
        "SELECT n.nspname::text FROM pg_namespace n WHERE {OWN} \
         ORDER BY n.nspname = '{SCHEMA}', 1"
    );
    let rows = client.query(&sql, &[]).await.map_err(from_pg)?;
    for row in rows {
        let name: String = row.get(0);
        let mut drop = format!("DROP SCHEMA {} CASCADE", ident(&name));
        if name == "public" {
            drop.push_str("; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO public");
        }
        client.batch_execute(&drop).await.map_err(from_pg)?;
    }
    Ok(())
}
