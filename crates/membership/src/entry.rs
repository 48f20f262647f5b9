//! What a node says of itself. Only that node writes it.

use std::collections::BTreeMap;

use ring::{Weight, Zone};
use serde::{Deserialize, Serialize};

use crate::{Incarnation, Versions};

/// Longest name of a node, in bytes; as in the handshake between nodes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest address, in bytes: the longest DNS name, and a port.
pub const ADDRESS_BYTES_MAX: usize = 260;
/// Most addresses of a node. A guess: one for each protocol, with room.
pub const ADDRESSES_MAX: usize = 8;
/// Longest name of what an address is for, and longest name of a software version, in bytes.
pub const LABEL_BYTES_MAX: usize = 64;
/// The last version of an entry and the last beat. Out of reach of any node that counts from 1.
pub const VERSION_MAX: u64 = 1 << 48;

/// What a node says of itself at one version. Greater is newer, and the order is total, so that the
/// join of two entries is the greater one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// Which start of the node says this.
    pub incarnation: Incarnation,
    /// Counts what this start has said, from 1.
    pub version: u64,
    /// The generation in which the node's present membership began. It outlives restarts, and ends
    /// with leaving or removal.
    pub joined: u64,
    /// The nonce of the process whose place this one took. A process that is alive and finds its own
    /// nonce here knows that it is running twice.
    pub over: Option<u64>,
    /// Where the node says it is on its way through the cluster.
    pub phase: Phase,
    /// The node itself.
    pub about: About,
    /// How busy it is.
    pub load: Load,
}

/// The stations of a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Known, and waiting to be given a part of the ring.
    Joining,
    /// A full member.
    Up,
    /// Handing over what it holds.
    Leaving,
    /// Gone in good order.
    Left,
    /// Of a ring whose nodes come over to this one, and not here yet: one that came says so of it. It may bring
    /// what the others are about to forget, so they wait for it.
    Expected,
}

/// A node's description.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct About {
    /// Its name, unique in its cluster.
    pub name: String,
    /// `HOST:PORT` by what it is for; always with one for [`About::PEER`].
    pub addresses: BTreeMap<String, String>,
    /// What it fails together with.
    pub zone: Option<Zone>,
    /// Its capacity beside that of the others.
    pub weight: Weight,
    /// The version of its software, for people.
    pub software: String,
    /// Versions of messages that it speaks.
    pub messages: Versions,
}

/// How busy a node is. Said now and then; a change alone is no reason to write anything to disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Load {
    /// Bytes of data that it holds.
    pub stored_bytes: u64,
    /// Requests that it coordinates in a second.
    pub requests_per_second: u32,
}

/// Not an entry that any node of this version would write. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// The name of a node is empty, too long, or has control characters.
    #[error("a node's name has 1 to {NAME_BYTES_MAX} bytes and no control characters")]
    Name,
    /// Too many addresses, one that is empty, too long or has control characters, or none for peers.
    #[error(
        "a node has 1 to {ADDRESSES_MAX} addresses of 1 to {ADDRESS_BYTES_MAX} bytes, one of them for {peer:?}",
        peer = About::PEER
    )]
    Addresses,
    /// The software's version is too long or has control characters.
    #[error("a software version has at most {LABEL_BYTES_MAX} bytes and no control characters")]
    Software,
    /// The lowest version of messages is above the highest.
    #[error("the lowest version of messages is above the highest")]
    Messages,
    /// A generation, version or beat is 0 or out of bounds, or a membership begins after the start
    /// that says so.
    #[error("a generation, version or beat is out of bounds")]
    Count,
    /// The node says that it has left, and that its membership goes on.
    #[error("a node that has left is said to be a member")]
    Ended,
}

impl Entry {
    /// Checks what came from outside.
    pub fn check(&self) -> Result<(), InvalidEntry> {
        let generation = self.incarnation.generation;
        let counted = (1..=Incarnation::GENERATION_MAX).contains(&generation)
            && (1..=VERSION_MAX).contains(&self.version)
            && (1..=generation).contains(&self.joined);
        if !counted {
            return Err(InvalidEntry::Count);
        }
        self.about.check()
    }
}

