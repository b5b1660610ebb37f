//! The questions to the catalog: what depends on columns, and what makes it again.

use crate::catalog::dependents::DependentKind;

/// The objects that depend on columns (`$2`) of a table (`$1`), and on those objects, each with the
/// length of the longest way to it. A view depends through its rule. Left out is what the table's
/// own indexes and constraints are, statistics, a column's own default and sequence, and what is a
/// part of a view.
pub(super) const FOUND: &str = "
WITH RECURSIVE found(classid, objid, depth) AS (
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
    WHERE a.attrelid = $1 AND a.attname = ANY ($2::text[]) AND NOT a.attisdropped
      AND d.classid NOT IN ('pg_constraint'::regclass, 'pg_statistic_ext'::regclass)
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
SELECT found.classid::regclass::text AS class, found.classid::oid AS classid, found.objid AS oid, max(found.depth) >= 50 AS circle,
       coalesce('generated ' || pg_describe_object('pg_class'::regclass, g.attrelid, g.attnum),
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
LEFT JOIN pg_attrdef f ON found.classid = 'pg_attrdef'::regclass AND f.oid = found.objid
LEFT JOIN pg_attribute g ON g.attrelid = f.adrelid AND g.attnum = f.adnum AND g.attgenerated = 'v'
                        AND g.attrelid = $1
GROUP BY found.classid, found.objid, c.relkind, v.relkind, g.attrelid, g.attnum, g.attgenerated
HAVING pg_describe_object(found.classid, found.objid, 0) IS NOT NULL
ORDER BY max(found.depth), found.objid";

/// A view. What ALTER DEFAULT PRIVILEGES gives to whoever is taken away first.
pub(super) const VIEW: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, c.relpersistence = 't' AS temporary,
       has_schema_privilege(n.oid, 'CREATE') AS creates,
       EXISTS (SELECT FROM aclexplode(c.relacl) e WHERE e.grantor <> c.relowner)
       OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) e
                  WHERE a.attrelid = c.oid AND e.grantor <> c.relowner) AS passed_on,
       format('DROP VIEW %s', v.name) AS drop,
       ARRAY[format(E'CREATE VIEW %s%s AS\\n%s', v.name,
                    ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
                    rtrim(pg_get_viewdef(c.oid), ';'))]
       || ARRAY(SELECT format('ALTER VIEW %s OWNER TO %I', v.name, pg_get_userbyid(c.relowner))
                WHERE pg_get_userbyid(c.relowner) <> current_user)
       || ARRAY(SELECT format('REVOKE ALL ON %s FROM %s', v.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END)
                FROM (SELECT e.grantee
                      FROM pg_default_acl d, aclexplode(d.defaclacl) e
                      WHERE d.defaclrole = to_regrole(quote_ident(current_user))
                        AND d.defaclobjtype = 'r' AND d.defaclnamespace IN (0, n.oid)
                        AND e.grantee <> d.defaclrole
                      UNION
                      SELECT c.relowner
                      WHERE c.relacl IS NOT NULL
                        AND (SELECT count(*) FROM aclexplode(c.relacl) e
                             WHERE e.grantee = c.relowner)
                          < (SELECT count(*) FROM aclexplode(acldefault('r', c.relowner)))) AS e
                ORDER BY e.grantee)
       || ARRAY(SELECT format('GRANT %s ON %s TO %s%s',
                              string_agg(e.privilege_type, ', ' ORDER BY e.privilege_type), v.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
                              CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                FROM aclexplode(c.relacl) WITH ORDINALITY
                         AS e(grantor, grantee, privilege_type, is_grantable, place)
                WHERE e.grantee <> c.relowner
                   OR (SELECT count(*) FROM aclexplode(c.relacl) e WHERE e.grantee = c.relowner)
                      < (SELECT count(*) FROM aclexplode(acldefault('r', c.relowner)))
                GROUP BY e.grantee, e.is_grantable ORDER BY min(e.place))
       || ARRAY(SELECT format('GRANT %s (%I) ON %s TO %s%s', e.privilege_type, a.attname, v.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
                              CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                FROM pg_attribute a, aclexplode(a.attacl) e
                WHERE a.attrelid = c.oid AND NOT a.attisdropped
                ORDER BY a.attnum, e.grantee, e.privilege_type)
       || ARRAY(SELECT format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', v.name, a.attname,
                              pg_get_expr(f.adbin, f.adrelid))
                FROM pg_attrdef f
                JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
                WHERE f.adrelid = c.oid ORDER BY a.attnum)
       || ARRAY(SELECT CASE d.objsubid
                       WHEN 0 THEN format('COMMENT ON VIEW %s IS %L', v.name, d.description)
                       ELSE format('COMMENT ON COLUMN %s.%I IS %L', v.name, a.attname, d.description)
                       END
                FROM pg_description d
                LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
                WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid ORDER BY d.objsubid)
           AS create
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS name) AS v
WHERE c.oid = $1";

