use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

fn piece(text: &str) -> Piece {
    Piece {
        text: text.to_owned(),
        span: Span::new(0, text.len()),
    }
}

#[track_caller]
fn update(text: &str) -> Update {
    match parse_update(text) {
        Ok(update) => update,
        Err(d) => panic!("{text}: {} @ {}", d.message, d.span.of(text)),
    }
}

/// One part on each line, as found, and checked to be where its span says.
fn show(text: &str) -> String {
    let update = update(text);
    let mut out = String::new();
    let check = |piece: &Piece| assert_eq!(piece.span.of(text), piece.text);
    let _ = write!(out, "{:?}.{}", update.table.schema, update.table.name);
    let _ = writeln!(out, " only={} as {}", update.only, update.range_name());
    for a in &update.assignments {
        check(&a.expr);
        let _ = writeln!(out, "{} = {}", a.column, a.expr.text);
    }
    if let Some(p) = &update.from {
        check(p);
        let _ = writeln!(out, "from {}", p.text);
    }
    if let Some(p) = &update.where_ {
        check(p);
        let _ = writeln!(out, "where {}", p.text);
    }
    for p in &update.conjuncts {
        check(p);
        let _ = writeln!(out, "and {}", p.text);
    }
    out
}

fn error(text: &str) -> String {
    let d = parse_update(text).expect_err("is refused");
    assert!(d.help.is_some(), "{}", d.message);
    format!("{} @ {}", d.message, d.span.of(text))
}

fn delete_error(text: &str) -> String {
    let d = parse_delete(text).expect_err("is refused");
    assert!(d.help.is_some(), "{}", d.message);
    format!("{} @ {}", d.message, d.span.of(text))
}

