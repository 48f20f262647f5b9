//! Bringing a replica back.

use super::manifest::LOG;
use super::rows::{RowsHash, table};
use super::{Backup, BackupError};
use crate::stamp::{DRAFT_FILE, STAMP_FILE};
use crate::{Files, IndexRead, IndexWrite, RowChange, Table};

/// Bytes of rows brought into the index in one transaction. A guess: many rows for one sync, few
/// enough to hold.
const BATCH_BYTES: usize = 8 << 20;
const READ_BYTES: usize = 1 << 20;

/// Writes what `backup` holds into an empty index and the empty `data`: rows, then the log, and last
/// of all the stamp, without which the directory is nobody's. `passed` is told how many rows are done,
/// each twice: once written, once read back.
///
/// On an error what was written is of no use.
pub fn restore<F: Files>(
    backup: &Backup<F>,
    writer: &mut impl IndexWrite,
    reader: &impl IndexRead,
    data: &mut impl Files,
    passed: &mut dyn FnMut(u64),
) -> Result<(), BackupError> {
    let mut written = RowsHash::default();
    let mut batch: Vec<(Table, Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let mut commit = |batch: &mut Vec<(Table, Vec<u8>, Vec<u8>)>| {
        let rows = batch.iter();
        let changes: Vec<_> = rows
            .map(|(table, key, record)| RowChange { table: *table, key, value: Some(record) })
            .collect();
        writer.commit(&changes).map_err(BackupError::Data)?;
        batch.clear();
        Ok(())
    };
    let mut rows = backup.rows_from((0, Vec::new())).map_err(BackupError::files)?;
    while rows.advance().map_err(BackupError::files)? {
        written.add(rows.table, &rows.key, &rows.record);
        bytes += rows.key.len() + rows.record.len();
        let table = table(rows.table).map_err(BackupError::files)?;
        batch.push((table, rows.key.clone(), rows.record.clone()));
        if bytes >= BATCH_BYTES {
            commit(&mut batch)?;
            bytes = 0;
        }
        passed(written.rows);
    }
    commit(&mut batch)?;
    if written.rows != backup.manifest.rows {
        return Err(BackupError::Damaged(format!(
            "it has {} rows, not {}",
            written.rows, backup.manifest.rows
        )));
    }
    read_back(&written, reader, passed)?;
    copy_log(backup, data)?;
    let mut stamp = || {
        data.append(DRAFT_FILE, backup.stamp().text().as_bytes())?;
        data.sync(DRAFT_FILE)?;
        data.sync_directory()?;
        data.rename(DRAFT_FILE, STAMP_FILE)?;
        data.sync_directory()
    };
    stamp().map_err(BackupError::Data)
}

fn read_back(
    written: &RowsHash,
    reader: &impl IndexRead,
    passed: &mut dyn FnMut(u64),
) -> Result<(), BackupError> {
    let mut found = RowsHash::default();
    for table in Table::ALL {
        let mut visit = |key: &[u8], record: &[u8]| {
            found.add(table as u8, key, record);
            passed(written.rows + found.rows);
            std::ops::ControlFlow::Continue(())
        };
        reader.scan(table, &[], &mut visit).map_err(BackupError::Data)?;
    }
    if found.finish() == written.finish() {
        return Ok(());
    }
    let what = "the index does not hold what was written to it: check the disk".into();
    Err(BackupError::Data(crate::SeamError::Corrupt(what)))
}

/// Copies the segments of the log under their own names, comparing them with what was backed up.
fn copy_log<F: Files>(backup: &Backup<F>, data: &mut impl Files) -> Result<(), BackupError> {
    for file in backup.manifest.files_of(LOG) {
        file.check(&backup.files, &mut |_| ())?;
        let start = file.name.rsplit('-').next().unwrap_or_default();
        let name = format!("{LOG}{start}");
        let mut at = 0;
        data.append(&name, &[]).map_err(BackupError::Data)?;
        while at < file.length {
            let bytes =
                backup.files.read(&file.name, at, READ_BYTES).map_err(BackupError::files)?;
            if bytes.is_empty() {
                return Err(BackupError::Damaged(format!("{} ends at byte {at}", file.name)));
            }
            data.append(&name, &bytes).map_err(BackupError::Data)?;
            at += bytes.len() as u64;
        }
        data.sync(&name).map_err(BackupError::Data)?;
    }
    Ok(())
}
