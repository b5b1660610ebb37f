//! Rights: what pgshift needs is what docs/privileges.md says, and what it makes is nobody else's.

mod looking;
mod missing;

use std::collections::BTreeSet;
use std::path::Path;

use crate::cases::says;
use crate::examples;
use crate::lifecycle::Project;
use crate::support::{Cli, Db, Output};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/privileges.md");
    std::fs::read_to_string(path).expect("docs/privileges.md")
}

/// The SQL block of docs/privileges.md after this heading.
fn documented(heading: &str) -> String {
    let page = page();
    let after = page.split_once(heading).expect(heading).1;
    let block = after.split_once("```sql\n").expect("a block of SQL").1;
    block.split_once("```").expect("its end").0.to_owned()
}

/// The roles of the documentation under names of one test, since roles are the cluster's.
struct Roles {
    suffix: String,
}

impl Roles {
    fn new() -> Self {
        Self {
            suffix: format!("{:08x}", fastrand::u32(..)),
        }
    }

    fn name(&self, documented: &str) -> String {
        format!("{documented}_{}", self.suffix)
    }

    /// Runs documented SQL, its roles and its database replaced.
    async fn run(&self, db: &Db, sql: &str) {
        let mut sql = sql.replace("DATABASE shop", &format!("DATABASE {}", db.name()));
        for role in ["pgshift_deploy", "pgshift_read", "shop_owner"] {
            sql = sql.replace(role, &self.name(role));
        }
        db.execute(&sql).await;
    }

    fn url(&self, db: &Db, documented: &str) -> String {
        db.url()
            .replace("postgres@", &format!("{}@", self.name(documented)))
    }

    /// Drops them with all that they own.
    async fn drop(self, db: &Db) {
        for role in ["pgshift_deploy", "pgshift_read", "shop_owner"] {
            let role = self.name(role);
            let there: bool = db
                .one(&format!("SELECT to_regrole('{role}') IS NOT NULL"))
                .await;
            if there {
                db.execute(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"))
                    .await;
            }
        }
    }
}

/// A project whose tables an ordinary role owns, with the roles of the documentation.
async fn owned(name: &str, id: &str, setup: &str, migration: &str) -> (Project, Roles) {
    let roles = Roles::new();
    let owner = roles.name("shop_owner");
    let db = Db::create(name).await;
    db.execute(&format!(
        "CREATE ROLE {owner}; GRANT CREATE, USAGE ON SCHEMA public TO {owner};
         GRANT CREATE ON DATABASE {} TO {owner};
         SET ROLE {owner}; {setup}; RESET ROLE; ANALYZE;
         REVOKE CREATE ON DATABASE {0} FROM {owner}; REVOKE TEMPORARY ON DATABASE {0} FROM PUBLIC",
        db.name()
    ))
    .await;
    roles.run(&db, &documented("A least-privilege role")).await;
    let cli = Cli::offline().env("DATABASE_URL", &roles.url(&db, "pgshift_deploy"));
    cli.migration(id, migration);
    let project = Project {
        db,
        cli,
        id: id.to_owned(),
    };
    (project, roles)
}

/// What is in schema pgshift, as PUBLIC and other roles see it.
async fn nobody_elses(db: &Db) {
    let open: Vec<String> = db
        .rows(
            "SELECT 'schema' FROM pg_namespace, aclexplode(nspacl) a
             WHERE nspname = 'pgshift' AND grantee <> nspowner
             UNION ALL
             SELECT relname || ' ' || privilege_type
             FROM pg_class, aclexplode(relacl) a
             WHERE relnamespace = 'pgshift'::regnamespace AND grantee <> relowner
             UNION ALL
             SELECT proname || ' EXECUTE'
             FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
             WHERE (pronamespace = 'pgshift'::regnamespace OR proname LIKE '%pgshift%')
               AND grantee <> proowner",
        )
        .await;
    assert!(open.is_empty(), "{open:?}");
}

/// Functions that we made, wherever they are: owned by nobody else, run as whoever calls them, and
/// with names that always mean the same.
async fn functions_are_safe(db: &Db) -> i64 {
    let unsafe_ones: Vec<String> = db
        .rows(
            "SELECT p.oid::regprocedure::text || ': ' || coalesce(proconfig::text, 'no settings')
             FROM pg_proc p
             WHERE (pronamespace = 'pgshift'::regnamespace OR proname LIKE '%pgshift%')
               AND (prosecdef OR NOT EXISTS (
                   SELECT FROM unnest(proconfig) c WHERE c LIKE 'search_path=%pg_temp%'))",
        )
        .await;
    assert!(unsafe_ones.is_empty(), "{unsafe_ones:?}");
    db.one("SELECT count(*) FROM pg_proc WHERE pronamespace = 'pgshift'::regnamespace")
        .await
}

/// The whole life of an example by the role of the documentation.
async fn live(name: &str) {
    let (setup, id, migration) = examples::read(name);
    lives(owned(&format!("rights_{name}"), &id, &setup, &migration).await).await;
}

async fn lives((project, roles): (Project, Roles)) {
    // Whatever default privileges there are.
    project
        .db
        .execute(&format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT SELECT ON TABLES TO PUBLIC;
             ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT USAGE ON SCHEMAS TO PUBLIC;
             ALTER DEFAULT PRIVILEGES FOR ROLE {0} GRANT USAGE ON SEQUENCES TO PUBLIC",
            roles.name("pgshift_deploy")
        ))
        .await;
    // The one right that the role of the documentation leaves out: runs go without it.
    let doctor = project.cli.run(&["doctor"]).await;
    let lacks = |line: &&str| line.contains("GRANT ") && !line.contains("wal_compression");
    assert_eq!(doctor.stdout.lines().find(lacks), None, "{}", doctor.stdout);
    let plan = project.command("plan", &[]).await.expect(0).stdout;
    let contract = plan.contains("\nCONTRACT");
    let applied = if contract { "ready" } else { "complete" };
    for round in 0..2 {
        project.to("apply", applied).await;
        nobody_elses(&project.db).await;
        assert!(functions_are_safe(&project.db).await >= 2);
        if round == 0 {
            reads(&project, &roles).await;
        }
        if contract {
            project.command("verify", &[]).await.expect(0);
            project.to("contract", "complete").await;
            functions_are_safe(&project.db).await;
            nobody_elses(&project.db).await;
        }
        if round == 0 {
            project.to("revert", "reverted").await;
        }
    }
    project.to("purge", "purged").await;
    nobody_elses(&project.db).await;
    roles.drop(&project.db).await;
}

