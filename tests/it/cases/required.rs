//! A required column whose default reads other columns.

use crate::lifecycle::{Project, assert_same};

#[tokio::test]
async fn a_default_that_reads_other_columns() {
    let setup = "CREATE TABLE p (id int PRIMARY KEY, f text NOT NULL, l text, at timestamptz);
         INSERT INTO p SELECT n, 'f' || n, 'l' || n FROM generate_series(1, 2000) n;";
    let file =
        "ALTER TABLE p ADD COLUMN full_name text NOT NULL DEFAULT p.f || ' ' || coalesce(l, '-'),
         ADD COLUMN made timestamptz DEFAULT (now() AT TIME ZONE 'UTC'),
         ADD COLUMN day date DEFAULT date '2026-01-01';";
    let project = Project::new("required_of_others", setup, file).await;
    let plan = project.command("plan", &[]).await.expect(0).stdout;
    let said: Vec<&str> = plan.split_whitespace().collect();
    let said = said.join(" ");
    for words in [
        "the server takes no default that reads other columns",
        "from contract on the application gives it",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{plan}");
    }
    let first = project.picture().await;
    project.to("apply", "ready").await;
    // The old version gives no value, a new one may give its own.
    project
        .db
        .execute(
            "INSERT INTO p (id, f) VALUES (5001, 'a');
             INSERT INTO p (id, f, full_name) VALUES (5002, 'a', 'own');
             UPDATE p SET f = 'b' WHERE id = 1",
        )
        .await;
    project
        .holds(&[
            "SELECT full_name = 'a -' FROM p WHERE id = 5001",
            "SELECT full_name = 'own' FROM p WHERE id = 5002",
            "SELECT full_name = 'b l1' FROM p WHERE id = 1",
            "SELECT count(*) = 1 FROM p WHERE full_name <> f || ' ' || coalesce(l, '-')",
            "SELECT bool_and(made IS NOT NULL AND day = '2026-01-01') FROM p",
            "SELECT attnotnull AND NOT atthasdef FROM pg_attribute
             WHERE attrelid = 'p'::regclass AND attname = 'full_name'",
        ])
        .await;
    project.command("revert", &[]).await.expect(0);
    assert_same("schema", first.schema(), project.picture().await.schema());
    project.to("apply", "ready").await;
    project.to("contract", "complete").await;
    let refused = project
        .db
        .client()
        .await
        .execute("INSERT INTO p (id, f) VALUES (6001, 'a')", &[])
        .await
        .expect_err("it is required now");
    assert_eq!(
        refused.code().map(tokio_postgres::error::SqlState::code),
        Some("23502")
    );
    project.command("revert", &[]).await.expect(0);
    assert_same("schema", first.schema(), project.picture().await.schema());
    project.holds(&["SELECT count(*) = 2002 FROM p"]).await;
}

/// Without NOT NULL a row may have no value, and the words of a call are no columns.
#[tokio::test]
async fn a_default_that_reads_other_columns_may_be_null() {
    let setup = "CREATE TABLE p (id int PRIMARY KEY, f text NOT NULL, l text, days int, tz text);
         INSERT INTO p SELECT n, 'f' || n, CASE WHEN n % 2 = 0 THEN 'l' || n END, n, 'UTC'
             FROM generate_series(1, 2000) n;";
    let file = "ALTER TABLE p ADD COLUMN short text DEFAULT substring(f FROM 1 FOR 2) || l,
         ADD COLUMN due timestamp DEFAULT timestamptz '2026-01-01 00:00+00' AT TIME ZONE tz,
         ADD COLUMN wait interval NOT NULL DEFAULT make_interval(days => 30);";
    let project = Project::new("required_of_none", setup, file).await;
    let first = project.picture().await;
    for last in [false, true] {
        project.to("apply", "ready").await;
        project
            .db
            .execute(if last {
                "UPDATE p SET l = 'x' WHERE id = 3"
            } else {
                "INSERT INTO p VALUES (5001, 'abc', 'd', 1, 'UTC'), (5002, 'abc', NULL, 1, 'UTC')"
            })
            .await;
        project.command("verify", &[]).await.expect(0);
        project
            .holds(&[
                "SELECT bool_and(short IS NOT DISTINCT FROM left(f, 2) || l) FROM p",
                "SELECT bool_and(due = '2026-01-01' AND wait = interval '30 days') FROM p",
                "SELECT array_agg(attname::text ORDER BY attnum) = '{wait}' FROM pg_attribute
                 WHERE attrelid = 'p'::regclass AND attname IN ('short', 'due', 'wait')
                   AND attnotnull AND atthasdef",
                "SELECT count(*) = 2 FROM pg_attribute
                 WHERE attrelid = 'p'::regclass AND attname IN ('short', 'due')
                   AND NOT attnotnull AND NOT atthasdef",
            ])
            .await;
        if last {
            project.to("contract", "complete").await;
            project
                .db
                .execute("INSERT INTO p VALUES (6001, 'abc', 'd', 1, 'UTC')")
                .await;
            project
                .holds(&["SELECT short IS NULL FROM p WHERE id = 6001"])
                .await;
        }
        project.command("revert", &[]).await.expect(0);
        assert_same("schema", first.schema(), project.picture().await.schema());
    }
}
