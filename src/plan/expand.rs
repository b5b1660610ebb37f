//! The expand phase, and what of it must wait for the backfill.

mod filled;
mod text;
mod waits;

use std::collections::{BTreeMap, BTreeSet};

use super::build::{MovedDefault, line};
use super::draft::Draft;
use super::fill;
use super::follow::follow;
use super::forms;
use super::probe::Probed;
use super::rename;
use super::retype::{self, Retype, Side, swapped};
use super::sections::Known;
use super::statements::{attach_reverts, ordinary, text_steps};
use super::step::{Phase, Step, Undo, Work};
use super::sync;
use crate::catalog::{Catalog, Column, QName, Table};
use crate::error::{Error, Result};
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, ColumnDef, Generated, RelName};
use crate::sql::lex::{is_keyword, lex_code};
use crate::sql::quote::{ident, qname};

use filled::{after_fill, before_fill};
use text::{made_by, makes_index, sql_of, without_default};

/// What the expand section became.
pub(super) struct Expanded {
    /// Steps of the phases expand and validate.
    pub(super) steps: Vec<Step>,
    /// Defaults for contract.
    pub(super) moved_defaults: Vec<MovedDefault>,
    /// The catalog as it leaves it: with the new columns.
    pub(super) after: Catalog,
    /// Tables that it creates.
    pub(super) created: BTreeSet<RelName>,
    /// The file is plain, and its revert section is about a statement of contract.
    pub(super) plain_revert: bool,
}

/// Plans the expand section. `synced` are the columns that a sync trigger fills.
///
/// # Errors
/// What does not belong here, and what has no safe form.
pub(super) fn expand(
    draft: &Draft<'_>,
    probed: &Probed,
    synced: BTreeSet<(QName, String)>,
) -> Result<Expanded> {
    let plain = draft.migration.plain;
    let mut builder = Builder {
        draft,
        probed,
        synced,
        filled: draft
            .backfills
            .iter()
            .flat_map(|b| b.assignments.iter().map(|a| (&b.table, &a.column)))
            .filter(|(table, column)| plain || draft.new_column(table, column).is_some())
            .map(|(table, column)| (table.clone(), column.clone()))
            .collect(),
        thinned: draft
            .backfills
            .iter()
            .filter(|b| plain && b.delete)
            .map(|b| b.table.clone())
            .collect(),
        waiting: BTreeSet::new(),
        retyped: BTreeMap::new(),
        out: Expanded {
            steps: Vec::new(),
            moved_defaults: Vec::new(),
            after: draft.catalog.clone(),
            created: BTreeSet::new(),
            plain_revert: false,
        },
    };
    for known in &draft.sections.expand {
        builder.statement(known)?;
    }
    builder.cascade()?;
    let mut out = builder.out;
    let no_way_back = |step: &Step| matches!(step.undo, Undo::Irreversible { .. });
    out.plain_revert =
        plain && !draft.sections.contract.is_empty() && !out.steps.iter().any(no_way_back);
    if !out.plain_revert {
        let reverts = &draft.sections.revert_expand;
        let section = if plain { "the file" } else { "expand" };
        attach_reverts(draft, &mut out.steps, reverts, section)?;
    }
    Ok(out)
}

struct Builder<'d, 'a> {
    draft: &'d Draft<'a>,
    probed: &'d Probed,
    synced: BTreeSet<(QName, String)>,
    /// Columns whose constraints and indexes come after the backfill that fills them.
    filled: BTreeSet<(QName, String)>,
    /// Tables from which a backfill deletes rows, which a constraint would forbid.
    thinned: BTreeSet<QName>,
    /// Constraints and indexes that are made after the backfill.
    waiting: BTreeSet<String>,
    /// How many of the new columns of a table have been added.
    retyped: BTreeMap<QName, usize>,
    out: Expanded,
}

impl Builder<'_, '_> {
    fn statement(&mut self, known: &Known<'_>) -> Result<()> {
        let draft = self.draft;
        let span = known.statement.span;
        let steps = match &known.action {
            Action::Update { table } | Action::Delete { table }
                if draft.table(table).is_some() && !self.out.created.contains(table) =>
            {
                return Err(draft.wrong(
                    span,
                    format!("this changes rows of {table} in one statement"),
                    "put it into a `-- pgshift: backfill` section",
                ));
            }
            Action::DropTable { names, .. } if names.iter().any(|n| draft.table(n).is_some()) => {
                return Err(belongs_to_contract(draft, span));
            }
            Action::AlterTable { name, ops, .. } => match draft.table(name) {
                Some(table) => self.alter(known, table, ops)?,
                None => self.whole(known)?,
            },
            Action::CreateDomain { name } => {
                self.learn_domain(name, &known.statement.sql);
                self.whole(known)?
            }
            Action::CreateTable { name, .. } => {
                // IF NOT EXISTS of one that exists creates nothing.
                if draft.table(name).is_none() {
                    self.out.created.insert(name.clone());
                    let full = forms::created(draft.catalog, name);
                    self.out.created.insert(full);
                }
                self.whole(known)?
            }
            _ => self.whole(known)?,
        };
        self.add(steps, span);
        Ok(())
    }

