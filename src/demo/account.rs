//! Which operating system user the servers run as: PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};

/// A user to drop privileges to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account that servers under `dir` run as: `None` (our own) unless we are root.
    /// `dir` must have been created by this process; its owner tells who we are.
    pub(super) fn for_servers(dir: &Path) -> Result<Option<Self>> {
        let owner = fs::metadata(dir)
            .map_err(|e| Error::usage(format!("{}: {e}", dir.display())).caused_by(e))?
            .uid();
        if owner != 0 {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::choose(&passwd).map(Some).ok_or_else(|| {
            Error::usage("PostgreSQL does not run as root, and there is no user to run it as")
                .hint("run this command as another user, or add a user named `postgres`")
        })
    }

    /// `postgres`, else `nobody`.
    fn choose(passwd: &str) -> Option<Self> {
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Self::parse(passwd, name))
    }

    /// Finds a user that is not root in the text of `/etc/passwd` (passwd(5)).
    fn parse(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            (uid != 0).then(|| Self {
                name: name.to_owned(),
                uid,
                gid,
            })
        })
    }

    /// Gives one file or folder to the account.
    pub(super) fn own(account: Option<&Self>, path: &Path) -> Result<()> {
        let Some(account) = account else {
            return Ok(());
        };
        chown(path, Some(account.uid), Some(account.gid)).map_err(|e| {
            Error::usage(format!(
                "{} cannot be given to user {}: {e}",
                path.display(),
                account.name
            ))
            .caused_by(e)
        })
    }

    /// Makes a command run as the account. The standard library drops the supplementary groups
    /// too where it changes the user as root.
    pub(super) fn apply(account: Option<&Self>, command: &mut Command) {
        if let Some(account) = account {
            command.uid(account.uid).gid(account.gid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        broken line\n\
        nobody:x:65534:65533:nobody:/nonexistent:/usr/sbin/nologin\n\
        postgres2:x:7:7::/:/bin/sh\n";

    #[test]
    fn prefers_postgres_then_nobody() {
        let nobody = Account::choose(PASSWD).unwrap();
        assert_eq!(
            (nobody.name.as_str(), nobody.uid, nobody.gid),
            ("nobody", 65534, 65533)
        );
        let with = format!("{PASSWD}postgres:x:101:104:admin,,,:/var/lib/postgresql:/bin/bash\n");
        let postgres = Account::choose(&with).unwrap();
        assert_eq!(
            (postgres.name.as_str(), postgres.uid, postgres.gid),
            ("postgres", 101, 104)
        );
    }

    #[test]
    fn never_root() {
        assert_eq!(Account::choose("postgres:x:0:0::/:/bin/sh\n"), None);
        assert_eq!(Account::choose(""), None);
    }
}
