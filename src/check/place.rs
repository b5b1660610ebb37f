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
        /// A session in it to the end: other checks see that it is in use.
        _session: Client,
    },
    /// The user's own, which was empty.
    Given {
        /// It has the lock of the check in this database.
        _session: Client,
    },
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
        let server = Target::new(Some(url)).map_err(|e| e.context("--shadow-url"))?;
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
            alone(&client, server.dbname()).await?;
            // An earlier check was killed here; its last statement may still run.
            client.batch_execute(END_OURS).await.map_err(from_pg)?;
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
            usable(&client, server.dbname()).await?;
            alone(&client, server.dbname()).await?;
            mark(&client).await?;
            return Ok(Self {
                kind: Kind::Given { _session: client },
                target: server,
                version,
                superuser,
            });
        }
        drop_left_over(&client).await?;
        let name = new_name();
        let mut info = ConnInfo::parse(Some(url), &environment)?;
        info.dbname = Some(name.clone());
        let target = Target::resolve(info, &environment)?;
        client
            .batch_execute(&format!(
                "CREATE DATABASE {} TEMPLATE template0",
                ident(&name)
            ))
            .await
            .map_err(from_pg)?;
        let session = async {
            let session = target.connect().await?;
            // Not before there is a session in it: see `drop_left_over`.
            let sql = format!("COMMENT ON DATABASE {} IS {}", ident(&name), literal(MADE));
            session.batch_execute(&sql).await.map_err(from_pg)?;
            Ok(session)
        };
        let session = match session.await {
            Ok(session) => session,
            // A rule of pg_hba.conf may name databases.
            Err(error) => {
                drop_database(&client, &name).await?;
                return Err(error);
            }
        };
        Ok(Self {
            target,
            kind: Kind::Made {
                server,
                name,
                _session: session,
            },
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
            Kind::Made { server, name, .. } => {
                let client = server.connect().await?;
                drop_database(&client, &name).await
            }
            Kind::Given { .. } => {
                let client = self.target.connect().await?;
                // What a stop left under way would hold its locks to its end.
                client.batch_execute(END_OURS).await.map_err(from_pg)?;
                empty(&client).await
            }
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

/// The comment of a database that we made on another's server.
const MADE: &str = "made by pgshift check, which drops it where nobody is connected to it";

const END_OURS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
      AND application_name = 'pgshift'
      AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_stat_activity.pid
                      AND l.locktype = 'advisory' AND l.objid = 1885827939 AND l.classid = 0)";

/// Takes the lock of the check in a database, which ends with the session.
async fn alone(client: &Client, name: &str) -> Result<()> {
    // "pgsc" as a number; ended sessions have no lock.
    let sql = "SELECT pg_try_advisory_lock(1885827939)";
    let row = client.query_one(sql, &[]).await.map_err(from_pg)?;
    if row.get(0) {
        return Ok(());
    }
    Err(
        Error::refused(format!("another check is in the shadow database {name}"))
            .left("nothing was changed")
            .hint("wait for it, or give each check a database of its own"),
    )
}

async fn drop_database(client: &Client, name: &str) -> Result<()> {
    client
        .batch_execute(&format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            ident(name)
        ))
        .await
        .map_err(|e| from_pg(e).context(format!("database {name} was not dropped")))
}

/// Drops the databases of checks that were killed. One in use has a session from before its
/// comment on.
async fn drop_left_over(client: &Client) -> Result<()> {
    let sql = format!(
        "SELECT d.datname::text FROM pg_database d
         WHERE starts_with(d.datname::text, {}) AND pg_has_role(d.datdba, 'USAGE')
           AND shobj_description(d.oid, 'pg_database') = {}
           AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)",
        literal(PREFIX),
        literal(MADE)
    );
    for row in client.query(&sql, &[]).await.map_err(from_pg)? {
        let name: String = row.get(0);
        // Without FORCE: whoever came meanwhile is not thrown out.
        let drop = format!("DROP DATABASE IF EXISTS {}", ident(&name));
        match client.batch_execute(&drop).await {
            Ok(()) => tracing::info!("dropped {name}, which an earlier check left"),
            Err(error) => tracing::info!("{name} stays: {error}"),
        }
    }
    Ok(())
}

/// Refuses a database that the role cannot fill and empty again, before it changes anything.
async fn usable(client: &Client, name: &str) -> Result<()> {
    let sql = "SELECT has_database_privilege(current_database(), 'CREATE'),
               coalesce((SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace
                         WHERE nspname = 'public'), true), current_user::text";
    let row = client.query_one(sql, &[]).await.map_err(from_pg)?;
    let (create, public, role): (bool, bool, String) = (row.get(0), row.get(1), row.get(2));
    let missing = match (create, public) {
        (true, true) => return Ok(()),
        (false, _) => "make schemas in it",
        (true, false) => "empty its schema public again afterwards",
    };
    let (role, database) = (ident(&role), ident(name));
    Err(Error::refused(format!(
        "role {role} may neither create databases nor use the shadow database {name}: it may not \
         {missing}"
    ))
    .left("nothing was changed")
    .hint(format!(
        "ALTER ROLE {role} CREATEDB; or ALTER DATABASE {database} OWNER TO {role}, and in it \
         ALTER SCHEMA public OWNER TO {role}"
    )))
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
