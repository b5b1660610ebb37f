//! What the process's surroundings say: variables, home directory, local sockets.

use std::path::{Path, PathBuf};

use crate::pg::conninfo::HostName;
use crate::pg::passfile;

/// An environment variable. The one place below the command line that reads the environment.
#[expect(
    clippy::disallowed_methods,
    reason = "libpq's variables are part of how a connection is named; everything else gets them passed"
)]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(super) fn home(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let variable = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
    env(variable)
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}

pub(super) fn default_passfile(
    home: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(PathBuf::from(env("APPDATA")?).join("postgresql/pgpass.conf"));
    }
    home.map(|home| home.join(".pgpass"))
}

/// The local server as libpq finds it: the socket, where there is one, else `localhost`.
pub(super) fn local_server(port: u16) -> HostName {
    passfile::SOCKET_DIRECTORIES
        .iter()
        .map(Path::new)
        .find(|directory| directory.join(format!(".s.PGSQL.{port}")).exists())
        .filter(|_| cfg!(unix))
        .map_or_else(
            || HostName::Tcp("localhost".to_owned()),
            |directory| HostName::Unix(directory.to_owned()),
        )
}
