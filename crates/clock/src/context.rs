//! Causal contexts: a version vector plus the dots seen beyond its first gap.
//!
//! Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), §7.2: a causal
//! context compressed to a version vector and a dot cloud. A delta's context holds exactly the
//! dots that the delta speaks of, so it usually is all cloud; a replica's usually is all vector.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Actor, Dot, VersionVector};

/// A set of dots. Invariant (canonical form, so equal sets are equal values): per actor the
/// cloud's ranges are ascending, apart from one another by at least one missing counter, and start
/// at least two beyond the vector's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Parts")]
pub struct CausalContext {
    vector: VersionVector,
    /// Per actor, inclusive ranges of counters seen beyond a gap.
    cloud: BTreeMap<Actor, Vec<(u64, u64)>>,
}

/// What comes in from outside, not yet canonical.
#[derive(Deserialize)]
struct Parts {
    vector: VersionVector,
    cloud: BTreeMap<Actor, Vec<(u64, u64)>>,
}

impl From<Parts> for CausalContext {
    fn from(Parts { vector, cloud }: Parts) -> Self {
        let mut context = Self::from(vector);
        for (actor, ranges) in cloud {
            for (first, last) in ranges {
                context.insert_range(actor, first, last);
            }
        }
        context
    }
}

impl From<VersionVector> for CausalContext {
    fn from(vector: VersionVector) -> Self {
        Self { vector, cloud: BTreeMap::new() }
    }
}

impl FromIterator<Dot> for CausalContext {
    fn from_iter<T: IntoIterator<Item = Dot>>(dots: T) -> Self {
        let mut context = Self::default();
        context.extend(dots);
        context
    }
}

impl Extend<Dot> for CausalContext {
    fn extend<T: IntoIterator<Item = Dot>>(&mut self, dots: T) {
        for dot in dots {
            self.insert(dot);
        }
    }
}

impl CausalContext {
    /// Whether `dot` is in the set.
    pub fn contains(&self, dot: Dot) -> bool {
        self.vector.contains(dot)
            || self.cloud.get(&dot.actor).is_some_and(|ranges| {
                ranges.iter().any(|&(first, last)| (first..=last).contains(&dot.counter))
            })
    }

    /// Adds one dot. The counter 0 names no write and is ignored.
    pub fn insert(&mut self, dot: Dot) {
        self.insert_range(dot.actor, dot.counter, dot.counter);
    }

    /// Adds the dots of `actor` from `first` to `last`, both included.
    pub fn insert_range(&mut self, actor: Actor, first: u64, last: u64) {
        let first = first.max(1);
        if first > last {
            return;
        }
        let seen = self.vector.get(actor);
        if first <= seen.saturating_add(1) && !self.cloud.contains_key(&actor) {
            self.vector.advance(actor, last);
            return;
        }
        let mut ranges = self.cloud.remove(&actor).unwrap_or_default();
        ranges.push((first, last));
        ranges.sort_unstable();
        let mut upto = seen;
        let mut apart: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match apart.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => {
                    previous.1 = previous.1.max(last);
                }
                None if first <= upto.saturating_add(1) => upto = upto.max(last),
                _ => apart.push((first, last)),
            }
        }
        self.vector.advance(actor, upto);
        if !apart.is_empty() {
            self.cloud.insert(actor, apart);
        }
    }

    /// The union. Commutative, associative, idempotent.
    pub fn merge(&mut self, other: &Self) {
        for (actor, first, last) in other.ranges() {
            self.insert_range(actor, first, last);
        }
    }

    /// Whether every dot of `other` is in this set.
    pub fn descends(&self, other: &Self) -> bool {
        other.ranges().all(|(actor, first, last)| self.contains_range(actor, first, last))
    }

    fn contains_range(&self, actor: Actor, first: u64, last: u64) -> bool {
        self.vector.get(actor) >= last
            || self.cloud.get(&actor).is_some_and(|ranges| {
                // Canonical ranges do not touch, so one of them must hold it all (what the
                // vector holds of it cannot touch a range either).
                ranges.iter().any(|&(from, to)| from <= first && last <= to)
            })
    }

    /// The largest counter of `actor` in the set, gaps below it notwithstanding; 0 if none.
    pub fn highest(&self, actor: Actor) -> u64 {
        match self.cloud.get(&actor).and_then(|ranges| ranges.last()) {
            Some(&(_, last)) => last,
            None => self.vector.get(actor),
        }
    }

    /// The gapless part.
    pub const fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Every maximal run of dots as (actor, first, last), in order.
    pub fn ranges(&self) -> impl Iterator<Item = (Actor, u64, u64)> + '_ {
        let vector = self.vector.iter().map(|(actor, last)| (actor, 1, last));
        let cloud = self.cloud.iter().flat_map(|(&actor, ranges)| {
            ranges.iter().map(move |&(first, last)| (actor, first, last))
        });
        vector.chain(cloud)
    }

    /// Actors with a dot in the set; an actor may come twice.
    pub fn actors(&self) -> impl Iterator<Item = Actor> + '_ {
        self.vector.iter().map(|(actor, _)| actor).chain(self.cloud.keys().copied())
    }

    /// Number of ranges beyond the vector: what a bound on gaps counts.
    pub fn gap_count(&self) -> usize {
        self.cloud.values().map(Vec::len).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.cloud.is_empty()
    }
}
