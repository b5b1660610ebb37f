use proptest::prelude::*;

use super::*;
use crate::sql::lex::{TokenKind, lex};

fn target(column: &str, expr: &str) -> Target {
    Target {
        column: column.into(),
        type_name: "text".into(),
        has_equality: true,
        expr: expr.into(),
        volatile: false,
    }
}

fn mapping(targets: &[&str], reads: &[&str]) -> Mapping {
    Mapping {
        alias: "t".into(),
        from: None,
        condition: None,
        targets: targets.iter().map(|t| target(t, "x")).collect(),
        rest: false,
        reads: reads.iter().map(|r| (*r).to_owned()).collect(),
        or_null: false,
    }
}

fn group(components: Vec<Component>) -> SyncGroup {
    let table = QName::new("public", "orders");
    SyncGroup {
        function: function_name(&table, "m"),
        trigger: trigger_name(&table, "m", &[]).expect("a name"),
        table,
        partitioned: false,
        search_path: "\"public\", pg_temp".into(),
        components,
    }
}

#[test]
fn the_function_of_both_directions() {
    let mut forward = mapping(&["cents"], &["total"]);
    forward.targets[0].expr = "round(total * 100) -- half up\n::bigint".into();
    let mut reverse = mapping(&["total"], &["cents"]);
    reverse.targets[0].expr = "cents / 100.0".into();
    reverse.condition = Some("cents IS NOT NULL".into());
    let group = group(components(vec![forward], vec![reverse]).expect("linked"));
    insta::assert_snapshot!(group.create(Form::Both, &[]).join(";\n"), @r#"
CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_4d88e4a2"() RETURNS trigger LANGUAGE plpgsql
SET search_path = "public", pg_temp
AS $pgshift$
#variable_conflict use_column
DECLARE
  pgshift_row record;
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW."cents" IS NULL THEN
      SELECT (round(total * 100) -- half up
::bigint
) AS c0 INTO pgshift_row FROM (SELECT NEW."total" AS "total") AS "t" LIMIT 1;
      IF FOUND THEN
        NEW."cents" := pgshift_row.c0;
      END IF;
    ELSE
      SELECT (cents / 100.0
) AS c0 INTO pgshift_row FROM (SELECT NEW."cents" AS "cents") AS "t" WHERE cents IS NOT NULL
 LIMIT 1;
      IF FOUND THEN
        NEW."total" := pgshift_row.c0;
      END IF;
    END IF;
  ELSIF ROW(NEW."cents")::record OPERATOR(pg_catalog.*<>) ROW(OLD."cents")::record THEN
    SELECT (cents / 100.0
) AS c0 INTO pgshift_row FROM (SELECT NEW."cents" AS "cents") AS "t" WHERE cents IS NOT NULL
 LIMIT 1;
    IF FOUND THEN
      NEW."total" := pgshift_row.c0;
    END IF;
  ELSIF ROW(NEW."total")::record OPERATOR(pg_catalog.*<>) ROW(OLD."total")::record THEN
    NEW."cents" := NULL;
    SELECT (round(total * 100) -- half up
::bigint
) AS c0 INTO pgshift_row FROM (SELECT NEW."total" AS "total") AS "t" LIMIT 1;
    IF FOUND THEN
      NEW."cents" := pgshift_row.c0;
    END IF;
  ELSE
    IF NEW."cents" IS NULL THEN
      SELECT (round(total * 100) -- half up
::bigint
) AS c0 INTO pgshift_row FROM (SELECT NEW."total" AS "total") AS "t" LIMIT 1;
      IF FOUND THEN
        NEW."cents" := pgshift_row.c0;
      END IF;
    END IF;
  END IF;
  RETURN NEW;
END
$pgshift$;
REVOKE ALL ON FUNCTION "pgshift"."sync_orders_4d88e4a2"() FROM PUBLIC;
CREATE TRIGGER "zzz_pgshift_sync_99_orders_4d88e4a2" BEFORE INSERT OR UPDATE ON "public"."orders" FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill') EXECUTE FUNCTION "pgshift"."sync_orders_4d88e4a2"()
"#);
    let renamed = [
        Renamed {
            column: "total".into(),
            now: "_gone".into(),
        },
        Renamed {
            column: "cents".into(),
            now: "total".into(),
        },
    ];
    insta::assert_snapshot!(group.function_sql(Form::ReverseOnly, &renamed), @r#"
CREATE OR REPLACE FUNCTION "pgshift"."sync_orders_4d88e4a2"() RETURNS trigger LANGUAGE plpgsql
SET search_path = "public", pg_temp
AS $pgshift$
#variable_conflict use_column
DECLARE
  pgshift_row record;
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NOT (NEW."total" IS NULL) THEN
      SELECT (cents / 100.0
) AS c0 INTO pgshift_row FROM (SELECT NEW."total" AS "cents") AS "t" WHERE cents IS NOT NULL
 LIMIT 1;
      IF FOUND THEN
        NEW."_gone" := pgshift_row.c0;
      END IF;
    END IF;
  ELSIF ROW(NEW."total")::record OPERATOR(pg_catalog.*<>) ROW(OLD."total")::record THEN
    SELECT (cents / 100.0
) AS c0 INTO pgshift_row FROM (SELECT NEW."total" AS "cents") AS "t" WHERE cents IS NOT NULL
 LIMIT 1;
    IF FOUND THEN
      NEW."_gone" := pgshift_row.c0;
    END IF;
  END IF;
  RETURN NEW;
END
$pgshift$
"#);
}

#[test]
fn mappings_that_fill_one_column_take_turns() {
    let mut rest = mapping(&["b"], &[]);
    rest.rest = true;
    let all = components(vec![mapping(&["b"], &["a"]), rest], vec![]).expect("linked");
    assert_eq!(all.len(), 1);
    let sql = group(all).function_sql(Form::Both, &[]);
    // On insert, on change, and for a row that was not reached: the second only where the first
    // gave nothing.
    assert_eq!(
        sql.matches(r#"IF NEW."b" IS NULL THEN"#).count(),
        1 + 1 + 1 + 2
    );
}

#[test]
fn a_component_stays_where_it_was_first() {
    // c follows b, so b comes first although a third mapping is merged into it.
    let forward = vec![
        mapping(&["b"], &["a"]),
        mapping(&["c"], &["b"]),
        mapping(&["b"], &["z"]),
    ];
    let all = components(forward, vec![]).expect("linked");
    let names: Vec<_> = all.iter().map(Component::target_names).collect();
    assert_eq!(names, [["b"], ["c"]]);
    assert_eq!(
        components(vec![mapping(&["b"], &["a"])], vec![mapping(&["a"], &["q"])]),
        Err(0)
    );
}

#[test]
fn a_trigger_sorts_after_others_and_before_older_ones_of_ours() {
    let table = QName::new("public", "orders");
    let name = |existing: &[&str]| trigger_name(&table, "m", existing);
    let first = name(&["audit", "zz_last"]).expect("a name");
    assert!(first.starts_with("zzz_pgshift_sync_99_orders_"), "{first}");
    let second = name(&["audit", &first]).expect("a name");
    assert!(second < first && is_ours(&second), "{second}");
    assert!(
        name(&["zzzz"])
            .expect("a name")
            .starts_with("~pgshift_sync_99_")
    );
    assert_eq!(name(&["~~"]), Err("~~".to_owned()));
    assert_eq!(name(&["\u{7f}", &first]), Err("\u{7f}".to_owned()));
    // Another migration, or a table whose name reads alike, has a function of its own.
    assert_ne!(function_name(&table, "m"), function_name(&table, "n"));
    assert_ne!(
        function_name(&QName::new("a.b", "c"), "m"),
        function_name(&QName::new("a", "b.c"), "m")
    );
    let full: Vec<String> = (0..100)
        .map(|n| format!("zzz_pgshift_sync_{n:02}_x"))
        .collect();
    let full: Vec<&str> = full.iter().map(String::as_str).collect();
    assert!(name(&full).expect("a name").starts_with('~'));
}

fn columns() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-f]", 1..3).prop_map(|mut all| {
        all.sort();
        all.dedup();
        all
    })
}

