//! The same target for programs of PostgreSQL.

use super::super::conninfo::{ChannelBinding, HostName, RootCert, SslMode};
use super::Target;

impl Target {
    /// The variables that make a program of PostgreSQL (libpq) connect to this target
    /// (PostgreSQL documentation, "Environment Variables" of libpq). They hold the password: for
    /// the environment of a child process only, which other users cannot read, unlike arguments.
    pub fn libpq_environment(&self) -> Vec<(&'static str, String)> {
        let info = &self.settings.info;
        let servers = &self.settings.servers;
        let join = |part: &dyn Fn(&super::Host) -> String| {
            let parts: Vec<String> = servers.iter().map(|s| part(&s.host)).collect();
            parts.join(",")
        };
        let mut all = vec![
            (
                "PGHOST",
                join(&|h| match &h.name {
                    HostName::Tcp(name) => name.clone(),
                    HostName::Unix(folder) => folder.display().to_string(),
                    HostName::Default => String::new(),
                }),
            ),
            ("PGPORT", join(&|h| h.port.to_string())),
            ("PGUSER", self.user().to_owned()),
            ("PGDATABASE", self.dbname().to_owned()),
            ("PGAPPNAME", info.application_name.clone()),
            (
                "PGSSLMODE",
                match info.sslmode {
                    SslMode::Disable => "disable",
                    SslMode::Allow => "allow",
                    SslMode::Prefer => "prefer",
                    SslMode::Require => "require",
                    SslMode::VerifyCa => "verify-ca",
                    SslMode::VerifyFull => "verify-full",
                }
                .to_owned(),
            ),
            (
                "PGCHANNELBINDING",
                match info.channel_binding {
                    ChannelBinding::Disable => "disable",
                    ChannelBinding::Prefer => "prefer",
                    ChannelBinding::Require => "require",
                }
                .to_owned(),
            ),
        ];
        let addresses = join(&|h| h.addr.map_or(String::new(), |a| a.to_string()));
        let mut add = |name, value: Option<String>| {
            if let Some(value) = value {
                all.push((name, value));
            }
        };
        add(
            "PGHOSTADDR",
            addresses.contains(|c| c != ',').then_some(addresses),
        );
        let password = servers.iter().find_map(|s| s.password.as_ref());
        add("PGPASSWORD", password.map(|p| p.reveal().to_owned()));
        add("PGOPTIONS", info.options.clone());
        let shown = |path: &std::path::PathBuf| path.display().to_string();
        add("PGSSLCERT", info.sslcert.as_ref().map(shown));
        add("PGSSLKEY", info.sslkey.as_ref().map(shown));
        add(
            "PGSSLROOTCERT",
            info.sslrootcert.as_ref().map(|root| match root {
                RootCert::System => "system".to_owned(),
                RootCert::File(path) => shown(path),
            }),
        );
        all
    }
}
