//! The pure parts of the benchmark (`benches/backfill`): its statistics, pages and plots.
#![allow(dead_code, reason = "the benchmark itself uses the rest")]

#[path = "../benches/backfill/bars.rs"]
mod bars;
#[path = "../benches/backfill/contenders.rs"]
mod contenders;
#[path = "../benches/backfill/figures.rs"]
mod figures;
#[path = "../benches/backfill/markdown.rs"]
mod markdown;
#[path = "../benches/backfill/procs.rs"]
mod procs;
#[path = "../benches/backfill/stats.rs"]
mod stats;
#[path = "../benches/backfill/svg.rs"]
mod svg;
#[path = "../benches/backfill/tables.rs"]
mod tables;
