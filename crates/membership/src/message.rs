//! What nodes say to one another: a push-pull exchange in three messages, four where rosters differ.
//!
//! ```text
//! A                                              B
//!   Open { roster hash, version and beat of each } ─▶
//!                    rosters equal:           ◀─  Delta { newer at B, wanted of A }
//!   Delta { what B wanted } ─▶
//!
//!                    rosters differ:          ◀─  Digest { id, incarnation, version of each }
//!   Delta { newer at A, wanted of B } ─▶
//!                                             ◀─  Delta { what A wanted }
//! ```
//!
//! While the same members are known to both, which is nearly always, a member is named by its place, and a
//! heartbeat costs a few bytes. No message grows without end: what does not fit is left for the exchanges to come,
//! the oldest changes first.

use std::collections::BTreeSet;

use bytes::Bytes;
use clock::NodeId;
use serde::{Deserialize, Serialize};

use crate::entry::{
    ADDRESS_BYTES_MAX, InvalidEntry, LABEL_BYTES_MAX, NAME_BYTES_MAX, VERSION_MAX, is_text,
};
use crate::values::{VALUE_MERGED_BYTES_MAX, VALUES_MAX};
use crate::{ClusterId, Incarnation, MEMBERS_MAX, RECORDS_MAX, Record};

/// Most members in a digest, in a list of wants, and most heartbeats in a delta.
pub const LINES_MAX: usize = MEMBERS_MAX;
/// Bytes of records in one delta, and of values. A record or value that is longer goes alone. A guess: a
/// thousand members make about three deltas, once, for a node that knows nobody.
pub const NEWS_BYTES_MAX: usize = 64 << 10;

/// One message from a node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub header: Header,
    /// What it says.
    pub body: Body,
}

/// Who speaks; its id is known from the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The name of its cluster.
    pub cluster: String,
    /// The ids of its cluster: several after a merge, none while it has not found one.
    pub ids: BTreeSet<ClusterId>,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Its newest heartbeat.
    pub beat: u64,
    /// Where other nodes reach it.
    pub address: String,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Begins an exchange.
    Open(Open),
    /// Answers [`Body::Open`] where rosters differ.
    Digest(Digest),
    /// Answers all else.
    Delta(Delta),
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// No further exchange with you.
    Refused(Refusal),
}

/// What a node knows, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Hash of the ids and incarnations known.
    pub roster: u128,
    /// One for each member that is not gone, in order of ids.
    pub marks: Vec<Mark>,
    /// Hash of the named values.
    pub values: u128,
}

/// How far a member is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The version of its entry.
    pub version: u64,
    /// Its newest heartbeat.
    pub beat: u64,
    /// How long ago that was made, in milliseconds, as far as the sender knows.
    pub age_ms: u64,
}

/// What a node knows of the members in a range of ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The range begins after this id; `None`: with the first.
    pub after: Option<NodeId>,
    /// The range ends with this id; `None`: with the last.
    pub until: Option<NodeId>,
    /// One for each member known in the range, those gone included, in order of ids.
    pub lines: Vec<Line>,
    /// The named values, if they differ.
    pub values: Option<Vec<ValueLine>>,
}

/// How far a member is known, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Who.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Up to which generation its memberships are over.
    pub ended: u64,
    /// How far.
    pub mark: Mark,
}

/// Which version of a named value is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueLine {
    /// Its name.
    pub name: String,
    /// Digest of its bytes.
    pub digest: u128,
}

/// What the other node lacks, and what it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Heartbeats, by ascending ids.
    pub fresh: Vec<Fresh>,
    /// Records.
    pub news: Vec<News>,
    /// Whose records are wanted.
    pub wants: Vec<NodeId>,
    /// The named values, if they differ and have not been compared yet.
    pub compare: Option<Vec<ValueLine>>,
    /// Named values.
    pub values: Vec<(String, Bytes)>,
    /// Which named values are wanted.
    pub values_wanted: Vec<String>,
}

