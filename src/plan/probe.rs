//! Questions that only the server can answer, asked on an empty temporary copy of each table.
//!
//! The copy (`LIKE`, with the new columns added) is made and dropped in one transaction that is
//! rolled back, so that the real table is never locked beyond ACCESS SHARE. `EXPLAIN` of the
//! author's UPDATE on it finds every wrong name, type and cast; a temporary view over each
//! expression tells, through `pg_depend`, exactly which columns it reads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::catalog::QName;
use crate::catalog::details::KeyPart;
use crate::sql::Span;
use crate::sql::ddl::Action;
use crate::sql::dml::{Piece, function_names};
use crate::sql::mapped::MappedSql;
use crate::sql::quote::{ident, qname};

use super::cost::{Sample, Server};
use super::draft::{Draft, DraftStatement};
use super::fill::Fill;
use super::retype;

/// All questions about one migration.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// Statements of the expand section that create what expressions may use, and that lock no
    /// existing table: functions, types, tables without foreign keys.
    pub prelude: Vec<(String, Span)>,
    /// Copies to make.
    pub copies: Vec<Copy>,
    /// Questions: of the backfills in order, then of the reverse statements in order.
    pub questions: Vec<Question>,
    /// Functions that the expressions call.
    pub functions: BTreeSet<String>,
    /// Tables with columns that change their type.
    pub retypes: Vec<retype::question::Question>,
    /// Foreign keys that reference such columns.
    pub keys: Vec<retype::inbound::Question>,
}

/// A temporary copy of a table.
#[derive(Debug, Clone)]
pub struct Copy {
    /// The table.
    pub table: QName,
    /// Name of the copy, in `pg_temp`.
    pub name: String,
    /// Columns to add: (name, type text, place in the file).
    pub add: Vec<(String, String, Span)>,
}

impl Copy {
    /// CREATE TEMP TABLE … LIKE.
    pub fn create_sql(&self) -> String {
        format!(
            "CREATE TEMP TABLE {} (LIKE {})",
            ident(&self.name),
            qname(&self.table)
        )
    }

    /// ALTER TABLE … ADD COLUMN of one added column.
    pub fn add_sql(&self, column: &str, type_text: &str) -> String {
        format!(
            "ALTER TABLE pg_temp.{} ADD COLUMN {} {type_text}",
            ident(&self.name),
            ident(column)
        )
    }
}

/// The questions about one statement.
#[derive(Debug, Clone)]
pub struct Question {
    /// Name of the copy it is asked on.
    pub copy: String,
    /// Where the statement is in the file.
    pub span: Span,
    /// EXPLAIN of the statement on the copy.
    pub explain: MappedSql,
    /// One SELECT for each assignment's expression.
    pub expressions: Vec<MappedSql>,
    /// SELECT with the conditions, if there are any.
    pub condition: Option<MappedSql>,
    /// True for a row of the copy of which no target is set; `None` where rows may have had values
    /// before.
    pub unset: Option<String>,
}

/// What the server answered.
#[derive(Debug, Clone, Default)]
pub struct Probed {
    /// For each question: the columns of the table that it reads.
    pub answers: Vec<Answer>,
    /// (table, column) → (canonical type, it has an equality operator), of every column of the
    /// copies.
    pub types: BTreeMap<(QName, String), (String, bool)>,
    /// Names of called functions that are volatile.
    pub volatile: BTreeSet<String>,
    /// What a question's statement took on a sample, by index of the question.
    pub samples: BTreeMap<usize, Sample>,
    /// `pg_stats.correlation` of the columns of backfilled tables, where it is known.
    pub correlations: BTreeMap<(QName, String), f64>,
    /// What the server says of itself; `None` where it was not asked.
    pub server: Option<Server>,
    /// The configured share of the time that chunks work; `None` for the default.
    pub duty: Option<f64>,
    /// What the server says of tables with columns that change their type.
    pub retypes: BTreeMap<QName, retype::question::Answer>,
    /// Foreign keys that reference such columns, by table and name: what partitions have of them too.
    pub keys: BTreeMap<(QName, String), Vec<KeyPart>>,
    /// `shared_buffers` in blocks; `None` where it was not asked for.
    pub shared_buffers: Option<i64>,
    /// Leaves of backfilled tables (oids) that the role may not vacuum.
    pub not_vacuumed: BTreeSet<u32>,
    /// Enabled rules of leaves of backfilled tables: (leaf's oid, name, it is one of DELETE, not of
    /// UPDATE).
    pub rules: Vec<(u32, String, bool)>,
    /// What keeps dead rows of this database from being removed, where it has for long.
    pub pinned: Option<Pin>,
    /// The checks ran on the server; false where the role may not make temporary tables.
    pub checked: bool,
}

