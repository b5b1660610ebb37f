//! A plan for review: every statement as it will run, what it locks and costs, and its way back.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::backfill::{BackfillSpec, Strategy};
use crate::lock::LockOn;
use crate::plan::cost::{Bytes, Disk, Time, Totals};
use crate::plan::{Estimate, Phase, Plan, Step, Undo, Work};
use crate::report::text::{Style, bytes, count, counted, hanging, line, lines, seconds};

/// Phases in the order in which they are shown. READY lies after verify.
const ORDER: [Phase; 8] = [
    Phase::Expand,
    Phase::Sync,
    Phase::Backfill,
    Phase::Validate,
    Phase::Verify,
    Phase::Contract,
    Phase::Purge,
    Phase::Revert,
];

/// What begins the definition of a sync trigger's function (`plan::sync`). Its body is made from
/// the author's expressions and long, so that it is shown only where asked for.
const SYNC_FUNCTION: &str = "CREATE OR REPLACE FUNCTION \"pgshift\".\"sync_";

/// Column in which the facts of a step begin.
const FACTS: usize = 5;

/// The plan for people.
pub fn human(plan: &Plan, style: Style) -> String {
    let mut text = String::new();
    let checksum: String = plan.checksum.chars().take(12).collect();
    let _ = writeln!(
        text,
        "{} {}",
        style.bold(&format!("Plan of {}", line(&plan.migration))),
        style.dim(&format!("(checksum {})", line(&checksum))),
    );
    for phase in ORDER {
        let steps: Vec<_> = numbered(plan).filter(|(_, s)| s.phase == phase).collect();
        if !steps.is_empty() {
            let _ = writeln!(
                text,
                "\n{}  {}",
                style.bold(&phase.name().to_uppercase()),
                style.dim(about(phase))
            );
        }
        for (number, step) in steps {
            push_step(&mut text, number, step, style);
        }
        if phase == Phase::Verify && plan.steps.iter().any(|s| s.phase <= Phase::Contract) {
            text.push('\n');
            let id = line(&plan.migration);
            let end = if plan.has_contract() {
                format!("READY: deploy the new application version, then pgshift contract {id}")
            } else {
                "COMPLETE: there is nothing to contract".to_owned()
            };
            let _ = writeln!(text, "{}", style.good(&end));
        }
    }
    push_end(&mut text, plan, style);
    text
}

/// The plan for programs; a documented shape. (The file of `plan --out` is the plan itself.)
pub fn json(plan: &Plan) -> Value {
    let steps: Vec<Value> = numbered(plan)
        .map(|(number, step)| {
            let mut all = Map::new();
            all.insert("number".into(), json!(number));
            // A step is plain data: it has no map with keys that are not strings.
            if let Ok(Value::Object(fields)) = serde_json::to_value(step) {
                all.extend(fields);
            }
            all.insert("transactional".into(), json!(step.transactional()));
            all.insert("sql".into(), json!(statements(&step.work)));
            Value::Object(all)
        })
        .collect();
    let irreversible: Vec<Value> = irreversible(plan)
        .map(|(number, _, reason)| json!({"step": number, "reason": reason}))
        .collect();
    json!({
        "format": plan.format,
        "migration": plan.migration,
        "checksum": plan.checksum,
        "warnings": plan.warnings,
        "irreversible": irreversible,
        "totals": plan.totals(),
        "steps": steps,
    })
}

/// Steps with their numbers, from 1.
fn numbered(plan: &Plan) -> impl Iterator<Item = (usize, &Step)> {
    plan.steps.iter().enumerate().map(|(n, step)| (n + 1, step))
}

/// As [`Plan::irreversible`], with the number of the step.
fn irreversible(plan: &Plan) -> impl Iterator<Item = (usize, &Step, &str)> {
    numbered(plan)
        .filter(|(_, step)| step.phase != Phase::Purge)
        .flat_map(|(number, step)| {
            let reasons = match &step.undo {
                Undo::Irreversible { reason } => std::slice::from_ref(reason),
                Undo::Steps { lost, .. } => lost.as_slice(),
                Undo::Nothing => &[],
            };
            reasons
                .iter()
                .map(move |reason| (number, step, reason.as_str()))
        })
}