/// A newer heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// Whose.
    pub node: NodeId,
    /// Of which start.
    pub generation: u64,
    /// Which.
    pub beat: u64,
    /// How long ago it was made, in milliseconds.
    pub age_ms: u64,
}

/// A newer record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Whose.
    pub node: NodeId,
    /// What is known.
    pub record: Record,
    /// The newest heartbeat.
    pub beat: u64,
    /// How long ago it was made, in milliseconds.
    pub age_ms: u64,
}

/// Why a node wants no exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Clusters of different names.
    #[error("the node belongs to cluster {0:?}: check the seeds and the cluster's name")]
    OtherName(String),
    /// Two clusters bootstrapped apart under one name.
    #[error(
        "the node's cluster has the same name and was bootstrapped apart: join the two with `merganser cluster merge`, or give one another name"
    )]
    OtherCluster(BTreeSet<ClusterId>),
    /// The node looks for its cluster itself.
    #[error("the node has not found its cluster yet: bootstrap one node, or wait for a seed")]
    NotYet,
    /// A later start of the sender is known: here is its record.
    #[error("a later start of this node is known")]
    Superseded(Box<Record>),
    /// The sender's membership is over: here is its record.
    #[error("the node's membership is over")]
    Ended(Box<Record>),
    /// A node with the sender's id is alive at another address.
    #[error(
        "a node of this name is alive at {0}: give each node a name of its own; if that one is gone, this one is let in as soon as the others notice"
    )]
    AliveElsewhere(String),
    /// There are as many members as a cluster can have.
    #[error("the cluster has {MEMBERS_MAX} members, those that are gone included: no more fit")]
    Full,
}

impl Refusal {
    /// What to count it under, and to tell whether the same has been said before.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::OtherName(_) => "other name",
            Self::OtherCluster(_) => "other cluster",
            Self::NotYet => "not yet",
            Self::Superseded(_) => "superseded",
            Self::Ended(_) => "ended",
            Self::AliveElsewhere(_) => "alive elsewhere",
            Self::Full => "full",
        }
    }
}

/// Not a message that any node of this version would send. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// The sender's description of itself is out of bounds.
    #[error("the header is out of bounds")]
    Header,
    /// A list is longer than any node would make it.
    #[error("a list is too long")]
    TooLong,
    /// A count is 0 or out of bounds.
    #[error("a version, beat or generation is out of bounds")]
    Count,
    /// An id that no node has, or ids out of order.
    #[error("ids are out of order, or one is no node's")]
    Node,
    /// A named value is out of bounds.
    #[error("a named value is out of bounds")]
    Value,
    /// A record is out of bounds.
    #[error(transparent)]
    Entry(#[from] InvalidEntry),
}

impl Message {
    /// Checks what came from outside, before anything is done with it.
    pub fn check(&self) -> Result<(), InvalidMessage> {
        let header = &self.header;
        let generation = header.incarnation.generation;
        let bounded = is_text(&header.cluster, NAME_BYTES_MAX)
            && is_text(&header.address, ADDRESS_BYTES_MAX)
            && header.ids.len() <= ClusterId::MERGED_MAX
            && (1..=Incarnation::GENERATION_MAX).contains(&generation)
            && header.beat <= VERSION_MAX;
        if !bounded {
            return Err(InvalidMessage::Header);
        }
        match &self.body {
            Body::Open(open) => open.check(),
            Body::Digest(digest) => digest.check(),
            Body::Delta(delta) => delta.check(),
            Body::Ping | Body::Pong => Ok(()),
            Body::Refused(refusal) => refusal.check(),
        }
    }
}

impl Open {
    fn check(&self) -> Result<(), InvalidMessage> {
        at_most(self.marks.len(), RECORDS_MAX)?;
        self.marks.iter().try_for_each(Mark::check)
    }
}

