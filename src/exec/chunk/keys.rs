//! Where the next chunk by key ends.

use deadpool_postgres::Object;

use super::{Place, refs};
use crate::error::Result;
use crate::pg::error::from_pg;
use crate::pg::session::EXACT_TEXT;

/// The upper key of the next keyset chunk; `None` where fewer rows are left.
pub(in crate::exec) async fn upper_key(
    client: &Object,
    place: &Place<'_>,
    after: Option<&Vec<String>>,
    rows: u64,
) -> Result<Option<Vec<String>>> {
    let sql = place.spec.upper_key_sql(place.leaf, after.is_some());
    let statement = client.prepare_cached(&sql).await.map_err(from_pg)?;
    let offset = i64::try_from(rows.saturating_sub(1)).unwrap_or(i64::MAX);
    let keys: Vec<String> = after.into_iter().flatten().cloned().collect();
    let mut params = refs(&keys);
    params.push(&offset);
    let exact = client.prepare_cached(EXACT_TEXT).await.map_err(from_pg)?;
    // One flight, as in `run`; the COMMIT of a failed transaction is a rollback.
    let (begin, set, row, end) = tokio::join!(
        client.batch_execute("BEGIN READ ONLY"),
        client.query_one(&exact, &[]),
        client.query_opt(&statement, &params),
        client.batch_execute("COMMIT"),
    );
    begin.map_err(from_pg)?;
    set.map_err(from_pg)?;
    let row = row.map_err(from_pg)?;
    end.map_err(from_pg)?;
    Ok(row.map(|row| (0..row.len()).map(|n| row.get(n)).collect()))
}
