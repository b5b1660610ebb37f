//! A private PostgreSQL cluster: for `pgshift demo` and for the project's own tests.
//!
//! [`binaries`] finds the server programs, [`cluster`] runs a primary and streaming standbys
//! under a temporary directory, and leaves nothing behind.

mod account;
pub mod binaries;
pub mod cluster;
pub mod server;
mod watchdog;

pub use binaries::{Binaries, Search, Version};
pub use cluster::{Cluster, ClusterOptions};
pub use server::{Server, StopMode};
