//! The one list of signals.

use super::{
    Signal, archiver, blocked, connections, pgbouncer, replicas, slots, snapshots, vacuums,
};
use crate::exec::Settings;

/// Every signal of a run with these settings, in the order in which `pgshift doctor` tells them.
pub(in crate::exec) fn all(settings: &Settings) -> Vec<Box<dyn Signal>> {
    let mut all: Vec<Box<dyn Signal>> = vec![
        Box::new(replicas::Replicas::default()),
        Box::new(slots::Slots),
        Box::new(connections::Connections),
        Box::new(blocked::Blocked),
        Box::new(snapshots::Snapshots),
        Box::new(archiver::Archiver),
        Box::new(vacuums::Vacuums),
    ];
    if let Some(pools) = &settings.pools {
        all.push(Box::new(pgbouncer::PgBouncer::new(pools)));
    }
    all
}
