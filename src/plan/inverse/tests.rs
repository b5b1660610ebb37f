use super::*;
use crate::catalog::{ObjectClass, RelKind};
use crate::plan::testing::catalog;
use crate::sql::ddl::understand;

/// The steps as lines: `=` nothing, `>` a step, `>>` one outside a transaction, `!` irreversible.
fn way_back(major: u32, text: &str) -> String {
    match inverse(&understand(text), &catalog(major)) {
        Inverse::Nothing => "=".to_owned(),
        Inverse::Irreversible(reason) => {
            assert!(reason.ends_with("; give a revert section"), "{reason}");
            format!("! {}", reason.trim_end_matches("; give a revert section"))
        }
        Inverse::Sql(steps) => {
            let lines: Vec<_> = steps
                .iter()
                .map(|s| format!("{} {}", if s.concurrent { ">>" } else { ">" }, s.sql))
                .collect();
            lines.join("\n")
        }
    }
}

fn check(major: u32, text: &str, expected: &[&str]) {
    assert_eq!(way_back(major, text), expected.join("\n"), "{text}");
}

#[test]
fn what_is_created_is_dropped() {
    for (text, back) in [
        ("CREATE TABLE t (id int)", "> DROP TABLE \"app\".\"t\""),
        (
            "CREATE TABLE public.\"T\" AS SELECT 1",
            "> DROP TABLE \"public\".\"T\"",
        ),
        (
            "CREATE FOREIGN TABLE t (a int) SERVER s",
            "> DROP FOREIGN TABLE \"app\".\"t\"",
        ),
        (
            "CREATE INDEX i ON orders (total)",
            ">> DROP INDEX CONCURRENTLY IF EXISTS \"public\".\"i\"",
        ),
        (
            "CREATE INDEX i ON made_here (a)",
            ">> DROP INDEX CONCURRENTLY IF EXISTS \"app\".\"i\"",
        ),
        (
            "CREATE INDEX i ON ONLY events (at)",
            "> DROP INDEX \"public\".\"i\"",
        ),
        ("CREATE VIEW v AS SELECT 1", "> DROP VIEW \"app\".\"v\""),
        (
            "CREATE OR REPLACE VIEW v AS SELECT 1",
            "> DROP VIEW \"app\".\"v\"",
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
            "> DROP MATERIALIZED VIEW \"app\".\"v\"",
        ),
        ("CREATE SEQUENCE s", "> DROP SEQUENCE \"app\".\"s\""),
        (
            "CREATE TYPE mood AS ENUM ('a')",
            "> DROP TYPE \"app\".\"mood\"",
        ),
        ("CREATE DOMAIN d AS int", "> DROP DOMAIN \"app\".\"d\""),
        ("CREATE SCHEMA billing", "> DROP SCHEMA \"billing\""),
        ("CREATE EXTENSION pgcrypto", "> DROP EXTENSION \"pgcrypto\""),
        (
            "CREATE FUNCTION f(a int DEFAULT 1, b text) RETURNS int AS 'x' LANGUAGE c",
            "> DROP FUNCTION \"app\".\"f\"(a int, b text)",
        ),
        (
            "CREATE PROCEDURE p() AS 'x'",
            "> DROP PROCEDURE \"app\".\"p\"()",
        ),
        (
            "CREATE TRIGGER tr AFTER INSERT ON orders EXECUTE FUNCTION f()",
            "> DROP TRIGGER \"tr\" ON \"public\".\"orders\"",
        ),
        (
            "CREATE OR REPLACE TRIGGER tr AFTER INSERT ON orders EXECUTE FUNCTION f()",
            "> DROP TRIGGER \"tr\" ON \"public\".\"orders\"",
        ),
        (
            "CREATE OR REPLACE TRIGGER audit AFTER INSERT ON orders EXECUTE FUNCTION f()",
            "> CREATE OR REPLACE TRIGGER audit AFTER UPDATE ON public.orders FOR EACH ROW EXECUTE \
             FUNCTION audit('a')",
        ),
        (
            "CREATE POLICY p ON orders USING (true)",
            "> DROP POLICY \"p\" ON \"public\".\"orders\"",
        ),
        (
            "CREATE STATISTICS st ON a, b FROM orders",
            "> DROP STATISTICS \"app\".\"st\"",
        ),
    ] {
        check(15, text, &[back]);
    }
}

