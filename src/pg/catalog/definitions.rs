//! What is made again by a statement: views and functions.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::super::read::{failed, get};
use super::{Wanted, query};
use crate::catalog::{Function, QName, View};
use crate::error::Result;

/// The statements that make a view again. One with triggers, with rules beside its own, with
/// rights, comments or defaults of columns gets none, as those would be lost; nor does one that
/// another view stands upon, which would be in the way.
const VIEWS: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       CASE WHEN NOT (
           EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid)
           OR EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid AND rulename <> '_RETURN')
           OR EXISTS (SELECT FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
                      WHERE d.classid = 'pg_rewrite'::regclass AND r.ev_class <> c.oid
                        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
           OR EXISTS (SELECT FROM pg_attrdef WHERE adrelid = c.oid)
           OR EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attacl IS NOT NULL)
           OR EXISTS (SELECT FROM pg_description WHERE classoid = 'pg_class'::regclass
                      AND objoid = c.oid AND objsubid > 0))
       THEN array_cat(array_cat(
           ARRAY[
               format('CREATE VIEW %I.%I%s AS %s', n.nspname, c.relname,
                   ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
                   rtrim(pg_get_viewdef(c.oid), ';')),
               format('ALTER VIEW %I.%I OWNER TO %I', n.nspname, c.relname,
                   pg_get_userbyid(c.relowner))],
           ARRAY(SELECT format('COMMENT ON VIEW %I.%I IS %L', n.nspname, c.relname, comment)
                 FROM obj_description(c.oid, 'pg_class') AS comment WHERE comment IS NOT NULL)),
           ARRAY(SELECT format('GRANT %s ON %I.%I TO %s%s', privilege_type, n.nspname, c.relname,
                     CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                     CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                 FROM aclexplode(c.relacl) WHERE grantee <> c.relowner))
       ELSE '{}' END AS recreate
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY ($1::oid[])";

/// Views by name.
pub(super) async fn views(client: &Client, oids: &[u32]) -> Result<BTreeMap<QName, View>> {
    query(client, "views", VIEWS, oids)
        .await?
        .iter()
        .map(|row| {
            let recreate = get(row, "recreate")?;
            Ok((
                QName::new(get::<String>(row, "schema")?, get::<String>(row, "name")?),
                View { recreate },
            ))
        })
        .collect()
}

const FUNCTIONS: &str = "
SELECT n.nspname::text AS schema, p.proname::text AS name,
       pg_get_function_identity_arguments(p.oid) AS arguments,
       CASE WHEN p.prokind IN ('f', 'p', 'w') THEN pg_get_functiondef(p.oid) ELSE '' END AS definition
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.proname = ANY ($1::text[])
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
ORDER BY p.oid";

/// Functions of these names, in any schema.
pub(super) async fn functions(
    client: &Client,
    wanted: &[Wanted],
) -> Result<BTreeMap<QName, Vec<Function>>> {
    let names: Vec<&str> = wanted.iter().map(|w| w.name.as_str()).collect();
    let rows = client
        .query_typed(FUNCTIONS, &[(&names, Type::TEXT_ARRAY)])
        .await
        .map_err(|e| failed("cannot read functions from the catalog", e))?;
    let mut all: BTreeMap<QName, Vec<Function>> = BTreeMap::new();
    for row in &rows {
        let name = QName::new(get::<String>(row, "schema")?, get::<String>(row, "name")?);
        all.entry(name).or_default().push(Function {
            arguments: get(row, "arguments")?,
            definition: get(row, "definition")?,
        });
    }
    Ok(all)
}
