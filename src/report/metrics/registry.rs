//! The families of the table, and how they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::Exposition;
use super::table::{ALL, Kind, Metric};

/// Label values in the order of [`Metric::labels`], with their names.
type Labels = Vec<(&'static str, String)>;

/// Upper bounds of the buckets, in seconds: around the target of a chunk (1 ms), to the longest
/// that a chunk may take (10 s).
const BUCKETS: [f64; 14] = [
    0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.04, 0.08, 0.16, 0.32, 1.0, 2.5, 10.0,
];

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

enum Series {
    Counter(Family<Labels, Counter<f64, AtomicU64>>),
    Gauge(Family<Labels, Gauge<f64, AtomicU64>>),
    Histogram(Family<Labels, Histogram, fn() -> Histogram>),
}

/// All metrics of the table.
pub(super) struct Registry {
    inner: prometheus_client::registry::Registry,
    series: BTreeMap<&'static str, Series>,
    /// Which label values each gauge has, so that those of a migration can be taken away.
    known: Mutex<BTreeMap<&'static str, BTreeSet<Labels>>>,
}

impl Default for Registry {
    fn default() -> Self {
        let mut inner = prometheus_client::registry::Registry::default();
        let mut series = BTreeMap::new();
        for metric in ALL {
            // The encoding adds it.
            let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
            let one = match metric.kind {
                Kind::Counter => {
                    let family = Family::default();
                    inner.register(name, metric.help, family.clone());
                    Series::Counter(family)
                }
                Kind::Gauge => {
                    let family = Family::default();
                    inner.register(name, metric.help, family.clone());
                    Series::Gauge(family)
                }
                Kind::Histogram => {
                    let family = Family::new_with_constructor(histogram as fn() -> Histogram);
                    inner.register(name, metric.help, family.clone());
                    Series::Histogram(family)
                }
            };
            series.insert(metric.name, one);
        }
        Self {
            inner,
            series,
            known: Mutex::default(),
        }
    }
}

fn labels(metric: &Metric, values: &[&str]) -> Labels {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let values = values.iter().map(|value| (*value).to_owned());
    metric.labels.iter().copied().zip(values).collect()
}

impl Registry {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, BTreeSet<Labels>>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sets a gauge.
    pub(super) fn set(&self, metric: &Metric, values: &[&str], value: f64) {
        if let Some(Series::Gauge(family)) = self.series.get(metric.name) {
            let labels = labels(metric, values);
            family.get_or_create(&labels).set(value);
            self.known().entry(metric.name).or_default().insert(labels);
        }
    }

    /// True where a gauge was set.
    pub(super) fn has(&self, metric: &Metric, values: &[&str]) -> bool {
        let known = self.known();
        let of = known.get(metric.name);
        of.is_some_and(|known| known.contains(&labels(metric, values)))
    }

    /// Takes the values of a gauge away that have this first label.
    pub(super) fn clear(&self, metric: &Metric, first: &str) {
        let mut known = self.known();
        let (Some(Series::Gauge(family)), Some(known)) =
            (self.series.get(metric.name), known.get_mut(metric.name))
        else {
            return;
        };
        known.retain(|labels| {
            let gone = labels.first().is_some_and(|(_, value)| value == first);
            if gone {
                family.remove(labels);
            }
            !gone
        });
    }

    /// Adds to a counter.
    pub(super) fn add(&self, metric: &Metric, values: &[&str], more: f64) {
        if let Some(Series::Counter(family)) = self.series.get(metric.name) {
            family.get_or_create(&labels(metric, values)).inc_by(more);
        }
    }

    /// Raises a counter to a value that somebody else counted; it never goes down.
    pub(super) fn raise(&self, metric: &Metric, values: &[&str], to: f64) {
        if let Some(Series::Counter(family)) = self.series.get(metric.name) {
            let counter = family.get_or_create(&labels(metric, values));
            counter.inc_by((to - counter.get()).max(0.0));
        }
    }

    /// Counts a value in a histogram.
    pub(super) fn observe(&self, metric: &Metric, values: &[&str], value: f64) {
        if let Some(Series::Histogram(family)) = self.series.get(metric.name) {
            family.get_or_create(&labels(metric, values)).observe(value);
        }
    }

    /// All metrics.
    pub(super) fn text(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.inner);
        match exposition {
            Exposition::OpenMetrics => text,
            Exposition::Text => plain(&text),
        }
    }
}

/// OpenMetrics as the text format of Prometheus: there a counter's family has the name of its
/// samples, with `_total`, and nothing marks the end.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let counter = |name: &str| {
        let mut all = ALL.iter().filter(|m| m.kind == Kind::Counter);
        all.any(|m| m.name.strip_suffix("_total") == Some(name))
    };
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF"), ..) => {}
            (Some("#"), Some(what), Some(name), Some(rest)) if counter(name) => {
                let _ = writeln!(plain, "# {what} {name}_total {rest}");
            }
            _ => {
                plain.push_str(line);
                plain.push('\n');
            }
        }
    }
    plain
}
