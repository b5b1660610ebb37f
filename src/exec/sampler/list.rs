//! The one list of signals.

use super::{
    Signal, archiver, blocked, checkpoints, connections, custom, gate, pgbouncer, pool, prometheus,
    replicas, slots, snapshots, sql, vacuums, wal,
};
use crate::exec::Settings;
use crate::throttle::custom::{Asks, Custom};

/// Every signal of a run with these settings, in the order in which `pgshift doctor` tells them.
pub(in crate::exec) fn all(settings: &Settings) -> Vec<Box<dyn Signal>> {
    let mut all: Vec<Box<dyn Signal>> = vec![
        Box::new(replicas::Replicas::default()),
        Box::new(slots::Slots),
        Box::new(connections::Connections),
        Box::new(pool::PoolWaiters::default()),
        Box::new(blocked::Blocked),
        Box::new(wal::WalRate::default()),
        Box::new(checkpoints::ForcedCheckpoints::default()),
        Box::new(snapshots::Snapshots),
        Box::new(archiver::Archiver),
        Box::new(vacuums::Vacuums),
    ];
    if let Some(pools) = &settings.pools {
        all.push(Box::new(pgbouncer::PgBouncer::new(pools)));
    }
    all.extend(added(&settings.signals));
    all
}

/// The signals that a person added.
pub(super) fn added(signals: &[Custom]) -> impl Iterator<Item = Box<dyn Signal>> + '_ {
    signals.iter().cloned().map(of)
}

fn of(Custom { name, pace, asks }: Custom) -> Box<dyn Signal> {
    let named = custom::Named { name, pace };
    match asks {
        Asks::Sql { sql, bound } => Box::new(sql::Sql {
            named,
            query: sql,
            bound,
        }),
        Asks::Gate { url } => Box::new(gate::Gate { named, url }),
        Asks::Prometheus { url, query, bound } => Box::new(prometheus::Prometheus {
            named,
            url,
            query,
            bound,
        }),
    }
}
