//! Statements as they are written, tried on empty copies: what the server refuses whatever rows
//! there are (a column or function that is not there, a subquery in a default, a second primary
//! key, a foreign key without a unique one) is found in the plan.
//!
//! A copy has the table's own name, so that the author's text means it, and stands in `pg_temp`. A
//! statement that the copy cannot follow ends the trial of its table: the server's answers would
//! not be those of the real table any more.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{ConstraintKind, QName, RelKind};
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, ColumnDef, CommentTarget, RelName, RightsOn};
use crate::sql::dml::Piece;
use crate::sql::lex::{TokenKind, ident_value, is_keyword, lex_code};
use crate::sql::mapped::MappedSql;
use crate::sql::quote::{ident, literal, qname};

use super::draft::Draft;
use super::probe::makes;
use super::sections::Known;

/// What is tried of one table.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// Makes the copies: of the table, and of those that its new foreign keys reference.
    pub copies: Vec<String>,
    /// The statements on it, in order, each with the place of the author's.
    pub statements: Vec<(MappedSql, Span)>,
}

/// A statement that creates something, run as it is before all trials.
#[derive(Debug, Clone)]
pub struct Made {
    /// The author's text.
    pub sql: MappedSql,
    /// Its place in the file.
    pub span: Span,
    /// All that it may read is as it will be then: an error is the statement's own.
    pub judged: bool,
}

/// The statements of expand that create what others may use, in order, as far as it is known what
/// each one makes. What reads a table that the file changed before, or something that was left out,
/// is not judged.
pub fn made(draft: &Draft<'_>) -> Vec<Made> {
    let mut all = Vec::new();
    let mut judged = true;
    for known in &draft.sections.expand {
        let run = match &known.action {
            action if makes(action) => true,
            // One that replaces another locks it.
            Action::CreateView {
                name,
                materialized: false,
                or_replace,
                ..
            } => judged && (!or_replace || !super::targets::there(draft, name)),
            _ => false,
        };
        if run {
            all.push(Made {
                sql: whole(known),
                span: known.statement.span,
                judged,
            });
            continue;
        }
        match &known.action {
            Action::Comment { .. }
            | Action::Grant { .. }
            | Action::Revoke { .. }
            | Action::CreateIndex { .. }
            | Action::CreateTrigger { .. }
            | Action::CreatePolicy { .. }
            | Action::CreateStatistics { .. } => {}
            Action::AlterTable { .. } | Action::CreateTable { .. } | Action::CreateView { .. } => {
                judged = false;
            }
            _ => break,
        }
    }
    all
}

/// The trials that a draft asks for, by table.
pub fn trials(draft: &Draft<'_>) -> BTreeMap<QName, Trial> {
    let mut all = Trials {
        draft,
        of: BTreeMap::new(),
        ended: BTreeSet::new(),
        touched: BTreeSet::new(),
    };
    let sections = &draft.sections;
    for (known, contract) in sections
        .expand
        .iter()
        .map(|known| (known, false))
        .chain(sections.contract.iter().map(|known| (known, true)))
    {
        if !all.follow(known, contract) {
            break;
        }
    }
    all.of.retain(|_, trial| !trial.statements.is_empty());
    all.of
}

/// True where an error is about the statement itself, not about rows, rights, names that the copies
/// took, or the server's state (documentation, appendix A: class 42 is syntax and what is named, 22
/// a constant that is none of its type).
pub fn refuses(sqlstate: &str) -> bool {
    // insufficient_privilege, duplicate_table, duplicate_object
    let other = ["42501", "42P07", "42710"].contains(&sqlstate);
    (sqlstate.starts_with("42") || sqlstate.starts_with("22") || sqlstate == "0A000") && !other
}

/// The word of a statement that a message quotes, a name or a constant, where the server tells no
/// place.
pub fn named(statement: &str, message: &str) -> Option<Span> {
    let function = || message.strip_prefix("function ")?.split('(').next();
    let name = message.split('"').nth(1).or_else(function)?;
    let mut words = lex_code(statement)
        .into_iter()
        .filter(|token| match token.kind {
            TokenKind::String => token.text(statement) == literal(name),
            _ => ident_value(*token, statement).is_some_and(|value| value == name),
        });
    let word = words.next()?;
    words.next().is_none().then_some(word.span)
}

struct Trials<'d, 'a> {
    draft: &'d Draft<'a>,
    of: BTreeMap<QName, Trial>,
    /// Tables that the copies do not follow any further.
    ended: BTreeSet<QName>,
    /// Tables that statements of the file changed: of these the catalog does not tell all.
    touched: BTreeSet<QName>,
}

