//! PostgreSQL itself: connections, TLS, sessions, server errors.

pub mod connect;
pub mod conninfo;
pub mod error;
pub mod passfile;
pub mod session;
pub mod sqlstate;
pub mod tls;
pub mod url;
