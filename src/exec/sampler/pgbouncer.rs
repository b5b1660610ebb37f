//! PgBouncer's queues.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Place, Signal};
use crate::error::Result;
use crate::exec::Pools;
use crate::pg::probes::Console;
use crate::throttle::{Limits, Reading, pools};

/// Within the pace of a read, so that a console that hangs is connected to anew.
const ANSWER: Duration = Duration::from_millis(800);

pub(super) struct PgBouncer {
    console: Console,
    /// The name on the server; where it is not known, all pools count.
    database: Option<String>,
}

impl PgBouncer {
    pub(super) fn new(pools: &Pools) -> Self {
        Self {
            console: Console::new(pools.console.clone()),
            database: pools.database.clone(),
        }
    }
}

impl Signal for PgBouncer {
    fn name(&self) -> &'static str {
        "pgbouncer"
    }

    fn place(&self) -> Place {
        Place::Elsewhere
    }

    fn watched(&self, limits: &Limits) -> bool {
        pools::wanted(limits)
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let queues = self.console.queues(ANSWER).await?;
            let pools = match &self.database {
                Some(name) => pools::watched(queues.pools, &queues.aliases, name),
                None => pools::watched(queues.pools, &[], ""),
            };
            Ok(pools::readings(&pools, ask.limits))
        }
        .boxed()
    }
}
