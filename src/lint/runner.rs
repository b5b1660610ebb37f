//! Who runs a migration file, and in which transactions.
//!
//! Sources: the runners' own documentation and, where that is silent, their code. What matters
//! here is what runs in one transaction: a runner that sends a whole file as one simple query
//! gives it an implicit transaction ("Multiple Statements in a Simple Query", protocol flow).

use std::fmt;

use crate::sql::Span;
use crate::sql::lex::{TokenKind, lex};

/// A program that runs migration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runner {
    /// pgshift: each step has a transaction of its own, with a lock timeout.
    Pgshift,
    /// psql, and everything that is not known: each statement commits for itself.
    Psql,
    /// sqlx.
    Sqlx,
    /// Diesel.
    Diesel,
    /// refinery.
    Refinery,
    /// goose.
    Goose,
    /// Flyway.
    Flyway,
    /// dbmate.
    Dbmate,
    /// Prisma Migrate.
    Prisma,
    /// golang-migrate.
    GolangMigrate,
}

impl Runner {
    /// All, in the order of documentation.
    pub const ALL: [Self; 10] = [
        Self::Pgshift,
        Self::Psql,
        Self::Sqlx,
        Self::Diesel,
        Self::Refinery,
        Self::Goose,
        Self::Flyway,
        Self::Dbmate,
        Self::Prisma,
        Self::GolangMigrate,
    ];

    /// The name on the command line and in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pgshift => "pgshift",
            Self::Psql => "psql",
            Self::Sqlx => "sqlx",
            Self::Diesel => "diesel",
            Self::Refinery => "refinery",
            Self::Goose => "goose",
            Self::Flyway => "flyway",
            Self::Dbmate => "dbmate",
            Self::Prisma => "prisma",
            Self::GolangMigrate => "golang-migrate",
        }
    }

    /// The runner of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.name() == name)
    }

    /// How a file is taken out of the runner's transaction, for help texts.
    pub const fn without_transaction(self) -> &'static str {
        match self {
            Self::Pgshift => "pgshift runs it outside of a transaction by itself",
            Self::Psql => "put it outside of BEGIN … COMMIT",
            Self::Sqlx => "put it alone into a file whose first line is `-- no-transaction`",
            Self::Diesel => {
                "put it alone into a migration with `run_in_transaction = false` in metadata.toml"
            }
            Self::Refinery => "run it apart from refinery, which has a transaction for each file",
            Self::Goose => "put it into a file with `-- +goose NO TRANSACTION` at the top",
            Self::Flyway => {
                "put it into a file of its own; with `executeInTransaction=false` in its .conf"
            }
            Self::Dbmate => {
                "put it alone into a file that begins with `-- migrate:up transaction:false`"
            }
            Self::Prisma | Self::GolangMigrate => {
                "put it alone into a file: several statements of a file are one transaction"
            }
        }
    }
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of a file beside its text.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Said on the command line or in the configuration; wins over everything.
    pub runner: Option<Runner>,
    /// The project's own folder says so: dependencies of a Cargo.toml above, a pgshift.toml.
    pub project: Option<Runner>,
    /// `run_in_transaction` of a `metadata.toml`, or `executeInTransaction` of a `.conf`.
    pub in_transaction: Option<bool>,
}

/// Finds the runner by path and content.
pub fn detect(path: &str, text: &str, hints: &Hints) -> Runner {
    if let Some(runner) = hints.runner {
        return runner;
    }
    let path = path.replace('\\', "/");
    let mut parts = path.rsplit('/');
    let name = parts.next().unwrap_or_default();
    let folder = parts.next().unwrap_or_default();
    for token in lex(text).iter().filter(|t| t.kind == TokenKind::Comment) {
        let comment = token.text(text);
        let Some(body) = comment.strip_prefix("--") else {
            continue;
        };
        let body = body.trim_start();
        if starts(body, "+goose ") {
            return Runner::Goose;
        }
        if starts(body, "migrate:up") {
            return Runner::Dbmate;
        }
        if body.starts_with("pgshift:")
            && !body
                .trim_start_matches("pgshift:")
                .trim_start()
                .starts_with("allow")
        {
            return Runner::Pgshift;
        }
    }
    if name == "migration.sql" && starts_with_digits(folder, 4) {
        return Runner::Prisma;
    }
    if matches!(name, "up.sql" | "down.sql") {
        return Runner::Diesel;
    }
    if has_no_transaction_line(text) {
        return Runner::Sqlx;
    }
    let versioned = name.contains("__")
        && (name.starts_with(['V', 'U']) && name[1..].starts_with(|c: char| c.is_ascii_digit())
            || name.starts_with("R__"));
    if versioned {
        return match hints.project {
            Some(Runner::Refinery) => Runner::Refinery,
            _ => Runner::Flyway,
        };
    }
    match hints.project {
        Some(runner) => runner,
        None if name.ends_with(".up.sql") || name.ends_with(".down.sql") => Runner::GolangMigrate,
        None => Runner::Psql,
    }
}

