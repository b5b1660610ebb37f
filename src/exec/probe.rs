//! Asks the server a plan's questions, in one transaction that is rolled back.

mod dependents;
mod retype;
pub(super) mod trial;

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_postgres::Client;

use crate::catalog::{Catalog, QName, Table};
use crate::error::{Error, Result};
use crate::migration::Migration;
use crate::pg::catalog::columns_of;
use crate::pg::error::from_pg;
use crate::pg::sqlstate::{byte_offset, position};
use crate::plan::Draft;
use crate::plan::cost::{Sample, Server};
use crate::plan::probe::{Answer, Copy, Probe, Probed, Question, from_text, probe};
use crate::sql::mapped::MappedSql;
use crate::sql::quote::{ident, qname};
use crate::sql::{Diagnostic, Span};

/// Rows of the sample on which a backfill is measured.
const SAMPLE: i64 = 2_000;

/// Begins a transaction of questions, which waits for nobody and is rolled back.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '30s'; \
                     SET LOCAL synchronous_commit = off";

/// Asks everything that a draft needs to know.
///
/// # Errors
/// The server's errors about the author's text, at their place in the file.
pub(super) async fn ask(client: &Client, draft: &Draft<'_>) -> Result<Probed> {
    let questions = probe(draft);
    let server = Some(server(client).await?);
    if questions.copies.is_empty() {
        return Ok(Probed {
            checked: true,
            server,
            ..Probed::default()
        });
    }
    let volatile = volatile(client, &questions).await?;
    let may: bool = client
        .query_one(
            "SELECT has_database_privilege(current_database(), 'TEMPORARY')",
            &[],
        )
        .await
        .map_err(from_pg)?
        .get(0);
    if !may {
        return Ok(Probed {
            answers: from_text(draft),
            volatile,
            checked: false,
            server,
            ..Probed::default()
        });
    }
    client.batch_execute(BEGIN).await.map_err(from_pg)?;
    let result = in_transaction(client, draft, &questions).await;
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    let mut probed = result?;
    probed.volatile = volatile;
    probed.server = server;
    Ok(probed)
}

/// What a plan's figures need to know of the server.
pub(super) async fn server(client: &Client) -> Result<Server> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('block_size')::bigint AS block,
                    pg_size_bytes(current_setting('max_wal_size')) AS max_wal,
                    current_setting('checkpoint_completion_target')::float8 AS completion,
                    extract(epoch FROM current_setting('checkpoint_timeout')::interval)::float8
                        AS checkpoint,
                    current_setting('full_page_writes')::bool AS full_pages,
                    current_setting('wal_level') = 'logical' AS logical,
                    pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance",
            &[],
        )
        .await
        .map_err(from_pg)?;
    Ok(Server {
        block: row.get("block"),
        max_wal: row.get("max_wal"),
        completion: row.get("completion"),
        checkpoint: row.get("checkpoint"),
        full_pages: row.get("full_pages"),
        logical: row.get("logical"),
        maintenance: row.get("maintenance"),
    })
}

