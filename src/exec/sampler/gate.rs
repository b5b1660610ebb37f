//! An HTTP gate: 2xx lets the backfill go on.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Place, Signal, http};
use crate::error::Result;
use crate::throttle::board::Pace;
use crate::throttle::endpoint::Endpoint;
use crate::throttle::{Limits, Reading, Sample, Unit};

pub(super) struct Gate {
    pub(super) name: String,
    pub(super) url: Endpoint,
    pub(super) pace: Pace,
}

impl Signal for Gate {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self) -> Place {
        Place::Elsewhere
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn watched(&self, _: &Limits) -> bool {
        true
    }

    fn read<'a>(&'a mut self, _: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let status = http::get(&self.url, false).await?.status;
            if (200..300).contains(&status) {
                let go = Sample::new(&*self.name, f64::from(status), Unit::Count);
                return Ok(vec![go.into()]);
            }
            Ok(vec![Reading::Shut {
                signal: self.name.clone(),
                why: format!("the gate {} says {status}", self.url),
            }])
        }
        .boxed()
    }
}
