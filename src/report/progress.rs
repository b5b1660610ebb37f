//! What happens in a run, as it happens: a bar in a terminal, lines elsewhere, JSON for programs.
//!
//! A sink never stops a migration: where nobody reads any more, it falls silent.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value};

use crate::event::{Event, Progress, Sink};
use crate::report::out::{self, Pipe};
use crate::report::text::{
    Style, count, counted, duration, line, lost, millis, percent, rate, redact,
};

/// The time, given by the caller.
pub type Clock = fn() -> DateTime<Utc>;

/// Time between two progress lines of a migration.
const PROGRESS_EVERY: TimeDelta = TimeDelta::seconds(5);
/// The same where the reason for waiting is another one: causes that take turns many times a
/// second must not flood a log.
const CAUSE_EVERY: TimeDelta = TimeDelta::seconds(1);

/// How long a name in a list of names or keys may get.
const NAMES: usize = 5;

/// An event for people, one line; `None` for what people need not see.
pub fn describe(event: &Event) -> Option<String> {
    Some(match event {
        Event::RunStarted {
            kind,
            epoch,
            resumed,
        } => {
            let how = if *resumed { "resumed" } else { "started" };
            format!("{kind} {how} (epoch {epoch})")
        }
        Event::TookOver { from } => format!("took over from {}, which is gone", line(from)),
        Event::StepStarted { step, phase, title } => {
            format!("step {step} ({phase}): {}", line(title))
        }
        Event::LockWaiting {
            step,
            attempt,
            blockers,
        } => {
            let times = counted(i64::from(*attempt), "try").replace("trys", "tries");
            format!(
                "step {step} waits for a lock after {times}; {}",
                in_the_way(blockers)
            )
        }
        Event::BlockersCancelled { step, blockers } => format!(
            "step {step}: terminated what was in the way: {}",
            names(blockers)
        ),
        Event::StepDone {
            step,
            title,
            elapsed_ms,
            waited_ms,
        } => {
            let waited = if *waited_ms == 0 {
                String::new()
            } else {
                format!(", {} of it waiting", millis(*waited_ms))
            };
            format!(
                "step {step} done in {}{waited}: {}",
                millis(*elapsed_ms),
                line(title)
            )
        }
        Event::Progress(progress) => {
            let at = percent(progress.fraction);
            format!("step {}: {at}, {}", progress.step, standing(progress))
        }
        Event::Held { cause: _, reason } => format!("waits: {}", line(reason)),
        Event::Released { cause, held_ms } => {
            format!(
                "goes on after {} of waiting ({})",
                millis(*held_ms),
                line(cause)
            )
        }
        Event::ChunkRetried { .. }
        | Event::ChunkDone { .. }
        | Event::LockTried { .. }
        | Event::Signals(_)
        | Event::RunFinished { .. }
        | Event::Stopped { .. } => {
            return describe_end(event);
        }
        Event::RowFailed {
            relation,
            key,
            sqlstate,
            message,
        } => format!(
            "a row fails: {} {}: {} (SQLSTATE {})",
            line(relation),
            line(key),
            line(&redact(message)),
            line(sqlstate)
        ),
        Event::ScanRestarted { relation, blocks } => format!(
            "{} was rewritten by someone; its scan begins again ({}), rows that are done are not \
             done again",
            line(relation),
            counted(*blocks, "block")
        ),
        Event::PruningHeld { relation } => format!(
            "an old snapshot keeps dead rows of {} from being pruned: while it lasts, blocks are \
             done in one pass, and the table grows as by a plain UPDATE",
            line(relation)
        ),
        Event::Vacuumed {
            relation,
            elapsed_ms,
            done,
        } => {
            let (table, took) = (line(relation), millis(*elapsed_ms as u64));
            if *done {
                format!("vacuumed {table} in {took}")
            } else {
                format!("a VACUUM of {table} gave way after {took}: the next one does the rest")
            }
        }
        Event::Verified {
            table, wrong: 0, ..
        } => format!("verified {}: every row is right", line(table)),
        Event::Verified {
            table, wrong, keys, ..
        } => {
            let which = if keys.is_empty() {
                String::new()
            } else {
                format!(": {}", names(keys))
            };
            format!(
                "verified {}: {}{which}",
                line(table),
                counted(*wrong, "wrong row")
            )
        }
        Event::VerifyResumed {
            table,
            blocks_done,
            blocks_total,
        } => format!(
            "goes on verifying {} after {} of {}",
            line(table),
            counted(*blocks_done, "block"),
            blocks_total
        ),
        Event::Sampled {
            table, rows, wrong, ..
        } => format!(
            "looked at {} of {}, chosen at random: {}",
            counted(*rows, "row"),
            line(table),
            counted(*wrong, "wrong row")
        ),
        Event::Repaired {
            table,
            from,
            rows,
            keys,
        } => format!(
            "mended {} of {} from the {} side: {}",
            counted(*rows, "row"),
            line(table),
            from.name(),
            names(keys)
        ),
        Event::Reconnecting { reason } => format!(
            "the connection was lost ({}); connects again and reads where it stands",
            line(&redact(reason))
        ),
        Event::Paused { by } => format!("paused by {}", line(by)),
        Event::LimitSet {
            key,
            value,
            seconds,
        } => match seconds {
            Some(s) => format!(
                "limit {} set to {} for {}",
                line(key),
                line(value),
                duration(std::time::Duration::from_secs(*s))
            ),
            None => format!("limit {} set to {}", line(key), line(value)),
        },
        Event::LimitCleared { key } => format!("limit {} is as configured again", line(key)),
        Event::Unpaused { by } => format!("pause ended by {}", line(by)),
        Event::CalledOff { kind, state } => format!("{kind} called off: {state} as before"),
        Event::Baselined => "marked as applied without running".to_owned(),
    })
}

