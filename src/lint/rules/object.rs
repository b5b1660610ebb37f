//! Rules about views, functions, types, triggers and policies.

use crate::lint::context::Cx;
use crate::lint::{Rule, Severity};
use crate::lock::LockMode;
use crate::migration::SectionKind;
use crate::sql::ddl::{Action, AlterOpKind};
use crate::sql::lex::{TokenKind, ident_value, lex_code};

pub(super) static DROP_OBJECT: Rule = Rule {
    id: "PS408",
    slug: "drop-object",
    severity: Severity::Warning,
    since: 14,
    summary: "Dropping a view, function, type, sequence or schema breaks what still uses it.",
    why: "Running applications, and functions whose bodies name it, fail from the commit on. One \
          that the same file makes again is no finding.",
    safe: "first deploy a version that does not use it, then drop it; CREATE OR REPLACE where it \
           only changes",
    bad: "DROP VIEW totals;",
    good: "DROP VIEW totals;\nCREATE VIEW totals AS SELECT 1 AS one;",
};

pub(super) static DROP_CASCADE: Rule = Rule {
    id: "PS409",
    slug: "drop-cascade",
    severity: Severity::Warning,
    since: 14,
    summary: "CASCADE drops whatever depends on it, unnamed.",
    why: "Views, foreign keys, columns and functions go with it, also those that were made since \
          the migration was tested.",
    safe: "name what is to be dropped, without CASCADE",
    bad: "DROP TYPE mood CASCADE;",
    good: "DROP INDEX CONCURRENTLY people_mood;",
};

pub(super) static DROP_DATABASE: Rule = Rule {
    id: "PS410",
    slug: "drop-database",
    severity: Severity::Error,
    since: 14,
    summary: "A migration drops a database, or everything of a role.",
    why: "There is no way back, and no migration of an application needs it.",
    safe: "do it by hand",
    bad: "DROP DATABASE shop;",
    good: "CREATE SCHEMA shop;",
};

pub(super) static ROW_SECURITY: Rule = Rule {
    id: "PS411",
    slug: "enable-row-security",
    severity: Severity::Warning,
    since: 14,
    summary: "Row security is turned on for a table without a policy in the same file.",
    why: "Without a policy nobody but the owner sees or writes any row: applications find an empty \
          table.",
    safe: "CREATE POLICY in the same transaction, before it",
    bad: "ALTER TABLE orders ENABLE ROW LEVEL SECURITY;",
    good: "BEGIN;\nSET LOCAL lock_timeout = '1s';\nCREATE POLICY own ON orders USING (user_name = current_user);\n\
           ALTER TABLE orders ENABLE ROW LEVEL SECURITY;\nCOMMIT;",
};

pub(super) static CREATE_TRIGGER: Rule = Rule {
    id: "PS412",
    slug: "create-trigger",
    severity: Severity::Note,
    since: 14,
    summary: "A new trigger on a table in use.",
    why: "CREATE TRIGGER takes SHARE ROW EXCLUSIVE: writes wait until the commit. From then on \
          every such write runs it: an error in it is an error of the application's statement.",
    safe: "a transaction of its own, with a short lock_timeout",
    bad: "CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();",
    good: "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;",
};

pub(super) static DISABLE_TRIGGER: Rule = Rule {
    id: "PS413",
    slug: "disable-trigger",
    severity: Severity::Warning,
    since: 14,
    summary: "Triggers of a table in use are turned off.",
    why: "DISABLE TRIGGER ALL turns foreign keys off too. Until they are turned on again, writes \
          of everybody pass unchecked, and what was missed is never made up for.",
    safe: "SET LOCAL session_replication_role = replica turns them off for the own session alone",
    bad: "ALTER TABLE orders DISABLE TRIGGER ALL;",
    good: "ALTER TABLE orders SET (autovacuum_enabled = off);",
};

