//! The linter over the files of a check: the one place that calls it.

use serde::Serialize;

use crate::catalog::Catalog;
use crate::lint::script::{self, Reading};
use crate::lint::{self, Runner, Severity, World};
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

/// How to lint.
#[derive(Debug, Clone)]
pub struct LintOptions {
    /// What to look for.
    pub options: lint::Options,
    /// The weakest severity that is a finding of the check; `None` where none is.
    pub fails_from: Option<Severity>,
}

/// A finding that fails the check.
pub(super) struct Failing {
    pub(super) message: String,
    pub(super) help: String,
    /// Byte of the file where it begins.
    pub(super) at: usize,
}

/// Lints `files` in order, each after the ones before it; `earlier` are only read.
pub(super) fn run(
    earlier: &[&Migration],
    files: &[&Migration],
    catalog: Option<&Catalog>,
    major: u32,
    how: &LintOptions,
) -> Vec<(Linted, Vec<Failing>)> {
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
    let mut judge = |file: &Migration| {
        let script = script::read(file.source.name(), file.source.text(), &reading);
        lint::lint(&script, &mut world, &how.options)
    };
    for file in earlier {
        judge(file);
    }
    files
        .iter()
        .map(|file| {
            let found: Vec<lint::Finding> = judge(file)
                .into_iter()
                .filter(|f| f.allowed.is_none())
                .collect();
            let count = |severity| found.iter().filter(|f| f.severity == severity).count();
            let counts = Linted {
                errors: count(Severity::Error),
                warnings: count(Severity::Warning),
                notes: count(Severity::Note),
            };
            let failing = found
                .into_iter()
                .filter(|f| how.fails_from.is_some_and(|from| f.severity >= from))
                .map(|f| Failing {
                    message: format!("{} {}: {}", f.severity, f.rule.slug, f.message),
                    help: f.help,
                    at: f.span.start,
                })
                .collect();
            (counts, failing)
        })
        .collect()
}
