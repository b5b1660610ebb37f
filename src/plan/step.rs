//! What a plan is made of: phases, steps, and the way back of each.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::backfill::{BackfillSpec, VerifySpec};
use crate::catalog::QName;
use crate::catalog::dependents::PartKind;
use crate::lock::LockOn;

use super::cost::{Bytes, Disk, Time};

/// The version of the plan's JSON shape; a plan of another version is refused.
pub const PLAN_FORMAT: u32 = 1;

/// The phases of a migration, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Additive schema changes that the old application version does not notice.
    Expand,
    /// Sync triggers keep old and new columns equal while both versions run.
    Sync,
    /// Existing rows are brought over, in chunks.
    Backfill,
    /// Indexes and constraints on the new columns, and VALIDATE.
    Validate,
    /// Every row is compared; then the migration is READY.
    Verify,
    /// The new application version is alone: what only the old one needs goes (soft drop).
    Contract,
    /// After the retention: soft-dropped objects are dropped for good.
    Purge,
    /// The way back of done steps.
    Revert,
}

impl Phase {
    /// The name in CLI, JSON and state tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Sync => "sync",
            Self::Backfill => "backfill",
            Self::Validate => "validate",
            Self::Verify => "verify",
            Self::Contract => "contract",
            Self::Purge => "purge",
            Self::Revert => "revert",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    /// Statements of one transaction, under `lock_timeout` tries.
    Sql {
        /// In order.
        statements: Vec<String>,
    },
    /// One statement that cannot run in a transaction (`… CONCURRENTLY`).
    Concurrent {
        /// The statement.
        sql: String,
        /// The index that it makes or drops, by which the catalog tells whether it is done.
        index: Option<QName>,
        /// True where the index is gone when the step is done.
        drops: bool,
    },
    /// A batched UPDATE or DELETE.
    Backfill(Box<BackfillSpec>),
    /// Compares every row of a backfilled table with what it should be.
    Verify(Box<VerifySpec>),
    /// The author's SELECT, which must return no row, or one row with zero or false.
    Check {
        /// The statement.
        sql: String,
    },
}

/// The way back of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Undo {
    /// There is nothing to take back.
    Nothing,
    /// These steps, in order.
    Steps {
        /// The steps.
        steps: Vec<Step>,
        /// What does not come back although the schema does; empty where all does.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lost: Vec<String>,
    },
    /// It cannot be taken back.
    Irreversible {
        /// Why, for people.
        reason: String,
    },
}

impl Undo {
    /// Steps without loss.
    pub fn steps(steps: Vec<Step>) -> Self {
        if steps.is_empty() {
            Self::Nothing
        } else {
            Self::Steps {
                steps,
                lost: Vec::new(),
            }
        }
    }
}

/// Expected cost of a step; `None` is unknown, never a guess.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Rows it looks at.
    pub rows: Option<i64>,
    /// Heap bytes it looks at.
    pub bytes: Option<i64>,
    /// Chunks.
    pub chunks: Option<i64>,
    /// Working time in seconds, throttle not counted.
    pub seconds: Option<f64>,
    /// How the time was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<String>,
    /// Log that it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<Bytes>,
    /// Time with pauses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Disk that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// A partition, at any level, and what it is a partition of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartOf {
    /// The partition.
    pub partition: QName,
    /// The table at the root.
    pub root: QName,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its phase.
    pub phase: Phase,
    /// What it does, for people.
    pub title: String,
    /// The work.
    pub work: Work,
    /// Locks that it takes on existing relations.
    #[serde(default)]
    pub locks: Vec<LockOn>,
    /// The way back.
    pub undo: Undo,
    /// Cost.
    #[serde(default)]
    pub estimate: Estimate,
    /// Rewrites made and things to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Longest `lock_timeout` of a try, in milliseconds, where the file says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_timeout_ms: Option<u64>,
    /// Limits of the throttle, where the file says; for steps that keep to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub throttle: BTreeMap<String, String>,
    /// 1-based line of the file that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Nothing is to be done where this was dropped or detached since the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<PartOf>,
    /// What has to be as it was in the plan when it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relies: Vec<Relies>,
    /// Statements that bring up to date what it is to put in the place of something else, in a
    /// transaction of their own before each try; nothing where it is up to date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before_try: Vec<String>,
}

/// What depends on columns of a table, in the plan: a step that drops it and makes it again runs
/// only where nothing was changed since, so that no change is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relies {
    /// The table.
    pub table: QName,
    /// Its columns.
    pub columns: Vec<String>,
    /// By object, as `pg_describe_object` has it: the fingerprint of its definition; empty where any
    /// will do, [`Self::OR_NONE`] where it may be gone too.
    pub dependents: BTreeMap<String, String>,
    /// Which of what the columns have of their own is in that too.
    #[serde(default, skip_serializing_if = "Own::is_nothing")]
    pub own: Own,
}

impl Relies {
    /// Whatever it is, and if it is.
    pub const OR_NONE: &str = "?";
}