fn describe_end(event: &Event) -> Option<String> {
    match event {
        Event::Stopped { reason, .. } => Some(format!("stopped: {}", line(&redact(reason)))),
        Event::RunFinished { kind, lost_ms } => {
            let lost = lost(lost_ms);
            let lost = if lost.is_empty() {
                lost
            } else {
                format!("; time lost: {lost}")
            };
            Some(format!("{kind} finished{lost}"))
        }
        _ => None,
    }
}

/// True for events that say that something is wrong: they are shown even under `--quiet`.
pub fn is_wrong(event: &Event) -> bool {
    match event {
        Event::RowFailed { .. } => true,
        Event::Verified { wrong, .. } => *wrong > 0,
        _ => false,
    }
}

fn in_the_way(blockers: &[String]) -> String {
    if blockers.is_empty() {
        "what is in the way cannot be seen".to_owned()
    } else {
        format!("in the way: {}", names(blockers))
    }
}

fn names(all: &[String]) -> String {
    let mut shown: Vec<String> = all.iter().take(NAMES).map(|name| line(name)).collect();
    if all.len() > NAMES {
        shown.push(format!("and {} more", all.len() - NAMES));
    }
    shown.join("; ")
}

/// Why it waits, rows, rate, time left, lag and duty: `waits: paused by dba, 1,200 of ~3,000 …`.
/// What matters most comes first: a narrow terminal cuts the end.
fn standing(progress: &Progress) -> String {
    let mut parts = Vec::new();
    if let Some(waiting) = &progress.waiting {
        parts.push(format!("waits: {}", line(waiting)));
    }
    // The total is an estimate: it must not be shown below what is done.
    parts.push(if progress.rows_total > progress.rows {
        let total = counted(progress.rows_total, "row");
        format!("{} of ~{total}", count(progress.rows))
    } else {
        counted(progress.rows, "row")
    });
    parts.push(rate(progress.rate));
    match progress.eta {
        Some(eta) => parts.push(format!("{} left", duration(eta))),
        None if progress.waiting.is_some() => parts.push("time left unknown".to_owned()),
        None => {}
    }
    parts.extend(progress.lag_seconds.map(|lag| format!("lag {lag:.1}s")));
    parts.extend(progress.duty.map(|d| format!("duty {:.0}%", d * 100.0)));
    parts.join(", ")
}

