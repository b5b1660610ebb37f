//! Foreign keys of partitioned tables. Up to PostgreSQL 17 none can be NOT VALID but those of leaves:
//! each leaf's is added and validated by itself, and the table's takes them over.

use super::super::definition::{as_valid, referenced};
use super::super::dress::Side;
use super::super::tree_keys::{self, TreeKey};
use super::{Inbound, Relation};
use crate::catalog::details::KeyPart;
use crate::catalog::{QName, RelKind};
use crate::lock::LockMode;
use crate::plan::step::{PartOf, Phase, Step};

/// Bytes of a block.
const BLOCK: i64 = 8192;

impl<'d> Inbound<'d> {
    pub(super) fn is_tree(self) -> bool {
        self.table.kind == RelKind::Partitioned
    }

    pub(super) fn by_leaves(self) -> bool {
        tree_keys::by_leaves(self.table, self.major)
    }

    /// It as its columns are called before the swap, and after it.
    pub(super) fn tree_key(self) -> TreeKey<'d> {
        TreeKey {
            table: &self.table.name,
            to: &self.to.name,
            own: self.constraint.columns.clone(),
            theirs: referenced(&self.constraint.definition),
        }
    }

    /// The same on each leaf.
    fn leaves(self) -> impl Iterator<Item = Self> {
        self.table.leaves.iter().map(move |leaf| Self {
            on: Relation {
                name: &leaf.name,
                rows: leaf.rows,
                bytes: leaf.blocks * BLOCK,
            },
            ..self
        })
    }

    /// A step about a leaf, which may be gone when it comes to it.
    fn while_part(self, mut step: Step) -> Step {
        step.part_of = Some(PartOf {
            partition: self.on.name.clone(),
            root: self.table.name.clone(),
        });
        step
    }

    pub(super) fn dress_leaves(self, side: Side, phase: Phase) -> Vec<Step> {
        let mut steps: Vec<Step> = self
            .leaves()
            .flat_map(|leaf| {
                let steps = leaf.dress_one(side, phase);
                steps.into_iter().map(move |step| leaf.while_part(step))
            })
            .collect();
        let columns = |names: Vec<String>, of| -> Vec<String> {
            let new = |n: &String| Self::name_of(of, side, n).unwrap_or_else(|| n.clone());
            names.iter().map(new).collect()
        };
        let key = self.tree_key();
        let key = TreeKey {
            own: columns(key.own, self.own),
            theirs: columns(key.theirs, self.theirs),
            ..key
        };
        let sql = key.take_over(&self.aid(side), &self.aside(side));
        steps.push(self.taken_over(self.anew(side), phase, sql));
        steps
    }

    /// What follows a swap that made it anew.
    pub(super) fn after_swap(self, phase: Phase, parts: &[KeyPart]) -> Vec<Step> {
        let name = &self.constraint.name;
        if !self.constraint.validated {
            return Vec::new();
        }
        if !self.by_leaves() {
            return vec![self.validate(name, phase)];
        }
        let called = |of: &QName| {
            let part = parts.iter().find(|part| part.table == *of);
            part.map_or(name, |part| &part.name)
        };
        let mut steps: Vec<Step> = self
            .leaves()
            .map(|leaf| leaf.while_part(leaf.validate(called(leaf.on.name), phase)))
            .collect();
        let definition = as_valid(&self.constraint.definition);
        let mut sql = self.tree_key().take_over(name, definition);
        sql.extend(tree_keys::name_parts(&self.table.name, name, parts));
        sql.extend(self.comment(parts));
        let title = format!("{}: add foreign key {name} anew", self.table.name);
        steps.push(self.taken_over(title, phase, sql));
        steps
    }

    /// Attaching drops the leaves' triggers at the table that is referenced, which locks it from
    /// readers too; where that is partitioned, theirs also.
    fn taken_over(self, title: String, phase: Phase, sql: Vec<String>) -> Step {
        let own = if self.is_late() {
            LockMode::AccessExclusive
        } else {
            LockMode::ShareRowExclusive
        };
        let other = LockMode::AccessExclusive;
        Step::sql(phase, title, self.locked(own, other, sql))
            .locks(self.locks(own, other))
            .line(self.line)
            .note(tree_keys::TAKES_OVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ConstraintKind;
    use crate::plan::retype::Retype;
    use crate::plan::step::{Undo, Work};
    use crate::plan::testing::{catalog, constraint};
    use crate::sql::Span;

    /// `public.events`, whose leaf is `public.events_1`, references `public.users`.
    fn with_key<T>(major: u32, late: bool, of: impl FnOnce(Inbound<'_>) -> T) -> T {
        let mut catalog = catalog(major);
        let name = |name: &str| QName::new("public", name);
        let definition = "FOREIGN KEY (id) REFERENCES users(id) ON DELETE CASCADE";
        let key = constraint("of_user", ConstraintKind::ForeignKey, &["id"], definition);
        if late {
            let users = catalog.tables.get_mut(&name("users")).expect("users");
            users.kind = RelKind::Partitioned;
        }
        let retype = Retype {
            column: "id".into(),
            shadow: "new".into(),
            old: "old".into(),
            definition: "numeric".into(),
            type_text: "numeric".into(),
            using: None,
            default: crate::plan::retype::NewDefault::default(),
            span: Span::default(),
        };
        let table = &catalog.tables[&name("events")];
        of(Inbound {
            table,
            top: table,
            on: Relation {
                name: &table.name,
                rows: table.rows,
                bytes: table.bytes,
            },
            constraint: &key,
            to: &catalog.tables[&name("users")],
            own: &[],
            theirs: &[retype],
            major,
            migration: "m",
            line: 1,
        })
    }

    fn shown(steps: &[Step]) -> Vec<String> {
        let statements = |step: &Step| match &step.work {
            Work::Sql { statements } => statements.clone(),
            _ => Vec::new(),
        };
        let last = |step: &Step| statements(step).pop().unwrap_or_default();
        let part = |step: &Step| step.part_of.is_some();
        let shown = steps.iter().map(|step| {
            let sql = last(step);
            format!("{}{sql}", if part(step) { "part: " } else { "" })
        });
        shown.collect()
    }

    #[test]
    fn each_leaf_by_itself_and_then_the_table() {
        let steps = with_key(17, false, |key| key.dress(Side::New, Phase::Validate));
        let aid = with_key(17, false, |key| key.aid(Side::New));
        let definition = "FOREIGN KEY (id) REFERENCES users(\"new\") ON DELETE CASCADE";
        assert_eq!(
            shown(&steps),
            [
                format!(
                    "part: ALTER TABLE \"public\".\"events_1\" ADD CONSTRAINT \"{aid}\" {definition} \
                     NOT VALID"
                ),
                format!("part: ALTER TABLE \"public\".\"events_1\" VALIDATE CONSTRAINT \"{aid}\""),
                format!("ALTER TABLE \"public\".\"events\" ADD CONSTRAINT \"{aid}\" {definition}"),
            ]
        );
        let modes: Vec<LockMode> = steps[2].locks.iter().map(|lock| lock.mode).collect();
        assert_eq!(
            modes,
            [LockMode::ShareRowExclusive, LockMode::AccessExclusive]
        );
        let undone =
            |step: &Step| matches!(&step.undo, Undo::Steps { steps, .. } if !steps.is_empty());
        assert_eq!(
            steps.iter().map(undone).collect::<Vec<_>>(),
            [true, false, false],
            "the first, which is undone last, takes all back"
        );
    }

    #[test]
    fn not_valid_at_the_table_from_18_on() {
        let steps = with_key(18, false, |key| key.dress(Side::New, Phase::Validate));
        let shown = shown(&steps);
        assert_eq!(shown.len(), 2, "{shown:?}");
        assert!(shown[0].contains("\"events\" ADD CONSTRAINT") && shown[0].ends_with("NOT VALID"));
        assert!(shown[1].contains("\"events\" VALIDATE CONSTRAINT"));
    }

    #[test]
    fn after_a_swap_that_made_it_anew() {
        let parts = [KeyPart {
            table: QName::new("public", "events_1"),
            name: "its user".into(),
            comment: None,
        }];
        let after = |major| {
            with_key(major, true, |key| {
                shown(&key.after_swap(Phase::Contract, &parts))
            })
        };
        assert_eq!(
            after(18),
            ["ALTER TABLE \"public\".\"events\" VALIDATE CONSTRAINT \"of_user\""]
        );
        let steps = after(14);
        assert_eq!(
            steps[0],
            "part: ALTER TABLE \"public\".\"events_1\" VALIDATE CONSTRAINT \"its user\""
        );
        assert!(
            steps[1].contains("RENAME CONSTRAINT") && steps[1].contains("'its user'"),
            "the names of the partitions are set last: {steps:?}"
        );
    }
}
