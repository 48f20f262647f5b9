//! Counting hash trees anew, little by little in the background, and checking all of them at once.

use std::ops::ControlFlow;

use bytes::Bytes;
use ring::{Partition, Token};
use sabotage::Bug;

use super::{LeafScan, differing};
use crate::engine::Engine;
use crate::inspect::show_row;
use crate::record::{Header, Part};
use crate::row_key::RowKey;
use crate::tree::TreePath;
use crate::{Fault, FaultKind, IndexRead, StorageError, Table, Verifying};

/// What a full scan finds wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeCheck {
    /// Keys looked at.
    pub keys: u64,
    /// Rows of elements looked at.
    pub elements: u64,
    /// Leaves of trees over keys that are other than the rows under them.
    pub wrong_leaves: u64,
    /// Chunks of collections that are other than the rows in them.
    pub wrong_chunks: u64,
    /// Collections whose rows are other than their header says.
    pub wrong_collections: u64,
    /// Keys with a damaged record.
    pub damaged_keys: u64,
}

impl TreeCheck {
    /// Whether everything is as it should be.
    pub const fn is_clean(&self) -> bool {
        self.wrong_leaves + self.wrong_chunks + self.wrong_collections + self.damaged_keys == 0
    }
}

/// For checks whose sums are enough.
struct Untold;

impl Verifying for Untold {
    fn passed(&mut self, _: u64) {}

    fn fault(&mut self, _: Fault) {}
}

/// Rows of elements that counting a chunk or a small collection anew is taken for. A guess: about
/// what they have.
const ROWS_PER_COLLECTION: usize = 256;

impl<R: IndexRead> Engine<R> {
    /// Counts leaves, and the elements under them, anew until at least so many rows were looked at;
    /// mends what is wrong: bit rot, and keys whose bucket's n changed. Returns whether there is more
    /// before everything was looked at once; the next call then begins again. `false` also while the
    /// disk is too far behind or refuses batches.
    ///
    /// Looks at the rows of one leaf at least, or of one chunk of elements.
    pub fn recount_trees(&mut self, rows: usize) -> bool {
        let is_behind = self.rows.bytes() > self.config.pending_bytes_max / 2;
        if is_behind || self.disk_error().is_some() || sabotage::is(Bug::LeavesUncounted) {
            return false;
        }
        self.recount_some(rows).unwrap_or(false)
    }

    fn recount_some(&mut self, rows: usize) -> Result<bool, StorageError> {
        let mut looked = 0;
        while looked < rows.max(1) {
            if let Some((at, tag, from)) = self.trees.elements.pop_front() {
                if let Some(next) = self.recount_elements(&at, tag, &from)? {
                    self.trees.elements.push_front((at, tag, next));
                }
                looked += ROWS_PER_COLLECTION;
                continue;
            }
            let Some(leaf) = self.leaf_from(self.trees.next)? else {
                self.trees.next = 0;
                return Ok(false);
            };
            self.trees.next = leaf + 1;
            looked += 1 + self.recount_leaf(leaf)?;
        }
        Ok(true)
    }

    /// Has a partition's keys counted in the trees of the classes that they are in now, unless that was done
    /// since the classes changed.
    pub(in crate::engine) fn count_by_class(
        &mut self,
        partition: Partition,
    ) -> Result<(), StorageError> {
        let leaves = self.trees.leaves;
        let tokens = leaves.node(partition, &TreePath::default());
        let Some(range) = tokens.and_then(|tokens| leaves.within(tokens)) else { return Ok(()) };
        if self.trees.counted.contains(&partition) {
            return Ok(());
        }
        self.check_disk()?;
        let mut next = *range.start();
        while let Some(leaf) = self.leaf_from(next)?.filter(|leaf| range.contains(leaf)) {
            self.recount_leaf(leaf)?;
            next = leaf + 1;
        }
        self.trees.counted.insert(partition);
        Ok(())
    }

