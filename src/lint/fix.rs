//! What of a file's findings can be mended in the file itself.
//!
//! Only what is found is mended: not what the file allows, nor a small table's index. A statement
//! that the runner puts into a transaction keeps to what is safe there, unless the file can say to
//! be run without one and has nothing else in it that would lose by that.

use std::collections::BTreeSet;

use super::runner::{Part, Runner, Wrap, has_no_transaction_line};
use super::script::{Script, Unit};
use super::world::Met;
use super::{Finding, World};
use crate::plan::fix::{self, Advice, CONCURRENTLY, Change, Fixed, Room, Statement};
use crate::plan::locks::transactional;
use crate::sql::Span;
use crate::sql::ddl::Action;
use crate::sql::split::split_all;

/// The file with its findings mended, as far as that can be. `findings` are those that are to be,
/// of [`super::lint()`], those that the file allows too; `before` is what is known before the
/// file, and stays so: a copy for each of many files takes long. `None` where there is nothing to mend: also in a file of pgshift, which the planner makes
/// safe by itself.
pub fn fix(script: &Script, findings: &[Finding], before: &mut World) -> Option<Fixed> {
    if script.runner == Runner::Pgshift {
        return None;
    }
    let wanted = wanted(findings);
    if wanted.is_empty() {
        return None;
    }
    before.next_file();
    let met: Vec<Met> = script
        .units
        .iter()
        .map(|u| before.meet(&u.action))
        .collect();
    let fixed = fix_in(script, &wanted, before);
    for met in met {
        before.forget(met);
    }
    Some(fixed)
}

/// As [`fix`], where all that the file names is known.
fn fix_in(script: &Script, wanted: &BTreeSet<usize>, world: &World) -> Fixed {
    let units: Vec<&Unit> = script.units.iter().filter(|u| u.inside.is_none()).collect();
    let lifts: Vec<Option<Lift>> = script
        .parts
        .iter()
        .map(|part| lift(script, part, &of_part(&units, part), wanted))
        .collect();
    let run = |lifts: &[Option<Lift>]| run(script, &units, wanted, world, lifts);
    let mut fixed = run(&lifts);
    let within =
        |part: &Part, span: Span| part.span.start <= span.start && span.end <= part.span.end;
    // What a part without a transaction cannot hold either is no reason to take it away.
    let holds: Vec<Option<Lift>> = script
        .parts
        .iter()
        .zip(lifts.iter().copied())
        .map(|(part, lift)| lift.filter(|_| !fixed.advice.iter().any(|a| within(part, a.span))))
        .collect();
    if holds != lifts {
        fixed = run(&holds);
    }
    for (part, lift) in script.parts.iter().zip(&holds).rev() {
        let needed = fixed
            .changes
            .iter()
            .any(|c| c.apart && within(part, c.span));
        if let Some(mark) = lift.filter(|_| needed).and_then(|l| l.mark) {
            put(&mut fixed, script.source.text(), mark);
        }
    }
    fixed
}

/// Where the statements begin whose findings can be mended.
fn wanted(findings: &[Finding]) -> BTreeSet<usize> {
    let starts = |allowed: bool| {
        findings
            .iter()
            .filter(move |f| f.planned && f.inside.is_none() && f.allowed.is_some() == allowed)
            .map(|f| f.statement.start)
    };
    let allowed: BTreeSet<usize> = starts(true).collect();
    starts(false).filter(|s| !allowed.contains(s)).collect()
}

fn of_part<'u>(units: &[&'u Unit], part: &Part) -> Vec<&'u Unit> {
    let inside = |u: &&&Unit| part.span.start <= u.span.start && u.span.end <= part.span.end;
    units.iter().filter(inside).copied().collect()
}

/// Words that take a part out of the runner's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Where they go.
    at: usize,
    text: &'static str,
    /// They are a line of their own.
    line: bool,
}

/// A part that need not be in the runner's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lift {
    /// What may stand in it then.
    room: Room,
    /// `None` where the runner sees by itself that it cannot be in one.
    mark: Option<Mark>,
}

