//! VACUUMs at work on the table.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::{Limits, Reading, Unit, samples};

pub(super) struct Vacuums;

impl Signal for Vacuums {
    fn name(&self) -> &'static str {
        "vacuums"
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_vacuums.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let relations = &ask.scene.relations;
            let running = probes::vacuums(ask.client()?, relations).await? as f64;
            let limit = ask.limits.max_vacuums.map(|l| l as f64);
            Ok(vec![samples::at_most(
                "vacuums",
                running,
                Unit::Count,
                limit,
            )])
        }
        .boxed()
    }
}
