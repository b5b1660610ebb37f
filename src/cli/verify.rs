//! `pgshift verify`

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use super::run_options::RunOptions;
use crate::backfill::sample::Size;
use crate::error::{Error, Result};
use crate::exec::verify::{Asked, Found, Sampled, Verified};
use crate::report::text::{count, counted, line};

/// Wrong rows of a table that are shown to people.
const SHOWN: usize = 20;

/// Compare every row of what a migration backfilled with what it should be, and name the wrong
/// ones by key. A verify that is stopped or killed goes on where it was. Exit code 1 where rows are
/// wrong.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The migration
    id: String,
    /// Look at that many randomly chosen rows (10000), or at such a share of them (1%), instead of
    /// all; this never counts as the verify that contract wants
    #[arg(long, value_name = "SIZE")]
    sample: Option<Size>,
    /// Show what wrong rows have and should have, beside their keys
    #[arg(long)]
    values: bool,
    /// Write all wrong rows to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Begin anew, not where an earlier verify was stopped
    #[arg(long, conflicts_with = "sample")]
    restart: bool,
    #[command(flatten)]
    options: RunOptions,
}

pub(super) async fn run(app: &App, args: &VerifyArgs) -> Result<Exit> {
    let engine = app.engine(Some(&args.options))?;
    let id = recorded_id(&engine.recorded().await?, &args.id)?;
    let asked = Asked {
        values: args.values,
        anew: args.restart,
    };
    let (all, text, json) = if let Some(size) = args.sample {
        let sampled = engine.sample(&id, size, &asked).await?;
        let text = sampled.iter().map(|s| sampled_text(&id, s)).collect();
        let json = sampled_json(&id, &sampled);
        let found: Vec<Verified> = sampled.into_iter().map(|s| s.found).collect();
        (found, text, json)
    } else {
        let all = engine.verify(&id, &asked).await?;
        let text = verified_text(&id, &all);
        let json = verified_json(&id, &all);
        (all, text, json)
    };
    if let Some(path) = &args.out {
        write(path, &all)?;
    }
    app.print(&text, &json)?;
    let unguarded = all.iter().filter(|v| v.unguarded);
    for verified in unguarded {
        app.say(&format!(
            "the sync trigger of {} is disabled: rows that are right do not stay so",
            verified.table
        ));
    }
    if all.iter().any(|v| v.wrong > 0) {
        app.say("`pgshift repair` mends the rows that a full verify found");
        return Ok(Exit::Findings);
    }
    Ok(if all.iter().any(|v| v.unguarded) {
        Exit::Findings
    } else {
        Exit::Success
    })
}

fn row_text(of: &Verified, found: &Found) -> String {
    let mut text = line(&of.name(&found.row));
    let said = |value: &Option<String>| value.as_deref().map_or_else(|| "null".to_owned(), line);
    for (n, value) in found.values.iter().enumerate() {
        let _ = write!(
            text,
            "{} {} is {}, should be {}",
            if n == 0 { ":" } else { ";" },
            line(&value.column),
            said(&value.is),
            said(&value.should)
        );
    }
    text
}

fn rows_text(of: &Verified) -> String {
    let mut text = String::new();
    for found in of.listed.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", row_text(of, found));
    }
    let more = of.wrong - of.listed.len().min(SHOWN) as i64;
    if more > 0 {
        let _ = writeln!(text, "  and {} more (--out FILE lists them)", count(more));
    }
    text
}

fn verified_text(id: &str, all: &[Verified]) -> String {
    if all.iter().all(|v| v.wrong == 0) {
        let tables: Vec<_> = all.iter().map(|v| line(&v.table.to_string())).collect();
        return format!("{id}: no wrong row in {}\n", tables.join(", "));
    }
    let mut text = String::new();
    for of in all.iter().filter(|v| v.wrong > 0) {
        let wrong = counted(of.wrong, "wrong row");
        let _ = writeln!(text, "{id}: {wrong} in {}", line(&of.table.to_string()));
        text.push_str(&rows_text(of));
    }
    text
}

/// A share as percent with two digits that count.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent > 0.0 && percent < 10.0 {
        (1.0 - percent.log10().floor()).clamp(0.0, 12.0) as usize
    } else {
        1
    };
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text} %")
}

fn sampled_text(id: &str, of: &Sampled) -> String {
    let mut text = format!(
        "{id}: {} wrong of {} of {}, chosen at random: at most {} are wrong, with 95 % confidence; \
         not a full verify\n",
        count(of.found.wrong),
        counted(of.found.rows, "row"),
        line(&of.found.table.to_string()),
        percent(of.at_most)
    );
    text.push_str(&rows_text(&of.found));
    text
}

fn row_json(of: &Verified, found: &Found) -> Value {
    let key: serde_json::Map<String, Value> = of
        .key
        .iter()
        .zip(&found.row.key)
        .map(|(column, text)| (column.clone(), Value::from(text.as_str())))
        .collect();
    let mut json = json!({
        "table": of.table.to_string(), "leaf": found.row.leaf.to_string(), "key": key,
        "tid": found.row.tid,
    });
    if !found.values.is_empty() {
        let values = found.values.iter();
        json["values"] = values
            .map(|v| json!({ "column": v.column, "is": v.is, "should": v.should }))
            .collect();
    }
    json
}

fn table_json(of: &Verified) -> Value {
    let rows: Vec<_> = of.listed.iter().map(|found| row_json(of, found)).collect();
    json!({
        "table": of.table.to_string(), "rows": of.rows, "wrong": of.wrong, "listed": rows,
        "trigger_disabled": of.unguarded,
    })
}

fn verified_json(id: &str, all: &[Verified]) -> Value {
    let tables: Vec<_> = all.iter().map(|v| v.table.to_string()).collect();
    let found: Vec<_> = all.iter().map(table_json).collect();
    let wrong: i64 = all.iter().map(|v| v.wrong).sum();
    json!({ "migration": id, "tables": tables, "wrong": wrong, "found": found })
}

fn sampled_json(id: &str, all: &[Sampled]) -> Value {
    let found: Vec<_> = all
        .iter()
        .map(|s| {
            let mut json = table_json(&s.found);
            json["at_most"] = Value::from(s.at_most);
            json
        })
        .collect();
    let wrong: i64 = all.iter().map(|s| s.found.wrong).sum();
    json!({ "migration": id, "sample": true, "wrong": wrong, "confidence": 0.95, "found": found })
}

fn write(path: &std::path::Path, all: &[Verified]) -> Result<()> {
    let mut text = String::new();
    for of in all {
        for found in &of.listed {
            let _ = writeln!(text, "{}", row_json(of, found));
        }
    }
    std::fs::write(path, text).map_err(|e| {
        Error::usage(format!("{} cannot be written: {e}", path.display()))
            .left("the verify has ended; its wrong rows are in pgshift.wrong_row")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_two_digits() {
        for (share, text) in [
            (0.0003, "0.03 %"),
            (0.000_296, "0.03 %"),
            (0.0047, "0.47 %"),
            (0.123_4, "12.3 %"),
            (1.0, "100 %"),
            (0.0, "0 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }
}
