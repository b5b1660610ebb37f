//! What is kept whole: rows, by verify and repair; the log, by its chain; the state schema, by its
//! upgrades.

mod chain;
mod repair;
mod upgrade;
mod verify;

use crate::support::{Cli, Db};

/// The migration of these tests.
const ID: &str = "20261123_total_cents";
const TWO_WAYS: &str = "-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
";

/// A database whose table `orders` is made by `sql`, with the migration applied.
async fn ready(name: &str, sql: &str, migration: &str) -> (Db, Cli) {
    let db = Db::with(name, sql).await;
    let cli = Cli::new(&db);
    cli.migration(ID, migration);
    cli.run(&["apply", "--duty", "100%"]).await.expect(0);
    (db, cli)
}

/// Orders with a plain key.
fn plain(rows: u32) -> String {
    format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, total numeric(12,2) NOT NULL, note text);
         INSERT INTO orders SELECT n, n / 4.0, repeat('x', 60) FROM generate_series(1, {rows}) n;
         ANALYZE orders"
    )
}

/// Changes rows behind the sync trigger's back.
async fn behind(db: &Db, sql: &str) {
    db.execute(&format!(
        "BEGIN; SET LOCAL session_replication_role = replica; {sql}; COMMIT"
    ))
    .await;
}
