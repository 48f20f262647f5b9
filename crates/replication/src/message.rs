//! Messages between the cores of two nodes.

use clock::{NodeId, Stamp};
use ring::{Ownership, Partition, Sequence, Tenure};
use serde::{Deserialize, Serialize};
use storage::{ConflictPage, ConflictPosition, ListPosition, Listing, StorageError};
use values::{BucketId, Delta, Key, Scope, View};

use crate::{
    Answer, Compare, Compared, Coordinated, PolicyTable, Request, RequestError, Stands, ViewDigest,
};

/// Longest delta sent in one message, encoded, where it can be cut: well within a frame between
/// nodes, and enough for whatever one operation adds.
const DELTA_BYTES_MAX: usize = 16 << 20;

/// Cuts a delta for sending: its join is the join of the parts, of which there is at least one.
pub(crate) fn parts(delta: Delta) -> Vec<Delta> {
    if delta.is_empty() { vec![delta] } else { delta.split(DELTA_BYTES_MAX) }
}

/// Names a request of one core of one node, so that its reply finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// Which of the sender's cores asks (a node runs one core per event loop).
    pub core: u8,
    /// Unique among the requests of that core's process.
    pub number: u64,
}

/// One message. A [`Body`] that asks is answered under the same id by one that answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The exchange that it belongs to.
    pub id: RequestId,
    /// The client's call, or the background work, on whose account it was sent: the same at every
    /// node that it leads to. For people who read logs; in a frame it stands in the header.
    #[serde(skip)]
    pub trace: u64,
    /// The tenure by which a question's answer is to count as an owner's; 0 for one that counts as
    /// nobody's. In a frame it stands in the header.
    #[serde(skip)]
    pub sequence: Sequence,
    /// Latest hybrid time of the sender: travels in every message.
    pub time: Stamp,
    /// Milliseconds that the sender still waits for an answer; 0 for none.
    pub budget_ms: u32,
    /// What it says.
    pub body: Body,
}

/// What a member has of the table of bucket policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownPolicies {
    /// Digest of its table.
    pub digest: u128,
    /// The whole of it, where the digest is not the one that was told.
    pub entries: PolicyTable,
}

