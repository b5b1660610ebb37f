//! The layers of `src/lib.rs`, enforced: imports go up only, the pure core does no IO, and only
//! the edge prints.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate's root by rank: a module imports those of its own rank and of lower
/// ones, never of a higher one.
const LAYERS: [(u32, Kind, &[&str]); 6] = [
    (0, Kind::Base, &["error"]),
    (
        1,
        Kind::Pure,
        &[
            "sql",
            "migration",
            "lock",
            "catalog",
            "lint",
            "plan",
            "backfill",
            "throttle",
            "retry",
            "run",
            "event",
            "fill",
            "snapshot",
        ],
    ),
    (2, Kind::Io, &["pg", "fault"]),
    (3, Kind::Io, &["store"]),
    (4, Kind::Io, &["exec"]),
    (5, Kind::Edge, &["report", "demo", "check", "cli"]),
];

/// What a pure module has no business with.
const IMPURE: [&str; 10] = [
    "tokio",
    "tokio_postgres",
    "deadpool",
    "deadpool_postgres",
    "std::env",
    "std::fs",
    "std::process",
    "std::net",
    "std::thread",
    "std::io::stdin",
];

const PRINTING: [&str; 4] = ["println", "print", "eprintln", "eprint"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Base,
    Pure,
    Io,
    Edge,
}

fn layer(module: &str) -> Option<(u32, Kind)> {
    LAYERS
        .iter()
        .find(|(_, _, modules)| modules.contains(&module))
        .map(|&(rank, kind, _)| (rank, kind))
}

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.what)
    }
}

/// A token of Rust as far as paths need it: a name, `::`, or another character.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Splits source text; comments, strings and character literals are left out.
fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let name = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut line, mut i) = (Vec::new(), 1, 0);
    // Moves over a part without tokens, counting its lines.
    let skip = |from: usize, to: usize, line: &mut usize| {
        let end = to.min(text.len());
        *line += text[from..end].iter().filter(|&&c| c == '\n').count();
        end
    };
    while i < text.len() {
        let start = i;
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < text.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('/', '*') => {
                let mut depth = 0;
                while i < text.len() {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => depth += 1,
                        ('*', '/') => depth -= 1,
                        _ => {
                            i += 1;
                            continue;
                        }
                    }
                    i += 2;
                    if depth == 0 {
                        break;
                    }
                }
                i = skip(start, i, &mut line);
            }
            ('"', _) => {
                i += 1;
                while i < text.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i = skip(start, i + 1, &mut line);
            }
            // A character literal; else a lifetime, whose quote is dropped.
            ('\'', '\\') => {
                i += 3;
                while i < text.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i = skip(start, i + 3, &mut line),
            ('\'', _) => i += 1,
            (':', ':') => {
                found.push(Token {
                    text: "::".into(),
                    line,
                });
                i += 2;
            }
            (c, _) if name(c) => {
                while name(at(i)) {
                    i += 1;
                }
                let word: String = text[start..i].iter().collect();
                let mut hashes = 0;
                while at(i + hashes) == '#' {
                    hashes += 1;
                }
                if ["r", "br", "cr"].contains(&word.as_str()) && at(i + hashes) == '"' {
                    // A raw string ends at a quote with as many hashes.
                    i += hashes + 1;
                    while i < text.len()
                        && !(at(i) == '"' && (1..=hashes).all(|h| at(i + h) == '#'))
                    {
                        i += 1;
                    }
                    i = skip(start, i + 1 + hashes, &mut line);
                } else {
                    found.push(Token { text: word, line });
                }
            }
            (c, _) => {
                if c == '\n' {
                    line += 1;
                } else if !c.is_whitespace() {
                    found.push(Token {
                        text: c.into(),
                        line,
                    });
                }
                i += 1;
            }
        }
    }
    found
}

