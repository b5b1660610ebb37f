//! Where the PostgreSQL server programs are.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};

/// The oldest major that pgshift works with: TID range scans came with it.
pub const OLDEST: u32 = 14;
/// The newest major that pgshift is tested with.
pub const NEWEST: u32 = 18;

/// A server version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 17 of 17.10.
    pub major: u32,
    /// 10 of 17.10; 0 for a development or beta version.
    pub minor: u32,
}

impl Version {
    /// Reads the output of `postgres --version`, such as
    /// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 19beta1`.
    fn parse(output: &str) -> Option<Self> {
        let (_, rest) = output.split_once("(PostgreSQL)")?;
        let number = rest.split_whitespace().next()?;
        let digits =
            |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
        let (major, minor) = number.split_once('.').unwrap_or((number, "0"));
        Some(Self {
            major: digits(major).parse().ok()?,
            minor: digits(minor).parse().unwrap_or(0),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A folder with `initdb` and `postgres`, and their version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder.
    pub dir: PathBuf,
    /// What `postgres --version` says.
    pub version: Version,
}

impl Binaries {
    /// The path of one program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Looks into one folder; `Err` is a reason that fits after `folder: `.
    fn probe(dir: &Path) -> Result<Self, String> {
        for name in ["initdb", "postgres"] {
            if !dir.join(name).is_file() {
                return Err(format!("has no `{name}`"));
            }
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("`postgres` does not run: {e}"))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let mut reason = format!(
                "`postgres` does not run: {}",
                stderr.lines().next().unwrap_or("no message").trim()
            );
            // npm drops symbolic links from packages; this package brings a list of its own
            // and a script that makes them after the installation, if scripts are allowed.
            if dir.with_file_name("pg-symlinks.json").is_file() {
                reason.push_str(
                    "; in the package's folder run `node scripts/hydrate-symlinks.js`, \
                     which makes the links to its libraries",
                );
            }
            return Err(reason);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&text)
            .ok_or_else(|| format!("`postgres --version` says {:?}", text.trim()))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            version,
        })
    }
}

/// Where to look for server programs, and for which major.
///
/// ```no_run
/// # fn main() -> pgshift::Result<()> {
/// let binaries = pgshift::demo::Search::new().major(Some(17)).find()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Search {
    explicit: Option<(PathBuf, &'static str)>,
    major: Option<u32>,
    path: OsString,
    current: PathBuf,
    root: PathBuf,
}

impl Default for Search {
    fn default() -> Self {
        Self::new()
    }
}

impl Search {
    /// Looks in `PATH`, the folders where packages put PostgreSQL, and the npm packages
    /// installed in the current folder or above it.
    pub fn new() -> Self {
        Self {
            explicit: None,
            major: None,
            path: std::env::var_os("PATH").unwrap_or_default(),
            current: std::env::current_dir().unwrap_or_default(),
            root: PathBuf::from("/"),
        }
    }

    /// Looks into this folder only (an option of the command line). Wins over
    /// [`env_dir`](Self::env_dir).
    #[must_use]
    pub fn dir(mut self, dir: Option<PathBuf>) -> Self {
        if let Some(dir) = dir {
            self.explicit = Some((dir, "the folder asked for"));
        }
        self
    }

    /// Looks into this folder only: the value of `PGSHIFT_PG_BIN`, which the caller reads.
    #[must_use]
    pub fn env_dir(mut self, dir: Option<PathBuf>) -> Self {
        if let (Some(dir), None) = (dir, &self.explicit) {
            self.explicit = Some((dir, "PGSHIFT_PG_BIN"));
        }
        self
    }

    /// Accepts this major only. Without it the first supported one is taken, and among folders
    /// of several majors the newest.
    #[must_use]
    pub fn major(mut self, major: Option<u32>) -> Self {
        self.major = major;
        self
    }

    /// Finds them.
    ///
    /// # Errors
    /// `Usage`, naming every place that was looked at and how to install PostgreSQL.
    pub fn find(&self) -> Result<Binaries> {
        if let Some((dir, source)) = &self.explicit {
            let refuse = |reason: String| {
                Error::usage(format!("{source}: {}: {reason}", dir.display()))
                    .hint("name the folder that has PostgreSQL's `initdb` and `postgres`")
            };
            let found = Binaries::probe(dir).map_err(refuse)?;
            return match self.major {
                Some(major) if major != found.version.major => Err(refuse(format!(
                    "PostgreSQL {}, and {major} was asked for",
                    found.version
                ))),
                None if found.version.major < OLDEST => Err(refuse(format!(
                    "PostgreSQL {} is too old: {OLDEST} is the oldest that works",
                    found.version
                ))),
                _ => Ok(found),
            };
        }
        let mut rejected = Vec::new();
        for dir in self.candidates() {
            match Binaries::probe(&dir) {
                Ok(found) if self.accepts(found.version.major) => return Ok(found),
                Ok(found) => {
                    rejected.push(format!("{}: PostgreSQL {}", dir.display(), found.version));
                }
                Err(reason) => rejected.push(format!("{}: {reason}", dir.display())),
            }
        }
        Err(self.not_found(&rejected))
    }

