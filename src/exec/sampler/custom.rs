//! What the signals that a person added have in common: a name, a pace, and that they are watched
//! whatever the limits are.

use futures_util::future::BoxFuture;

use super::{Ask, Place, Signal};
use crate::error::Result;
use crate::throttle::board::Pace;
use crate::throttle::{Limits, Reading};

/// How the person calls it, and how often it is asked.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) pace: Pace,
}

/// A signal that a person added.
pub(super) trait Custom: Send {
    /// Where it is read.
    const PLACE: Place;

    /// Its name and pace.
    fn named(&self) -> &Named;

    /// As [`Signal::read`].
    fn ask<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>>;
}

impl<C: Custom> Signal for C {
    fn name(&self) -> &str {
        &self.named().name
    }

    fn place(&self) -> Place {
        C::PLACE
    }

    fn pace(&self) -> Pace {
        self.named().pace
    }

    fn watched(&self, _: &Limits) -> bool {
        true
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        self.ask(ask)
    }
}
