//! What must hold before a run begins: sessions, one database behind both URLs, a console that
//! can be read; and the way that chunks take.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Client;

use super::engine::Engine;
use super::{Ctx, Settings, lock};
use crate::error::{Error, Result};
use crate::pg::connect::Target;
use crate::pg::pooler::{First, Pooling, pooling};
use crate::pg::probes::Console;
use crate::pg::session::{Identity, identity};
use crate::store::MigrationRow;
use crate::throttle::pools;

/// How long PgBouncer, or a database behind its queue, may take to answer before a run begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// A context in which a run may begin.
pub(super) struct Ready {
    ctx: Ctx,
    /// Which way chunks go, and why, where there are two.
    way: Option<String>,
}

impl Engine {
    /// What the sessions of `--direct-url`, or else `--database-url`, are; looked at once.
    pub(super) async fn pooling(&self) -> Result<&Pooling> {
        self.ctx
            .pooling
            .get_or_try_init(|| async {
                let target = &self.ctx.target;
                let first = match self.take_spare() {
                    Some(first) => first,
                    None => First::connect(target).await?,
                };
                let pooling = first.pooling(target).await?;
                if pooling == Pooling::Session {
                    *lock(&self.spare) = Some(first);
                }
                Ok(pooling)
            })
            .await
    }

    /// Refuses what short commands do not work through.
    pub(super) async fn check_short(&self) -> Result<()> {
        let pooling = self.pooling().await?;
        if pooling.carries_transactions() {
            Ok(())
        } else {
            Err(self.refused_pooler(pooling, "nothing works reliably through it"))
        }
    }

    /// Checks, once, all that a run needs, and decides which way its chunks go.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Refused`] without a session, or where the two URLs lead to different
    /// databases; what a server that cannot be read gives. Nothing was changed.
    pub(super) async fn ready(&self) -> Result<&Ctx> {
        Ok(&self.prepared().await?.ctx)
    }

    /// Which way chunks go, and why, where a pooler and a direct way are given.
    ///
    /// # Errors
    /// All that keeps a run from beginning.
    pub async fn chunks_way(&self) -> Result<Option<&str>> {
        if self.ctx.pooled.is_none() {
            return Ok(None);
        }
        Ok(self.prepared().await?.way.as_deref())
    }

    async fn prepared(&self) -> Result<&Ready> {
        self.ready
            .get_or_try_init(|| async {
                self.prepare()
                    .await
                    .map_err(|error| match error.what_was_left() {
                        None => error.left("nothing was changed"),
                        Some(_) => error,
                    })
            })
            .await
    }

    async fn prepare(&self) -> Result<Ready> {
        let pooling = self.pooling().await?;
        if *pooling != Pooling::Session {
            return Err(self.refused_pooler(
                pooling,
                "locks that must outlive a transaction cannot work through it",
            ));
        }
        let mut ctx = self.ctx.clone();
        let mut way = None;
        if ctx.pooled.is_none() && ctx.settings.pools.is_none() {
            return Ok(Ready { ctx, way });
        }
        let client = self.session().await?;
        know_database(&mut ctx.settings, &client).await?;
        if let Some(pooled) = ctx.pooled.clone() {
            check_same(&ctx.target, &client, &pooled).await?;
            let found = self::pooling(&pooled).await?;
            let text = told(&found, &pooled, &ctx.target);
            tracing::info!("{text}");
            way = Some(text);
            ctx.chunks = found.carries_transactions().then_some(pooled);
        }
        Ok(Ready { ctx, way })
    }

    pub(super) fn refused_pooler(&self, pooling: &Pooling, why: &str) -> Error {
        let target = &self.ctx.target;
        Error::refused(format!("{target} is {pooling}; {why}"))
            .left("nothing was changed")
            .hint(if self.ctx.direct {
                "--direct-url must lead past it: to PostgreSQL itself, or to a pool in session \
                 mode (pool_mode=session)"
            } else {
                "give the way to PostgreSQL itself, or to a pool in session mode, beside it: \
                 --direct-url (PGSHIFT_DIRECT_URL); see docs/pgbouncer.md"
            })
    }
}

/// Reads the console once: what can never be read is an error before anything starts, and so is a
/// limit of its queues without a console. `file` are the limits of the migration file.
pub(super) async fn check_console(
    settings: &Settings,
    file: &BTreeMap<String, String>,
) -> Result<()> {
    if let Some(limit) = settings.unwatched(file) {
        return Err(no_console(limit));
    }
    let Some(of) = &settings.pools else {
        return Ok(());
    };
    if !pools::wanted(&settings.limits_with(file)?) {
        return Ok(());
    }
    let read = Console::new(of.console.clone()).queues(PATIENCE).await;
    read.map(drop).map_err(|e| e.left("nothing was changed"))
}

