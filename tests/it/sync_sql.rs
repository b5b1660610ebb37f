//! What the planner generates, on a real server: migrations planned against a live catalog, their
//! sync triggers under the writes of old and new application versions, their chunks, their checks.

mod cases;
mod lab;
mod random;
