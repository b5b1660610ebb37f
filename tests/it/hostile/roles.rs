//! Names of roles: of whom the tables belong to, of whom rights on them were given to, and of the one
//! that connects.

use super::live;
use super::names::{DOLLARS, LINES, QUOTES, TERMINAL, UNICODE, q};
use crate::lifecycle::Project;
use crate::support::{Cli, Db};

/// Roles are the cluster's: these are one test's.
struct Roles {
    names: Vec<String>,
}

impl Roles {
    fn new() -> Self {
        let suffix = format!("{:08x}", fastrand::u32(..));
        let long = "é".repeat((63 - suffix.len()) / 2);
        let all = [QUOTES, LINES, DOLLARS, TERMINAL, UNICODE, &long];
        let names = all.map(|name| {
            // As much of it as the server takes, in whole characters.
            let mut name = name.to_owned();
            while name.len() + suffix.len() > 63 {
                name.pop();
            }
            format!("{name}{suffix}")
        });
        Self {
            names: names.into(),
        }
    }

    /// Puts quoted names in place of `<0>`, `<1>`, …
    fn fill(&self, text: &str) -> String {
        let names = self.names.iter().enumerate();
        names.fold(text.to_owned(), |t, (n, name)| {
            t.replace(&format!("<{n}>"), &q(name))
        })
    }

    async fn create(&self, test: &str) -> Db {
        let db = Db::create(test).await;
        for n in 0..self.names.len() {
            let sql = format!("CREATE ROLE <{n}> LOGIN; GRANT USAGE ON SCHEMA public TO <{n}>");
            db.execute(&self.fill(&sql)).await;
        }
        let deploy = format!(
            "GRANT <0>, <1>, <5> TO <2>; GRANT pg_monitor TO <2>;
             GRANT CREATE, TEMPORARY ON DATABASE {} TO <2>;
             GRANT CREATE ON SCHEMA public TO <0>, <1>, <2>, <5>",
            db.name()
        );
        db.execute(&self.fill(&deploy)).await;
        db
    }

    /// A project whose commands connect as `<2>`, a member of `<0>`, `<1>` and `<5>`.
    fn project(&self, db: Db, id: &str, migration: &str) -> Project {
        let bytes = self.names[2].bytes().map(|b| format!("%{b:02X}"));
        let user = bytes.collect::<Vec<_>>().concat();
        let url = db.url().replace("postgres@", &format!("{user}@"));
        let cli = Cli::offline().env("DATABASE_URL", &url);
        cli.migration(id, &self.fill(migration));
        Project {
            db,
            cli,
            id: id.to_owned(),
        }
    }

    async fn drop(self, db: &Db) {
        for n in 0..self.names.len() {
            let sql = format!("DROP OWNED BY <{n}> CASCADE; DROP ROLE <{n}>");
            db.execute(&self.fill(&sql)).await;
        }
    }
}

async fn life(test: &str, setup: &str, migration: &str) {
    let roles = Roles::new();
    let db = roles.create(test).await;
    db.execute("CREATE TABLE canary (id int)").await;
    db.execute(&roles.fill(setup)).await;
    db.execute("ANALYZE").await;
    let project = roles.project(db, &format!("20270101_{test}"), migration);
    live(&project).await;
    let canary: i64 = project.db.one("SELECT count(*) FROM canary").await;
    assert_eq!(canary, 0);
    roles.drop(&project.db).await;
}

/// The column, its view and what they were granted to are made again.
#[tokio::test]
async fn owners_and_grantees_of_what_a_type_change_makes_again() {
    life(
        "hostile_role_type",
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL, note text);
         ALTER TABLE t OWNER TO <0>;
         SET ROLE <0>;
         GRANT SELECT, UPDATE ON t TO <3> WITH GRANT OPTION;
         GRANT SELECT (n), UPDATE (n) ON t TO <4>;
         GRANT SELECT ON t TO <1>;
         CREATE POLICY seen ON t FOR SELECT TO <3>, <5> USING (id > 0);
         ALTER TABLE t ENABLE ROW LEVEL SECURITY;
         RESET ROLE; SET ROLE <3>;
         GRANT SELECT ON t TO <5>;
         RESET ROLE; SET ROLE <1>;
         CREATE VIEW v AS SELECT id, n FROM t WHERE n > 5;
         GRANT SELECT ON v TO <4> WITH GRANT OPTION;
         GRANT SELECT (n), INSERT ON v TO <5>;
         RESET ROLE;
         INSERT INTO t SELECT n, n, 'x' FROM generate_series(1, 900) n;",
        "ALTER TABLE t ALTER COLUMN n TYPE bigint;",
    )
    .await;
}

/// A view takes the old name, with the rights of the table.
#[tokio::test]
async fn owners_and_grantees_of_a_table_that_is_renamed() {
    life(
        "hostile_role_rename",
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
         ALTER TABLE t OWNER TO <5>;
         SET ROLE <5>;
         GRANT SELECT ON t TO <3> WITH GRANT OPTION;
         GRANT SELECT (n), UPDATE (n) ON t TO <4>;
         GRANT INSERT, DELETE ON t TO <1>;
         RESET ROLE;
         INSERT INTO t SELECT n, n FROM generate_series(1, 900) n;",
        "ALTER TABLE t RENAME TO renamed;",
    )
    .await;
}

/// Rights and owners are also what a migration itself is about.
#[tokio::test]
async fn in_statements_of_a_migration() {
    life(
        "hostile_role_grant",
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
         ALTER TABLE t OWNER TO <0>;
         GRANT SELECT ON t TO <3>;
         INSERT INTO t SELECT n, n FROM generate_series(1, 900) n;",
        "-- pgshift: expand
         ALTER TABLE t ADD COLUMN total bigint;
         GRANT SELECT, UPDATE ON t TO <4>;
         REVOKE SELECT ON t FROM <3>;
         -- pgshift: backfill
         UPDATE t SET total = n * 2;
         -- pgshift: contract
         ALTER TABLE t ALTER COLUMN total SET NOT NULL, DROP COLUMN n;",
    )
    .await;
}
