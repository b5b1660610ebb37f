//! The second half of planning: from decisions to steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::backfill::Strategy;
use crate::catalog::{Catalog, Column, QName, Table, facts};
use crate::error::{Error, Result};
use crate::lock::{LockMode, LockOn};
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOpKind, RelName, understand};
use crate::sql::lex::{ident_value, is_keyword, lex_code};
use crate::sql::quote::{ident, qname};

use super::backfills::{PlannedBackfill, decide};
use super::contract;
use super::draft::{Draft, relations};
use super::forms::existing;
use super::inverse::{Inverse, inverse};
use super::locks::{locks, transactional};
use super::probe::Probed;
use super::safe::{Safe, safe_form};
use super::sections::Known;
use super::step::{Estimate, PLAN_FORMAT, Phase, Plan, Step, Undo, Work};
use super::sync::{Form, SyncGroup};
use super::title::title;
use super::work::{Work as DdlWork, rewrites_or_scans};

/// Builds the plan of a draft with the server's answers.
///
/// # Errors
/// Refusals and errors of the file, with places, reasons and the way out.
pub fn build(draft: &Draft<'_>, probed: &Probed) -> Result<Plan> {
    super::targets::check(draft)?;
    let (backfills, groups) = decide(draft, probed)?;
    let mut builder = Builder {
        draft,
        probed,
        after: with_new_columns(draft, probed),
        synced: synced_columns(&groups),
        backfilled: draft.backfills.iter().map(|b| b.table.clone()).collect(),
        created: BTreeSet::new(),
        moved_defaults: Vec::new(),
        steps: Vec::new(),
        warnings: Vec::new(),
    };
    builder.expand()?;
    builder.sync(&groups);
    builder.backfill(&backfills);
    builder
        .steps
        .extend(verify_steps(draft, &backfills, Phase::Verify));
    let Builder {
        after,
        moved_defaults,
        mut steps,
        mut warnings,
        ..
    } = builder;
    let verify = verify_steps(draft, &backfills, Phase::Contract);
    let contract = contract::build(draft, &after, &groups, &moved_defaults, &verify)?;
    steps.extend(contract.steps);
    steps.extend(contract.purge);
    warnings.extend(contract.warnings);
    for backfill in &backfills {
        warnings.extend(backfill.warnings.iter().cloned());
    }
    if !probed.checked && !draft.backfills.is_empty() {
        warnings.push(
            "expressions could not be checked on a copy of the table: this role may not make \
             temporary tables (GRANT TEMPORARY ON DATABASE)"
                .to_owned(),
        );
    }
    steps.sort_by_key(|s| s.phase);
    if let Some(longest) = draft.migration.options.lock_timeout {
        for step in &mut steps {
            step.set_lock_timeout(longest);
        }
    }
    let mut seen = BTreeSet::new();
    warnings.retain(|w| seen.insert(w.clone()));
    Ok(Plan {
        format: PLAN_FORMAT,
        migration: draft.migration.id.clone(),
        checksum: draft.migration.checksum.clone(),
        steps,
        warnings,
        facts: facts::facts(draft.catalog),
        tables: changed_tables(draft),
    })
}

/// A default of a synced column, which must wait until the old application version is gone.
#[derive(Debug, Clone)]
pub(super) struct MovedDefault {
    /// The statement.
    pub(super) sql: String,
    /// The statement that takes it back.
    pub(super) undo: String,
    /// The table.
    pub(super) table: QName,
    /// The column.
    pub(super) column: String,
    /// Line of the file.
    pub(super) line: usize,
}

struct Builder<'d, 'a> {
    draft: &'d Draft<'a>,
    probed: &'d Probed,
    /// The catalog as the expand section leaves it.
    after: Catalog,
    synced: BTreeSet<(QName, String)>,
    backfilled: BTreeSet<QName>,
    created: BTreeSet<RelName>,
    moved_defaults: Vec<MovedDefault>,
    steps: Vec<Step>,
    warnings: Vec<String>,
}

/// Tables that a migration changes.
fn changed_tables(draft: &Draft<'_>) -> Vec<QName> {
    let names = draft
        .sections
        .statements()
        .flat_map(|k| relations(&k.action));
    let tables: BTreeSet<QName> = names
        .filter_map(|n| draft.table(&n))
        .map(|t| t.name.clone())
        .collect();
    tables.into_iter().collect()
}

