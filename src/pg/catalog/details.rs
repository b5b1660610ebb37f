//! What only a change of a column's type needs to know.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::super::read::{failed, get};
use crate::catalog::QName;
use crate::catalog::details::{
    ColumnDetails, Conversion, Definition, DefinitionKind, Grant, KeyPart, OwnedSequence,
};
use crate::error::Result;

/// Index, constraint and statistics in the order of their making, which is that of their oids.
const DEFINITIONS: &str = "
SELECT 'i' AS kind, i.relname::text AS name, pg_get_indexdef(x.indexrelid) AS text,
       obj_description(i.oid, 'pg_class') AS comment, s.spcname::text AS tablespace,
       x.indisclustered AS clustered, x.indisreplident AS replica_identity,
       ARRAY(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = i.oid AND a.attstattarget >= 0
             ORDER BY a.attnum) AS target_of,
       ARRAY(SELECT a.attstattarget::int4 FROM pg_attribute a
             WHERE a.attrelid = i.oid AND a.attstattarget >= 0 ORDER BY a.attnum) AS targets,
       i.oid::int8 AS place
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace AND i.reltablespace <> 0
WHERE x.indrelid = $1
UNION ALL
SELECT 'c', k.conname::text, pg_get_constraintdef(k.oid),
       obj_description(k.oid, 'pg_constraint'), NULL, false, false, '{}'::int2[], '{}'::int4[],
       k.oid::int8
FROM pg_constraint k WHERE k.conrelid = $1 AND k.contype <> 't'
UNION ALL
SELECT 's', t.stxname::text,
       -- Without the name before and the table behind.
       left(substr(d.text, 1 + length(format('CREATE STATISTICS %I.%I', m.name, t.stxname))),
            - length(' FROM ' || t.stxrelid::regclass)),
       obj_description(t.oid, 'pg_statistic_ext'), NULL, false, false, '{}'::int2[],
       '{}'::int4[], t.oid::int8
FROM pg_statistic_ext t
CROSS JOIN LATERAL (SELECT pg_get_statisticsobjdef(t.oid) AS text) AS d
CROSS JOIN LATERAL (SELECT CASE WHEN starts_with(d.text, 'CREATE STATISTICS pg_temp.')
                                THEN 'pg_temp' ELSE nspname END AS name
                    FROM pg_namespace WHERE oid = t.stxnamespace) AS m
WHERE t.stxrelid = $1
ORDER BY kind, place";

/// The definitions of what a table has.
///
/// # Errors
/// What the server or the connection gave.
pub async fn definitions(client: &Client, table: u32) -> Result<Vec<Definition>> {
    let rows = client
        .query_typed(DEFINITIONS, &[(&table, Type::OID)])
        .await
        .map_err(|e| failed("cannot read the definitions of a table", e))?;
    rows.iter()
        .map(|row| {
            Ok(Definition {
                kind: match get::<String>(row, "kind")?.as_str() {
                    "i" => DefinitionKind::Index,
                    "c" => DefinitionKind::Constraint,
                    _ => DefinitionKind::Statistics,
                },
                name: get(row, "name")?,
                text: get::<Option<String>>(row, "text")?.unwrap_or_default(),
                comment: get(row, "comment")?,
                tablespace: get(row, "tablespace")?,
                clustered: get(row, "clustered")?,
                replica_identity: get(row, "replica_identity")?,
                targets: get::<Vec<i16>>(row, "target_of")?
                    .into_iter()
                    .zip(get::<Vec<i32>>(row, "targets")?)
                    .collect(),
            })
        })
        .collect()
}

const COLUMN: &str = "
SELECT nullif(a.attstattarget, -1)::int AS statistics,
       coalesce(a.attoptions, '{}')::text[] AS options
FROM pg_attribute a
WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped";

const COLUMN_GRANTS: &str = "
SELECT g.privilege_type AS privilege, r.rolname::text AS grantee, g.is_grantable AS grantable
FROM pg_attribute a, aclexplode(a.attacl) AS g
LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE a.attrelid = $1 AND a.attname = $2 AND NOT a.attisdropped
ORDER BY g.privilege_type, r.rolname NULLS FIRST";

const SEQUENCES: &str = "
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name,
       format_type(s.seqtypid, NULL) AS type_name, d.deptype = 'i' AS identity,
       s.seqstart AS start, s.seqincrement AS increment, s.seqmin AS min, s.seqmax AS max,
       s.seqcache AS cache, s.seqcycle AS cycle, obj_description(c.oid, 'pg_class') AS comment
FROM pg_depend d
JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.objsubid = 0 AND d.deptype IN ('a', 'i') AND d.refobjid = $1 AND a.attname = $2
ORDER BY n.nspname, c.relname";

