//! How each backfill is walked, kept in sync, and verified.

use std::collections::BTreeMap;

use crate::backfill::{BackfillSpec, KeyColumn, Strategy, Verb, VerifySpec, spec::paren};
use crate::catalog::{QName, Table};
use crate::error::{Error, Result};
use crate::migration;
use crate::sql::Span;
use crate::sql::dml::{Piece, function_names};
use crate::sql::quote::ident;

use super::draft::{Draft, DraftStatement};
use super::probe::{Answer, Probed};
use super::sync::{self, Component, Mapping, ReadColumn, SyncGroup, Target};

/// One backfill, decided.
#[derive(Debug, Clone)]
pub struct PlannedBackfill {
    /// What runs.
    pub spec: BackfillSpec,
    /// How it is checked, if it can be.
    pub verify: Option<VerifySpec>,
    /// How it is checked once more from READY on, when the new application version writes too.
    /// Without a reverse section nothing says how its values relate to the old ones: only a row
    /// without a value is wrong then.
    pub verify_later: Option<VerifySpec>,
    /// A sync trigger keeps its rows right.
    pub sync: bool,
    /// Place in the file.
    pub span: Span,
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
        planned.push(decider.backfill(
            statement,
            &probed.answers[index],
            synced[index],
            &groups,
        )?);
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
            let table = self.table(&statement.table);
            if let Some(column) = reads
                .iter()
                .find(|c| table.column(c).is_some_and(|c| c.generated))
            {
                return Err(self.draft.refused(
                    span,
                    format!(
                        "it reads {column}, a generated column, which a BEFORE trigger sees as null"
                    ),
                    "write the generation expression itself instead of the column's name \
                     (PostgreSQL docs, \"Generated Columns\")",
                ));
            }
        }
        Ok(sync)
    }

    fn groups(&self, synced: &[bool]) -> Result<Vec<SyncGroup>> {
        let draft = self.draft;
        let mut forward: BTreeMap<QName, Vec<Mapping>> = BTreeMap::new();
        for ((statement, answer), sync) in
            draft.backfills.iter().zip(&self.probed.answers).zip(synced)
        {
            if *sync {
                let mapping = self.mapping(statement, answer);
                forward
                    .entry(statement.table.clone())
                    .or_default()
                    .push(mapping);
            }
        }
        let mut reverse: BTreeMap<QName, Vec<(usize, Mapping)>> = BTreeMap::new();
        let answers = &self.probed.answers[draft.backfills.len()..];
        for (index, (statement, answer)) in draft.reverses.iter().zip(answers).enumerate() {
            let span = statement.statement.span;
            if !forward.contains_key(&statement.table) {
                return Err(draft.refused(
                    span,
                    format!("the backfill of {} has no sync trigger", statement.table),
                    "a reverse statement works through the sync trigger of a backfill that fills \
                     new columns",
                ));
            }
            if let Some(a) = statement
                .assignments
                .iter()
                .find(|a| draft.new_column(&statement.table, &a.column).is_some())
            {
                return Err(draft.wrong(
                    a.column_span.shift(span.start),
                    format!("reverse writes to the new column {}", a.column),
                    "reverse says how the old columns follow from the new ones",
                ));
            }
            let mapping = self.mapping(statement, answer);
            reverse
                .entry(statement.table.clone())
                .or_default()
                .push((index, mapping));
        }
        let mut groups = Vec::new();
        for (name, mappings) in forward {
            let table = self.table(&name);
            let (indexes, reverse): (Vec<usize>, Vec<Mapping>) = reverse
                .remove(&name)
                .unwrap_or_default()
                .into_iter()
                .unzip();
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
            let trigger = sync::trigger_name(&name, &before).map_err(|last| {
                Error::refused(format!(
                    "trigger {last:?} on {name} sorts after every name that a sync trigger could have"
                ))
                .left("nothing was changed")
                .hint("rename that trigger: the sync trigger must see what the others made of the row")
            })?;
            groups.push(SyncGroup {
                partitioned: table.kind == crate::catalog::RelKind::Partitioned,
                function: sync::function_name(&name),
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
                        volatile: function_names(&a.expr.text)
                            .iter()
                            .any(|(_, name)| self.probed.volatile.contains(name)),
                        column: a.column.clone(),
                        type_name,
                        has_equality,
                        expr: a.expr.text.clone(),
                    }
                })
                .collect(),
            reads: answer
                .all()
                .into_iter()
                .map(|column| ReadColumn {
                    has_equality: self.column_type(table, &column).1,
                    column,
                })
                .collect(),
        }
    }

    fn column_type(&self, table: &QName, column: &str) -> (String, bool) {
        if let Some(known) = self.probed.types.get(&(table.clone(), column.to_owned())) {
            return known.clone();
        }
        if let Some(column) = self.table(table).column(column) {
            return (column.type_name.clone(), column.has_equality);
        }
        let text = self
            .draft
            .new_column(table, column)
            .map_or_else(String::new, |new| new.def.type_text.clone());
        let has_equality = !["json", "xml", "point"].contains(&text.to_ascii_lowercase().as_str());
        (text, has_equality)
    }

    fn backfill(
        &self,
        statement: &DraftStatement<'_>,
        answer: &Answer,
        sync: bool,
        groups: &[SyncGroup],
    ) -> Result<PlannedBackfill> {
        let table = self.table(&statement.table);
        let span = statement.statement.span;
        let mut notes = Vec::new();
        let strategy = self.strategy(statement, answer, sync, table, &mut notes)?;
        let mapping = self.mapping(statement, answer);
        let key: Vec<String> = table
            .primary_key()
            .map(<[String]>::to_vec)
            .unwrap_or_default();
        let fills_new = statement.all_new;
        let protects = sync || fills_new;
        let own = mapping
            .reads
            .iter()
            .any(|r| mapping.targets.iter().any(|t| t.column == r.column));
        let condition = if protects {
            mapping.condition.clone()
        } else {
            statement.where_.as_ref().map(|w| w.text.clone())
        };
        let component = groups
            .iter()
            .filter(|g| g.table == statement.table)
            .flat_map(|g| &g.components)
            .find(|c| {
                c.targets()
                    .any(|t| t.column == mapping.targets.first().map_or("", |m| &m.column))
            });
        let need = (protects && !statement.delete && !own).then(|| need(&mapping, component));
        let wrong = match component {
            Some(component) if sync => Some(wrong(&mapping, component)),
            _ if fills_new && !own => need.clone(),
            _ => None,
        };
        if wrong.is_none() && self.draft.sections.verify.is_empty() {
            notes.push(
                "no expected value is known afterwards, so verify cannot check it: give a verify section"
                    .to_owned(),
            );
        }
        let one_way = sync && component.is_some_and(|c| c.reverse.is_empty());
        let wrong_later = if one_way { need.clone() } else { wrong.clone() };
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
            batch: statement.options.batch,
            workers: statement.options.workers,
            search_path: search_path(self.draft),
            key: key.clone(),
        };
        let verify = |wrong| VerifySpec {
            table: statement.table.clone(),
            alias: statement.alias.clone(),
            from: mapping.from.clone(),
            condition: condition.clone(),
            wrong,
            key: key.clone(),
            search_path: search_path(self.draft),
        };
        let (verify, verify_later) = (wrong.map(verify), wrong_later.map(verify));
        let warnings = self.warnings(statement, sync, table);
        Ok(PlannedBackfill {
            spec,
            verify,
            verify_later,
            sync,
            span,
            notes,
            warnings,
        })
    }

    fn strategy(
        &self,
        statement: &DraftStatement<'_>,
        answer: &Answer,
        sync: bool,
        table: &Table,
        notes: &mut Vec<String>,
    ) -> Result<Strategy> {
        let draft = self.draft;
        let span = statement.statement.span;
        let wanted = statement.options.strategy;
        let heap = table.leaves.iter().all(|l| l.access_method == "heap");
        let keyset = || -> Result<Strategy, (&'static str, &'static str)> {
            let key = table.primary_key().filter(|k| k.iter().all(|c| !c.is_empty())).ok_or((
                "it needs a primary key, so that each row is met exactly once",
                "add one, or write to a new column (a sync trigger then makes one pass complete)",
            ))?;
            if statement
                .assignments
                .iter()
                .any(|a| key.contains(&a.column))
            {
                return Err((
                    "it writes to the primary key, which it would have to follow",
                    "write to a new column and swap",
                ));
            }
            Ok(Strategy::Keyset {
                key: key
                    .iter()
                    .map(|name| KeyColumn {
                        name: name.clone(),
                        type_name: self.column_type(&table.name, name).0,
                    })
                    .collect(),
            })
        };
        let refuse =
            |(why, way): (&str, &str)| draft.refused(span, format!("{}: {why}", table.name), way);
        match (wanted, sync) {
            (Some(migration::Strategy::Keyset), _) => keyset().map_err(refuse),
            (Some(migration::Strategy::Ctid), false) if !statement.delete => Err(refuse((
                "without a sync trigger a row that moves during the scan would escape or be met twice",
                "leave strategy=ctid out",
            ))),
            (_, true) if heap => {
                notes.push(
                    "walked by blocks (ctid), once: the sync trigger makes later writes right"
                        .to_owned(),
                );
                Ok(Strategy::Ctid)
            }
            (_, true) => {
                notes.push("walked by primary key: the storage is not heap".to_owned());
                keyset().map_err(refuse)
            }
            (_, false) => {
                let own = statement
                    .assignments
                    .iter()
                    .any(|a| answer.all().contains(&a.column));
                match keyset() {
                    Ok(keyset) => {
                        notes.push(if own {
                            "walked by primary key: it reads what it writes, so each row is changed exactly once".to_owned()
                        } else {
                            "walked by primary key, without a sync trigger: rows that the application writes meanwhile stay as it writes them".to_owned()
                        });
                        Ok(keyset)
                    }
                    Err(_) if statement.delete && heap => {
                        notes.push("walked by blocks (ctid): rows that the application moves meanwhile may be left".to_owned());
                        Ok(Strategy::Ctid)
                    }
                    Err(e) => Err(refuse(e)),
                }
            }
        }
    }

    fn warnings(&self, statement: &DraftStatement<'_>, sync: bool, table: &Table) -> Vec<String> {
        let mut warnings = Vec::new();
        let fires = |t: &&crate::catalog::Trigger| {
            t.enabled
                && if statement.delete {
                    t.on_delete
                } else {
                    t.on_update
                }
        };
        let firing: Vec<&str> = table
            .triggers
            .iter()
            .filter(fires)
            .map(|t| t.name.as_str())
            .collect();
        if !firing.is_empty() {
            warnings.push(format!(
                "triggers of {} fire for the backfilled rows: {}",
                table.name,
                firing.join(", ")
            ));
        }
        if let Some(from) = statement.from.as_ref().filter(|_| sync) {
            warnings.push(format!(
                "later changes to `{}` are not followed; the sync trigger reads it with the rights \
                 of the writing role",
                from.text
            ));
        }
        if sync
            && !self
                .draft
                .reverses
                .iter()
                .any(|r| r.table == statement.table)
        {
            let columns: Vec<_> = statement
                .assignments
                .iter()
                .map(|a| a.column.as_str())
                .collect();
            warnings.push(format!(
                "no reverse section for {}: what the new application version writes to {} does not \
                 reach the old columns and is lost by a revert",
                table.name,
                columns.join(", ")
            ));
        }
        warnings
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

/// A row needs work where no new column of its component is set and an expression has a value.
fn need(mapping: &Mapping, component: Option<&Component>) -> String {
    let alias = ident(&mapping.alias);
    let columns: Vec<&str> = match component {
        Some(component) => component.targets().map(|t| t.column.as_str()).collect(),
        None => mapping.targets.iter().map(|t| t.column.as_str()).collect(),
    };
    // Targets of another mapping of the component may have been set by its own backfill.
    let own = |c: &&str| mapping.targets.iter().any(|t| t.column == **c);
    let unset: Vec<_> = columns
        .iter()
        .filter(|c| own(c))
        .map(|c| format!("{alias}.{} IS NULL", ident(c)))
        .collect();
    // An expression that calls a volatile function must not be evaluated once more.
    let has_value: Vec<_> = mapping
        .targets
        .iter()
        .map(|t| {
            if t.volatile {
                "true".to_owned()
            } else {
                format!("{} IS NOT NULL", paren(&t.expr))
            }
        })
        .collect();
    if has_value.iter().any(|v| v == "true") {
        return unset.join(" AND ");
    }
    format!("{} AND ({})", unset.join(" AND "), has_value.join(" OR "))
}

/// True for a row whose new columns are neither what the old ones give, nor what they themselves
/// give back.
fn wrong(mapping: &Mapping, component: &Component) -> String {
    let alias = ident(&mapping.alias);
    let equal = |range: &str, t: &Target| {
        let cast = if t.has_equality { "" } else { "::text" };
        format!(
            "{range}.{}{cast} IS NOT DISTINCT FROM CAST({} AS {}){cast}",
            ident(&t.column),
            paren(&t.expr),
            t.type_name
        )
    };
    let forward: Vec<_> = mapping
        .targets
        .iter()
        .map(|t| {
            if t.volatile {
                format!("{alias}.{} IS NOT NULL", ident(&t.column))
            } else {
                equal(&alias, t)
            }
        })
        .collect();
    let mut right = format!("({})", forward.join(" AND "));
    if !component.reverse.is_empty() {
        let reverse: Vec<_> = component
            .reverse
            .iter()
            .map(|m| {
                let range = ident(&m.alias);
                let mut columns: Vec<&str> = m.reads.iter().map(|r| r.column.as_str()).collect();
                columns.extend(m.targets.iter().map(|t| t.column.as_str()));
                columns.sort_unstable();
                columns.dedup();
                let row: Vec<_> = columns
                    .iter()
                    .map(|c| format!("{alias}.{0} AS {0}", ident(c)))
                    .collect();
                let from = m
                    .from
                    .as_ref()
                    .map(|f| format!(", {f}\n"))
                    .unwrap_or_default();
                let mut filter: Vec<String> = m.condition.iter().map(|c| paren(c)).collect();
                filter.extend(m.targets.iter().map(|t| equal(&range, t)));
                format!(
                    "EXISTS (SELECT 1 FROM (SELECT {}) AS {range}{from} WHERE {})",
                    row.join(", "),
                    filter.join(" AND ")
                )
            })
            .collect();
        // A reverse mapping vouches only for rows that have a value to map back.
        let set: Vec<_> = component
            .targets()
            .map(|t| format!("{alias}.{} IS NOT NULL", ident(&t.column)))
            .collect();
        right = format!(
            "({right} OR (({}) AND {}))",
            set.join(" OR "),
            reverse.join(" AND ")
        );
    }
    // Three-valued logic: what is not known to be right is wrong.
    format!("{right} IS NOT TRUE")
}
