//! The schema that a trial begins with, and rows in its tables.

use std::collections::BTreeSet;

use serde::Serialize;
use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::fill::{self, Batch};
use crate::pg;
use crate::pg::error::from_pg;
use crate::snapshot::{Schema, Snapshot};
use crate::sql::Span;
use crate::sql::quote::{ident, qname};
use crate::sql::split::split_all;

/// Makes roles that are not there. They belong to the whole server: for a private one only.
pub(super) async fn roles<'a>(
    client: &Client,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    for name in names {
        let there = client
            .query_opt("SELECT FROM pg_roles WHERE rolname = $1", &[&name])
            .await
            .map_err(from_pg)?;
        if there.is_none() {
            client
                .batch_execute(&format!("CREATE ROLE {}", ident(name)))
                .await
                .map_err(from_pg)?;
        }
    }
    Ok(())
}

/// The SQL of a snapshot.
///
/// # Errors
/// `Refused` saying why there is none, and both ways out.
pub fn schema_of(snapshot: &Snapshot) -> Result<&Schema> {
    let major = snapshot.catalog.major();
    let why = snapshot.schema_missing.as_deref();
    snapshot.schema.as_ref().ok_or_else(|| {
        Error::refused(format!(
            "the snapshot has no SQL of the schema: {}",
            why.unwrap_or("there was no pg_dump when it was made")
        ))
        .left("nothing was tried")
        .hint(format!(
            "either `pgshift snapshot` again where a pg_dump of PostgreSQL {major} or newer is \
             (package postgresql-client-{major}), or `--from migrations`: the schema is then made \
             by the earlier files of the folder, which needs no pg_dump"
        ))
    })
}

/// Makes the schema of a snapshot.
///
/// # Errors
/// `Refused` naming the statement that fails here, or that the snapshot has no SQL.
pub(super) async fn make(client: &Client, snapshot: &Snapshot, private: bool) -> Result<()> {
    let schema = schema_of(snapshot)?;
    let text = schema.lines.join("\n");
    let split = split_all(&text, Span::new(0, text.len()));
    if let Some(problem) = split.diagnostics.first() {
        return Err(Error::usage(format!(
            "the SQL of the snapshot cannot be read: {}",
            problem.message
        )));
    }
    for statement in split.statements {
        let sql = statement.span.of(&text);
        let Err(error) = client.batch_execute(sql).await else {
            continue;
        };
        let error = from_pg(error);
        let code = error.sqlstate().map(str::to_owned);
        // Settings of a newer pg_dump; and schema public, which every database has.
        let lower = sql.get(..24).unwrap_or(sql).to_ascii_lowercase();
        if lower.starts_with("set ") && code.as_deref() == Some("42704")
            || lower.starts_with("create schema public") && code.as_deref() == Some("42P06")
        {
            continue;
        }
        let first = sql.lines().next().unwrap_or_default();
        let hint = match code.as_deref() {
            Some("0A000" | "58P01") => {
                "install the extension where the trial is, or name a server that has it with \
                 --shadow-url"
            }
            Some("42704") if !private => {
                "roles are not made on a server that is not ours: create them there"
            }
            _ => {
                "make the snapshot again, or make the schema from the earlier files with `--from \
                 migrations`"
            }
        };
        return Err(error
            .with_kind(crate::ErrorKind::Refused)
            .context(format!(
                "the schema of the snapshot cannot be made here: `{first} …`"
            ))
            .left("nothing was tried")
            .hint(hint));
    }
    // pg_dump empties the search path of its session.
    client
        .batch_execute("RESET ALL; RESET SESSION AUTHORIZATION")
        .await
        .map_err(from_pg)
}

/// A table and the rows that were made up for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Filled {
    /// The table.
    pub table: String,
    /// Rows that it has.
    pub rows: i64,
    /// Why it has none, or fewer than were asked for.
    pub reason: Option<String>,
}

/// Rounds of a table whose conditions are hard to meet.
const ROUNDS: u32 = 8;

/// Fills the empty tables; what cannot be filled stays empty, with the reason.
pub(super) async fn fill(
    client: &Client,
    superuser: bool,
    rows: u64,
    nulls: f64,
) -> Result<Vec<Filled>> {
    let mut filled = Vec::new();
    if rows == 0 {
        return Ok(filled);
    }
    let tables = pg::fill::read(client).await?;
    let (turns, stuck) = fill::order(&tables);
    for (at, reason) in stuck {
        filled.push(Filled {
            table: tables[at].name.to_string(),
            rows: 0,
            reason: Some(reason),
        });
    }
    for turn in turns {
        let table = &tables[turn.table];
        if table.has_rows {
            continue;
        }
        let (made, reason) =
            fill_table(client, superuser, table, &turn.left_null, rows, nulls).await?;
        let reason = match reason {
            None if made < rows as i64 => {
                Some("its constraints took no more of the made-up rows".to_owned())
            }
            reason => reason,
        };
        filled.push(Filled {
            table: table.name.to_string(),
            rows: made,
            reason,
        });
    }
    filled.sort_by(|a, b| a.table.cmp(&b.table));
    for statement in ["ANALYZE", "CHECKPOINT"] {
        // CHECKPOINT keeps the trial's own times free of this; it needs rights.
        if superuser || statement == "ANALYZE" {
            client.batch_execute(statement).await.map_err(from_pg)?;
        }
    }
    refresh(client).await;
    Ok(filled)
}

