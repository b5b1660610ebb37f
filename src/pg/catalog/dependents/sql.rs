//! The questions to the catalog: what depends on columns, and what makes it again.

mod views;

use crate::catalog::dependents::DependentKind;

pub(super) use views::{MATERIALIZED_VIEW, VIEW};

/// The objects that depend on columns (`$2`) of a table (`$1`), and on those objects, each with the
/// length of the longest way to it. A view depends through its rule. Left out is what the table's
/// own indexes and constraints are, statistics, a column's own default and sequence, and what is a
/// part of a view.
///
/// A stored generated column is added again where its expression cannot be changed, up to
/// PostgreSQL 16: what depends on it is found too, and it comes before that. In PostgreSQL 14 the
/// column depends on what it reads, later its entry in `pg_attrdef` does.
pub(super) const FOUND: &str = "
WITH RECURSIVE generated AS (
    SELECT DISTINCT f.oid, g.attnum, g.attname, g.attgenerated,
           g.attgenerated = 's' AND current_setting('server_version_num')::int < 170000 AS again
    FROM pg_attribute a
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
                    AND d.refobjsubid = a.attnum
    JOIN pg_attrdef f ON f.adrelid = a.attrelid
                     AND (d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                          OR d.classid = 'pg_class'::regclass AND d.objid = a.attrelid
                             AND d.objsubid = f.adnum)
    JOIN pg_attribute g ON g.attrelid = a.attrelid AND g.attnum = f.adnum AND g.attgenerated <> ''
    WHERE a.attrelid = $1 AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped),
found(classid, objid, depth) AS (
    SELECT 'pg_attrdef'::regclass::oid, oid, 1 FROM generated
    UNION
    SELECT k.classid, k.objid, 1
    FROM pg_attribute a
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
                    AND d.refobjsubid = a.attnum
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
                          AND r.rulename = '_RETURN'
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_class o ON d.classid = 'pg_class'::regclass AND o.oid = d.objid
    CROSS JOIN LATERAL (SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END
                                   AS classid,
                               coalesce(r.ev_class, d.objid) AS objid) AS k
    WHERE a.attrelid = $1 AND NOT a.attisdropped
      AND (a.attname = ANY ($2::text[]) OR a.attnum IN (SELECT attnum FROM generated WHERE again))
      AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_statistic_ext'::regclass)
      AND NOT (d.classid = 'pg_class'::regclass AND d.objid = a.attrelid)
      AND (f.oid IS NULL OR f.adrelid <> a.attrelid OR f.adnum <> a.attnum)
      AND (o.oid IS NULL OR o.relkind NOT IN ('i', 'I', 'S'))
    UNION
    SELECT k.classid, k.objid, found.depth + 1
    FROM found
    CROSS JOIN LATERAL (
        SELECT found.classid AS refclassid, found.objid AS refobjid
        UNION ALL
        SELECT 'pg_type'::regclass, unnest(ARRAY[t.oid, t.typarray])
        FROM pg_type t
        WHERE found.classid = 'pg_class'::regclass AND t.typrelid = found.objid) AS on_
    JOIN pg_depend d ON d.refclassid = on_.refclassid AND d.refobjid = on_.refobjid
                    AND d.deptype IN ('n', 'a')
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
                          AND r.rulename = '_RETURN'
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    LEFT JOIN pg_class o ON d.classid = 'pg_class'::regclass AND o.oid = d.objid
    CROSS JOIN LATERAL (SELECT CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_class'::regclass END
                                   AS classid,
                               coalesce(r.ev_class, d.objid) AS objid) AS k
    WHERE found.depth < 50
      AND (r.oid IS NULL OR r.ev_class <> found.objid)
      AND (f.oid IS NULL OR found.classid <> 'pg_class'::regclass OR f.adrelid <> found.objid)
      AND (o.oid IS NULL OR o.relkind NOT IN ('i', 'I', 't')
           OR NOT EXISTS (SELECT FROM pg_index x
                          WHERE x.indexrelid = o.oid AND x.indrelid = found.objid))
      AND (d.classid <> 'pg_statistic_ext'::regclass
           OR NOT EXISTS (SELECT FROM pg_statistic_ext s
                          WHERE s.oid = d.objid AND s.stxrelid = found.objid)))
