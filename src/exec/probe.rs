//! Asks the server a plan's questions, in one transaction that is rolled back.

mod dependents;
mod retype;

use std::collections::BTreeSet;
use std::time::Instant;

use tokio_postgres::Client;

use crate::catalog::{Catalog, Table};
use crate::error::{Error, Result};
use crate::migration::Migration;
use crate::pg::catalog::columns_of;
use crate::pg::error::from_pg;
use crate::pg::sqlstate::{byte_offset, position};
use crate::plan::Draft;
use crate::plan::probe::{Answer, Copy, Probe, Probed, Question, from_text, probe};
use crate::sql::mapped::MappedSql;
use crate::sql::quote::{ident, qname};
use crate::sql::{Diagnostic, Span};

/// Rows of the sample on which a backfill is measured.
const SAMPLE: i64 = 2_000;

/// Asks everything that a draft needs to know.
///
/// # Errors
/// The server's errors about the author's text, at their place in the file.
pub(super) async fn ask(client: &Client, draft: &Draft<'_>) -> Result<Probed> {
    let questions = probe(draft);
    if questions.copies.is_empty() {
        return Ok(Probed {
            checked: true,
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
            ..Probed::default()
        });
    }
    client
        .batch_execute(
            "BEGIN; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '30s'; \
             SET LOCAL synchronous_commit = off",
        )
        .await
        .map_err(from_pg)?;
    let result = in_transaction(client, draft, &questions).await;
    client.batch_execute("ROLLBACK").await.map_err(from_pg)?;
    let mut probed = result?;
    probed.volatile = volatile;
    Ok(probed)
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

async fn in_transaction(client: &Client, draft: &Draft<'_>, probe: &Probe) -> Result<Probed> {
    let migration = draft.migration;
    for (sql, span) in &probe.prelude {
        client
            .batch_execute(sql)
            .await
            .map_err(|e| at_span(migration, *span, e))?;
    }
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
        if let Some(comment) = retype::ask_key(client, draft, question).await? {
            let key = (question.table.clone(), question.name.clone());
            probed.key_comments.insert(key, comment);
        }
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
        if let Some(cost) = measure(client, draft.catalog, probe, question).await? {
            probed.row_cost.insert(index, cost);
        }
    }
    Ok(probed)
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

/// Seconds a row that the statement takes on a sample of real rows in the copy. `None` where
/// there are too few rows, or the sample cannot be made: the cost stays unknown then.
async fn measure(
    client: &Client,
    catalog: &Catalog,
    probe: &Probe,
    question: &Question,
) -> Result<Option<f64>> {
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
) -> Result<Option<f64>> {
    let columns: Vec<String> = table.columns.iter().map(|c| ident(&c.name)).collect();
    let columns = columns.join(", ");
    let insert = format!(
        "SET LOCAL statement_timeout = '3s'; INSERT INTO pg_temp.{} ({columns}) \
         SELECT {columns} FROM {} LIMIT {SAMPLE}",
        ident(&copy.name),
        qname(&table.name),
    );
    client.batch_execute(&insert).await.map_err(from_pg)?;
    let rows: i64 = client
        .query_one(
            &format!("SELECT count(*) FROM pg_temp.{}", ident(&copy.name)),
            &[],
        )
        .await
        .map_err(from_pg)?
        .get(0);
    if rows < SAMPLE / 10 {
        return Ok(None);
    }
    let sql = question.explain.sql().replacen("EXPLAIN ", "", 1);
    let begun = Instant::now();
    client.batch_execute(&sql).await.map_err(from_pg)?;
    Ok(Some(begun.elapsed().as_secs_f64() / rows as f64))
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
