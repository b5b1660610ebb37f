use proptest::prelude::*;

use super::*;
use crate::plan::inverse::inverse;
use crate::plan::locks::{locks, transactional};
use crate::plan::testing::catalog;
use crate::sql::ddl::understand;

/// The steps as lines: `=` as it is, `>` a step, `>>` one outside a transaction, `>?` one that
/// validates, `!` refused.
fn form(major: u32, text: &str) -> String {
    let catalog = catalog(major);
    match safe_form(text, &understand(text), &catalog) {
        Safe::AsIs => "=".to_owned(),
        Safe::Refused { why, way_out, .. } => {
            assert!(!why.ends_with('.') && !way_out.ends_with('.'));
            format!("! {why}")
        }
        Safe::Rewritten { steps, why } => {
            assert!(!why.is_empty());
            let lines: Vec<_> = steps
                .iter()
                .map(|s| {
                    let mark = match (s.concurrent, s.phase_hint) {
                        (true, None) => ">>",
                        (false, Some("validate")) => ">?",
                        (false, None) => ">",
                        other => panic!("{other:?}"),
                    };
                    format!("{mark} {}", s.sql)
                })
                .collect();
            lines.join("\n")
        }
    }
}

fn check(major: u32, text: &str, expected: &[&str]) {
    assert_eq!(form(major, text), expected.join("\n"), "{text}");
}

#[test]
fn an_index_gets_the_name_that_the_server_would_give_it() {
    for (keys, name) in [
        ("(note) WHERE total > 1", "orders_note_idx"),
        (
            "USING btree (note DESC, public.lower(note))",
            "orders_note_lower_idx",
        ),
        (
            "((total + 1), (id * 2)) INCLUDE (note)",
            "orders_expr_expr1_note_idx",
        ),
        ("((lower(note)), ((total)))", "orders_lower_total_idx"),
        ("((lower(note) || 'x'))", "orders_expr_idx"),
    ] {
        let text = format!("CREATE INDEX ON orders {keys}");
        let expected = format!(">> CREATE INDEX CONCURRENTLY \"{name}\" ON orders {keys}");
        check(15, &text, &[&expected]);
    }
}

#[test]
fn free_forms_stay_as_they_are() {
    for text in [
        "ALTER TABLE orders ADD COLUMN n bigint",
        "ALTER TABLE orders ADD COLUMN n int NOT NULL DEFAULT 0, DROP COLUMN note",
        "ALTER TABLE orders ADD COLUMN n timestamptz DEFAULT now()",
        "ALTER TABLE orders ADD COLUMN n bigint REFERENCES users (id)",
        "ALTER TABLE empty ADD COLUMN n bigint NOT NULL",
        "ALTER TABLE orders ALTER email SET NOT NULL",
        "ALTER TABLE orders ALTER user_id SET NOT NULL",
        "ALTER TABLE orders ALTER note TYPE text",
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID",
        "ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX orders_total_idx",
        "ALTER TABLE orders VALIDATE CONSTRAINT orders_total_check",
        "ALTER TABLE orders DROP CONSTRAINT orders_user_id_fkey",
        "ALTER TABLE orders FROBNICATE",
        "ALTER TABLE made_here ALTER a SET NOT NULL, ADD UNIQUE (a)",
        "CREATE INDEX i ON made_here (a)",
        "CREATE INDEX CONCURRENTLY i ON orders (total)",
        "CREATE INDEX i ON ONLY events (at)",
        "DROP INDEX events_at_idx",
        "DROP INDEX IF EXISTS not_there",
        "REINDEX TABLE CONCURRENTLY orders",
        "REINDEX TABLE made_here",
        "CREATE TABLE t (id int REFERENCES orders)",
        "CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION f('x')",
        "ALTER TABLE events ATTACH PARTITION made_here FOR VALUES IN (1)",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY daily",
        "VACUUM orders",
        "UPDATE orders SET total = 1",
        "FROBNICATE orders",
        "",
    ] {
        check(15, text, &["="]);
    }
    check(
        18,
        "ALTER TABLE orders ADD CONSTRAINT n NOT NULL total NOT VALID",
        &["="],
    );
    check(
        18,
        "ALTER TABLE orders ADD COLUMN n int GENERATED ALWAYS AS (1)",
        &["="],
    );
}