SELECT found.classid::regclass::text AS class, found.classid::oid AS classid, found.objid AS oid, max(found.depth) AS depth,
       max(found.depth) >= 50 AS circle,
       g.attname::text AS generated, coalesce(g.again, false) AS added_again,
       coalesce('generated ' || pg_describe_object('pg_class'::regclass, $1, g.attnum),
                pg_describe_object(found.classid, found.objid, 0)) AS what,
       coalesce(c.relkind::text, g.attgenerated::text) AS kind, v.relkind::text AS rule_on,
       EXISTS (SELECT FROM pg_depend e WHERE e.classid = found.classid AND e.objid = found.objid
               AND e.deptype = 'e') AS extension,
       EXISTS (SELECT FROM pg_seclabel l WHERE l.classoid = found.classid
               AND l.objoid = found.objid) AS labelled
FROM found
LEFT JOIN pg_class c ON found.classid = 'pg_class'::regclass AND c.oid = found.objid
LEFT JOIN pg_rewrite r ON found.classid = 'pg_rewrite'::regclass AND r.oid = found.objid
LEFT JOIN pg_class v ON v.oid = r.ev_class
LEFT JOIN generated g ON found.classid = 'pg_attrdef'::regclass AND g.oid = found.objid
GROUP BY found.classid, found.objid, c.relkind, v.relkind, g.attnum, g.attname, g.attgenerated,
         g.again
HAVING pg_describe_object(found.classid, found.objid, 0) IS NOT NULL
ORDER BY coalesce(g.again, false) DESC, max(found.depth), found.objid";

/// A generated column, from PostgreSQL 17: another expression takes its place, so nothing is
/// dropped. Of a virtual one (18) the server has that (`ATExecSetExpression`) neither with a CHECK nor
/// in a publication, and reads every row of one that is NOT NULL. For a stored one it makes indexes and
/// extended statistics anew, and forgets their targets; ours, not in place yet, have other names.
pub(super) const GENERATED: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE')
       AND NOT EXISTS (SELECT FROM pg_statistic_ext s
                       WHERE s.stxrelid = c.oid AND a.attgenerated = 's' AND s.stxstattarget >= 0
                         AND NOT pg_has_role(current_user, s.stxowner, 'USAGE')) AS owned,
       false AS temporary,
       true AS creates, false AS passed_on,
       a.attgenerated = 'v' AND (
           a.attnotnull
           OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')
           OR EXISTS (SELECT FROM pg_publication_rel p WHERE p.prrelid = c.oid)) AS fixed,
       '' AS drop,
       ARRAY[format('ALTER TABLE %I.%I ALTER COLUMN %I SET EXPRESSION AS (%s)', n.nspname, c.relname,
                    a.attname, pg_get_expr(f.adbin, f.adrelid))]
       || ARRAY(SELECT format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', n.nspname,
                              i.relname, e.attnum, e.attstattarget)
                FROM pg_index x
                JOIN pg_class i ON i.oid = x.indexrelid
                JOIN pg_attribute e ON e.attrelid = i.oid AND e.attstattarget >= 0
                WHERE x.indrelid = c.oid AND a.attgenerated = 's'
                  AND NOT starts_with(i.relname::text, '_pgshift_')
                ORDER BY i.relname, e.attnum)
       || ARRAY(SELECT format('ALTER STATISTICS %I.%I SET STATISTICS %s', m.nspname, s.stxname,
                              s.stxstattarget)
                FROM pg_statistic_ext s JOIN pg_namespace m ON m.oid = s.stxnamespace
                WHERE s.stxrelid = c.oid AND a.attgenerated = 's' AND s.stxstattarget >= 0
                  AND NOT starts_with(s.stxname::text, '_pgshift_')
                  AND EXISTS (SELECT FROM pg_depend d
                              WHERE d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid
                                AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                                AND d.refobjsubid = a.attnum)
                ORDER BY m.nspname, s.stxname) AS create
