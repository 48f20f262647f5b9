//! What a replica is asked to do, and what it answers: plain data, so that the coordinators emit
//! commands as effects and receive answers as events, and never see the engine.

use std::sync::Arc;

use bytes::Bytes;
use clock::{Actor, CausalContext, NodeId, Round, Stamp};
use ring::{Partition, PartitionCount};
use serde::{Deserialize, Serialize};
use values::{
    BucketId, Delta, Key, Lifetime, Limits, Minted, Operation, Scope, Tag, UpdateError, View,
};

use crate::Durability;
use crate::row_key::RowKey;
use crate::tree::{ElementKeys, ElementRange, TreeKeys, TreeNode, TreePath};

/// Longest name of a note, in bytes.
pub const NOTE_NAME_MAX: usize = 256;

/// Names a command, so that its answers find whoever waits for them. Drawn by the caller; unique
/// among the commands under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The two steps in which a remnant is forgotten, and how the first is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Forgetting {
    /// It counts as gone: hash trees do not count it and nothing shows it. It is still held, so that it
    /// does not come back from a member that shows it.
    Hide,
    /// It is gone. Only what was hidden is dropped.
    Drop,
    /// It counts again, as one that changed in the present round: what was hidden, or is of a later round. All
    /// that were agreed on it may be others than those among whom the replica is now.
    Show,
}

/// Which keys of a partition are meant: an owner of those of one bucket need not be one of those of
/// another, with fewer owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysOf {
    /// Those of all buckets, known or not.
    AllBuckets,
    /// Those of buckets with at most so many owners, as far as anything is live or deleted of them; what is
    /// left of deleted keys and counts as gone is not looked at.
    BucketsUpTo(u8),
}

