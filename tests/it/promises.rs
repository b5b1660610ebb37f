//! `docs/reliability.md` names a test for each promise: they are there. And what those tests need
//! of the program is in no release.

use std::collections::BTreeSet;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Paths of tests: `faults::kill::a_name` is `fn a_name` in `tests/it/faults/kill.rs`.
fn named(text: &str) -> BTreeSet<&str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains("::") && !name.contains(['/', ' ']))
        .collect()
}

/// True where the test is in the file that its path says.
fn is_there(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").expect("a path");
    let folder = format!("tests/it/{}", module.replace("::", "/"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    [format!("{folder}.rs"), format!("{folder}/mod.rs")]
        .iter()
        .filter(|file| root.join(file).is_file())
        .any(|file| {
            let source = read(file);
            let Some(at) = source.find(&format!("fn {name}(")) else {
                return false;
            };
            // The attributes are right before it.
            let before = source[..at].rsplit("\n\n").next().unwrap_or_default();
            before.contains("#[test]") || before.contains("#[tokio::test")
        })
}

#[test]
fn every_test_that_is_named_exists() {
    let text = read("docs/reliability.md");
    let named = named(&text);
    assert!(named.len() >= 20, "{named:?}");
    let gone: Vec<&&str> = named.iter().filter(|test| !is_there(test)).collect();
    assert!(gone.is_empty(), "no such tests: {gone:#?}");
    assert!(!is_there("faults::kill::no_such_test"));
    // Every promise has one: the rows of the first table.
    let promises = text.split("\n## ").nth(1).expect("the promises");
    let rows: Vec<&str> = promises
        .lines()
        .filter(|l| l.starts_with("| "))
        .skip(1)
        .collect();
    assert!(rows.len() >= 7, "{rows:?}");
    for row in rows {
        assert!(row.contains("::"), "no test holds this: {row}");
    }
}

#[test]
fn fault_points_are_in_no_release() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml");
    let features = manifest["features"].as_table().expect("features");
    assert!(!features.contains_key("default"), "{features:?}");
    assert_eq!(features["fault-points"].as_array().map(Vec::len), Some(0));
    for (name, of) in features {
        assert!(!of.to_string().contains("fault-points"), "{name} = {of}");
    }
    // What is compiled in shows in the program.
    let program = std::fs::read(env!("CARGO_BIN_EXE_pgshift")).expect("the program");
    let variable = b"PGSHIFT_FAULT";
    let there = program.windows(variable.len()).any(|part| part == variable);
    assert_eq!(there, cfg!(feature = "fault-points"));
}
