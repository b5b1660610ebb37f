//! `--fix` and `--diff`.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::path::Path;

use super::files;
use super::{LintArgs, Read};
use crate::cli::Format;
use crate::cli::context::App;
use crate::cli::exit::Exit;
use crate::error::{Error, Result};
use crate::lint::{self, Options, Runner, World, baseline};
use crate::report::lint::{self as report, FixedFile, Report, Unread};
use crate::report::out;

/// Refuses what cannot be, before anything is read.
///
/// # Errors
/// As said.
pub(super) fn check(app: &App, args: &LintArgs) -> Result<()> {
    if args.fix && args.paths.iter().any(|p| p.as_os_str() == "-") {
        return Err(
            Error::usage("standard input cannot be fixed: there is no file to write")
                .hint("`pgshift lint --diff -` shows what would be changed"),
        );
    }
    if args.diff && !matches!(app.format(), Format::Human | Format::Json) {
        return Err(Error::usage(
            "--diff is a unified diff, or JSON with `--format json`",
        ));
    }
    Ok(())
}

/// Fixes every file, or with `--diff` only says how. What was written is read again.
pub(super) fn fix(
    app: &App,
    args: &LintArgs,
    read: &mut [Read],
    known: &World,
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let root = files::project_root();
    let left_out = match &args.baseline {
        Some(path) => super::baseline_of(path)?,
        None => BTreeSet::new(),
    };
    // What is known before a file and after it.
    let mut worlds: HashMap<std::path::PathBuf, (World, World)> = HashMap::new();
    let mut fixes: Vec<FixedFile> = Vec::new();
    let mut planned = 0;
    for file in read.iter_mut() {
        let Some(script) = file.script.as_ref().filter(|s| !s.only_down) else {
            continue;
        };
        let (before, world) = worlds
            .entry(file.input.key.clone())
            .or_insert_with(|| (known.clone(), known.clone()));
        let mut findings = lint::lint(script, world, options);
        if file.input.context {
            lint::follow(script, before);
            continue;
        }
        baseline::fingerprints(&mut findings, &file.input.within(&root), &script.source);
        findings.retain(|f| !left_out.contains(&f.fingerprint));
        if script.runner == Runner::Pgshift {
            planned += usize::from(findings.iter().any(|f| f.planned));
        }
        let fixed = lint::fix::fix(script, &findings, before);
        lint::follow(script, before);
        let Some(fixed) = fixed else { continue };
        let mut one = FixedFile {
            path: file.input.shown.clone(),
            source: script.source.clone(),
            runner: script.runner,
            text: fixed.text,
            changes: fixed.changes,
            advice: fixed.advice,
            written: false,
            error: None,
        };
        if one.changes.is_empty() {
            // There is only advice.
        } else if let Some(encoding) = file.encoding {
            one.error = Some(format!("not fixed: it is {encoding}; save it as UTF-8"));
            one.changes.clear();
        } else if args.fix {
            let path = file.input.path();
            match path.map(|p| write(p, one.source.text(), &one.text)) {
                Some(Err(why)) => one.error = Some(format!("not fixed: {why}")),
                _ => one.written = true,
            }
        }
        if let Some(error) = &one.error {
            report.unread.push(Unread {
                path: one.path.clone(),
                message: error.clone(),
            });
        }
        if one.written {
            file.script = Some(lint::script::read(&one.path, &one.text, &file.reading));
        }
        fixes.push(one);
    }
    if planned > 0 {
        app.say(&format!(
            "files of pgshift are left as they are ({planned}): `pgshift plan` makes their \
             statements safe by itself"
        ));
    }
    report.fixes = Some(fixes);
    Ok(())
}

/// Tells people what was changed, and what needs them.
pub(super) fn tell(app: &App, report: &Report) {
    let text = report::fixes(report, app.style());
    if !text.is_empty() {
        app.say(text.trim_end());
    }
    let checked = [
        Runner::Sqlx,
        Runner::Flyway,
        Runner::Refinery,
        Runner::Prisma,
    ];
    let changed = |r: &Runner| {
        let fixes = report.fixes.iter().flatten();
        fixes
            .filter(|f| !f.changes.is_empty())
            .any(|f| f.runner == *r)
    };
    for runner in checked.iter().filter(|r| changed(r)) {
        app.say(&format!(
            "{runner} compares checksums: of a file that it has applied already, take the change \
             back"
        ));
    }
    if changed(&Runner::Flyway) {
        app.say(
            "Flyway's own lock is a transaction, which CONCURRENTLY waits for: set \
             flyway.postgresql.transactional.lock=false",
        );
    }
}

/// Prints what `--fix` would change.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn print_diff(app: &App, report: &Report) -> Result<Exit> {
    if app.json() {
        out::stdout(&format!("{}\n", report::json(report)))?;
    } else {
        out::stdout(&report::diff(report))?;
        tell(app, report);
    }
    let mut fixes = report.fixes.iter().flatten();
    Ok(if fixes.any(|f| !f.changes.is_empty()) {
        Exit::Findings
    } else {
        Exit::Success
    })
}

/// Puts a new text in the place of a file, whole or not at all. A byte order mark stays.
fn write(path: &Path, before: &str, after: &str) -> std::result::Result<(), String> {
    let said = |e: std::io::Error| e.to_string();
    let meta = std::fs::symlink_metadata(path).map_err(said)?;
    if meta.file_type().is_symlink() {
        let target = std::fs::read_link(path).map_err(said)?;
        return Err(format!(
            "it is a symbolic link; fix what it leads to: {}",
            target.display()
        ));
    }
    if meta.permissions().readonly() {
        return Err("it is read-only".to_owned());
    }
    // A new file in its place would not ask for the right to write to this one.
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(said)?;
    let bytes = std::fs::read(path).map_err(said)?;
    let mark = "\u{feff}".as_bytes();
    let (mark, text) = match bytes.strip_prefix(mark) {
        Some(text) => (mark, text),
        None => (&[][..], bytes.as_slice()),
    };
    if text != before.as_bytes() {
        return Err("it was changed meanwhile".to_owned());
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = tempfile::Builder::new()
        .prefix(".pgshift-fix-")
        .tempfile_in(folder)
        .map_err(|e| format!("no file can be made beside it: {e}"))?;
    new.write_all(mark).map_err(said)?;
    new.write_all(after.as_bytes()).map_err(said)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let own = new.as_file().metadata().map_err(said)?;
        if (own.uid(), own.gid()) != (meta.uid(), meta.gid()) {
            // Where only root may, the file is the user's afterwards; its mode decides.
            let _ = fchown(new.as_file(), Some(meta.uid()), Some(meta.gid()));
        }
    }
    new.as_file()
        .set_permissions(meta.permissions())
        .map_err(said)?;
    new.as_file().sync_all().map_err(said)?;
    new.persist(path).map_err(|e| said(e.error))?;
    Ok(())
}
