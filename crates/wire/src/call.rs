//! What a native client asks of a node, and what it is told.

use std::fmt;

use bytes::Bytes;
use clock::NodeId;
use membership::{Liveness, Load, MemberState};
use replication::{
    Answer, BarrierStage, BucketCall, BucketReply, Comparison, ComparisonSummary, ConflictList,
    ConflictsRequest, Explanation, RepairProgress, RepairRequest, Request, RequestError, ScanPage,
    ScanRequest,
};
use serde::{Deserialize, Serialize};
use values::Key;

use crate::{
    BackupCall, BackupProgress, CommittedPlan, DrainCall, DrainProgress, PlanCall, PlanReport,
    TransferReport, TransferStatus,
};

/// A client's call. The id is the client's, unique among its calls under way on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCall {
    /// To be answered under.
    pub id: u64,
    /// What for.
    pub body: CallBody,
}

/// What a client calls for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallBody {
    /// Requests, done side by side; those on one key in order.
    Execute(Vec<Request>),
    /// A page of keys.
    Scan(ScanRequest),
    /// The number of live keys of a bucket.
    Count(Bytes),
    /// Keys in conflict, as one node's own replica shows them.
    Conflicts(ConflictsRequest),
    /// How a key stands.
    Explain(Key),
    /// About buckets.
    Buckets(BucketCall),
    /// To have the node's replicas compared with others soon, and how far that is.
    Repair(RepairRequest),
    /// When the node's partitions were last found equal with other owners.
    Comparisons,
    /// How the cluster looks from the node.
    Status,
    /// To change who belongs to the cluster.
    Cluster(ClusterCall),
    /// To say what a plan would change.
    Plan(PlanCall),
    /// To commit a plan.
    Commit(PlanCall),
    /// What moves in the cluster.
    Transfers,
    /// To have all members of the node's ring join that of another node, with all that they hold.
    Merge {
        /// The other node's peer address.
        seed: String,
    },
    /// To have a member drain and stop, and how far that is.
    Drain(DrainCall),
    /// About the node's backup.
    Backup(BackupCall),
    /// Cuts or restores the links between the named member and all others (development clusters
    /// only).
    Links {
        /// Which member.
        member: String,
        /// Whether to cut.
        cut: bool,
    },
}

/// What an administrator orders about a member, by its name. Done at that member, to which the node
/// asked passes it on, but for a removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClusterCall {
    /// A member that joins becomes a full one.
    Join {
        /// Which.
        member: String,
    },
    /// A member is to go in good order.
    Leave {
        /// Which.
        member: String,
    },
    /// A dead member is gone for good.
    Remove {
        /// Its name; or its id, of one that the barrier waits for and of which no record is left.
        member: String,
    },
    /// A member has another capacity beside that of the others.
    Weigh {
        /// Which.
        member: String,
        /// 1 to 1,000.
        weight: u16,
    },
}

impl ClusterCall {
    /// Whom it is about.
    pub fn member(&self) -> &str {
        match self {
            Self::Join { member }
            | Self::Leave { member }
            | Self::Remove { member }
            | Self::Weigh { member, .. } => member,
        }
    }
}

/// The answer to a call, under its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientReply {
    /// The call's id.
    pub id: u64,
    /// What came of it.
    pub body: ReplyBody,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ReplyBody {
    /// One result per request, in order.
    Executed(Vec<Result<Answer, RequestError>>),
    /// A page of keys.
    Page(Result<ScanPage, RequestError>),
    /// A number of keys.
    Count(Result<u64, RequestError>),
    /// Keys in conflict.
    Conflicts(Result<ConflictList, RequestError>),
    /// How a key stands.
    Explanation(Box<Result<Explanation, RequestError>>),
    /// About buckets.
    Buckets(Box<Result<BucketReply, RequestError>>),
    /// How far a repair is.
    Repair(Result<RepairProgress, RequestError>),
    /// When partitions were last found equal, in order of the partitions.
    Comparisons(Result<Vec<Comparison>, RequestError>),
    /// How the cluster looks.
    Status(Box<Result<ClusterStatus, RequestError>>),
    /// An order about a member, or all, is followed.
    Cluster(Result<(), RequestError>),
    /// What a plan would change.
    Plan(Box<Result<PlanReport, RequestError>>),
    /// What a committed plan changes.
    Commit(Box<Result<CommittedPlan, RequestError>>),
    /// What moves in the cluster.
    Transfers(Box<Result<TransferReport, RequestError>>),
    /// How far a drain is.
    Drain(Result<DrainProgress, RequestError>),
    /// How far the node's backup is.
    Backup(Box<Result<BackupProgress, RequestError>>),
    /// Links are cut or restored.
    Links(Result<(), RequestError>),
}

