//! The client's clock: nothing that is decided reads it, so a step of it changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ID, Scene};
use crate::points::{Row, history, table};

/// Ways to read the wall clock.
const WALL: [&str; 6] = [
    "SystemTime",
    "UNIX_EPOCH",
    "Utc::now",
    "Local::now",
    "UnixTime::now",
    "clock_gettime",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src/") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// One function reads it, and one command asks that: `new`, for the name of a file. Leases,
/// overrides, hours and events go by the server's clock, pauses and limits by a clock that is
/// never set.
#[test]
fn no_decision_reads_the_clients_wall_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut readers = Vec::new();
    let mut askers = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).expect("ours").display().to_string();
        let text = std::fs::read_to_string(&file).expect("a source");
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            if WALL.iter().any(|way| line.contains(way)) {
                readers.push(format!("{name}: {}", line.trim()));
            }
            if line.contains("context::now")
                || (name.starts_with("src/cli/") && line.contains(" &now()"))
            {
                askers.push(name.clone());
            }
        }
    }
    assert_eq!(readers, ["src/cli/context.rs: Utc::now()"]);
    assert!(
        askers.iter().all(|file| file == "src/cli/new.rs"),
        "{askers:?}"
    );
}

/// The program under a clock that is years off and jumps while it runs, where `libfaketime` is
/// installed: the same, to the second, in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_changes_nothing() {
    let libraries = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    ];
    let Some(library) = libraries.iter().find(|path| Path::new(path).is_file()) else {
        eprintln!("SKIPPED: libfaketime is not installed (Debian: faketime)");
        return;
    };
    let mut scene = Scene::orders("clock", 60_000).await;
    let rc = scene.cli.dir().join("faketime");
    let file = rc.to_str().expect("a path of ASCII").to_owned();
    let env = [
        ("LD_PRELOAD", *library),
        ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        // Steps of the wall clock: the monotonic one never has any.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let set = |offset: &str| std::fs::write(&rc, offset).expect("the clock");
    set("-3650d");
    let args = ["apply", "--duty", "0.1"];
    let apply = scene.cli.spawn_with(&env, &args);
    scene.backfilling().await;
    scene
        .done(&["throttle", "set", ID, "max-lag=10s", "--for", "1h"])
        .await;
    for offset in ["+3650d", "-1d", "+2h", "+0"] {
        set(offset);
        let time = scene.moment(100, 500);
        tokio::time::sleep(time).await;
        let chunks = scene.chunks().await;
        let on = format!("SELECT sum(chunks) > {chunks} FROM pgshift.checkpoint");
        scene.until("chunks under another clock", &on).await;
        let alive = "SELECT bool_and(expires_at BETWEEN clock_timestamp() AND
                         clock_timestamp() + interval '16 s') FROM pgshift.lease";
        scene
            .until_within(
                Duration::from_secs(5),
                "a lease by the server's clock",
                alive,
            )
            .await;
    }
    // A second runner whose clock is years ahead does not think the first one dead.
    set("+3650d");
    let second = scene.cli.spawn_with(&env, &["resume"]).wait().await;
    second.expect(3);
    scene.done(&["throttle", "set", ID, "duty=100%"]).await;
    apply.wait().await.expect(0);
    assert_eq!(scene.wrong_orders().await, 0);
    let strange: i64 = scene
        .one(
            "SELECT count(*) FROM pgshift.event
             WHERE at NOT BETWEEN clock_timestamp() - interval '5 min' AND clock_timestamp()",
        )
        .await;
    assert_eq!(strange, 0, "entries of the log by another clock");
    let lost = history::wrong_with(&scene.db).await;
    assert_eq!(lost, Vec::<String>::new());
    let mut row = Row::default();
    row.count(false, 0, 0);
    table::write(&BTreeMap::from([("steps of the client's clock", row)]));
}
