//! Integration tests: they need real servers, which `scripts/test.sh` starts.

mod catalog;
mod cluster;
mod connect;
mod demo;
mod saved_plan;
mod support;
