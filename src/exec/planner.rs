//! Planning against a live database.

use tokio_postgres::Client;

use super::{Settings, probe};
use crate::catalog::{Catalog, QName};
use crate::error::{Error, ErrorKind, Result};
use crate::lint::rules;
use crate::migration::Migration;
use crate::pg::catalog::{Wanted, load, load_objects};
use crate::pg::probes::{
    OldestSnapshot, not_vacuumed, oldest_snapshot_age, rewriting_rules, shared_buffers,
};
use crate::plan::probe::Pin;
use crate::plan::{self, Draft, PLAN_FORMAT, Plan};

/// Loads the part of the catalog that a migration names.
pub async fn catalog(client: &Client, migration: &Migration) -> Result<Catalog> {
    let mut wanted: Vec<Wanted> = plan::wanted(migration)
        .into_iter()
        .map(|(schema, name)| Wanted { schema, name })
        .collect();
    let mut catalog = load(client, &wanted).await?;
    loop {
        let more = plan::retype::inbound::wanted(migration, &catalog);
        if more.is_empty() {
            break;
        }
        wanted.extend(more.iter().map(|n| Wanted::new(Some(&n.schema), &n.name)));
        let known = catalog.tables.len();
        catalog = load(client, &wanted).await?;
        if catalog.tables.len() == known {
            break;
        }
    }
    let objects = plan::wanted_objects(migration);
    let (names, schemas) = (&objects.names, &objects.schemas);
    load_objects(client, &mut catalog, names, schemas, objects.defaults).await?;
    Ok(catalog)
}

/// Plans a migration: catalog, draft, the server's answers, steps. Nothing is changed, and no
/// table is locked beyond ACCESS SHARE.
///
/// # Errors
/// An `allow` of a rule that does not exist, and all that planning refuses.
pub async fn plan(client: &Client, migration: &Migration) -> Result<Plan> {
    plan_with(client, migration, &Settings::default()).await
}

/// As [`plan()`], with figures for these settings: the duty, and the sizes of another database.
///
/// # Errors
/// As [`plan()`].
pub async fn plan_with(
    client: &Client,
    migration: &Migration,
    settings: &Settings,
) -> Result<Plan> {
    let migration = rules::resolve_allows(migration)
        .map_err(|unknown| Error::at(&migration.source, unknown).left("nothing was changed"))?;
    let migration = migration.as_ref();
    let mut catalog = catalog(client, migration).await?;
    let unknown = settings
        .sizes
        .as_ref()
        .map(|elsewhere| catalog.sizes_of(elsewhere));
    let draft = Draft::new(migration, &catalog)?;
    let mut probed = probe::ask(client, &draft).await?;
    probed.duty = Some(settings.limits.duty);
    probed.shared_buffers = Some(shared_buffers(client).await?);
    let backfilled = draft.backfills.iter().map(|statement| &statement.table);
    let tables = backfilled.filter_map(|name| catalog.tables.get(name));
    let leaves: Vec<u32> = tables
        .flat_map(|table| table.leaves.iter().map(|leaf| leaf.oid))
        .collect();
    if !leaves.is_empty() {
        probed.not_vacuumed = not_vacuumed(client, &leaves).await?;
        probed.pinned = pinned(client).await?;
        probed.rules = rewriting_rules(client, &leaves).await?;
    }
    let mut plan = plan::build(&draft, &probed)?;
    if probed.checked {
        probe::trial::run(client, &draft).await?;
    }
    if let Some(unknown) = unknown {
        plan.warnings.push(sizes_warning(&unknown));
    }
    Ok(plan)
}

/// What keeps dead rows from being removed, where it will not be gone at once; `None` also where
/// the sessions of others are hidden.
async fn pinned(client: &Client) -> Result<Option<Pin>> {
    let oldest = match oldest_snapshot_age(client).await {
        Err(error) if !error.is_connection() => return Ok(None),
        oldest => oldest?,
    };
    Ok(oldest.filter(OldestSnapshot::is_old).map(|o| Pin {
        holder: o.holder,
        age: o.age,
    }))
}

/// Says whose sizes a plan counts with.
fn sizes_warning(unknown: &[QName]) -> String {
    let mut text = "rows and sizes are those of the snapshot; what a row costs was measured on \
                    the rows of this database"
        .to_owned();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(ToString::to_string).collect();
        text.push_str("; the snapshot does not have ");
        text.push_str(&names.join(", "));
    }
    text
}

/// Checks a plan that was written earlier against the file and the database as they are now.
///
/// # Errors
/// [`ErrorKind::Refused`] naming what changed.
pub async fn check_saved(client: &Client, migration: &Migration, saved: &Plan) -> Result<()> {
    let refused = |what: String| {
        Error::new(ErrorKind::Refused, what)
            .left("nothing was changed")
            .hint("plan again with `pgshift plan --out`, review it, and apply that")
    };
    if saved.format != PLAN_FORMAT {
        return Err(refused(format!(
            "the plan is of format {}, this pgshift writes {PLAN_FORMAT}",
            saved.format
        )));
    }
    if saved.migration != migration.id {
        return Err(refused(format!(
            "the plan is of migration {}, not of {}",
            saved.migration, migration.id
        )));
    }
    if saved.checksum != migration.checksum {
        return Err(refused(format!(
            "{} has changed since it was planned",
            migration.id
        )));
    }
    let now = plan_facts(client, migration).await?;
    let changed = crate::catalog::facts::changed(&saved.facts, &now);
    if !changed.is_empty() {
        return Err(refused(format!(
            "the database has changed since {} was planned: {}",
            migration.id,
            changed.join("; ")
        )));
    }
    Ok(())
}

async fn plan_facts(
    client: &Client,
    migration: &Migration,
) -> Result<std::collections::BTreeMap<String, String>> {
    Ok(crate::catalog::facts::facts(
        &catalog(client, migration).await?,
    ))
}
