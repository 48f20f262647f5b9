//! A backup read as the index that it is of: of rows in several files, the newest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use super::manifest::{MEMBERS, Manifest, ROWS};
use super::rows::{RowPlace, RowsFile, row_at, table};
use super::{BackupError, BackupLog};
use crate::{DirectoryStamp, Files, IndexRead, SeamError, Table, Visit, check_row_key};

/// A finished backup.
#[derive(Debug)]
pub struct Backup<F> {
    pub(super) files: F,
    pub(super) manifest: Manifest,
    stamp: DirectoryStamp,
    /// From the oldest to the newest.
    rows: Vec<RowsFile>,
    /// The block read last of each file and table: walks go back and forth between tables.
    recent: RefCell<BTreeMap<(usize, u8), (usize, Block)>>,
}

/// The rows of a block.
type Block = Rc<Vec<u8>>;

impl<F: Files> Backup<F> {
    /// Opens the backup in `files`; [`BackupError::Absent`] if none was finished there.
    pub fn open(files: F) -> Result<Self, BackupError> {
        let manifest = Manifest::read(&files)?.ok_or(BackupError::Absent)?;
        let stamp = manifest.stamp(&files)?;
        let rows = manifest.files_of(ROWS);
        let rows = rows.map(|file| RowsFile::open(&files, file, manifest.directory));
        let rows = rows.collect::<Result<_, _>>().map_err(BackupError::files)?;
        Ok(Self { files, manifest, stamp, rows, recent: RefCell::default() })
    }

    /// What it consists of.
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The stamp of the data directory that it is of.
    pub const fn stamp(&self) -> &DirectoryStamp {
        &self.stamp
    }

    /// Reads every file whole and compares it with what was written; `passed` is told of the bytes.
    pub fn check(&self, passed: &mut dyn FnMut(u64)) -> Vec<BackupError> {
        let check = |file: &super::BackupFile| file.check(&self.files, passed).err();
        self.manifest.files.iter().filter_map(check).collect()
    }

    /// What the node knew of its cluster, if that was kept.
    pub fn members(&self) -> Result<Option<Vec<u8>>, BackupError> {
        let file = self.manifest.files_of(MEMBERS).next();
        let read = file.map(|file| self.files.read(&file.name, 0, usize::MAX));
        read.transpose().map_err(BackupError::files)
    }

    /// The log, under the names that its segments have in a data directory.
    pub const fn log(&self) -> BackupLog<'_, F> {
        BackupLog(self)
    }

    fn block(&self, file: usize, table: u8, number: usize) -> Result<Block, SeamError> {
        let mut recent = self.recent.borrow_mut();
        if let Some((at, block)) = recent.get(&(file, table))
            && *at == number
        {
            return Ok(Rc::clone(block));
        }
        let block = Rc::new(self.rows[file].block(&self.files, number)?);
        recent.insert((file, table), (number, Rc::clone(&block)));
        Ok(block)
    }

    /// The rows from `place` on, in order.
    pub(super) fn rows_from(&self, place: RowPlace) -> Result<Rows<'_, F>, SeamError> {
        let mut cursors = Vec::new();
        for file in 0..self.rows.len() {
            if self.rows[file].count() > 0 {
                cursors.push(Cursor::at(self, file, &place)?);
            }
        }
        Ok(Rows { backup: self, cursors, table: 0, key: Vec::new(), record: Vec::new() })
    }
}

/// A place in one file, at a row or at the end.
struct Cursor {
    file: usize,
    number: usize,
    block: Block,
    at: usize,
}

impl Cursor {
    fn at<F: Files>(backup: &Backup<F>, file: usize, place: &RowPlace) -> Result<Self, SeamError> {
        let number = backup.rows[file].find(place);
        let block = backup.block(file, place.0, number)?;
        let mut cursor = Self { file, number, block, at: 0 };
        while cursor.place().is_some_and(|(table, key)| (table, key) < (place.0, &place.1)) {
            cursor.advance(backup)?;
        }
        Ok(cursor)
    }

    fn place(&self) -> Option<(u8, &[u8])> {
        row_at(&self.block, self.at).map(|row| (row.table, row.key))
    }

    fn advance<F: Files>(&mut self, backup: &Backup<F>) -> Result<(), SeamError> {
        let Some(row) = row_at(&self.block, self.at) else { return Ok(()) };
        let table = row.table;
        self.at = row.end;
        if self.at >= self.block.len() && self.number + 1 < backup.rows[self.file].count() {
            self.number += 1;
            self.block = backup.block(self.file, table, self.number)?;
            self.at = 0;
        }
        Ok(())
    }
}

/// A walk over rows.
pub(super) struct Rows<'a, F> {
    backup: &'a Backup<F>,
    cursors: Vec<Cursor>,
    pub(super) table: u8,
    pub(super) key: Vec<u8>,
    pub(super) record: Vec<u8>,
}

impl<F: Files> Rows<'_, F> {
    /// Goes to the next row, which then stands in the fields; `false` at the end.
    pub(super) fn advance(&mut self) -> Result<bool, SeamError> {
        loop {
            let first = self.cursors.iter().filter_map(Cursor::place).min();
            let Some((table, key)) = first else { return Ok(false) };
            self.table = table;
            self.key.clear();
            self.key.extend_from_slice(key);
            let mut is_there = false;
            for cursor in &mut self.cursors {
                let Some(row) = row_at(&cursor.block, cursor.at) else { continue };
                if (row.table, row.key) == (self.table, self.key.as_slice()) {
                    // Later files are newer.
                    is_there = row.record.is_some();
                    self.record.clear();
                    self.record.extend_from_slice(row.record.unwrap_or_default());
                    cursor.advance(self.backup)?;
                }
            }
            if is_there {
                return Ok(true);
            }
        }
    }

    /// Table and key of the row.
    pub(super) fn place(&self) -> (u8, &[u8]) {
        (self.table, &self.key)
    }
}

impl<F: Files> IndexRead for Backup<F> {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        check_row_key(key)?;
        let mut rows = self.rows_from((table as u8, key.to_vec()))?;
        let found = rows.advance()? && rows.place() == (table as u8, key);
        if found {
            look(&rows.record);
        }
        Ok(found)
    }

    fn scan(&self, wanted: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        let mut rows = self.rows_from((wanted as u8, from.to_vec()))?;
        while rows.advance()? && table(rows.table)? == wanted {
            if visit(&rows.key, &rows.record) == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}