/// Names of called functions of which some overload in the search path is volatile.
async fn volatile(client: &Client, probe: &Probe) -> Result<BTreeSet<String>> {
    let names: Vec<&String> = probe.functions.iter().collect();
    let rows = client
        .query(
            "SELECT DISTINCT proname::text FROM pg_proc
             WHERE proname = ANY ($1::text[]) AND provolatile = 'v'",
            &[&names],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Makes what the statements of expand create for others. The body of a function may read what
/// statements before it add to a table: bodies are looked at in the trial, where they can be.
async fn prelude(client: &Client, migration: &Migration, probe: &Probe) -> Result<()> {
    client
        .batch_execute("SET LOCAL check_function_bodies = off")
        .await
        .map_err(from_pg)?;
    for (sql, span) in &probe.prelude {
        client
            .batch_execute(sql)
            .await
            .map_err(|e| at_span(migration, *span, e))?;
    }
    Ok(())
}

async fn in_transaction(client: &Client, draft: &Draft<'_>, probe: &Probe) -> Result<Probed> {
    let migration = draft.migration;
    prelude(client, migration, probe).await?;
    for copy in &probe.copies {
        client
            .batch_execute(&copy.create_sql())
            .await
            .map_err(from_pg)?;
        for (column, type_text, span) in &copy.add {
            client
                .batch_execute(&copy.add_sql(column, type_text))
                .await
                .map_err(|e| at_span(migration, *span, e))?;
        }
    }
    let mut probed = Probed {
        checked: true,
        ..Probed::default()
    };
    for copy in &probe.copies {
        types(client, copy, &mut probed).await?;
    }
    for question in &probe.questions {
        run(client, migration, question, &question.explain).await?;
    }
    for question in &probe.retypes {
        let answer = retype::ask(client, draft, question).await?;
        probed.retypes.insert(question.table.clone(), answer);
    }
    for question in &probe.keys {
        let parts = retype::ask_key(client, draft, question).await?;
        let key = (question.table.clone(), question.name.clone());
        probed.keys.insert(key, parts);
    }
    let asked: Vec<_> = probe
        .retypes
        .iter()
        .filter_map(|q| Some((q, probed.retypes.get(&q.table)?.dependents.as_slice())))
        .filter(|(_, found)| !found.is_empty())
        .collect();
    dependents::rehearse(client, draft, &asked).await?;
    for statement in &draft.backfills {
        correlations(client, &statement.table, &mut probed).await?;
    }
    let mut serial = 0;
    for question in &probe.questions {
        let mut answer = Answer::default();
        for expression in &question.expressions {
            serial += 1;
            answer
                .expressions
                .push(reads(client, migration, question, expression, serial).await?);
        }
        if let Some(condition) = &question.condition {
            serial += 1;
            answer.condition = reads(client, migration, question, condition, serial).await?;
        }
        probed.answers.push(answer);
    }
    for (index, question) in probe
        .questions
        .iter()
        .enumerate()
        .take(draft.backfills.len())
    {
        if let Some(sample) = measure(client, draft.catalog, probe, question).await? {
            probed.samples.insert(index, sample);
        }
    }
    Ok(probed)
}

/// How far the heap is in the order of its columns, by the last ANALYZE.
async fn correlations(client: &Client, table: &QName, probed: &mut Probed) -> Result<()> {
    let rows = client
        .query(
            "SELECT attname::text AS name, correlation::float8 AS correlation FROM pg_stats
             WHERE schemaname = $1 AND tablename = $2 AND correlation IS NOT NULL
             ORDER BY inherited DESC",
            &[&table.schema, &table.name],
        )
        .await
        .map_err(from_pg)?;
    for row in rows {
        let key = (table.clone(), row.get("name"));
        probed.correlations.insert(key, row.get("correlation"));
    }
    Ok(())
}

/// Types of the copies' columns.
async fn types(client: &Client, copy: &Copy, probed: &mut Probed) -> Result<()> {
    let oid: u32 = client
        .query_one(
            "SELECT to_regclass($1)::oid",
            &[&format!("pg_temp.{}", ident(&copy.name))],
        )
        .await
        .map_err(from_pg)?
        .get(0);
    for column in columns_of(client, oid).await? {
        probed.types.insert(
            (copy.table.clone(), column.name),
            (column.type_name, column.has_equality),
        );
    }
    Ok(())
}

/// The columns of the copy that a SELECT reads, by the dependencies of a view over it.
async fn reads(
    client: &Client,
    migration: &Migration,
    question: &Question,
    select: &MappedSql,
    serial: usize,
) -> Result<BTreeSet<String>> {
    let view = format!("pgshift_view_{serial}");
    let prefix = format!("CREATE TEMP VIEW {} AS ", ident(&view));
    let sql = format!("{prefix}{}", select.sql());
    client
        .batch_execute(&sql)
        .await
        .map_err(|e| located(migration, question.span, select, &sql, prefix.len(), e))?;
    let rows = client
        .query(
            "SELECT DISTINCT a.attname::text
             FROM pg_rewrite r
             JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                  AND d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass($2)
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE r.ev_class = to_regclass($1) AND a.attnum > 0",
            &[
                &format!("pg_temp.{}", ident(&view)),
                &format!("pg_temp.{}", ident(&question.copy)),
            ],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn run(
    client: &Client,
    migration: &Migration,
    question: &Question,
    sql: &MappedSql,
) -> Result<()> {
    client
        .simple_query(sql.sql())
        .await
        .map(drop)
        .map_err(|e| located(migration, question.span, sql, sql.sql(), 0, e))
}

/// What the statement takes on a sample of real rows in the copy. `None` where there are too few
/// rows, or the sample cannot be made: the cost stays unknown then.
async fn measure(
    client: &Client,
    catalog: &Catalog,
    probe: &Probe,
    question: &Question,
) -> Result<Option<Sample>> {
    let Some(copy) = probe.copies.iter().find(|c| c.name == question.copy) else {
        return Ok(None);
    };
    let Some(table) = catalog.tables.get(&copy.table) else {
        return Ok(None);
    };
    client
        .batch_execute("SAVEPOINT pgshift_sample")
        .await
        .map_err(from_pg)?;
    let result = sample(client, table, copy, question).await;
    client
        .batch_execute("ROLLBACK TO pgshift_sample")
        .await
        .map_err(from_pg)?;
    match result {
        Ok(cost) => Ok(cost),
        Err(error) if error.is_connection() => Err(error),
        // A row that fails, a CHECK that the sample meets: found again, and said, by the backfill.
        Err(error) => {
            tracing::debug!("no sample of {}: {error}", copy.table);
            Ok(None)
        }
    }
}

async fn sample(
    client: &Client,
    table: &Table,
    copy: &Copy,
    question: &Question,
) -> Result<Option<Sample>> {
    client
        .batch_execute("SET LOCAL statement_timeout = '3s'")
        .await
        .map_err(from_pg)?;
    let mut rows = 0;
    for source in sources(table) {
        rows = fill(client, table, copy, &source).await?;
        if rows >= SAMPLE / 10 {
            break;
        }
    }
    if rows < SAMPLE / 10 {
        return Ok(None);
    }
    let before = sizes(client, copy).await?;
    // The server's own clock: the network's time is none of a row's.
    let analyze = "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY ON, FORMAT JSON) ";
    let sql = question.explain.sql().replacen("EXPLAIN ", analyze, 1);
    let plan: Value = client
        .query_one(&sql, &[])
        .await
        .map_err(from_pg)?
        .try_get(0)
        .map_err(from_pg)?;
    let after = sizes(client, copy).await?;
    let unset = match &question.unset {
        Some(unset) => Some(count(client, copy, unset).await?),
        None => None,
    };
    let ms = plan[0]["Execution Time"].as_f64();
    let changed = plan[0]["Plan"]["Plans"][0]["Actual Rows"].as_f64();
    Ok(ms.zip(changed).map(|(ms, changed)| Sample {
        rows,
        changed: changed as i64,
        valueless: unset.map(|unset| unset - (rows - changed as i64)),
        seconds: ms / 1000.0,
        heap: after.0 - before.0,
        toast: after.1 - before.1,
    }))
}

/// Where a sample comes from, the best first. Blocks drawn at random tell more of a large table
/// than its oldest rows, and what is read is as much however many blocks are empty; from the start
/// where those have too few rows.
fn sources(table: &Table) -> Vec<String> {
    let all: i64 = table.leaves.iter().map(|l| l.blocks).sum();
    let name = qname(&table.name);
    let wanted = SAMPLE as f64 * all as f64 / table.rows.max(1) as f64;
    let share = 100.0 * (wanted * 1.5).clamp(50.0, 1_000.0) / all.max(1) as f64;
    let drawn = table.leaves.iter().all(|l| l.access_method == "heap");
    let mut sources = Vec::new();
    if share < 50.0 && drawn {
        // In no order: what is drawn above the wanted number is not left out at the table's end.
        sources.push(format!(
            "{name} TABLESAMPLE SYSTEM ({share:.9}) REPEATABLE (1) \
             ORDER BY pg_catalog.hashtid(ctid)"
        ));
    }
    sources.push(name);
    sources
}

/// Fills the copy anew; gives the number of rows.
async fn fill(client: &Client, table: &Table, copy: &Copy, source: &str) -> Result<i64> {
    let columns: Vec<String> = table.columns.iter().map(|c| ident(&c.name)).collect();
    let columns = columns.join(", ");
    let copy = ident(&copy.name);
    let rows = client
        .execute(
            &format!(
                "INSERT INTO pg_temp.{copy} ({columns}) SELECT {columns} FROM {source} \
                 LIMIT {SAMPLE}"
            ),
            &[],
        )
        .await
        .map_err(from_pg)?;
    Ok(i64::try_from(rows).unwrap_or(0))
}

/// Rows of the copy that a condition is true for.
async fn count(client: &Client, copy: &Copy, condition: &str) -> Result<i64> {
    let sql = format!(
        "SELECT count(*) FROM pg_temp.{} WHERE {condition}",
        ident(&copy.name)
    );
    let row = client.query_one(&sql, &[]).await.map_err(from_pg)?;
    row.try_get(0).map_err(from_pg)
}

/// Bytes of the copy's heap and of its TOAST table.
async fn sizes(client: &Client, copy: &Copy) -> Result<(i64, i64)> {
    let row = client
        .query_one(
            "SELECT pg_relation_size(c.oid), coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0)
             FROM pg_class c WHERE c.oid = to_regclass($1)",
            &[&format!("pg_temp.{}", ident(&copy.name))],
        )
        .await
        .map_err(from_pg)?;
    Ok((row.get(0), row.get(1)))
}

/// An error about a whole statement.
fn at_span(migration: &Migration, span: Span, error: tokio_postgres::Error) -> Error {
    let ours = from_pg(error);
    if ours.is_connection() {
        return ours;
    }
    let diagnostic = Diagnostic::new(span, ours.message());
    ours.with_places(&migration.source, vec![diagnostic])
        .left("nothing was changed")
}

/// An error about the author's text, at the place that the server names.
fn located(
    migration: &Migration,
    whole: Span,
    mapped: &MappedSql,
    sent: &str,
    prefix: usize,
    error: tokio_postgres::Error,
) -> Error {
    let place = position(&error)
        .map(|p| byte_offset(sent, p))
        .and_then(|byte| byte.checked_sub(prefix))
        .and_then(|byte| mapped.locate(byte))
        .map(|start| {
            let rest = &migration.source.text()[start.min(migration.source.text().len())..];
            let word = rest
                .char_indices()
                .find(|(_, c)| !(c.is_alphanumeric() || *c == '_' || *c == '.'))
                .map_or(rest.len(), |(at, _)| at);
            Span::new(start, start + word.max(1).min(rest.len()))
        });
    at_span(migration, place.unwrap_or(whole), error)
}
