//! Hash trees over keys: what two replicas compare to find which keys they hold differently.
//!
//! Per *class* (keys of buckets with the same n) and partition there is one tree. A node is a range
//! of tokens: the partition, then a sixteenth of it for each step of the path. Its digest is the
//! wrapping sum of the digests of the keys in it, so it is a function of what they hold and of
//! nothing else, and a change of one key is `sum - before + after`.
//!
//! Only *leaves* are stored: the nodes at one depth, chosen so that the whole ring has 2^16 of them
//! or a little more (up to 2^19), however many keys there are. Nodes above are summed from leaves when
//! asked for, nodes below from the header rows of one leaf. So a write changes one row of a tree,
//! and the size of a tree does not follow that of the data.
//!
//! Source: design.md, Replication (Dynamo §4.7). Decision: docs/decisions/2026-11-25-hash-trees.md.

use std::collections::BTreeMap;

use bytes::Bytes;
use ring::{Partition, PartitionCount, Token};
use serde::{Deserialize, Serialize};
use values::{Blob, Key};
use xxhash_rust::xxh3;

use crate::ListPosition;
use crate::row_key::{ELEMENT_PART_MAX, element_part, partition_start};

/// Children of a node.
pub const TREE_FANOUT: usize = 16;
/// Bits of a token that a step of a path takes.
const STEP_BITS: u32 = TREE_FANOUT.trailing_zeros();
/// The ring has at least 2^this leaves. 16 keys a leaf at a million keys, 1,500 at a hundred million.
const LEAF_BITS: u32 = 16;
/// Longest path: beyond it two keys would have 64 bits of their tokens in common.
const PATH_MAX: usize = 12;
/// Bytes of a leaf's number in its row's key.
const LEAF_BYTES: usize = 3;

/// The key of a leaf's row.
pub(crate) type LeafRow = [u8; LEAF_BYTES + 1];

/// The n of buckets that nothing was said about (design.md, Keys, buckets, values).
const DEFAULT_CLASS: u8 = 3;

/// The class of keys of generations of buckets that were dropped: one replica may still have them,
/// another never got them, and nobody compares them.
pub(crate) const GONE: u8 = 0;

/// Which bucket's keys are counted in which tree: that of the bucket's n. Replicas that are to
/// compare must agree; where they do not yet, their trees differ until they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeClasses {
    default: u8,
    /// Classes of some buckets, each with the first generation that was not dropped.
    buckets: BTreeMap<Bytes, (u8, u64)>,
}

impl Default for TreeClasses {
    fn default() -> Self {
        Self::new(DEFAULT_CLASS)
    }
}

impl TreeClasses {
    /// All buckets have this n.
    pub const fn new(default: u8) -> Self {
        Self { default, buckets: BTreeMap::new() }
    }

    /// But this one, of which the generations before `live_from` were dropped.
    pub fn set(&mut self, bucket: Bytes, n: u8, live_from: u64) {
        self.buckets.insert(bucket, (n, live_from));
    }

    /// The class of a generation of a bucket.
    pub fn of(&self, bucket: &[u8], generation: u64) -> u8 {
        let (n, live_from) = self.buckets.get(bucket).copied().unwrap_or((self.default, 0));
        if generation < live_from { GONE } else { n }
    }
}

/// The way from a partition's root to a node: which child at each step, 0 to 15.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TreePath(pub Vec<u8>);

impl TreePath {
    /// The path to a child of this node.
    #[must_use]
    pub fn child(&self, step: u8) -> Self {
        Self([self.0.as_slice(), &[step]].concat())
    }
}

/// What a tree says of a range of keys or of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeNode {
    /// How many there are, what is left of deleted ones included.
    pub count: u64,
    /// Digest of all they hold.
    pub digest: u128,
    /// Whether the digest tells of all of them. If not, some wait for the sweep, are damaged or
    /// still to be counted: look at what lies below, or later.
    pub is_settled: bool,
}

impl TreeNode {
    /// A range with nothing in it.
    pub const EMPTY: Self = Self { count: 0, digest: 0, is_settled: true };
}

/// One key of a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeKey {
    /// Which key.
    pub key: Key,
    /// Digest of what is held of it; `None` while the sweep has still to count it, or if it is
    /// damaged: comparing digests says nothing, comparing the key itself does.
    pub digest: Option<u128>,
}

/// Some keys of a node, in the order of their tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeKeys {
    /// The keys.
    pub keys: Vec<TreeKey>,
    /// The last place looked at, where to go on after; `None` at the node's end.
    pub next: Option<ListPosition>,
}

/// Elements of a collection that stand together. Its ends are opaque, and the same at every replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementRange {
    /// Where it begins; empty for the first element.
    pub from: Bytes,
    /// Where the next one begins; `None` behind the last element.
    pub until: Option<Bytes>,
}

