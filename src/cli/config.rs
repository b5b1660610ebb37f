//! `pgshift.toml`. A migration file's own options win over it, and the command line over both.

mod throttle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::exec::Settings;
use crate::pg::connect::environment;
use crate::sql::{Diagnostic, Source, Span};

/// The configuration file. Unknown keys are errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Config {
    /// Folder of the migration files.
    pub(super) migrations: Option<PathBuf>,
    /// The database; without password, which belongs into `.pgpass` or `PGPASSWORD`.
    pub(super) database_url: Option<String>,
    /// The same database past a transaction pooler; without password too.
    pub(super) direct_url: Option<String>,
    /// PgBouncer's admin console; without password too.
    pub(super) pgbouncer_url: Option<String>,
    /// `[throttle]`: the keys of [`crate::throttle::limits::KEYS`], and signals of one's own.
    #[serde(default)]
    throttle: ThrottleTable,
    /// What the table says.
    #[serde(skip)]
    said: throttle::Said,
    /// `[backfill]`
    #[serde(default)]
    backfill: Backfill,
    /// `[locks]`
    #[serde(default)]
    locks: Locks,
    /// `[lint]`
    #[serde(default)]
    pub(super) lint: super::lint::LintConfig,
    /// `[metrics]`
    #[serde(default)]
    pub(super) metrics: MetricsConfig,
    /// As `--log-format`.
    pub(super) log_format: Option<super::LogFormat>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Backfill {
    workers: Option<std::num::NonZeroU16>,
    batch: Option<std::num::NonZeroU32>,
    chunk_target: Option<Time>,
    max_failed_rows: Option<u64>,
}

/// `[throttle]` as written, with the places of its keys.
type ThrottleTable = BTreeMap<toml::Spanned<String>, toml::Spanned<toml::Value>>;

/// `[metrics]`: nobody reads them where nothing is said.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct MetricsConfig {
    pub(super) listen: Option<String>,
    pub(super) textfile: Option<PathBuf>,
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

/// The text as messages may show it, byte for byte as long: of lines that have an address or a
/// password, what is between the first quote and the last one is stars. Addresses of databases,
/// gates and Prometheus may have secrets in any of their parts.
fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let lower = line.to_ascii_lowercase();
        if !["://", "@", "password", "token", "header"]
            .iter()
            .any(|word| lower.contains(word))
        {
            shown.push_str(line);
            continue;
        }
        let quote = |c: char| matches!(c, '"' | '\'');
        let from = line
            .find(quote)
            .or_else(|| line.find('='))
            .map_or(0, |at| at + 1);
        let end = line.trim_end().len();
        let to = line.rfind(quote).filter(|at| *at >= from).unwrap_or(end);
        shown.push_str(&line[..from]);
        shown.extend(std::iter::repeat_n('*', to.saturating_sub(from)));
        shown.push_str(&line[to.max(from)..]);
    }
    shown
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
        Self::parse(&path.display().to_string(), &text, &environment)
    }

    fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let source = Source::new(name, masked(text));
        let wrong = |found| Error::at(&source, found).left("nothing was changed");
        let mut config: Self = toml::from_str(text).map_err(|e| {
            let span = e
                .span()
                .map_or(Span::default(), |s| Span::new(s.start, s.end));
            wrong(vec![Diagnostic::new(span, e.message())])
        })?;
        config.said = throttle::read(&config.throttle, env).map_err(wrong)?;
        Ok(config)
    }

    /// Puts what the file says into the settings.
    pub(super) fn settings(&self, settings: &mut Settings) {
        let b = &self.backfill;
        settings.limits = self.said.limits.clone();
        settings.configured.clone_from(&self.said.set);
        settings.signals.clone_from(&self.said.signals);
        if let Some(workers) = b.workers {
            settings.workers = workers.get();
        }
        if let Some(batch) = b.batch {
            settings.batch = Some(batch.get());
        }
        if let Some(Time(target)) = b.chunk_target {
            settings.chunk_target = Some(target);
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
pub(super) const TEMPLATE: &str = r#"# Configuration of pgshift. A migration file's options win over it, and the command line over both.
# Every value shown is the default, but for the signals.

# migrations = "migrations"
# Where database-url leads through PgBouncer, see docs/pgbouncer.md (passwords: .pgpass):
# direct-url = "postgres://deploy@db1:5432/shop"
# pgbouncer-url = "postgres://stats@pool1:6432/pgbouncer"
# log-format = "text"            # or "json": one object a line on standard error

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
# max-pgbouncer-waiting = 1           # clients that wait in a pool of PgBouncer (with pgbouncer-url)
# max-pgbouncer-wait = "1s"           # how long the first of them has waited
# max-pool-waiters = 1           # workers that wait for a connection
# max-wal-rate = "off"           # WAL of the whole server a second, such as "64MiB"
# max-forced-checkpoints = "off" # within five minutes
# run-between = "off"            # such as "22:00-06:00 Europe/Berlin"

# [[throttle.signal]]            # hold at or above, or `below`: at or below
# name = "queue"
# sql = "SELECT count(*) FROM jobs WHERE done_at IS NULL"
# above = 1000
# every = "2s"                   # timeout: as long, at most two periods

# [[throttle.gate]]              # hold unless it answers 2xx
# name = "deploys"
# url = "https://gate.example/go"
# token-env = "GATE_TOKEN"       # the variable with the bearer token

# [[throttle.prometheus]]
# name = "p99"
# url = "https://prometheus.example"
# query = "max(http_p99_seconds)"
# above = 0.3

[backfill]
# workers = 1
# batch = 5000           # default: as many rows as take the chunk target
# chunk-target = "1ms"   # working time that a chunk aims at; 20ms at a duty of 100%
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

[metrics]
# Off by default: see docs/metrics.md.
#listen = "127.0.0.1:9187"
#textfile = "/var/lib/node_exporter/textfile/pgshift.prom"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backfill::CHUNK_AIM;

    fn parse(text: &str) -> Result<Config> {
        Config::parse("pgshift.toml", text, &|_| None)
    }

    #[test]
    fn the_template_is_valid_and_shows_the_defaults() {
        let env = |name: &str| (name == "GATE_TOKEN").then(|| "geheim".to_owned());
        parse(TEMPLATE).expect("valid");
        let live: Vec<&str> = TEMPLATE
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|l| l.contains(" = ") || l.starts_with("[["))
                    .unwrap_or(line)
            })
            .collect();
        let live = live.join("\n");
        let config = Config::parse("t", &live, &env).expect("valid uncommented");
        let mut settings = Settings::default();
        config.settings(&mut settings);
        let default = Settings::default();
        assert_eq!(settings.limits, default.limits);
        assert_eq!(settings.ladder, default.ladder);
        assert_eq!(settings.chunk_target, Some(CHUNK_AIM.work));
        let names: Vec<&str> = settings.signals.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["deploys", "p99", "queue"]);
    }

    #[test]
    fn an_unknown_key_is_an_error_at_its_place() {
        let error = parse("[backfill]\nworkrs = 1\n").expect_err("unknown");
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
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
