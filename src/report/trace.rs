//! Events as lines of the log (`--log-format json`), with migration and step as fields.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::event::{Event, Sink};
use crate::report::progress::{Clock, describe, is_wrong};
use crate::report::text::redact;

/// Time between two tellings of progress at level info; all others are at debug.
const PROGRESS_EVERY: TimeDelta = TimeDelta::seconds(10);

/// Writes events to the log, in place of a display for people.
#[derive(Debug)]
pub struct Trace {
    clock: Clock,
    /// By migration: when its progress was last told.
    told: Mutex<HashMap<String, DateTime<Utc>>>,
}

impl Trace {
    /// To the log of the process; `clock` paces the progress.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            told: Mutex::default(),
        }
    }

    fn is_due(&self, migration: &str) -> bool {
        let now = (self.clock)();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let due = told
            .get(migration)
            .is_none_or(|at| now - *at >= PROGRESS_EVERY);
        if due {
            told.insert(migration.to_owned(), now);
        }
        due
    }
}

impl Sink for Trace {
    fn event(&self, migration: &str, event: &Event) {
        if !event.is_told() {
            return;
        }
        let name = event.name();
        let step = step_of(event);
        let text = redact(&describe(event).unwrap_or_else(|| name.to_owned()));
        // The level is part of a call site.
        if is_wrong(event) {
            tracing::error!(target: "pgshift::event", migration, step, event = name, "{text}");
        } else if matches!(event, Event::Reconnecting { .. })
            || matches!(event, Event::Stopped { asked: false, .. })
        {
            tracing::warn!(target: "pgshift::event", migration, step, event = name, "{text}");
        } else if event.is_durable()
            || matches!(event, Event::Progress(_)) && self.is_due(migration)
        {
            tracing::info!(target: "pgshift::event", migration, step, event = name, "{text}");
        } else {
            tracing::debug!(target: "pgshift::event", migration, step, event = name, "{text}");
        }
    }
}

/// The step that an event names.
fn step_of(event: &Event) -> Option<usize> {
    match event {
        Event::StepStarted { step, .. }
        | Event::LockWaiting { step, .. }
        | Event::LockTried { step, .. }
        | Event::BlockersCancelled { step, .. }
        | Event::StepDone { step, .. }
        | Event::ChunkDone { step, .. } => Some(*step),
        Event::Progress(progress) => Some(progress.step),
        Event::Signals(signals) => Some(signals.step),
        _ => None,
    }
}
