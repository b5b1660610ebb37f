//! WAL files that wait for the archiver, and an archiver that fails: then all of them will.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Place, Signal};
use crate::error::Result;
use crate::pg::probes;
use crate::throttle::{Limits, Reading, Unit, samples};

pub(super) struct Archiver;

impl Signal for Archiver {
    fn name(&self) -> &'static str {
        "archive_backlog"
    }

    /// A folder is listed: where the backlog is large that takes its time.
    fn place(&self) -> Place {
        Place::Own
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_archive_backlog.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let archive = probes::archive(ask.client()?).await?;
            let limit = ask.limits.max_archive_backlog.map(|l| l as f64);
            let files = archive.ready as f64;
            let mut readings = vec![samples::at_most(
                "archive_backlog",
                files,
                Unit::Count,
                limit,
            )];
            if let Some((file, times)) = archive.failing {
                readings.push(Reading::Shut {
                    signal: "archiver".to_owned(),
                    why: format!("archiving {file} failed ({times} failures so far)"),
                });
            }
            Ok(readings)
        }
        .boxed()
    }
}