#[test]
fn what_changes_nothing_needs_no_way_back() {
    for text in [
        "CREATE TABLE IF NOT EXISTS public.orders (id int)",
        "CREATE INDEX IF NOT EXISTS orders_email_idx ON orders (email)",
        "CREATE SEQUENCE IF NOT EXISTS public.orders_id_seq",
        "CREATE SCHEMA IF NOT EXISTS app",
        "CREATE TEMP TABLE t (id int)",
        "ALTER TABLE orders ADD COLUMN IF NOT EXISTS total int",
        "ALTER TABLE orders DROP COLUMN IF EXISTS nope",
        "ALTER TABLE orders DROP CONSTRAINT IF EXISTS nope",
        "ALTER TABLE IF EXISTS nope DROP COLUMN a",
        "ALTER TABLE orders ALTER id SET NOT NULL",
        "ALTER TABLE orders ALTER total DROP NOT NULL",
        "ALTER TABLE orders ALTER total DROP DEFAULT",
        "ALTER TABLE orders VALIDATE CONSTRAINT orders_total_check",
        "ALTER TABLE orders ENABLE TRIGGER audit",
        "DROP INDEX IF EXISTS nope",
        "DROP TABLE IF EXISTS nope",
        "DROP TRIGGER IF EXISTS nope ON orders",
        "SELECT count(*) FROM orders",
        "VACUUM orders",
    ] {
        check(15, text, &["="]);
    }
    // `orders` in the first schema of the path is another table.
    check(
        15,
        "CREATE TABLE IF NOT EXISTS orders (id int)",
        &["> DROP TABLE \"app\".\"orders\""],
    );
}

#[test]
fn alter_table_is_taken_back_last_first() {
    let t = "ALTER TABLE \"public\".\"orders\"";
    for (text, back) in [
        (
            "ALTER TABLE orders ADD n int, ADD CONSTRAINT c CHECK (n > 0), ALTER n SET DEFAULT 1",
            vec![
                format!("> {t} DROP CONSTRAINT \"c\""),
                format!("> {t} DROP COLUMN \"n\""),
            ],
        ),
        (
            "ALTER TABLE orders ALTER note SET DEFAULT 'x'",
            vec![format!(
                "> {t} ALTER COLUMN \"note\" SET DEFAULT 'none'::character varying"
            )],
        ),
        (
            "ALTER TABLE orders ALTER note DROP DEFAULT",
            vec![format!(
                "> {t} ALTER COLUMN \"note\" SET DEFAULT 'none'::character varying"
            )],
        ),
        (
            "ALTER TABLE orders ALTER total SET DEFAULT 0",
            vec![format!("> {t} ALTER COLUMN \"total\" DROP DEFAULT")],
        ),
        (
            "ALTER TABLE orders ALTER total SET NOT NULL",
            vec![format!("> {t} ALTER COLUMN \"total\" DROP NOT NULL")],
        ),
        (
            "ALTER TABLE orders RENAME total TO \"Sum\"",
            vec![format!("> {t} RENAME COLUMN \"Sum\" TO \"total\"")],
        ),
        (
            "ALTER TABLE orders RENAME TO sales",
            vec!["> ALTER TABLE \"public\".\"sales\" RENAME TO \"orders\"".to_owned()],
        ),
        (
            "ALTER TABLE orders SET SCHEMA app",
            vec!["> ALTER TABLE \"app\".\"orders\" SET SCHEMA \"public\"".to_owned()],
        ),
        (
            "ALTER TABLE orders OWNER TO boss",
            vec![format!("> {t} OWNER TO \"app\"")],
        ),
        (
            "ALTER TABLE orders DISABLE TRIGGER audit",
            vec![format!("> {t} ENABLE TRIGGER \"audit\"")],
        ),
        (
            "ALTER TABLE events ATTACH PARTITION users DEFAULT",
            vec![
                "> ALTER TABLE \"public\".\"events\" DETACH PARTITION \"public\".\"users\""
                    .to_owned(),
            ],
        ),
        (
            "ALTER INDEX orders_email_idx RENAME TO i",
            vec!["> ALTER INDEX \"public\".\"i\" RENAME TO \"orders_email_idx\"".to_owned()],
        ),
        (
            "ALTER TRIGGER audit ON orders RENAME TO b",
            vec!["> ALTER TRIGGER \"b\" ON \"public\".\"orders\" RENAME TO \"audit\"".to_owned()],
        ),
        (
            "ALTER TYPE app.mood RENAME VALUE 'a''b' TO 'c'",
            vec!["> ALTER TYPE \"app\".\"mood\" RENAME VALUE 'c' TO 'a''b'".to_owned()],
        ),
        (
            "ALTER TYPE app.mood RENAME TO feeling",
            vec!["> ALTER TYPE \"app\".\"feeling\" RENAME TO \"mood\"".to_owned()],
        ),
    ] {
        let back: Vec<_> = back.iter().map(String::as_str).collect();
        check(15, text, &back);
    }
}