fn synced_columns(groups: &[SyncGroup]) -> BTreeSet<(QName, String)> {
    groups
        .iter()
        .flat_map(|g| {
            g.components
                .iter()
                .flat_map(|c| c.targets().map(|t| (g.table.clone(), t.column.clone())))
        })
        .collect()
}

/// The catalog with the columns that expand adds.
fn with_new_columns(draft: &Draft<'_>, probed: &Probed) -> Catalog {
    let mut after = draft.catalog.clone();
    for known in &draft.sections.expand {
        if let Action::CreateDomain { name } = &known.action
            && constrains(&known.statement.sql)
        {
            let schema = name
                .schema
                .clone()
                .or_else(|| after.search_path.first().cloned());
            let name = QName::new(schema.unwrap_or_default(), name.name.as_str());
            after.constrained_domains.insert(name);
        }
    }
    for ((table, name), new) in &draft.new_columns {
        let (type_name, has_equality) = probed
            .types
            .get(&(table.clone(), name.clone()))
            .cloned()
            .unwrap_or_else(|| (new.def.type_text.clone(), true));
        if let Some(table) = after.tables.get_mut(table) {
            table.columns.push(Column {
                name: name.clone(),
                type_name,
                not_null: new.def.not_null,
                default: new.def.default.clone(),
                generated: new.def.generated.is_some(),
                identity: new.def.identity.then(|| "BY DEFAULT".to_owned()),
                has_equality,
                comment: None,
            });
        }
    }
    after
}

/// True where a CREATE DOMAIN has a CHECK or NOT NULL.
fn constrains(sql: &str) -> bool {
    lex_code(sql)
        .into_iter()
        .any(|t| is_keyword(t, sql, "CHECK") || is_keyword(t, sql, "NOT"))
}

/// Line of a span in the draft's file.
pub(super) fn line(draft: &Draft<'_>, span: Span) -> usize {
    draft.migration.source.line_column(span.start).0
}

impl Builder<'_, '_> {
    fn expand(&mut self) -> Result<()> {
        let draft = self.draft;
        let known = &draft.sections.expand;
        let mut steps = Vec::new();
        for known in known {
            steps.extend(self.expand_statement(known)?);
        }
        attach_reverts(draft, &mut steps, &draft.sections.revert_expand);
        self.steps.extend(steps);
        Ok(())
    }

    fn expand_statement(&mut self, known: &Known<'_>) -> Result<Vec<Step>> {
        let draft = self.draft;
        let span = known.statement.span;
        let line = line(draft, span);
        match &known.action {
            Action::Update { table } | Action::Delete { table }
                if draft.table(table).is_some() && !self.created.contains(table) =>
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
            Action::AlterTable { name, ops, .. } if draft.table(name).is_some() => {
                if ops
                    .iter()
                    .any(|op| matches!(op.kind, AlterOpKind::DropColumn { .. }))
                {
                    return Err(belongs_to_contract(draft, span));
                }
                return self.expand_alter(known, name);
            }
            Action::CreateTable { name, .. } => {
                self.created.insert(name.clone());
            }
            _ => {}
        }
        let mut steps = ordinary(draft, &self.after, known, Phase::Expand, &self.created)?;
        if let Action::CreateIndex { table, .. } = &known.action
            && let Some(table) = draft.table(table)
            && self.names_synced(&table.name, &known.statement.sql)
        {
            for step in &mut steps {
                step.phase = Phase::Validate;
                step.notes.push(
                    "after the backfill: it is faster then, and the index smaller".to_owned(),
                );
            }
        }
        for step in &mut steps {
            step.line = Some(line);
        }
        Ok(steps)
    }

