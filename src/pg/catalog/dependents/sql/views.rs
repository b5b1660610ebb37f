//! What makes views and materialized views again.

/// Name, owner and place of a relation.
macro_rules! relation {
    () => {
        "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owned, c.relpersistence = 't' AS temporary,
       has_schema_privilege(n.oid, 'CREATE') AS creates,
       EXISTS (SELECT FROM aclexplode(c.relacl) e WHERE e.grantor <> c.relowner)
       OR EXISTS (SELECT FROM pg_attribute a, aclexplode(a.attacl) e
                  WHERE a.attrelid = c.oid AND e.grantor <> c.relowner) AS passed_on,
"
    };
}

/// Rights on a relation and its columns. What ALTER DEFAULT PRIVILEGES gives to whoever is taken away
/// first.
macro_rules! rights {
    () => {
        "       || ARRAY(SELECT format('REVOKE ALL ON %s FROM %s', v.name,
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
"
    };
}

/// The end of both: comments of columns, and which relation it is.
macro_rules! comments {
    () => {
        "                FROM pg_description d
                LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
                WHERE d.classoid = 'pg_class'::regclass AND d.objoid = c.oid ORDER BY d.objsubid)
           AS create
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT format('%I.%I', n.nspname, c.relname) AS name) AS v
WHERE c.oid = $1"
    };
}

/// A view.
pub(in super::super) const VIEW: &str = concat!(
    relation!(),
    "       format('DROP VIEW %s', v.name) AS drop,
       ARRAY[format(E'CREATE VIEW %s%s AS\\n%s', v.name,
                    ' WITH (' || array_to_string(c.reloptions, ', ') || ')',
                    rtrim(pg_get_viewdef(c.oid), ';'))]
       || ARRAY(SELECT format('ALTER VIEW %s OWNER TO %I', v.name, pg_get_userbyid(c.relowner))
                WHERE pg_get_userbyid(c.relowner) <> current_user)
",
    rights!(),
    "       || ARRAY(SELECT format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', v.name, a.attname,
                              pg_get_expr(f.adbin, f.adrelid))
                FROM pg_attrdef f
                JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
                WHERE f.adrelid = c.oid ORDER BY a.attnum)
       || ARRAY(SELECT CASE d.objsubid
                       WHEN 0 THEN format('COMMENT ON VIEW %s IS %L', v.name, d.description)
                       ELSE format('COMMENT ON COLUMN %s.%I IS %L', v.name, a.attname, d.description)
                       END
",
    comments!()
);

/// A materialized view, without data, indexes and statistics. The comment of the view itself is the
/// last but those of its columns.
pub(in super::super) const MATERIALIZED_VIEW: &str = concat!(
    relation!(),
    "       pg_total_relation_size(c.oid)::int8 AS bytes,
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
",
    rights!(),
    "       || ARRAY(SELECT CASE d.objsubid
                       WHEN 0 THEN format('COMMENT ON MATERIALIZED VIEW %s IS %L', v.name,
                                          d.description)
                       ELSE format('COMMENT ON COLUMN %s.%I IS %L', v.name, a.attname, d.description)
                       END
",
    comments!()
);
