//! Names, tables, and their storage.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::super::read::{failed, get};
use super::{Wanted, query};
use crate::catalog::{Leaf, Partitioning, QName, RelKind, Table, TableSettings};
use crate::error::Result;

/// What a wanted name turned out to be.
pub(super) struct Resolved {
    pub(super) oid: u32,
    pub(super) name: QName,
    pub(super) kind: RelKind,
    /// The table that an index is on.
    pub(super) table: Option<u32>,
}

/// `pg_class.relkind`.
pub(super) fn kind(relkind: &str) -> RelKind {
    match relkind {
        "r" => RelKind::Table,
        "p" => RelKind::Partitioned,
        "f" => RelKind::Foreign,
        "v" => RelKind::View,
        "m" => RelKind::MaterializedView,
        "S" => RelKind::Sequence,
        "i" | "I" => RelKind::Index,
        _ => RelKind::Other,
    }
}

fn name(row: &Row) -> Result<QName> {
    Ok(QName::new(
        get::<String>(row, "schema")?,
        get::<String>(row, "name")?,
    ))
}

/// The first schema of the path that has any relation of this name wins, as in the server. Not
/// `to_regclass`: it raises an error for a schema that the role may not use.
const RESOLVE: &str = "
SELECT r.oid, r.schema, r.name, r.kind, x.indrelid AS on_table
FROM unnest($1::text[], $2::text[]) AS w(schema, name)
CROSS JOIN LATERAL (
    SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN unnest(current_schemas(true)) WITH ORDINALITY AS p(nspname, position)
           ON p.nspname = n.nspname
    WHERE c.relname = w.name
      AND (n.nspname = w.schema OR (w.schema IS NULL AND p.position IS NOT NULL))
    ORDER BY p.position
    LIMIT 1) AS r
LEFT JOIN pg_index x ON x.indexrelid = r.oid";

/// A domain over a domain has the constraints of both. `IN`, so that the constraints are read
/// once, not once for each domain.
const DOMAINS: &str = "
WITH RECURSIVE d AS (
    SELECT t.oid, t.typbasetype, t.typnotnull
           OR t.oid IN (SELECT k.contypid FROM pg_constraint k WHERE k.contypid <> 0) AS constrained
    FROM pg_type t WHERE t.typtype = 'd'),
all_constrained AS (
    SELECT d.oid FROM d WHERE d.constrained
    UNION
    SELECT d.oid FROM d JOIN all_constrained c ON d.typbasetype = c.oid)
SELECT n.nspname::text AS schema, t.typname::text AS name
FROM all_constrained c
JOIN pg_type t ON t.oid = c.oid
JOIN pg_namespace n ON n.oid = t.typnamespace";

/// Domains with constraints.
pub(super) async fn constrained_domains(client: &Client) -> Result<BTreeSet<QName>> {
    let rows = client
        .query_typed(DOMAINS, &[])
        .await
        .map_err(|e| failed("cannot read domains from the catalog", e))?;
    rows.iter().map(name).collect()
}

const DOMAIN_BASES: &str = "
SELECT n.nspname::text AS schema, t.typname::text AS name,
       format_type(t.typbasetype, t.typtypmod) AS base
FROM pg_type t
JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype = 'd'";

/// All domains with what they are over.
pub(super) async fn domains(client: &Client) -> Result<Vec<(QName, String)>> {
    let rows = client
        .query_typed(DOMAIN_BASES, &[])
        .await
        .map_err(|e| failed("cannot read domains from the catalog", e))?;
    rows.iter()
        .map(|row| Ok((name(row)?, get(row, "base")?)))
        .collect()
}

pub(super) async fn resolve(client: &Client, wanted: &[Wanted]) -> Result<Vec<Resolved>> {
    let schemas: Vec<Option<&str>> = wanted.iter().map(|w| w.schema.as_deref()).collect();
    let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    client
        .query_typed(
            RESOLVE,
            &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)],
        )
        .await
        .map_err(|e| failed("cannot look up the migration's relations", e))?
        .iter()
        .map(|row| {
            Ok(Resolved {
                oid: get(row, "oid")?,
                name: name(row)?,
                kind: kind(&get::<String>(row, "kind")?),
                table: get(row, "on_table")?,
            })
        })
        .collect()
}

