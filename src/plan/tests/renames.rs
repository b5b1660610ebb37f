//! Renames after which both names work.

use super::*;
use crate::catalog::{Granted, Mention, QName};
use crate::error::ErrorKind;
use crate::plan::Phase;

fn sql(plan: &Plan, phase: Phase) -> Vec<String> {
    plan.steps
        .iter()
        .filter(|s| s.phase == phase)
        .flat_map(|s| match &s.work {
            Work::Sql { statements } => statements.iter().map(|s| cut(s)).collect(),
            Work::Concurrent { sql, .. } => vec![sql.clone()],
            _ => Vec::new(),
        })
        .collect()
}

fn undo(plan: &Plan, phase: Phase) -> Vec<String> {
    let steps = plan.steps.iter().filter(|s| s.phase == phase);
    steps
        .flat_map(|s| match &s.undo {
            Undo::Steps { steps, .. } => steps.clone(),
            _ => Vec::new(),
        })
        .flat_map(|s| match s.work {
            Work::Sql { statements } => statements.iter().map(|s| cut(s)).collect(),
            Work::Concurrent { sql, .. } => vec![sql],
            _ => Vec::new(),
        })
        .collect()
}

fn refusal(catalog: &Catalog, file: &str) -> (ErrorKind, String) {
    let error = planned(catalog, file).expect_err(file);
    (error.kind(), error.to_string())
}

#[track_caller]
fn refused(catalog: &Catalog, file: &str, words: &str) {
    let (kind, text) = refusal(catalog, file);
    assert_eq!(kind, ErrorKind::Refused, "{file}: {text}");
    assert!(text.contains(words), "{file}: {text}");
}

#[test]
fn a_table_leaves_a_view() {
    let mut catalog = catalog(15);
    let orders = catalog
        .tables
        .get_mut(&QName::new("public", "orders"))
        .expect("orders");
    orders.owner = "boss".into();
    let grant = |privilege: &str, column: Option<&str>, grantee: Option<&str>| Granted {
        privilege: privilege.into(),
        column: column.map(str::to_owned),
        grantee: grantee.map(str::to_owned),
        grantable: privilege == "UPDATE",
        by_owner: true,
    };
    orders.grants = vec![
        grant("SELECT", None, None),
        grant("UPDATE", Some("total"), Some("Shop")),
        grant("TRUNCATE", None, Some("Shop")),
    ];
    orders.mentions = vec![Mention {
        function: "f()".into(),
        trigger: None,
        columns: Vec::new(),
    }];
    let plan = planned(&catalog, "ALTER TABLE orders RENAME TO sales;").expect("a plan");
    let mut made = sql(&plan, Phase::Expand);
    // Rights of columns: those of the view decide, and they are no others.
    assert!(made.remove(3).starts_with("DO $pgshift$"));
    assert_eq!(
        made,
        [
            "ALTER TABLE orders RENAME TO sales",
            "CREATE VIEW \"public\".\"orders\" AS SELECT \"id\", \
             \"user_id\", \"total\", \"email\", \"note\" FROM \"public\".\"sales\"",
            "ALTER VIEW \"public\".\"orders\" OWNER TO \"boss\"",
            "GRANT SELECT ON \"public\".\"orders\" TO PUBLIC",
            "GRANT UPDATE (\"total\") ON \"public\".\"orders\" TO \"Shop\" WITH GRANT OPTION",
            "COMMENT ON VIEW \"public\".\"orders\" IS 'What was sold'",
            "COMMENT ON COLUMN \"public\".\"orders\".\"note\" IS 'it''s a note'",
        ]
    );
    assert_eq!(
        undo(&plan, Phase::Expand),
        [
            "DROP VIEW \"public\".\"orders\"",
            "ALTER TABLE \"public\".\"sales\" RENAME TO \"orders\"",
        ]
    );
    assert_eq!(
        sql(&plan, Phase::Contract),
        ["DROP VIEW \"public\".\"orders\""]
    );
    assert_eq!(
        undo(&plan, Phase::Contract)[..],
        sql(&plan, Phase::Expand)[1..]
    );
    assert!(plan.tables.contains(&QName::new("public", "sales")));
    assert!(plan.warnings.iter().any(|w| w.contains("the text of f()")));
    assert!(plan.steps[0].notes[0].contains("rewritten"));

    let now = planned(&super::catalog(15), "ALTER TABLE orders RENAME TO sales;").expect("a plan");
    assert!(sql(&now, Phase::Expand)[1].contains("WITH (security_invoker = true)"));
    let old = planned(&super::catalog(14), "ALTER TABLE orders RENAME TO sales;").expect("a plan");
    assert!(sql(&old, Phase::Expand)[1].starts_with("CREATE VIEW \"public\".\"orders\" AS SELECT"));
}

