//! The safe form of a statement on a table that is in use.
//!
//! What is free already stays the author's text, byte for byte. What has a form that does not
//! block writers is rewritten to it, out of pieces of the author's text. What has none is
//! refused, with the way out.

mod alter;
mod column;
mod names;
mod partition;
#[cfg(test)]
mod tests;

use super::forms::{constraint_name, existing, kind, table};
use super::work::{Work, rewrites_or_scans};
use crate::catalog::{Catalog, RelKind, Table};
use crate::sql::ddl::{Action, ReindexTarget};
use crate::sql::lex::{is_keyword, lex_code};
use crate::sql::source::Span;
use crate::sql::{RelName, quote};

/// The safe form of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Safe {
    /// The author's text can run as it is.
    AsIs,
    /// These steps instead, each committed before the next.
    Rewritten {
        /// Steps, in order.
        steps: Vec<SafeStep>,
        /// Why, for people.
        why: String,
    },
    /// There is no safe form.
    Refused {
        /// Why, for people.
        why: String,
        /// What to do instead.
        way_out: String,
        /// The rule of lint whose `allow` lets it run as written: it costs, and blocks, but is
        /// right. `None` where it would fail, or not do what it says.
        rule: Option<&'static str>,
    },
}

/// A step of a safe form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SafeStep {
    /// The statement.
    pub sql: String,
    /// It must run outside a transaction block.
    pub concurrent: bool,
    /// `Some("validate")` where it reads the whole table without blocking writes, and so can
    /// wait for the backfill.
    pub phase_hint: Option<&'static str>,
}

impl SafeStep {
    fn plain(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            concurrent: false,
            phase_hint: None,
        }
    }

    fn concurrent(sql: impl Into<String>) -> Self {
        Self {
            concurrent: true,
            ..Self::plain(sql)
        }
    }

    fn validate(sql: impl Into<String>) -> Self {
        Self {
            phase_hint: Some("validate"),
            ..Self::plain(sql)
        }
    }
}

fn refused(why: impl Into<String>, way_out: impl Into<String>) -> Safe {
    Safe::Refused {
        why: why.into(),
        way_out: way_out.into(),
        rule: None,
    }
}

/// Refused for what it costs only.
fn costly(rule: &'static str, why: impl Into<String>, way_out: impl Into<String>) -> Safe {
    Safe::Refused {
        why: why.into(),
        way_out: way_out.into(),
        rule: Some(rule),
    }
}

