//! The options that directives take, and suggestions for words that are not known.

use std::time::Duration;

use super::directive::Arg;
use super::{BackfillOptions, FileOptions, Strategy};
use crate::backfill::stripes::MOST_STRIPES;
use crate::backfill::vacuum::MOST_PERCENT;
use crate::sql::{Diagnostic, Span};
use crate::throttle::limits::{KEYS, Key, Limits};

/// An option that can be set in a `T`.
pub(super) struct Known<T: 'static> {
    name: &'static str,
    /// What its value must be, with an example.
    expects: &'static str,
    /// Sets it; false where the value is not what it must be.
    set: fn(&mut T, &str) -> bool,
}

/// Options of `-- pgshift: backfill`.
pub(super) const BACKFILL: &[Known<BackfillOptions>] = &[
    Known {
        name: "batch",
        expects: "a number of rows from 1 on, for example batch=5000",
        set: |o, v| {
            o.batch = v.parse().ok().filter(|n| *n > 0);
            o.batch.is_some()
        },
    },
    Known {
        name: "workers",
        expects: "a number from 1 on, for example workers=2",
        set: |o, v| {
            o.workers = v.parse().ok().filter(|n| *n > 0);
            o.workers.is_some()
        },
    },
    Known {
        name: "strategy",
        expects: "ctid or keyset",
        set: |o, v| {
            o.strategy = match v {
                "ctid" => Some(Strategy::Ctid),
                "keyset" => Some(Strategy::Keyset),
                _ => None,
            };
            o.strategy.is_some()
        },
    },
    Known {
        name: "sync",
        expects: "on or off",
        set: |o, v| {
            o.sync = match v {
                "on" => Some(true),
                "off" => Some(false),
                _ => None,
            };
            o.sync.is_some()
        },
    },
    Known {
        name: "stripes",
        expects: "a power of two from 1 (off) to 64, for example stripes=4",
        set: |o, v| {
            let able = |n: &u16| n.is_power_of_two() && *n <= MOST_STRIPES;
            o.stripes = v.parse().ok().filter(able);
            o.stripes.is_some()
        },
    },
    Known {
        name: "vacuum",
        expects: "off or a percentage from 1% to 50%, for example vacuum=5%",
        set: |o, v| {
            let percent = |v: &str| {
                let percent = v.strip_suffix('%')?.parse().ok()?;
                (1..=MOST_PERCENT).contains(&percent).then_some(percent)
            };
            o.vacuum = if v == "off" { Some(0) } else { percent(v) };
            o.vacuum.is_some()
        },
    },
];

/// Options of `-- pgshift: option` beside the limits of the throttle.
const FILE: &[Known<FileOptions>] = &[
    Known {
        name: "lock_timeout",
        expects: "a time of at least 1ms, for example lock_timeout=2s or lock_timeout=500ms",
        set: |o, v| {
            o.lock_timeout = milliseconds(v);
            o.lock_timeout.is_some()
        },
    },
    Known {
        name: "cascade",
        expects: "true or false",
        set: |o, v| {
            o.cascade = v == "true";
            matches!(v, "true" | "false")
        },
    },
];

/// A time that the server's settings in milliseconds can hold. 0 would mean "wait for ever".
fn milliseconds(value: &str) -> Option<Duration> {
    let duration = humantime::parse_duration(value).ok()?;
    let whole = duration.subsec_nanos().is_multiple_of(1_000_000);
    let fits = (1..=i32::MAX.unsigned_abs().into()).contains(&duration.as_millis());
    (whole && fits).then_some(duration)
}

/// Sets the options of a file: its own, and the limits of the throttle.
pub(super) fn of_file(
    args: &[Arg],
    options: &mut FileOptions,
    seen: &mut Vec<(String, Span)>,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for arg in args {
        let limit = KEYS.iter().find(|key| key.name == arg.key);
        let own = FILE.iter().any(|known| known.name == arg.key);
        match limit {
            Some(limit) => {
                diagnostics.extend(of_throttle(limit, arg, options, seen));
            }
            None if own => {
                let arg = std::slice::from_ref(arg);
                diagnostics.extend(apply(FILE, arg, "the file", options, seen));
            }
            None => {
                let names: Vec<&str> = FILE
                    .iter()
                    .map(|known| known.name)
                    .chain(KEYS.iter().map(|key| key.name))
                    .collect();
                diagnostics.push(
                    Diagnostic::new(arg.span, format!("the file has no option `{}`", arg.key))
                        .help(suggest(&arg.key, &names, "options")),
                );
            }
        }
    }
    diagnostics
}

