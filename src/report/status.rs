//! Where migrations stand, and what to do next.

use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use crate::event::Lost;
pub use crate::exec::view::RunView;
use crate::report::text::{
    count, counted, duration, hanging, line, lost, millis, percent, rate, redact, table,
};
use crate::run::State;

/// All migrations, in the order of their ids. The JSON of the views is a documented shape.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StatusView {
    /// Them.
    pub migrations: Vec<MigrationView>,
}

/// A migration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MigrationView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// The run that is under way, or waits to be resumed.
    pub run: Option<RunView>,
    /// Time that its runs have lost, by cause, in milliseconds.
    pub lost_ms: Lost,
    /// When its state last changed; `None` where nothing is recorded of it.
    pub updated_at: Option<DateTime<Utc>>,
    /// What to do next ([`next`]).
    pub next: String,
}

impl MigrationView {
    /// A view whose [`next`](Self::next) is decided here.
    pub fn new(
        id: impl Into<String>,
        state: State,
        run: Option<RunView>,
        updated_at: Option<DateTime<Utc>>,
    ) -> Self {
        let id = id.into();
        let next = next(&id, state, run.as_ref());
        Self {
            id,
            state,
            run,
            lost_ms: Lost::new(),
            updated_at,
            next,
        }
    }

    /// With the time that its runs have lost.
    #[must_use]
    pub fn with_lost(mut self, lost: Lost) -> Self {
        self.lost_ms = lost;
        self
    }
}

/// What to do next with a migration.
pub fn next(id: &str, state: State, run: Option<&RunView>) -> String {
    match state {
        State::Pending => {
            format!("`pgshift plan {id}` shows what it does, `pgshift apply {id}` does it")
        }
        State::Reverted => format!("`pgshift apply {id}` applies it again"),
        State::Ready => format!(
            "deploy the new application version, then `pgshift contract {id}`; `pgshift revert {id}` \
             takes it back"
        ),
        State::Complete => format!(
            "nothing is left to do; `pgshift revert {id}` takes it back until `pgshift purge {id}` makes it final"
        ),
        State::Purged | State::Baselined => "nothing; it is final".to_owned(),
        State::Applying | State::Contracting | State::Reverting | State::Purging => {
            next_in_motion(id, state, run)
        }
    }
}

fn next_in_motion(id: &str, state: State, run: Option<&RunView>) -> String {
    let resume = format!("`pgshift resume {id}`");
    // Only what was not yet taken back, or made final, can be taken back.
    let or_revert = match state {
        State::Applying | State::Contracting => {
            format!(", or `pgshift revert {id}` to take it back")
        }
        _ => String::new(),
    };
    let Some(run) = run else {
        return format!("{resume} goes on{or_revert}");
    };
    let paused = run
        .waiting
        .as_deref()
        .is_some_and(|reason| reason.starts_with("paused"));
    if run.is_running() {
        return match &run.waiting {
            Some(_) if paused => format!("{resume} ends the pause"),
            Some(_) => "nothing; it goes on when what it waits for has passed".to_owned(),
            None => "nothing; it is under way".to_owned(),
        };
    }
    if run.failed_rows > 0 {
        return format!(
            "correct the failing rows (`pgshift log {id}` names them), then {resume}{or_revert}"
        );
    }
    if run.error.is_some() && state == State::Reverting {
        return format!(
            "mend what stopped it, then {resume}; `pgshift revert {id} --call-off` leaves it as it \
             was, while nothing is taken back"
        );
    }
    if run.error.is_some() {
        return format!("mend what stopped it, then {resume}{or_revert}");
    }
    format!("{resume} goes on from the last committed chunk or step{or_revert}")
}

/// The status for people: details of a single migration; of many a table, the details of those in
/// motion, and what to do next with the others.
pub fn human(view: &StatusView) -> String {
    match view.migrations.as_slice() {
        [] => "No migrations.\n".to_owned(),
        [one] => details(one),
        many => overview(many),
    }
}

