//! A table of another name: the old one becomes a view.
//!
//! A view of plain columns of one table is updatable (PostgreSQL docs, CREATE VIEW, "Updatable
//! Views"): INSERT, UPDATE, DELETE, RETURNING, FOR UPDATE and ON CONFLICT with columns are rewritten
//! to the table, whose defaults, constraints, triggers and policies hold as before.

use super::{TableRename, other_naming};
use crate::catalog::{Catalog, Granted, LinkKind, QName, Table};
use crate::error::Result;
use crate::lock::LockMode;
use crate::plan::build::lock_on;
use crate::plan::draft::Draft;
use crate::plan::forms::kind;
use crate::plan::sections::{Known, Sections};
use crate::plan::step::{Phase, Step, Undo};
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOpKind, RelName};
use crate::sql::quote::{dollar, ident, literal, qname};

/// First release where a view can run with the rights, and so the policies, of who uses it.
const SECURITY_INVOKER: u32 = 15;

/// Such a view asks for the right to every column that it shows (`selectedCols` of its query), so
/// it does not serve a role that may read some of them: for that the view's own rights decide.
fn runs_as_user(catalog: &Catalog, table: &Table) -> bool {
    catalog.major() >= SECURITY_INVOKER && table.grants.iter().all(|g| g.column.is_none())
}

/// What a view of the old name does not do.
pub(super) const NOT_THROUGH_A_VIEW: &str = "TRUNCATE, COPY other than of a query, ON CONFLICT ON \
     CONSTRAINT, MERGE (before 17), GROUP BY of the primary key alone, the columns ctid, xmin and \
     tableoid, pg_get_serial_sequence, ALTER TABLE, CREATE INDEX, new foreign keys";

/// Refuses what a view cannot stand for.
pub(super) fn check<'a>(
    draft: &Draft<'a>,
    sections: &Sections<'a>,
    number: usize,
    table: &Table,
    to: &str,
    span: Span,
) -> Result<()> {
    let name = &table.name;
    if kind(draft.catalog, &RelName::new(Some(&name.schema), to)).is_some() {
        return Err(draft.wrong(
            span,
            format!("{} already exists", QName::new(name.schema.as_str(), to)),
            "choose another name",
        ));
    }
    let refuse = |what: String, help: &str| Err(draft.refused(span, what, help));
    let by_hand = "rename it in a `-- pgshift: contract` section, once no application version uses \
                   the old name";
    if table.inherited {
        return refuse(
            format!(
                "{name} has inheritance children: ONLY would not work by the old name, which would \
                 be a view until contract"
            ),
            by_hand,
        );
    }
    if table.settings.row_security && draft.catalog.major() < SECURITY_INVOKER {
        return refuse(
            format!(
                "{name} has row security, and before PostgreSQL 15 a view of the old name would \
                 show each role what its owner sees"
            ),
            by_hand,
        );
    }
    if table.settings.row_security && !runs_as_user(draft.catalog, table) {
        return refuse(
            format!(
                "{name} has row security and rights on single columns: a view of the old name \
                 could keep to one of them only"
            ),
            by_hand,
        );
    }
    if table.columns.is_empty() {
        return refuse(
            format!("{name} has no columns, so no view can stand for it"),
            by_hand,
        );
    }
    if let Some(other) = other_naming(sections, number, &name.name, |_| false) {
        return Err(draft.refused(
            other.statement.span,
            format!("this file renames {name}, and this statement has the old name"),
            "put it after the rename, by the new name, or rename in a migration of its own",
        ));
    }
    let unfit = |known: &&Known<'_>| {
        let Action::AlterTable { name, ops, .. } = &known.action else {
            return false;
        };
        name.name == *to
            && ops.iter().any(|op| {
                matches!(
                    op.kind,
                    AlterOpKind::SetType { .. }
                        | AlterOpKind::RenameTable { .. }
                        | AlterOpKind::SetSchema { .. }
                )
            })
    };
    if let Some(other) = sections.expand.iter().find(unfit) {
        return Err(draft.refused(
            other.statement.span,
            format!("until contract the view of the old name of {name} stands upon this"),
            "do it in a later migration",
        ));
    }
    Ok(())
}

