//! Rules about the file itself.

use crate::lint::context::{Cx, is_unknown};
use crate::lint::read::has;
use crate::lint::{Rule, Severity};
use crate::sql::ddl::{Action, AlterOpKind};

pub(crate) static NOT_SQL: Rule = Rule {
    id: "PS801",
    slug: "not-sql",
    severity: Severity::Error,
    since: 14,
    summary: "A part of the file cannot be read as SQL.",
    why: "A quote, comment or parenthesis that is not closed takes in the statements after it: \
          they would not run as they look. Nothing after it is judged.",
    safe: "close it",
    bad: "CREATE TABLE t (a int DEFAULT (1);\nALTER TABLE u ADD COLUMN b int;",
    good: "CREATE TABLE t (a int DEFAULT (1));",
};

pub(crate) static INVALID_FILE: Rule = Rule {
    id: "PS802",
    slug: "invalid-file",
    severity: Severity::Error,
    since: 14,
    summary: "The file breaks the format of pgshift's migration files, or a directive in it is wrong.",
    why: "`pgshift plan` refuses such a file.",
    safe: "see docs/migration-files.md",
    bad: "-- pgshift: allow drop-table\nDROP TABLE t;",
    good: "-- pgshift: allow drop-table reason=\"not read since release 41\"\nDROP TABLE t;",
};

pub(crate) static ENCODING: Rule = Rule {
    id: "PS803",
    slug: "file-encoding",
    severity: Severity::Error,
    since: 14,
    summary: "The file is not UTF-8.",
    why: "The server reads what a client sends in the client's encoding; text in another one \
          arrives as other characters, or is refused. A file with zero bytes is no text at all, \
          and is not read.",
    safe: "save the file as UTF-8",
    bad: "",
    good: "SELECT 1;",
};

pub(crate) static PSQL_COMMAND: Rule = Rule {
    id: "PS804",
    slug: "psql-command",
    severity: Severity::Note,
    since: 14,
    summary: "Commands of psql in the file are left out.",
    why: "They are not SQL: only psql runs them, and what `\\i` includes or `\\gexec` makes is not \
          seen here.",
    safe: "write SQL",
    bad: "\\i other.sql\nSELECT 1;",
    good: "SELECT 1;",
};

pub(crate) static UNRECOGNISED: Rule = Rule {
    id: "PS805",
    slug: "unrecognised-statement",
    severity: Severity::Warning,
    since: 14,
    summary: "A statement is not recognised, so it is not judged.",
    why: "It may be of an extension, of a newer server, or wrong. Nothing is known of its locks.",
    safe: "read its documentation, and allow this rule where it is harmless",
    bad: "FROBNICATE TABLE t;",
    good: "ANALYZE t;",
};

pub(crate) static DYNAMIC_SQL: Rule = Rule {
    id: "PS806",
    slug: "dynamic-sql",
    severity: Severity::Note,
    since: 14,
    summary: "SQL is made at run time, so it is not judged.",
    why: "Text that EXECUTE puts together from variables is known only when it runs. Constant \
          texts, and templates of format(), are judged.",
    safe: "write the statement out, or use format() with a constant template",
    bad: "DO $$ DECLARE t text := 'a'; BEGIN EXECUTE 'DROP TABLE ' || t; END $$;",
    good: "DO $$ BEGIN EXECUTE format('ANALYZE %I', 'a'); END $$;",
};

pub(crate) static UNFINISHED_TRANSACTION: Rule = Rule {
    id: "PS807",
    slug: "unfinished-transaction",
    severity: Severity::Error,
    since: 14,
    summary: "A transaction is begun and never ended.",
    why: "When the connection closes, everything in it is rolled back; until then its locks are \
          held.",
    safe: "end it with COMMIT",
    bad: "BEGIN;\nCREATE TABLE t (a int);",
    good: "BEGIN;\nCREATE TABLE t (a int);\nCOMMIT;",
};