FROM pg_attrdef f
JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
JOIN pg_class c ON c.oid = f.adrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE f.oid = $1";

/// A stored generated column up to PostgreSQL 16, with what it has of its own: settings, comment,
/// rights, indexes, constraints, extended statistics. `$2`: the columns that change.
pub(super) const STORED: &str = "
WITH own AS (
    SELECT DISTINCT d.classid, d.objid
    FROM pg_attrdef f
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = f.adrelid
                    AND d.refobjsubid = f.adnum
    LEFT JOIN pg_index x ON d.classid = 'pg_class'::regclass AND x.indexrelid = d.objid
                        AND x.indrelid = f.adrelid
    LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
                             AND k.conrelid = f.adrelid AND k.contype IN ('p', 'u', 'x', 'c')
    LEFT JOIN pg_statistic_ext s ON d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
                                AND s.stxrelid = f.adrelid
    WHERE f.oid = $1 AND coalesce(x.indexrelid, k.oid, s.oid) IS NOT NULL)
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, false AS temporary,
       true AS creates,
       EXISTS (SELECT FROM aclexplode(a.attacl) e WHERE e.grantor <> c.relowner) AS passed_on,
       EXISTS (SELECT FROM pg_constraint k
               WHERE k.contype = 'f' AND (k.conrelid = c.oid AND a.attnum = ANY (k.conkey)
                                          OR k.confrelid = c.oid AND a.attnum = ANY (k.confkey)))
       OR EXISTS (SELECT FROM pg_depend d
                  JOIN pg_attribute o ON o.attrelid = c.oid AND o.attnum = d.refobjsubid
                  WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
                    AND o.attname = ANY ($2::text[])
                    AND (d.classid, d.objid) IN (SELECT classid, objid FROM own))
           AS fixed,
       format('ALTER TABLE %s DROP COLUMN %I', t.name, a.attname) AS drop,
       ARRAY[format('ALTER TABLE %s ADD COLUMN %I %s%s GENERATED ALWAYS AS (%s) STORED%s', t.name,
                    a.attname, format_type(a.atttypid, a.atttypmod),
                    (SELECT format(' COLLATE %I.%I', s.nspname, o.collname)
                     FROM pg_collation o JOIN pg_namespace s ON s.oid = o.collnamespace
                     JOIN pg_type y ON y.oid = a.atttypid
                     WHERE o.oid = a.attcollation AND y.typcollation <> a.attcollation),
                    pg_get_expr(f.adbin, f.adrelid),
                    CASE WHEN a.attnotnull THEN ' NOT NULL' END)]
       || ARRAY(SELECT format('ALTER TABLE %s ALTER COLUMN %I %s', t.name, a.attname, o.setting)
                FROM pg_type y
                CROSS JOIN LATERAL (VALUES
                    ('SET STATISTICS ' || nullif(a.attstattarget, -1)),
                    (CASE WHEN a.attstorage <> y.typstorage THEN 'SET STORAGE '
                        || CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
                                WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
                    ('SET COMPRESSION ' || CASE a.attcompression WHEN 'p' THEN 'pglz'
                                                WHEN 'l' THEN 'lz4' END),
                    ('SET (' || array_to_string(a.attoptions, ', ') || ')')) AS o(setting)
                WHERE y.oid = a.atttypid AND o.setting IS NOT NULL
                ORDER BY o.setting)
       || ARRAY(SELECT format('COMMENT ON COLUMN %s.%I IS %L', t.name, a.attname, o)
                FROM col_description(c.oid, a.attnum) AS o WHERE o IS NOT NULL)
       || ARRAY(SELECT format('GRANT %s (%I) ON %s TO %s%s', e.privilege_type, a.attname, t.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
                              CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                FROM aclexplode(a.attacl) e ORDER BY e.grantee, e.privilege_type)
       || ARRAY(SELECT s.sql
                FROM own
                LEFT JOIN pg_constraint k ON own.classid = 'pg_constraint'::regclass
                                         AND k.oid = own.objid
                LEFT JOIN pg_class i ON i.oid = CASE WHEN k.oid IS NULL THEN own.objid
                                                ELSE nullif(k.conindid, 0) END
                LEFT JOIN pg_index x ON x.indexrelid = i.oid
                CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, i.relname) AS name) AS q
                CROSS JOIN LATERAL (
                    SELECT 1, pg_get_indexdef(x.indexrelid) WHERE k.oid IS NULL
                    UNION ALL
                    SELECT 1, format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.name, k.conname,
                                     pg_get_constraintdef(k.oid)) WHERE k.oid IS NOT NULL
                    UNION ALL
                    SELECT 2, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, t.name, o)
                    FROM obj_description(k.oid, 'pg_constraint') AS o WHERE o IS NOT NULL
                    UNION ALL
                    SELECT 3, format('ALTER INDEX %s SET TABLESPACE %I', q.name, spcname)
                    FROM pg_tablespace WHERE oid = i.reltablespace AND x.indexrelid IS NOT NULL
                    UNION ALL
                    SELECT 4, format('COMMENT ON INDEX %s IS %L', q.name, o)
                    FROM obj_description(x.indexrelid, 'pg_class') AS o WHERE o IS NOT NULL
                    UNION ALL
                    SELECT 5, format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', q.name,
                                     attnum, attstattarget)
                    FROM pg_attribute WHERE attrelid = x.indexrelid AND attstattarget >= 0
                    UNION ALL
                    SELECT 6, format('ALTER TABLE %s CLUSTER ON %I', t.name, i.relname)
                    WHERE x.indisclustered
                    UNION ALL
                    SELECT 7, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', t.name,
                                     i.relname)
                    WHERE x.indisreplident) AS s(place, sql)
                WHERE own.classid <> 'pg_statistic_ext'::regclass
                ORDER BY own.objid, s.place, s.sql)
       || ARRAY(SELECT q.sql
                FROM own JOIN pg_statistic_ext s ON s.oid = own.objid
                JOIN pg_namespace m ON m.oid = s.stxnamespace
                CROSS JOIN LATERAL (SELECT format('%I.%I', m.nspname, s.stxname) AS name) AS v
                CROSS JOIN LATERAL (
                    SELECT 1, pg_get_statisticsobjdef(s.oid)
                    UNION ALL
                    SELECT 2, format('ALTER STATISTICS %s SET STATISTICS %s', v.name,
                                     s.stxstattarget) WHERE s.stxstattarget >= 0
                    UNION ALL
                    SELECT 3, format('COMMENT ON STATISTICS %s IS %L', v.name, o)
                    FROM obj_description(s.oid, 'pg_statistic_ext') AS o WHERE o IS NOT NULL
                    UNION ALL
                    SELECT 4, format('ALTER STATISTICS %s OWNER TO %I', v.name,
                                     pg_get_userbyid(s.stxowner))
                    WHERE pg_get_userbyid(s.stxowner) <> current_user) AS q(place, sql)
                WHERE own.classid = 'pg_statistic_ext'::regclass
                ORDER BY s.oid, q.place) AS create
