//! What the throttle keeps to: one table of keys for the configuration file, the command line, a
//! live run and `doctor`.

use std::time::Duration;

use super::window::Window;

/// Limits of a backfill. A limit that is `None` is not watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Share of the time that chunks may work, in `(0, 1]`. 0.5 pauses as long as it worked.
    pub duty: f64,
    /// Replay lag of any standby, in time.
    pub max_lag: Option<Duration>,
    /// Replay distance of any standby, in bytes.
    pub max_lag_bytes: Option<u64>,
    /// Standbys (by `application_name`) that are not watched.
    pub ignore_standbys: Vec<String>,
    /// WAL that may still be written before `max_slot_wal_keep_size` drops a slot
    /// (`safe_wal_size`), in bytes: hold below.
    pub min_slot_headroom: Option<u64>,
    /// WAL that any slot keeps back, in bytes.
    pub max_slot_retained: Option<u64>,
    /// Connections that an ordinary role could still open: hold below.
    pub min_free_connections: Option<u64>,
    /// Application sessions that wait for locks of ours.
    pub max_blocked: Option<u64>,
    /// Age of the oldest snapshot of others, which keeps dead rows from being vacuumed.
    pub max_snapshot_age: Option<Duration>,
    /// WAL files that wait for the archiver.
    pub max_archive_backlog: Option<u64>,
    /// VACUUMs at work on the table: hold from this number on.
    pub max_vacuums: Option<u64>,
    /// Clients that wait in a pool of PgBouncer: hold from this number on.
    pub max_pgbouncer_waiting: Option<u64>,
    /// How long the first client in the queue of a pool of PgBouncer has waited.
    pub max_pgbouncer_wait: Option<Duration>,
    /// Workers of ours that wait for a connection: hold from this number on.
    pub max_pool_waiters: Option<u64>,
    /// WAL of the whole server, in bytes a second.
    pub max_wal_rate: Option<u64>,
    /// Checkpoints within five minutes that were asked for, by WAL or by hand.
    pub max_forced_checkpoints: Option<u64>,
    /// Hours in which chunks may run.
    pub run_between: Option<Window>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            duty: 0.5,
            max_lag: Some(Duration::from_secs(5)),
            max_lag_bytes: None,
            ignore_standbys: Vec::new(),
            min_slot_headroom: Some(256 << 20),
            max_slot_retained: None,
            min_free_connections: Some(3),
            max_blocked: Some(5),
            max_snapshot_age: None,
            max_archive_backlog: None,
            max_vacuums: None,
            max_pgbouncer_waiting: Some(1),
            max_pgbouncer_wait: Some(Duration::from_secs(1)),
            max_pool_waiters: Some(1),
            max_wal_rate: None,
            max_forced_checkpoints: None,
            run_between: None,
        }
    }
}

/// A key of the throttle.
pub struct Key {
    /// Its name in file, command line and state tables.
    pub name: &'static str,
    /// What it does, one line.
    pub about: &'static str,
    set: fn(&mut Limits, &str) -> Result<(), String>,
    get: fn(&Limits) -> String,
}

