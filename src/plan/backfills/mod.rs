//! How each backfill is walked, kept in sync, and verified.

mod checks;
mod predicates;
mod strategy;
mod stripes;
mod vacuum;
mod warnings;

use std::collections::BTreeMap;

use crate::backfill::verify::{Assigned, Back};
use crate::backfill::{BackfillSpec, Strategy, Verb, VerifySpec, spec::paren};
use crate::catalog::{QName, Table};
use crate::error::{Error, Result};
use crate::sql::Span;
use crate::sql::dml::Piece;
use crate::sql::quote::ident;

use super::cost;
use super::draft::{Draft, DraftStatement};
use super::probe::{Answer, Probed};
use super::retype;
use super::sync::{self, Component, Mapping, SyncGroup, Target};
use predicates::{need, unset, wrong};

/// One backfill, decided.
#[derive(Debug, Clone)]
pub struct PlannedBackfill {
    /// What runs.
    pub spec: BackfillSpec,
    /// How it is checked before READY, if it can be.
    pub verify: Option<VerifySpec>,
    /// How it is checked at contract, where both application versions may have written.
    pub verify_contract: Option<VerifySpec>,
    /// Place in the file.
    pub span: Span,
    /// What its cost follows from.
    pub cost: cost::Facts,
    /// Decisions to show.
    pub notes: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Decides on all backfills of a draft.
///
/// # Errors
/// Refusals, each with the reason and the way out.
pub fn decide(
    draft: &Draft<'_>,
    probed: &Probed,
) -> Result<(Vec<PlannedBackfill>, Vec<SyncGroup>)> {
    let decider = Decider { draft, probed };
    let synced: Vec<bool> = draft
        .backfills
        .iter()
        .zip(&probed.answers)
        .map(|(statement, answer)| decider.synced(statement, answer))
        .collect::<Result<_>>()?;
    let groups = decider.groups(&synced)?;
    let mut planned = Vec::new();
    for (index, statement) in draft.backfills.iter().enumerate() {
        planned.push(decider.backfill(index, statement, synced[index], &groups)?);
    }
    Ok((planned, groups))
}

/// `search_path` for functions and chunks: the names resolve as at plan time, temporary objects
/// last (PostgreSQL docs, CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely").
pub fn search_path(draft: &Draft<'_>) -> String {
    let mut all: Vec<String> = draft.catalog.search_path.iter().map(|s| ident(s)).collect();
    all.push("pg_temp".to_owned());
    all.join(", ")
}

fn assigned(target: &Target) -> Assigned {
    Assigned {
        column: target.column.clone(),
        expr: target.expr.clone(),
        volatile: target.volatile,
    }
}

fn back(reverse: &Mapping) -> Back {
    Back {
        alias: reverse.alias.clone(),
        from: reverse.from.clone(),
        condition: reverse.condition.clone(),
        set: reverse.targets.iter().map(assigned).collect(),
    }
}

struct Decider<'d, 'a> {
    draft: &'d Draft<'a>,
    probed: &'d Probed,
}

impl Decider<'_, '_> {
    fn table(&self, name: &QName) -> &Table {
        &self.draft.catalog.tables[name]
    }

    /// Whether a sync trigger serves a backfill.
    fn synced(&self, statement: &DraftStatement<'_>, answer: &Answer) -> Result<bool> {
        let span = statement.statement.span;
        let wanted = statement.options.sync;
        if statement.delete {
            return if wanted == Some(true) {
                Err(self.draft.refused(
                    span,
                    "a DELETE has nothing to keep in sync",
                    "leave sync out",
                ))
            } else {
                Ok(false)
            };
        }
        let reads = answer.all();
        let own: Vec<&str> = statement
            .assignments
            .iter()
            .map(|a| a.column.as_str())
            .filter(|c| reads.contains(*c))
            .collect();
        let any_new = statement
            .assignments
            .iter()
            .any(|a| self.draft.new_column(&statement.table, &a.column).is_some());
        if wanted == Some(true) && !own.is_empty() {
            return Err(self.draft.refused(
                span,
                format!("it reads {}, which it writes: a trigger would apply it again and again", own.join(", ")),
                "leave sync=on out (each row is then changed exactly once), or write to a new column",
            ));
        }
        if any_new && !statement.all_new && wanted.is_none() {
            return Err(self.draft.refused(
                span,
                "it writes to new columns and to existing ones",
                "write one UPDATE for the new columns, which a sync trigger keeps right, and one \
                 for the existing ones",
            ));
        }
        let sync = wanted.unwrap_or(statement.all_new && own.is_empty());
        if sync {
            self.check_row(statement, answer)?;
        }
        Ok(sync)
    }

