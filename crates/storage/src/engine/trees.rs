//! The hash trees over keys as rows of this replica: kept with each change of a header, asked, and
//! counted anew in the background (`tree` says what they are).
//!
//! A leaf is counted anew within one call, so no write falls between what was counted and what is
//! still to be. A leaf's row that is damaged, that lacks what is to be taken from it, or under which
//! a header is damaged is counted anew at once: what it lost nobody knows.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;
use ring::{Partition, PartitionCount};
use values::{Key, Tag};

use super::Engine;
use crate::memtable::successor;
use crate::record::{Header, Part, decode_leaf, encode_leaf, has_more, share};
use crate::row_key::{Parsed, RowKey};
use crate::tree::{
    LeafSum, Leaves, Share, TREE_FANOUT, TokenRange, TreeClasses, TreeKey, TreeKeys, TreeNode,
    TreePath, child_of,
};
use crate::{IndexRead, ListPosition, StorageError, Table};

/// Leaves summed for one command at most, unless one partition has more. A guess: a millisecond.
const LEAVES_PER_ANSWER: usize = 16_384;

/// Header rows looked at for nodes below a leaf. A guess: some milliseconds. A leaf has more only
/// where a client chose its keys for that; what was not looked at is then told as not settled.
/// Under test small enough to be met.
const KEYS_PER_ANSWER: usize = if cfg!(test) { 16 } else { 16_384 };

/// Rows looked at beyond a page's limit before the page is given short: keys of other classes. A
/// guess.
/// Under test small enough to be met.
const OTHER_ROWS_PER_PAGE: usize = if cfg!(test) { 4 } else { 1024 };

/// What an engine knows of its trees.
#[derive(Debug)]
pub(super) struct Trees {
    classes: TreeClasses,
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
            leaves,
            next: 0,
            elements: VecDeque::new(),
            mended: 0,
        }
    }

    pub(super) const fn mended(&mut self) {
        self.mended += 1;
    }

    pub(super) fn class_of(&self, key: &Key) -> u8 {
        self.classes.of(key.bucket())
    }
}

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

/// Rows of elements that counting a chunk or a small collection anew is taken for. A guess: about
/// what they have.
const ROWS_PER_COLLECTION: usize = 256;

/// Sums by class.
type Sums = BTreeMap<u8, LeafSum>;

impl<R: IndexRead> Engine<R> {
    /// Says which keys are compared with which replicas, from now on. Keys written before go to the
    /// trees of their new classes as they are written or counted anew
    /// ([`recount_trees`](Self::recount_trees)).
    pub fn set_tree_classes(&mut self, classes: TreeClasses) {
        self.trees.classes = classes;
    }

    /// How many leaves and chunks were found wrong and mended since the engine opened: more than none means
    /// that rows were changed or damaged by something else than this engine.
    pub const fn mended_leaves(&self) -> u64 {
        self.trees.mended
    }