#[test]
fn what_the_catalog_knows_is_put_back_without_blocking() {
    let t = "ALTER TABLE \"public\".\"orders\"";
    let check = |major, text, expected: &[String]| {
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        check(major, text, &expected);
    };
    check(
        15,
        "ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey",
        &[
            format!(
                "> {t} ADD CONSTRAINT \"orders_user_id_fkey\" FOREIGN KEY (user_id) REFERENCES \
                 users(id) ON DELETE CASCADE NOT VALID"
            ),
            format!("> {t} VALIDATE CONSTRAINT \"orders_user_id_fkey\""),
        ],
    );
    // It was not valid, and is not validated on the way back.
    check(
        15,
        "ALTER TABLE orders DROP CONSTRAINT orders_total_check",
        &[format!(
            "> {t} ADD CONSTRAINT \"orders_total_check\" CHECK ((total >= (0)::numeric)) NOT VALID"
        )],
    );
    check(
        15,
        "ALTER TABLE orders DROP CONSTRAINT orders_note_key",
        &[
            ">> CREATE UNIQUE INDEX CONCURRENTLY orders_note_key ON public.orders USING btree (note)"
                .to_owned(),
            format!(
                "> {t} ADD CONSTRAINT \"orders_note_key\" UNIQUE USING INDEX \"orders_note_key\" \
                 DEFERRABLE INITIALLY DEFERRED"
            ),
        ],
    );
    check(
        15,
        "ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX orders_total_idx",
        &[
            format!("> {t} DROP CONSTRAINT \"u\""),
            ">> CREATE UNIQUE INDEX CONCURRENTLY orders_total_idx ON public.orders USING btree (total)"
                .to_owned(),
        ],
    );
    check(
        15,
        "DROP INDEX orders_email_idx, orders_total_idx",
        &[
            ">> CREATE UNIQUE INDEX CONCURRENTLY orders_total_idx ON public.orders USING btree (total)"
                .to_owned(),
            ">> CREATE UNIQUE INDEX CONCURRENTLY orders_email_idx ON public.orders USING btree (email)"
                .to_owned(),
        ],
    );
    let steps = way_back(15, "ALTER TABLE orders ALTER user_id DROP NOT NULL");
    let lines: Vec<_> = steps.lines().collect();
    assert_eq!(lines.len(), 4, "{steps}");
    assert!(lines[0].ends_with("CHECK (\"user_id\" IS NOT NULL) NOT VALID"));
    assert!(lines[1].contains("VALIDATE CONSTRAINT \"pgshift_orders_user_id_not_null_"));
    assert!(lines[2].ends_with("ALTER COLUMN \"user_id\" SET NOT NULL"));
    assert!(lines[3].contains("DROP CONSTRAINT \"pgshift_orders_user_id_not_null_"));
    check(
        18,
        "ALTER TABLE orders ALTER user_id DROP NOT NULL",
        &[
            format!(
                "> {t} ADD CONSTRAINT \"orders_user_id_not_null\" NOT NULL \"user_id\" NOT VALID"
            ),
            format!("> {t} VALIDATE CONSTRAINT \"orders_user_id_not_null\""),
        ],
    );
    check(
        15,
        "DROP TRIGGER audit ON orders",
        &[
            "> CREATE TRIGGER audit AFTER UPDATE ON public.orders FOR EACH ROW EXECUTE FUNCTION \
             audit('a')"
                .to_owned(),
        ],
    );
    check(
        15,
        "COMMENT ON COLUMN orders.note IS NULL",
        &["> COMMENT ON COLUMN \"public\".\"orders\".\"note\" IS 'it''s a note'".to_owned()],
    );
    check(
        15,
        "COMMENT ON TABLE users IS 'x'",
        &["> COMMENT ON TABLE \"public\".\"users\" IS NULL".to_owned()],
    );
}

