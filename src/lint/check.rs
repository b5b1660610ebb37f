//! Following a file through what is known, statement by statement.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};

use super::context::{Cx, Held, Makes, Said, Transaction};
use super::rules::{self, reading};
use super::script::{Script, Unit};
use super::world::{World, tables_of};
use super::{Finding, Level, Options, Rule, read};
use crate::migration::SectionKind;
use crate::plan::locks::locks;
use crate::sql::ddl::{Action, AlterOpKind};
use crate::sql::{Diagnostic, RelName, Span};

/// The findings of a file, in order of place. `world` is what is known before it, and afterwards
/// what is known after it.
///
/// Findings that the file allows are among them, marked.
pub fn lint(script: &Script, world: &mut World, options: &Options) -> Vec<Finding> {
    world.next_file();
    let mut out: Vec<Finding> = script
        .problems
        .iter()
        .map(|p| of_problem(p.rule, &p.diagnostic))
        .collect();
    let makes = Makes::of(&script.units);
    let mut transaction = Transaction::default();
    let mut said = Said::default();
    let mut last: Option<u32> = None;
    for (i, unit) in script.units.iter().enumerate() {
        if unit.transaction.is_none() || unit.transaction != last {
            transaction = Transaction::default();
        }
        last = unit.transaction;
        if !changes_schema(unit) {
            continue;
        }
        world.meet(&unit.action);
        let taken = taken(unit, world);
        let mut cx = Cx {
            script,
            unit,
            number: i,
            makes: &makes,
            world,
            transaction: &transaction,
            locks: &taken,
            options,
            said: &mut said,
            out: &mut out,
            safe: OnceCell::new(),
        };
        rules::check(&mut cx);
        remember(unit, taken, &mut transaction, world);
        world.follow(unit);
    }
    finish(script, out, options)
}

/// Takes in what a file changes, as [`lint()`] does, and looks for nothing.
pub fn follow(script: &Script, world: &mut World) {
    world.next_file();
    for unit in script.units.iter().filter(|unit| changes_schema(unit)) {
        world.meet(&unit.action);
        world.follow(unit);
    }
}

/// False in the sections that say how values and the way back are computed.
fn changes_schema(unit: &Unit) -> bool {
    !matches!(
        unit.section,
        SectionKind::Reverse | SectionKind::Verify | SectionKind::Revert
    )
}

/// The tables that the statements of a file name, for loading what is known of them.
pub fn names(script: &Script) -> BTreeSet<RelName> {
    let mut all = BTreeSet::new();
    for unit in &script.units {
        all.extend(tables_of(&unit.action).into_iter().cloned());
        all.extend(crate::plan::draft::relations(&unit.action));
    }
    all.retain(|name| name.name != super::body::DYNAMIC);
    all
}

/// The locks of a statement on tables in use. What it creates itself is no concern.
fn taken(unit: &Unit, world: &World) -> Vec<Held> {
    let created = match &unit.action {
        Action::CreateTable { name, .. }
        | Action::CreateView { name, .. }
        | Action::CreateSequence { name, .. } => Some(name.name.as_str()),
        // What it locks depends on what it is; its table is named by the catalog alone.
        Action::AlterRelation { .. } | Action::DropSequence { .. } => return Vec::new(),
        _ => None,
    };
    locks(&unit.action, world.catalog())
        .into_iter()
        .filter_map(|lock| {
            let table = lock.relation?;
            let ours = created == Some(table.name.as_str())
                || world.is_fresh(&table)
                || world.is_fresh_index(&table)
                || world.dropped(&table.name);
            (!ours).then_some(Held {
                table,
                mode: lock.mode,
                span: unit.span,
            })
        })
        .collect()
}

