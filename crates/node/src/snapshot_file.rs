//! What membership leaves on disk for the next start: one small file, replaced as a whole.
//!
//! ```text
//! members         checksum (xxh3, 8 bytes, little-endian), then the snapshot
//! members.new     being written; else room for the next one
//! members.before  the one before, on its way to be that room
//! ```
//!
//! A start must be on disk before anybody hears of it, or the next one could speak as the same incarnation. So
//! that a node starts on a full disk too, and serves what it holds, the next snapshot has its room already: it is
//! written over blocks that the file has. (File systems that never write in place, as btrfs, may want room all
//! the same.)

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use membership::Snapshot;
use xxhash_rust::xxh3::xxh3_64;

/// Name of the file.
pub(crate) const FILE: &str = "members";
const DRAFT: &str = "members.new";
const BEFORE: &str = "members.before";
/// By so much the next snapshot may be longer than the last one and have room all the same: some members, or
/// what a later version says of itself. A block of most file systems.
const MORE: usize = 4 << 10;

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
    let [path, draft, before] = [FILE, DRAFT, BEFORE].map(|name| dir.join(name));
    // Left by a crash.
    removed(&before)?;
    let mut file = open_draft(&draft)?;
    file.write_all(&bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    // The one before keeps its blocks for the next. Where there is none, or a file has but one name, new ones
    // are found below.
    let is_kept = fs::hard_link(&path, &before).is_ok();
    fs::rename(&draft, &path)?;
    if is_kept {
        fs::rename(&before, &draft)?;
    }
    File::open(dir)?.sync_all()?;
    if let Err(error) = make_room(&draft, bytes.len() + MORE) {
        tracing::debug!(%error, "there is no room for the next snapshot of membership yet");
    }
    Ok(())
}

/// Opens what the next snapshot is written over, and makes it if need be.
fn open_draft(draft: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create(true).truncate(false).open(draft);
    let file = open()?;
    if file.metadata()?.nlink() == 1 {
        return Ok(file);
    }
    // A loss of power left it another name of the present snapshot, which is not to be written over.
    removed(draft)?;
    open()
}

/// Has `draft` take so many bytes on a disk that becomes full.
fn make_room(draft: &Path, bytes: usize) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(draft)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // A hole would be no room.
    file.write_all(&vec![0; bytes.saturating_sub(length)])?;
    file.sync_data()
}

fn removed(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use membership::{ClusterId, Incarnation, Table, Values};

    use super::*;

    fn snapshot(generation: u64) -> Snapshot {
        Snapshot {
            ids: BTreeSet::from([ClusterId(7)]),
            incarnation: Incarnation { generation, nonce: 9 },
            table: Table::default(),
            values: Values::default(),
        }
    }

    #[test]
    fn each_is_written_over_the_one_before_the_last_which_had_room_to_spare() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let at = |name| fs::metadata(dir.join(name)).unwrap();
        write(dir, &snapshot(1)).unwrap();
        for generation in 2..=4 {
            let (last, room) = (at(FILE), at(DRAFT));
            assert_eq!(room.len(), last.len() + MORE as u64);
            write(dir, &snapshot(generation)).unwrap();
            assert_eq!((at(FILE).ino(), at(DRAFT).ino()), (room.ino(), last.ino()));
            assert_eq!(read(dir).unwrap(), Some(snapshot(generation)));
        }
    }

    #[test]
    fn what_a_crash_left_of_a_write_neither_stops_nor_harms_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, &snapshot(1)).unwrap();
        let [path, draft, before] = [FILE, DRAFT, BEFORE].map(|name| dir.join(name));
        fs::hard_link(&path, &before).unwrap();
        write(dir, &snapshot(2)).unwrap();
        assert!(!before.exists() && at_one_name(&path) && at_one_name(&draft));
        // The present one under both names.
        fs::remove_file(&draft).unwrap();
        fs::hard_link(&path, &draft).unwrap();
        let present = fs::read(&path).unwrap();
        let mut held = File::open(&path).unwrap();
        write(dir, &snapshot(3)).unwrap();
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut held, &mut bytes).unwrap();
        assert!(bytes.starts_with(&present), "it was written over");
        assert_eq!(read(dir).unwrap(), Some(snapshot(3)));
    }

    fn at_one_name(path: &Path) -> bool {
        fs::metadata(path).unwrap().nlink() == 1
    }

    #[test]
    fn the_last_one_written_is_read_and_no_damage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
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
