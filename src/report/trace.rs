//! Events as lines of the log (`--log-format json`), with migration and step as fields.

use crate::event::{Event, Sink};
use crate::report::progress::{describe, is_wrong};
use crate::report::text::redact;

/// Writes events to the log, in place of a display for people.
#[derive(Debug, Default)]
pub struct Trace;

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
        } else if event.is_durable() {
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