impl ElementRange {
    /// Where `element` stands.
    pub fn place_of(element: &Blob) -> Bytes {
        Bytes::copy_from_slice(&element_part(element))
    }

    /// Whether its ends are no longer than any that an engine gives. Peers send ranges.
    pub fn is_in_bounds(&self) -> bool {
        let until = self.until.as_ref().map_or(0, Bytes::len);
        self.from.len().max(until) <= ELEMENT_PART_MAX
    }
}

/// One element of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementKey {
    /// Which element.
    pub element: Blob,
    /// Digest of what is held of it.
    pub digest: u128,
}

/// Some elements of a range, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElementKeys {
    /// The elements.
    pub elements: Vec<ElementKey>,
    /// Where the rest of the range begins, if there may be more.
    pub next: Option<Bytes>,
}

/// What a key adds to a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nothing was ever written to it.
    #[default]
    Nothing,
    /// Its class, and its digest if that is known.
    Key { class: u8, digest: Option<u128> },
    /// Its record is damaged: nobody knows what it added.
    Damaged,
}

/// Digest of what a key holds. The key's own digest goes in twice, as the seed and whole, so that
/// two keys that hold the same never have the same digest by more than chance.
pub(crate) fn key_digest(row_key: &[u8], state: &[u8]) -> u128 {
    let place = xxh3::xxh3_128(row_key);
    #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
    let seed = place as u64;
    place ^ xxh3::xxh3_128_with_seed(state, seed)
}

/// What a leaf's row holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeafSum {
    pub(crate) count: u64,
    /// How many of them have no digest now.
    pub(crate) unsettled: u64,
    /// Wrapping sum of the digests of the others.
    pub(crate) digest: u128,
}

impl LeafSum {
    pub(crate) fn of(digest: Option<u128>) -> Self {
        Self { count: 1, unsettled: digest.is_none().into(), digest: digest.unwrap_or(0) }
    }

    #[must_use]
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            count: self.count.saturating_add(other.count),
            unsettled: self.unsettled.saturating_add(other.unsettled),
            digest: self.digest.wrapping_add(other.digest),
        }
    }

    /// `None` if `other` was not counted here.
    #[must_use]
    pub(crate) fn less(self, other: Self) -> Option<Self> {
        let rest = Self {
            count: self.count.checked_sub(other.count)?,
            unsettled: self.unsettled.checked_sub(other.unsettled)?,
            digest: self.digest.wrapping_sub(other.digest),
        };
        (rest.unsettled <= rest.count).then_some(rest)
    }

    pub(crate) const fn node(self) -> TreeNode {
        let Self { count, unsettled, digest } = self;
        TreeNode { count, digest, is_settled: unsettled == 0 }
    }
}

/// A range of tokens, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenRange {
    pub(crate) first: u128,
    pub(crate) last: u128,
}

/// How a ring is divided into leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaves {
    partitions: PartitionCount,
    /// Topmost bits of a token that are its leaf's number.
    bits: u32,
}

impl Leaves {
    pub(crate) fn of(partitions: PartitionCount) -> Self {
        let partition_bits = partitions.get().trailing_zeros();
        let steps = LEAF_BITS.saturating_sub(partition_bits).div_ceil(STEP_BITS);
        Self { partitions, bits: partition_bits + STEP_BITS * steps }
    }

    /// Number of leaves of a partition.
    pub(crate) fn per_partition(self) -> usize {
        1 << (self.bits - self.partitions.get().trailing_zeros())
    }

    /// The last leaf of the ring.
    pub(crate) const fn last(self) -> u32 {
        (1 << self.bits) - 1
    }

    /// The leaf of the header row at `row_key`.
    pub(crate) fn of_row(self, row_key: &[u8]) -> Option<u32> {
        row_key.first_chunk().map(|token| self.of_token(u128::from_be_bytes(*token)))
    }

    fn of_token(self, token: u128) -> u32 {
        u32::try_from(token >> (u128::BITS - self.bits)).expect("a leaf has at most 19 bits")
    }

    pub(crate) fn tokens(self, leaf: u32) -> TokenRange {
        let width = u128::BITS - self.bits;
        let first = u128::from(leaf) << width;
        TokenRange { first, last: first | ((1 << width) - 1) }
    }

    /// The leaves within a range of tokens; `None` if it is a part of one leaf.
    pub(crate) fn within(self, tokens: TokenRange) -> Option<std::ops::RangeInclusive<u32>> {
        let range = self.of_token(tokens.first)..=self.of_token(tokens.last);
        (self.tokens(*range.start()).first == tokens.first
            && self.tokens(*range.end()).last == tokens.last)
            .then_some(range)
    }