#[test]
fn takes_an_update_apart() {
    insta::assert_snapshot!(show("UPDATE orders SET total_cents = round(total * 100)::bigint"), @r#"
None.orders only=false as orders
total_cents = round(total * 100)::bigint
"#);
    insta::assert_snapshot!(
        show("update only \"S\".\"Or\"\"ders\" as O set A=1, \"b c\" =-x /*,*/ + (1, 2)[1] -- end\nwhere 1=1 -- really"),
        @r#"
Some("S").Or"ders only=true as o
a = 1
b c = -x /*,*/ + (1, 2)[1]
where 1=1
and 1=1
"#
    );
    insta::assert_snapshot!(
        show("UPDATE t SET a = CASE WHEN x AND y THEN 'a, b' ELSE f(a, b) END, \
              b = a IS NOT DISTINCT FROM c, c = t.from \
              FROM u JOIN v ON u.a IS DISTINCT FROM v.a \
              WHERE t.id = u.id AND (p OR q) AND n BETWEEN SYMMETRIC 1 AND 2 AND \
              CASE WHEN m AND k THEN true END AND t.b IS NULL"),
        @r#"
None.t only=false as t
a = CASE WHEN x AND y THEN 'a, b' ELSE f(a, b) END
b = a IS NOT DISTINCT FROM c
c = t.from
from u JOIN v ON u.a IS DISTINCT FROM v.a
where t.id = u.id AND (p OR q) AND n BETWEEN SYMMETRIC 1 AND 2 AND CASE WHEN m AND k THEN true END AND t.b IS NULL
and t.id = u.id
and (p OR q)
and n BETWEEN SYMMETRIC 1 AND 2
and CASE WHEN m AND k THEN true END
and t.b IS NULL
"#
    );
    insta::assert_snapshot!(show("UPDATE t x SET a = 1 WHERE a = 1 AND b OR c"), @r#"
None.t only=false as x
a = 1
where a = 1 AND b OR c
and a = 1 AND b OR c
"#);
    insta::assert_snapshot!(show("UPDATE ONLY (s.t) SET a = (SELECT max(b) FROM u WHERE c LIMIT 1)"), @r#"
Some("s").t only=true as t
a = (SELECT max(b) FROM u WHERE c LIMIT 1)
"#);
}

#[test]
fn words_of_types_and_functions_begin_no_clause() {
    let text = "UPDATE t SET a = b::timestamp with time zone AT TIME ZONE 'UTC' \
                FROM ROWS FROM (f(1)) WITH ORDINALITY AS x WHERE c IS JSON WITH UNIQUE KEYS AND d";
    let update = update(text);
    assert_eq!(update.assignments.len(), 1);
    assert_eq!(update.conjuncts.len(), 2);
}

#[test]
fn takes_a_delete_apart() {
    let text = "DELETE FROM s.t AS x USING u, v WHERE x.id = u.id AND x.c BETWEEN 1 AND 2";
    let delete = parse_delete(text).expect("parses");
    assert_eq!(delete.table.schema.as_deref(), Some("s"));
    assert_eq!(delete.range_name(), "x");
    assert_eq!(delete.using.expect("using").text, "u, v");
    let conjuncts: Vec<_> = delete.conjuncts.iter().map(|c| c.text.as_str()).collect();
    assert_eq!(conjuncts, ["x.id = u.id", "x.c BETWEEN 1 AND 2"]);
    let all = parse_delete("DELETE FROM t").expect("parses");
    assert_eq!((all.where_, all.alias, all.only), (None, None, false));
    assert!(
        parse_delete("DELETE FROM ONLY t WHERE a")
            .expect("parses")
            .only
    );
}

#[test]
fn refuses_what_cannot_run_in_batches() {
    insta::assert_snapshot!(error("UPDATE t SET (a, b) = (1, 2)"), @"a list of columns on the left of `=` is not taken @ (");
    insta::assert_snapshot!(error("WITH x AS (SELECT 1) UPDATE t SET a = 1"), @"WITH before UPDATE is not taken @ WITH");
    insta::assert_snapshot!(error("UPDATE t SET a = 1 RETURNING a"), @"RETURNING cannot be in this UPDATE @ RETURNING");
    insta::assert_snapshot!(error("UPDATE t SET a = 1 WHERE CURRENT OF c"), @"WHERE CURRENT OF needs a cursor, and there is none @ CURRENT");
    insta::assert_snapshot!(error("UPDATE t SET a[1] = 1"), @"only a whole column can be assigned @ a[");
    insta::assert_snapshot!(error("UPDATE t SET a.b = 1"), @"only a whole column can be assigned @ a.");
    insta::assert_snapshot!(error("UPDATE t SET a = Default"), @"DEFAULT as a value is not taken @ Default");
    insta::assert_snapshot!(error("UPDATE t * SET a = 1"), @"`*` after the table is not taken @ *");
    insta::assert_snapshot!(error("UPDATE t SET a = 1, \"a\" = 2"), @r#"column a is set twice @ "a""#);
    insta::assert_snapshot!(error("UPDATE t SET a = 1 WHERE b LIMIT 10"), @"LIMIT cannot be in this UPDATE @ LIMIT");
    insta::assert_snapshot!(error("UPDATE d.s.t SET a = 1"), @"a table of another database cannot be written here @ .");
    insta::assert_snapshot!(delete_error("DELETE FROM t WHERE a RETURNING *"), @"RETURNING cannot be in this DELETE @ RETURNING");
    insta::assert_snapshot!(delete_error("DELETE FROM t ORDER BY a"), @"ORDER cannot be in this DELETE @ ORDER");
}

#[test]
fn refuses_what_is_no_update() {
    insta::assert_snapshot!(error(""), @"expected UPDATE, but the statement ends @");
    insta::assert_snapshot!(error("SELECT 1"), @"SELECT cannot be in this UPDATE @ SELECT");
    insta::assert_snapshot!(error("UPDATE t"), @"expected SET, but the statement ends @");
    insta::assert_snapshot!(error("UPDATE t SET"), @"expected the name of a column, but the statement ends @");
    insta::assert_snapshot!(error("UPDATE t SET a"), @"expected `=`, but the statement ends @");
    insta::assert_snapshot!(error("UPDATE t SET a ="), @"nothing follows `=` @");
    insta::assert_snapshot!(error("UPDATE t SET a = 1,"), @"expected the name of a column, but the statement ends @");
    insta::assert_snapshot!(error("UPDATE t SET a = 1 WHERE"), @"nothing follows WHERE @");
    insta::assert_snapshot!(error("UPDATE t SET a = 1 WHERE a AND"), @"AND has no operand on one side @ AND");
    insta::assert_snapshot!(error("UPDATE t SET a = 1 WHERE AND a"), @"AND has no operand on one side @ AND");
    insta::assert_snapshot!(error("UPDATE t SET a = 1 WHERE b FROM u"), @"FROM after WHERE @ FROM");
    insta::assert_snapshot!(error("UPDATE t SET a = (1"), @"`(` is never closed @ (");
    insta::assert_snapshot!(error("UPDATE t SET a = 1)"), @"`)` closes nothing @ )");
    insta::assert_snapshot!(error("UPDATE t SET a = CASE WHEN b THEN 1"), @"`CASE` is never closed @ CASE");
    insta::assert_snapshot!(error("UPDATE t SET a = (CASE WHEN b THEN 1)"), @"`)` closes nothing @ )");
    insta::assert_snapshot!(error("UPDATE t SET a = 1; UPDATE t SET a = 2"), @"`;` inside a statement @ ;");
    insta::assert_snapshot!(error("UPDATE t SET a = 'x"), @"this is not SQL @ 'x");
    insta::assert_snapshot!(delete_error("DELETE t WHERE a"), @"expected FROM, found `t` @ t");
}

#[test]
fn the_second_parser_must_agree() {
    let mut ours = update("UPDATE s.T SET a = 1, b = 2");
    assert!(check::update("UPDATE s.t SET a = 1, b = 2", &ours).is_ok());
    assert!(check::update("UPDATE s.u SET a = 1, b = 2", &ours).is_err());
    assert!(check::update("UPDATE t SET a = 1, b = 2", &ours).is_err());
    assert!(check::update("UPDATE s.t SET a = 1", &ours).is_err());
    assert!(check::update("SELECT 1", &ours).is_err());
    assert!(check::update("this is not parsed", &ours).is_ok());
    ours.only = true;
    assert!(check::update("UPDATE ONLY s.t SET a = 1, b = 2", &ours).is_ok());
    let ours = parse_delete("DELETE FROM t WHERE a").expect("parses");
    assert!(check::delete("DELETE FROM \"T\" WHERE a", &ours).is_err());
}

#[test]
fn recognises_null_tests() {
    let test = |text: &str| is_null_test(&piece(text), "t");
    for text in [
        "a IS NULL",
        "A is null",
        "t.a IS NULL",
        "((a) IS NULL)",
        "(t.a is /* x */ null)",
        "a ISNULL",
        "\"a\" IS NULL",
    ] {
        assert_eq!(test(text).as_deref(), Some("a"), "{text}");
    }
    for text in [
        "a IS NOT NULL",
        "u.a IS NULL",
        "f(a) IS NULL",
        "a + b IS NULL",
        "null IS NULL",
        "a IS NULL OR b IS NULL",
        "(a IS NULL) = (b IS NULL)",
        "s.t.a IS NULL",
        "a",
        "",
    ] {
        assert_eq!(test(text), None, "{text}");
    }
}

#[test]
fn names_that_the_server_cuts_are_cut() {
    let long = "x".repeat(70);
    assert_eq!(
        update(&format!("UPDATE {long} SET a = 1")).table.name.len(),
        63
    );
}

/// An expression with its own parentheses balanced.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("a".to_owned()),
        Just("\"b,\"".to_owned()),
        Just("', WHERE '".to_owned()),
        Just("$$ AND $$".to_owned()),
        Just("1.5".to_owned()),
        Just("t.c".to_owned()),
        Just("/* , FROM */ d -- AND\n".to_owned()),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} + {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("f({a}, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} AND {b})")),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("CASE WHEN {a} AND {b} THEN {a} ELSE {b} END")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} BETWEEN {b} AND {a}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("({a} IS DISTINCT FROM {b})")),
        ]
    })
}