/// Every path of the source with its line, groups expanded: `use a::{b, c::d}` gives `a::b` and
/// `a::c::d`. Paths in bodies count as well as imports.
fn paths(tokens: &[Token]) -> Vec<(Vec<&str>, usize)> {
    let mut found = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let first = is_name(&tokens[i].text);
        let continued = i > 0 && ["::", "."].contains(&tokens[i - 1].text.as_str());
        if first && !continued {
            i = path(tokens, i, &[], &mut found).max(i + 1);
        } else {
            i += 1;
        }
    }
    found
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads one path or group at `i`, after `prefix`; gives where it ends.
fn path<'a>(
    tokens: &'a [Token],
    mut i: usize,
    prefix: &[&'a str],
    found: &mut Vec<(Vec<&'a str>, usize)>,
) -> usize {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text.as_str());
    let mut parts = prefix.to_vec();
    let line = tokens[i].line;
    loop {
        match text(i) {
            "{" if parts.len() > prefix.len() || prefix.is_empty() => {
                i += 1;
                while i < tokens.len() && text(i) != "}" {
                    if is_name(text(i)) || text(i) == "*" {
                        i = path(tokens, i, &parts, found);
                        // `as name`, and the comma.
                        while i < tokens.len() && ![",", "}"].contains(&text(i)) {
                            i += 1;
                        }
                    } else {
                        i += 1;
                    }
                }
                return i + 1;
            }
            name if is_name(name) || name == "*" => parts.push(name),
            _ => break,
        }
        i += 1;
        if text(i) != "::" || !(is_name(text(i + 1)) || ["{", "*"].contains(&text(i + 1))) {
            break;
        }
        i += 1;
    }
    found.push((parts, line));
    i
}

/// The tokens without modules under `#[cfg(test)]`: tests may read files.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let text = |i: usize| tokens.get(i).map_or("", |t: &Token| t.text.as_str());
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        let attribute = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
        if !(0..attribute.len()).all(|k| text(i + k) == attribute[k]) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += attribute.len() + 1;
        let mut depth = 0;
        while i < tokens.len() {
            match text(i) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            i += 1;
            if depth == 0 {
                break; // after `;` or the last brace
            }
        }
    }
    kept
}

/// Checks one file; `file` is its path below `src/`.
fn check(file: &Path, source: &str) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |line: usize, what: String| {
        found.push(Violation {
            file: Path::new("src").join(file),
            line,
            what,
        });
    };
    let all = tokens(source);
    let module = file
        .components()
        .next()
        .and_then(|c| Path::new(c.as_os_str()).file_stem())
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let is_root = file.components().count() == 1 && ["lib", "main"].contains(&module);
    let own = layer(module);
    if own.is_none() && !is_root {
        report(
            1,
            format!("module `{module}` is in no layer: give it one in tests/layers.rs"),
        );
        return found;
    }
    let (rank, kind) = own.unwrap_or((u32::MAX, Kind::Edge));

    for (path, line) in paths(&all) {
        if path[0] == "sqlparser" && path.len() > 1 && module != "sql" {
            report(line, "`sqlparser` is for src/sql/ alone".into());
        }
        if path[0] != "crate" || path.len() < 2 || is_root {
            continue;
        }
        let Some((theirs, _)) = layer(path[1]) else {
            continue;
        };
        if kind == Kind::Base && path[1] != module {
            let allowed = path[1] == "sql"
                && path
                    .get(2)
                    .is_some_and(|name| ["Diagnostic", "Source"].contains(name));
            if !allowed {
                report(
                    line,
                    format!("`{module}` may import only sql::{{Diagnostic, Source}}"),
                );
            }
        } else if theirs > rank {
            report(
                line,
                format!("`{module}` imports `{}` of a later layer", path[1]),
            );
        }
    }

    let is_test_file = file.file_stem().is_some_and(|stem| stem == "tests");
    if matches!(kind, Kind::Base | Kind::Pure) && !is_test_file {
        for (path, line) in paths(&without_tests(&all)) {
            let full = path.join("::");
            let impure = IMPURE.iter().find(|&&name| {
                full == name && name.contains("::")
                    || full
                        .strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with("::"))
            });
            if let Some(name) = impure {
                report(line, format!("`{module}` is pure and uses `{name}`"));
            }
        }
    }

    if kind != Kind::Edge {
        for pair in all.windows(2) {
            if PRINTING.contains(&pair[0].text.as_str()) && pair[1].text == "!" {
                report(
                    pair[0].line,
                    format!("`{}!` is for report/, cli/ and demo/", pair[0].text),
                );
            }
        }
    }
    found
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src/") {
        let path = entry.expect("src/").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn imports_go_up_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 10, "src/ was not read");
    let mut violations = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file).expect("a source file");
        let below = file.strip_prefix(&root).expect("below src/");
        violations.extend(check(below, &source).iter().map(ToString::to_string));
    }
    violations.sort();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

