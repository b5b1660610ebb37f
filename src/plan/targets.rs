//! Tables that a file names and that are nowhere: found in plan, not when the step runs.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::sql::ddl::{Action, AlterOpKind};
use crate::sql::{RelName, Span};

use super::draft::Draft;

/// Checks the tables of ALTER TABLE, CREATE INDEX and REFERENCES, up to the first statement of which
/// it is not known what it makes.
///
/// # Errors
/// [`crate::ErrorKind::Usage`] at the statement whose table is neither in the catalog nor made
/// before it in the file.
pub(super) fn check(draft: &Draft<'_>) -> Result<()> {
    let mut made: BTreeSet<&str> = BTreeSet::new();
    let sections = &draft.sections;
    for known in sections.expand.iter().chain(&sections.contract) {
        let missing = |name: &RelName| !made.contains(name.name.as_str()) && !there(draft, name);
        let (name, head) = match &known.action {
            Action::AlterTable {
                name,
                if_exists: false,
                head,
                ..
            } => (Some(name), Some(*head)),
            Action::CreateIndex { table, .. } => (Some(table), None),
            _ => (None, None),
        };
        let whole = known.statement.span;
        let altered = name.map(|name| {
            let span = head.map_or(whole, |head| head.shift(whole.start));
            (name, span)
        });
        let referenced = references(&known.action);
        let referenced = referenced
            .into_iter()
            .map(|(name, span)| (name, span.map_or(whole, |span| span.shift(whole.start))));
        let mut named = altered.into_iter().chain(referenced);
        if let Some((name, span)) = named.find(|(name, _)| missing(name)) {
            return Err(draft.wrong(
                span,
                format!("table {name} does not exist"),
                "neither in the database nor made before in this file; is the \
                 search_path right, and has the role USAGE on its schema?",
            ));
        }
        match &known.action {
            Action::CreateTable { name, .. } | Action::CreateView { name, .. } => {
                made.insert(&name.name);
            }
            Action::AlterTable { ops, .. } => {
                for op in ops {
                    match &op.kind {
                        AlterOpKind::RenameTable { to } => {
                            made.insert(to);
                        }
                        // What the table is called afterwards is looked up no further.
                        AlterOpKind::SetSchema { .. } | AlterOpKind::Other { .. } => return Ok(()),
                        _ => {}
                    }
                }
            }
            Action::CreateIndex { .. }
            | Action::CreateSequence { .. }
            | Action::CreateType { .. }
            | Action::CreateDomain { .. }
            | Action::CreateFunction { .. }
            | Action::CreateTrigger { .. }
            | Action::CreatePolicy { .. }
            | Action::Comment { .. }
            | Action::Grant { .. }
            | Action::Revoke { .. }
            | Action::DefaultPrivileges { .. } => {}
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The tables that new foreign keys reference, with the place of the key in the statement.
fn references(action: &Action) -> Vec<(&RelName, Option<Span>)> {
    match action {
        // One may reference itself.
        Action::CreateTable {
            name, references, ..
        } => references
            .iter()
            .filter(|other| other.name != name.name)
            .map(|other| (other, None))
            .collect(),
        Action::AlterTable { ops, .. } => ops
            .iter()
            .flat_map(|op| match &op.kind {
                AlterOpKind::AddColumn(def) => def
                    .constraints
                    .iter()
                    .filter_map(|c| Some((c.references.as_ref()?, Some(c.body))))
                    .collect(),
                AlterOpKind::AddConstraint(def) => def
                    .references
                    .iter()
                    .map(|name| (name, Some(def.body)))
                    .collect(),
                _ => Vec::new(),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// A relation of this name is in the database.
pub(super) fn there(draft: &Draft<'_>, name: &RelName) -> bool {
    let of = |schema: &str| {
        let name = crate::catalog::QName::new(schema, name.name.as_str());
        draft.catalog.tables.contains_key(&name) || draft.catalog.relations.contains_key(&name)
    };
    match &name.schema {
        Some(schema) => of(schema),
        None => draft.catalog.search_path.iter().any(|schema| of(schema)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::parse_bytes;
    use crate::plan::testing::catalog;

    fn checked(text: &str) -> Option<String> {
        let migration = parse_bytes("1", "1.sql", text.as_bytes()).expect("a migration");
        let catalog = catalog(15);
        let draft = Draft::new(&migration, &catalog).expect("a draft");
        check(&draft).err().map(|e| e.to_string())
    }

    #[test]
    fn a_table_that_is_nowhere() {
        for text in [
            "ALTER TABLE ordrs ADD COLUMN a int",
            "ALTER TABLE nowhere.orders ADD COLUMN a int",
            "CREATE TABLE a (n int); CREATE INDEX i ON b (n)",
            "CREATE TABLE a (n int REFERENCES nowhere)",
            "ALTER TABLE orders ADD COLUMN a int REFERENCES nowhere (id)",
            "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES nowhere",
        ] {
            let error = checked(text).expect(text);
            assert!(error.contains("does not exist"), "{error}");
        }
    }

    #[test]
    fn a_table_that_is_there_is_made_or_may_be() {
        for text in [
            "ALTER TABLE orders ADD COLUMN a int",
            "ALTER TABLE report OWNER TO x",
            "ALTER TABLE IF EXISTS ordrs ADD COLUMN a int",
            "CREATE TABLE a (n int); ALTER TABLE public.a ADD COLUMN b int",
            "ALTER TABLE orders RENAME TO a; CREATE INDEX i ON a (id)",
            "DO $$ BEGIN END $$; ALTER TABLE a ADD COLUMN b int",
            "CREATE EXTENSION e; ALTER TABLE a ADD COLUMN b int",
            "CREATE TABLE a (n int PRIMARY KEY, m int REFERENCES a)",
            "CREATE TABLE a (n int PRIMARY KEY); ALTER TABLE orders ADD COLUMN a int REFERENCES a",
        ] {
            assert_eq!(checked(text), None, "{text}");
        }
    }
}
