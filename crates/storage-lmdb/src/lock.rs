//! One process per directory, once.
//!
//! Two guards: a registry of the directories this process has open (LMDB must not open one twice
//! in a process: the second closing drops the locks of the first), and an exclusive lock on a file
//! in the directory, which the operating system releases when the process dies, however it dies.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
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
        Self::lock(claim, dir, file, false)
    }

    /// Takes a directory that is there and is only read. On media that cannot be written the lock file is
    /// locked as it is, if it can be (a mount of NFS may want it open for writing); where there is none,
    /// nobody can make one, nor change what is read.
    pub fn acquire_to_read(dir: &Path) -> Result<Self, OpenError> {
        let dir = dir.canonicalize().map_err(|error| OpenError::io(dir, &error))?;
        let claim = Claim::take(dir.clone())?;
        let failed = |error| OpenError::io(&dir, &error);
        let path = dir.join(LOCK_FILE);
        let (file, is_read_only) = match writable(&path) {
            Ok(file) => (file, false),
            Err(error) if !is_read_only(&error) => return Err(failed(error)),
            Err(_) => match File::open(&path) {
                Ok(file) => (file, true),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Ok(Self { _file: None, dir: claim });
                }
                Err(error) => return Err(failed(error)),
            },
        };
        Self::lock(claim, dir, file, is_read_only)
    }

    /// Locks `file`; where nothing can be written, also as it is.
    fn lock(
        claim: Claim,
        dir: PathBuf,
        mut file: File,
        is_read_only: bool,
    ) -> Result<Self, OpenError> {
        match file.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Sixteen bytes hold any process id; what is not one is left out of the error.
                let read = (&file).take(16).read_to_string(&mut holder);
                let holder = read.ok().and_then(|_| holder.trim().parse().ok());
                return Err(OpenError::Locked { dir, holder });
            }
            Err(TryLockError::Error(error)) if is_read_only => {
                tracing::warn!(dir = %dir.display(), %error, "it cannot be locked and is read without: \
                    nobody else may change it meanwhile");
                return Ok(Self { _file: None, dir: claim });
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
    create_directory(dir, 0o777).map_err(failed)?;
    dir.canonicalize().map_err(failed)
}

/// Creates `dir` and what is missing above it, with this mode less the process's mask. A crash takes
/// none of it away again: what is in a directory is no more durable than its name.
pub fn create_directory(dir: &Path, mode: u32) -> io::Result<()> {
    for missing in missing(dir) {
        match DirBuilder::new().mode(mode).create(missing) {
            // Somebody else was faster, or it is a name like `a/..`.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && missing.is_dir() => (),
            created => created?,
        }
        File::open(parent(missing))?.sync_all()?;
    }
    if dir.is_dir() { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// The directories that are not there, from the outermost in.
fn missing(dir: &Path) -> Vec<&Path> {
    let is_missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let mut missing: Vec<_> = dir.ancestors().take_while(is_missing).collect();
    missing.reverse();
    missing
}

/// Where the name of `path` stands.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

    use super::*;

    #[test]
    fn all_that_is_missing_is_created_and_each_of_it_made_durable() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b/c");
        let missing_there: Vec<_> = ["a", "a/b", "a/b/c"].map(|name| temp.path().join(name)).into();
        assert_eq!(missing(&dir), missing_there);
        assert_eq!(parent(missing(&dir)[0]), temp.path());
        for _ in 0..2 {
            create_directory(&dir, 0o700).unwrap();
            assert_eq!(missing(&dir), Vec::<&Path>::new());
            for dir in &missing_there {
                assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
            }
        }
        assert_eq!(missing(Path::new("not-there/x")), ["not-there", "not-there/x"].map(Path::new));
        assert_eq!(parent(Path::new("not-there")), Path::new("."));
        fs::write(dir.join("file"), "").unwrap();
        assert!(create_directory(&dir.join("file"), 0o700).is_err());
    }

    /// So a mount of NFS that is read-only answers. Here it is a file that is open for its path only.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_cannot_be_locked_where_nothing_can_be_written_is_read_without() {
        const O_PATH: i32 = 0o10_000_000;
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join(LOCK_FILE), "").unwrap();
        let lock = |is_read_only| {
            let mut options = File::options();
            let file = options.read(true).custom_flags(O_PATH).open(temp.path().join(LOCK_FILE));
            let dir = temp.path().to_owned();
            DirectoryLock::lock(Claim::take(dir.clone())?, dir, file.unwrap(), is_read_only)
        };
        assert!(matches!(lock(false), Err(OpenError::Io { .. })));
        assert_eq!(lock(true).unwrap().dir(), temp.path());
    }

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