#[test]
fn indexes_become_concurrent() {
    check(
        15,
        "/* a */ CREATE UNIQUE INDEX\n  IF NOT EXISTS i ON \"orders\" (total) -- b\n WHERE total > 0;",
        &["> /* a */ CREATE UNIQUE INDEX CONCURRENTLY\n  IF NOT EXISTS i ON \"orders\" (total) -- b\n WHERE total > 0;"
            .replacen('>', ">>", 1)
            .as_str()],
    );
    check(
        15,
        "CREATE INDEX i ON daily (a)",
        &[">> CREATE INDEX CONCURRENTLY i ON daily (a)"],
    );
    check(
        15,
        "CREATE INDEX ON orders (lower(note), total)",
        &[">> CREATE INDEX CONCURRENTLY \"orders_lower_total_idx\" ON orders (lower(note), total)"],
    );
    check(
        15,
        "CREATE INDEX CONCURRENTLY ON orders (note)",
        &[">> CREATE INDEX CONCURRENTLY \"orders_note_idx\" ON orders (note)"],
    );
    check(
        15,
        "DROP INDEX IF EXISTS orders_email_idx, public.orders_total_idx RESTRICT",
        &[
            ">> DROP INDEX CONCURRENTLY IF EXISTS orders_email_idx RESTRICT",
            ">> DROP INDEX CONCURRENTLY IF EXISTS public.orders_total_idx RESTRICT",
        ],
    );
    check(
        15,
        "DROP INDEX orders_email_idx CASCADE",
        &["! DROP INDEX CONCURRENTLY has no CASCADE"],
    );
    check(
        15,
        "REINDEX (VERBOSE) INDEX orders_email_idx",
        &[">> REINDEX (VERBOSE) INDEX CONCURRENTLY orders_email_idx"],
    );
    check(
        15,
        "CREATE INDEX i ON events (at)",
        &[
            "! CREATE INDEX blocks writes of every partition of events while it builds, and \
           CONCURRENTLY does not work on a partitioned table",
        ],
    );
    check(
        15,
        "CREATE INDEX CONCURRENTLY i ON events (at)",
        &["! events is partitioned, and there CREATE INDEX CONCURRENTLY does not work"],
    );
}

#[test]
fn constraints_are_validated_apart() {
    check(
        15,
        "ALTER TABLE IF EXISTS ONLY public.orders\n  ADD CONSTRAINT \"Pos\" CHECK (total > 0);",
        &[
            "> ALTER TABLE IF EXISTS ONLY public.orders ADD CONSTRAINT \"Pos\" CHECK (total > 0) NOT VALID",
            ">? ALTER TABLE IF EXISTS ONLY public.orders VALIDATE CONSTRAINT \"Pos\"",
        ],
    );
    // `orders_total_check` is taken, as the server would find.
    check(
        15,
        "ALTER TABLE orders ADD CHECK (total > 0)",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_total_check1\" CHECK (total > 0) NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_total_check1\"",
        ],
    );
    check(
        15,
        "ALTER TABLE orders ADD CHECK (total > id)",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_check\" CHECK (total > id) NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_check\"",
        ],
    );
    check(
        15,
        "ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES users ON DELETE CASCADE DEFERRABLE",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_id_fkey\" FOREIGN KEY (id) REFERENCES users ON DELETE CASCADE DEFERRABLE NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_id_fkey\"",
        ],
    );
    assert!(
        form(
            15,
            "ALTER TABLE events ADD FOREIGN KEY (id) REFERENCES users"
        )
        .starts_with("! events")
    );
    assert!(
        form(
            18,
            "ALTER TABLE events ADD FOREIGN KEY (id) REFERENCES users"
        )
        .starts_with("> ")
    );
}

#[test]
fn a_foreign_key_that_every_partition_has_is_taken_over() {
    let text = "ALTER TABLE events ADD FOREIGN KEY (id) REFERENCES users";
    let mut catalog = catalog(15);
    let users = crate::catalog::QName::new("public", "users");
    let leaf = catalog
        .tables
        .get_mut(&crate::catalog::QName::new("public", "events_1"))
        .unwrap();
    leaf.constraints.push(crate::catalog::Constraint {
        references: Some(users),
        ..crate::plan::testing::constraint(
            "fk",
            crate::catalog::ConstraintKind::ForeignKey,
            &["id"],
            "FOREIGN KEY (id) REFERENCES users(id)",
        )
    });
    assert_eq!(safe_form(text, &understand(text), &catalog), Safe::AsIs);
}

