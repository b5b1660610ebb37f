//! Exit codes: public API, in one table.

use std::process::ExitCode;

use crate::error::ErrorKind;

/// How the process ends. The discriminants are the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// All was done.
    Success = 0,
    /// Checks found something.
    Findings = 1,
    /// The input is wrong.
    Usage = 2,
    /// A decision of a person is needed.
    Refused = 3,
    /// A lock could not be had.
    Lock = 4,
    /// Stopped on the way.
    Interrupted = 5,
    /// The outcome is not known.
    Ambiguous = 6,
    /// The server cannot be reached.
    Connection = 7,
    /// A defect of pgshift (`EX_SOFTWARE` of sysexits).
    Internal = 70,
}

/// Every exit code: its name in JSON and in `docs/exit-codes.md`, and what it means.
pub const ALL: &[(Exit, &str, &str)] = &[
    (Exit::Success, "success", "All that was asked for is done."),
    (
        Exit::Findings,
        "findings",
        "A check found something: wrong rows, hazards, or a difference.",
    ),
    (
        Exit::Usage,
        "usage",
        "The input is wrong: arguments, configuration, a migration file, an expression. Nothing was changed.",
    ),
    (
        Exit::Refused,
        "refused",
        "pgshift will not do this without a decision of a person; the message says which.",
    ),
    (
        Exit::Lock,
        "lock",
        "A lock could not be had within the budget. The step changed nothing; `pgshift resume` tries again.",
    ),
    (
        Exit::Interrupted,
        "interrupted",
        "Stopped on the way. `pgshift resume` goes on from the last committed chunk or step.",
    ),
    (
        Exit::Ambiguous,
        "ambiguous",
        "What happened is not known for sure, and a person must choose; the message says between what.",
    ),
    (
        Exit::Connection,
        "connection",
        "The server cannot be reached, or went away. What was committed stays; `pgshift resume` goes on.",
    ),
    (
        Exit::Internal,
        "internal",
        "A defect of pgshift. What was committed stays; please report it.",
    ),
];

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The name in JSON and in the documentation.
    pub fn name(self) -> &'static str {
        ALL.iter()
            .find(|(exit, _, _)| *exit == self)
            .map_or("internal", |(_, name, _)| name)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Findings => Self::Findings,
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Refused => Self::Refused,
            ErrorKind::Lock => Self::Lock,
            ErrorKind::Interrupted => Self::Interrupted,
            ErrorKind::Ambiguous => Self::Ambiguous,
            ErrorKind::Connection => Self::Connection,
            ErrorKind::Internal => Self::Internal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// `Exit::from` makes the compiler ask for a code when a kind is added; this list, with the
    /// assertion on its length, makes the test ask too.
    const KINDS: [ErrorKind; 8] = [
        ErrorKind::Findings,
        ErrorKind::Usage,
        ErrorKind::Refused,
        ErrorKind::Lock,
        ErrorKind::Interrupted,
        ErrorKind::Ambiguous,
        ErrorKind::Connection,
        ErrorKind::Internal,
    ];

    #[test]
    fn every_kind_of_error_has_a_code_of_its_own() {
        let codes: BTreeSet<u8> = KINDS.iter().map(|k| Exit::from(*k).code()).collect();
        assert_eq!(codes.len(), KINDS.len());
        assert!(!codes.contains(&0), "no error is a success");
        for kind in KINDS {
            let exit = Exit::from(kind);
            assert!(
                ALL.iter().any(|(e, _, _)| *e == exit),
                "{kind:?} has no row"
            );
        }
        assert_eq!(ALL.len(), KINDS.len() + 1, "a code that no error gives");
    }

    #[test]
    fn the_codes_are_those_that_were_published() {
        let codes: Vec<_> = ALL.iter().map(|(e, name, _)| (e.code(), *name)).collect();
        assert_eq!(
            codes,
            [
                (0, "success"),
                (1, "findings"),
                (2, "usage"),
                (3, "refused"),
                (4, "lock"),
                (5, "interrupted"),
                (6, "ambiguous"),
                (7, "connection"),
                (70, "internal"),
            ]
        );
        assert!(ALL.iter().all(|(e, name, _)| e.name() == *name));
    }

    #[test]
    fn the_documentation_has_this_table() {
        let documented: Vec<&str> = include_str!("../../docs/exit-codes.md")
            .lines()
            .filter(|line| line.starts_with("| ") && !line.starts_with("| Code"))
            .collect();
        let table: Vec<String> = ALL
            .iter()
            .map(|(exit, name, meaning)| format!("| {} | {name} | {meaning} |", exit.code()))
            .collect();
        assert_eq!(
            documented, table,
            "docs/exit-codes.md differs from cli::exit::ALL"
        );
    }
}