/// Whether a part can do without its transaction: nothing else is in it, so nothing is rolled back
/// by it. Sources: the documentation of sqlx (`migrate!`), goose ("NO TRANSACTION"), dbmate
/// ("transaction:false") and Flyway ("mixed").
fn lift(script: &Script, part: &Part, units: &[&Unit], wanted: &BTreeSet<usize>) -> Option<Lift> {
    // No real file has more.
    if script.parts.len() > 16 {
        return None;
    }
    let text = script.source.text();
    let one = matches!(units, [unit] if wanted.contains(&unit.span.start));
    match (script.runner, part.wrap) {
        (Runner::Sqlx, Wrap::Transaction) if one && !has_no_transaction_line(text) => Some(Lift {
            room: Room::Single,
            mark: Some(Mark {
                at: 0,
                text: "-- no-transaction",
                line: true,
            }),
        }),
        (Runner::Dbmate, Wrap::Transaction) if one => {
            let directive = text[..part.span.start].lines().last().unwrap_or_default();
            (directive.contains("migrate:") && !directive.contains("transaction:")).then_some(
                Lift {
                    room: Room::Single,
                    mark: Some(Mark {
                        at: part.span.start,
                        text: " transaction:false",
                        line: false,
                    }),
                },
            )
        }
        (Runner::Goose, Wrap::Transaction) if one => {
            // It is said for the whole file, the way back too.
            let several = |p: &Part| split_all(text, p.span).statements.len() > 1;
            let block = text.to_ascii_lowercase().contains("+goose statementbegin");
            (!script.parts.iter().any(several)).then_some(Lift {
                room: if block { Room::Single } else { Room::Each },
                mark: Some(Mark {
                    at: 0,
                    text: "-- +goose NO TRANSACTION",
                    line: true,
                }),
            })
        }
        (Runner::Flyway, Wrap::UnlessRefused) => {
            let apart = |u: &Unit| match &u.action {
                Action::CreateIndex { .. } | Action::DropIndex { .. } | Action::Reindex { .. } => {
                    wanted.contains(&u.span.start) || !transactional(&u.action)
                }
                Action::Set => true,
                action => !transactional(action),
            };
            units.iter().all(|u| apart(u)).then_some(Lift {
                room: Room::Each,
                mark: None,
            })
        }
        _ => None,
    }
}

fn run(
    script: &Script,
    units: &[&Unit],
    wanted: &BTreeSet<usize>,
    world: &World,
    lifts: &[Option<Lift>],
) -> Fixed {
    let text = script.source.text();
    let mut unclear: Vec<Advice> = Vec::new();
    let mut statements: Vec<Statement> = Vec::new();
    for unit in units {
        let part = script
            .parts
            .iter()
            .position(|p| p.span.start <= unit.span.start && unit.span.end <= p.span.end);
        let lift = part.and_then(|i| lifts[i]);
        let wrap = part.map(|i| script.parts[i].wrap);
        let room = match lift {
            Some(lift) => lift.room,
            None if unit.transaction.is_some() || unit.in_block => Room::Transaction,
            None if wrap == Some(Wrap::OneQuery) => Room::Single,
            None => Room::Each,
        };
        let asked = wanted.contains(&unit.span.start);
        // What a placeholder stands for is not known.
        let clear = unit.span.of(text) == unit.sql;
        if asked && !clear {
            unclear.push(Advice {
                span: unit.span,
                why: "it has a placeholder, so what it becomes is not known".to_owned(),
                help: "write the safe form by hand".to_owned(),
                files: Vec::new(),
            });
        }
        statements.push(Statement {
            span: unit.span,
            room,
            wanted: asked && clear,
        });
    }
    statements.sort_by_key(|s| s.span.start);
    let mut fixed = fix::fix(text, &statements, world.catalog());
    for advice in &mut fixed.advice {
        if advice.help == CONCURRENTLY {
            advice.help = format!("{CONCURRENTLY}: {}", script.runner.without_transaction());
        }
    }
    fixed.advice.extend(unclear);
    fixed.advice.sort_by_key(|a| a.span.start);
    fixed
}