/// The role that only looks, with the project's files.
async fn reader(project: &Project, roles: &Roles) -> Cli {
    roles
        .run(&project.db, &documented("A role that only looks"))
        .await;
    let cli = Cli::offline().env("DATABASE_URL", &roles.url(&project.db, "pgshift_read"));
    std::fs::copy(
        project
            .cli
            .dir()
            .join(format!("migrations/{}.sql", project.id)),
        cli.dir().join(format!("migrations/{}.sql", project.id)),
    )
    .expect("the migration");
    cli
}

/// What the role that only looks may always do, and that it does no more.
async fn reads(project: &Project, roles: &Roles) {
    let cli = reader(project, roles).await;
    let id = project.id.as_str();
    for args in [
        &["status"][..],
        &["status", id],
        &["log", id],
        &["log", "--verify"],
    ] {
        cli.run(args).await.expect(0);
    }
    // It writes nothing.
    for args in [&["--yes", "contract", id][..], &["--yes", "revert", id]] {
        let output = cli.run(args).await;
        assert_ne!(output.code, Some(0), "{output:?}");
        helps(&output, &["docs/privileges.md"]);
    }
    // What the state schema shows is looked at by the caller.
    let reader = roles.name("pgshift_read");
    project.db.execute(&format!("DROP OWNED BY {reader}")).await;
}

#[track_caller]
fn helps(output: &Output, words: &[&str]) {
    says(output, words);
    assert!(!output.stderr.contains("internal"), "{}", output.stderr);
}

macro_rules! examples {
    ($($test:ident: $name:literal,)*) => {
        const EXAMPLES: &[&str] = &[$($name),*];

        $(#[tokio::test]
        async fn $test() {
            live($name).await;
        })*
    };
}

examples! {
    the_documented_role_fills_from_another_table: "backfill-from-table",
    the_documented_role_deletes_in_batches: "batched-delete",
    the_documented_role_changes_a_key: "bigint-key",
    the_documented_role_drops_a_column: "drop-column",
    the_documented_role_drops_a_table: "drop-table",
    the_documented_role_merges_columns: "merge-columns",
    the_documented_role_migrates_money_to_cents: "money-to-cents",
    the_documented_role_moves_a_column: "move-column",
    the_documented_role_normalises_text: "normalise-text",
    the_documented_role_adds_a_not_null_column: "not-null-column",
    the_documented_role_runs_a_plain_file: "plain-file",
    the_documented_role_adds_a_public_uuid: "public-uuid",
    the_documented_role_changes_a_referenced_key: "referenced-key",
    the_documented_role_renames_a_column: "rename-column",
    the_documented_role_renames_a_table: "rename-table",
    the_documented_role_adds_a_required_column: "required-column",
    the_documented_role_splits_a_name: "split-name",
    the_documented_role_changes_a_key_to_uuid: "uuid-key",
}