    /// Adds a statement's steps; from the first on that must wait for the backfill, all do.
    fn add(&mut self, steps: Vec<Step>, span: Span) {
        let mut wait = false;
        for mut step in steps {
            let early = step.phase == Phase::Expand;
            wait |= !early || self.must_wait(&step);
            if wait {
                if early && !self.draft.backfills.is_empty() {
                    let why = if makes_index(&step) {
                        "after the backfill: it is faster then, and the index smaller"
                    } else {
                        "after the backfill, as what it is about is not there before"
                    };
                    step = step.note(why);
                }
                step.phase = Phase::Validate;
                self.waiting.extend(made_by(&step));
            }
            self.out.steps.push(step.line(line(self.draft, span)));
        }
    }

    fn whole(&mut self, known: &Known<'_>) -> Result<Vec<Step>> {
        let steps = ordinary(
            self.draft,
            &self.out.after,
            known,
            Phase::Expand,
            &self.out.created,
        )?;
        self.learn(&steps);
        Ok(steps)
    }

    /// ALTER TABLE of an existing table, divided where parts of it belong elsewhere.
    fn alter(&mut self, known: &Known<'_>, table: &Table, ops: &[AlterOp]) -> Result<Vec<Step>> {
        let draft = self.draft;
        let sql = &known.statement.sql;
        let span = known.statement.span;
        for op in ops {
            self.check_op(table, op, span)?;
        }
        if let Some(steps) = self.rename(known, table, ops)? {
            return Ok(steps);
        }
        let not_null_waits = ops.iter().any(|op| {
            matches!(&op.kind, AlterOpKind::SetNotNull { .. }) && self.op_waits(table, op, sql)
        });
        let (mut early, mut late, mut divided) = (Vec::new(), Vec::new(), false);
        let mut bare = false;
        let mut fills = Vec::new();
        let mut retypes = 0;
        for op in ops {
            let text = op.span.of(sql);
            match &op.kind {
                AlterOpKind::SetType { column, .. }
                    if let Some(retype) = self.retype(&table.name, column) =>
                {
                    early.push(retype::add_column(retype));
                    divided = true;
                    retypes += 1;
                }
                // At the swap.
                _ if retype::goes_along(op, ops) && draft.retypes.contains_key(&table.name) => {
                    divided = true;
                }
                AlterOpKind::AddColumn(def)
                    if let Some(fill) =
                        draft.fills.get(&(table.name.clone(), def.name.clone())) =>
                {
                    let parts = fill::parts(&self.out.after, table, def, fill, sql);
                    early.extend(parts.add.iter().cloned());
                    fills.push((def.name.clone(), parts));
                    divided = true;
                }
                AlterOpKind::AddColumn(def)
                    if def.default.is_some() && self.is_synced(&table.name, &def.name) =>
                {
                    let default = def.default.clone().unwrap_or_default();
                    let without = without_default(text, &default).ok_or_else(|| {
                        draft.refused(
                            op.span.shift(span.start),
                            "this default cannot be told apart from the rest of the definition",
                            "leave it out here and set it in the contract section",
                        )
                    })?;
                    self.move_default(&table.name, &def.name, &default, span);
                    early.push(without);
                    (divided, bare) = (true, true);
                }
                AlterOpKind::SetDefault { column, expr } if self.is_synced(&table.name, column) => {
                    self.move_default(&table.name, column, expr, span);
                    divided = true;
                }
                // A CHECK that proves NOT NULL must not be gone before.
                AlterOpKind::DropConstraint { .. } if not_null_waits => late.push(text.to_owned()),
                _ if self.op_waits(table, op, sql) => late.push(text.to_owned()),
                _ => early.push(text.to_owned()),
            }
        }
        divided |= !early.is_empty() && !late.is_empty();
        let Action::AlterTable { head, .. } = &known.action else {
            return Ok(Vec::new());
        };
        let head = head.of(sql);
        let mut steps = Vec::new();
        for (_, parts) in &fills {
            steps.extend(before_fill(parts));
        }
        for (at, part) in [early, late].into_iter().enumerate() {
            if !part.is_empty() {
                let text = if divided {
                    format!("{head} {}", part.join(", "))
                } else {
                    sql.clone()
                };
                steps.extend(self.part(&text, span)?);
            }
            if at > 0 {
                continue;
            }
            // What a later part of the statement needs is there before it.
            for (_, parts) in &fills {
                steps.extend(after_fill(parts, table));
            }
            for (column, parts) in &fills {
                steps.extend(self.finish_fill(head, column, parts, span, table)?);
            }
        }
        if let Some((_, parts)) = fills.first()
            && let Some(step) = steps.first_mut()
        {
            step.notes.push(format!("rewritten: {}", parts.why));
        }
        if retypes > 0
            && let Some(first) = steps.first_mut()
        {
            first.notes.push(
                "rewritten: the server would write the table anew under a lock that blocks reads \
                 and writes; a column of the new type is filled beside the old one, and takes its \
                 place at contract"
                    .to_owned(),
            );
            steps.extend(self.dress(table, retypes, span)?);
        }
        if bare && let Some(first) = steps.first_mut() {
            first.notes.push(
                "without its default, which is set at contract: until then an old application's \
                 insert must leave the column null for the sync trigger"
                    .to_owned(),
            );
        }
        Ok(steps)
    }

