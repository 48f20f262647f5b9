//! What a native client asks of a node, and what it is told.

use bytes::Bytes;
use clock::NodeId;
use replication::{
    Answer, BucketCall, BucketReply, Comparison, ComparisonSummary, ConflictsRequest, Explanation,
    RepairProgress, RepairRequest, Request, RequestError, ScanPage, ScanRequest,
};
use serde::{Deserialize, Serialize};
use storage::ConflictPage;
use values::Key;

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
    /// Keys in conflict, as the node's own replica shows them.
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
    /// Cuts or restores the links between the named member and all others (development clusters
    /// only).
    Links {
        /// Which member.
        member: String,
        /// Whether to cut.
        cut: bool,
    },
}

/// The answer to a call, under its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientReply {
    /// The call's id.
    pub id: u64,
    /// What came of it.
    pub body: ReplyBody,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplyBody {
    /// One result per request, in order.
    Executed(Vec<Result<Answer, RequestError>>),
    /// A page of keys.
    Page(Result<ScanPage, RequestError>),
    /// A number of keys.
    Count(Result<u64, RequestError>),
    /// Keys in conflict.
    Conflicts(Result<ConflictPage, RequestError>),
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
    /// Links are cut or restored.
    Links(Result<(), RequestError>),
}

/// How the cluster looks from one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The answering node's name.
    pub node: String,
    /// The answering node's build.
    pub version: String,
    /// Version of its ring.
    pub ring_version: u64,
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
    /// All members, in order of id.
    pub members: Vec<MemberStatus>,
    /// Counters since the start, by name: `requests_total` and the like.
    pub counters: Vec<(String, u64)>,
}

/// How one member looks from the answering node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether the answering node is connected to it (to itself it always is).
    pub connected: bool,
    /// Whether its links are cut on purpose (development clusters only).
    pub cut: bool,
    /// Partitions that it owns.
    pub partitions: u32,
    /// Keys with deltas that wait for it in the answering node's outbox.
    pub pending: u64,
}
