//! A query of Prometheus.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::custom::{Custom, Named};
use super::{Ask, Place, http};
use crate::error::{Error, Result};
use crate::throttle::endpoint::Endpoint;
use crate::throttle::{Bound, Reading, Sample, Unit, prometheus};

pub(super) struct Prometheus {
    pub(super) named: Named,
    pub(super) url: Endpoint,
    pub(super) query: String,
    pub(super) bound: Bound,
}

impl Custom for Prometheus {
    const PLACE: Place = Place::Elsewhere;

    fn named(&self) -> &Named {
        &self.named
    }

    fn ask<'a>(&'a mut self, _: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let timeout = format!("{}ms", self.named.pace.timeout.as_millis().max(1));
            let query = [("query", self.query.as_str()), ("timeout", &timeout)];
            let answer = http::get(&self.url.below("/api/v1/query", &query), true).await?;
            Ok(vec![
                match (answer.status, prometheus::instant(&answer.body)) {
                    (200, Ok(value)) => Sample::new(&*self.named.name, value, Unit::Number)
                        .bound(Some(self.bound))
                        .into(),
                    (200, Err(why)) => Reading::Blind {
                        signal: self.named.name.clone(),
                        why,
                    },
                    // Wrong parameters, or a query that cannot be executed: it never will.
                    (400 | 422, why) => {
                        let why = why.err().unwrap_or_else(|| "without a reason".to_owned());
                        return Err(Error::usage(format!("{}: {why}", self.url)));
                    }
                    (401 | 403 | 404, _) => {
                        return Err(Error::usage(format!("{} says {}", self.url, answer.status))
                            .hint(
                                "is it the base URL of Prometheus, with the credentials it wants?",
                            ));
                    }
                    (status, _) => Reading::Blind {
                        signal: self.named.name.clone(),
                        why: format!("{} says {status}", self.url),
                    },
                },
            ])
        }
        .boxed()
    }
}