    /// The tokens of a node; `None` if there is none such. Peers send paths.
    pub(crate) fn node(self, partition: Partition, path: &TreePath) -> Option<TokenRange> {
        let is_path =
            path.0.len() <= PATH_MAX && path.0.iter().all(|step| usize::from(*step) < TREE_FANOUT);
        if !is_path || partition.0 >= self.partitions.get() {
            return None;
        }
        let mut bits = self.partitions.get().trailing_zeros();
        let mut first = u128::from_be_bytes(partition_start(partition, self.partitions));
        for step in &path.0 {
            bits += STEP_BITS;
            first |= u128::from(*step) << (u128::BITS - bits);
        }
        let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
        Some(TokenRange { first, last: first | rest })
    }

    /// What the rows of a leaf begin with.
    pub(crate) fn prefix(self, leaf: u32) -> [u8; LEAF_BYTES] {
        let [_, prefix @ ..] = (leaf << (u32::BITS - 8 - self.bits)).to_be_bytes();
        prefix
    }

    /// The key of a leaf's row.
    pub(crate) fn row(self, leaf: u32, class: u8) -> LeafRow {
        let [a, b, c] = self.prefix(leaf);
        [a, b, c, class]
    }

    /// Takes the key of a leaf's row apart.
    pub(crate) fn parse(self, row_key: &[u8]) -> Option<(u32, u8)> {
        let [a, b, c, class] = *<&[u8; LEAF_BYTES + 1]>::try_from(row_key).ok()?;
        Some((u32::from_be_bytes([0, a, b, c]) >> (u32::BITS - 8 - self.bits), class))
    }
}

/// The first token of the leaf whose row this is.
pub(crate) fn leaf_row_token(row_key: &[u8]) -> Option<Token> {
    let [a, b, c, _] = *<&[u8; LEAF_BYTES + 1]>::try_from(row_key).ok()?;
    Some(Token(u128::from_be_bytes([a, b, c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])))
}

/// Which sixteenth of a range of tokens a token lies in.
pub(crate) fn child_of(tokens: TokenRange, token: u128) -> usize {
    let width = u128::BITS - (tokens.last - tokens.first).leading_zeros();
    let step = (token - tokens.first) >> width.saturating_sub(STEP_BITS);
    usize::try_from(step).map_or(0, |step| step.min(TREE_FANOUT - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(partitions: u32) -> Leaves {
        Leaves::of(PartitionCount::new(partitions).unwrap())
    }

    #[test]
    fn a_ring_has_2_to_the_16_leaves_or_a_little_more_and_each_lies_in_one_partition() {
        for (partitions, per_partition) in
            [(1, 65_536), (2, 65_536), (16, 4_096), (64, 4_096), (4_096, 16), (65_536, 1)]
        {
            let leaves = leaves(partitions);
            assert_eq!(leaves.per_partition(), per_partition);
            let last = Partition(partitions - 1);
            let tokens = leaves.node(last, &TreePath::default()).unwrap();
            assert_eq!(tokens.last, u128::MAX);
            let within = leaves.within(tokens).unwrap();
            assert_eq!(within.clone().count(), per_partition);
            assert_eq!(leaves.tokens(*within.start()).first, tokens.first);
            let row = leaves.row(*within.end(), 3);
            assert_eq!(leaves.parse(&row), Some((*within.end(), 3)));
            assert_eq!(leaf_row_token(&row).unwrap().0, leaves.tokens(*within.end()).first);
        }
    }

    #[test]
    fn the_children_of_a_node_are_its_sixteenths() {
        for partitions in [1, 16, 65_536] {
            let leaves = leaves(partitions);
            let mut path = TreePath::default();
            for _ in 0..PATH_MAX {
                let node = leaves.node(Partition(0), &path).unwrap();
                let mut next = node.first;
                for step in 0..16 {
                    let child = leaves.node(Partition(0), &path.child(step)).unwrap();
                    assert_eq!(child.first, next);
                    assert_eq!(child_of(node, child.first), usize::from(step));
                    assert_eq!(child_of(node, child.last), usize::from(step));
                    next = child.last.wrapping_add(1);
                }
                assert_eq!(next, node.last.wrapping_add(1));
                path = path.child(11);
            }
            assert_eq!(leaves.node(Partition(0), &path.child(0)), None, "too long");
        }
        assert_eq!(leaves(16).node(Partition(16), &TreePath::default()), None);
        assert_eq!(leaves(16).node(Partition(0), &TreePath(vec![16])), None);
    }

    #[test]
    fn keys_that_hold_the_same_do_not_have_the_same_digest() {
        assert_ne!(key_digest(b"one", b"state"), key_digest(b"other", b"state"));
        assert_ne!(key_digest(b"one", b"state"), key_digest(b"one", b"stale"));
    }
}