impl Mark {
    fn check(&self) -> Result<(), InvalidMessage> {
        let counted = (1..=VERSION_MAX).contains(&self.version) && self.beat <= VERSION_MAX;
        if counted { Ok(()) } else { Err(InvalidMessage::Count) }
    }
}

impl Digest {
    fn check(&self) -> Result<(), InvalidMessage> {
        at_most(self.lines.len(), LINES_MAX)?;
        let mut before = self.after;
        for line in &self.lines {
            is_node(line.node)?;
            if before.is_some_and(|before| before >= line.node)
                || self.until.is_some_and(|until| line.node > until)
            {
                return Err(InvalidMessage::Node);
            }
            before = Some(line.node);
            line.mark.check()?;
            let generation = line.incarnation.generation;
            if !(1..=Incarnation::GENERATION_MAX).contains(&generation) {
                return Err(InvalidMessage::Count);
            }
        }
        self.values.as_deref().map_or(Ok(()), check_lines)
    }

    /// Whether the digest says something of `node`, if only that it is not known.
    pub(crate) fn covers(&self, node: NodeId) -> bool {
        self.after.is_none_or(|after| after < node) && self.until.is_none_or(|until| node <= until)
    }
}

impl Delta {
    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn check(&self) -> Result<(), InvalidMessage> {
        at_most(self.fresh.len(), LINES_MAX)?;
        at_most(self.news.len(), RECORDS_MAX)?;
        at_most(self.wants.len(), LINES_MAX)?;
        at_most(self.values.len(), VALUES_MAX)?;
        at_most(self.values_wanted.len(), VALUES_MAX)?;
        if !self.fresh.is_sorted_by(|before, after| before.node < after.node) {
            return Err(InvalidMessage::Node);
        }
        for fresh in &self.fresh {
            is_node(fresh.node)?;
            if fresh.beat > VERSION_MAX {
                return Err(InvalidMessage::Count);
            }
        }
        for news in &self.news {
            is_node(news.node)?;
            news.record.check()?;
            if news.beat > VERSION_MAX {
                return Err(InvalidMessage::Count);
            }
        }
        self.wants.iter().try_for_each(|&node| is_node(node))?;
        self.compare.as_deref().map_or(Ok(()), check_lines)?;
        self.values.iter().try_for_each(|(name, bytes)| check_value(name, bytes))?;
        self.values_wanted.iter().try_for_each(|name| check_value(name, &Bytes::new()))
    }
}

impl Refusal {
    fn check(&self) -> Result<(), InvalidMessage> {
        match self {
            Self::OtherName(text) if !is_text(text, NAME_BYTES_MAX) => Err(InvalidMessage::Header),
            Self::AliveElsewhere(text) if !is_text(text, ADDRESS_BYTES_MAX) => {
                Err(InvalidMessage::Header)
            }
            Self::OtherCluster(ids) => at_most(ids.len(), ClusterId::MERGED_MAX),
            Self::Superseded(record) | Self::Ended(record) => Ok(record.check()?),
            Self::OtherName(_) | Self::AliveElsewhere(_) | Self::NotYet | Self::Full => Ok(()),
        }
    }
}

fn at_most(count: usize, most: usize) -> Result<(), InvalidMessage> {
    if count <= most { Ok(()) } else { Err(InvalidMessage::TooLong) }
}

fn is_node(node: NodeId) -> Result<(), InvalidMessage> {
    if node == NodeId::NAMED { Err(InvalidMessage::Node) } else { Ok(()) }
}

fn check_lines(lines: &[ValueLine]) -> Result<(), InvalidMessage> {
    at_most(lines.len(), VALUES_MAX)?;
    lines.iter().try_for_each(|line| check_value(&line.name, &Bytes::new()))
}

fn check_value(name: &str, bytes: &Bytes) -> Result<(), InvalidMessage> {
    if is_text(name, LABEL_BYTES_MAX) && bytes.len() <= VALUE_MERGED_BYTES_MAX {
        Ok(())
    } else {
        Err(InvalidMessage::Value)
    }
}
