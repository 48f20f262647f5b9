//! Which keys have something due.
//!
//! A header says from when on a schedule of its key is due, and a row in the meta table, written with
//! the header, stands under that time: so what is due is found in order of its deadlines, at a cost
//! that follows what is due. Nothing is removed here: one replica does not know whether others have
//! heard that a schedule was taken back. A coordinator asks them, and its removal is an update like
//! any other.
//!
//! Source: design.md, Expiry. Decision: docs/decisions/2026-11-26-expiry.md.

use std::ops::ControlFlow;

use values::{Key, State, Tag};

use super::Engine;
use crate::memtable::successor;
use crate::record::{Header, Part};
use crate::row_key::{expiry_prefix, parse_expiry};
use crate::tree::GONE;
use crate::{IndexRead, StorageError, Table};

/// Rows of keys that are not due after all, or of buckets that were dropped, taken away at most while
/// others are looked for. A guess: some milliseconds.
const UNLISTED_MAX: usize = 512;

/// How far the search for what is due has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The next row to look at.
    from: Vec<u8>,
}

impl Header {
    /// The earliest deadline of a schedule that was not taken back, in milliseconds since 1970.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        let Some(Part::Whole(State::Expiry(expiry))) = self.tags.get(&Tag::EXPIRY) else {
            return None;
        };
        expiry.store.0.values().map(|schedule| schedule.deadline_ms).min()
    }
}

impl<R: IndexRead> Engine<R> {
    /// Up to `limit` keys with something due at `now_ms`, with their deadlines, those that have been
    /// due longest first. Goes on behind the last one; none at the end, and then from the start
    /// again. None either while the disk is too far behind or refuses batches: what is due could not
    /// be removed.
    pub fn due(&mut self, now_ms: u64, limit: usize) -> Vec<(Key, u64)> {
        let is_behind = self.pending_bytes() > self.config.pending_bytes_max / 2;
        let mut due = Vec::new();
        if is_behind || self.disk_error().is_some() {
            return due;
        }
        let mut from = std::mem::take(&mut self.expiry.from);
        let (mut looked, mut unlisted) = (0, 0);
        let is_done = loop {
            if looked == limit || unlisted == UNLISTED_MAX {
                break false;
            }
            match self.next_due(&mut from, now_ms) {
                Ok(Some(found)) => {
                    looked += usize::from(found.is_some());
                    unlisted += usize::from(found.is_none());
                    due.extend(found);
                }
                Ok(None) => break true,
                Err(error) => {
                    // Its readers are told.
                    looked += 1;
                    self.damaged += u64::from(matches!(error, StorageError::Corrupt(_)));
                }
            }
        };
        if !is_done {
            self.expiry.from = from;
        }
        due
    }

    /// The next key listed at or after `from`, which moves on, if it is due; or that there is none.
    fn next_due(
        &mut self,
        from: &mut Vec<u8>,
        now_ms: u64,
    ) -> Result<Option<Option<(Key, u64)>>, StorageError> {
        let mut listed = None;
        self.rows.scan(Table::Meta, expiry_prefix(), from, |row, _| {
            listed = Some(row.to_vec());
            ControlFlow::Break(())
        })?;
        let Some(row) = listed else { return Ok(None) };
        *from = successor(&row);
        let Some((deadline_ms, at)) = parse_expiry(&row) else {
            self.rows.put(Table::Meta, &row, None);
            return Ok(Some(None));
        };
        if deadline_ms > now_ms {
            return Ok(None);
        }
        let decoded = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok()
        })?;
        if let Some((header, full)) = decoded.flatten()
            && header.deadline_ms() == Some(deadline_ms)
            && let Some(key) = full.or_else(|| at.short_key())
        {
            if self.trees.class_of(&key) != GONE {
                return Ok(Some(Some((key, deadline_ms))));
            }
            // That of a bucket that was dropped is listed no more.
            self.write_header(&at, &key, &header, None)?;
        }
        // What is damaged is listed again with its next change.
        self.rows.put(Table::Meta, &row, None);
        Ok(Some(None))
    }
}