    fn accepts(&self, major: u32) -> bool {
        self.major
            .map_or((OLDEST..=NEWEST).contains(&major), |asked| asked == major)
    }

    fn not_found(&self, rejected: &[String]) -> Error {
        let wanted = self.major.map_or_else(
            || format!("PostgreSQL {OLDEST} to {NEWEST}"),
            |major| format!("PostgreSQL {major}"),
        );
        let mut message = format!(
            "no server programs of {wanted} found; looked for `initdb` in PATH, with \
             `pg_config --bindir`, in {}, and in node_modules/{}",
            SYSTEM_FOLDERS.map(|f| format!("/{f}")).join(", "),
            npm_package(),
        );
        if !rejected.is_empty() {
            message.push_str("; found, but not fit: ");
            message.push_str(&rejected.join("; "));
        }
        let major = self.major.unwrap_or(NEWEST);
        Error::usage(message).hint(format!(
            "install PostgreSQL: `apt-get install postgresql` (Debian, Ubuntu), `dnf install \
             postgresql-server` (Fedora), `brew install postgresql@{major}` (macOS), or without \
             root `npm install {}`; or set PGSHIFT_PG_BIN to the folder that has `initdb`",
            npm_package(),
        ))
    }

    /// Folders that have an `initdb`, best first, each once.
    fn candidates(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        let mut add = |dir: PathBuf| {
            if dir.join("initdb").is_file() && !found.contains(&dir) {
                found.push(dir);
            }
        };
        let mut configs = Vec::new();
        for dir in std::env::split_paths(&self.path) {
            // A link in PATH points to where the other programs are.
            if let Ok(real) = fs::canonicalize(dir.join("initdb")) {
                add(real.parent().map_or(dir.clone(), Path::to_path_buf));
            }
            configs.push(dir.join("pg_config"));
        }
        configs.iter().filter_map(|c| bindir(c)).for_each(&mut add);
        for folder in SYSTEM_FOLDERS {
            newest_first(&self.root, folder)
                .into_iter()
                .for_each(&mut add);
        }
        for dir in self.current.ancestors() {
            add(dir
                .join("node_modules")
                .join(npm_package())
                .join("native/bin"));
        }
        found
    }
}

/// Where packages put server programs; `*` stands for one folder that names the major.
/// Debian, the PostgreSQL project's RPMs, Homebrew on arm64 and x86-64, Postgres.app.
const SYSTEM_FOLDERS: [&str; 5] = [
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
];

/// The npm package that has server programs for this platform.
fn npm_package() -> String {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("@embedded-postgres/{os}-{arch}")
}

/// Asks one `pg_config` for the folder of the programs.
fn bindir(pg_config: &Path) -> Option<PathBuf> {
    if !pg_config.is_file() {
        return None;
    }
    let output = Command::new(pg_config)
        .arg("--bindir")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| PathBuf::from(text))
}

