//! The handshake: who speaks, to which cluster, in which version, and the proof of its secret.
//!
//! ```text
//! initiator                                          acceptor
//!   Hello { who, cluster, versions, nonce }  ──────▶
//!                                            ◀──────  Challenge { nonce }
//!   Proof { MAC(hello, challenge) }          ──────▶
//!                                            ◀──────  Welcome { who, version, MAC(…) } | Refused
//! ```
//!
//! Nodes prove the cluster's secret to one another, always, both ways: the MACs are over both
//! nonces and all that was said, under a domain of their own for each direction, so neither can be
//! replayed or reflected. The side that dials proves first: whoever merely knocks learns nothing
//! to guess the secret from. Clients have room for a principal and a proof; none is required yet.

mod exchange;

use std::time::Duration;

use clock::{ClusterSecret, NodeId};
use membership::{Incarnation, Versions};
use serde::{Deserialize, Serialize};

use crate::FrameError;

pub use exchange::{accept, connect_client, connect_peer};

/// First thing in every connection after the length of its first frame and the encoding's version.
pub const MAGIC: [u8; 4] = *b"MGSR";

/// Longest name of a cluster, node, client or principal in a handshake, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Time limit of a whole handshake. A guess: a few round trips across the world, many times over.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Random bytes that make every handshake another one. Drawn by the caller.
pub type Nonce = [u8; 32];

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster's name.
    pub cluster: String,
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Partitions of its cluster's ring.
    pub partitions: u32,
    /// Versions that it speaks: [`MESSAGE_VERSIONS`](crate::MESSAGE_VERSIONS), but for tests of builds to
    /// come.
    pub versions: Versions,
}

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// Versions that the initiator speaks.
    pub versions: Versions,
    /// One bit per optional feature that the initiator has; none are defined yet.
    pub features: u64,
    /// The cluster it means to speak to; a client may leave it open.
    pub cluster: Option<String>,
    /// Who it is.
    pub role: Role,
    /// Makes this handshake another one.
    pub nonce: Nonce,
}

/// Who opens a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Another node.
    Peer(PeerHello),
    /// A client.
    Client(ClientHello),
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Partitions of its cluster's ring.
    pub partitions: u32,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// What a node's connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The link from one member to another: messages, and gossip. There is at most one.
    Link,
    /// Gossip alone, with whoever answers at the address of a seed.
    Gossip,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// What it is, for logs.
    pub name: String,
    /// As whom it acts; nobody in particular while clients are not authenticated.
    pub principal: Option<String>,
}

/// The acceptor's first frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Challenge {
    nonce: Nonce,
}

/// The initiator's second frame: a MAC over both first ones, if it has a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    mac: Option<[u8; 32]>,
}

/// The acceptor's last frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Verdict {
    Welcome(Welcome, Proof),
    Refused(Refusal),
}

/// What the acceptor says of itself to whom it lets in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version to be spoken.
    pub version: u16,
    /// The features that both sides have.
    pub features: u64,
    /// The cluster's name.
    pub cluster: String,
    /// The acceptor's id.
    pub node: NodeId,
    /// The acceptor's name.
    pub name: String,
    /// Which start of the acceptor.
    pub incarnation: Incarnation,
}

/// Why a connection is not wanted. Sent to the initiator, and its error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No version in common with the acceptor, who speaks these.
    #[error(
        "no version of messages in common, the other side speaks {} to {}: upgrade by a build that speaks \
         both, or stop all nodes for it",
        .0.min, .0.max
    )]
    Version(Versions),
    /// The acceptor belongs to another cluster.
    #[error("the node at this address belongs to cluster {0:?}: check the address and `cluster`")]
    Cluster(String),
    /// The initiator could not prove the cluster's secret.
    #[error("wrong cluster secret: give every member the same `secret`")]
    Secret,
    /// The initiator's name is none.
    #[error("a node's name has 1 to {NAME_BYTES_MAX} bytes")]
    Name,
    /// The initiator's ring is cut otherwise than the acceptor's.
    #[error(
        "the node's cluster has {acceptor} partitions, this node was told {initiator}: start it with \
         `partitions = {acceptor}` and an empty data directory"
    )]
    Partitions {
        /// The number of the node that dialled.
        initiator: u32,
        /// The number of the node that was dialled.
        acceptor: u32,
    },
    /// The initiator says that it is the acceptor.
    #[error("the node at this address has the same name: give each node a name of its own")]
    OwnNode,
    /// The acceptor's links are cut on purpose.
    #[error("the node's links are cut")]
    Cut,
    /// The acceptor has as many connections as it wants.
    #[error("the node has too many connections: try again later")]
    Busy,
}

/// Why a handshake did not succeed. The connection is closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// It took too long.
    #[error("no handshake within {} seconds", HANDSHAKE_LIMIT.as_secs())]
    Slow,
    /// The connection failed, or what came was no handshake.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Somebody who does not speak this protocol.
    #[error("not a Merganser handshake")]
    Foreign,
    /// The other side did not want the connection.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// This side did not want the connection, and said so.
    #[error("refused the other side: {0}")]
    Refusing(Refusal),
    /// The node at the other end could not prove the cluster's secret.
    #[error("the node at this address does not know the cluster's secret")]
    Unproven,
    /// Somebody else answers at this address.
    #[error("node {found:?} answers at the address of {wanted:?}")]
    OtherNode {
        /// The name of who answered.
        found: String,
        /// The name of who should have.
        wanted: String,
    },
    /// The handshake broke its own rules.
    #[error("the other side broke the handshake: {0}")]
    Broken(&'static str),
}

impl HandshakeError {
    /// What to count it under: one of a few words, whatever the details are.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Slow => "handshake: slow",
            Self::Frame(error) => error.kind(),
            Self::Foreign => "handshake: foreign",
            Self::Refused(refusal) | Self::Refusing(refusal) => refusal.kind(),
            Self::Unproven => "handshake: unproven",
            Self::OtherNode { .. } => "handshake: other node",
            Self::Broken(_) => "handshake: broken",
        }
    }
}

impl Refusal {
    /// What to count it under: one of a few words, whatever the details are.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Version(_) => "refusal: version",
            Self::Cluster(_) => "refusal: cluster",
            Self::Secret => "refusal: secret",
            Self::Name => "refusal: name",
            Self::Partitions { .. } => "refusal: partitions",
            Self::OwnNode => "refusal: own node",
            Self::Cut => "refusal: cut",
            Self::Busy => "refusal: busy",
        }
    }
}

/// What an acceptor checks and answers with.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// Who accepts.
    pub us: &'a Identity,
    /// What peers must prove.
    pub secret: &'a ClusterSecret,
}

/// Whom an acceptor let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who.
    pub role: Role,
    /// The version to be spoken.
    pub version: u16,
    /// The features that both sides have.
    pub features: u64,
}

#[cfg(test)]
mod tests;
