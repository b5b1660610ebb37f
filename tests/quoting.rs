//! All quoting goes through `sql::quote`: no SQL is made by putting a value between quotes.

use std::fs;
use std::path::{Path, PathBuf};

/// What may stand between quotes in SQL after all: a file, the placeholder, and why.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("exec/ddl.rs", "{}ms", "milliseconds, a number"),
    (
        "exec/sampler/sql.rs",
        "{timeout}ms",
        "milliseconds, a number",
    ),
    (
        "plan/retype/inbound/mod.rs",
        "Trigger_{from}",
        "a constant of the caller",
    ),
    (
        "plan/retype/inbound/mod.rs",
        "Trigger_{to}",
        "a constant of the caller",
    ),
    (
        "plan/retype/inbound/mod.rs",
        "RI\\_ConstraintTrigger\\_{from}",
        "a constant of the caller",
    ),
    ("check/place.rs", "{class}", "a name from our own text"),
    ("check/place.rs", "{SCHEMA}", "a constant"),
    ("check/observe.rs", "{SCHEMA}", "a constant"),
];

/// Words with which our SQL begins, or has in it.
const SQL: [&str; 14] = [
    "SELECT ",
    "UPDATE ",
    "DELETE ",
    "INSERT ",
    "ALTER ",
    "CREATE ",
    "DROP ",
    "GRANT ",
    "REVOKE ",
    "COMMENT ON ",
    "SET ",
    "NOTIFY ",
    "LISTEN ",
    "VALUES ",
];

/// String literals that are formats: of `format!`, `write!`, `writeln!`, with their lines.
fn formats(source: &str) -> Vec<(usize, String)> {
    let text: Vec<char> = source.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let mut found = Vec::new();
    // All but white space since the last string or statement, to see whose argument it is.
    let mut before = String::new();
    let (mut line, mut i) = (1, 0);
    while i < text.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => {
                while i < text.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            ('\'', '\\') => {
                i += 3;
                while at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            ('"', _) => {
                let begun = line;
                let hashes = before.chars().rev().take_while(|c| *c == '#').count();
                let raw = before.trim_end_matches('#').ends_with('r');
                let mut literal = String::new();
                i += 1;
                while i < text.len() {
                    let closes = at(i) == '"' && (!raw || (1..=hashes).all(|h| at(i + h) == '#'));
                    if closes {
                        i += 1 + if raw { hashes } else { 0 };
                        break;
                    }
                    if at(i) == '\\' && !raw {
                        literal.push(at(i + 1));
                        line += usize::from(at(i + 1) == '\n');
                        i += 2;
                        continue;
                    }
                    line += usize::from(at(i) == '\n');
                    literal.push(at(i));
                    i += 1;
                }
                let head = before.trim_end_matches('#').trim_end_matches('r');
                let written = head.rfind("write!(").max(head.rfind("writeln!("));
                let of_write = written.is_some_and(|at| {
                    let argument = &head[at..];
                    argument.ends_with(',') && argument.matches(',').count() == 1
                });
                if head.ends_with("format!(") || of_write {
                    found.push((begun, literal));
                }
                before.clear();
            }
            (c, _) => {
                line += usize::from(c == '\n');
                if matches!(c, ';' | '{' | '}') {
                    before.clear();
                } else if !c.is_whitespace() {
                    before.push(c);
                }
                i += 1;
            }
        }
    }
    found
}

/// Placeholders that stand right after a quote: `'{x}…'`, with what follows up to the quote.
fn quoted(literal: &str) -> Vec<String> {
    // A plan's words for people are no SQL.
    let sql = SQL.iter().any(|word| literal.contains(word));
    let mut found = Vec::new();
    for quote in ['\'', '"'].into_iter().filter(|_| sql) {
        let mut rest = literal;
        while let Some(open) = rest.find(quote) {
            let after = &rest[open + 1..];
            let Some(close) = after.find(quote) else {
                break;
            };
            let inside = &after[..close];
            let placeholder = inside.replace("{{", "").replace("}}", "").contains('{');
            if placeholder {
                found.push(inside.to_owned());
            }
            rest = &after[close + 1..];
        }
    }
    found
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src/") {
        let path = entry.expect("src/").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_value_is_put_between_quotes_by_hand() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&root, &mut all);
    assert!(all.len() > 100, "src/ was not read");
    let mut wrong = Vec::new();
    let mut used = vec![false; ALLOWED.len()];
    for file in all {
        let below = file.strip_prefix(&root).expect("below src/");
        let name = below.to_string_lossy().replace('\\', "/");
        // The private servers of the demo have names of its own; tests are tests.
        if name.starts_with("demo/") || name.contains("tests") {
            continue;
        }
        let source = fs::read_to_string(&file).expect("a source file");
        let code = source
            .split("\n#[cfg(test)]\nmod ")
            .next()
            .expect("the first");
        for (line, literal) in formats(code) {
            for inside in quoted(&literal) {
                let allowed = ALLOWED.iter().position(|(file, what, _)| {
                    *file == name && inside.starts_with(what.trim_end_matches("ms"))
                });
                match allowed {
                    Some(n) => used[n] = true,
                    None => wrong.push(format!("src/{name}:{line}: `{inside}` in {literal:?}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "use sql::quote:\n{}", wrong.join("\n"));
    let unused: Vec<_> = ALLOWED.iter().zip(&used).filter(|(_, u)| !**u).collect();
    assert!(unused.is_empty(), "not needed: {unused:?}");
}

#[test]
fn finds_what_it_looks_for() {
    let found = |source: &str| {
        formats(source)
            .iter()
            .flat_map(|(_, literal)| quoted(literal))
            .count()
    };
    assert_eq!(found(r#"let x = format!("DROP TABLE \"{name}\"");"#), 1);
    assert_eq!(found(r#"let x = format!("SELECT '{}' FROM t", a);"#), 1);
    assert_eq!(
        found("let x = format!(\n    \"SELECT 1 \\\n     FROM x WHERE a = '{a}'\",\n);"),
        1
    );
    assert_eq!(found(r#"let _ = writeln!(out, "SELECT '{a}'");"#), 1);
    assert_eq!(found("let x = format!(r#\"DROP TABLE \"{name}\"\"#);"), 1);
    assert_eq!(found(r#"let x = "SELECT '{}'::text[]";"#), 0);
    assert_eq!(
        found(r#"let x = format!("SELECT '{{}}'::text[], {}", a);"#),
        0
    );
    assert_eq!(found(r#"let x = format!("no table '{name}'");"#), 0);
    assert_eq!(
        found(r#"let x = format!("SELECT {} FROM {}", ident(a), qname(b));"#),
        0
    );
}