pub(super) fn check(cx: &mut Cx<'_>) {
    match &cx.unit.action {
        Action::DropView {
            names,
            materialized,
            cascade,
            ..
        } => {
            let what = if *materialized {
                "materialized view"
            } else {
                "view"
            };
            for name in names {
                object(cx, what, &name.name, &name.to_string(), *cascade);
            }
        }
        Action::DropSequence { names, cascade, .. } => {
            for name in names {
                object(cx, "sequence", &name.name, &name.to_string(), *cascade);
            }
        }
        Action::Drop {
            object: kind,
            names,
            cascade,
            ..
        } => dropped(cx, kind, names, *cascade),
        Action::DropTable {
            names,
            cascade: true,
            ..
        } if names.iter().any(|n| cx.in_use(n)) => cascades(cx, "the table"),
        Action::DropIndex { cascade: true, .. } => cascades(cx, "the index"),
        Action::OutsideTransaction { leading } if leading == "DROP DATABASE" => {
            let finding = cx.found(
                &DROP_DATABASE,
                cx.whole(),
                "DROP DATABASE has no way back".to_owned(),
            );
            cx.report(finding);
        }
        Action::CreateTrigger { table, name, .. } if cx.in_use(table) && !cx.pgshift() => {
            let finding = cx
                .found(
                    &CREATE_TRIGGER,
                    cx.whole(),
                    format!(
                        "writes of {} wait until the commit, and run {name} from then on",
                        cx.named(table)
                    ),
                )
                .on(cx, table, LockMode::ShareRowExclusive);
            cx.report(finding);
        }
        Action::AlterTable { .. } => alter(cx),
        _ => {}
    }
}

fn alter(cx: &mut Cx<'_>) {
    let ops: Vec<_> = cx.ops().collect();
    for (name, op) in ops {
        match &op.kind {
            AlterOpKind::RowSecurity => {
                let text = cx.sql_of(op).to_ascii_lowercase();
                let covered = cx.makes.policies.contains(&name.name);
                if text.starts_with("enable") && !covered {
                    let finding = cx.found(
                        &ROW_SECURITY,
                        op.span,
                        format!(
                            "without a policy, {} is empty for everyone but its owner",
                            cx.named(name)
                        ),
                    );
                    cx.report(finding);
                }
            }
            AlterOpKind::DisableTrigger { name: trigger } => {
                let what = trigger
                    .as_ref()
                    .map_or_else(|| "all triggers".to_owned(), |t| format!("trigger {t}"));
                let finding = cx
                    .found(
                        &DISABLE_TRIGGER,
                        op.span,
                        format!("{what} of {} are off for every session", cx.named(name)),
                    )
                    .on(cx, name, LockMode::ShareRowExclusive);
                cx.report(finding);
            }
            AlterOpKind::DropColumn { cascade: true, .. }
            | AlterOpKind::DropConstraint { cascade: true, .. } => cascades(cx, "it"),
            _ => {}
        }
    }
}

/// DROP of what has no statement of its own.
fn dropped(cx: &mut Cx<'_>, kind: &str, names: &str, cascade: bool) {
    let what = match kind {
        "FUNCTION" | "PROCEDURE" | "ROUTINE" | "AGGREGATE" | "TYPE" | "DOMAIN" | "SCHEMA"
        | "EXTENSION" | "OPERATOR" | "COLLATION" | "CAST" => kind.to_ascii_lowercase(),
        "OWNED" | "OWNED BY" => {
            let finding = cx.found(
                &DROP_DATABASE,
                cx.whole(),
                "DROP OWNED drops everything of a role".to_owned(),
            );
            cx.report(finding);
            return;
        }
        _ => return,
    };
    // The name before the parameters: `app.f(int, text)`.
    let tokens = lex_code(names);
    let mut name = None;
    for (i, token) in tokens.iter().enumerate() {
        let next = tokens.get(i + 1).map(|t| t.kind);
        if matches!(token.kind, TokenKind::Word | TokenKind::QuotedIdent)
            && next != Some(TokenKind::Dot)
        {
            name = ident_value(*token, names);
            break;
        }
    }
    let name = name.unwrap_or_default();
    let shown: String = names
        .trim_end_matches(|c: char| c.is_ascii_alphabetic() || c.is_whitespace())
        .trim()
        .to_owned();
    let shown = if shown.is_empty() || shown.len() > 60 || shown.contains('\n') {
        name.clone()
    } else {
        shown
    };
    object(cx, &what, &name, &shown, cascade);
}

fn object(cx: &mut Cx<'_>, what: &str, name: &str, shown: &str, cascade: bool) {
    if cx.world.made(name) || cx.world.made_type(name) || cx.unit.section == SectionKind::Contract {
        return;
    }
    if !cx.makes.after(cx.number, name) {
        let finding = cx
            .found(
                &DROP_OBJECT,
                cx.whole(),
                format!("what still uses the {what} {shown} fails"),
            )
            .label("gone from the commit on");
        cx.report(finding);
    }
    if cascade {
        cascades(cx, &format!("the {what}"));
    }
}

fn cascades(cx: &mut Cx<'_>, what: &str) {
    let finding = cx.found(
        &DROP_CASCADE,
        cx.whole(),
        format!("CASCADE drops whatever depends on {what}, unnamed"),
    );
    cx.report(finding);
}