#[test]
fn not_null_without_a_blocking_scan() {
    check(
        15,
        "ALTER TABLE orders ALTER COLUMN total SET NOT NULL",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"pgshift_orders_total_not_null_c629a2e3\" CHECK (\"total\" IS NOT NULL) NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"pgshift_orders_total_not_null_c629a2e3\"",
            "> ALTER TABLE orders ALTER COLUMN \"total\" SET NOT NULL",
            "> ALTER TABLE orders DROP CONSTRAINT \"pgshift_orders_total_not_null_c629a2e3\"",
        ],
    );
    // The end of doing it by hand, in one statement: the proof would be gone before it is needed.
    check(
        15,
        "ALTER TABLE orders DROP CONSTRAINT orders_email_check, ALTER email SET NOT NULL",
        &[
            "> ALTER TABLE orders ALTER email SET NOT NULL",
            "> ALTER TABLE orders DROP CONSTRAINT orders_email_check",
        ],
    );
    check(
        18,
        "ALTER TABLE orders ALTER COLUMN total SET NOT NULL",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_total_not_null\" NOT NULL \"total\" NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_total_not_null\"",
        ],
    );
    check(
        18,
        "ALTER TABLE orders ADD NOT NULL total",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_total_not_null\" NOT NULL total NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_total_not_null\"",
        ],
    );
}

#[test]
fn keys_take_over_an_index() {
    check(
        15,
        "ALTER TABLE orders ADD CONSTRAINT u UNIQUE NULLS NOT DISTINCT (total, note) INCLUDE (id) \
         WITH (fillfactor = 70) USING INDEX TABLESPACE fast DEFERRABLE",
        &[
            ">> CREATE UNIQUE INDEX CONCURRENTLY \"u\" ON \"public\".\"orders\" (total, note) INCLUDE (id) NULLS NOT DISTINCT WITH (fillfactor = 70) TABLESPACE fast",
            "> ALTER TABLE orders ADD CONSTRAINT \"u\" UNIQUE USING INDEX \"u\" DEFERRABLE",
        ],
    );
    check(
        18,
        "ALTER TABLE orders ADD PRIMARY KEY (user_id, total)",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_total_not_null\" NOT NULL \"total\" NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_total_not_null\"",
            ">> CREATE UNIQUE INDEX CONCURRENTLY \"orders_pkey1\" ON \"public\".\"orders\" (user_id, total)",
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_pkey1\" PRIMARY KEY USING INDEX \"orders_pkey1\"",
        ],
    );
    for text in [
        "ALTER TABLE events ADD UNIQUE (at)",
        "ALTER TABLE orders ADD EXCLUDE USING gist (email WITH =)",
        "ALTER TABLE orders ADD UNIQUE (id, total WITHOUT OVERLAPS)",
    ] {
        assert!(form(18, text).starts_with("! "), "{text}");
    }
}

#[test]
fn constraints_move_out_of_add_column() {
    check(
        15,
        "ALTER TABLE orders ADD COLUMN n int CONSTRAINT pos CHECK (n > 0) DEFAULT 1 UNIQUE REFERENCES users (id), DROP note",
        &[
            "> ALTER TABLE orders DROP note",
            "> ALTER TABLE orders ADD COLUMN n int DEFAULT 1",
            "> ALTER TABLE orders ADD CONSTRAINT \"pos\" CHECK (n > 0) NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"pos\"",
            ">> CREATE UNIQUE INDEX CONCURRENTLY \"orders_n_key\" ON \"public\".\"orders\" (\"n\")",
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_n_key\" UNIQUE USING INDEX \"orders_n_key\"",
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_n_fkey\" FOREIGN KEY (\"n\") REFERENCES users (id) NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_n_fkey\"",
        ],
    );
    // A foreign key of nulls is free and stays.
    check(
        15,
        "ALTER TABLE orders ADD n int REFERENCES users CHECK (n > 0) NULL",
        &[
            "> ALTER TABLE orders ADD n int REFERENCES users NULL",
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_n_check\" CHECK (n > 0) NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"orders_n_check\"",
        ],
    );
}