FROM pg_attrdef f
JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
JOIN pg_class c ON c.oid = f.adrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS name) AS t
WHERE f.oid = $1";

/// What columns (`$3`) of a table (`$1` schema, `$2` name) have of their own, but what is called as
/// we call things. NOT NULL is a setting here; a partition's part of its table's is not listed.
pub(super) const PARTS: &str = "
WITH columns AS (
    SELECT a.*
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY ($3::text[]) AND NOT a.attisdropped
    WHERE n.nspname = $1 AND c.relname = $2)
SELECT DISTINCT
       CASE WHEN k.confrelid = a.attrelid AND k.conrelid <> a.attrelid THEN 'key' ELSE 'object' END
           AS kind,
       pg_describe_object(d.classid, d.objid, 0) AS what, '' AS value
FROM columns a
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid
                AND d.refobjsubid = a.attnum
LEFT JOIN pg_class i ON d.classid = 'pg_class'::regclass AND i.oid = d.objid
                    AND i.relkind IN ('i', 'I')
LEFT JOIN pg_constraint k ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
                         AND k.contype <> 'n' AND k.conparentid = 0
LEFT JOIN pg_statistic_ext s ON d.classid = 'pg_statistic_ext'::regclass AND s.oid = d.objid
CROSS JOIN LATERAL (SELECT coalesce(i.relname, k.conname, s.stxname)::text AS name) AS o
WHERE o.name IS NOT NULL AND NOT starts_with(o.name, '_pgshift_')
UNION ALL
SELECT 'default', format('default of %s', a.attname), pg_get_expr(f.adbin, f.adrelid)
FROM columns a JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
WHERE a.attgenerated = ''
UNION ALL
SELECT 'setting', format('%s of %s', s.what, a.attname), s.value
FROM columns a
CROSS JOIN LATERAL (VALUES
    ('NOT NULL', CASE WHEN a.attnotnull THEN 'set' END),
    ('ACL', (SELECT string_agg(format('%s %s %s', e.grantee::regrole, e.privilege_type,
                                         e.is_grantable), ', '
                                  ORDER BY e.grantee::regrole::text, e.privilege_type)
                FROM aclexplode(a.attacl) e)),
    ('comment', col_description(a.attrelid, a.attnum)),
    ('statistics target', nullif(a.attstattarget, -1)::text),
    ('option list', array_to_string(a.attoptions, ', '))) AS s(what, value)