/// What an `allow` let through: its rule, and what it blocks.
pub type Allowed = (&'static str, String);

/// The safe form of `text`, which does `action`, where the catalog is `catalog`.
///
/// A table that the catalog does not have is taken to be made by the same plan: nobody uses it,
/// so everything on it stays as it is. Moving data (UPDATE …), and keeping what DROP TABLE and
/// DROP COLUMN drop, is not decided here.
pub fn safe_form(text: &str, action: &Action, catalog: &Catalog) -> Safe {
    match action {
        Action::AlterTable { .. } => alter::safe_form(text, action, catalog, &[]).0,
        Action::CreateTable {
            name,
            partition_of: Some(parent),
            partition: Some(definition),
            temporary: false,
            foreign: false,
            ..
        } => partition::safe_form(text, name, parent, definition, catalog),
        Action::CreateIndex {
            table: on,
            name,
            only,
            concurrently,
            after_index,
            ..
        } => match kind(catalog, on) {
            None => Safe::AsIs,
            // ON ONLY makes an index that is not valid until those of the partitions are
            // attached, and reads nothing.
            Some(RelKind::Partitioned) if *only => Safe::AsIs,
            Some(RelKind::Partitioned) => refuse_partitioned_index(text, action, on),
            Some(_)
                if name.is_none()
                    && let Some(on) = table(catalog, on) =>
            {
                name_index(text, *after_index, *concurrently, on)
            }
            Some(_) if *concurrently => Safe::AsIs,
            Some(_) => concurrently_at(
                text,
                *after_index,
                "CREATE INDEX blocks writes while it builds; CONCURRENTLY does not",
            ),
        },
        Action::DropIndex { .. } => drop_index(text, action, catalog),
        Action::Reindex {
            target,
            name,
            concurrently,
            after_target,
        } => match target {
            _ if *concurrently => Safe::AsIs,
            ReindexTarget::System => refused(
                "REINDEX SYSTEM blocks everything and has no concurrent form",
                "run it in a maintenance window, outside of a migration",
            ),
            ReindexTarget::Index | ReindexTarget::Table
                if name.as_ref().is_some_and(|n| kind(catalog, n).is_none()) =>
            {
                Safe::AsIs
            }
            _ => concurrently_at(
                text,
                *after_target,
                "REINDEX blocks writes, and reads that could use the index, while it builds; \
                 CONCURRENTLY does not",
            ),
        },
        Action::Refresh {
            name,
            concurrently: false,
        } if kind(catalog, name).is_some() => costly(
            "refresh-blocking",
            format!("REFRESH MATERIALIZED VIEW blocks all reads of {name} while its query runs"),
            "use REFRESH MATERIALIZED VIEW CONCURRENTLY; it needs a unique index on plain columns \
             of the view, without WHERE",
        ),
        Action::Cluster { table: None } => refused(
            "CLUSTER without a table writes table after table anew under locks that block \
             everything",
            "name one table a statement",
        ),
        Action::Vacuum { tables, full: true } if tables.is_empty() => refused(
            "VACUUM FULL without a table writes every table anew under locks that block \
             everything, those of the catalog too",
            "use VACUUM without FULL, or name the tables",
        ),
        Action::Cluster { table } => costly(
            "rewrite-table",
            format!(
                "CLUSTER blocks reads and writes of {} while it is written anew",
                named(table.as_ref())
            ),
            "leave it out, or use an online tool such as pg_repack outside of a migration",
        ),
        Action::Vacuum { tables, full: true } => costly(
            "rewrite-table",
            format!(
                "VACUUM FULL blocks reads and writes of {} while it is written anew",
                named(tables.first())
            ),
            "use VACUUM without FULL, or an online tool such as pg_repack outside of a migration",
        ),
        Action::AlterDomain { name, .. } if rewrites_or_scans(action, catalog) != Work::None => {
            costly(
                "domain-constraint",
                format!(
                    "this reads every table with a column of the domain {name} while it blocks \
                     their writes, and VALIDATE CONSTRAINT of a domain does too"
                ),
                "add a CHECK to each such table instead (it is made NOT VALID and then \
                 validated), or add the constraint to the domain NOT VALID and leave it so",
            )
        }
        Action::Writes { parts } => match parts.iter().find_map(|p| large(p, catalog)) {
            Some(table) => costly(
                "bulk-change",
                format!(
                    "this changes rows of {} in one transaction: each stays locked until the \
                     commit",
                    table.name
                ),
                "divide it: INSERT … SELECT first, then UPDATE or DELETE in a backfill section, in \
                 batches",
            ),
            None => Safe::AsIs,
        },
        Action::LockTable { .. } => refused(
            "every statement runs in a transaction of its own, so the lock would be gone before \
             the next one",
            "leave it out; pgshift takes the locks that its steps need, each with a timeout",
        ),
        Action::Transaction => refused(
            "pgshift makes the transactions: each step has its own, so that no lock is held \
             longer than its step",
            "leave BEGIN, COMMIT and the like out",
        ),
        Action::Set => refused(
            "every statement runs in a transaction of its own, perhaps on another connection, so \
             a setting would not be there for the next one",
            "write names with their schema instead of setting search_path, and use `-- pgshift: \
             option` for timeouts",
        ),
        _ => Safe::AsIs,
    }
}

/// As [`safe_form`], where the author allows rules to be broken: what is refused for one of them
/// runs as written.
pub fn safe_form_allowing(
    text: &str,
    action: &Action,
    catalog: &Catalog,
    rules: &[&str],
) -> (Safe, Vec<Allowed>) {
    if let Action::AlterTable { .. } = action {
        return alter::safe_form(text, action, catalog, rules);
    }
    let mut allowed = Vec::new();
    let form = allow(safe_form(text, action, catalog), rules, &mut allowed);
    (form, allowed)
}

/// The form, or the author's text where it is refused for a rule that may be broken.
fn allow(form: Safe, rules: &[&str], allowed: &mut Vec<Allowed>) -> Safe {
    match form {
        Safe::Refused {
            why,
            rule: Some(rule),
            ..
        } if rules.contains(&rule) => {
            allowed.push((rule, why));
            Safe::AsIs
        }
        form => form,
    }
}

/// Rows of a table of which all can be changed at once.
const SMALL: i64 = 10_000;

/// The table of which a part of a statement changes rows, where it has many.
fn large<'c>((part, _): &(Action, Span), catalog: &'c Catalog) -> Option<&'c Table> {
    match part {
        Action::Update { table: on } | Action::Delete { table: on } => {
            table(catalog, on).filter(|t| t.rows > SMALL)
        }
        _ => None,
    }
}

