//! The linter over the files of a check: the one place that calls it.

use serde::Serialize;

use crate::catalog::Catalog;
use crate::lint::script::{self, Reading};
use crate::lint::{self, Runner, Severity, World, lint};
use crate::migration::Migration;

/// What the linter says of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Linted {
    /// Findings of severity error.
    pub errors: usize,
    /// Findings of severity warning.
    pub warnings: usize,
    /// Findings of severity note.
    pub notes: usize,
}

/// A finding of severity error: (rule, message, help, start of its place).
pub(super) type Error = (&'static str, String, String, usize);

/// Lints files in order, each after the ones before it.
pub(super) fn run(
    files: &[&Migration],
    catalog: Option<&Catalog>,
    major: u32,
) -> Vec<(Linted, Vec<Error>)> {
    let mut world = match catalog {
        Some(catalog) => World::known(catalog.clone(), None),
        None => World::unknown(major),
    };
    let reading = Reading {
        hints: lint::runner::Hints {
            runner: Some(Runner::Pgshift),
            ..lint::runner::Hints::default()
        },
        ..Reading::default()
    };
    files
        .iter()
        .map(|file| {
            let script = script::read(file.source.name(), file.source.text(), &reading);
            let found: Vec<lint::Finding> = lint(&script, &mut world, &lint::Options::default())
                .into_iter()
                .filter(|f| f.allowed.is_none())
                .collect();
            let count = |severity| found.iter().filter(|f| f.severity == severity).count();
            let counts = Linted {
                errors: count(Severity::Error),
                warnings: count(Severity::Warning),
                notes: count(Severity::Note),
            };
            let errors = found
                .into_iter()
                .filter(|f| f.severity == Severity::Error)
                .map(|f| (f.rule.slug, f.message, f.help, f.span.start))
                .collect();
            (counts, errors)
        })
        .collect()
}
