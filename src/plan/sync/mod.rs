//! Sync triggers: keep old and new columns equal while both application versions write.
//!
//! One BEFORE INSERT OR UPDATE row trigger per table, firing on **every** update: with
//! `UPDATE OF column` a row moved by an unrelated update would escape the backfill's scan.
//! The author's expressions are evaluated verbatim over a one-row subquery that carries the
//! table's range name, so their column references resolve as in the author's own UPDATE.

mod function;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::catalog::QName;
use crate::sql::quote::{derived_name, dollar, ident, literal, qname};

/// The transaction-local setting that our own chunk writes carry, so that the trigger skips them.
pub const WRITER_SETTING: &str = "pgshift.writer";
/// Its value.
pub const WRITER_BACKFILL: &str = "backfill";

/// One assigned column of a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The column.
    pub column: String,
    /// SQL text of its type.
    pub type_name: String,
    /// Its type has an equality operator.
    pub has_equality: bool,
    /// The author's expression.
    pub expr: String,
    /// Evaluated again the expression may give another value, so that there is none to compare
    /// with.
    pub volatile: bool,
}

/// One UPDATE of a `backfill` (forward) or `reverse` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The name by which the author's text refers to the table.
    pub alias: String,
    /// The author's FROM.
    pub from: Option<String>,
    /// The author's WHERE, without tests that the target is still null.
    pub condition: Option<String>,
    /// Assigned columns.
    pub targets: Vec<Target>,
    /// The author's WHERE tested that a target is still null: it fills what mappings before it
    /// leave.
    pub rest: bool,
    /// Columns of the table that expressions and condition read, by their names in the text.
    pub reads: Vec<String>,
    /// A value that the targets' types cannot hold gives null, not an error: the application that
    /// writes it knows nothing of these columns.
    pub or_null: bool,
}

impl Mapping {
    /// It assigns this column.
    pub fn writes(&self, column: &str) -> bool {
        self.targets.iter().any(|t| t.column == column)
    }

    /// The columns that it assigns, sorted.
    fn target_names(&self) -> BTreeSet<&str> {
        self.targets.iter().map(|t| t.column.as_str()).collect()
    }

    /// It assigns a column that the other one assigns too.
    pub fn shares_target(&self, other: &Self) -> bool {
        self.targets.iter().any(|t| other.writes(&t.column))
    }
}

/// Mappings whose direction is decided together: forward ones linked by the reverse ones that
/// read what they write.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `b = f(a)`.
    pub forward: Vec<Mapping>,
    /// `a = g(b)`.
    pub reverse: Vec<Mapping>,
}

/// All that keeps one table in sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncGroup {
    /// The table.
    pub table: QName,
    /// It is partitioned: a row that moves between partitions fires BEFORE UPDATE, then INSERT.
    pub partitioned: bool,
    /// The trigger function.
    pub function: QName,
    /// The trigger.
    pub trigger: String,
    /// `search_path` of the function: quoted, comma-separated.
    pub search_path: String,
    /// What is kept in sync.
    pub components: Vec<Component>,
}

/// Which directions a trigger function serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Between sync and contract: old and new application version write.
    Both,
    /// After contract: only the new one writes, the soft-dropped columns follow for a revert.
    ReverseOnly,
    /// After contract of a renamed column: what stood in for the new name follows the column
    /// itself, for a revert.
    ForwardOnly,
}

/// A column that contract has renamed (a soft drop is a rename too).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// The author's name.
    pub column: String,
    /// The name in the table.
    pub now: String,
}

/// What the names of our triggers begin with. The second is for tables with a trigger that sorts
/// after the first.
const PREFIXES: [&str; 2] = ["zzz_pgshift_sync_", "~pgshift_sync_"];

/// True for the name of a sync trigger.
pub fn is_ours(trigger: &str) -> bool {
    PREFIXES.iter().any(|p| trigger.starts_with(p))
}

/// A name for a migration's sync trigger that sorts after every BEFORE row trigger of the table:
/// `PostgreSQL` fires triggers of one kind in order of name (docs, "Overview of Trigger
/// Behavior"), and ours must see what the others made of the row.
///
/// It sorts before the sync triggers of earlier migrations, which stay until purge: these map
/// further back what this one maps back.
///
/// # Errors
/// The name of a trigger that sorts after any name that we could take.
pub fn trigger_name(table: &QName, migration: &str, existing: &[&str]) -> Result<String, String> {
    let key = key(table, migration);
    let (ours, others): (Vec<&str>, Vec<&str>) = existing.iter().partition(|name| is_ours(name));
    for prefix in PREFIXES {
        // Two digits, counted down from 99.
        let number = |name: &str| name.strip_prefix(prefix)?.get(..2)?.parse::<u32>().ok();
        let least = ours.iter().filter_map(|name| number(name)).min();
        let Some(number) = least.unwrap_or(100).checked_sub(1) else {
            continue;
        };
        let name = derived_name(&format!("{prefix}{number:02}_"), &table.name, &key);
        if others
            .iter()
            .all(|other| other.as_bytes() < name.as_bytes())
        {
            return Ok(name);
        }
    }
    let last = others.iter().max().or(ours.iter().max());
    Err(last.map(|name| (*name).to_owned()).unwrap_or_default())
}

/// The name of the trigger function of a table and a migration, in the state schema. A migration
/// that is contracted keeps its own until purge, whatever comes after it.
pub fn function_name(table: &QName, migration: &str) -> QName {
    let name = derived_name("sync_", &table.name, &key(table, migration));
    QName::new("pgshift", name)
}