/// The statements of a step as they are sent. Those of a backfill or verify are sent once for each
/// chunk, with its bounds as parameters.
pub fn statements(work: &Work) -> Vec<String> {
    match work {
        Work::Sql { statements } => statements.clone(),
        Work::Concurrent { sql, .. } | Work::Check { sql } => vec![sql.clone()],
        Work::Backfill(spec) => vec![spec.chunk_sql(&spec.table, spec.shown_bounds())],
        Work::Verify(spec) => vec![spec.sql(&spec.table, true)],
    }
}

fn about(phase: Phase) -> &'static str {
    match phase {
        Phase::Expand => "adds what the running application does not notice",
        Phase::Sync => "keeps old and new columns equal while both versions run",
        Phase::Backfill => "brings existing rows over, in short chunks",
        Phase::Validate => "indexes and constraints on what was brought over",
        Phase::Verify => "compares every row",
        Phase::Contract => {
            "the new application version is alone: sets aside what only the old one needs"
        }
        Phase::Purge => "after the retention: drops for good",
        Phase::Revert => "takes the migration back",
    }
}

fn push_step(text: &mut String, number: usize, step: &Step, style: Style) {
    let origin = step.line.map(|n| format!("line {n}")).unwrap_or_default();
    let title = line(&step.title);
    let head = hanging(&format!("{number:>3}. "), &title);
    let head = head.trim_end();
    text.push('\n');
    text.push_str(&if style.color {
        head.replacen(&title, &style.bold(&title), 1)
    } else {
        head.to_owned()
    });
    if !origin.is_empty() {
        let _ = write!(text, "  {}", style.dim(&format!("({origin})")));
    }
    text.push('\n');
    let all = statements(&step.work);
    for sql in &all {
        push_sql(text, sql, all.len() > 1, style);
    }
    push_locks(text, &step.locks, style);
    push_fact(text, "runs", &runs(&step.work), style, Style::plain);
    push_fact(text, "cost", &cost(&step.estimate), style, Style::plain);
    if let Some(wal) = step.estimate.wal {
        let value = format!("{} of WAL", amount(wal));
        push_fact(text, "writes", &value, style, Style::plain);
    }
    if let Some(disk) = &step.estimate.disk {
        push_fact(text, "disk", &needs(disk), style, Style::plain);
    }
    push_undo(text, &step.undo, style);
    for note in &step.notes {
        push_fact(text, "note", &line(note), style, Style::plain);
    }
}

/// `     label     value`, wrapped.
fn push_fact(
    text: &mut String,
    label: &str,
    value: &str,
    style: Style,
    paint: fn(Style, &str) -> String,
) {
    let lead = format!("{:FACTS$}{label:<10}", "");
    let block = hanging(&lead, value);
    if !style.color {
        text.push_str(&block);
        return;
    }
    for (n, row) in block.lines().enumerate() {
        let value = row.get(lead.len()..).unwrap_or_default();
        let lead = if n == 0 {
            style.dim(&lead)
        } else {
            " ".repeat(lead.len())
        };
        let _ = writeln!(text, "{lead}{}", paint(style, value));
    }
}

/// A statement as it is, indented. One of several ends in a semicolon, for the eye. A sync
/// function's body is left out unless asked for.
fn push_sql(text: &mut String, sql: &str, one_of_several: bool, style: Style) {
    let mut sql = lines(sql.trim_end());
    let last = sql.lines().last().unwrap_or_default();
    if one_of_several && !last.ends_with(';') && !last.contains("--") {
        sql.push(';');
    }
    let short = !style.verbose && sql.starts_with(SYNC_FUNCTION);
    let all: Vec<&str> = sql.trim_end().lines().collect();
    let shown = if short {
        all.iter()
            .position(|l| l.starts_with("AS $"))
            .map_or(1, |n| n + 1)
    } else {
        all.len()
    };
    let mut push = |row: &str| {
        let _ = writeln!(text, "{}", format!("{:1$}{row}", "", FACTS + 2).trim_end());
    };
    for row in &all[..shown] {
        push(row);
    }
    let left = all.len() - shown;
    if left > 0 {
        push(&style.dim(&format!(
            "… {} more, made from the mappings in the file; --verbose shows them",
            counted(i64::try_from(left).unwrap_or(i64::MAX), "line")
        )));
    }
}

