//! Random writes of both versions against a model.

use std::collections::BTreeMap;

use pgshift::plan::Phase;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::lab::Lab;

/// What happens. Old values are thousandths, so that a cent does not hold them.
#[derive(Debug, Clone)]
enum Write {
    OldInsert(Option<i64>),
    NewInsert(Option<i64>),
    OldUpdate(usize, Option<i64>),
    NewUpdate(usize, i64),
    Touch(usize),
    Move(usize),
    Delete(usize),
    Backfill,
}

fn write() -> impl Strategy<Value = Write> {
    let mills = || prop::option::weighted(0.9, -5_000..5_000_i64);
    let row = 0..12_usize;
    prop_oneof![
        mills().prop_map(Write::OldInsert),
        prop::option::weighted(0.9, -500..500_i64).prop_map(Write::NewInsert),
        (row.clone(), mills()).prop_map(|(r, v)| Write::OldUpdate(r, v)),
        (row.clone(), -500..500_i64).prop_map(|(r, v)| Write::NewUpdate(r, v)),
        row.clone().prop_map(Write::Touch),
        row.clone().prop_map(Write::Move),
        row.prop_map(Write::Delete),
        Just(Write::Backfill),
    ]
}

/// A row: old value in thousandths, new one in hundredths.
type Row = (Option<i64>, Option<i64>);

/// `round(total * 100)`, half away from zero.
fn cents(mills: i64) -> i64 {
    let half = if mills < 0 { -5 } else { 5 };
    (mills + half) / 10
}

/// The row as an old version's write of `mills` leaves it.
fn old(mills: Option<i64>) -> Row {
    (mills, mills.map(cents))
}

fn touched(row: Row) -> Row {
    (row.0, row.1.or(row.0.map(cents)))
}

async fn check(lab: &Lab, writes: &[Write]) -> Result<(), TestCaseError> {
    let mut model: BTreeMap<i32, Row> = BTreeMap::new();
    lab.app("SET session_replication_role = replica; TRUNCATE orders")
        .await;
    for id in 1..=4 {
        let mills = i64::from(id) * 1_005;
        lab.app(&format!(
            "INSERT INTO orders (id, part, total) VALUES ({id}, 0, {mills} / 1000.0)"
        ))
        .await;
        model.insert(id, (Some(mills), None));
    }
    lab.app("SET session_replication_role = origin").await;
    let sql = |mills: &Option<i64>| {
        mills.map_or_else(|| "NULL".to_owned(), |m| format!("round({m} / 1000.0, 3)"))
    };
    let mut next = 100;
    for write in writes {
        let pick = |row: &usize| model.keys().nth(*row).copied();
        match write {
            Write::OldInsert(value) => {
                lab.app(&format!(
                    "INSERT INTO orders (id, part, total) VALUES ({next}, 1, {})",
                    sql(value)
                ))
                .await;
                model.insert(next, old(*value));
                next += 1;
            }
            Write::NewInsert(value) => {
                let value_sql = value.map_or_else(|| "NULL".to_owned(), |v| v.to_string());
                lab.app(&format!(
                    "INSERT INTO orders (id, part, total_cents) VALUES ({next}, 0, {value_sql})"
                ))
                .await;
                model.insert(next, (value.map(|v| v * 10), *value));
                next += 1;
            }
            Write::OldUpdate(row, value) => {
                let Some(id) = pick(row) else { continue };
                lab.app(&format!(
                    "UPDATE orders SET total = {} WHERE id = {id}",
                    sql(value)
                ))
                .await;
                let before = model[&id];
                // Unchanged, it is a touch.
                let after = if before.0 == *value {
                    touched(before)
                } else {
                    old(*value)
                };
                model.insert(id, after);
            }
            Write::NewUpdate(row, value) => {
                let Some(id) = pick(row) else { continue };
                lab.app(&format!(
                    "UPDATE orders SET total_cents = {value} WHERE id = {id}"
                ))
                .await;
                if model[&id].1 != Some(*value) {
                    model.insert(id, (Some(value * 10), Some(*value)));
                }
            }
            Write::Touch(row) | Write::Move(row) => {
                let Some(id) = pick(row) else { continue };
                let set = if matches!(write, Write::Move(_)) {
                    "part = 1 - part"
                } else {
                    "note = note || 'x'"
                };
                lab.app(&format!("UPDATE orders SET {set} WHERE id = {id}"))
                    .await;
                let after = touched(model[&id]);
                model.insert(id, after);
            }
            Write::Delete(row) => {
                let Some(id) = pick(row) else { continue };
                lab.app(&format!("DELETE FROM orders WHERE id = {id}"))
                    .await;
                model.remove(&id);
            }
            Write::Backfill => {
                lab.again(Phase::Backfill).await;
                for row in model.values_mut() {
                    *row = touched(*row);
                }
            }
        }
    }
    lab.again(Phase::Backfill).await;
    for row in model.values_mut() {
        *row = touched(*row);
    }
    let text = |v: Option<i64>| v.map_or_else(|| "-".to_owned(), |v| v.to_string());
    let mut expected: Vec<_> = model
        .iter()
        .map(|(id, (mills, cents))| format!("{id} {} {}", text(*mills), text(*cents)))
        .collect();
    expected.sort();
    let found = lab
        .db
        .rows::<String>(
            "SELECT concat_ws(' ', id, coalesce((total * 1000)::bigint::text, '-'),
                              coalesce(total_cents::text, '-')) COLLATE \"C\"
             FROM orders ORDER BY 1",
        )
        .await;
    prop_assert_eq!(found, expected);
    prop_assert_eq!(lab.wrong(Phase::Verify).await, (0, vec![]));
    prop_assert_eq!(lab.wrong(Phase::Contract).await, (0, vec![]));
    Ok(())
}

fn run(name: &str, partitioned: bool) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (by, parts) = if partitioned {
        (
            "PARTITION BY LIST (part)",
            "CREATE TABLE orders_0 PARTITION OF orders FOR VALUES IN (0);
             CREATE TABLE orders_1 PARTITION OF orders FOR VALUES IN (1);",
        )
    } else {
        ("", "")
    };
    let setup = format!(
        "CREATE TABLE orders (id int, part int, total numeric, note text DEFAULT '',
                              PRIMARY KEY (id, part)) {by}; {parts}"
    );
    let file = "
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;
-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;
-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;
";
    let lab = runtime.block_on(async {
        let mut lab = Lab::new(name, &setup, file).await;
        lab.run(&[Phase::Expand, Phase::Sync]).await;
        lab
    });
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    let writes = prop::collection::vec(write(), 0..30);
    let result = runner.run(&writes, |writes| runtime.block_on(check(&lab, &writes)));
    if let Err(e) = result {
        panic!("{e}");
    }
    runtime.block_on(async { drop(lab) });
}

#[test]
fn random_writes_agree_with_the_model() {
    run("sync_random", false);
}

#[test]
fn random_writes_of_a_partitioned_table_agree_with_the_model() {
    run("sync_random_parts", true);
}
