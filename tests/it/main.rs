//! Integration tests: they need real servers, which `scripts/test.sh` starts.

mod cluster;
mod support;
