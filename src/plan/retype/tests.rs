//! Changes of type.
