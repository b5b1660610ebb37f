//! Cleans up after a process that could not: one that was killed.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::error::{Error, Result};

/// Reads a pipe that ends when its other end does, then stops every server below the folder at
/// once and removes it. A folder that is gone by then is fine.
const SCRIPT: &str = r#"
cat >/dev/null
for file in "$1"/*/postmaster.pid; do
    [ -f "$file" ] || continue
    read -r pid <"$file" && kill -QUIT "$pid" 2>/dev/null
done
tries=0
while [ -e "$1" ] && [ "$tries" -lt 100 ]; do
    rm -rf "$1" 2>/dev/null
    [ -e "$1" ] || break
    tries=$((tries + 1))
    sleep 0.1
done
"#;

/// A small shell process that holds the reading end of a pipe whose writing end is ours alone.
/// The operating system closes ours however we end, also by SIGKILL.
#[derive(Debug)]
pub(super) struct Watchdog(Child);

impl Watchdog {
    /// Watches over `dir`.
    pub(super) fn over(dir: &Path) -> Result<Self> {
        Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal goes to its whole process group: not to this one.
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|e| Error::internal(format!("`sh` cannot be started: {e}")).caused_by(e))
    }
}

impl Watchdog {
    /// Leaves the directory as it is, from now on.
    pub(super) fn stand_down(mut self) {
        let _ = self.0.kill();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It ends by itself once the folder is gone.
        let _ = self.0.wait();
    }
}
