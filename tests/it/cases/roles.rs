//! Who connects, and to what: roles without rights, a standby, a wrong address.

use crate::cases::{says, untouched};
use crate::lifecycle::Project;
use crate::support::{Cli, Db};

/// A role of the cluster that a test made.
pub(super) struct Role(String);

impl Role {
    /// A role that may connect and make schemas, and nothing else; the project's commands use it.
    pub(super) async fn create(project: &mut Project) -> Self {
        let role = format!("r_{:08x}", fastrand::u32(..));
        let db = project.db.name();
        project
            .db
            .execute(&format!(
                "CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {db} TO {role}"
            ))
            .await;
        let cli = Cli::offline().env("DATABASE_URL", &url_of(&project.db, &role));
        std::fs::copy(
            project
                .cli
                .dir()
                .join(format!("migrations/{}.sql", project.id)),
            cli.dir().join(format!("migrations/{}.sql", project.id)),
        )
        .expect("the migration");
        project.cli = cli;
        Self(role)
    }

    /// A role that owns table `t` and may make objects beside it.
    pub(super) async fn owner(project: &mut Project) -> Self {
        let role = Self::create(project).await;
        project
            .db
            .execute(&format!(
                "ALTER TABLE t OWNER TO {0}; GRANT CREATE, USAGE ON SCHEMA public TO {0};
                 GRANT pg_monitor TO {0}",
                role.0
            ))
            .await;
        role
    }

    /// Drops the role with all that it owns.
    pub(super) async fn drop(self, db: &Db) {
        db.execute(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.0))
            .await;
    }
}

fn url_of(db: &Db, user: &str) -> String {
    db.url().replace("postgres@", &format!("{user}@"))
}

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, a int);
                     INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n;";
const TWICE: &str = "-- pgshift: expand\nALTER TABLE t ADD COLUMN b int;\n\
                     -- pgshift: backfill\nUPDATE t SET b = a * 2;";

#[tokio::test]
async fn a_role_that_does_not_own_the_table() {
    let mut project = Project::new("not_owner", SETUP, TWICE).await;
    let before = project.picture().await;
    let role = Role::create(&mut project).await;
    for command in ["plan", "apply"] {
        let output = project.command(command, &[]).await.expect(3);
        says(
            &output,
            &[
                &format!(
                    "role {} does not own public.t (its owner is postgres)",
                    role.0
                ),
                "connect as the owner",
                "nothing was changed",
            ],
        );
    }
    untouched(&project, &before).await;
    project
        .db
        .execute(&format!(
            "GRANT pg_monitor TO {0}; ALTER TABLE t OWNER TO {0};
                           GRANT CREATE ON SCHEMA public TO {0}",
            role.0
        ))
        .await;
    project.to("apply", "ready").await;
    project.holds(&["SELECT bool_and(b = a * 2) FROM t"]).await;
    role.drop(&project.db).await;
}