pub(crate) static TRANSACTION_CONTROL: Rule = Rule {
    id: "PS808",
    slug: "transaction-control",
    severity: Severity::Warning,
    since: 14,
    summary: "The file begins or ends a transaction within the one that its runner has begun.",
    why: "A nested BEGIN only warns, but the COMMIT that follows ends the runner's transaction: \
          what comes after is not rolled back where it fails, and the runner's own record of the \
          migration may be lost or written without it.",
    safe: "leave BEGIN and COMMIT out",
    bad: "-- +goose Up\nBEGIN;\nCREATE TABLE t (a int);\nCOMMIT;",
    good: "-- +goose Up\nCREATE TABLE t (a int);",
};

pub(crate) static UNKNOWN_RULE: Rule = Rule {
    id: "PS809",
    slug: "unknown-rule",
    severity: Severity::Error,
    since: 14,
    summary: "An `allow` names no rule.",
    why: "It allows nothing: a misspelt name would hide that the hazard is still reported.",
    safe: "`pgshift explain` lists the rules",
    bad: "-- pgshift: allow dropping reason=\"old\"\nDROP TABLE t;",
    good: "-- pgshift: allow drop-table reason=\"old\"\nDROP TABLE t;",
};

pub(crate) static UNUSED_ALLOW: Rule = Rule {
    id: "PS810",
    slug: "unused-allow",
    severity: Severity::Warning,
    since: 14,
    summary: "An `allow` allows what its statement does not do.",
    why: "It may have been meant for another statement, or the statement was changed since. Left \
          where it is, it would let a later change through unseen.",
    safe: "remove it, or put it directly before the statement that it is about",
    bad: "-- pgshift: allow drop-table reason=\"old\"\nSELECT 1;",
    good: "-- pgshift: allow drop-table reason=\"old\"\nDROP TABLE t;",
};

pub(super) static RULES: [&Rule; 10] = [
    &NOT_SQL,
    &INVALID_FILE,
    &ENCODING,
    &PSQL_COMMAND,
    &UNRECOGNISED,
    &DYNAMIC_SQL,
    &UNFINISHED_TRANSACTION,
    &TRANSACTION_CONTROL,
    &UNKNOWN_RULE,
    &UNUSED_ALLOW,
];

/// First words of statements that change no schema and lock no table of their own. (PREPARE and
/// cursors read; what EXECUTE runs was judged where it was prepared.)
const HARMLESS: [&str; 16] = [
    "CHECKPOINT",
    "CLOSE",
    "DEALLOCATE",
    "DECLARE",
    "DISCARD",
    "EXECUTE",
    "FETCH",
    "IMPORT",
    "LISTEN",
    "LOAD",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "REASSIGN",
    "UNLISTEN",
    "SHOW",
];

pub(super) fn check(cx: &mut Cx<'_>) {
    match &cx.unit.action {
        Action::Opaque { .. } if cx.unit.inside.is_some() => {
            if std::mem::replace(&mut cx.said.dynamic, true) {
                return;
            }
            let finding = cx.found(
                &DYNAMIC_SQL,
                cx.whole(),
                "the SQL that EXECUTE runs is made at run time".to_owned(),
            );
            cx.report(finding);
        }
        Action::Opaque { leading } => {
            let first = leading.split(' ').next().unwrap_or_default();
            let broken = cx.script.has_problem_in(cx.unit.span);
            if broken || HARMLESS.contains(&first) || has(&cx.unit.sql, "all in tablespace") {
                return;
            }
            let what = if leading.is_empty() {
                "this statement".to_owned()
            } else {
                format!("`{leading} …`")
            };
            let finding = cx.found(
                &UNRECOGNISED,
                cx.whole(),
                format!("{what} is not recognised"),
            );
            cx.report(finding);
        }
        _ => {}
    }
    let unknown: Vec<_> = cx.ops().filter(|(_, op)| is_unknown(&op.kind)).collect();
    for (table, op) in unknown {
        let AlterOpKind::Other { leading } = &op.kind else {
            continue;
        };
        let finding = cx.found(
            &UNRECOGNISED,
            op.span,
            format!(
                "`{leading} …` of ALTER TABLE {} is not recognised",
                cx.named(table)
            ),
        );
        cx.report(finding);
    }
}
