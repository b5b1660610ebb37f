//! The first half of planning: what the backfills of a migration are, as far as the file and the
//! catalog tell. The server then answers what only it can know (see [`super::probe`]).

mod relations;

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Catalog, Column, QName, RelKind, Table};
use crate::error::{Error, ErrorKind, Result};
use crate::migration::{Allow, BackfillOptions, Migration, Statement};
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, ColumnDef, RelName};
use crate::sql::dml::{self, Assignment, Piece, TableRef};
use crate::sql::{Diagnostic, Source, Span};

use super::fill::{self, Fill};
use super::rename::{self, Renames};
use super::retype::{self, Retype};
use super::sections::{Known, Sections};

pub use relations::{relations, wanted};

/// A column that the expand section adds to an existing table.
#[derive(Debug, Clone)]
pub struct NewColumn {
    /// What the file says of it.
    pub def: ColumnDef,
    /// Where, in the file.
    pub span: Span,
}

/// A row-changing statement of a backfill or reverse section.
#[derive(Debug, Clone)]
pub struct DraftStatement<'a> {
    /// The author's statement.
    pub statement: &'a Statement,
    /// Its table.
    pub table: QName,
    /// The name by which the text refers to the table.
    pub alias: String,
    /// Assignments; empty for DELETE.
    pub assignments: Vec<Assignment>,
    /// It is a DELETE.
    pub delete: bool,
    /// FROM or USING.
    pub from: Option<Piece>,
    /// Top-level conditions of WHERE that are not `target IS NULL`.
    pub conditions: Vec<Piece>,
    /// WHERE has a condition `target IS NULL`.
    pub tests_null: bool,
    /// The author's whole WHERE.
    pub where_: Option<Piece>,
    /// Options of its section.
    pub options: BackfillOptions,
    /// Every target is a column that this migration adds.
    pub all_new: bool,
}

/// A migration half planned.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// The file.
    pub migration: &'a Migration,
    /// The database.
    pub catalog: &'a Catalog,
    /// Its statements.
    pub sections: Sections<'a>,
    /// Columns that expand adds to existing tables.
    pub new_columns: BTreeMap<(QName, String), NewColumn>,
    /// Those of them whose values the server would compute while it locks the table: each has a
    /// backfill of its own, before those of the file.
    pub fills: BTreeMap<(QName, String), Fill>,
    /// Renames after which both names work.
    pub renames: Renames,
    /// Columns whose type changes by way of another column, by table: each has a backfill of its
    /// own too.
    pub retypes: BTreeMap<QName, Vec<Retype>>,
    /// Those of them that no statement names: they reference one that a statement changes.
    pub cascaded: BTreeSet<(QName, String)>,
    /// Backfill statements.
    pub backfills: Vec<DraftStatement<'a>>,
    /// Reverse statements.
    pub reverses: Vec<DraftStatement<'a>>,
}

impl<'a> Draft<'a> {
    /// Reads the sections against the catalog.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] with places for what the file gets wrong, [`ErrorKind::Refused`] for
    /// what pgshift does not do.
    pub fn new(migration: &'a Migration, catalog: &'a Catalog) -> Result<Self> {
        let sections = Sections::of(migration);
        let mut draft = Self {
            migration,
            catalog,
            new_columns: BTreeMap::new(),
            fills: BTreeMap::new(),
            renames: Renames::default(),
            retypes: BTreeMap::new(),
            cascaded: BTreeSet::new(),
            backfills: Vec::new(),
            reverses: Vec::new(),
            sections: Sections::default(),
        };
        super::plain::check_order(&draft, migration)?;
        for known in sections.expand.iter().chain(&sections.contract) {
            draft.check_owned(known)?;
        }
        for known in &sections.expand {
            draft.collect_new_columns(known)?;
        }
        draft.renames = rename::collect(&draft, &sections)?;
        let mut retypes = retype::collect(&draft, &sections.expand)?;
        let named = retypes.len();
        retype::follow(&draft, &mut retypes)?;
        for (n, (retype, statement)) in retypes.into_iter().enumerate() {
            let table = statement.table.clone();
            if n >= named {
                let column = retype.column.clone();
                draft.cascaded.insert((table.clone(), column));
            }
            if let Some(def) = retype::added(&retype) {
                let span = retype.span;
                let key = (table.clone(), retype.shadow.clone());
                draft.new_columns.insert(key, NewColumn { def, span });
            }
            draft.backfills.push(statement);
            draft.retypes.entry(table).or_default().push(retype);
        }
        for (known, options) in &sections.backfill {
            let statement = draft.statement(known, options)?;
            draft.backfills.push(statement);
        }
        for known in &sections.reverse {
            let mut statement = draft.statement(known, &BackfillOptions::default())?;
            if let Some(retypes) = draft.retypes.get(&statement.table) {
                retype::read_shadows(&mut statement, retypes);
            }
            if !draft.backfills.iter().any(|b| b.table == statement.table) {
                return Err(draft.wrong(
                    known.statement.span,
                    format!("no backfill of this file writes to {}", statement.table),
                    "a reverse statement maps what a backfill of the same table wrote",
                ));
            }
            draft.reverses.push(statement);
        }
        let mut backfills = Vec::new();
        for (fill, statement) in fill::collect(&draft, &sections.expand) {
            let column = statement.assignments[0].column.clone();
            draft.fills.insert((statement.table.clone(), column), fill);
            backfills.push(statement);
        }
        backfills.append(&mut draft.backfills);
        draft.backfills = backfills;
        draft.add_renames(&sections.expand)?;
        draft.sections = sections;
        Ok(draft)
    }

