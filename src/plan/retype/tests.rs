//! What the server tells, understood.

use super::Retype;
use super::question::{Question, Told};
use crate::catalog::QName;
use crate::catalog::dependents::StatisticsDetails;
use crate::catalog::details::{Definition, DefinitionKind};
use crate::plan::testing::column;
use crate::sql::Span;

fn retype() -> Retype {
    Retype {
        column: "n".into(),
        shadow: "new".into(),
        old: "old".into(),
        definition: "text COLLATE \"C\"".into(),
        type_text: "text".into(),
        using: None,
        default: crate::plan::retype::NewDefault::default(),
        span: Span::default(),
    }
}

fn definition(kind: DefinitionKind, name: &str, text: &str) -> Definition {
    Definition {
        kind,
        name: name.into(),
        text: text.into(),
        comment: None,
        tablespace: None,
        clustered: false,
        replica_identity: false,
        targets: Vec::new(),
    }
}

fn statistics() -> StatisticsDetails {
    StatisticsDetails {
        name: QName::new("app", "s"),
        owner: None,
        target: None,
    }
}

fn told() -> Told {
    use DefinitionKind::{Constraint, Index};
    let all = |table: &str, names: [&str; 2], n: &str| {
        let index = |name: &str, rest: &str| {
            definition(
                Index,
                name,
                &format!("CREATE INDEX {name} ON {table} USING btree ({rest})"),
            )
        };
        vec![
            index(names[0], "other"),
            index(names[1], n),
            definition(Constraint, "c", &format!("CHECK (({n} > 0))")),
            definition(Constraint, "d", "CHECK ((other > 0))"),
        ]
    };
    let copied = ["copy_1", "copy_2"];
    Told {
        table: all("public.t", ["a", "b"], "n"),
        copy: all("pg_temp_3.copy", copied, "n"),
        old: all("pg_temp_3.copy", copied, "old"),
        new: all("pg_temp_3.copy", copied, "new"),
        columns: vec![column("new", "text")],
        ..Told::default()
    }
}

#[test]
fn what_has_the_column_is_what_changes_with_its_name() {
    let answer = told().understood(&[retype()]).expect("understood");
    let [index] = answer.indexes.as_slice() else {
        panic!("{:?}", answer.indexes)
    };
    assert_eq!(
        (&*index.name, &*index.old, &*index.new),
        ("b", "USING btree (old)", "USING btree (new)")
    );
    let [check] = answer.checks.as_slice() else {
        panic!("{:?}", answer.checks)
    };
    assert_eq!((&*check.name, &*check.new), ("c", "CHECK ((new > 0))"));
    assert_eq!(answer.types["n"], "text");
}

#[test]
fn what_is_not_in_the_copy_is_an_error() {
    for (spoil, why) in [
        (
            (|told: &mut Told| drop(told.copy.remove(0))) as fn(&mut Told),
            "an index is not in the copy",
        ),
        (
            |told| told.copy.swap(0, 1),
            "index a is not in the copy of the table",
        ),
        (
            |told| drop(told.new.remove(1)),
            "the copy of copy_2 is gone",
        ),
        (|told| told.columns.clear(), "the copy has no column new"),
        (
            |told| {
                for all in [&mut told.table, &mut told.copy] {
                    all.push(definition(DefinitionKind::Statistics, "s", " ON n, other"));
                }
                told.statistics.push(statistics());
            },
            "the copy of statistics s is gone",
        ),
        (
            |told| told.statistics.push(statistics()),
            "extended statistics are not in the copy",
        ),
    ] {
        let mut told = told();
        spoil(&mut told);
        let error = told.understood(&[retype()]).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn the_questions() {
    let question = Question {
        table: QName::new("app", "t"),
        copy: "copy".into(),
        columns: vec![retype()],
    };
    assert_eq!(
        question.create(),
        "CREATE TEMP TABLE \"copy\" (LIKE \"app\".\"t\" INCLUDING ALL)"
    );
    assert_eq!(
        question.retype()[0].0,
        "ALTER TABLE pg_temp.\"copy\" ALTER COLUMN \"n\" TYPE text COLLATE \"C\" USING CAST(NULL AS text)"
    );
    assert_eq!(
        question.to_shadow(),
        ["ALTER TABLE pg_temp.\"copy\" RENAME COLUMN \"n\" TO \"new\""]
    );
}