/// A foreign key to a partitioned table has one more `pg_constraint` row per partition of it,
/// whose parent is a constraint of the same table: those are not constraints of their own.
const CLOSURE: &str = "
WITH RECURSIVE up(oid) AS (
    SELECT unnest($1::oid[])
    UNION
    SELECT i.inhparent
    FROM up
    JOIN pg_class c ON c.oid = up.oid AND c.relispartition
    JOIN pg_inherits i ON i.inhrelid = c.oid)
SELECT oid FROM up
UNION
SELECT p.partdefid FROM up JOIN pg_partitioned_table p ON p.partrelid = up.oid AND p.partdefid <> 0
UNION
SELECT k.confrelid
FROM pg_constraint k
WHERE k.contype = 'f' AND k.conrelid = ANY ($1::oid[])
  AND NOT EXISTS (SELECT FROM pg_constraint p
                  WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)";

/// The tables, the tables that they are partitions of, the DEFAULT partitions, and those that they
/// reference.
pub(super) async fn closure(client: &Client, tables: &[u32]) -> Result<Vec<u32>> {
    query(client, "related tables", CLOSURE, tables)
        .await?
        .iter()
        .map(|row| get(row, "oid"))
        .collect()
}

const TABLES: &str = "
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       pg_get_userbyid(c.relowner)::text AS owner,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned,
       row_security_active(c.oid) AS row_security,
       EXISTS (SELECT FROM pg_inherits i JOIN pg_class k ON k.oid = i.inhrelid
               WHERE i.inhparent = c.oid AND NOT k.relispartition) AS inherited,
       pn.nspname::text AS parent_schema, p.relname::text AS parent_name,
       obj_description(c.oid, 'pg_class') AS comment,
       CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END AS partition_key,
       dn.nspname::text AS default_schema, d.relname::text AS default_name,
       CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END AS bound,
       CASE WHEN c.relispartition THEN pg_get_partition_constraintdef(c.oid) END AS bound_check,
       coalesce(c.reloptions, '{}') AS options,
       (SELECT spcname::text FROM pg_tablespace WHERE oid = c.reltablespace) AS tablespace,
       (SELECT amname::text FROM pg_am WHERE oid = c.relam AND c.relkind = 'p') AS access_method,
       c.relrowsecurity AS row_security_enabled, c.relforcerowsecurity AS row_security_forced,
       CASE c.relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' WHEN 'd' THEN 'DEFAULT'
           ELSE (SELECT 'USING INDEX ' || quote_ident(ri.relname::text)
                 FROM pg_index x JOIN pg_class ri ON ri.oid = x.indexrelid
                 WHERE x.indrelid = c.oid AND x.indisreplident) END AS replica_identity
FROM pg_class c
LEFT JOIN (pg_partitioned_table t
           JOIN pg_class d ON d.oid = t.partdefid
           JOIN pg_namespace dn ON dn.oid = d.relnamespace)
       ON t.partrelid = c.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (pg_inherits i
           JOIN pg_class p ON p.oid = i.inhparent
           JOIN pg_namespace pn ON pn.oid = p.relnamespace)
       ON i.inhrelid = c.oid AND c.relispartition
WHERE c.oid = ANY ($1::oid[])";

