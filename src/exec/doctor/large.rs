//! What a backfill of the largest tables would write at the server's `max_wal_size`.

use bytesize::ByteSize;
use tokio_postgres::Client;

use super::{Finding, Verdict};
use crate::catalog::QName;
use crate::error::Result;
use crate::exec::probe;
use crate::pg::error::from_pg;
use crate::plan::cost::{Index, Large, TooOften, too_often};
use crate::sql::quote::literal;

/// The largest tables by the size that VACUUM or ANALYZE saw last, so that not every file is looked
/// at; their rows as the planner counts them. Columns that this role may not read have no
/// correlation here: they count as in no order.
const LARGEST: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name, s.blocks,
       (greatest(c.reltuples, 0)::float8 / greatest(c.relpages, 1) * s.blocks)::bigint AS rows,
       i.bytes, i.correlations
FROM (SELECT * FROM pg_class
      WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND reltuples > 0
      ORDER BY relpages DESC LIMIT 5) AS c
JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (SELECT pg_relation_size(c.oid) / current_setting('block_size')::int AS blocks) AS s
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(pg_relation_size(x.indexrelid)), '{}') AS bytes,
           coalesce(array_agg(coalesce(t.correlation, 0)::float8), '{}') AS correlations
    FROM pg_index x
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = x.indkey[0] AND a.attnum > 0
    LEFT JOIN pg_stats t ON t.schemaname = n.nspname AND t.tablename = c.relname
                            AND t.attname = a.attname AND NOT t.inherited
    WHERE x.indrelid = c.oid) AS i
WHERE s.blocks IS NOT NULL AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'";

/// A finding where the log between two checkpoints is too small for one of them.
pub(super) async fn backfills(client: &Client) -> Result<Option<Finding>> {
    let rows = client.query(LARGEST, &[]).await.map_err(from_pg)?;
    let tables: Vec<Large> = rows
        .iter()
        .map(|row| {
            let (schema, name): (String, String) = (row.get("schema"), row.get("name"));
            let (bytes, order): (Vec<i64>, Vec<f64>) = (row.get("bytes"), row.get("correlations"));
            let index = |(bytes, correlation)| Index { bytes, correlation };
            Large {
                name: QName::new(schema, name),
                rows: row.get("rows"),
                blocks: row.get("blocks"),
                indexes: bytes.into_iter().zip(order).map(index).collect(),
            }
        })
        .collect();
    let server = probe::server(client).await?;
    Ok(too_often(server, &tables).map(|found| finding(server.max_wal, &found)))
}

fn finding(max_wal: i64, found: &TooOften) -> Finding {
    let size = |bytes: i64| ByteSize(bytes.max(0).unsigned_abs()).to_string();
    let value = format!(
        "a backfill of {} writes about {} of log at a max_wal_size of {}: its indexes in no order \
         ({}) are written again after each checkpoint",
        found.name,
        size(found.wal),
        size(max_wal),
        size(found.scattered)
    );
    let drop = "drop what can be built again afterwards (DROP INDEX CONCURRENTLY)";
    let advice = match found.better {
        Some((larger, less)) => format!(
            "before it, ALTER SYSTEM SET max_wal_size = {} and SELECT pg_reload_conf(): about \
             {}, where the disk of pg_wal has the room; or {drop}",
            literal(&format!("{}MB", larger >> 20)),
            size(less)
        ),
        None => format!("no usual max_wal_size is enough: {drop}"),
    };
    Finding::new("log of a large backfill", value, Verdict::Note).advice(advice)
}
