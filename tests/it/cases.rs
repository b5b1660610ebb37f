//! Tables and files of every shape: each works, or is refused with its reason, and nothing is left
//! half-done.

mod columns;
mod files;
mod names;
mod options;
mod required;
mod rewrites;
mod roles;
mod runs;
mod statements;
mod tables;
mod trial;
mod triggers;

use crate::lifecycle::{Project, assert_same};
use crate::support::Output;

/// Plan and apply end with this code and these words, and change nothing.
///
/// Where the words are empty, only the code counts.
async fn refused(name: &str, setup: &str, migration: &str, code: i32, words: &[&str]) -> Project {
    let project = Project::new(name, setup, migration).await;
    let before = project.picture().await;
    for command in ["plan", "apply"] {
        let output = project.command(command, &[]).await.expect(code);
        says(&output, words);
        assert!(
            output.stderr.contains("nothing was changed"),
            "{command} does not say what was left\n{}",
            output.stderr
        );
    }
    untouched(&project, &before).await;
    project
}

/// Everything is as before, and no migration is recorded.
async fn untouched(project: &Project, before: &crate::lifecycle::Picture) {
    let now = project.picture().await;
    assert_same("schema", before.schema(), now.schema());
    assert_same("data", before.data(), now.data());
    project.nothing_left().await;
    assert_eq!(project.state().await, "pending");
}

/// The error has all of these words, wherever its lines are broken.
#[track_caller]
pub(crate) fn says(output: &Output, words: &[&str]) {
    let text = output
        .stderr
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{}", output.stderr);
    }
}
