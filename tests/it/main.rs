//! Integration tests.

mod catalog;
