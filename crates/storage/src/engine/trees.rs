//! The hash trees over keys as rows of this replica: kept with each change of a header, asked, and
//! counted anew in the background (`tree` says what they are).
//!
//! A leaf is counted anew within one call, so no write falls between what was counted and what is
//! still to be. A leaf's row that is damaged, that lacks what is to be taken from it, or under which
//! a header is damaged is counted anew at once: what it lost nobody knows.

mod asked;
mod recount;

pub use recount::TreeCheck;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use ring::{Partition, PartitionCount};
use sabotage::Bug;
use values::{Key, Tag};

use super::Engine;
use crate::record::{Header, decode_leaf, encode_leaf, has_more, share};
use crate::row_key::{Parsed, RowKey};
use crate::tree::{LeafRow, LeafSum, Leaves, Share, TokenRange, TreeClasses};
use crate::{IndexRead, StorageError, Table};

/// What an engine knows of its trees.
#[derive(Debug)]
pub(super) struct Trees {
    classes: TreeClasses,
    /// Partitions that were counted by these classes, of those about whose classes somebody asked.
    counted: BTreeSet<Partition>,
    leaves: Leaves,
    /// The leaf that is counted anew next.
    next: u32,
    /// Collections whose elements are counted anew before it, each from a place on.
    elements: VecDeque<(RowKey, Tag, Bytes)>,
    /// Leaves that were found to be other than the rows under them.
    mended: u64,
}

impl Trees {
    pub(super) fn new(partitions: PartitionCount) -> Self {
        let leaves = Leaves::of(partitions);
        Self {
            classes: TreeClasses::default(),
            counted: BTreeSet::new(),
            leaves,
            next: 0,
            elements: VecDeque::new(),
            mended: 0,
        }
    }

    /// Rows counted anew were not committed: partitions are counted by their classes again.
    pub(super) fn failed(&mut self) {
        self.counted.clear();
    }

    pub(super) const fn mended(&mut self) {
        self.mended += 1;
    }

    pub(super) fn class_of(&self, key: &Key) -> u8 {
        self.classes.of(key.bucket(), key.generation())
    }

    /// Key of the row of the leaf, in `class`, of the header row at `row_key`.
    pub(super) fn leaf_row(&self, row_key: &[u8], class: u8) -> LeafRow {
        self.leaves.row(self.leaf_of(row_key), class)
    }

    fn leaf_of(&self, row_key: &[u8]) -> u32 {
        self.leaves.of_row(row_key).expect("a header's key begins with a token")
    }
}

/// What stands in the row of a leaf.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredLeaf {
    class: u8,
    /// `None` if the row is damaged.
    sum: Option<LeafSum>,
}

impl StoredLeaf {
    /// By what was read of its row, if there is one.
    pub(super) fn of(class: u8, read: Option<Option<LeafSum>>) -> Self {
        Self { class, sum: read.unwrap_or_else(|| Some(LeafSum::default())) }
    }
}

/// Sums by class.
type Sums = BTreeMap<u8, LeafSum>;

impl<R: IndexRead> Engine<R> {
    /// Says which keys are compared with which replicas, from now on. Keys of which rows wait for a
    /// checkpoint go to the trees of their new classes at once: those that were replayed before
    /// anybody said it, or written before their bucket was heard of. Others do as they are
    /// written or counted anew ([`recount_trees`](Self::recount_trees)), and so do those of which the
    /// rows cannot be read.
    pub fn set_tree_classes(&mut self, classes: TreeClasses) {
        if self.trees.classes != classes {
            self.trees.counted.clear();
        }
        self.trees.classes = classes;
        let mut elsewhere = Vec::new();
        for (row_key, record) in self.rows.changed(Table::Header) {
            let class = self.class_of_row(row_key);
            if matches!(share(row_key, record), Share::Key { class: stored, .. } if stored != class)
            {
                elsewhere.push((row_key.to_vec(), record.to_vec()));
            }
        }
        let is_kept = self.rows.is_kept();
        for (row_key, record) in elsewhere {
            let Ok((header, full)) = Header::decode(&row_key, &record) else { continue };
            let Some(at) = RowKey::read(&row_key) else { continue };
            let Some(key) = full.or_else(|| at.short_key()) else { continue };
            let _ = self.count_anew(row_key, &record, &at, &key, &header);
        }
        if is_kept {
            self.rows.keep();
        }
    }

    /// Has a header's row counted where it belongs by now.
    fn count_anew(
        &mut self,
        row_key: Vec<u8>,
        record: &[u8],
        at: &RowKey,
        key: &Key,
        header: &Header,
    ) -> Result<(), StorageError> {
        let before = share(&row_key, record);
        let record = header.encode(at, key, self.trees.class_of(key));
        let after = share(&row_key, &record);
        if before != after {
            self.change_share(&row_key, before, after, None)?;
            self.rows.put(Table::Header, &row_key, Some(record));
        }
        Ok(())
    }

    /// How many leaves and chunks were found wrong and mended since the engine opened: more than none
    /// means that rows were changed or damaged by something else than this engine.
    pub const fn mended_leaves(&self) -> u64 {
        self.trees.mended
    }

