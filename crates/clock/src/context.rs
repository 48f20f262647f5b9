//! Causal contexts: a version vector plus the dots seen beyond its first gap.
//!
//! Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), §7.2: a causal
//! context compressed to a version vector and a dot cloud. A delta's context holds exactly the
//! dots that the delta speaks of, so it usually is all cloud; a replica's usually is all vector.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Actor, Dot, VersionVector};

/// A set of dots. Invariant (canonical form, so equal sets are equal values): per actor the
/// cloud's ranges are ascending, apart from one another by at least one missing counter, and start
/// at least two beyond the vector's counter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Parts")]
pub struct CausalContext {
    vector: VersionVector,
    /// Per actor, inclusive ranges of counters seen beyond a gap: first → last. No actor without a
    /// range. (A tree, because a removal of many scattered elements has as many ranges.)
    cloud: BTreeMap<Actor, BTreeMap<u64, u64>>,
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
        self.contains_range(dot.actor, dot.counter, dot.counter)
    }

    /// Adds one dot. The counter 0 names no write and is ignored.
    pub fn insert(&mut self, dot: Dot) {
        self.insert_range(dot.actor, dot.counter, dot.counter);
    }

    /// Adds the dots of `actor` from `first` to `last`, both included.
    pub fn insert_range(&mut self, actor: Actor, first: u64, last: u64) {
        let mut first = first.max(1);
        let mut last = last;
        if first > last {
            return;
        }
        let seen = self.vector.get(actor);
        if last <= seen {
            return;
        }
        let Some(ranges) = self.cloud.get_mut(&actor) else {
            if first <= seen.saturating_add(1) {
                self.vector.advance(actor, last);
            } else {
                self.cloud.insert(actor, BTreeMap::from([(first, last)]));
            }
            return;
        };
        // Swallow every range that the new one touches, from the right to the left.
        while let Some((&from, &to)) = ranges.range(..=last.saturating_add(1)).next_back() {
            if to.saturating_add(1) < first {
                break;
            }
            first = first.min(from);
            last = last.max(to);
            ranges.remove(&from);
        }
        if first <= seen.saturating_add(1) {
            self.vector.advance(actor, last);
        } else {
            ranges.insert(first, last);
        }
        if ranges.is_empty() {
            self.cloud.remove(&actor);
        }
    }

    /// The set without `dots`.
    #[must_use]
    pub fn without(&self, dots: impl IntoIterator<Item = Dot>) -> Self {
        let mut missing = BTreeMap::<Actor, BTreeSet<u64>>::new();
        for dot in dots {
            missing.entry(dot.actor).or_default().insert(dot.counter);
        }
        let mut rest = Self::default();
        for (actor, first, last) in self.ranges() {
            let mut from = first;
            for &hole in missing.get(&actor).into_iter().flat_map(|holes| holes.range(first..=last))
            {
                rest.insert_range(actor, from, hole - 1);
                from = hole.saturating_add(1);
            }
            // The last counter of all has none after it: a hole there leaves nothing to add.
            if missing.get(&actor).is_none_or(|holes| !holes.contains(&last)) {
                rest.insert_range(actor, from, last);
            }
        }
        rest
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
        // Canonical ranges do not touch, so one of them must hold it all (what the vector holds
        // of it cannot touch a range either).
        self.vector.get(actor) >= last
            || self
                .cloud
                .get(&actor)
                .and_then(|ranges| ranges.range(..=first).next_back())
                .is_some_and(|(_, &to)| last <= to)
    }

    /// The largest counter of `actor` in the set, gaps below it notwithstanding; 0 if none.
    pub fn highest(&self, actor: Actor) -> u64 {
        match self.cloud.get(&actor).and_then(BTreeMap::last_key_value) {
            Some((_, &last)) => last,
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
            ranges.iter().map(move |(&first, &last)| (actor, first, last))
        });
        vector.chain(cloud)
    }

    /// Actors with a dot in the set; an actor may come twice.
    pub fn actors(&self) -> impl Iterator<Item = Actor> + '_ {
        self.vector.iter().map(|(actor, _)| actor).chain(self.cloud.keys().copied())
    }

    /// Number of ranges beyond the vector: what a bound on gaps counts.
    pub fn gap_count(&self) -> usize {
        self.cloud.values().map(BTreeMap::len).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.cloud.is_empty()
    }
}
