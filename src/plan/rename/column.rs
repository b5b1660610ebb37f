//! A column of another name: a second column stands in for the new name until contract.
//!
//! The stand-in is nullable and has no default, so that the trigger sees which name a row was
//! written by; constraints, defaults, foreign keys and policies act on the column itself, which the
//! trigger makes right before they look. At contract the column takes the name over, and all that
//! hangs on it goes with it: the catalog is that of a plain rename.

use std::collections::BTreeMap;

use super::{ColumnRename, Renames, other_naming};
use crate::catalog::{Catalog, Granted, Index, QName, RelKind, Table};
use crate::error::Result;
use crate::lock::LockMode;
use crate::migration::BackfillOptions;
use crate::plan::build::lock_on;
use crate::plan::draft::{Draft, DraftStatement, NewColumn};
use crate::plan::sections::{Known, Sections};
use crate::plan::statements::concurrent;
use crate::plan::step::{Own, Phase, Relies, Step, Undo, Work};
use crate::plan::sync::{Form, Renamed, SyncGroup};
use crate::plan::work::constrained_domain;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOpKind, ColumnDef, understand};
use crate::sql::dml::{Assignment, Piece};
use crate::sql::lex::{TokenKind, ident_value, is_keyword, lex_code};
use crate::sql::quote::{derived_name, ident, qname};

/// Refuses what a second column cannot stand for.
pub(super) fn check<'a>(
    draft: &Draft<'a>,
    sections: &Sections<'a>,
    number: usize,
    table: &Table,
    (from, to): (&str, &str),
    span: Span,
) -> Result<()> {
    let name = &table.name;
    let Some(column) = table.column(from) else {
        return Err(draft.wrong(
            span,
            format!("{name} has no column {from}"),
            "it must exist before the migration",
        ));
    };
    if table.column(to).is_some() {
        return Err(draft.wrong(
            span,
            format!("column {to} of {name} already exists"),
            "choose another name",
        ));
    }
    let renames = |known: &Known<'_>| {
        matches!(&known.action, Action::AlterTable { ops, .. }
            if ops.iter().all(|op| matches!(op.kind, AlterOpKind::RenameColumn { .. })))
    };
    if let Some(other) = other_naming(sections, number, &name.name, renames) {
        return Err(draft.refused(
            other.statement.span,
            format!(
                "this file renames column {from} of {name}: until contract another column stands in \
                 for {to}, and what is made upon that would go with it"
            ),
            "rename in a migration of its own",
        ));
    }
    let refuse = |what: String, help: &str| Err(draft.refused(span, what, help));
    let by_hand = "rename it in a `-- pgshift: contract` section, once no application version uses \
                   the old name";
    if column.generated {
        return refuse(
            format!("{from} is a generated column, which no trigger sees the value of"),
            by_hand,
        );
    }
    if constrained_domain(&column.type_name, draft.catalog) {
        return refuse(
            format!(
                "{from} is of a domain with constraints: a second column of it would write the \
                 table anew"
            ),
            by_hand,
        );
    }
    let dependents = table.dependents.get(from).cloned().unwrap_or_default();
    if dependents.iter().any(|d| d.starts_with("partition key of")) {
        return refuse(
            format!("{name} is partitioned by {from}, which a trigger cannot change"),
            by_hand,
        );
    }
    if let Some(rule) = dependents.iter().find(|d| d.starts_with("rule ")) {
        return refuse(
            format!("{rule} reads {from}, and would not see what is written by the new name"),
            "make a trigger of the rule, or rename in a `-- pgshift: contract` section",
        );
    }
    for trigger in table.triggers.iter().filter(|t| t.enabled && t.row) {
        if updates_of(&trigger.definition, from) {
            return refuse(
                format!(
                    "trigger {} fires on UPDATE OF {from}: not for a write by the new name",
                    trigger.name
                ),
                "let it fire on every UPDATE, WHEN (OLD.… IS DISTINCT FROM NEW.…), or rename in a \
                 `-- pgshift: contract` section",
            );
        }
        let reads = table.mentions.iter().any(|m| {
            m.trigger.as_ref() == Some(&trigger.name) && m.columns.iter().any(|c| c == from)
        });
        if trigger.before && (reads || has_name(&trigger.definition, from)) {
            return refuse(
                format!(
                    "trigger {} fires before a row is written and has the name {from}: it would \
                     not see what is written by the new name",
                    trigger.name
                ),
                "make it an AFTER trigger, or rename in a `-- pgshift: contract` section",
            );
        }
    }
    Ok(())
}

