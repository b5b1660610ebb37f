//! Objects with their rights, comments and options.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::super::read::{failed, get};
use super::batch;
use super::relations::kind;
use crate::catalog::{Catalog, DefaultRights, Granted, OBJECT_CLASSES, Object};
use crate::error::{Error, Result};

/// Every object of one of these names (`$1`), or in one of these schemas (`$2`). `acl_type` is
/// that of `acldefault`, which stands in where no right was ever granted.
const OBJECTS: &str = "
WITH o AS (
    SELECT 'relation' AS class, 'pg_class'::regclass::oid AS classid, c.oid, c.relkind::text AS kind,
           n.nspname AS schema, c.relname AS name, NULL::name AS on_name,
           format('%I.%I', n.nspname, c.relname) AS identity,
           NULL::text AS arguments, NULL::text AS types, c.relowner AS owner,
           CASE WHEN c.relkind = 'S' THEN 's' WHEN c.relkind IN ('r', 'p', 'v', 'm', 'f') THEN 'r' END
               AS acl_type, c.relacl AS acl,
           coalesce(c.reloptions, '{}') AS options,
           (SELECT format('AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %s',
                       seqtypid::regtype, seqincrement, seqmin, seqmax, seqstart, seqcache,
                       CASE WHEN seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
                   || coalesce((SELECT CASE deptype WHEN 'a' THEN format(' OWNED BY %I.%I.%I',
                                       tn.nspname, t.relname, a.attname) ELSE '' END
                                FROM pg_depend d
                                JOIN pg_class t ON t.oid = d.refobjid
                                JOIN pg_namespace tn ON tn.oid = t.relnamespace
                                JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
                                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                                  AND d.objsubid = 0 AND d.refclassid = 'pg_class'::regclass
                                  AND d.deptype IN ('a', 'i')), ' OWNED BY NONE')
            FROM pg_sequence WHERE seqrelid = c.oid) AS definition
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind <> 't' AND (c.relname = ANY ($1::text[]) OR n.nspname = ANY ($2::text[]))
    UNION ALL
    SELECT 'function', 'pg_proc'::regclass, p.oid, NULL, n.nspname, p.proname, NULL,
           format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
           pg_get_function_identity_arguments(p.oid), oidvectortypes(p.proargtypes), p.proowner,
           'f', p.proacl, '{}', pg_get_functiondef(p.oid)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prokind <> 'a' AND n.nspname <> 'pg_catalog'
      AND (p.proname = ANY ($1::text[]) OR n.nspname = ANY ($2::text[]))
    UNION ALL
    SELECT 'type', 'pg_type'::regclass, t.oid, NULL, n.nspname, t.typname, NULL,
           format('%I.%I', n.nspname, t.typname), NULL, NULL, t.typowner, 'T', t.typacl, '{}', NULL
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
    WHERE t.typname = ANY ($1::text[]) AND (t.typrelid = 0 OR EXISTS (
        SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
    UNION ALL
    SELECT 'schema', 'pg_namespace'::regclass, oid, NULL, NULL, nspname, NULL,
           quote_ident(nspname), NULL, NULL, nspowner, 'n', nspacl, '{}', NULL
    FROM pg_namespace WHERE nspname = ANY ($1::text[])
    UNION ALL
    SELECT 'constraint', 'pg_constraint'::regclass, k.oid, NULL, n.nspname, k.conname,
           coalesce(c.relname, t.typname),
           format(CASE WHEN k.contypid = 0 THEN '%I ON %I.%I' ELSE '%I ON DOMAIN %I.%I' END,
               k.conname, n.nspname, coalesce(c.relname, t.typname)),
           NULL, NULL, 0, NULL, NULL, '{}', NULL
    FROM pg_constraint k
    LEFT JOIN pg_class c ON c.oid = k.conrelid
    LEFT JOIN pg_type t ON t.oid = k.contypid
    JOIN pg_namespace n ON n.oid = coalesce(c.relnamespace, t.typnamespace)
    WHERE k.conname = ANY ($1::text[])
    UNION ALL
    SELECT p.class, p.classid, p.oid, NULL, n.nspname, p.name, c.relname,
           format('%I ON %I.%I', p.name, n.nspname, c.relname),
           NULL, NULL, 0, NULL, NULL, '{}', NULL
    FROM (SELECT 'trigger' AS class, 'pg_trigger'::regclass AS classid, oid, tgname AS name,
                 tgrelid AS rel FROM pg_trigger
          UNION ALL
          SELECT 'policy', 'pg_policy'::regclass, oid, polname, polrelid FROM pg_policy
          UNION ALL
          SELECT 'rule', 'pg_rewrite'::regclass, oid, rulename, ev_class FROM pg_rewrite) AS p
    JOIN pg_class c ON c.oid = p.rel
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE p.name = ANY ($1::text[])
    UNION ALL
    SELECT s.class, s.classid, s.oid, NULL, n.nspname, s.name, NULL,
           format('%I.%I', n.nspname, s.name), NULL, NULL, s.owner, NULL, NULL, '{}', NULL
    FROM (SELECT 'statistics' AS class, 'pg_statistic_ext'::regclass AS classid, oid,
                 stxname AS name, stxnamespace AS space, stxowner AS owner FROM pg_statistic_ext
          UNION ALL
          SELECT 'collation', 'pg_collation'::regclass, oid, collname, collnamespace, collowner
          FROM pg_collation) AS s
    JOIN pg_namespace n ON n.oid = s.space
    WHERE s.name = ANY ($1::text[])
    UNION ALL
    SELECT g.class, g.classid, g.oid, NULL, NULL, g.name, NULL, quote_ident(g.name), NULL, NULL,
           g.owner, g.acl_type, g.acl, '{}', NULL
    FROM (SELECT 'database' AS class, 'pg_database'::regclass AS classid, oid, datname AS name,
                 datdba AS owner, 'd' AS acl_type, datacl AS acl FROM pg_database
          UNION ALL SELECT 'role', 'pg_authid'::regclass, oid, rolname, 0, NULL, NULL FROM pg_roles
          UNION ALL SELECT 'tablespace', 'pg_tablespace'::regclass, oid, spcname, spcowner, 't', spcacl
          FROM pg_tablespace
          UNION ALL SELECT 'language', 'pg_language'::regclass, oid, lanname, lanowner, 'l', lanacl
          FROM pg_language
          UNION ALL SELECT 'extension', 'pg_extension'::regclass, oid, extname, extowner, NULL, NULL
          FROM pg_extension
          UNION ALL SELECT 'publication', 'pg_publication'::regclass, oid, pubname, pubowner, NULL, NULL
          FROM pg_publication
          UNION ALL SELECT 'event trigger', 'pg_event_trigger'::regclass, oid, evtname, evtowner, NULL,
                 NULL FROM pg_event_trigger
          UNION ALL SELECT 'access method', 'pg_am'::regclass, oid, amname, 0, NULL, NULL FROM pg_am
          UNION ALL SELECT 'foreign data wrapper', 'pg_foreign_data_wrapper'::regclass, oid, fdwname,
                 fdwowner, 'F', fdwacl FROM pg_foreign_data_wrapper
          UNION ALL SELECT 'server', 'pg_foreign_server'::regclass, oid, srvname, srvowner, 'S', srvacl
          FROM pg_foreign_server) AS g
    WHERE g.name = ANY ($1::text[]))
SELECT o.class, o.kind, o.schema::text AS schema, o.name::text AS name, o.on_name::text AS on_name,
       o.identity, o.arguments, o.types, o.options, o.definition,
       CASE WHEN o.owner <> 0 THEN pg_get_userbyid(o.owner)::text ELSE '' END AS owner,
       o.owner <> 0 AND pg_has_role(current_user, o.owner, 'USAGE') AS owned,
       coalesce(obj_description(o.oid, o.classid::regclass::name),
                shobj_description(o.oid, o.classid::regclass::name)) AS comment,
       k.columns, k.comments, a.grantees, a.privileges, a.limited, a.grantable, a.by_owner
FROM o
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(t.attname::text ORDER BY t.attnum), '{}') AS columns,
           coalesce(array_agg(d.description ORDER BY t.attnum), '{}') AS comments
    FROM pg_description d
    JOIN pg_attribute t ON t.attrelid = o.oid AND t.attnum = d.objsubid
    WHERE o.class = 'relation' AND d.classoid = o.classid AND d.objoid = o.oid AND d.objsubid > 0) AS k
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(CASE WHEN e.grantee <> 0 THEN pg_get_userbyid(e.grantee)::text END), '{}')
               AS grantees,
           coalesce(array_agg(e.privilege_type), '{}') AS privileges,
           coalesce(array_agg(e.attname::text), '{}') AS limited,
           coalesce(array_agg(e.is_grantable), '{}') AS grantable,
           coalesce(array_agg(e.grantor = o.owner), '{}') AS by_owner
    FROM (SELECT x.*, NULL::name AS attname
          FROM aclexplode(coalesce(o.acl, acldefault(o.acl_type::\"char\", o.owner))) AS x
          WHERE o.acl_type IS NOT NULL
          UNION ALL
          SELECT x.*, t.attname
          FROM pg_attribute t, aclexplode(t.attacl) AS x
          WHERE o.class = 'relation' AND t.attrelid = o.oid AND NOT t.attisdropped) AS e) AS a
ORDER BY o.class, o.schema, o.name, o.identity";

const DEFAULTS: &str = "
SELECT pg_get_userbyid(d.defaclrole)::text AS role, n.nspname::text AS schema,
       d.defaclobjtype::text AS kind,
       coalesce(array_agg(CASE WHEN e.grantee <> 0 THEN pg_get_userbyid(e.grantee)::text END)
           FILTER (WHERE e.grantor IS NOT NULL), '{}') AS grantees,
       coalesce(array_agg(e.privilege_type) FILTER (WHERE e.grantor IS NOT NULL), '{}') AS privileges,
       coalesce(array_agg(e.is_grantable) FILTER (WHERE e.grantor IS NOT NULL), '{}') AS grantable,
       coalesce(array_agg(e.grantor = d.defaclrole) FILTER (WHERE e.grantor IS NOT NULL), '{}')
           AS by_owner
FROM pg_default_acl d
LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
LEFT JOIN LATERAL aclexplode(d.defaclacl) AS e ON true
GROUP BY d.oid, d.defaclrole, n.nspname, d.defaclobjtype
ORDER BY 1, 2, 3";

/// Reads the objects of these names, all objects in these schemas, and where `defaults` the
/// rights that new objects get, into the catalog. In a read-only transaction of its own.
///
/// # Errors
/// What the server or the connection gave.
pub async fn load_objects(
    client: &Client,
    catalog: &mut Catalog,
    names: &[String],
    schemas: &[String],
    defaults: bool,
) -> Result<()> {
    if names.is_empty() && schemas.is_empty() && !defaults {
        return Ok(());
    }
    batch(client, super::BEGIN).await?;
    let read = read(client, catalog, names, schemas, defaults).await;
    let ended = batch(client, if read.is_ok() { "COMMIT" } else { "ROLLBACK" }).await;
    read?;
    ended?;
    Ok(())
}

async fn read(
    client: &Client,
    catalog: &mut Catalog,
    names: &[String],
    schemas: &[String],
    defaults: bool,
) -> Result<()> {
    let cannot = |e| failed("cannot read objects from the catalog", e);
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&names, Type::TEXT_ARRAY), (&schemas, Type::TEXT_ARRAY)];
    let rows = client.query_typed(OBJECTS, &parameters).await;
    for row in &rows.map_err(cannot)? {
        catalog.objects.push(object(row)?);
    }
    if defaults {
        let rows = client.query_typed(DEFAULTS, &[]).await;
        for row in &rows.map_err(cannot)? {
            let columns = vec![None; get::<Vec<String>>(row, "privileges")?.len()];
            catalog.default_rights.push(DefaultRights {
                role: get(row, "role")?,
                schema: get(row, "schema")?,
                kind: get(row, "kind")?,
                grants: grants(row, columns)?,
            });
        }
    }
    Ok(())
}

