//! Runs that stop, and runs that meet: failing rows, a second runner, two migrations of a table.

use crate::cases::says;
use crate::lifecycle::{Life, Project};

const RATIOS: &str = "
    CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL, b int NOT NULL);
    INSERT INTO t SELECT n, n, 1 + n % 5 FROM generate_series(1, 3000) n;
    UPDATE t SET b = 0 WHERE id = 1777;";
const RATIO: &str = "-- pgshift: expand\nALTER TABLE t ADD COLUMN ratio int;\n\
                     -- pgshift: backfill batch=100\nUPDATE t SET ratio = a / b;\n\
                     -- pgshift: contract\nALTER TABLE t ALTER COLUMN ratio SET NOT NULL;";

#[tokio::test]
async fn a_failing_row_is_named_and_the_rest_is_kept() {
    let project = Project::new("failing_row", RATIOS, RATIO).await;
    let before = project.picture().await;
    let output = project.command("apply", &[]).await.expect(3);
    says(
        &output,
        &[
            "row id=1777 of public.t fails: division by zero",
            "(line 4)",
            "22012",
            "all committed chunks are kept",
            "pgshift resume",
        ],
    );
    assert_eq!(project.state().await, "applying");
    project
        .holds(&[
            "SELECT array_agg(key || ' ' || sqlstate) = '{id=1777 22012}' FROM pgshift.failed_row",
            "SELECT count(ratio) BETWEEN 1 AND 2999 FROM t",
        ])
        .await;
    // It is the same until someone mends the row.
    project.command("resume", &[]).await.expect(3);
    let done: i64 = project.db.one("SELECT count(ratio) FROM t").await;
    project
        .db
        .execute("UPDATE t SET b = 1 WHERE id = 1777")
        .await;
    project.to("resume", "ready").await;
    project
        .holds(&[
            "SELECT bool_and(ratio = a / b) FROM t",
            "SELECT count(*) = 0 FROM pgshift.failed_row",
            // The mended row went through the trigger.
            "SELECT sum(rows) = 2999 FROM pgshift.checkpoint",
        ])
        .await;
    assert!(done < 3000);
    project.to("revert", "reverted").await;
    assert_eq!(project.picture().await.schema(), before.schema());
    project.nothing_left().await;
}

/// A person may decide to leave some out; verify then names them, and contract waits.
#[tokio::test]
async fn failing_rows_may_be_allowed() {
    let project = Project::new("allowed_rows", RATIOS, RATIO).await;
    // Verify meets the row too, and stops before READY.
    let output = project
        .command("apply", &["--max-failed-rows", "1"])
        .await
        .expect(1);
    says(
        &output,
        &[
            "a row fails: public.t id=1777: division by zero",
            "public.t cannot be verified: division by zero",
            "mend the row",
        ],
    );
    assert_eq!(project.state().await, "applying");
    project
        .holds(&["SELECT count(*) = 2999 AND bool_and(ratio = a / b) FROM t WHERE b <> 0"])
        .await;
    project
        .db
        .execute("UPDATE t SET b = 1 WHERE id = 1777")
        .await;
    project.to("resume", "ready").await;
    project.to("contract", "complete").await;
}

#[tokio::test]
async fn a_revert_from_the_middle() {
    let project = Project::new("revert_middle", RATIOS, RATIO).await;
    let before = project.picture().await;
    project.command("apply", &[]).await.expect(3);
    project.to("revert", "reverted").await;
    assert_eq!(project.picture().await, before);
    project.nothing_left().await;
    project
        .db
        .execute("UPDATE t SET b = 1 WHERE id = 1777")
        .await;
    project.to("apply", "ready").await;
    project
        .holds(&["SELECT bool_and(ratio = a / b) FROM t"])
        .await;
}

