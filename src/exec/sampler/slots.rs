//! What replication slots keep back, and what they may still be late by.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::samples::{self, SlotState};
use crate::throttle::{Limits, Reading};

pub(super) struct Slots;

/// WAL that our chunks write: what a slot may still be late by shrinks by it before the slots are
/// read again.
#[derive(Default)]
pub(super) struct Ours {
    /// Bytes between begin and end of all chunks so far.
    written: AtomicU64,
    /// The same when the slots were read last.
    at_read: AtomicU64,
}

impl Ours {
    /// A chunk wrote this many bytes.
    pub(super) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The readings, less what was written since.
    pub(super) fn taken_off(&self, readings: Vec<Reading>) -> Vec<Reading> {
        let written = self.written.load(Ordering::Relaxed);
        let since = written.saturating_sub(self.at_read.load(Ordering::Relaxed));
        samples::less_headroom(readings, since)
    }
}

impl Signal for Slots {
    fn name(&self) -> &'static str {
        samples::SLOT_HEADROOM
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.min_slot_headroom.is_some() || limits.max_slot_retained.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            // Before the question: what is written meanwhile counts twice rather than not.
            let written = ask.scene.ours.written.load(Ordering::Relaxed);
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
            ask.scene.ours.at_read.store(written, Ordering::Relaxed);
            Ok(samples::slots(&now, ask.limits))
        }
        .boxed()
    }
}
