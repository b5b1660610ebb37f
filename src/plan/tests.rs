//! Whole plans, from the text of a file and a catalog built by hand.

mod backfills;
mod errors;
mod renames;
mod shapes;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::probe::{Answer, Probed, from_text};
use super::testing::{catalog, column, table};
use super::{Draft, Plan, Step, Undo, Work, build};
use crate::catalog::{Catalog, Trigger};
use crate::error::{Error, Result};
use crate::migration::parse;
use crate::sql::Source;

/// The plan of a file, with what its expressions read taken from the text.
fn planned(catalog: &Catalog, file: &str) -> Result<Plan> {
    planned_with(catalog, file, |_| {})
}

fn planned_with(catalog: &Catalog, file: &str, answers: impl FnOnce(&mut Probed)) -> Result<Plan> {
    let source = Source::new("m.sql", file);
    let migration = parse("20260101_m", source.clone()).map_err(|all| Error::at(&source, all))?;
    let draft = Draft::new(&migration, catalog)?;
    let mut probed = Probed {
        answers: from_text(&draft),
        checked: true,
        ..Probed::default()
    };
    answers(&mut probed);
    build(&draft, &probed)
}

/// A plan as text: phase, title, SQL, way back.
fn shown(plan: &Plan) -> String {
    let mut out = String::new();
    for step in &plan.steps {
        let _ = writeln!(out, "{} | {}", step.phase, step.title);
        show(&mut out, step, "  ");
    }
    for warning in &plan.warnings {
        let _ = writeln!(out, "! {warning}");
    }
    out
}

fn show(out: &mut String, step: &Step, pad: &str) {
    let lines = match &step.work {
        // Functions have tests of their own.
        Work::Sql { statements } => statements.iter().map(|s| cut(s)).collect(),
        Work::Concurrent { sql, .. } => vec![format!("(alone) {sql}")],
        Work::Backfill(spec) => vec![spec.chunk_sql(&spec.table, spec.shown_bounds())],
        Work::Verify(spec) => vec![format!(
            "{} of {}",
            spec.wrong,
            spec.condition.as_deref().unwrap_or("all")
        )],
        Work::Check { sql } => vec![sql.clone()],
    };
    for line in lines {
        let _ = writeln!(out, "{pad}{}", line.replace('\n', "\n    "));
    }
    match &step.undo {
        Undo::Nothing => {}
        Undo::Irreversible { reason } => {
            let _ = writeln!(out, "{pad}no way back: {reason}");
        }
        Undo::Steps { steps, lost } => {
            for undo in steps {
                let _ = writeln!(out, "{pad}< {}", undo.title);
                show(out, undo, &format!("{pad}  "));
            }
            for lost in lost {
                let _ = writeln!(out, "{pad}lost: {lost}");
            }
        }
    }
}

fn cut(sql: &str) -> String {
    match sql.split_once("AS $pgshift$") {
        Some((head, _)) => format!("{} …", head.lines().next().unwrap_or_default()),
        None => sql.to_owned(),
    }
}