fn code(text: &str) -> Vec<&str> {
    lex_code(text).into_iter().map(|t| t.text(text)).collect()
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,40}") {
        let _ = parse_update(&text);
        let _ = parse_update(&format!("UPDATE t SET a = {text}"));
        let _ = parse_delete(&format!("DELETE FROM t WHERE {text}"));
        let _ = identifiers(&text);
        let _ = function_names(&text);
        let _ = is_null_test(&piece(&text), "t");
    }

    #[test]
    fn pieces_are_what_was_put_together(
        sets in proptest::collection::vec(expression(), 1..4),
        conjuncts in proptest::collection::vec(expression(), 1..4),
    ) {
        let set: Vec<String> =
            sets.iter().enumerate().map(|(i, e)| format!("c{i} = {e}")).collect();
        let text = format!(
            "UPDATE t SET {} FROM u WHERE {}",
            set.join(", "),
            conjuncts.join(" AND ")
        );
        let update = parse_update(&text).expect("parses");
        prop_assert_eq!(update.assignments.len(), sets.len());
        for (found, given) in update.assignments.iter().zip(&sets) {
            prop_assert_eq!(code(&found.expr.text), code(given));
            prop_assert_eq!(found.expr.span.of(&text), &found.expr.text);
        }
        prop_assert_eq!(update.conjuncts.len(), conjuncts.len());
        for (found, given) in update.conjuncts.iter().zip(&conjuncts) {
            prop_assert_eq!(code(&found.text), code(given));
            // A piece may be put between parentheses.
            let wrapped = format!("DELETE FROM t WHERE ({})", found.text);
            prop_assert!(parse_delete(&wrapped).is_ok(), "{}", wrapped);
        }
    }
}