const SEQUENCE_GRANTS: &str = "
SELECT g.privilege_type AS privilege, r.rolname::text AS grantee, g.is_grantable AS grantable
FROM pg_class c, aclexplode(c.relacl) AS g
LEFT JOIN pg_roles r ON r.oid = g.grantee
WHERE c.oid = $1 AND g.grantee <> c.relowner
ORDER BY g.privilege_type, r.rolname NULLS FIRST";

fn grants(rows: &[tokio_postgres::Row]) -> Result<Vec<Grant>> {
    rows.iter()
        .map(|row| {
            Ok(Grant {
                privilege: get(row, "privilege")?,
                grantee: get(row, "grantee")?,
                grantable: get(row, "grantable")?,
            })
        })
        .collect()
}

/// What these columns of a table have.
///
/// # Errors
/// What the server or the connection gave.
pub async fn columns(
    client: &Client,
    table: u32,
    names: &[&str],
) -> Result<BTreeMap<String, ColumnDetails>> {
    let error = |e| failed("cannot read what a column has", e);
    let mut all = BTreeMap::new();
    for name in names {
        let of: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&table, Type::OID), (name, Type::TEXT)];
        let row = client.query_typed_one(COLUMN, &of).await.map_err(error)?;
        let granted = client
            .query_typed(COLUMN_GRANTS, &of)
            .await
            .map_err(error)?;
        let mut details = ColumnDetails {
            statistics: get(&row, "statistics")?,
            options: get(&row, "options")?,
            grants: grants(&granted)?,
            sequences: Vec::new(),
        };
        for row in &client.query_typed(SEQUENCES, &of).await.map_err(error)? {
            let oid: u32 = get(row, "oid")?;
            let granted = client
                .query_typed(SEQUENCE_GRANTS, &[(&oid, Type::OID)])
                .await
                .map_err(error)?;
            details.sequences.push(OwnedSequence {
                name: QName::new(get::<String>(row, "schema")?, get::<String>(row, "name")?),
                type_name: get(row, "type_name")?,
                identity: get(row, "identity")?,
                start: get(row, "start")?,
                increment: get(row, "increment")?,
                min: get(row, "min")?,
                max: get(row, "max")?,
                cache: get(row, "cache")?,
                cycle: get(row, "cycle")?,
                grants: grants(&granted)?,
                comment: get(row, "comment")?,
            });
        }
        all.insert((*name).to_owned(), details);
    }
    Ok(all)
}

/// A conversion depends on the session where a function of it is not immutable: that of the cast,
/// or the types' own input and output where there is none (documentation, CREATE CAST, and
/// "Function Volatility Categories"). Arrays convert as their elements do. Input and output of an
/// enum are stable only because values are added to it. What `bytea` shows as follows `bytea_output`,
/// though its function is immutable.
const CONVERSION: &str = "
WITH pair AS (
    SELECT o.oid AS a, n.oid AS b, o.typcategory = 'S' OR n.typcategory = 'S' AS text,
           (ob.typelem <> 0 AND ob.typcategory = 'A') = (nb.typelem <> 0 AND nb.typcategory = 'A')
               AS alike,
           CASE WHEN o.typtype <> 'e' THEN ARRAY[o.typoutput] END AS a_out,
           CASE WHEN o.typtype <> 'e' THEN ARRAY[o.typinput] END AS a_in,
           CASE WHEN n.typtype <> 'e' THEN ARRAY[n.typoutput] END AS b_out,
           CASE WHEN n.typtype <> 'e' THEN ARRAY[n.typinput] END AS b_in
    FROM pg_attribute x
    JOIN pg_type ox ON ox.oid = x.atttypid
    JOIN pg_type ob ON ob.oid = CASE ox.typtype WHEN 'd' THEN ox.typbasetype ELSE ox.oid END
    JOIN pg_type o ON o.oid = CASE WHEN ob.typelem <> 0 AND ob.typcategory = 'A'
                                   THEN ob.typelem ELSE ob.oid END,
         pg_attribute y
    JOIN pg_type nx ON nx.oid = y.atttypid
    JOIN pg_type nb ON nb.oid = CASE nx.typtype WHEN 'd' THEN nx.typbasetype ELSE nx.oid END
    JOIN pg_type n ON n.oid = CASE WHEN nb.typelem <> 0 AND nb.typcategory = 'A'
                                   THEN nb.typelem ELSE nb.oid END
    WHERE x.attrelid = $1 AND x.attname = $2 AND y.attrelid = $3 AND y.attname = $4),
way AS (
    SELECT p.*, t.castmethod AS there, b.castmethod AS back, b.oid IS NOT NULL AS has_back,
           t.castfunc AS there_func, b.castfunc AS back_func
    FROM pair p
    LEFT JOIN pg_cast t ON t.castsource = p.a AND t.casttarget = p.b AND p.alike
    LEFT JOIN pg_cast b ON b.castsource = p.b AND b.casttarget = p.a AND p.alike)
