//! What membership leaves on disk for the next start: one small file, replaced as a whole.
//!
//! ```text
//! members      checksum (xxh3, 8 bytes, little-endian), then the snapshot
//! members.new  being written
//! ```

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use membership::Snapshot;
use xxhash_rust::xxh3::xxh3_64;

use crate::data_directory::replace_durably;

/// Name of the file.
pub(crate) const FILE: &str = "members";

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The disk failed.
    #[error("{FILE}: {0}")]
    Disk(#[from] io::Error),
    /// Something else stands there than was written.
    #[error(
        "{FILE} is damaged: move it away; the node then finds its cluster again by its `members` or \
         `seeds`, as the start after the last that they remember"
    )]
    Damaged,
}

/// What stands in the directory, if anything.
pub(crate) fn read(dir: &Path) -> Result<Option<Snapshot>, SnapshotError> {
    let bytes = match fs::read(dir.join(FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (sum, snapshot) = bytes.split_at_checked(8).ok_or(SnapshotError::Damaged)?;
    if sum != xxh3_64(snapshot).to_le_bytes() {
        return Err(SnapshotError::Damaged);
    }
    clock::decode(snapshot).map(Some).map_err(|_| SnapshotError::Damaged)
}

/// Replaces what stands in the directory; a crash leaves the one or the other, whole.
pub(crate) fn write(dir: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let bytes = clock::encode(snapshot);
    let bytes = [&xxh3_64(&bytes).to_le_bytes()[..], &bytes].concat();
    replace_durably(dir, FILE, 0o666, &bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use membership::{ClusterId, Incarnation, Table, Values};

    use super::*;

    #[test]
    fn the_last_one_written_is_read_and_no_damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        let snapshot = |generation| Snapshot {
            ids: BTreeSet::from([ClusterId(7)]),
            incarnation: Incarnation { generation, nonce: 9 },
            table: Table::default(),
            values: Values::default(),
        };
        for generation in [1, 2] {
            write(dir.path(), &snapshot(generation)).unwrap();
            assert_eq!(read(dir.path()).unwrap(), Some(snapshot(generation)));
        }
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(read(dir.path()), Err(SnapshotError::Damaged)), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(read(dir.path()), Err(SnapshotError::Damaged)), "cut at {at}");
        }
    }
}
