//! The state schema's version, its installation and its upgrades.

use tokio_postgres::Client;

use crate::error::{Error, Result};
use crate::fault::{self, Write};
use crate::pg::error::from_pg;

/// The version that this pgshift writes.
pub const VERSION: i32 = 2;

/// Upgrades in order: the script that leads to version `index + 1`.
const UPGRADES: [&str; VERSION as usize] = [include_str!("v1.sql"), include_str!("v2.sql")];

/// The version found in the database; `None` where pgshift was never initialised there.
pub async fn version(client: &Client) -> Result<Option<i32>> {
    let exists: bool = client
        .query_one(
            "SELECT to_regclass('pgshift.schema_version') IS NOT NULL",
            &[],
        )
        .await
        .map_err(from_pg)?
        .get(0);
    if !exists {
        return Ok(None);
    }
    client
        .query_one("SELECT max(version) FROM pgshift.schema_version", &[])
        .await
        .map_err(|e| {
            from_pg(e).hint(
                "this role needs USAGE on schema pgshift and SELECT, INSERT, UPDATE, DELETE on \
                 its tables; see docs/privileges.md",
            )
        })
        .and_then(|row| known(row.get(0)).map(Some))
}

/// A version table without a version is not ours to write to.
fn known(version: Option<i32>) -> Result<i32> {
    version.filter(|version| *version > 0).ok_or_else(|| {
        Error::refused("pgshift.schema_version says no version: the state schema is damaged")
            .left("nothing was changed")
            .hint("restore schema pgshift from a backup")
    })
}

/// Refuses a state schema of a newer pgshift.
///
/// # Errors
/// [`crate::ErrorKind::Refused`] where it is newer than [`VERSION`].
pub fn check_version(found: i32) -> Result<()> {
    if found > VERSION {
        return Err(Error::refused(format!(
            "the state schema is of version {found}, this pgshift knows up to {VERSION}"
        ))
        .left("nothing was changed")
        .hint("use the newer pgshift that wrote it"));
    }
    Ok(())
}

/// Installs or upgrades the state schema; returns the version that was there before. All of it is
/// one transaction, whole or not there, and two that meet wait for each other.
///
/// # Errors
/// What [`check_version`] refuses, missing rights, a lock that cannot be had within 10 s. Nothing
/// was changed.
pub async fn install(client: &mut Client) -> Result<Option<i32>> {
    let before = version(client).await?;
    if let Some(found) = before {
        check_version(found)?;
        if found == VERSION {
            return Ok(before);
        }
    }
    let tx = client.transaction().await.map_err(from_pg)?;
    tx.batch_execute("SET LOCAL lock_timeout = '10s'; SELECT pg_advisory_xact_lock(1885827169, 0)")
        .await
        .map_err(from_pg)?;
    // Read again under the lock: another pgshift may have done it meanwhile. From the table of relations: what a name was found to be before the wait for the lock may be
    // remembered by the session.
    let now = if tx
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname = 'pgshift' AND c.relname = 'schema_version')",
            &[],
        )
        .await
        .map_err(from_pg)?
        .get(0)
    {
        let row = tx
            .query_one("SELECT max(version) FROM pgshift.schema_version", &[])
            .await
            .map_err(from_pg)?;
        known(row.get(0))?
    } else {
        0
    };
    // A newer one may have been first.
    check_version(now)?;
    for script in UPGRADES.iter().skip(usize::try_from(now).unwrap_or(0)) {
        tx.batch_execute(script).await.map_err(|e| {
            from_pg(e)
                .context("the state schema could not be installed or upgraded")
                .left("nothing was changed")
                .hint(
                    "the role needs CREATE on the database, or a schema pgshift that it owns; see \
                     docs/privileges.md",
                )
        })?;
    }
    // Whatever default privileges the role has.
    tx.batch_execute(
        "REVOKE ALL ON SCHEMA pgshift FROM PUBLIC;
         REVOKE ALL ON ALL TABLES IN SCHEMA pgshift FROM PUBLIC;
         REVOKE ALL ON ALL SEQUENCES IN SCHEMA pgshift FROM PUBLIC;
         REVOKE ALL ON ALL ROUTINES IN SCHEMA pgshift FROM PUBLIC",
    )
    .await
    .map_err(from_pg)?;
    let commit = async { tx.commit().await.map_err(from_pg) };
    fault::around(Write::StateUpgrade, commit).await?;
    Ok(before)
}
