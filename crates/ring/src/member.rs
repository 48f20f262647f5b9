//! A member as the placement sees it: how much it can take, and what it would fail together with.
//!
//! Source: Dynamo §2.3 and §4.2 (heterogeneous nodes take their share of the load), §4.6 (the
//! preference list spans data centres). Invariants are checked on decode too.

use std::fmt;

use clock::NodeId;
use serde::{Deserialize, Serialize};

/// A member of a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its capacity beside that of the others.
    pub weight: Weight,
    /// What it fails together with. Members that name no zone count as one zone of their own, since
    /// nothing is known of them.
    pub zone: Option<Zone>,
}

/// A relative capacity: a member of weight 2 is to hold twice what one of weight 1 holds.
/// Invariant: `1..=1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

/// Not a weight. Nothing was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a weight of {0}: it must be from 1 to {max}", max = Weight::MAX)]
pub struct InvalidWeight(pub u16);

/// The name of a zone: a rack, a room, a data centre. Invariant: 1 to 64 bytes, no control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

/// Not the name of a zone. Nothing was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a zone's name has 1 to {max} bytes and no control characters", max = Zone::BYTES_MAX)]
pub struct InvalidZone;

impl Member {
    /// A member of weight 1 in no zone.
    pub fn new(node: NodeId) -> Self {
        Self { node, weight: Weight::default(), zone: None }
    }
}

impl From<NodeId> for Member {
    fn from(node: NodeId) -> Self {
        Self::new(node)
    }
}

impl Weight {
    /// The largest weight. A guess: room for a cluster's weights to be gigabytes or gigabits.
    pub const MAX: u16 = 1000;

    /// Checks `weight`.
    pub fn new(weight: u16) -> Result<Self, InvalidWeight> {
        if (1..=Self::MAX).contains(&weight) {
            Ok(Self(weight))
        } else {
            Err(InvalidWeight(weight))
        }
    }

    /// The number itself.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u16> for Weight {
    type Error = InvalidWeight;

    fn try_from(weight: u16) -> Result<Self, InvalidWeight> {
        Self::new(weight)
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl Zone {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Checks `name`.
    pub fn new(name: impl Into<String>) -> Result<Self, InvalidZone> {
        let name = name.into();
        let fits = (1..=Self::BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
        if fits { Ok(Self(name)) } else { Err(InvalidZone) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Zone {
    type Error = InvalidZone;

    fn try_from(name: String) -> Result<Self, InvalidZone> {
        Self::new(name)
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.0
    }
}

#[cfg(test)]
mod tests {
    use super::{InvalidWeight, InvalidZone, Weight, Zone};

    #[test]
    fn weights_are_bounded() {
        assert_eq!(Weight::new(0), Err(InvalidWeight(0)));
        assert_eq!(Weight::new(1).unwrap(), Weight::default());
        assert_eq!(Weight::new(1000).unwrap().get(), 1000);
        assert_eq!(Weight::new(1001), Err(InvalidWeight(1001)));
    }

    #[test]
    fn names_of_zones_are_bounded_and_printable() {
        assert_eq!(Zone::new("rack-1").unwrap().as_str(), "rack-1");
        assert_eq!(Zone::new("z".repeat(64)).unwrap().to_string().len(), 64);
        for name in [String::new(), "z".repeat(65), "a\nb".into()] {
            assert_eq!(Zone::new(name), Err(InvalidZone));
        }
    }
}