#[tokio::test]
async fn a_second_runner_is_refused_by_name() {
    let project = Project::new(
        "two_runners",
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL);
         INSERT INTO t SELECT n, n FROM generate_series(1, 2000) n;",
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN b int;\n\
         -- pgshift: backfill batch=1 strategy=keyset\nUPDATE t SET b = a;",
    )
    .await;
    let mut first = project.cli.spawn(&["apply", "--duty", "0.05"]);
    let holder = loop {
        let there: bool = project
            .db
            .one("SELECT to_regclass('pgshift.lease') IS NOT NULL")
            .await;
        let rows: Vec<String> = if there {
            project
                .db
                .rows("SELECT holder FROM pgshift.lease JOIN pgshift.checkpoint USING (run_id)")
                .await
        } else {
            Vec::new()
        };
        if let Some(holder) = rows.into_iter().next() {
            break holder;
        }
        assert!(first.running(), "{:?}", first.wait().await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(holder.contains(&first.pid().expect("alive").to_string()));
    for command in ["apply", "resume", "revert"] {
        let output = project.command(command, &[]).await.expect(3);
        says(&output, &[&holder, "nothing was changed"]);
    }
    assert!(first.running());
    first.interrupt();
    let output = first.wait().await.expect(5);
    says(&output, &["pgshift resume"]);
    assert_eq!(project.state().await, "applying");
    // The rest quickly: the file's batch is one row.
    project.to("revert", "reverted").await;
    project.nothing_left().await;
}

#[tokio::test]
async fn one_migration_at_a_time_is_open_on_a_table() {
    let mut project = Project::new("open_table", RATIOS, "SELECT 1;").await;
    project
        .db
        .execute("UPDATE t SET b = 1 WHERE b = 0; CREATE TABLE u (n int)")
        .await;
    project.cli.migration(&project.id, RATIO);
    project.to("apply", "ready").await;
    let (first, second, other) = (
        project.id.clone(),
        "20270202_second".to_owned(),
        "20270303_other".to_owned(),
    );
    project
        .cli
        .migration(&second, "ALTER TABLE t ADD COLUMN note text;");
    project
        .cli
        .migration(&other, "ALTER TABLE u ADD COLUMN note text;");
    let before = project.picture().await;
    project.id = second.clone();
    let output = project.command("apply", &[]).await.expect(3);
    says(
        &output,
        &[
            &format!("public.t is between expand and contract by {first} (ready)"),
            &format!("pgshift contract {first}"),
            "nothing was changed",
        ],
    );
    assert_eq!(project.state().await, "pending");
    assert_eq!(project.picture().await, before);
    // A table that has nothing to do with it is free.
    project.id = other;
    project.to("apply", "complete").await;
    project.id = first.clone();
    project.to("contract", "complete").await;
    project.id = second.clone();
    project
        .command("apply", &["--out-of-order"])
        .await
        .expect(0);
    assert_eq!(project.state().await, "complete");
    // The first cannot be pulled from under the second.
    project.id = first;
    let output = project.command("revert", &[]).await.expect(3);
    says(&output, &[&format!("pgshift revert {second}")]);
    project.id = second;
    project.to("revert", "reverted").await;
}

/// A query of the author that finds something stops before READY.
#[tokio::test]
async fn a_verify_query_that_finds_something() {
    let project = Project::new(
        "author_verify",
        RATIOS,
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN c int;\n\
         -- pgshift: backfill\nUPDATE t SET c = a;\n\
         -- pgshift: verify\nSELECT id FROM t WHERE b = 0;",
    )
    .await;
    let output = project.command("apply", &[]).await.expect(1);
    says(&output, &["the verify query found: 1777", "pgshift resume"]);
    assert_eq!(project.state().await, "applying");
    project.db.execute("UPDATE t SET b = 1 WHERE b = 0").await;
    project.to("resume", "ready").await;
}

/// Rows whose value is legitimately null are neither written again and again nor called wrong.
#[tokio::test]
async fn values_that_are_null() {
    Life {
        name: "nulls",
        setup: "CREATE TABLE t (id int PRIMARY KEY, a int);
                INSERT INTO t SELECT n, CASE WHEN n % 3 > 0 THEN n END
                FROM generate_series(1, 3000) n;",
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN b int;
            -- pgshift: backfill
            UPDATE t SET b = a * 2;
            -- pgshift: reverse
            UPDATE t SET a = b / 2;
            -- pgshift: contract
            ALTER TABLE t DROP COLUMN a;",
        traffic: Some(|n| match n % 3 {
            0 => format!("INSERT INTO t (id, a) VALUES ({}, {n})", 10_000 + n),
            1 => format!("UPDATE t SET a = NULL WHERE id = {}", n % 3000),
            _ => format!("UPDATE t SET a = {n} WHERE id = {}", n % 3000),
        }),
        ready: &["SELECT bool_and(b IS NOT DISTINCT FROM a * 2) FROM t"],
        new_version: Some((
            "UPDATE t SET b = NULL WHERE id = 1; UPDATE t SET b = 8 WHERE id = 3",
            "UPDATE t SET b = NULL WHERE id = 2; UPDATE t SET b = 10 WHERE id = 6",
            &["SELECT array_agg(a ORDER BY id) = '{NULL,NULL,4,5}' FROM t WHERE id IN (1, 2, 3, 6)"],
        )),
        ..Life::default()
    }
    .live()
    .await;
}