impl Trials<'_, '_> {
    /// Takes a statement in; false where it is not known what it makes.
    fn follow(&mut self, known: &Known<'_>, contract: bool) -> bool {
        match &known.action {
            Action::AlterTable { name, ops, .. } => self.alter(known, name, ops),
            Action::CreateIndex {
                table,
                unique,
                after_table,
                ..
            } => self.create_index(known, table, *unique, *after_table),
            // Those of expand are made before all trials.
            Action::CreateFunction { .. }
            | Action::CreateType { .. }
            | Action::CreateDomain { .. }
            | Action::CreateSchema { .. }
            | Action::CreateSequence { .. } => return !contract,
            Action::CreateTrigger { table, .. }
            | Action::CreatePolicy { table, .. }
            | Action::CreateStatistics {
                table: Some(table), ..
            }
            | Action::Comment {
                target: CommentTarget::Table(table) | CommentTarget::Column { table, .. },
            } => self.as_written(known, table),
            Action::Grant {
                rights: Some(rights),
            }
            | Action::Revoke {
                rights: Some(rights),
            } => {
                if let (RightsOn::Table, [one], false) =
                    (&rights.on, rights.names.as_slice(), rights.in_schema)
                {
                    self.as_written(known, &one.name);
                }
            }
            Action::CreateTable { .. }
            | Action::CreateView { .. }
            | Action::CreateStatistics { .. }
            | Action::DropIndex { .. }
            | Action::Comment { .. }
            | Action::Grant { .. }
            | Action::Revoke { .. }
            | Action::DefaultPrivileges { .. } => {}
            _ => return false,
        }
        true
    }

    /// A statement that names the table without its schema means the copy.
    fn as_written(&mut self, known: &Known<'_>, name: &RelName) {
        if name.schema.is_some() {
            return;
        }
        if let Some(table) = self.tried(name) {
            self.push(&table, whole(known), known);
        }
    }

    /// A table whose copy follows the file so far.
    fn tried(&self, name: &RelName) -> Option<QName> {
        let table = self.draft.table(name)?;
        let ordinary = matches!(table.kind, RelKind::Table | RelKind::Partitioned);
        (ordinary && !self.ended.contains(&table.name)).then(|| table.name.clone())
    }

    /// The same of one that a statement changes.
    fn changed(&mut self, name: &RelName) -> Option<QName> {
        self.touched
            .extend(self.draft.table(name).map(|table| table.name.clone()));
        self.tried(name)
    }

    fn alter(&mut self, known: &Known<'_>, name: &RelName, ops: &[AlterOp]) {
        let Some(table) = self.changed(name) else {
            return;
        };
        let mut sql = MappedSql::default().ours(&format!("ALTER TABLE {}", copy(&table)));
        let mut any = false;
        for op in ops {
            let next = if any { ", " } else { " " };
            match self.piece(known, &table, op) {
                Tried::As(parts) => {
                    sql = parts.add(sql.ours(next), known);
                    any = true;
                }
                Tried::Not => {}
                Tried::End => {
                    self.ended.insert(table);
                    return;
                }
            }
        }
        if any {
            self.push(&table, sql, known);
        }
    }

    fn create_index(&mut self, known: &Known<'_>, on: &RelName, unique: bool, after: usize) {
        let Some(table) = self.changed(on) else {
            return;
        };
        let unique = if unique { "UNIQUE " } else { "" };
        let head = format!("CREATE {unique}INDEX ON {} ", copy(&table));
        let rest = Parts(vec![Part::Author(Span::new(
            after,
            known.statement.sql.len(),
        ))]);
        let sql = rest.add(MappedSql::default().ours(&head), known);
        self.push(&table, sql, known);
    }

    fn push(&mut self, table: &QName, sql: MappedSql, known: &Known<'_>) {
        let trial = self.of.entry(table.clone()).or_default();
        if trial.copies.is_empty() {
            trial.copies.push(create(table, "INCLUDING ALL"));
        }
        trial.statements.push((sql, known.statement.span));
    }

    /// What is tried of a sub-command.
    fn piece(&mut self, known: &Known<'_>, table: &QName, op: &AlterOp) -> Tried {
        use AlterOpKind as K;
        match &op.kind {
            K::AddColumn(def) => self.add_column(known, table, op, def),
            K::AddConstraint(def) if def.using_index.is_some() => Tried::Not,
            K::AddConstraint(def) if def.kind == ConstraintKind::ForeignKey => self
                .with_copies(known, table, op.span)
                .map_or(Tried::Not, Tried::As),
            K::AddConstraint(_)
            | K::DropColumn { .. }
            | K::SetNotNull { .. }
            | K::DropNotNull { .. }
            | K::SetDefault { .. }
            | K::DropDefault { .. }
            | K::AddIdentity { .. }
            | K::SetIdentity { .. }
            | K::DropIdentity { .. }
            | K::SetExpression { .. }
            | K::DropExpression { .. }
            | K::SetOptions { .. }
            | K::SetStatistics { .. }
            | K::SetStorage { .. } => Tried::As(Parts(vec![Part::Author(op.span)])),
            K::ValidateConstraint { .. }
            | K::AlterConstraint { .. }
            | K::Owner { .. }
            | K::EnableTrigger { .. }
            | K::DisableTrigger { .. }
            | K::RowSecurity
            | K::SetColumnOptions { .. }
            | K::ReplicaIdentity
            | K::ClusterOn => Tried::Not,
            _ => Tried::End,
        }
    }

