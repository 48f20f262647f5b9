//! Bringing a damaged key back to what is whole of it.
//!
//! A record that is damaged takes with it the knowledge of which dots it held. A context that went
//! on claiming them would tell other replicas that they were removed, and the loss would spread.
//! So the context is made anew from the rows that are whole: this replica then claims to have seen
//! less than it did, never more, and merges bring back from the others what it lost (also, until
//! then, what a stale replica still holds). What a clearing removed and the sweep has not come to
//! stands in the sweep's row too, so that a lost header does not bring it back. No actor drawn before mints again. Merges and updates
//! do this when they meet the damage; reads report it.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use clock::CausalContext;
use values::{Key, Tag, empty_collection};

use super::collection::{Sum, dots, without_dots};
use super::look::{Rows, read_element};
use super::{Change, Engine};
use crate::log_record::RecordOut;
use crate::record::{Collection, Header, Part, decode_cleared};
use crate::row_key::RowKey;
use crate::{IndexRead, StorageError, Table};

const COLLECTIONS: [Tag; 4] = [Tag::GSET, Tag::ORSET, Tag::CART, Tag::MAP];

impl<R: IndexRead> Engine<R> {
    /// Drops the damaged records of `key` and what rested on them. Fails, and changes nothing, if
    /// nothing is damaged but another key stands in its place.
    pub(super) fn rebuild(&mut self, at: &RowKey, key: &Key) -> Result<(), StorageError> {
        self.rebuild_from(at, key, false)
    }

    /// The same where every record is whole, and the rows are not what the header says. What is merged from
    /// here on rests on that, and nothing that is done again would find it.
    pub(super) fn rebuild_rows(&mut self, at: &RowKey, key: &Key) -> Result<(), StorageError> {
        self.rebuild_from(at, key, true)?;
        self.record(at.token(), &RecordOut::Rebuild(at.as_bytes()));
        Ok(())
    }

    /// Does again what the log says.
    pub(super) fn rebuild_again(&mut self, row_key: &[u8]) -> Result<(), StorageError> {
        let Some(at) = RowKey::read(row_key) else {
            return Err(StorageError::Corrupt("a row to be rebuilt has no such key".into()));
        };
        // The sweep had come to its end then, and leaves no record of that.
        self.sweep_key(&at)?;
        let full = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok().map(|(_, full)| full)
        })?;
        // A header that is damaged by now is met by whoever merges the key.
        let key = full.flatten().and_then(|full| full.or_else(|| at.short_key()));
        key.map_or(Ok(()), |key| self.rebuild_rows(&at, &key))
    }

    fn rebuild_from(
        &mut self,
        at: &RowKey,
        key: &Key,
        rows_differ: bool,
    ) -> Result<(), StorageError> {
        self.epochs.doubt();
        let decoded = self.rows.get(Table::Header, at.as_bytes(), |record| {
            Header::decode(at.as_bytes(), record).ok()
        })?;
        let lost = matches!(decoded, Some(None));
        let mut header = match decoded.flatten() {
            Some((_, Some(other))) if other != *key => {
                return Err(StorageError::Corrupt("another key with the same digest".into()));
            }
            Some((header, _)) => header,
            None => Header::default(),
        };
        let mut changes = Vec::new();
        for tag in COLLECTIONS {
            let doubted = lost || rows_differ && header.tags.contains_key(&tag);
            self.rebuild_collection(at, key, tag, &mut header, doubted, &mut changes)?;
        }
        for tag in COLLECTIONS {
            let mut has_chunks = false;
            if let Some(Part::Collection(collection)) = header.tags.get_mut(&tag) {
                collection.is_chunked = false;
                has_chunks = self.has_chunks(collection);
                collection.is_chunked = has_chunks;
            }
            changes.extend(self.rechunk(at, tag, has_chunks)?);
        }
        self.put_header(at, key, &mut header, None)?;
        for tag in COLLECTIONS {
            self.sweep.rebuilt(&at.sweep(tag));
        }
        self.put_rows(changes);
        Ok(())
    }

    fn rebuild_collection(
        &self,
        at: &RowKey,
        key: &Key,
        tag: Tag,
        header: &mut Header,
        doubted: bool,
        changes: &mut Vec<Change>,
    ) -> Result<(), StorageError> {
        let known = match header.tags.get(&tag) {
            Some(Part::Collection(collection)) => collection.clone(),
            _ if doubted => Collection { cleared: self.cleared(at, tag)?, ..Collection::default() },
            _ => Collection::default(),
        };
        let cleared = known.cleared.clone();
        let mut rebuilt = Collection { context: cleared.clone(), cleared, ..Collection::default() };
        let mut dropped = BTreeSet::new();
        let prefix = at.elements(tag);
        let rows = Rows { at, key, tag, collection: &known };
        self.rows.scan(Table::Element, &prefix, &[], |row_key, record| {
            let mut state = empty_collection(tag, CausalContext::default());
            let read =
                read_element(&prefix, row_key, record, Some(key)).and_then(|(element, row)| {
                    rows.insert(&mut state, element.clone(), &row)?;
                    let kept = without_dots(tag, &row, &known.cleared, &element)?;
                    Sum::before(tag, &element, &kept)
                });
            match read {
                Ok(kept) => {
                    rebuilt.context.extend(dots(&state));
                    rebuilt.replace(Sum::default(), kept);
                }
                Err(_) => {
                    dropped.insert(row_key.to_vec());
                }
            }
            ControlFlow::Continue(())
        })?;
        let is_something = rebuilt.digest != 0 || !rebuilt.cleared.is_empty();
        let is_replaced = doubted && (is_something || header.tags.contains_key(&tag));
        if is_replaced || !dropped.is_empty() {
            header.tags.insert(tag, Part::Collection(rebuilt));
        }
        changes
            .extend(dropped.into_iter().map(|row_key| Change::of(Table::Element, row_key, None)));
        Ok(())
    }

    /// What the sweep's row says was cleared; nothing if there is none, or if it is damaged too.
    fn cleared(&self, at: &RowKey, tag: Tag) -> Result<CausalContext, StorageError> {
        let marker = at.sweep(tag);
        let cleared = self.rows.get(Table::Meta, &marker, |record| {
            decode_cleared(&marker, record).unwrap_or_default()
        })?;
        Ok(cleared.unwrap_or_default())
    }
}