impl About {
    /// What the address is for at which other nodes reach this one.
    pub const PEER: &'static str = "peer";

    /// A node of weight 1 in no zone that other nodes reach at `peer`.
    pub fn new(name: impl Into<String>, peer: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            addresses: BTreeMap::from([(Self::PEER.to_owned(), peer.into())]),
            zone: None,
            weight: Weight::default(),
            software: String::new(),
            messages: Versions::only(1),
        }
    }

    /// Where other nodes reach it.
    pub fn peer_address(&self) -> &str {
        self.addresses.get(Self::PEER).map_or("", String::as_str)
    }

    /// Checks lengths and bounds.
    pub fn check(&self) -> Result<(), InvalidEntry> {
        if !is_text(&self.name, NAME_BYTES_MAX) {
            return Err(InvalidEntry::Name);
        }
        let addressed = self.addresses.len() <= ADDRESSES_MAX
            && self.addresses.contains_key(Self::PEER)
            && self.addresses.iter().all(|(label, address)| {
                is_text(label, LABEL_BYTES_MAX) && is_text(address, ADDRESS_BYTES_MAX)
            });
        if !addressed {
            return Err(InvalidEntry::Addresses);
        }
        if !self.software.is_empty() && !is_text(&self.software, LABEL_BYTES_MAX) {
            return Err(InvalidEntry::Software);
        }
        if self.messages.min > self.messages.max {
            return Err(InvalidEntry::Messages);
        }
        Ok(())
    }
}

/// Whether people can be shown `text`, and it has 1 to `bytes_max` bytes.
pub(crate) fn is_text(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_of_a_description_holds_exactly() {
        let about = |change: &dyn Fn(&mut About)| {
            let mut about = About::new("a", "h:1");
            change(&mut about);
            about.check()
        };
        assert_eq!(about(&|_| ()), Ok(()));
        assert_eq!(about(&|it| it.name = "n".repeat(255)), Ok(()));
        assert_eq!(about(&|it| it.name = "n".repeat(256)), Err(InvalidEntry::Name));
        assert_eq!(about(&|it| it.name.clear()), Err(InvalidEntry::Name));
        assert_eq!(about(&|it| it.name = "a\n".into()), Err(InvalidEntry::Name));
        let address = |it: &mut About, label: &str, bytes: usize| {
            it.addresses.insert(label.into(), "h".repeat(bytes));
        };
        assert_eq!(about(&|it| address(it, "http", 260)), Ok(()));
        assert_eq!(about(&|it| address(it, "http", 261)), Err(InvalidEntry::Addresses));
        assert_eq!(about(&|it| address(it, "http", 0)), Err(InvalidEntry::Addresses));
        assert_eq!(about(&|it| it.addresses.clear()), Err(InvalidEntry::Addresses));
        let many = |it: &mut About, count| (1..count).for_each(|n| address(it, &n.to_string(), 1));
        assert_eq!(about(&|it| many(it, 8)), Ok(()));
        assert_eq!(about(&|it| many(it, 9)), Err(InvalidEntry::Addresses));
        assert_eq!(about(&|it| it.software = "v".repeat(64)), Ok(()));
        assert_eq!(about(&|it| it.software = "v".repeat(65)), Err(InvalidEntry::Software));
        assert_eq!(about(&|it| it.messages.min = 2), Err(InvalidEntry::Messages));
    }

    #[test]
    fn counts_are_bounded() {
        let entry = |generation, version, joined| {
            let incarnation = Incarnation { generation, nonce: 0 };
            let (phase, load) = (Phase::Up, Load::default());
            let about = About::new("a", "h:1");
            Entry { incarnation, version, joined, over: None, phase, about, load }.check()
        };
        let most = Incarnation::GENERATION_MAX;
        assert_eq!(entry(1, 1, 1), Ok(()));
        assert_eq!(entry(most, VERSION_MAX, most), Ok(()));
        for (generation, version, joined) in
            [(0, 1, 1), (most + 1, 1, 1), (1, 0, 1), (1, VERSION_MAX + 1, 1), (1, 1, 0), (1, 1, 2)]
        {
            assert_eq!(entry(generation, version, joined), Err(InvalidEntry::Count));
        }
    }
}
