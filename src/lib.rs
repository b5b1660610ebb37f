//! pgshift: zero-downtime PostgreSQL migrations.
//!
//! Plain SQL in the expand/contract form becomes a reviewed plan, and the plan becomes short,
//! lock-guarded steps and batched backfills whose checkpoints are committed with the data.
//!
//! The crate is a pure core with a thin IO shell. Imports go up only, in this order:
//!
//! - **base**: [`error`]
//! - **pure**: [`sql`], [`migration`], [`lock`], [`catalog`], [`plan`], [`lint`],
//!   [`backfill`], [`throttle`], [`retry`], [`run`], [`event`], [`fill`], [`snapshot`]
//! - **IO**: [`pg`], [`fault`], [`store`], [`exec`]
//! - **edge**: [`report`], [`demo`], [`check`], [`cli`]
//!
//! `tests/layers.rs` enforces it.

pub mod error;

pub mod backfill;
pub mod catalog;
pub mod event;
pub mod fill;
pub mod lint;
pub mod lock;
pub mod migration;
pub mod plan;
pub mod retry;
pub mod run;
pub mod snapshot;
pub mod sql;
pub mod throttle;

pub mod exec;
pub mod fault;
pub mod pg;
pub mod store;

pub mod check;
pub mod cli;
pub mod demo;
pub mod report;

pub use error::{Error, ErrorKind, Result};
