//! Integration tests.

mod catalog;
mod connect;
