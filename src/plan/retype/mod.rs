//! ALTER COLUMN … TYPE that would write the table anew while nobody can use it: a shadow column of
//! the new type is added, kept in sync, filled, given all that the column has (indexes,
//! constraints, NOT NULL, comments, rights), and takes the column's place at contract in one short
//! transaction. The old column follows what is written from then on, so that the way back is a
//! swap too.
//!
//! What the new column needs is not made up from text: the server changes the type of an empty
//! temporary copy, and says how it would write each definition afterwards ([`question`]).

mod cascade;
mod default;
mod definition;
pub mod dependents;
mod dress;
pub mod inbound;
mod outbound;
pub mod partitions;
pub mod question;
mod sequences;
mod small;
mod swap;
#[cfg(test)]
mod tests;
mod tree;
mod tree_keys;
mod tree_swap;
mod way_back;

use super::draft::{Draft, DraftStatement, near};
use super::probe::Probed;
use super::sections::Known;
use super::sync;
use super::work::{Work, constrained_domain, op_work};
use crate::catalog::{Column, LinkKind, QName, RelKind, Table};
use crate::error::Result;
use crate::migration::{BackfillOptions, SectionKind, Statement};
use crate::plan::title::depend_on;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, ColumnDef, understand};
use crate::sql::dml::{Assignment, Piece, identifiers, is_reserved, is_syntax};
use crate::sql::lex::{ident_value, is_keyword, lex_code};
use crate::sql::quote::{derived_name, ident};

pub(super) use cascade::follow;
pub use default::NewDefault;
pub(super) use default::goes_along;
pub(super) use dress::Side;
pub(super) use swap::swap;
pub(super) use way_back::{mappings, narrows, unsteady};

/// A column whose type changes by way of another column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retype {
    /// The column.
    pub column: String,
    /// The new column, until contract.
    pub shadow: String,
    /// The old column, from contract on.
    pub old: String,
    /// The author's type with its COLLATE.
    pub definition: String,
    /// The author's type.
    pub type_text: String,
    /// The author's USING.
    pub using: Option<Piece>,
    /// What the same statement says of its default.
    pub default: NewDefault,
    /// Where it stands in the file.
    pub span: Span,
}

const OF_ITS_OWN: &str = "put it into a migration of its own, before or after this one";

