//! `[throttle]`: limits, and signals of one's own.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Spanned, Value};

use super::{ThrottleTable, Time};
use crate::sql::{Diagnostic, Span};
use crate::throttle::Limits;
use crate::throttle::compare;
use crate::throttle::custom::{self, Asks, Custom};
use crate::throttle::endpoint::{Endpoint, Secret};

/// What the table says.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// On top of the defaults.
    pub(super) limits: Limits,
    /// The limits that are said, as they are written.
    pub(super) set: BTreeMap<String, String>,
    pub(super) signals: Vec<Custom>,
}

/// `[[throttle.signal]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SqlSignal {
    name: String,
    sql: String,
    above: Option<f64>,
    below: Option<f64>,
    every: Option<Time>,
    timeout: Option<Time>,
}

/// `[[throttle.gate]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Gate {
    name: String,
    url: String,
    token_env: Option<String>,
    header: Option<String>,
    every: Option<Time>,
    timeout: Option<Time>,
}

/// `[[throttle.prometheus]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Prometheus {
    name: String,
    url: String,
    query: String,
    above: Option<f64>,
    below: Option<f64>,
    token_env: Option<String>,
    header: Option<String>,
    every: Option<Time>,
    timeout: Option<Time>,
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What one entry of a list of signals becomes.
type Made = Result<(String, Option<Time>, Option<Time>, Asks), String>;

/// Reads the table.
///
/// # Errors
/// Everything that is wrong, each at its place.
pub(super) fn read(table: &ThrottleTable, env: Env<'_>) -> Result<Said, Vec<Diagnostic>> {
    let mut said = Said::default();
    let mut wrong = Vec::new();
    for (key, value) in table {
        let mut signals = |make: &dyn Fn(Value) -> Made| {
            for found in entries(value, make) {
                if let Err(diagnostic) =
                    found.and_then(|(span, made)| add(&mut said.signals, span, made))
                {
                    wrong.push(diagnostic);
                }
            }
        };
        match key.get_ref().as_str() {
            "signal" => signals(&sql_signal),
            "gate" => signals(&|value| gate(value, env)),
            "prometheus" => signals(&|value| prometheus(value, env)),
            name => {
                let set = text(value.get_ref())
                    .map_err(|why| (value.span(), format!("{name}: {why}")))
                    .and_then(|text| {
                        let known = crate::throttle::limits::KEYS.iter().any(|k| k.name == name);
                        let at = if known { value.span() } else { key.span() };
                        said.limits.set(name, &text).map_err(|why| (at, why))?;
                        said.set.insert(name.to_owned(), text);
                        Ok(())
                    });
                if let Err((at, why)) = set {
                    wrong.push(Diagnostic::new(Span::new(at.start, at.end), why));
                }
            }
        }
    }
    if wrong.is_empty() {
        Ok(said)
    } else {
        wrong.sort_by_key(|d| d.span.start);
        Err(wrong)
    }
}

/// The text of a limit.
fn text(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Array(items) => items
            .iter()
            .map(Value::as_str)
            .collect::<Option<Vec<&str>>>()
            .map(|texts| texts.join(","))
            .ok_or("a list of strings is wanted"),
        number @ (Value::Integer(_) | Value::Float(_)) => Ok(number.to_string()),
        _ => Err("a string or a number is wanted"),
    }
}

type Entry = Result<(Span, (String, Option<Time>, Option<Time>, Asks)), Diagnostic>;

fn entries(value: &Spanned<Value>, make: &dyn Fn(Value) -> Made) -> Vec<Entry> {
    let span = Span::new(value.span().start, value.span().end);
    let Value::Array(items) = value.get_ref() else {
        return vec![Err(Diagnostic::new(
            span,
            "a list of tables is wanted: [[throttle.signal]], [[throttle.gate]], \
             [[throttle.prometheus]]",
        ))];
    };
    let named = |item: &Value, number: usize| match item.get("name").and_then(Value::as_str) {
        Some(name) => name.to_owned(),
        None => format!("number {number}"),
    };
    (1..)
        .zip(items)
        .map(|(number, item)| match make(item.clone()) {
            Ok(made) => Ok((span, made)),
            Err(why) => Err(Diagnostic::new(
                span,
                format!("{}: {why}", named(item, number)),
            )),
        })
        .collect()
}

fn add(
    signals: &mut Vec<Custom>,
    span: Span,
    (name, every, timeout, asks): (String, Option<Time>, Option<Time>, Asks),
) -> Result<(), Diagnostic> {
    let at = |why| Diagnostic::new(span, why);
    custom::check_name(&name, signals).map_err(at)?;
    let time = |t: Option<Time>| -> Option<Duration> { t.map(|t| t.0) };
    let pace = custom::pace(time(every), time(timeout))
        .map_err(|why| Diagnostic::new(span, format!("{name}: {why}")))?;
    signals.push(Custom { name, pace, asks });
    Ok(())
}