/// `UPDATE OF …` with this column, in the definition of a trigger.
fn updates_of(definition: &str, column: &str) -> bool {
    let tokens = lex_code(definition);
    let at = tokens.windows(2).position(|pair| {
        is_keyword(pair[0], definition, "UPDATE") && is_keyword(pair[1], definition, "OF")
    });
    at.is_some_and(|at| {
        tokens[at + 2..]
            .iter()
            .take_while(|t| !is_keyword(**t, definition, "ON"))
            .any(|t| ident_value(*t, definition).is_some_and(|n| n == column))
    })
}

fn has_name(text: &str, name: &str) -> bool {
    lex_code(text)
        .into_iter()
        .any(|t| ident_value(t, text).is_some_and(|n| n == name))
}

/// GRANT of a right on a table or view, or on this column of it.
pub(super) fn grant_sql(grant: &Granted, column: Option<&str>, on: &str) -> String {
    let column = column.map_or_else(String::new, |c| format!(" ({})", ident(c)));
    let to = grant
        .grantee
        .as_ref()
        .map_or_else(|| "PUBLIC".to_owned(), |role| ident(role));
    let option = if grant.grantable {
        " WITH GRANT OPTION"
    } else {
        ""
    };
    format!("GRANT {}{column} ON {on} TO {to}{option}", grant.privilege)
}

/// ADD COLUMN of the stand-in.
pub(in crate::plan) fn add_sql(catalog: &Catalog, rename: &ColumnRename) -> String {
    let table = &catalog.tables[&rename.table];
    let (type_name, collation) = table.column(&rename.from).map_or(("text", None), |c| {
        (c.type_name.as_str(), c.settings.collation.as_ref())
    });
    let collate = collation.map_or_else(String::new, |c| format!(" COLLATE {c}"));
    format!(
        "ALTER TABLE {} ADD COLUMN {} {type_name}{collate}",
        qname(&rename.table),
        ident(&rename.to)
    )
}

/// The stand-in as the column that expand adds, and the statements that keep it equal: there, back.
pub(in crate::plan) fn drafts<'a>(
    catalog: &Catalog,
    rename: &ColumnRename,
    known: &Known<'a>,
) -> Option<(NewColumn, DraftStatement<'a>, DraftStatement<'a>)> {
    let def = match understand(&add_sql(catalog, rename)) {
        Action::AlterTable { ops, .. } => ops.into_iter().find_map(|op| match op.kind {
            AlterOpKind::AddColumn(def) => Some(*def),
            _ => None,
        }),
        _ => None,
    }?;
    let new = NewColumn {
        def: ColumnDef { ..def },
        span: rename.span,
    };
    // Pieces have their place in the statement.
    let span = Span::new(
        rename.span.start - known.statement.span.start,
        rename.span.end - known.statement.span.start,
    );
    let copy = |to: &str, from: &str, all_new: bool| DraftStatement {
        statement: known.statement,
        table: rename.table.clone(),
        alias: rename.table.name.clone(),
        assignments: vec![Assignment {
            column: to.to_owned(),
            column_span: span,
            expr: Piece {
                text: ident(from),
                span,
            },
        }],
        delete: false,
        from: None,
        conditions: Vec::new(),
        tests_null: false,
        where_: None,
        options: BackfillOptions::default(),
        all_new,
    };
    let there = copy(&rename.to, &rename.from, true);
    let back = copy(&rename.from, &rename.to, false);
    Some((new, there, back))
}

