//! Sweeping: taking dead rows of cleared collections away, a few at a time.
//!
//! A row in the meta table remembers each collection with something in `cleared`. The place
//! reached is kept in memory only: after a crash a collection is swept from its beginning again.
//! Sweeping changes no view.

use std::ops::ControlFlow;

use clock::CausalContext;
use values::Tag;

use super::Engine;
use super::collection::without_cleared;
use super::look::read_element;
use crate::memtable::successor;
use crate::record::{Collection, Header, Part, encode_element};
use crate::row_key::{RowKey, parse_sweep, sweep_prefix};
use crate::{IndexRead, StorageError, Table};

/// How far the sweep of one collection has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The meta row of the collection under way.
    collection: Vec<u8>,
    /// What was cleared when its sweep began. Rows passed are clean of this, not of more.
    cleared: CausalContext,
    /// The next row.
    from: Vec<u8>,
}

impl<R: IndexRead> Engine<R> {
    /// Looks at up to `rows` rows of cleared collections and takes away what is dead. Returns
    /// whether there may be more; `false` also while the disk is too far behind.
    pub fn sweep(&mut self, rows: usize) -> bool {
        if self.rows.bytes() > self.config.pending_bytes_max / 2 {
            return false;
        }
        match self.sweep_some(rows) {
            Ok(more) => more,
            Err(error) => {
                if matches!(error, StorageError::Corrupt(_)) {
                    self.damaged += 1;
                }
                false
            }
        }
    }

    fn sweep_some(&mut self, rows: usize) -> Result<bool, StorageError> {
        let mut marker = None;
        self.rows.scan(Table::Meta, sweep_prefix(), &[], |row_key, _| {
            marker = Some(row_key.to_vec());
            ControlFlow::Break(())
        })?;
        let Some(marker) = marker else { return Ok(false) };
        let Some((tag, at)) = parse_sweep(&marker) else {
            self.rows.put(Table::Meta, marker, None);
            return Ok(true);
        };
        let decoded = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok()
        })?;
        let Some((mut header, full)) = decoded.flatten() else {
            // Damaged: its next merge makes it anew from its rows.
            self.rows.put(Table::Meta, marker, None);
            return Ok(true);
        };
        let Some(Part::Collection(collection)) = header.tags.get_mut(&tag) else {
            self.rows.put(Table::Meta, marker, None);
            return Ok(true);
        };
        let Some(key) = full.or_else(|| at.short_key()) else {
            self.rows.put(Table::Meta, marker, None);
            return Ok(true);
        };
        if self.sweep.collection != marker || self.sweep.cleared != collection.cleared {
            self.sweep = Progress {
                collection: marker.clone(),
                cleared: collection.cleared.clone(),
                from: Vec::new(),
            };
        }
        if self.sweep_rows(&at, &key, tag, collection, rows)? {
            collection.cleared = CausalContext::default();
            self.put_header(&at, header.encode(&at, &key))?;
            self.rows.put(Table::Meta, marker, None);
            self.sweep = Progress::default();
        }
        Ok(true)
    }

    /// Sweeps up to `limit` rows from where the last call ended. Returns whether the end was
    /// reached.
    fn sweep_rows(
        &mut self,
        at: &RowKey,
        key: &values::Key,
        tag: Tag,
        collection: &Collection,
        limit: usize,
    ) -> Result<bool, StorageError> {
        let prefix = at.elements(tag);
        let (mut changes, mut looked, mut end) = (Vec::new(), 0, true);
        let mut next = Vec::new();
        self.rows.scan(Table::Element, &prefix, &self.sweep.from, |row_key, record| {
            if looked >= limit.max(1) {
                end = false;
                return ControlFlow::Break(());
            }
            looked += 1;
            next = successor(row_key);
            // A damaged row is left to whoever reads it.
            if let Ok((element, row)) = read_element(&prefix, row_key, record, Some(key))
                && let Ok(kept) = without_cleared(tag, &row, collection, &element)
                && kept.before.as_deref() != Some(&row[..])
            {
                let record = kept.before.map(|row| encode_element(row_key, at, key, &element, row));
                changes.push((row_key.to_vec(), record));
            }
            ControlFlow::Continue(())
        })?;
        self.sweep.from = next;
        for (row_key, record) in changes {
            self.rows.put(Table::Element, row_key, record);
        }
        Ok(end)
    }
}
