//! An HTTP gate: 2xx lets the backfill go on.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::custom::{Custom, Named};
use super::{Ask, Place, http};
use crate::error::Result;
use crate::throttle::endpoint::Endpoint;
use crate::throttle::{Reading, Sample, Unit};

pub(super) struct Gate {
    pub(super) named: Named,
    pub(super) url: Endpoint,
}

impl Custom for Gate {
    const PLACE: Place = Place::Elsewhere;

    fn named(&self) -> &Named {
        &self.named
    }

    fn ask<'a>(&'a mut self, _: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let status = http::get(&self.url, false).await?.status;
            if (200..300).contains(&status) {
                let go = Sample::new(&*self.named.name, f64::from(status), Unit::Count);
                return Ok(vec![go.into()]);
            }
            Ok(vec![Reading::Shut {
                signal: self.named.name.clone(),
                why: format!("the gate {} says {status}", self.url),
            }])
        }
        .boxed()
    }
}
