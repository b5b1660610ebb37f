//! The rule about types of columns.

use crate::catalog::Column;
use crate::lint::context::Cx;
use crate::lint::{Rule, Severity};
use crate::lock::LockMode;
use crate::migration::SectionKind;
use crate::plan::work::{Work, op_work};
use crate::sql::RelName;
use crate::sql::ddl::{AlterOp, AlterOpKind};
use crate::sql::lex::{TokenKind, lex_code};

pub(super) static CHANGE_TYPE: Rule = Rule {
    id: "PS307",
    slug: "change-column-type",
    severity: Severity::Error,
    since: 14,
    summary: "A change of a column's type that rewrites the table, or may.",
    why: "Where the stored form of the values changes, or could be too long for the new type, the \
          table and its indexes are written anew under ACCESS EXCLUSIVE. Free are: varchar to a \
          longer varchar or text, numeric to a greater precision of the same scale, times to a \
          greater precision, cidr to inet, and timestamp to timestamptz and back while the \
          session's time zone is UTC. The old type is taken from the catalog, or from the files \
          before; where nothing tells it, a type that could be free is a warning. A CHECK of the \
          column is checked again, which reads every row.",
    safe: "add a column of the new type, keep both in step, fill it in batches, move the readers, \
           and drop the old one",
    bad: "ALTER TABLE orders ADD COLUMN number int;\n\
          -- a later file:\n\
          ALTER TABLE orders ALTER COLUMN number TYPE bigint;",
    good: "ALTER TABLE orders ADD COLUMN code varchar(10);\n\
           -- a later file:\n\
           ALTER TABLE orders ALTER COLUMN code TYPE varchar(20);",
};

pub(super) fn check(cx: &mut Cx<'_>) {
    let ops: Vec<_> = cx.ops().collect();
    for (name, op) in ops {
        if matches!(op.kind, AlterOpKind::SetType { .. }) && cx.heavy(name) {
            change(cx, name, op);
        }
    }
}

fn change(cx: &mut Cx<'_>, name: &RelName, op: &AlterOp) {
    let AlterOpKind::SetType {
        column,
        type_text,
        using,
        collate,
        ..
    } = &op.kind
    else {
        return;
    };
    let old = cx.table(name).and_then(|t| t.column(column));
    let on = cx.named(name);
    let facts = cx.facts(name);
    let (severity, message, help) = match old {
        Some(old) => {
            let utc = using.is_none() && is_zone_change(old, type_text);
            if utc && cx.world.catalog().utc {
                return;
            }
            match op_work(&op.kind, cx.table(name), cx.world.catalog()) {
                Work::None => return,
                Work::Scan => (
                    Severity::Error,
                    format!(
                        "the CHECKs of {column} are checked again: every row of {on}{facts} is read"
                    ),
                    Some(
                        "drop the CHECK, change the type, and add the CHECK again: NOT VALID, then VALIDATE CONSTRAINT",
                    ),
                ),
                _ => (
                    Severity::Error,
                    format!(
                        "{column} from {} to {type_text}: every row of {on}{facts} is written anew",
                        old.type_name
                    ),
                    utc.then_some(
                        "where the old values are UTC, SET TIME ZONE 'UTC' in the same session: \
                         then nothing is rewritten",
                    ),
                ),
            }
        }
        None if may_be_free(type_text) && using.is_none() && !collate => (
            Severity::Warning,
            format!(
                "{column} to {type_text}: unless its old type allows it, every row of {on} is \
                 written anew"
            ),
            Some(
                "the old type is not known here: --catalog or --snapshot tells it, or lint the \
                 files from the first on; where it is rewritten, add a new column instead",
            ),
        ),
        None => (
            Severity::Error,
            format!("{column} to {type_text}: every row of {on} is written anew"),
            None,
        ),
    };
    let mut finding = cx
        .found(&CHANGE_TYPE, op.span, message)
        .severity(severity)
        .on(cx, name, LockMode::AccessExclusive);
    let scanned = cx
        .table(name)
        .is_some_and(|table| op_work(&op.kind, Some(table), cx.world.catalog()) == Work::Scan);
    if cx.pgshift() && cx.unit.section != SectionKind::Contract && !scanned {
        finding = finding
            .severity(Severity::Note)
            .help("pgshift does it online: a column of the new type is swapped in at contract");
        finding.planned = true;
    } else if let Some(help) = help {
        finding = finding.help(help);
    } else {
        finding = cx.with_safe_form(finding);
    }
    cx.report(finding);
}

/// From timestamp to timestamptz, or back: free where the session's time zone is UTC
/// (`ATColumnChangeRequiresRewrite` in `tablecmds.c`).
fn is_zone_change(old: &Column, new: &str) -> bool {
    let zoned = |text: &str| {
        let words: Vec<String> = lex_code(text)
            .into_iter()
            .filter(|t| t.kind == TokenKind::Word)
            .map(|t| t.text(text).to_ascii_lowercase())
            .collect();
        match words.join(" ").as_str() {
            "timestamptz" | "timestamp with time zone" => Some(true),
            "timestamp" | "timestamp without time zone" => Some(false),
            _ => None,
        }
    };
    matches!((zoned(&old.type_name), zoned(new)), (Some(a), Some(b)) if a != b)
        && !old.type_name.contains('(')
        && !new.contains('(')
}

/// A type that some other type becomes without a rewrite.
fn may_be_free(new: &str) -> bool {
    let first = lex_code(new)
        .first()
        .map(|t| t.text(new).to_ascii_lowercase())
        .unwrap_or_default();
    matches!(
        first.as_str(),
        "text"
            | "varchar"
            | "character"
            | "numeric"
            | "decimal"
            | "timestamp"
            | "timestamptz"
            | "time"
            | "timetz"
            | "interval"
            | "varbit"
            | "bit"
            | "inet"
    ) && !new.contains('[')
}
