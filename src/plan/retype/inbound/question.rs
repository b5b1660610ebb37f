//! What is asked before foreign keys go over to new columns: of the catalog, and of the server.

use std::collections::{BTreeMap, BTreeSet};

use super::{CASCADE, Inbound, inbound, is_declared, references, top};
use crate::catalog::{Catalog, Constraint, QName, RelKind, Table};
use crate::error::Result;
use crate::migration::Migration;
use crate::plan::draft::Draft;
use crate::plan::retype::Retype;
use crate::plan::retype::definition::{has_word, referenced, sets_default};
use crate::plan::retype::dress::Side;
use crate::sql::ddl::{Action, AlterOpKind, understand};
use crate::sql::quote::{dollar, ident, literal, qname};

/// What a foreign key cannot be taken over for.
pub(in crate::plan::retype) fn check(
    draft: &Draft<'_>,
    table: &Table,
    retype: &Retype,
) -> Result<()> {
    let refuse = |why: String, help: &str| Err(draft.refused(retype.span, why, help));
    let drop = "drop that foreign key in an earlier migration and add it again in a later one";
    for (other, name) in &table.referenced_by {
        if !draft.catalog.tables.contains_key(other) {
            return refuse(
                format!(
                    "{name} of {other} references {}, and cannot be read",
                    table.name
                ),
                "plan again; if it is refused again, the role may not see that table",
            );
        }
    }
    let columns = std::slice::from_ref(retype);
    for other in draft.catalog.tables.values() {
        for key in &other.constraints {
            if key.references.as_ref() != Some(&table.name)
                || !references(key, columns)
                || !is_declared(table, other, key)
            {
                continue;
            }
            let (name, of) = (&key.name, &other.name);
            let what = format!(
                "foreign key {name} of {of} references {} of {}",
                retype.column, table.name
            );
            let partitioned = other.kind == RelKind::Partitioned;
            if partitioned && table.kind != RelKind::Partitioned && sets_default(&key.definition) {
                return refuse(
                    format!(
                        "{what} and sets a default, and {of} is partitioned: two such keys cannot \
                         be told which comes first"
                    ),
                    drop,
                );
            }
            if let Some(same) = twice(draft.catalog, other, key) {
                return refuse(
                    format!(
                        "{what}, as {same} does, which {of} has as a partition: the two cannot be told apart"
                    ),
                    "drop the partition's own in an earlier migration: that of its table does the same",
                );
            }
            if !other.owned {
                return refuse(
                    format!("{what}, and role {} does not own {of}", draft.catalog.role),
                    "run pgshift as a role that owns both tables, or drop that foreign key in an \
                     earlier migration and add it again in a later one",
                );
            }
            if has_word(&key.definition, &["PERIOD"]) || key.definition.contains("NOT ENFORCED") {
                return refuse(format!("{what}, with PERIOD or NOT ENFORCED"), drop);
            }
        }
    }
    Ok(())
}

/// The foreign key of a table above that says the same as one of its partition's own.
fn twice<'d>(catalog: &'d Catalog, partition: &'d Table, key: &Constraint) -> Option<&'d str> {
    let above = top(catalog, partition);
    let same = above.constraints.iter().find(|other| {
        above.name != partition.name
            && other.references == key.references
            && other.columns == key.columns
            && referenced(&other.definition) == referenced(&key.definition)
    })?;
    Some(&same.name)
}

/// Tables that a plan has to know besides those that the migration names: whose foreign keys
/// reference a table of which it changes types, and, where they change too, those of theirs.
pub fn wanted(migration: &Migration, catalog: &Catalog) -> BTreeSet<QName> {
    let mut tables: BTreeSet<&QName> = BTreeSet::new();
    for statement in migration.sections.iter().flat_map(|s| &s.statements) {
        if let Action::AlterTable { name, ops, .. } = understand(&statement.sql)
            && let Some(table) = catalog.table(name.schema.as_deref(), &name.name)
            && ops
                .iter()
                .any(|op| matches!(op.kind, AlterOpKind::SetType { .. }))
        {
            tables.insert(&table.name);
        }
    }
    let mut missing = BTreeSet::new();
    let mut open: Vec<&QName> = tables.iter().copied().collect();
    while let Some(name) = open.pop() {
        for (other, _) in catalog
            .tables
            .get(name)
            .iter()
            .flat_map(|t| &t.referenced_by)
        {
            match catalog.tables.get(other) {
                None => {
                    missing.insert(other.clone());
                }
                Some(table) if migration.options.cascade && tables.insert(&table.name) => {
                    open.push(&table.name);
                }
                Some(_) => {}
            }
        }
    }
    missing
}

/// A question about a foreign key: whether the types compare.
#[derive(Debug, Clone)]
pub struct Question {
    /// The table that has the key.
    pub table: QName,
    /// Its oid.
    pub oid: u32,
    /// The key's name.
    pub name: String,
    /// Statements upon the temporary copies.
    pub statements: Vec<String>,
    /// Where the change stands in the file.
    pub span: crate::sql::Span,
    /// What is refused where the server does.
    pub why: String,
    /// The way out.
    pub help: String,
}