/// How the cluster looks from one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The answering node's name.
    pub node: String,
    /// The answering node's build.
    pub version: String,
    /// Why the node does not serve, if it does not: it waits for its cluster, or is no member any more.
    pub waiting: Option<String>,
    /// Version of the plan by which partitions are to be owned.
    pub ring_version: u64,
    /// How far partitions have followed it.
    pub handover: HandoverStatus,
    /// Number of partitions, Q.
    pub partitions: u32,
    /// Owner of every partition, as an index into `members`.
    pub owners: Vec<u16>,
    /// Milliseconds since the node started.
    pub uptime_ms: u64,
    /// Live keys that the node holds, all buckets.
    pub keys: u64,
    /// Those of them with more than one type.
    pub type_conflicts: u64,
    /// Those of them with more than one sibling.
    pub sibling_keys: u64,
    /// The most siblings that one of them has; 0 if none has several.
    pub most_siblings: u32,
    /// How long ago the node's partitions were found equal with other owners.
    pub compared: ComparisonSummary,
    /// How far the forgetting of deleted keys is.
    pub barrier: BarrierStatus,
    /// All members, in order of id.
    pub members: Vec<MemberStatus>,
    /// Most bytes of deltas that the answering node keeps for one member.
    pub hint_bytes_max: u64,
    /// Counters since the start, by name: `requests_total` and the like.
    pub counters: Vec<(String, u64)>,
}

/// How far partitions have followed the plan, as the answering node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverStatus {
    /// Partitions of the cluster that are not owned as the plan says yet.
    pub partitions_moving: u32,
    /// Of them, those that the answering node is being sent.
    pub receiving: u32,
    /// Those that it takes from stage to stage.
    pub driving: u32,
    /// Those that it does not own any more and holds a copy of.
    pub departing: u32,
    /// For whom it waits with any of them, ascending.
    pub waits_for: Vec<NodeId>,
    /// The same in numbers, by part: what is left, how fast it goes, and why it waits.
    pub transfers: Vec<TransferStatus>,
}

/// How far members are with forgetting what is left of deleted keys, as the answering node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BarrierStatus {
    /// The round that the answering node entered last.
    pub round: u64,
    /// How far it is in it.
    pub stage: BarrierStage,
    /// The last round on which all members are agreed: what is older may be forgotten.
    pub agreed: u64,
    /// The last round of which all that is older is forgotten.
    pub forgotten: u64,
    /// Members that are not as far as the answering node, or not in its reach and no further, ascending: they
    /// hold all others up.
    pub waits_for: Vec<NodeId>,
    /// Whether the answering node holds what is left of deleted keys and is to be forgotten still.
    pub has_remnants: bool,
    /// What the answering node itself is at, if it is at anything.
    pub doing: Option<BarrierDoing>,
}

/// What a node has to do before it can say that it is further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BarrierDoing {
    /// Its partitions are compared with other owners.
    Comparing {
        /// Pairs of a partition and another owner.
        pairs: u64,
        /// Those of them that were found equal.
        equal: u64,
    },
    /// It has a part in so many handovers, which end first.
    HandingOver(u64),
    /// Requests end that were under way, and what is pending for others is delivered.
    Draining,
    /// What is left of deleted keys is being forgotten.
    Forgetting,
    /// What it holds is older than the barrier: it is set aside, and the node begins anew.
    BeginningAnew,
    /// Nobody has said yet how far others are: it takes no part before.
    Joining,
    /// Others were restored from backups as a whole cluster, and this node was not.
    Apart,
}

impl fmt::Display for BarrierDoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Comparing { pairs, equal } => {
                write!(
                    f,
                    "comparing ({equal} of {pairs} pairs of a partition and an owner are equal)"
                )
            }
            Self::HandingOver(count) => write!(f, "waiting for {count} handovers to end"),
            Self::Draining => {
                f.write_str("ending what was under way, and delivering what is pending")
            }
            Self::Forgetting => f.write_str("forgetting"),
            Self::BeginningAnew => f.write_str("older than the barrier, and to begin anew"),
            Self::Joining => f.write_str("waiting to hear how far others are"),
            Self::Apart => f.write_str(
                "not restored with the others: they were, as a whole cluster (`restore --whole-cluster`)",
            ),
        }
    }
}

/// How one member looks from the answering node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_address: String,
    /// What it fails together with, if that is known.
    pub zone: Option<String>,
    /// Its capacity beside that of the others.
    pub weight: u16,
    /// Where it stands.
    pub state: MemberState,
    /// Whether the answering node takes it for alive.
    pub liveness: Liveness,
    /// How surprising its silence is to the answering node; suspected from a threshold on.
    pub phi: f64,
    /// How often it was started.
    pub generation: u64,
    /// Its build.
    pub version: String,
    /// Whether the answering node is connected to it (to itself it always is).
    pub connected: bool,
    /// The version of messages that the answering node sends it, while it is connected to it.
    pub messages: Option<u16>,
    /// Whether its links are cut on purpose (development clusters only).
    pub cut: bool,
    /// Partitions of which it is the first owner.
    pub partitions: u32,
    /// Copies of partitions that it owns now, counted for the n of the default policy.
    pub copies: u32,
    /// Keys with deltas that wait for it in the answering node's outbox.
    pub pending: u64,
    /// Bytes of these deltas.
    pub pending_bytes: u64,
    /// How busy it says it is.
    pub load: Load,
}