async fn fill_table(
    client: &Client,
    superuser: bool,
    table: &fill::Table,
    left_null: &BTreeSet<usize>,
    rows: u64,
    nulls: f64,
) -> Result<(i64, Option<String>)> {
    for (n, key) in table.foreign_keys.iter().enumerate() {
        if left_null.contains(&n) {
            continue;
        }
        let some = format!("SELECT EXISTS (SELECT FROM {})", qname(&key.table));
        let row = client.query_one(&some, &[]).await.map_err(from_pg)?;
        if !row.get::<_, bool>(0) {
            return Ok((
                0,
                Some(format!("{}, which it references, is empty", key.table)),
            ));
        }
    }
    let mut batch = Batch {
        first: 1,
        tries: rows,
        keep: rows,
        nulls,
    };
    let mut made = 0_u64;
    for _ in 0..ROUNDS {
        batch.keep = rows - made;
        let sql = match fill::insert(table, left_null, batch) {
            Ok(sql) => sql,
            Err(reason) => return Ok((0, Some(reason))),
        };
        match run(client, superuser && !table.deferrable_key, &sql).await {
            Ok(count) => made += count,
            Err(error) if error.is_connection() => return Err(error),
            Err(error) => {
                let reason = format!("the server refuses the made-up rows: {error}");
                return Ok((made as i64, Some(reason)));
            }
        }
        if made >= rows {
            break;
        }
        batch.first += batch.tries;
        batch.tries = (batch.tries * 3).clamp(1, 100_000);
    }
    let reason = (made == 0).then(|| {
        let names: Vec<&str> = table.checks.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() {
            "no made-up row fits its constraints".to_owned()
        } else {
            format!("no made-up row satisfies {}", names.join(", "))
        }
    });
    Ok((made as i64, reason))
}

/// Runs an INSERT; where the table's triggers do not take its rows, without them if `may_skip`:
/// not with a deferrable key, which is checked by a trigger too.
async fn run(client: &Client, may_skip: bool, sql: &str) -> Result<u64> {
    let insert = |setup: &'static str| async move {
        client
            .batch_execute(&format!("BEGIN; SET LOCAL search_path = ''; {setup}"))
            .await
            .map_err(from_pg)?;
        let result = client.execute(sql, &[]).await.map_err(from_pg);
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        client.batch_execute(end).await.map_err(from_pg)?;
        result
    };
    match insert("").await {
        Err(error) if may_skip && !error.is_connection() => {
            let second = insert("SET LOCAL session_replication_role = replica").await;
            // The first error is the one to tell.
            second.map_err(|_| error)
        }
        done => done,
    }
}

/// Materialized views show the rows; where one cannot, nothing depends on it.
async fn refresh(client: &Client) {
    let views = client
        .query(
            "SELECT format('%I.%I', schemaname, matviewname) FROM pg_matviews
             WHERE schemaname <> 'pg_catalog' ORDER BY 1",
            &[],
        )
        .await;
    for row in views.unwrap_or_default() {
        let sql = format!("REFRESH MATERIALIZED VIEW {}", row.get::<_, String>(0));
        if let Err(error) = client.batch_execute(&sql).await {
            tracing::info!("{sql}: {error}");
        }
    }
}

/// Runs the user's own SQL for rows.
pub(super) async fn data(client: &Client, name: &str, sql: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| {
        from_pg(e)
            .context(format!("{name} fails on the schema of the trial"))
            .left("nothing was tried")
    })
}

/// The condition of rows in a table, as a checksum a column: (rows, column → checksum). Each
/// value counts together with the primary key of its row, where there is one.
pub(super) async fn checksums(
    client: &Client,
) -> Result<std::collections::BTreeMap<String, String>> {
    let sql = format!(
        "SELECT format('%I.%I', n.nspname, c.relname),
                array_agg(a.attname::text ORDER BY a.attnum),
                (SELECT string_agg(format('%I', k.attname), ', ' ORDER BY k.attnum)
                 FROM pg_index i JOIN pg_attribute k
                   ON k.attrelid = i.indrelid AND k.attnum = ANY (i.indkey)
                 WHERE i.indrelid = c.oid AND i.indisprimary)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND {}
         GROUP BY c.oid, n.nspname, c.relname",
        "n.nspname NOT IN ('pg_catalog', 'information_schema') \
         AND n.nspname !~ '^(pg_(toast|temp)|pgshift(_check)?$)'"
    );
    let mut all = std::collections::BTreeMap::new();
    for row in client.query(&sql, &[]).await.map_err(from_pg)? {
        let (table, columns, key): (String, Vec<String>, Option<String>) =
            (row.get(0), row.get(1), row.get(2));
        let key = key.map_or("''".to_owned(), |key| format!("ROW({key})::text"));
        let sums: Vec<String> = columns
            .iter()
            .map(|c| {
                format!(
                    "coalesce(sum(hashtextextended({key} || coalesce('=' || t.{}::text, ' null'), \
                     0)::numeric), 0)::text",
                    ident(c)
                )
            })
            .collect();
        let sql = format!(
            "SELECT count(*)::text, ARRAY[{}]::text[] FROM {table} AS t",
            sums.join(", ")
        );
        let row = client
            .query_one(&sql, &[])
            .await
            .map_err(|e| from_pg(e).context(format!("the rows of {table} cannot be read")))?;
        let (count, sums): (String, Vec<String>) = (row.get(0), row.get(1));
        for (column, sum) in columns.iter().zip(sums) {
            all.insert(format!("{table} column {}", ident(column)), sum);
        }
        all.insert(format!("{table} rows"), count);
    }
    Ok(all)
}
