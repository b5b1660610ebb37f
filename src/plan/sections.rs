//! The statements of a migration by what they are for.

use super::plain::{Place, places};
use crate::migration::{BackfillOptions, Migration, SectionKind, Statement};
use crate::sql::ddl::{Action, AlterOpKind, understand};

/// A statement with what it does.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// The author's statement.
    pub statement: &'a Statement,
    /// What it does.
    pub action: Action,
}

impl<'a> Known<'a> {
    pub(super) fn new(statement: &'a Statement) -> Self {
        Self {
            statement,
            action: understand(&statement.sql),
        }
    }
}

/// The statements of a migration by section.
#[derive(Debug, Clone, Default)]
pub struct Sections<'a> {
    /// Expand.
    pub expand: Vec<Known<'a>>,
    /// Backfill, each with its section's options.
    pub backfill: Vec<(Known<'a>, BackfillOptions)>,
    /// Reverse.
    pub reverse: Vec<Known<'a>>,
    /// Verify.
    pub verify: Vec<Known<'a>>,
    /// Contract.
    pub contract: Vec<Known<'a>>,
    /// The way back of expand statements without a known inverse.
    pub revert_expand: Vec<Known<'a>>,
    /// The way back of contract statements without a known inverse.
    pub revert_contract: Vec<Known<'a>>,
}

impl<'a> Sections<'a> {
    /// Sorts the statements. Those of a plain file go to the phase that fits what they do: what
    /// removes something is contract, UPDATE and DELETE are backfill, the rest is expand (see
    /// `plan::plain`).
    pub fn of(migration: &'a Migration) -> Self {
        let mut all = Self::default();
        for section in &migration.sections {
            let known = section.statements.iter().map(Known::new);
            match section.kind {
                SectionKind::Expand => all.expand.extend(known),
                SectionKind::Backfill => {
                    all.backfill
                        .extend(known.map(|k| (k, section.options.clone())));
                }
                SectionKind::Reverse => all.reverse.extend(known),
                SectionKind::Verify => all.verify.extend(known),
                SectionKind::Contract => all.contract.extend(known),
                SectionKind::Revert if section.of == Some(SectionKind::Contract) => {
                    all.revert_contract.extend(known);
                }
                SectionKind::Revert => all.revert_expand.extend(known),
                SectionKind::Plain => {
                    let known: Vec<Known<'a>> = known.collect();
                    for (place, known) in places(known.iter()).into_iter().zip(known) {
                        match place {
                            Place::Expand => all.expand.push(known),
                            Place::Backfill => {
                                all.backfill.push((known, section.options.clone()));
                            }
                            Place::Contract => all.contract.push(known),
                        }
                    }
                }
            }
        }
        all
    }

    /// Every statement that names relations which planning must know.
    pub fn statements(&self) -> impl Iterator<Item = &Known<'a>> {
        self.expand
            .iter()
            .chain(self.backfill.iter().map(|(known, _)| known))
            .chain(&self.reverse)
            .chain(&self.contract)
    }
}

/// True for a statement that takes something away from the old application version.
pub(super) fn removes(action: &Action) -> bool {
    match action {
        Action::DropTable { .. } | Action::DropSequence { .. } => true,
        Action::AlterTable { ops, .. } => ops
            .iter()
            .any(|op| matches!(op.kind, AlterOpKind::DropColumn { .. })),
        _ => false,
    }
}
