//! ALTER TABLE and its sub-commands.

use super::column::{column_def, table_constraint, type_text};
use super::rights::grantee;
use super::{AlterOp, AlterOpKind, Cursor};
use crate::sql::lex::TokenKind;

/// The sub-commands from the cursor to its end.
pub(super) fn ops(cursor: Cursor<'_>) -> Vec<AlterOp> {
    let parts = cursor.split_commas();
    parts
        .into_iter()
        .map(|part| {
            let start = part.offset();
            let mut end = part;
            end.finish();
            AlterOp {
                kind: op(part),
                span: end.span_from(start),
            }
        })
        .collect()
}

/// The one sub-command of ALTER SEQUENCE.
pub(super) fn sequence_op(cursor: Cursor<'_>) -> Vec<AlterOp> {
    let own = !(cursor.is_any(&["rename", "owner"])
        || (cursor.is("set")
            && ["schema", "logged", "unlogged"]
                .iter()
                .any(|w| cursor.is_at(1, w))));
    if !own {
        return ops(cursor);
    }
    let start = cursor.offset();
    let (mut end, mut found) = (cursor, cursor);
    end.finish();
    found.skip_to(|c| c.is("restart"));
    vec![AlterOp {
        kind: AlterOpKind::SequenceOptions {
            restart: !found.done(),
        },
        span: end.span_from(start),
    }]
}

fn op(part: Cursor<'_>) -> AlterOpKind {
    let mut c = part;
    match op_kind(&mut c) {
        Some(kind) if c.done() => kind,
        _ => AlterOpKind::Other {
            leading: part.leading(3),
        },
    }
}

fn cascade(c: &mut Cursor<'_>) -> bool {
    let cascade = c.eat("cascade");
    if !cascade {
        let _ = c.eat("restrict");
    }
    cascade
}

fn op_kind(c: &mut Cursor<'_>) -> Option<AlterOpKind> {
    if c.eat("add") {
        return add(c);
    }
    if c.eat("alter constraint") {
        let name = c.ident()?;
        let mut said = *c;
        said.skip_to(|c| c.is("enforced"));
        let not = said.behind_is("not");
        let enforced = (!said.done()).then_some(!not);
        c.finish();
        return Some(AlterOpKind::AlterConstraint { name, enforced });
    }
    if c.eat("alter") {
        let _ = c.eat("column");
        let column = c.ident()?;
        return alter_column(c, column);
    }
    if c.eat("drop") {
        return drop(c);
    }
    if c.eat("rename") {
        return rename(c);
    }
    if c.eat("validate constraint") {
        return Some(AlterOpKind::ValidateConstraint { name: c.ident()? });
    }
    if c.eat("set") {
        return set(c);
    }
    if c.eat("reset") {
        return options(c);
    }
    if c.eat("owner to") {
        let to = grantee(c);
        c.finish();
        return Some(AlterOpKind::Owner { to });
    }
    if c.eat("attach partition") {
        let partition = c.rel()?;
        let default = c.eat("default");
        c.finish();
        return Some(AlterOpKind::AttachPartition { partition, default });
    }
    if c.eat("detach partition") {
        return Some(AlterOpKind::DetachPartition {
            partition: c.rel()?,
            concurrently: c.eat("concurrently"),
            finalize: c.eat("finalize"),
        });
    }
    if c.is_any(&["enable", "disable", "force", "no"]) {
        return enable(c);
    }
    if c.eat("replica identity") {
        c.finish();
        return Some(AlterOpKind::ReplicaIdentity);
    }
    if c.eat("cluster on") {
        c.ident()?;
        return Some(AlterOpKind::ClusterOn);
    }
    if c.eat("not of") {
        return Some(AlterOpKind::OfType);
    }
    if c.eat("of") {
        c.rel()?;
        return Some(AlterOpKind::OfType);
    }
    if c.eat("inherit") {
        return Some(AlterOpKind::Inherit { parent: c.rel()? });
    }
    // Of a foreign table.
    if c.eat("options") {
        c.parens()?;
        return Some(AlterOpKind::SetColumnOptions {
            column: None,
            names: Vec::new(),
        });
    }
    None
}