/// Which of what columns have of their own (indexes, constraints, rights, …) has to be as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Own {
    /// Nothing, as in plans of versions that did not ask.
    #[default]
    Nothing,
    /// Indexes, constraints, extended statistics, and foreign keys that reference them.
    Objects,
    /// Objects and settings. Not the foreign keys that reference them: a partition that is detached
    /// has one of its own then, and the server does not let the swap forget another.
    Columns,
}

impl Own {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_nothing(&self) -> bool {
        *self == Self::Nothing
    }

    /// Whether this kind counts.
    pub fn counts(self, kind: PartKind) -> bool {
        match self {
            Self::Nothing => false,
            Self::Objects => matches!(kind, PartKind::Object | PartKind::Key),
            Self::Columns => kind != PartKind::Key,
        }
    }
}

impl Step {
    /// A transactional step with the way back still to be said.
    pub fn sql(phase: Phase, title: impl Into<String>, statements: Vec<String>) -> Self {
        Self::new(phase, title, Work::Sql { statements })
    }

    /// A step of any work.
    pub fn new(phase: Phase, title: impl Into<String>, work: Work) -> Self {
        Self {
            phase,
            title: title.into(),
            work,
            locks: Vec::new(),
            undo: Undo::Nothing,
            estimate: Estimate::default(),
            notes: Vec::new(),
            lock_timeout_ms: None,
            throttle: BTreeMap::new(),
            line: None,
            part_of: None,
            relies: Vec::new(),
            before_try: Vec::new(),
        }
    }

    /// Sets the locks.
    #[must_use]
    pub fn locks(mut self, locks: Vec<LockOn>) -> Self {
        self.locks = locks;
        self
    }

    /// Sets the way back.
    #[must_use]
    pub fn undo(mut self, undo: Undo) -> Self {
        self.undo = undo;
        self
    }

    /// Sets the line of the file.
    #[must_use]
    pub fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// Adds what has to be as it was.
    #[must_use]
    pub fn relies_on(mut self, relies: impl IntoIterator<Item = Relies>) -> Self {
        self.relies.extend(relies);
        self
    }

    /// Adds what is run before each try.
    #[must_use]
    pub fn before_try(mut self, statements: Vec<String>) -> Self {
        self.before_try.extend(statements);
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Bounds the tries for locks of this step and of its way back.
    pub fn set_lock_timeout(&mut self, longest: std::time::Duration) {
        self.lock_timeout_ms = Some(longest.as_millis() as u64);
        if let Undo::Steps { steps, .. } = &mut self.undo {
            for step in steps {
                step.set_lock_timeout(longest);
            }
        }
    }

    /// Sets the limits of the throttle for this step and for its way back, where they go row by
    /// row.
    pub fn set_throttle(&mut self, limits: &BTreeMap<String, String>) {
        if matches!(self.work, Work::Backfill(_) | Work::Verify(_)) {
            self.throttle.clone_from(limits);
        }
        if let Undo::Steps { steps, .. } = &mut self.undo {
            for step in steps {
                step.set_throttle(limits);
            }
        }
    }

    /// True where all of it is one transaction whose commit also records the step.
    pub fn transactional(&self) -> bool {
        matches!(self.work, Work::Sql { .. })
    }
}

/// A whole migration, planned against one catalog. Its JSON is what `plan --out` writes and what
/// the state table keeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_FORMAT`].
    pub format: u32,
    /// The migration's id.
    pub migration: String,
    /// The file's checksum.
    pub checksum: String,
    /// Steps in order of phase; a run takes those of its phases.
    pub steps: Vec<Step>,
    /// What a person should know before it runs.
    pub warnings: Vec<String>,
    /// Catalog facts that it relies on (`plan::facts`); `apply --plan` compares them.
    pub facts: BTreeMap<String, String>,
    /// Tables that it changes; only one migration at a time may be open on each.
    pub tables: Vec<QName>,
}

impl Plan {
    /// The steps of these phases, in order.
    pub fn steps_of(&self, phases: &[Phase]) -> Vec<Step> {
        self.steps
            .iter()
            .filter(|s| phases.contains(&s.phase))
            .cloned()
            .collect()
    }

    /// True where something is left to do after READY.
    pub fn has_contract(&self) -> bool {
        self.steps.iter().any(|s| s.phase == Phase::Contract)
    }

    /// What cannot be taken back, and what is lost on the way back: (title, reason).
    pub fn irreversible(&self) -> Vec<(&str, &str)> {
        let mut all = Vec::new();
        for step in self.steps.iter().filter(|s| s.phase != Phase::Purge) {
            match &step.undo {
                Undo::Irreversible { reason } => all.push((step.title.as_str(), reason.as_str())),
                Undo::Steps { lost, .. } => {
                    all.extend(lost.iter().map(|l| (step.title.as_str(), l.as_str())));
                }
                Undo::Nothing => {}
            }
        }
        all
    }
}
