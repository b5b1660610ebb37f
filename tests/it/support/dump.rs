//! The schema of a database as text that is the same for the same schema.

use std::fmt::Write as _;

use super::Db;

/// Schemas and objects that are neither the server's, nor an extension's, nor pgshift's own.
/// `{oid}` and `{class}` name the object, `{schema}` its `pg_namespace`.
const USERS: &str = "{schema}.nspname NOT IN ('pg_catalog', 'information_schema', 'pgshift') \
     AND {schema}.nspname !~ '^pg_(toast|temp)' \
     AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = '{class}'::regclass \
                     AND objid = {oid} AND deptype = 'e')";

/// One line for everything that a relation is or has: (relation, part, place in it, line).
/// Parts are in the order of the numbers.
const RELATIONS: &str = r#"
WITH rel AS (
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS full_name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {users}
), lines AS (
    SELECT full_name, 0 AS part, '' AS place,
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
            (SELECT string_agg(concat_ws(' ',
                 CASE WHEN relispartition THEN 'partition of' ELSE 'inherits' END,
                 inhparent::regclass, pg_get_expr(relpartbound, oid)), ', ' ORDER BY inhseqno)
             FROM pg_inherits WHERE inhrelid = oid),
            'with ' || array_to_string(reloptions, ', ')) AS line
    FROM rel
    UNION ALL
    SELECT full_name, 1, to_char(a.attnum, '00000'),
        concat_ws(' ', 'column', format('%I', attname), format_type(atttypid, atttypmod),
            CASE WHEN attcollation <> typcollation THEN 'collate ' || attcollation::regcollation END,
            CASE WHEN attnotnull THEN 'not null' END,
            CASE attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity by default' END,
            CASE attgenerated WHEN '' THEN 'default ' ELSE 'generated ' || attgenerated::text || ' ' END
                || pg_get_expr(adbin, adrelid),
            CASE WHEN attstorage <> typstorage THEN 'storage ' || attstorage::text END,
            'compression ' || nullif(attcompression::text, ''),
            'statistics ' || nullif(attstattarget, -1),
            'options ' || attoptions::text)
    FROM rel JOIN pg_attribute a ON attrelid = rel.oid AND attnum > 0 AND NOT attisdropped
    JOIN pg_type t ON t.oid = atttypid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE relkind <> 'S'
    UNION ALL
    SELECT full_name, 2, conname,
        format('constraint %I %s', conname, pg_get_constraintdef(k.oid))
    FROM rel JOIN pg_constraint k ON conrelid = rel.oid WHERE contype <> 't'
    UNION ALL
    SELECT full_name, 3, x.relname,
        concat_ws(' ', pg_get_indexdef(indexrelid),
            CASE WHEN NOT indisvalid THEN 'INVALID' END,
            CASE WHEN NOT indisready THEN 'NOT READY' END,
            CASE WHEN indisclustered THEN 'CLUSTERED' END,
            CASE WHEN indisreplident THEN 'REPLICA IDENTITY' END)
    FROM rel JOIN pg_index ON indrelid = rel.oid JOIN pg_class x ON x.oid = indexrelid
    UNION ALL
    SELECT full_name, 4, tgname,
        concat_ws(' ', pg_get_triggerdef(t.oid), 'enabled ' || nullif(tgenabled::text, 'O'))
    FROM rel JOIN pg_trigger t ON tgrelid = rel.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT full_name, 5, rulename, pg_get_ruledef(r.oid)
    FROM rel JOIN pg_rewrite r ON ev_class = rel.oid
    UNION ALL
    SELECT full_name, 6, polname,
        format('policy %I %s permissive %s to %s using %s check %s', polname, polcmd, polpermissive,
            polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
    FROM rel JOIN pg_policy ON polrelid = rel.oid
    UNION ALL
    SELECT full_name, 7, s::text,
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
    SELECT full_name, 8, concat_ws(' ', grantee, privilege_type),
        concat_ws(' ', 'grant', privilege_type, 'to',
            CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END,
            CASE WHEN is_grantable THEN 'with grant option' END)
    FROM rel, aclexplode(coalesce(relacl,
        acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)))
    UNION ALL
    SELECT full_name, 9, concat_ws(' ', attname, grantee, privilege_type),
        concat_ws(' ', 'grant', privilege_type, format('(%I)', attname), 'to',
            CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END,
            CASE WHEN is_grantable THEN 'with grant option' END)
    FROM rel JOIN pg_attribute ON attrelid = rel.oid AND NOT attisdropped, aclexplode(attacl)
    UNION ALL
    SELECT full_name, 10, i.identity || i.type, format('comment on %s %s: %s', i.type, i.identity, description)
    FROM rel
    JOIN (SELECT 'pg_class'::regclass AS class, oid, oid AS relid FROM rel
          UNION ALL SELECT 'pg_class'::regclass, indexrelid, indrelid FROM pg_index
          UNION ALL SELECT 'pg_constraint'::regclass, oid, conrelid FROM pg_constraint
          UNION ALL SELECT 'pg_trigger'::regclass, oid, tgrelid FROM pg_trigger) o ON o.relid = rel.oid
    JOIN pg_description d ON d.classoid = o.class AND d.objoid = o.oid,
    pg_identify_object(d.classoid, d.objoid, d.objsubid) i
)
SELECT CASE part WHEN 0 THEN line ELSE '    ' || replace(line, E'\n', E'\n    ') END
FROM lines
ORDER BY full_name COLLATE "C", part, place COLLATE "C"
"#;