/// The tables without their parts.
pub(super) async fn tables(client: &Client, oids: &[u32]) -> Result<BTreeMap<u32, Table>> {
    query(client, "tables", TABLES, oids)
        .await?
        .iter()
        .map(|row| {
            let oid = get(row, "oid")?;
            let parent: Option<String> = get(row, "parent_schema")?;
            let partition_of = match parent {
                Some(schema) => Some(QName::new(schema, get::<String>(row, "parent_name")?)),
                None => None,
            };
            let default: Option<String> = get(row, "default_schema")?;
            let default = match default {
                Some(schema) => Some(QName::new(schema, get::<String>(row, "default_name")?)),
                None => None,
            };
            let table = Table {
                oid,
                name: name(row)?,
                kind: kind(&get::<String>(row, "kind")?),
                owner: get(row, "owner")?,
                owned: get(row, "owned")?,
                rows: 0,
                bytes: 0,
                row_security: get::<Option<bool>>(row, "row_security")?.unwrap_or(false),
                inherited: get(row, "inherited")?,
                partition_of,
                partitioning: Partitioning {
                    key: get(row, "partition_key")?,
                    default,
                    bound: get(row, "bound")?,
                    check: get(row, "bound_check")?,
                },
                settings: TableSettings {
                    options: get(row, "options")?,
                    row_security: get(row, "row_security_enabled")?,
                    force_row_security: get(row, "row_security_forced")?,
                    replica_identity: get::<Option<String>>(row, "replica_identity")?
                        .unwrap_or_default(),
                    tablespace: get(row, "tablespace")?,
                    access_method: get(row, "access_method")?,
                },
                comment: get(row, "comment")?,
                columns: Vec::new(),
                indexes: Vec::new(),
                constraints: Vec::new(),
                referenced_by: Vec::new(),
                triggers: Vec::new(),
                leaves: Vec::new(),
                dependents: BTreeMap::new(),
                grants: Vec::new(),
                mentions: Vec::new(),
            };
            Ok((oid, table))
        })
        .collect()
}

/// Rows as the planner estimates them (`estimate_rel_size`, and `table_block_relation_estimate_size`
/// in `src/backend/access/table/tableam.c`): the density of the last ANALYZE or VACUUM times today's
/// size; where there was none, the density that the column widths give. Without the planner's
/// guess of ten pages for a young table. `pg_inherits` is read instead of `pg_partition_tree`,
/// which would lock every partition.
const LEAVES: &str = "
WITH RECURSIVE down(root, oid) AS (
    SELECT o, o FROM unnest($1::oid[]) AS o
    UNION
    SELECT d.root, i.inhrelid
    FROM down d
    JOIN pg_class p ON p.oid = d.oid AND p.relkind = 'p'
    JOIN pg_inherits i ON i.inhparent = d.oid),
server AS MATERIALIZED (SELECT current_setting('block_size')::int AS block)
SELECT d.root, c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind,
       coalesce(a.amname::text, '') AS access_method,
       s.blocks, coalesce(pg_table_size(c.oid), 0) AS bytes,
       round(CASE
           WHEN c.relkind = 'f' THEN greatest(c.reltuples, 0)::float8
           WHEN c.reltuples >= 0 AND c.relpages > 0
               THEN c.reltuples::float8 / c.relpages * s.blocks
           ELSE s.blocks::float8 * (server.block - 24) / (28 + w.width)
       END)::bigint AS rows
FROM down d
CROSS JOIN server
JOIN pg_class c ON c.oid = d.oid AND c.relkind <> 'p'
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am a ON a.oid = c.relam
CROSS JOIN LATERAL (
    SELECT coalesce(pg_relation_size(c.oid, 'main'), 0) / server.block AS blocks) AS s
CROSS JOIN LATERAL (
    SELECT (coalesce(sum(CASE WHEN t.attlen > 0 THEN t.attlen ELSE 32 END), 0) + 7) / 8 * 8 AS width
    FROM pg_attribute t
    WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped) AS w
ORDER BY d.root, n.nspname, c.relname";

/// (table, leaf, bytes with TOAST).
pub(super) async fn leaves(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Leaf, i64)>> {
    query(client, "table sizes", LEAVES, oids)
        .await?
        .iter()
        .map(|row| {
            let leaf = Leaf {
                oid: get(row, "oid")?,
                name: name(row)?,
                kind: kind(&get::<String>(row, "kind")?),
                access_method: get(row, "access_method")?,
                blocks: get(row, "blocks")?,
                rows: get(row, "rows")?,
            };
            Ok((get(row, "root")?, leaf, get(row, "bytes")?))
        })
        .collect()
}
