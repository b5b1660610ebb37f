//! Asks about changes of a column's type.

use std::collections::BTreeMap;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{at_span, dependents};
use crate::catalog::details::KeyPart;
use crate::catalog::{RelKind, Table};
use crate::error::{Error, Result};
use crate::pg::catalog::{columns_of, dependents as catalog_dependents, details, partitions};
use crate::pg::error::from_pg;
use crate::plan::Draft;
use crate::plan::retype::dependents::regenerated;
use crate::plan::retype::inbound;
use crate::plan::retype::partitions::{Node, differs, nodes};
use crate::plan::retype::question::{Answer, Question, Told, retype_help};
use crate::sql::quote::ident;

/// The answer about one table, in the transaction of all questions.
pub(super) async fn ask(client: &Client, draft: &Draft<'_>, question: &Question) -> Result<Answer> {
    let table = &draft.catalog.tables[&question.table];
    let names: Vec<&str> = question.columns.iter().map(|c| c.column.as_str()).collect();
    if let Some((key, of)) = details::disabled_key(client, table.oid, &names).await? {
        return Err(draft.refused(
            question.span(),
            format!(
                "triggers of foreign key {key} of {of} are disabled, or fire by the role of \
                 replication: those of a new key would not be"
            ),
            "ALTER TABLE … ENABLE TRIGGER ALL first, on both tables, or drop that foreign key in an \
             earlier migration and add it again in a later one",
        ));
    }
    let mut answer = copied(client, draft, question, table.oid).await?;
    if table.kind == RelKind::Partitioned {
        answer.nodes = ask_partitions(client, draft, question, table, &answer).await?;
    }
    Ok(answer)
}

/// The partitions; those that have something of their own, by a copy of their own.
async fn ask_partitions(
    client: &Client,
    draft: &Draft<'_>,
    question: &Question,
    root: &Table,
    answer: &Answer,
) -> Result<Vec<Node>> {
    let names: Vec<&str> = question.columns.iter().map(|c| c.column.as_str()).collect();
    let partitions = partitions::partitions(client, root.oid, &names).await?;
    if let Some(other) = partitions.iter().find(|p| !p.table.owned) {
        return Err(draft.not_owned(&other.table, question.span()));
    }
    let definitions = details::definitions(client, root.oid).await?;
    let mut own = BTreeMap::new();
    for (number, partition) in partitions.iter().enumerate() {
        if !differs(partition, root, &definitions, &question.columns) {
            continue;
        }
        let of_partition = Question {
            table: partition.table.name.clone(),
            copy: format!("{}_{}", question.copy, number + 1),
            columns: question.columns.clone(),
        };
        let told = copied(client, draft, &of_partition, partition.table.oid).await?;
        own.insert(partition.table.name.clone(), told);
    }
    nodes(root, answer, &question.columns, partitions, own)
        .map_err(|why| refused(draft, question, &why))
}

fn refused(draft: &Draft<'_>, question: &Question, why: &str) -> Error {
    draft.refused(
        question.span(),
        format!(
            "the type of a column of {} cannot be changed online: {why}",
            question.table
        ),
        "add a column of the new type in expand, fill it in backfill, map it back in reverse, \
         and drop the old one in contract",
    )
}

async fn copied(
    client: &Client,
    draft: &Draft<'_>,
    question: &Question,
    real: u32,
) -> Result<Answer> {
    let migration = draft.migration;
    let span = question.span();
    let run = async |sql: &str| {
        client
            .batch_execute(sql)
            .await
            .map_err(|e| at_span(migration, span, e))
    };
    // A partition that something depends on is refused before.
    let root = draft.catalog.tables.get(&question.table);
    let root = root.filter(|table| table.oid == real);
    let found = match root {
        Some(_) => dependents::find(client, draft, question).await?,
        None => Vec::new(),
    };
    run(&question.create()).await?;
    let copy: u32 = client
        .query_one(
            "SELECT to_regclass($1)::oid",
            &[&format!("pg_temp.{}", ident(&question.copy))],
        )
        .await
        .map_err(from_pg)?
        .get(0);
    let mut told = Told {
        table: details::definitions(client, real).await?,
        copy: details::definitions(client, copy).await?,
        ..Told::default()
    };
    for sql in question.to_old() {
        run(&sql).await?;
    }
    told.old = details::definitions(client, copy).await?;
    for sql in question.from_old() {
        run(&sql).await?;
    }
    for (column, sql) in question.steady() {
        run("SAVEPOINT pgshift_steady").await?;
        let refused = client.batch_execute(&sql).await.err();
        run("ROLLBACK TO SAVEPOINT pgshift_steady").await?;
        if refused.is_some_and(|e| e.code() == Some(&SqlState::INVALID_OBJECT_DEFINITION)) {
            told.unsteady.insert(column.to_owned());
        }
    }
    // The server changes the type of no column that a generated one reads.
    let of_copy = format!("pg_temp.{}", ident(&question.copy));
    let generated: Vec<_> = found
        .iter()
        .filter_map(|d| Some((d, regenerated(d, &of_copy)?)))
        .collect();
    for (_, (none, _)) in &generated {
        run(none).await?;
    }
    for (sql, span) in question.retype() {
        client.batch_execute(&sql).await.map_err(|e| {
            let code = e.code().map(|code| code.code().to_owned());
            let error = at_span(migration, span, e);
            let help = code.and_then(|code| retype_help(&code, error.message()));
            match help {
                Some(help) => error.hint(help),
                None => error,
            }
        })?;
    }
    for (dependent, (_, again)) in &generated {
        if let Err(error) = client.batch_execute(again).await {
            let error = from_pg(error);
            if error.is_connection() {
                return Err(error);
            }
            return Err(draft.refused(
                span,
                format!(
                    "{} cannot be computed from the new type: {}",
                    dependent.what,
                    error.message()
                ),
                "drop it in an earlier migration, and add it in a later one in a form that fits \
                 the new type",
            ));
        }
    }
    for sql in question.to_shadow() {
        run(&sql).await?;
    }
    told.new = details::definitions(client, copy).await?;
    told.columns = columns_of(client, copy).await?;
    let names: Vec<&str> = question.columns.iter().map(|c| c.column.as_str()).collect();
    told.details = details::columns(client, real, &names).await?;
    for column in &question.columns {
        let (old, new) = ((real, &*column.column), (copy, &*column.shadow));
        let conversion = details::conversion(client, old, new).await?;
        told.conversions.insert(column.column.clone(), conversion);
    }
    told.statistics = catalog_dependents::statistics(client, real).await?;
    if root.is_some() {
        told.parts = catalog_dependents::parts(client, &question.table, &names).await?;
    }
    told.dependents = found;
    told.understood(&question.columns)
        .map_err(|why| refused(draft, question, &why))
}

/// Whether a foreign key can reference the new type, by one between the temporary copies; the real
/// one and those that partitions have of it.
pub(super) async fn ask_key(
    client: &Client,
    draft: &Draft<'_>,
    question: &inbound::Question,
) -> Result<Vec<KeyPart>> {
    for sql in &question.statements {
        let Err(error) = client.batch_execute(sql).await else {
            continue;
        };
        let error = from_pg(error);
        if error.is_connection() {
            return Err(error);
        }
        let why = format!("{}: {}", question.why, error.message());
        return Err(draft.refused(question.span, why, &question.help));
    }
    details::key_parts(client, question.oid, &question.name).await
}