    /// A rename after which both names work; `None` for any other statement.
    fn rename(
        &mut self,
        known: &Known<'_>,
        table: &Table,
        ops: &[AlterOp],
    ) -> Result<Option<Vec<Step>>> {
        let draft = self.draft;
        let span = known.statement.span;
        let Some(op) = ops.first() else {
            return Ok(None);
        };
        match &op.kind {
            AlterOpKind::RenameTable { .. } => {
                let Some(rename) = draft.renames.table(&table.name) else {
                    return Ok(None);
                };
                let steps = self.part(&known.statement.sql, span)?;
                let steps = steps
                    .into_iter()
                    .map(|step| rename::table::expand_step(draft, rename, step));
                Ok(Some(steps.collect()))
            }
            AlterOpKind::RenameColumn { from, .. } => {
                let Some(rename) = draft.renames.of(&table.name).find(|r| r.from == *from) else {
                    return Ok(None);
                };
                let mut steps = self.part(&rename::column::add_sql(draft.catalog, rename), span)?;
                if let Some(step) = steps.first_mut() {
                    if let Work::Sql { statements } = &mut step.work {
                        statements.extend(rename::column::grants(draft.catalog, rename));
                    }
                    step.notes.push(format!(
                        "rewritten: both names work until contract; {} stands in for the new name, \
                         kept equal to {from} both ways, and at contract {from} takes the name over",
                        rename.to
                    ));
                }
                steps.extend(rename::column::index_steps(draft, rename));
                Ok(Some(steps))
            }
            _ => Ok(None),
        }
    }

    fn retype(&self, table: &QName, column: &str) -> Option<&Retype> {
        let columns = self.draft.retypes.get(table)?;
        columns.iter().find(|r| r.column == column)
    }

    /// The columns of tables that no statement names.
    fn cascade(&mut self) -> Result<()> {
        let draft = self.draft;
        for (name, columns) in &draft.retypes {
            let added: Vec<&Retype> = columns
                .iter()
                .filter(|r| draft.cascaded.contains(&(name.clone(), r.column.clone())))
                .collect();
            let Some(first) = added.first() else {
                continue;
            };
            let text: Vec<String> = added.iter().map(|r| retype::add_column(r)).collect();
            let text = format!("ALTER TABLE {} {}", qname(name), text.join(", "));
            let span = first.span;
            let mut steps = self.part(&text, span)?;
            if let Some(step) = steps.first_mut() {
                step.notes.push(
                    "cascade=true: it references a column whose type changes, and changes with it"
                        .to_owned(),
                );
            }
            steps.extend(self.dress(&draft.catalog.tables[name], added.len(), span)?);
            self.add(steps, span);
        }
        Ok(())
    }

    /// What new columns get after their backfill; once for a table, when the last of them is added:
    /// an index of a partitioned table, which may have several of them, is there before the
    /// backfill.
    fn dress(&mut self, table: &Table, more: usize, span: Span) -> Result<Vec<Step>> {
        let added = self.retyped.entry(table.name.clone()).or_default();
        *added += more;
        if *added < self.draft.retypes[&table.name].len() {
            return Ok(Vec::new());
        }
        let table = swapped(self.draft, self.probed, &table.name, line(self.draft, span))?;
        Ok(table.dress(Side::New))
    }