fn push_locks(text: &mut String, locks: &[LockOn], style: Style) {
    if locks.is_empty() {
        push_fact(text, "locks", "no existing relation", style, Style::plain);
    }
    for (n, lock) in locks.iter().enumerate() {
        let label = if n == 0 { "locks" } else { "" };
        let name = line(&lock.to_string());
        match (lock.mode.blocks_reads(), lock.mode.blocks_writes()) {
            (true, _) => {
                let value = format!("{name}: blocks reads and writes");
                push_fact(text, label, &value, style, Style::warn);
            }
            (false, true) => {
                let value = format!("{name}: blocks writes");
                push_fact(text, label, &value, style, Style::warn);
            }
            (false, false) => push_fact(text, label, &name, style, Style::plain),
        }
    }
}

fn runs(work: &Work) -> String {
    match work {
        Work::Sql { .. } => "in a transaction".to_owned(),
        Work::Concurrent { .. } => "outside a transaction".to_owned(),
        Work::Backfill(spec) => runs_backfill(spec),
        Work::Verify(_) => "reads only, in ranges of blocks".to_owned(),
        Work::Check { .. } => {
            "reads only; must return no row, or one row with zero or false".to_owned()
        }
    }
}

fn runs_backfill(spec: &BackfillSpec) -> String {
    let walk = match &spec.strategy {
        Strategy::Ctid => match spec.stripes {
            Some(stripes) => format!(
                "over the table's blocks in order, in {} stripes",
                stripes.count
            ),
            None => "over the table's blocks in order".to_owned(),
        },
        Strategy::Keyset { key } => {
            let key: Vec<_> = key.iter().map(|k| line(&k.name)).collect();
            format!("over the key ({}) in order", key.join(", "))
        }
    };
    let size = spec.batch.map_or_else(
        || "as many rows a chunk as fit the time target".to_owned(),
        |rows| format!("{} a chunk", counted(i64::from(rows), "row")),
    );
    let workers = spec.workers.map_or_else(String::new, |n| {
        format!(", {}", counted(i64::from(n), "worker"))
    });
    let vacuum = spec.vacuum.map_or_else(String::new, |v| {
        format!(", with a VACUUM after each {} % of the table", v.percent)
    });
    format!("a transaction for each chunk, {walk}, {size}{workers}{vacuum}")
}

/// `1.0 GiB, at most 2.0 GiB`
fn amount(size: Bytes) -> String {
    if size.most <= size.likely {
        return format!("about {}", bytes(size.likely));
    }
    format!("about {}, at most {}", bytes(size.likely), bytes(size.most))
}

/// What a step needs of the disk.
fn needs(disk: &Disk) -> String {
    let mut parts = Vec::new();
    for (what, size) in [("the table", disk.heap), ("its indexes", disk.indexes)] {
        if size.most > 0 {
            parts.push(format!("{} for {what}", amount(size)));
        }
    }
    if disk.new_indexes > 0 {
        parts.push(format!("about {} for the index", bytes(disk.new_indexes)));
    }
    if disk.temporary > 0 {
        let size = bytes(disk.temporary);
        parts.push(format!("about {size} of temporary files"));
    }
    if parts.is_empty() {
        return "nothing beside pg_wal".to_owned();
    }
    parts.join("; ")
}

/// `20m to 1h at a duty of 50%`, with what is not in it.
fn time(time: &Time) -> Option<String> {
    let (least, likely) = (seconds(time.least)?, seconds(time.likely)?);
    let range = if least == likely {
        format!("about {likely}")
    } else {
        format!("{least} to {likely}")
    };
    Some(format!("{range} at a duty of {:.0}%", time.duty * 100.0))
}

/// What is known of the cost; what is not is said to be unknown.
fn cost(estimate: &Estimate) -> String {
    let mut parts = Vec::new();
    if let Some(rows) = estimate.rows {
        parts.push(counted(rows, "row"));
    }
    if let Some(size) = estimate.bytes {
        parts.push(bytes(size));
    }
    if let Some(chunks) = estimate.chunks {
        parts.push(counted(chunks, "chunk"));
    }
    if let Some(range) = estimate.time.as_ref().and_then(time) {
        let basis = estimate.basis.as_deref().map(line).unwrap_or_default();
        parts.push(format!("{range} ({basis})"));
        return parts.join(", ");
    }
    let time = estimate.seconds.and_then(seconds);
    match (time, &estimate.basis) {
        (Some(time), Some(basis)) => parts.push(format!("about {time} ({})", line(basis))),
        (Some(time), None) => parts.push(format!("about {time}")),
        (None, Some(basis)) if parts.is_empty() => parts.push(line(basis)),
        (None, Some(basis)) => parts.push(format!("time unknown ({})", line(basis))),
        (None, None) if parts.is_empty() => parts.push("unknown".to_owned()),
        (None, None) => parts.push("time unknown".to_owned()),
    }
    parts.join(", ")
}