    fn add_column(
        &mut self,
        known: &Known<'_>,
        table: &QName,
        op: &AlterOp,
        def: &ColumnDef,
    ) -> Tried {
        let bare = || {
            let text = format!("ADD COLUMN {} {}", ident(&def.name), def.type_text);
            Tried::As(Parts(vec![Part::Ours(text)]))
        };
        // One with a backfill of its own is added without what the backfill is for.
        let filled = (table.clone(), def.name.clone());
        if self.draft.fills.contains_key(&filled) {
            return bare();
        }
        self.with_copies(known, table, op.span)
            .map_or_else(bare, Tried::As)
    }

    /// The author's text with copies in the place of the tables that it references; `None` where
    /// there is none of one, or where it would not be like the real one.
    fn with_copies(&mut self, known: &Known<'_>, table: &QName, span: Span) -> Option<Parts> {
        let sql = &known.statement.sql;
        let text = span.of(sql);
        let tokens = lex_code(text);
        let mut parts = Vec::new();
        let mut from = 0;
        let mut copies = Vec::new();
        for (n, token) in tokens.iter().enumerate() {
            if !is_keyword(*token, text, "REFERENCES") {
                continue;
            }
            let mut name: Vec<String> = Vec::new();
            let mut end = n + 1;
            while let Some(word) = tokens.get(end).and_then(|t| ident_value(*t, text)) {
                name.push(word);
                end += 1;
                if tokens.get(end).is_none_or(|t| t.kind != TokenKind::Dot) {
                    break;
                }
                end += 1;
            }
            let relation = name.pop()?;
            let other = self
                .draft
                .table(&RelName::new(name.last().map(String::as_str), relation))?;
            let other = &other.name;
            let itself = other == table;
            if !itself && (other.name == table.name || self.touched.contains(other)) {
                return None;
            }
            if !itself {
                copies.push(create(other, "INCLUDING INDEXES"));
            }
            let start = tokens.get(n + 1)?.span.start;
            parts.push(Part::Author(Span::new(from, start).shift(span.start)));
            parts.push(Part::Ours(copy(other)));
            from = tokens.get(end - 1)?.span.end;
        }
        parts.push(Part::Author(Span::new(from, text.len()).shift(span.start)));
        let trial = self.of.entry(table.clone()).or_default();
        if trial.copies.is_empty() {
            trial.copies.push(create(table, "INCLUDING ALL"));
        }
        for sql in copies {
            if !trial.copies.contains(&sql) {
                trial.copies.push(sql);
            }
        }
        Some(Parts(parts))
    }
}

/// What becomes of a sub-command in a trial.
enum Tried {
    /// It is tried, in these parts.
    As(Parts),
    /// It is left out, and what follows is tried.
    Not,
    /// What follows is not tried either.
    End,
}

enum Part {
    /// A piece of the author's statement.
    Author(Span),
    Ours(String),
}

struct Parts(Vec<Part>);

impl Parts {
    fn add(self, sql: MappedSql, known: &Known<'_>) -> MappedSql {
        self.0.into_iter().fold(sql, |sql, part| match part {
            Part::Ours(text) => sql.ours(&text),
            Part::Author(span) => {
                let text = span.of(&known.statement.sql).to_owned();
                sql.author(&Piece { text, span }, known.statement.span.start)
            }
        })
    }
}

/// A statement as its author wrote it.
fn whole(known: &Known<'_>) -> MappedSql {
    let all = Part::Author(Span::new(0, known.statement.sql.len()));
    Parts(vec![all]).add(MappedSql::default(), known)
}

/// The name of a table's copy.
fn copy(table: &QName) -> String {
    format!("pg_temp.{}", ident(&table.name))
}

fn create(table: &QName, with: &str) -> String {
    format!(
        "CREATE TEMP TABLE {} (LIKE {} {with})",
        ident(&table.name),
        qname(table)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_message_is_found_where_it_is_once() {
        let statement = "CREATE INDEX \"Nos\" ON t (nosuch, a) WHERE a > 'x'";
        let found = |message: &str| named(statement, message).map(|span| span.of(statement));
        assert_eq!(found("column \"nosuch\" does not exist"), Some("nosuch"));
        assert_eq!(found("column \"Nos\" is odd"), Some("\"Nos\""));
        assert_eq!(found("column \"a\" is there twice"), None);
        assert_eq!(found("invalid input: \"x\""), Some("'x'"));
        assert_eq!(found("function t(integer) does not exist"), Some("t"));
        assert_eq!(found("no name"), None);
    }

    #[test]
    fn errors_of_rights_and_taken_names_are_not_the_statements() {
        for code in ["42703", "42883", "42P17", "22P02", "0A000"] {
            assert!(refuses(code), "{code}");
        }
        for code in [
            "42501", "42P07", "42710", "55P03", "57014", "2BP01", "23505",
        ] {
            assert!(!refuses(code), "{code}");
        }
    }
}