SELECT a = b AND alike AS same, has_back, text,
       NOT (a = b AND alike) AND coalesce(there, 'i') <> 'b' AND EXISTS (
           SELECT FROM pg_proc f
           WHERE (f.provolatile <> 'i' OR f.oid = 'byteaout'::regproc)
             AND f.oid = ANY (CASE there WHEN 'f' THEN ARRAY[there_func]
                              ELSE coalesce(a_out, '{}')::oid[] || coalesce(b_in, '{}')::oid[] END))
           AS depends,
       NOT (a = b AND alike) AND coalesce(back, 'i') <> 'b' AND EXISTS (
           SELECT FROM pg_proc f
           WHERE (f.provolatile <> 'i' OR f.oid = 'byteaout'::regproc)
             AND f.oid = ANY (CASE back WHEN 'f' THEN ARRAY[back_func]
                              ELSE coalesce(b_out, '{}')::oid[] || coalesce(a_in, '{}')::oid[] END))
           AS back_depends
FROM way";

/// How the type of a column converts to that of another table's column.
///
/// # Errors
/// What the server or the connection gave.
pub async fn conversion(
    client: &Client,
    (table, column): (u32, &str),
    (copy, new): (u32, &str),
) -> Result<Conversion> {
    let row = client
        .query_typed_one(
            CONVERSION,
            &[
                (&table, Type::OID),
                (&column, Type::TEXT),
                (&copy, Type::OID),
                (&new, Type::TEXT),
            ],
        )
        .await
        .map_err(|e| failed("cannot read how types convert", e))?;
    Ok(Conversion {
        same: get(&row, "same")?,
        back: get(&row, "has_back")?,
        text: get(&row, "text")?,
        depends: get(&row, "depends")?,
        back_depends: get(&row, "back_depends")?,
    })
}

/// A foreign key of these columns of a table, or to them, of which a trigger is disabled or fires in
/// other roles of replication, and the table that has it.
///
/// # Errors
/// What the server or the connection gave.
pub async fn disabled_key(
    client: &Client,
    table: u32,
    columns: &[&str],
) -> Result<Option<(String, String)>> {
    const DISABLED: &str = "
        SELECT k.conname::text AS name, k.conrelid::regclass::text AS table_name
        FROM pg_trigger t
        JOIN pg_constraint k ON k.oid = t.tgconstraint AND k.contype = 'f'
        JOIN pg_attribute a ON a.attrelid = $1 AND a.attname = ANY ($2::text[])
         AND ((k.conrelid = $1 AND a.attnum = ANY (k.conkey))
              OR (k.confrelid = $1 AND a.attnum = ANY (k.confkey)))
        WHERE t.tgisinternal AND t.tgenabled <> 'O'
        ORDER BY 2, 1 LIMIT 1";
    let of: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&table, Type::OID), (&columns, Type::TEXT_ARRAY)];
    let rows = client
        .query_typed(DISABLED, &of)
        .await
        .map_err(|e| failed("cannot read the triggers of foreign keys", e))?;
    let key = rows
        .first()
        .map(|row| Ok((get(row, "name")?, get(row, "table_name")?)));
    key.transpose()
}

/// A foreign key and those that partitions have of it, the table's own first.
///
/// # Errors
/// What the server or the connection gave.
pub async fn key_parts(client: &Client, table: u32, name: &str) -> Result<Vec<KeyPart>> {
    // One to a partitioned table has rows of its own for the partitions of that one.
    const PARTS: &str = "
        WITH RECURSIVE down(oid, level) AS (
          SELECT k.oid, 0 FROM pg_constraint k WHERE k.conrelid = $1 AND k.conname = $2
          UNION ALL
          SELECT k.oid, down.level + 1
          FROM down
          JOIN pg_constraint p ON p.oid = down.oid
          JOIN pg_constraint k ON k.conparentid = p.oid AND k.conrelid <> p.conrelid)
        SELECT n.nspname::text AS schema, c.relname::text AS table_name, k.conname::text AS name,
               obj_description(k.oid, 'pg_constraint') AS comment
        FROM down
        JOIN pg_constraint k ON k.oid = down.oid
        JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        ORDER BY down.level, 1, 2";
    let of: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&table, Type::OID), (&name, Type::TEXT)];
    let rows = client
        .query_typed(PARTS, &of)
        .await
        .map_err(|e| failed("cannot read the parts of a foreign key", e))?;
    rows.iter()
        .map(|row| {
            Ok(KeyPart {
                table: QName::new(
                    get::<String>(row, "schema")?,
                    get::<String>(row, "table_name")?,
                ),
                name: get(row, "name")?,
                comment: get(row, "comment")?,
            })
        })
        .collect()
}
