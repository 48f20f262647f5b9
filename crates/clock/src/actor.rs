//! Who writes: nodes, epochs, actors, and the dots that name their writes.
//!
//! Invariant: a dot is issued once, for ever. It rests on [`Epoch`]: an epoch never outlives the
//! process that drew it, so neither a lost disk, a restored backup nor a cloned one can make a
//! replica issue a dot again. (Riak's kv679 is what happens without this.)

use std::{collections::BTreeMap, fmt, num::NonZeroU64};

use serde::{Deserialize, Deserializer, Serialize};

/// A physical node of the cluster; the replica part of an [`Actor`].
///
/// Derived from the node's name within its cluster, so every member computes the same id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl NodeId {
    /// No node: stands in the actors of requests with a name ([`Actor::named`]).
    pub const NAMED: Self = Self(0);
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NAMED => f.write_str("named"),
            Self(id) => write!(f, "n{id:x}"),
        }
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One incarnation of a replica as a writer of one key.
///
/// `process` is 64 random bits drawn when the process (or one of its event loops) starts;
/// `number` is drawn from a counter of that process when it first coordinates a key, and anew on
/// any doubt about what it has issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Random bits of the process that drew this epoch.
    pub process: u64,
    /// Position among the epochs that this process drew.
    pub number: u64,
}

/// A writer: a replica in one of its epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Actor {
    /// The node that writes.
    pub replica: NodeId,
    /// The epoch in which it writes.
    pub epoch: Epoch,
}

impl Actor {
    /// An actor of `replica` in epoch (`process`, `number`).
    pub const fn new(replica: NodeId, process: u64, number: u64) -> Self {
        Self { replica, epoch: Epoch { process, number } }
    }

    /// The actor of one request that carries a name (an idempotency key), whoever coordinates it:
    /// tried again anywhere it makes the same dots, so that both merge into one. `name`, `client`
    /// and `arguments` are digests; the same name with other arguments is another actor.
    ///
    /// Its dots are issued once in the sense that matters: one request, one effect.
    pub const fn named(name: u64, client: u32, arguments: u32) -> Self {
        Self::new(NodeId::NAMED, name, (client as u64) << 32 | arguments as u64)
    }

    /// Bit of a client's digest that says that nobody asked for the name.
    pub const UNASKED: u32 = 1 << 31;

    /// Whether it writes for a request that nobody asked to be named.
    pub const fn is_unasked(self) -> bool {
        self.is_named() && self.epoch.number >> 63 == 1
    }

    /// Whether it writes for one named request only.
    pub const fn is_named(self) -> bool {
        self.replica.0 == NodeId::NAMED.0
    }

    /// The digest of the client that named the request, if one did.
    pub const fn named_client(self) -> u64 {
        self.epoch.number >> 32
    }
}

/// One write: the `counter`-th of `actor` to one (key, tag). Counters start at 1 and are
/// contiguous per (key, tag, actor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who wrote.
    pub actor: Actor,
    /// Which of its writes to the key's tag this is, from 1; 0, which every context contains, is not decoded.
    #[serde(deserialize_with = "from_1")]
    pub counter: u64,
}

fn from_1<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    NonZeroU64::deserialize(deserializer).map(NonZeroU64::get)
}

impl Dot {
    /// The `counter`-th write of `actor`.
    pub const fn new(actor: Actor, counter: u64) -> Self {
        Self { actor, counter }
    }

    /// The dot for people: node and number of the write. The epoch is left out, so this is no identity.
    /// That of a write of a named request has a digest of the name in the node's place.
    pub fn shown(self, names: &BTreeMap<NodeId, String>) -> String {
        if self.actor.is_named() {
            // The first half of the digest tells the siblings of one key apart.
            return format!("named-{:08x}:{}", self.actor.epoch.process >> 32, self.counter);
        }
        match names.get(&self.actor.replica) {
            Some(name) => format!("{name}:{}", self.counter),
            None => format!("{}:{}", self.actor.replica, self.counter),
        }
    }
}
