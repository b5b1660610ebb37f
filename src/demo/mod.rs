//! A private PostgreSQL cluster: for `pgshift demo` and for the project's own tests.
//!
//! [`binaries`] finds the server programs, [`cluster`] runs a primary and streaming standbys
//! under a temporary directory, and leaves nothing behind. [`run()`] is the demo: an application
//! on such a cluster, and this program migrating its table under it.

mod account;
pub mod binaries;
mod child;
pub mod cluster;
mod monitor;
mod report;
mod run;
mod scene;
pub mod server;
mod shop;
mod traffic;
mod watch;
mod watchdog;

pub use binaries::{Binaries, Search, Version};
pub use cluster::{Cluster, ClusterOptions};
pub use report::{Application, Backfill, Report, Standby, WrongRows};
pub use run::{DemoOptions, run};
pub use server::{Server, StopMode};
pub use traffic::Window;