/// A materialized view, without data, indexes and statistics. The comment of the view itself is the
/// last but those of its columns.
pub(super) const MATERIALIZED_VIEW: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, c.relpersistence = 't' AS temporary,
       has_schema_privilege(n.oid, 'CREATE') AS creates,
       EXISTS (SELECT FROM aclexplode(c.relacl) e WHERE e.grantor <> c.relowner)
       OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) e
                  WHERE a.attrelid = c.oid AND e.grantor <> c.relowner) AS passed_on,
       pg_total_relation_size(c.oid)::int8 AS bytes,
       format('DROP MATERIALIZED VIEW %s', v.name) AS drop,
       ARRAY[format(E'CREATE MATERIALIZED VIEW %s USING %I%s%s AS\\n%s\\n WITH NO DATA', v.name,
                    (SELECT amname FROM pg_am WHERE oid = c.relam),
                    (SELECT ' WITH (' || string_agg(o.option, ', ' ORDER BY o.option) || ')'
                     FROM (SELECT unnest(c.reloptions)
                           UNION ALL
                           SELECT 'toast.' || unnest(t.reloptions)
                           FROM pg_class t WHERE t.oid = c.reltoastrelid) AS o(option)),
                    (SELECT format(' TABLESPACE %I', spcname) FROM pg_tablespace
                     WHERE oid = c.reltablespace),
                    rtrim(pg_get_viewdef(c.oid), ';'))]
       || ARRAY(SELECT format('ALTER MATERIALIZED VIEW %s ALTER COLUMN %I %s', v.name, a.attname,
                              o.setting)
                FROM pg_attribute a
                JOIN pg_type t ON t.oid = a.atttypid
                CROSS JOIN LATERAL (VALUES
                    ('SET STATISTICS ' || nullif(a.attstattarget, -1)),
                    (CASE WHEN a.attstorage <> t.typstorage THEN 'SET STORAGE '
                        || CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
                                WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END),
                    ('SET COMPRESSION ' || CASE a.attcompression WHEN 'p' THEN 'pglz'
                                                WHEN 'l' THEN 'lz4' END),
                    ('SET (' || array_to_string(a.attoptions, ', ') || ')')) AS o(setting)
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                  AND o.setting IS NOT NULL
                ORDER BY a.attnum, o.setting)
       || ARRAY(SELECT format('ALTER MATERIALIZED VIEW %s OWNER TO %I', v.name,
                              pg_get_userbyid(c.relowner))
                WHERE pg_get_userbyid(c.relowner) <> current_user)
       || ARRAY(SELECT format('REVOKE ALL ON %s FROM %s', v.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END)
                FROM (SELECT e.grantee
                      FROM pg_default_acl d, aclexplode(d.defaclacl) e
                      WHERE d.defaclrole = to_regrole(quote_ident(current_user))
                        AND d.defaclobjtype = 'r' AND d.defaclnamespace IN (0, n.oid)
                        AND e.grantee <> d.defaclrole
                      UNION
                      SELECT c.relowner
                      WHERE c.relacl IS NOT NULL
                        AND (SELECT count(*) FROM aclexplode(c.relacl) e
                             WHERE e.grantee = c.relowner)
                          < (SELECT count(*) FROM aclexplode(acldefault('r', c.relowner)))) AS e
                ORDER BY e.grantee)
       || ARRAY(SELECT format('GRANT %s ON %s TO %s%s',
                              string_agg(e.privilege_type, ', ' ORDER BY e.privilege_type), v.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
                              CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                FROM aclexplode(c.relacl) WITH ORDINALITY
                         AS e(grantor, grantee, privilege_type, is_grantable, place)
                WHERE e.grantee <> c.relowner
                   OR (SELECT count(*) FROM aclexplode(c.relacl) e WHERE e.grantee = c.relowner)
                      < (SELECT count(*) FROM aclexplode(acldefault('r', c.relowner)))
                GROUP BY e.grantee, e.is_grantable ORDER BY min(e.place))
       || ARRAY(SELECT format('GRANT %s (%I) ON %s TO %s%s', e.privilege_type, a.attname, v.name,
                              CASE e.grantee WHEN 0 THEN 'PUBLIC'
                                   ELSE quote_ident(pg_get_userbyid(e.grantee)) END,
                              CASE WHEN e.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
                FROM pg_attribute a, aclexplode(a.attacl) e
                WHERE a.attrelid = c.oid AND NOT a.attisdropped
                ORDER BY a.attnum, e.grantee, e.privilege_type)
       || ARRAY(SELECT CASE d.objsubid
                       WHEN 0 THEN format('COMMENT ON MATERIALIZED VIEW %s IS %L', v.name,
                                          d.description)
                       ELSE format('COMMENT ON COLUMN %s.%I IS %L', v.name, a.attname, d.description)
                       END
                FROM pg_description d
                LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
                WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid ORDER BY d.objsubid)
           AS create
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS name) AS v
WHERE c.oid = $1";

/// A virtual generated column, from PostgreSQL 18: another expression takes its place, so nothing is
/// dropped. The server has that (`ATExecSetExpression`) neither with a CHECK nor in a publication,
/// and reads every row of one that is NOT NULL.
pub(super) const GENERATED: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, false AS temporary,
       true AS creates, false AS passed_on,
       a.attnotnull
       OR EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')
       OR EXISTS (SELECT FROM pg_publication_rel p WHERE p.prrelid = c.oid) AS fixed,
       '' AS drop,
       ARRAY[format('ALTER TABLE %I.%I ALTER COLUMN %I SET EXPRESSION AS (%s)', n.nspname, c.relname,
                    a.attname, pg_get_expr(f.adbin, f.adrelid))] AS create
FROM pg_attrdef f
JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
JOIN pg_class c ON c.oid = f.adrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE f.oid = $1";

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
