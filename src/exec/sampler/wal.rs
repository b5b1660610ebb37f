//! How fast the server writes WAL.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal, lock};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::wal::{WalMeter, samples};
use crate::throttle::{Limits, Reading};

#[derive(Default)]
pub(super) struct WalRate {
    meter: WalMeter,
}

impl Signal for WalRate {
    fn name(&self) -> &'static str {
        "wal_rate"
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_wal_rate.is_some()
    }

    fn is_rate(&self) -> bool {
        true
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let lsn = probes::wal_insert_lsn(ask.client()?).await?;
            for chunk in lock(&ask.scene.written).drain(..) {
                self.meter.wrote(chunk);
            }
            let rates = self.meter.note(ask.at, lsn, ask.scene.workers);
            Ok(samples(rates, ask.limits))
        }
        .boxed()
    }
}
