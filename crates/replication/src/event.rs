//! What goes into a core and what comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use clock::{ClusterSecret, NodeId};
use ring::{Ownership, Partition, PlanId, Ring, Tenure};
use storage::{ShardSet, Ticket};
use values::{Key, Limits, ManySiblings};

use crate::{
    Answer, AntiEntropyConfig, BucketCall, BucketPolicy, BucketReply, Buckets, Comparison,
    ConflictList, ConflictsRequest, Explanation, KeptCommits, Message, OwnershipCall,
    OwnershipReply, PolicyTable, RepairProgress, RepairRequest, Request, RequestError, ScanPage,
    ScanRequest,
};

/// The present, as the shell sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back; its origin does not matter.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970 of a clock that may jump.
    pub wall_ms: u64,
}

/// Names a client's call within a core, so that its reply finds it. Drawn by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// What a client calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A request on a key.
    Request(Request),
    /// A page of keys.
    Scan(ScanRequest),
    /// The number of live keys of a bucket.
    Count {
        /// Which bucket.
        bucket: Bytes,
    },
    /// About buckets.
    Buckets(BucketCall),
    /// About the ownership of partitions. For the first core.
    Ownership(OwnershipCall),
    /// Keys in conflict, as this node's own replica shows them.
    Conflicts(ConflictsRequest),
    /// How a key stands.
    Explain(Key),
    /// To have this node's replicas compared with others soon, and how far that is.
    Repair(RepairRequest),
    /// When this node's partitions were last found equal with other owners.
    Comparisons,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Of [`Call::Request`].
    Answer(Answer),
    /// Of [`Call::Scan`].
    Page(ScanPage),
    /// Of [`Call::Count`].
    Count(u64),
    /// Of [`Call::Buckets`].
    Buckets(BucketReply),
    /// Of [`Call::Ownership`].
    Ownership(OwnershipReply),
    /// Of [`Call::Conflicts`].
    Conflicts(ConflictList),
    /// Of [`Call::Explain`].
    Explanation(Box<Explanation>),
    /// Of [`Call::Repair`].
    Repair(RepairProgress),
    /// Of [`Call::Comparisons`], ordered by partition.
    Comparisons(Vec<Comparison>),
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client called.
    Call {
        /// To reply under.
        id: CallId,
        /// What for.
        call: Call,
    },
    /// A client made a request, one of several that it made at once: those on one key are seen in
    /// the order given, and each sees those before it.
    Request {
        /// To reply under.
        id: CallId,
        /// What for.
        request: Request,
        /// The last one before it on the same key.
        after: Option<CallId>,
        /// Whether another may name it as the last one before.
        is_followed: bool,
    },
    /// A message came from another node.
    Received {
        /// From whom.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// The engine answered a command.
    Storage {
        /// Which command.
        ticket: Ticket,
        /// With what.
        answer: storage::Answer,
    },
    /// These keys have something due, since the times beside them, in milliseconds since 1970.
    Due {
        /// Keys with their earliest deadlines.
        keys: Vec<(Key, u64)>,
    },
    /// The cluster began with this ring. A node that has not heard of it begins with one of version 0,
    /// which loses against any.
    Ring(Ring),
    /// What the members are called.
    Names(BTreeMap<NodeId, String>),
    /// Whether membership takes a member for dead. It is then asked and not waited for, until it answers.
    Suspected {
        /// Which.
        node: NodeId,
        /// Whether.
        suspected: bool,
    },
    /// The node is about to stop: what other nodes pass on is refused, and they are told so.
    Drain,
    /// Buckets changed: the effect of another core of the node.
    Buckets(Arc<Buckets>),
    /// Who owns partitions changed, durably: the effect of another core of the node, or of this one.
    Ownership(Arc<Ownership>),
    /// Another core of the node made tenures, or was told of them. For the first core.
    Tenures {
        /// Which.
        tenures: Vec<(Partition, Tenure)>,
        /// What that core goes by.
        of: Arc<Ownership>,
    },
    /// Messages to this node can be sent now.
    LinkUp(NodeId),
    /// Messages to this node cannot be sent now; those under way may be lost.
    LinkDown(NodeId),
    /// The time of [`Core::next_timeout`](crate::Core::next_timeout) has come.
    Tick,
}

/// What must now happen, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a message; it may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Give a command to the engine.
    Storage {
        /// To be answered under.
        ticket: Ticket,
        /// What to do.
        command: storage::Command,
    },
    /// Tell the node's other cores how buckets stand now.
    Buckets(Arc<Buckets>),
    /// Tell the node's other cores who owns partitions now; it is durable.
    Ownership(Arc<Ownership>),
    /// Tell the administrator that a plan committed here lost against one committed elsewhere at the
    /// same time.
    Superseded {
        /// The one that lost.
        lost: PlanId,
        /// The plan that now has what it changed, or why there is none.
        again: Result<PlanId, String>,
    },
    /// Tell the node's first core of tenures that this one made, or was told of.
    Tenures {
        /// Which.
        tenures: Vec<(Partition, Tenure)>,
        /// What this core goes by.
        of: Arc<Ownership>,
    },
    /// Tell the administrator of a key that a put left with many siblings; each key once and a
    /// while.
    ManySiblings {
        /// Which key.
        key: Key,
        /// How many, and what the limits are.
        many: ManySiblings,
    },
    /// Tell membership that a request to this member timed out: it has owed answers for as long as anyone is
    /// ever waited for alone. A few times a second at most for each.
    TimedOut(NodeId),
    /// Reply to a client.
    Reply {
        /// Which call.
        id: CallId,
        /// With what.
        reply: Result<Reply, RequestError>,
    },
}

/// What a core is told at its start.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// This node.
    pub node: NodeId,
    /// Which of the node's cores this is.
    pub core: u8,
    /// The shards whose partitions this core has.
    pub shards: ShardSet,
    /// How replicas are compared in the background.
    pub anti_entropy: AntiEntropyConfig,
    /// Random bits of the process's start (mixed with `core` where a node has several): requests
    /// are numbered from it on, so that no answer to an earlier process is taken for one's own.
    pub incarnation: u64,
    /// Names of the members that are known at the start, for explanations.
    pub names: BTreeMap<NodeId, String>,
    /// Keys the MAC of context tokens.
    pub secret: ClusterSecret,
    /// Policy of buckets without one of their own.
    pub default_policy: BucketPolicy,
    /// The policies of buckets, as the engine of the node's first core has them in its notes
    /// ([`PolicyTable::of_notes`]).
    pub policies: PolicyTable,
    /// What this node committed last, as the same engine has it ([`KeptCommits::of_notes`]).
    pub commits: KeptCommits,
    /// Bounds on operations, checked before one is passed on as by the engine that prepares it.
    pub limits: Limits,
    /// Time limit of a request that names none, in milliseconds.
    pub timeout_ms: u32,
    /// After this long without an answer an owner's delta goes to the outbox and a read goes on
    /// without it, in milliseconds.
    pub cover_ms: u32,
    /// Most calls and forwarded requests under way at once; one more is answered `Overloaded`.
    pub requests_max: usize,
    /// Most deltas of the outbox under way to one owner at once.
    pub deliveries_max: usize,
}
