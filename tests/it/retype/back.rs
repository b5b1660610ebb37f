//! Back to READY and on again, with what the new application version wrote.

use super::Case;
use crate::lifecycle::{Project, assert_same};

/// A value of the new type that the old one holds in another form is what the old one says from the
/// way back on: READY is what it says, and contract goes on.
#[tokio::test]
async fn what_the_new_version_wrote_follows_the_old_column() {
    for (name, file, rows, written, back) in [
        (
            "scale",
            "ALTER TABLE t ALTER c TYPE numeric(12, 4);",
            "numeric(10,2)| 1.25| 2.5",
            "4.1234",
            "4.1200",
        ),
        (
            "number",
            "ALTER TABLE t ALTER c TYPE text;",
            "int| 1| 2",
            "'007'",
            "7",
        ),
        (
            "document",
            "ALTER TABLE t ALTER c TYPE text;",
            "jsonb| '[1]'| '[2]'",
            "'[1,2]'",
            "[1, 2]",
        ),
        (
            "reverse",
            "-- pgshift: expand\nALTER TABLE t ALTER c TYPE text USING 'n' || c;\n\
             -- pgshift: reverse\nUPDATE t SET c = regexp_replace(c, '\\D', '', 'g')::int;",
            "int| 1| 2",
            "'no. 17'",
            "n17",
        ),
    ] {
        let (kind, values) = rows.split_once('|').expect("a type");
        let (one, two) = values.split_once('|').expect("two values");
        let setup = format!(
            "CREATE TABLE t (id int PRIMARY KEY, c {kind});
             INSERT INTO t VALUES (1, {one}), (2, {two}), (3, NULL)"
        );
        let project = Project::new(&format!("retype_settled_{name}"), &setup, file).await;
        let first = project.picture().await;
        project.to("apply", "ready").await;
        project.to("contract", "complete").await;
        let update = format!("UPDATE t SET c = {written} WHERE id = 1");
        project.db.execute(&update).await;
        project
            .command("revert", &["--to", "ready"])
            .await
            .expect(0);
        assert_eq!(project.state().await, "ready");
        project.command("verify", &[]).await.expect(0);
        project.to("contract", "complete").await;
        let right = format!("SELECT c::text = '{back}' FROM t WHERE id = 1");
        project
            .holds(&[&right, "SELECT count(*) = 1 FROM t WHERE c IS NULL"])
            .await;
        // On the way to the start nothing is filled that goes anyway.
        let plan = project.command("revert", &["--dry-run"]).await.stdout;
        assert!(!plan.contains("give the new"), "{plan}");
        project.command("revert", &[]).await.expect(0);
        assert_same("schema", first.schema(), project.picture().await.schema());
    }
}

/// Types of which each value comes back as it is are not read again.
#[tokio::test]
async fn an_exact_way_back_reads_no_row_again() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
    let file = "ALTER TABLE t ALTER id TYPE bigint;";
    let project = Project::new("retype_exact", setup, file).await;
    let plan = project.command("plan", &[]).await.expect(0).stdout;
    assert!(!plan.contains("give the new"), "{plan}");
}

/// What a session's settings decide is told in the plan.
#[tokio::test]
async fn using_that_depends_on_the_session_is_told() {
    let setup =
        "CREATE TABLE t (id int PRIMARY KEY, c text); INSERT INTO t VALUES (1, '2026-01-01')";
    for (name, using, told) in [
        ("unsteady", "to_timestamp(c, 'YYYY-MM-DD')", true),
        (
            "steady",
            "make_timestamp(left(c, 4)::int, 1, 1, 0, 0, 0) AT TIME ZONE 'UTC'",
            false,
        ),
    ] {
        let file = format!(
            "-- pgshift: expand\nALTER TABLE t ALTER c TYPE timestamptz USING {using};\n\
             -- pgshift: reverse\nUPDATE t SET c = to_char(c AT TIME ZONE 'UTC', 'YYYY-MM-DD');"
        );
        let project = Project::new(&format!("retype_{name}"), setup, &file).await;
        let plan = project.command("plan", &[]).await.expect(0).stdout;
        let said: Vec<&str> = plan.split_whitespace().collect();
        let warned = said.join(" ").contains("depends on more than the row");
        assert_eq!(warned, told, "{using}: {plan}");
    }
    let setup = "CREATE TABLE t (id int PRIMARY KEY, c bytea)";
    let file = "ALTER TABLE t ALTER c TYPE text;";
    let project = Project::new("retype_bytea", setup, file).await;
    let refused = project.command("plan", &[]).await.expect(3).stderr;
    assert!(refused.contains("depends on settings"), "{refused}");
}

