//! Sweeping: taking dead rows of cleared collections away, a few at a time.
//!
//! A row in the meta table remembers each collection with something in `cleared`, and what that is:
//! should the header be damaged, `rebuild` finds it there. Until then the sweep passes such a
//! collection over. Collections take
//! turns, some rows each, so that none waits for one that is cleared again and again. The place
//! reached in each is kept in memory only: after a crash a collection is swept from its beginning
//! again. Sweeping changes no view but the summary of a collection that is still to be counted.
//!
//! Such a row without a header is of a key that was dropped (`forget`): all rows of that collection go.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use clock::CausalContext;
use values::Tag;

use super::collection::{Sum, without_dots};
use super::look::read_element;
use super::merge::Merged;
use super::{Change, Engine};
use crate::memtable::successor;
use crate::record::{Collection, Header, Part, decode_cleared, encode_element};
use crate::row_key::{RowKey, parse_sweep, sweep_prefix};
use crate::{IndexRead, StorageError, Table};

/// Collections with a damaged header that are passed over at most. A guess.
const DAMAGED_MAX: usize = 1024;

/// How far the sweep has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The meta row of the collection that had its turn last.
    last: Vec<u8>,
    /// The place reached in each collection begun, by its meta row.
    places: BTreeMap<Vec<u8>, Place>,
    /// The meta rows of collections whose header was met damaged.
    damaged: BTreeSet<Vec<u8>>,
    /// Whether there are surely no rows of keys that were dropped.
    has_no_dropped: bool,
}

impl Progress {
    /// Rows taken away were not committed: every collection is swept from its beginning.
    pub(super) fn failed(&mut self) {
        self.places.clear();
        self.damaged.clear();
        self.has_no_dropped = false;
    }

    /// A key was dropped, perhaps without all of its rows.
    pub(super) fn dropped(&mut self) {
        self.has_no_dropped = false;
    }

    /// Whether there may be rows of keys that were dropped.
    pub(super) const fn may_hold_dropped(&self) -> bool {
        !self.has_no_dropped
    }

    /// The collection's header was made anew, or dropped.
    pub(super) fn rebuilt(&mut self, marker: &[u8]) {
        self.places.remove(marker);
        self.damaged.remove(marker);
    }
}

/// How far the sweep of one collection has come.
#[derive(Debug)]
struct Place {
    /// What was cleared when this pass began. Rows passed are clean of this, not of more.
    cleared: CausalContext,
    /// The next row.
    from: Vec<u8>,
}

impl<R: IndexRead> Engine<R> {
    /// Finds out whether the index has rows of keys that were dropped.
    pub(super) fn find_dropped(&mut self) -> Result<(), StorageError> {
        self.sweep.has_no_dropped = true;
        self.rows.scan(Table::Meta, sweep_prefix(), &[], |marker, record| {
            // One that is damaged tells nothing: what is surely not such is of a collection that was cleared.
            if decode_cleared(marker, record).is_ok_and(|cleared| !cleared.is_empty()) {
                return ControlFlow::Continue(());
            }
            self.sweep.has_no_dropped = false;
            ControlFlow::Break(())
        })
    }

