//! Replay lag of the standbys.

use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::{Ask, Signal};
use crate::error::Result;
use crate::pg::probes::{self, Replica};
use crate::throttle::lag::LagClock;
use crate::throttle::samples::{self, StandbyLag};
use crate::throttle::{Limits, Reading};

/// Remembers where the log was, and which standbys were there: one that vanishes is missed.
#[derive(Default)]
pub(super) struct Replicas {
    clock: LagClock,
    seen: Vec<String>,
}

impl Signal for Replicas {
    fn name(&self) -> &'static str {
        "replica_lag"
    }

    fn watched(&self, limits: &Limits) -> bool {
        limits.max_lag.is_some() || limits.max_lag_bytes.is_some()
    }

    fn read<'a>(&'a mut self, ask: Ask<'a>) -> BoxFuture<'a, Result<Vec<Reading>>> {
        async move {
            let client = ask.client()?;
            let lsn = probes::wal_lsn(client).await?;
            self.clock.note(ask.at, lsn);
            let now = standbys(&probes::replicas(client).await?, &self.clock, ask.at, lsn);
            let readings = samples::standbys(&now, &self.seen, ask.limits);
            for standby in now {
                if !self.seen.contains(&standby.name) {
                    self.seen.push(standby.name);
                }
            }
            Ok(readings)
        }
        .boxed()
    }
}

/// The standbys that replay; base backups and `pg_receivewal` do not.
fn standbys(replicas: &[Replica], clock: &LagClock, at: Duration, lsn: u64) -> Vec<StandbyLag> {
    replicas
        .iter()
        .filter_map(|r| {
            let bytes = u64::try_from(r.replay_bytes?).unwrap_or(0);
            let replayed = lsn.saturating_sub(bytes);
            let lag = if bytes == 0 {
                Duration::ZERO
            } else if clock.reaches(replayed) {
                clock.lag(at, replayed)
            } else {
                // It was behind before we began to look: what the server has measured, if more.
                let measured = r.replay_lag.unwrap_or_default();
                clock.lag(at, replayed).max(measured)
            };
            Some(StandbyLag {
                name: r.name.clone(),
                lag,
                bytes,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_was_behind_before_counts_from_the_first_reading_on() {
        let mut clock = LagClock::default();
        let at = Duration::from_secs(1);
        clock.note(at, 1000);
        let replica = |bytes| Replica {
            name: "a".into(),
            state: "streaming".into(),
            replay_bytes: Some(bytes),
            replay_lag: Some(Duration::from_mins(10)),
        };
        let lag = |bytes| standbys(&[replica(bytes)], &clock, at, 1000)[0].lag;
        assert_eq!(lag(500), Duration::from_mins(10));
        assert_eq!(lag(0), Duration::ZERO);
    }
}
