//! One stream of events for several readers.

use std::sync::Arc;

use crate::event::{Event, Sink};

/// Gives each event to every sink, in order.
pub struct Fan(Vec<Arc<dyn Sink>>);

impl Fan {
    /// These sinks as one.
    pub fn new(sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self(sinks)
    }
}

impl Sink for Fan {
    fn event(&self, migration: &str, event: &Event) {
        for sink in &self.0 {
            sink.event(migration, event);
        }
    }
}
