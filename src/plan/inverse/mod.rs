//! How a statement is taken back.

mod index;
mod names;
mod object;
mod on_table;
mod rights;
mod table;
#[cfg(test)]
mod tests;

use super::forms::{created, existing, kind, table};
use crate::catalog::Catalog;
use crate::sql::ddl::Action;
use crate::sql::lex::lex_code;
use crate::sql::{RelName, quote};

/// The way back of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inverse {
    /// Nothing was changed that needs a way back.
    Nothing,
    /// These statements, in order, each committed before the next.
    Sql(Vec<InverseStep>),
    /// There is no mechanical way back; why, and what to do, for people.
    Irreversible(String),
}

/// A statement of a way back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InverseStep {
    /// The statement.
    pub sql: String,
    /// Further statements of the same transaction.
    pub also: Vec<String>,
    /// It must run outside a transaction block.
    pub concurrent: bool,
    /// The table of an index that the catalog does not have yet.
    pub on: Option<RelName>,
    /// It only reads this table; for code, of which nothing else would be known.
    pub reads: Option<RelName>,
    /// What it is, for people, where the statement does not say it.
    pub title: Option<String>,
    /// What does not come back although the schema does, or may stop the way back.
    pub lost: Option<String>,
}

impl InverseStep {
    fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            also: Vec::new(),
            concurrent: false,
            on: None,
            reads: None,
            title: None,
            lost: None,
        }
    }

    fn concurrent(sql: impl Into<String>) -> Self {
        Self {
            concurrent: true,
            ..Self::new(sql)
        }
    }
}

fn sql(statement: impl Into<String>) -> Inverse {
    Inverse::Sql(vec![InverseStep::new(statement)])
}

fn give_revert(reason: impl std::fmt::Display) -> Inverse {
    Inverse::Irreversible(format!("{reason}; give a revert section"))
}

/// The way back of `action`, which is about to run where the catalog is `before`. Dropping tables
/// and columns has none here: those are kept aside, not dropped, until purge.
///
/// The statements name everything with its schema and quote every name. None of them blocks
/// writers for longer than it takes to change the catalog, for whatever had a form that does not.
/// An unqualified name that is new is taken to go to the first schema of the search path.
pub fn inverse(action: &Action, before: &Catalog) -> Inverse {
    let cx = Context { before };
    cx.action(action)
}

#[derive(Clone, Copy)]
struct Context<'a> {
    before: &'a Catalog,
}

