//! The role that only looks: what it can do, and what it is told of the rest.

use super::{helps, owned, reader};
use crate::cases::says;
use crate::examples;

#[tokio::test]
async fn a_role_that_only_looks_is_told_what_the_rest_needs() {
    let (setup, id, migration) = examples::read("money-to-cents");
    let (project, roles) = owned("rights_looking", &id, &setup, &migration).await;
    project.to("apply", "ready").await;
    let cli = reader(&project, &roles).await;
    let id = id.as_str();
    let before = project.picture().await;
    let state = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM (
        SELECT r::text FROM pgshift.run r UNION ALL SELECT e::text FROM pgshift.event e
        UNION ALL SELECT m::text FROM pgshift.migration m
        UNION ALL SELECT o::text FROM pgshift.override o
        UNION ALL SELECT v::text FROM pgshift.verification v) t";
    let recorded: String = project.db.one(state).await;

    for args in [
        &["status"][..],
        &["status", id, "--format", "json"],
        &["log"],
        &["log", id, "--format", "json"],
        &["log", "--verify"],
        &["throttle", "show", id],
        &["lint", "migrations"],
        &["snapshot", "--no-schema", "--out", "snapshot.json"],
        // There is nothing to be done.
        &["init"],
    ] {
        cli.run(args).await.expect(0);
    }

    let member = format!("GRANT pg_monitor TO {}", roles.name("pgshift_read"));
    let doctor = cli.run(&["doctor"]).await.expect(1);
    assert!(doctor.stdout.contains(&member), "{}", doctor.stdout);
    let owner = ["does not own public.orders", "connect as the owner"];
    says(&cli.run(&["plan", id]).await.expect(3), &owner);
    let tables = ["SELECT on every table", "--no-schema"];
    let snapshot = cli.run(&["snapshot", "--out", "snapshot.json"]).await;
    // Without client programs of the server's version there is nothing to be refused.
    if snapshot.stderr.contains("no pg_dump of PostgreSQL") {
        snapshot.expect(0);
    } else {
        says(&snapshot.expect(3), &tables);
    }
    // It compares rows, and has to read them.
    let args = ["verify", id, "--sample", "10", "--max-lag", "off"];
    helps(&cli.run(&args).await.expect(3), &["GRANT SELECT ON orders"]);
    // These write down what they find or do.
    for args in [
        &["verify", id][..],
        &["repair", id],
        &["contract", id],
        &["revert", id],
        &["throttle", "set", id, "duty=1"],
        &["baseline", id],
    ] {
        let output = cli.run(&[&["--yes"], args].concat()).await;
        assert_eq!(output.code, Some(3), "{args:?} {output:?}");
        helps(&output, &["permission denied for", "docs/privileges.md"]);
        assert!(
            output.stderr.contains("the role that runs migrations"),
            "{args:?} {}",
            output.stderr
        );
    }
    assert_eq!(project.db.one::<String>(state).await, recorded);
    assert_eq!(project.picture().await, before);
    project.to("contract", "complete").await;
    cli.run(&["status", id]).await.expect(0);
    cli.run(&["log", "--verify"]).await.expect(0);
    roles.drop(&project.db).await;
}
