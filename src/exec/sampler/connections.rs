//! Connections that are left.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::{Limits, Reading, samples};

pub(super) struct Connections;

impl Signal for Connections {
    fn name(&self) -> &'static str {
        "connections_free"
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.min_free_connections.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let free = probes::free_connections(ask.client()?).await?;
            Ok(vec![samples::connections(free, ask.limits)])
        }
        .boxed()
    }
}
