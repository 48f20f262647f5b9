//! The log in a backup, read as the log that it is of.

use super::Backup;
use super::manifest::{BackupFile, LOG};
use crate::{Files, SeamError};

/// The copies of segments, under the segments' own names.
#[derive(Debug)]
pub struct BackupLog<'a, F>(pub(super) &'a Backup<F>);

impl<F: Files> BackupLog<'_, F> {
    fn names(&self) -> impl Iterator<Item = (String, &BackupFile)> {
        let files = self.0.manifest.files_of(LOG);
        files.map(|file| {
            let start = file.name.rsplit('-').next().unwrap_or_default();
            (format!("{LOG}{start}"), file)
        })
    }

    /// The backup's own name of a segment.
    pub fn file(&self, name: &str) -> Option<&str> {
        self.names().find(|(other, _)| other == name).map(|(_, file)| file.name.as_str())
    }
}

/// Read only, as all of a backup: changes are refused.
impl<F: Files> Files for BackupLog<'_, F> {
    fn list(&self) -> Result<Vec<String>, SeamError> {
        let mut names: Vec<String> = self.names().map(|(name, _)| name).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn length(&self, name: &str) -> Result<Option<u64>, SeamError> {
        self.file(name).map_or(Ok(None), |file| self.0.files.length(file))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, SeamError> {
        match self.file(name) {
            Some(file) => self.0.files.read(file, offset, length),
            None => Err(SeamError::Io(format!("there is no file {name}"))),
        }
    }

    fn append(&mut self, _: &str, _: &[u8]) -> Result<(), SeamError> {
        refused()
    }

    fn reserve(&mut self, _: &str, _: u64) -> Result<(), SeamError> {
        refused()
    }

    fn truncate(&mut self, _: &str, _: u64) -> Result<(), SeamError> {
        refused()
    }

    fn sync(&mut self, _: &str) -> Result<(), SeamError> {
        refused()
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), SeamError> {
        refused()
    }

    fn remove(&mut self, _: &str) -> Result<(), SeamError> {
        refused()
    }

    fn sync_directory(&mut self) -> Result<(), SeamError> {
        refused()
    }
}

fn refused() -> Result<(), SeamError> {
    Err(SeamError::ReadOnly("a backup is not changed".into()))
}