impl Context<'_> {
    fn is_there(self, name: &RelName) -> bool {
        kind(self.before, name).is_some()
    }

    /// The name as SQL, with its schema: of what is there, or of what is created.
    fn existing(self, name: &RelName) -> String {
        existing(self.before, name).sql()
    }

    fn created(self, name: &RelName) -> String {
        created(self.before, name).sql()
    }

    fn action(self, action: &Action) -> Inverse {
        match action {
            Action::CreateTable {
                temporary: true, ..
            }
            | Action::CreateView {
                temporary: true, ..
            }
            | Action::Set
            | Action::Transaction
            | Action::LockTable { .. }
            | Action::Vacuum { .. }
            | Action::Analyze { .. }
            | Action::Cluster { .. }
            | Action::Reindex { .. }
            | Action::Refresh { .. }
            | Action::Copy { from: false, .. } => Inverse::Nothing,
            Action::Select { functions } => match functions.first() {
                None => Inverse::Nothing,
                Some(name) => give_revert(format!("what the function {name} changes is not known")),
            },
            Action::CreateTable {
                name,
                if_not_exists,
                foreign,
                ..
            } => self.drop_created(
                if *foreign { "FOREIGN TABLE" } else { "TABLE" },
                name,
                *if_not_exists,
            ),
            Action::CreateSequence {
                name,
                if_not_exists,
            } => self.drop_created("SEQUENCE", name, *if_not_exists),
            Action::CreateView {
                name,
                or_replace,
                materialized,
                if_not_exists,
                ..
            } => {
                let found = created(self.before, name);
                if *or_replace && self.is_there(&found) {
                    return self.view_again(&found, true);
                }
                let object = if *materialized {
                    "MATERIALIZED VIEW"
                } else {
                    "VIEW"
                };
                self.drop_created(object, name, *if_not_exists)
            }
            Action::CreateIndex { .. } => self.create_index(action),
            Action::DropIndex {
                names, if_exists, ..
            } => Self::each(names, |name| self.drop_index(name, *if_exists)),
            Action::CreateType { name } => sql(format!("DROP TYPE {}", self.created(name))),
            Action::CreateDomain { name } => sql(format!("DROP DOMAIN {}", self.created(name))),
            Action::AlterTypeAddValue { name, .. } => give_revert(format!(
                "PostgreSQL cannot take a value out of the enum {name}; leaving it unused does \
                 no harm, so the section may be a SELECT 1"
            )),
            Action::AlterType { name, change, .. } => self.name_change("TYPE", name, change),
            Action::AlterDomain { name, change, .. } => self.name_change("DOMAIN", name, change),
            Action::AlterFunction {
                function, change, ..
            } => self.alter_function(function, change),
            Action::CreateSchema {
                name,
                if_not_exists,
                elements,
            } => self.create_schema(name.as_deref(), *if_not_exists, *elements),
            Action::CreateExtension {
                if_not_exists: true,
                name,
            } => give_revert(format!(
                "whether the extension {name} was there before is not known, and others may use it"
            )),
            Action::CreateExtension { name, .. } => {
                sql(format!("DROP EXTENSION {}", quote::ident(name)))
            }
            Action::CreateFunction {
                object,
                name,
                or_replace,
                signature,
            } => match signature {
                Some(signature) if *or_replace => self.replaced_function(object, name, signature),
                None => give_revert(format!("the parameters of {name} are not understood")),
                Some(signature) => sql(format!("DROP {object} {}{signature}", self.created(name))),
            },
            Action::CreateTrigger {
                name,
                table,
                or_replace,
                ..
            } => self.create_trigger(name, table, *or_replace),
            Action::CreatePolicy { name, table } => self.drop_on_table("POLICY", name, table),
            Action::CreateRule {
                name,
                table,
                or_replace,
            } => {
                if *or_replace {
                    give_revert(format!(
                        "what the rule {name} was before CREATE OR REPLACE is not kept"
                    ))
                } else {
                    self.drop_on_table("RULE", name, table)
                }
            }
            Action::DropOnTable {
                object,
                name,
                table,
                if_exists,
                ..
            } => self.dropped_on_table(object, name, table, *if_exists),
            Action::AlterOnTable {
                object,
                name,
                table,
                rename_to,
            } => match rename_to {
                Some(to) => sql(format!(
                    "ALTER {object} {} ON {} RENAME TO {}",
                    quote::ident(to),
                    self.existing(table),
                    quote::ident(name)
                )),
                None => give_revert(format!(
                    "what the {} {name} was before is not kept",
                    object.to_lowercase()
                )),
            },
            Action::CreateStatistics {
                name: Some(name),
                if_not_exists: false,
                ..
            } => sql(format!("DROP STATISTICS {}", self.created(name))),
            Action::CreateStatistics { .. } => give_revert(
                "statistics without a name, or with IF NOT EXISTS, cannot be told from others",
            ),
            Action::Comment { target } => self.comment(target),
            Action::AlterTable {
                name,
                ops,
                if_exists,
                ..
            } => {
                let found = table(self.before, name);
                if *if_exists && found.is_none() {
                    return Inverse::Nothing;
                }
                self.alter_table(name, found, ops.iter().map(|op| &op.kind))
            }
            Action::AlterRelation {
                kind: relkind,
                name,
                if_exists,
                ops,
            } => {
                if *if_exists && !self.is_there(name) {
                    return Inverse::Nothing;
                }
                Self::chain(
                    ops.iter()
                        .map(|op| self.alter_relation(*relkind, name, &op.kind))
                        .rev(),
                )
            }
            Action::DropView {
                names,
                materialized: false,
                if_exists,
                cascade: false,
            } => Self::each(names, |name| {
                let found = existing(self.before, name);
                if *if_exists && !self.is_there(name) {
                    Inverse::Nothing
                } else {
                    self.view_again(&found, false)
                }
            }),
            Action::DropTable {
                names, if_exists, ..
            }
            | Action::DropSequence {
                names, if_exists, ..
            }
            | Action::DropView {
                names, if_exists, ..
            } => {
                if *if_exists && !names.iter().any(|name| self.is_there(name)) {
                    return Inverse::Nothing;
                }
                give_revert("what is dropped is not kept")
            }
            Action::Insert { .. }
            | Action::Update { .. }
            | Action::Delete { .. }
            | Action::Merge { .. }
            | Action::Writes { .. }
            | Action::Truncate { .. }
            | Action::Copy { .. } => give_revert("the data that it changes is not kept"),
            Action::Grant { rights } => self.rights(true, rights.as_deref()),
            Action::Revoke { rights } => self.rights(false, rights.as_deref()),
            Action::DefaultPrivileges {
                roles,
                schemas,
                grant,
                rights,
            } => self.default_rights(roles, schemas, *grant, rights.as_deref()),
            Action::Drop { object, .. } => give_revert(format!(
                "the definition of what DROP {object} drops is not kept"
            )),
            Action::Other { verb, object } => {
                give_revert(format!("{verb} {object} has no way back that is known"))
            }
            Action::Members { verb, object, .. } => {
                give_revert(format!("{verb} {object} has no way back that is known"))
            }
            Action::SecurityLabel => give_revert("the label that was there before is not kept"),
            Action::Do | Action::Call => give_revert("what the code changes is not known"),
            Action::OutsideTransaction { leading } | Action::Opaque { leading } => {
                give_revert(format!("{leading} has no way back that is known"))
            }
        }
    }

    /// The ways back one after the other; irreversible where one is.
    fn chain(parts: impl Iterator<Item = Inverse>) -> Inverse {
        let mut steps = Vec::new();
        for part in parts {
            match part {
                Inverse::Nothing => {}
                Inverse::Sql(more) => steps.extend(more),
                irreversible @ Inverse::Irreversible(_) => return irreversible,
            }
        }
        if steps.is_empty() {
            Inverse::Nothing
        } else {
            Inverse::Sql(steps)
        }
    }

    fn each(names: &[RelName], way: impl Fn(&RelName) -> Inverse) -> Inverse {
        Self::chain(names.iter().map(way).rev())
    }

    fn drop_created(self, object: &str, name: &RelName, if_not_exists: bool) -> Inverse {
        let name = created(self.before, name);
        if if_not_exists && self.is_there(&name) {
            return Inverse::Nothing;
        }
        sql(format!("DROP {object} {}", name.sql()))
    }

    /// The view as it was, in one transaction: CREATE OR REPLACE cannot take a column away again.
    fn view_again(self, name: &RelName, replaced: bool) -> Inverse {
        let known = name.schema.as_ref().and_then(|schema| {
            let name = crate::catalog::QName::new(schema.as_str(), name.name.as_str());
            self.before.views.get(&name)
        });
        let Some(recreate) = known.map(|view| &view.recreate).filter(|r| !r.is_empty()) else {
            return give_revert(format!(
                "the view {name} has more than its definition, owner and rights, or another view \
                 stands upon it"
            ));
        };
        let mut all = Vec::new();
        if replaced {
            all.push(format!("DROP VIEW {}", name.sql()));
        }
        all.extend(recreate.iter().cloned());
        let mut step = InverseStep::new(all.remove(0));
        step.also = all;
        Inverse::Sql(vec![step])
    }

    /// The function as it was, where it is sure which one was replaced.
    fn replaced_function(self, object: &str, name: &RelName, signature: &str) -> Inverse {
        let found = created(self.before, name);
        let overloads = found.schema.as_ref().and_then(|schema| {
            let name = crate::catalog::QName::new(schema.as_str(), name.name.as_str());
            self.before.functions.get(&name)
        });
        let Some(overloads) = overloads else {
            return sql(format!("DROP {object} {}{signature}", found.sql()));
        };
        let wanted = arguments(signature);
        let same = overloads
            .iter()
            .find(|f| !f.definition.is_empty() && arguments(&f.arguments) == wanted);
        match same {
            Some(old) => sql(old.definition.clone()),
            None => give_revert(format!(
                "there are other functions {name}, and which one this replaces is not understood"
            )),
        }
    }

    fn create_schema(self, name: Option<&str>, if_not_exists: bool, elements: bool) -> Inverse {
        let Some(name) = name else {
            return give_revert("the name of the schema is that of a role");
        };
        let there = self.before.search_path.iter().any(|s| s == name)
            || self.before.tables.keys().any(|t| t.schema == name)
            || self.before.relations.keys().any(|t| t.schema == name);
        if if_not_exists {
            return if there {
                Inverse::Nothing
            } else {
                give_revert(format!(
                    "whether the schema {name} was there before is not known"
                ))
            };
        }
        if elements {
            return give_revert(format!(
                "CREATE SCHEMA {name} creates more than a schema; give each its own statement"
            ));
        }
        sql(format!("DROP SCHEMA {}", quote::ident(name)))
    }
}

/// The text of a function's parameters, with the server's names of the types.
pub(super) fn arguments(text: &str) -> String {
    let words: Vec<String> = lex_code(text)
        .into_iter()
        .map(|t| t.text(text).to_ascii_lowercase())
        .collect();
    let inside = match words.as_slice() {
        [first, inside @ .., last] if first == "(" && last == ")" => inside,
        all => all,
    };
    let mut out: Vec<&str> = Vec::new();
    for word in inside {
        let word = match word.as_str() {
            "in" => continue,
            "int" | "int4" => "integer",
            "int8" => "bigint",
            "int2" => "smallint",
            "bool" => "boolean",
            "varchar" => "character varying",
            "float8" => "double precision",
            "float4" => "real",
            "decimal" => "numeric",
            "timestamptz" => "timestamp with time zone",
            other => other,
        };
        out.push(word);
    }
    out.join(" ")
}