fn starts(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

fn starts_with_digits(text: &str, count: usize) -> bool {
    text.len() > count && text.bytes().take(count).all(|b| b.is_ascii_digit())
}

/// sqlx: `-- no-transaction` at the very beginning.
pub(super) fn has_no_transaction_line(text: &str) -> bool {
    text.lines()
        .next()
        .is_some_and(|line| line.starts_with("-- no-transaction"))
}

/// In which transactions the statements of a part run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrap {
    /// The runner begins and commits a transaction around them.
    Transaction,
    /// They are sent as one simple query: one implicit transaction where there are several.
    OneQuery,
    /// Each commits for itself, unless the text begins a transaction.
    Each,
    /// As [`Wrap::Transaction`], but for a file whose statements all refuse to be in one
    /// (Flyway).
    UnlessRefused,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where.
    pub span: Span,
    /// It takes a migration back.
    pub down: bool,
    /// Its transactions.
    pub wrap: Wrap,
}

/// The parts of a file.
pub fn parts(runner: Runner, path: &str, text: &str, hints: &Hints) -> Vec<Part> {
    let whole = Span::new(0, text.len());
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
    let in_transaction = hints.in_transaction.unwrap_or(true);
    let one = |wrap: Wrap, down: bool| {
        vec![Part {
            span: whole,
            down,
            wrap,
        }]
    };
    match runner {
        Runner::Pgshift | Runner::Psql => one(
            Wrap::Each,
            name.ends_with(".down.sql") || name == "down.sql",
        ),
        Runner::Sqlx => one(
            if has_no_transaction_line(text) {
                Wrap::OneQuery
            } else {
                Wrap::Transaction
            },
            name.ends_with(".down.sql"),
        ),
        Runner::Diesel => one(
            if in_transaction {
                Wrap::Transaction
            } else {
                Wrap::OneQuery
            },
            name == "down.sql",
        ),
        Runner::Refinery => one(Wrap::Transaction, false),
        Runner::Flyway => one(
            if in_transaction {
                Wrap::UnlessRefused
            } else {
                Wrap::Each
            },
            name.starts_with('U'),
        ),
        Runner::Prisma => one(
            Wrap::OneQuery,
            name != "migration.sql" && name.contains("down"),
        ),
        Runner::GolangMigrate => one(Wrap::OneQuery, name.ends_with(".down.sql")),
        Runner::Goose => marked(text, goose_mark, |marks| {
            if marks.contains(&Mark::NoTransaction) {
                Wrap::Each
            } else {
                Wrap::Transaction
            }
        }),
        Runner::Dbmate => marked(text, dbmate_mark, |marks| {
            if marks.contains(&Mark::NoTransaction) {
                Wrap::OneQuery
            } else {
                Wrap::Transaction
            }
        }),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Up,
    Down,
    NoTransaction,
}

/// `-- +goose Up`, in any case.
fn goose_mark(comment: &str) -> Vec<Mark> {
    let Some(rest) = comment
        .strip_prefix("--")
        .map(str::trim_start)
        .filter(|c| starts(c, "+goose "))
    else {
        return Vec::new();
    };
    match rest[7..].trim().to_ascii_lowercase().as_str() {
        "up" => vec![Mark::Up],
        "down" => vec![Mark::Down],
        "no transaction" => vec![Mark::NoTransaction],
        _ => Vec::new(),
    }
}

/// `-- migrate:up transaction:false`
fn dbmate_mark(comment: &str) -> Vec<Mark> {
    let Some(rest) = comment
        .strip_prefix("--")
        .map(str::trim_start)
        .filter(|c| starts(c, "migrate:"))
    else {
        return Vec::new();
    };
    let mut words = rest[8..].split_whitespace();
    let mut marks = match words.next() {
        Some("up") => vec![Mark::Up],
        Some("down") => vec![Mark::Down],
        _ => return Vec::new(),
    };
    if words.any(|w| w == "transaction:false") {
        marks.push(Mark::NoTransaction);
    }
    marks
}

/// A file whose parts are marked by comments; what is before the first mark is not run.
fn marked(
    text: &str,
    mark: impl Fn(&str) -> Vec<Mark>,
    wrap: impl Fn(&[Mark]) -> Wrap,
) -> Vec<Part> {
    let mut parts: Vec<(Part, Vec<Mark>)> = Vec::new();
    let mut before: Vec<Mark> = Vec::new();
    let comments = lex(text)
        .into_iter()
        .filter(|t| t.kind == TokenKind::Comment);
    for comment in comments {
        let marks = mark(comment.text(text));
        if marks.contains(&Mark::Up) || marks.contains(&Mark::Down) {
            if let Some((last, _)) = parts.last_mut() {
                last.span.end = comment.span.start;
            }
            parts.push((
                Part {
                    span: Span::new(comment.span.end, text.len()),
                    down: marks.contains(&Mark::Down),
                    wrap: Wrap::Transaction,
                },
                marks,
            ));
        } else {
            // goose: anywhere in the file, for the whole of it.
            before.extend(marks);
        }
    }
    if parts.is_empty() {
        return vec![Part {
            span: Span::new(0, text.len()),
            down: false,
            wrap: wrap(&before),
        }];
    }
    parts
        .into_iter()
        .map(|(part, mut marks)| {
            marks.extend(before.iter().copied());
            Part {
                wrap: wrap(&marks),
                ..part
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> (Runner, Vec<(bool, Wrap)>) {
        let hints = Hints::default();
        let runner = detect(path, text, &hints);
        let parts = parts(runner, path, text, &hints);
        (runner, parts.iter().map(|p| (p.down, p.wrap)).collect())
    }

    #[test]
    fn runners_are_known_by_path_and_content() {
        use Wrap::{Each, OneQuery, Transaction, UnlessRefused};
        for (path, text, runner, parts) in [
            ("m/1.sql", "SELECT 1", Runner::Psql, vec![(false, Each)]),
            (
                "m/2024_x/up.sql",
                "",
                Runner::Diesel,
                vec![(false, Transaction)],
            ),
            (
                "m/2024_x/down.sql",
                "",
                Runner::Diesel,
                vec![(true, Transaction)],
            ),
            (
                "prisma/20240101_x/migration.sql",
                "",
                Runner::Prisma,
                vec![(false, OneQuery)],
            ),
            (
                "db/V2__x.sql",
                "",
                Runner::Flyway,
                vec![(false, UnlessRefused)],
            ),
            (
                "db/U2__x.sql",
                "",
                Runner::Flyway,
                vec![(true, UnlessRefused)],
            ),
            (
                "m/1_x.up.sql",
                "",
                Runner::GolangMigrate,
                vec![(false, OneQuery)],
            ),
            (
                "m/1_x.up.sql",
                "-- no-transaction\nSELECT 1",
                Runner::Sqlx,
                vec![(false, OneQuery)],
            ),
            (
                "m/1.sql",
                "-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 1;\n-- +goose down\nSELECT 2;",
                Runner::Goose,
                vec![(false, Each), (true, Each)],
            ),
            (
                "m/1.sql",
                "-- migrate:up transaction:false\nSELECT 1;\n-- migrate:down\nSELECT 2;",
                Runner::Dbmate,
                vec![(false, OneQuery), (true, Transaction)],
            ),
            (
                "m/1.sql",
                "-- pgshift: expand\nSELECT 1",
                Runner::Pgshift,
                vec![(false, Each)],
            ),
            (
                "m/1.sql",
                "-- pgshift: allow drop-table reason=\"x\"\nSELECT 1",
                Runner::Psql,
                vec![(false, Each)],
            ),
        ] {
            assert_eq!(found(path, text), (runner, parts), "{path} {text}");
        }
    }

    #[test]
    fn hints_decide_what_the_path_does_not() {
        let hints = |runner| Hints {
            project: Some(runner),
            ..Hints::default()
        };
        assert_eq!(
            detect("m/V1__x.sql", "", &hints(Runner::Refinery)),
            Runner::Refinery
        );
        assert_eq!(
            detect("m/1_x.up.sql", "", &hints(Runner::Sqlx)),
            Runner::Sqlx
        );
        let said = Hints {
            runner: Some(Runner::Psql),
            ..Hints::default()
        };
        assert_eq!(detect("x/up.sql", "-- +goose Up", &said), Runner::Psql);
        let apart = Hints {
            in_transaction: Some(false),
            ..Hints::default()
        };
        assert_eq!(
            parts(Runner::Diesel, "up.sql", "", &apart)[0].wrap,
            Wrap::OneQuery
        );
    }
}
