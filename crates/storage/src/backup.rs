//! Backups of a replica: its rows at one moment and the log beyond them, in files with checksums.
//!
//! A directory holds one backup. A *manifest* names its files and is replaced last, in one renaming,
//! so that a crash at any write leaves the backup before or the one after. Rows stand in the order
//! of the index ([`rows`]); a backup into a directory that has one writes the rows that changed since
//! and keeps the files before, until those that changed come to half of the first; then it writes
//! all. Read through [`Backup`], the files are one index, the newest row of each key.
//!
//! Source: design.md, Storage. Decision: docs/decisions/2026-11-26-backups-are-rows-and-log.md.

mod log;
mod manifest;
mod merged;
mod restore;
mod rows;
mod take;
#[cfg(test)]
mod tests;

pub use log::BackupLog;
pub use manifest::{BackupFile, MANIFEST as MANIFEST_FILE, Manifest};
pub use merged::Backup;
pub use restore::restore;
pub use take::{Taken, Taking, is_backup_file};

use crate::SeamError;

/// What came between a backup and its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The directory holds something else. Nothing in it was changed.
    #[error(
        "it holds {0:?}, which is no file of a backup: choose an empty directory, or one that holds \
         a backup of this node"
    )]
    Foreign(String),
    /// The directory holds a backup of another node, or of another data directory of this one.
    /// Nothing in it was changed.
    #[error(
        "it holds a backup of {0}: choose another directory, that one is the only copy of what was \
         backed up"
    )]
    Other(String),
    /// There is no backup, or none that was finished.
    #[error("there is no finished backup in it")]
    Absent,
    /// It was written by a version with another layout.
    #[error("the backup has format {0}, this version of merganser reads format {1}")]
    OtherFormat(u32, u32),
    /// What is there is not what was written.
    #[error("the backup is damaged: {0}; use another one")]
    Damaged(String),
    /// Whoever took it wanted to stop. The backup before is whole.
    #[error("it was stopped; the backup before, if any, is whole")]
    Stopped,
    /// What is to be backed up, or what was restored, cannot be read or written.
    #[error("the data directory: {0}")]
    Data(SeamError),
    /// The backup's own files cannot be read or written. The backup before is whole.
    #[error("the backup's files: {0}")]
    Files(SeamError),
}

impl BackupError {
    /// An error of the backup's own files.
    fn files(error: SeamError) -> Self {
        match error {
            SeamError::Corrupt(what) => Self::Damaged(what),
            error => Self::Files(error),
        }
    }
}