    /// ALTER TABLE of an existing table, divided where parts of it belong elsewhere.
    fn expand_alter(&mut self, known: &Known<'_>, name: &RelName) -> Result<Vec<Step>> {
        let draft = self.draft;
        let Action::AlterTable { ops, head, .. } = &known.action else {
            return Ok(Vec::new());
        };
        let sql = &known.statement.sql;
        let table = draft
            .table(name)
            .map(|t| t.name.clone())
            .unwrap_or_else(|| QName::new("", ""));
        let line = line(draft, known.statement.span);
        let head = head.of(sql);
        let synced = self.synced.clone();
        let is_synced = |column: &str| synced.contains(&(table.clone(), column.to_owned()));
        let special = |kind: &AlterOpKind| match kind {
            AlterOpKind::AddColumn(def) => is_synced(&def.name) && def.default.is_some(),
            AlterOpKind::SetDefault { column, .. } => is_synced(column),
            AlterOpKind::AddConstraint(_) => true,
            _ => false,
        };
        if !ops.iter().any(|op| special(&op.kind)) {
            return self.whole(known);
        }
        let mut steps = Vec::new();
        for op in ops {
            let text = op.span.of(sql);
            match &op.kind {
                AlterOpKind::AddColumn(def) if special(&op.kind) => {
                    let default = def.default.clone().unwrap_or_default();
                    let bare = without_default(text, &default).ok_or_else(|| {
                        draft.refused(
                            op.span.shift(known.statement.span.start),
                            "this default cannot be told apart from the rest of the definition",
                            "leave it out here and set it in the contract section",
                        )
                    })?;
                    let sql = format!("{head} {bare}");
                    let mut part = self.part(known, &sql)?;
                    for step in &mut part {
                        step.notes.push(
                            "without its default, which is set at contract: until then an old \
                             application's insert must leave the column null for the sync trigger"
                                .to_owned(),
                        );
                    }
                    steps.extend(part);
                    self.move_default(&table, &def.name, &default, line);
                }
                AlterOpKind::SetDefault { column, expr } if special(&op.kind) => {
                    self.move_default(&table, column, expr, line);
                }
                _ => {
                    let sql = if ops.len() == 1 {
                        sql.clone()
                    } else {
                        format!("{head} {text}")
                    };
                    let mut part = self.part(known, &sql)?;
                    if matches!(op.kind, AlterOpKind::AddConstraint(_))
                        && self.names_synced(&table, text)
                    {
                        for step in &mut part {
                            step.phase = Phase::Validate;
                        }
                    }
                    steps.extend(part);
                }
            }
        }
        for step in &mut steps {
            step.line = Some(line);
        }
        Ok(steps)
    }

    fn whole(&self, known: &Known<'_>) -> Result<Vec<Step>> {
        let mut steps = ordinary(self.draft, &self.after, known, Phase::Expand, &self.created)?;
        for step in &mut steps {
            step.line = Some(line(self.draft, known.statement.span));
        }
        Ok(steps)
    }

    fn part(&self, known: &Known<'_>, sql: &str) -> Result<Vec<Step>> {
        text_steps(
            self.draft,
            &self.after,
            sql,
            known.statement.span,
            Phase::Expand,
            &self.created,
        )
    }

    fn move_default(&mut self, table: &QName, column: &str, expr: &str, line: usize) {
        self.moved_defaults.push(MovedDefault {
            sql: format!(
                "ALTER TABLE {} ALTER COLUMN {} SET DEFAULT {expr}",
                qname(table),
                ident(column)
            ),
            undo: format!(
                "ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT",
                qname(table),
                ident(column)
            ),
            table: table.clone(),
            column: column.to_owned(),
            line,
        });
    }

    fn is_synced(&self, table: &QName, column: &str) -> bool {
        self.synced.contains(&(table.clone(), column.to_owned()))
    }

    /// True where a text names a synced column of the table.
    fn names_synced(&self, table: &QName, text: &str) -> bool {
        lex_code(text)
            .into_iter()
            .filter_map(|t| ident_value(t, text))
            .any(|name| self.is_synced(table, &name))
    }

    fn sync(&mut self, groups: &[SyncGroup]) {
        for group in groups {
            let step = Step::sql(
                Phase::Sync,
                format!("create the sync trigger of {}", group.table),
                group.create(Form::Both, &[]),
            )
            .locks(vec![lock_on(&group.table, LockMode::ShareRowExclusive)])
            .undo(Undo::steps(vec![remove_sync(group)]));
            self.steps.push(step);
        }
    }

    fn backfill(&mut self, backfills: &[PlannedBackfill]) {
        for (index, backfill) in backfills.iter().enumerate() {
            let table = &self.draft.catalog.tables[&backfill.spec.table];
            let verb = if self.draft.backfills[index].delete {
                "delete from"
            } else {
                "backfill"
            };
            let mut step = Step::new(
                Phase::Backfill,
                format!("{verb} {}", backfill.spec.table),
                Work::Backfill(Box::new(backfill.spec.clone())),
            )
            .locks(vec![lock_on(&backfill.spec.table, LockMode::RowExclusive)])
            .line(line(self.draft, backfill.span));
            step.notes.clone_from(&backfill.notes);
            step.estimate = self.estimate(index, backfill, table);
            step.undo = if backfill.sync || self.draft.backfills[index].all_new {
                Undo::Nothing
            } else {
                let what = if self.draft.backfills[index].delete {
                    "deleted rows are not kept"
                } else {
                    "overwritten values are not kept"
                };
                Undo::Irreversible {
                    reason: what.to_owned(),
                }
            };
            self.steps.push(step);
        }
    }

