//! Triggers of the application, and row security.

use crate::cases::{refused, roles::Role, says};
use crate::lifecycle::{Life, Project};

const UPPER: &str = "
    CREATE TABLE t (id int PRIMARY KEY, a text);
    CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN NEW.a := upper(NEW.a); RETURN NEW; END $$;
    INSERT INTO t SELECT n, 'A' || n FROM generate_series(1, 1000) n;";

/// Ours sees what theirs made of the row, whatever theirs are called.
#[tokio::test]
async fn our_trigger_is_the_last() {
    for trigger in ["an_early_one", "zzzz_a_late_one", "~another"] {
        let setup = format!(
            "{UPPER} CREATE TRIGGER \"{trigger}\" BEFORE INSERT OR UPDATE ON t
             FOR EACH ROW EXECUTE FUNCTION up();"
        );
        let project = Project::new(
            &format!("trigger_{}", &trigger[1..5]),
            &setup,
            "-- pgshift: expand\nALTER TABLE t ADD COLUMN b text;\n\
             -- pgshift: backfill\nUPDATE t SET b = a || '!';",
        )
        .await;
        let plan = project.command("plan", &[]).await.expect(0);
        assert!(
            plan.stdout.contains(&format!(
                "triggers of public.t fire for the backfilled rows: {trigger}"
            )),
            "{}",
            plan.stdout
        );
        project.to("apply", "ready").await;
        project
            .db
            .execute("INSERT INTO t VALUES (5000, 'new'); UPDATE t SET a = 'changed' WHERE id = 2")
            .await;
        project
            .holds(&[
                "SELECT b = 'NEW!' FROM t WHERE id = 5000",
                "SELECT b = 'CHANGED!' FROM t WHERE id = 2",
            ])
            .await;
    }
}

/// The rows are walked, theirs changes them on the way: the new column follows the old one.
#[tokio::test]
async fn a_trigger_that_changes_what_the_backfill_reads() {
    Life {
        name: "trigger_changes",
        setup: &format!(
            "{UPPER} CREATE TRIGGER up BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION up();"
        ),
        migration: "
            -- pgshift: expand
            ALTER TABLE t ADD COLUMN b text;
            -- pgshift: backfill
            UPDATE t SET b = a || '!';
            -- pgshift: reverse
            UPDATE t SET a = left(b, -1);
            -- pgshift: contract
            ALTER TABLE t ALTER COLUMN b SET NOT NULL;",
        traffic: Some(|n| match n % 2 {
            0 => format!("INSERT INTO t (id, a) VALUES ({}, 'new')", 10_000 + n),
            _ => format!("UPDATE t SET a = 'changed {n}' WHERE id = {}", n % 1000),
        }),
        ready: &["SELECT bool_and(b = a || '!' AND a = upper(a)) FROM t"],
        ..Life::default()
    }
    .live()
    .await;
}

/// A row that theirs changes only when it is next written: the value that the backfill computed from
/// it is wrong at once. Verify finds that, and contract stays out of reach.
#[tokio::test]
async fn a_trigger_that_changes_old_rows_is_found_by_verify() {
    let project = Project::new(
        "trigger_found",
        &format!(
            "{UPPER} UPDATE t SET a = 'lower' WHERE id = 77;
             CREATE TRIGGER up BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION up();"
        ),
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN b text;\n\
         -- pgshift: backfill\nUPDATE t SET b = a || '!';",
    )
    .await;
    let output = project.command("apply", &[]).await.expect(1);
    says(
        &output,
        &["1 row of public.t is not what the backfill gives: id=77"],
    );
    project
        .db
        .execute("UPDATE t SET b = a || '!' WHERE id = 77")
        .await;
    project.to("resume", "ready").await;
    project
        .holds(&["SELECT bool_and(b = a || '!' AND a = upper(a)) FROM t"])
        .await;
}

#[tokio::test]
async fn a_trigger_that_no_name_can_follow() {
    refused(
        "trigger_last",
        &format!(
            "{UPPER} CREATE TRIGGER \"~~~ last\" BEFORE UPDATE ON t
             FOR EACH ROW EXECUTE FUNCTION up();"
        ),
        "-- pgshift: expand\nALTER TABLE t ADD COLUMN b text;\n\
         -- pgshift: backfill\nUPDATE t SET b = a;",
        3,
        &["~~~ last", "sorts after", "rename that trigger"],
    )
    .await;
}

const SECURED: &str = "
    CREATE TABLE t (id int PRIMARY KEY, owner text, a int);
    INSERT INTO t SELECT n, 'someone', n FROM generate_series(1, 1000) n;
    ALTER TABLE t ENABLE ROW LEVEL SECURITY;
    CREATE POLICY mine ON t USING (owner = current_user);";

const TWICE: &str = "-- pgshift: expand\nALTER TABLE t ADD COLUMN b int;\n\
                     -- pgshift: backfill\nUPDATE t SET b = a * 2;";

/// The owner is not bound by the policies: all rows are seen and filled.
#[tokio::test]
async fn row_security_does_not_bind_the_owner() {
    let mut project = Project::new("rls_owner", SECURED, TWICE).await;
    let role = Role::owner(&mut project).await;
    project.to("apply", "ready").await;
    project
        .holds(&["SELECT count(*) = 1000 AND bool_and(b = a * 2) FROM t"])
        .await;
    project.to("revert", "reverted").await;
    role.drop(&project.db).await;
}

#[tokio::test]
async fn forced_row_security_is_refused() {
    let setup = format!("{SECURED} ALTER TABLE t FORCE ROW LEVEL SECURITY;");
    let mut project = Project::new("rls_forced", &setup, TWICE).await;
    let role = Role::owner(&mut project).await;
    let output = project.command("apply", &[]).await.expect(3);
    says(
        &output,
        &[
            "row security hides rows of public.t from role",
            "without FORCE ROW LEVEL SECURITY",
            "nothing was changed",
            ":4:8",
        ],
    );
    assert_eq!(project.state().await, "pending");
    project
        .db
        .execute("ALTER TABLE t NO FORCE ROW LEVEL SECURITY")
        .await;
    project.to("apply", "ready").await;
    role.drop(&project.db).await;
}