/// One thing to do to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Reads a key. Sees every command given before, durable or not.
    Read {
        /// Which key.
        key: Key,
        /// Which part of it.
        scope: Scope,
    },
    /// As [`Command::Read`], joined with what the outbox holds of the key for its owners: how a
    /// fallback answers.
    ReadHeld {
        /// Which key.
        key: Key,
        /// Which part of it.
        scope: Scope,
    },
    /// Coordinates an operation: makes its delta from what this replica holds and merges it, in
    /// one step. Answered by [`Answer::Prepared`] at once (or [`Answer::Refused`]), then by
    /// [`Answer::Durable`] or [`Answer::Failed`]. [`Answer::Failed`] alone: nothing was made; so it
    /// is while the last batch is one that the disk refused.
    Update {
        /// Which key.
        key: Key,
        /// What to do.
        operation: Operation,
        /// What it does to the key's time to live beside that.
        lifetime: Lifetime,
        /// The context that the client presented; empty for none.
        observed: CausalContext,
        /// What each of other replicas showed within the operation's scope before it was given. A
        /// removal takes it away together with what this replica shows.
        shown: Vec<View>,
        /// Hybrid time of the write.
        stamp: Stamp,
        /// The actor of a request with a name ([`Actor::named`]); `None` for one without, which
        /// this replica mints for.
        named: Option<Actor>,
        /// The bounds of the key's bucket.
        limits: Arc<Limits>,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// Merges a delta from a coordinator. Answered once as durable as asked, by [`Answer::Merged`].
    Merge {
        /// Which key.
        key: Key,
        /// What to merge.
        delta: Delta,
        /// What to show of the key after the merge, if anything.
        show: Option<Scope>,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// Takes note that this replica has all that another one had seen of a collection: the last step
    /// of comparing them, after every element that differs was merged. Merges `context` and nothing
    /// else, if this replica still has what it had seen until then; answered as a merge, or by
    /// [`StorageError::Unseen`].
    Complete {
        /// Which key.
        key: Key,
        /// Which collection of it.
        tag: Tag,
        /// What this replica must have seen.
        seen: CausalContext,
        /// What the other one had seen before its elements were compared.
        context: CausalContext,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// Keeps a delta for an owner that could not be reached: merges it into what is pending for
    /// (owner, key) in the outbox. Answered by [`Answer::Durable`].
    Defer {
        /// For whom.
        owner: NodeId,
        /// Which key.
        key: Key,
        /// What the owner lacks.
        delta: Delta,
        /// When it is acknowledged.
        durability: Durability,
    },
    /// Lists pending deltas for an owner, in a fixed order; of one key there can be several.
    Outbox {
        /// For whom.
        owner: NodeId,
        /// Go on after this position; `None` from the start.
        after: Option<OutboxPosition>,
        /// At most so many, at least 1.
        limit: usize,
    },
    /// Deletes a pending delta that the owner acknowledged, unless it has grown since it was
    /// listed with `version`. Answered by [`Answer::Durable`].
    Delivered {
        /// Where it stands, as listed: this names the owner and the key.
        position: OutboxPosition,
        /// The version that was delivered.
        version: u128,
    },
    /// Has what is pending at this position, for a node that is no owner any more, pend for these instead;
    /// what this node owns is merged here. Done whole if there is room when it begins, and however much
    /// is pending for the others, since two outboxes that are full would wait for each other. Answered by
    /// [`Answer::Durable`]; after an error it is pending there still, and may be for some of the others too.
    Redirect {
        /// Where it stands, as listed.
        position: OutboxPosition,
        /// The owners of its key. Nothing is done if there are none, or the one for whom it is pending is one of them.
        owners: Vec<NodeId>,
    },
    /// Lists live keys of a range of partitions, ascending by partition and within it in a fixed
    /// order. Looks at a bounded number of keys, of whichever bucket, live or not: the page can be
    /// short, or empty, before the end of the range.
    List {
        /// The first partition.
        first: Partition,
        /// The last partition, included.
        last: Partition,
        /// Keys of this bucket only.
        bucket: BucketId,
        /// Go on after this position of the first partition; `None` from its start.
        after: Option<ListPosition>,
        /// At most so many, at least 1.
        limit: usize,
    },
    /// Counts the live keys of a bucket in each of the given partitions.
    Count {
        /// Which partitions.
        partitions: Vec<Partition>,
        /// Which bucket.
        bucket: BucketId,
    },
    /// Keeps notes: small values that are no key's, each in place of an earlier one of its name.
    /// Answered by [`Answer::Durable`], of all together.
    Note {
        /// Names, of at most [`NOTE_NAME_MAX`] bytes, and values.
        notes: Vec<(Bytes, Bytes)>,
    },
    /// Takes note that a round of the barrier is entered: what changes from now on is not older. It may be an
    /// earlier one than the last: of a ring whose rounds are fewer. Answered by [`Answer::Durable`].
    Enter {
        /// Which. Names are folded by it.
        round: Round,
    },
    /// Forgets remnants of deleted keys that did not change here since the round `below` was entered.
    /// Each is hidden first, everywhere, and then dropped: `replication`'s barrier says when, and when they
    /// are shown again. Answered by [`Answer::RemnantsForgotten`], once durable.
    ForgetRemnants {
        /// What is done.
        step: Forgetting,
        /// Those of earlier rounds are hidden or dropped. All are shown.
        below: u64,
        /// At most so many, at least 1.
        limit: usize,
    },
    /// For whom anything is pending in the outbox.
    OutboxOwners,
    /// Answered by [`Answer::Durable`] once all that is visible now is.
    Sync,
    /// Asks whether anything is held of a partition's keys, what is left of deleted ones included, or may be
    /// again, should the disk refuse what was just dropped.
    IsEmpty {
        /// Which partition.
        partition: Partition,
        /// Which of its keys.
        keys: KeysOf,
    },
    /// Drops what is held of a partition's keys, which others own: each key whole, as if it had never
    /// been here. Answered by [`Answer::Forgotten`]. What is pending for others stays.
    Forget {
        /// Which partition.
        partition: Partition,
        /// Which of its keys.
        keys: KeysOf,
        /// At most so many keys, at least 1.
        limit: usize,
    },
    /// Reads the whole of a key, and for whom deltas of it are pending here.
    Explain {
        /// Which key.
        key: Key,
    },
    /// Lists keys in conflict, those with most siblings first. Looks at a bounded number of them:
    /// the page can be short before the end.
    Conflicts {
        /// Go on after this position; `None` from the start.
        after: Option<ConflictPosition>,
        /// At most so many, at least 1.
        limit: usize,
    },
    /// The roots of hash trees. Answered for the first of the partitions only, where they have
    /// many leaves.
    TreeRoots {
        /// Keys of buckets with this n.
        n: u8,
        /// Which partitions.
        partitions: Vec<Partition>,
    },
    /// The children of a node of a hash tree.
    TreeChildren {
        /// Keys of buckets with this n.
        n: u8,
        /// Which partition.
        partition: Partition,
        /// Which node.
        path: TreePath,
    },
    /// The keys of a node of a hash tree. Looks at a bounded number of keys: the page can be short,
    /// or empty, before the node's end.
    TreeKeys {
        /// Keys of buckets with this n.
        n: u8,
        /// Which partition.
        partition: Partition,
        /// Which node.
        path: TreePath,
        /// Go on after this position; `None` from its start.
        after: Option<ListPosition>,
        /// At most so many, at least 1.
        limit: usize,
    },
    /// What is held of ranges of a collection's elements. Answered for the first 16.
    ElementNodes {
        /// Which key.
        key: Key,
        /// Which collection of it.
        tag: Tag,
        /// Which ranges.
        ranges: Vec<ElementRange>,
        /// What this replica must have seen, else [`StorageError::Unseen`]: what it showed that it had seen
        /// may have been lost since, or dropped.
        seen: CausalContext,
    },
    /// Cuts a range of a collection's elements into up to 16, where this replica finds it good. One
    /// alone: look at the elements.
    ElementChildren {
        /// Which key.
        key: Key,
        /// Which collection of it.
        tag: Tag,
        /// Which range.
        range: ElementRange,
        /// What this replica must have seen.
        seen: CausalContext,
    },
    /// The elements of a range. Looks at a bounded number: the page can be short, or empty, before
    /// the range's end.
    ElementKeys {
        /// Which key.
        key: Key,
        /// Which collection of it.
        tag: Tag,
        /// Which range.
        range: ElementRange,
        /// What this replica must have seen.
        seen: CausalContext,
        /// At most so many, at least 1.
        limit: usize,
    },
}

/// A place in the order of the keys in conflict, the same at every replica that shows the same of
/// them. Opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConflictPosition(pub Bytes);

/// A key that someone is to resolve: it has several types, or several siblings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflicted {
    /// Where it stands.
    pub position: ConflictPosition,
    /// The key.
    pub key: Key,
    /// Its live types.
    pub tags: Vec<Tag>,
    /// Different siblings of its raw value; 0 if it has none.
    pub siblings: u32,
}

/// A page of keys in conflict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictPage {
    /// Keys in conflict, those with most siblings first.
    pub keys: Vec<Conflicted>,
    /// The last place looked at, where to go on after; `None` at the end.
    pub next: Option<ConflictPosition>,
}