/// Finds the changes of type that go by way of another column, and the backfill of each.
pub(super) fn collect<'a>(
    draft: &Draft<'a>,
    expand: &[Known<'a>],
) -> Result<Vec<(Retype, DraftStatement<'a>)>> {
    let mut all: Vec<(Retype, DraftStatement<'a>)> = Vec::new();
    for known in expand {
        let Some((table, ops)) = draft.altered(known) else {
            continue;
        };
        for op in ops {
            check_there(draft, known, table, op)?;
            let Some(retype) = retype(draft, known, table, (op, ops)) else {
                check_in_place(draft, known, table, (op, ops))?;
                continue;
            };
            check_alone(draft, known, table, ops, &retype)?;
            check_table(draft, table, &retype)?;
            check_column(draft, table, &retype)?;
            let twice = all
                .iter()
                .any(|(other, of)| of.table == table.name && other.column == retype.column);
            if twice {
                return Err(draft.wrong(
                    retype.span,
                    format!("the type of {} is changed twice", retype.column),
                    "",
                ));
            }
            let statement = backfill(known.statement, table, &retype);
            all.push((retype, statement));
        }
    }
    Ok(all)
}

/// The column is there, or the file itself gives a column this name.
fn check_there(draft: &Draft<'_>, known: &Known<'_>, table: &Table, op: &AlterOp) -> Result<()> {
    let AlterOpKind::SetType { column, .. } = &op.kind else {
        return Ok(());
    };
    let mut statements = draft.migration.sections.iter().flat_map(|s| &s.statements);
    let renamed = statements.any(|statement| {
        matches!(understand(&statement.sql), Action::AlterTable { ops, .. } if ops.iter().any(
            |op| matches!(&op.kind, AlterOpKind::RenameColumn { to, .. } if to == column)))
    });
    if table.column(column).is_some() || draft.new_column(&table.name, column).is_some() || renamed
    {
        return Ok(());
    }
    let near = near(column, table.columns.iter().map(|c| c.name.as_str()));
    Err(draft.wrong(
        op.span.shift(known.statement.span.start),
        format!("{} has no column {column}", table.name),
        &near.map_or_else(
            || "it must exist before the migration".to_owned(),
            |near| format!("did you mean {near}?"),
        ),
    ))
}

/// What the server does not change the type of, although rows would stay as they are: a column that
/// something else reads (documentation, ALTER TABLE, Notes; SQLSTATE 0A000).
fn check_in_place(
    draft: &Draft<'_>,
    known: &Known<'_>,
    table: &Table,
    (op, ops): (&AlterOp, &[AlterOp]),
) -> Result<()> {
    let AlterOpKind::SetType { column, .. } = &op.kind else {
        return Ok(());
    };
    let dependents = table.dependents.get(column).map_or(&[][..], Vec::as_slice);
    // What the author drops before it may be just that.
    let goes = ops
        .iter()
        .any(|op| matches!(op.kind, AlterOpKind::DropColumn { .. }));
    let mut before = draft.migration.sections.iter().flat_map(|s| &s.statements);
    let dropped = before.any(|statement| {
        let text = &statement.sql;
        statement.span.start < known.statement.span.start
            && lex_code(text).iter().any(|t| is_keyword(*t, text, "DROP"))
    });
    if dependents.is_empty() || goes || dropped {
        return Ok(());
    }
    let generated = dependents.iter().any(|d| d.starts_with("generated "));
    Err(draft.refused(
        op.span.shift(known.statement.span.start),
        format!(
            "{} column {column} of {}: the server changes the type of no column that something \
             reads, although its rows would stay as they are",
            depend_on(dependents),
            table.name
        ),
        if generated {
            "drop the generated column in an earlier migration and add it again in a later one, or \
             let a trigger fill a plain column instead"
        } else {
            "drop them in an earlier migration and make them again in a later one; the change \
             itself takes a moment"
        },
    ))
}

fn retype(
    draft: &Draft<'_>,
    known: &Known<'_>,
    table: &Table,
    (op, ops): (&AlterOp, &[AlterOp]),
) -> Option<Retype> {
    let AlterOpKind::SetType {
        column,
        type_text,
        definition,
        using,
        using_span,
        ..
    } = &op.kind
    else {
        return None;
    };
    table.column(column)?;
    // The author wants it as written.
    let mut allows = draft.allows(known.statement.span);
    if allows.any(|allow| allow.rule == "change-column-type") {
        return None;
    }
    if op_work(&op.kind, Some(table), draft.catalog) <= Work::Scan {
        return None;
    }
    let sql = &known.statement.sql;
    let key = format!("{} {} {column}", draft.migration.id, table.name);
    Some(Retype {
        column: column.clone(),
        shadow: derived_name("_pgshift_new_", column, &key),
        old: derived_name("_pgshift_dropped_", column, &key),
        definition: definition.of(sql).to_owned(),
        type_text: type_text.clone(),
        using: using
            .clone()
            .zip(*using_span)
            .map(|(text, span)| Piece { text, span }),
        default: NewDefault::of(column, ops),
        span: op.span.shift(known.statement.span.start),
    })
}

/// The column that is added.
pub(super) fn added(retype: &Retype) -> Option<ColumnDef> {
    let sql = format!("ALTER TABLE t {}", add_column(retype));
    let Action::AlterTable { ops, .. } = understand(&sql) else {
        return None;
    };
    match ops.into_iter().next()?.kind {
        AlterOpKind::AddColumn(def) => Some(*def),
        _ => None,
    }
}

/// The sub-command that adds it.
pub(super) fn add_column(retype: &Retype) -> String {
    format!("ADD COLUMN {} {}", ident(&retype.shadow), retype.definition)
}

/// `UPDATE table SET shadow = column`, coerced as an assignment: what ALTER COLUMN … TYPE does
/// without USING (documentation, ALTER TABLE).
fn backfill<'a>(statement: &'a Statement, table: &Table, retype: &Retype) -> DraftStatement<'a> {
    let place = Span::new(
        retype.span.start - statement.span.start,
        retype.span.end - statement.span.start,
    );
    let expr = retype.using.clone().unwrap_or_else(|| Piece {
        text: ident(&retype.column),
        span: place,
    });
    DraftStatement {
        statement,
        table: table.name.clone(),
        alias: table.name.name.clone(),
        assignments: vec![Assignment {
            column: retype.shadow.clone(),
            column_span: place,
            expr,
        }],
        delete: false,
        from: None,
        conditions: Vec::new(),
        tests_null: false,
        where_: None,
        options: BackfillOptions {
            sync: Some(true),
            ..BackfillOptions::default()
        },
        all_new: true,
    }
}

/// In a reverse section a column that changes its type is the old one where it is assigned, and
/// the new one where it is read: this gives the new one its name of the time before contract.
pub(super) fn read_shadows(statement: &mut DraftStatement<'_>, retypes: &[Retype]) {
    let alias = statement.alias.clone();
    let rename = |piece: &mut Piece| {
        piece.text = reading(&piece.text, &alias, retypes, |r| &r.shadow);
    };
    for assignment in &mut statement.assignments {
        rename(&mut assignment.expr);
    }
    statement.conditions.iter_mut().for_each(rename);
    statement.where_.iter_mut().for_each(rename);
}