fn mappings(targets: &'static str) -> impl Strategy<Value = Vec<Mapping>> {
    let one = (columns(), columns()).prop_map(move |(t, r)| {
        let t: Vec<String> = t.iter().map(|c| format!("{targets}{c}")).collect();
        let other = if targets == "new_" { "old_" } else { "new_" };
        let r: Vec<String> = r.iter().map(|c| format!("{other}{c}")).collect();
        mapping(
            &t.iter().map(String::as_str).collect::<Vec<_>>(),
            &r.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    });
    prop::collection::vec(one, 0..6)
}

/// Texts that are an expression for the lexer: whole tokens, no unbalanced parenthesis.
fn expression() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-z]{1,4}",
        Just("$pgshift$".to_owned()).prop_map(|t| format!("{t} a; $$ {t}")),
        Just("'$pgshift$ $pgshift1$'".to_owned()),
        Just("'it''s; --'".to_owned()),
        Just("E'\\''".to_owned()),
        Just("-- comment; ' \" $x$\n".to_owned()),
        Just("/* ; ' $pgshift$ */".to_owned()),
        Just("\"a\"\"$pgshift$\"".to_owned()),
        Just("(a, (b))".to_owned()),
        Just("U&\"d\\0061t\"".to_owned()),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| format!("{} x", parts.join(" ")))
}

