//! A migration file as statements, whoever runs it.
//!
//! Never fails: what cannot be read becomes a [`Problem`], and everything else is still read.

use std::collections::BTreeMap;

use super::body::{self, Body};
use super::rules::reading;
use super::runner::{self, Hints, Part, Runner, Wrap};
use super::text::masked;
use super::{Rule, read};
use crate::migration::{self, Allow, SectionKind};
use crate::plan::locks::transactional;
use crate::sql::ddl::{Action, understand};
use crate::sql::lex::{TokenKind, lex};
use crate::sql::split::split_all;
use crate::sql::{Diagnostic, Source, Span};

/// How deep calls of functions of the file are followed.
const DEPTH: usize = 3;

/// A file to be linted.
#[derive(Debug, Clone)]
pub struct Script {
    /// The text, as read from the file.
    pub source: Source,
    /// Who runs it.
    pub runner: Runner,
    /// Its statements, and those found in blocks of code, in the order in which they run.
    pub units: Vec<Unit>,
    /// What is wrong with the file itself.
    pub problems: Vec<Problem>,
    /// Rules allowed for a statement that follows, with the place of that statement.
    pub allows: Vec<(Allow, Option<Span>)>,
    /// All of it takes migrations back, and was left out.
    pub only_down: bool,
    /// All its parts, those that take migrations back too.
    pub(super) parts: Vec<Part>,
}

/// Something wrong with a file itself, as a finding to be.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The rule that it breaks.
    pub rule: &'static Rule,
    /// Where and what.
    pub diagnostic: Diagnostic,
}

/// A statement, or one within a block of code.
#[derive(Debug, Clone)]
pub struct Unit {
    /// What was understood: the author's text with placeholders filled in.
    pub sql: String,
    /// Where it is in the file.
    pub span: Span,
    /// Where in the file `sql` begins; `None` where they do not correspond byte for byte.
    offset: Option<usize>,
    /// What it does.
    pub action: Action,
    /// The transaction that it is in with others; `None` where it commits for itself.
    pub transaction: Option<u32>,
    /// The server refuses here what cannot be in a transaction block.
    pub in_block: bool,
    /// What it is within: a DO block, or a function that is called.
    pub inside: Option<&'static str>,
    /// The statement of the file that it belongs to: its place.
    pub statement: Span,
    /// The section of a pgshift file.
    pub section: SectionKind,
    /// It is in a loop that commits: in batches.
    pub batched: bool,
}

impl Unit {
    /// The place in the file of a place in the statement.
    pub fn place(&self, span: Span) -> Span {
        match self.offset {
            Some(offset) => span.shift(offset),
            None => self.span,
        }
    }
}

impl Script {
    /// True where something within the span is wrong with the file itself.
    pub(super) fn has_problem_in(&self, span: Span) -> bool {
        // In order of place.
        let next = self
            .problems
            .partition_point(|p| p.diagnostic.span.start < span.start);
        self.problems
            .get(next)
            .is_some_and(|p| p.diagnostic.span.start < span.end)
    }
}

/// Options of [`read`].
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// What is known beside the text.
    pub hints: Hints,
    /// Take in what takes a migration back.
    pub down: bool,
    /// Take every file for one transaction.
    pub assume_transaction: bool,
}

/// Reads a file.
pub fn read(path: &str, text: &str, reading: &Reading) -> Script {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let runner = runner::detect(path, text, &reading.hints);
    let masked = masked(text);
    let mut reader = Reader {
        script: Script {
            source: Source::new(path, text),
            runner,
            units: Vec::new(),
            problems: Vec::new(),
            allows: Vec::new(),
            only_down: false,
            parts: Vec::new(),
        },
        text: masked.text,
        functions: BTreeMap::new(),
        transactions: 0,
        sections: BTreeMap::new(),
    };
    if let Some(commands) = masked.commands {
        reader.script.problems.push(Problem {
            rule: &reading::PSQL_COMMAND,
            diagnostic: commands,
        });
    }
    if runner == Runner::Pgshift {
        reader.pgshift(path);
    }
    let parts = runner::parts(runner, path, text, &reading.hints);
    reader.script.only_down = !reading.down && parts.iter().all(|p| p.down);
    for mut part in parts {
        if reading.assume_transaction && runner != Runner::Pgshift {
            part.wrap = Wrap::Transaction;
        }
        reader.script.parts.push(part);
        if !part.down || reading.down {
            reader.part(part);
        }
    }
    reader.allows();
    reader
        .script
        .problems
        .sort_by_key(|p| p.diagnostic.span.start);
    reader.script
}