    /// The steps of a part of an ALTER TABLE.
    fn part(&mut self, text: &str, span: Span) -> Result<Vec<Step>> {
        let steps = text_steps(
            self.draft,
            &self.out.after,
            text,
            span,
            Phase::Expand,
            &self.out.created,
        )?;
        self.learn(&steps);
        Ok(steps)
    }

    /// Refuses what the old application version, or a sync trigger, would trip over.
    fn check_op(&self, table: &Table, op: &AlterOp, statement: Span) -> Result<()> {
        let draft = self.draft;
        let span = op.span.shift(statement.start);
        match &op.kind {
            AlterOpKind::DropColumn { .. } => Err(belongs_to_contract(draft, statement)),
            // What is filled without a backfill of the author, a volatile default for one.
            AlterOpKind::RenameTable { .. } | AlterOpKind::SetSchema { .. }
                if draft.backfills.iter().any(|b| b.table == table.name) =>
            {
                Err(draft.refused(
                    span,
                    format!("this renames in {} what its backfill names", table.name),
                    "rename in a migration of its own",
                ))
            }
            _ => Ok(()),
        }
    }

    fn move_default(&mut self, table: &QName, column: &str, expr: &str, span: Span) {
        let head = format!(
            "ALTER TABLE {} ALTER COLUMN {}",
            qname(table),
            ident(column)
        );
        let before = self.draft.catalog.tables[table].column(column);
        let undo = match before.and_then(|c| c.default.as_ref()) {
            Some(old) => format!("{head} SET DEFAULT {old}"),
            None => format!("{head} DROP DEFAULT"),
        };
        self.out.moved_defaults.push(MovedDefault {
            sql: format!("{head} SET DEFAULT {expr}"),
            undo,
            table: table.clone(),
            column: column.to_owned(),
            line: line(self.draft, span),
        });
    }

    /// A column of a domain with CHECK or NOT NULL is added by a rewrite of the table.
    fn learn_domain(&mut self, name: &RelName, sql: &str) {
        let constrains = lex_code(sql)
            .into_iter()
            .any(|t| is_keyword(t, sql, "CHECK") || is_keyword(t, sql, "NOT"));
        if constrains {
            let after = &mut self.out.after;
            let schema = name
                .schema
                .clone()
                .or_else(|| after.search_path.first().cloned());
            let name = QName::new(schema.unwrap_or_default(), name.name.as_str());
            after.constrained_domains.insert(name);
        }
    }

    /// What the steps of a statement make is there for the statements after it.
    fn learn(&mut self, steps: &[Step]) {
        let probed = self.probed;
        for sql in steps.iter().flat_map(sql_of) {
            follow(&mut self.out.after, sql, |table, def| {
                column(probed, table, def)
            });
        }
    }
}

/// Refuses to rename what the sync trigger of an earlier migration writes by name.
pub(super) fn check_old_triggers(draft: &Draft<'_>, table: &Table, span: Span) -> Result<()> {
    let Some(trigger) = table.triggers.iter().find(|t| sync::is_ours(&t.name)) else {
        return Ok(());
    };
    Err(draft.refused(
        span,
        format!(
            "trigger {} of an earlier migration still writes to columns of {} by their names",
            trigger.name, table.name
        ),
        "`pgshift purge` that migration first (then it cannot be reverted any more)",
    ))
}

fn belongs_to_contract(draft: &Draft<'_>, span: Span) -> Error {
    draft.wrong(
        span,
        "this removes something that the old application version may use",
        "put it into the `-- pgshift: contract` section",
    )
}

/// The column of a definition; its type as the server says it, where it was asked.
fn column(probed: &Probed, table: &QName, def: &ColumnDef) -> Column {
    let key = (table.clone(), def.name.clone());
    let asked = probed.types.get(&key).cloned();
    let (type_name, has_equality) = asked.unwrap_or_else(|| (def.type_text.clone(), true));
    Column {
        name: def.name.clone(),
        type_name,
        not_null: def.not_null,
        default: def.default.clone(),
        generated: def.generated.is_some(),
        is_virtual: matches!(def.generated, Some((Generated::Virtual, _))),
        identity: def.identity.then(|| "BY DEFAULT".to_owned()),
        has_equality,
        comment: None,
        settings: crate::catalog::ColumnSettings::default(),
    }
}
