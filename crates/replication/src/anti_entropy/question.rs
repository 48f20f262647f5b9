//! What replicas ask one another to find what they hold differently.
//!
//! Whoever asks compares: the other side answers from its hash trees and remembers nothing between
//! two questions. Each question and answer is bounded, so that neither side does much at a time.

use bytes::Bytes;
use clock::CausalContext;
use ring::Partition;
use serde::{Deserialize, Serialize};
use storage::{
    ElementKeys, ElementRange, ListPosition, ROW_KEY_MAX, TREE_FANOUT, TreeKeys, TreeNode, TreePath,
};
use values::{Key, Tag};

/// Partitions of one question at most: more than lie in one shard of any node.
pub(crate) const PARTITIONS_MAX: usize = 1_024;
/// Keys of one answer at most.
pub(crate) const KEYS_PER_ANSWER: usize = 256;
/// Elements of one answer at most.
pub(crate) const ELEMENTS_PER_ANSWER: usize = 256;
/// Bytes of keys or elements after which an answer ends; it has one at least. A guess: what may
/// stand before a client's message in a frame.
pub(crate) const ANSWER_BYTES: usize = 128 << 10;

/// A question about what a replica holds, to another owner of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compare {
    /// Whether the hash trees of some partitions are the same. Answered by [`Compared::Equal`], or by
    /// the root of each.
    Roots {
        /// Keys of buckets with this n.
        n: u8,
        /// Which partitions, ascending; all in one shard.
        partitions: Vec<Partition>,
        /// The sum of the asker's roots.
        sum: TreeNode,
    },
    /// The children of a node. Answered by [`Compared::Nodes`].
    Children {
        /// Keys of buckets with this n.
        n: u8,
        /// Which partition.
        partition: Partition,
        /// Which node.
        path: TreePath,
    },
    /// Keys of a node. Answered by [`Compared::Keys`].
    Keys {
        /// Keys of buckets with this n.
        n: u8,
        /// Which partition.
        partition: Partition,
        /// Which node.
        path: TreePath,
        /// Go on after this position; `None` from its start.
        after: Option<ListPosition>,
    },
    /// What is held of ranges of a collection, at most 16. Answered by [`Compared::Nodes`].
    ElementNodes {
        /// Which key.
        key: Key,
        /// Which collection of it.
        tag: Tag,
        /// Which ranges.
        ranges: Vec<ElementRange>,
        /// What the receiver showed that it had seen and the asker had not: it must have seen it still,
        /// else what it does not hold would be taken for removed.
        seen: CausalContext,
    },
    /// Elements of a range. Answered by [`Compared::Elements`].
    Elements {
        /// Which key.
        key: Key,
        /// Which collection of it.
        tag: Tag,
        /// Which range.
        range: ElementRange,
        /// What the receiver must have seen still.
        seen: CausalContext,
    },
    /// Tells that the receiver has all elements of a collection that the asker had, so that it may
    /// say that it has seen what the asker had seen. Answered by [`Compared::Completed`].
    Complete {
        /// Which key.
        key: Key,
        /// Which collection of it.
        tag: Tag,
        /// What the receiver showed that it had seen, and was sent since.
        seen: CausalContext,
        /// What the asker had seen before any of its elements was compared.
        context: CausalContext,
    },
}

impl Compare {
    /// The key that it is about, if it is about one.
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::ElementNodes { key, .. }
            | Self::Elements { key, .. }
            | Self::Complete { key, .. } => Some(key),
            Self::Roots { .. } | Self::Children { .. } | Self::Keys { .. } => None,
        }
    }

    /// The partitions whose trees it asks about; none if it asks about something else.
    pub(crate) fn partitions(&self) -> &[Partition] {
        match self {
            Self::Roots { partitions, .. } => partitions,
            _ => &[],
        }
    }

    /// The first partition that it names, if it names any.
    pub fn partition(&self) -> Option<Partition> {
        match self {
            Self::Roots { partitions, .. } => partitions.first().copied(),
            Self::Children { partition, .. } | Self::Keys { partition, .. } => Some(*partition),
            _ => None,
        }
    }

    /// Whether it is no longer than any that is asked in good faith.
    pub(crate) fn is_in_bounds(&self) -> bool {
        match self {
            Self::Roots { partitions, .. } => {
                (1..=PARTITIONS_MAX).contains(&partitions.len())
                    && partitions.windows(2).all(|pair| pair[0] < pair[1])
            }
            Self::ElementNodes { ranges, .. } => {
                ranges.len() <= TREE_FANOUT && ranges.iter().all(ElementRange::is_in_bounds)
            }
            Self::Elements { range, .. } => range.is_in_bounds(),
            Self::Keys { after, .. } => {
                after.as_ref().is_none_or(|after| after.0.len() <= ROW_KEY_MAX)
            }
            // The engine says that there is no such node.
            Self::Children { .. } | Self::Complete { .. } => true,
        }
    }
}

/// Answers a [`Compare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compared {
    /// Both hold the same.
    Equal,
    /// What is held of each partition, child or range that was asked about, in order.
    Nodes(Vec<TreeNode>),
    /// Keys, and where the rest begins.
    Keys(TreeKeys),
    /// Elements, and where the rest begins.
    Elements(ElementKeys),
    /// What was told is durable.
    Completed,
}

/// Ends an answer after [`ANSWER_BYTES`] of keys.
pub(crate) fn cut_keys(page: &mut TreeKeys) {
    let mut bytes = 0;
    let fits = page.keys.iter().take_while(|listed| {
        bytes += listed.key.key().len() + listed.key.bucket().len();
        bytes <= ANSWER_BYTES
    });
    let fits = fits.count().max(1);
    if fits < page.keys.len() {
        page.keys.truncate(fits);
        page.next = page.keys.last().map(|last| ListPosition::of(&last.key));
    }
}

/// Ends an answer after [`ANSWER_BYTES`] of elements.
pub(crate) fn cut_elements(page: &mut ElementKeys) {
    let mut bytes = 0;
    let fits = page.elements.iter().take_while(|listed| {
        bytes += listed.element.len();
        bytes <= ANSWER_BYTES
    });
    let fits = fits.count().max(1);
    if let Some(beyond) = page.elements.get(fits) {
        page.next = Some(ElementRange::place_of(&beyond.element));
        page.elements.truncate(fits);
    }
}

/// The part of a range that lies before `end`, and the rest of it.
pub(crate) fn cut_range(range: ElementRange, end: Bytes) -> (ElementRange, ElementRange) {
    let ElementRange { from, until } = range;
    (ElementRange { from, until: Some(end.clone()) }, ElementRange { from: end, until })
}
