//! What depends on columns whose types change: found, and made again as temporary objects over the
//! copy with the new types, so that what the server would refuse at contract is found in the plan.

use tokio_postgres::Client;

use crate::catalog::Table;
use crate::catalog::dependents::Dependent;
use crate::error::Result;
use crate::pg::catalog::dependents;
use crate::pg::error::from_pg;
use crate::plan::Draft;
use crate::plan::retype::dependents::{merged, refusal, rehearsal_path};
use crate::plan::retype::question::Question;

/// What depends on the columns of a question.
///
/// # Errors
/// Where it cannot be dropped and made again.
pub(super) async fn find(
    client: &Client,
    draft: &Draft<'_>,
    question: &Question,
) -> Result<Vec<Dependent>> {
    let table = &draft.catalog.tables[&question.table];
    let names: Vec<&str> = question.columns.iter().map(|c| c.column.as_str()).collect();
    let found = dependents::dependents(client, table.oid, &names).await?;
    let rows = dependents::rows_stored(client, table.oid).await?;
    if let Some(place) = rows.first() {
        return Err(draft.refused(
            question.span(),
            format!(
                "{place} holds whole rows of {}: what is stored there does not follow a change of \
                 its columns, and the server refuses the direct statement too",
                question.table
            ),
            "name the columns there (SELECT a, b instead of the row), or drop it in an earlier \
             migration and make it again in a later one",
        ));
    }
    match refusal(&found) {
        None => Ok(found),
        Some((why, help)) => Err(draft.refused(
            question.span(),
            format!(
                "the type of {} of {} cannot be changed online: {why}",
                names.join(", "),
                question.table
            ),
            &help,
        )),
    }
}

/// Makes what depends on tables again over their copies, which have the new types and the names of
/// before contract, and takes that back. Together, as what reads several of them meets all their new
/// types; each for itself where their names alone are not clear.
///
/// # Errors
/// Where the server refuses one.
pub(super) async fn rehearse(
    client: &Client,
    draft: &Draft<'_>,
    asked: &[(&Question, &[Dependent])],
) -> Result<()> {
    if asked.is_empty() {
        return Ok(());
    }
    let tables = |asked: &[(&Question, &[Dependent])]| -> Vec<&Table> {
        let of = |(q, _): &(&Question, _)| &draft.catalog.tables[&q.table];
        asked.iter().map(of).collect()
    };
    let all = merged(asked.iter().map(|(_, found)| *found));
    if let Some(path) = rehearsal_path(&tables(asked), &all) {
        return together(client, draft, asked, &tables(asked), &all, &path).await;
    }
    for one in asked {
        let (own, tables) = (std::slice::from_ref(one), tables(&[*one]));
        if let Some(path) = rehearsal_path(&tables, one.1) {
            together(client, draft, own, &tables, one.1, &path).await?;
        }
    }
    Ok(())
}

async fn together(
    client: &Client,
    draft: &Draft<'_>,
    asked: &[(&Question, &[Dependent])],
    tables: &[&Table],
    all: &[Dependent],
    path: &str,
) -> Result<()> {
    let texts = dependents::rehearsals(client, tables, all, path).await?;
    let mut before = vec![
        "SAVEPOINT pgshift_rehearsal".to_owned(),
        format!("SET LOCAL search_path = {path}"),
    ];
    before.extend(asked.iter().flat_map(|(q, _)| q.as_the_real_one()));
    for sql in before {
        client.batch_execute(&sql).await.map_err(from_pg)?;
    }
    for (place, sql) in texts {
        let Err(error) = client.batch_execute(&sql).await else {
            continue;
        };
        let error = from_pg(error);
        if error.is_connection() {
            return Err(error);
        }
        let what = &all[place].what;
        let of = |(_, found): &&(&Question, &[Dependent])| found.iter().any(|d| d.what == *what);
        let span = asked.iter().find(of).map(|(q, _)| q.span());
        return Err(draft.refused(
            span.unwrap_or_default(),
            format!(
                "{what} cannot be made again with the new type: {}",
                error.message()
            ),
            "drop it in an earlier migration, and make it in a later one in a form that fits the \
             new type",
        ));
    }
    client
        .batch_execute("ROLLBACK TO SAVEPOINT pgshift_rehearsal")
        .await
        .map_err(from_pg)
}
