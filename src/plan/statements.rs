//! The steps of a statement, in its safe form, and the way back of each.

use std::collections::BTreeSet;

use super::build::{line, lock_on};
use super::draft::{Draft, relations};
use super::forms;
use super::inverse::{Inverse, inverse};
use super::locks::{locks, read_locks, transactional};
use super::safe::{Safe, safe_form, safe_form_allowing};
use super::sections::Known;
use super::step::{Estimate, Phase, Step, Undo, Work};
use super::title::title;
use super::work::{self, rewrites_or_scans};
use crate::catalog::{Catalog, QName, Table};
use crate::error::Result;
use crate::lock::{LockMode, LockOn};
use crate::migration::Allow;
use crate::sql::Span;
use crate::sql::ddl::{Action, AlterOpKind, RelName, understand};
use crate::sql::lex::{is_keyword, lex_code};
use crate::sql::quote::ident;

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
    if let Some(sql) = repeatable(sql, &action) {
        let steps = text_steps(draft, catalog, &sql, span, phase, created)?;
        let why = "rewritten: a value stays after a revert, so IF NOT EXISTS lets the file run \
                   again; one that is there already is no error";
        return Ok(steps.into_iter().map(|s| s.note(why)).collect());
    }
    let undo = if goes_with_its_table(&action, created) {
        Undo::Nothing
    } else {
        undo_of_created(&action, catalog)
    };
    let (form, notes) = form(draft, catalog, sql, &action, span);
    match form {
        Safe::AsIs => {
            let mut step = if transactional(&action) {
                Step::sql(phase, title(&action, sql), vec![sql.to_owned()])
            } else {
                concurrent(phase, sql, catalog)
            };
            step.locks = existing_locks(sql, &action, catalog, created);
            step.estimate = estimate(&action, catalog);
            step.notes = notes;
            Ok(vec![step.undo(undo)])
        }
        Safe::Rewritten { steps, why } => {
            let mut all = Vec::new();
            let mut phase = phase;
            let mut added = BTreeSet::new();
            let aids = aids(steps.iter().map(|s| s.sql.as_str()));
            for safe in &steps {
                let action = understand(&safe.sql);
                // What comes after a step that waits needs it.
                if phase == Phase::Expand && safe.phase_hint.is_some() {
                    phase = Phase::Validate;
                }
                let mut step = if safe.concurrent {
                    concurrent(phase, &safe.sql, catalog)
                } else {
                    Step::sql(phase, title(&action, &safe.sql), vec![safe.sql.clone()])
                };
                step.locks = existing_locks(&safe.sql, &action, catalog, created);
                step.estimate = estimate(&action, catalog);
                step.undo = if goes_with_a_column(&action, &added) {
                    Undo::Nothing
                } else {
                    aid_undo(&action, &aids, catalog)
                        .unwrap_or_else(|| undo_of_created(&action, catalog))
                };
                added.extend(columns_added(&action));
                all.push(step);
            }
            if let Some(first) = all.first_mut() {
                first.notes = notes;
                first.notes.push(format!("rewritten: {why}"));
            }
            Ok(all)
        }
        Safe::Refused { why, way_out, rule } => {
            let way_out = match rule {
                Some(rule) => format!(
                    "{way_out}; or, where it may block for so long, `-- pgshift: allow {rule} \
                     reason=\"…\"` before the statement runs it as written"
                ),
                None => way_out,
            };
            Err(draft.refused(span, why, &way_out))
        }
    }
}

/// How the note of a step begins that runs because the author allows it.
const ALLOWED: &str = "allowed as written";

/// What a person should know of a step that the author allows.
pub(super) fn allowed(step: &Step) -> impl Iterator<Item = &String> {
    step.notes.iter().filter(|n| n.starts_with(ALLOWED))
}

/// The safe form, with what the author allows it to break, and a note for each such rule.
fn form(
    draft: &Draft<'_>,
    catalog: &Catalog,
    sql: &str,
    action: &Action,
    span: Span,
) -> (Safe, Vec<String>) {
    let form = safe_form(sql, action, catalog);
    if !matches!(form, Safe::Refused { rule: Some(_), .. }) {
        return (form, Vec::new());
    }
    let allows: Vec<&Allow> = draft.allows(span).collect();
    let rules: Vec<&str> = allows.iter().map(|a| a.rule.as_str()).collect();
    let (form, broken) = safe_form_allowing(sql, action, catalog, &rules);
    let mut notes: Vec<String> = Vec::new();
    for (rule, why) in broken {
        let reason = allows.iter().find(|a| a.rule == rule);
        let reason = reason.map_or("", |a| a.reason.as_str());
        notes.push(format!("{ALLOWED} ({rule}: {reason}): {why}"));
    }
    (form, notes)
}