#[test]
fn several_sub_commands_run_in_the_servers_order() {
    check(
        15,
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (n > 0), ADD n int, ALTER n SET DEFAULT 0, DROP note",
        &[
            "> ALTER TABLE orders DROP note",
            "> ALTER TABLE orders ADD n int",
            "> ALTER TABLE orders ALTER n SET DEFAULT 0",
            "> ALTER TABLE orders ADD CONSTRAINT c CHECK (n > 0) NOT VALID",
            ">? ALTER TABLE orders VALIDATE CONSTRAINT \"c\"",
        ],
    );
}

#[test]
fn what_has_no_safe_form_is_refused() {
    for (text, says) in [
        (
            "ALTER TABLE orders ADD n uuid DEFAULT gen_random_uuid()",
            "volatile",
        ),
        (
            "ALTER TABLE orders ADD n int DEFAULT app.code()",
            "where that is volatile",
        ),
        ("ALTER TABLE orders ADD n bigserial", "sequence"),
        (
            "ALTER TABLE orders ADD n bigint GENERATED ALWAYS AS IDENTITY",
            "sequence",
        ),
        (
            "ALTER TABLE orders ADD n int GENERATED ALWAYS AS (id) STORED",
            "stored generated",
        ),
        ("ALTER TABLE orders ADD n int NOT NULL", "would be null"),
        ("ALTER TABLE orders ADD n int PRIMARY KEY", "identify"),
        (
            "ALTER TABLE orders ADD n int, ALTER id TYPE numeric",
            "written anew",
        ),
        (
            "ALTER TABLE orders ALTER email TYPE text",
            "CHECK constraints again",
        ),
        ("ALTER TABLE orders SET UNLOGGED", "UNLOGGED"),
        ("ALTER TABLE orders SET TABLESPACE fast", "SET TABLESPACE"),
        (
            "ALTER TABLE orders SET ACCESS METHOD heap",
            "SET ACCESS METHOD",
        ),
        (
            "ALTER TABLE events ATTACH PARTITION users FOR VALUES IN (1)",
            "reads every row",
        ),
        ("CLUSTER orders USING i", "CLUSTER"),
        ("VACUUM (FULL) orders", "VACUUM FULL"),
        ("REFRESH MATERIALIZED VIEW daily", "blocks all reads"),
        ("REINDEX SYSTEM shop", "no concurrent form"),
        ("ALTER DOMAIN d ADD CHECK (VALUE > 0)", "domain d"),
        ("LOCK TABLE orders", "transaction of its own"),
        ("COMMIT", "makes the transactions"),
        ("SET search_path = app", "transaction of its own"),
    ] {
        let form = form(15, text);
        assert!(
            form.starts_with("! ") && form.contains(says),
            "{text}\n{form}"
        );
    }
}

/// Statements of every kind on the tables of the test catalog.
fn statements() -> impl Strategy<Value = String> {
    let tables = proptest::sample::select(vec!["orders", "users", "events", "empty", "nope"]);
    let columns = proptest::sample::select(vec!["total", "id", "email", "note", "at", "nope"]);
    let op = proptest::sample::select(vec![
        "ADD COLUMN x int CHECK (x > 0) UNIQUE",
        "ADD x int DEFAULT 1 REFERENCES users",
        "ADD x text",
        "ALTER @ SET NOT NULL",
        "ALTER @ DROP NOT NULL",
        "ALTER @ TYPE text",
        "ALTER @ SET DEFAULT NULL",
        "ADD CHECK (@ IS NOT NULL)",
        "ADD CONSTRAINT k FOREIGN KEY (@) REFERENCES users",
        "ADD UNIQUE (@)",
        "ADD PRIMARY KEY (@, id)",
        "DROP COLUMN @",
        "DROP CONSTRAINT orders_note_key",
        "VALIDATE CONSTRAINT orders_total_check",
        "ATTACH PARTITION users DEFAULT",
        "SET (fillfactor = 70)",
    ]);
    let alter = (tables, columns, proptest::collection::vec(op, 1..4))
        .prop_map(|(t, c, ops)| format!("ALTER TABLE {t} {}", ops.join(", ")).replace('@', c));
    let corpus = proptest::sample::select(crate::sql::ddl::CORPUS).prop_map(str::to_owned);
    prop_oneof![alter, corpus]
}