fn overview(all: &[MigrationView]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|m| {
            let run = m.run.as_ref();
            vec![
                line(&m.id),
                m.state.to_string(),
                run.map(|r| format!("{}/{}", r.step, r.steps))
                    .unwrap_or_default(),
                run.and_then(|r| r.fraction)
                    .map(percent)
                    .unwrap_or_default(),
                run.map(|r| condition(r).to_owned()).unwrap_or_default(),
                m.updated_at.map(stamp).unwrap_or_default(),
            ]
        })
        .collect();
    let mut text = table(
        &["MIGRATION", "STATE", "STEP", "DONE", "RUN", "UPDATED (UTC)"],
        &rows,
    );
    for m in all.iter().filter(|m| m.state.in_motion()) {
        text.push('\n');
        text.push_str(&details(m));
    }
    let mut rest = String::new();
    for m in all.iter().filter(|m| m.state == State::Ready) {
        rest.push_str(&hanging(&format!("  {}: ", line(&m.id)), &m.next));
    }
    let pending = all.iter().filter(|m| m.state == State::Pending).count();
    if pending > 0 {
        let _ = writeln!(
            rest,
            "  {pending} pending: `pgshift plan ID` shows what one does, `pgshift apply` does all"
        );
    }
    if !rest.is_empty() {
        text.push_str("\nNext\n");
        text.push_str(&rest);
    }
    text
}

fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// What a run is at, in a word.
fn condition(run: &RunView) -> &'static str {
    match run {
        r if r.is_running() && r.waiting.is_some() => "waits",
        r if r.is_running() => "runs",
        r if r.error.is_some() => "stopped",
        r if r.holder.is_some() => "runner gone",
        _ => "not running",
    }
}

fn details(m: &MigrationView) -> String {
    let mut text = format!("{}: {}\n", line(&m.id), m.state);
    let lost = lost(&m.lost_ms);
    let mut fact = |label: &str, value: &str| {
        text.push_str(&hanging(&format!("  {label:<9} "), value));
    };
    if let Some(run) = &m.run {
        let who = run.holder.as_deref().map(line);
        let runner = match (&who, run.lease_expired) {
            (Some(who), false) => format!("by {who}"),
            (Some(who), true) => format!("{who} gives no sign of life"),
            (None, _) => "nobody runs it".to_owned(),
        };
        fact(
            "run",
            &format!("{} (epoch {}), {runner}", run.kind, run.epoch),
        );
        let phase = run.phase.map(|p| format!(" ({p})")).unwrap_or_default();
        let title = run.title.as_deref().map(line).unwrap_or_default();
        let step = format!("{} of {}{phase}: {title}", run.step, run.steps);
        fact("step", step.trim_end_matches(": "));
        if let Some(done) = run.fraction {
            fact("progress", &progress(run, done));
        }
        let duty = run.duty.map(|d| format!("duty {:.0}%", d * 100.0));
        let lag = run.lag_seconds.map(|lag| format!("lag {lag:.1}s"));
        let throttle: Vec<String> = duty.into_iter().chain(lag).collect();
        if !throttle.is_empty() && run.is_running() {
            fact("throttle", &throttle.join(", "));
        }
        if let Some(waiting) = &run.waiting {
            fact("waits", &line(waiting));
        }
        // Of the step alone; the time lost is of all.
        if run.waited_ms > 0 && lost.is_empty() {
            fact("waited", &millis(run.waited_ms.unsigned_abs()));
        }
        if run.failed_rows > 0 {
            fact("failing", &counted(run.failed_rows, "row"));
        }
        if let Some(error) = &run.error {
            fact("error", &line(&redact(error)));
        }
    }
    if !lost.is_empty() {
        fact("time lost", &lost);
    }
    if let Some(at) = m.updated_at {
        fact("updated", &at.to_rfc3339_opts(SecondsFormat::Secs, true));
    }
    fact("next", &m.next);
    text
}

fn progress(run: &RunView, done: f64) -> String {
    let mut parts = vec![percent(done)];
    // The total is an estimate: it must not be shown below what is done.
    parts.push(match run.rows_total {
        Some(total) if total > run.rows_done => {
            format!("{} of ~{}", count(run.rows_done), counted(total, "row"))
        }
        _ => counted(run.rows_done, "row"),
    });
    parts.push(counted(run.chunks, "chunk"));
    parts.extend(run.rate.map(rate));
    parts.extend(run.eta.map(|eta| format!("{} left", duration(eta))));
    parts.join(", ")
}

#[cfg(test)]
mod tests;
