//! The partitions of a table whose column changes its type, with what is their own.

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::super::read::get;
use super::{details, parts, query, relations};
use crate::catalog::details::Partition;
use crate::error::Result;

/// Parents before their partitions. `pg_inherits` is read instead of `pg_partition_tree`, which
/// would lock every partition.
const PARTITIONS: &str = "
WITH RECURSIVE down(oid, level) AS (
    SELECT i.inhrelid, 1 FROM pg_inherits i WHERE i.inhparent = ANY ($1::oid[])
    UNION ALL
    SELECT i.inhrelid, d.level + 1 FROM down d JOIN pg_inherits i ON i.inhparent = d.oid)
SELECT d.oid
FROM down d
JOIN pg_class c ON c.oid = d.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY d.level, n.nspname, c.relname";

const ATTACHED: &str = "
SELECT x.indrelid AS oid, i.relname::text AS name, p.relname::text AS parent
FROM pg_index x
JOIN pg_class i ON i.oid = x.indexrelid
JOIN pg_inherits h ON h.inhrelid = i.oid
JOIN pg_class p ON p.oid = h.inhparent
WHERE x.indrelid = ANY ($1::oid[])";

const INHERITED: &str = "
SELECT conrelid AS oid, conname::text AS name
FROM pg_constraint
WHERE conrelid = ANY ($1::oid[]) AND (coninhcount > 0 OR conparentid <> 0)";

/// The partitions of a table at every level, parents first.
///
/// # Errors
/// What the server or the connection gave.
pub async fn partitions(client: &Client, root: u32, columns: &[&str]) -> Result<Vec<Partition>> {
    let oids: Vec<u32> = query(client, "partitions", PARTITIONS, &[root])
        .await?
        .iter()
        .map(|row| get(row, "oid"))
        .collect::<Result<_>>()?;
    let mut all = BTreeMap::new();
    for (oid, table) in relations::tables(client, &oids).await? {
        let partition = Partition {
            table,
            attached: BTreeMap::new(),
            inherited: std::collections::BTreeSet::new(),
            definitions: details::definitions(client, oid).await?,
            details: details::columns(client, oid, columns).await?,
        };
        all.insert(oid, partition);
    }
    for (oid, column) in parts::columns(client, &oids).await? {
        if let Some(partition) = all.get_mut(&oid) {
            partition.table.columns.push(column);
        }
    }
    for (oid, index) in parts::indexes(client, &oids).await? {
        if let Some(partition) = all.get_mut(&oid) {
            partition.table.indexes.push(index);
        }
    }
    for (oid, constraint) in parts::constraints(client, &oids).await? {
        if let Some(partition) = all.get_mut(&oid) {
            partition.table.constraints.push(constraint);
        }
    }
    for (oid, column, description) in parts::dependents(client, &oids).await? {
        if let Some(partition) = all.get_mut(&oid) {
            let dependents = &mut partition.table.dependents;
            dependents.entry(column).or_default().push(description);
        }
    }
    for (oid, leaf, bytes) in relations::leaves(client, &oids).await? {
        if let Some(partition) = all.get_mut(&oid) {
            partition.table.rows += leaf.rows;
            partition.table.bytes += bytes;
            partition.table.leaves.push(leaf);
        }
    }
    for row in &query(client, "attached indexes", ATTACHED, &oids).await? {
        if let Some(partition) = all.get_mut(&get(row, "oid")?) {
            partition
                .attached
                .insert(get(row, "name")?, get(row, "parent")?);
        }
    }
    for row in &query(client, "inherited constraints", INHERITED, &oids).await? {
        if let Some(partition) = all.get_mut(&get(row, "oid")?) {
            partition.inherited.insert(get(row, "name")?);
        }
    }
    Ok(oids.iter().filter_map(|oid| all.remove(oid)).collect())
}
