//! Expiry: what a key shows once a schedule is due, and the sweep that removes it.
//!
//! A header says from when on something is due that this replica has not removed yet, and a row in
//! the meta table, written with the header, stands under that time: so what is due is found in order
//! of its deadlines, at a cost that follows what is due. Until the sweep comes by, a read joins the
//! header in memory with what is due, so both show the same, and neither depends on when the other
//! came. The sweep makes the merge that any replica makes, and its record says at which time, so
//! that replay removes the same.
//!
//! Source: design.md, Expiry. Decision: docs/decisions/2026-11-26-expiry.md.

use std::ops::ControlFlow;

use values::{Key, Removal, Schedule, State, Tag, View};

use super::Engine;
use super::merge::Merged;
use crate::log_record::RecordOut;
use crate::memtable::successor;
use crate::record::{Header, Part, due_unchecked};
use crate::row_key::{RowKey, expiry_prefix, expiry_row, parse_expiry};
use crate::{IndexRead, StorageError, Table};

/// The row that lists the key at `at` by its deadline, if its header's record says that something of
/// it is to be removed. The same for the same bytes, so that the row that was put is the one
/// deleted.
pub(super) fn expiry_of(at: &RowKey, record: &[u8]) -> Option<Vec<u8>> {
    due_unchecked(record).map(|deadline_ms| expiry_row(deadline_ms, at.as_bytes()))
}

impl Header {
    fn schedules(&self) -> impl Iterator<Item = &Schedule> + '_ {
        let store = match self.tags.get(&Tag::EXPIRY) {
            Some(Part::Whole(State::Expiry(expiry))) => Some(expiry.store.0.values()),
            _ => None,
        };
        store.into_iter().flatten()
    }

    /// The earliest deadline after `done_ms`, before which all was removed already.
    pub(super) fn next_deadline(&self, done_ms: Option<u64>) -> Option<u64> {
        let deadlines = self.schedules().map(|schedule| schedule.deadline_ms);
        deadlines.filter(|&deadline| done_ms.is_none_or(|done| deadline > done)).min()
    }

    /// What is due at `now_ms` and was not removed yet.
    fn due(&self, now_ms: u64) -> Option<Removal> {
        if self.due_ms.is_none_or(|due| due > now_ms) {
            return None;
        }
        let mut removal = Removal::default();
        self.schedules()
            .filter(|schedule| schedule.deadline_ms <= now_ms)
            .for_each(|schedule| removal.merge(&schedule.removal));
        Some(removal)
    }
}

impl<R: IndexRead> Engine<R> {
    /// The header as a reader sees it at `now_ms`, where that is another than the one stored.
    pub(super) fn without_due(
        &self,
        at: &RowKey,
        key: &Key,
        header: &Header,
        now_ms: u64,
    ) -> Result<Option<Header>, StorageError> {
        let Some(removal) = header.due(now_ms) else { return Ok(None) };
        Ok(Some(self.merged(at, key, header.clone(), &removal.delta())?.header))
    }

    /// Removes what is due at `now_ms` of up to `keys` keys, those that have been due longest first.
    /// Returns whether there may be more; `false` also while the disk is too far behind or refuses
    /// batches.
    pub fn expire(&mut self, now_ms: u64, keys: usize) -> bool {
        let is_behind = self.pending_bytes() > self.config.pending_bytes_max / 2;
        if is_behind || self.disk_error().is_some() {
            return false;
        }
        let mut from = Vec::new();
        for _ in 0..keys {
            match self.expire_next(&mut from, now_ms) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(error) => {
                    // Its readers are told; the next sweep passes here again.
                    self.damaged += u64::from(matches!(error, StorageError::Corrupt(_)));
                }
            }
        }
        true
    }

    /// Removes what is due of the first key listed at or after `from`, which moves on.
    fn expire_next(&mut self, from: &mut Vec<u8>, now_ms: u64) -> Result<bool, StorageError> {
        let mut listed = None;
        self.rows.scan(Table::Meta, expiry_prefix(), from, |row, _| {
            listed = Some(row.to_vec());
            ControlFlow::Break(())
        })?;
        let Some(row) = listed else { return Ok(false) };
        *from = successor(&row);
        let Some((deadline_ms, at)) = parse_expiry(&row) else {
            self.rows.put(Table::Meta, row, None);
            return Ok(true);
        };
        if deadline_ms > now_ms {
            return Ok(false);
        }
        let decoded = self
            .rows
            .get(Table::Header, at.as_bytes(), |record| Header::decode(at.as_bytes(), record))?;
        let key = match decoded {
            Some(Ok((header, full))) if header.due_ms == Some(deadline_ms) => {
                full.or_else(|| at.short_key())
            }
            // What is damaged is listed again once its schedules are merged again.
            _ => None,
        };
        let Some(key) = key else {
            self.rows.put(Table::Meta, row, None);
            return Ok(true);
        };
        self.expire_key(&key, now_ms)?;
        Ok(true)
    }

    /// Removes what is due of `key`. A damaged key is first brought back to what is whole of it.
    pub(super) fn expire_key(&mut self, key: &Key, now_ms: u64) -> Result<(), StorageError> {
        let at = RowKey::of(key);
        match self.try_expire(&at, key, now_ms) {
            Err(StorageError::Corrupt(_)) => {
                self.damaged += 1;
                self.rebuild(&at, key)?;
                self.try_expire(&at, key, now_ms)
            }
            done => done,
        }
    }

    fn try_expire(&mut self, at: &RowKey, key: &Key, now_ms: u64) -> Result<(), StorageError> {
        let header = self.header(at, key)?;
        let Some(removal) = header.due(now_ms) else { return Ok(()) };
        let delta = removal.delta();
        self.observe(at, &header, &delta);
        let mut merged: Merged = self.merged(at, key, header, &delta)?;
        merged.header.due_ms = merged.header.next_deadline(Some(now_ms));
        merged.header_changed = true;
        self.apply(at, key, merged)?;
        self.record(at.token(), &RecordOut::Expire(key, now_ms));
        Ok(())
    }
}

/// Shows of the fields in `view` what is seen at `now_ms`: their increments stand in rows, which a
/// header joined in memory does not reach.
pub(super) fn settle(view: &mut View, now_ms: u64) {
    let collections = view.collections.clone();
    view.expire(now_ms);
    view.collections = collections;
}