/// What a node has of the ownership of partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownOwnership {
    /// Digest of its state.
    pub digest: u128,
    /// The whole of it, where the digest is not the one that was told, if it could not take in all that it was told or
    /// does not know what the other one lacks. Else it has all of that, and tells by itself what it has beyond it.
    pub whole: Option<Box<Ownership>>,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Asks a replica of the key to coordinate a client's request.
    Forward(Request),
    /// Answers [`Body::Forward`].
    Forwarded(Result<Answer, RequestError>),
    /// Asks what a replica holds of a key.
    Read {
        /// Which key.
        key: Key,
        /// Which part of it.
        scope: Scope,
    },
    /// Answers [`Body::Read`], and [`Body::Digest`] where a digest would save nothing.
    Shown(Result<View, StorageError>),
    /// Asks for a digest of what [`Body::Read`] would be answered with.
    Digest {
        /// Which key.
        key: Key,
        /// Which part of it.
        scope: Scope,
    },
    /// Answers [`Body::Digest`].
    Digested(ViewDigest),
    /// Asks a replica to merge a delta and to say when it is durable.
    Merge {
        /// Which key.
        key: Key,
        /// What to merge.
        delta: Delta,
        /// What to show of the key after the merge.
        show: Option<Scope>,
    },
    /// Answers [`Body::Merge`], once durable.
    Merged(Result<Option<View>, StorageError>),
    /// Asks a fallback to keep a delta for an owner that does not answer, and to deliver it.
    Hint {
        /// For whom.
        owner: NodeId,
        /// Which key.
        key: Key,
        /// What the owner may lack.
        delta: Delta,
    },
    /// Answers [`Body::Hint`], once durable.
    Hinted(Result<(), StorageError>),
    /// Asks for live keys of a range of partitions.
    List {
        /// The first partition.
        first: Partition,
        /// The last partition, included.
        last: Partition,
        /// Which bucket.
        bucket: BucketId,
        /// Where to go on in the first partition.
        after: Option<ListPosition>,
        /// At most so many.
        limit: u32,
    },
    /// Answers [`Body::List`].
    Listed {
        /// The keys.
        listing: Result<Listing, StorageError>,
        /// Partitions of the range that the replica does not own, by the tenures that it knows of: of these
        /// it may hold nothing any more, or not everything yet. Ascending.
        foreign: Vec<Partition>,
    },
    /// Asks for the number of live keys of a bucket in partitions.
    Count {
        /// Which bucket.
        bucket: BucketId,
        /// Which partitions.
        partitions: Vec<Partition>,
        /// Whether it is asked as their owner: if it is not, of one of them, it refuses.
        as_owner: bool,
    },
    /// Answers [`Body::Count`].
    Counted(Result<u64, StorageError>),
    /// Asks for keys in conflict, as the receiver's replica shows them.
    Conflicts {
        /// Where to go on; `None` from the start.
        after: Option<ConflictPosition>,
        /// At most so many.
        limit: u32,
    },
    /// Answers [`Body::Conflicts`].
    ConflictsListed(Result<ConflictPage, StorageError>),
    /// Asks what a replica holds of a key, and for whom it holds pending deltas of it.
    Explain {
        /// Which key.
        key: Key,
    },
    /// Tells of the table of bucket policies.
    Policies {
        /// Digest of the sender's.
        digest: u128,
        /// What of it the receiver may lack.
        entries: PolicyTable,
    },
    /// Answers [`Body::Policies`], once what it told is durable.
    PoliciesKnown(Result<KnownPolicies, StorageError>),
    /// Tells of the ownership of partitions.
    Ownership {
        /// Digest of the sender's state.
        digest: u128,
        /// Tenures of it that the receiver may lack.
        tenures: Vec<(Partition, Tenure)>,
        /// The whole of it, where the receiver may lack more.
        whole: Option<Box<Ownership>>,
    },
    /// Answers [`Body::Ownership`], once what it told is durable.
    OwnershipKnown(Result<KnownOwnership, StorageError>),
    /// Asks where a node stands in the handovers of some partitions.
    Stand {
        /// Which ones: 256 at most are answered.
        partitions: Vec<Partition>,
    },
    /// Answers [`Body::Stand`], once all that the node held when it was asked is durable.
    Stands {
        /// Of those partitions that the core owns which was asked.
        stands: Vec<(Partition, Stands)>,
    },
    /// Answers a question that was to count by an earlier tenure than the receiver knows of: nothing
    /// was done.
    Moved {
        /// Which partition.
        partition: Partition,
        /// Its tenure.
        tenure: Tenure,
    },
    /// Asks another owner what it holds, to find what differs.
    Compare(Compare),
    /// Answers [`Body::Compare`].
    Compared(Result<Compared, StorageError>),
    /// Tells one core of the receiver that the sender is about to stop: nothing is to be passed on to it,
    /// or given to it to keep.
    Draining {
        /// Which core: one that the receiver does not have is another of its cores.
        core: u8,
    },
    /// Answers [`Body::Draining`]: what was passed on before has left before this.
    DrainingKnown {
        /// How many cores the answering node has.
        cores: u8,
    },
    /// Answers [`Body::Explain`].
    Explained {
        /// What the replica holds.
        view: Result<View, StorageError>,
        /// Owners for which it holds pending deltas of the key.
        pending_for: Vec<NodeId>,
        /// Writes of the key that it coordinated and remembers, the oldest first.
        writes: Vec<Coordinated>,
    },
}

