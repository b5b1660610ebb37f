//! The oldest snapshot of others.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::{Limits, Reading, Unit, samples};

pub(super) struct Snapshots;

impl Signal for Snapshots {
    fn name(&self) -> &'static str {
        "snapshot_age"
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_snapshot_age.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let oldest = probes::oldest_snapshot_age(ask.client()?).await?;
            let age = oldest.and_then(|o| o.age).unwrap_or_default().as_secs_f64();
            let limit = ask.limits.max_snapshot_age.map(|l| l.as_secs_f64());
            Ok(vec![samples::at_most(
                "snapshot_age",
                age,
                Unit::Seconds,
                limit,
            )])
        }
        .boxed()
    }
}
