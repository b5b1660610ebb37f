//! A file for the textfile collector of `node_exporter`: always whole, the last state kept.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Exposition, Metrics};
use crate::error::{Error, Result};

/// Time between two writings.
const EVERY: Duration = Duration::from_secs(5);

/// The file.
#[derive(Clone)]
pub struct Textfile {
    path: PathBuf,
    metrics: Arc<Metrics>,
}

impl Textfile {
    /// Writes the file once, to see that it can be written.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where it cannot be.
    pub fn at(path: &Path, metrics: Arc<Metrics>) -> Result<Self> {
        let file = Self {
            path: path.to_owned(),
            metrics,
        };
        file.write()
            .map_err(|e| e.left("nothing was started").hint("name a file in a folder that this user may write to; the collector reads names that end in .prom"))?;
        Ok(file)
    }

    /// Puts the present state in place of what the file holds, in one step.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] where it cannot be written.
    pub fn write(&self) -> Result<()> {
        let text = self.metrics.text(Exposition::Text);
        replace(&self.path, &text).map_err(|e| {
            Error::usage(format!(
                "metrics cannot be written to {}: {e}",
                self.path.display()
            ))
        })
    }

    /// Writes it every five seconds until the runtime ends. A failure stops nothing: it is logged,
    /// once until a writing succeeds.
    pub fn keep_writing(self) {
        tokio::spawn(async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(EVERY).await;
                let file = self.clone();
                let written = tokio::task::spawn_blocking(move || file.write()).await;
                match written {
                    Ok(Err(error)) if !failing => {
                        tracing::error!("{error}");
                        failing = true;
                    }
                    Ok(Ok(())) => failing = false,
                    _ => {}
                }
            }
        });
    }
}

/// A file beside it and a rename: a reader meets the old text or the new one, never a part. The
/// collector, another user, must be able to read it.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    // Not `.prom`: the collector must not read it.
    builder.prefix(".pgshift-metrics-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o644));
    }
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::metrics::tests::clock;

    #[test]
    fn the_file_is_replaced_whole_and_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pgshift.prom");
        std::fs::write(&path, "old").expect("written");
        let metrics = Arc::new(Metrics::new(clock));
        let file = Textfile::at(&path, metrics).expect("writable");
        file.write().expect("writable");
        let text = std::fs::read_to_string(&path).expect("there");
        assert!(text.contains("pgshift_build_info{version="), "{text}");
        let left = std::fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(left, 1, "no temporary file is left");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&path)
                .expect("there")
                .permissions()
                .mode();
            assert_eq!(mode & 0o044, 0o044, "others read it: {mode:o}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_the_users_error() {
        let metrics = Arc::new(Metrics::new(clock));
        let Err(error) = Textfile::at(Path::new("/nonexistent/x.prom"), metrics) else {
            panic!("written");
        };
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
    }
}
