//! A stopped node's data directory or a backup, opened to be read.

use std::path::Path;

use ring::PartitionCount;
use storage::{
    Backup, DirectoryStamp, IndexRead, MANIFEST_FILE, STAMP_FILE, SeamError, Shards, StampError,
    Table, Visit,
};
use storage_lmdb::{
    DirectoryLock, DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter, check_pages,
};

use super::OfflineError;
use crate::data_directory::INDEX;

/// What is read.
pub(super) enum Source {
    /// Its index, of so many pages, and its files.
    Node {
        reader: LmdbReader,
        _writer: LmdbWriter,
        files: DiskFiles,
        pages: u64,
    },
    Backup(Box<Backup<DiskFiles>>),
}

/// What is read, and what its stamp says. Locked: no node starts on it meanwhile.
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) stamp: DirectoryStamp,
    pub(super) shards: Shards,
    pub(super) _lock: DirectoryLock,
}

impl Opened {
    /// Opens `dir`, whichever it is. Of a damaged page LMDB could end the process: so all pages are checked before it
    /// sees its file, and `passed` is told how many bytes of how many were read.
    pub(super) fn open(dir: &Path, passed: &mut dyn FnMut(u64, u64)) -> Result<Self, OfflineError> {
        if is_backup(dir) {
            let (backup, shards, _lock) = open_backup(dir)?;
            let stamp = backup.stamp().clone();
            return Ok(Self { source: Source::Backup(Box::new(backup)), stamp, shards, _lock });
        }
        let Directory { files, stamp, shards, _lock } = Directory::open(dir)?;
        let index = dir.join(INDEX);
        let pages = check_pages(&index, passed)?;
        let options = LmdbOptions { may_create: false, ..LmdbOptions::default() };
        let (reader, writer) = LmdbIndex::open(&index, &options)?;
        let source = Source::Node { reader, _writer: writer, files, pages };
        Ok(Self { source, stamp, shards, _lock })
    }
}

/// A stopped node's data directory without its index. Locked: no node starts on it meanwhile.
pub(super) struct Directory {
    pub(super) files: DiskFiles,
    pub(super) stamp: DirectoryStamp,
    pub(super) shards: Shards,
    pub(super) _lock: DirectoryLock,
}

impl Directory {
    pub(super) fn open(dir: &Path) -> Result<Self, OfflineError> {
        let stamped = |source| OfflineError::Stamp { dir: dir.into(), source };
        if !dir.is_dir() {
            return Err(OfflineError::NoDirectory(dir.into()));
        }
        let files = DiskFiles::open(dir)?;
        if !dir.join(STAMP_FILE).exists() {
            return Err(stamped(StampError::Missing));
        }
        let lock = DirectoryLock::acquire(dir)?;
        let stamp = DirectoryStamp::read(&files).map_err(stamped)?;
        let shards = shards(dir, &stamp)?;
        Ok(Self { files, stamp, shards, _lock: lock })
    }
}

/// Whether `dir` holds a backup.
pub(super) fn is_backup(dir: &Path) -> bool {
    dir.join(MANIFEST_FILE).exists()
}

/// Opens the backup in `dir`, which may stand on media that cannot be written.
pub(super) fn open_backup(
    dir: &Path,
) -> Result<(Backup<DiskFiles>, Shards, DirectoryLock), OfflineError> {
    let lock = DirectoryLock::acquire_to_read(dir)?;
    let failed = |source| OfflineError::Backup { dir: dir.into(), source };
    let backup = Backup::open(DiskFiles::open(dir)?).map_err(failed)?;
    let shards = shards(dir, backup.stamp())?;
    Ok((backup, shards, lock))
}

fn shards(dir: &Path, stamp: &DirectoryStamp) -> Result<Shards, OfflineError> {
    let partitions = PartitionCount::new(stamp.partitions).map_err(|_| {
        let source = StampError::Damaged(format!("it has {} partitions", stamp.partitions));
        OfflineError::Stamp { dir: dir.into(), source }
    })?;
    let count = u16::try_from(stamp.shards).unwrap_or(u16::MAX);
    Ok(Shards::new(partitions, count))
}

impl IndexRead for Source {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        match self {
            Self::Node { reader, .. } => reader.get(table, key, look),
            Self::Backup(backup) => backup.get(table, key, look),
        }
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        match self {
            Self::Node { reader, .. } => reader.scan(table, from, visit),
            Self::Backup(backup) => backup.scan(table, from, visit),
        }
    }
}

impl Source {
    /// Rows of all tables, as far as that is known without reading them.
    pub(super) fn row_count(&self) -> Result<u64, SeamError> {
        match self {
            Self::Node { reader, .. } => reader.snapshot(|snapshot| {
                Table::ALL.into_iter().map(|table| snapshot.row_count(table)).sum()
            })?,
            Self::Backup(backup) => Ok(backup.manifest().rows),
        }
    }
}
