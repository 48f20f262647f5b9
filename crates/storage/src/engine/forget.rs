//! Forgetting: a replica that no longer owns a partition drops its copy, some keys at a time.
//!
//! A key's header goes at once: one that stayed behind would claim to have seen elements that are gone. Of a large
//! collection some rows go with it, and the sweep takes the others, which nobody is shown; a row in the meta table
//! remembers them. Whoever writes the key anew meanwhile takes them away first: they would count as the new collection's.
//! What the outbox holds of the keys stays: it is for others.
//!
//! No dot is issued twice for it: a key that is written again has nothing of this process in its
//! context, and gets an actor of its own (`epochs`).

use std::ops::ControlFlow;

use clock::CausalContext;
use ring::Partition;
use values::{Tag, is_collection};

use super::Engine;
use crate::log_record::RecordOut;
use crate::memtable::successor;
use crate::record::encode_cleared;
use crate::row_key::{RowKey, partition_start};
use crate::{IndexRead, KeysOf, StorageError, Table, check_row_key};

/// Rows after which a step drops no further key, and of one key no further rows: clients wait meanwhile, and each row
/// takes memory until a checkpoint. A guess: some milliseconds.
const ROWS_PER_STEP: usize = if cfg!(test) { 64 } else { 4_096 };

impl<R: IndexRead> Engine<R> {
    /// Whether nothing is held of a partition's keys that are meant, what is left of deleted ones included, nor comes
    /// back if the disk refuses what was dropped.
    pub(super) fn is_empty(
        &mut self,
        partition: Partition,
        of: KeysOf,
    ) -> Result<bool, StorageError> {
        if of != KeysOf::AllBuckets {
            // What was written before its bucket was heard of is counted elsewhere.
            self.count_by_class(partition)?;
        }
        let partitions = self.config.shards.shards().partitions();
        let is_here = |row_key: &[u8]| RowKey::partition(row_key, partitions) == Some(partition);
        Ok(self.first_rows(partition, of, 1)?.is_empty()
            && !self.rows.unsettled(Table::Header).any(is_here))
    }

    /// Drops up to `limit` of a partition's keys that are meant, fewer where they have many rows. Returns how many,
    /// and whether none is left.
    pub(super) fn forget(
        &mut self,
        partition: Partition,
        of: KeysOf,
        limit: usize,
    ) -> Result<(u64, bool), StorageError> {
        self.check_disk()?;
        self.check_room()?;
        let rows = self.first_rows(partition, of, limit.max(1).saturating_add(1))?;
        let is_last = rows.len() <= limit.max(1);
        let (mut keys, mut dropped) = (0, 0);
        for row_key in rows.into_iter().take(limit.max(1)) {
            if dropped >= ROWS_PER_STEP {
                return Ok((keys, false));
            }
            dropped += self.forget_key(&row_key)?;
            keys += 1;
        }
        Ok((keys, is_last))
    }

    /// The keys of the first header rows of a partition that are meant.
    fn first_rows(
        &self,
        partition: Partition,
        of: KeysOf,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StorageError> {
        if let KeysOf::BucketsUpTo(n) = of {
            return self.first_rows_of_classes(partition, 1..=n, limit);
        }
        let partitions = self.config.shards.shards().partitions();
        let mut rows = Vec::new();
        if partition.0 >= partitions.get() {
            return Ok(rows);
        }
        let from = partition_start(partition, partitions);
        self.rows.scan(Table::Header, &[], &from, |row_key, _| {
            if rows.len() == limit || RowKey::partition(row_key, partitions) != Some(partition) {
                return ControlFlow::Break(());
            }
            rows.push(row_key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// Drops what is held of the key with this header row; of many rows of elements the first, and the sweep the others.
    /// Returns how many rows that were. Fails before it changes anything.
    pub(super) fn forget_key(&mut self, row_key: &[u8]) -> Result<usize, StorageError> {
        let Some(at) = RowKey::read(row_key) else {
            // No key's: it says nothing, and nobody reads it.
            check_row_key(row_key)?;
            self.rows.put(Table::Header, row_key, None);
            return Ok(1);
        };
        let (elements, is_all) =
            self.some_rows(Table::Element, &at.all_elements(), &[], ROWS_PER_STEP)?;
        // One for some hundred elements.
        let (chunks, _) =
            self.some_rows(Table::ElementTree, &at.all_elements(), &[], usize::MAX)?;
        let from = elements.last().filter(|_| !is_all).map(|last| successor(last));
        let mut markers = Vec::new();
        for tag in Tag::KNOWN {
            let (sweep, chunks) = (at.sweep(tag), at.chunks(tag));
            let has_more = match &from {
                Some(from) if is_collection(tag) => {
                    !self.some_rows(Table::Element, &at.elements(tag), from, 1)?.0.is_empty()
                }
                _ => false,
            };
            for (marker, stays) in [(sweep, has_more), (chunks, false)] {
                if stays || self.rows.get(Table::Meta, &marker, |_| ())?.is_some() {
                    let record = stays.then(|| encode_cleared(&marker, &CausalContext::default()));
                    markers.push((marker, record));
                }
            }
        }
        if !self.drop_header(row_key)? {
            return Ok(0);
        }
        let dropped = 1 + elements.len() + chunks.len() + markers.len();
        for (table, rows) in [(Table::Element, elements), (Table::ElementTree, chunks)] {
            rows.iter().for_each(|row| self.rows.put(table, row, None));
        }
        let is_partial = markers.iter().any(|(_, record)| record.is_some());
        for (marker, record) in markers {
            self.rows.put(Table::Meta, &marker, record);
        }
        for tag in Tag::KNOWN {
            // Should the key come back, it is swept from its beginning.
            self.sweep.rebuilt(&at.sweep(tag));
        }
        if is_partial {
            self.sweep.dropped();
        }
        self.record(at.token(), &RecordOut::Forget(row_key));
        Ok(dropped)
    }

    /// Takes away what is left of the rows of a key that was dropped, before it is written anew.
    pub(super) fn finish_dropping(&mut self, at: &RowKey) -> Result<(), StorageError> {
        if !self.sweep.may_hold_dropped() {
            return Ok(());
        }
        for tag in Tag::KNOWN.into_iter().filter(|&tag| is_collection(tag)) {
            let marker = at.sweep(tag);
            if self.rows.get(Table::Meta, &marker, |_| ())?.is_some() {
                self.sweep_dropped(marker, at, tag, &[], usize::MAX)?;
            }
        }
        Ok(())
    }

    /// Takes away up to `limit` rows, from `from` on, of a collection whose key was dropped. Returns where the next one is,
    /// if there may be more.
    pub(super) fn sweep_dropped(
        &mut self,
        marker: Vec<u8>,
        at: &RowKey,
        tag: Tag,
        from: &[u8],
        limit: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let (rows, is_all) = self.some_rows(Table::Element, &at.elements(tag), from, limit)?;
        rows.iter().for_each(|row| self.rows.put(Table::Element, row, None));
        if is_all {
            self.sweep.rebuilt(&marker);
            self.rows.put(Table::Meta, &marker, None);
            return Ok(None);
        }
        Ok(rows.last().map(|last| successor(last)))
    }

    /// The keys of up to `limit` rows with this prefix, from `from` on, and whether those are all.
    fn some_rows(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<(Vec<Vec<u8>>, bool), StorageError> {
        let (mut rows, mut is_all) = (Vec::new(), true);
        self.rows.scan(table, prefix, from, |row_key, _| {
            is_all = rows.len() < limit.max(1);
            if !is_all {
                return ControlFlow::Break(());
            }
            rows.push(row_key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok((rows, is_all))
    }
}