/// What the rest of the transaction needs to know of a statement.
fn remember(unit: &Unit, taken: Vec<Held>, transaction: &mut Transaction, world: &World) {
    for lock in taken {
        match transaction.held.get_mut(&lock.table) {
            Some(held) if held.mode >= lock.mode => {}
            Some(held) => *held = lock,
            None => {
                transaction.held.insert(lock.table.clone(), lock);
            }
        }
    }
    match &unit.action {
        Action::AlterTypeAddValue { name, .. } if !world.made_type(&name.name) => {
            if let Some(value) = read::enum_value(&unit.sql) {
                transaction
                    .enum_values
                    .push((name.to_string(), value, unit.span));
            }
        }
        Action::AlterTable { ops, .. } => {
            for op in ops {
                if let AlterOpKind::AddConstraint(def) = &op.kind
                    && def.not_valid
                    && let Some(name) = &def.name
                {
                    transaction
                        .not_valid
                        .push((name.clone(), unit.place(op.span)));
                }
            }
        }
        _ => {}
    }
}

/// A finding of the reader.
pub(super) fn of_problem(rule: &'static Rule, diagnostic: &Diagnostic) -> Finding {
    Finding {
        rule,
        severity: rule.severity,
        span: diagnostic.span,
        statement: diagnostic.span,
        message: diagnostic.message.clone(),
        label: diagnostic.label.clone(),
        also: diagnostic.also.clone(),
        help: diagnostic
            .help
            .clone()
            .unwrap_or_else(|| rule.safe.to_owned()),
        safe: Vec::new(),
        relation: None,
        lock: None,
        rows: None,
        bytes: None,
        planned: false,
        inside: None,
        allowed: None,
        fingerprint: String::new(),
    }
}

/// Marks what is allowed, judges the allows, and sets the severities.
fn finish(script: &Script, mut out: Vec<Finding>, options: &Options) -> Vec<Finding> {
    let mut judged: Vec<Finding> = Vec::new();
    let mut places: HashMap<usize, Vec<usize>> = HashMap::new();
    if !script.allows.is_empty() {
        for (i, finding) in out.iter().enumerate() {
            places.entry(finding.statement.start).or_default().push(i);
        }
    }
    for (allow, statement) in &script.allows {
        let Some(rule) = rules::named(&allow.rule) else {
            judged.push(of_problem(
                &reading::UNKNOWN_RULE,
                &rules::unknown_rule(allow),
            ));
            continue;
        };
        let mut used = false;
        let here = statement.and_then(|s| places.get(&s.start));
        for i in here.into_iter().flatten() {
            let finding = &mut out[*i];
            if finding.rule == rule {
                finding.allowed = Some(allow.reason.clone());
                used = true;
            }
        }
        let off = options.levels.get(rule.slug) == Some(&Level::Off);
        if !used && !off {
            let diagnostic = Diagnostic::new(
                allow.span,
                if statement.is_some() {
                    format!("the statement does not break `{}`", rule.slug)
                } else {
                    "no statement follows".to_owned()
                },
            );
            judged.push(of_problem(&reading::UNUSED_ALLOW, &diagnostic));
        }
    }
    out.extend(judged);
    for finding in &mut out {
        if let Some(Level::At(severity)) = options.levels.get(finding.rule.slug) {
            finding.severity = *severity;
        }
    }
    out.retain(|f| options.levels.get(f.rule.slug) != Some(&Level::Off));
    let key = |f: &Finding| (f.span.start, std::cmp::Reverse(f.severity), f.rule.id);
    out.sort_by_key(key);
    out.dedup_by(|a, b| a.rule == b.rule && a.span == b.span && a.message == b.message);
    out
}

/// The finding of a file that is not UTF-8: in another encoding, or (`None`) no text at all.
pub fn encoding(encoding: Option<&str>) -> Finding {
    let message = match encoding {
        Some(encoding) => format!("the file is {encoding}"),
        None => "the file is no text: it has zero bytes, and is not read".to_owned(),
    };
    of_problem(
        &reading::ENCODING,
        &Diagnostic::new(Span::default(), message),
    )
}
