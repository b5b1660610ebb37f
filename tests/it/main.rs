//! Integration tests.

mod catalog;
mod connect;
//! Integration tests: they need real servers, which `scripts/test.sh` starts.
mod cluster;
mod support;
