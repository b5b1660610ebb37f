//! Integration tests: they need real servers, which `scripts/test.sh` starts.

mod catalog;
mod cluster;
mod connect;
mod support;
mod sync_sql;
