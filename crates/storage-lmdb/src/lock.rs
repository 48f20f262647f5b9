//! One process per directory, once.
//!
//! Two guards: a registry of the directories this process has open (LMDB must not open one twice
//! in a process: the second closing drops the locks of the first), and an exclusive lock on a file
//! in the directory, which the operating system releases when the process dies, however it dies.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::OpenError;

/// The lock file. Its name begins with a dot, so it is none of the directory's `Files`.
pub const LOCK_FILE: &str = ".lock";

static OPEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// The right to use a directory, until it is dropped.
#[derive(Debug)]
pub struct DirectoryLock {
    /// Unlocked before the claim below is given up. None where no file can be made, nor anything else.
    _file: Option<LockFile>,
    dir: Claim,
}

/// A locked file.
#[derive(Debug)]
struct LockFile(File);

impl Drop for LockFile {
    /// Closing would not do: a child process that is just being started has the open file too,
    /// and with it the lock, until it runs its own program.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "a directory stays locked until this process ends");
        }
    }
}

/// An entry of the registry.
#[derive(Debug)]
struct Claim(PathBuf);

impl Claim {
    fn take(dir: PathBuf) -> Result<Self, OpenError> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if open.insert(dir.clone()) { Ok(Self(dir)) } else { Err(OpenError::AlreadyOpen(dir)) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

impl DirectoryLock {
    /// Takes the directory for this process, creating it when absent.
    pub fn acquire(dir: &Path) -> Result<Self, OpenError> {
        let dir = create(dir)?;
        let claim = Claim::take(dir.clone())?;
        let file = writable(&dir.join(LOCK_FILE)).map_err(|error| OpenError::io(&dir, &error))?;
        Self::lock(claim, dir, file)
    }

    /// Takes a directory that is there and is only read. On media that cannot be written the lock file is
    /// locked as it is; where there is none, nobody can make one, nor change what is read.
    pub fn acquire_to_read(dir: &Path) -> Result<Self, OpenError> {
        let dir = dir.canonicalize().map_err(|error| OpenError::io(dir, &error))?;
        let claim = Claim::take(dir.clone())?;
        let failed = |error| OpenError::io(&dir, &error);
        let path = dir.join(LOCK_FILE);
        let file = match writable(&path) {
            Ok(file) => file,
            Err(error) if !is_read_only(&error) => return Err(failed(error)),
            Err(_) => match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(Self { _file: None, dir: claim });
                }
                Err(error) => return Err(failed(error)),
            },
        };
        Self::lock(claim, dir, file)
    }

    fn lock(claim: Claim, dir: PathBuf, mut file: File) -> Result<Self, OpenError> {
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Sixteen bytes hold any process id; what is not one is left out of the error.
                let read = (&file).take(16).read_to_string(&mut holder);
                let holder = read.ok().and_then(|_| holder.trim().parse().ok());
                return Err(OpenError::Locked { dir, holder });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io(&dir, &error)),
        }
        // For the error above, in another process. A full disk cannot take it, and need not.
        if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()))
        {
            tracing::debug!(dir = %dir.display(), %error, "the lock file stays without process id");
        }
        Ok(Self { _file: Some(LockFile(file)), dir: claim })
    }

    /// The directory, as an absolute path without links.
    pub fn dir(&self) -> &Path {
        &self.dir.0
    }
}

/// A lock file, created when absent.
fn writable(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).open(path)
}

/// Whether this is what an attempt to write to media that cannot be written ends with.
fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// Creates `dir` when absent, durably, and returns its absolute path without links.
pub(crate) fn create(dir: &Path) -> Result<PathBuf, OpenError> {
    let failed = |error| OpenError::io(dir, &error);
    let created = !dir.exists();
    fs::create_dir_all(dir).map_err(failed)?;
    let canonical = dir.canonicalize().map_err(failed)?;
    if created && let Some(parent) = canonical.parent() {
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    Ok(canonical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_taken_once_in_a_process_under_any_of_its_names() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let lock = DirectoryLock::acquire(&dir).unwrap();
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        for name in [dir.clone(), link, temp.path().join("a/../a/./b")] {
            let error = DirectoryLock::acquire(&name).unwrap_err();
            assert!(
                matches!(&error, OpenError::AlreadyOpen(taken) if taken == lock.dir()),
                "{error}"
            );
        }
        let other = DirectoryLock::acquire(&temp.path().join("c")).unwrap();
        drop((lock, other));
        DirectoryLock::acquire(&dir).unwrap();
    }

    /// The kernel's own files are where nobody creates one, not even root.
    #[test]
    fn what_cannot_be_written_is_taken_to_be_read_without_a_lock_file() {
        let kernel = Path::new("/sys/kernel");
        let refused = DirectoryLock::acquire(kernel).unwrap_err();
        assert!(
            !matches!(refused, OpenError::AlreadyOpen(_) | OpenError::Locked { .. }),
            "{refused}"
        );
        let lock = DirectoryLock::acquire_to_read(kernel).unwrap();
        let again = DirectoryLock::acquire_to_read(kernel).unwrap_err();
        assert!(matches!(again, OpenError::AlreadyOpen(_)), "{again}");
        drop(lock);
        DirectoryLock::acquire_to_read(kernel).unwrap();
    }

    #[test]
    fn what_is_read_is_locked_where_it_can_be() {
        let temp = tempfile::tempdir().unwrap();
        let absent = DirectoryLock::acquire_to_read(&temp.path().join("absent")).unwrap_err();
        assert!(matches!(absent, OpenError::Io { .. }), "{absent}");
        let lock = DirectoryLock::acquire_to_read(temp.path()).unwrap();
        let held = File::open(temp.path().join(LOCK_FILE)).unwrap();
        assert!(matches!(held.try_lock(), Err(TryLockError::WouldBlock)));
        drop(lock);
        held.try_lock().unwrap();
    }

    #[test]
    fn a_lock_file_of_nonsense_is_no_obstacle() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(LOCK_FILE), [0xff; 100]).unwrap();
        let lock = DirectoryLock::acquire(temp.path()).unwrap();
        let written = fs::read_to_string(lock.dir().join(LOCK_FILE)).unwrap();
        assert_eq!(written, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_path_that_is_a_file_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = DirectoryLock::acquire(&file).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
    }
}