fn add(c: &mut Cursor<'_>) -> Option<AlterOpKind> {
    if c.eat("column") {
        let if_not_exists = c.eat("if not exists");
        return Some(AlterOpKind::AddColumn(Box::new(column_def(
            c,
            if_not_exists,
        )?)));
    }
    // The words that start a table constraint are reserved, so they cannot name a column.
    let constraint = c.is_any(&["constraint", "check", "unique", "primary", "foreign"])
        || (c.is("exclude") && (c.is_at(1, "using") || !is_type_ahead(*c)))
        || (c.is("not") && c.is_at(1, "null"));
    if constraint {
        return Some(AlterOpKind::AddConstraint(Box::new(table_constraint(c)?)));
    }
    let if_not_exists = c.eat("if not exists");
    Some(AlterOpKind::AddColumn(Box::new(column_def(
        c,
        if_not_exists,
    )?)))
}

/// True where the word here is followed by another: `ADD exclude text` is a column.
fn is_type_ahead(mut c: Cursor<'_>) -> bool {
    c.bump();
    c.kind() != Some(TokenKind::LParen)
}

fn drop(c: &mut Cursor<'_>) -> Option<AlterOpKind> {
    if c.eat("constraint") {
        let if_exists = c.eat("if exists");
        return Some(AlterOpKind::DropConstraint {
            name: c.ident()?,
            if_exists,
            cascade: cascade(c),
        });
    }
    let _ = c.eat("column");
    let if_exists = c.eat("if exists");
    Some(AlterOpKind::DropColumn {
        name: c.ident()?,
        if_exists,
        cascade: cascade(c),
    })
}

fn rename(c: &mut Cursor<'_>) -> Option<AlterOpKind> {
    if c.eat("to") {
        return Some(AlterOpKind::RenameTable { to: c.ident()? });
    }
    let constraint = c.eat("constraint");
    if !constraint {
        let _ = c.eat("column");
    }
    let from = c.ident()?;
    if !c.eat("to") {
        return None;
    }
    let to = c.ident()?;
    Some(if constraint {
        AlterOpKind::RenameConstraint { from, to }
    } else {
        AlterOpKind::RenameColumn { from, to }
    })
}

fn set(c: &mut Cursor<'_>) -> Option<AlterOpKind> {
    if c.kind() == Some(TokenKind::LParen) {
        return options(c);
    }
    if c.eat("schema") {
        return Some(AlterOpKind::SetSchema { to: c.ident()? });
    }
    if c.eat("tablespace") {
        c.ident()?;
        let _ = c.eat("nowait");
        return Some(AlterOpKind::SetTablespace);
    }
    if c.eat("access method") {
        c.ident()?;
        return Some(AlterOpKind::SetAccessMethod);
    }
    if c.eat("without cluster") {
        return Some(AlterOpKind::ClusterOn);
    }
    if c.eat("without oids") {
        return Some(AlterOpKind::WithoutOids);
    }
    if c.eat("logged") {
        return Some(AlterOpKind::SetLogged { logged: true });
    }
    if c.eat("unlogged") {
        return Some(AlterOpKind::SetLogged { logged: false });
    }
    None
}

/// `(fillfactor = 70, autovacuum_enabled)`, after SET or RESET.
fn options(c: &mut Cursor<'_>) -> Option<AlterOpKind> {
    let group = c.group()?;
    Some(AlterOpKind::SetOptions {
        names: option_names(group),
    })
}

fn option_names(group: Cursor<'_>) -> Vec<String> {
    group
        .split_commas()
        .into_iter()
        .filter_map(|mut option| option.rel())
        .map(|name| name.to_string())
        .collect()
}