#[test]
fn what_follows_a_renamed_table_goes_by_the_new_name() {
    let plan = planned(
        &catalog(15),
        "ALTER TABLE orders RENAME TO sales;\n\
         ALTER TABLE sales RENAME total TO amount;\n\
         CREATE INDEX by_amount ON sales (amount);\n\
         ALTER TABLE sales ADD CONSTRAINT some CHECK (amount > 0);",
    )
    .expect("a plan");
    let all = sql(&plan, Phase::Expand);
    assert!(
        all.contains(&"CREATE INDEX CONCURRENTLY by_amount ON sales (amount)".to_owned()),
        "{all:?}"
    );
    assert!(sql(&plan, Phase::Validate)[0].contains("VALIDATE CONSTRAINT"));
    let again = undo(&plan, Phase::Contract);
    assert!(again[0].contains("\"amount\" AS \"total\""), "{again:?}");
}

#[test]
fn a_column_is_taken_over_at_contract() {
    let plan = planned(&catalog(15), "ALTER TABLE orders RENAME total TO amount;").expect("a plan");
    assert_eq!(
        sql(&plan, Phase::Expand),
        ["ALTER TABLE \"public\".\"orders\" ADD COLUMN \"amount\" numeric(10,2)"]
    );
    let index = sql(&plan, Phase::Validate);
    assert_eq!(index.len(), 1);
    assert!(
        index[0].starts_with("CREATE UNIQUE INDEX CONCURRENTLY \"_pgshift_rename_orders_total")
    );
    assert!(index[0].ends_with("ON \"public\".\"orders\" USING btree (\"amount\")"));
    let contract = sql(&plan, Phase::Contract);
    let away = contract[0].rsplit(' ').next().expect("a name").to_owned();
    assert!(away.starts_with("\"_pgshift_dropped_amount_"), "{away}");
    assert_eq!(
        contract[1],
        "ALTER TABLE \"public\".\"orders\" RENAME COLUMN \"total\" TO \"amount\""
    );
    assert!(contract[4].starts_with("DROP INDEX CONCURRENTLY"));
    let back = undo(&plan, Phase::Contract);
    assert_eq!(
        back[..2],
        [
            "ALTER TABLE \"public\".\"orders\" RENAME COLUMN \"amount\" TO \"total\"".to_owned(),
            format!("ALTER TABLE \"public\".\"orders\" RENAME COLUMN {away} TO \"amount\""),
        ]
    );
    assert!(
        back[4].contains(&format!("USING btree ({away})")),
        "{back:?}"
    );
    let purge = sql(&plan, Phase::Purge);
    assert!(
        purge[0].starts_with("DROP TRIGGER"),
        "the trigger writes the column"
    );
    assert!(purge[2].ends_with(&format!("DROP COLUMN IF EXISTS {away}")));
    assert!(
        plan.irreversible()
            .iter()
            .all(|(title, _)| !title.contains("rename"))
    );
    assert!(
        !plan
            .warnings
            .iter()
            .any(|w| w.contains("no reverse section"))
    );
}

#[test]
fn several_columns_of_a_table_are_one_swap() {
    let plan = planned(
        &catalog(15),
        "ALTER TABLE orders RENAME total TO amount;\nALTER TABLE orders RENAME note TO \"Remark\";",
    )
    .expect("a plan");
    let swaps: Vec<_> = plan
        .steps
        .iter()
        .filter(|s| s.phase == Phase::Contract && s.title.starts_with("rename in"))
        .collect();
    assert_eq!(swaps.len(), 1);
    assert!(swaps[0].title.ends_with("total to amount, note to Remark"));
    // A unique constraint that is checked at the end of the transaction.
    let indexes = sql(&plan, Phase::Validate);
    assert!(
        indexes[1].starts_with("CREATE INDEX CONCURRENTLY"),
        "{indexes:?}"
    );
    assert!(indexes[1].contains("(\"Remark\")"), "{indexes:?}");
    assert!(
        plan.warnings
            .iter()
            .any(|w| w.contains("gets the default of note"))
    );
}

#[test]
fn a_contract_section_renames_as_written() {
    let plan = planned(
        &catalog(15),
        "-- pgshift: contract\nALTER TABLE orders RENAME total TO amount;\n\
         ALTER TABLE users RENAME TO people;",
    )
    .expect("a plan");
    assert_eq!(
        sql(&plan, Phase::Contract),
        [
            "ALTER TABLE orders RENAME total TO amount",
            "ALTER TABLE users RENAME TO people"
        ]
    );
}

