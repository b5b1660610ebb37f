//! The disk of a table is full: the run stops and says so, keeps what it has committed, and goes on
//! when there is room again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgshift::demo::Cluster;

use super::limits::cluster;
use super::{Scene, TOTAL_CENTS, audit, orders};
use crate::points::{Row, history, table};
use crate::support::Db;

const ROWS: u32 = 60_000;
/// Of the whole disk: the table takes 3.5 MiB, and as much again when every row has been written.
const DISK: &str = "16m";

/// A small disk of its own; taken away where it is dropped.
struct Disk {
    dir: PathBuf,
    ballast: PathBuf,
}

impl Disk {
    /// # Errors
    /// Why it cannot be had: only root may mount one.
    fn mount(cluster: &mut Cluster) -> Result<Self, String> {
        let owner = fs::metadata(cluster.primary().data_dir()).map_err(|e| e.to_string())?;
        let dir = cluster.data_dir().with_file_name("small-disk");
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let options = format!("size={DISK},mode=0700");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "pgshift-test"])
            .arg(&dir)
            .output()
            .map_err(|e| format!("mount: {e}"))?;
        if !mounted.status.success() {
            return Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned());
        }
        let disk = Self {
            ballast: dir.join("ballast"),
            dir,
        };
        let place = disk.dir.join("tablespace");
        fs::create_dir(&place).expect("a folder");
        for dir in [&disk.dir, &place] {
            chown(dir, Some(owner.uid()), Some(owner.gid())).expect("chown");
        }
        Ok(disk)
    }

    fn tablespace(&self) -> &Path {
        &self.dir
    }

    /// Leaves so many bytes.
    fn fill(&self, left: usize) {
        // What does not fit is not written: then what must stay free is taken back.
        let _ = fs::write(&self.ballast, vec![1_u8; 1 << 24]);
        let there = fs::metadata(&self.ballast).expect("the ballast").len();
        let file = fs::OpenOptions::new().write(true).open(&self.ballast);
        let less = there.saturating_sub(left as u64);
        file.and_then(|file| file.set_len(less))
            .expect("less ballast");
    }

    fn make_room(&self) {
        fs::remove_file(&self.ballast).expect("the ballast");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The server may have files open still.
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_run_and_a_resume_goes_on() {
    let mut cluster = cluster(0, &[("autovacuum", "off")]).await;
    let disk = match Disk::mount(&mut cluster) {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!("SKIPPED: no small disk can be mounted here: {why}");
            return;
        }
    };
    let db = Db::create_on(&cluster.url("postgres"), "disk").await;
    let place = disk.tablespace().join("tablespace");
    db.execute(&format!(
        "CREATE TABLESPACE small LOCATION '{}'",
        place.display()
    ))
    .await;
    let here = format!("{}; ALTER TABLE orders SET TABLESPACE small", orders(ROWS));
    db.execute(&format!("{here}; {}", audit("orders"))).await;
    let before = db.schema().await;
    let scene = Scene::on(db, TOTAL_CENTS);
    disk.fill(1 << 20);

    let full = |said: &str| {
        for words in [
            "No space left on device",
            "free disk space",
            "pgshift resume",
            "are kept",
        ] {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
    };
    full(
        &scene
            .cli
            .run(&["apply", "--duty", "1"])
            .await
            .expect(5)
            .stderr,
    );
    assert_eq!(scene.state().await, "applying");
    let chunks = scene.chunks().await;
    assert!(chunks > 0, "what was committed is kept");
    scene.nothing_redone().await;
    let error: String = scene.one("SELECT error FROM pgshift.run").await;
    assert!(error.contains("No space left on device"), "{error}");
    let status = scene.done(&["status"]).await.stdout;
    assert!(status.contains("mend what stopped it"), "{status}");
    // It is the same until somebody makes room.
    full(
        &scene
            .cli
            .run(&["resume", "--duty", "1"])
            .await
            .expect(5)
            .stderr,
    );
    assert!(scene.chunks().await >= chunks);

    disk.make_room();
    scene.done(&["resume", "--duty", "1"]).await;
    assert_eq!(scene.wrong_orders().await, 0);
    assert_eq!(scene.state().await, "ready");
    scene.nothing_redone().await;
    let lost = history::wrong_with(&scene.db).await;
    assert_eq!(lost, Vec::<String>::new());

    // And back, from a run that stopped so.
    scene.done(&["revert", super::ID]).await;
    assert_eq!(scene.db.schema().await, before);
    scene.db.execute("VACUUM FULL orders").await;
    scene.db.execute("TRUNCATE audit").await;
    disk.fill(1 << 20);
    full(
        &scene
            .cli
            .run(&["apply", "--duty", "1"])
            .await
            .expect(5)
            .stderr,
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    scene.done(&["revert", super::ID]).await;
    assert_eq!(scene.db.schema().await, before);
    let lost = history::wrong_with(&scene.db).await;
    assert_eq!(lost, Vec::<String>::new());
    let mut row = Row::default();
    row.count(false, 0, 0);
    row.count(true, 0, 0);
    table::write(&BTreeMap::from([("disk of the table full", row)]));
}