    /// Makes the header row's change of share part of its leaf.
    pub(super) fn change_share(
        &mut self,
        row_key: &[u8],
        before: Share,
        after: Share,
    ) -> Result<(), StorageError> {
        if before == after && after != Share::Damaged {
            return Ok(());
        }
        let leaves = self.trees.leaves;
        let leaf = leaves.of_row(row_key).expect("a header's key begins with a token");
        let mut changed = Sums::new();
        let mut is_known = before != Share::Damaged;
        if let Share::Key { class, digest } = before {
            match self.leaf(leaf, class)?.and_then(|sum| sum.less(LeafSum::of(digest))) {
                Some(sum) => drop(changed.insert(class, sum)),
                None => is_known = false,
            }
        }
        if let Share::Key { class, digest } = after {
            let sum = match changed.get(&class) {
                Some(sum) => Some(*sum),
                None => self.leaf(leaf, class)?,
            };
            match sum {
                Some(sum) => drop(changed.insert(class, sum.plus(LeafSum::of(digest)))),
                None => is_known = false,
            }
        }
        if is_known {
            for (class, sum) in changed {
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
        Ok(sum.unwrap_or_else(|| Some(LeafSum::default())))
    }

    fn put_leaf(&mut self, leaf: u32, class: u8, sum: LeafSum) {
        let row = self.trees.leaves.row(leaf, class);
        let record = (sum.count > 0).then(|| encode_leaf(&row, sum));
        self.rows.put(Table::Tree, row.to_vec(), record);
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

    fn class_of_row(&self, row_key: &[u8]) -> u8 {
        let bucket = match RowKey::parse(row_key) {
            Some(Parsed::Short(bucket, _) | Parsed::Long(bucket)) => bucket,
            None => &[],
        };
        self.trees.classes.of(bucket)
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

    /// Counts leaves, and the elements under them, anew until at least so many rows were looked at;
    /// mends what is wrong: bit rot, and keys whose bucket's n changed. Returns whether there is more
    /// before everything was looked at once; the next call then begins again. `false` also while the
    /// disk is too far behind or refuses batches.
    ///
    /// Looks at the rows of one leaf at least, or of one chunk of elements.
    pub fn recount_trees(&mut self, rows: usize) -> bool {
        let is_behind = self.rows.bytes() > self.config.pending_bytes_max / 2;
        if is_behind || self.disk_error().is_some() {
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
            looked += self.recount_leaf(leaf)?;
        }
        Ok(true)
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
            let share_before = share(&row_key, &record);
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
            let record = header.encode(&at, &key, self.trees.class_of(&key));
            let share_after = share(&row_key, &record);
            if share_before != share_after {
                // Its bucket's n changed, or this build knows a type that an earlier one did not.
                self.change_share(&row_key, share_before, share_after)?;
                self.rows.put(Table::Header, row_key, Some(record));
            }
        }
        Ok(rows)
    }

    pub(super) fn tree_roots(
        &self,
        class: u8,
        partitions: &[Partition],
    ) -> Result<Vec<TreeNode>, StorageError> {
        let leaves = self.trees.leaves;
        let most = (LEAVES_PER_ANSWER / leaves.per_partition()).max(1);
        let root = TreePath::default();
        let nodes = partitions.iter().take(most).map(|partition| {
            let Some(tokens) = leaves.node(*partition, &root) else { return Ok(TreeNode::EMPTY) };
            let mut sum = LeafSum::default();
            self.visit_leaves(class, tokens, |_, leaf| sum = sum.plus(leaf))?;
            Ok(sum.node())
        });
        nodes.collect()
    }

    pub(super) fn tree_children(
        &self,
        class: u8,
        partition: Partition,
        path: &TreePath,
    ) -> Result<Vec<TreeNode>, StorageError> {
        let leaves = self.trees.leaves;
        let Some(tokens) = leaves.node(partition, path) else { return Ok(Vec::new()) };
        let mut children = [LeafSum::default(); TREE_FANOUT];
        if leaves.within(tokens).is_some_and(|leaves| leaves.start() < leaves.end()) {
            self.visit_leaves(class, tokens, |leaf, sum| {
                let child = &mut children[child_of(tokens, leaves.tokens(leaf).first)];
                *child = child.plus(sum);
            })?;
            return Ok(children.map(LeafSum::node).to_vec());
        }
        let (mut looked, mut reached) = (0, TREE_FANOUT);
        self.visit_shares(tokens, &tokens.first.to_be_bytes(), |row_key, _, share| {
            let Some(token) = row_key.first_chunk() else { return ControlFlow::Continue(()) };
            let child = child_of(tokens, u128::from_be_bytes(*token));
            if looked == KEYS_PER_ANSWER {
                reached = child;
                return ControlFlow::Break(());
            }
            looked += 1;
            if let Some(sum) = share_of(share, class, || self.class_of_row(row_key)) {
                children[child] = children[child].plus(sum);
            }
            ControlFlow::Continue(())
        })?;
        let mut nodes = children.map(LeafSum::node);
        for node in &mut nodes[reached..] {
            node.is_settled = false;
        }
        Ok(nodes.to_vec())
    }

    /// Visits the leaves of a class in a range of tokens. One whose row is damaged is counted from
    /// the rows under it.
    fn visit_leaves(
        &self,
        class: u8,
        tokens: TokenRange,
        mut visit: impl FnMut(u32, LeafSum),
    ) -> Result<(), StorageError> {
        let leaves = self.trees.leaves;
        let Some(range) = leaves.within(tokens) else { return Ok(()) };
        let mut damaged = Vec::new();
        self.rows.scan(Table::Tree, &[], &leaves.prefix(*range.start()), |row, record| {
            match leaves.parse(row) {
                Some((leaf, _)) if !range.contains(&leaf) => return ControlFlow::Break(()),
                Some((leaf, of)) if of == class => match decode_leaf(row, record) {
                    Ok(sum) => visit(leaf, sum),
                    Err(_) => damaged.push(leaf),
                },
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        for leaf in damaged {
            visit(leaf, self.scan_leaf(leaf, None)?.sums.remove(&class).unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn tree_keys(
        &self,
        class: u8,
        partition: Partition,
        path: &TreePath,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<TreeKeys, StorageError> {
        let mut page = TreeKeys::default();
        let Some(tokens) = self.trees.leaves.node(partition, path) else { return Ok(page) };
        let start = tokens.first.to_be_bytes().to_vec();
        // A position comes from a peer: one outside the node means its start or its end.
        let from = after.map_or_else(Vec::new, |after| successor(&after.0)).max(start);
        let mut looked = 0;
        self.visit_shares(tokens, &from, |row_key, record, share| {
            looked += 1;
            if let Some(sum) = share_of(share, class, || self.class_of_row(row_key))
                && let Some(key) = key_of(row_key, record)
            {
                let digest = (sum.unsettled == 0).then_some(sum.digest);
                page.keys.push(TreeKey { key, digest });
            }
            if page.keys.len() < limit && looked < limit.saturating_add(OTHER_ROWS_PER_PAGE) {
                return ControlFlow::Continue(());
            }
            page.next = Some(ListPosition(row_key.to_vec().into()));
            ControlFlow::Break(())
        })?;
        Ok(page)
    }

    /// Compares every tree with a full scan of the rows. Changes nothing. Not for a loop that
    /// serves: it takes as long as there are rows.
    pub fn check_trees(&self) -> Result<TreeCheck, StorageError> {
        let mut check = TreeCheck::default();
        let mut next = 0;
        while let Some(leaf) = self.leaf_from(next)? {
            let scan = self.scan_leaf(leaf, None)?;
            check.keys += scan.rows as u64;
            let wrong = differing(&self.stored_sums(leaf)?, &scan.sums);
            check.wrong_leaves += wrong.len() as u64;
            for (row_key, record) in &scan.odd {
                self.check_key(row_key, record, &mut check)?;
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

/// What a share adds to the tree of `class`.
fn share_of(share: Share, class: u8, of_bucket: impl FnOnce() -> u8) -> Option<LeafSum> {
    let (of, digest) = match share {
        Share::Nothing => return None,
        Share::Key { class, digest } => (class, digest),
        Share::Damaged => (of_bucket(), None),
    };
    (of == class).then(|| LeafSum::of(digest))
}

/// The key of a header row; `None` where it stood in a record that is damaged.
fn key_of(row_key: &[u8], record: &[u8]) -> Option<Key> {
    let at = RowKey::read(row_key)?;
    at.short_key().or_else(|| Header::decode(row_key, record).ok()?.1)
}