    fn estimate(&self, index: usize, backfill: &PlannedBackfill, table: &Table) -> Estimate {
        let cost = self.probed.row_cost.get(&index).copied();
        let seconds = cost.map(|c| c * table.rows as f64);
        let chunks = match (backfill.spec.batch, cost) {
            (Some(batch), _) => Some((table.rows / i64::from(batch)).max(1)),
            // The adaptive size aims at a working time of 20 ms a chunk.
            (None, Some(cost)) => {
                let blocks: i64 = table.leaves.iter().map(|l| l.blocks).sum();
                let wanted = ((table.rows as f64 * cost) / 0.02).ceil() as i64;
                let most = if backfill.spec.strategy == Strategy::Ctid {
                    blocks
                } else {
                    table.rows
                };
                Some(wanted.clamp(1, most.max(1)))
            }
            (None, None) => None,
        };
        Estimate {
            rows: Some(table.rows),
            bytes: Some(table.bytes),
            chunks,
            seconds,
            basis: Some(match cost {
                Some(_) => "measured on a sample in a temporary copy, without WAL, indexes and \
                            throttle: expect more"
                    .to_owned(),
                None => "no sample could be measured".to_owned(),
            }),
        }
    }
}

/// The checks before READY, and those once more before contract.
fn verify_steps(draft: &Draft<'_>, backfills: &[PlannedBackfill], phase: Phase) -> Vec<Step> {
    let mut steps = Vec::new();
    for backfill in backfills {
        let spec = if phase == Phase::Verify {
            &backfill.verify
        } else {
            &backfill.verify_later
        };
        let Some(spec) = spec else { continue };
        let table = &draft.catalog.tables[&spec.table];
        let mut step = Step::new(
            phase,
            format!("verify every row of {}", spec.table),
            Work::Verify(Box::new(spec.clone())),
        )
        .locks(vec![lock_on(&spec.table, LockMode::AccessShare)])
        .line(line(draft, backfill.span));
        if phase != Phase::Verify && backfill.verify_later != backfill.verify {
            step.notes.push(
                "without a reverse section the new application version may have written any \
                 value by now: only a row without one is wrong"
                    .to_owned(),
            );
        }
        step.estimate.rows = Some(table.rows);
        step.estimate.bytes = Some(table.bytes);
        steps.push(step);
    }
    for known in &draft.sections.verify {
        steps.push(
            Step::new(
                phase,
                "check that the author's query finds nothing wrong",
                Work::Check {
                    sql: known.statement.sql.clone(),
                },
            )
            .line(line(draft, known.statement.span)),
        );
    }
    steps
}

fn belongs_to_contract(draft: &Draft<'_>, span: Span) -> Error {
    draft.wrong(
        span,
        "this removes something that the old application version may use",
        "put it into the `-- pgshift: contract` section",
    )
}

/// A lock on an existing table.
pub(super) fn lock_on(table: &QName, mode: LockMode) -> LockOn {
    LockOn {
        relation: Some(RelName::from(table)),
        mode,
    }
}

/// The step that removes a sync trigger and its function.
pub(super) fn remove_sync(group: &SyncGroup) -> Step {
    Step::sql(
        Phase::Revert,
        format!("drop the sync trigger of {}", group.table),
        group.remove(),
    )
    .locks(vec![lock_on(&group.table, LockMode::AccessExclusive)])
}

/// The steps of one statement that nothing special is done about.
pub(super) fn ordinary(
    draft: &Draft<'_>,
    catalog: &Catalog,
    known: &Known<'_>,
    phase: Phase,
    created: &BTreeSet<RelName>,
) -> Result<Vec<Step>> {
    text_steps(
        draft,
        catalog,
        &known.statement.sql,
        known.statement.span,
        phase,
        created,
    )
}

