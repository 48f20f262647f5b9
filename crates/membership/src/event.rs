//! What goes into a node's gossip and what comes out.

use bytes::Bytes;
use clock::NodeId;
use serde::{Deserialize, Serialize};

use crate::entry::InvalidEntry;
use crate::message::{InvalidMessage, Refusal};
use crate::values::{VALUE_BYTES_MAX, VALUES_MAX};
use crate::{About, ClusterId, Incarnation, Load, Message, Phase, RECORDS_MAX, Snapshot};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and never kept")]
pub enum Event {
    /// Time has passed: due at [`Gossip::next_tick_ms`](crate::Gossip::next_tick_ms), harmless earlier.
    Tick {
        /// Fresh random bits.
        random: u64,
    },
    /// A message came. That it is from `from` was proven by the handshake.
    Received {
        /// From whom.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// Something else came from a node: it lives.
    Heard(NodeId),
    /// A connection with a node was made, in which it said which start of it this is. If that is news,
    /// an exchange is opened at once: a node that started is known after a moment, not after a round.
    Met {
        /// Who.
        node: NodeId,
        /// Which start of it.
        incarnation: Incarnation,
    },
    /// A request to a node timed out.
    TimedOut(NodeId),
}

/// What must now happen, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write this to disk before what follows is done. It replaces the snapshot before.
    Persist(Box<Snapshot>),
    /// A member came, or its record changed in more than its load.
    MemberChanged {
        /// Who.
        node: NodeId,
        /// Where it stood; `None` for a node that was not known.
        before: Option<MemberState>,
        /// Where it stands.
        now: MemberState,
    },
    /// A member is seen otherwise than before, by this node.
    LivenessChanged {
        /// Who.
        node: NodeId,
        /// How.
        liveness: Liveness,
    },
    /// A named value changed.
    ValueChanged {
        /// Its name.
        name: String,
        /// What it is now.
        bytes: Bytes,
    },
    /// Something that people should know.
    Report(Report),
    /// This process must stop serving: it is no member any more. Gossip is silent from here on.
    Ended(Ending),
    /// Send a message; it may be lost.
    Send {
        /// To whom.
        to: Destination,
        /// What.
        message: Message,
    },
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// To a node: a member by its address, or one that just spoke by its connection.
    Node(NodeId),
    /// To whoever answers at the address of a seed, `HOST:PORT`.
    Seed(String),
}

/// Something that people should know; each kind at most once a minute for each node concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// No seed has answered: the node waits.
    NoSeed {
        /// How many times the seeds were asked.
        attempts: u32,
        /// When they are asked again, in milliseconds from now.
        again_in_ms: u64,
    },
    /// The node found its cluster.
    Found(ClusterId),
    /// Another node refused this one.
    RefusedBy {
        /// Who.
        node: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// This node refused another.
    Refused {
        /// Whom.
        node: NodeId,
        /// At which address.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// A message was out of bounds and ignored.
    Malformed {
        /// From whom.
        node: NodeId,
        /// Why.
        reason: InvalidMessage,
    },
    /// There is no room for more members or named values: what a peer sent was left out.
    Full {
        /// Which peer.
        node: NodeId,
    },
    /// The cluster remembered a later start of this node than its disk did; it took a later generation.
    Raised {
        /// What was remembered.
        known: Incarnation,
        /// What this process is now.
        now: Incarnation,
    },
}

/// Why a process is no member any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An administrator removed the node. Started again it joins as a new member.
    Removed,
    /// Another process took this one's place while it was alive: the node runs twice, from a cloned
    /// disk or under one name.
    Superseded {
        /// The other one.
        by: Incarnation,
        /// Where it is.
        address: String,
    },
}

/// Where a member stands; the same everywhere once gossip has gone round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberState {
    /// Known, and waiting to be given a part of the ring.
    Joining,
    /// A full member.
    Up,
    /// Handing over what it holds.
    Leaving,
    /// Gone in good order.
    Left,
    /// Declared gone by an administrator.
    Removed,
    /// Of a ring whose nodes come over to this one, and not here yet.
    Expected,
}

impl MemberState {
    /// Whether the member belongs to the cluster, alive or not, here or still to come.
    pub const fn is_present(self) -> bool {
        self.is_here() || matches!(self, Self::Expected)
    }

    /// Whether the member belongs to the cluster and has come to it, alive or not.
    pub const fn is_here(self) -> bool {
        matches!(self, Self::Joining | Self::Up | Self::Leaving)
    }

    /// The state in one word, for people and programs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Removed => "removed",
        }
    }
}

/// Whether a member can be reached, as one observer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Liveness {
    /// Nothing speaks against it.
    Reachable,
    /// Its silence, or requests that timed out, passed the threshold.
    Suspected,
}

/// A member, with what this node sees of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member<'a> {
    /// Its id.
    pub node: NodeId,
    /// What it says of itself.
    pub about: &'a About,
    /// How busy it is.
    pub load: Load,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Where it stands.
    pub state: MemberState,
    /// Whether this node can reach it.
    pub liveness: Liveness,
    /// How surprising its silence is.
    pub phi: f64,
    /// Milliseconds since its last proof of life.
    pub silence_ms: u64,
}

/// What an administrator, or the node's own shell, orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// This node goes on to another phase.
    Declare(Phase),
    /// This node describes itself anew.
    Describe(About),
    /// This node is this busy.
    Busy(Load),
    /// A dead member is gone for good. It may be one that no record is known of: that the id is any node's is the
    /// caller's to know.
    Remove(NodeId),
    /// Merge a version of a named value.
    Publish {
        /// Its name.
        name: String,
        /// Its bytes.
        bytes: Bytes,
    },
    /// Nodes of this cluster, bootstrapped apart under the same name, are members too. Given on one
    /// side; that both have as many partitions is the caller's to check.
    MergeCluster(ClusterId),
}

/// Why an order was not followed. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// This process is no member any more.
    #[error("this node is no member any more: start it again to join as a new one")]
    Ended,
    /// The node has not found its cluster.
    #[error("this node has not found its cluster yet")]
    NoCluster,
    /// No such way through the cluster.
    #[error("a node that is {from:?} cannot become {to:?}")]
    Phase {
        /// Where it is.
        from: Phase,
        /// Where it was to go.
        to: Phase,
    },
    /// A description out of bounds.
    #[error(transparent)]
    Invalid(#[from] InvalidEntry),
    /// Its id follows from its name.
    #[error("a node keeps its name: its id follows from it")]
    Name,
    /// Others that can be reached may have a record of it.
    #[error(
        "this node has not heard yet whether other members have a record of {0}: try again in some seconds"
    )]
    Unheard(NodeId),
    /// There is no room for the record of one more.
    #[error(
        "{RECORDS_MAX} nodes are remembered, those that are gone included: there is no room for another"
    )]
    Full,
    /// The node itself was to be removed.
    #[error("a node that is alive leaves: use `leave`, or stop it and remove it elsewhere")]
    Own,
    /// The member is alive.
    #[error("member {0} can be reached: use `leave`, or stop it first")]
    Reachable(NodeId),
    /// A named value out of bounds.
    #[error(
        "a value has a name of 1 to 64 bytes and at most {VALUE_BYTES_MAX} bytes, and there are at most {VALUES_MAX}"
    )]
    Value,
    /// Too many clusters in one.
    #[error("at most {max} clusters can be merged", max = ClusterId::MERGED_MAX)]
    TooManyClusters,
}
