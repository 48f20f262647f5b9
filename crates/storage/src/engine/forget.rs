//! Forgetting: a replica that no longer owns a partition drops its copy, some keys at a time.
//!
//! A key goes whole, in one step: a header that stays behind would claim to have seen elements that
//! are gone, and elements without a header would be nobody's. So a step costs what its largest key
//! holds. What the outbox holds of the keys stays: it is for others.
//!
//! No dot is issued twice for it: a key that is written again has nothing of this process in its
//! context, and gets an actor of its own (`epochs`).

use std::ops::ControlFlow;

use ring::Partition;
use values::Tag;

use super::Engine;
use crate::log_record::RecordOut;
use crate::row_key::{RowKey, partition_start};
use crate::{IndexRead, KeysOf, StorageError, Table, check_row_key};

/// Rows after which a step drops no further key: clients wait meanwhile, and each row takes memory
/// until a checkpoint. A guess: some milliseconds.
const ROWS_PER_STEP: usize = 4_096;

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

    /// Drops all that is held of the key with this header row. Returns how many rows that were. Fails
    /// before it changes anything.
    pub(super) fn forget_key(&mut self, row_key: &[u8]) -> Result<usize, StorageError> {
        let Some(at) = RowKey::read(row_key) else {
            // No key's: it says nothing, and nobody reads it.
            check_row_key(row_key)?;
            self.rows.put(Table::Header, row_key, None);
            return Ok(1);
        };
        let mut rows = Vec::new();
        for table in [Table::Element, Table::ElementTree] {
            self.rows.scan(table, &at.all_elements(), &[], |row_key, _| {
                rows.push((table, row_key.to_vec()));
                ControlFlow::Continue(())
            })?;
        }
        for tag in Tag::KNOWN {
            for marker in [at.sweep(tag), at.chunks(tag)] {
                if self.rows.get(Table::Meta, &marker, |_| ())?.is_some() {
                    rows.push((Table::Meta, marker));
                }
            }
        }
        if !self.drop_header(row_key)? {
            return Ok(0);
        }
        let dropped = 1 + rows.len();
        for (table, row_key) in rows {
            self.rows.put(table, &row_key, None);
        }
        for tag in Tag::KNOWN {
            // Should the key come back, it is swept from its beginning.
            self.sweep.rebuilt(&at.sweep(tag));
        }
        self.record(at.token(), &RecordOut::Forget(row_key));
        Ok(dropped)
    }
}