/// A constant time zone leads back the way it led there; no reverse section is needed. In the hour
/// that a zone's clocks skip a time comes back as the server reads it.
#[tokio::test]
async fn a_time_zone_leads_back() {
    for (name, old, new, first, written, back) in [
        (
            "there",
            "timestamp",
            "timestamptz",
            "'2026-07-01 12:00'",
            "'2026-07-02 10:00+00'",
            "2026-07-02 12:00:00",
        ),
        (
            "from",
            "timestamptz(0)",
            "timestamp(0)",
            "'2026-07-01 10:00+00'",
            "'2026-07-02 12:00'",
            "2026-07-02 10:00:00+00",
        ),
    ] {
        let setup = format!(
            "CREATE TABLE t (id int PRIMARY KEY, at {old} NOT NULL); CREATE INDEX ON t (at);
             INSERT INTO t SELECT n, {first} FROM generate_series(1, 500) n"
        );
        let file =
            format!("ALTER TABLE t ALTER at TYPE {new} USING at AT TIME ZONE 'Europe/Berlin';");
        let project = Project::new(&format!("retype_zone_{name}"), &setup, &file).await;
        project
            .db
            .execute("INSERT INTO t VALUES (501, '2026-03-29 02:30')")
            .await;
        let before = project.picture().await;
        project.to("apply", "ready").await;
        project.command("verify", &[]).await.expect(0);
        project.to("contract", "complete").await;
        let update = format!("UPDATE t SET at = {written} WHERE id = 1");
        project.db.execute(&update).await;
        project
            .command("revert", &["--to", "ready"])
            .await
            .expect(0);
        project.command("verify", &[]).await.expect(0);
        project.to("contract", "complete").await;
        project.command("revert", &[]).await.expect(0);
        assert_same("schema", before.schema(), project.picture().await.schema());
        let back = format!("SELECT at = '{back}' FROM t WHERE id = 1");
        let kept = format!("SELECT count(*) = 499 FROM t WHERE at = {first}");
        project.holds(&[&back, &kept]).await;
    }
}

/// Two collations do not say how to compare; the values are compared as they are.
#[tokio::test]
async fn one_collation_for_another() {
    for (name, before, kind, old, new) in [
        ("icu", "", "text", "C", "und-x-icu"),
        ("blanks", "", "char(8)", "C", "und-x-icu"),
        ("name", "", "name", "und-x-icu", "C"),
        (
            "nondeterministic",
            "CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);",
            "varchar(40)",
            "nd",
            "C",
        ),
    ] {
        let setup = format!(
            "{before} CREATE TABLE t (id int PRIMARY KEY, c text COLLATE \"{old}\");
             CREATE INDEX by_c ON t (c); INSERT INTO t VALUES (1, 'abc'), (2, 'b')"
        );
        let file = format!("ALTER TABLE t ALTER c TYPE {kind} COLLATE \"{new}\";");
        let project = Project::new(&format!("retype_collation_{name}"), &setup, &file).await;
        project.to("apply", "ready").await;
        project
            .db
            .execute("UPDATE t SET c = 'ABC' WHERE id = 1")
            .await;
        project.to("contract", "complete").await;
        project
            .holds(&["SELECT c = 'ABC' COLLATE \"C\" FROM t WHERE id = 1"])
            .await;
        project.command("revert", &[]).await.expect(0);
    }
}