/// A place in the order of an owner's pending deltas. Opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OutboxPosition(pub Bytes);

/// A place in the order of a partition's keys, the same at every replica. Opaque.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ListPosition(pub Bytes);

impl ListPosition {
    /// That of `key`.
    pub fn of(key: &Key) -> Self {
        Self(RowKey::of(key).as_bytes().to_vec().into())
    }

    /// In which partition it lies; `None` if no listing gave it.
    pub fn partition(&self, partitions: PartitionCount) -> Option<Partition> {
        RowKey::partition(&self.0, partitions)
    }
}

/// One pending delta of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where it stands.
    pub position: OutboxPosition,
    /// Which key.
    pub key: Key,
    /// What the owner lacks.
    pub delta: Delta,
    /// Digest of the delta: another one once more was merged into it.
    pub version: u128,
}

/// One live key of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Where it stands.
    pub position: ListPosition,
    /// The key.
    pub key: Key,
    /// Its live types.
    pub tags: Vec<Tag>,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Live keys, in order.
    pub keys: Vec<Listed>,
    /// The last place looked at, where to go on after; `None` at the end of the range.
    pub next: Option<ListPosition>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What a [`Command::Read`] or [`Command::ReadHeld`] found.
    View(View),
    /// An operation's delta was made and merged; it is not durable yet.
    Prepared {
        /// To be merged at every other replica.
        delta: Delta,
        /// How many things changed, as Redis counts.
        changed: u64,
        /// Whether the operation, known by its name, had been done before.
        repeated: bool,
        /// Whether the delta says that it was done, and not all that it took away.
        partial: bool,
        /// Whether that is known here; it was not merged if not.
        is_here: bool,
        /// The dots that it minted, if any.
        minted: Option<Minted>,
        /// The key after the merge, within the operation's scope.
        view: View,
    },
    /// The operation was refused and nothing was written.
    Refused(UpdateError),
    /// What the command wrote is as durable as was asked.
    Durable,
    /// For whom something is pending, ascending.
    OutboxOwners(Vec<NodeId>),
    /// Whether nothing is held.
    IsEmpty(bool),
    /// Keys were dropped.
    Forgotten {
        /// How many.
        keys: u64,
        /// Whether the partition has none left.
        is_last: bool,
    },
    /// What [`Command::Merge`] merged is as durable as was asked.
    Merged(Option<View>),
    /// Pending deltas.
    Outbox(Vec<Pending>),
    /// Live keys.
    Listed(Listing),
    /// Number of live keys.
    Count(u64),
    /// Some remnants were forgotten.
    RemnantsForgotten {
        /// Whether there may be more.
        more: bool,
    },
    /// Keys in conflict.
    Conflicts(ConflictPage),
    /// What a [`Command::Explain`] found.
    Explained {
        /// Which key.
        key: Key,
        /// The whole key.
        view: View,
        /// Owners for whom the outbox holds a delta of the key, in order.
        pending_for: Vec<NodeId>,
    },
    /// The nodes that a [`Command::TreeRoots`], [`Command::TreeChildren`] or
    /// [`Command::ElementNodes`] asked for, in order; none if there is no such node.
    TreeNodes(Vec<TreeNode>),
    /// The parts of a range of elements, in order.
    ElementChildren(Vec<(ElementRange, TreeNode)>),
    /// Elements of a range.
    ElementKeys(ElementKeys),
    /// A page of a node's keys.
    TreeKeys(TreeKeys),
    /// The disk failed. A read saw nothing. Whether a write survives a crash is unknown; it is not
    /// visible here any more.
    Failed(StorageError),
}

