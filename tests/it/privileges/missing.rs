//! Each right of docs/privileges.md, taken away: the error names it, nothing is half done, and with
//! the right the run goes on.

use tokio_postgres::Client;

use super::{Roles, helps, owned};
use crate::cases::says;
use crate::lifecycle::Project;
use crate::support::connect;

const ID: &str = "20270101_rights";
const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, a int);
    CREATE TABLE o (id int PRIMARY KEY);
    INSERT INTO t SELECT n, n FROM generate_series(1, 500) n;
    INSERT INTO o SELECT n FROM generate_series(1, 500) n";

async fn project(name: &str, migration: &str) -> (Project, Roles) {
    owned(&format!("rights_{name}"), ID, SETUP, migration).await
}

/// A right that a step lacks: named, with everything as before; there with it, and back without.
async fn at_a_step(name: &str, migration: &str, take: &str, give: &str, words: &[&str]) {
    let (project, roles) = project(name, migration).await;
    roles.run(&project.db, take).await;
    let before = project.picture().await;
    let lacks = async || {
        let output = project.command("apply", &[]).await.expect(3);
        helps(&output, words);
        says(
            &output,
            &["docs/privileges.md", "pgshift resume", "pgshift revert"],
        );
        assert_eq!(project.state().await, "applying", "{name}");
        assert_eq!(project.picture().await, before, "{name}");
    };
    lacks().await;
    project.to("revert", "reverted").await;
    assert_eq!(project.picture().await, before, "{name}");
    project.nothing_left().await;
    lacks().await;
    roles.run(&project.db, give).await;
    project.to("resume", "complete").await;
    project.to("revert", "reverted").await;
    assert_eq!(project.picture().await.data(), before.data(), "{name}");
    roles.drop(&project.db).await;
}

#[tokio::test]
async fn create_on_the_schema() {
    let take = "REVOKE CREATE ON SCHEMA public FROM shop_owner;
                REVOKE CREATE ON SCHEMA public FROM PUBLIC";
    let give = "GRANT CREATE ON SCHEMA public TO shop_owner";
    for (name, migration) in [
        ("create_table", "CREATE TABLE fresh (id int PRIMARY KEY);"),
        ("create_index", "CREATE INDEX t_a ON t (a);"),
        ("create_type", "CREATE TYPE mood AS ENUM ('fine');"),
    ] {
        let words = [
            "permission denied for schema public",
            "CREATE to make objects",
        ];
        at_a_step(name, migration, take, give, &words).await;
    }
}

#[tokio::test]
async fn references_to_a_table_of_another_owner() {
    at_a_step(
        "references",
        "ALTER TABLE t ADD CONSTRAINT t_o FOREIGN KEY (a) REFERENCES o;",
        "ALTER TABLE o OWNER TO postgres",
        "GRANT REFERENCES ON o TO shop_owner",
        &[
            "permission denied for table o",
            "REFERENCES if a foreign key",
        ],
    )
    .await;
}

/// Instead of CREATE on the database.
#[tokio::test]
async fn a_state_schema_that_an_administrator_made() {
    let (project, roles) = project("schema", "CREATE INDEX t_a ON t (a);").await;
    let take = "REVOKE CREATE ON DATABASE shop FROM pgshift_deploy";
    roles.run(&project.db, take).await;
    let output = project.command("apply", &[]).await.expect(3);
    helps(&output, &["CREATE on the database", "docs/privileges.md"]);
    let made = "CREATE SCHEMA pgshift AUTHORIZATION pgshift_deploy";
    roles.run(&project.db, made).await;
    project.to("apply", "complete").await;
    super::nobody_elses(&project.db).await;
    project.to("revert", "reverted").await;
    roles.drop(&project.db).await;
}

/// Expressions are checked when the step runs, and the plan says so.
#[tokio::test]
async fn temporary_on_the_database() {
    let migration = |of: &str| {
        format!(
            "-- pgshift: expand
             ALTER TABLE t ADD COLUMN b int;
             -- pgshift: backfill
             UPDATE t SET b = {of};"
        )
    };
    let (project, roles) = project("temporary", &migration("a / (a - 7)")).await;
    let take = "REVOKE TEMPORARY ON DATABASE shop FROM pgshift_deploy";
    roles.run(&project.db, take).await;
    let before = project.picture().await;
    let plan = project.command("plan", &[]).await.expect(0);
    let said = plan.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("GRANT TEMPORARY ON DATABASE"),
        "{}",
        plan.stdout
    );
    // What no type tells is found by the row.
    let output = project.command("apply", &[]).await;
    assert_ne!(output.code, Some(0));
    says(&output, &["division by zero", "this chunk was rolled back"]);
    project.to("revert", "reverted").await;
    assert_eq!(project.picture().await, before);
    project.cli.migration(ID, &migration("a * 2"));
    project.to("apply", "ready").await;
    project.holds(&["SELECT bool_and(b = a * 2) FROM t"]).await;
    roles.drop(&project.db).await;
}