/// Folders under `root` that match `pattern`, whose one `*` is a number, highest number first.
fn newest_first(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else {
        return Vec::new();
    };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let parent = root.join(parent);
    let Ok(entries) = fs::read_dir(&parent) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let major = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
            let dir = parent.join(&name).join(after.trim_start_matches('/'));
            Some((major, dir))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, dir)| dir).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A program. A shell writes it: a test thread that starts a process at the wrong moment
    /// would hand it our descriptor, and a file that is open for writing cannot be run.
    fn script(path: &Path, body: &str) {
        let status = Command::new("sh")
            .args([
                "-c",
                r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod 755 "$1""#,
                "sh",
            ])
            .args([path.as_os_str(), body.as_ref()])
            .status();
        assert!(status.unwrap().success());
    }

    /// A folder with programs that claim to be this version.
    fn fake(dir: &Path, version: &str) -> PathBuf {
        fs::create_dir_all(dir).unwrap();
        for name in ["initdb", "postgres"] {
            script(
                &dir.join(name),
                &format!("echo 'postgres (PostgreSQL) {version}'"),
            );
        }
        dir.to_path_buf()
    }

    fn search(root: &Path, path: &[&Path]) -> Search {
        Search {
            explicit: None,
            major: None,
            path: std::env::join_paths(path).unwrap(),
            current: root.join("project/deep"),
            root: root.to_path_buf(),
        }
    }

    #[test]
    fn reads_versions() {
        let parse = |text| Version::parse(text).map(|v| (v.major, v.minor));
        assert_eq!(
            parse("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some((15, 18))
        );
        assert_eq!(parse("postgres (PostgreSQL) 19beta1"), Some((19, 0)));
        assert_eq!(parse("postgres (PostgreSQL) 18devel"), Some((18, 0)));
        assert_eq!(parse("mysqld 8"), None);
    }

    #[test]
    fn takes_the_newest_supported_system_folder() {
        let root = tempfile::tempdir().unwrap();
        for (major, version) in [
            ("9.6", "9.6.1"),
            ("13", "13.1"),
            ("16", "16.2"),
            ("99", "99.0"),
        ] {
            fake(
                &root.path().join(format!("usr/lib/postgresql/{major}/bin")),
                version,
            );
        }
        let found = search(root.path(), &[]).find().unwrap();
        assert_eq!((found.version.major, found.version.minor), (16, 2));
        assert!(found.dir.ends_with("usr/lib/postgresql/16/bin"));
    }

    #[test]
    fn path_wins_and_a_link_leads_to_its_folder() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("usr/lib/postgresql/18/bin"), "18.1");
        let real = fake(&root.path().join("somewhere/bin"), "15.3");
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        symlink(real.join("initdb"), bin.join("initdb")).unwrap();
        let search = search(root.path(), &[&bin]);
        assert_eq!(search.find().unwrap().version.major, 15);
        assert_eq!(search.major(Some(18)).find().unwrap().version.major, 18);
    }

    #[test]
    fn asks_pg_config() {
        let root = tempfile::tempdir().unwrap();
        let real = fake(&root.path().join("odd/place"), "17.1");
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        script(
            &bin.join("pg_config"),
            &format!("echo '{}'", real.display()),
        );
        assert_eq!(search(root.path(), &[&bin]).find().unwrap().dir, real);
    }

    #[test]
    fn finds_npm_packages_above_the_current_folder() {
        let root = tempfile::tempdir().unwrap();
        let package = root.path().join("project/node_modules").join(npm_package());
        let dir = fake(&package.join("native/bin"), "14.23");
        assert_eq!(search(root.path(), &[]).find().unwrap().dir, dir);
    }

    #[test]
    fn says_where_it_looked_and_what_did_not_fit() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("usr/pgsql-13/bin"), "13.9");
        let error = search(root.path(), &[]).find().unwrap_err();
        assert!(error.message().contains("PostgreSQL 14 to 18"), "{error}");
        assert!(
            error.message().contains("/usr/lib/postgresql/*/bin"),
            "{error}"
        );
        assert!(
            error
                .message()
                .contains("usr/pgsql-13/bin: PostgreSQL 13.9"),
            "{error}"
        );
        let hint = error.what_next().unwrap();
        assert!(hint.contains("apt-get install postgresql"), "{hint}");
        assert!(hint.contains("PGSHIFT_PG_BIN"), "{hint}");
    }

    #[test]
    fn an_explicit_folder_is_never_replaced_by_another() {
        let root = tempfile::tempdir().unwrap();
        fake(&root.path().join("usr/lib/postgresql/17/bin"), "17.1");
        let old = fake(&root.path().join("old"), "13.1");
        let new = fake(&root.path().join("new"), "99.0");
        let search = || search(root.path(), &[]);

        let error = search()
            .dir(Some(root.path().join("nothing")))
            .find()
            .unwrap_err();
        assert!(error.message().contains("has no `initdb`"), "{error}");
        let error = search().env_dir(Some(old.clone())).find().unwrap_err();
        assert!(error.message().starts_with("PGSHIFT_PG_BIN: "), "{error}");
        assert!(error.message().contains("13.1 is too old"), "{error}");
        let error = search()
            .dir(Some(new.clone()))
            .major(Some(17))
            .find()
            .unwrap_err();
        assert!(error.message().contains("17 was asked for"), "{error}");

        let found = search()
            .dir(Some(new.clone()))
            .env_dir(Some(old))
            .find()
            .unwrap();
        assert_eq!(found.dir, new);
    }

    #[test]
    fn programs_that_lack_their_libraries_are_explained() {
        let root = tempfile::tempdir().unwrap();
        let native = root
            .path()
            .join("project/node_modules")
            .join(npm_package())
            .join("native");
        let dir = fake(&native.join("bin"), "14.1");
        fs::write(native.join("pg-symlinks.json"), "[]").unwrap();
        script(
            &dir.join("postgres"),
            "echo 'libicu is missing' >&2; exit 127",
        );
        let error = search(root.path(), &[]).find().unwrap_err();
        assert!(error.message().contains("libicu is missing"), "{error}");
        assert!(error.message().contains("hydrate-symlinks.js"), "{error}");
    }
}
