//! What peers ask the hash trees over keys: roots, children of a node, keys of a node.

use std::collections::BTreeSet;
use std::ops::{ControlFlow, RangeInclusive};

use ring::Partition;
use values::Key;

use crate::engine::Engine;
use crate::memtable::successor;
use crate::record::{Header, decode_leaf};
use crate::row_key::RowKey;
use crate::tree::{
    LeafSum, Share, TREE_FANOUT, TokenRange, TreeKey, TreeKeys, TreeNode, TreePath, child_of,
};
use crate::{IndexRead, ListPosition, StorageError, Table};

/// Leaves summed for one command at most, unless one partition has more. A guess: a millisecond.
const LEAVES_PER_ANSWER: usize = 16_384;

impl<R: IndexRead> Engine<R> {
    pub(in crate::engine) fn tree_roots(
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

    pub(in crate::engine) fn tree_children(
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
            if looked == self.config.bounds.leaf_keys_max {
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

    /// The keys of the first header rows of a partition that are counted in these classes. Rows of leaves
    /// that have none of them are not looked at.
    pub(in crate::engine) fn first_rows_of_classes(
        &self,
        partition: Partition,
        classes: RangeInclusive<u8>,
        limit: usize,
    ) -> Result<Vec<Vec<u8>>, StorageError> {
        let leaves = self.trees.leaves;
        let mut rows = Vec::new();
        let Some(tokens) = leaves.node(partition, &TreePath::default()) else { return Ok(rows) };
        let mut found = BTreeSet::new();
        for class in classes.clone() {
            self.visit_leaves(class, tokens, |leaf, sum| {
                if sum.count > 0 {
                    found.insert(leaf);
                }
            })?;
        }
        for leaf in found {
            let tokens = leaves.tokens(leaf);
            self.visit_shares(tokens, &tokens.first.to_be_bytes(), |row_key, _, share| {
                if rows.len() == limit {
                    return ControlFlow::Break(());
                }
                let class = match share {
                    Share::Nothing => None,
                    Share::Key { class, .. } => Some(class),
                    Share::Damaged => Some(self.class_of_row(row_key)),
                };
                if class.is_some_and(|class| classes.contains(&class)) {
                    rows.push(row_key.to_vec());
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(rows)
    }

    pub(in crate::engine) fn tree_keys(
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
            if page.keys.len() < limit
                && looked < limit.saturating_add(self.config.bounds.other_rows_max)
            {
                return ControlFlow::Continue(());
            }
            page.next = Some(ListPosition(row_key.to_vec().into()));
            ControlFlow::Break(())
        })?;
        Ok(page)
    }
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
