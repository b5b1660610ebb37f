//! Sessions of the application that wait for locks of ours.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::{Limits, Reading, samples};

pub(super) struct Blocked;

impl Signal for Blocked {
    fn name(&self) -> &'static str {
        "blocked_sessions"
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_blocked.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let blocked = probes::blocked_by_us(ask.client()?).await?;
            Ok(vec![samples::blocked(blocked, ask.limits)])
        }
        .boxed()
    }
}