/// What keeps dead row versions from being pruned and vacuumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Who: `pid 41 (alice, psql)`, `prepared transaction 'x'`, `replication slot s`.
    pub holder: String,
    /// For how long; `None` for a slot.
    pub age: Option<Duration>,
}

/// Columns read by one statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// By each expression.
    pub expressions: Vec<BTreeSet<String>>,
    /// By the conditions.
    pub condition: BTreeSet<String>,
}

impl Answer {
    /// All of them.
    pub fn all(&self) -> BTreeSet<String> {
        self.expressions
            .iter()
            .flatten()
            .chain(&self.condition)
            .cloned()
            .collect()
    }
}

/// It creates what other statements may use, and locks no existing table: functions, types, tables
/// without foreign keys.
pub(super) fn makes(action: &Action) -> bool {
    match action {
        Action::CreateFunction { .. }
        | Action::CreateType { .. }
        | Action::CreateDomain { .. }
        | Action::CreateSchema { .. }
        | Action::CreateSequence { .. } => true,
        Action::CreateTable {
            references,
            partition_of,
            inherits,
            as_select: false,
            ..
        } => references.is_empty() && partition_of.is_none() && inherits.is_empty(),
        _ => false,
    }
}

/// The questions that a draft raises.
pub fn probe(draft: &Draft<'_>) -> Probe {
    let mut probe = Probe::default();
    for known in &draft.sections.expand {
        if makes(&known.action) {
            probe
                .prelude
                .push((known.statement.sql.clone(), known.statement.span));
        }
    }
    for statement in &draft.backfills {
        let column = statement.assignments.first().map(|a| a.column.clone());
        let key = (statement.table.clone(), column.unwrap_or_default());
        if let Some(sequence) = draft.fills.get(&key).and_then(Fill::sequence) {
            let sql = format!("CREATE SEQUENCE {}", qname(sequence));
            probe.prelude.push((sql, statement.statement.span));
        }
    }
    // Also of tables that are not backfilled: the type of every new column is checked.
    for (table, _) in draft.new_columns.keys() {
        copy_of(&mut probe.copies, draft, table);
    }
    for statement in draft.backfills.iter().chain(&draft.reverses) {
        let name = copy_of(&mut probe.copies, draft, &statement.table);
        let texts = statement.assignments.iter().map(|a| a.expr.text.as_str());
        for text in texts.chain(statement.where_.iter().map(|w| w.text.as_str())) {
            probe
                .functions
                .extend(function_names(text).into_iter().map(|(_, name)| name));
        }
        probe.questions.push(question(statement, &name));
    }
    for (number, (table, columns)) in draft.retypes.iter().enumerate() {
        probe.retypes.push(retype::question::Question {
            table: table.clone(),
            copy: format!("pgshift_type_{}", number + 1),
            columns: columns.clone(),
        });
    }
    let copies = probe.retypes.iter();
    let copies = copies.map(|q| (q.table.clone(), q.copy.clone())).collect();
    probe.keys = retype::inbound::questions(draft, &copies);
    probe
}

