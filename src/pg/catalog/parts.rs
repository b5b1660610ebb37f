//! The parts of tables: columns, indexes, constraints, triggers and what depends on columns.
//!
//! A `pg_get_…def` that gives null means that the object was dropped by now: it is left out.

use tokio_postgres::Client;

use super::super::read::get;
use super::query;
use crate::catalog::{Column, ColumnSettings, Constraint, ConstraintKind, Index, QName, Trigger};
use crate::error::Result;

/// `dep` walks each column's type down to what decides whether two values can be compared:
/// domains to their base type, arrays to their element, composites to every field. Enums, ranges
/// and multiranges always can. Other types need a default btree or hash operator class, their own
/// or, as the server looks it up (`GetDefaultOpClass`), that of a binary-coercible type: varchar
/// has text's.
const COLUMNS: &str = "
WITH RECURSIVE own AS MATERIALIZED (
    SELECT a.attrelid, a.attnum, a.attname::text AS name, a.atttypid,
           format_type(a.atttypid, a.atttypmod) AS type_name,
           a.attnotnull AND NOT EXISTS (
               SELECT FROM pg_constraint k
               WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated
                 AND k.conkey = ARRAY[a.attnum]) AS not_null,
           pg_get_expr(d.adbin, d.adrelid) AS default_text,
           a.attgenerated <> '' AS generated, a.attgenerated = 'v' AS is_virtual,
           CASE a.attidentity WHEN 'a' THEN 'ALWAYS' WHEN 'd' THEN 'BY DEFAULT' END AS identity,
           col_description(a.attrelid, a.attnum) AS comment,
           nullif(a.attstattarget, -1)::int AS statistics,
           CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN'
               ELSE 'EXTENDED' END AS storage,
           a.attstorage <> (SELECT t.typstorage FROM pg_type t WHERE t.oid = a.atttypid) AS own_storage,
           CASE a.attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE '' END AS compression,
           coalesce(a.attoptions, '{}') AS options,
           (SELECT format('%I.%I', n.nspname, c.collname)
            FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
            WHERE c.oid = a.attcollation
              AND c.oid <> (SELECT t.typcollation FROM pg_type t WHERE t.oid = a.atttypid)) AS collation
    FROM pg_attribute a
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped),
dep(root, typ) AS (
    SELECT DISTINCT atttypid, atttypid FROM own
    UNION
    SELECT d.root, x.typ
    FROM dep d
    JOIN pg_type t ON t.oid = d.typ
    CROSS JOIN LATERAL (
        SELECT t.typbasetype AS typ WHERE t.typtype = 'd'
        UNION ALL
        SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1
        UNION ALL
        SELECT a.atttypid FROM pg_attribute a
        WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0
          AND NOT a.attisdropped) AS x),
incomparable AS MATERIALIZED (
    SELECT DISTINCT d.root
    FROM dep d
    JOIN pg_type t ON t.oid = d.typ
    WHERE t.typtype = 'b' AND NOT (t.typcategory = 'A' AND t.typelem <> 0 AND t.typlen = -1)
      AND NOT EXISTS (
          SELECT FROM pg_opclass o
          JOIN pg_am m ON m.oid = o.opcmethod AND m.amname IN ('btree', 'hash')
          WHERE o.opcdefault
            AND (o.opcintype = t.oid
                 OR EXISTS (SELECT FROM pg_cast c
                            WHERE c.castsource = t.oid AND c.casttarget = o.opcintype
                              AND c.castmethod = 'b' AND c.castcontext = 'i'))))
SELECT own.*, NOT EXISTS (SELECT FROM incomparable i WHERE i.root = own.atttypid) AS has_equality
FROM own
ORDER BY attrelid, attnum";

pub(super) async fn columns(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Column)>> {
    query(client, "columns", COLUMNS, oids)
        .await?
        .iter()
        .map(|row| {
            let column = Column {
                name: get(row, "name")?,
                type_name: get(row, "type_name")?,
                not_null: get(row, "not_null")?,
                default: get(row, "default_text")?,
                generated: get(row, "generated")?,
                is_virtual: get(row, "is_virtual")?,
                identity: get(row, "identity")?,
                has_equality: get(row, "has_equality")?,
                comment: get(row, "comment")?,
                settings: ColumnSettings {
                    statistics: get(row, "statistics")?,
                    storage: get(row, "storage")?,
                    own_storage: get(row, "own_storage")?,
                    compression: get(row, "compression")?,
                    options: get(row, "options")?,
                    collation: get(row, "collation")?,
                },
            };
            Ok((get(row, "attrelid")?, column))
        })
        .collect()
}