/// What is not in a relation, each with the catalog and the name of its object.
const OTHERS: [(&str, &str, &str); 5] = [
    (
        "pg_namespace",
        "n.oid",
        "SELECT format('schema %I owner %s', n.nspname, pg_get_userbyid(n.nspowner)) \
         FROM pg_namespace n WHERE {users}",
    ),
    (
        "pg_type",
        "t.oid",
        "SELECT concat_ws(' ', CASE typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' \
                 WHEN 'r' THEN 'range' ELSE 'type' END, format('%I.%I', n.nspname, typname), \
             (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) \
              FROM pg_enum WHERE enumtypid = t.oid), \
             CASE typtype WHEN 'd' THEN format_type(typbasetype, typtypmod) END, \
             CASE WHEN typnotnull THEN 'not null' END, 'default ' || typdefault, \
             (SELECT string_agg(format('%I %s', conname, pg_get_constraintdef(oid)), ', ' \
                 ORDER BY conname) FROM pg_constraint WHERE contypid = t.oid)) \
         FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace \
         WHERE {users} AND (typtype IN ('e', 'd', 'r') OR typtype = 'c' \
             AND (SELECT relkind FROM pg_class WHERE oid = typrelid) = 'c')",
    ),
    (
        "pg_proc",
        "p.oid",
        "SELECT CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid) \
             ELSE 'aggregate ' || p.oid::regprocedure END || concat_ws(' ', '', 'owner', \
             pg_get_userbyid(proowner), 'rights', proacl, 'comment', \
             obj_description(p.oid, 'pg_proc')) \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE {users}",
    ),
    (
        "pg_statistic_ext",
        "s.oid",
        "SELECT pg_get_statisticsobjdef(s.oid) \
         FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = stxnamespace WHERE {users}",
    ),
    (
        "pg_publication_rel",
        "p.oid",
        "SELECT format('publication %I has %s', pubname, prrelid::regclass) \
         FROM pg_publication_rel p JOIN pg_publication b ON b.oid = prpubid \
         JOIN pg_class c ON c.oid = prrelid JOIN pg_namespace n ON n.oid = relnamespace \
         WHERE {users}",
    ),
];

/// Everything that a user can see of the schema: tables with columns (without dropped ones),
/// constraints, indexes, triggers, rules, policies, rights, comments; sequences, views, types,
/// functions, statistics. Without schema `pgshift`, and without data. The order of columns
/// counts, their numbers do not. Comparing two dumps tells whether a revert left a trace.
pub(crate) async fn schema_dump(db: &Db) -> String {
    let users = |class: &str, oid: &str| {
        USERS
            .replace("{schema}", "n")
            .replace("{class}", class)
            .replace("{oid}", oid)
    };
    let mut dump = String::new();
    // Names are qualified only outside of the search path: take the path away.
    db.execute("SET search_path = ''").await;
    let relations = RELATIONS.replace("{users}", &users("pg_class", "c.oid"));
    let mut lines = db.rows::<String>(&relations).await;
    for (class, oid, query) in OTHERS {
        let mut other = db
            .rows::<String>(&query.replace("{users}", &users(class, oid)))
            .await;
        other.sort();
        lines.append(&mut other);
    }
    db.execute("RESET search_path").await;
    for line in lines {
        writeln!(dump, "{line}").expect("a string takes everything");
    }
    dump
}

