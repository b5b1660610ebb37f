//! What depends on columns whose types change: found, and made again as temporary objects over the
//! copy with the new types, so that what the server would refuse at contract is found in the plan.

use tokio_postgres::Client;

use crate::catalog::dependents::Dependent;
use crate::error::Result;
use crate::pg::catalog::dependents;
use crate::pg::error::from_pg;
use crate::plan::Draft;
use crate::plan::retype::dependents::{refusal, rehearsal_path};
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

/// Makes it again over the copy, which has the new types and the names of before contract, and takes
/// that back.
///
/// # Errors
/// Where the server refuses one.
pub(super) async fn rehearse(
    client: &Client,
    draft: &Draft<'_>,
    question: &Question,
    found: &[Dependent],
) -> Result<()> {
    let table = &draft.catalog.tables[&question.table];
    let Some(path) = rehearsal_path(table, found).filter(|_| !found.is_empty()) else {
        return Ok(());
    };
    let texts = dependents::rehearsals(client, table.oid, found, &path).await?;
    let mut before = vec![
        "SAVEPOINT pgshift_rehearsal".to_owned(),
        format!("SET LOCAL search_path = {path}"),
    ];
    before.extend(question.as_the_real_one());
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
        return Err(draft.refused(
            question.span(),
            format!(
                "{} cannot be made again with the new type: {}",
                found[place].what,
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
