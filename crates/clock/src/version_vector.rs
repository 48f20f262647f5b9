//! Version vectors: per actor, how many of its writes have been seen, without gaps.
//!
//! Source: Parker et al., "Detection of Mutual Inconsistency in Distributed Systems" (1983); the
//! vector clocks of Dynamo §4.4.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Actor, Dot};

/// How two version vectors relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordering {
    /// Both have seen the same.
    Equal,
    /// The left one has seen all that the right one has, and more.
    Descends,
    /// The right one has seen all that the left one has, and more.
    Precedes,
    /// Each has seen something that the other has not.
    Concurrent,
}

/// Per actor, the counter up to which every write has been seen. Invariant: no entry is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Actor, u64>")]
pub struct VersionVector(BTreeMap<Actor, u64>);

impl From<BTreeMap<Actor, u64>> for VersionVector {
    fn from(mut entries: BTreeMap<Actor, u64>) -> Self {
        entries.retain(|_, counter| *counter > 0);
        Self(entries)
    }
}

impl FromIterator<(Actor, u64)> for VersionVector {
    fn from_iter<T: IntoIterator<Item = (Actor, u64)>>(entries: T) -> Self {
        entries.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl VersionVector {
    /// Writes of `actor` seen, from the first on without a gap; 0 if none.
    pub fn get(&self, actor: Actor) -> u64 {
        self.0.get(&actor).copied().unwrap_or(0)
    }

    /// Whether `dot` has been seen.
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter <= self.get(dot.actor)
    }

    /// Takes note that all writes of `actor` up to `counter` have been seen.
    pub fn advance(&mut self, actor: Actor, counter: u64) {
        if counter > 0 {
            let seen = self.0.entry(actor).or_default();
            *seen = counter.max(*seen);
        }
    }

    /// The least upper bound: seen by either. Commutative, associative, idempotent.
    pub fn merge(&mut self, other: &Self) {
        for (&actor, &counter) in &other.0 {
            self.advance(actor, counter);
        }
    }

    /// Whether all that `other` has seen has been seen here too.
    pub fn descends(&self, other: &Self) -> bool {
        other.0.iter().all(|(&actor, &counter)| self.get(actor) >= counter)
    }

    /// How `self` relates to `other`.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self.descends(other), other.descends(self)) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Descends,
            (false, true) => Ordering::Precedes,
            (false, false) => Ordering::Concurrent,
        }
    }

    /// Entries in order of actor; counters are at least 1.
    pub fn iter(&self) -> impl Iterator<Item = (Actor, u64)> + '_ {
        self.0.iter().map(|(&actor, &counter)| (actor, counter))
    }

    /// Number of actors seen.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing has been seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
