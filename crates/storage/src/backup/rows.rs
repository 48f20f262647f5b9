//! Files of rows: sorted, in blocks with checksums.
//!
//! ```text
//! file   block ‖ block ‖ …
//! block  length of the rows (4, little-endian) ‖ checksum (8) ‖ rows
//! row    table (1) ‖ length of the key (2) ‖ 1 + length of the record, 0 if it was deleted (4)
//!        ‖ key ‖ record
//! ```
//!
//! Rows stand in the order of (table, key). A checksum is seeded with the file's name, its data
//! directory and the block's place, so that a block that turns up elsewhere is damaged.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::BackupError;
use super::manifest::{BackupFile, Draft};
use crate::{Files, ROW_KEY_MAX, SeamError, Table};

/// A block that has reached this length ends. A guess: few enough to know all their places, small
/// enough to read for one row.
const BLOCK_BYTES: usize = if cfg!(test) { 200 } else { 64 << 10 };
const HEAD_BYTES: usize = 12;
const ROW_BYTES: usize = 7;

/// Table and key of a row: the order of everything here.
pub(super) type RowPlace = (u8, Vec<u8>);

fn seed(name: &str, directory: u64) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), directory)
}

/// Writes a file of rows.
pub(super) struct RowsWriter<'a, F> {
    draft: Draft<'a, F>,
    seed: u64,
    block: Vec<u8>,
}

impl<'a, F: Files> RowsWriter<'a, F> {
    pub(super) fn begin(
        files: &'a mut F,
        name: String,
        directory: u64,
    ) -> Result<Self, BackupError> {
        let seed = seed(&name, directory);
        Ok(Self { draft: Draft::begin(files, name)?, seed, block: vec![0; HEAD_BYTES] })
    }

    /// Adds a row that comes after all before it; `None` for one that was deleted.
    pub(super) fn push(
        &mut self,
        table: u8,
        key: &[u8],
        record: Option<&[u8]>,
    ) -> Result<(), BackupError> {
        let key_length = u16::try_from(key.len()).expect("keys of rows are limited");
        let length = record.map_or(0, |record| {
            1 + u32::try_from(record.len()).expect("a record is far below 4 GiB")
        });
        self.block.push(table);
        self.block.extend_from_slice(&key_length.to_le_bytes());
        self.block.extend_from_slice(&length.to_le_bytes());
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(record.unwrap_or_default());
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> Result<(), BackupError> {
        let (head, rows) = self.block.split_at_mut(HEAD_BYTES);
        let length = u32::try_from(rows.len()).expect("a block is a little longer than a record");
        head[..4].copy_from_slice(&length.to_le_bytes());
        let checksum = xxh3_64_with_seed(rows, self.seed.wrapping_add(self.draft.length()));
        head[4..].copy_from_slice(&checksum.to_le_bytes());
        self.draft.append(&self.block)?;
        self.block.truncate(HEAD_BYTES);
        Ok(())
    }

    /// Bytes written, or to be.
    pub(super) fn length(&self) -> u64 {
        self.draft.length() + self.block.len() as u64
    }

    pub(super) fn finish(mut self) -> Result<BackupFile, BackupError> {
        if self.block.len() > HEAD_BYTES {
            self.end_block()?;
        }
        self.draft.finish()
    }
}

/// A file of rows, with the places of its blocks.
#[derive(Debug)]
pub(super) struct RowsFile {
    name: String,
    seed: u64,
    /// Of each block, its first row and where it begins.
    blocks: Vec<(RowPlace, u64)>,
}

impl RowsFile {
    /// Finds the blocks of `file`. Reads their heads only: what is damaged otherwise is found when
    /// it is read.
    pub(super) fn open(
        files: &impl Files,
        file: &BackupFile,
        directory: u64,
    ) -> Result<Self, SeamError> {
        let mut blocks = Vec::new();
        let mut at = 0;
        while at < file.length {
            let head = files.read(&file.name, at, HEAD_BYTES + ROW_BYTES + ROW_KEY_MAX)?;
            let rows = head.get(HEAD_BYTES..).unwrap_or_default();
            let (Some(length), Some(row)) = (head.first_chunk::<4>(), Head::of(rows)) else {
                return Err(damaged(&file.name, at));
            };
            let Some(key) = rows.get(ROW_BYTES..ROW_BYTES + row.key_length) else {
                return Err(damaged(&file.name, at));
            };
            blocks.push(((row.table, key.to_vec()), at));
            at += HEAD_BYTES as u64 + u64::from(u32::from_le_bytes(*length));
        }
        if at == file.length {
            Ok(Self { name: file.name.clone(), seed: seed(&file.name, directory), blocks })
        } else {
            Err(damaged(&file.name, at))
        }
    }