/// Every key, in the order in which it is documented.
pub const KEYS: &[Key] = &[
    Key {
        name: "duty",
        about: "share of the time that chunks may work, such as 0.5 or 50%",
        set: |l, v| share(v).map(|d| l.duty = d),
        get: |l| format!("{}", l.duty),
    },
    Key {
        name: "max-lag",
        about: "hold while a standby is this far behind in time",
        set: |l, v| optional(v, time).map(|t| l.max_lag = t),
        get: |l| show(l.max_lag.map(humantime::format_duration)),
    },
    Key {
        name: "max-lag-bytes",
        about: "hold while a standby is this far behind in WAL",
        set: |l, v| optional(v, size).map(|b| l.max_lag_bytes = b),
        get: |l| show(l.max_lag_bytes.map(bytesize::ByteSize)),
    },
    Key {
        name: "ignore-standbys",
        about: "standbys (application_name, comma-separated) that are not watched",
        set: |l, v| {
            l.ignore_standbys = names(v);
            Ok(())
        },
        get: |l| {
            if l.ignore_standbys.is_empty() {
                OFF.to_owned()
            } else {
                l.ignore_standbys.join(",")
            }
        },
    },
    Key {
        name: "min-slot-headroom",
        about: "hold while less WAL than this may be written before a slot is dropped",
        set: |l, v| optional(v, size).map(|b| l.min_slot_headroom = b),
        get: |l| show(l.min_slot_headroom.map(bytesize::ByteSize)),
    },
    Key {
        name: "max-slot-retained",
        about: "hold while a slot keeps this much WAL back",
        set: |l, v| optional(v, size).map(|b| l.max_slot_retained = b),
        get: |l| show(l.max_slot_retained.map(bytesize::ByteSize)),
    },
    Key {
        name: "min-free-connections",
        about: "hold while no more connections than this could be opened",
        set: |l, v| optional(v, number).map(|n| l.min_free_connections = n),
        get: |l| show(l.min_free_connections),
    },
    Key {
        name: "max-blocked",
        about: "hold while this many sessions wait for our locks; fewer make the duty smaller",
        set: |l, v| optional(v, number).map(|n| l.max_blocked = n),
        get: |l| show(l.max_blocked),
    },
    Key {
        name: "max-snapshot-age",
        about: "hold while another's snapshot of this age keeps dead rows from being vacuumed",
        set: |l, v| optional(v, time).map(|t| l.max_snapshot_age = t),
        get: |l| show(l.max_snapshot_age.map(humantime::format_duration)),
    },
    Key {
        name: "max-archive-backlog",
        about: "hold while this many WAL files wait for the archiver, or it fails",
        set: |l, v| optional(v, number).map(|n| l.max_archive_backlog = n),
        get: |l| show(l.max_archive_backlog),
    },
    Key {
        name: "max-vacuums",
        about: "hold while this many VACUUMs of others work on the table",
        set: |l, v| optional(v, number).map(|n| l.max_vacuums = n),
        get: |l| show(l.max_vacuums),
    },
    Key {
        name: "max-pgbouncer-waiting",
        about: "hold while this many clients wait in a pool of PgBouncer; fewer make the duty smaller",
        set: |l, v| optional(v, number).map(|n| l.max_pgbouncer_waiting = n),
        get: |l| show(l.max_pgbouncer_waiting),
    },
    Key {
        name: "max-pgbouncer-wait",
        about: "hold while a client has waited this long in a pool of PgBouncer",
        set: |l, v| optional(v, time).map(|t| l.max_pgbouncer_wait = t),
        get: |l| show(l.max_pgbouncer_wait.map(humantime::format_duration)),
    },
    Key {
        name: "max-pool-waiters",
        about: "hold while this many workers wait for a connection of their own",
        set: |l, v| optional(v, number).map(|n| l.max_pool_waiters = n),
        get: |l| show(l.max_pool_waiters),
    },
    Key {
        name: "max-wal-rate",
        about: "hold while the whole server writes this much WAL a second; less makes the duty smaller",
        set: |l, v| optional(v, size_a_second).map(|b| l.max_wal_rate = b),
        get: |l| show(l.max_wal_rate.map(bytesize::ByteSize)),
    },
    Key {
        name: "max-forced-checkpoints",
        about: "hold while this many checkpoints were forced within five minutes",
        set: |l, v| optional(v, number).map(|n| l.max_forced_checkpoints = n),
        get: |l| show(l.max_forced_checkpoints),
    },
    Key {
        name: "run-between",
        about: "hours in which chunks may run, such as 22:00-06:00 Europe/Berlin or 22:00-06:00 +02:00 (UTC by default)",
        set: |l, v| optional(v, str::parse::<Window>).map(|w| l.run_between = w),
        get: |l| show(l.run_between),
    },
];

/// Where a limit's value comes from; the later wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// `pgshift.toml`.
    Config,
    /// The migration file.
    File,
    /// The command line of a run.
    CommandLine,
    /// Set while it runs.
    Override,
}

impl Source {
    /// Its name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Config => "pgshift.toml",
            Self::File => "migration file",
            Self::CommandLine => "command line",
            Self::Override => "override",
        }
    }
}

/// A limit's value, and where it comes from.
pub struct Sourced {
    /// The limit.
    pub key: &'static Key,
    /// Its value, as it can be set.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// What turns a limit off.
pub const OFF: &str = "off";

impl Limits {
    /// Sets a key from its text.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let Some(key) = KEYS.iter().find(|k| k.name == name) else {
            let all: Vec<_> = KEYS.iter().map(|k| k.name).collect();
            return Err(format!(
                "there is no limit {name:?}; there are {}",
                all.join(", ")
            ));
        };
        (key.set)(self, value.trim()).map_err(|e| format!("{name}: {e}"))
    }

    /// The text of every key.
    pub fn all(&self) -> impl Iterator<Item = (&'static Key, String)> + '_ {
        KEYS.iter().map(|key| (key, (key.get)(self)))
    }
}