fn named(table: Option<&RelName>) -> String {
    table.map_or_else(|| "its tables".to_owned(), ToString::to_string)
}

/// The author's text with CONCURRENTLY put in.
fn concurrently_at(text: &str, at: usize, why: &str) -> Safe {
    let (before, after) = text.split_at(at);
    Safe::Rewritten {
        steps: vec![SafeStep::concurrent(format!(
            "{before} CONCURRENTLY{after}"
        ))],
        why: why.to_owned(),
    }
}

/// An index without a name cannot be taken back, nor be known again after a crash: it gets the
/// name that the server would give it.
fn name_index(text: &str, after_index: usize, concurrently: bool, on: &Table) -> Safe {
    let tokens = lex_code(text);
    let columns = names::index_columns(&tokens, text);
    let at = tokens
        .iter()
        .find(|t| concurrently && is_keyword(**t, text, "CONCURRENTLY"))
        .map_or(after_index, |t| t.span.end);
    let (before, after) = text.split_at(at);
    let word = if concurrently { "" } else { " CONCURRENTLY" };
    let name = quote::ident(&constraint_name(on, &columns, "idx"));
    Safe::Rewritten {
        steps: vec![SafeStep::concurrent(format!(
            "{before}{word} {name}{after}"
        ))],
        why: "named, so that it can be taken back and is known again after a crash; \
              CONCURRENTLY does not block writes while it builds"
            .to_owned(),
    }
}

fn refuse_partitioned_index(text: &str, action: &Action, on: &RelName) -> Safe {
    let (unique, name) = match action {
        Action::CreateIndex { unique, name, .. } => (*unique, name.as_ref()),
        _ => (false, None),
    };
    let name = name.map_or("its name", |n| n.name.as_str());
    let concurrent = text.to_ascii_lowercase().contains("concurrently");
    let way_out = format!(
        "CREATE {}INDEX {name} ON ONLY {on} …; then for each partition CREATE {}INDEX \
         CONCURRENTLY and ALTER INDEX {name} ATTACH PARTITION …",
        if unique { "UNIQUE " } else { "" },
        if unique { "UNIQUE " } else { "" },
    );
    if concurrent {
        return refused(
            format!("{on} is partitioned, and there CREATE INDEX CONCURRENTLY does not work"),
            way_out,
        );
    }
    costly(
        "create-index-blocking",
        format!(
            "CREATE INDEX blocks writes of every partition of {on} while it builds, and \
             CONCURRENTLY does not work on a partitioned table"
        ),
        way_out,
    )
}

fn drop_index(text: &str, action: &Action, catalog: &Catalog) -> Safe {
    let Action::DropIndex {
        names,
        concurrently,
        cascade,
        after_index,
        spans,
        ..
    } = action
    else {
        return Safe::AsIs;
    };
    let of_partitioned = names.iter().any(|name| {
        catalog
            .index(name.schema.as_deref(), &name.name)
            .is_some_and(|(table, _)| table.kind == RelKind::Partitioned)
    });
    // The index of a partitioned table has no CONCURRENTLY; dropping it takes no time.
    if *concurrently || of_partitioned || names.iter().all(|n| kind(catalog, n).is_none()) {
        return Safe::AsIs;
    }
    if *cascade {
        return refused(
            "DROP INDEX CONCURRENTLY has no CASCADE",
            "drop the constraints that need the index first, then the index without CASCADE",
        );
    }
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else {
        return Safe::AsIs;
    };
    let before = &text[..*after_index];
    let between = &text[*after_index..first.start];
    let after = &text[last.end..];
    Safe::Rewritten {
        steps: spans
            .iter()
            .map(|span: &Span| {
                SafeStep::concurrent(format!(
                    "{before} CONCURRENTLY{between}{}{after}",
                    span.of(text)
                ))
            })
            .collect(),
        why: "DROP INDEX takes a lock that waits for, and blocks, every reader; CONCURRENTLY \
              does not"
            .to_owned(),
    }
}

/// `"schema"."table"` of an existing table, for statements of our own.
fn sql_name(catalog: &Catalog, name: &RelName) -> String {
    match table(catalog, name) {
        Some(table) => quote::qname(&table.name),
        None => existing(catalog, name).sql(),
    }
}
