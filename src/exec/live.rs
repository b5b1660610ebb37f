//! What a person says to a run while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_postgres::Client;

use super::engine::{Engine, begin};
use super::{commit, lease, ready};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::fault::{self, Write};
use crate::run::State;
use crate::store::{self, overrides};
use crate::throttle::pools;

/// The key beside the progress in a lease under which a runner tells the limits of its command
/// line.
pub(super) const LINE: &str = "limits";

/// What is said of a migration's limits beside the configuration, the weakest first.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// By the migration file, as it was applied.
    pub file: BTreeMap<String, String>,
    /// By the command line of the live run, as its last sign of life told.
    pub line: BTreeMap<String, String>,
    /// While it runs.
    pub overrides: Vec<overrides::Override>,
}

impl Engine {
    /// Asks the runner of a migration to hold between chunks.
    pub async fn pause(&self, id: &str) -> Result<()> {
        let client = self.connect_initialised().await?;
        let state = store::migrations::get(&client, id)
            .await?
            .map_or(State::Pending, |r| r.state);
        if !state.in_motion() {
            return Err(
                Error::refused(format!("{id} is {state}: nothing runs that could pause"))
                    .left("nothing was changed")
                    .hint("`pgshift status` tells what can be done"),
            );
        }
        let event = Event::Paused {
            by: self.ctx.actor.clone(),
        };
        let on = Some(("on", None));
        self.say(&client, id, overrides::PAUSE, on, &event)
            .await
            .map(drop)
    }

    /// Sets or (without a value) clears an override, with the log's entry in the same transaction;
    /// false where there was none to clear.
    async fn say(
        &self,
        client: &Client,
        id: &str,
        key: &str,
        value: Option<(&str, Option<Duration>)>,
        event: &Event,
    ) -> Result<bool> {
        let actor = self.ctx.actor.as_str();
        begin(client).await?;
        let work = async {
            let changed = if let Some((value, expires_in)) = value {
                overrides::set(client, id, key, value, actor, expires_in).await?;
                true
            } else {
                overrides::clear(client, id, key).await?
            };
            if changed {
                store::events::append(client, id, None, actor, event).await?;
            }
            Ok(changed)
        };
        match work.await {
            Ok(changed) => {
                let said = fault::around(Write::Said, commit(client)).await;
                said.map_err(|error| {
                    if !error.is_connection() {
                        return error;
                    }
                    error
                        .left("it is not known whether this was recorded; saying it again is safe")
                        .hint(format!(
                            "`pgshift status {id}` and `pgshift throttle show {id}` tell it"
                        ))
                })?;
                Ok(changed)
            }
            Err(error) => {
                let _ = client.batch_execute("ROLLBACK").await;
                Err(error)
            }
        }
    }

    /// Ends the pause of a migration; false where there was none.
    pub(super) async fn unpause(&self, client: &Client, id: &str) -> Result<bool> {
        let event = Event::Unpaused {
            by: self.ctx.actor.clone(),
        };
        self.say(client, id, overrides::PAUSE, None, &event).await
    }

    /// Ends the pause of a live run through a transaction pooler, where no run can be taken up.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused), and the pause stays, where nobody runs
    /// the migration or nothing is paused.
    pub(super) async fn end_pause(&self, id: &str) -> Result<()> {
        let client = self.connect_initialised().await?;
        let paused = overrides::list(&client, id)
            .await?
            .iter()
            .any(|o| o.key == overrides::PAUSE);
        if !paused || !lease::is_held(&client, id).await? {
            return Err(self.refused_pooler(
                self.pooling().await?,
                "the pause of a live run can be ended through it, but no run taken up",
            ));
        }
        self.unpause(&client, id).await.map(drop)
    }

    /// Sets limits of a migration's runs while they run, for a time or for good.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`](crate::ErrorKind::Usage) for a limit of PgBouncer's queues where no
    /// console is named: the run would hold as blind.
    pub async fn set_limits(
        &self,
        id: &str,
        limits: &[(String, String)],
        expires_in: Option<Duration>,
    ) -> Result<()> {
        if self.ctx.settings.pools.is_none() {
            let set = limits.iter().map(|(key, value)| (&**key, &**value));
            if let Some(limit) = pools::unwatched(set) {
                return Err(ready::no_console(limit));
            }
        }
        let client = self.connect_initialised().await?;
        for (key, value) in limits {
            let event = Event::LimitSet {
                key: key.clone(),
                value: value.clone(),
                seconds: expires_in.map(|d| d.as_secs()),
            };
            let value = Some((value.as_str(), expires_in));
            self.say(&client, id, key, value, &event).await?;
        }
        Ok(())
    }

    /// Takes limits back that were set so; all of them where no key is named.
    pub async fn clear_limits(&self, id: &str, keys: &[String]) -> Result<Vec<String>> {
        let client = self.connect_initialised().await?;
        let mut cleared = Vec::new();
        for o in overrides::list(&client, id).await? {
            if o.key == overrides::PAUSE || !(keys.is_empty() || keys.contains(&o.key)) {
                continue;
            }
            let event = Event::LimitCleared { key: o.key.clone() };
            self.say(&client, id, &o.key, None, &event).await?;
            cleared.push(o.key);
        }
        Ok(cleared)
    }

    /// What is said of a migration's limits beside the configuration.
    pub async fn said(&self, id: &str) -> Result<Said> {
        let client = self.connect_initialised().await?;
        let row = store::migrations::get(&client, id).await?;
        let mut line = BTreeMap::new();
        if let Some(run) = store::runs::open_run(&client, id).await? {
            let lease = store::runs::lease(&client, run.id).await?;
            line = lease
                .filter(|lease| !lease.expired)
                .and_then(|lease| serde_json::from_value(lease.progress?.get(LINE)?.clone()).ok())
                .unwrap_or_default();
        }
        Ok(Said {
            file: ready::file_limits(row.as_ref()),
            line,
            overrides: overrides::list(&client, id).await?,
        })
    }
}
