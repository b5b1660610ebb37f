//! The shop of the demo: its table, its migration, and an account of its own of what every row
//! must hold.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::cluster::sql;
use crate::error::Result;

/// The database.
pub(super) const DATABASE: &str = "shop";

/// The id of the migration.
pub(super) const MIGRATION: &str = "20261123_orders_total_cents";

/// Its file: money as a whole number of cents instead of `numeric`.
pub(super) const MIGRATION_SQL: &str = "\
-- pgshift: expand
ALTER TABLE orders ADD COLUMN total_cents bigint;

-- pgshift: backfill
UPDATE orders SET total_cents = round(total * 100)::bigint;

-- pgshift: reverse
UPDATE orders SET total = total_cents / 100.0;

-- pgshift: contract
ALTER TABLE orders ALTER COLUMN total_cents SET NOT NULL;
ALTER TABLE orders DROP COLUMN total;
";

const TABLE: &str = "
CREATE TABLE orders (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL,
    total       numeric(10,2) NOT NULL,
    status      text NOT NULL DEFAULT 'new',
    note        text,
    created_at  timestamptz NOT NULL DEFAULT now()
)";

/// What a loaded order amounts to, in cents. [`loaded_cents_sql`] says the same to the server.
pub(super) fn loaded_cents(id: i64) -> i64 {
    1 + id.wrapping_mul(7919).rem_euclid(999_999)
}

fn loaded_cents_sql(id: &str) -> String {
    format!("(1 + ({id} * 7919) % 999999)")
}

/// Makes the table and loads it with `rows` orders.
pub(super) async fn load(client: &Client, rows: i64) -> Result<()> {
    let fill = format!(
        "INSERT INTO orders (customer_id, total, status, note, created_at)
         SELECT 1 + g % 50000, {} / 100.0, 'paid', 'order number ' || g,
                now() - ({rows} - g) * interval '1 second'
         FROM generate_series(1::bigint, {rows}) AS g",
        loaded_cents_sql("g")
    );
    // Without the VACUUM the first one of autovacuum would fall into the time that is measured.
    for statement in [
        TABLE,
        &fill,
        "CREATE INDEX orders_customer ON orders (customer_id)",
        "VACUUM (FREEZE, ANALYZE) orders",
        "CHECKPOINT",
    ] {
        client
            .batch_execute(statement)
            .await
            .map_err(|e| sql(statement, e))?;
    }
    Ok(())
}

/// Columns of the table as the catalog has them: whatever a migration leaves behind shows here.
pub(super) async fn columns(client: &Client) -> Result<Vec<String>> {
    let query = "SELECT format('%s %s%s', attname, format_type(atttypid, atttypmod),
                               CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END)
                 FROM pg_attribute
                 WHERE attrelid = 'orders'::regclass AND attnum > 0 AND NOT attisdropped
                 UNION ALL
                 SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgrelid = 'orders'::regclass
                 UNION ALL
                 SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid)
                 FROM pg_constraint WHERE conrelid = 'orders'::regclass
                 ORDER BY 1";
    let rows = client.query(query, &[]).await.map_err(|e| sql(query, e))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Which columns must hold what the application wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// `total` and `total_cents`.
    Both,
    /// `total_cents`.
    New,
    /// `total`.
    Old,
}

/// Amounts in cents by id as the application remembers them; `None` for a deleted order.
pub(super) type Memory = HashMap<i64, Option<i64>>;

/// Freezes what this session sees of the database from here on; [`wrong_rows`] looks at it later,
/// beside writers.
pub(super) async fn freeze(client: &Client) -> Result<()> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    client
        .batch_execute(begin)
        .await
        .map_err(|e| sql(begin, e))?;
    // A snapshot is taken by the first statement, not by BEGIN.
    let first = "SELECT count(*) FROM pg_class";
    client
        .query_one(first, &[])
        .await
        .map_err(|e| sql(first, e))?;
    Ok(())
}

/// Rows of the frozen table that are missing, that should not be there, or whose amount is not
/// what was loaded or last written. Nothing of pgshift is asked. Ends the transaction.
pub(super) async fn wrong_rows(
    client: &Client,
    loaded: i64,
    memory: &Memory,
    holds: Holds,
) -> Result<i64> {
    let create = "CREATE TEMPORARY TABLE remembered (id bigint PRIMARY KEY, cents bigint) \
                  ON COMMIT DROP";
    client
        .batch_execute(create)
        .await
        .map_err(|e| sql(create, e))?;
    let (ids, cents): (Vec<i64>, Vec<Option<i64>>) = memory.iter().map(|(k, v)| (*k, *v)).unzip();
    let fill = "INSERT INTO remembered SELECT * FROM unnest($1::bigint[], $2::bigint[])";
    client
        .execute(fill, &[&ids, &cents])
        .await
        .map_err(|e| sql(fill, e))?;
    let old = "o.total * 100 IS DISTINCT FROM s.cents::numeric";
    let new = "o.total_cents IS DISTINCT FROM s.cents";
    let differs = match holds {
        Holds::Both => format!("{old} OR {new}"),
        Holds::New => new.to_owned(),
        Holds::Old => old.to_owned(),
    };
    let compare = format!(
        "WITH should AS (
             SELECT id, cents FROM remembered WHERE cents IS NOT NULL
             UNION ALL
             SELECT g, {} FROM generate_series(1::bigint, $1) AS g
             WHERE NOT EXISTS (SELECT FROM remembered r WHERE r.id = g)
         )
         SELECT count(*) FROM should s FULL JOIN orders o ON o.id = s.id
         WHERE o.id IS NULL OR s.id IS NULL OR {differs}",
        loaded_cents_sql("g")
    );
    let wrong = client
        .query_one(&compare, &[&loaded])
        .await
        .map_err(|e| sql(&compare, e))?
        .get(0);
    client
        .batch_execute("COMMIT")
        .await
        .map_err(|e| sql("COMMIT", e))?;
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loaded_amounts_fit_the_column() {
        for id in [1, 2, 999_999, 1_000_000, 10_000_000_000] {
            assert!((1..=999_999).contains(&loaded_cents(id)), "{id}");
        }
        assert_ne!(loaded_cents(1), loaded_cents(2));
    }
}
