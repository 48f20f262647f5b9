//! Notes: small values that are no key's, kept in the meta table for whoever runs the engine.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Engine;
use crate::log_record::RecordOut;
use crate::record::{CHECKSUM_BYTES, checksum};
use crate::row_key::{note_prefix, note_row};
use crate::{IndexRead, NOTE_NAME_MAX, Shard, StorageError, Table};

/// Notes with their names; without a value where one is damaged.
pub(super) type Notes = Vec<(Bytes, Option<Bytes>)>;

/// The shard that notes go with: that of rows which are no key's.
pub(super) const NOTES: Shard = Shard(0);

impl<R: IndexRead> Engine<R> {
    /// Every note with its name, in order of name; without its value if it is damaged, which is
    /// counted.
    pub fn notes(&mut self) -> Result<Notes, StorageError> {
        let (mut notes, mut damaged) = (Vec::new(), 0);
        self.rows.scan(Table::Meta, note_prefix(), &[], |row_key, record| {
            let name = row_key.strip_prefix(note_prefix()).unwrap_or_default();
            let value = open(row_key, record).map(Bytes::copy_from_slice);
            damaged += u64::from(value.is_none());
            notes.push((Bytes::copy_from_slice(name), value));
            ControlFlow::Continue(())
        })?;
        self.damaged += damaged;
        Ok(notes)
    }

    pub(super) fn note(&mut self, notes: Vec<(Bytes, Bytes)>) -> Result<(), StorageError> {
        self.check_disk()?;
        self.check_room()?;
        if let Some((name, _)) = notes.iter().find(|(name, _)| name.len() > NOTE_NAME_MAX) {
            return Err(StorageError::Io(format!("a note's name of {} bytes", name.len())));
        }
        for (name, value) in &notes {
            let row_key = note_row(name);
            let mut record = checksum(&row_key, value).to_vec();
            record.extend_from_slice(value);
            self.rows.put(Table::Meta, &row_key, Some(record));
        }
        self.record_in(NOTES, &RecordOut::Note(&notes));
        Ok(())
    }
}

fn open<'a>(row_key: &[u8], record: &'a [u8]) -> Option<&'a [u8]> {
    let (sum, value) = record.split_first_chunk::<CHECKSUM_BYTES>()?;
    (*sum == checksum(row_key, value)).then_some(value)
}