struct Reader {
    script: Script,
    /// Of the same length as the file's.
    text: String,
    functions: BTreeMap<String, Body>,
    transactions: u32,
    /// Sections of the statements of a pgshift file, by where these begin.
    sections: BTreeMap<usize, SectionKind>,
}

impl Reader {
    /// The sections and errors of a pgshift file.
    fn pgshift(&mut self, path: &str) {
        let stem = path.rsplit(['/', '\\']).next().unwrap_or(path);
        let stem = stem.strip_suffix(".sql").unwrap_or(stem);
        match migration::parse(stem, self.script.source.clone()) {
            Ok(migration) => {
                for section in &migration.sections {
                    self.sections.extend(
                        section
                            .statements
                            .iter()
                            .map(|statement| (statement.span.start, section.kind)),
                    );
                }
            }
            Err(diagnostics) => {
                self.script
                    .problems
                    .extend(diagnostics.into_iter().map(|diagnostic| Problem {
                        rule: &reading::INVALID_FILE,
                        diagnostic,
                    }));
            }
        }
    }

    fn next_transaction(&mut self) -> u32 {
        self.transactions += 1;
        self.transactions
    }

    fn part(&mut self, part: Part) {
        let split = split_all(&self.text, part.span);
        if self.script.runner != Runner::Pgshift {
            // The first of a statement says enough.
            let mut said: Option<usize> = None;
            for diagnostic in split.diagnostics {
                let at = diagnostic.span.start;
                let statement = split.statements.partition_point(|s| s.span.start <= at);
                if said.replace(statement) != Some(statement) {
                    self.script.problems.push(Problem {
                        rule: &reading::NOT_SQL,
                        diagnostic,
                    });
                }
            }
        }
        let statements: Vec<(Span, Action)> = split
            .statements
            .iter()
            .map(|s| (s.span, understand(s.span.of(&self.text))))
            .collect();
        let neutral = |action: &Action| matches!(action, Action::Set | Action::Transaction);
        let all_refused = statements
            .iter()
            .filter(|(_, a)| !neutral(a))
            .all(|(_, a)| !transactional(a));
        let one_query = part.wrap == Wrap::OneQuery && statements.len() > 1;
        let wrapped = match part.wrap {
            Wrap::Transaction => true,
            Wrap::OneQuery => one_query,
            Wrap::Each => false,
            Wrap::UnlessRefused => !all_refused,
        };
        // The transaction in which statements are now: the runner's, or one that the text began.
        let mut now = wrapped.then(|| self.next_transaction());
        let mut begun: Option<Span> = None;
        for (span, action) in statements {
            let sql = span.of(&self.text).to_owned();
            if action == Action::Transaction {
                let said = read::transaction(&sql);
                let runners = wrapped && !one_query;
                match said {
                    read::Transaction::Begin => {
                        if runners && begun.is_none() && now.is_some() {
                            self.nested(span, "BEGIN");
                        } else {
                            now = Some(self.next_transaction());
                        }
                        begun = Some(span);
                    }
                    read::Transaction::End => {
                        if runners && begun.is_none() {
                            self.nested(span, "COMMIT");
                        }
                        begun = None;
                        now = one_query.then(|| self.next_transaction());
                    }
                    read::Transaction::Other => {}
                }
            }
            let block = matches!(action, Action::Do | Action::Call)
                || matches!(&action, Action::Select { functions } if !functions.is_empty());
            // What a block does is one transaction, also where the block commits for itself.
            let inner = now.or_else(|| block.then(|| self.next_transaction()));
            let section = self
                .sections
                .get(&span.start)
                .copied()
                .unwrap_or(SectionKind::Plain);
            let unit = Unit {
                offset: Some(span.start),
                span,
                transaction: now,
                in_block: now.is_some() || one_query,
                inside: None,
                statement: span,
                section,
                batched: false,
                action,
                sql,
            };
            self.remember(&unit);
            let within = self.within(&unit, inner, DEPTH);
            self.script.units.push(unit);
            self.script.units.extend(within);
        }
        if let Some(span) = begun
            && now.is_some()
            && self.script.runner != Runner::Pgshift
        {
            self.script.problems.push(Problem {
                rule: &reading::UNFINISHED_TRANSACTION,
                diagnostic: Diagnostic::new(span, "this transaction is never committed")
                    .label("begins here")
                    .help("end it with COMMIT; else everything since is rolled back"),
            });
        }
    }

