//! Backfills, pure: what a chunk's statement is, how large the next one should be, which ranges
//! are left, and what an error of a chunk means.

pub mod pace;
pub mod ranges;
pub mod sample;
pub mod sizer;
pub mod spec;
pub mod stripes;
pub mod vacuum;
pub mod verify;

pub use pace::Pace;
pub use ranges::{BlockRange, split_blocks, watermark};
pub use sizer::{Aim, CHUNK_AIM, ChunkSizer, FULL_DUTY_AIM, chunk_aim};
pub use spec::{BackfillSpec, KeyColumn, Strategy, Verb};
pub use stripes::{Horizon, Stripe, Stripes, Window};
pub use vacuum::Vacuum;
pub use verify::{Side, VerifySpec};

use std::time::Duration;

/// `lock_timeout` of a chunk. Far below `deadlock_timeout` (1 s by default), so that a deadlock
/// between a chunk and the application is always resolved by the chunk giving way.
pub const CHUNK_LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// `idle_in_transaction_session_timeout` of a chunk: a runner that is frozen in mid-chunk
/// (SIGSTOP, a suspended machine) loses its transaction and its row locks after this time.
pub const CHUNK_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// What the executor does about an error of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkFailure {
    /// Another session was in the way: try again, smaller, after a jittered pause.
    Retry,
    /// A row's data is at fault: find the row.
    Bisect,
    /// The connection is gone or going: read the server's state anew.
    Reconnect,
    /// Nothing that trying again would mend.
    Stop,
}

/// Judges the SQLSTATE of a failed chunk (PostgreSQL docs, appendix A).
pub fn judge_chunk_failure(sqlstate: &str) -> ChunkFailure {
    match sqlstate {
        // lock_not_available, deadlock_detected, serialization_failure
        "55P03" | "40P01" | "40001" => ChunkFailure::Retry,
        // idle_in_transaction_session_timeout ends the session; admin_shutdown and its kin too
        "25P03" | "57P01" | "57P02" | "57P03" | "57P05" => ChunkFailure::Reconnect,
        code if code.starts_with("08") => ChunkFailure::Reconnect,
        // data exception, integrity constraint, RAISE in a trigger, WITH CHECK OPTION
        code if ["22", "23", "P0", "44"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            ChunkFailure::Bisect
        }
        _ => ChunkFailure::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_judged_by_sqlstate() {
        for (code, wanted) in [
            ("55P03", ChunkFailure::Retry),
            ("40P01", ChunkFailure::Retry),
            ("22012", ChunkFailure::Bisect),
            ("23514", ChunkFailure::Bisect),
            ("P0001", ChunkFailure::Bisect),
            ("08006", ChunkFailure::Reconnect),
            ("57P01", ChunkFailure::Reconnect),
            ("25P03", ChunkFailure::Reconnect),
            ("42703", ChunkFailure::Stop),
            ("53100", ChunkFailure::Stop),
        ] {
            assert_eq!(judge_chunk_failure(code), wanted, "{code}");
        }
    }
}