    /// The file's text.
    pub fn source(&self) -> &'a Source {
        &self.migration.source
    }

    /// An error of the file, at a span.
    pub fn wrong(&self, span: Span, message: impl Into<String>, help: &str) -> Error {
        let mut diagnostic = Diagnostic::new(span, message);
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        Error::at(&self.migration.source, vec![diagnostic]).left("nothing was changed")
    }

    /// A refusal at a span.
    pub fn refused(&self, span: Span, message: impl Into<String>, help: &str) -> Error {
        self.wrong(span, message, help)
            .with_kind(ErrorKind::Refused)
    }

    /// The rules that the statement at this place may break.
    pub fn allows(&self, statement: Span) -> impl Iterator<Item = &'a Allow> {
        self.migration
            .sections
            .iter()
            .flat_map(|section| &section.statements)
            .filter(move |s| s.span == statement)
            .flat_map(|s| &s.allows)
    }

    /// The table that a name means.
    pub fn table(&self, name: &RelName) -> Option<&'a Table> {
        self.catalog.table(name.schema.as_deref(), &name.name)
    }

    /// The existing table that a statement alters, and what it does to it.
    pub fn altered<'k>(&self, known: &'k Known<'_>) -> Option<(&'a Table, &'k [AlterOp])> {
        let Action::AlterTable { name, ops, .. } = &known.action else {
            return None;
        };
        Some((self.table(name)?, ops))
    }

    /// A column of a table, existing or added by this migration, with its type's SQL text.
    pub fn new_column(&self, table: &QName, column: &str) -> Option<&NewColumn> {
        self.new_columns.get(&(table.clone(), column.to_owned()))
    }

    /// Refuses schema changes of tables that the role does not own, before anything runs.
    fn check_owned(&self, known: &Known<'a>) -> Result<()> {
        let names = match &known.action {
            Action::AlterTable { name, .. } => vec![name.clone()],
            Action::DropTable { names, .. } => names.clone(),
            Action::CreateIndex { table, .. } => vec![table.clone()],
            _ => Vec::new(),
        };
        let foreign = names
            .iter()
            .filter_map(|n| self.table(n))
            .find(|t| !t.owned);
        foreign.map_or(Ok(()), |table| {
            Err(self.not_owned(table, known.statement.span))
        })
    }

    /// The refusal of a table that the role does not own.
    pub fn not_owned(&self, table: &Table, span: Span) -> Error {
        self.refused(
            span,
            format!(
                "role {} does not own {} (its owner is {})",
                self.catalog.role, table.name, table.owner
            ),
            "connect as the owner or as a member of it; see docs/privileges.md",
        )
    }

    fn collect_new_columns(&mut self, known: &Known<'a>) -> Result<()> {
        let Some((table, ops)) = self.altered(known) else {
            return Ok(());
        };
        let offset = known.statement.span.start;
        for op in ops {
            let AlterOpKind::AddColumn(def) = &op.kind else {
                continue;
            };
            let span = op.span.shift(offset);
            if table.column(&def.name).is_some() {
                if def.if_not_exists {
                    continue;
                }
                return Err(self.wrong(
                    span,
                    format!("column {} of {} already exists", def.name, table.name),
                    "choose another name, or leave the statement out",
                ));
            }
            let key = (table.name.clone(), def.name.clone());
            let new = NewColumn {
                def: (**def).clone(),
                span,
            };
            if self.new_columns.insert(key, new).is_some() {
                return Err(self.wrong(span, format!("column {} is added twice", def.name), ""));
            }
        }
        Ok(())
    }

    /// The column that stands in for each renamed one, and what keeps the two equal.
    fn add_renames(&mut self, expand: &[Known<'a>]) -> Result<()> {
        for rename in self.renames.columns.clone() {
            let at = |known: &&Known<'a>| {
                let span = known.statement.span;
                span.start <= rename.span.start && rename.span.end <= span.end
            };
            let Some(known) = expand.iter().find(at) else {
                continue;
            };
            self.walkable(&self.catalog.tables[&rename.table], false, rename.span)?;
            let Some((new, there, back)) = rename::column::drafts(self.catalog, &rename, known)
            else {
                continue;
            };
            let key = (rename.table.clone(), rename.to.clone());
            if self.new_columns.insert(key, new).is_some() {
                return Err(self.wrong(
                    rename.span,
                    format!("column {} is added twice", rename.to),
                    "",
                ));
            }
            self.backfills.push(there);
            self.reverses.push(back);
        }
        Ok(())
    }

    fn statement(
        &self,
        known: &Known<'a>,
        options: &BackfillOptions,
    ) -> Result<DraftStatement<'a>> {
        let statement = known.statement;
        let offset = statement.span.start;
        let at = |d: Diagnostic| {
            Error::at(&self.migration.source, vec![d.shift(offset)]).left("nothing was changed")
        };
        let (table_ref, only, alias, assignments, from, where_, conjuncts, delete) =
            if let Action::Delete { .. } = known.action {
                let d = dml::parse_delete(&statement.sql).map_err(at)?;
                let alias = d.range_name().to_owned();
                (
                    d.table,
                    d.only,
                    alias,
                    Vec::new(),
                    d.using,
                    d.where_,
                    d.conjuncts,
                    true,
                )
            } else {
                let u = dml::parse_update(&statement.sql).map_err(at)?;
                let alias = u.range_name().to_owned();
                (
                    u.table,
                    u.only,
                    alias,
                    u.assignments,
                    u.from,
                    u.where_,
                    u.conjuncts,
                    false,
                )
            };
        let table = self.backfilled_table(&table_ref, only, offset)?;
        let mut all_new = !delete;
        for assignment in &assignments {
            all_new &= self.target(table, assignment, offset)?;
        }
        let is_target = |column: &str| assignments.iter().any(|a| a.column == column);
        let (null_tests, conditions): (Vec<Piece>, Vec<Piece>) = conjuncts
            .into_iter()
            .partition(|c| dml::is_null_test(c, &alias).is_some_and(|column| is_target(&column)));
        Ok(DraftStatement {
            statement,
            table: table.name.clone(),
            alias,
            assignments,
            delete,
            from,
            conditions,
            tests_null: !null_tests.is_empty(),
            where_,
            options: options.clone(),
            all_new,
        })
    }

    /// The table of a backfill, where it is one that can be walked in chunks.
    fn backfilled_table(&self, name: &TableRef, only: bool, offset: usize) -> Result<&'a Table> {
        let span = name.span.shift(offset);
        let shown = name
            .schema
            .as_ref()
            .map_or(name.name.clone(), |s| format!("{s}.{}", name.name));
        let Some(table) = self.catalog.table(name.schema.as_deref(), &name.name) else {
            if let Some(other) = self.other_relation(name) {
                return Err(self.refused(
                    span,
                    format!("{other} is not a table"),
                    "name the table that holds the rows",
                ));
            }
            let known = |t: &&Table| t.name.name.eq_ignore_ascii_case(&name.name);
            let near = self.catalog.tables.values().find(known);
            let help = near.map_or_else(
                || {
                    "a backfill changes a table that exists before the migration; is the \
                     search_path right, and has the role USAGE on its schema?"
                        .to_owned()
                },
                |t| format!("there is {}", t.name),
            );
            return Err(self.wrong(span, format!("table {shown} does not exist"), &help));
        };
        self.walkable(table, only, span)?;
        Ok(table)
    }

    /// Refuses a table that cannot be walked in chunks, or has no place for a sync trigger.
    fn walkable(&self, table: &Table, only: bool, span: Span) -> Result<()> {
        match table.kind {
            RelKind::Table | RelKind::Partitioned => {}
            _ => {
                return Err(self.refused(
                    span,
                    format!("{} is not a table", table.name),
                    "name the table that holds the rows",
                ));
            }
        }
        if table
            .leaves
            .iter()
            .any(|leaf| leaf.kind == RelKind::Foreign)
        {
            return Err(self.refused(
                span,
                format!("{} has a foreign table as a partition", table.name),
                "its rows cannot be committed together with a checkpoint; change them on their \
                 own server",
            ));
        }
        if table.inherited {
            return Err(self.refused(
                span,
                format!(
                    "{} has inheritance children that are not partitions",
                    table.name
                ),
                "triggers are not inherited; migrate each table of the hierarchy by itself",
            ));
        }
        if only && table.kind == RelKind::Partitioned {
            return Err(self.wrong(
                span,
                format!("{} is partitioned and holds no rows itself", table.name),
                "leave ONLY out",
            ));
        }
        if table.row_security {
            return Err(self.refused(
                span,
                format!(
                    "row security hides rows of {} from role {}",
                    table.name, self.catalog.role
                ),
                "run pgshift as the table's owner (without FORCE ROW LEVEL SECURITY) or as a role \
                 with BYPASSRLS",
            ));
        }
        if !table.owned {
            return Err(self.not_owned(table, span));
        }
        Ok(())
    }

    /// The relation that a name means where it is no table: a view, a sequence, an index.
    fn other_relation(&self, name: &TableRef) -> Option<QName> {
        let of = |schema: &str| {
            let name = QName::new(schema, name.name.as_str());
            self.catalog.relations.contains_key(&name).then_some(name)
        };
        match &name.schema {
            Some(schema) => of(schema),
            None => self
                .catalog
                .search_path
                .iter()
                .find_map(|schema| of(schema)),
        }
    }

    /// Checks an assigned column; true where this migration adds it.
    fn target(&self, table: &Table, assignment: &Assignment, offset: usize) -> Result<bool> {
        let span = assignment.column_span.shift(offset);
        if let Some(new) = self.new_column(&table.name, &assignment.column) {
            if new.def.generated.is_some() || new.def.identity {
                return Err(self.refused(
                    span,
                    format!("the server itself fills {}", new.def.name),
                    "add it as a plain column",
                ));
            }
            if new.def.not_null {
                return Err(Error::at(
                    &self.migration.source,
                    vec![
                        Diagnostic::new(
                            new.span,
                            format!("column {} is filled by a backfill, so it cannot be NOT NULL yet", new.def.name),
                        )
                        .also(span, "the backfill")
                        .help("add it without NOT NULL here, and `ALTER COLUMN … SET NOT NULL` in the contract section"),
                    ],
                )
                .left("nothing was changed"));
            }
            return Ok(true);
        }
        let Some(column) = table.column(&assignment.column) else {
            let near = near(
                &assignment.column,
                table.columns.iter().map(|c| c.name.as_str()),
            );
            let help = near.map_or(String::new(), |n| format!("did you mean {n}?"));
            return Err(self.wrong(
                span,
                format!("{} has no column {}", table.name, assignment.column),
                &help,
            ));
        };
        self.assignable(column, span)?;
        Ok(false)
    }

    fn assignable(&self, column: &Column, span: Span) -> Result<()> {
        if column.generated {
            return Err(self.refused(
                span,
                format!("{} is a generated column", column.name),
                "change the columns that it is generated from",
            ));
        }
        if column.identity.as_deref() == Some("ALWAYS") {
            return Err(self.refused(
                span,
                format!("{} is an identity column (GENERATED ALWAYS)", column.name),
                "the server refuses to update it",
            ));
        }
        Ok(())
    }
}

/// The closest name, where one is close.
pub(super) fn near<'n>(name: &str, all: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    all.map(|n| (strsim::damerau_levenshtein(name, n), n))
        .filter(|(d, n)| *d <= 2.max(n.len() / 4))
        .min()
        .map(|(_, n)| n)
}
