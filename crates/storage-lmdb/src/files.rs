//! The seam's files on a real directory.
//!
//! Invariant: an append is applied whole or cut off again; a file whose sync failed takes no
//! more until it is cut back to what a sync of this process covered (see [`Files`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use storage::{Files, SeamError, check_file_name};

use crate::OpenError;
use crate::disk_error::seam_io;
use crate::lock::create;

/// Files kept open between appends. A log has one or two that grow; the rest is margin.
const OPEN_MAX: usize = 32;

/// Real files in one directory. It takes no lock: [`DirectoryLock`](crate::DirectoryLock) does.
#[derive(Debug)]
pub struct DiskFiles {
    dir: PathBuf,
    /// The same, open for its syncs: a want of file descriptors must not look like a disk that fails.
    dir_file: File,
    open: BTreeMap<String, Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Where the next append goes.
    length: u64,
    /// Up to where the file has zeros after that; no more than `length` where it has none.
    zeros_to: u64,
    /// Bytes from the start that a sync of this process covered and no cut touched since.
    covered: u64,
    /// A sync failed, or a failed append could not be cut off.
    doubtful: bool,
}

impl DiskFiles {
    /// Opens `dir`, creating it when absent.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let dir = create(dir)?;
        let dir_file = File::open(&dir).map_err(|error| OpenError::io(&dir, &error))?;
        Ok(Self { dir, dir_file, open: BTreeMap::new() })
    }

    fn path(&self, name: &str) -> Result<PathBuf, SeamError> {
        check_file_name(name)?;
        Ok(self.dir.join(name))
    }

    /// The open file `name`, opened now if need be, and created if `creates`.
    fn file(&mut self, name: &str, creates: bool) -> Result<&mut Open, SeamError> {
        let path = self.path(name)?;
        if !self.open.contains_key(name) {
            let file = File::options()
                .read(true)
                .write(true)
                .create(creates)
                .truncate(false)
                .open(&path)
                .map_err(|error| failed(name, &error))?;
            let length = file.metadata().map_err(|error| failed(name, &error))?.len();
            if self.open.len() >= OPEN_MAX {
                // One in doubt must be remembered, and where one ends before its zeros; of the
                // others any will do.
                let is_idle = |open: &Open| !open.doubtful && open.zeros_to <= open.length;
                let idle = self.open.iter().find(|(_, open)| is_idle(open));
                if let Some(idle) = idle.map(|(name, _)| name.clone()) {
                    self.open.remove(&idle);
                }
            }
            let open = Open { file, length, zeros_to: 0, covered: 0, doubtful: false };
            self.open.insert(name.into(), open);
        }
        Ok(self.open.get_mut(name).expect("inserted above"))
    }
}

impl Open {
    fn certain(&mut self, name: &str) -> Result<&mut Self, SeamError> {
        if self.doubtful {
            return Err(SeamError::Io(format!(
                "an earlier sync of {name} failed, what it holds is in doubt: check the disk and \
                 start again"
            )));
        }
        Ok(self)
    }

    /// Cuts the file, and with it all zeros.
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        (self.length, self.zeros_to) = (length, 0);
        Ok(())
    }
}

/// The seam's word for an error on file `name`.
fn failed(name: &str, error: &io::Error) -> SeamError {
    match seam_io(error) {
        SeamError::Io(reason) => SeamError::Io(format!("{name}: {reason}")),
        SeamError::ReadOnly(reason) => SeamError::ReadOnly(format!("{name}: {reason}")),
        other => other,
    }
}

