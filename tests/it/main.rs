//! Integration tests.

mod connect;
