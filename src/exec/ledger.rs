//! The account of the time that a step loses, by cause.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::lock;
use crate::event::Lost;
use crate::store::StepRow;

/// The cause of time spent waiting for the locks of a step.
pub(super) const LOCKS: &str = "locks";

/// Time lost since this session began the step, beside what sessions before it recorded.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    before: Lost,
    lost: BTreeMap<String, Duration>,
    /// What holds it now, and since when that is not in `lost` yet.
    holding: Option<(String, Instant)>,
}

impl Account {
    fn settle(&mut self) {
        if let Some((cause, since)) = &mut self.holding {
            *self.lost.entry(cause.clone()).or_default() += since.elapsed();
            *since = Instant::now();
        }
    }
}

impl Ledger {
    fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.0)
    }

    /// Begins the account of a step on top of what is recorded of it.
    pub(super) fn begin(&self, recorded: Option<&StepRow>) {
        *self.account() = Account {
            before: recorded.map(StepRow::lost).unwrap_or_default(),
            ..Account::default()
        };
    }

    /// Adds time to a cause.
    pub(super) fn add(&self, cause: &str, time: Duration) {
        *self.account().lost.entry(cause.to_owned()).or_default() += time;
    }

    /// From now on time is lost to this cause, or to none.
    pub(super) fn hold(&self, cause: Option<&str>) {
        let mut account = self.account();
        account.settle();
        account.holding = cause.map(|cause| (cause.to_owned(), Instant::now()));
    }

    /// Time lost since this session began the step.
    pub(super) fn of_session(&self) -> Duration {
        let mut account = self.account();
        account.settle();
        account.lost.values().sum()
    }

    /// All time that the step has lost, with what earlier sessions recorded.
    pub(super) fn total(&self) -> Lost {
        let mut account = self.account();
        account.settle();
        let mut all = account.before.clone();
        for (cause, time) in &account.lost {
            *all.entry(cause.clone()).or_default() += time.as_millis() as u64;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_counts_while_it_lasts() {
        let ledger = Ledger::default();
        ledger.add("duty", Duration::from_millis(30));
        ledger.hold(Some("replica_lag"));
        std::thread::sleep(Duration::from_millis(20));
        let first = ledger.total();
        assert!(first["replica_lag"] >= 20, "{first:?}");
        std::thread::sleep(Duration::from_millis(20));
        ledger.hold(None);
        let second = ledger.total();
        assert!(second["replica_lag"] >= first["replica_lag"] + 20);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(ledger.total(), second, "nothing holds any more");
        assert_eq!(second["duty"], 30);
        ledger.begin(None);
        assert_eq!(ledger.total(), Lost::new());
    }
}
