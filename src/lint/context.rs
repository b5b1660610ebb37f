//! What the rules see of a statement.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::script::{Script, Unit};
use super::world::World;
use super::{Finding, Options, Rule, Runner, Severity, body};
use crate::catalog::Table;
use crate::lock::LockMode;
use crate::plan::safe::{Safe, safe_form};
use crate::sql::RelName;
use crate::sql::ddl::{Action, AlterOp, AlterOpKind, NameChange};
use crate::sql::{Label, Span};

/// Findings of a file that get a safe form made for them.
const MANY: usize = 1_000;

/// Statements of a safe form that are listed with each finding.
const LISTED: usize = 200;

/// A lock that a statement takes on a table in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) table: RelName,
    pub(super) mode: LockMode,
    /// The statement.
    pub(super) span: Span,
}

/// What a transaction has done before a statement.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    /// The strongest lock of each table.
    pub(super) held: BTreeMap<RelName, Held>,
    /// Values added to enums: type, value, place.
    pub(super) enum_values: Vec<(String, String, Span)>,
    /// Constraints added NOT VALID: name, place.
    pub(super) not_valid: Vec<(String, Span)>,
}

/// What has been said of a file once and need not be said again.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) lock_timeout: bool,
    pub(super) several_tables: Option<u32>,
    pub(super) work_under_lock: Option<u32>,
    pub(super) dynamic: bool,
}

/// What a file makes, by name: the number of the last statement that does.
#[derive(Debug, Default)]
pub(super) struct Makes {
    /// Views, functions, types, sequences, tables.
    objects: HashMap<String, usize>,
    /// Tables with a new policy.
    pub(super) policies: HashSet<String>,
}

impl Makes {
    pub(super) fn of(units: &[Unit]) -> Self {
        let mut all = Self::default();
        for (number, unit) in units.iter().enumerate() {
            let name = match &unit.action {
                Action::CreateView { name, .. }
                | Action::CreateFunction { name, .. }
                | Action::CreateType { name }
                | Action::CreateDomain { name }
                | Action::CreateSequence { name, .. }
                | Action::CreateTable { name, .. } => &name.name,
                Action::CreateTrigger { name, .. } => name,
                Action::CreatePolicy { table, .. } => {
                    all.policies.insert(table.name.clone());
                    continue;
                }
                // A new one is renamed to the old one's name: the usual swap.
                Action::AlterType {
                    change: NameChange::Rename { to },
                    ..
                } => to,
                _ => continue,
            };
            all.objects.insert(name.clone(), number);
        }
        all
    }

    /// A statement after this one makes an object of this name.
    pub(super) fn after(&self, number: usize, name: &str) -> bool {
        self.objects.get(name).is_some_and(|last| *last > number)
    }
}

/// A statement with all that a rule may ask.
pub(super) struct Cx<'a> {
    pub(super) script: &'a Script,
    pub(super) unit: &'a Unit,
    /// Its number in the file.
    pub(super) number: usize,
    /// What the whole file makes.
    pub(super) makes: &'a Makes,
    /// Before the statement.
    pub(super) world: &'a World,
    pub(super) transaction: &'a Transaction,
    /// Locks of this statement on tables in use.
    pub(super) locks: &'a [Held],
    pub(super) options: &'a Options,
    pub(super) said: &'a mut Said,
    pub(super) out: &'a mut Vec<Finding>,
    pub(super) safe: OnceCell<Safe>,
}

impl<'a> Cx<'a> {
    /// True where pgshift runs the file.
    pub(super) fn pgshift(&self) -> bool {
        self.script.runner == Runner::Pgshift
    }

    /// True where the table is used by others, or nothing is known of it.
    pub(super) fn in_use(&self, table: &RelName) -> bool {
        !self.world.is_fresh(table)
    }

    /// True where work on every row of the table takes long, or that is not known.
    pub(super) fn heavy(&self, table: &RelName) -> bool {
        self.in_use(table)
            && self
                .world
                .size(table)
                .is_none_or(|(rows, _)| rows > self.options.small_rows)
    }