fn enable(c: &mut Cursor<'_>) -> Option<AlterOpKind> {
    if c.eat("no inherit") {
        return Some(AlterOpKind::NoInherit { parent: c.rel()? });
    }
    let disable = c.is("disable");
    for words in [
        "enable row level security",
        "disable row level security",
        "force row level security",
        "no force row level security",
    ] {
        if c.eat(words) {
            return Some(AlterOpKind::RowSecurity);
        }
    }
    if !c.eat("enable") && !c.eat("disable") {
        return None;
    }
    let _ = c.eat("replica") || c.eat("always");
    if c.eat("rule") {
        c.ident()?;
        return Some(AlterOpKind::Rule);
    }
    if !c.eat("trigger") {
        return None;
    }
    let name = if c.eat("all") || c.eat("user") {
        None
    } else {
        Some(c.ident()?)
    };
    Some(if disable {
        AlterOpKind::DisableTrigger { name }
    } else {
        AlterOpKind::EnableTrigger { name }
    })
}

fn alter_column(c: &mut Cursor<'_>, column: String) -> Option<AlterOpKind> {
    if c.eat("set not null") {
        return Some(AlterOpKind::SetNotNull { column });
    }
    if c.eat("drop not null") {
        return Some(AlterOpKind::DropNotNull { column });
    }
    if c.eat("drop default") {
        return Some(AlterOpKind::DropDefault { column });
    }
    if c.eat("drop identity") {
        let _ = c.eat("if exists");
        return Some(AlterOpKind::DropIdentity { column });
    }
    if c.eat("drop expression") {
        let _ = c.eat("if exists");
        return Some(AlterOpKind::DropExpression { column });
    }
    if c.eat("set default") {
        let start = c.offset();
        if c.done() {
            return None;
        }
        c.finish();
        let span = c.span_from(start);
        return Some(AlterOpKind::SetDefault {
            column,
            expr: c.text_of(span).to_owned(),
        });
    }
    if c.eat("set data type") || c.eat("type") {
        let start = c.offset();
        let type_text = type_text(c, |c| c.is_any(&["using", "collate"]))?.to_owned();
        let collate = c.eat("collate");
        if collate {
            c.rel()?;
        }
        let definition = c.span_from(start);
        let using_span = (c.eat("using") && !c.done()).then(|| {
            let start = c.offset();
            c.finish();
            c.span_from(start)
        });
        return Some(AlterOpKind::SetType {
            column,
            type_text,
            collate,
            using: using_span.map(|span| c.text_of(span).to_owned()),
            definition,
            using_span,
        });
    }
    if c.eat("set expression as") {
        c.parens()?;
        return Some(AlterOpKind::SetExpression { column });
    }
    if c.eat("add generated") {
        c.finish();
        return Some(AlterOpKind::AddIdentity { column });
    }
    if c.eat("set statistics") {
        c.finish();
        return Some(AlterOpKind::SetStatistics { column });
    }
    let compression = c.is("set") && c.is_at(1, "compression");
    if c.eat("set storage") || c.eat("set compression") {
        c.finish();
        return Some(AlterOpKind::SetStorage {
            column,
            compression,
        });
    }
    if c.eat("options") {
        c.parens()?;
        return Some(AlterOpKind::SetColumnOptions {
            column: None,
            names: Vec::new(),
        });
    }
    let mut after = *c;
    if (after.eat("set") || after.eat("reset"))
        && let Some(group) = after.group()
    {
        *c = after;
        return Some(AlterOpKind::SetColumnOptions {
            column: Some(column),
            names: option_names(group),
        });
    }
    if c.is("restart")
        || (c.is("set")
            && [
                "generated",
                "increment",
                "minvalue",
                "maxvalue",
                "no",
                "start",
                "cache",
                "cycle",
            ]
            .iter()
            .any(|w| c.is_at(1, w)))
    {
        c.finish();
        return Some(AlterOpKind::SetIdentity { column });
    }
    None
}