#[test]
fn what_cannot_be_taken_back_is_said() {
    for text in [
        "CREATE INDEX ON orders (total)",
        "CREATE OR REPLACE VIEW public.report AS SELECT 1",
        "CREATE EXTENSION IF NOT EXISTS pgcrypto",
        "CREATE SCHEMA IF NOT EXISTS new_one",
        "CREATE SCHEMA s CREATE TABLE t (a int)",
        "ALTER TYPE mood ADD VALUE 'x'",
        "ALTER TABLE orders DROP COLUMN note",
        "ALTER TABLE orders ADD CHECK (id > 0)",
        "ALTER TABLE orders ALTER total TYPE text",
        "ALTER TABLE orders FROBNICATE",
        "ALTER TABLE nope ALTER a SET NOT NULL",
        "ALTER TABLE events DETACH PARTITION events_1",
        "ALTER TABLE orders ADD n int, DROP COLUMN note",
        "DROP TABLE orders",
        "DROP INDEX events_at_idx",
        "DROP INDEX nope",
        "DROP VIEW report",
        "DROP FUNCTION f()",
        "DROP POLICY p ON orders",
        "GRANT SELECT ON orders TO app",
        "UPDATE orders SET total = 1",
        "SELECT setval('orders_id_seq', 1)",
        "DO $$ BEGIN END $$",
        "FROBNICATE",
    ] {
        let back = way_back(15, text);
        assert!(back.starts_with("! "), "{text}\n{back}");
    }
    assert_eq!(
        way_back(15, "CREATE INDEX ON orders (total)"),
        "! the server chooses the name of an index that has none; name the index"
    );
}

#[test]
fn what_the_catalog_keeps_is_made_again() {
    let mut catalog = catalog(15);
    let name = crate::catalog::QName::new("app", "f");
    catalog.functions.insert(
        name,
        vec![crate::catalog::Function {
            arguments: "a integer, b text".to_owned(),
            definition: "CREATE OR REPLACE FUNCTION app.f(a integer, b text) old".to_owned(),
        }],
    );
    catalog.views.insert(
        crate::catalog::QName::new("public", "report"),
        crate::catalog::View {
            recreate: vec!["CREATE VIEW public.report AS old".into(), "GRANT".into()],
        },
    );
    let orders = catalog
        .tables
        .get_mut(&crate::catalog::QName::new("public", "orders"))
        .expect("orders");
    orders.settings.options = vec!["fillfactor=70".to_owned()];
    orders.settings.row_security = true;
    orders.settings.replica_identity = "USING INDEX i".to_owned();
    let way = |text: &str| match inverse(&understand(text), &catalog) {
        Inverse::Sql(steps) => steps
            .into_iter()
            .map(|s| {
                std::iter::once(s.sql)
                    .chain(s.also)
                    .collect::<Vec<_>>()
                    .join("; ")
            })
            .collect::<Vec<_>>()
            .join(" | "),
        Inverse::Nothing => "nothing".to_owned(),
        Inverse::Irreversible(reason) => format!("! {reason}"),
    };
    for (text, expected) in [
        (
            "CREATE OR REPLACE FUNCTION f(a INT, IN b text) RETURNS int AS 'x' LANGUAGE c",
            "CREATE OR REPLACE FUNCTION app.f(a integer, b text) old",
        ),
        (
            "CREATE OR REPLACE FUNCTION g() RETURNS int AS 'x' LANGUAGE c",
            "DROP FUNCTION \"app\".\"g\"()",
        ),
        (
            "CREATE OR REPLACE VIEW public.report AS SELECT 1",
            "DROP VIEW \"public\".\"report\"; CREATE VIEW public.report AS old; GRANT",
        ),
        (
            "DROP VIEW public.report",
            "CREATE VIEW public.report AS old; GRANT",
        ),
        (
            "ALTER TABLE orders SET (fillfactor = 80, autovacuum_enabled = off)",
            "ALTER TABLE \"public\".\"orders\" SET (fillfactor = 70), RESET (autovacuum_enabled)",
        ),
        (
            "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
            "ALTER TABLE \"public\".\"orders\" ENABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY",
        ),
        (
            "ALTER TABLE orders REPLICA IDENTITY FULL",
            "ALTER TABLE \"public\".\"orders\" REPLICA IDENTITY USING INDEX i",
        ),
    ] {
        assert_eq!(way(text), expected, "{text}");
    }
    // Another function of the name: which one is meant is not guessed.
    assert!(
        way("CREATE OR REPLACE FUNCTION f(a text) RETURNS int AS 'x' LANGUAGE c").starts_with('!')
    );
}

