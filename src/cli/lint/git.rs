//! What git says has changed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result};

/// Files that are new or changed, in the work tree too, since the place where this branch left
/// `revision`; absolute, links resolved.
///
/// # Errors
/// No git, no repository, no such revision.
pub(super) fn changed(revision: &str) -> Result<BTreeSet<PathBuf>> {
    if revision.starts_with('-') || revision.is_empty() {
        return Err(Error::usage(format!("`{revision}` is no git revision")));
    }
    let top = text(&git(&["rev-parse", "--show-toplevel"]).map_err(|e| {
        e.context("--since needs a git repository")
            .hint("run it in the repository of the migrations, or leave --since out")
    })?);
    let commit = format!("{revision}^{{commit}}");
    git(&[
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &commit,
    ])
    .map_err(|_| {
        Error::usage(format!("git knows no revision `{revision}`"))
            .hint("in CI, fetch it first: a shallow clone has only the last commit")
    })?;
    // What the other branch changed meanwhile is not ours.
    let base = git(&["merge-base", revision, "HEAD"])
        .map_or_else(|_| revision.to_owned(), |out| text(&out));
    let top = PathBuf::from(top);
    let mut all = BTreeSet::new();
    for out in [
        git(&["diff", "--name-only", "--diff-filter=d", "-z", &base, "--"])?,
        git(&[
            "ls-files",
            "--full-name",
            "--others",
            "--exclude-standard",
            "-z",
            ":/",
        ])?,
    ] {
        for name in out.split(|b| *b == 0).filter(|n| !n.is_empty()) {
            let path = top.join(path(name));
            all.insert(path.canonicalize().unwrap_or(path));
        }
    }
    Ok(all)
}

#[cfg(unix)]
fn path(name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(name))
}

#[cfg(not(unix))]
fn path(name: &[u8]) -> PathBuf {
    PathBuf::from(String::from_utf8_lossy(name).into_owned())
}

fn text(out: &[u8]) -> String {
    String::from_utf8_lossy(out).trim().to_owned()
}

fn git(args: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("git")
        .args(args)
        .output()
        .map_err(|e| Error::usage("git cannot be run").caused_by(e))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = text(&output.stderr);
    let first = said.lines().next().unwrap_or("it failed");
    Err(Error::usage(format!("git: {first}")))
}