/// A partitioned index has no storage: its size is that of the indexes attached to it.
const INDEXES: &str = "
SELECT x.indrelid, i.relname::text AS name, pg_get_indexdef(x.indexrelid) AS definition,
       x.indisunique AS is_unique, x.indisprimary AS is_primary, x.indisvalid AS valid,
       ARRAY(SELECT coalesce(a.attname::text, '')
             FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
             LEFT JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
                                     AND k.attnum <> 0
             WHERE k.position <= x.indnkeyatts
             ORDER BY k.position) AS columns,
       EXISTS (SELECT FROM pg_constraint k
               WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x')
                 AND k.conrelid = x.indrelid) AS is_constraint,
       b.bytes
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
CROSS JOIN LATERAL (
    WITH RECURSIVE down(oid) AS (
        SELECT x.indexrelid
        UNION
        SELECT h.inhrelid FROM down JOIN pg_inherits h ON h.inhparent = down.oid)
    SELECT coalesce(sum(pg_relation_size(down.oid)), 0)::bigint AS bytes FROM down) AS b
WHERE x.indrelid = ANY ($1::oid[])
ORDER BY x.indrelid, i.relname";

pub(super) async fn indexes(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Index)>> {
    let mut out = Vec::new();
    for row in &query(client, "indexes", INDEXES, oids).await? {
        let Some(definition) = get(row, "definition")? else {
            continue;
        };
        let index = Index {
            name: get(row, "name")?,
            definition,
            unique: get(row, "is_unique")?,
            primary: get(row, "is_primary")?,
            valid: get(row, "valid")?,
            columns: get(row, "columns")?,
            constraint: get(row, "is_constraint")?,
            bytes: get(row, "bytes")?,
        };
        out.push((get(row, "indrelid")?, index));
    }
    Ok(out)
}

/// See `relations::CLOSURE` for the rows left out.
const CONSTRAINTS: &str = "
SELECT k.conrelid, k.conname::text AS name, k.contype::text AS kind,
       pg_get_constraintdef(k.oid) AS definition, k.convalidated AS validated,
       ARRAY(SELECT a.attname::text
             FROM unnest(k.conkey) WITH ORDINALITY AS x(attnum, position)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = x.attnum
             ORDER BY x.position) AS columns,
       n.nspname::text AS other_schema, c.relname::text AS other_name
FROM pg_constraint k
LEFT JOIN (pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace)
       ON c.oid = k.confrelid AND k.contype = 'f'