proptest! {
    #[test]
    fn no_step_works_long_while_it_blocks(text in statements(), major in 14_u32..=18) {
        let catalog = catalog(major);
        let action = understand(&text);
        let _ = inverse(&action, &catalog);
        let Safe::Rewritten { steps, .. } = safe_form(&text, &action, &catalog) else {
            return Ok(());
        };
        for step in steps {
            let action = understand(&step.sql);
            prop_assert_eq!(transactional(&action), !step.concurrent, "{}", step.sql);
            let blocks = locks(&action, &catalog).iter().any(|l| l.mode.blocks_writes());
            // What the CHECK before it proves is not in this catalog yet.
            let proven = step.sql.ends_with(" SET NOT NULL") || step.sql.contains(" PRIMARY KEY USING INDEX ");
            prop_assert!(
                !blocks || proven || rewrites_or_scans(&action, &catalog) == Work::None,
                "{}",
                step.sql
            );
        }
    }

    #[test]
    fn never_panics_on_changed_statements(
        text in statements(),
        at in any::<proptest::sample::Index>(),
        insert in "[()\\[\\],.;'\"$a é]{0,3}",
        remove in 0..9_usize,
    ) {
        let mut changed: Vec<char> = text.chars().collect();
        let at = at.index(changed.len());
        let end = (at + remove).min(changed.len());
        changed.splice(at..end, insert.chars());
        let text: String = changed.into_iter().collect();
        let (action, catalog) = (understand(&text), catalog(15));
        let _ = safe_form(&text, &action, &catalog);
        let _ = inverse(&action, &catalog);
        let _ = locks(&action, &catalog);
    }
}

#[test]
fn what_has_no_name_gets_one() {
    check(
        15,
        "ALTER TABLE orders ADD CHECK (total > 0) NOT VALID",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_total_check1\" CHECK (total > 0) NOT VALID",
        ],
    );
    check(
        15,
        "ALTER TABLE orders ADD UNIQUE USING INDEX orders_total_idx",
        &[
            "> ALTER TABLE orders ADD CONSTRAINT \"orders_total_idx\" UNIQUE USING INDEX orders_total_idx",
        ],
    );
}

fn partition(default_rows: Option<i64>, key: &str, text: &str) -> String {
    let mut catalog = catalog(15);
    let name = crate::catalog::QName::new("public", "events");
    let events = catalog.tables.get_mut(&name).expect("events");
    events.partitioning.key = Some(key.to_owned());
    if let Some(rows) = default_rows {
        let mut leaf = events.leaves[0].clone();
        leaf.name = crate::catalog::QName::new("public", "events_d");
        (leaf.rows, leaf.blocks) = (rows, rows);
        events.partitioning.default = Some(leaf.name.clone());
        events.leaves.push(leaf);
    }
    match safe_form(text, &understand(text), &catalog) {
        Safe::AsIs => "=".to_owned(),
        Safe::Refused { why, .. } => format!("! {why}"),
        Safe::Rewritten { steps, .. } => steps.into_iter().map(|s| s.sql + "\n").collect(),
    }
}

#[test]
fn a_new_partition_is_attached() {
    let like = "(LIKE \"public\".\"events\" INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING \
                CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)";
    let text = "CREATE TABLE e2 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO (MAXVALUE) WITH (fillfactor = 70)";
    let attach = "ALTER TABLE \"public\".\"events\" ATTACH PARTITION \"app\".\"e2\" FOR VALUES FROM ('2026-01-01') TO (MAXVALUE)\n";
    let plain = format!("CREATE TABLE \"app\".\"e2\" {like} WITH (fillfactor = 70)\n{attach}");
    assert_eq!(partition(None, "RANGE (at)", text), plain);
    assert_eq!(partition(Some(0), "RANGE (at)", text), plain);
    let proven = partition(Some(9), "RANGE (at)", text);
    assert!(proven.contains(&plain), "{proven}");
    assert!(
        proven.contains(
            "CHECK (NOT ((\"at\" IS NOT NULL) AND (\"at\" >= CAST('2026-01-01' AS date)))) NOT VALID"
        ),
        "{proven}"
    );
    assert!(proven.trim_end().contains("DROP CONSTRAINT"), "{proven}");
    for key in ["RANGE (at, id)", "RANGE (lower(at))", "HASH (id)"] {
        let form = partition(Some(9), key, text);
        assert!(form.starts_with("! a new partition makes"), "{key}: {form}");
    }
    let own = "CREATE TABLE e2 PARTITION OF events (at DEFAULT now()) DEFAULT";
    assert_eq!(partition(None, "RANGE (at)", own), "=");
}
