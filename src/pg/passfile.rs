//! The password file, `~/.pgpass` (PostgreSQL documentation, 34.16).

use std::path::Path;

/// What is looked up in a password file.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// Host name or address as given, or a socket directory.
    pub host: &'a str,
    /// Port.
    pub port: u16,
    /// Database.
    pub dbname: &'a str,
    /// User.
    pub user: &'a str,
}

/// Directories that servers are built to put their socket in (upstream's and Debian's); a
/// connection through them is looked up as `localhost`.
pub(super) const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// The password of the first line that matches.
///
/// A line is `host:port:database:user:password`; `*` matches anything, `\` keeps the next
/// character from being special, `#` starts a comment line, and the password is the whole
/// rest of the line.
pub fn find(text: &str, lookup: &Lookup<'_>) -> Option<String> {
    let also_localhost = lookup.host.is_empty() || SOCKET_DIRECTORIES.contains(&lookup.host);
    let port = lookup.port.to_string();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let local = || {
                also_localhost
                    .then(|| after_field(line, "localhost"))
                    .flatten()
            };
            let rest = after_field(line, lookup.host).or_else(local)?;
            let rest = after_field(rest, &port)?;
            let rest = after_field(rest, lookup.dbname)?;
            let rest = after_field(rest, lookup.user)?;
            Some(unescape(rest))
        })
        .filter(|password| !password.is_empty())
}

/// What follows the first field and its colon, if the field matches `value`.
fn after_field<'a>(line: &'a str, value: &str) -> Option<&'a str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut wanted = value.chars();
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        let c = match c {
            ':' => return wanted.next().is_none().then(|| &line[at + 1..]),
            '\\' => chars.next()?.1,
            c => c,
        };
        if wanted.next() != Some(c) {
            return None;
        }
    }
    None
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        // A backslash at the very end stands for itself.
        out.push(if c == '\\' {
            chars.next().unwrap_or('\\')
        } else {
            c
        });
    }
    out
}

/// Reads a password file. One that is missing gives nothing; one that others may read gives
/// nothing and a warning in the log, as in libpq.
pub fn read(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    if !metadata.is_file() {
        tracing::warn!(
            "password file {} is not a plain file: not used",
            path.display()
        );
        return None;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if metadata.permissions().mode() & 0o077 != 0 {
            tracing::warn!(
                "password file {} can be read by group or others: not used; chmod 0600 it",
                path.display()
            );
            return None;
        }
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::warn!("password file {} cannot be read: {error}", path.display());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(host: &str) -> Lookup<'_> {
        Lookup {
            host,
            port: 5432,
            dbname: "shop",
            user: "app",
        }
    }

    #[test]
    fn the_first_matching_line_counts() {
        let text = "# comment\n\nother:*:*:*:no\nh:5433:*:*:no\nh:5432:shop:bob:no\n\
                    h:*:shop:app:yes\n*:*:*:*:late\n";
        assert_eq!(find(text, &at("h")).as_deref(), Some("yes"));
        assert_eq!(find(text, &at("elsewhere")).as_deref(), Some("late"));
        assert_eq!(find("h:5432:shop", &at("h")), None);
        assert_eq!(find("", &at("h")), None);
        assert_eq!(find("h:5432:shop:app:\n", &at("h")), None);
        assert_eq!(
            find("h:5432:shop:app:p\r\n", &at("h")).as_deref(),
            Some("p")
        );
    }

    #[test]
    fn a_wildcard_is_a_whole_field() {
        assert_eq!(find("*x:*:*:*:no", &at("abcx")), None);
        assert_eq!(find("h:54*:*:*:no", &at("h")), None);
    }

    #[test]
    fn a_socket_in_a_default_directory_is_localhost() {
        let text = "localhost:*:*:*:local\n/srv/pg:*:*:*:special";
        assert_eq!(
            find(text, &at("/var/run/postgresql")).as_deref(),
            Some("local")
        );
        assert_eq!(find(text, &at("/tmp")).as_deref(), Some("local"));
        assert_eq!(find(text, &at("")).as_deref(), Some("local"));
        assert_eq!(find("/tmp:*:*:*:own", &at("/tmp")).as_deref(), Some("own"));
        assert_eq!(find(text, &at("/srv/pg")).as_deref(), Some("special"));
        assert_eq!(find(text, &at("127.0.0.1")), None);
    }

    #[test]
    fn colons_and_backslashes_can_be_escaped() {
        assert_eq!(
            find(r"\:\:1:*:*:*:a\:b\\c:d", &at("::1")).as_deref(),
            Some(r"a:b\c:d")
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        use std::os::unix::fs::PermissionsExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "*:*:*:*:p").unwrap();
        let mode = |mode| {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(0o640);
        assert_eq!(read(file.path()), None);
        mode(0o600);
        assert_eq!(read(file.path()).as_deref(), Some("*:*:*:*:p"));
        assert_eq!(read(Path::new("/")), None);
        assert_eq!(read(&file.path().join("none")), None);
    }

    fn escape(text: &str) -> String {
        text.replace('\\', r"\\").replace(':', r"\:")
    }

    proptest! {
        #[test]
        fn escaped_fields_are_found(
            host in "[^\0\r\n#*]{1,10}", dbname in "[^\0\r\n]{1,10}",
            user in "[^\0\r\n]{1,10}", password in "[^\0\r\n]{1,10}", port in 1u16..,
        ) {
            let line = format!(
                "{}:{port}:{}:{}:{}\n",
                escape(&host), escape(&dbname), escape(&user), escape(&password),
            );
            let lookup = Lookup { host: &host, port, dbname: &dbname, user: &user };
            prop_assert_eq!(find(&line, &lookup), Some(password));
            let other = format!("{user}x");
            let found = find(&line, &Lookup { user: &other, ..lookup });
            prop_assert!(user == "*" || found.is_none());
        }

        #[test]
        fn no_line_panics(line in ".{0,40}") {
            let _ = find(&line, &at("h"));
        }
    }
}