#[test]
fn a_name_that_the_file_gives_away_is_the_authors() {
    for file in [
        "ALTER TABLE orders RENAME TO sales; CREATE VIEW orders AS SELECT id FROM sales;",
        "ALTER TABLE orders RENAME TO old; ALTER TABLE users RENAME TO orders;",
        "ALTER TABLE orders RENAME TO old; CREATE TABLE orders (id int);",
        "CREATE TABLE made (a int); ALTER TABLE made RENAME TO done; \
         ALTER TABLE done RENAME a TO b;",
    ] {
        let plan = planned(&catalog(15), file).expect(file);
        let views = sql(&plan, Phase::Expand);
        assert!(
            !views.iter().any(|s| s.contains("security_invoker")),
            "{file}: {views:?}"
        );
    }
}

#[test]
fn what_no_second_name_can_stand_for() {
    let with = |change: &dyn Fn(&mut crate::catalog::Table)| {
        let mut catalog = catalog(14);
        let orders = catalog.tables.get_mut(&QName::new("public", "orders"));
        change(orders.expect("orders"));
        catalog
    };
    let plain = with(&|_| {});
    let (table, column) = (
        "ALTER TABLE orders RENAME TO sales;",
        "ALTER TABLE orders RENAME total TO amount;",
    );
    refused(
        &with(&|t| t.inherited = true),
        table,
        "inheritance children",
    );
    refused(
        &with(&|t| t.inherited = true),
        column,
        "inheritance children",
    );
    refused(
        &with(&|t| t.settings.row_security = true),
        table,
        "before PostgreSQL 15",
    );
    refused(
        &plain,
        &format!("{table} CREATE INDEX i ON orders (note);"),
        "has the old name",
    );
    refused(
        &plain,
        &format!("CREATE INDEX i ON orders (note); {table}"),
        "has the old name",
    );
    refused(
        &plain,
        &format!("{table} ALTER TABLE sales ALTER note TYPE text;"),
        "stands upon this",
    );
    refused(
        &plain,
        &format!("{column} CREATE VIEW v AS SELECT amount FROM orders;"),
        "would go with it",
    );
    refused(
        &with(&|t| t.columns[2].generated = true),
        column,
        "generated column",
    );
    refused(
        &with(&|t| t.columns[2].type_name = "positive".into()),
        column,
        "domain with constraints",
    );
    for (dependent, words) in [
        ("partition key of table orders", "partitioned by total"),
        ("rule r on table orders", "reads total"),
    ] {
        let catalog = with(&|t| {
            t.dependents.insert("total".into(), vec![dependent.into()]);
        });
        refused(&catalog, column, words);
    }
    let trigger = |definition: &str, before: bool, reads: bool| {
        with(&|t| {
            t.triggers[0].definition = definition.into();
            t.triggers[0].before = before;
            t.mentions = vec![Mention {
                function: "audit()".into(),
                trigger: Some("audit".into()),
                columns: if reads {
                    vec!["total".into()]
                } else {
                    Vec::new()
                },
            }];
        })
    };
    let of = "CREATE TRIGGER audit AFTER UPDATE OF id, total ON public.orders FOR EACH ROW";
    refused(&trigger(of, false, false), column, "UPDATE OF total");
    let every = "CREATE TRIGGER audit BEFORE UPDATE ON public.orders FOR EACH ROW";
    refused(
        &trigger(every, true, true),
        column,
        "fires before a row is written",
    );
    let when = "CREATE TRIGGER audit BEFORE UPDATE ON public.orders FOR EACH ROW \
                WHEN ((new.total > 0))";
    refused(
        &trigger(when, true, false),
        column,
        "fires before a row is written",
    );
    let warned = planned(&trigger("", false, true), column).expect("an AFTER trigger");
    assert!(
        warned
            .warnings
            .iter()
            .any(|w| w.contains("the text of audit()"))
    );

    for (file, words) in [
        ("ALTER TABLE orders RENAME TO users;", "already exists"),
        ("ALTER TABLE orders RENAME total TO note;", "already exists"),
        (
            "ALTER TABLE orders RENAME totl TO amount;",
            "has no column totl",
        ),
    ] {
        let (kind, text) = refusal(&plain, file);
        assert_eq!(kind, ErrorKind::Usage, "{file}");
        assert!(text.contains(words), "{text}");
    }
}
