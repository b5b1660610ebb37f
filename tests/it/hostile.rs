//! Names that mean something to SQL, to the shell of a string or to a terminal, through every
//! command; and texts that try to leave the place that they were given.

mod escape;
mod names;
mod roles;
mod server;
mod split;

use crate::lifecycle::{Project, assert_same};
use crate::support::Output;

/// Nothing that a terminal would obey is in the output.
#[track_caller]
fn plain(what: &str, output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let bad = text.chars().find(|c| {
            (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202a}'..='\u{202e}')
        });
        assert!(bad.is_none(), "{what} shows {bad:?}\n{text:?}");
    }
}

/// Runs a command that must end with this code, and shows nothing raw.
async fn run(project: &Project, code: i32, args: &[&str]) -> Output {
    let mut all = vec!["--yes"];
    all.extend(args);
    let output = project.cli.run(&all).await;
    plain(&format!("{args:?}"), &output);
    output.expect(code)
}

/// As [`run`], also with `--format json`, which must be JSON.
async fn both(project: &Project, args: &[&str]) {
    run(project, 0, args).await;
    let json = project
        .cli
        .run(&[&["--format", "json"], args].concat())
        .await;
    // What goes on for a while writes an object a line, others one over several.
    let text = json.expect(0).stdout;
    if serde_json::from_str::<serde_json::Value>(&text).is_err() {
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect(line);
        }
    }
}

/// There, looked at by every command, back, there again and to the end.
async fn live(project: &Project) {
    let id = project.id.clone();
    let id = id.as_str();
    let first = project.picture().await;
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    let left = sorted(project.left().await);
    both(project, &["plan", id]).await;
    run(project, 0, &["plan", "-v", id]).await;
    let lint = project.cli.run(&["lint", "migrations"]).await;
    plain("lint", &lint);
    assert!(matches!(lint.code, Some(0 | 1)), "{lint:?}");
    let metrics = project.cli.dir().join("pgshift.prom");
    let metrics = metrics.to_string_lossy();
    let file = ["--metrics-textfile", &metrics];
    run(
        project,
        0,
        &[&["-vv", "apply", id, "--duty", "1"], &file[..]].concat(),
    )
    .await;
    exposition(&std::fs::read_to_string(&*metrics).expect("the metrics"));
    both(project, &["status"]).await;
    both(project, &["status", id]).await;
    both(project, &["log", id]).await;
    both(project, &["doctor"]).await;
    let has_contract = project.state().await == "ready";
    if has_contract {
        both(project, &["verify", id]).await;
    }
    if has_contract {
        run(project, 0, &["contract", id, "--duty", "1"]).await;
        run(project, 0, &["status", id]).await;
    }
    run(project, 0, &["revert", id, "--duty", "1"]).await;
    let now = project.picture().await;
    assert_same("schema", first.schema(), now.schema());
    assert_same("data", first.data(), now.data());
    assert_eq!(sorted(project.left().await), left);
    run(
        project,
        0,
        &["--log-format", "json", "apply", id, "--duty", "1"],
    )
    .await;
    if has_contract {
        run(project, 0, &["contract", id, "--duty", "1"]).await;
    }
    run(project, 0, &["purge", id, "--duty", "1"]).await;
    run(project, 0, &["log", "--verify"]).await;
    assert_eq!(project.state().await, "purged");
}

/// Lines of the text format of Prometheus: a label's value has `\`, `"` and newline escaped.
#[track_caller]
fn exposition(text: &str) {
    assert!(text.contains("pgshift_"), "{text}");
    for line in text
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
    {
        let end = match line.split_once('{') {
            None => line.find(' ').expect(line),
            Some((_, labels)) => {
                let mut quoted = false;
                let mut escaped = false;
                let close = labels.char_indices().find(|&(_, c)| {
                    let ends = !quoted && c == '}';
                    quoted ^= c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                line.len() - labels.len() + close.expect(line).0 + 1
            }
        };
        let value = line[end..].split_whitespace().next().expect(line);
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}