fn push_undo(text: &mut String, undo: &Undo, style: Style) {
    match undo {
        Undo::Nothing => push_fact(
            text,
            "way back",
            "nothing to take back",
            style,
            Style::plain,
        ),
        Undo::Steps { steps, lost } => {
            for (n, step) in steps.iter().enumerate() {
                let label = if n == 0 { "way back" } else { "" };
                push_fact(text, label, &line(&step.title), style, Style::plain);
            }
            for what in lost {
                push_fact(text, "is lost", &line(what), style, Style::bad);
            }
        }
        Undo::Irreversible { reason } => {
            let value = format!("cannot be taken back: {}", line(reason));
            push_fact(text, "way back", &value, style, Style::bad);
        }
    }
}

fn push_end(text: &mut String, plan: &Plan, style: Style) {
    if !plan.warnings.is_empty() {
        let _ = writeln!(text, "\n{}", style.warn("Warnings"));
        for warning in &plan.warnings {
            text.push_str(&hanging("  - ", &line(warning)));
        }
    }
    if let Some(totals) = plan.totals() {
        push_totals(text, &totals, style);
    }
    text.push('\n');
    let mut rest = irreversible(plan).peekable();
    if rest.peek().is_none() {
        let _ = writeln!(
            text,
            "{}",
            style.good("Everything can be taken back until purge")
        );
        return;
    }
    let _ = writeln!(text, "{}", style.bad("Cannot be taken back"));
    for (number, step, reason) in rest {
        let what = format!("step {number}, {}: {}", line(&step.title), line(reason));
        text.push_str(&hanging("  - ", &what));
    }
}

/// The cost of the whole file until READY.
fn push_totals(text: &mut String, totals: &Totals, style: Style) {
    let _ = writeln!(text, "\n{}", style.bold("Until READY, estimated"));
    let mut all = Vec::new();
    if totals.rows > 0 {
        let known = totals.time.as_ref().and_then(time);
        all.push(match known {
            Some(range) => format!("time: {range}; a limit that holds comes on top, without bound"),
            None => "time: unknown, no sample could be measured".to_owned(),
        });
        if let Some(chunks) = totals.chunks {
            let chunks = counted(chunks, "chunk");
            all.push(format!("{chunks}, each a transaction with an id"));
        }
    }
    all.push(format!("WAL: {}", amount(totals.wal)));
    let mut disk = format!("disk: {}", amount(totals.disk));
    if totals.temporary > 0 {
        let _ = write!(disk, ", {} of temporary files", bytes(totals.temporary));
    }
    let _ = write!(
        disk,
        ", and pg_wal up to {} (max_wal_size; more where a slot or the archiver keeps it back). \
         What is free, SQL cannot tell: look on the server",
        bytes(totals.pg_wal)
    );
    all.push(disk);
    for row in all {
        text.push_str(&hanging("  - ", &row));
    }
}

/// A line about the size of a plan: `5 steps, 1,000,000 rows to backfill`.
pub fn summary(plan: &Plan) -> String {
    let steps = counted(i64::try_from(plan.steps.len()).unwrap_or(i64::MAX), "step");
    let backfills = plan
        .steps
        .iter()
        .filter(|s| matches!(s.work, Work::Backfill(_)));
    let rows: Option<Vec<i64>> = backfills.map(|s| s.estimate.rows).collect();
    match rows.as_deref() {
        Some([]) => steps,
        Some(rows) => {
            let all = rows.iter().fold(0, |sum: i64, n| sum.saturating_add(*n));
            format!("{steps}, about {} rows to backfill", count(all))
        }
        None => format!("{steps}, an unknown number of rows to backfill"),
    }
}

#[cfg(test)]
mod tests;