WHERE s.value IS NOT NULL AND s.value <> ''
ORDER BY 2";

/// Which of these objects (`$1` class, `$2` oid) reads which itself, by their places from 1. A view
/// reads by its rule, and rows of another by their type.
pub(super) const READS: &str = "
WITH o AS (SELECT * FROM unnest($1::oid[], $2::oid[]) WITH ORDINALITY AS o(classid, objid, place))
SELECT DISTINCT reader.place AS reader, o.place AS read
FROM o AS reader
LEFT JOIN pg_rewrite r ON reader.classid = 'pg_class'::regclass AND r.ev_class = reader.objid
                      AND r.rulename = '_RETURN'
JOIN pg_depend d ON d.classid = reader.classid AND d.objid = reader.objid
                 OR d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
LEFT JOIN pg_type e ON e.oid = t.typelem
JOIN o ON o.classid = d.refclassid AND o.objid = d.refobjid
       OR o.classid = 'pg_class'::regclass AND o.objid IN (t.typrelid, e.typrelid)
WHERE o.place <> reader.place
ORDER BY 1, 2";

/// Up to PostgreSQL 18 `pg_get_ruledef` writes one statement with a `;` at its end.
pub(super) const RULE: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, false AS temporary,
       true AS creates, false AS passed_on,
       format('DROP RULE %I ON %I.%I', r.rulename, n.nspname, c.relname) AS drop,
       ARRAY[pg_get_ruledef(r.oid)]
       || ARRAY(SELECT format('ALTER TABLE %I.%I %s RULE %I', n.nspname, c.relname,
                              CASE r.ev_enabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA'
                                   ELSE 'ENABLE ALWAYS' END, r.rulename)
                WHERE r.ev_enabled <> 'O')
       || ARRAY(SELECT format('COMMENT ON RULE %I ON %I.%I IS %L', r.rulename, n.nspname, c.relname, d)
                FROM obj_description(r.oid, 'pg_rewrite') AS d WHERE d IS NOT NULL) AS create
FROM pg_rewrite r
JOIN pg_class c ON c.oid = r.ev_class
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE r.oid = $1";