/// `key=value`
///
/// # Errors
/// What is wrong, for people.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not key=value"))?;
    Limits::default().set(key.trim(), value)?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

fn show<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| OFF.to_owned(), |v| v.to_string())
}

fn optional<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == OFF {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

/// `0.5` or `50%`, above 0 and up to 1.
///
/// # Errors
/// What is wrong, for people.
pub fn share(text: &str) -> Result<f64, String> {
    let (digits, scale) = text.strip_suffix('%').map_or((text, 1.0), |d| (d, 100.0));
    let share: f64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a share such as 0.5 or 50%"))?;
    let share = share / scale;
    if share > 0.0 && share <= 1.0 {
        Ok(share)
    } else {
        Err(format!("{text} is not above 0 and up to 1"))
    }
}

/// A duration such as `20ms` or `5m`, longer than nothing.
///
/// # Errors
/// What is wrong, for people.
pub fn time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text)
        .map_err(|e| format!("{text:?} is not a duration such as 500ms, 20s or 5m: {e}"))?;
    if time.is_zero() {
        Err("it must be longer than nothing".to_owned())
    } else {
        Ok(time)
    }
}

fn size(text: &str) -> Result<u64, String> {
    let size: bytesize::ByteSize = text
        .parse()
        .map_err(|e| format!("{text:?} is not a size such as 512MiB or 2GB: {e}"))?;
    if size.0 == 0 {
        Err("it must be more than nothing".to_owned())
    } else {
        Ok(size.0)
    }
}

/// A size, with or without `/s` behind it.
fn size_a_second(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text))
}

fn number(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1; off turns it off".to_owned()),
        Ok(n) => Ok(n),
        Err(_) => Err(format!("{text:?} is not a number")),
    }
}

fn names(text: &str) -> Vec<String> {
    if text == OFF {
        return Vec::new();
    }
    text.split(',')
        .map(|n| n.trim().to_owned())
        .filter(|n| !n.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_that_is_shown_can_be_set() {
        let mut limits = Limits::default();
        for (key, value) in [
            ("duty", "25%"),
            ("max-lag", "90s"),
            ("max-lag-bytes", "64MiB"),
            ("ignore-standbys", "a, b"),
            ("max-slot-retained", "2GiB"),
            ("max-snapshot-age", "1h"),
            ("run-between", "22:00-06:00 +02:00"),
            ("max-vacuums", "1"),
            ("max-wal-rate", "64MiB/s"),
            ("max-forced-checkpoints", "2"),
        ] {
            limits.set(key, value).expect(key);
        }
        assert!((limits.duty - 0.25).abs() < 1e-9);
        let mut again = Limits::default();
        for (key, text) in limits.all() {
            again.set(key.name, &text).expect(key.name);
        }
        assert_eq!(again, limits);
    }

    #[test]
    fn the_documentation_has_every_limit_with_its_default() {
        let rows: Vec<String> = Limits::default()
            .all()
            .map(|(key, default)| format!("| `{}` | `{default}` | {} |", key.name, key.about))
            .collect();
        assert!(
            include_str!("../../docs/throttle.md").contains(&rows.join("\n")),
            "{}",
            rows.join("\n")
        );
    }

    #[test]
    fn every_limit_but_the_duty_can_be_turned_off() {
        for key in KEYS {
            assert_eq!(
                Limits::default().set(key.name, OFF).is_ok(),
                key.name != "duty",
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn impossible_values_are_refused_by_name() {
        for (key, value) in [
            ("duty", "0"),
            ("duty", "101%"),
            ("duty", "NaN"),
            ("max-lag", "5"),
            ("max-lag", "0s"),
            ("max-lag-bytes", "-1"),
            ("min-free-connections", "0"),
            ("run-between", "25:00-01:00"),
            ("lag", "5s"),
        ] {
            let error = Limits::default().set(key, value).expect_err(value);
            assert!(error.contains(key), "{error}");
        }
        assert!(assignment("max-lag").is_err());
        assert_eq!(
            assignment("max-lag = 5s"),
            Ok(("max-lag".into(), "5s".into()))
        );
    }
}