/// An expression about a table of this alias in which the columns that change have other names.
fn reading(
    text: &str,
    alias: &str,
    retypes: &[Retype],
    called: impl Fn(&Retype) -> &str,
) -> String {
    let mut found: Vec<(Span, &Retype)> = identifiers(text)
        .into_iter()
        .filter(|(of, _, _)| of.as_ref().is_none_or(|of| *of == alias))
        .filter(|(of, _, span)| of.is_some() || !is_syntax(text, *span))
        .filter_map(|(_, name, span)| Some((span, retypes.iter().find(|r| r.column == name)?)))
        .collect();
    found.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
    let mut text = text.to_owned();
    for (span, retype) in found {
        text.replace_range(span.start..span.end, &ident(called(retype)));
    }
    text
}

/// The definitions of the column are read before anything runs: nothing else of the file may
/// change them.
fn check_alone(
    draft: &Draft<'_>,
    known: &Known<'_>,
    table: &Table,
    ops: &[AlterOp],
    retype: &Retype,
) -> Result<()> {
    let other = ops.iter().filter(|op| !goes_along(op, ops)).find(|op| {
        !matches!(&op.kind, AlterOpKind::SetType { .. })
            || op_work(&op.kind, Some(table), draft.catalog) <= Work::Scan
    });
    let start = known.statement.span.start;
    let help = OF_ITS_OWN;
    if let Some(other) = other {
        return Err(draft.refused(
            other.span.shift(start),
            format!(
                "the type of {} changes by way of another column, which takes over what the \
                 column has before the migration",
                retype.column
            ),
            help,
        ));
    }
    check_unnamed(draft, start, table, retype)
}

/// Nothing but the statement that starts at `start` names the table, and changes of types.
fn check_unnamed(draft: &Draft<'_>, start: usize, table: &Table, retype: &Retype) -> Result<()> {
    for section in &draft.migration.sections {
        for statement in &section.statements {
            let span = statement.span;
            let own = span.start == start
                || matches!(section.kind, SectionKind::Verify | SectionKind::Reverse);
            let text = &statement.sql;
            let names = lex_code(text)
                .into_iter()
                // A table may have the name of a word of the statement.
                .filter(|token| !is_reserved(*token, text))
                .filter_map(|token| ident_value(token, text))
                .any(|name| name == table.name.name);
            let same = matches!(understand(text), Action::AlterTable { name, ops, .. }
                if draft.table(&name).is_some_and(|t| t.name == table.name)
                    && ops.iter().all(|op| matches!(op.kind, AlterOpKind::SetType { .. })));
            if names && !own && !same {
                return Err(draft.refused(
                    span,
                    format!(
                        "this names {}, where the type of {} changes by way of another column",
                        table.name, retype.column
                    ),
                    OF_ITS_OWN,
                ));
            }
        }
    }
    Ok(())
}

fn check_table(draft: &Draft<'_>, table: &Table, retype: &Retype) -> Result<()> {
    let refuse = |why: String, help: &str| Err(draft.refused(retype.span, why, help));
    let column = &retype.column;
    if let Some(root) = &table.partition_of {
        return refuse(
            format!(
                "{} is a partition of {root}: its columns have the types of {root}",
                table.name
            ),
            &format!("change the type of {column} of {root}"),
        );
    }
    if table.kind == RelKind::Foreign {
        return refuse(
            format!(
                "{} is a foreign table: its rows are another server's",
                table.name
            ),
            "change the type there; here it takes a moment, as written: \
             `-- pgshift: allow change-column-type reason=\"…\"`",
        );
    }
    if table
        .leaves
        .iter()
        .any(|leaf| leaf.kind == RelKind::Foreign)
    {
        return refuse(
            format!("{} has a foreign table as a partition", table.name),
            "its rows are another server's: detach it first, and attach it again with the new type",
        );
    }
    let ordinary = matches!(table.kind, RelKind::Table | RelKind::Partitioned);
    if !ordinary || table.inherited {
        return refuse(
            format!(
                "{} has inheritance children: the type of {column} cannot be changed online there",
                table.name
            ),
            "make a table with the new type, move the rows in batches, and swap the names",
        );
    }
    let child = draft
        .catalog
        .links()
        .any(|link| link.kind == LinkKind::Inherits && link.from == table.name);
    if child {
        return refuse(
            format!("{} inherits its columns", table.name),
            "make a table with the new type, move the rows in batches, and swap the names",
        );
    }
    if table.row_security {
        return refuse(
            format!(
                "row security hides rows of {} from role {}",
                table.name, draft.catalog.role
            ),
            "run pgshift as the table's owner (without FORCE ROW LEVEL SECURITY) or as a role with \
             BYPASSRLS",
        );
    }
    if let Some(trigger) = table.triggers.iter().find(|t| sync::is_ours(&t.name)) {
        return refuse(
            format!(
                "trigger {} of an earlier migration still writes to columns of {} by their names",
                trigger.name, table.name
            ),
            "`pgshift purge` that migration first (then it cannot be reverted any more)",
        );
    }
    if table.leaves.iter().any(|leaf| leaf.access_method != "heap") {
        return refuse(
            format!("the storage of {} is not heap", table.name),
            "make a table with the new type, move the rows in batches, and swap the names",
        );
    }
    if let Some(index) = table.indexes.iter().find(|i| !i.valid) {
        return refuse(
            format!("index {} of {} is not valid", index.name, table.name),
            "drop it, or REINDEX INDEX CONCURRENTLY, and plan again",
        );
    }
    Ok(())
}