/// The statements that make the view of the old name. `columns` are (name in the view, name in the
/// table).
fn create_view(
    catalog: &Catalog,
    table: &Table,
    to: &QName,
    columns: &[(&str, &str)],
) -> Vec<String> {
    let view = qname(&table.name);
    let list: Vec<String> = columns
        .iter()
        .map(|(shown, now)| {
            if shown == now {
                ident(now)
            } else {
                format!("{} AS {}", ident(now), ident(shown))
            }
        })
        .collect();
    let as_user = runs_as_user(catalog, table);
    let options = if as_user {
        " WITH (security_invoker = true)"
    } else {
        ""
    };
    let mut all = vec![format!(
        "CREATE VIEW {view}{options} AS SELECT {} FROM {}",
        list.join(", "),
        qname(to)
    )];
    if table.owner != catalog.role {
        all.push(format!(
            "ALTER VIEW {view} OWNER TO {}",
            ident(&table.owner)
        ));
    }
    if !as_user {
        // The view's rights alone decide, so it has none but the table's: not what ALTER DEFAULT
        // PRIVILEGES gives to new relations.
        let body = format!(
            " DECLARE grantee oid; BEGIN\n\
             FOR grantee IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a\n\
             \x20   WHERE c.oid = {}::regclass AND a.grantee <> c.relowner LOOP\n\
             \x20 EXECUTE {} ||\n\
             \x20   CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END;\n\
             END LOOP; END ",
            literal(&view),
            literal(&format!("REVOKE ALL ON {view} FROM "))
        );
        all.push(format!("DO {}", dollar(&body)));
    }
    all.extend(table.grants.iter().filter_map(|g| grant(g, &view)));
    if let Some(comment) = &table.comment {
        all.push(format!("COMMENT ON VIEW {view} IS {}", literal(comment)));
    }
    for column in &table.columns {
        if let Some(comment) = &column.comment {
            all.push(format!(
                "COMMENT ON COLUMN {view}.{} IS {}",
                ident(&column.name),
                literal(comment)
            ));
        }
    }
    all
}

/// GRANT of the same on the view; `None` for what means nothing there.
fn grant(grant: &Granted, view: &str) -> Option<String> {
    if !["SELECT", "INSERT", "UPDATE", "DELETE"].contains(&grant.privilege.as_str()) {
        return None;
    }
    Some(super::column::grant_sql(
        grant,
        grant.column.as_deref(),
        view,
    ))
}

/// The rename with its view, in one transaction. `step` is that of the author's statement alone.
pub(in crate::plan) fn expand_step(
    draft: &Draft<'_>,
    rename: &TableRename,
    mut step: Step,
) -> Step {
    let table = &draft.catalog.tables[&rename.from];
    let columns: Vec<(&str, &str)> = table
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.name.as_str()))
        .collect();
    if let crate::plan::Work::Sql { statements } = &mut step.work {
        statements.extend(create_view(draft.catalog, table, &rename.to, &columns));
    }
    step.title = format!(
        "rename {} to {}, and make a view of the old name",
        rename.from, rename.to.name
    );
    let exclusive = LockMode::AccessExclusive;
    let back = Step::sql(
        Phase::Revert,
        format!("rename {} back to {}", rename.to, rename.from.name),
        vec![
            format!("DROP VIEW {}", qname(&rename.from)),
            format!(
                "ALTER TABLE {} RENAME TO {}",
                qname(&rename.to),
                ident(&rename.from.name)
            ),
        ],
    )
    .locks(vec![
        lock_on(&rename.from, exclusive),
        lock_on(&rename.to, exclusive),
    ]);
    step.undo(Undo::steps(vec![back]))
        .note(format!(
            "rewritten: both names work until contract; {} is a view that reads and writes go \
             through",
            rename.from
        ))
        .note(format!("not through a view: {NOT_THROUGH_A_VIEW}"))
}

/// The old name goes.
pub(in crate::plan) fn contract_step(
    draft: &Draft<'_>,
    after: &Catalog,
    rename: &TableRename,
) -> Step {
    let table = &draft.catalog.tables[&rename.from];
    // Columns may have been renamed since, and stay in their order.
    let now = after.tables.get(&rename.to).unwrap_or(table);
    let columns: Vec<(&str, &str)> = table
        .columns
        .iter()
        .zip(&now.columns)
        .map(|(shown, now)| (shown.name.as_str(), now.name.as_str()))
        .collect();
    let back = Step::sql(
        Phase::Revert,
        format!("make the view {} again", rename.from),
        create_view(draft.catalog, table, &rename.to, &columns),
    )
    .locks(vec![lock_on(&rename.to, LockMode::AccessShare)]);
    Step::sql(
        Phase::Contract,
        format!("drop {}, the view of the old name", rename.from),
        vec![format!("DROP VIEW {}", qname(&rename.from))],
    )
    .locks(vec![lock_on(&rename.from, LockMode::AccessExclusive)])
    .undo(Undo::steps(vec![back]))
}

/// What a person should know.
pub(in crate::plan) fn warnings(draft: &Draft<'_>, rename: &TableRename) -> Vec<String> {
    let table = &draft.catalog.tables[&rename.from];
    let mut all = Vec::new();
    let mut functions: Vec<&str> = table
        .mentions
        .iter()
        .filter(|m| m.trigger.is_none())
        .map(|m| m.function.as_str())
        .collect();
    functions.dedup();
    if !functions.is_empty() {
        all.push(format!(
            "the text of {} has the name {}, which is gone from contract on: change it before",
            functions.join(", "),
            rename.from.name
        ));
    }
    let published: Vec<&str> = draft
        .catalog
        .links()
        .filter(|l| l.kind == LinkKind::Publishes && l.to == rename.from)
        .map(|l| l.from.name.as_str())
        .collect();
    if !published.is_empty() {
        all.push(format!(
            "publication {} has {}: subscribers find a table by its name, so rename it there at \
             the same time",
            published.join(", "),
            rename.from
        ));
    }
    all
}