fn columns_added(action: &Action) -> Vec<String> {
    let Action::AlterTable { ops, .. } = action else {
        return Vec::new();
    };
    ops.iter()
        .filter_map(|op| match &op.kind {
            AlterOpKind::AddColumn(def) => Some(def.name.clone()),
            _ => None,
        })
        .collect()
}

/// A default of a column that a step before adds is gone with the column.
fn goes_with_a_column(action: &Action, added: &BTreeSet<String>) -> bool {
    matches!(action, Action::AlterTable { ops, .. } if ops.iter().all(|op| matches!(
        &op.kind,
        AlterOpKind::SetDefault { column, .. } if added.contains(column)
    )))
}

/// Constraints that a safe form adds and drops again.
fn aids<'s>(steps: impl Iterator<Item = &'s str>) -> BTreeSet<String> {
    let (mut added, mut aids) = (BTreeSet::new(), BTreeSet::new());
    for sql in steps {
        let Action::AlterTable { ops, .. } = understand(sql) else {
            continue;
        };
        for op in ops {
            match op.kind {
                AlterOpKind::AddConstraint(def) => added.extend(def.name),
                AlterOpKind::DropConstraint { name, .. } if added.contains(&name) => {
                    aids.insert(name);
                }
                _ => {}
            }
        }
    }
    aids
}

/// The way back of adding or dropping an aid: it is gone, whether its drop was reached or not.
fn aid_undo(action: &Action, aids: &BTreeSet<String>, catalog: &Catalog) -> Option<Undo> {
    let Action::AlterTable { name, ops, .. } = action else {
        return None;
    };
    let [op] = ops.as_slice() else { return None };
    match &op.kind {
        AlterOpKind::DropConstraint { name, .. } if aids.contains(name) => Some(Undo::Nothing),
        AlterOpKind::AddConstraint(def) => {
            let aid = def.name.as_ref().filter(|name| aids.contains(*name))?;
            let sql = format!(
                "ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}",
                forms::existing(catalog, name).sql(),
                ident(aid)
            );
            let action = understand(&sql);
            let step = Step::sql(Phase::Revert, title(&action, &sql), vec![sql]);
            Some(Undo::steps(vec![step.locks(locks(&action, catalog))]))
        }
        _ => None,
    }
}