/// A limit of PgBouncer's queues that nothing could watch.
pub(super) fn no_console(limit: &str) -> Error {
    Error::usage(format!(
        "{limit} is set, and no PgBouncer is named whose queues could be watched"
    ))
    .left("nothing was changed")
    .hint(format!(
        "--pgbouncer-url (PGSHIFT_PGBOUNCER_URL, or pgbouncer-url in pgshift.toml) names its admin \
         console; {limit}=off does without"
    ))
}

/// The limits that the file of a recorded migration sets.
pub(super) fn file_limits(row: Option<&MigrationRow>) -> BTreeMap<String, String> {
    let plan = row.and_then(|row| row.plan.as_ref());
    plan.into_iter()
        .flat_map(|plan| &plan.steps)
        .map(|step| &step.throttle)
        .find(|limits| !limits.is_empty())
        .cloned()
        .unwrap_or_default()
}

/// Asks the server for the name by which PgBouncer's aliases know the database.
pub(super) async fn know_database(settings: &mut Settings, client: &Client) -> Result<()> {
    if let Some(pools) = &mut settings.pools {
        pools.database = Some(identity(client).await?.database);
    }
    Ok(())
}

/// Refuses a `--database-url` that leads elsewhere than the direct one.
pub(super) async fn check_same(direct: &Target, client: &Client, pooled: &Target) -> Result<()> {
    let asked = async {
        let there = identity(&pooled.connect().await?).await?;
        Ok::<_, Error>((identity(client).await?, there))
    };
    let (here, there) = tokio::time::timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| {
            Err(Error::connection(format!(
                "{pooled}: no answer within {} s",
                PATIENCE.as_secs()
            ))
            .hint("the pool is overloaded: try again when it is not"))
        })?;
    match difference(&here, &there) {
        None => Ok(()),
        Some(what) => Err(Error::refused(format!(
            "--database-url {pooled} and --direct-url {direct} lead to different places: {what}"
        ))
        .left("nothing was changed")
        .hint("both must lead to the same database of the same server, as the same role")),
    }
}

/// After a lost connection: the pooler must lead to where we are now, or the run tries again
/// later, as it may follow a failover late.
pub(super) async fn check_way(ctx: &Ctx, client: &Client) -> Result<()> {
    let Some(pooled) = &ctx.chunks else {
        return Ok(());
    };
    check_same(&ctx.target, client, pooled)
        .await
        .map_err(|error| error.with_kind(crate::ErrorKind::Connection))
}

fn difference(direct: &Identity, pooled: &Identity) -> Option<String> {
    let (d, p) = (direct, pooled);
    if d.system != p.system {
        let told = |system: &Option<String>| system.clone().unwrap_or_else(|| "none".to_owned());
        return Some(format!(
            "servers with the system identifiers {} and {}",
            told(&p.system),
            told(&d.system)
        ));
    }
    if d.started != p.started {
        return Some("two servers that were started at different times".to_owned());
    }
    if d.database_oid != p.database_oid {
        return Some(format!("databases {} and {}", p.database, d.database));
    }
    if d.role != p.role {
        return Some(format!("roles {} and {}", p.role, d.role));
    }
    None
}

/// For people: which way chunks go, and why.
fn told(found: &Pooling, pooled: &Target, direct: &Target) -> String {
    if found.carries_transactions() {
        return format!("chunks go through {pooled}, {found}; all else goes to {direct}");
    }
    let mend = match found {
        Pooling::Transaction { .. } => {
            " (PgBouncer does from 1.21 on, with max_prepared_statements above 0)"
        }
        Pooling::Session | Pooling::Statement => "",
    };
    format!("all goes to {direct}, chunks too: {pooled} is {found}{mend}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_from_the_server_down() {
        let here = Identity {
            system: Some("1".into()),
            started: "2".into(),
            database_oid: "3".into(),
            database: "shop".into(),
            role: "deploy".into(),
        };
        assert_eq!(difference(&here, &here), None);
        let other = |change: fn(&mut Identity)| {
            let mut there = here.clone();
            change(&mut there);
            difference(&here, &there).unwrap_or_default()
        };
        assert!(other(|i| i.system = Some("9".into())).contains("identifiers 9 and 1"));
        assert!(other(|i| i.started = "9".into()).contains("different times"));
        let database = other(|i| {
            i.database_oid = "9".into();
            i.database = "old".into();
        });
        assert_eq!(database, "databases old and shop");
        assert_eq!(other(|i| i.role = "web".into()), "roles web and deploy");
    }
}