proptest! {
    #[test]
    fn components_lose_no_mapping(forward in mappings("new_"), reverse in mappings("old_")) {
        let (all_forward, all_reverse) = (forward.clone(), reverse.clone());
        match components(forward, reverse) {
            Ok(found) => {
                let count = |m: &Mapping, all: &[&Mapping]| all.iter().filter(|o| **o == m).count();
                let f: Vec<_> = found.iter().flat_map(|c| &c.forward).collect();
                let r: Vec<_> = found.iter().flat_map(|c| &c.reverse).collect();
                prop_assert_eq!((f.len(), r.len()), (all_forward.len(), all_reverse.len()));
                let (af, ar): (Vec<_>, Vec<_>) = (all_forward.iter().collect(), all_reverse.iter().collect());
                prop_assert!(f.iter().all(|m| count(m, &f) == count(m, &af)));
                prop_assert!(r.iter().all(|m| count(m, &r) == count(m, &ar)));
                // No column is decided about twice.
                for (n, one) in found.iter().enumerate() {
                    prop_assert!(!one.forward.is_empty());
                    for other in &found[n + 1..] {
                        prop_assert!(one.targets().all(|t| other.targets().all(|o| o.column != t.column)));
                    }
                    for m in &one.reverse {
                        prop_assert!(one.targets().any(|t| m.reads.contains(&t.column)));
                    }
                }
            }
            Err(index) => {
                let reads = &all_reverse[index].reads;
                prop_assert!(all_forward.iter().all(|m| !reads.iter().any(|r| m.writes(r))));
            }
        }
    }

    #[test]
    fn function_text_is_whole_for_any_names_and_expressions(
        names in prop::collection::vec("[^\0]{1,12}", 7),
        exprs in prop::collection::vec(expression(), 4),
        partitioned in any::<bool>(),
        both in any::<bool>(),
    ) {
        let mut forward = mapping(&[&names[0]], &[&names[1]]);
        forward.targets[0].expr.clone_from(&exprs[0]);
        forward.from = Some(exprs[1].clone());
        forward.alias.clone_from(&names[2]);
        let mut reverse = mapping(&[&names[1]], &[&names[0]]);
        reverse.targets[0].expr.clone_from(&exprs[2]);
        reverse.condition = Some(exprs[3].clone());
        let Ok(components) = components(vec![forward], vec![reverse]) else { return Ok(()) };
        let table = QName::new(&*names[3], &*names[4]);
        let group = SyncGroup {
            function: function_name(&table, &names[5]),
            trigger: trigger_name(&table, &names[5], &[]).unwrap(),
            table,
            partitioned,
            search_path: ident(&names[6]),
            components,
        };
        let form = if both { Form::Both } else { Form::ReverseOnly };
        let sql = group.function_sql(form, &[]);
        let tokens = lex(&sql);
        prop_assert!(tokens.iter().all(|t| t.kind != TokenKind::Semicolon));
        let last = tokens.last().unwrap();
        prop_assert_eq!((last.kind, last.span.end), (TokenKind::DollarString, sql.len()));
        // Nothing in the body ends it: the tag is there at both ends only.
        let text = last.text(&sql);
        let tag = &text[..=text[1..].find('$').unwrap() + 1];
        prop_assert_eq!(text.matches(tag).count(), 2);
        // Parentheses and blocks of the body match.
        let body = &text[tag.len()..text.len() - tag.len()];
        let mut depth = 0_i32;
        for token in lex(body) {
            match token.kind {
                TokenKind::LParen => depth += 1,
                TokenKind::RParen => depth -= 1,
                _ => {}
            }
            prop_assert!(depth >= 0);
        }
        prop_assert_eq!(depth, 0);
    }
}