fn grants(row: &Row, columns: Vec<Option<String>>) -> Result<Vec<Granted>> {
    let grantees: Vec<Option<String>> = get(row, "grantees")?;
    let privileges: Vec<String> = get(row, "privileges")?;
    let grantable: Vec<bool> = get(row, "grantable")?;
    let by_owner: Vec<bool> = get(row, "by_owner")?;
    let mut all: Vec<Granted> = grantees
        .into_iter()
        .zip(privileges)
        .zip(columns)
        .zip(grantable.into_iter().zip(by_owner))
        .map(
            |(((grantee, privilege), column), (grantable, by_owner))| Granted {
                grantee,
                privilege,
                column,
                grantable,
                by_owner,
            },
        )
        .collect();
    all.sort();
    Ok(all)
}

fn object(row: &Row) -> Result<Object> {
    let class: String = get(row, "class")?;
    let class = OBJECT_CLASSES
        .iter()
        .find(|(_, name)| *name == class)
        .map(|(class, _)| *class)
        .ok_or_else(|| Error::internal(format!("the object class {class} is not known")))?;
    let relkind: Option<String> = get(row, "kind")?;
    let arguments: Option<String> = get(row, "arguments")?;
    let types: Option<String> = get(row, "types")?;
    let columns: Vec<String> = get(row, "columns")?;
    let comments: Vec<String> = get(row, "comments")?;
    Ok(Object {
        class,
        kind: relkind.as_deref().map(kind),
        schema: get(row, "schema")?,
        name: get(row, "name")?,
        on: get(row, "on_name")?,
        identity: get(row, "identity")?,
        arguments: arguments.zip(types),
        owner: get(row, "owner")?,
        owned: get(row, "owned")?,
        comment: get(row, "comment")?,
        column_comments: columns.into_iter().zip(comments).collect(),
        grants: grants(row, get(row, "limited")?)?,
        options: get(row, "options")?,
        definition: get(row, "definition")?,
        made: false,
    })
}