/// Why the engine could not do something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// No room on the device.
    #[error("the disk is full: free some space, the node goes on by itself")]
    Full,
    /// The device refuses writes.
    #[error("the data directory cannot be written: {0}")]
    ReadOnly(String),
    /// A record of this key is damaged. Other replicas may have it whole.
    #[error("a record of the key is damaged: {0}")]
    Corrupt(String),
    /// Anything else.
    #[error("input/output: {0}")]
    Io(String),
    /// Too much waits for a checkpoint. Nothing was written.
    #[error("overloaded: {0} bytes wait for the disk")]
    Overloaded(usize),
    /// A question or its answer takes more than a message between nodes holds.
    #[error("{bytes} bytes to send, a message between nodes holds {limit}: ask for less at a time")]
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// What a message holds.
        limit: usize,
    },
    /// As much is pending for an owner that cannot be reached as may be. Nothing was kept for it.
    #[error(
        "{bytes} bytes of hints are kept for a node that does not take them: bring it back, or remove it"
    )]
    HintsFull {
        /// How many bytes.
        bytes: u64,
    },
    /// Too many commands wait for the engine. Nothing was done.
    #[error("overloaded: too many commands wait for the engine")]
    Busy,
    /// The key is of a generation of its bucket that was dropped. Nothing is shown or kept of it.
    #[error("the bucket was dropped, with all that was written to it before")]
    Dropped,
    /// The replica has not seen, or has lost, what a comparison rests on. Nothing was done.
    #[error("the replica has lost some of what it was compared by: compare again")]
    Unseen,
    /// The node does not own what it is asked about as an owner, by the tenures that it knows of. Nothing
    /// was done.
    #[error("partition {partition} has other owners now: ask again, in a moment")]
    NotOwned {
        /// Which partition.
        partition: u32,
    },
    /// The two nodes are not both owners of what is to be compared, by the ring or the bucket
    /// policies that this one has, or the question is out of bounds. Nothing was done.
    #[error("{0}: not to be compared with this node")]
    Incomparable(String),
}
