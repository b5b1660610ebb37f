//! Integration tests: they need real servers, which `scripts/test.sh` starts.

mod allow;
mod cases;
mod catalog;
mod check;
mod cluster;
mod connect;
mod demo;
mod examples;
mod faults;
mod integrity;
mod lifecycle;
mod lint;
mod lint_fix;
mod observe;
mod points;
mod pooler;
mod promises;
mod renames;
mod retype;
mod retype_partitions;
mod retype_random;
mod saved_plan;
mod support;
mod sync_sql;
mod truth;