/// The questions; `copies` are the names of the copies of tables that change.
pub(in crate::plan) fn questions(
    draft: &Draft<'_>,
    copies: &BTreeMap<QName, String>,
) -> Vec<Question> {
    let list = |names: &[String], of: &[Retype]| {
        let names: Vec<String> = names
            .iter()
            .map(|n| Inbound::name_of(of, Side::New, n).unwrap_or_else(|| n.clone()))
            .map(|n| ident(&n))
            .collect();
        names.join(", ")
    };
    let mut all: Vec<Question> = inbound(draft)
        .into_iter()
        .enumerate()
        .filter_map(|(number, key)| {
            let to = copies.get(&key.to.name)?;
            let mut statements = Vec::new();
            let own = copies.get(&key.top.name).cloned().unwrap_or_else(|| {
                let name = format!("pgshift_key_{}", number + 1);
                statements.push(format!(
                    "CREATE TEMP TABLE {} (LIKE {})",
                    ident(&name),
                    qname(&key.table.name)
                ));
                name
            });
            let theirs = referenced(&key.constraint.definition);
            statements.push(format!(
                "ALTER TABLE pg_temp.{} ADD FOREIGN KEY ({}) REFERENCES pg_temp.{} ({})",
                ident(&own),
                list(&key.constraint.columns, key.own),
                ident(to),
                list(&theirs, key.theirs)
            ));
            statements.push(is_steady(&own, key.table.oid, &key.constraint.name));
            Some(Question {
                table: key.table.name.clone(),
                oid: key.table.oid,
                name: key.constraint.name.clone(),
                statements,
                span: key.theirs.first().map(|r| r.span).unwrap_or_default(),
                why: format!(
                    "foreign key {} of {} cannot reference the new type",
                    key.constraint.name, key.table.name
                ),
                help: format!(
                    "{CASCADE}, or change {} of {} in the same file",
                    key.constraint.columns.join(", "),
                    key.table.name
                ),
            })
        })
        .collect();
    all.extend(outbound(draft, copies));
    all
}

/// The questions about foreign keys of columns that change to columns that stay as they are.
fn outbound(draft: &Draft<'_>, copies: &BTreeMap<QName, String>) -> Vec<Question> {
    let mut all = Vec::new();
    for (table, columns) in &draft.retypes {
        let Some(own) = copies.get(table) else {
            continue;
        };
        let table = &draft.catalog.tables[table];
        for key in &table.constraints {
            let Some(to) = key.references.as_ref() else {
                continue;
            };
            let changed = columns.iter().find(|r| key.columns.contains(&r.column));
            let Some(changed) = changed else {
                continue;
            };
            let theirs = draft.retypes.get(to).map_or(&[][..], Vec::as_slice);
            if references(key, theirs) || has_word(&key.definition, &["PERIOD"]) {
                continue;
            }
            let copy = format!("pgshift_to_{}_{}", own, all.len() + 1);
            let names: Vec<String> = key
                .columns
                .iter()
                .map(|n| Inbound::name_of(columns, Side::New, n).unwrap_or_else(|| n.clone()))
                .map(|n| ident(&n))
                .collect();
            let referenced = referenced(&key.definition);
            let list: Vec<String> = referenced.iter().map(|n| ident(n)).collect();
            let list = list.join(", ");
            all.push(Question {
                table: table.name.clone(),
                oid: table.oid,
                name: key.name.clone(),
                statements: vec![
                    columns_of(&copy, to, &referenced),
                    format!("ALTER TABLE pg_temp.{} ADD UNIQUE ({list})", ident(&copy)),
                    format!(
                        "ALTER TABLE pg_temp.{} ADD FOREIGN KEY ({}) REFERENCES pg_temp.{} ({list})",
                        ident(own),
                        names.join(", "),
                        ident(&copy),
                    ),
                    is_steady(own, table.oid, &key.name),
                ],
                span: changed.span,
                why: format!(
                    "foreign key {} of {} cannot lead from the new type to {} of {to}",
                    key.name,
                    table.name,
                    referenced.join(", ")
                ),
                help: format!(
                    "change the type of {} of {to} with `-- pgshift: option cascade=true`, which \
                     takes {} along, or both in one file; or drop the foreign key in an earlier \
                     migration",
                    referenced.join(", "),
                    changed.column
                ),
            });
        }
    }
    all
}

/// Refuses a foreign key of a copy whose values are equal by a setting of the session, as a `date` and a
/// `timestamptz` are by `TimeZone`: what holds for one session does not for another. One that was so
/// before may stay so.
fn is_steady(copy: &str, of: u32, name: &str) -> String {
    let body = format!(
        "\nDECLARE\n  pgshift_equal text;\nBEGIN\n  \
         SELECT o.oid::regoperator INTO pgshift_equal\n  FROM pg_catalog.pg_constraint k\n  \
         CROSS JOIN unnest(k.conpfeqop) AS e(oid)\n  \
         JOIN pg_catalog.pg_operator o ON o.oid = e.oid\n  \
         JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode\n  \
         WHERE k.contype = 'f' AND k.conrelid = {}::regclass AND p.provolatile <> 'i'\n    \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint b \
         WHERE b.conrelid = {of} AND b.conname = {} AND o.oid = ANY (b.conpfeqop));\n  \
         IF FOUND THEN\n    \
         RAISE EXCEPTION 'what is equal by % depends on settings of the session', pgshift_equal;\n  \
         END IF;\nEND\n",
        literal(&format!("pg_temp.{}", ident(copy))),
        literal(name)
    );
    format!("DO {}", dollar(&body))
}

/// Makes a temporary table of these columns of another one, which needs no right to read that.
fn columns_of(copy: &str, of: &QName, columns: &[String]) -> String {
    let names: Vec<String> = columns.iter().map(|name| literal(name)).collect();
    let body = format!(
        "\nBEGIN\n  EXECUTE (SELECT format('CREATE TEMP TABLE %I (%s)', {}, string_agg(format(\
         '%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod), (SELECT format(\
         ' COLLATE %I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation \
         AND c.collname <> 'default')), ', '))\n    \
         FROM pg_catalog.pg_attribute a\n    \
         WHERE a.attrelid = {}::regclass AND a.attname IN ({}) AND NOT a.attisdropped);\nEND\n",
        literal(copy),
        literal(&qname(of)),
        names.join(", ")
    );
    format!("DO {}", dollar(&body))
}