/// The steps of a statement's text, in its safe form.
pub(super) fn text_steps(
    draft: &Draft<'_>,
    catalog: &Catalog,
    sql: &str,
    span: Span,
    phase: Phase,
    created: &BTreeSet<RelName>,
) -> Result<Vec<Step>> {
    let action = understand(sql);
    let undo = undo_of(inverse(&action, catalog), catalog);
    match safe_form(sql, &action, catalog) {
        Safe::AsIs => {
            let mut step = if transactional(&action) {
                Step::sql(phase, title(&action, sql), vec![sql.to_owned()])
            } else {
                concurrent(phase, sql, catalog)
            };
            step.locks = existing_locks(&action, catalog, created);
            step.estimate = ddl_estimate(&action, catalog);
            Ok(vec![step.undo(undo)])
        }
        Safe::Rewritten { steps, why } => {
            let mut later = false;
            let mut all: Vec<Step> = steps
                .iter()
                .map(|safe| {
                    let action = understand(&safe.sql);
                    // What follows a step that waits for the backfill waits with it.
                    later |= phase == Phase::Expand && safe.phase_hint.is_some();
                    let phase = if later { Phase::Validate } else { phase };
                    let mut step = if safe.concurrent {
                        concurrent(phase, &safe.sql, catalog)
                    } else {
                        Step::sql(phase, title(&action, &safe.sql), vec![safe.sql.clone()])
                    };
                    step.locks = existing_locks(&action, catalog, created);
                    step.estimate = ddl_estimate(&action, catalog);
                    step.undo = undo_of(inverse(&action, catalog), catalog);
                    step
                })
                .collect();
            settle_helpers(&mut all, steps.iter().map(|s| s.sql.as_str()), catalog);
            if let Some(first) = all.first_mut() {
                first.notes.push(format!("rewritten: {why}"));
            }
            Ok(all)
        }
        Safe::Refused { why, way_out } => Err(draft.refused(span, why, &way_out)),
    }
}

/// What a schema statement costs, as far as the catalog tells.
fn ddl_estimate(action: &Action, catalog: &Catalog) -> Estimate {
    let known = |basis: &str| Some(basis.to_owned());
    let work = rewrites_or_scans(action, catalog);
    if work == DdlWork::None {
        return Estimate {
            basis: known("changes the catalog only"),
            ..Estimate::default()
        };
    }
    let table = relations(action)
        .into_iter()
        .find_map(|name| catalog.table(name.schema.as_deref(), &name.name));
    Estimate {
        rows: table.map(|t| t.rows),
        bytes: table.map(|t| t.bytes),
        basis: known(match work {
            DdlWork::IndexBuild => "builds an index",
            DdlWork::Rewrite => "rewrites the table",
            _ => "reads every row",
        }),
        ..Estimate::default()
    }
}

/// A constraint that a rewrite adds only to drop it again is gone when all is done: its drop needs
/// no way back, and the way back of its addition must bear that it is gone.
fn settle_helpers<'s>(
    steps: &mut [Step],
    statements: impl Iterator<Item = &'s str>,
    catalog: &Catalog,
) {
    let mut added: Vec<(usize, RelName, String)> = Vec::new();
    for (index, sql) in statements.enumerate() {
        let Action::AlterTable { name, ops, .. } = understand(sql) else {
            continue;
        };
        for op in ops {
            match op.kind {
                AlterOpKind::AddConstraint(def) => {
                    added.extend(def.name.map(|constraint| (index, name.clone(), constraint)));
                }
                AlterOpKind::DropConstraint { name: dropped, .. } => {
                    let Some((add, ..)) = added.iter().find(|(_, _, c)| *c == dropped) else {
                        continue;
                    };
                    let table = existing(catalog, &name).sql();
                    steps[index].undo = Undo::Nothing;
                    let back = Step::sql(
                        Phase::Revert,
                        format!("drop constraint {dropped} if it is still there"),
                        vec![format!(
                            "ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {}",
                            ident(&dropped)
                        )],
                    )
                    .locks(steps[*add].locks.clone());
                    steps[*add].undo = Undo::steps(vec![back]);
                }
                _ => {}
            }
        }
    }
}

