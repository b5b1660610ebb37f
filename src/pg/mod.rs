//! PostgreSQL itself: connections, TLS, sessions, the catalog, probes, server errors.

pub mod catalog;
pub mod connect;
pub mod conninfo;
pub mod error;
pub mod passfile;
pub mod pooler;
pub mod probes;
mod read;
pub mod session;
pub mod sqlstate;
pub mod tls;
pub mod url;