WHERE k.conrelid = ANY ($1::oid[])
  AND NOT EXISTS (SELECT FROM pg_constraint p
                  WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
ORDER BY k.conrelid, k.conname";

fn constraint_kind(contype: &str) -> ConstraintKind {
    match contype {
        "c" => ConstraintKind::Check,
        "f" => ConstraintKind::ForeignKey,
        "p" => ConstraintKind::PrimaryKey,
        "u" => ConstraintKind::Unique,
        "x" => ConstraintKind::Exclusion,
        "n" => ConstraintKind::NotNull,
        _ => ConstraintKind::Other,
    }
}

pub(super) async fn constraints(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Constraint)>> {
    let mut out = Vec::new();
    for row in &query(client, "constraints", CONSTRAINTS, oids).await? {
        let Some(definition) = get(row, "definition")? else {
            continue;
        };
        let schema: Option<String> = get(row, "other_schema")?;
        let constraint = Constraint {
            name: get(row, "name")?,
            kind: constraint_kind(&get::<String>(row, "kind")?),
            definition,
            validated: get(row, "validated")?,
            columns: get(row, "columns")?,
            references: match schema {
                Some(schema) => Some(QName::new(schema, get::<String>(row, "other_name")?)),
                None => None,
            },
        };
        out.push((get(row, "conrelid")?, constraint));
    }
    Ok(out)
}

/// The foreign keys as declared (`conparentid = 0`), of the table or of what it is a partition of.
const REFERENCED_BY: &str = "
WITH RECURSIVE up(oid, ancestor) AS (
    SELECT o, o FROM unnest($1::oid[]) AS o
    UNION
    SELECT up.oid, i.inhparent
    FROM up
    JOIN pg_class c ON c.oid = up.ancestor AND c.relispartition
    JOIN pg_inherits i ON i.inhrelid = c.oid)
SELECT up.oid, n.nspname::text AS schema, c.relname::text AS name, k.conname::text AS conname
FROM up
JOIN pg_constraint k ON k.confrelid = up.ancestor AND k.contype = 'f' AND k.conparentid = 0
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.conrelid <> up.oid
ORDER BY up.oid, n.nspname, c.relname, k.conname";

pub(super) async fn referenced_by(
    client: &Client,
    oids: &[u32],
) -> Result<Vec<(u32, (QName, String))>> {
    query(client, "foreign keys", REFERENCED_BY, oids)
        .await?
        .iter()
        .map(|row| {
            let table = QName::new(get::<String>(row, "schema")?, get::<String>(row, "name")?);
            Ok((get(row, "oid")?, (table, get(row, "conname")?)))
        })
        .collect()
}

/// The bits of `tgtype` are in `src/include/catalog/pg_trigger.h`. Up to PostgreSQL 14 the copies of
/// a trigger on partitions are marked internal; those of foreign keys have a constraint.
const TRIGGERS: &str = "
SELECT t.tgrelid, t.tgname::text AS name, pg_get_triggerdef(t.oid) AS definition,
       (t.tgtype & 1) <> 0 AS row_level, (t.tgtype & 2) <> 0 AS is_before,
       (t.tgtype & 4) <> 0 AS on_insert, (t.tgtype & 8) <> 0 AS on_delete,
       (t.tgtype & 16) <> 0 AS on_update, t.tgenabled IN ('O', 'A') AS enabled
FROM pg_trigger t
WHERE t.tgrelid = ANY ($1::oid[])
  AND (NOT t.tgisinternal OR (t.tgparentid <> 0 AND t.tgconstraint = 0))
ORDER BY t.tgrelid, t.tgname";

pub(super) async fn triggers(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Trigger)>> {
    let mut out = Vec::new();
    for row in &query(client, "triggers", TRIGGERS, oids).await? {
        let Some(definition) = get(row, "definition")? else {
            continue;
        };
        let trigger = Trigger {
            name: get(row, "name")?,
            definition,
            before: get(row, "is_before")?,
            row: get(row, "row_level")?,
            on_insert: get(row, "on_insert")?,
            on_update: get(row, "on_update")?,
            on_delete: get(row, "on_delete")?,
            enabled: get(row, "enabled")?,
        };
        out.push((get(row, "tgrelid")?, trigger));
    }
    Ok(out)
}

/// `pg_depend` on a column. A view depends through its rule; a generated column through its
/// default (PostgreSQL 15) or itself (14). Left out: constraints and indexes, which have their own
/// lists, the column's own default, and the sequence that it owns.
const DEPENDENTS: &str = "
SELECT DISTINCT q.oid, q.name, q.description
FROM (
    SELECT d.refobjid AS oid, a.attname::text AS name,
           CASE
               WHEN r.rulename = '_RETURN'
                   THEN pg_describe_object('pg_class'::regclass, r.ev_class, 0)
               WHEN f.oid IS NOT NULL
                   THEN 'generated ' || pg_describe_object('pg_class'::regclass, f.adrelid, f.adnum)
               WHEN o.oid IS NOT NULL AND d.objsubid = 0
                   THEN 'partition key of ' || pg_describe_object('pg_class'::regclass, o.oid, 0)
               WHEN o.oid IS NOT NULL
                   THEN 'generated ' || pg_describe_object(d.classid, d.objid, d.objsubid)
               ELSE pg_describe_object(d.classid, d.objid, d.objsubid)
           END AS description
    FROM pg_depend d
    JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
                       AND NOT a.attisdropped
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_class o ON d.classid = 'pg_class'::regclass AND o.oid = d.objid
    WHERE d.refclassid = 'pg_class'::regclass
      AND d.refobjid = ANY ($1::oid[])
      AND d.refobjsubid > 0
      -- These go with the column, as its indexes do.
      AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_statistic_ext'::regclass)
      -- That of a partition comes and goes with that of its parent, where it has nothing of its own.
      AND NOT EXISTS (SELECT FROM pg_trigger t
                      JOIN pg_trigger p ON p.oid = t.tgparentid AND p.tgenabled = t.tgenabled
                      WHERE d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
                        AND obj_description(t.oid, 'pg_trigger') IS NULL)
      AND (f.oid IS NULL OR f.adrelid <> d.refobjid OR f.adnum <> d.refobjsubid)
      AND (o.oid IS NULL OR (o.relkind IN ('r', 'p', 'f') AND d.objsubid <> d.refobjsubid))
    UNION ALL
    SELECT p.partrelid, a.attname::text,
           'partition key of ' || pg_describe_object('pg_class'::regclass, p.partrelid, 0)
    FROM pg_partitioned_table p
    JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = ANY (p.partattrs::int2[])
    WHERE p.partrelid = ANY ($1::oid[]) AND a.attnum > 0) AS q
WHERE q.description IS NOT NULL
ORDER BY q.oid, q.name, q.description";

/// (table, column, description).
pub(super) async fn dependents(
    client: &Client,
    oids: &[u32],
) -> Result<Vec<(u32, String, String)>> {
    query(client, "dependent objects", DEPENDENTS, oids)
        .await?
        .iter()
        .map(|row| {
            Ok((
                get(row, "oid")?,
                get(row, "name")?,
                get(row, "description")?,
            ))
        })
        .collect()
}