impl Files for DiskFiles {
    fn list(&self) -> Result<Vec<String>, SeamError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|error| seam_io(&error))? {
            let entry = entry.map_err(|error| seam_io(&error))?;
            let is_file = entry.file_type().map_err(|error| seam_io(&error))?.is_file();
            // What no seam could have created is none of its files: directories, hidden names.
            if is_file
                && let Ok(name) = entry.file_name().into_string()
                && check_file_name(&name).is_ok()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn length(&self, name: &str) -> Result<Option<u64>, SeamError> {
        let path = self.path(name)?;
        if let Some(open) = self.open.get(name) {
            return Ok(Some(open.length));
        }
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(name, &error)),
        }
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, SeamError> {
        let path = self.path(name)?;
        let failed = |error| failed(name, &error);
        let opened;
        let (file, end) = match self.open.get(name) {
            Some(open) => (&open.file, open.length),
            None => {
                opened = File::open(path).map_err(failed)?;
                (&opened, opened.metadata().map_err(failed)?.len())
            }
        };
        let left = end.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(length)];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(failed(error)),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> Result<(), SeamError> {
        let open = self.file(name, true)?.certain(name)?;
        match open.file.write_all_at(bytes, open.length) {
            Ok(()) => {
                open.length += bytes.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A part may have been written, and must not be taken for a record later.
                open.doubtful = open.cut(open.length).is_err();
                Err(failed(name, &error))
            }
        }
    }

    fn reserve(&mut self, name: &str, bytes: u64) -> Result<(), SeamError> {
        let open = self.file(name, false)?.certain(name)?;
        let (from, to) = (open.length.max(open.zeros_to), open.length + bytes);
        let zeros = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX)];
        let written = open.file.write_all_at(&zeros, from);
        open.zeros_to = from.max(to);
        written.map_err(|error| {
            // What is left if this fails too is zeros, of which nobody here is shown any.
            if open.file.set_len(from).is_ok() {
                open.zeros_to = from;
            }
            failed(name, &error)
        })
    }

    fn truncate(&mut self, name: &str, length: u64) -> Result<(), SeamError> {
        let open = self.file(name, false)?;
        if length > open.length {
            return Err(SeamError::Io(format!("{name} is shorter than {length} bytes")));
        }
        open.cut(length).map_err(|error| failed(name, &error))?;
        open.covered = open.covered.min(length);
        if length <= open.covered {
            open.doubtful = false;
        }
        Ok(())
    }

    fn sync(&mut self, name: &str) -> Result<(), SeamError> {
        let open = self.file(name, false)?.certain(name)?;
        match open.file.sync_data() {
            Ok(()) => {
                open.covered = open.length;
                Ok(())
            }
            Err(error) => {
                open.doubtful = true;
                Err(failed(name, &error))
            }
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), SeamError> {
        let (old, new) = (self.path(from)?, self.path(to)?);
        fs::rename(old, new).map_err(|error| failed(from, &error))?;
        if from != to {
            self.open.remove(to);
            if let Some(open) = self.open.remove(from) {
                self.open.insert(to.into(), open);
            }
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), SeamError> {
        match fs::remove_file(self.path(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(name, &error)),
            Ok(()) | Err(_) => {
                self.open.remove(name);
                Ok(())
            }
        }
    }

    fn sync_directory(&mut self) -> Result<(), SeamError> {
        self.dir_file.sync_all().map_err(|error| seam_io(&error))
    }
}

#[cfg(test)]
mod tests {
    use storage::conformance;

    use super::*;

    #[test]
    fn real_files_keep_the_contract_of_files() {
        let temp = tempfile::tempdir().unwrap();
        let mut count = 0;
        conformance::check_files(|| {
            count += 1;
            DiskFiles::open(&temp.path().join(count.to_string())).unwrap()
        });
        assert_eq!(count, 8);
    }

    #[test]
    fn contents_are_found_by_the_next_process_and_foreign_entries_are_not_listed() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = DiskFiles::open(temp.path()).unwrap();
        files.append("log", b"abc").unwrap();
        files.sync("log").unwrap();
        files.sync_directory().unwrap();
        drop(files);
        fs::create_dir(temp.path().join("index")).unwrap();
        fs::write(temp.path().join(".lock"), "1").unwrap();
        fs::write(temp.path().join("with space"), "1").unwrap();
        let mut files = DiskFiles::open(temp.path()).unwrap();
        assert_eq!(files.list(), Ok(vec!["log".into()]));
        files.append("log", b"d").unwrap();
        assert_eq!(files.read("log", 0, 9).unwrap(), b"abcd");
    }

    #[test]
    fn zeros_are_found_by_the_next_process_and_are_cut_off_like_contents() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = DiskFiles::open(temp.path()).unwrap();
        files.append("log", b"abc").unwrap();
        files.reserve("log", 4).unwrap();
        files.append("log", b"d").unwrap();
        files.sync("log").unwrap();
        let mut next = DiskFiles::open(temp.path()).unwrap();
        assert_eq!(next.read("log", 0, 9).unwrap(), b"abcd\0\0\0");
        assert_eq!(next.length("log"), Ok(Some(7)));
        next.append("log", b"e").unwrap();
        assert_eq!(next.read("log", 0, 9).unwrap(), b"abcd\0\0\0e");
        next.truncate("log", 4).unwrap();
        next.append("log", b"e").unwrap();
        next.reserve("log", 3).unwrap();
        next.truncate("log", 5).unwrap();
        assert_eq!(fs::read(temp.path().join("log")).unwrap(), b"abcde");
    }

    #[test]
    fn where_a_file_with_zeros_ends_is_remembered_while_many_others_are_appended_to() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = DiskFiles::open(temp.path()).unwrap();
        files.append("log", b"a").unwrap();
        files.reserve("log", 9).unwrap();
        for at in 0..2 * OPEN_MAX {
            files.append(&format!("log-{at:03}"), b"x").unwrap();
        }
        files.append("log", b"b").unwrap();
        assert_eq!(files.read("log", 0, 9).unwrap(), b"ab");
    }

    /// Opening it for each sync would need a file descriptor, of which there may be none left just then;
    /// here, its name.
    #[test]
    fn a_directory_is_synced_without_being_opened_again() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = DiskFiles::open(&temp.path().join("a")).unwrap();
        fs::rename(temp.path().join("a"), temp.path().join("b")).unwrap();
        assert_eq!(files.sync_directory(), Ok(()));
    }

    #[test]
    fn more_files_than_are_kept_open_can_be_appended_to() {
        let temp = tempfile::tempdir().unwrap();
        let mut files = DiskFiles::open(temp.path()).unwrap();
        for round in 0..2_u8 {
            for at in 0..2 * OPEN_MAX {
                files.append(&format!("log-{at:03}"), &[round]).unwrap();
            }
        }
        assert!(files.open.len() <= OPEN_MAX);
        for at in 0..2 * OPEN_MAX {
            let name = format!("log-{at:03}");
            assert_eq!(files.read(&name, 0, 9).unwrap(), [0, 1]);
            files.sync(&name).unwrap();
        }
    }
}
