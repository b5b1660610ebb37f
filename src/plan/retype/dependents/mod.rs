//! What depends on a column whose type changes: views, triggers, policies, tables in publications,
//! functions. It follows the column's number, not its name, so it is dropped before the swap and
//! made again after it, by the server's own words of before, in which the name now is the new
//! column's. The way back is the same.

mod beside;
mod joint;
pub(in crate::plan) mod statistics;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::dress::Swapped;
use super::small;
use crate::catalog::Table;
use crate::catalog::dependents::{Dependent, DependentKind, Obstacle, Part, PartKind};
use crate::plan::step::{Own, Relies};
use crate::sql::lex::lex_code;

pub(in crate::plan) use joint::Joint;
pub use joint::merged;

/// The way out of most of it.
const BEFORE_AND_AFTER: &str = "drop it in an earlier migration and make it again in a later one";

/// Of what depends on a column, as the catalog describes it, what is refused without asking more:
/// the server would not even change the type of an empty copy.
pub(super) fn refused_at_once(dependents: &[String]) -> Vec<&str> {
    let key = |d: &&String| d.starts_with("partition key of");
    dependents.iter().filter(key).map(String::as_str).collect()
}

/// Of what depends on a column, as the catalog describes it, the stored generated columns.
pub(super) fn stored<'a>(table: &Table, dependents: &'a [String]) -> Vec<&'a str> {
    let is_virtual = |d: &str| {
        let mut all = table.columns.iter().filter(|c| c.generated && c.is_virtual);
        all.any(|c| d.starts_with(&format!("generated column {} of table ", c.name)))
    };
    let stored = |d: &&String| d.starts_with("generated ") && !is_virtual(d);
    dependents
        .iter()
        .filter(stored)
        .map(String::as_str)
        .collect()
}

/// Why these cannot be dropped and made again in a moment, and the way out.
pub fn refusal(dependents: &[Dependent]) -> Option<(String, String)> {
    let beside = beside::made_beside(dependents);
    // One that is dropped and added again would take the materialized view with it.
    if let Some(column) = dependents.iter().find(|d| d.is_added_again())
        && let Some(view) = dependents.iter().find(|d| d.stored.is_some())
    {
        return Some((
            format!(
                "{} is added again for the new type, which {} would not outlive",
                column.what, view.what
            ),
            "drop the one or the other in an earlier migration and make it again in a later one; \
             from PostgreSQL 17 on there is no need to"
                .to_owned(),
        ));
    }
    dependents
        .iter()
        .enumerate()
        .find_map(|(place, dependent)| {
            let what = &dependent.what;
            let help = BEFORE_AND_AFTER.to_owned();
            if dependent.kind == DependentKind::Other {
                return Some((
                    format!("{what} depends on it, and cannot follow to another column"),
                    help,
                ));
            }
            let view = matches!(
                dependent.kind,
                DependentKind::View | DependentKind::MaterializedView
            );
            if beside.contains(&place) && !view {
                return Some((
                format!(
                    "a materialized view reads {what}, which depends on it: there cannot be two of \
                     that, and computing the view anew would keep everybody waiting"
                ),
                "drop the materialized view in an earlier migration and make it again in a later \
                 one; to have one all the time, make one of another name without the column first"
                    .to_owned(),
            ));
            }
            let (why, help) = match dependent.obstacles.first()? {
            Obstacle::Owner => (
                "belongs to a role that this one is no member of",
                "GRANT the role of its owner to the one that runs pgshift".to_owned(),
            ),
            Obstacle::Schema => (
                "is in a schema in which this role may not create anything",
                "GRANT CREATE ON SCHEMA to it".to_owned(),
            ),
            Obstacle::Fixed if dependent.drop.is_empty() => (
                "the server gives no other expression to a virtual column that is NOT NULL, in a \
                 table with a CHECK, or in a publication",
                help,
            ),
            Obstacle::Fixed => (
                "up to PostgreSQL 16 cannot be added again where a foreign key has it, or an index, \
                 a constraint or statistics have both",
                help,
            ),
            Obstacle::Extension => ("belongs to an extension", help),
            Obstacle::Label => ("has a security label, which would be lost", help),
            Obstacle::Temporary => (
                "is temporary, of another session",
                "end that session, and plan again".to_owned(),
            ),
            Obstacle::PassedOn => (
                "has rights that others than its owner gave, which would be lost",
                "let the owner give them, or drop it in an earlier migration and make it again in \
                 a later one"
                    .to_owned(),
            ),
            Obstacle::Circle => ("depends on itself by way of others", help),
        };
            Some((format!("{what} depends on it, and {why}"), help))
        })
}

/// The search path in which what depends on tables is written down to be made again over temporary
/// tables of their names; `None` where names would not be clear.
pub fn rehearsal_path(tables: &[&Table], dependents: &[Dependent]) -> Option<String> {
    let mut schemas: Vec<&str> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for table in tables {
        if names.contains(&table.name.name.as_str()) {
            return None;
        }
        names.push(&table.name.name);
        if !schemas.contains(&table.name.schema.as_str()) {
            schemas.push(&table.name.schema);
        }
    }
    for dependent in dependents {
        let Some(relation) = &dependent.relation else {
            continue;
        };
        if !schemas.contains(&relation.schema.as_str()) {
            schemas.push(&relation.schema);
        }
        let named = [DependentKind::View, DependentKind::MaterializedView];
        if named.contains(&dependent.kind) {
            if names.contains(&relation.name.as_str()) {
                return None;
            }
            names.push(&relation.name);
        }
    }
    let schemas: Vec<String> = schemas.into_iter().map(crate::sql::quote::ident).collect();
    Some(schemas.join(", "))
}