/// Puts a mark in; `original` is the text before the changes.
fn put(fixed: &mut Fixed, original: &str, mark: Mark) {
    let grown: isize = fixed
        .changes
        .iter()
        .filter(|c| c.span.end <= mark.at)
        .map(|c| c.text.len() as isize - (c.span.end - c.span.start) as isize)
        .sum();
    let Some(at) = mark.at.checked_add_signed(grown) else {
        return;
    };
    let text = match (mark.line, original.contains("\r\n")) {
        (false, _) => mark.text.to_owned(),
        (true, true) => format!("{}\r\n", mark.text),
        (true, false) => format!("{}\n", mark.text),
    };
    let change = Change {
        span: Span::new(mark.at, mark.at),
        text: mark.text.trim_start().to_owned(),
        why: "CONCURRENTLY, and VALIDATE after NOT VALID, cannot be in the runner's transaction; \
              the file has nothing else in it"
            .to_owned(),
        apart: false,
    };
    // Once for the file, though several parts ask for it.
    if fixed
        .changes
        .iter()
        .any(|c| c.span == change.span && c.text == change.text)
    {
        return;
    }
    fixed.text.insert_str(at, &text);
    let place = fixed.changes.partition_point(|c| c.span.start < mark.at);
    fixed.changes.insert(place, change);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::script::{Reading, read};
    use crate::lint::{Options, lint};

    fn fixed(path: &str, text: &str) -> Option<Fixed> {
        let script = read(path, text, &Reading::default());
        let mut world = World::unknown(15);
        let findings = lint(&script, &mut world.clone(), &Options::default());
        fix(&script, &findings, &mut world)
    }

    fn text(path: &str, text: &str) -> String {
        fixed(path, text).expect("a finding").text
    }

    const INDEX: &str = "CREATE INDEX i ON t (a);\n";
    const CHECK: &str = "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0);\n";

    #[test]
    fn each_runner_takes_one_statement_out_of_its_transaction() {
        let safe = "CREATE INDEX CONCURRENTLY i ON t (a);\n";
        for (path, before, after) in [
            ("m/1.sql", INDEX.to_owned(), safe.to_owned()),
            (
                "p/20240101_x/migration.sql",
                INDEX.to_owned(),
                safe.to_owned(),
            ),
            ("m/1_x.up.sql", INDEX.to_owned(), safe.to_owned()),
            ("m/V1__x.sql", INDEX.to_owned(), safe.to_owned()),
            (
                "m/V1__x.sql",
                format!("{INDEX}DROP INDEX a, b;\n"),
                format!("{safe}DROP INDEX CONCURRENTLY a;\nDROP INDEX CONCURRENTLY b;\n"),
            ),
            (
                "m/1.sql",
                format!("-- migrate:up\n{INDEX}\n-- migrate:down\nDROP INDEX i;\n"),
                format!(
                    "-- migrate:up transaction:false\n{safe}\n-- migrate:down\nDROP INDEX i;\n"
                ),
            ),
            (
                "m/1.sql",
                format!("-- +goose Up\n{INDEX}\n-- +goose Down\nDROP INDEX i;\n"),
                format!(
                    "-- +goose NO TRANSACTION\n-- +goose Up\n{safe}\n-- +goose Down\nDROP INDEX i;\n"
                ),
            ),
        ] {
            assert_eq!(text(path, &before), after, "{path}");
        }
        let sqlx = Reading {
            hints: super::super::runner::Hints {
                runner: Some(Runner::Sqlx),
                ..Default::default()
            },
            ..Reading::default()
        };
        let script = read("m/1.sql", INDEX, &sqlx);
        let mut world = World::unknown(15);
        let findings = lint(&script, &mut world.clone(), &Options::default());
        let fixed = fix(&script, &findings, &mut world).expect("a finding");
        assert_eq!(fixed.text, format!("-- no-transaction\n{safe}"));
        assert_eq!(fixed.changes.len(), 2);
    }

    #[test]
    fn what_shares_a_transaction_stays_in_it() {
        for (path, before, files) in [
            ("m/1.sql", format!("BEGIN;\n{INDEX}COMMIT;\n"), 1),
            ("x/up.sql", INDEX.to_owned(), 1),
            ("m/V1__x.sql", format!("{INDEX}SELECT 1;\n"), 1),
            ("m/V1__x.sql", CHECK.to_owned(), 2),
            ("p/20240101_x/migration.sql", CHECK.to_owned(), 2),
            ("m/1.sql", format!("-- migrate:up\n{CHECK}"), 2),
            (
                "m/1.sql",
                format!("-- +goose Up\n{INDEX}-- +goose Down\nDROP INDEX i;\nDROP TABLE t;"),
                1,
            ),
        ] {
            let fixed = fixed(path, &before).expect("a finding");
            assert_eq!(fixed.text, before, "{path}");
            assert_eq!(fixed.changes, [], "{path}");
            assert_eq!(
                fixed.advice[0].files.len(),
                files,
                "{path}: {:?}",
                fixed.advice
            );
        }
        let fixed = fixed("x/up.sql", INDEX).expect("a finding");
        assert!(fixed.advice[0].help.contains("run_in_transaction"));
    }

    #[test]
    fn what_is_no_finding_stays() {
        for before in [
            "-- pgshift: allow create-index-blocking reason=\"night\"\nCREATE INDEX i ON t (a);",
            "CREATE TABLE t (a int);\nCREATE INDEX i ON t (a);",
            "DO $$ BEGIN CREATE INDEX i ON t (a); END $$;",
            "-- pgshift: expand\nCREATE INDEX i ON t (a);",
        ] {
            assert_eq!(fixed("m/1.sql", before), None, "{before}");
        }
        let before = "CREATE INDEX i ON ${schema}.t (a);";
        let fixed = fixed("m/1.sql", before).expect("a finding");
        assert_eq!((fixed.text.as_str(), fixed.advice.len()), (before, 1));
    }

    #[test]
    fn a_table_that_is_renamed_or_made_later_is_known_for_what_it_is() {
        assert_eq!(
            text(
                "m/1.sql",
                "ALTER TABLE a RENAME TO t;\nCREATE INDEX i ON t (a);\nCREATE TABLE b (x int);\n\
                 CREATE INDEX j ON b (x);"
            ),
            "ALTER TABLE a RENAME TO t;\nCREATE INDEX CONCURRENTLY i ON t (a);\n\
             CREATE TABLE b (x int);\nCREATE INDEX j ON b (x);"
        );
    }
}
