//! What replication slots keep back, and what they may still be late by.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::samples::{self, SlotState};
use crate::throttle::{Limits, Reading};

pub(super) struct Slots;

impl Signal for Slots {
    fn name(&self) -> &'static str {
        samples::SLOT_HEADROOM
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.min_slot_headroom.is_some() || limits.max_slot_retained.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let slots = probes::slots(ask.client()?).await?;
            let now: Vec<SlotState> = slots
                .into_iter()
                .map(|slot| SlotState {
                    lost: slot.wal_status.as_deref() == Some("lost"),
                    name: slot.name,
                    safe: slot.safe_wal_size,
                    retained: slot.retained,
                })
                .collect();
            Ok(samples::slots(&now, ask.limits))
        }
        .boxed()
    }
}
