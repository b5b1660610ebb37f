use super::*;

fn base(name: &str, sql: &str) -> Type {
    Type {
        name: name.to_owned(),
        sql: sql.to_owned(),
        kind: TypeKind::Base,
    }
}

fn column(name: &str, value: Type) -> Column {
    Column {
        name: name.to_owned(),
        declared: value.sql.clone(),
        value,
        domain_checks: Vec::new(),
        not_null: true,
        by_server: false,
        has_default: false,
    }
}

fn table(name: &str, keys: &[(&str, &str)]) -> Table {
    let mut columns = vec![column("id", base("int8", "bigint"))];
    columns.extend(
        keys.iter()
            .map(|(name, _)| column(name.trim_end_matches('?'), base("int8", "bigint"))),
    );
    for ((name, _), column) in keys.iter().zip(&mut columns[1..]) {
        column.not_null = !name.ends_with('?');
    }
    Table {
        name: QName::new("public", name),
        refused: None,
        has_rows: false,
        columns,
        checks: Vec::new(),
        partitions: Vec::new(),
        deferrable_key: false,
        deferrable_columns: Vec::new(),
        foreign_keys: keys
            .iter()
            .map(|(name, other)| ForeignKey {
                columns: vec![name.trim_end_matches('?').to_owned()],
                table: QName::new("public", *other),
                references: vec!["id".to_owned()],
            })
            .collect(),
    }
}

const BATCH: Batch = Batch {
    first: 1,
    tries: 20,
    keep: 10,
    nulls: 0.0,
};

#[test]
fn parents_come_first_and_nullable_keys_break_circles() {
    let tables = [
        table("items", &[("order_id", "orders")]),
        table("orders", &[("last_item?", "items"), ("parent?", "orders")]),
        table("a", &[("b", "b")]),
        table("b", &[("a", "a")]),
        table("c", &[("elsewhere", "not_here")]),
    ];
    let (turns, stuck) = order(&tables);
    let names: Vec<&str> = turns
        .iter()
        .map(|t| tables[t.table].name.name.as_str())
        .collect();
    assert_eq!(names, ["c", "orders", "items"]);
    assert_eq!(turns[1].left_null.len(), 2, "both stay null");
    assert_eq!(turns[2].left_null.len(), 0);
    let stuck: Vec<(&str, &str)> = stuck
        .iter()
        .map(|(i, why)| (tables[*i].name.name.as_str(), why.as_str()))
        .collect();
    assert_eq!(stuck[0].0, "a");
    assert!(stuck[0].1.contains("public.b"), "{}", stuck[0].1);
}

#[test]
fn what_has_no_values_is_said() {
    let mut odd = table("odd", &[]);
    odd.columns.push(column("x", base("tid", "tid")));
    let why = insert(&odd, &std::collections::BTreeSet::new(), BATCH).expect_err("no generator");
    assert!(why.contains("column x") && why.contains("tid"), "{why}");
    // With a default, or nullable, it is left to the server.
    odd.columns[1].has_default = true;
    let sql = insert(&odd, &std::collections::BTreeSet::new(), BATCH).expect("left out");
    assert!(!sql.contains("\"x\""), "{sql}");
}

#[test]
fn constants_of_conditions_are_tried() {
    let mut t = table("t", &[]);
    t.columns.push(column("state", base("text", "text")));
    t.checks = vec![(
        "states".to_owned(),
        "state = ANY (ARRAY['new'::text, 'it''s'::text])".to_owned(),
    )];
    t.partitions = vec!["((id >= 5) AND (id < '-7'::integer))".to_owned()];
    let sql = insert(&t, &std::collections::BTreeSet::new(), BATCH).expect("a statement");
    for part in [
        "CAST('new' AS text)",
        "CAST('it''s' AS text)",
        "(5)",
        "(-7)",
    ] {
        assert!(sql.contains(part), "{part} in {sql}");
    }
    assert!(sql.contains("WHERE coalesce((state = ANY"), "{sql}");
}

#[test]
fn a_domain_is_judged_on_its_column() {
    assert_eq!(
        super::hints::on_column("((VALUE > 0) AND (VALUE <> 'VALUE'))", "\"n\""),
        "((\"n\" > 0) AND (\"n\" <> 'VALUE'))"
    );
}
