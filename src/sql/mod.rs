//! SQL text: where it is, how it is split, quoted and understood.
//!
//! The text that runs is always the author's or text that the plan shows; nothing here
//! re-renders a parsed statement. This module is the sole importer of `sqlparser`.

pub mod ddl;
pub mod dml;
pub mod lex;
pub mod mapped;
pub mod quote;
pub mod source;
pub mod split;

pub use ddl::RelName;
pub use source::{Diagnostic, Label, Source, Span};