/// A step outside a transaction, with the index by which the catalog tells its outcome.
pub(super) fn concurrent(phase: Phase, sql: &str, catalog: &Catalog) -> Step {
    let action = understand(sql);
    let (index, drops) = match &action {
        Action::CreateIndex {
            name: Some(name),
            table,
            ..
        } => {
            let schema = catalog
                .table(table.schema.as_deref(), &table.name)
                .map(|t| t.name.schema.clone())
                .or_else(|| table.schema.clone());
            (schema.map(|s| QName::new(s, name.name.as_str())), false)
        }
        Action::DropIndex { names, .. } => {
            let name = names.first();
            let found = name.and_then(|n| catalog.index(n.schema.as_deref(), &n.name));
            let index = found.map(|(table, index)| QName::new(&*table.name.schema, &*index.name));
            let written = name.and_then(|n| Some(QName::new(n.schema.clone()?, n.name.clone())));
            (index.or(written), true)
        }
        _ => (None, false),
    };
    let work = Work::Concurrent {
        sql: sql.to_owned(),
        index,
        drops,
    };
    Step::new(phase, title(&action, sql), work)
}

fn existing_locks(action: &Action, catalog: &Catalog, created: &BTreeSet<RelName>) -> Vec<LockOn> {
    locks(action, catalog)
        .into_iter()
        .filter(|l| l.relation.as_ref().is_none_or(|r| !created.contains(r)))
        .collect()
}

/// The way back as steps.
pub(super) fn undo_of(inverse: Inverse, catalog: &Catalog) -> Undo {
    match inverse {
        Inverse::Nothing => Undo::Nothing,
        Inverse::Irreversible(reason) => Undo::Irreversible { reason },
        Inverse::Sql(steps) => Undo::steps(
            steps
                .into_iter()
                .map(|s| {
                    if s.concurrent {
                        return concurrent(Phase::Revert, &s.sql, catalog);
                    }
                    let action = understand(&s.sql);
                    let locks = locks(&action, catalog);
                    Step::sql(Phase::Revert, title(&action, &s.sql), vec![s.sql]).locks(locks)
                })
                .collect(),
        ),
    }
}

/// Gives the author's revert statements to the first step that has no known way back.
pub(super) fn attach_reverts(draft: &Draft<'_>, steps: &mut [Step], reverts: &[Known<'_>]) {
    if reverts.is_empty() {
        return;
    }
    let undo: Vec<Step> = reverts
        .iter()
        .map(|known| {
            let sql = &known.statement.sql;
            let step = if transactional(&known.action) {
                Step::sql(Phase::Revert, title(&known.action, sql), vec![sql.clone()])
            } else {
                concurrent(Phase::Revert, sql, draft.catalog)
            };
            step.locks(locks(&known.action, draft.catalog))
                .line(line(draft, known.statement.span))
        })
        .collect();
    let mut undo = Some(undo);
    for step in steps.iter_mut() {
        if let Undo::Irreversible { .. } = step.undo {
            step.undo = undo.take().map_or(Undo::Nothing, Undo::steps);
        }
    }
    // Nothing was without an inverse: the author's statements still run, first of all.
    if let (Some(undo), Some(last)) = (undo, steps.last_mut()) {
        let mut all = undo;
        if let Undo::Steps { steps, .. } = &last.undo {
            all.extend(steps.iter().cloned());
        }
        last.undo = Undo::steps(all);
    }
}

/// The text of ADD COLUMN without `DEFAULT expr`.
fn without_default(text: &str, default: &str) -> Option<String> {
    let mut found = None;
    for token in lex_code(text) {
        if is_keyword(token, text, "DEFAULT") {
            let rest = &text[token.span.end..];
            let gap = rest.len() - rest.trim_start().len();
            if rest[gap..].starts_with(default) {
                found = Some((token.span.start, token.span.end + gap + default.len()));
                break;
            }
        }
    }
    let (start, end) = found?;
    Some(format!("{}{}", text[..start].trim_end(), &text[end..]))
}

/// Columns by table, for messages.
pub(super) fn by_table(columns: &BTreeSet<(QName, String)>) -> BTreeMap<&QName, Vec<&str>> {
    let mut all: BTreeMap<&QName, Vec<&str>> = BTreeMap::new();
    for (table, column) in columns {
        all.entry(table).or_default().push(column);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_is_cut_out_exactly() {
        assert_eq!(
            without_default("ADD COLUMN a int DEFAULT 1 + 1 CHECK (a > 0)", "1 + 1").as_deref(),
            Some("ADD COLUMN a int CHECK (a > 0)")
        );
        assert_eq!(
            without_default("ADD COLUMN \"default\" text DEFAULT 'default'", "'default'")
                .as_deref(),
            Some("ADD COLUMN \"default\" text")
        );
        assert_eq!(without_default("ADD COLUMN a int", "1"), None);
    }
}