/// What pgshift makes for a table is the table's owner's, also where a member of it makes it.
#[tokio::test]
async fn the_documented_role_adds_numbered_columns() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 900)";
    let migration = "ALTER TABLE t ADD COLUMN number serial;
        ALTER TABLE t ADD COLUMN identity bigint GENERATED BY DEFAULT AS IDENTITY;";
    lives(owned("rights_numbered", "20270101_numbers", setup, migration).await).await;
}

#[test]
fn the_documented_role_lives_every_example() {
    let there: BTreeSet<String> = std::fs::read_dir(examples::folder())
        .expect("migrations-examples/")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    let lived: BTreeSet<String> = EXAMPLES.iter().map(ToString::to_string).collect();
    assert_eq!(lived, there);
}

/// Each right that is missing is named with what grants it, and nothing was changed.
#[tokio::test]
async fn a_missing_right_is_named_with_its_grant() {
    let (setup, id, migration) = examples::read("money-to-cents");
    for (take, command, code, words) in [
        (
            "REVOKE CREATE ON DATABASE shop FROM pgshift_deploy",
            "apply",
            None,
            &["CREATE on the database", "docs/privileges.md"][..],
        ),
        (
            "REVOKE shop_owner FROM pgshift_deploy",
            "plan",
            Some(3),
            &["does not own", "connect as the owner"],
        ),
        (
            "REVOKE USAGE, CREATE ON SCHEMA public FROM shop_owner; \
             REVOKE ALL ON SCHEMA public FROM PUBLIC",
            "plan",
            None,
            &["has the role USAGE on its schema"],
        ),
    ] {
        let (project, roles) = owned("rights_missing", &id, &setup, &migration).await;
        roles.run(&project.db, take).await;
        let before = project.picture().await;
        let output = project.command(command, &[]).await;
        assert!(matches!(output.code, Some(1..70)), "{take}: {output:?}");
        if let Some(code) = code {
            assert_eq!(output.code, Some(code), "{take}: {output:?}");
        }
        helps(&output, words);
        assert_eq!(project.picture().await, before, "{take}");
        roles.drop(&project.db).await;
    }
}

/// `doctor` lists what is missing, with the statement that gives it.
#[tokio::test]
async fn doctor_lists_missing_rights() {
    let (setup, id, migration) = examples::read("money-to-cents");
    let (project, roles) = owned("rights_doctor", &id, &setup, &migration).await;
    roles
        .run(
            &project.db,
            "REVOKE CREATE, TEMPORARY ON DATABASE shop FROM pgshift_deploy;
             REVOKE pg_monitor FROM pgshift_deploy",
        )
        .await;
    let output = project.cli.run(&["doctor"]).await;
    for grant in [
        "GRANT CREATE ON DATABASE",
        "GRANT TEMPORARY ON DATABASE",
        "GRANT pg_monitor",
    ] {
        assert!(output.stdout.contains(grant), "{grant}\n{}", output.stdout);
    }
    roles.drop(&project.db).await;
}

/// Sessions of a run compress whole pages of the log where they may and nothing else is said.
#[tokio::test]
async fn whole_pages_are_compressed_where_the_role_may() {
    let setup = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)";
    let file =
        "ALTER TABLE t ADD COLUMN w text; UPDATE t SET w = current_setting('wal_compression')";
    let (project, roles) = owned("compressed", "1", setup, file).await;
    let db = &project.db;
    let version: i32 = db
        .one("SELECT current_setting('server_version_num')::int")
        .await;
    // Not every server is built with it.
    let lz4: bool = db
        .one(
            "SELECT coalesce('lz4' = ANY (enumvals), false) FROM pg_settings
             WHERE name = 'wal_compression'",
        )
        .await;
    let deploy = roles.name("pgshift_deploy");
    let pglz = if version < 150_000 { "on" } else { "pglz" };
    for (before, in_runs, said) in [
        (
            String::new(),
            "off",
            "GRANT SET ON PARAMETER wal_compression TO",
        ),
        (
            format!("GRANT SET ON PARAMETER wal_compression TO {deploy}"),
            "lz4",
            "off, lz4 in runs",
        ),
        (
            format!("ALTER DATABASE {} SET wal_compression = {pglz}", db.name()),
            pglz,
            pglz,
        ),
    ] {
        if !lz4 && in_runs == "lz4" {
            continue;
        }
        if !before.is_empty() {
            db.execute(&before).await;
        }
        let doctor = project.cli.run(&["doctor"]).await.stdout;
        let words: Vec<&str> = doctor.split_whitespace().collect();
        assert!(!lz4 || words.join(" ").contains(said), "{said}: {doctor}");
        project.to("apply", "ready").await;
        project
            .holds(&[&format!("SELECT w = '{in_runs}' FROM t")])
            .await;
        project.command("revert", &[]).await.expect(0);
    }
    roles.drop(db).await;
}
