//! PgBouncer's pools: which of them lead to the database at work, and what their queues say.

use std::time::Duration;

use super::limits::{Limits, OFF};
use super::reading::{Bound, Reading, Sample, Unit};

/// A pool, of one user in one database of PgBouncer (`SHOW POOLS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The database's name at PgBouncer, which may be an alias.
    pub database: String,
    /// The user.
    pub user: String,
    /// Clients that wait for a server connection (`cl_waiting`).
    pub waiting: u64,
    /// How long the first of them has waited (`maxwait` and `maxwait_us`).
    pub longest: Duration,
    /// `session`, `transaction` or `statement`, where the version tells.
    pub mode: Option<String>,
}

/// A database that PgBouncer knows (`SHOW DATABASES`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// Its name at PgBouncer.
    pub name: String,
    /// Its name on the server.
    pub database: String,
}

/// The console's own database.
pub const CONSOLE: &str = "pgbouncer";

/// The pools that lead to `database`, by its name on the server; all of them where no alias does
/// (a pooler may stand behind another one). Host and port do not count: PgBouncer may know the
/// server by another name than we, and a pool too many only holds too often.
pub fn watched(pools: Vec<Pool>, aliases: &[Alias], database: &str) -> Vec<Pool> {
    let leads = |name: &str| {
        aliases
            .iter()
            .any(|a| a.name == name && a.database == database)
    };
    let known = aliases.iter().any(|a| leads(&a.name));
    pools
        .into_iter()
        .filter(|p| p.database != CONSOLE && (!known || leads(&p.database)))
        .collect()
}

/// The samples of these pools. Who waits is load too: it makes the duty smaller before the limit.
/// Without a pool nobody waits.
pub fn readings(pools: &[Pool], limits: &Limits) -> Vec<Reading> {
    let none = [Pool {
        database: String::new(),
        user: String::new(),
        waiting: 0,
        longest: Duration::ZERO,
        mode: None,
    }];
    let mut all = Vec::new();
    for pool in if pools.is_empty() { &none } else { pools } {
        let of = |sample: Sample| {
            if pool.database.is_empty() {
                sample
            } else {
                sample.of(format!("{}/{}", pool.database, pool.user))
            }
        };
        let waiting = pool.waiting as f64;
        let most = limits.max_pgbouncer_waiting.map(|l| l.max(1) as f64);
        let mut queue =
            Sample::new("pgbouncer_waiting", waiting, Unit::Count).bound(most.map(Bound::Above));
        if let Some(most) = most {
            queue = queue.load(waiting / most);
        }
        let longest = pool.longest.as_secs_f64();
        let wait = Sample::new("pgbouncer_maxwait", longest, Unit::Seconds).bound(
            limits
                .max_pgbouncer_wait
                .map(|l| Bound::Above(l.as_secs_f64())),
        );
        all.extend([of(queue).into(), of(wait).into()]);
    }
    all
}

/// True where a limit is set that needs the console.
pub fn wanted(limits: &Limits) -> bool {
    limits.max_pgbouncer_waiting.is_some() || limits.max_pgbouncer_wait.is_some()
}

/// The limits that need the console.
pub const LIMITS: [&str; 2] = ["max-pgbouncer-waiting", "max-pgbouncer-wait"];

/// A limit, among those that a person sets, that cannot be watched without a console; the defaults
/// are nobody's word.
pub fn unwatched<'a>(set: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<&'static str> {
    set.into_iter()
        .filter(|(_, value)| value.trim() != OFF)
        .find_map(|(key, _)| LIMITS.into_iter().find(|limit| *limit == key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::{Decision, Throttle};

    #[test]
    fn what_a_person_sets_needs_a_console() {
        assert_eq!(unwatched([]), None);
        assert_eq!(
            unwatched([("max-lag", "1s"), ("max-pgbouncer-wait", "off")]),
            None
        );
        assert_eq!(
            unwatched([("max-lag", "1s"), ("max-pgbouncer-wait", "2s")]),
            Some("max-pgbouncer-wait")
        );
    }

    fn pool(database: &str, user: &str, waiting: u64, ms: u64) -> Pool {
        Pool {
            database: database.into(),
            user: user.into(),
            waiting,
            longest: Duration::from_millis(ms),
            mode: None,
        }
    }

    fn alias(name: &str, database: &str) -> Alias {
        Alias {
            name: name.into(),
            database: database.into(),
        }
    }

    fn names(pools: &[Pool]) -> Vec<&str> {
        pools.iter().map(|p| p.database.as_str()).collect()
    }

    #[test]
    fn aliases_are_followed_and_where_none_leads_there_all_pools_count() {
        let pools = || {
            vec![
                pool("web", "a", 0, 0),
                pool("jobs", "b", 0, 0),
                pool("pgbouncer", "pgbouncer", 0, 0),
            ]
        };
        let aliases = [
            alias("web", "shop"),
            alias("jobs", "queue"),
            alias("pgbouncer", "pgbouncer"),
        ];
        assert_eq!(names(&watched(pools(), &aliases, "shop")), ["web"]);
        assert_eq!(names(&watched(pools(), &aliases, "other")), ["web", "jobs"]);
        assert_eq!(names(&watched(pools(), &[], "shop")), ["web", "jobs"]);
        // A database that nobody has used yet has an alias and no pool.
        let fresh = [alias("web", "queue"), alias("new", "shop")];
        assert!(watched(pools(), &fresh, "shop").is_empty());
    }

    fn decide(pools: &[Pool], limits: &Limits) -> Option<String> {
        let mut throttle = Throttle::new(limits.clone());
        let readings = readings(pools, limits);
        match throttle.tick(Duration::from_millis(500), Duration::ZERO, &readings) {
            Decision::Hold(hold) => Some(hold.reason),
            Decision::Proceed { .. } => None,
        }
    }

    #[test]
    fn who_waits_holds_and_an_idle_pool_does_not() {
        let limits = Limits::default();
        assert_eq!(decide(&[], &limits), None);
        assert_eq!(decide(&[pool("web", "a", 0, 0)], &limits), None);
        assert_eq!(
            decide(&[pool("web", "a", 0, 0), pool("web", "b", 3, 20)], &limits).as_deref(),
            Some("pgbouncer_waiting(web/b) 3 >= 1")
        );
        let patient = Limits {
            max_pgbouncer_waiting: Some(10),
            max_pgbouncer_wait: Some(Duration::from_millis(500)),
            ..limits.clone()
        };
        assert_eq!(decide(&[pool("web", "b", 3, 20)], &patient), None);
        assert_eq!(
            decide(&[pool("web", "b", 3, 900)], &patient).as_deref(),
            Some("pgbouncer_maxwait(web/b) 0.9s >= 0.5s")
        );
        let off = Limits {
            max_pgbouncer_waiting: None,
            max_pgbouncer_wait: None,
            ..limits
        };
        assert!(!wanted(&off) && wanted(&patient));
        assert_eq!(decide(&[pool("web", "b", 99, 9_000)], &off), None);
    }

    #[test]
    fn a_queue_steers_the_duty_before_it_holds() {
        let limits = Limits {
            max_pgbouncer_waiting: Some(10),
            ..Limits::default()
        };
        let mut throttle = Throttle::new(limits.clone());
        let readings = readings(&[pool("web", "a", 9, 0)], &limits);
        for _ in 0..20 {
            throttle.tick(Duration::from_millis(500), Duration::ZERO, &readings);
        }
        assert!(throttle.duty() < 0.3, "{}", throttle.duty());
    }
}
