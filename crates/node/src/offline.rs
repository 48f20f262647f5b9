//! What is done to a directory that no node runs on: restoring it from a backup, checking it, showing
//! what is in it.

mod debug;
mod restore;
mod source;
mod verify;

use std::path::PathBuf;

use storage::{BackupError, StampError, StorageError};
use storage_lmdb::OpenError;

pub use debug::{DebugFilter, DebugTable, debug_log, debug_rows, debug_tree};
pub use restore::{RestoreProgress, Restored, restore};
pub use verify::{Verified, VerifyProgress, verify};

/// Why a directory could not be worked on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// It is not there, or is no directory. Nothing was changed.
    #[error("{} is no directory", .0.display())]
    NoDirectory(PathBuf),
    /// It is to be restored into, and holds something. Nothing was changed.
    #[error(
        "{} is not empty: a backup is restored into an empty or a new directory; move away what is \
         there, it may hold what the backup does not", .0.display()
    )]
    NotEmpty(PathBuf),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its stamp cannot be used.
    #[error("{}: {source}", dir.display())]
    Stamp {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with the stamp.
        source: StampError,
    },
    /// It is no backup that can be used.
    #[error("{}: {source}", dir.display())]
    Backup {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        source: BackupError,
    },
    /// It cannot be read.
    #[error("{}: {source}", dir.display())]
    Storage {
        /// The directory.
        dir: PathBuf,
        /// What went wrong.
        source: StorageError,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    System {
        /// What was asked for.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}
