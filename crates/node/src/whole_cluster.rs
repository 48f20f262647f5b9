//! A cluster that is restored from backups as a whole: a file in each data directory says so to the node that
//! starts there first. It begins its rounds of the barrier in the next era, as all the others do, so that none
//! of them takes what another told of itself after its backup for a sign that it is behind.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::data_directory::create_durably;

const FILE: &str = "restored-whole-cluster";

/// Has the first start on `dir` begin the next era. Durable when it returns.
pub(crate) fn mark(dir: &Path) -> io::Result<()> {
    create_durably(dir, FILE)
}

/// Whether the next era is to begin here.
pub(crate) fn is_marked(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// It has begun, on disk. Of a directory that is not marked this says nothing.
pub(crate) fn done(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(FILE)) {
        Ok(()) => File::open(dir)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