pub(super) const TRIGGER: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, false AS temporary,
       true AS creates, false AS passed_on,
       format('DROP TRIGGER %I ON %I.%I', t.tgname, n.nspname, c.relname) AS drop,
       ARRAY[pg_get_triggerdef(t.oid)]
       || ARRAY(SELECT format('ALTER TABLE %I.%I %s TRIGGER %I', n.nspname, c.relname,
                              CASE t.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA'
                                   ELSE 'ENABLE ALWAYS' END, t.tgname)
                WHERE t.tgenabled <> 'O')
       || ARRAY(SELECT format('COMMENT ON TRIGGER %I ON %I.%I IS %L', t.tgname, n.nspname, c.relname,
                              d)
                FROM obj_description(t.oid, 'pg_trigger') AS d WHERE d IS NOT NULL) AS create
FROM pg_trigger t
JOIN pg_class c ON c.oid = t.tgrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.oid = $1";

pub(super) const POLICY: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, false AS temporary,
       true AS creates, false AS passed_on,
       format('DROP POLICY %I ON %I.%I', p.polname, n.nspname, c.relname) AS drop,
       ARRAY[format('CREATE POLICY %I ON %I.%I AS %s FOR %s TO %s%s%s', p.polname, n.nspname, c.relname,
                    CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                         WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                    (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC'
                                            ELSE quote_ident(pg_get_userbyid(r)) END, ', ' ORDER BY i)
                     FROM unnest(p.polroles) WITH ORDINALITY AS u(r, i)),
                    ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                    ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')]
       || ARRAY(SELECT format('COMMENT ON POLICY %I ON %I.%I IS %L', p.polname, n.nspname, c.relname, d)
                FROM obj_description(p.oid, 'pg_policy') AS d WHERE d IS NOT NULL) AS create
FROM pg_policy p
JOIN pg_class c ON c.oid = p.polrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.oid = $1";

/// From PostgreSQL 15: before, a publication has whole tables, which depend on no column.
pub(super) const PUBLICATION: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, b.pubowner, 'USAGE')
       AND pg_has_role(current_user, c.relowner, 'USAGE') AS owned, false AS temporary,
       true AS creates, false AS passed_on,
       format('ALTER PUBLICATION %I DROP TABLE ONLY %I.%I', b.pubname, n.nspname, c.relname) AS drop,
       ARRAY[format('ALTER PUBLICATION %I ADD TABLE ONLY %I.%I%s%s', b.pubname, n.nspname, c.relname,
                    (SELECT format(' (%s)', string_agg(quote_ident(a.attname), ', ' ORDER BY a.attname))
                     FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (p.prattrs)
                     HAVING count(*) > 0),
                    ' WHERE (' || pg_get_expr(p.prqual, p.prrelid) || ')')] AS create
FROM pg_publication_rel p
JOIN pg_publication b ON b.oid = p.prpubid
JOIN pg_class c ON c.oid = p.prrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.oid = $1";

