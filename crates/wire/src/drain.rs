//! What is asked and told of a node that drains: is about to stop, in good order.

use serde::{Deserialize, Serialize};

/// Has a member drain, if it does not, and asks how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainCall {
    /// Which.
    pub member: String,
    /// For how long it waits for others before it stops all the same, in milliseconds. Of several
    /// calls the shortest counts.
    pub limit_ms: u32,
    /// Peer addresses of nodes of another ring, which it joins afterwards with all that it holds; none for
    /// a node that only stops.
    pub join: Vec<String>,
}

/// How far a node is that drains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainProgress {
    /// Whether it is over: the node stops.
    pub is_over: bool,
    /// Requests that were accepted and are under way still.
    pub under_way: u64,
    /// Whether there may be nodes that pass requests on to it still.
    pub is_asked: bool,
    /// What it keeps for other members.
    pub kept: Vec<KeptFor>,
}

/// What a node keeps for another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFor {
    /// For which member.
    pub member: String,
    /// Keys with deltas that wait for it.
    pub keys: u64,
    /// Whether it can be reached, so that they are on their way.
    pub is_reachable: bool,
}