    /// Number of the block in which `place` stands, if the file has it.
    pub(super) fn find(&self, place: &RowPlace) -> usize {
        self.blocks.partition_point(|(first, _)| first <= place).saturating_sub(1)
    }

    pub(super) const fn count(&self) -> usize {
        self.blocks.len()
    }

    /// The rows of block `number`, checked.
    pub(super) fn block(&self, files: &impl Files, number: usize) -> Result<Vec<u8>, SeamError> {
        let at = self.blocks[number].1;
        let end = self.blocks.get(number + 1).map(|(_, next)| *next);
        let length = end.map_or(usize::MAX, |end| usize::try_from(end - at).unwrap_or(usize::MAX));
        let mut block = files.read(&self.name, at, length)?;
        let checksum = block.get(4..HEAD_BYTES).map(<[u8]>::to_vec);
        let rows = block.split_off(HEAD_BYTES.min(block.len()));
        let expected = xxh3_64_with_seed(&rows, self.seed.wrapping_add(at)).to_le_bytes();
        if checksum.as_deref() == Some(&expected) { Ok(rows) } else { Err(damaged(&self.name, at)) }
    }
}

fn damaged(name: &str, at: u64) -> SeamError {
    SeamError::Corrupt(format!("{name}, the block at byte {at}"))
}

/// The lengths before a row.
struct Head {
    table: u8,
    key_length: usize,
    /// `None` if the row was deleted.
    record_length: Option<usize>,
}

impl Head {
    fn of(row: &[u8]) -> Option<Self> {
        let [table, k0, k1, r0, r1, r2, r3] = *row.first_chunk::<ROW_BYTES>()?;
        let record = u32::from_le_bytes([r0, r1, r2, r3]);
        Some(Self {
            table,
            key_length: usize::from(u16::from_le_bytes([k0, k1])),
            record_length: record.checked_sub(1).map(|length| length as usize),
        })
    }
}

/// A row within a block.
pub(super) struct BlockRow<'a> {
    pub(super) table: u8,
    pub(super) key: &'a [u8],
    /// `None` if it was deleted.
    pub(super) record: Option<&'a [u8]>,
    /// Where the next one begins.
    pub(super) end: usize,
}

/// The row that begins at `at` of a checked block, `None` at its end.
pub(super) fn row_at(block: &[u8], at: usize) -> Option<BlockRow<'_>> {
    let row = block.get(at..)?;
    let Head { table, key_length, record_length } = Head::of(row)?;
    let (key, rest) = row[ROW_BYTES..].split_at_checked(key_length)?;
    let record = rest.get(..record_length.unwrap_or(0))?;
    let end = at + ROW_BYTES + key_length + record.len();
    Some(BlockRow { table, key, record: record_length.map(|_| record), end })
}

/// The table with this number.
pub(super) fn table(number: u8) -> Result<Table, SeamError> {
    let table = Table::ALL.get(usize::from(number)).copied();
    table.ok_or_else(|| SeamError::Corrupt(format!("a row of table {number}")))
}

/// A hash of rows given in order, to tell whether two indexes hold the same.
#[derive(Default)]
pub(super) struct RowsHash {
    sum: u64,
    pub(super) rows: u64,
}

impl RowsHash {
    pub(super) fn add(&mut self, table: u8, key: &[u8], record: &[u8]) {
        let seed = self.sum.wrapping_add(u64::from(table));
        self.sum = xxh3_64_with_seed(record, xxh3_64_with_seed(key, seed)) ^ xxh3_64(key);
        self.rows += 1;
    }

    pub(super) const fn finish(&self) -> (u64, u64) {
        (self.sum, self.rows)
    }
}
