//! Table lock modes and which of them conflict.
//!
//! Source: PostgreSQL documentation, "13.3.1 Table-Level Locks" and its table 13.2; the same in
//! 14 to 18.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sql::RelName;

/// A table-level lock mode. Ordered by strength, as the documentation lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockMode {
    /// Taken by SELECT.
    AccessShare,
    /// Taken by SELECT … FOR UPDATE and the like.
    RowShare,
    /// Taken by INSERT, UPDATE, DELETE, MERGE.
    RowExclusive,
    /// Taken by VACUUM, ANALYZE, CREATE INDEX CONCURRENTLY, VALIDATE CONSTRAINT.
    ShareUpdateExclusive,
    /// Taken by CREATE INDEX.
    Share,
    /// Taken by CREATE TRIGGER and ADD FOREIGN KEY.
    ShareRowExclusive,
    /// Taken by REFRESH MATERIALIZED VIEW CONCURRENTLY.
    Exclusive,
    /// Taken by DROP TABLE, TRUNCATE, VACUUM FULL and most forms of ALTER TABLE.
    AccessExclusive,
}

impl LockMode {
    /// All modes, weakest first.
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];

    /// The mode's name as in SQL: `ACCESS EXCLUSIVE`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// The mode's name in `pg_locks.mode`: `AccessExclusiveLock`.
    pub const fn pg_locks_name(self) -> &'static str {
        match self {
            Self::AccessShare => "AccessShareLock",
            Self::RowShare => "RowShareLock",
            Self::RowExclusive => "RowExclusiveLock",
            Self::ShareUpdateExclusive => "ShareUpdateExclusiveLock",
            Self::Share => "ShareLock",
            Self::ShareRowExclusive => "ShareRowExclusiveLock",
            Self::Exclusive => "ExclusiveLock",
            Self::AccessExclusive => "AccessExclusiveLock",
        }
    }

    /// The weakest mode that conflicts with this one. Conflicts are nearly a threshold: all
    /// stronger modes conflict too, but for SHARE, which does not conflict with itself.
    const fn threshold(self) -> Self {
        match self {
            Self::AccessShare => Self::AccessExclusive,
            Self::RowShare => Self::Exclusive,
            Self::RowExclusive => Self::Share,
            Self::ShareUpdateExclusive => Self::ShareUpdateExclusive,
            Self::Share | Self::ShareRowExclusive => Self::RowExclusive,
            Self::Exclusive => Self::RowShare,
            Self::AccessExclusive => Self::AccessShare,
        }
    }

    /// True where INSERT, UPDATE and DELETE wait for this lock, and it for them.
    pub fn blocks_writes(self) -> bool {
        conflicts(self, Self::RowExclusive)
    }

    /// True where SELECT waits for this lock, and it for them.
    pub fn blocks_reads(self) -> bool {
        conflicts(self, Self::AccessShare)
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// True where two transactions cannot hold `a` and `b` on one table at the same time.
pub fn conflicts(a: LockMode, b: LockMode) -> bool {
    b >= a.threshold() && !(a == LockMode::Share && b == LockMode::Share)
}

/// A lock that a statement takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOn {
    /// The relation, with its schema where the catalog knows it; `None` where the statement does
    /// not say (an opaque statement): take it for any table.
    pub relation: Option<RelName>,
    /// The mode.
    pub mode: LockMode,
}

impl fmt::Display for LockOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.relation {
            Some(relation) => write!(f, "{} on {relation}", self.mode),
            None => write!(f, "{} on unknown tables", self.mode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table 13.2, as printed: rows are the requested mode, columns the held one, X a conflict.
    const DOCUMENTED: [&str; 8] = [
        ".......X", "......XX", "....XXXX", "...XXXXX", "..XX.XXX", "..XXXXXX", ".XXXXXXX",
        "XXXXXXXX",
    ];

    #[test]
    fn conflicts_are_those_of_the_documentation() {
        for (row, a) in DOCUMENTED.iter().zip(LockMode::ALL) {
            for (cell, b) in row.chars().zip(LockMode::ALL) {
                assert_eq!(conflicts(a, b), cell == 'X', "{a} against {b}");
            }
        }
    }

    #[test]
    fn conflicts_are_symmetric() {
        for a in LockMode::ALL {
            for b in LockMode::ALL {
                assert_eq!(conflicts(a, b), conflicts(b, a), "{a} against {b}");
            }
        }
    }

    #[test]
    fn what_blocks_whom() {
        let writes: Vec<_> = LockMode::ALL
            .into_iter()
            .filter(|m| m.blocks_writes())
            .collect();
        assert_eq!(writes, LockMode::ALL[4..]);
        let reads: Vec<_> = LockMode::ALL
            .into_iter()
            .filter(|m| m.blocks_reads())
            .collect();
        assert_eq!(reads, [LockMode::AccessExclusive]);
    }

    #[test]
    fn order_display_and_serde() {
        assert!(LockMode::ALL.is_sorted());
        assert_eq!(LockMode::AccessExclusive.to_string(), "ACCESS EXCLUSIVE");
        assert_eq!(
            serde_json::to_string(&LockMode::ShareUpdateExclusive).unwrap(),
            "\"share_update_exclusive\""
        );
        assert_eq!(LockMode::Share.pg_locks_name(), "ShareLock");
    }
}