/// A change of a column's type makes each partition's part by itself.
#[tokio::test]
async fn a_role_that_does_not_own_a_partition() {
    let setup = "CREATE TABLE t (id int, a int) PARTITION BY RANGE (id);
                 CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
                 INSERT INTO t SELECT n, n FROM generate_series(1, 99) n;";
    let file = "ALTER TABLE t ALTER a TYPE bigint;";
    let mut project = Project::new("not_owner_of_part", setup, file).await;
    let role = Role::owner(&mut project).await;
    let output = project.command("apply", &[]).await.expect(3);
    says(
        &output,
        &[
            &format!(
                "role {} does not own public.t_1 (its owner is postgres)",
                role.0
            ),
            "connect as the owner",
        ],
    );
    project
        .holds(&["SELECT count(*) = 2 FROM pg_attribute
             WHERE attrelid = 't'::regclass AND attnum > 0"])
        .await;
    role.drop(&project.db).await;
}

/// There is a standby, and this role may not see how far it is: blind means stopped.
#[tokio::test]
async fn a_role_that_cannot_see_the_standby() {
    let mut project = Project::new("no_monitor", SETUP, TWICE).await;
    let role = Role::owner(&mut project).await;
    project
        .db
        .execute(&format!("REVOKE pg_monitor FROM {}", role.0))
        .await;
    let run = project.cli.spawn(&["apply", "--duty", "1"]);
    let held = "SELECT EXISTS (SELECT FROM pgshift.event WHERE kind = 'held'
                AND detail::text LIKE '%pg_monitor%')";
    wait_for(&project, held).await;
    run.interrupt();
    let output = run.wait().await.expect(5);
    says(
        &output,
        &["cannot see the state of the replicas", "pgshift resume"],
    );
    project.holds(&["SELECT bool_and(b IS NULL) FROM t"]).await;
    // Either the right, or the decision to go without.
    let output = project.command("resume", &["--max-lag", "off"]).await;
    output.expect(0);
    project.holds(&["SELECT bool_and(b = a * 2) FROM t"]).await;
    role.drop(&project.db).await;
}

async fn wait_for(project: &Project, condition: &str) {
    for _ in 0..400 {
        let there: bool = project
            .db
            .one("SELECT to_regclass('pgshift.event') IS NOT NULL")
            .await;
        if there && project.db.one::<bool>(condition).await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("never: {condition}");
}

#[tokio::test]
async fn a_standby_is_no_target() {
    let mut project = Project::new("standby", SETUP, TWICE).await;
    let standby = project.db.standby_url();
    let seen = async |url: &str| {
        let client = crate::support::connect(url).await.ok()?;
        client.query_one("SELECT count(*) FROM t", &[]).await.ok()
    };
    while seen(&standby).await.is_none() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let cli = Cli::offline().env("DATABASE_URL", &standby);
    cli.migration(&project.id, TWICE);
    project.cli = cli;
    for command in ["plan", "apply"] {
        let output = project.command(command, &[]).await;
        assert!(matches!(output.code, Some(3 | 7)), "{output:?}");
        says(&output, &["standby"]);
    }
    assert_eq!(project.state().await, "pending");
}

#[tokio::test]
async fn a_wrong_address() {
    let mut project = Project::new("address", SETUP, TWICE).await;
    let before = project.picture().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("its number").port();
    drop(nobody);
    let url = format!("postgres://postgres@127.0.0.1:{port}/{}", project.db.name());
    let right = std::mem::replace(&mut project.cli, Cli::offline().env("DATABASE_URL", &url));
    project.cli.migration(&project.id, TWICE);
    for command in ["plan", "apply"] {
        let output = project.command(command, &[]).await.expect(7);
        says(&output, &[&port.to_string()]);
    }
    untouched(&project, &before).await;
    project.cli = right;
    project.to("apply", "ready").await;
}

#[tokio::test]
async fn a_wrong_password_is_never_shown() {
    let project = Project::new("password", SETUP, TWICE).await;
    let role = format!("r_{:08x}", fastrand::u32(..));
    // This role alone has to give a password.
    project
        .db
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'right horse';
             DO $$ DECLARE
                 file text := current_setting('hba_file');
                 rules text := 'host all {role} 127.0.0.1/32 scram-sha-256' || E'\\n'
                     || pg_read_file(file);
             BEGIN
                 EXECUTE format(
                     'COPY (SELECT * FROM regexp_split_to_table(%L, E''\\n'')) TO %L', rules, file);
             END $$;
             SELECT pg_reload_conf()"
        ))
        .await;
    let url = |password: &str| {
        project
            .db
            .url()
            .replace("postgres@", &format!("{role}:{password}@"))
    };
    let cli = Cli::offline().env("DATABASE_URL", &url("wrong-donkey"));
    cli.migration(&project.id, TWICE);
    let mut output = cli.run(&["plan"]).await;
    // The server reads the file anew a moment later.
    for _ in 0..50 {
        if output.code == Some(2) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        output = cli.run(&["plan"]).await;
    }
    let output = output.expect(2);
    says(&output, &["password authentication failed"]);
    assert!(!output.stderr.contains("donkey"), "{}", output.stderr);
    let cli = Cli::offline().env("DATABASE_URL", &url("right%20horse"));
    cli.run(&["status"]).await.expect(0);
    project.db.execute(&format!("DROP ROLE {role}")).await;
}