    fn nested(&mut self, span: Span, word: &str) {
        let runner = self.script.runner;
        let (message, help) = if word == "BEGIN" {
            (
                format!("BEGIN within the transaction that {runner} has begun"),
                "leave BEGIN and COMMIT out: the COMMIT would end the runner's transaction"
                    .to_owned(),
            )
        } else {
            (
                format!("this ends the transaction that {runner} has begun"),
                format!(
                    "leave it out: what follows is not rolled back where it fails, nor is what \
                     {runner} records; to be without a transaction, {}",
                    runner.without_transaction()
                ),
            )
        };
        self.script.problems.push(Problem {
            rule: &reading::TRANSACTION_CONTROL,
            diagnostic: Diagnostic::new(span, message).help(help),
        });
    }

    /// Keeps the body of a function, for its calls.
    fn remember(&mut self, unit: &Unit) {
        if let Action::CreateFunction { name, .. } = &unit.action
            && let Some(body) = body::of_function(&unit.sql, unit.offset)
        {
            self.functions.insert(name.name.clone(), body);
        }
    }

    /// The statements within a block or a called function.
    fn within(&self, unit: &Unit, transaction: Option<u32>, depth: usize) -> Vec<Unit> {
        if depth == 0 {
            return Vec::new();
        }
        let mut all = Vec::new();
        match &unit.action {
            Action::Do => {
                if let Some(body) = body::of_do(&unit.sql, unit.offset) {
                    self.expand(&body, "a DO block", unit, transaction, depth, &mut all);
                }
            }
            Action::Call => {
                if let Some(body) = read::called(&unit.sql).and_then(|n| self.functions.get(&n)) {
                    self.expand(body, "a procedure", unit, transaction, depth, &mut all);
                }
            }
            Action::Select { functions } => {
                for body in functions.iter().filter_map(|f| self.functions.get(f)) {
                    self.expand(body, "a function", unit, transaction, depth, &mut all);
                }
            }
            _ => {}
        }
        all
    }

    fn expand(
        &self,
        body: &Body,
        inside: &'static str,
        unit: &Unit,
        transaction: Option<u32>,
        depth: usize,
        all: &mut Vec<Unit>,
    ) {
        for found in &body.statements {
            let inner = Unit {
                sql: found.sql.clone(),
                span: found.place.unwrap_or(unit.span),
                offset: found.offset,
                action: found.action.clone(),
                transaction,
                in_block: true,
                inside: Some(inside),
                statement: unit.statement,
                section: unit.section,
                batched: body.commits || unit.batched,
            };
            let within = self.within(&inner, transaction, depth - 1);
            all.push(inner);
            all.extend(within);
        }
        if body.dynamic {
            all.push(Unit {
                sql: String::new(),
                span: body.dynamic_at.unwrap_or(unit.span),
                offset: None,
                action: Action::Opaque {
                    leading: "EXECUTE".to_owned(),
                },
                transaction,
                in_block: true,
                inside: Some(inside),
                statement: unit.statement,
                section: unit.section,
                batched: false,
            });
        }
    }

    /// `-- pgshift: allow …` before statements.
    fn allows(&mut self) {
        let text = self.script.source.text();
        if !text.contains("pgshift:") {
            return;
        }
        let mut statements: Vec<Span> = self
            .script
            .units
            .iter()
            .filter(|u| u.inside.is_none())
            .map(|u| u.span)
            .collect();
        statements.dedup();
        let comments = lex(&self.text)
            .into_iter()
            .filter(|t| t.kind == TokenKind::Comment);
        let mut problems = Vec::new();
        for comment in comments {
            match migration::allow_at(text, comment.span) {
                None => {}
                Some(Ok(allow)) => {
                    let next = statements.partition_point(|s| s.start < comment.span.end);
                    self.script
                        .allows
                        .push((allow, statements.get(next).copied()));
                }
                // Said by the parser of pgshift's own files.
                Some(Err(_)) if self.script.runner == Runner::Pgshift => {}
                Some(Err(diagnostics)) => {
                    problems.extend(diagnostics.into_iter().map(|diagnostic| Problem {
                        rule: &reading::INVALID_FILE,
                        diagnostic,
                    }));
                }
            }
        }
        self.script.problems.extend(problems);
    }
}
