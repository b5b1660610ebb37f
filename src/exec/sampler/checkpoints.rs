//! Checkpoints that were forced of late.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::recent::Recent;
use crate::throttle::{Limits, Reading, Unit, samples};

/// What `max-forced-checkpoints` counts over.
const WINDOW: Duration = Duration::from_mins(5);

pub(super) struct ForcedCheckpoints {
    recent: Recent,
}

impl Default for ForcedCheckpoints {
    fn default() -> Self {
        Self {
            recent: Recent::new(WINDOW),
        }
    }
}

impl Signal for ForcedCheckpoints {
    fn name(&self) -> &'static str {
        "forced_checkpoints"
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_forced_checkpoints.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let counter = probes::forced_checkpoints(ask.client()?).await?;
            let recent = self.recent.note(ask.at, counter) as f64;
            let limit = ask.limits.max_forced_checkpoints.map(|l| l as f64);
            Ok(vec![samples::at_most(
                "forced_checkpoints",
                recent,
                Unit::Count,
                limit,
            )])
        }
        .boxed()
    }
}
