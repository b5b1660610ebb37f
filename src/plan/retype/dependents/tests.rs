use std::collections::BTreeMap;

use super::*;
use crate::catalog::{Mention, QName};
use crate::plan::testing::catalog;

fn view(schema: &str, name: &str) -> Dependent {
    Dependent {
        kind: DependentKind::View,
        oid: 1,
        what: format!("view {schema}.{name}"),
        depth: 1,
        relation: Some(QName::new(schema, name)),
        column: None,
        drop: format!("DROP VIEW {schema}.{name}"),
        create: vec![format!("CREATE VIEW {schema}.{name} AS SELECT 1")],
        obstacles: Vec::new(),
        reads: Vec::new(),
        stored: None,
    }
}

fn orders() -> Table {
    let catalog = catalog(15);
    let mut tables = catalog.tables.into_values();
    tables.find(|t| t.name.name == "orders").expect("orders")
}

#[test]
fn what_cannot_follow_has_a_reason_and_a_way_out() {
    assert_eq!(refusal(&[view("app", "v")]), None);
    let mut all = vec![view("app", "v"), view("app", "w")];
    for (obstacle, word) in [
        (Obstacle::Owner, "no member of"),
        (Obstacle::Schema, "may not create"),
        (Obstacle::Extension, "an extension"),
        (Obstacle::Label, "security label"),
        (Obstacle::Temporary, "of another session"),
        (Obstacle::PassedOn, "others than its owner"),
        (Obstacle::Circle, "on itself"),
        (Obstacle::Fixed, "a CHECK"),
    ] {
        all[1].obstacles = vec![obstacle];
        if obstacle == Obstacle::Fixed {
            all[1].drop.clear();
        }
        let (why, help) = refusal(&all).expect(word);
        assert!(why.starts_with("view app.w depends on it, and "), "{why}");
        assert!(why.contains(word), "{why}");
        assert!(!help.is_empty());
    }
    all[1].kind = DependentKind::Other;
    let (why, _) = refusal(&all).expect("other");
    assert!(why.contains("cannot follow"), "{why}");
}

#[test]
fn materialized_views_are_made_beside_with_what_they_read() {
    let mut all: Vec<Dependent> = ["unread", "low", "high", "kept", "over"]
        .map(|name| view("app", name))
        .into();
    all[3].kind = DependentKind::MaterializedView;
    all[3].stored = Some(crate::catalog::dependents::Stored::default());
    all[2].reads = vec![1];
    all[3].reads = vec![2];
    all[4].reads = vec![3, 0];
    let places: Vec<usize> = beside::made_beside(&all).into_iter().collect();
    assert_eq!(places, [1, 2, 3]);
    assert_eq!(refusal(&all), None);

    all[1].kind = DependentKind::Function;
    let (why, help) = refusal(&all).expect("a function cannot be there twice");
    assert!(
        why.starts_with("a materialized view reads view app.low"),
        "{why}"
    );
    assert!(help.contains("later one"), "{help}");
    all[2].reads.clear();
    assert_eq!(refusal(&all), None);
}

#[test]
fn a_materialized_view_is_another_with_another_index() {
    let index = |text: &str| crate::catalog::details::Definition {
        kind: crate::catalog::details::DefinitionKind::Index,
        name: "i".into(),
        text: text.into(),
        comment: None,
        tablespace: None,
        clustered: false,
        replica_identity: false,
        targets: Vec::new(),
    };
    let with = |indexes: Vec<_>, bytes| Dependent {
        stored: Some(crate::catalog::dependents::Stored {
            definitions: indexes,
            statistics: Vec::new(),
            bytes,
        }),
        ..view("app", "m")
    };
    let one = with(vec![index("a")], 1).fingerprint();
    assert_ne!(one, with(vec![index("b")], 1).fingerprint());
    assert_ne!(one, with(Vec::new(), 1).fingerprint());
    assert_eq!(one, with(vec![index("a")], 2).fingerprint(), "it may grow");
}

#[test]
fn the_expression_of_a_virtual_column() {
    let mut column = view("app", "t");
    column.create =
        vec!["ALTER TABLE app.t ALTER COLUMN \"G g\" SET EXPRESSION AS ((n + 1))".into()];
    assert_eq!(regenerated(&column, "c"), None);
    column.kind = DependentKind::Generated;
    column.drop = String::new();
    assert_eq!(
        regenerated(&column, "pg_temp.c"),
        Some((
            "ALTER TABLE pg_temp.c ALTER COLUMN \"G g\" SET EXPRESSION AS (NULL)".into(),
            "ALTER TABLE pg_temp.c ALTER COLUMN \"G g\" SET EXPRESSION AS ((n + 1))".into()
        ))
    );
}

#[test]
fn a_stored_column_is_tried_beside_where_its_expression_is_fixed() {
    let mut column = view("app", "t");
    column.kind = DependentKind::Generated;
    column.drop = "ALTER TABLE app.t DROP COLUMN \"ADD COLUMN\"".into();
    let text =
        "ALTER TABLE app.t ADD COLUMN \"ADD COLUMN\" text GENERATED ALWAYS AS (upper(c)) STORED";
    column.create = vec![text.into()];
    let (none, again) = regenerated(&column, "pg_temp.c").expect("two statements");
    assert_eq!(
        none,
        "ALTER TABLE pg_temp.c ALTER COLUMN \"ADD COLUMN\" DROP EXPRESSION"
    );
    assert!(
        again.starts_with(
            "ALTER TABLE pg_temp.c ADD COLUMN _pgshift_again text GENERATED ALWAYS AS (upper(c)) STORED;"
        ),
        "{again}"
    );
    assert!(refusal(std::slice::from_ref(&column)).is_none());
    let mut kept = view("app", "m");
    kept.kind = DependentKind::MaterializedView;
    kept.stored = Some(crate::catalog::dependents::Stored::default());
    let (why, help) = refusal(&[column, kept]).expect("refused");
    assert!(why.contains("would not outlive"), "{why}");
    assert!(help.contains("17"), "{help}");
}