pub(super) const FUNCTION: &str = "
SELECT NULL::text AS schema, p.proname::text AS name,
       pg_has_role(current_user, p.proowner, 'USAGE') AS owned, false AS temporary,
       has_schema_privilege(n.oid, 'CREATE') AS creates,
       EXISTS (SELECT FROM aclexplode(p.proacl) e WHERE e.grantor <> p.proowner) AS passed_on,
       format('DROP ROUTINE %s', f.name) AS drop,
       ARRAY[rtrim(pg_get_functiondef(p.oid), E';\\n')]
       || ARRAY(SELECT format('ALTER ROUTINE %s OWNER TO %I', f.name, pg_get_userbyid(p.proowner))
                WHERE pg_get_userbyid(p.proowner) <> current_user)
       || ARRAY(SELECT format('REVOKE ALL ON ROUTINE %s FROM %s', f.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END)
                FROM (SELECT e.grantee
                      FROM pg_default_acl d, aclexplode(d.defaclacl) e
                      WHERE d.defaclrole = to_regrole(quote_ident(current_user))
                        AND d.defaclobjtype = 'f' AND d.defaclnamespace IN (0, p.pronamespace)
                        AND e.grantee <> d.defaclrole
                      UNION
                      SELECT unnest(ARRAY[0, p.proowner]) WHERE p.proacl IS NOT NULL) AS e
                ORDER BY e.grantee)
       || ARRAY(SELECT format('GRANT EXECUTE ON ROUTINE %s TO %s%s', f.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
                              CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                FROM aclexplode(p.proacl) e ORDER BY e.grantee)
       || ARRAY(SELECT format('COMMENT ON ROUTINE %s IS %L', f.name, d)
                FROM obj_description(p.oid, 'pg_proc') AS d WHERE d IS NOT NULL) AS create
FROM pg_proc p
JOIN pg_namespace n ON n.oid = p.pronamespace
CROSS JOIN LATERAL (SELECT format('%I.%I(%s)', n.nspname, p.proname,
                                  pg_get_function_identity_arguments(p.oid)) AS name) AS f
WHERE p.oid = $1 AND p.prokind IN ('f', 'p', 'w')";

pub(super) const STATISTICS: &str = "
SELECT n.nspname::text AS schema, s.stxname::text AS name, nullif(s.stxstattarget, -1)::int AS target,
       CASE WHEN pg_get_userbyid(s.stxowner) <> current_user
            THEN pg_get_userbyid(s.stxowner)::text END AS owner
FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
WHERE s.stxrelid = $1
ORDER BY s.oid";

/// As a temporary object over a temporary table of the same name, where names are looked up as they
/// are written: a trigger and a policy of the table (`$2`), the condition of a publication.
pub(super) const REHEARSALS: &[(DependentKind, &str)] = &[
    (
        DependentKind::View,
        "SELECT format('CREATE TEMP VIEW %I%s AS %s', c.relname,
                       ' WITH (' || array_to_string(c.reloptions, ', ') || ')', pg_get_viewdef(c.oid))
         FROM pg_class c WHERE c.oid = $1 AND $2 <> 0::oid",
    ),
    (
        // A materialized view cannot be temporary; its indexes are to be possible too.
        DependentKind::MaterializedView,
        "SELECT s.sql FROM (
             SELECT 0::oid, format('CREATE TEMP TABLE %I AS %s WITH NO DATA', c.relname,
                                   rtrim(pg_get_viewdef(c.oid), ';'))
             FROM pg_class c WHERE c.oid = $1 AND $2 <> 0::oid
             UNION ALL
             -- Without its name, which may be another's in another schema.
             SELECT x.indexrelid, 'CREATE INDEX' || substr(
                        pg_get_indexdef(x.indexrelid, 0, true),
                        length(format('CREATE %sINDEX %I',
                                      CASE WHEN x.indisunique THEN 'UNIQUE ' ELSE '' END,
                                      i.relname)) + 1)
             FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
             WHERE x.indrelid = $1) AS s(place, sql)
         ORDER BY s.place",
    ),
    (
        DependentKind::Trigger,
        "SELECT pg_get_triggerdef(oid, true) FROM pg_trigger WHERE oid = $1 AND tgrelid = $2",
    ),
    (
        DependentKind::Policy,
        "SELECT format('CREATE POLICY %I ON %I FOR %s%s%s', p.polname, c.relname,
                       CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT'
                            WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                       ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
                       ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
         FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
         WHERE p.oid = $1 AND p.polrelid = $2",
    ),
    (
        DependentKind::Publication,
        "SELECT format('CREATE TEMP VIEW %I AS SELECT FROM %I WHERE %s', 'pgshift_rows_' || p.oid,
                       c.relname, pg_get_expr(p.prqual, p.prrelid))
         FROM pg_publication_rel p JOIN pg_class c ON c.oid = p.prrelid
         WHERE p.oid = $1 AND p.prrelid = $2 AND p.prqual IS NOT NULL",
    ),
    (
        DependentKind::Function,
        "SELECT h.head || ' pg_temp' || substr(pg_get_functiondef(p.oid), 2 + length(
                    h.head || quote_ident(n.nspname)))
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         CROSS JOIN LATERAL (SELECT 'CREATE OR REPLACE ' || CASE p.prokind WHEN 'p' THEN 'PROCEDURE'
                                    ELSE 'FUNCTION' END AS head) AS h
         WHERE p.oid = $1 AND $2 <> 0::oid AND p.prosqlbody IS NOT NULL",
    ),
];