/// A catalog with rights, comments and options.
fn furnished() -> Catalog {
    use crate::catalog::{DefaultRights, Granted, Object};
    let mut catalog = catalog(15);
    catalog.role = "app".into();
    let granted =
        |grantee: Option<&str>, privilege: &str, column: Option<&str>, grantable| Granted {
            grantee: grantee.map(str::to_owned),
            privilege: privilege.to_owned(),
            column: column.map(str::to_owned),
            grantable,
            by_owner: true,
        };
    let object = |class, name: &str, identity: &str| Object {
        identity: identity.to_owned(),
        owner: "app".into(),
        made: false,
        ..Object::made(class, Some("public"), name)
    };
    catalog.objects = vec![
        Object {
            kind: Some(RelKind::Table),
            grants: vec![
                granted(Some("r"), "SELECT", None, false),
                granted(Some("r"), "UPDATE", Some("note"), true),
                granted(None, "INSERT", None, false),
            ],
            ..object(ObjectClass::Relation, "orders", "public.orders")
        },
        Object {
            kind: Some(RelKind::Sequence),
            definition: Some("AS bigint CACHE 1".into()),
            ..object(
                ObjectClass::Relation,
                "orders_id_seq",
                "public.orders_id_seq",
            )
        },
        Object {
            kind: Some(RelKind::View),
            options: vec!["security_barrier=true".into()],
            comment: Some("it's".into()),
            column_comments: vec![("a".into(), "A".into())],
            ..object(ObjectClass::Relation, "report", "public.report")
        },
        Object {
            arguments: Some(("x integer".into(), "integer".into())),
            definition: Some("CREATE OR REPLACE FUNCTION one".into()),
            grants: vec![granted(None, "EXECUTE", None, false)],
            ..object(ObjectClass::Function, "f", "public.f(x integer)")
        },
        Object {
            arguments: Some(("x integer, y text".into(), "integer, text".into())),
            owned: false,
            ..object(ObjectClass::Function, "f", "public.f(x integer, y text)")
        },
        Object {
            schema: None,
            ..object(ObjectClass::Schema, "extra", "extra")
        },
        Object {
            on: Some("orders".into()),
            comment: Some("no".into()),
            ..object(ObjectClass::Constraint, "c", "c ON public.orders")
        },
        Object::made(ObjectClass::Relation, Some("app"), "fresh"),
    ];
    catalog.default_rights = vec![DefaultRights {
        role: "app".into(),
        schema: Some("extra".into()),
        kind: "r".into(),
        grants: vec![granted(Some("r"), "SELECT", None, false)],
    }];
    let orders = catalog
        .tables
        .get_mut(&crate::catalog::QName::new("public", "orders"))
        .expect("orders");
    for column in &mut orders.columns {
        column.settings.storage = "EXTENDED".into();
    }
    let note = &mut orders.columns[4].settings;
    note.compression = "lz4".into();
    note.collation = Some("pg_catalog.\"C\"".into());
    let email = &mut orders.columns[3].settings;
    email.statistics = Some(50);
    email.options = vec!["n_distinct=5".into()];
    catalog
}