/// What belongs to the stand-in beside its being there: rights of the column.
pub(in crate::plan) fn grants(catalog: &Catalog, rename: &ColumnRename) -> Vec<String> {
    let table = &catalog.tables[&rename.table];
    let on = qname(&rename.table);
    table
        .grants
        .iter()
        .filter(|g| g.column.as_deref() == Some(rename.from.as_str()))
        .map(|g| grant_sql(g, Some(&rename.to), &on))
        .collect()
}

/// Indexes for the stand-in: those that begin with the column, and unique ones that have it, as ON
/// CONFLICT needs them. (Index of the catalog, name of the copy.)
fn copied<'c>(renames: &Renames, table: &'c Table, from: &str) -> Vec<(&'c Index, String)> {
    if table.kind == RelKind::Partitioned {
        return Vec::new();
    }
    table
        .indexes
        .iter()
        .filter(|i| i.valid)
        .filter(|i| {
            i.columns.first().is_some_and(|c| c == from)
                || (i.unique && i.columns.iter().any(|c| c == from))
        })
        .filter(|i| copy_sql(i, table, &same_names(renames, table), "i").is_some())
        .map(|i| {
            let key = format!("{} {} {from}", table.name, i.name);
            (i, derived_name("_pgshift_rename_", &i.name, &key))
        })
        .collect()
}

/// The renamed columns of a table, (name, name), by the names that they have before.
fn same_names<'r>(renames: &'r Renames, table: &Table) -> Vec<(&'r str, &'r str)> {
    let of = renames.of(&table.name);
    of.map(|r| (r.from.as_str(), r.from.as_str())).collect()
}

/// CREATE INDEX CONCURRENTLY of a copy, with these columns by other names, (name, its name then);
/// `None` where that cannot be told from the definition: an expression may use a name as something
/// else than a column.
fn copy_sql(index: &Index, table: &Table, names: &[(&str, &str)], name: &str) -> Option<String> {
    if index.columns.iter().any(String::is_empty) {
        return None;
    }
    let text = index.definition.as_str();
    let tokens = lex_code(text);
    let using = tokens.iter().position(|t| is_keyword(*t, text, "USING"))?;
    let open = using
        + tokens[using..]
            .iter()
            .position(|t| t.kind == TokenKind::LParen)?;
    let mut depth = 0_usize;
    let close = open
        + tokens[open..].iter().position(|t| {
            match t.kind {
                TokenKind::LParen => depth += 1,
                TokenKind::RParen => depth -= 1,
                _ => {}
            }
            depth == 0
        })?;
    let rest = &text[tokens[close].span.end..];
    if names.iter().any(|(from, _)| has_name(rest, from)) {
        return None;
    }
    let keys = &text[tokens[using].span.start..tokens[open].span.end];
    let mut list = String::new();
    let mut at = tokens[open].span.end;
    for (n, token) in tokens[open + 1..close].iter().enumerate() {
        let before = tokens[open + n].kind;
        let first = matches!(before, TokenKind::LParen | TokenKind::Comma);
        let key = ident_value(*token, text).filter(|_| first);
        if let Some((_, now)) = names
            .iter()
            .find(|(from, _)| key.as_ref().is_some_and(|k| k == from))
        {
            list.push_str(&text[at..token.span.start]);
            list.push_str(&ident(now));
            at = token.span.end;
        }
    }
    list.push_str(&text[at..tokens[close].span.start]);
    // A constraint that is checked at the end of the transaction has no other index like it.
    let deferrable = table.constraint(&index.name).is_some_and(|c| {
        c.definition.contains("DEFERRABLE") && !c.definition.contains("NOT DEFERRABLE")
    });
    let unique = if index.unique && !deferrable {
        "UNIQUE "
    } else {
        ""
    };
    Some(format!(
        "CREATE {unique}INDEX CONCURRENTLY {} ON {} {keys}{list}){rest}",
        ident(name),
        qname(&table.name),
    ))
}

