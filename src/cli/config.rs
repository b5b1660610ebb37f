//! `pgshift.toml`. The command line wins over it, a migration's own options over both.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::exec::Settings;
use crate::sql::{Diagnostic, Source, Span};

/// The configuration file. Unknown keys are errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    /// Folder of the migration files.
    pub(super) migrations: Option<PathBuf>,
    /// The database; without password, which belongs into `.pgpass` or `PGPASSWORD`.
    pub(super) database_url: Option<String>,
    /// `[backfill]`
    #[serde(default)]
    backfill: Backfill,
    /// `[locks]`
    #[serde(default)]
    locks: Locks,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Backfill {
    duty: Option<Duty>,
    max_lag: Option<MaxLag>,
    workers: Option<std::num::NonZeroU16>,
    chunk_target: Option<Time>,
    max_failed_rows: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Locks {
    lock_timeout: Option<Time>,
    budget: Option<Time>,
    cancel_blockers: Option<bool>,
}

/// A share in `(0, 1]`; `0.5`, or `50%` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(try_from = "f64")]
pub(super) struct Duty(pub(super) f64);

impl TryFrom<f64> for Duty {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if share > 0.0 && share <= 1.0 {
            Ok(Self(share))
        } else {
            Err(format!("{share} is not a share above 0 and up to 1"))
        }
    }
}

impl std::str::FromStr for Duty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, scale) = text.strip_suffix('%').map_or((text, 1.0), |n| (n, 100.0));
        let share: f64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a share"))?;
        Self::try_from(share / scale)
    }
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
        let time = humantime::parse_duration(text)
            .map_err(|e| format!("{text:?} is not a duration such as 500ms, 20s or 5m: {e}"))?;
        if time.is_zero() {
            Err("it must be longer than nothing".to_owned())
        } else {
            Ok(Self(time))
        }
    }
}

/// A duration, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct MaxLag(pub(super) Option<Duration>);

impl TryFrom<String> for MaxLag {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for MaxLag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            Ok(Self(None))
        } else {
            text.parse::<Time>().map(|t| Self(Some(t.0)))
        }
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
        if let Some(Duty(duty)) = b.duty {
            settings.limits.duty = duty;
        }
        if let Some(MaxLag(lag)) = b.max_lag {
            settings.limits.max_lag = lag;
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

[backfill]
# duty = 0.5             # share of the time that chunks may work
# max-lag = "5s"         # hold while a standby is further behind; "off" ignores standbys
# workers = 1
# chunk-target = "20ms"  # working time that a chunk aims at
# max-failed-rows = 0

[locks]
# lock-timeout = "1s"    # the longest single try for a lock
# budget = "5m"          # how long a step goes on trying
# cancel-blockers = false
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_valid_and_shows_the_defaults() {
        Config::parse("t", TEMPLATE).expect("valid");
        let live = TEMPLATE
            .replace("# ", "")
            .replace("Configuration", "# Configuration");
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
        let error = Config::parse("pgshift.toml", "[backfill]\nduti = 1\n").expect_err("unknown");
        let (source, places) = error.places().expect("a place");
        assert_eq!(source.line_column(places[0].span.start), (2, 1));
    }

    #[test]
    fn impossible_values_are_errors() {
        for text in [
            "[backfill]\nduty = 0.0",
            "[backfill]\nduty = 1.5",
            "[backfill]\nmax-lag = \"5\"",
            "[locks]\nbudget = \"0s\"",
        ] {
            assert!(Config::parse("t", text).is_err(), "{text}");
        }
        assert_eq!("50%".parse::<Duty>(), Ok(Duty(0.5)));
        assert!("0%".parse::<Duty>().is_err() && "101%".parse::<Duty>().is_err());
        assert_eq!("off".parse::<MaxLag>(), Ok(MaxLag(None)));
    }
}
