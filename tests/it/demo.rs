//! `pgshift demo`, on a small table.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::Cli;

/// A project in which the demo finds the server programs of this test run.
fn project() -> Cli {
    let cli = Cli::offline();
    match std::env::var_os("PGSHIFT_PG_BIN").and_then(|dir| dir.into_string().ok()) {
        Some(dir) => cli.env("PGSHIFT_PG_BIN", &dir),
        None => cli,
    }
}

#[tokio::test]
async fn nothing_is_lost_in_the_demo() {
    let output = project()
        .run(&["demo", "--rows", "20000", "--format", "json", "--seed", "7"])
        .await
        .expect(0);
    let report = output.json();
    for zero in [
        "/application/errors",
        "/application/wrong_reads",
        "/backfill/chunks_redone",
        "/wrong_rows/ready",
        "/wrong_rows/both_releases",
        "/wrong_rows/contract",
        "/wrong_rows/revert",
    ] {
        assert_eq!(
            report.pointer(zero),
            Some(&serde_json::json!(0)),
            "{zero}: {report:#}"
        );
    }
    assert_eq!(report["schema_restored"], true, "{report:#}");
    assert_eq!(report["findings"], serde_json::json!([]), "{report:#}");

    let number = |pointer: &str| {
        report
            .pointer(pointer)
            .and_then(serde_json::Value::as_f64)
            .unwrap_or_else(|| panic!("{pointer} is no number: {report:#}"))
    };
    assert!(number("/application/statements") > 300.0, "{report:#}");
    // The application has written some of the 20,000 before, and deleted some.
    let rows = number("/backfill/rows");
    assert!((19_000.0..=20_000.0).contains(&rows), "{report:#}");
    // Killed in the middle: some rows before, the others after, none twice.
    let (killed_at, after) = (
        number("/backfill/killed_at"),
        number("/backfill/rows_after_kill"),
    );
    assert!((0.4..1.0).contains(&killed_at), "{report:#}");
    assert!(after > 0.0 && after < rows, "{report:#}");
    assert!(after <= number("/backfill/rows_left_at_kill"), "{report:#}");

    let windows = report["application"]["windows"].as_array().expect("a list");
    for name in ["baseline", "backfill", "both releases", "new release"] {
        assert!(windows.iter().any(|w| w["name"] == name), "{report:#}");
    }
}

/// Everything below a folder, for messages.
fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path().display().to_string())
        .collect()
}

#[tokio::test]
async fn a_stopped_demo_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let cli = project();
        let tmp = cli.dir().join("tmp");
        fs::create_dir(&tmp).expect("tmp/");
        // Where the test is root's, the servers are not.
        for dir in [cli.dir(), &tmp] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
        let cli = cli.env("TMPDIR", tmp.to_str().expect("UTF-8"));
        let demo = cli.spawn(&["demo", "--rows", "20000"]);

        // In the middle of it: pgshift has prepared the database.
        let deadline = Instant::now() + Duration::from_mins(1);
        let prepared = || {
            entries(&tmp)
                .iter()
                .any(|dir| Path::new(dir).join("project/pgshift.toml").exists())
        };
        while !prepared() {
            assert!(Instant::now() < deadline, "{:?}", entries(&tmp));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        demo.signal(signal);
        let output = demo.wait().await.expect(5);
        assert!(
            output.stderr.contains(&format!("stopped by SIG{signal}")),
            "{}",
            output.stderr
        );
        assert_eq!(entries(&tmp), Vec::<String>::new());
    }
}

#[tokio::test]
async fn without_server_programs_it_says_what_to_install() {
    let output = Cli::offline()
        .run(&["demo", "--pg-bin", "/nonexistent"])
        .await
        .expect(2);
    assert!(
        output.stderr.contains("/nonexistent: has no `initdb`"),
        "{}",
        output.stderr
    );
}