/// What was done to a table of the migration's own is gone with the table.
fn goes_with_its_table(action: &Action, created: &BTreeSet<RelName>) -> bool {
    if let Action::Writes { parts } = action {
        return parts.iter().all(|(p, _)| goes_with_its_table(p, created));
    }
    let of_table = match action {
        Action::Insert { .. }
        | Action::Update { .. }
        | Action::Delete { .. }
        | Action::Merge { .. }
        | Action::CreateIndex { .. }
        | Action::CreateTrigger { .. }
        | Action::CreatePolicy { .. } => true,
        Action::AlterTable { ops, .. } => ops.iter().all(|op| {
            matches!(
                op.kind,
                AlterOpKind::AddColumn(_)
                    | AlterOpKind::AddConstraint(_)
                    | AlterOpKind::SetDefault { .. }
                    | AlterOpKind::SetNotNull { .. }
                    | AlterOpKind::ValidateConstraint { .. }
                    | AlterOpKind::RowSecurity
                    | AlterOpKind::SetOptions { .. }
            )
        }),
        _ => false,
    };
    let table = relations(action).into_iter().next();
    of_table && table.is_some_and(|t| created.contains(&t))
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
            let schema = forms::existing(catalog, table)
                .schema
                .or_else(|| forms::created(catalog, table).schema);
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

/// What a schema statement costs, as far as the catalog tells.
fn estimate(action: &Action, catalog: &Catalog) -> Estimate {
    if attaches_new(action, catalog) {
        return Estimate {
            basis: Some(
                "a partition that this file makes, with what the file puts in it".to_owned(),
            ),
            ..Estimate::default()
        };
    }
    let work = rewrites_or_scans(action, catalog);
    if work == work::Work::None {
        return Estimate {
            basis: Some("changes the catalog only".to_owned()),
            ..Estimate::default()
        };
    }
    let table = relations(action)
        .into_iter()
        .find_map(|name| catalog.table(name.schema.as_deref(), &name.name));
    let basis = match work {
        work::Work::IndexBuild => "builds an index",
        work::Work::Rewrite => "rewrites the table",
        _ => "reads every row",
    };
    Estimate {
        rows: table.map(|t| t.rows),
        bytes: table.map(|t| t.bytes),
        basis: Some(basis.to_owned()),
        ..Estimate::default()
    }
}

/// ATTACH PARTITION of a table that is not there yet: the rows of the parent say nothing of what
/// it costs.
fn attaches_new(action: &Action, catalog: &Catalog) -> bool {
    let Action::AlterTable { name, ops, .. } = action else {
        return false;
    };
    let [op] = ops.as_slice() else { return false };
    let AlterOpKind::AttachPartition { partition, .. } = &op.kind else {
        return false;
    };
    let new = forms::kind(catalog, partition).is_none();
    new && forms::table(catalog, name).is_some()
}

/// The locks on what is there before, those of the statement's queries too.
fn existing_locks(
    sql: &str,
    action: &Action,
    catalog: &Catalog,
    created: &BTreeSet<RelName>,
) -> Vec<LockOn> {
    let mut all = locks(action, catalog);
    for read in read_locks(sql, action, catalog) {
        match all.iter_mut().find(|l| l.relation == read.relation) {
            Some(lock) => lock.mode = lock.mode.max(read.mode),
            None => all.push(read),
        }
    }
    all.retain(|l| l.relation.as_ref().is_none_or(|r| !created.contains(r)));
    all
}

/// The way back as steps, with the locks on what only this statement binds the table to, of which
/// the catalog before knows nothing: what new foreign keys reference, the parent of a partition.
fn undo_of_created(action: &Action, catalog: &Catalog) -> Undo {
    let mut undo = undo_of(inverse(action, catalog), catalog);
    let Undo::Steps { steps, .. } = &mut undo else {
        return undo;
    };
    let bound: Vec<&Table> = match action {
        Action::CreateTable {
            references,
            partition_of,
            like,
            ..
        } => {
            let direct = references.iter().chain(partition_of);
            let direct = direct.filter_map(|name| forms::table(catalog, name));
            // A partition has the foreign keys of its parent, and keeps them when it is detached.
            let parents = partition_of.iter().chain(like);
            let parents = parents.filter_map(|name| forms::table(catalog, name));
            direct
                .chain(parents.flat_map(|t| referenced(t, catalog)))
                .collect()
        }
        Action::AlterTable { ops, .. } => {
            let names = ops.iter().flat_map(|op| match &op.kind {
                AlterOpKind::AddColumn(def) => def
                    .constraints
                    .iter()
                    .filter_map(|c| c.references.as_ref())
                    .collect(),
                AlterOpKind::AddConstraint(def) => def.references.iter().collect::<Vec<_>>(),
                _ => Vec::new(),
            });
            names
                .filter_map(|name| forms::table(catalog, name))
                .collect()
        }
        _ => Vec::new(),
    };
    for step in steps {
        for table in &bound {
            strongest(
                &mut step.locks,
                lock_on(&table.name, LockMode::AccessExclusive),
            );
        }
    }
    undo
}

/// The tables that the foreign keys of a table reference.
fn referenced<'c>(table: &'c Table, catalog: &'c Catalog) -> impl Iterator<Item = &'c Table> {
    let names = table
        .constraints
        .iter()
        .filter_map(|c| c.references.as_ref());
    names.filter_map(|name| catalog.tables.get(name))
}

fn strongest(locks: &mut Vec<LockOn>, lock: LockOn) {
    match locks.iter_mut().find(|l| l.relation == lock.relation) {
        Some(held) => held.mode = held.mode.max(lock.mode),
        None => locks.push(lock),
    }
}

/// The way back as steps.
pub(super) fn undo_of(inverse: Inverse, catalog: &Catalog) -> Undo {
    match inverse {
        Inverse::Nothing => Undo::Nothing,
        Inverse::Irreversible(reason) => Undo::Irreversible { reason },
        Inverse::Sql(steps) => {
            let lost: Vec<String> = steps.iter().filter_map(|s| s.lost.clone()).collect();
            let steps = steps
                .into_iter()
                .map(|s| {
                    let action = understand(&s.sql);
                    let mut locks = locks(&action, catalog);
                    if s.concurrent {
                        if let Some(table) = s.on {
                            locks.push(LockOn {
                                relation: Some(table),
                                mode: LockMode::ShareUpdateExclusive,
                            });
                        }
                        return concurrent(Phase::Revert, &s.sql, catalog).locks(locks);
                    }
                    if let Some(read) = s.reads {
                        locks = vec![LockOn {
                            relation: Some(read),
                            mode: LockMode::AccessShare,
                        }];
                    }
                    let title = if let Some(title) = s.title {
                        title
                    } else if s.also.is_empty() {
                        title(&action, &s.sql)
                    } else {
                        format!("{}, and what it had", title(&action, &s.sql))
                    };
                    let mut statements = vec![s.sql];
                    statements.extend(s.also);
                    Step::sql(Phase::Revert, title, statements).locks(locks)
                })
                .collect();
            Undo::Steps { steps, lost }
        }
    }
}

/// Gives the author's revert statements to the first step that has no known way back: they take
/// back all such steps of their section. Where all have one, they stand for those that put a
/// definition of the catalog back: the author may want another.
///
/// # Errors
/// Where every step has a way back of its own: both would run, and one would meet what the other
/// left.
pub(super) fn attach_reverts(
    draft: &Draft<'_>,
    steps: &mut [Step],
    reverts: &[Known<'_>],
    section: &str,
) -> Result<()> {
    let Some(first) = reverts.first() else {
        return Ok(());
    };
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
    let irreversible = |step: &Step| matches!(step.undo, Undo::Irreversible { .. });
    let any = steps.iter().any(irreversible);
    let mut undo = Some(undo);
    for step in steps.iter_mut() {
        let theirs = if any {
            irreversible(step)
        } else {
            puts_definition_back(step)
        };
        if theirs {
            step.undo = undo.take().map_or(Undo::Nothing, Undo::steps);
        }
    }
    if undo.is_some() {
        return Err(draft.wrong(
            first.statement.span,
            format!("every statement of {section} already has a way back"),
            "remove the revert section; the plan shows the way back of each step",
        ));
    }
    Ok(())
}

/// The way back is what the catalog has now: the definition of a view or function, or settings.
fn puts_definition_back(step: &Step) -> bool {
    let Work::Sql { statements } = &step.work else {
        return false;
    };
    match statements.first().map(|sql| understand(sql)) {
        Some(
            Action::DropView { .. }
            | Action::Grant { .. }
            | Action::Revoke { .. }
            | Action::DefaultPrivileges { .. }
            | Action::Comment { .. }
            | Action::AlterFunction { .. }
            | Action::AlterRelation { .. }
            | Action::AlterType { .. }
            | Action::AlterDomain { .. },
        ) => true,
        Some(Action::CreateView { or_replace, .. } | Action::CreateFunction { or_replace, .. }) => {
            or_replace
        }
        Some(Action::AlterTable { ops, .. }) => ops.iter().all(|op| {
            matches!(
                op.kind,
                AlterOpKind::SetOptions { .. }
                    | AlterOpKind::RowSecurity
                    | AlterOpKind::ReplicaIdentity
                    | AlterOpKind::DetachPartition { .. }
                    | AlterOpKind::SetType { .. }
                    | AlterOpKind::SetStatistics { .. }
                    | AlterOpKind::SetStorage { .. }
                    | AlterOpKind::SetColumnOptions { .. }
                    | AlterOpKind::Owner { .. }
            )
        }),
        _ => false,
    }
}

/// `ADD VALUE IF NOT EXISTS`: a value stays when the rest is taken back, so that it is there when
/// the file is run again.
fn repeatable(sql: &str, action: &Action) -> Option<String> {
    let Action::AlterTypeAddValue {
        if_not_exists: false,
        ..
    } = action
    else {
        return None;
    };
    let tokens = lex_code(sql);
    let value = tokens
        .windows(2)
        .find(|two| is_keyword(two[0], sql, "ADD") && is_keyword(two[1], sql, "VALUE"))?;
    let (before, after) = sql.split_at(value[1].span.end);
    Some(format!("{before} IF NOT EXISTS{after}"))
}