/// Every statement of the way back, or `=`, or `!`.
fn all_back(text: &str) -> Vec<String> {
    match inverse(&understand(text), &furnished()) {
        Inverse::Nothing => vec!["=".to_owned()],
        Inverse::Irreversible(_) => vec!["!".to_owned()],
        Inverse::Sql(steps) => steps
            .into_iter()
            .flat_map(|s| std::iter::once(s.sql).chain(s.also))
            .collect(),
    }
}

#[test]
fn rights_go_back_to_what_they_were() {
    for (text, back) in [
        (
            "GRANT SELECT, DELETE ON orders TO r",
            &["REVOKE DELETE ON TABLE public.orders FROM \"r\""][..],
        ),
        ("GRANT SELECT ON orders TO r", &["="]),
        (
            "GRANT SELECT ON orders TO r WITH GRANT OPTION",
            &["REVOKE GRANT OPTION FOR SELECT ON TABLE public.orders FROM \"r\""],
        ),
        // What is taken of the whole is taken of the columns: they get theirs again.
        (
            "GRANT UPDATE ON orders TO r",
            &[
                "REVOKE UPDATE ON TABLE public.orders FROM \"r\"",
                "GRANT UPDATE (\"note\") ON TABLE public.orders TO \"r\" WITH GRANT OPTION",
            ],
        ),
        (
            "REVOKE ALL ON orders FROM r, PUBLIC",
            &[
                "GRANT INSERT ON TABLE public.orders TO PUBLIC",
                "GRANT SELECT ON TABLE public.orders TO \"r\"",
                "GRANT UPDATE (\"note\") ON TABLE public.orders TO \"r\" WITH GRANT OPTION",
            ],
        ),
        ("REVOKE ALL ON orders FROM other", &["="]),
        ("GRANT SELECT ON fresh TO r", &["="]),
        (
            "GRANT USAGE ON SEQUENCE orders_id_seq TO CURRENT_USER",
            &["REVOKE USAGE ON SEQUENCE public.orders_id_seq FROM \"app\""],
        ),
        (
            "REVOKE EXECUTE ON FUNCTION f(int) FROM PUBLIC",
            &["GRANT EXECUTE ON ROUTINE public.f(x integer) TO PUBLIC"],
        ),
        (
            "GRANT USAGE ON SCHEMA extra TO r",
            &["REVOKE USAGE ON SCHEMA extra FROM \"r\""],
        ),
        (
            "ALTER DEFAULT PRIVILEGES IN SCHEMA extra GRANT SELECT, INSERT ON TABLES TO r",
            &[
                "ALTER DEFAULT PRIVILEGES FOR ROLE \"app\" IN SCHEMA \"extra\" REVOKE INSERT ON \
               TABLES FROM \"r\"",
            ],
        ),
        (
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            &["ALTER DEFAULT PRIVILEGES FOR ROLE \"app\" GRANT EXECUTE ON ROUTINES TO PUBLIC"],
        ),
        (
            "ALTER TABLE orders OWNER TO r",
            &[
                "ALTER TABLE public.orders OWNER TO \"app\"",
                "GRANT SELECT ON TABLE public.orders TO \"r\"",
                "GRANT UPDATE (\"note\") ON TABLE public.orders TO \"r\" WITH GRANT OPTION",
            ],
        ),
        // Not the owner's to give; of whom it is not known; not loaded.
        ("GRANT EXECUTE ON FUNCTION f(int, text) TO r", &["!"]),
        ("GRANT SELECT ON orders TO SESSION_USER", &["!"]),
        ("GRANT SELECT ON nowhere TO r", &["!"]),
        ("GRANT a TO b", &["!"]),
    ] {
        assert_eq!(all_back(text), back, "{text}");
    }
}