fn check_column(draft: &Draft<'_>, table: &Table, retype: &Retype) -> Result<()> {
    let name = &retype.column;
    let refuse = |why: String, help: String| Err(draft.refused(retype.span, why, &help));
    let Some(Column { generated, .. }) = table.column(name) else {
        return Ok(());
    };
    if *generated {
        return refuse(
            format!("{name} is a generated column"),
            "drop it at contract, and add another one that the application or a trigger fills"
                .to_owned(),
        );
    }
    if constrained_domain(&retype.type_text, draft.catalog) {
        return refuse(
            format!(
                "{} is a domain with constraints: a column of it cannot be added without writing \
                 the table anew",
                retype.type_text
            ),
            "change to the type that the domain is over, and add its CHECK to the table".to_owned(),
        );
    }
    let key = table.partitioning.key.as_ref();
    let routes = key.is_some_and(|key| partitions::routes_by(key, name));
    if routes {
        return refuse(
            format!("{} is partitioned by {name}", table.name),
            "the server cannot change it either: make a partitioned table with the new type beside \
             this one, move the rows in batches, and swap the names"
                .to_owned(),
        );
    }
    if let Some((why, help)) = partitions::refusal(table, name) {
        return refuse(why, help);
    }
    let dependents = table.dependents.get(name).map_or(&[][..], Vec::as_slice);
    let stored = dependents::stored(table, dependents);
    let dependents = if table.kind == RelKind::Partitioned {
        partitions::refused_at_once(dependents)
    } else {
        dependents::refused_at_once(dependents)
    };
    if !dependents.is_empty() {
        return refuse(
            format!("{} column {name} of {}", depend_on(&dependents), table.name),
            "drop them in an earlier migration and make them again in a later one".to_owned(),
        );
    }
    small::check(draft, table, retype, &stored)?;
    inbound::check(draft, table, retype)
}

/// What the server said of a table.
///
/// # Errors
/// Where it could not be asked.
pub(super) fn answer<'p>(
    draft: &Draft<'_>,
    probed: &'p Probed,
    table: &QName,
    columns: &[Retype],
) -> Result<&'p question::Answer> {
    let span = columns.first().map(|c| c.span).unwrap_or_default();
    probed.retypes.get(table).ok_or_else(|| {
        draft.refused(
            span,
            "the definitions of a column whose type changes are read from a temporary copy of the \
             table, which this role may not make",
            "GRANT TEMPORARY ON DATABASE to it",
        )
    })
}

/// A table of the draft with what the server said of it.
///
/// # Errors
/// Where it could not be asked.
pub(super) fn swapped<'d>(
    draft: &'d Draft<'_>,
    probed: &'d Probed,
    table: &QName,
    line: usize,
) -> Result<dress::Swapped<'d>> {
    let columns = draft.retypes.get(table).map_or(&[][..], Vec::as_slice);
    Ok(dress::Swapped {
        table: &draft.catalog.tables[table],
        columns,
        answer: answer(draft, probed, table, columns)?,
        allowed: small::Allowed::of(draft, columns),
        all: &draft.retypes,
        major: draft.catalog.major(),
        role: &draft.catalog.role,
        migration: &draft.migration.id,
        line,
    })
}

/// Shown where the order of columns matters to somebody.
pub(super) fn order_warning(table: &QName, columns: &[&str]) -> String {
    format!(
        "{} of {table} will be the last column from contract on: INSERT and COPY without a list of \
         columns, and SELECT *, see another order; until then they see one column more",
        columns.join(", ")
    )
}
