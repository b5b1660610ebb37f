//! What people and programs get to see. Nothing here reads the environment or the clock: styles,
//! times and streams come from the caller.

pub mod error;
pub mod fan;
pub mod lint;
pub mod log;
pub mod metrics;
pub mod out;
pub mod plan;
pub mod progress;
pub mod status;
pub mod text;
pub mod trace;