fn copy_of(copies: &mut Vec<Copy>, draft: &Draft<'_>, table: &QName) -> String {
    if let Some(copy) = copies.iter().find(|c| c.table == *table) {
        return copy.name.clone();
    }
    let name = format!("pgshift_copy_{}", copies.len() + 1);
    let add = draft
        .new_columns
        .iter()
        .filter(|((t, _), _)| t == table)
        .map(|((_, column), new)| (column.clone(), new.def.type_text.clone(), new.span))
        .collect();
    copies.push(Copy {
        table: table.clone(),
        name: name.clone(),
        add,
    });
    name
}

fn question(statement: &DraftStatement<'_>, copy: &str) -> Question {
    let offset = statement.statement.span.start;
    let target = format!("pg_temp.{} AS {}", ident(copy), ident(&statement.alias));
    let filter = |sql: MappedSql, pieces: &[Piece]| {
        pieces.iter().enumerate().fold(sql, |sql, (n, piece)| {
            sql.ours(if n == 0 { " WHERE (" } else { " AND (" })
                .author(piece, offset)
                .ours(")")
        })
    };
    let also = |sql: MappedSql, word: &str| match &statement.from {
        Some(from) => sql.ours(word).author(from, offset),
        None => sql,
    };
    let whole: Vec<Piece> = statement.where_.iter().cloned().collect();
    let explain = if statement.delete {
        let sql = MappedSql::default()
            .ours("EXPLAIN DELETE FROM ")
            .ours(&target);
        filter(also(sql, " USING "), &whole)
    } else {
        let mut sql = MappedSql::default()
            .ours("EXPLAIN UPDATE ")
            .ours(&target)
            .ours(" SET ");
        for (n, a) in statement.assignments.iter().enumerate() {
            let comma = if n == 0 { "" } else { ", " };
            sql = sql
                .ours(&format!("{comma}{} = ", ident(&a.column)))
                .author(&a.expr, offset);
        }
        filter(also(sql, " FROM "), &whole)
    };
    let source = |sql: MappedSql| also(sql.ours(" FROM ").ours(&target), ", ");
    let expressions = statement
        .assignments
        .iter()
        .map(|a| {
            source(
                MappedSql::default()
                    .ours("SELECT (")
                    .author(&a.expr, offset)
                    .ours(") AS c"),
            )
        })
        .collect();
    let condition = (!statement.conditions.is_empty()).then(|| {
        filter(
            source(MappedSql::default().ours("SELECT 1 AS c")),
            &statement.conditions,
        )
    });
    Question {
        copy: copy.to_owned(),
        span: statement.statement.span,
        explain,
        expressions,
        condition,
        unset: statement.all_new.then(|| {
            let columns = statement.assignments.iter().map(|a| ident(&a.column));
            let tests: Vec<_> = columns.map(|c| format!("{c} IS NULL")).collect();
            tests.join(" AND ")
        }),
    }
}

/// Answers from the text alone, for a role that may not make temporary tables: every identifier
/// that is the name of a column counts as read. That may be too many, never too few.
pub fn from_text(draft: &Draft<'_>) -> Vec<Answer> {
    draft
        .backfills
        .iter()
        .chain(&draft.reverses)
        .map(|statement| {
            let names = |text: &str| {
                crate::sql::dml::identifiers(text)
                    .into_iter()
                    .filter(|(qualifier, name, _)| {
                        qualifier.as_ref().is_none_or(|q| *q == statement.alias)
                            && (draft.new_column(&statement.table, name).is_some()
                                || draft.catalog.tables[&statement.table]
                                    .column(name)
                                    .is_some())
                    })
                    .map(|(_, name, _)| name)
                    .collect::<BTreeSet<_>>()
            };
            Answer {
                expressions: statement
                    .assignments
                    .iter()
                    .map(|a| names(&a.expr.text))
                    .collect(),
                condition: statement
                    .conditions
                    .iter()
                    .flat_map(|c| names(&c.text))
                    .collect(),
            }
        })
        .collect()
}
