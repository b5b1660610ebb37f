//! `pgshift repair`

use std::fmt::Write as _;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::context::App;
use super::exit::Exit;
use super::files::recorded_id;
use super::run_options::RunOptions;
use crate::backfill::Side;
use crate::error::Result;
use crate::exec::repair::Repaired;
use crate::report::text::{counted, line};

/// Mend the rows that verify found wrong, and only these. Before READY the new columns are computed
/// anew from the old ones. From READY on, where the two sides disagree, nobody can know which is the
/// newer one: it asks for --from. Exit code 1 where rows are still wrong.
#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// The migration
    id: String,
    /// The side that is right: the other one is overwritten in these rows
    #[arg(long, value_enum, value_name = "SIDE")]
    from: Option<From>,
    #[command(flatten)]
    options: RunOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    /// The old columns: the new ones are computed anew
    Old,
    /// The new columns: the old ones are computed anew
    New,
}

pub(super) async fn run(app: &App, args: &RepairArgs) -> Result<Exit> {
    let engine = app.engine(Some(&args.options))?;
    let id = recorded_id(&engine.recorded().await?, &args.id)?;
    let asked = args.from.map(|from| match from {
        From::Old => Side::Old,
        From::New => Side::New,
    });
    let all = engine.repair(&id, asked).await?;
    let tables: Vec<_> = all.iter().map(as_json).collect();
    let json = json!({ "migration": id, "tables": tables });
    app.print(&human(&id, &all), &json)?;
    if all.iter().any(|t| t.unfinished) {
        app.say("the verify was stopped before its end: verify again, there may be more");
    }
    if all.iter().all(|t| t.left.is_empty()) {
        Ok(Exit::Success)
    } else {
        Ok(Exit::Findings)
    }
}

fn as_json(of: &Repaired) -> serde_json::Value {
    let left: Vec<_> = of
        .left
        .iter()
        .map(|(row, why)| json!({ "row": row, "why": why }))
        .collect();
    json!({
        "table": of.table.to_string(), "from": of.from.name(), "mended": of.mended,
        "right": of.right, "gone": of.gone, "left": left, "unfinished": of.unfinished,
    })
}

fn human(id: &str, all: &[Repaired]) -> String {
    if all.is_empty() {
        return format!("{id}: the last verify found no wrong row\n");
    }
    let mut text = String::new();
    for of in all {
        let _ = write!(
            text,
            "{id}: {} of {} mended from the {} side and verified again",
            counted(of.mended as i64, "row"),
            line(&of.table.to_string()),
            of.from.name()
        );
        for (count, what) in [(of.right, "right by then"), (of.gone, "gone")] {
            if count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        if !of.left.is_empty() {
            let _ = write!(text, ", {} still wrong", of.left.len());
        }
        text.push('\n');
        for (row, why) in &of.left {
            let _ = writeln!(text, "  {}: {}", line(row), line(why));
        }
    }
    text
}