/// What gives a generated column of a table no expression, and its own again, each upon a
/// table of the given name. Up to PostgreSQL 16 it is a plain column from then on, and another of its
/// kind is tried.
pub fn regenerated(dependent: &Dependent, table: &str) -> Option<(String, String)> {
    if dependent.kind != DependentKind::Generated {
        return None;
    }
    let create = dependent.create.first()?;
    if !dependent.drop.is_empty() {
        let (_, column) = create.split_once(" ADD COLUMN ")?;
        let name = lex_code(column).first()?.span;
        let (name, definition) = (name.of(column), &column[name.end..]);
        return Some((
            format!("ALTER TABLE {table} ALTER COLUMN {name} DROP EXPRESSION"),
            format!(
                "ALTER TABLE {table} ADD COLUMN _pgshift_again{definition};
                 ALTER TABLE {table} DROP COLUMN _pgshift_again"
            ),
        ));
    }
    let (_, column) = create.split_once(" ALTER COLUMN ")?;
    let (name, _) = column.split_once(" SET EXPRESSION AS (")?;
    Some((
        format!("ALTER TABLE {table} ALTER COLUMN {name} SET EXPRESSION AS (NULL)"),
        format!("ALTER TABLE {table} ALTER COLUMN {column}"),
    ))
}

/// Functions whose text names a column, which see its new type from contract on.
pub(in crate::plan) fn mentioned(table: &Table, columns: &[super::Retype]) -> Option<String> {
    let functions: Vec<&str> = table
        .mentions
        .iter()
        .filter(|m| {
            m.columns
                .iter()
                .any(|c| columns.iter().any(|r| r.column == *c))
        })
        .map(|m| m.function.as_str())
        .collect();
    if functions.is_empty() {
        return None;
    }
    let names: Vec<&str> = columns.iter().map(|r| r.column.as_str()).collect();
    Some(format!(
        "functions whose text names {} of {}: {}; nothing changes them, and from contract on they \
         meet the new type",
        names.join(" or "),
        table.name,
        functions.join(", ")
    ))
}

/// Why this step may not run on what depends on its columns now, and on what these have of their own;
/// `None` where it may.
pub fn changed(relies: &Relies, now: &[Dependent], own: &[Part]) -> Option<String> {
    let own = own.iter().filter(|part| relies.own.counts(part.kind));
    let found: BTreeMap<&str, String> = now
        .iter()
        .map(|d| (d.what.as_str(), d.fingerprint()))
        .chain(own.map(|part| (part.what.as_str(), part.value.clone())))
        .collect();
    let mut all: Vec<String> = Vec::new();
    for (what, fingerprint) in &relies.dependents {
        match found.get(what.as_str()) {
            _ if fingerprint == Relies::OR_NONE => {}
            None => all.push(format!("{what} is gone, or no longer depends on it")),
            Some(now) if !fingerprint.is_empty() && now != fingerprint => {
                all.push(format!("{what} is not as it was"));
            }
            Some(_) => {}
        }
    }
    for what in found.keys() {
        if !relies.dependents.contains_key(*what) {
            all.push(format!("{what} is new"));
        }
    }
    (!all.is_empty()).then(|| {
        format!(
            "what depends on {} of {} has changed since the plan: {}",
            relies.columns.join(", "),
            relies.table,
            all.join("; ")
        )
    })
}

impl Swapped<'_> {
    /// The server writes the table anew for generated columns that are stored.
    pub(super) fn writes_anew(self) -> bool {
        self.answer.dependents.iter().any(|d| {
            let stored = |name: &str| {
                let column = self.table.column(name);
                column.is_some_and(|c| c.generated && !c.is_virtual)
            };
            d.kind == DependentKind::Generated && d.column.as_deref().is_some_and(stored)
        })
    }

    /// Stops where the table is not small any more.
    pub(super) fn guard_stored(self) -> Vec<String> {
        if !self.writes_anew() || self.allowed.stored {
            return Vec::new();
        }
        vec![small::guard_stored(self.table)]
    }

    /// What the swap needs to be as it was in the plan: exactly, or by name alone where the server may
    /// write a definition in other words by then, as on the way back.
    pub(super) fn relies(self, exactly: bool) -> Relies {
        let dependents = self.answer.dependents.iter().map(|d| {
            let fingerprint = if exactly {
                d.fingerprint()
            } else {
                String::new()
            };
            (d.what.clone(), fingerprint)
        });
        let own = Own::Columns;
        let parts = self
            .answer
            .parts
            .iter()
            .filter(|part| own.counts(part.kind));
        let parts = parts.filter_map(|part| {
            let value = match part.kind {
                PartKind::Object | PartKind::Key if exactly => String::new(),
                // Some come back in steps after the swap.
                PartKind::Object | PartKind::Key => Relies::OR_NONE.to_owned(),
                PartKind::Default if !exactly => return None,
                PartKind::Default | PartKind::Setting => part.value.clone(),
            };
            Some((part.what.clone(), value))
        });
        // As the author may have it, in the words of the new type.
        let defaults = self.answer.defaults.keys().filter(|_| !exactly);
        let defaults = defaults.map(|column| (format!("default of {column}"), String::new()));
        Relies {
            table: self.table.name.clone(),
            columns: self.columns.iter().map(|r| r.column.clone()).collect(),
            dependents: dependents.chain(parts).chain(defaults).collect(),
            own,
        }
    }
}