/// The step that makes a copy of an index on `column`, or drops it.
fn index_step(catalog: &Catalog, phase: Phase, sql: &str, table: &QName, index: &str) -> Step {
    let mut step =
        concurrent(phase, sql, catalog).locks(vec![lock_on(table, LockMode::ShareUpdateExclusive)]);
    if let Work::Concurrent { index: at, .. } = &mut step.work {
        *at = Some(QName::new(table.schema.as_str(), index));
    }
    step
}

fn drop_sql(table: &QName, index: &str) -> String {
    let index = QName::new(table.schema.as_str(), index);
    format!("DROP INDEX CONCURRENTLY IF EXISTS {}", qname(&index))
}

/// The indexes that queries by the new name need until contract.
pub(in crate::plan) fn index_steps(draft: &Draft<'_>, rename: &ColumnRename) -> Vec<Step> {
    let (catalog, renames) = (draft.catalog, &draft.renames);
    let table = &catalog.tables[&rename.table];
    let mut names = same_names(renames, table);
    for (from, now) in &mut names {
        if *from == rename.from {
            *now = &rename.to;
        }
    }
    copied(renames, table, &rename.from)
        .into_iter()
        .filter_map(|(index, name)| {
            let sql = copy_sql(index, table, &names, &name)?;
            let back = drop_sql(&table.name, &name);
            let mut step = index_step(catalog, Phase::Validate, &sql, &table.name, &name)
                .undo(Undo::steps(vec![index_step(
                    catalog,
                    Phase::Revert,
                    &back,
                    &table.name,
                    &name,
                )]))
                .note(format!(
                    "for queries by the new name, as {} is for those by the old one; dropped at \
                     contract",
                    index.name
                ));
            step.title = format!("create an index on {} like {}", rename.to, index.name);
            step.estimate.rows = Some(table.rows);
            step.estimate.bytes = Some(table.bytes);
            step.estimate.basis = Some("builds an index".to_owned());
            Some(step)
        })
        .collect()
}

/// What the stand-in is called from contract on.
fn set_aside(migration: &str, rename: &ColumnRename) -> String {
    derived_name(
        "_pgshift_dropped_",
        &rename.to,
        &format!("{migration} {} {}", rename.table, rename.to),
    )
}

