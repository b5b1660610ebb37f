//! `pgshift.migration`: what is known of each migration.

use chrono::{DateTime, Utc};
use tokio_postgres::{GenericClient, Row};

use crate::error::{Error, Result};
use crate::pg::error::from_pg;
use crate::plan::Plan;
use crate::run::State;

/// A migration as recorded.
#[derive(Debug, Clone)]
pub struct MigrationRow {
    /// Id.
    pub id: String,
    /// Checksum of the file when it was applied.
    pub checksum: String,
    /// The file's text when it was applied.
    pub source: String,
    /// Where it stands.
    pub state: State,
    /// The plan that was or is being run; `None` for a baselined one.
    pub plan: Option<Plan>,
    /// Last change of state.
    pub updated_at: DateTime<Utc>,
}

const COLUMNS: &str = "id, checksum, source, state, plan, updated_at";

fn from_row(row: &Row) -> Result<MigrationRow> {
    let state: String = row.get("state");
    let plan: Option<serde_json::Value> = row.get("plan");
    let id: String = row.get("id");
    Ok(MigrationRow {
        state: state
            .parse()
            .map_err(|e: String| Error::internal(e).context(&id))?,
        plan: plan.map(serde_json::from_value).transpose().map_err(|e| {
            Error::internal(format!("the recorded plan of {id} cannot be read: {e}"))
        })?,
        checksum: row.get("checksum"),
        source: row.get("source"),
        updated_at: row.get("updated_at"),
        id,
    })
}

/// All migrations in order of id.
pub async fn list(client: &impl GenericClient) -> Result<Vec<MigrationRow>> {
    let sql = format!("SELECT {COLUMNS} FROM pgshift.migration ORDER BY id COLLATE \"C\"");
    let rows = client.query(&sql, &[]).await.map_err(from_pg)?;
    rows.iter().map(from_row).collect()
}

/// All migrations in order of id, without their plans and texts: of hundreds these are megabytes.
pub async fn overview(client: &impl GenericClient) -> Result<Vec<MigrationRow>> {
    let sql = "SELECT id, checksum, '' AS source, state, NULL::jsonb AS plan, updated_at
               FROM pgshift.migration ORDER BY id COLLATE \"C\"";
    let rows = client.query_typed(sql, &[]).await.map_err(from_pg)?;
    rows.iter().map(from_row).collect()
}

/// One migration.
pub async fn get(client: &impl GenericClient, id: &str) -> Result<Option<MigrationRow>> {
    let sql = format!("SELECT {COLUMNS} FROM pgshift.migration WHERE id = $1");
    let row = client.query_opt(&sql, &[&id]).await.map_err(from_pg)?;
    row.as_ref().map(from_row).transpose()
}

/// Locks a migration's row for a change of state and gives the state; `Pending` where it is not
/// recorded.
pub async fn lock_state(client: &impl GenericClient, id: &str) -> Result<State> {
    let row = client
        .query_opt(
            "SELECT state FROM pgshift.migration WHERE id = $1 FOR UPDATE",
            &[&id],
        )
        .await
        .map_err(from_pg)?;
    row.map_or(Ok(State::Pending), |row| {
        row.get::<_, String>(0)
            .parse()
            .map_err(|e: String| Error::internal(e))
    })
}

/// The state of a migration, which stays to the end of the transaction.
pub async fn share_state(client: &impl GenericClient, id: &str) -> Result<State> {
    let row = client
        .query_one(
            "SELECT state FROM pgshift.migration WHERE id = $1 FOR SHARE",
            &[&id],
        )
        .await
        .map_err(from_pg)?;
    row.get::<_, String>(0)
        .parse()
        .map_err(|e: String| Error::internal(e))
}

/// Records a migration with its plan, replacing what a reverted one left.
pub async fn record(
    client: &impl GenericClient,
    id: &str,
    checksum: &str,
    source: &str,
    state: State,
    plan: Option<&Plan>,
) -> Result<()> {
    let plan = plan
        .map(serde_json::to_value)
        .transpose()
        .map_err(|e| Error::internal(format!("the plan cannot be written: {e}")))?;
    client
        .execute(
            "INSERT INTO pgshift.migration (id, checksum, source, state, plan)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE SET checksum = $2, source = $3, state = $4, plan = $5,
                 updated_at = clock_timestamp()",
            &[&id, &checksum, &source, &state.name(), &plan],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}

/// Records a change of state.
pub async fn set_state(client: &impl GenericClient, id: &str, state: State) -> Result<()> {
    client
        .execute(
            "UPDATE pgshift.migration SET state = $2, updated_at = clock_timestamp() WHERE id = $1",
            &[&id, &state.name()],
        )
        .await
        .map_err(from_pg)?;
    Ok(())
}
