//! Loads [`Catalog`] from a live server: one query per kind of fact, for all tables at once.
//!
//! Everything is read through the system catalogs (documentation: "System Catalogs"), in one
//! read-only transaction. Some of the functions used (`pg_relation_size`, and `pg_get_expr` in
//! newer versions) take ACCESS SHARE, so they would wait behind ACCESS EXCLUSIVE; a lock timeout
//! bounds that.

mod definitions;
pub mod dependents;
pub mod details;
mod links;
mod objects;
pub mod partitions;
mod parts;
mod relations;
mod uses;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Row, SimpleQueryMessage};

use super::read::{failed, get};
use crate::catalog::{Catalog, Column, RelKind};
use crate::error::{Error, ErrorKind, Result};
pub use objects::load_objects;

/// A relation name that a migration mentions, unquoted and case-exact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// Schema; `None` resolves through the session's search path.
    pub schema: Option<String>,
    /// Name in it.
    pub name: String,
}

impl Wanted {
    /// A name, qualified or not.
    pub fn new(schema: Option<&str>, name: &str) -> Self {
        Self {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
        }
    }
}

/// Reading must neither hang behind someone's ACCESS EXCLUSIVE nor make a queue behind itself.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL lock_timeout = '2s'";

/// The columns of one table, temporary ones too.
pub async fn columns_of(client: &Client, oid: u32) -> Result<Vec<Column>> {
    let rows = parts::columns(client, &[oid]).await?;
    Ok(rows.into_iter().map(|(_, column)| column).collect())
}

/// The names of all relations that people made: tables, views, materialized views, sequences,
/// foreign tables; without those of extensions.
pub async fn everything(client: &Client) -> Result<Vec<Wanted>> {
    let rows = client
        .query_typed(EVERYTHING, &[])
        .await
        .map_err(|e| failed("cannot list the relations", e))?;
    rows.iter()
        .map(|row| {
            Ok(Wanted {
                schema: Some(get(row, "schema")?),
                name: get(row, "name")?,
            })
        })
        .collect()
}

const EVERYTHING: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'm', 'v', 'S') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^(pg_toast|pgshift(_check)?$)'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2";

/// Loads the facts about the `wanted` relations and what they are tied to: the tables that their
/// foreign keys reference, and the parents of partitions, are loaded as tables too.
/// A name that does not exist is absent from the result; for an index, the table that it is on
/// is loaded.
///
/// Runs a transaction of its own on `client`, which must not be inside one. If the future is
/// dropped before it is done, that transaction stays open: close the connection then.
///
/// # Errors
/// [`ErrorKind::Lock`] where another session holds one of the tables in ACCESS EXCLUSIVE mode for
/// longer than two seconds; otherwise what the server or the connection gave.
pub async fn load(client: &Client, wanted: &[Wanted]) -> Result<Catalog> {
    batch(client, BEGIN).await?;
    match read(client, wanted).await {
        Ok(catalog) => {
            batch(client, "COMMIT").await?;
            Ok(catalog)
        }
        Err(error) => {
            // The first error is the one to report; a failing rollback only repeats it.
            let _ = batch(client, "ROLLBACK").await;
            Err(if error.kind() == ErrorKind::Lock {
                error.left("nothing was changed").hint(
                    "another session holds an ACCESS EXCLUSIVE lock on one of these tables \
                     (another migration, VACUUM FULL, TRUNCATE); wait until it ends and try again",
                )
            } else {
                error
            })
        }
    }
}

async fn batch(client: &Client, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
    client
        .simple_query(sql)
        .await
        .map_err(|e| failed("cannot read the catalog", e))
}

/// Runs one catalog query for these oids. Unnamed statements: one round trip, and they work
/// through a transaction pooler.
async fn query(client: &Client, what: &str, sql: &str, oids: &[u32]) -> Result<Vec<Row>> {
    let parameter: &(dyn ToSql + Sync) = &oids;
    client
        .query_typed(sql, &[(parameter, Type::OID_ARRAY)])
        .await
        .map_err(|e| failed(&format!("cannot read {what} from the catalog"), e))
}

const SERVER: &str = "
SELECT current_setting('server_version_num')::int AS version,
       current_database()::text AS database,
       current_user::text AS role,
       current_setting('TimeZone') AS time_zone,
       current_schemas(false)::text[] AS search_path";

