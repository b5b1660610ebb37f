//! Files that are wrong: the place is shown, nothing is changed, and the corrected file works.

use crate::cases::{refused, says, untouched};
use crate::lifecycle::Project;

const SETUP: &str = "CREATE TABLE orders (id int PRIMARY KEY, total numeric(10, 2) NOT NULL);
                     INSERT INTO orders SELECT n, n FROM generate_series(1, 500) n;";

/// The wrong file, its place and words; then the right one works.
async fn corrected(name: &str, wrong: &str, code: i32, words: &[&str]) {
    let project = refused(name, SETUP, wrong, code, words).await;
    // Nothing was recorded, so the file may change.
    project.cli.migration(
        &project.id,
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;\n\
         -- pgshift: backfill\nUPDATE orders SET cents = total * 100;",
    );
    project.to("apply", "ready").await;
    project
        .holds(&["SELECT bool_and(cents = total * 100) FROM orders"])
        .await;
}

#[tokio::test]
async fn a_wrong_column_in_an_expression() {
    corrected(
        "wrong_column",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;\n\
         -- pgshift: backfill\nUPDATE orders\nSET cents = round(totl * 100);",
        2,
        &[
            "column \"totl\" does not exist",
            ".sql:5:19",
            "^^^^",
            "42703",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_wrong_type_in_a_reverse() {
    corrected(
        "wrong_type",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents text;\n\
         -- pgshift: backfill\nUPDATE orders SET cents = total::text;\n\
         -- pgshift: reverse\nUPDATE orders SET total = cents || 'x';",
        2,
        &[
            "is of type numeric but expression is of type text",
            ".sql:6:",
            "^",
        ],
    )
    .await;
}

#[tokio::test]
async fn an_unknown_function_and_type() {
    corrected(
        "wrong_function",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;\n\
         -- pgshift: backfill\nUPDATE orders SET cents = to_cents(total);",
        2,
        &[
            "function to_cents(numeric) does not exist",
            ".sql:4:27",
            "^",
        ],
    )
    .await;
    corrected(
        "wrong_new_type",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigit;\n\
         -- pgshift: backfill\nUPDATE orders SET cents = total * 100;",
        2,
        &["type \"bigit\" does not exist", ".sql:2:", "^"],
    )
    .await;
}

#[tokio::test]
async fn a_table_that_is_not_there() {
    corrected(
        "missing_table",
        "-- pgshift: backfill\nUPDATE ordrs SET total = 1;",
        2,
        &["table ordrs does not exist", ".sql:2:8", "^^^^^"],
    )
    .await;
    corrected(
        "missing_table_alter",
        "-- pgshift: expand\nALTER TABLE ordrs ADD COLUMN cents bigint;",
        2,
        &["ordrs", "does not exist", ".sql:2:"],
    )
    .await;
}

#[tokio::test]
async fn a_column_that_is_there() {
    corrected(
        "existing_column",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN total bigint;",
        2,
        &[
            "column total of public.orders already exists",
            ".sql:2:20",
            "^",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_column_that_is_not_there() {
    corrected(
        "no_target",
        "-- pgshift: backfill\nUPDATE orders SET totl = 1;",
        2,
        &[
            "public.orders has no column totl",
            "did you mean total",
            ".sql:2:19",
            "^^^^",
        ],
    )
    .await;
    corrected(
        "no_dropped",
        "-- pgshift: contract\nALTER TABLE orders DROP COLUMN totl;",
        2,
        &["public.orders has no column totl", ".sql:2:20"],
    )
    .await;
}

#[tokio::test]
async fn directives_that_are_not_known() {
    corrected(
        "directive",
        "-- pgshift: expnd\nALTER TABLE orders ADD COLUMN cents bigint;",
        2,
        &["expnd", "expand", ".sql:1:", "^^^^^"],
    )
    .await;
    corrected(
        "option",
        "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;\n\
         -- pgshift: backfill batches=7\nUPDATE orders SET cents = 1;",
        2,
        &["batches", "batch", ".sql:3:22", "^^^^^^^"],
    )
    .await;
    corrected(
        "section_order",
        "-- pgshift: backfill\nUPDATE orders SET total = 1;\n\
         -- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;",
        2,
        &["expand", "backfill", ".sql:3:"],
    )
    .await;
}

#[tokio::test]
async fn an_edited_file_is_refused_until_it_is_as_it_was() {
    let text = "-- pgshift: expand\nALTER TABLE orders ADD COLUMN cents bigint;\n\
                -- pgshift: backfill\nUPDATE orders SET cents = total * 100;\n\
                -- pgshift: contract\nALTER TABLE orders ALTER COLUMN cents SET NOT NULL;\n";
    let project = Project::new("edited", SETUP, text).await;
    project.to("apply", "ready").await;
    let before = project.picture().await;
    project
        .cli
        .migration(&project.id, &format!("{text}-- a remark\n"));
    for command in ["plan", "apply", "contract"] {
        let output = project.command(command, &[]).await.expect(2);
        says(
            &output,
            &[
                "20270101_edited was changed after it was applied",
                "put the file back",
            ],
        );
    }
    assert_eq!(project.state().await, "ready");
    assert_eq!(project.picture().await, before);
    // The line ends of another system are no edit.
    project
        .cli
        .migration(&project.id, &text.replace('\n', "\r\n"));
    project.to("contract", "complete").await;
}

#[tokio::test]
async fn a_file_out_of_order_needs_a_word() {
    let note = "ALTER TABLE orders ADD COLUMN note text;";
    let mut project = Project::new("order", SETUP, note).await;
    project.to("apply", "complete").await;
    let before = project.picture().await;
    project.cli.migration(
        "20260101_early",
        "ALTER TABLE orders ADD COLUMN early text;",
    );
    project.id = "20260101_early".to_owned();
    for args in [&["apply"][..], &["apply", "20260101_early"]] {
        let output = project.cli.run(args).await.expect(3);
        says(
            &output,
            &[
                "20260101_early sorts before 20270101_order",
                "--out-of-order",
                "nothing was changed",
            ],
        );
    }
    untouched(&project, &before).await;
    project
        .command("apply", &["--out-of-order"])
        .await
        .expect(0);
    assert_eq!(project.state().await, "complete");
}
