//! Signals of a person's own: a query on the database, an HTTP gate, a query of Prometheus.

use std::time::Duration;

use super::board::Pace;
use super::endpoint::Endpoint;
use super::reading::Bound;

/// A signal that a person added.
#[derive(Debug, Clone, PartialEq)]
pub struct Custom {
    /// Its name in reasons and lists.
    pub name: String,
    /// How often it is read, and how long that may take.
    pub pace: Pace,
    /// What is asked.
    pub asks: Asks,
}

/// What a [`Custom`] signal asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Asks {
    /// The database.
    Sql {
        /// One query with one number.
        sql: String,
        /// Its limit.
        bound: Bound,
    },
    /// An HTTP server whether to go on: 2xx is yes.
    Gate {
        /// Where.
        url: Endpoint,
    },
    /// Prometheus.
    Prometheus {
        /// Where.
        url: Endpoint,
        /// The query, in `PromQL`.
        query: String,
        /// Its limit.
        bound: Bound,
    },
}

/// How often a signal is read where nothing is said.
pub const EVERY: Duration = Duration::from_secs(2);

/// Names that have another meaning in reasons and in the time lost by cause.
const TAKEN: &[&str] = &[
    "server",
    "duty",
    "paused",
    "closed",
    "blind",
    "row_locks",
    "slow_chunks",
    "replica_lag",
    "replica_lag_bytes",
    "slot_headroom",
    "slot_retained",
    "connections_free",
    "blocked_sessions",
    "pool_waiters",
    "snapshot_age",
    "archive_backlog",
    "archiver",
    "vacuums",
    "wal_rate",
    "forced_checkpoints",
];

/// The pace of these times; the defaults are two seconds.
///
/// # Errors
/// What is wrong, for people.
pub fn pace(every: Option<Duration>, timeout: Option<Duration>) -> Result<Pace, String> {
    let every = every.unwrap_or(EVERY);
    if every < Duration::from_millis(100) {
        return Err("every: it cannot be read more often than each 100ms".to_owned());
    }
    let timeout = timeout.unwrap_or(every.min(EVERY));
    if timeout > every * 2 {
        return Err(format!(
            "timeout: it must be at most twice the period ({}), or every answer would be too old",
            humantime::format_duration(every)
        ));
    }
    Ok(Pace { every, timeout })
}

/// Refuses a name that cannot be one, or is taken by a signal of pgshift or by another of these.
///
/// # Errors
/// What is wrong, for people.
pub fn check_name(name: &str, others: &[Custom]) -> Result<(), String> {
    let odd = |c: char| c.is_control() || "()=,\"'".contains(c);
    if name.trim().is_empty() || name.len() > 63 || name.trim() != name || name.contains(odd) {
        return Err(format!(
            "{name:?} is no name of a signal: 1 to 63 characters, no quotes, commas, parentheses"
        ));
    }
    if TAKEN.contains(&name) {
        return Err(format!("{name} is a name of pgshift's own"));
    }
    if others.iter().any(|o| o.name == name) {
        return Err(format!("there are two signals of the name {name}"));
    }
    Ok(())
}

/// The bound of `above` or `below`.
///
/// # Errors
/// What is wrong, for people.
pub fn bound(above: Option<f64>, below: Option<f64>) -> Result<Bound, String> {
    let bound = match (above, below) {
        (Some(limit), None) => Bound::Above(limit),
        (None, Some(limit)) => Bound::Below(limit),
        _ => return Err("one of above and below is wanted".to_owned()),
    };
    match bound {
        Bound::Above(limit) | Bound::Below(limit) if limit.is_finite() => Ok(bound),
        _ => Err("above and below take a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_at_most_two_periods() {
        let s = Duration::from_secs;
        assert_eq!(
            pace(None, None),
            Ok(Pace {
                every: EVERY,
                timeout: EVERY
            })
        );
        assert_eq!(
            pace(Some(s(60)), None),
            Ok(Pace {
                every: s(60),
                timeout: EVERY
            })
        );
        assert_eq!(
            pace(Some(s(1)), None),
            Ok(Pace {
                every: s(1),
                timeout: s(1)
            })
        );
        assert!(pace(Some(s(1)), Some(s(2))).is_ok());
        assert!(pace(Some(s(1)), Some(s(3))).is_err());
        assert!(pace(Some(Duration::from_millis(1)), None).is_err());
    }

    #[test]
    fn names_are_told_apart() {
        let gate = Custom {
            name: "deploys".into(),
            pace: pace(None, None).expect("the default"),
            asks: Asks::Sql {
                sql: "SELECT 1".into(),
                bound: Bound::Above(1.0),
            },
        };
        assert!(check_name("queue length", std::slice::from_ref(&gate)).is_ok());
        for wrong in ["", " a", "a(b)", "deploys", "replica_lag", "paused", "a\nb"] {
            assert!(
                check_name(wrong, std::slice::from_ref(&gate)).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn exactly_one_limit() {
        assert_eq!(bound(Some(1.0), None), Ok(Bound::Above(1.0)));
        assert_eq!(bound(None, Some(-1.0)), Ok(Bound::Below(-1.0)));
        assert!(bound(None, None).is_err() && bound(Some(1.0), Some(2.0)).is_err());
        assert!(bound(Some(f64::NAN), None).is_err());
    }
}