/// Of the application: it has a row of `t`, and sits there.
async fn sitting(project: &Project, roles: &Roles) -> (Client, i32) {
    let app = roles.name("pgshift_read");
    let sql = format!("CREATE ROLE {app} LOGIN; GRANT SELECT, UPDATE ON t TO {app}");
    project.db.execute(&sql).await;
    let client = connect(&roles.url(&project.db, "pgshift_read"))
        .await
        .expect("the application");
    let sql = "BEGIN; UPDATE t SET a = a /* checkout */ WHERE id = 1";
    client.batch_execute(sql).await.expect(sql);
    let row = client
        .query_one("SELECT pg_backend_pid() /* checkout */", &[])
        .await;
    (client, row.expect("its pid").get(0))
}

/// A blocker is named by its process and its role, and by its query to whom may see that.
#[tokio::test]
async fn pg_monitor_for_the_queries_of_blockers() {
    let (project, roles) = project("blockers", "ALTER TABLE t ADD COLUMN b int;").await;
    let (client, pid) = sitting(&project, &roles).await;
    let budget = ["--lock-budget", "1s", "--max-lag", "off"];
    let output = project.command("apply", &budget).await.expect(4);
    helps(&output, &[&format!("pid {pid} ("), "checkout"]);
    let take = "REVOKE pg_monitor FROM pgshift_deploy";
    roles.run(&project.db, take).await;
    let output = project.command("resume", &budget).await.expect(4);
    helps(&output, &[&format!("pid {pid} (")]);
    assert!(!output.stderr.contains("checkout"), "{}", output.stderr);
    drop(client);
    project.to("resume", "complete").await;
    roles.drop(&project.db).await;
}

#[tokio::test]
async fn pg_signal_backend_to_cancel_blockers() {
    let (project, roles) = project("cancel", "ALTER TABLE t ADD COLUMN b int;").await;
    let (client, _) = sitting(&project, &roles).await;
    let before = project.picture().await;
    let output = project.command("apply", &["--cancel-blockers"]).await;
    helps(
        &output.expect(3),
        &[
            "GRANT pg_signal_backend",
            "--cancel-blockers",
            "docs/privileges.md",
        ],
    );
    assert_eq!(project.picture().await, before);
    // Nobody was ended, and the log says nothing else.
    client.simple_query("SELECT 1").await.expect("it lives");
    let told = "SELECT count(*) FROM pgshift.event WHERE kind = 'blockers_cancelled'";
    assert_eq!(project.db.one::<i64>(told).await, 0);
    let give = "GRANT pg_signal_backend TO pgshift_deploy";
    roles.run(&project.db, give).await;
    let output = project.command("resume", &["--cancel-blockers"]).await;
    output.expect(0);
    assert_eq!(project.db.one::<i64>(told).await, 1);
    client.simple_query("SELECT 1").await.expect_err("ended");
    roles.drop(&project.db).await;
}

/// Who writes to a table whose backfill reads another one needs to read that too.
#[tokio::test]
async fn select_for_the_application_where_a_backfill_reads_another_table() {
    let migration = "-- pgshift: expand
        ALTER TABLE t ADD COLUMN b int;
        -- pgshift: backfill
        UPDATE t SET b = o.id FROM o WHERE o.id = t.a;";
    let (project, roles) = project("from", migration).await;
    let app = roles.name("pgshift_read");
    let sql = format!("CREATE ROLE {app} LOGIN; GRANT SELECT, UPDATE ON t TO {app}");
    project.db.execute(&sql).await;
    let plan = project.command("plan", &[]).await.expect(0).stdout;
    let said = plan.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("with the rights of the writing role"),
        "{plan}"
    );
    project.to("apply", "ready").await;
    let client = connect(&roles.url(&project.db, "pgshift_read"))
        .await
        .expect("the application");
    let write = "UPDATE t SET a = 2 WHERE id = 1";
    client
        .batch_execute(write)
        .await
        .expect_err("without the right");
    project
        .db
        .execute(&format!("GRANT SELECT ON o TO {app}"))
        .await;
    client.batch_execute(write).await.expect("with it");
    roles.drop(&project.db).await;
}