/// True for the usual names of the zone without an offset, at any time: there the server takes
/// `timestamp` and `timestamptz` for the same (`TimestampTimestampTzRequiresRewrite` in
/// `timestamp.c`).
fn is_utc(zone: &str) -> bool {
    let zone = zone.strip_prefix("Etc/").unwrap_or(zone);
    [
        "UTC",
        "UCT",
        "Zulu",
        "Universal",
        "GMT",
        "GMT0",
        "GMT+0",
        "GMT-0",
        "Greenwich",
    ]
    .iter()
    .any(|name| zone.eq_ignore_ascii_case(name))
}

async fn read(client: &Client, wanted: &[Wanted]) -> Result<Catalog> {
    let (server, resolved) = tokio::try_join!(
        async {
            client
                .query_typed_one(SERVER, &[])
                .await
                .map_err(|e| failed("cannot read the server's version", e))
        },
        relations::resolve(client, wanted),
    )?;
    let version: i32 = get(&server, "version")?;
    let mut catalog = Catalog {
        version: u32::try_from(version)
            .map_err(|e| Error::internal(format!("server version {version}: {e}")))?,
        database: get(&server, "database")?,
        role: get(&server, "role")?,
        search_path: get(&server, "search_path")?,
        tables: BTreeMap::new(),
        relations: BTreeMap::new(),
        constrained_domains: relations::constrained_domains(client).await?,
        views: BTreeMap::new(),
        functions: definitions::functions(client, wanted).await?,
        domains: relations::domains(client).await?,
        links: None,
        objects: Vec::new(),
        default_rights: Vec::new(),
        utc: is_utc(&get::<String>(&server, "time_zone")?),
        places: crate::catalog::Places::default(),
    };
    let mut mentioned = BTreeSet::new();
    let mut views = Vec::new();
    for relation in resolved {
        match relation.kind {
            RelKind::Table
            | RelKind::Partitioned
            | RelKind::Foreign
            | RelKind::MaterializedView => {
                mentioned.insert(relation.oid);
            }
            kind => {
                if kind == RelKind::View {
                    views.push(relation.oid);
                }
                mentioned.extend(relation.table);
                catalog.relations.insert(relation.name, kind);
            }
        }
    }
    catalog.views = definitions::views(client, &views).await?;
    catalog.links = Some(links::links(client, wanted).await?);
    let mentioned: Vec<u32> = mentioned.into_iter().collect();
    let oids = relations::closure(client, &mentioned).await?;

    let (
        mut tables,
        leaves,
        columns,
        indexes,
        constraints,
        inbound,
        triggers,
        dependents,
        grants,
        mentions,
    ) = tokio::try_join!(
        // In order of sending: the first error is the cause, those after it only say that the
        // transaction is aborted.
        biased;
        relations::tables(client, &oids),
        relations::leaves(client, &oids),
        parts::columns(client, &oids),
        parts::indexes(client, &oids),
        parts::constraints(client, &oids),
        parts::referenced_by(client, &oids),
        parts::triggers(client, &oids),
        parts::dependents(client, &oids),
        uses::grants(client, &oids),
        uses::mentions(client, &oids),
    )?;

    // Each list is keyed by the table; a key without a table is one dropped since.
    for (oid, leaf, bytes) in leaves {
        if let Some(table) = tables.get_mut(&oid) {
            table.rows = table.rows.saturating_add(leaf.rows);
            table.bytes = table.bytes.saturating_add(bytes);
            table.leaves.push(leaf);
        }
    }
    for (oid, column) in columns {
        if let Some(table) = tables.get_mut(&oid) {
            table.columns.push(column);
        }
    }
    for (oid, index) in indexes {
        if let Some(table) = tables.get_mut(&oid) {
            table.indexes.push(index);
        }
    }
    for (oid, constraint) in constraints {
        if let Some(table) = tables.get_mut(&oid) {
            table.constraints.push(constraint);
        }
    }
    for (oid, reference) in inbound {
        if let Some(table) = tables.get_mut(&oid) {
            table.referenced_by.push(reference);
        }
    }
    for (oid, trigger) in triggers {
        if let Some(table) = tables.get_mut(&oid) {
            table.triggers.push(trigger);
        }
    }
    for (oid, column, description) in dependents {
        if let Some(table) = tables.get_mut(&oid) {
            table
                .dependents
                .entry(column)
                .or_default()
                .push(description);
        }
    }
    for (oid, grant) in grants {
        if let Some(table) = tables.get_mut(&oid) {
            table.grants.push(grant);
        }
    }
    for (oid, mention) in mentions {
        if let Some(table) = tables.get_mut(&oid) {
            table.mentions.push(mention);
        }
    }
    catalog.tables = tables.into_values().map(|t| (t.name.clone(), t)).collect();
    Ok(catalog)
}
