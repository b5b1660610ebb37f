//! Workers of ours that wait for a connection.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Place, Signal};
use crate::error::Result;
use crate::throttle::{Limits, Reading, Unit, samples};

/// A connection takes a moment to be made: only those that waited at the last reading too count.
#[derive(Default)]
pub(super) struct PoolWaiters {
    before: usize,
}

impl Signal for PoolWaiters {
    fn name(&self) -> &'static str {
        "pool_waiters"
    }

    fn place(&self) -> Place {
        Place::Elsewhere
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_pool_waiters.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        let now = ask.scene.pool.as_ref().map_or(0, |p| p.status().waiting);
        let waiting = now.min(self.before) as f64;
        self.before = now;
        let limit = ask.limits.max_pool_waiters.map(|l| l as f64);
        let sample = samples::at_most("pool_waiters", waiting, Unit::Count, limit);
        async move { Ok(vec![sample]) }.boxed()
    }
}
