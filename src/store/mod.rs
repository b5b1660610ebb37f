//! The state schema `pgshift` in the target database: thin reads and writes, no decisions.

pub mod checkpoints;
pub mod events;
pub mod migrations;
pub mod overrides;
pub mod runs;
pub mod schema;
pub mod verifications;

pub use checkpoints::{Checkpoint, FailedRow};
pub use events::LogEntry;
pub use migrations::MigrationRow;
pub use overrides::Override;
pub use runs::{Lease, RunRow, StepRow, StepState};
pub use verifications::{VerifyRange, WrongRow};
