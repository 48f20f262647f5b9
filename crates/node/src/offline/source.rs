//! A stopped node's data directory or a backup, opened to be read.

use std::path::Path;

use ring::PartitionCount;
use storage::{
    Backup, DirectoryStamp, IndexRead, MANIFEST_FILE, STAMP_FILE, SeamError, Shards, StampError,
    Table, Visit,
};
use storage_lmdb::{DirectoryLock, DiskFiles, LmdbIndex, LmdbOptions, LmdbReader, LmdbWriter};

use super::OfflineError;
use crate::data_directory::INDEX;

/// What is read.
pub(super) enum Source {
    Node { reader: LmdbReader, _writer: LmdbWriter, files: DiskFiles },
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
    /// Opens `dir`, whichever it is. `before_index` is called before LMDB sees its file.
    pub(super) fn open(
        dir: &Path,
        before_index: impl FnOnce(&Path) -> Result<(), OfflineError>,
    ) -> Result<Self, OfflineError> {
        if !dir.is_dir() {
            return Err(OfflineError::NoDirectory(dir.into()));
        }
        if dir.join(MANIFEST_FILE).exists() {
            // It may stand on media that cannot be written.
            let lock = DirectoryLock::acquire_to_read(dir)?;
            let failed = |source| OfflineError::Backup { dir: dir.into(), source };
            let backup = Backup::open(DiskFiles::open(dir)?).map_err(failed)?;
            let stamp = backup.stamp().clone();
            let shards = shards(dir, &stamp)?;
            return Ok(Self {
                source: Source::Backup(Box::new(backup)),
                stamp,
                shards,
                _lock: lock,
            });
        }
        let Directory { files, stamp, shards, _lock } = Directory::open(dir)?;
        let index = dir.join(INDEX);
        before_index(&index)?;
        let options = LmdbOptions { may_create: false, ..LmdbOptions::default() };
        let (reader, writer) = LmdbIndex::open(&index, &options)?;
        let source = Source::Node { reader, _writer: writer, files };
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
