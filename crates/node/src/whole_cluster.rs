//! A cluster that is restored from backups as a whole: a file in each data directory says so to the node that
//! starts there first. It begins its rounds of the barrier in the next era, as all the others do, so that none
//! of them takes what another told of itself after its backup for a sign that it is behind.
//!
//! Invariant: it begins one era, the same as the others, however often it is interrupted. So the file names the
//! life that is led to before that is noted: one that is noted is not begun again.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::data_directory::{create_durably, replace_durably};

const FILE: &str = "restored-whole-cluster";

/// Has the first start on `dir` begin the next era. Durable when it returns.
pub(crate) fn mark(dir: &Path) -> io::Result<()> {
    create_durably(dir, FILE)
}

/// Whether the next era, which leads to the life `next`, is to begin here, where `noted` is the life that is
/// on disk. One that has begun is not told again. Durable when it returns `true`.
pub(crate) fn begins(dir: &Path, noted: Option<u64>, next: u64) -> io::Result<bool> {
    let named = match fs::read_to_string(dir.join(FILE)) {
        Ok(named) => named,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // Where it names none yet, none was noted.
    if let Ok(named) = named.trim().parse::<u64>()
        && noted.is_some_and(|noted| noted >= named)
    {
        done(dir)?;
        return Ok(false);
    }
    replace_durably(dir, FILE, 0o666, format!("{next}\n").as_bytes())?;
    Ok(true)
}

/// It has begun, on disk. Of a directory that is not marked this says nothing.
pub(crate) fn done(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(FILE)) {
        Ok(()) => File::open(dir)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_era_begins_once_however_often_its_beginning_is_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(!begins(dir, Some(3), 100).unwrap(), "it is not marked");
        mark(dir).unwrap();
        for _ in 0..2 {
            assert!(begins(dir, Some(3), 100).unwrap(), "it was not noted");
        }
        // It was noted, and a crash left the file.
        assert!(!begins(dir, Some(100), 200).unwrap());
        assert!(!dir.join(FILE).exists());
        done(dir).unwrap();
        mark(dir).unwrap();
        assert!(begins(dir, None, 100).unwrap(), "a node that had noted nothing");
        fs::write(dir.join(FILE), "1x").unwrap();
        assert!(begins(dir, Some(100), 200).unwrap(), "it names nothing yet");
        done(dir).unwrap();
        assert!(!begins(dir, Some(100), 200).unwrap());
    }
}
