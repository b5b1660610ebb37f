//! Who may use a table, and which code names it.

use tokio_postgres::Client;

use super::super::read::get;
use super::query;
use crate::catalog::{Granted, Mention};
use crate::error::Result;

/// Rights of other roles than the owner, who has all of them.
const GRANTS: &str = "
SELECT c.oid, g.privilege_type AS privilege, NULL::text AS column,
       CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee)::text END AS grantee,
       g.is_grantable AS grantable, g.grantor = c.relowner AS by_owner
FROM pg_class c
CROSS JOIN LATERAL aclexplode(c.relacl) AS g
WHERE c.oid = ANY ($1::oid[]) AND g.grantee <> c.relowner
UNION ALL
SELECT c.oid, g.privilege_type, a.attname::text,
       CASE WHEN g.grantee <> 0 THEN pg_get_userbyid(g.grantee)::text END, g.is_grantable,
       g.grantor = c.relowner
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
CROSS JOIN LATERAL aclexplode(a.attacl) AS g
WHERE c.oid = ANY ($1::oid[]) AND g.grantee <> c.relowner
ORDER BY 1, 4 NULLS FIRST, 3 NULLS FIRST, 2";

pub(super) async fn grants(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Granted)>> {
    query(client, "rights", GRANTS, oids)
        .await?
        .iter()
        .map(|row| {
            let grant = Granted {
                privilege: get(row, "privilege")?,
                column: get(row, "column")?,
                grantee: get(row, "grantee")?,
                grantable: get(row, "grantable")?,
                by_owner: get(row, "by_owner")?,
            };
            Ok((get(row, "oid")?, grant))
        })
        .collect()
}

/// Only text is searched: a body in SQL (BEGIN ATOMIC) is bound to objects, not to names. Names
/// are put in a pattern as the server folds them; those in quotes are met too.
const MENTIONS: &str = r"
SELECT c.oid, p.oid::regprocedure::text AS function, t.tgname::text AS trigger,
       ARRAY(SELECT a.attname::text FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND p.prosrc ~* ('\m' || regexp_replace(a.attname, '(\W)', '\', 'g') || '\M')
             ORDER BY a.attnum) AS columns
FROM pg_class c
CROSS JOIN pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgfoid = p.oid AND NOT t.tgisinternal
WHERE c.oid = ANY ($1::oid[])
  AND l.lanname NOT IN ('internal', 'c')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift')
  AND (t.oid IS NOT NULL
       OR p.prosrc ~* ('\m' || regexp_replace(c.relname, '(\W)', '\', 'g') || '\M'))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                  AND d.objid = p.oid AND d.deptype = 'e')
ORDER BY 1, 2, 3";

pub(super) async fn mentions(client: &Client, oids: &[u32]) -> Result<Vec<(u32, Mention)>> {
    query(client, "functions", MENTIONS, oids)
        .await?
        .iter()
        .map(|row| {
            let mention = Mention {
                function: get(row, "function")?,
                trigger: get(row, "trigger")?,
                columns: get(row, "columns")?,
            };
            Ok((get(row, "oid")?, mention))
        })
        .collect()
}