/// Sets a limit of the throttle.
fn of_throttle(
    limit: &Key,
    arg: &Arg,
    options: &mut FileOptions,
    seen: &mut Vec<(String, Span)>,
) -> Option<Diagnostic> {
    if let Some(twice) = set_twice(arg, seen) {
        return Some(twice);
    }
    seen.push((arg.key.clone(), arg.span));
    let Some((value, span)) = &arg.value else {
        return Some(no_value(arg).help(format!("{}: {}", limit.name, limit.about)));
    };
    match Limits::default().set(limit.name, value) {
        Ok(()) => {
            options.throttle.insert(arg.key.clone(), value.clone());
            None
        }
        Err(why) => Some(
            Diagnostic::new(*span, format!("`{value}` is not a value of {}", limit.name)).help(why),
        ),
    }
}

fn set_twice(arg: &Arg, seen: &[(String, Span)]) -> Option<Diagnostic> {
    let (_, first) = seen.iter().find(|(name, _)| *name == arg.key)?;
    Some(
        Diagnostic::new(arg.span, format!("option `{}` is set twice", arg.key))
            .also(*first, "first set here")
            .help("keep one of them"),
    )
}

fn no_value(arg: &Arg) -> Diagnostic {
    Diagnostic::new(arg.span, format!("option `{}` has no value", arg.key))
}

/// Sets the options in `args`. `what` is what takes them; `seen` are those already set.
pub(super) fn apply<T>(
    known: &[Known<T>],
    args: &[Arg],
    what: &str,
    target: &mut T,
    seen: &mut Vec<(String, Span)>,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for arg in args {
        let Some(option) = known.iter().find(|k| k.name == arg.key) else {
            let names: Vec<&str> = known.iter().map(|k| k.name).collect();
            diagnostics.push(
                Diagnostic::new(arg.span, format!("{what} has no option `{}`", arg.key))
                    .help(suggest(&arg.key, &names, "options")),
            );
            continue;
        };
        if let Some(twice) = set_twice(arg, seen) {
            diagnostics.push(twice);
            continue;
        }
        seen.push((arg.key.clone(), arg.span));
        let help = || format!("{} must be {}", option.name, option.expects);
        match &arg.value {
            None => diagnostics.push(no_value(arg).help(help())),
            Some((value, span)) => {
                if !(option.set)(target, value) {
                    diagnostics.push(
                        Diagnostic::new(
                            *span,
                            format!("`{value}` is not a value of {}", option.name),
                        )
                        .help(help()),
                    );
                }
            }
        }
    }
    diagnostics
}

/// "did you mean" for a word that is not one of `known`; else what is known.
pub(super) fn suggest(word: &str, known: &[&str], what: &str) -> String {
    match closest(word, known) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("the {what} are {}", known.join(", ")),
    }
}

/// The known word that is near enough to be what was meant.
pub(super) fn closest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    known
        .iter()
        .map(|k| (distance(&word, k), *k))
        .filter(|(d, k)| d * 3 <= k.chars().count().max(word.chars().count()))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Insertions, deletions, replacements and swaps of neighbours from `a` to `b` (optimal string
/// alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("expnad", "expand"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ä", "a"), 1);
    }

    #[test]
    fn suggestions() {
        assert_eq!(
            closest("contrct", &["expand", "contract"]),
            Some("contract")
        );
        assert_eq!(closest("EXPAND", &["expand", "contract"]), Some("expand"));
        assert_eq!(closest("down", &["expand", "contract"]), None);
        assert_eq!(
            suggest("x", &["a1", "b1"], "options"),
            "the options are a1, b1"
        );
    }

    #[test]
    fn lock_timeouts() {
        assert_eq!(milliseconds("2s"), Some(Duration::from_secs(2)));
        assert_eq!(
            milliseconds("1m 500ms"),
            Some(Duration::from_millis(60_500))
        );
        for bad in ["0", "0s", "2", "1us", "1500us", "30days", "-1s", "soon", ""] {
            assert_eq!(milliseconds(bad), None, "{bad}");
        }
    }
}
