//! Planning: from a migration file and a catalog to a reviewed list of steps.
//!
//! Pure: the catalog is a value, and the questions that only the server can answer are values too
//! ([`probe`]).

pub mod step;
pub mod sync;

pub use step::{Estimate, PLAN_FORMAT, Phase, Plan, Step, Undo, Work};
