//! The migrations folder, and what of it the database knows.

use std::path::Path;

use super::context::App;
use crate::error::{Error, Result};
use crate::exec::Engine;
use crate::migration::order::{self, Applied};
use crate::migration::{Migration, parse_bytes};
use crate::run::State;
use crate::store::MigrationRow;

/// All migration files, in order of id.
///
/// # Errors
/// A folder or file that cannot be read, and the first file with errors, all of its errors shown.
pub(super) fn load(app: &App) -> Result<Vec<Migration>> {
    let dir = app.migrations_dir();
    let entries = std::fs::read_dir(&dir).map_err(|e| {
        Error::usage(format!(
            "the migrations folder {} cannot be read: {e}",
            dir.display()
        ))
        .hint("`pgshift init` makes it; --migrations names another one")
    })?;
    let mut migrations = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|e| Error::usage(format!("{}: {e}", dir.display())))?
            .path();
        if path.extension().is_some_and(|e| e == "sql") && path.is_file() {
            migrations.push(read(&path)?);
        }
    }
    order::sort(&mut migrations);
    Ok(migrations)
}

fn read(path: &Path) -> Result<Migration> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| Error::usage(format!("{name}: {e}")))?;
    let stem = path
        .file_stem()
        .and_then(|s| s.to_str())
        .ok_or_else(|| Error::usage(format!("{name}: the file's name is not valid UTF-8")))?;
    parse_bytes(stem, &name, &bytes).map_err(|e| e.left("nothing was changed"))
}

/// Files and records, checked against each other.
pub(super) struct Project {
    /// The files, in order.
    pub(super) files: Vec<Migration>,
    /// What the database knows.
    pub(super) recorded: Vec<MigrationRow>,
}

impl Project {
    pub(super) async fn load(app: &App) -> Result<Self> {
        Self::load_by(app, &app.engine(None)?).await
    }

    /// By the connection of an engine that goes on to use it.
    pub(super) async fn load_by(app: &App, engine: &Engine) -> Result<Self> {
        let files = load(app)?;
        let recorded = engine.recorded().await?;
        Ok(Self { files, recorded })
    }

    fn applied(&self) -> Vec<Applied<'_>> {
        self.recorded
            .iter()
            .filter(|row| row.state.is_applied())
            .map(|row| Applied {
                id: &row.id,
                checksum: &row.checksum,
            })
            .collect()
    }

    pub(super) fn state(&self, id: &str) -> State {
        self.recorded
            .iter()
            .find(|row| row.id == id)
            .map_or(State::Pending, |row| row.state)
    }

    /// Refuses files that were changed after they were applied.
    pub(super) fn check_unedited(&self) -> Result<()> {
        let applied = self.applied();
        let edited = order::edited(&self.files, &applied);
        let Some(first) = edited.first() else {
            return Ok(());
        };
        let all: Vec<_> = edited.iter().map(|m| m.id.as_str()).collect();
        Err(Error::usage(format!(
            "{} was changed after it was applied ({})",
            all.join(", "),
            first.source.name()
        ))
        .left("nothing was changed")
        .hint("put the file back as it was, and write a new migration for the change"))
    }

    /// Ids of files that are not applied, in order.
    pub(super) fn pending(&self) -> Vec<&str> {
        let ids: Vec<&str> = self.files.iter().map(|m| m.id.as_str()).collect();
        order::pending(&ids, &self.applied())
    }

    /// Refuses pending files that sort before an applied one.
    pub(super) fn check_order(&self, wanted: &[&str]) -> Result<()> {
        let ids: Vec<&str> = self.files.iter().map(|m| m.id.as_str()).collect();
        let applied = self.applied();
        let late: Vec<_> = order::out_of_order(&ids, &applied)
            .into_iter()
            .filter(|(pending, _)| wanted.contains(pending))
            .collect();
        let Some((pending, last)) = late.first() else {
            return Ok(());
        };
        Err(Error::refused(format!(
            "{pending} sorts before {last}, which is applied already"
        ))
        .left("nothing was changed")
        .hint("rename it to sort last, or allow it with --out-of-order"))
    }

    /// The file of an id or unique prefix.
    pub(super) fn file(&self, name: &str) -> Result<&Migration> {
        let ids: Vec<&str> = self.files.iter().map(|m| m.id.as_str()).collect();
        let id = order::resolve(&ids, name)?;
        self.files
            .iter()
            .find(|m| m.id == id)
            .ok_or_else(|| Error::internal(format!("{id} was there a moment ago")))
    }
}

/// The recorded id that a name or unique prefix means; the file need not exist.
pub(super) fn recorded_id(recorded: &[MigrationRow], name: &str) -> Result<String> {
    let ids: Vec<&str> = recorded.iter().map(|m| m.id.as_str()).collect();
    order::resolve(&ids, name)
        .map(str::to_owned)
        .map_err(|error| error.left("nothing was changed"))
}