    /// The first leaf from `first` on with a row under it or of its own.
    fn leaf_from(&self, first: u32) -> Result<Option<u32>, StorageError> {
        let leaves = self.trees.leaves;
        let mut found: Option<u32> = None;
        if first > leaves.last() {
            return Ok(None);
        }
        let from = leaves.tokens(first).first.to_be_bytes();
        self.rows.scan(Table::Header, &[], &from, |row_key, _| {
            found = leaves.of_row(row_key);
            ControlFlow::Break(())
        })?;
        self.rows.scan(Table::Tree, &[], &leaves.prefix(first), |row, _| {
            let leaf = leaves.parse(row).map(|(leaf, _)| leaf);
            found = found.into_iter().chain(leaf).min();
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Returns how many header rows were looked at.
    fn recount_leaf(&mut self, leaf: u32) -> Result<usize, StorageError> {
        let LeafScan { rows, sums, odd } = self.scan_leaf(leaf, None)?;
        self.mend(leaf, &sums)?;
        for (row_key, record) in odd {
            let decoded = Header::decode(&row_key, &record);
            let (Ok((header, full)), Some(at)) = (decoded, RowKey::read(&row_key)) else {
                // Whoever merges the key next brings it back to what is whole of it; the tree says
                // until then that it is not settled.
                self.damaged += 1;
                continue;
            };
            let collections = header
                .tags
                .iter()
                .filter(|(_, part)| matches!(part, Part::Collection(_)) && part.is_swept());
            let places = collections.map(|(&tag, _)| (at.clone(), tag, Bytes::new()));
            self.trees.elements.extend(places);
            let Some(key) = full.or_else(|| at.short_key()) else { continue };
            // Its bucket's n changed, or this build knows a type that an earlier one did not.
            self.count_anew(row_key, &record, &at, &key, &header)?;
        }
        Ok(rows)
    }

    /// Compares every tree with a full scan of the rows. Changes nothing. Not for a loop that
    /// serves: it takes as long as there are rows.
    pub fn check_trees(&self) -> Result<TreeCheck, StorageError> {
        self.check_trees_telling(&mut Untold)
    }

    /// As [`check_trees`](Self::check_trees), and tells of each place that is wrong and of every key
    /// and element that was looked at.
    pub fn check_trees_telling(
        &self,
        verifying: &mut impl Verifying,
    ) -> Result<TreeCheck, StorageError> {
        let mut check = TreeCheck::default();
        let mut next = 0;
        while let Some(leaf) = self.leaf_from(next)? {
            let scan = self.scan_leaf(leaf, None)?;
            check.keys += scan.rows as u64;
            verifying.passed(scan.rows as u64);
            for class in differing(&self.stored_sums(leaf)?, &scan.sums) {
                check.wrong_leaves += 1;
                let leaves = self.trees.leaves;
                let partitions = self.config.shards.shards().partitions();
                let partition = partitions.partition(Token(leaves.tokens(leaf).first));
                let place = format!("the hash tree of n = {class}, partition {}", partition.0);
                let what = "a leaf is other than the keys under it".into();
                verifying.fault(Fault { kind: FaultKind::Tree, place, what });
            }
            for (row_key, record) in &scan.odd {
                let before = check.clone();
                self.check_key(row_key, record, &mut check)?;
                verifying.passed(check.elements - before.elements);
                let faults = [
                    (
                        check.wrong_collections > before.wrong_collections,
                        FaultKind::Rows,
                        "its elements are other than its header says",
                    ),
                    (
                        check.wrong_chunks > before.wrong_chunks,
                        FaultKind::Tree,
                        "a chunk is other than the elements in it",
                    ),
                    (
                        check.damaged_keys > before.damaged_keys,
                        FaultKind::Rows,
                        "a row of it is damaged",
                    ),
                ];
                let shown =
                    || show_row(Table::Header, row_key, record, self.config.shards.shards());
                for (_, kind, what) in faults.into_iter().filter(|(is_wrong, ..)| *is_wrong) {
                    verifying.fault(Fault { kind, place: shown().place(), what: what.into() });
                }
            }
            next = leaf + 1;
        }
        Ok(check)
    }

    fn check_key(
        &self,
        row_key: &[u8],
        record: &[u8],
        check: &mut TreeCheck,
    ) -> Result<(), StorageError> {
        let decoded = Header::decode(row_key, record);
        let (Ok((header, full)), Some(at)) = (decoded, RowKey::read(row_key)) else {
            check.damaged_keys += 1;
            return Ok(());
        };
        let Some(key) = full.or_else(|| at.short_key()) else { return Ok(()) };
        for (&tag, part) in &header.tags {
            let Part::Collection(held) = part else { continue };
            match self.check_collection(&at, &key, tag, held, check) {
                Err(StorageError::Corrupt(_)) => check.damaged_keys += 1,
                done => done?,
            }
        }
        Ok(())
    }
}
