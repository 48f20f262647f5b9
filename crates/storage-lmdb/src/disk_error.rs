//! What the operating system and LMDB say, in words that tell what to do.

use std::io;
use std::path::{Path, PathBuf};

use storage::{STARTING_EMPTY, SeamError};

/// "Input/output error" on every system that has LMDB; `io::ErrorKind` has no name for it.
pub(crate) const EIO: i32 = 5;

/// Why a directory could not be opened. Nothing in it was changed, apart from the creation of
/// the directory, its lock file and empty LMDB files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This process has it open already.
    #[error("{} is already open in this process: give each node a directory of its own", .0.display())]
    AlreadyOpen(PathBuf),
    /// Another process has it open.
    #[error(
        "{} is in use by another process{}: stop that one first, or start with another directory",
        dir.display(), holder.map(|pid| format!(" ({pid})")).unwrap_or_default()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that wrote itself into the lock file, if it can be read.
        holder: Option<u32>,
    },
    /// It, or the file system it is on, refuses writes.
    #[error("{} cannot be written ({reason}): check its owner, its mode and its mount", dir.display())]
    ReadOnly {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// There is no room to create what is missing.
    #[error("the disk of {} is full: free some space and start again", .0.display())]
    Full(PathBuf),
    /// What is there is not what was written.
    #[error(
        "{} is damaged ({reason}): restore it from a backup, or move the node's whole data \
         directory away and {STARTING_EMPTY}", dir.display()
    )]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Anything else the operating system said.
    #[error("{} cannot be opened: {reason}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the operating system said.
        reason: String,
    },
}

impl OpenError {
    pub(crate) fn io(dir: &Path, error: &io::Error) -> Self {
        Self::seam(dir, seam_io(error))
    }

    pub(crate) fn lmdb(dir: &Path, error: lmdb::Error) -> Self {
        Self::seam(dir, seam_lmdb(error))
    }

    pub(crate) fn damaged(dir: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { dir: dir.into(), reason: reason.into() }
    }

    fn seam(dir: &Path, error: SeamError) -> Self {
        let dir = dir.to_path_buf();
        match error {
            SeamError::Full => Self::Full(dir),
            SeamError::ReadOnly(reason) => Self::ReadOnly { dir, reason },
            SeamError::Corrupt(reason) => Self::Damaged { dir, reason },
            SeamError::Io(reason) => Self::Io { dir, reason },
            // The enum may grow; what is not known here is told in its own words.
            other => Self::Io { dir, reason: other.to_string() },
        }
    }
}

/// The seam's word for an error of the operating system.
pub(crate) fn seam_io(error: &io::Error) -> SeamError {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => SeamError::Full,
        Kind::ReadOnlyFilesystem | Kind::PermissionDenied => SeamError::ReadOnly(error.to_string()),
        Kind::FileTooLarge => SeamError::ReadOnly(format!(
            "{error}: raise the limit on the size of files (ulimit -f), or use a file system \
             that takes larger ones"
        )),
        _ => SeamError::Io(error.to_string()),
    }
}

/// The seam's word for an error of LMDB.
pub(crate) fn seam_lmdb(error: lmdb::Error) -> SeamError {
    use lmdb::Error;
    match error {
        Error::Other(errno) => seam_io(&io::Error::from_raw_os_error(errno)),
        Error::Corrupted | Error::PageNotFound => {
            SeamError::Corrupt(format!("a page of the index ({error})"))
        }
        Error::Invalid => SeamError::Corrupt("data.mdb is not an LMDB file".into()),
        Error::VersionMismatch => {
            SeamError::Corrupt("data.mdb is of another version of LMDB".into())
        }
        Error::ReadersFull => SeamError::Io(format!(
            "more than {} reads of the index at once",
            crate::index::READERS_MIN
        )),
        Error::TxnFull => SeamError::Io("the batch is too large for one transaction".into()),
        _ => SeamError::Io(format!("LMDB: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// errno of Linux, which is where they come from in the tests below.
    const ENOSPC: i32 = 28;
    const EROFS: i32 = 30;
    const EACCES: i32 = 13;

    #[test]
    fn errors_of_the_system_become_words_that_say_what_to_do() {
        assert_eq!(seam_lmdb(lmdb::Error::Other(ENOSPC)), SeamError::Full);
        for errno in [EROFS, EACCES] {
            let error = seam_lmdb(lmdb::Error::Other(errno));
            assert!(matches!(error, SeamError::ReadOnly(_)), "{error}");
        }
        assert!(matches!(seam_lmdb(lmdb::Error::Other(EIO)), SeamError::Io(_)));
        assert!(matches!(seam_lmdb(lmdb::Error::Corrupted), SeamError::Corrupt(_)));
        let dir = Path::new("/data/n1");
        assert_eq!(
            OpenError::lmdb(dir, lmdb::Error::Other(ENOSPC)).to_string(),
            "the disk of /data/n1 is full: free some space and start again"
        );
        assert_eq!(
            OpenError::Locked { dir: dir.into(), holder: Some(7) }.to_string(),
            "/data/n1 is in use by another process (7): stop that one first, or start with \
             another directory"
        );
    }
}