    fn groups(&self, synced: &[bool]) -> Result<Vec<SyncGroup>> {
        let draft = self.draft;
        let mut all: Vec<(&DraftStatement<'_>, Mapping)> = Vec::new();
        for ((statement, answer), sync) in
            draft.backfills.iter().zip(&self.probed.answers).zip(synced)
        {
            if *sync {
                let mapping = self.mapping(statement, answer);
                let same_table: Vec<_> = all
                    .iter()
                    .filter(|(s, _)| s.table == statement.table)
                    .cloned()
                    .collect();
                self.check_shared(statement, &mapping, &same_table)?;
                all.push((statement, mapping));
            }
        }
        self.check_defaults(&all)?;
        let mut forward: BTreeMap<QName, Vec<Mapping>> = BTreeMap::new();
        for (statement, mapping) in all {
            let of_table = forward.entry(statement.table.clone()).or_default();
            of_table.push(mapping);
        }
        let mut reverse: BTreeMap<QName, Vec<(usize, Mapping)>> = BTreeMap::new();
        let answers = &self.probed.answers[draft.backfills.len()..];
        for (index, (statement, answer)) in draft.reverses.iter().zip(answers).enumerate() {
            if !forward.contains_key(&statement.table) {
                return Err(draft.refused(
                    statement.statement.span,
                    format!("the backfill of {} has no sync trigger", statement.table),
                    "a reverse statement works through the sync trigger of a backfill that fills \
                     new columns",
                ));
            }
            self.check_reverse(statement)?;
            self.check_row(statement, answer)?;
            let mut mapping = self.mapping(statement, answer);
            mapping.or_null = draft.retypes.contains_key(&statement.table);
            reverse
                .entry(statement.table.clone())
                .or_default()
                .push((index, mapping));
        }
        let mut groups = Vec::new();
        for (name, mappings) in forward {
            let table = self.table(&name);
            let (indexes, mut reverse): (Vec<usize>, Vec<Mapping>) = reverse
                .remove(&name)
                .unwrap_or_default()
                .into_iter()
                .unzip();
            if let Some(columns) = draft.retypes.get(&name) {
                let answer = retype::answer(draft, self.probed, &name, columns)?;
                reverse.extend(retype::mappings(draft, &name, columns, answer)?);
            }
            let components = sync::components(mappings, reverse).map_err(|n| {
                draft.wrong(
                    draft.reverses[indexes[n]].statement.span,
                    "this reverse statement reads no column that a backfill writes",
                    "reverse computes the old columns from the new ones",
                )
            })?;
            let before: Vec<&str> = table
                .triggers
                .iter()
                .filter(|t| t.before && t.row && (t.on_insert || t.on_update))
                .map(|t| t.name.as_str())
                .collect();
            let migration = &draft.migration.id;
            let trigger = sync::trigger_name(&name, migration, &before).map_err(|last| {
                Error::refused(format!(
                    "trigger {last:?} on {name} sorts after every name that a sync trigger could have"
                ))
                .left("nothing was changed")
                .hint(if sync::is_ours(&last) {
                    "`pgshift purge` migrations of that table that are contracted"
                } else {
                    "rename that trigger: the sync trigger must see what the others made of the row"
                })
            })?;
            groups.push(SyncGroup {
                partitioned: table.kind == crate::catalog::RelKind::Partitioned,
                function: sync::function_name(&name, migration),
                trigger,
                search_path: search_path(draft),
                components,
                table: name,
            });
        }
        Ok(groups)
    }

    fn mapping(&self, statement: &DraftStatement<'_>, answer: &Answer) -> Mapping {
        let table = &statement.table;
        Mapping {
            alias: statement.alias.clone(),
            from: statement.from.as_ref().map(|f| f.text.clone()),
            condition: join(&statement.conditions),
            targets: statement
                .assignments
                .iter()
                .map(|a| {
                    let (type_name, has_equality) = self.column_type(table, &a.column);
                    Target {
                        volatile: self.unrepeatable(&a.expr.text),
                        column: a.column.clone(),
                        type_name,
                        has_equality,
                        expr: a.expr.text.clone(),
                    }
                })
                .collect(),
            rest: statement.tests_null,
            reads: answer.all().into_iter().collect(),
            or_null: false,
        }
    }

    /// SQL text of a column's type, and whether it has an equality operator.
    fn column_type(&self, table: &QName, column: &str) -> (String, bool) {
        if let Some(column) = self.table(table).column(column) {
            return (column.type_name.clone(), column.has_equality);
        }
        let key = (table.clone(), column.to_owned());
        let (text, equality) = self.probed.types.get(&key).cloned().unwrap_or_else(|| {
            let new = self.draft.new_column(table, column);
            (
                new.map_or_else(String::new, |n| n.def.type_text.clone()),
                true,
            )
        });
        // An array of such a type has none either.
        let element = text.trim_end_matches("[]").to_ascii_lowercase();
        let none = [
            "json", "xml", "point", "box", "circle", "lseg", "path", "polygon", "line",
        ];
        let has_equality = equality && !none.contains(&element.as_str());
        (text, has_equality)
    }

    fn backfill(
        &self,
        index: usize,
        statement: &DraftStatement<'_>,
        sync: bool,
        groups: &[SyncGroup],
    ) -> Result<PlannedBackfill> {
        let answer = &self.probed.answers[index];
        let table = self.table(&statement.table);
        let span = statement.statement.span;
        let mut notes = Vec::new();
        let strategy = self.strategy(statement, answer, sync, table, &mut notes)?;
        let mapping = self.mapping(statement, answer);
        let key: Vec<String> = table
            .primary_key()
            .map(<[String]>::to_vec)
            .unwrap_or_default();
        let own = mapping.reads.iter().any(|column| mapping.writes(column))
            || self.beyond_columns(statement).is_some();
        // Where rows need work by their targets, the author's tests of these are a part of that.
        let need = (statement.all_new && !own).then(|| need(&mapping));
        let condition = if need.is_some() {
            mapping.condition.clone()
        } else {
            statement.where_.as_ref().map(|w| w.text.clone())
        };
        let component = groups
            .iter()
            .filter(|g| g.table == statement.table)
            .flat_map(|g| &g.components)
            .find(|c| sync && c.forward.contains(&mapping));
        let wrong = match component {
            // No application knows the new column before contract.
            Some(component) if self.draft.retypes.contains_key(&statement.table) => {
                let forward = Component {
                    reverse: Vec::new(),
                    ..component.clone()
                };
                Some(wrong(&mapping, &forward))
            }
            Some(component) => Some(wrong(&mapping, component)),
            None => need.clone(),
        };
        // Without a reverse section nothing tells a value of the new application version from a
        // wrong one: at contract a row is right when it has any.
        let wrong_at_contract = match component {
            Some(component) if component.reverse.is_empty() => need.clone().or(wrong.clone()),
            _ => wrong.clone(),
        };
        if wrong.is_none() && self.draft.sections.verify.is_empty() {
            notes.push(
                "no expected value is known afterwards, so verify cannot check it: give a verify section"
                    .to_owned(),
            );
        }
        let sample = self.probed.samples.get(&index).copied();
        // Then an expression is not computed a second time to see that it has a value.
        let valued = sample.as_ref().is_some_and(cost::Sample::all_get_values);
        let need = need.map(|need| {
            let unset = unset(&mapping);
            if !valued || need == unset {
                return need;
            }
            notes.push(
                "a row needs work where it has no value yet, as each sampled row gets one"
                    .to_owned(),
            );
            unset
        });
        let synced = groups.iter().any(|g| g.table == statement.table);
        let draft = self.draft;
        let cost = cost::facts(draft, self.probed, sample, statement, &strategy, synced);
        let choice = stripes::choose(&stripes::Facts {
            table,
            buffers: self.probed.shared_buffers,
            cost: &cost,
            able: strategy == Strategy::Ctid && need.is_some() && !statement.delete,
            wanted: statement.options.stripes,
        });
        let choice = choice.map_err(|(why, way)| {
            let why = format!("{}: {why}", table.name);
            draft.refused(span, why, way)
        })?;
        notes.extend(choice.reason);
        let vacuum = vacuum::choose(&vacuum::Facts {
            table,
            striped: choice.stripes.is_some(),
            deletes: statement.delete,
            barred: &self.probed.not_vacuumed,
            wanted: statement.options.vacuum,
        });
        notes.extend(vacuum.reason);
        let mut warnings = self.warnings(statement, sync, table);
        let prunes = choice.stripes.is_some() || vacuum.vacuum.is_some();
        let pinned = self.probed.pinned.as_ref().filter(|_| prunes);
        warnings.extend(pinned.map(|pin| warnings::pinned(table, pin)));
        let cost = cost::Facts {
            stripes: choice.stripes.filter(|_| pinned.is_none()),
            vacuum: vacuum.vacuum.filter(|_| pinned.is_none()),
            ..cost
        };
        let spec = BackfillSpec {
            table: statement.table.clone(),
            alias: statement.alias.clone(),
            verb: if statement.delete {
                Verb::Delete
            } else {
                let set: Vec<_> = statement
                    .assignments
                    .iter()
                    .map(|a| {
                        let text = &a.expr.text;
                        let end = if text.contains("--") { "\n" } else { "" };
                        format!("{} = {text}{end}", ident(&a.column))
                    })
                    .collect();
                Verb::Update {
                    set: set.join(", "),
                }
            },
            from: mapping.from.clone(),
            condition: condition.clone(),
            need,
            strategy,
            stripes: choice.stripes,
            vacuum: vacuum.vacuum,
            batch: statement.options.batch,
            workers: statement.options.workers,
            search_path: search_path(self.draft),
            key: key.clone(),
        };
        // No application knows a column of another type before contract: the old one is right.
        let retyped = self.draft.retypes.contains_key(&statement.table);
        let back_of = |component: Option<&Component>| {
            let component = component.filter(|_| !retyped);
            component.map_or_else(Vec::new, |c| c.reverse.iter().map(back).collect())
        };
        let verify = |wrong| VerifySpec {
            table: statement.table.clone(),
            alias: statement.alias.clone(),
            from: mapping.from.clone(),
            condition: condition.clone(),
            wrong,
            key: key.clone(),
            search_path: search_path(self.draft),
            forward: mapping.targets.iter().map(assigned).collect(),
            back: back_of(component),
        };
        Ok(PlannedBackfill {
            spec,
            verify: wrong.map(verify),
            verify_contract: wrong_at_contract.map(verify),
            span,
            cost,
            notes,
            warnings,
        })
    }
}

fn join(pieces: &[Piece]) -> Option<String> {
    match pieces {
        [] => None,
        [one] => Some(one.text.clone()),
        many => Some(
            many.iter()
                .map(|p| paren(&p.text))
                .collect::<Vec<_>>()
                .join(" AND "),
        ),
    }
}