/// A waiting reason without its figures, which change all the time.
fn cause_of(waiting: Option<&str>) -> String {
    let words = waiting.unwrap_or_default().split_whitespace();
    let kept: Vec<&str> = words
        .filter(|word| !word.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
        .collect();
    kept.join(" ")
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A panic of another thread must not silence this one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream that falls silent when it cannot be written to.
struct Stream(Option<Box<dyn Write + Send>>);

impl Stream {
    fn push(&mut self, text: &str) {
        if let Some(stream) = &mut self.0
            && !matches!(out::write(stream, text), Ok(Pipe::Open))
        {
            self.0 = None;
        }
    }
}

/// Plain lines with the time, for stderr that is not a terminal.
pub struct Lines {
    clock: Clock,
    state: Mutex<LinesState>,
}

struct LinesState {
    stream: Stream,
    /// By migration: the step, when its progress was last shown, and why it waited then.
    shown: HashMap<String, (usize, DateTime<Utc>, String)>,
}

impl Lines {
    /// Lines to `stream`, with times of `clock`.
    pub fn new(stream: Box<dyn Write + Send>, clock: Clock) -> Self {
        Self {
            clock,
            state: Mutex::new(LinesState {
                stream: Stream(Some(stream)),
                shown: HashMap::new(),
            }),
        }
    }
}

impl Sink for Lines {
    fn event(&self, migration: &str, event: &Event) {
        let now = (self.clock)();
        let mut state = lock(&self.state);
        if let Event::Progress(progress) = event {
            let cause = cause_of(progress.waiting.as_deref());
            let due = state.shown.get(migration).is_none_or(|(step, at, before)| {
                let pace = if *before == cause {
                    PROGRESS_EVERY
                } else {
                    CAUSE_EVERY
                };
                *step != progress.step || now - *at >= pace
            });
            if !due {
                return;
            }
            state
                .shown
                .insert(migration.to_owned(), (progress.step, now, cause));
        }
        if let Some(text) = describe(event) {
            let row = format!("{} {}: {text}\n", stamp(now), line(migration));
            state.stream.push(&row);
        }
    }
}

/// One JSON object a line, for stdout: `{"at": …, "migration": …, "event": …, …}`.
pub struct Json {
    clock: Clock,
    stream: Mutex<Stream>,
}

impl Json {
    /// Objects to `stream`, with times of `clock`.
    pub fn new(stream: Box<dyn Write + Send>, clock: Clock) -> Self {
        Self {
            clock,
            stream: Mutex::new(Stream(Some(stream))),
        }
    }
}

/// An event for programs; a documented shape.
pub fn json(at: DateTime<Utc>, migration: &str, event: &Event) -> Value {
    let mut all = Map::new();
    all.insert(
        "at".to_owned(),
        at.to_rfc3339_opts(SecondsFormat::Millis, true).into(),
    );
    all.insert("migration".to_owned(), migration.into());
    // Events are plain data, tagged: always an object.
    if let Ok(Value::Object(fields)) = serde_json::to_value(event) {
        all.extend(fields);
    }
    Value::Object(all)
}

impl Sink for Json {
    fn event(&self, migration: &str, event: &Event) {
        if !event.is_told() {
            return;
        }
        let row = json((self.clock)(), migration, event);
        lock(&self.stream).push(&format!("{row}\n"));
    }
}

/// `--quiet`: only what is wrong.
pub struct Quiet(Lines);

impl Quiet {
    /// Lines to `stream`, with times of `clock`.
    pub fn new(stream: Box<dyn Write + Send>, clock: Clock) -> Self {
        Self(Lines::new(stream, clock))
    }
}

impl Sink for Quiet {
    fn event(&self, migration: &str, event: &Event) {
        if is_wrong(event) {
            self.0.event(migration, event);
        }
    }
}

/// A bar for a terminal; other events are lines above it.
pub struct Bar {
    inner: ProgressBar,
    style: Style,
    /// What the bar shows: the migration and its step.
    shown: Mutex<Option<(String, usize)>>,
}

/// Parts of the bar's whole.
const PARTS: f64 = 1000.0;

impl Bar {
    /// A bar on stderr, which must be a terminal: elsewhere nothing is shown at all.
    pub fn new(color: bool) -> Self {
        Self::on(ProgressDrawTarget::stderr(), color)
    }

    /// A bar on any target.
    pub fn on(target: ProgressDrawTarget, color: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(PARTS as u64), target).with_style(
            ProgressStyle::with_template("{prefix} [{bar:16}] {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        // Nothing to show yet: lines come without an empty bar below them.
        bar.finish_and_clear();
        Self {
            inner: bar,
            style: Style {
                color,
                verbose: false,
            },
            shown: Mutex::new(None),
        }
    }

    fn progress(&self, migration: &str, progress: &Progress) {
        let done = if progress.fraction.is_finite() {
            progress.fraction.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.inner.set_message(format!(
            "{} {}",
            percent(progress.fraction),
            standing(progress)
        ));
        let mut shown = lock(&self.shown);
        let now = (migration.to_owned(), progress.step);
        if shown.as_ref() != Some(&now) {
            self.inner.reset();
            self.inner.set_prefix(format!("step {}", progress.step));
            *shown = Some(now);
        }
        self.inner.set_position((done * PARTS) as u64);
    }

    fn clear(&self) {
        if lock(&self.shown).take().is_some() {
            self.inner.finish_and_clear();
        }
    }
}

impl Sink for Bar {
    fn event(&self, migration: &str, event: &Event) {
        match event {
            Event::Progress(progress) => return self.progress(migration, progress),
            Event::StepDone { .. } | Event::Stopped { .. } | Event::RunFinished { .. } => {
                self.clear();
            }
            // The bar says it all the time, with figures that are current.
            Event::Held { .. } | Event::Released { .. } if lock(&self.shown).is_some() => return,
            _ => {}
        }
        let Some(text) = describe(event) else { return };
        let text = match event {
            _ if is_wrong(event) => self.style.bad(&text),
            Event::LockWaiting { .. } | Event::Stopped { .. } | Event::Reconnecting { .. } => {
                self.style.warn(&text)
            }
            Event::RunFinished { .. } => self.style.good(&text),
            _ => text,
        };
        let migration = self.style.dim(&format!("{}:", line(migration)));
        self.inner.println(format!("{migration} {text}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests;
