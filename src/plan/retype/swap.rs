//! The swap: in one short transaction the new column takes the old one's name, and what it has
//! takes the names of what the old one had. The way back is the same the other way round, after
//! the old column has got again what it had.

use super::Retype;
use super::dependents::Joint;
use super::dress::{Side, Swapped};
use super::inbound;
use super::way_back;
use crate::backfill::{BackfillSpec, VerifySpec};
use crate::catalog::{ConstraintKind, QName};
use crate::lock::LockMode;
use crate::plan::backfills::PlannedBackfill;
use crate::plan::draft::Draft;
use crate::plan::step::{Phase, Step, Undo, Work};
use crate::plan::sync::{Form, Renamed, SyncGroup};
use crate::sql::quote::{dollar, ident, literal, qname};

use super::definition::deferrable;

/// The steps of contract and purge.
pub(in crate::plan) struct Swap {
    /// What is made before it, in contract.
    pub(in crate::plan) before: Vec<Step>,
    /// Contract.
    pub(in crate::plan) step: Step,
    /// Purge, by table.
    pub(in crate::plan) purge: Vec<Step>,
    /// What columns are called from then on, by table.
    pub(in crate::plan) renamed: Vec<(QName, Renamed)>,
}

/// The swap of all columns of tables that are swapped together, each with its sync triggers, and
/// filled by one of the `backfills`. What depends on them is as it was in the plan where it is
/// `first` to change any.
pub(in crate::plan) fn swap(
    draft: &Draft<'_>,
    tables: Vec<(Swapped<'_>, &SyncGroup)>,
    backfills: &[PlannedBackfill],
    first: bool,
    search_path: &str,
) -> Swap {
    let renamed: Vec<(QName, Vec<Renamed>)> = tables
        .iter()
        .map(|(t, _)| (t.table.name.clone(), t.renamed()))
        .collect();
    let functions = |form: Form, renamed: &dyn Fn(usize) -> Vec<Renamed>| -> Vec<String> {
        let groups = tables.iter().enumerate();
        groups
            .flat_map(|(n, (_, group))| group.replace_function(form, &renamed(n)))
            .collect()
    };
    let forward = functions(Form::ReverseOnly, &|n| renamed[n].1.clone());
    let both = functions(Form::Both, &|_| Vec::new());
    let joint = Joint::new(tables.into_iter().map(|(table, _)| table).collect());
    let all = joint.tables();

    let mut there: Vec<String> = all.iter().flat_map(|t| t.guard_stored()).collect();
    let mut back = there.clone();
    there.extend(joint.drop_dependents(Side::New));
    there.extend(all.iter().flat_map(|t| t.there()));
    there.extend(joint.make_dependents(Side::New));
    there.extend(forward);
    back.extend(joint.drop_dependents(Side::Old));
    back.extend(all.iter().flat_map(|t| t.back()));
    back.extend(joint.make_dependents(Side::Old));
    back.extend(both);

    let mut back_locks = joint.dependents_locks();
    back_locks.extend(joint.locks(LockMode::AccessExclusive));
    let mut locks = back_locks.clone();
    for lock in all
        .iter()
        .flat_map(|t| t.referenced(LockMode::AccessExclusive))
    {
        inbound::add_lock(&mut locks, lock);
    }
    let names: Vec<String> = all.iter().map(|t| t.changes_of_it()).collect();
    let names = names.join(", ");

    // Nothing is made where a value stands in the way, and all is made before anything is swapped.
    let check = |table: &Swapped<'_>| table.check_back(search_path.to_owned());
    let mut ways: Vec<Step> = all.iter().map(check).collect();
    for table in all {
        ways.extend(table.dress(Side::Old));
        ways.extend(if table.is_tree() {
            table.keys_again()
        } else {
            table.key_again()
        });
    }
    ways.extend(joint.make_beside(Side::Old, false));
    ways.push(
        Step::sql(
            Phase::Revert,
            format!("swap {names} back to the old type"),
            back,
        )
        .line(joint.line())
        .locks(back_locks)
        .relies_on(joint.relies(false))
        .before_try(joint.renew_beside(Side::Old)),
    );
    ways.extend(all.iter().filter_map(|t| t.settle(draft, backfills)));
    let lost = all.iter().flat_map(|t| t.lost(draft)).collect();
    let mut step = Step::sql(
        Phase::Contract,
        format!("swap {names} to the new type"),
        there,
    )
    .locks(locks)
    .undo(Undo::Steps { steps: ways, lost })
    .line(joint.line())
    .relies_on(joint.relies(first))
    .before_try(joint.renew_beside(Side::New))
    .note(
        "the old column follows what is written until purge, for a revert; a value that it cannot \
         hold makes it null, and a revert stops while there is one",
    );
    step.notes.extend(joint.dependents_note());
    let anew = || all.iter().filter(|t| t.writes_anew()).map(|t| t.table);
    if anew().next().is_some() {
        step.estimate.rows = Some(anew().map(|t| t.rows).sum());
        step.estimate.bytes = Some(anew().map(|t| t.bytes).sum());
        step.estimate.basis = Some("rewrites the table".to_owned());
    }
    step.notes.extend(all.iter().flat_map(|t| t.notes()));
    Swap {
        before: joint.make_beside(Side::New, first),
        step,
        purge: all.iter().map(|t| t.purge()).collect(),
        renamed: renamed
            .into_iter()
            .flat_map(|(table, all)| all.into_iter().map(move |r| (table.clone(), r)))
            .collect(),
    }
}

impl Swapped<'_> {
    /// What the columns are called after the swap.
    fn renamed(self) -> Vec<Renamed> {
        let pairs = |r: &Retype| {
            [
                (r.column.clone(), r.old.clone()),
                (r.shadow.clone(), r.column.clone()),
            ]
        };
        let all = self.columns.iter().flat_map(pairs);
        all.map(|(column, now)| Renamed { column, now }).collect()
    }

    /// The columns, for people.
    fn names(self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|r| r.column.as_str()).collect();
        names.join(", ")
    }

    /// The columns and their table, for people.
    fn changes_of_it(self) -> String {
        format!("{} of {}", self.names(), self.table.name)
    }

    /// What the way back loses.
    fn lost(self, draft: &Draft<'_>) -> Vec<String> {
        let lost = |r: &Retype| {
            let old = self.table.column(&r.column)?;
            let new = self.answer.types.get(&r.column)?;
            let authors = way_back::is_authors(draft, &self.table.name, &r.column);
            way_back::lost(old, new, authors)
        };
        self.columns.iter().filter_map(lost).collect()
    }

    /// On the way back to READY: gives the new columns what follows from the old ones, where the
    /// new application version wrote something that is not that (`1.005`, which came back as
    /// `1.01`). The old ones are right from the swap on, and contract verifies by them.
    fn settle(self, draft: &Draft<'_>, backfills: &[PlannedBackfill]) -> Option<Step> {
        let comes_back = |r: &Retype| {
            let old = self.table.column(&r.column)?;
            let new = self.answer.types.get(&r.column)?;
            let own = way_back::is_authors(draft, &self.table.name, &r.column);
            Some(!own && way_back::casts_only(r) && way_back::comes_back(&old.type_name, new))
        };
        if self.columns.iter().all(|r| comes_back(r) == Some(true)) {
            return None;
        }
        let name = &self.table.name;
        let filled = backfills.iter().find(|b| b.spec.table == *name)?;
        let spec = BackfillSpec {
            need: Some(filled.verify.as_ref()?.wrong.clone()),
            stripes: None,
            vacuum: None,
            ..filled.spec.clone()
        };
        let title = format!(
            "give the new {} what the old one says",
            self.changes_of_it()
        );
        let mut step = Step::new(Phase::Revert, title, Work::Backfill(Box::new(spec)))
            .locks(vec![self.lock(LockMode::RowExclusive)])
            .line(self.line)
            .note("every row is read; those that the new application version wrote may differ");
        step.estimate.rows = Some(self.table.rows);
        step.estimate.bytes = Some(self.table.bytes);
        Some(step)
    }

    /// What else is to be known of the swap.
    fn notes(self) -> Vec<String> {
        let mut all: Vec<String> = self.tree_note().into_iter().collect();
        for retype in self.columns {
            for sequence in self.sequences(retype) {
                if self.widened(retype, sequence).is_some() {
                    all.push(format!(
                        "sequence {} counts as far as the new type too",
                        sequence.name
                    ));
                }
            }
        }
        all
    }

    /// Drops the old columns.
    fn purge(self) -> Step {
        let drops: Vec<String> = self
            .columns
            .iter()
            .map(|r| format!("DROP COLUMN IF EXISTS {}", ident(&r.old)))
            .collect();
        let mut purges = vec![format!("{} {}", self.head(), drops.join(", "))];
        purges.extend(self.freed());
        Step::sql(
            Phase::Purge,
            format!("drop the old {} for good", self.changes_of_it()),
            purges,
        )
        .locks(vec![self.lock(LockMode::AccessExclusive)])
        .line(self.line)
    }

    pub(super) fn lock_sql(self) -> String {
        format!(
            "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            qname(&self.table.name)
        )
    }

    pub(super) fn index_name(self, name: &str) -> String {
        format!("{}.{}", ident(&self.table.name.schema), ident(name))
    }

    /// Drops the constraints, indexes and statistics that name the columns.
    pub(super) fn drop_definitions(self) -> Vec<String> {
        let head = self.head();
        let mut sql = Vec::new();
        for kind in [
            ConstraintKind::ForeignKey,
            ConstraintKind::Check,
            ConstraintKind::PrimaryKey,
            ConstraintKind::Unique,
            ConstraintKind::Exclusion,
        ] {
            for constraint in self.constraints(kind) {
                sql.push(format!(
                    "{head} DROP CONSTRAINT {}",
                    ident(&constraint.name)
                ));
            }
        }
        for index in self.plain_indexes() {
            sql.push(format!("DROP INDEX {}", self.index_name(&index.name)));
        }
        sql.extend(self.drop_statistics());
        sql
    }

    fn there(self) -> Vec<String> {
        if self.is_tree() {
            return self.tree_there();
        }
        let mut sql = vec![self.lock_sql()];
        sql.extend(self.drop_definitions());
        sql.extend(self.columns_there());
        sql.extend(self.take_place(Side::New));
        sql.extend(self.index_columns(str::to_owned, |r| (&r.shadow, &r.column)));
        sql
    }

    /// The columns' own part of the swap.
    pub(super) fn columns_there(self) -> Vec<String> {
        let head = self.head();
        let mut sql = Vec::new();
        for retype in self.columns {
            sql.extend(self.take_identity(retype, &retype.column, &retype.shadow));
            let column = self.table.column(&retype.column);
            let alter = format!("{head} ALTER COLUMN {}", ident(&retype.column));
            if column.is_some_and(|c| c.default.is_some()) {
                sql.push(format!("{alter} DROP DEFAULT"));
            }
            let any_not_null = column.is_some_and(|c| c.not_null)
                || self.not_null_names(Side::New, retype).is_some();
            if any_not_null {
                sql.push(format!("{alter} DROP NOT NULL"));
                sql.extend(self.tree_not_null(retype));
            }
            for (from, to) in [
                (&retype.column, &retype.old),
                (&retype.shadow, &retype.column),
            ] {
                sql.push(rename(&head, from, to));
            }
            if let Some((name, aid)) = self.not_null_names(Side::New, retype) {
                sql.push(rename_constraint(&head, &aid, &name));
            }
            if let Some(default) = self.answer.defaults.get(&retype.column) {
                sql.push(format!("{alter} SET DEFAULT {default}"));
            }
            for sequence in self.sequences(retype).filter(|s| !s.identity) {
                sql.push(self.owned(sequence, &retype.column));
                if let Some(wider) = self.widened(retype, sequence) {
                    sql.push(format!(
                        "ALTER SEQUENCE {} AS {wider}",
                        qname(&sequence.name)
                    ));
                }
            }
        }
        sql
    }

    fn back(self) -> Vec<String> {
        if self.is_tree() {
            return self.tree_back();
        }
        let head = self.head();
        let mut sql = vec![self.lock_sql()];
        for key in self.constraints(ConstraintKind::PrimaryKey) {
            sql.push(format!("{head} DROP CONSTRAINT {}", ident(&key.name)));
        }
        for kind in [
            ConstraintKind::ForeignKey,
            ConstraintKind::Check,
            ConstraintKind::Unique,
            ConstraintKind::Exclusion,
        ] {
            for constraint in self.constraints(kind) {
                let aid = self.aid(Side::New, &constraint.name);
                sql.push(rename_constraint(&head, &constraint.name, &aid));
                if kind == ConstraintKind::ForeignKey {
                    let definition = &constraint.definition;
                    sql.extend(inbound::turn(&self.table.name, &aid, definition, false));
                }
            }
        }
        for index in self.plain_indexes() {
            sql.push(format!(
                "ALTER INDEX {} RENAME TO {}",
                self.index_name(&index.name),
                ident(&self.aid(Side::New, &index.name))
            ));
        }
        sql.extend(self.leave_statistics());
        sql.extend(self.columns_back());
        sql.extend(self.take_place(Side::Old));
        let new = |name: &str| self.aid(Side::New, name);
        sql.extend(self.index_columns(new, |r| (&r.column, &r.shadow)));
        sql.extend(self.index_columns(str::to_owned, |r| (&r.old, &r.column)));
        sql
    }

    /// The columns' own part of the way back.
    pub(super) fn columns_back(self) -> Vec<String> {
        let head = self.head();
        let mut sql = Vec::new();
        for retype in self.columns {
            let column = self.table.column(&retype.column);
            let alter = format!("{head} ALTER COLUMN {}", ident(&retype.column));
            sql.extend(self.take_identity(retype, &retype.column, &retype.old));
            if self.answer.defaults.contains_key(&retype.column) {
                sql.push(format!("{alter} DROP DEFAULT"));
            }
            if let Some((name, aid)) = self.not_null_names(Side::New, retype) {
                sql.push(rename_constraint(&head, &name, &aid));
            }
            for (from, to) in [
                (&retype.column, &retype.shadow),
                (&retype.old, &retype.column),
            ] {
                sql.push(rename(&head, from, to));
            }
            if let Some((name, aid)) = self.not_null_names(Side::Old, retype) {
                sql.push(rename_constraint(&head, &aid, &name));
            }
            if let Some(default) = column.and_then(|c| c.default.as_ref()) {
                sql.push(format!("{alter} SET DEFAULT {default}"));
            }
            for sequence in self.sequences(retype).filter(|s| !s.identity) {
                sql.push(self.owned(sequence, &retype.column));
                if self.widened(retype, sequence).is_some() {
                    sql.push(format!(
                        "ALTER SEQUENCE {} AS {}",
                        qname(&sequence.name),
                        sequence.type_name
                    ));
                }
            }
        }
        sql
    }

    /// The columns of an index have names of their own, which `\d` shows and RENAME COLUMN of the
    /// table leaves as they are.
    fn index_columns(
        self,
        called: impl Fn(&str) -> String,
        names: impl Fn(&Retype) -> (&str, &str),
    ) -> Option<String> {
        if self.answer.indexes.is_empty() {
            return None;
        }
        let pairs: Vec<String> = self
            .columns
            .iter()
            .map(|r| {
                let (from, to) = names(r);
                format!("({}, {})", literal(from), literal(to))
            })
            .collect();
        let indexes: Vec<String> = self
            .answer
            .indexes
            .iter()
            .map(|index| {
                format!(
                    "{}::regclass",
                    literal(&self.index_name(&called(&index.name)))
                )
            })
            .collect();
        let body = format!(
            "\nDECLARE\n  pgshift_name record;\nBEGIN\n  FOR pgshift_name IN\n    \
             SELECT a.attrelid::regclass AS index, n.name, n.now\n    \
             FROM (VALUES {}) AS n(name, now)\n    \
             JOIN pg_catalog.pg_attribute a ON a.attrelid IN ({}) AND a.attname = n.name\n    \
             WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute o \
             WHERE o.attrelid = a.attrelid AND o.attname = n.now)\n  LOOP\n    \
             EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', \
             pgshift_name.index, pgshift_name.name, pgshift_name.now);\n  END LOOP;\nEND\n",
            pairs.join(", "),
            indexes.join(", "),
        );
        Some(format!("DO {}", dollar(&body)))
    }

    /// What a side was dressed with gets the names that it stands for.
    pub(super) fn take_place(self, side: Side) -> Vec<String> {
        let head = self.head();
        let mut sql = Vec::new();
        for key in self.constraints(ConstraintKind::PrimaryKey) {
            let deferrable = deferrable(&key.definition);
            let space = if deferrable.is_empty() { "" } else { " " };
            sql.push(format!(
                "{head} ADD CONSTRAINT {} PRIMARY KEY USING INDEX {}{space}{deferrable}",
                ident(&key.name),
                ident(&self.aid(side, &key.name)),
            ));
            if let Some(comment) = self.answer.comments.get(&key.name) {
                sql.push(format!(
                    "COMMENT ON CONSTRAINT {} ON {} IS {}",
                    ident(&key.name),
                    qname(&self.table.name),
                    literal(comment)
                ));
            }
        }
        for kind in [
            ConstraintKind::Unique,
            ConstraintKind::Exclusion,
            ConstraintKind::Check,
            ConstraintKind::ForeignKey,
        ] {
            for constraint in self.constraints(kind) {
                let aid = self.aid(side, &constraint.name);
                sql.push(rename_constraint(&head, &aid, &constraint.name));
                if kind == ConstraintKind::ForeignKey {
                    let (name, definition) = (&constraint.name, &constraint.definition);
                    sql.extend(inbound::turn(&self.table.name, name, definition, true));
                }
            }
        }
        for index in self.plain_indexes() {
            sql.push(format!(
                "ALTER INDEX {} RENAME TO {}",
                self.index_name(&self.aid(side, &index.name)),
                ident(&index.name)
            ));
        }
        sql.extend(self.take_statistics(side));
        for index in &self.answer.indexes {
            if index.definition.clustered {
                sql.push(format!("{head} CLUSTER ON {}", ident(&index.name)));
            }
            if index.definition.replica_identity {
                sql.push(format!(
                    "{head} REPLICA IDENTITY USING INDEX {}",
                    ident(&index.name)
                ));
            }
        }
        sql
    }

    /// Before the way back every value has to be one that the old type can hold.
    fn check_back(self, search_path: String) -> Step {
        let alias = &self.table.name.name;
        let wrong: Vec<String> = self
            .columns
            .iter()
            .map(|r| {
                let (new, old) = (
                    format!("{}.{}", ident(alias), ident(&r.column)),
                    format!("{}.{}", ident(alias), ident(&r.old)),
                );
                let lost = format!("{new} IS NOT NULL AND {old} IS NULL");
                // Null may be what the new value stands for, as 0 is by USING coalesce(c, 0).
                let using = r.using.as_ref().filter(|_| !way_back::casts_only(r));
                match using.zip(self.answer.types.get(&r.column)) {
                    Some((using, new_type)) => format!(
                        "CASE WHEN {lost} THEN ({new})::text COLLATE \"C\" IS DISTINCT FROM \
                         (CAST(({}\n) AS {new_type}))::text COLLATE \"C\" ELSE false END",
                        super::reading(&using.text, alias, self.columns, |r| &r.old)
                    ),
                    None => format!("({lost})"),
                }
            })
            .collect();
        let key = self.table.primary_key().map(<[String]>::to_vec);
        let spec = VerifySpec {
            table: self.table.name.clone(),
            alias: alias.clone(),
            from: None,
            condition: None,
            wrong: wrong.join(" OR "),
            key: key.unwrap_or_default(),
            search_path,
            forward: Vec::new(),
            back: Vec::new(),
        };
        let mut step = self.step(
            Side::Old,
            format!(
                "check that the old type holds every {}",
                self.changes_of_it()
            ),
            Vec::new(),
        );
        step.work = Work::Verify(Box::new(spec));
        step.locks = vec![self.lock(LockMode::AccessShare)];
        step.estimate.rows = Some(self.table.rows);
        step.estimate.bytes = Some(self.table.bytes);
        step
    }

    /// The unique index that the new column had before it became the primary key's: a primary key
    /// cannot become a plain index again.
    pub(super) fn key_again(self) -> Vec<Step> {
        self.constraints(ConstraintKind::PrimaryKey)
            .filter_map(|key| self.answer.indexes.iter().find(|i| i.name == key.name))
            .filter_map(|index| self.index_of_swapped(index))
            .collect()
    }
}

pub(super) fn rename(head: &str, from: &str, to: &str) -> String {
    format!("{head} RENAME COLUMN {} TO {}", ident(from), ident(to))
}

pub(super) fn rename_constraint(head: &str, from: &str, to: &str) -> String {
    format!("{head} RENAME CONSTRAINT {} TO {}", ident(from), ident(to))
}