#[test]
fn only_what_the_server_would_refuse_is_refused_at_once() {
    let all = [
        "generated column g of table t",
        "view v",
        "partition key of table t",
        "policy p",
    ];
    let mut table = orders();
    let all = all.map(str::to_owned);
    assert_eq!(refused_at_once(&all), ["partition key of table t"]);
    assert_eq!(stored(&table, &all), ["generated column g of table t"]);
    table.columns[0].name = "g".into();
    table.columns[0].generated = true;
    table.columns[0].is_virtual = true;
    assert!(stored(&table, &all).is_empty());
}

#[test]
fn a_change_since_the_plan_is_named() {
    let planned = [
        view("app", "same"),
        view("app", "other"),
        view("app", "gone"),
    ];
    let relies = |exactly: bool| Relies {
        table: QName::new("app", "t"),
        columns: vec!["n".into()],
        own: Own::Nothing,
        dependents: planned
            .iter()
            .map(|d| {
                let fingerprint = if exactly {
                    d.fingerprint()
                } else {
                    String::new()
                };
                (d.what.clone(), fingerprint)
            })
            .collect::<BTreeMap<_, _>>(),
    };
    assert_eq!(changed(&relies(true), &planned, &[]), None);
    let mut now = vec![
        view("app", "same"),
        view("app", "other"),
        view("app", "new"),
    ];
    now[1]
        .create
        .push("GRANT SELECT ON app.other TO PUBLIC".into());
    assert_eq!(
        changed(&relies(true), &now, &[]).as_deref(),
        Some(
            "what depends on n of app.t has changed since the plan: view app.gone is gone, or no \
             longer depends on it; view app.other is not as it was; view app.new is new"
        )
    );
    let loose = changed(&relies(false), &now, &[]).expect("gone and new");
    assert!(!loose.contains("not as it was"), "{loose}");
}

/// One statement is not two.
#[test]
fn a_fingerprint_tells_where_statements_end() {
    let (mut one, mut two) = (view("a", "v"), view("a", "v"));
    one.create = vec!["ab".into(), "c".into()];
    two.create = vec!["a".into(), "bc".into()];
    assert_ne!(one.fingerprint(), two.fingerprint());
    assert_eq!(one.fingerprint(), one.clone().fingerprint());
}

#[test]
fn a_rehearsal_needs_names_that_are_clear() {
    let table = orders();
    let path = |all: &[Dependent]| rehearsal_path(&[&table], all);
    assert_eq!(path(&[]).as_deref(), Some("\"public\""));
    assert_eq!(
        path(&[view("a b", "v"), view("public", "w")]).as_deref(),
        Some("\"public\", \"a b\"")
    );
    assert_eq!(path(&[view("a", "v"), view("b", "v")]), None);
    assert_eq!(path(&[view("a", "orders")]), None);
    let mut other = orders();
    other.name.schema = "apart".into();
    assert_eq!(rehearsal_path(&[&table, &other], &[]), None);
    other.name.name = "others".into();
    assert_eq!(
        rehearsal_path(&[&table, &other], &[]).as_deref(),
        Some("\"public\", \"apart\"")
    );
}

#[test]
fn what_reads_several_tables_is_made_once_and_after_what_it_reads() {
    let at = |name: &str, oid, depth, reads: &[usize]| Dependent {
        oid,
        depth,
        reads: reads.to_vec(),
        ..view("app", name)
    };
    // `both` reads `low` of the one and `deep` of the other, which is over `mid`.
    let one = [at("low", 7, 1, &[]), at("both", 3, 2, &[0])];
    let other = [
        at("mid", 9, 1, &[]),
        at("deep", 8, 2, &[0]),
        at("both", 3, 3, &[1]),
    ];
    let shown = |all: &[Dependent]| -> Vec<(String, Vec<usize>)> {
        let shown = |d: &Dependent| (d.what.clone(), d.reads.clone());
        all.iter().map(shown).collect()
    };
    let expected = [
        ("view app.low".to_owned(), vec![]),
        ("view app.mid".to_owned(), vec![]),
        ("view app.deep".to_owned(), vec![1]),
        ("view app.both".to_owned(), vec![0, 2]),
    ];
    assert_eq!(shown(&merged([&one[..], &other].into_iter())), expected);
    assert_eq!(shown(&merged([&other[..], &one].into_iter())), expected);
    assert_eq!(shown(&merged([&one[..]].into_iter())), shown(&one));
}

#[test]
fn functions_whose_text_names_the_column() {
    let mut table = orders();
    let retype = super::super::Retype {
        column: "note".into(),
        shadow: "s".into(),
        old: "o".into(),
        definition: "text".into(),
        type_text: "text".into(),
        default: super::super::NewDefault::default(),
        using: None,
        span: crate::sql::Span::default(),
    };
    table.mentions = ["a", "b"]
        .map(|column| Mention {
            function: format!("app.f_{column}(integer)"),
            trigger: None,
            columns: vec![column.into()],
        })
        .into();
    assert_eq!(mentioned(&table, std::slice::from_ref(&retype)), None);
    table.mentions[1].columns.push("note".into());
    let warning = mentioned(&table, &[retype]).expect("one");
    assert!(
        warning.contains("note of public.orders: app.f_b(integer);"),
        "{warning}"
    );
}
