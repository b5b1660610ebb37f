//! Foreign keys of a partitioned table that have a column whose type changes, where what they
//! reference stays.

use std::collections::BTreeMap;

use super::definition::{as_valid, foreign_key, referenced};
use super::dress::{Side, Swapped};
use super::inbound;
use super::tree_keys::{TAKES_OVER, TreeKey, by_leaves};
use crate::catalog::Constraint;
use crate::lock::LockMode;
use crate::plan::build::lock_on;
use crate::plan::step::{Phase, Step, Undo};
use crate::sql::quote::ident;

impl Swapped<'_> {
    /// Before 18 a foreign key of a partitioned table cannot be NOT VALID: each leaf's is, and the
    /// root's takes them over without reading a row.
    pub(super) fn foreign_key_of_leaves(self, side: Side, key: &Constraint) -> Vec<Step> {
        let definition = self.key_definition(side, key);
        if !by_leaves(self.table, self.major) || !key.validated {
            return self.checked(side, &key.name, &definition, key.validated, true);
        }
        let mut steps = Vec::new();
        for (_, own) in self.nodes().filter(|(node, _)| node.is_leaf()) {
            let on_leaf = own.checked(side, &key.name, &definition, true, true);
            steps.extend(on_leaf.into_iter().map(|mut step| {
                if let Some(other) = &key.references
                    && let Some(lock) = step.locks.first().cloned()
                {
                    let mode = if lock.mode == LockMode::ShareRowExclusive {
                        LockMode::ShareRowExclusive
                    } else {
                        LockMode::RowShare
                    };
                    step.locks.push(lock_on(other, mode));
                }
                self.while_part(own, step)
            }));
        }
        let aid = self.aid(side, &key.name);
        // Attaching drops the leaves' triggers at the table that is referenced.
        let (own, other) = (LockMode::ShareRowExclusive, LockMode::AccessExclusive);
        let mut locks = vec![self.lock(own)];
        let mut sql = Vec::new();
        if let Some(to) = &key.references {
            locks.push(lock_on(to, other));
            sql = inbound::lock_all(&BTreeMap::from([(&self.table.name, own), (to, other)]));
            let name_of = |name: &String| {
                let retype = self.columns.iter().find(|r| r.column == *name);
                retype.map_or(name.clone(), |r| side.name_of(r).to_owned())
            };
            let tree_key = TreeKey {
                table: &self.table.name,
                to,
                own: key.columns.iter().map(name_of).collect(),
                theirs: referenced(&key.definition),
            };
            sql.extend(tree_key.take_over(&aid, &definition));
        }
        let mut step = self
            .step(
                side,
                format!("{}: add constraint {} anew", self.table.name, key.name),
                sql,
            )
            .locks(locks)
            .note(TAKES_OVER);
        let (aid, head) = (ident(&aid), self.head());
        if side == Side::New {
            let mut locks = vec![self.lock(LockMode::AccessExclusive)];
            locks.extend(self.referenced(LockMode::AccessExclusive));
            let undo = Step::sql(
                Phase::Revert,
                format!("{}: drop constraint {aid}", self.table.name),
                vec![format!("{head} DROP CONSTRAINT IF EXISTS {aid}")],
            );
            step.undo = Undo::steps(vec![undo.locks(locks)]);
        }
        steps.push(step);
        steps
    }

    fn key_definition(self, side: Side, key: &Constraint) -> String {
        foreign_key(as_valid(&key.definition), |name| {
            let retype = self.columns.iter().find(|r| r.column == name)?;
            Some(side.name_of(retype).to_owned())
        })
    }
}