const RICH: &str = r#"
CREATE SCHEMA app;
CREATE ROLE {role};
CREATE TYPE app.state AS ENUM ('new', 'done');
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE TABLE app.customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C");
CREATE TABLE app.orders (
    gone text, id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES app.customers,
    total numeric(10,2) DEFAULT 0 CHECK (total >= 0), twice numeric GENERATED ALWAYS AS (total * 2) STORED,
    state app.state, n app.positive, note varchar(9));
ALTER TABLE app.orders DROP COLUMN gone;
CREATE INDEX orders_total ON app.orders (total) WHERE total > 10;
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON app.orders FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE VIEW app.big AS SELECT id FROM app.orders WHERE total > 100;
CREATE TABLE app.parts (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (10);
CREATE STATISTICS app.both ON total, customer FROM app.orders;
ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON app.customers USING (name = current_user);
GRANT SELECT, UPDATE (total) ON app.orders TO {role};
COMMENT ON TABLE app.orders IS 'what they bought';
COMMENT ON COLUMN app.orders.total IS 'in euros';
COMMENT ON INDEX app.orders_total IS 'for the report';
"#;

#[tokio::test]
async fn a_dump_sees_every_change_and_no_detour() {
    let role = format!("dump_{:08x}", fastrand::u32(..));
    let db = Db::with("dump", &RICH.replace("{role}", &role)).await;
    let before = db.schema().await;
    assert!(
        before.contains("column total numeric(10,2) default 0"),
        "{before}"
    );
    assert!(before.contains("grant UPDATE (total) to dump_"), "{before}");
    assert!(!before.contains("gone"), "{before}");

    // What comes and goes leaves no trace; schema pgshift never counts.
    db.execute(&format!(
        "CREATE SCHEMA pgshift; CREATE TABLE pgshift.run (id int); \
         CREATE FUNCTION pgshift.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; \
         ALTER TABLE app.orders ADD COLUMN x int; ALTER TABLE app.orders DROP COLUMN x; \
         GRANT DELETE ON app.customers TO {role}; REVOKE DELETE ON app.customers FROM {role}; \
         ALTER TABLE app.orders RENAME TO o; ALTER TABLE app.o RENAME TO orders"
    ))
    .await;
    assert_eq!(db.schema().await, before);

    for change in [
        "ALTER TABLE app.orders ALTER COLUMN total DROP DEFAULT",
        "ALTER TABLE app.orders ALTER COLUMN n SET NOT NULL",
        "ALTER TABLE app.orders ALTER COLUMN note TYPE varchar(10)",
        "ALTER TABLE app.orders ADD CHECK (id > 0) NOT VALID",
        "ALTER TABLE app.orders DROP CONSTRAINT orders_customer_fkey",
        "ALTER TABLE app.orders DISABLE TRIGGER touch",
        "ALTER TABLE app.orders SET (fillfactor = 90)",
        "ALTER TABLE app.orders REPLICA IDENTITY FULL",
        "ALTER TABLE app.orders ALTER COLUMN state SET STATISTICS 500",
        "ALTER TABLE app.customers ALTER COLUMN id SET GENERATED BY DEFAULT",
        "ALTER TABLE app.customers DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE app.parts DETACH PARTITION app.parts_1",
        "ALTER SEQUENCE app.orders_id_seq INCREMENT 2",
        "ALTER TYPE app.state ADD VALUE 'lost'",
        "ALTER DOMAIN app.positive ADD CHECK (VALUE < 100)",
        "CREATE OR REPLACE VIEW app.big AS SELECT id FROM app.orders WHERE total > 101",
        "CREATE FUNCTION app.left_behind() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE INDEX ON app.orders (customer)",
        "COMMENT ON COLUMN app.orders.total IS 'in cents'",
        "COMMENT ON INDEX app.orders_total IS NULL",
        "DROP POLICY mine ON app.customers",
        "DROP STATISTICS app.both",
        "CREATE SCHEMA other",
    ] {
        let before = db.schema().await;
        db.execute(change).await;
        assert_ne!(db.schema().await, before, "not seen: {change}");
    }
    let before = db.schema().await;
    db.execute(&format!("REVOKE SELECT ON app.orders FROM {role}"))
        .await;
    assert_ne!(db.schema().await, before, "the right is gone");
    db.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}
