//! Timeouts that a role has for the application: no step, chunk, lease or verify ends by them.

use std::collections::BTreeMap;

use super::{ID, Scene, TOTAL_CENTS, orders};
use crate::points::{Row, history, table};
use crate::support::{Cli, Db};

const ROWS: u32 = 2_000;

/// Steps that take longer than any of the timeouts: a check, an index, a verify.
fn setup() -> String {
    format!(
        "{};
         CREATE FUNCTION slow(n integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
             'BEGIN PERFORM pg_sleep(0.0005); RETURN n; END'",
        orders(ROWS)
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeouts_of_the_role_end_nothing_of_a_run() {
    let db = Db::with("timeouts", &setup()).await;
    let role = format!("hasty_{}", fastrand::u32(..));
    db.execute(&format!(
        "CREATE ROLE {role} LOGIN; GRANT pg_monitor TO {role};
         GRANT CREATE, TEMPORARY ON DATABASE {} TO {role};
         GRANT CREATE ON SCHEMA public TO {role}; ALTER TABLE orders OWNER TO {role};
         ALTER ROLE {role} SET statement_timeout = '1s';
         ALTER ROLE {role} SET lock_timeout = '50ms';
         ALTER ROLE {role} SET idle_in_transaction_session_timeout = '300ms';
         ALTER ROLE {role} SET idle_session_timeout = '400ms'",
        db.name()
    ))
    .await;
    let version: i32 = db
        .one("SELECT current_setting('server_version_num')::int")
        .await;
    if version >= 170_000 {
        db.execute(&format!("ALTER ROLE {role} SET transaction_timeout = '1s'"))
            .await;
    }
    let migration = TOTAL_CENTS.replace(
        "-- pgshift: backfill",
        "ALTER TABLE orders ADD CONSTRAINT sane CHECK (slow(customer) >= 0);
         CREATE INDEX orders_slow ON orders (slow(customer));

-- pgshift: backfill",
    );
    let url = db.url().replacen("postgres@", &format!("{role}@"), 1);
    let mut scene = Scene::on(db, &migration);
    scene.cli = Cli::new(&scene.db).env("DATABASE_URL", &url);
    scene.cli.migration(ID, &migration);
    // The backfill too: sessions wait between chunks for longer than they may be idle.
    scene
        .done(&["apply", "--duty", "0.4", "--batch", "200"])
        .await;
    scene.done(&["verify", ID]).await;
    scene.done(&["contract", ID]).await;
    scene.done(&["revert", ID]).await;
    let lost: i64 = scene
        .one("SELECT count(*) FROM pgshift.run WHERE epoch <> 1 OR error IS NOT NULL")
        .await;
    assert_eq!(lost, 0, "a run was stopped, or lost its sessions");
    let took: bool = scene
        .one(
            "SELECT count(*) >= 2 FROM pgshift.event WHERE kind = 'step_done'
               AND (detail->>'elapsed_ms')::int > 1000",
        )
        .await;
    assert!(took, "no step took longer than the timeouts");
    let wrong = history::wrong_with(&scene.db).await;
    assert_eq!(wrong, Vec::<String>::new());
    let mut row = Row::default();
    row.count(true, 0, 0);
    table::write(&BTreeMap::from([(
        "short timeouts on role and database",
        row,
    )]));
    // The role goes with what it owns.
    let clean = format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}");
    scene.db.execute(&clean).await;
}
