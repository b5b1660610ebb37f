//! What the crates below are: from crates.io alone, under licences that are compatible, without
//! another TLS. `scripts/audit.sh` looks closer, where cargo-deny is installed; both read
//! `scripts/deny.toml`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        // Of all platforms: those that are not this one's are fetched here.
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

fn config() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deny.toml");
    let text = std::fs::read_to_string(path).expect("scripts/deny.toml");
    text.parse().expect("TOML")
}

/// True where an SPDX expression can be met by the licences that are allowed.
fn met(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace(" / ", " OR ").replace('/', " OR ");
    // No crate nests deeper than (a OR b) AND c.
    expression.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')', ' ']);
        part.split(" OR ")
            .any(|one| allowed.contains(&one.trim_matches(['(', ')', ' '])))
    })
}

#[test]
fn crates_are_from_crates_io_under_allowed_licences() {
    let config = config();
    let list = |value: &toml::Value| -> Vec<String> {
        let all = value.as_array().expect("a list");
        all.iter()
            .map(|v| v.as_str().expect("a text").to_owned())
            .collect()
    };
    let allowed = list(&config["licenses"]["allow"]);
    let allowed: Vec<&str> = allowed.iter().map(String::as_str).collect();
    let denied: Vec<&str> = config["bans"]["deny"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v["crate"].as_str().expect("a name"))
        .collect();
    let all = packages();
    assert!(all.len() > 100, "{}", all.len());
    let mut wrong = Vec::new();
    for package in &all {
        let name = package["name"].as_str().expect("a name");
        if name == env!("CARGO_PKG_NAME") {
            continue;
        }
        let source = package["source"].as_str().unwrap_or("a folder");
        if !source.starts_with("registry+https://github.com/rust-lang/crates.io-index") {
            wrong.push(format!("{name} is from {source}"));
        }
        let licence = package["license"].as_str().unwrap_or("none");
        if !met(licence, &allowed) {
            wrong.push(format!("{name} has the licence {licence}"));
        }
        if denied.contains(&name) {
            wrong.push(format!("{name} is denied"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn licences_are_judged_as_spdx_says() {
    let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"];
    for yes in [
        "MIT",
        "GPL-3.0 OR MIT",
        "MIT/Apache-2.0",
        "Apache-2.0 / MIT",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
    ] {
        assert!(met(yes, &allowed), "{yes}");
    }
    for no in [
        "GPL-3.0",
        "none",
        "MIT AND GPL-3.0",
        "Apache-2.0 WITH LLVM-exception",
        "",
    ] {
        assert!(!met(no, &allowed), "{no}");
    }
}