    /// Looks at up to `rows` rows of cleared collections and takes away what is dead. Returns
    /// whether there may be more; `false` also while the disk is too far behind or refuses batches.
    pub fn sweep(&mut self, rows: usize) -> bool {
        let is_behind = self.rows.bytes() > self.config.pending_bytes_max / 2;
        if is_behind || self.disk_error().is_some() {
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
        let after = successor(&self.sweep.last);
        let Some(marker) =
            self.marker(&after)?.map_or_else(|| self.marker(&[]), |m| Ok(Some(m)))?
        else {
            self.sweep.has_no_dropped = true;
            return Ok(false);
        };
        self.sweep.last.clone_from(&marker);
        // Back only if the collection is not swept to its end now.
        let place = self.sweep.places.remove(&marker);
        let Some((tag, at)) = parse_sweep(&marker) else {
            self.rows.put(Table::Meta, &marker, None);
            return Ok(true);
        };
        let decoded = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok()
        })?;
        let Some(decoded) = decoded else {
            let from = place.map_or_else(Vec::new, |place| place.from);
            let next = self.sweep_dropped(marker.clone(), &at, tag, &from, rows)?;
            if let Some(from) = next
                && self.sweep.places.len() < self.config.bounds.sweep_places_max
            {
                self.sweep.places.insert(marker, Place { cleared: CausalContext::default(), from });
            }
            return Ok(true);
        };
        let Some((mut header, full)) = decoded else {
            self.damaged += 1;
            // With too many to remember, whoever writes next has the sweep go on.
            let is_remembered = self.sweep.damaged.len() < DAMAGED_MAX;
            if is_remembered {
                self.sweep.damaged.insert(marker);
            }
            return Ok(is_remembered);
        };
        let before = header.clone();
        let Some(Part::Collection(collection)) = header.tags.get_mut(&tag) else {
            self.rows.put(Table::Meta, &marker, None);
            return Ok(true);
        };
        let Some(key) = full.or_else(|| at.short_key()) else {
            self.rows.put(Table::Meta, &marker, None);
            return Ok(true);
        };
        let mut place = place
            .unwrap_or_else(|| Place { cleared: collection.cleared.clone(), from: Vec::new() });
        let (at_end, mut changes) =
            self.sweep_rows(&at, &key, tag, collection, &mut place.from, rows)?;
        if at_end && place.cleared == collection.cleared {
            collection.cleared = CausalContext::default();
            collection.deducted = None;
            changes.push(Change::of(Table::Meta, marker.clone(), None));
        }
        let header_changed = header != before;
        self.apply(&at, &key, Merged { header, header_changed, before: None, changes })?;
        if !at_end && self.sweep.places.len() < self.config.bounds.sweep_places_max {
            self.sweep.places.insert(marker, place);
        }
        Ok(true)
    }

    /// Sweeps one key to its end, however many rows it has.
    pub(super) fn sweep_key(&mut self, at: &RowKey) -> Result<(), StorageError> {
        let found = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok()
        })?;
        let Some((mut header, full)) = found.flatten() else { return Ok(()) };
        let Some(key) = full.or_else(|| at.short_key()) else { return Ok(()) };
        let (mut header_changed, mut changes) = (false, Vec::new());
        for (&tag, part) in &mut header.tags {
            let Part::Collection(collection) = part else { continue };
            if collection.cleared.is_empty() {
                continue;
            }
            let (_, swept) =
                self.sweep_rows(at, &key, tag, collection, &mut Vec::new(), usize::MAX)?;
            changes.extend(swept);
            collection.cleared = CausalContext::default();
            collection.deducted = None;
            changes.push(Change::of(Table::Meta, at.sweep(tag), None));
            header_changed = true;
        }
        self.apply(at, &key, Merged { header, header_changed, before: None, changes })
    }

    /// The first meta row from `from` on of a collection whose header is not known to be damaged.
    fn marker(&self, from: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut marker = None;
        self.rows.scan(Table::Meta, sweep_prefix(), from, |row_key, _| {
            if self.sweep.damaged.contains(row_key) {
                return ControlFlow::Continue(());
            }
            marker = Some(row_key.to_vec());
            ControlFlow::Break(())
        })?;
        Ok(marker)
    }

    /// What sweeping up to `limit` rows from `from`, which moves on, changes in the rows and in
    /// `collection`. Returns whether the end was reached, too.
    fn sweep_rows(
        &self,
        at: &RowKey,
        key: &values::Key,
        tag: Tag,
        collection: &mut Collection,
        from: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(bool, Vec<Change>), StorageError> {
        let prefix = at.elements(tag);
        let (mut changes, mut looked, mut end) = (Vec::new(), 0, true);
        let (mut counted, mut left) = (Sum::default(), Sum::default());
        let mut next = from.clone();
        self.rows.scan(Table::Element, &prefix, from, |row_key, record| {
            if looked >= limit.max(1) {
                end = false;
                return ControlFlow::Break(());
            }
            looked += 1;
            next = successor(row_key);
            // A damaged row is left to whoever reads it.
            if let Ok((element, row)) = read_element(&prefix, row_key, record, Some(key))
                && let Ok(kept) = without_dots(tag, &row, &collection.cleared, &element)
                && kept.before.as_deref() != Some(&row[..])
                && let Ok(before) = collection.counted(tag, &element, Some(&row), &kept)
                && let Ok(after) = Sum::before(tag, &element, &kept)
            {
                counted.add(before);
                left.add(after);
                let record = kept.before.map(|row| encode_element(row_key, at, key, &element, row));
                changes.push(Change::of(Table::Element, row_key.to_vec(), record));
            }
            ControlFlow::Continue(())
        })?;
        *from = next;
        collection.replace(counted, left);
        Ok((end, changes))
    }
}