/// Contract of all renames of one table, and its purge.
pub(in crate::plan) fn contract_steps(
    draft: &Draft<'_>,
    group: Option<&SyncGroup>,
    table: &Table,
    renames: &[&ColumnRename],
) -> (Vec<Step>, Vec<Step>) {
    let migration = draft.migration.id.as_str();
    let on = qname(&table.name);
    let rename_sql = |from: &str, to: &str| {
        format!(
            "ALTER TABLE {on} RENAME COLUMN {} TO {}",
            ident(from),
            ident(to)
        )
    };
    let exclusive = || vec![lock_on(&table.name, LockMode::AccessExclusive)];
    let (mut sql, mut back, mut renamed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut indexes, mut purge) = (Vec::new(), Vec::new());
    for rename in renames {
        let away = set_aside(migration, rename);
        sql.push(rename_sql(&rename.to, &away));
        sql.push(rename_sql(&rename.from, &rename.to));
        back.push(rename_sql(&rename.to, &rename.from));
        back.push(rename_sql(&away, &rename.to));
        renamed.extend([
            Renamed {
                column: rename.to.clone(),
                now: away.clone(),
            },
            Renamed {
                column: rename.from.clone(),
                now: rename.to.clone(),
            },
        ]);
        // The way back makes the index again while the columns have the new names.
        let names: Vec<(&str, &str)> = renames
            .iter()
            .map(|r| {
                let now = if r.from == rename.from { &away } else { &r.to };
                (r.from.as_str(), now.as_str())
            })
            .collect();
        for (index, name) in copied(&draft.renames, table, &rename.from) {
            let Some(again) = copy_sql(index, table, &names, &name) else {
                continue;
            };
            let drop = drop_sql(&table.name, &name);
            let catalog = draft.catalog;
            indexes.push(
                index_step(catalog, Phase::Contract, &drop, &table.name, &name).undo(Undo::steps(
                    vec![index_step(
                        catalog,
                        Phase::Revert,
                        &again,
                        &table.name,
                        &name,
                    )],
                )),
            );
        }
        purge.push(
            Step::sql(
                Phase::Purge,
                format!(
                    "drop the column that stood in for {} of {} for good",
                    rename.to, table.name
                ),
                vec![format!(
                    "ALTER TABLE {on} DROP COLUMN IF EXISTS {}",
                    ident(&away)
                )],
            )
            .locks(exclusive()),
        );
    }
    if let Some(group) = group {
        sql.extend(group.replace_function(Form::ForwardOnly, &renamed));
        back.extend(group.replace_function(Form::Both, &[]));
    }
    let list: Vec<String> = renames
        .iter()
        .map(|r| format!("{} to {}", r.from, r.to))
        .collect();
    let list = list.join(", ");
    let undo = Step::sql(
        Phase::Revert,
        format!("let both names of {} work again: {list}", table.name),
        back,
    )
    .locks(exclusive());
    let swap = Step::sql(
        Phase::Contract,
        format!("rename in {}: {list}", table.name),
        sql,
    )
    .locks(exclusive())
    .undo(Undo::steps(vec![undo]))
    // What somebody made upon a stand-in would go with it.
    .relies_on([Relies {
        table: table.name.clone(),
        columns: renames.iter().map(|r| r.to.clone()).collect(),
        dependents: BTreeMap::new(),
        own: Own::Objects,
    }])
    .note(
        "the column itself takes the name over, with its indexes, constraints, rights and what \
         depends on it; what stood in for it is set aside and fed until purge, for a revert",
    );
    let mut steps = vec![swap];
    steps.extend(indexes);
    (steps, purge)
}

/// What a person should know.
pub(in crate::plan) fn warnings(draft: &Draft<'_>, rename: &ColumnRename) -> Vec<String> {
    let table = &draft.catalog.tables[&rename.table];
    let (from, to) = (&rename.from, &rename.to);
    let mut all = Vec::new();
    let mut functions: Vec<&str> = table
        .mentions
        .iter()
        .filter(|m| m.columns.iter().any(|c| c == from))
        .map(|m| m.function.as_str())
        .collect();
    functions.dedup();
    if !functions.is_empty() {
        all.push(format!(
            "the text of {} has the name {from}, which {} may not have from contract on: change it \
             before",
            functions.join(", "),
            table.name
        ));
    }
    let copies = copied(&draft.renames, table, from);
    let without: Vec<&str> = table
        .indexes
        .iter()
        .filter(|i| i.valid && has_name(&i.definition, from))
        .filter(|i| i.unique || i.columns.first().is_some_and(|c| c.is_empty() || c == from))
        .filter(|i| !copies.iter().any(|(copy, _)| copy.name == i.name))
        .map(|i| i.name.as_str())
        .collect();
    if !without.is_empty() {
        all.push(format!(
            "{to} of {} has no index like {} until contract",
            table.name,
            without.join(", ")
        ));
    }
    if table
        .column(from)
        .is_some_and(|c| c.default.is_some() && !c.not_null)
    {
        all.push(format!(
            "until contract a row that is inserted with a null {to} gets the default of {from}: a \
             trigger cannot tell the null from {to} left out"
        ));
    }
    all
}