/// What the checker says of a planted source: (line, words).
fn said(file: &str, source: &str) -> Vec<(usize, String)> {
    check(Path::new(file), source)
        .into_iter()
        .map(|v| (v.line, v.what))
        .collect()
}

#[test]
fn finds_imports_of_later_layers() {
    let source = "use std::fmt;\nuse crate::{error::Error, plan::{self, Plan},\n    exec as e};\n";
    let found = said("sql/parse.rs", source);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, 3);
    assert!(found[0].1.contains("`sql` imports `exec`"), "{found:?}");

    assert_eq!(
        said("lock.rs", "fn f() {\n crate::pg::connect();\n}").len(),
        1
    );
    assert_eq!(said("pg/mod.rs", "use crate::store::Store;").len(), 1);
    assert_eq!(
        said("store/mod.rs", "pub(crate) use crate::exec::*;").len(),
        1
    );
    assert_eq!(said("exec/mod.rs", "use crate::{cli, report};").len(), 2);
    assert_eq!(said("error.rs", "use crate::sql::Statement;").len(), 1);
    assert_eq!(
        said("error.rs", "use crate::sql::{Diagnostic, Source};"),
        []
    );
    assert_eq!(
        said("exec/x.rs", "use crate::{pg::Client, store, plan::Plan};"),
        []
    );
    assert_eq!(said("cli/mod.rs", "use crate::{exec, demo, report};"), []);
    assert_eq!(said("sql/x.rs", "use crate::catalog::QName;"), []);
    assert_eq!(said("unheard_of.rs", "").len(), 1);
}

#[test]
fn finds_io_in_pure_modules() {
    for source in [
        "use std::{fmt, fs};",
        "use std::fs::File;",
        "fn f() { let x = std::env::var(\"X\"); }",
        "use std::process::{self, Command};",
        "use tokio_postgres::Client;",
        "async fn f() { tokio::time::sleep(x).await }",
        "use deadpool_postgres::Pool;",
    ] {
        assert!(!said("plan/mod.rs", source).is_empty(), "{source}");
        assert_eq!(said("exec/mod.rs", source), [], "{source}");
    }
    let test = "#[cfg(test)]\nmod tests {\n use std::fs;\n fn f() { { } }\n}\n";
    assert_eq!(said("plan/mod.rs", test), []);
    assert_eq!(said("plan/mod.rs", &format!("{test}use std::fs;")).len(), 1);
    assert_eq!(
        said("plan/mod.rs", "#[cfg(test)]\nmod tests;\nuse std::fs;").len(),
        1
    );
    assert_eq!(said("plan/tests.rs", "use std::fs;"), []);
}

#[test]
fn finds_sqlparser_and_printing() {
    assert_eq!(
        said("plan/mod.rs", "use sqlparser::ast::Statement;").len(),
        1
    );
    assert_eq!(said("cli/mod.rs", "fn f() { sqlparser::parse() }").len(), 1);
    assert_eq!(said("sql/parse.rs", "use sqlparser::ast::Statement;"), []);
    assert_eq!(said("exec/mod.rs", "fn f() { eprintln!(\"x\") }").len(), 1);
    assert_eq!(said("report/human.rs", "fn f() { println!(\"x\") }"), []);
}

#[test]
fn is_not_misled_by_comments_and_strings() {
    let source = r##"
//! See [`crate::exec`] and println!
/* use crate::exec; /* nested */ use std::fs; */
fn f<'a>(x: &'a str) -> char {
    let _ = "use crate::exec; \" println!(";
    let _ = r#"crate::exec::run() " "#;
    let _ = b"std::fs";
    let _ = ('"', '\'', '\u{41}', b'"');
    'x'
}
"##;
    assert_eq!(said("sql/mod.rs", source), []);
    let planted = format!("{source}use crate::exec::run;\n");
    let found = said("sql/mod.rs", &planted);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, 11, "{found:?}");
}
