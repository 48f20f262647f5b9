//! What moves from members to members while partitions follow a plan.

use replication::{Part, WaitReason};
use serde::{Deserialize, Serialize};

/// What one member has to do with partitions that move, all that is of one part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// Which member.
    pub member: String,
    /// What it does.
    pub part: Part,
    /// Partitions that are not done.
    pub partitions: u64,
    /// Partitions done for the present plan since the member heard of it, or was started.
    pub done: u64,
    /// Keys that it was brought, or dropped, since then. Of a large collection each range that was brought counts.
    pub keys: u64,
    /// About how many are still to come; of one that receives, once it was told how many there are.
    pub keys_left: Option<u64>,
    /// Keys brought or dropped in a thousand seconds, as of the last 10 to 20 seconds.
    pub keys_per_1000_s: u64,
    /// About how long it takes still, in milliseconds; `None` while that cannot be told.
    pub left_ms: Option<u64>,
    /// From whom it receives, or who is to say that it has all; [`TransferStatus::LISTED_MAX`] at most, those with most
    /// partitions left.
    pub peers: Vec<TransferPeer>,
    /// How many more there are.
    pub more_peers: u32,
    /// What partitions wait for; as many at most.
    pub waits: Vec<TransferWait>,
    /// For how many more they wait.
    pub more_waits: u32,
}

impl TransferStatus {
    /// Most of the others that are named.
    pub const LISTED_MAX: usize = 16;
}

/// Another member in a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferPeer {
    /// Its name.
    pub name: String,
    /// Partitions that were not found equal with it yet, or of which it has not said that it has all.
    pub partitions: u64,
    /// Keys that came from it.
    pub keys: u64,
}

/// What some partitions of a transfer wait for. One may wait for several things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferWait {
    /// What.
    pub reason: WaitReason,
    /// Whom, where it is a member.
    pub member: Option<String>,
    /// How many partitions do.
    pub partitions: u64,
}

/// What moves in the cluster: what each member said that the answering node could ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Version of the plan that partitions follow, or are to.
    pub ring_version: u64,
    /// Number of partitions, Q.
    pub partitions: u32,
    /// Those that are not owned as the plan says yet, as the answering node knows it.
    pub partitions_moving: u32,
    /// By member and part; [`TransferReport::LISTED_MAX`] at most.
    pub transfers: Vec<TransferStatus>,
    /// How many more there are.
    pub more: u32,
    /// Members that did not say, and why.
    pub silent: Vec<(String, String)>,
}

impl TransferReport {
    /// Most transfers that are listed: what a screen or two show.
    pub const LISTED_MAX: usize = 128;
}
