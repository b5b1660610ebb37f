//! (in construction)

pub mod catalog;
pub mod probes;
mod read;