    /// Makes the header row's change of share part of its leaf, of which one row may have been `looked` at.
    pub(super) fn change_share(
        &mut self,
        row_key: &[u8],
        before: Share,
        after: Share,
        looked: Option<StoredLeaf>,
    ) -> Result<(), StorageError> {
        let is_missed = sabotage::is(Bug::TreeMissesChange) && before != Share::Nothing;
        if before == after && after != Share::Damaged || is_missed {
            return Ok(());
        }
        let leaf = self.trees.leaf_of(row_key);
        let sum_of = |class| match looked {
            Some(looked) if looked.class == class => Ok(looked.sum),
            _ => self.leaf(leaf, class),
        };
        let (mut less, mut more) = (None, None);
        let mut is_known = before != Share::Damaged;
        if let Share::Key { class, digest } = before {
            let sum = sum_of(class)?.and_then(|sum| sum.less(LeafSum::of(digest)));
            is_known &= sum.is_some();
            less = sum.map(|sum| (class, sum));
        }
        if let Share::Key { class, digest } = after {
            // Most often the class stays: then what is added is added to what was taken away from.
            let sum = match less.take_if(|(of, _)| *of == class) {
                Some((_, sum)) => Some(sum),
                None => sum_of(class)?,
            };
            is_known &= sum.is_some();
            more = sum.map(|sum| (class, sum.plus(LeafSum::of(digest))));
        }
        if is_known {
            for (class, sum) in [less, more].into_iter().flatten() {
                self.put_leaf(leaf, class, sum);
            }
            return Ok(());
        }
        let mut sums = self.scan_leaf(leaf, Some(row_key))?.sums;
        add(&mut sums, after, 0);
        self.mend(leaf, &sums)
    }

    /// A leaf's sum; `None` if its row is damaged.
    fn leaf(&self, leaf: u32, class: u8) -> Result<Option<LeafSum>, StorageError> {
        let row = self.trees.leaves.row(leaf, class);
        let sum = self.rows.get(Table::Tree, &row, |record| decode_leaf(&row, record).ok())?;
        Ok(StoredLeaf::of(class, sum).sum)
    }

    fn put_leaf(&mut self, leaf: u32, class: u8, sum: LeafSum) {
        let row = self.trees.leaves.row(leaf, class);
        let record = (sum.count > 0).then(|| encode_leaf(&row, sum));
        self.rows.put(Table::Tree, &row, record);
    }

    /// Sums what the header rows of a leaf add, but the one at `except`.
    fn scan_leaf(&self, leaf: u32, except: Option<&[u8]>) -> Result<LeafScan, StorageError> {
        let mut scan = LeafScan::default();
        let tokens = self.trees.leaves.tokens(leaf);
        self.visit_shares(tokens, &tokens.first.to_be_bytes(), |row_key, record, share| {
            scan.rows += 1;
            if except != Some(row_key) {
                let class = self.class_of_row(row_key);
                add(&mut scan.sums, share, class);
                let is_plain = matches!(share, Share::Key { class: stored, .. } if stored == class)
                    && !has_more(record);
                if !is_plain && share != Share::Nothing {
                    scan.odd.push((row_key.to_vec(), record.to_vec()));
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(scan)
    }

    /// Visits the header rows of a range of tokens from `from` on.
    fn visit_shares(
        &self,
        tokens: TokenRange,
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8], Share) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        self.rows.scan(Table::Header, &[], from, |row_key, record| match row_key.first_chunk() {
            Some(token) if u128::from_be_bytes(*token) <= tokens.last => {
                visit(row_key, record, share(row_key, record))
            }
            _ => ControlFlow::Break(()),
        })
    }

    pub(super) fn class_of_row(&self, row_key: &[u8]) -> u8 {
        let (bucket, generation) = match RowKey::parse(row_key) {
            Some(Parsed::Short(bucket, _) | Parsed::Long(bucket)) => bucket,
            None => (&[][..], 0),
        };
        self.trees.classes.of(bucket, generation)
    }

    /// The rows of a leaf's trees, by class; `None` for one that is damaged.
    fn stored_sums(&self, leaf: u32) -> Result<BTreeMap<u8, Option<LeafSum>>, StorageError> {
        let mut stored = BTreeMap::new();
        let leaves = self.trees.leaves;
        self.rows.scan(Table::Tree, &leaves.prefix(leaf), &[], |row, record| {
            if let Some((_, class)) = leaves.parse(row) {
                stored.insert(class, decode_leaf(row, record).ok());
            }
            ControlFlow::Continue(())
        })?;
        Ok(stored)
    }

    /// Makes the rows of a leaf what they should be.
    fn mend(&mut self, leaf: u32, sums: &Sums) -> Result<(), StorageError> {
        let wrong = differing(&self.stored_sums(leaf)?, sums);
        self.trees.mended += u64::from(!wrong.is_empty());
        for class in wrong {
            self.put_leaf(leaf, class, sums.get(&class).copied().unwrap_or_default());
        }
        Ok(())
    }
}

/// What the header rows of a leaf are.
#[derive(Debug, Default)]
struct LeafScan {
    rows: usize,
    sums: Sums,
    /// Keys and records of rows with collections or types that an earlier build did not know, of
    /// damaged ones, and of those counted in another class than is theirs now.
    odd: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Classes whose sums are not what is stored.
fn differing(stored: &BTreeMap<u8, Option<LeafSum>>, sums: &Sums) -> Vec<u8> {
    let mut classes: Vec<u8> = stored.keys().chain(sums.keys()).copied().collect();
    classes.sort_unstable();
    classes.dedup();
    classes.retain(|class| {
        let stored = stored.get(class).copied().unwrap_or_else(|| Some(LeafSum::default()));
        stored != Some(sums.get(class).copied().unwrap_or_default())
    });
    classes
}

/// Adds a share; a damaged one, of which only the bucket is known, to the class `of_bucket`.
fn add(sums: &mut Sums, share: Share, of_bucket: u8) {
    let (class, digest) = match share {
        Share::Nothing => return,
        Share::Key { class, digest } => (class, digest),
        Share::Damaged => (of_bucket, None),
    };
    let sum = sums.entry(class).or_default();
    *sum = sum.plus(LeafSum::of(digest));
}
