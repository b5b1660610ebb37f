//! Planning: from a migration file and a catalog to a reviewed list of steps.
//!
//! Pure: the catalog is a value, and the questions that only the server can answer are values too
//! ([`probe`]).

pub mod backfills;
mod bound;
pub mod build;
mod contract;
pub mod cost;
pub mod draft;
mod expand;
mod fill;
pub mod fix;
mod follow;
pub mod forms;
pub mod inverse;
pub mod locks;
pub mod objects;
mod plain;
pub mod probe;
pub mod rename;
pub mod retype;
mod revert;
pub mod safe;
pub mod sections;
mod statements;
pub mod step;
pub mod sync;
mod targets;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod title;
pub mod trial;
pub mod work;

pub use build::build;
pub use draft::{Draft, wanted};
pub use fill::{Fill, FillFrom};
pub use objects::{WantedObjects, wanted_objects};
pub use revert::{first_change, revert_steps};
pub use step::{Estimate, PLAN_FORMAT, PartOf, Phase, Plan, Step, Undo, Work};