impl Body {
    /// The operation's name, for frame headers, logs and metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Forward(_) => "forward",
            Self::Forwarded(_) => "forwarded",
            Self::Read { .. } => "read",
            Self::Shown(_) => "shown",
            Self::Digest { .. } => "digest",
            Self::Digested(_) => "digested",
            Self::Merge { .. } => "merge",
            Self::Merged(_) => "merged",
            Self::Hint { .. } => "hint",
            Self::Hinted(_) => "hinted",
            Self::List { .. } => "list",
            Self::Listed { .. } => "listed",
            Self::Count { .. } => "count",
            Self::Counted(_) => "counted",
            Self::Conflicts { .. } => "conflicts",
            Self::ConflictsListed(_) => "conflicts_listed",
            Self::Policies { .. } => "policies",
            Self::PoliciesKnown(_) => "policies_known",
            Self::Ownership { .. } => "ownership",
            Self::OwnershipKnown(_) => "ownership_known",
            Self::Stand { .. } => "stand",
            Self::Stands { .. } => "stands",
            Self::Moved { .. } => "moved",
            Self::Compare(_) => "compare",
            Self::Compared(_) => "compared",
            Self::Explain { .. } => "explain",
            Self::Explained { .. } => "explained",
            Self::Draining { .. } => "draining",
            Self::DrainingKnown { .. } => "draining_known",
        }
    }

    /// Whether it asks; if not, it answers.
    pub const fn is_question(&self) -> bool {
        match self {
            Self::Forward(_)
            | Self::Read { .. }
            | Self::Digest { .. }
            | Self::Merge { .. }
            | Self::Hint { .. }
            | Self::List { .. }
            | Self::Count { .. }
            | Self::Conflicts { .. }
            | Self::Policies { .. }
            | Self::Ownership { .. }
            | Self::Stand { .. }
            | Self::Compare(_)
            | Self::Draining { .. }
            | Self::Explain { .. } => true,
            Self::Forwarded(_)
            | Self::Shown(_)
            | Self::Digested(_)
            | Self::Merged(_)
            | Self::Hinted(_)
            | Self::Listed { .. }
            | Self::Counted(_)
            | Self::ConflictsListed(_)
            | Self::PoliciesKnown(_)
            | Self::OwnershipKnown(_)
            | Self::Stands { .. }
            | Self::Moved { .. }
            | Self::Compared(_)
            | Self::DrainingKnown { .. }
            | Self::Explained { .. } => false,
        }
    }

    /// What is answered where this does not fit in a message, because it takes `bytes` and a
    /// message holds `limit`. Stands in for an answer; to a question it is the answer that its own
    /// sender gets.
    #[must_use]
    pub fn too_long(&self, bytes: usize, limit: usize) -> Self {
        let error = StorageError::TooLong { bytes, limit };
        match self {
            Self::Forward(_) => Self::Forwarded(Err(RequestError::Unsupported(format!(
                "a request of {bytes} bytes, a message between nodes holds {limit}: use several"
            )))),
            Self::Forwarded(_) => Self::Forwarded(Err(RequestError::Unsupported(format!(
                "an answer of {bytes} bytes, a message between nodes holds {limit}: ask for less \
                 at a time; what was to be written is written"
            )))),
            Self::Read { .. } | Self::Shown(_) | Self::Digest { .. } | Self::Digested(_) => {
                Self::Shown(Err(error))
            }
            Self::Merge { .. } | Self::Merged(Err(_)) => Self::Merged(Err(error)),
            // It is merged, and durable; only what there is to show is not shown.
            Self::Merged(Ok(_)) => Self::Merged(Ok(None)),
            Self::Hint { .. } | Self::Hinted(_) => Self::Hinted(Err(error)),
            Self::List { .. } | Self::Listed { .. } => {
                Self::Listed { listing: Err(error), foreign: Vec::new() }
            }
            Self::Count { .. } | Self::Counted(_) => Self::Counted(Err(error)),
            Self::Conflicts { .. } | Self::ConflictsListed(_) => Self::ConflictsListed(Err(error)),
            Self::Policies { .. } | Self::PoliciesKnown(_) => Self::PoliciesKnown(Err(error)),
            Self::Ownership { .. } | Self::OwnershipKnown(_) => Self::OwnershipKnown(Err(error)),
            Self::Stand { .. } | Self::Stands { .. } => Self::Stands { stands: Vec::new() },
            Self::Moved { partition, tenure } => {
                Self::Moved { partition: *partition, tenure: *tenure }
            }
            Self::Compare(_) | Self::Compared(_) => Self::Compared(Err(error)),
            Self::Draining { .. } => Self::DrainingKnown { cores: 0 },
            Self::DrainingKnown { cores } => Self::DrainingKnown { cores: *cores },
            Self::Explain { .. } | Self::Explained { .. } => {
                Self::Explained { view: Err(error), pending_for: Vec::new(), writes: Vec::new() }
            }
        }
    }

    /// The partition-routing key of a request body (`None` for answers and for bodies that name
    /// partitions themselves).
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::Compare(compare) => compare.key(),
            Self::Forward(request) => Some(&request.key),
            Self::Read { key, .. }
            | Self::Digest { key, .. }
            | Self::Merge { key, .. }
            | Self::Hint { key, .. }
            | Self::Explain { key } => Some(key),
            _ => None,
        }
    }
}
