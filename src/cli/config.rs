//! `pgshift.toml`. The command line wins over it, a migration's own options over both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::exec::Settings;
use crate::sql::{Diagnostic, Source, Span};
use crate::throttle::Limits;

/// The configuration file. Unknown keys are errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    /// Folder of the migration files.
    pub(super) migrations: Option<PathBuf>,
    /// The database; without password, which belongs into `.pgpass` or `PGPASSWORD`.
    pub(super) database_url: Option<String>,
    /// `[throttle]`: the keys of [`crate::throttle::limits::KEYS`].
    throttle: Option<Throttle>,
    /// `[backfill]`
    #[serde(default)]
    backfill: Backfill,
    /// `[locks]`
    #[serde(default)]
    locks: Locks,
    /// `[lint]`
    #[serde(default)]
    pub(super) lint: super::lint::LintConfig,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Backfill {
    workers: Option<std::num::NonZeroU16>,
    chunk_target: Option<Time>,
    max_failed_rows: Option<u64>,
}

/// Limits, on top of the defaults.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "std::collections::BTreeMap<String, toml::Value>")]
struct Throttle(Limits);

impl TryFrom<std::collections::BTreeMap<String, toml::Value>> for Throttle {
    type Error = String;

    fn try_from(table: std::collections::BTreeMap<String, toml::Value>) -> Result<Self, String> {
        let mut limits = Limits::default();
        for (key, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Array(items) => {
                    let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                    texts
                        .ok_or_else(|| format!("{key}: a list of strings is wanted"))?
                        .join(",")
                }
                number @ (toml::Value::Integer(_) | toml::Value::Float(_)) => number.to_string(),
                _ => return Err(format!("{key}: a string or a number is wanted")),
            };
            limits.set(&key, &text)?;
        }
        Ok(Self(limits))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Locks {
    lock_timeout: Option<Time>,
    budget: Option<Time>,
    cancel_blockers: Option<bool>,
}

/// A duration such as `20ms` or `5m`, longer than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Time(pub(super) Duration);

impl TryFrom<String> for Time {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::throttle::limits::time(text).map(Self)
    }
}

/// The file that is read where none is named.
const DEFAULT: &str = "pgshift.toml";

impl Config {
    /// Reads the named file, or the default one where it exists.
    pub(super) fn read(named: Option<&Path>) -> Result<Self> {
        let path = named.unwrap_or_else(|| Path::new(DEFAULT));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(e) => return Err(Error::usage(format!("{}: {e}", path.display()))),
        };
        Self::parse(&path.display().to_string(), &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        toml::from_str(text).map_err(|e| {
            let span = e
                .span()
                .map_or(Span::default(), |s| Span::new(s.start, s.end));
            let source = Source::new(name, text);
            Error::at(&source, vec![Diagnostic::new(span, e.message())]).left("nothing was changed")
        })
    }

    /// Puts what the file says into the settings.
    pub(super) fn settings(&self, settings: &mut Settings) {
        let b = &self.backfill;
        if let Some(limits) = &self.throttle {
            settings.limits = limits.0.clone();
        }
        if let Some(workers) = b.workers {
            settings.workers = workers.get();
        }
        if let Some(Time(target)) = b.chunk_target {
            settings.chunk_target = target;
        }
        if let Some(rows) = b.max_failed_rows {
            settings.max_failed_rows = rows;
        }
        if let Some(Time(longest)) = self.locks.lock_timeout {
            settings.ladder = settings.ladder.clone().with_longest(longest);
        }
        if let Some(Time(budget)) = self.locks.budget {
            settings.ladder.budget = budget;
        }
        if let Some(cancel) = self.locks.cancel_blockers {
            settings.cancel_blockers = cancel;
        }
    }
}

/// The file that `pgshift init` writes.
pub(super) const TEMPLATE: &str = r#"# Configuration of pgshift. The command line wins over it; every value shown is the default.

# migrations = "migrations"

[throttle]
# duty = 0.5                     # share of the time that chunks may work
# max-lag = "5s"                 # hold while a standby is further behind; "off" ignores it
# max-lag-bytes = "off"
# ignore-standbys = []           # by application_name
# min-slot-headroom = "256MiB"   # hold before max_slot_wal_keep_size drops a slot
# max-slot-retained = "off"
# min-free-connections = 3
# max-blocked = 5                # sessions that wait for our locks
# max-snapshot-age = "off"
# max-archive-backlog = "off"    # WAL files that wait for the archiver
# max-vacuums = "off"            # VACUUMs at work on the table
# run-between = "off"            # such as "22:00-06:00 +02:00"

[backfill]
# workers = 1
# chunk-target = "8ms"   # working time that a chunk aims at
# max-failed-rows = 0

[locks]
# lock-timeout = "1s"    # the longest single try for a lock
# budget = "5m"          # how long a step goes on trying
# cancel-blockers = false

[lint]
# fail-on = "warning"      # error, warning, note or never
# pg-version = 15
# small-table-rows = 10000 # no hazard to read or rewrite, where the catalog tells the size
# disable = []             # rules; `pgshift explain` lists them
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid_and_shows_the_defaults() {
        Config::parse("t", TEMPLATE).expect("valid");
        let live: Vec<&str> = TEMPLATE
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|l| l.contains(" = "))
                    .unwrap_or(line)
            })
            .collect();
        let live = live.join("\n");
        let config = Config::parse("t", &live).expect("valid uncommented");
        let mut settings = Settings::default();
        config.settings(&mut settings);
        let default = Settings::default();
        assert_eq!(settings.limits, default.limits);
        assert_eq!(settings.ladder, default.ladder);
        assert_eq!(settings.chunk_target, default.chunk_target);
    }

    #[test]
    fn an_unknown_key_is_an_error_at_its_place() {
        let error = Config::parse("pgshift.toml", "[backfill]\nworkrs = 1\n").expect_err("unknown");
        let (source, places) = error.places().expect("a place");
        assert_eq!(source.line_column(places[0].span.start), (2, 1));
    }

    #[test]
    fn impossible_values_are_errors() {
        for text in [
            "[throttle]\nduty = 0.0",
            "[throttle]\nduty = 1.5",
            "[throttle]\nmax-lag = \"5\"",
            "[throttle]\nmax-lagg = \"5s\"",
            "[throttle]\nmax-lag = true",
            "[locks]\nbudget = \"0s\"",
        ] {
            assert!(Config::parse("t", text).is_err(), "{text}");
        }
    }
}
