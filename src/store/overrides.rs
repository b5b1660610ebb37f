//! `pgshift.override`: what a person says to a run.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::GenericClient;

use crate::error::Result;
use crate::pg::error::from_pg;

/// The key of a pause.
pub const PAUSE: &str = "pause";
/// The channel on which changes are notified; the payload is the migration's id.
pub const CHANNEL: &str = "pgshift_control";

/// One override that has not expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Override {
    /// What is overridden.
    pub key: String,
    /// The value.
    pub value: String,
    /// Who set it.
    pub set_by: String,
    /// When it expires.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The overrides of a migration that are in force.
pub async fn list(client: &impl GenericClient, migration: &str) -> Result<Vec<Override>> {
    let rows = client
        .query(
            "SELECT key, value, set_by, expires_at FROM pgshift.override
             WHERE migration_id = $1 AND coalesce(expires_at > clock_timestamp(), true)
             ORDER BY key",
            &[&migration],
        )
        .await
        .map_err(from_pg)?;
    Ok(rows
        .iter()
        .map(|row| Override {
            key: row.get(0),
            value: row.get(1),
            set_by: row.get(2),
            expires_at: row.get(3),
        })
        .collect())
}

/// Sets an override, for a time or for good, and notifies the runner.
pub async fn set(
    client: &impl GenericClient,
    migration: &str,
    key: &str,
    value: &str,
    by: &str,
    expires_in: Option<Duration>,
) -> Result<()> {
    client
        .execute(
            "INSERT INTO pgshift.override (migration_id, key, value, set_by, expires_at)
             VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
             ON CONFLICT (migration_id, key)
             DO UPDATE SET value = $3, set_by = $4, set_at = clock_timestamp(),
                 expires_at = clock_timestamp() + make_interval(secs => $5)",
            &[
                &migration,
                &key,
                &value,
                &by,
                &expires_in.map(|d| d.as_secs_f64()),
            ],
        )
        .await
        .map_err(from_pg)?;
    notify(client, migration).await
}

/// Removes an override and notifies the runner; false where there was none.
pub async fn clear(client: &impl GenericClient, migration: &str, key: &str) -> Result<bool> {
    let removed = client
        .execute(
            "DELETE FROM pgshift.override WHERE migration_id = $1 AND key = $2",
            &[&migration, &key],
        )
        .await
        .map_err(from_pg)?;
    notify(client, migration).await?;
    Ok(removed > 0)
}

async fn notify(client: &impl GenericClient, migration: &str) -> Result<()> {
    client
        .execute("SELECT pg_notify($1, $2)", &[&CHANNEL, &migration])
        .await
        .map_err(from_pg)?;
    Ok(())
}
