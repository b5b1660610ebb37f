//! Reads the [`Shape`] of a database: relations with columns (without dropped ones), constraints,
//! indexes, triggers, rules, policies, rights and comments; sequences, views, types, functions,
//! statistics, publications. Without what is the server's, an extension's, or pgshift's own.
//! What the server keeps in the order of column numbers (statistics, column lists of publications)
//! is read in the order of names: two schemas whose columns only stand in another order differ in
//! that alone.

use tokio_postgres::Client;

use super::error::from_pg;
use super::read::get;
use crate::catalog::shape::Shape;
use crate::error::Result;

/// Schemas and objects that are neither the server's, nor an extension's, nor pgshift's own.
/// `{oid}` and `{class}` name the object, `n` is its `pg_namespace`.
const USERS: &str = "n.nspname NOT IN ('pg_catalog', 'information_schema') \
     AND n.nspname !~ '^(pg_(toast|temp)|pgshift(_check)?$)' \
     AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = '{class}'::regclass \
                     AND objid = {oid} AND deptype = 'e')";

/// Everything that a relation is or has.
const RELATIONS: &str = r#"
WITH rel AS (
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS full_name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {users}
), lines AS (
    SELECT full_name AS object,
        concat_ws(' ',
            CASE relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table'
                WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                WHEN 'S' THEN 'sequence' ELSE 'foreign table' END,
            full_name, 'owner', pg_get_userbyid(relowner),
            CASE relpersistence WHEN 'u' THEN 'unlogged' WHEN 't' THEN 'temporary' END,
            CASE WHEN relrowsecurity THEN 'row security' END,
            CASE WHEN relforcerowsecurity THEN 'forced' END,
            CASE WHEN relkind IN ('r', 'p') AND relreplident <> 'd'
                THEN 'replica identity ' || relreplident::text END,
            CASE WHEN relkind = 'p' THEN 'partition by ' || pg_get_partkeydef(oid) END,
            'of type ' || nullif(reloftype, 0)::regtype,
            CASE WHEN relkind = 'm' AND NOT relispopulated THEN 'without data' END,
            (SELECT string_agg(concat_ws(' ',
                 CASE WHEN relispartition THEN 'partition of' ELSE 'inherits' END,
                 inhparent::regclass, pg_get_expr(relpartbound, oid)), ', ' ORDER BY inhseqno)
             FROM pg_inherits WHERE inhrelid = oid),
            'using ' || (SELECT amname FROM pg_am
                         WHERE pg_am.oid = relam AND amname <> 'heap' AND relkind <> 'S'),
            'tablespace ' || (SELECT spcname FROM pg_tablespace WHERE pg_tablespace.oid = reltablespace),
            'with ' || {sorted:reloptions},
            'toast with ' || (SELECT {sorted:t.reloptions} FROM pg_class t
                              WHERE t.oid = rel.reltoastrelid)) AS fact
    FROM rel
    UNION ALL
    -- The order of columns counts, their numbers do not.
    SELECT full_name || ' columns', string_agg(format('%I', attname), ', ' ORDER BY attnum)
    FROM rel JOIN pg_attribute ON attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
    WHERE relkind <> 'S' GROUP BY full_name
    UNION ALL
    SELECT format('%s column %I', full_name, attname),
        concat_ws(' ', format_type(atttypid, atttypmod),
            CASE WHEN attcollation <> typcollation THEN 'collate ' || attcollation::regcollation END,
            CASE WHEN attnotnull THEN 'not null' END,
            CASE attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity by default' END,
            CASE attgenerated WHEN '' THEN 'default ' ELSE 'generated ' || attgenerated::text || ' ' END
                || pg_get_expr(adbin, adrelid),
            CASE WHEN attstorage <> typstorage THEN 'storage ' || attstorage::text END,
            'compression ' || nullif(attcompression::text, ''),
            'statistics ' || nullif(attstattarget, -1),
            'options ' || {sorted:attoptions})
    FROM rel JOIN pg_attribute a ON attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type t ON t.oid = atttypid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relkind <> 'S'
    UNION ALL
    SELECT format('%s constraint %I', full_name, conname), pg_get_constraintdef(k.oid)
    FROM rel JOIN pg_constraint k ON conrelid = rel.oid WHERE contype <> 't'
      -- Entries of a foreign key for the partitions of what it references: no command shows them.
      AND NOT EXISTS (SELECT FROM pg_constraint p
                      WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
    UNION ALL
    -- Of a foreign key, on both of its tables: ALTER TABLE … DISABLE TRIGGER ALL.
    SELECT format('%s internal trigger %s of %I', full_name, tgfoid::regproc, conname),
        'enabled ' || tgenabled::text
    FROM rel JOIN pg_trigger t ON tgrelid = rel.oid JOIN pg_constraint k ON k.oid = tgconstraint
    WHERE tgisinternal AND tgenabled <> 'O'
    UNION ALL
    SELECT format('%s index %I', full_name, x.relname),
        concat_ws(' ', pg_get_indexdef(indexrelid),
            CASE WHEN NOT indisvalid THEN 'INVALID' END,
            CASE WHEN NOT indisready THEN 'NOT READY' END,
            CASE WHEN indisclustered THEN 'CLUSTERED' END,
            CASE WHEN indisreplident THEN 'REPLICA IDENTITY' END,
            'tablespace ' || (SELECT spcname FROM pg_tablespace WHERE oid = x.reltablespace),
            (SELECT 'statistics ' || string_agg(attnum || ': ' || attstattarget, ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0))
    FROM rel JOIN pg_index ON indrelid = rel.oid JOIN pg_class x ON x.oid = indexrelid
    UNION ALL
    SELECT format('%s trigger %I', full_name, tgname),
        concat_ws(' ', pg_get_triggerdef(t.oid), 'enabled ' || nullif(tgenabled::text, 'O'))
    FROM rel JOIN pg_trigger t ON tgrelid = rel.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT format('%s rule %I', full_name, rulename),
        concat_ws(' ', pg_get_ruledef(r.oid), 'enabled ' || nullif(ev_enabled::text, 'O'))
    FROM rel JOIN pg_rewrite r ON ev_class = rel.oid
    UNION ALL
    SELECT format('%s policy %I', full_name, polname),
        format('%s permissive %s to %s using %s check %s', polcmd, polpermissive,
            ARRAY(SELECT r::regrole::text FROM unnest(polroles) r ORDER BY 1), pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM rel JOIN pg_policy ON polrelid = rel.oid
    UNION ALL
    SELECT full_name || ' values',
        concat_ws(' ', seqtypid::regtype, 'start', seqstart, 'increment', seqincrement, 'min',
            seqmin, 'max', seqmax, 'cache', seqcache, CASE WHEN seqcycle THEN 'cycle' END,
            (SELECT format('%s %s.%I', CASE deptype WHEN 'a' THEN 'owned by' ELSE 'identity of' END,
                 refobjid::regclass, attname)
             FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
             WHERE classid = 'pg_class'::regclass AND objid = rel.oid AND objsubid = 0
               AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')))
    FROM rel JOIN pg_sequence s ON seqrelid = rel.oid
    UNION ALL
    -- The default rights stand in where none were ever granted: GRANT and REVOKE change nothing.
    SELECT concat_ws(' ', full_name, 'grant', privilege_type, 'to',
            CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END),
        concat_ws(' ', 'granted', CASE WHEN is_grantable THEN 'with grant option' END,
            CASE WHEN grantor <> relowner THEN 'by ' || grantor::regrole END)
    FROM rel, aclexplode(coalesce(relacl,
        acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)))
    UNION ALL
    SELECT concat_ws(' ', full_name, 'grant', privilege_type, format('(%I)', attname), 'to',
            CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END),
        concat_ws(' ', 'granted', CASE WHEN is_grantable THEN 'with grant option' END,
            CASE WHEN grantor <> relowner THEN 'by ' || grantor::regrole END)
    FROM rel JOIN pg_attribute ON attrelid = rel.oid AND NOT attisdropped, aclexplode(attacl)
    UNION ALL
    SELECT format('%s comment on %s %s', full_name, i.type, i.identity), description
    FROM rel
    JOIN (SELECT 'pg_class'::regclass AS class, oid, oid AS relid FROM rel
          UNION ALL SELECT 'pg_class'::regclass, indexrelid, indrelid FROM pg_index
          UNION ALL SELECT 'pg_constraint'::regclass, oid, conrelid FROM pg_constraint
          UNION ALL SELECT 'pg_policy'::regclass, oid, polrelid FROM pg_policy
          UNION ALL SELECT 'pg_rewrite'::regclass, oid, ev_class FROM pg_rewrite
          UNION ALL SELECT 'pg_trigger'::regclass, oid, tgrelid FROM pg_trigger) o ON o.relid = rel.oid
    JOIN pg_description d ON d.classoid = o.class AND d.objoid = o.oid,
    pg_identify_object(d.classoid, d.objoid, d.objsubid) i
)
SELECT object, coalesce(fact, '') AS fact FROM lines ORDER BY object COLLATE "C", fact COLLATE "C"
"#;

/// What is not in a relation, each with the catalog and the name of its object.
const OTHERS: [(&str, &str, &str); 7] = [
    (
        "pg_namespace",
        "n.oid",
        "SELECT format('schema %I', n.nspname) AS object, \
             concat_ws(' ', 'owner', pg_get_userbyid(n.nspowner), \
                 'rights ' || {rights of n nspacl nspowner}, \
                 'comment ' || obj_description(n.oid, 'pg_namespace')) AS fact \
         FROM pg_namespace n WHERE {users}",
    ),
    (
        "pg_type",
        "t.oid",
        "SELECT concat_ws(' ', CASE typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' \
                 WHEN 'r' THEN 'range' ELSE 'type' END, \
                 format('%I.%I', n.nspname, typname)) AS object, concat_ws(' ', \
             (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) \
              FROM pg_enum WHERE enumtypid = t.oid), \
             CASE typtype WHEN 'd' THEN format_type(typbasetype, typtypmod) END, \
             (SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' \
                 ORDER BY attnum) FROM pg_attribute \
              WHERE typtype = 'c' AND attrelid = typrelid AND attnum > 0 AND NOT attisdropped), \
             CASE WHEN typnotnull THEN 'not null' END, 'default ' || typdefault, \
             (SELECT string_agg(format('%I %s', conname, pg_get_constraintdef(oid)), ', ' \
                 ORDER BY conname) FROM pg_constraint WHERE contypid = t.oid), \
             'owner', pg_get_userbyid(typowner), 'rights ' || {rights of T typacl typowner}, \
             'comment ' || obj_description(t.oid, 'pg_type'), \
             (SELECT string_agg(format('comment on %I %s', conname, obj_description(oid, \
                 'pg_constraint')), ', ' ORDER BY conname) FROM pg_constraint \
              WHERE contypid = t.oid AND obj_description(oid, 'pg_constraint') IS NOT NULL)) AS fact \
         FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace \
         WHERE {users} AND (typtype IN ('e', 'd', 'r') OR typtype = 'c' \
             AND (SELECT relkind FROM pg_class WHERE oid = typrelid) = 'c')",
    ),
    (
        "pg_proc",
        "p.oid",
        "SELECT 'function ' || p.oid::regprocedure AS object, \
             CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) \
             ELSE 'aggregate' END || concat_ws(' ', '', 'owner', \
             pg_get_userbyid(proowner), 'rights', {rights of f proacl proowner}, 'comment', \
             obj_description(p.oid, 'pg_proc')) AS fact \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE {users}",
    ),
    (
        "pg_statistic_ext",
        "s.oid",
        "SELECT format('statistics %I.%I', n.nspname, stxname) AS object, \
             concat_ws(' ', {sorted:stxkind}, 'on', (SELECT string_agg(quote_ident(attname), ', ' \
                 ORDER BY attname) FROM pg_attribute \
                 WHERE attrelid = stxrelid AND attnum = ANY (stxkeys)), \
             'expressions ' || {sorted:pg_get_statisticsobjdef_expressions(s.oid)}, \
             'from', stxrelid::regclass, 'owner', pg_get_userbyid(stxowner), \
             'statistics ' || nullif(stxstattarget, -1), \
             'comment ' || obj_description(s.oid, 'pg_statistic_ext')) AS fact \
         FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace WHERE {users}",
    ),
    (
        "pg_publication",
        "b.oid",
        "SELECT format('publication %I', pubname) AS object, concat_ws(' ', \
             'owner', pg_get_userbyid(pubowner), CASE WHEN puballtables THEN 'all tables' END, \
             {schemas}, CASE WHEN pubinsert THEN 'insert' END, CASE WHEN pubupdate THEN 'update' END, \
             CASE WHEN pubdelete THEN 'delete' END, CASE WHEN pubtruncate THEN 'truncate' END, \
             CASE WHEN pubviaroot THEN 'via root' END, \
             'comment ' || obj_description(b.oid, 'pg_publication')) AS fact \
         FROM pg_publication b WHERE NOT EXISTS (SELECT FROM pg_depend \
             WHERE classid = '{class}'::regclass AND objid = {oid} AND deptype = 'e')",
    ),
    (
        "pg_publication_rel",
        "p.oid",
        "SELECT format('publication %I table %s', pubname, prrelid::regclass) AS object, \
             concat_ws(' ', 'has', {columns}) AS fact \
         FROM pg_publication_rel p JOIN pg_publication b ON b.oid = prpubid \
         JOIN pg_class c ON c.oid = prrelid JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE {users}",
    ),
    (
        "pg_default_acl",
        "d.oid",
        "SELECT format('default rights of %I on %s%s', pg_get_userbyid(defaclrole), defaclobjtype, \
             coalesce(' in ' || quote_ident(n.nspname), '')) AS object, \
             coalesce({rights of n defaclacl defaclrole}, 'none') AS fact \
         FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = defaclnamespace \
         WHERE n.oid IS NULL OR {users}",
    ),
];

/// The schemas of a publication, and the columns and the condition of a table in it: from 15 on.
const PUBLICATIONS: [(&str, &str); 2] = [
    (
        "{schemas}",
        "(SELECT 'schemas ' || string_agg(pnnspid::regnamespace::text, ', ' \
             ORDER BY pnnspid::regnamespace::text) \
          FROM pg_publication_namespace WHERE pnpubid = b.oid)",
    ),
    (
        "{columns}",
        "(SELECT format('(%s)', string_agg(quote_ident(attname), ', ' ORDER BY attname)) \
          FROM pg_attribute WHERE attrelid = prrelid AND attnum = ANY (prattrs) \
          HAVING count(*) > 0), \
         'where ' || pg_get_expr(prqual, prrelid)",
    ),
];

/// A list as text that does not tell the order in which it was made.
const SORTED: &str = "(SELECT string_agg(o::text, ', ' ORDER BY o::text COLLATE \"C\") \
                      FROM unnest({list}) o)";

/// The rights on an object, the default ones where none were ever granted, in a fixed order.
const RIGHTS: &str = "(SELECT string_agg(concat_ws(' ', privilege_type, 'to', \
     CASE grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(grantee)::text END, \
     CASE WHEN is_grantable THEN 'with grant option' END), ', ' \
     ORDER BY privilege_type, grantee, is_grantable) \
     FROM aclexplode(coalesce({acl}, acldefault('{kind}', {owner}))))";

/// Puts [`RIGHTS`] where a query says `{rights of kind acl owner}`.
fn with_rights(query: &str) -> String {
    let mut out = String::new();
    let mut rest = query;
    while let Some((before, after)) = rest.split_once("{rights of ") {
        let (words, after) = after.split_once('}').unwrap_or((after, ""));
        let mut words = words.split(' ');
        let mut next = || words.next().unwrap_or_default();
        let (kind, acl, owner) = (next(), next(), next());
        out.push_str(before);
        out.push_str(
            &RIGHTS
                .replace("{kind}", kind)
                .replace("{acl}", acl)
                .replace("{owner}", owner),
        );
        rest = after;
    }
    out + rest
}

/// Reads it in one read-only transaction of its own.
///
/// # Errors
/// What the server or the connection gave.
pub async fn read(client: &Client) -> Result<Shape> {
    // Names are qualified only outside of the search path: take the path away.
    // To compile the queries takes longer than to run them.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = ''; \
                 SET LOCAL lock_timeout = '5s'; SET LOCAL jit = off";
    client.batch_execute(begin).await.map_err(from_pg)?;
    let read = facts(client).await;
    let end = if read.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await.map_err(from_pg);
    let shape = read?;
    ended?;
    Ok(shape)
}

async fn facts(client: &Client) -> Result<Shape> {
    let version = "SELECT current_setting('server_version_num')::int4 AS version";
    let row = client.query_one(version, &[]).await.map_err(from_pg)?;
    let version: i32 = get(&row, "version")?;
    let mut shape = Shape::default();
    let queries = std::iter::once(("pg_class", "c.oid", RELATIONS)).chain(OTHERS);
    for (class, oid, query) in queries {
        let sql = complete(query, class, oid, version);
        let rows = client.query_typed(&sql, &[]).await.map_err(from_pg)?;
        for row in &rows {
            let fact: String = get(row, "fact")?;
            shape.add(get(row, "object")?, &fact);
        }
    }
    Ok(shape)
}

/// The query for a server of this version, without placeholders.
fn complete(query: &str, class: &str, oid: &str, version: i32) -> String {
    let mut sql = with_rights(query).replace("{users}", USERS);
    for (place, since_15) in PUBLICATIONS {
        sql = sql.replace(place, if version >= 150_000 { since_15 } else { "NULL" });
    }
    while let Some((before, rest)) = sql.split_once("{sorted:") {
        let (list, after) = rest.split_once('}').expect("every placeholder is closed");
        sql = format!("{before}{}{after}", SORTED.replace("{list}", list));
    }
    sql.replace("{class}", class).replace("{oid}", oid)
}