#[test]
fn comments_and_options_go_back_to_what_they_were() {
    let table = "ALTER TABLE \"public\".\"orders\" ALTER COLUMN \"email\"";
    let with = |rest: &str| format!("{table} {rest}");
    for (text, back) in [
        (
            "COMMENT ON VIEW report IS NULL",
            vec!["COMMENT ON VIEW public.report IS 'it''s'".to_owned()],
        ),
        (
            "COMMENT ON COLUMN report.a IS 'b'",
            vec!["COMMENT ON COLUMN public.report.\"a\" IS 'A'".to_owned()],
        ),
        (
            "COMMENT ON CONSTRAINT c ON orders IS 'b'",
            vec!["COMMENT ON CONSTRAINT c ON public.orders IS 'no'".to_owned()],
        ),
        ("COMMENT ON TABLE fresh IS 'b'", vec!["=".to_owned()]),
        (
            "ALTER FUNCTION f(int) STRICT",
            vec!["CREATE OR REPLACE FUNCTION one".to_owned()],
        ),
        (
            "ALTER FUNCTION f(x int) RENAME TO g",
            vec!["ALTER ROUTINE \"public\".\"g\"(x integer) RENAME TO \"f\"".to_owned()],
        ),
        (
            "ALTER VIEW report SET (security_barrier = false, check_option = local)",
            vec![
                "ALTER VIEW public.report SET (security_barrier = true)".to_owned(),
                "ALTER VIEW public.report RESET (check_option)".to_owned(),
            ],
        ),
        (
            "ALTER SEQUENCE orders_id_seq CACHE 5",
            vec!["ALTER SEQUENCE public.orders_id_seq AS bigint CACHE 1".to_owned()],
        ),
        (
            "ALTER TABLE orders ALTER email SET STATISTICS 7",
            vec![with("SET STATISTICS 50")],
        ),
        (
            "ALTER TABLE orders ALTER email RESET (n_distinct, other)",
            vec![with("SET (n_distinct = 5)"), with("RESET (other)")],
        ),
        (
            "ALTER TABLE orders ALTER email SET STORAGE PLAIN",
            vec![with("SET STORAGE EXTENDED")],
        ),
        (
            "ALTER TABLE orders ALTER total SET COMPRESSION lz4",
            vec![
                "ALTER TABLE \"public\".\"orders\" ALTER COLUMN \"total\" SET COMPRESSION default"
                    .to_owned(),
            ],
        ),
    ] {
        assert_eq!(all_back(text), back, "{text}");
    }
}

#[test]
fn a_wider_type_goes_back_with_a_look_at_the_values() {
    let text = "ALTER TABLE orders ALTER note TYPE varchar(20)";
    let Inverse::Sql(steps) = inverse(&understand(text), &furnished()) else {
        panic!("no way back");
    };
    let [check, back] = steps.as_slice() else {
        panic!("{steps:?}");
    };
    assert!(
        check
            .sql
            .contains("\"note\" IS DISTINCT FROM \"note\"::character varying(10)")
    );
    assert!(check.reads.is_some() && back.lost.is_some());
    assert_eq!(
        back.sql,
        "ALTER TABLE \"public\".\"orders\" ALTER COLUMN \"note\" TYPE character varying(10) \
         COLLATE pg_catalog.\"C\", ALTER COLUMN \"note\" SET COMPRESSION lz4"
    );
    for text in [
        "ALTER TABLE orders ALTER note TYPE varchar(20) USING upper(email)",
        "ALTER TABLE orders ALTER id TYPE int",
    ] {
        assert_eq!(all_back(text), ["!"], "{text}");
    }
}

#[test]
fn where_a_sequence_stood_is_said_to_be_lost() {
    let text = "ALTER SEQUENCE orders_id_seq RESTART";
    let Inverse::Sql(steps) = inverse(&understand(text), &furnished()) else {
        panic!("no way back");
    };
    assert!(steps[0].lost.is_some());
}
