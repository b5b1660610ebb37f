//! What is made upon a column by hand while a migration is under way is not lost without a word.

use crate::lifecycle::Project;

const SETUP: &str = "CREATE TABLE r (c int PRIMARY KEY);
    INSERT INTO r SELECT generate_series(0, 200);
    DO $$ BEGIN CREATE ROLE \"retype reader\"; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$;
    CREATE TABLE t (id int PRIMARY KEY, c int DEFAULT 1 NOT NULL);
    GRANT SELECT (c) ON t TO \"retype reader\";
    INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;";

/// What is done by hand, what takes it back, and how it is named.
type Change = (&'static str, &'static str, &'static str);

const CHANGES: &[Change] = &[
    (
        "CREATE UNIQUE INDEX late ON t (c)",
        "DROP INDEX late",
        "index public.late is new",
    ),
    (
        "ALTER TABLE t ADD CONSTRAINT lc CHECK (c > -1)",
        "ALTER TABLE t DROP CONSTRAINT lc",
        "constraint lc on table public.t is new",
    ),
    (
        "ALTER TABLE t ADD CONSTRAINT lf FOREIGN KEY (c) REFERENCES r",
        "ALTER TABLE t DROP CONSTRAINT lf",
        "constraint lf on table public.t is new",
    ),
    (
        "ALTER TABLE t ALTER c DROP NOT NULL",
        "ALTER TABLE t ALTER c SET NOT NULL",
        "NOT NULL of c is gone",
    ),
    (
        "GRANT UPDATE (c) ON t TO \"retype reader\"",
        "REVOKE UPDATE (c) ON t FROM \"retype reader\"",
        "ACL of c is not as it was",
    ),
    (
        "REVOKE SELECT (c) ON t FROM \"retype reader\"",
        "GRANT SELECT (c) ON t TO \"retype reader\"",
        "ACL of c is gone",
    ),
    (
        "COMMENT ON COLUMN t.c IS 'new'",
        "COMMENT ON COLUMN t.c IS NULL",
        "comment of c is new",
    ),
    (
        "ALTER TABLE t ALTER c SET STATISTICS 99",
        "ALTER TABLE t ALTER c SET STATISTICS -1",
        "statistics target of c is new",
    ),
];

/// A command stops at a change, which is then taken back.
async fn stops(project: &Project, command: &str, (change, back, words): Change) {
    project.db.execute(change).await;
    let stopped = project.command(command, &[]).await.expect(3).stderr;
    assert!(
        stopped.contains(words),
        "{change}: {words:?} is not in\n{stopped}"
    );
    project.db.execute(back).await;
}

#[tokio::test]
async fn a_change_by_hand_stops_the_swap_and_the_way_back() {
    let file = "ALTER TABLE t ALTER c TYPE bigint;";
    let project = Project::new("retype_drift", SETUP, file).await;
    project.to("apply", "ready").await;
    let default = (
        "ALTER TABLE t ALTER c SET DEFAULT 42",
        "ALTER TABLE t ALTER c SET DEFAULT 1",
        "default of c is not as it was",
    );
    for change in CHANGES.iter().chain([&default]) {
        stops(&project, "contract", *change).await;
    }
    project.command("resume", &[]).await.expect(0);
    assert_eq!(project.state().await, "complete");
    for change in CHANGES {
        stops(&project, "revert", *change).await;
    }
    project.command("resume", &[]).await.expect(0);
    assert_eq!(project.state().await, "reverted");
}

/// A stand-in for a new name is dropped in the end, with all upon it.
#[tokio::test]
async fn what_is_made_upon_a_stand_in_stops_contract() {
    let file = "ALTER TABLE t RENAME c TO d;";
    let project = Project::new("rename_drift", SETUP, file).await;
    project.to("apply", "ready").await;
    for change in [
        (
            "CREATE INDEX late ON t (d)",
            "DROP INDEX late",
            "index public.late is new",
        ),
        (
            "ALTER TABLE t ADD CONSTRAINT lc CHECK (d > -1)",
            "ALTER TABLE t DROP CONSTRAINT lc",
            "constraint lc on table public.t is new",
        ),
        (
            "CREATE VIEW lv AS SELECT d FROM t",
            "DROP VIEW lv",
            "view public.lv is new",
        ),
    ] {
        stops(&project, "contract", change).await;
    }
    // By the old name it goes over with the column.
    project.db.execute("CREATE INDEX kept ON t (c)").await;
    project.command("resume", &[]).await.expect(0);
    project
        .holds(&["SELECT pg_get_indexdef('kept'::regclass) LIKE '%(d)'"])
        .await;
}