fn key(table: &QName, migration: &str) -> String {
    format!("sync {} {migration}", qname(table))
}

/// Links forward and reverse mappings of one table into components, in the order of their first
/// mappings: one may read what an earlier one writes.
///
/// # Errors
/// The index of a reverse mapping that reads nothing that a forward one writes.
pub fn components(forward: Vec<Mapping>, reverse: Vec<Mapping>) -> Result<Vec<Component>, usize> {
    // Every forward mapping starts alone; those that write a common column, and those that a
    // reverse mapping links, are merged.
    let mut all: Vec<Component> = Vec::new();
    for mapping in forward {
        let at = merge(&mut all, |column| mapping.writes(column));
        let at = at.unwrap_or_else(|| {
            all.push(Component::default());
            all.len() - 1
        });
        all[at].forward.push(mapping);
    }
    for (index, mapping) in reverse.into_iter().enumerate() {
        let at = merge(&mut all, |column| mapping.reads.iter().any(|r| r == column));
        all[at.ok_or(index)?].reverse.push(mapping);
    }
    Ok(all)
}

/// Merges the components with a target that is `linked` into the first of them, and gives its
/// place; `None` where there is none.
fn merge(all: &mut Vec<Component>, linked: impl Fn(&str) -> bool) -> Option<usize> {
    let touched = |c: &Component| c.targets().any(|t| linked(&t.column));
    let first = all.iter().position(touched)?;
    let mut index = first + 1;
    while index < all.len() {
        if touched(&all[index]) {
            let part = all.remove(index);
            all[first].forward.extend(part.forward);
            all[first].reverse.extend(part.reverse);
        } else {
            index += 1;
        }
    }
    Some(first)
}

impl Component {
    /// The new columns, each once, in order.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let mut seen = BTreeSet::new();
        self.forward
            .iter()
            .flat_map(|m| &m.targets)
            .filter(move |t| seen.insert(&t.column))
    }

    /// What the forward mappings read, without their own targets.
    fn sources(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self
            .forward
            .iter()
            .flat_map(|m| &m.reads)
            .map(String::as_str)
            .filter(|column| !self.forward.iter().any(|m| m.writes(column)))
            .collect();
        all.into_iter().collect()
    }

    /// What the reverse mappings read beside the new columns, without their own targets.
    fn reverse_sources(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self
            .reverse
            .iter()
            .flat_map(|m| &m.reads)
            .map(String::as_str)
            .filter(|c| !self.forward.iter().any(|m| m.writes(c)))
            .filter(|c| !self.reverse.iter().any(|m| m.writes(c)))
            .collect();
        all.into_iter().collect()
    }

    fn target_names(&self) -> Vec<&str> {
        self.targets().map(|t| t.column.as_str()).collect()
    }
}

impl SyncGroup {
    /// True where some component maps new columns back to old ones.
    pub fn has_reverse(&self) -> bool {
        self.components.iter().any(|c| !c.reverse.is_empty())
    }

    /// Statements that create function and trigger, in one transaction. CREATE TRIGGER takes
    /// SHARE ROW EXCLUSIVE, which waits for every transaction that has written to the table: when
    /// it commits, every later row version passes through the trigger.
    pub fn create(&self, form: Form, renamed: &[Renamed]) -> Vec<String> {
        let mut statements = self.replace_function(form, renamed);
        statements.push(format!(
            "CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW \
             WHEN (current_setting({}, true) IS DISTINCT FROM {}) EXECUTE FUNCTION {}()",
            ident(&self.trigger),
            qname(&self.table),
            literal(WRITER_SETTING),
            literal(WRITER_BACKFILL),
            qname(&self.function),
        ));
        statements
    }

    /// Statements that put the function of this form in place of the present one.
    pub fn replace_function(&self, form: Form, renamed: &[Renamed]) -> Vec<String> {
        vec![
            self.function_sql(form, renamed),
            format!(
                "REVOKE ALL ON FUNCTION {}() FROM PUBLIC",
                qname(&self.function)
            ),
        ]
    }

    /// Statements that remove trigger and function. Idempotent.
    pub fn remove(&self) -> Vec<String> {
        vec![
            format!(
                "DROP TRIGGER IF EXISTS {} ON {}",
                ident(&self.trigger),
                qname(&self.table)
            ),
            format!("DROP FUNCTION IF EXISTS {}()", qname(&self.function)),
        ]
    }

    /// CREATE OR REPLACE FUNCTION.
    pub fn function_sql(&self, form: Form, renamed: &[Renamed]) -> String {
        let mut body = String::from(
            "\n#variable_conflict use_column\nDECLARE\n  pgshift_row record;\nBEGIN\n",
        );
        for component in &self.components {
            let part = function::Part {
                component,
                renamed,
                partitioned: self.partitioned,
            };
            match form {
                Form::Both => part.both(&mut body),
                Form::ReverseOnly => part.reverse_only(&mut body),
                Form::ForwardOnly => part.forward_only(&mut body),
            }
        }
        body.push_str("  RETURN NEW;\nEND\n");
        // It is compiled in the application's sessions, which may read backslashes otherwise.
        let strings = if body.contains('\\') {
            "\nSET standard_conforming_strings = on"
        } else {
            ""
        };
        format!(
            "CREATE OR REPLACE FUNCTION {}() RETURNS trigger LANGUAGE plpgsql\n\
             SET search_path = {}{strings}\nAS {}",
            qname(&self.function),
            self.search_path,
            dollar(&body),
        )
    }
}