    /// The table, as far as it is known.
    pub(super) fn table(&self, name: &RelName) -> Option<&'a Table> {
        self.world.table(name)
    }

    /// The sub-commands of an ALTER TABLE.
    pub(super) fn alter(&self) -> Option<(&'a RelName, &'a [AlterOp])> {
        match &self.unit.action {
            Action::AlterTable { name, ops, .. } => Some((name, ops)),
            _ => None,
        }
    }

    /// The sub-commands of an ALTER TABLE of a table in use.
    pub(super) fn alter_in_use(&self) -> Option<(&'a RelName, &'a [AlterOp])> {
        self.alter().filter(|(name, _)| self.in_use(name))
    }

    /// The whole statement.
    pub(super) fn whole(&self) -> Span {
        Span::new(0, self.unit.sql.len())
    }

    /// A table for people.
    #[allow(
        clippy::unused_self,
        reason = "read as the others: cx.named(…), cx.facts(…)"
    )]
    pub(super) fn named(&self, table: &RelName) -> String {
        if table.name == body::DYNAMIC {
            return "a table named at run time".to_owned();
        }
        match table.schema.as_deref() {
            Some("public") => table.name.clone(),
            _ => table.to_string(),
        }
    }

    /// ` (about 1,200,000 rows, 96 MiB)` where that is known.
    pub(super) fn facts(&self, table: &RelName) -> String {
        match self.world.size(table) {
            Some((rows, bytes)) => format!(" (about {} rows, {})", count(rows), size(bytes)),
            None => String::new(),
        }
    }

    /// The safe form that the planner would make.
    pub(super) fn safe_form(&self) -> &Safe {
        self.safe.get_or_init(|| {
            // Of thousands of findings nobody reads the last one's safe form.
            let many = self.out.len() > MANY && !self.pgshift();
            if many || self.unit.sql.contains(body::DYNAMIC) {
                return Safe::AsIs;
            }
            safe_form(&self.unit.sql, &self.unit.action, self.world.catalog())
        })
    }

    /// Begins a finding at a place in the statement.
    pub(super) fn found(&self, rule: &'static Rule, at: Span, message: String) -> Finding {
        Finding {
            rule,
            severity: rule.severity,
            span: self.unit.place(at),
            statement: self.unit.statement,
            message,
            label: String::new(),
            also: Vec::new(),
            help: rule.safe.to_owned(),
            safe: Vec::new(),
            relation: None,
            lock: None,
            rows: None,
            bytes: None,
            planned: false,
            inside: self.unit.inside,
            allowed: None,
            fingerprint: String::new(),
        }
    }

    /// Ends a finding.
    pub(super) fn report(&mut self, mut finding: Finding) {
        if self.world.major() < finding.rule.since {
            return;
        }
        if let Some(inside) = finding.inside {
            finding.message = format!("in {inside}: {}", finding.message);
        }
        self.out.push(finding);
    }

    /// A finding with the statements that the planner would run instead; in a file of pgshift it
    /// is only a note then.
    pub(super) fn with_safe_form(&self, mut finding: Finding) -> Finding {
        match self.safe_form() {
            Safe::Rewritten { steps, .. } => {
                if steps.len() <= LISTED {
                    finding.safe = steps.iter().map(|s| s.sql.clone()).collect();
                }
                finding.planned = true;
                if self.pgshift() {
                    finding.severity = Severity::Note;
                    "`pgshift plan` rewrites it by itself".clone_into(&mut finding.help);
                }
            }
            Safe::Refused { way_out, .. } if self.pgshift() => {
                finding.help.clone_from(way_out);
            }
            _ => {}
        }
        finding
    }

    /// The sub-commands of an ALTER TABLE of a table in use, with the table.
    pub(super) fn ops(&self) -> impl Iterator<Item = (&'a RelName, &'a AlterOp)> + use<'a> {
        let (name, ops) = match self.alter_in_use() {
            Some((name, ops)) => (Some(name), ops),
            None => (None, &[][..]),
        };
        ops.iter().filter_map(move |op| Some((name?, op)))
    }

    /// The author's text of a sub-command.
    pub(super) fn sql_of(&self, op: &AlterOp) -> &'a str {
        let sql: &'a str = &self.unit.sql;
        sql.get(op.span.start..op.span.end).unwrap_or_default()
    }
}

impl Finding {
    /// The table that is hurt, and how.
    #[must_use]
    pub(super) fn on(mut self, cx: &Cx<'_>, table: &RelName, lock: LockMode) -> Self {
        if let Some((rows, bytes)) = cx.world.size(table) {
            self.rows = Some(rows);
            self.bytes = Some(bytes);
        }
        let blocked = if lock.blocks_reads() {
            "reads and writes wait"
        } else if lock.blocks_writes() {
            "writes wait"
        } else {
            "schema changes wait"
        };
        self.label = format!("{lock} on {}: {blocked}", cx.named(table));
        self.relation = Some(table.to_string());
        self.lock = Some(lock);
        self
    }

    /// The table that is hurt, where no lock says how.
    #[must_use]
    pub(super) fn relation(mut self, table: &RelName) -> Self {
        self.relation = Some(table.to_string());
        self
    }

    #[must_use]
    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = help.into();
        self
    }

    #[must_use]
    pub(super) fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    #[must_use]
    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    #[must_use]
    pub(super) fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.also.push(Label {
            span,
            text: text.into(),
        });
        self
    }
}

/// True where a sub-command has a shape that the analyzer does not know.
pub(super) fn is_unknown(op: &AlterOpKind) -> bool {
    matches!(op, AlterOpKind::Other { .. })
}

/// `1,200,000`
fn count(n: i64) -> String {
    let digits = n.max(0).to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `96 MiB`
fn size(bytes: i64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes.max(0) as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 10.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}
