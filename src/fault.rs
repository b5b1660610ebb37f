//! Fault points: places around every durable write at which a test ends the process, or takes the
//! server's reply away.
//!
//! Without the feature `fault-points` nothing of it is compiled: `around` gives the write back
//! as it is. With it, two environment variables are read:
//!
//! - `PGSHIFT_FAULT=chunk.before:3` has the fault at the third passing of a point (`:1` may be
//!   left out);
//! - `PGSHIFT_FAULT_RECORD=FILE` appends the name of every point that is passed to a file.

/// Declares [`Write`] and the one list of them.
macro_rules! writes {
    ($($variant:ident $name:literal $what:literal;)*) => {
        /// A durable write of a run: a COMMIT, or a statement that is a transaction of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Write {
            $(#[doc = $what] $variant,)*
        }

        impl Write {
            /// All of them, in the order in which a run comes to them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, as in a point's.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What is written.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what,)* }
            }
        }
    };
}

writes! {
    StateUpgrade "state_upgrade" "the state schema is installed or upgraded";
    LeaseLock "lease_lock" "the advisory lock of a migration is taken";
    RunOpen "run_open" "a run is opened: the migration's state, its plan, the run's steps";
    Epoch "epoch" "the epoch of a run is raised";
    Lease "lease" "the row of the lease is written";
    RunBegun "run_begun" "why the run stopped the last time is forgotten";
    Event "event" "an event that has no transaction to be part of";
    StepIntent "step_intent" "the intent to do a step";
    StepDdl "step_ddl" "a step's statements, its record and its event";
    Concurrent "concurrent" "an index is built or dropped outside of a transaction";
    Leftover "leftover" "an unfinished index is dropped";
    FailedRows "failed_rows" "rows that failed before are forgotten, to be tried again";
    Ranges "ranges" "the ranges of a backfill";
    Chunk "chunk" "the rows of a chunk and its checkpoint";
    VerifyBegun "verify_begun" "a verify is begun";
    VerifyRelation "verify_relation" "a verify begins with a relation";
    VerifyRange "verify_range" "a range of a verify and the wrong rows in it";
    VerifyEnd "verify_end" "a verify is at its end";
    StepRecord "step_record" "the record and event of a step without a transaction of its own";
    Heartbeat "heartbeat" "a sign of life";
    RunClose "run_close" "the end of a run and the migration's new state";
    LeaseRelease "lease_release" "the row of the lease is deleted";
    RepairChunk "repair_chunk" "rows that are mended, and what became of each";
    RepairLook "repair_look" "what was found when mended rows were looked at again";
    Said "said" "what a person says to a run (a pause, a limit), and the event of it";
}

impl Write {
    /// Those of other commands than the ones that execute steps.
    pub const OUTSIDE: &[Self] = &[Self::RepairChunk, Self::RepairLook, Self::Said];
}

/// What is done to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The process ends before it: the server rolls back what was not committed.
    Before,
    /// The server has done it, its reply is lost, and the process lives on.
    Unlearned,
    /// The server has done it and the process ends, before it does anything else.
    After,
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Before, Self::Unlearned, Self::After];

    /// The name, as in a point's.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Unlearned => "unlearned",
            Self::After => "after",
        }
    }
}

/// Names of all points: `WRITE.SIDE`.
pub fn points() -> impl Iterator<Item = String> {
    Write::ALL.iter().flat_map(|write| {
        let name = write.name();
        Side::ALL.map(|side| format!("{name}.{}", side.name()))
    })
}

/// A durable write with its points.
#[cfg(not(feature = "fault-points"))]
#[inline]
pub(crate) fn around<F: Future>(_: Write, work: F) -> F {
    work
}

#[cfg(feature = "fault-points")]
pub(crate) use on::around;

#[cfg(feature = "fault-points")]
mod on {
    use std::collections::BTreeMap;
    use std::fs::OpenOptions;
    use std::io::Write as _;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use super::{Side, Write, points};
    use crate::error::{Error, Result};
    use crate::pg::connect::environment;

    /// The fault that was asked for.
    struct Fault {
        point: String,
        passing: u64,
    }

    static FAULT: LazyLock<Option<Fault>> = LazyLock::new(|| {
        let asked = environment("PGSHIFT_FAULT")?;
        let (point, passing) = asked.split_once(':').unwrap_or((&asked, "1"));
        let passing = passing.parse().ok().filter(|n| *n > 0);
        let (true, Some(passing)) = (points().any(|name| name == point), passing) else {
            // A test that asks for what is not there must not pass.
            tracing::error!("PGSHIFT_FAULT={asked}: no such point");
            std::process::abort();
        };
        Some(Fault {
            point: point.to_owned(),
            passing,
        })
    });

    static PASSED: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

    /// Notes that a point is passed; true where the fault is due.
    fn due(write: Write, side: Side) -> bool {
        let point = format!("{}.{}", write.name(), side.name());
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        let times = passed.entry(point.clone()).or_default();
        *times += 1;
        if let Some(path) = environment("PGSHIFT_FAULT_RECORD") {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            // One write a line: other processes append to the file too.
            let noted = file.and_then(|mut file| file.write_all(format!("{point}\n").as_bytes()));
            if let Err(error) = noted {
                tracing::error!("PGSHIFT_FAULT_RECORD={path}: {error}");
                std::process::abort();
            }
        }
        FAULT
            .as_ref()
            .is_some_and(|fault| fault.point == point && fault.passing == *times)
    }

    /// A durable write with its points.
    pub(crate) async fn around<T>(
        write: Write,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if due(write, Side::Before) {
            std::process::abort();
        }
        let result = work.await?;
        if due(write, Side::Unlearned) {
            return Err(Error::connection(format!(
                "the reply was lost (fault point {}.unlearned)",
                write.name()
            )));
        }
        if due(write, Side::After) {
            std::process::abort();
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: BTreeSet<String> = points().collect();
        assert_eq!(names.len(), Write::ALL.len() * Side::ALL.len());
        for write in Write::ALL {
            assert!(!write.what().is_empty());
        }
    }
}