fn of<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    value
        .try_into()
        .map_err(|e: toml::de::Error| e.message().to_owned())
}

fn sql_signal(value: Value) -> Made {
    let s: SqlSignal = of(value)?;
    compare::check(&s.sql).map_err(|d| format!("sql: {}: {}", d.message, d.span.of(&s.sql)))?;
    let bound = custom::bound(s.above, s.below)?;
    Ok((s.name, s.every, s.timeout, Asks::Sql { sql: s.sql, bound }))
}

fn gate(value: Value, env: Env<'_>) -> Made {
    let g: Gate = of(value)?;
    let url = endpoint(&g.url, g.token_env.as_deref(), g.header, env)?;
    Ok((g.name, g.every, g.timeout, Asks::Gate { url }))
}

fn prometheus(value: Value, env: Env<'_>) -> Made {
    let p: Prometheus = of(value)?;
    let url = endpoint(&p.url, p.token_env.as_deref(), p.header, env)?;
    let bound = custom::bound(p.above, p.below)?;
    if p.query.trim().is_empty() {
        return Err("query: it is empty".to_owned());
    }
    let asks = Asks::Prometheus {
        url,
        query: p.query,
        bound,
    };
    Ok((p.name, p.every, p.timeout, asks))
}

/// An address with the secret of an environment variable: a bearer token, or the value of
/// `header`.
fn endpoint(
    url: &str,
    token_env: Option<&str>,
    header: Option<String>,
    env: Env<'_>,
) -> Result<Endpoint, String> {
    let mut url: Endpoint = url.parse().map_err(|why| format!("url: {why}"))?;
    let Some(variable) = token_env else {
        return match header {
            Some(_) => Err("header: token-env must name the variable with its value".to_owned()),
            None => Ok(url),
        };
    };
    let token = env(variable)
        .filter(|token| !token.is_empty())
        .ok_or_else(|| format!("token-env: the environment has no variable {variable}"))?;
    url.header = Some(match header {
        Some(name) => (name, Secret::new(token)),
        None => (
            "authorization".to_owned(),
            Secret::new(format!("Bearer {token}")),
        ),
    });
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn wrong(text: &str) -> (usize, String) {
        let error = Config::parse("pgshift.toml", text, &|_| None).expect_err(text);
        let (source, places) = error.places().expect("a place");
        let (line, _) = source.line_column(places[0].span.start);
        (line, places[0].message.clone())
    }

    #[test]
    fn what_is_wrong_is_told_at_its_place() {
        for (text, line, says) in [
            ("[throttle]\nduty = 0.5\nmax-lag = \"soon\"", 3, "max-lag"),
            ("[throttle]\nduty = 0.5\nmax-lagg = \"5s\"", 3, "max-lagg"),
            (
                "[[throttle.signal]]\nname = \"q\"\nsql = \"SELECT 1\"",
                1,
                "above and below",
            ),
            (
                "[[throttle.signal]]\nname = \"q\"\nsq = \"SELECT 1\"\nabove = 1",
                1,
                "unknown field",
            ),
            (
                "[[throttle.signal]]\nname = \"q\"\nsql = \"SELECT 'a\"\nabove = 1",
                1,
                "not closed",
            ),
            (
                "[[throttle.gate]]\nname = \"g\"\nurl = \"http://u:geheim%@x/\"",
                1,
                "percent-encoded",
            ),
            (
                "[[throttle.gate]]\nname = \"g\"\nurl = \"http://x\"\ntoken-env = \"NOT_THERE\"",
                1,
                "NOT_THERE",
            ),
            (
                "[[throttle.gate]]\nname = \"replica_lag\"\nurl = \"http://x\"",
                1,
                "pgshift's own",
            ),
            (
                "[[throttle.gate]]\nname = \"g\"\nurl = \"http://x\"\nevery = \"1s\"\ntimeout = \"3s\"",
                1,
                "twice the period",
            ),
            (
                "[[throttle.gate]]\nname = \"g\"\nurl = \"http://x\"\n[[throttle.prometheus]]\nname = \"g\"\nurl = \"http://x\"\nquery = \"q\"\nabove = 1",
                4,
                "two signals",
            ),
            ("[throttle]\ngate = 5", 2, "list of tables"),
        ] {
            let (at, message) = wrong(text);
            assert_eq!(at, line, "{text}: {message}");
            assert!(message.contains(says), "{text}: {message}");
            assert!(!message.contains("geheim"), "{message}");
        }
    }
}
