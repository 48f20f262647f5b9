//! What event loops are given to do by other threads and by their own connections.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use clock::NodeId;
use membership::Incarnation;
use replication::{
    Answer, BarrierStamp, Buckets, Call, ComparisonSummary, Flow, Message, Part, Reply, Request,
    RequestError,
};
use ring::{Ownership, Partition, Ring, Tenure};
use storage::{Appended, BatchId, Command, ConflictCounts, SeamError, Ticket};
use tokio::sync::oneshot;

use crate::allowance::Allowance;
use crate::core_task::BarrierAsk;
use crate::links::LinkMap;

/// Results of a group of requests, one each, in order.
pub(crate) type Results = Vec<Result<Answer, RequestError>>;

/// Requests on keys of one loop, answered together.
#[derive(Debug)]
pub(crate) struct CallGroup {
    pub(crate) requests: Vec<Request>,
    pub(crate) reply: oneshot::Sender<Results>,
    /// What the answers may come to.
    pub(crate) allowance: Arc<Allowance>,
    /// Monotonic time at which they were queued, in milliseconds.
    pub(crate) queued_ms: u64,
}

/// A call that is no request on a key.
#[derive(Debug)]
pub(crate) struct SingleCall {
    pub(crate) call: Call,
    pub(crate) reply: oneshot::Sender<Result<Reply, RequestError>>,
}

/// Messages of one peer that came together.
#[derive(Debug)]
pub(crate) struct MessageBatch {
    pub(crate) from: NodeId,
    pub(crate) messages: Vec<Message>,
    /// Monotonic time at which they came, in milliseconds.
    pub(crate) received_ms: u64,
    /// The least that one of them says of how far its sender was with the barrier.
    pub(crate) barrier: BarrierStamp,
}

/// What comes through a loop's bounded queue.
#[derive(Debug)]
pub(crate) enum Work {
    Group(CallGroup),
    Single(Box<SingleCall>),
    Messages(MessageBatch),
    /// Asks how the loop stands.
    Report {
        reply: oneshot::Sender<LoopReport>,
        depth: Depth,
    },
}

/// How much a loop says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// What takes no walk over partitions that stand still, nor over rows: often asked for.
    Glance,
    /// All, but for flows: for those who wait for an end.
    Whole,
    /// And why partitions that move wait, which takes a look at each of them.
    Flows,
}

/// What must reach a loop whatever its load.
#[derive(Debug)]
pub(crate) enum Urgent {
    /// The log's result for a batch of this loop.
    Committed { batch: BatchId, result: Result<Appended, SeamError> },
    /// A sync of the log failed: it takes nothing more.
    LogFailed { error: SeamError },
    /// The log has grown long, or the loop is about to end: make a checkpoint. The log went up to
    /// `logged` when all results before this were sent.
    Checkpoint { logged: u64 },
    /// The index's result for the checkpoint of this loop.
    Checkpointed { result: Result<(), SeamError> },
    /// Messages to a node can be sent now, or no longer.
    Link { node: NodeId, up: bool },
    /// The links are these, and the members that were ever heard of are called so.
    Members { links: Arc<LinkMap>, names: Arc<BTreeMap<NodeId, String>> },
    /// Membership takes a member for dead, or no longer.
    Suspected { node: NodeId, suspected: bool },
    /// Keys are placed by this ring.
    Ring(Arc<Ring>),
    /// This process is another incarnation from now on.
    Incarnation(Incarnation),
    /// Buckets changed.
    Buckets(Arc<Buckets>),
    /// Who owns partitions changed.
    Ownership(Arc<Ownership>),
    /// Another loop was told of tenures; for the first loop.
    Tenures { tenures: Vec<(Partition, Tenure)>, of: Arc<Ownership> },
    /// Another loop asks for this one's part of a listing or count.
    Ask { asker: usize, ticket: Ticket, command: Command },
    /// The part that was asked for.
    Told { ticket: Ticket, answer: storage::Answer },
    /// Something for the barrier.
    Barrier(BarrierAsk),
    /// The node is about to stop: other nodes are to pass nothing on to it.
    Drain,
    /// Finish what was accepted, then end.
    Stop,
}

/// How a loop stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoopReport {
    pub(crate) live_keys: u64,
    /// Nothing at a glance.
    pub(crate) conflicts: ConflictCounts,
    /// Nothing at a glance.
    pub(crate) most_siblings: u32,
    /// Keys pending per owner.
    pub(crate) pending: BTreeMap<NodeId, u64>,
    /// Bytes of them.
    pub(crate) pending_bytes: BTreeMap<NodeId, u64>,
    /// How long ago the loop's partitions were found equal with other owners. Nothing at a glance.
    pub(crate) compared: ComparisonSummary,
    pub(crate) counters: Vec<(&'static str, u64)>,
    /// Partitions that move, by what it has to do with them.
    pub(crate) parts: BTreeMap<Part, u64>,
    /// The same with all that an administrator is told, with [`Depth::Flows`].
    pub(crate) flows: Vec<Flow>,
    /// Bytes of rows that are in memory and not in the index yet.
    pub(crate) changed_bytes: u64,
    /// Whether there is something left of deleted keys that does not count as gone. Not told at a glance.
    pub(crate) has_remnants: bool,
    /// Requests that were accepted and are under way.
    pub(crate) under_way: u64,
    /// Whether nobody passes anything on to this loop any more.
    pub(crate) is_drain_known: bool,
    /// Whether a node in reach has all that this loop has to tell of who owns partitions.
    pub(crate) is_ownership_known: bool,
}

/// Starts something in a loop; runs within its `LocalSet`.
pub(crate) struct Job(Box<dyn FnOnce() + Send>);

impl Job {
    pub(crate) fn new(start: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(start))
    }

    pub(crate) fn start(self) {
        (self.0)();
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Job(..)")
    }
}