/// There and back and on, while both are written: also texts that one of the collations takes for
/// equal.
#[tokio::test]
async fn one_collation_for_another_under_traffic() {
    let traffic = |n: u64| match n % 3 {
        0 => format!("INSERT INTO t VALUES ({}, 'Ab{n}')", 10_000 + n),
        1 => format!("UPDATE t SET c = upper(c) WHERE id = {}", n % 1000),
        _ => format!("UPDATE t SET c = lower(c) WHERE id = {}", n % 1000),
    };
    for (name, before, of, file) in [
        (
            "retype_traffic_icu",
            "",
            "C",
            "ALTER TABLE t ALTER c TYPE text COLLATE \"und-x-icu\";",
        ),
        (
            "retype_traffic_nd",
            "CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);",
            "nd",
            "ALTER TABLE t ALTER c TYPE varchar(40) COLLATE \"C\";",
        ),
    ] {
        let setup: &'static str = format!(
            "{before} CREATE TABLE t (id int PRIMARY KEY, c text COLLATE \"{of}\");
             CREATE INDEX ON t (c);
             INSERT INTO t SELECT n, 'a' || n FROM generate_series(0, 999) n"
        )
        .leak();
        Case {
            name,
            setup,
            file,
            direct: "",
            traffic,
            ready: &[],
            complete: &["SELECT count(*) >= 1000 FROM t"],
            after: (
                "UPDATE t SET c = 'Now' WHERE id = 1",
                &["SELECT c = 'Now' COLLATE \"C\" FROM t WHERE id = 1"],
            ),
            lost: &[],
        }
        .check()
        .await;
    }
}

/// An array is compared by the collation of its elements.
#[tokio::test]
async fn one_collation_for_another_in_an_array() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, c text[] COLLATE \"C\");
         CREATE INDEX by_c ON t (c); INSERT INTO t VALUES (1, '{abc,NULL}'), (2, '{b}')";
    let file = "ALTER TABLE t ALTER c TYPE text[] COLLATE \"und-x-icu\";";
    let project = Project::new("retype_collation_array", setup, file).await;
    project.to("apply", "ready").await;
    project.to("contract", "complete").await;
    project
        .holds(&["SELECT c[1] = 'abc' FROM t WHERE id = 1"])
        .await;
    project.command("revert", &[]).await.expect(0);
}

/// Null may be what a new value stands for; it is not taken for one that the old type cannot hold.
#[tokio::test]
async fn null_that_became_a_value_comes_back() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY, c int);
                 INSERT INTO t VALUES (1, NULL), (2, 5)";
    for (name, using, reverse, back) in [
        ("null", "coalesce(t.c, -1)", "nullif(c, -1)", "c IS NULL"),
        ("kept", "coalesce(c, 0) -- none", "c", "c IS NULL"),
    ] {
        let file = format!(
            "-- pgshift: expand\nALTER TABLE t ALTER c TYPE bigint USING {using}\n;\n\
             -- pgshift: reverse\nUPDATE t SET c = {reverse};"
        );
        let project = Project::new(&format!("retype_null_{name}"), setup, &file).await;
        project.to("apply", "ready").await;
        project.to("contract", "complete").await;
        project
            .command("revert", &["--to", "ready"])
            .await
            .expect(0);
        project.to("contract", "complete").await;
        // What the old type cannot hold is told as ever.
        project
            .db
            .execute("UPDATE t SET c = 3000000000 WHERE id = 2")
            .await;
        let stopped = project.command("revert", &[]).await.expect(3).stderr;
        assert!(stopped.contains("id=2"), "{stopped}");
        assert!(!stopped.contains("id=1"), "{stopped}");
        project.db.execute("UPDATE t SET c = 6 WHERE id = 2").await;
        project.command("resume", &[]).await.expect(0);
        let right = format!("SELECT {back} FROM t WHERE id = 1");
        project
            .holds(&[&right, "SELECT c = 6 FROM t WHERE id = 2"])
            .await;
    }
}
