//! Causal contexts: a version vector plus the dots seen beyond its first gap.
//!
//! Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), §7.2: a causal
//! context compressed to a version vector and a dot cloud. A delta's context holds exactly the
//! dots that the delta speaks of, so it usually is all cloud; a replica's usually is all vector.

mod seals;

use std::collections::{BTreeMap, BTreeSet};

use litemap::LiteMap;
use sabotage::Bug;
use serde::{Deserialize, Serialize};

use crate::{Actor, Dot, VersionVector};
use seals::Seals;

/// A set of dots, and what is forgotten of it. Invariant (canonical form, so equal sets are equal values): per actor the
/// cloud's ranges are ascending, apart from one another by at least one missing counter, and start
/// at least two beyond the vector's counter; no seal is void or of what was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Parts")]
pub struct CausalContext {
    vector: VersionVector,
    /// Per actor, inclusive ranges of counters seen beyond a gap: first → last. No actor without a
    /// range. (Few actors have any; of one a removal of many scattered elements has as many, so these are a tree.)
    cloud: LiteMap<Actor, BTreeMap<u64, u64>>,
    /// Most contexts have none.
    seals: Option<Box<Seals>>,
}

/// What comes in from outside, not yet canonical. Of an actor that is in the cloud twice all ranges count.
#[derive(Deserialize)]
struct Parts {
    vector: VersionVector,
    cloud: Vec<(Actor, Vec<(u64, u64)>)>,
    seals: Option<Box<Seals>>,
}

impl From<Parts> for CausalContext {
    fn from(Parts { vector, mut cloud, seals }: Parts) -> Self {
        // Else each actor would be put before all others.
        cloud.sort_by_key(|(actor, _)| *actor);
        let mut context = Self::from(vector);
        for (actor, ranges) in cloud {
            for (first, last) in ranges {
                context.insert_range(actor, first, last);
            }
        }
        context.seals = seals;
        context.settle();
        context
    }
}

impl From<VersionVector> for CausalContext {
    fn from(vector: VersionVector) -> Self {
        Self { vector, cloud: LiteMap::new(), seals: None }
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
        let mut first = if sabotage::is(Bug::GapsFilled) { 1 } else { first.max(1) };
        let mut last = last;
        if first > last {
            return;
        }
        let seen = self.vector.get(actor);
        if last <= seen {
            return;
        }
        self.void_seal(actor, last);
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

    /// The set without `dots`, and without seals.
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

    /// The dots of this set that `other` does not have and has not forgotten, without seals.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (actor, first, last) in self.ranges().filter(|&(of, ..)| !other.has_forgotten(of, self))
        {
            // Where the next one may be that `other` does not have; none behind the last counter of all.
            let mut next = other.vector.get(actor).checked_add(1).map(|from| from.max(first));
            for (&from, &to) in other.cloud.get(&actor).into_iter().flatten() {
                let Some(at) = next.filter(|&at| at <= last && from <= last) else { break };
                if to < at {
                    continue;
                }
                if from > at {
                    rest.insert_range(actor, at, from - 1);
                }
                next = to.checked_add(1);
            }
            if let Some(at) = next.filter(|&at| at <= last) {
                rest.insert_range(actor, at, last);
            }
        }
        rest
    }

    /// Whether some dot is in both sets, whatever one of them has forgotten.
    pub fn shares(&self, other: &Self) -> bool {
        let overlaps = |(actor, first, last): (Actor, u64, u64)| {
            other.vector.get(actor) >= first
                || other.cloud.get(&actor).is_some_and(|ranges| {
                    ranges.range(..=last).next_back().is_some_and(|(_, &to)| to >= first)
                })
        };
        self.ranges().any(overlaps)
    }

    /// The union, without what either has forgotten that the other shows sealed. Commutative, associative and idempotent, but
    /// where somebody shows forgotten dots again without their seal, as a client's old context does: those can be forgotten
    /// once more before they are kept everywhere.
    pub fn merge(&mut self, other: &Self) {
        self.vector.merge(&other.vector);
        for (&actor, ranges) in self.cloud.iter_mut() {
            // What the vector reaches now it swallows.
            while let Some(range) = ranges.first_entry()
                && *range.key() <= self.vector.get(actor).saturating_add(1)
            {
                self.vector.advance(actor, range.remove());
            }
        }
        self.cloud.retain(|_, ranges| !ranges.is_empty());
        for (&actor, ranges) in &other.cloud {
            ranges.iter().for_each(|(&first, &last)| self.insert_range(actor, first, last));
        }
        if let Some(theirs) = &other.seals {
            self.seals.get_or_insert_default().merge(theirs);
        }
        self.settle();
        if sabotage::is(Bug::ContextsPruned) && self.actors().count() > 10 {
            let rest: Vec<_> = self.ranges().skip(1).collect();
            *self = Self::default();
            rest.into_iter().for_each(|(actor, from, to)| self.insert_range(actor, from, to));
        }
    }

    /// Whether every dot of `other` is in this set, or was and is forgotten.
    pub fn descends(&self, other: &Self) -> bool {
        other.ranges().all(|(actor, first, last)| {
            self.contains_range(actor, first, last) || self.has_forgotten(actor, other)
        })
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

    /// The dots of those actors that `keeps` says yes to, without seals.
    pub fn of_actors(&self, keeps: impl Fn(Actor) -> bool) -> Self {
        let mut kept = Self::default();
        for (actor, first, last) in self.ranges().filter(|&(actor, ..)| keeps(actor)) {
            kept.insert_range(actor, first, last);
        }
        kept
    }

    /// Actors with a dot in the set; an actor may come twice.
    pub fn actors(&self) -> impl Iterator<Item = Actor> + '_ {
        self.vector.iter().map(|(actor, _)| actor).chain(self.cloud.keys().copied())
    }

    /// Number of ranges beyond the vector: what a bound on gaps counts.
    pub fn gap_count(&self) -> usize {
        self.cloud.values().map(BTreeMap::len).sum()
    }

    /// Whether the set is empty, and nothing is said of what it was.
    pub fn is_empty(&self) -> bool {
        self.vector.is_empty() && self.cloud.is_empty() && self.seals.is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::NodeId;

    pub(super) const A: Actor = Actor::new(NodeId(1), 10, 0);
    pub(super) const B: Actor = Actor::new(NodeId(2), 20, 0);

    pub(super) fn context(ranges: &[(Actor, u64, u64)]) -> CausalContext {
        let mut context = CausalContext::default();
        for &(actor, first, last) in ranges {
            context.insert_range(actor, first, last);
        }
        context
    }

    #[test]
    fn dots_beyond_a_gap_wait_in_the_cloud_until_the_gap_closes() {
        let mut context = context(&[(A, 1, 2), (A, 4, 4)]);
        assert_eq!(context.vector().get(A), 2);
        assert_eq!(context.gap_count(), 1);
        assert_eq!(context.highest(A), 4);
        assert!(context.contains(Dot::new(A, 4)));
        assert!(!context.contains(Dot::new(A, 3)));

        context.insert(Dot::new(A, 3));
        assert_eq!(context, CausalContext::from([(A, 4)].into_iter().collect::<VersionVector>()));
        assert_eq!(context.gap_count(), 0);
    }

    #[test]
    fn ranges_that_touch_or_overlap_become_one() {
        let joined = context(&[(A, 10, 12), (A, 20, 22), (A, 13, 19)]);
        assert_eq!(joined.ranges().collect::<Vec<_>>(), [(A, 10, 22)]);
        let swallowed = context(&[(A, 5, 6), (A, 8, 9), (A, 11, 12), (A, 4, 30)]);
        assert_eq!(swallowed.ranges().collect::<Vec<_>>(), [(A, 4, 30)]);
        let apart = context(&[(A, 10, 12), (A, 14, 15)]);
        assert_eq!(apart.gap_count(), 2);
    }

    #[test]
    fn descends_means_every_dot_whether_in_vector_or_cloud() {
        let whole = context(&[(A, 1, 9), (B, 3, 8)]);
        assert!(whole.descends(&context(&[(A, 4, 9), (B, 3, 4), (B, 6, 8)])));
        assert!(!whole.descends(&context(&[(A, 10, 10)])));
        assert!(!whole.descends(&context(&[(B, 2, 4)])));
        assert!(!context(&[(A, 1, 3), (A, 5, 9)]).descends(&context(&[(A, 1, 9)])));
        assert!(whole.descends(&CausalContext::default()));
    }

    #[test]
    fn the_counter_0_names_nothing_and_the_largest_counter_does_not_overflow() {
        let mut context = context(&[(A, 0, 0)]);
        assert!(context.is_empty());
        context.insert_range(A, u64::MAX, u64::MAX);
        context.insert_range(A, u64::MAX - 1, u64::MAX);
        assert_eq!(context.ranges().collect::<Vec<_>>(), [(A, u64::MAX - 1, u64::MAX)]);
        context.insert_range(A, 0, u64::MAX);
        assert_eq!(context.ranges().collect::<Vec<_>>(), [(A, 1, u64::MAX)]);
        assert!(context.minus(&context).is_empty());
        let most = context.without([Dot::new(A, u64::MAX), Dot::new(A, 1)]);
        assert_eq!(most.ranges().collect::<Vec<_>>(), [(A, 2, u64::MAX - 1)]);
    }

    #[test]
    fn what_comes_in_not_canonical_becomes_so() {
        let vector = BTreeMap::from([(A, 3_u64), (B, 0)]);
        // An actor twice, and out of order; ranges overlapping, descending, backwards, empty, joined to the vector.
        let cloud = vec![
            (B, vec![]),
            (A, vec![(9_u64, 10_u64), (4, 5)]),
            (A, vec![(8, 9), (7, 6), (0, 0)]),
        ];
        let decoded: CausalContext =
            crate::decode(&crate::encode(&(vector, cloud, None::<u8>))).unwrap();
        assert_eq!(decoded, context(&[(A, 1, 5), (A, 8, 10)]));
    }

    /// Scattered dots are what removing many elements of an old set leaves: it must not take time
    /// in the square of their number. (A bound on work, not on time: 100,000 ranges inserted one
    /// by one would run for minutes if each insertion visited them all.)
    #[test]
    fn a_hundred_thousand_scattered_dots_are_as_many_ranges() {
        let scattered: CausalContext = (1..=100_000).map(|n| Dot::new(A, 2 * n)).collect();
        assert_eq!(scattered.gap_count(), 100_000);
        assert!((1..=100_000).all(|n| scattered.contains(Dot::new(A, 2 * n))));
        assert!(!scattered.contains(Dot::new(A, 99_999)));
    }

    fn dots() -> impl Strategy<Value = Vec<Dot>> {
        // Two mostly, and now and then as many as are merged in one pass.
        let one = (prop::sample::select(vec![A, B]), 0_u64..24);
        let other = ((3_u64..12).prop_map(|n| Actor::new(NodeId(n), 1, 0)), 1_u64..3);
        vec(
            prop_oneof![2 => one, 1 => other].prop_map(|(actor, counter)| Dot::new(actor, counter)),
            0..40,
        )
    }

    /// The naive twin: a plain set.
    fn set(dots: &[Dot]) -> BTreeSet<Dot> {
        dots.iter().copied().filter(|dot| dot.counter > 0).collect()
    }

    fn is_canonical(context: &CausalContext) -> bool {
        context.cloud.iter().all(|(&actor, ranges)| {
            let mut previous = context.vector.get(actor);
            !ranges.is_empty()
                && ranges.iter().all(|(&first, &last)| {
                    let apart = first >= previous + 2 && first <= last;
                    previous = last;
                    apart
                })
        })
    }

    proptest! {
        #[test]
        fn a_context_is_the_set_of_its_dots(one in dots(), other in dots()) {
            let (a, b): (CausalContext, CausalContext) =
                (one.iter().copied().collect(), other.iter().copied().collect());
            let (set_a, set_b) = (set(&one), set(&other));
            prop_assert!(is_canonical(&a));
            for actor in [A, B] {
                for counter in 1..26 {
                    let dot = Dot::new(actor, counter);
                    prop_assert_eq!(a.contains(dot), set_a.contains(&dot));
                }
                let highest = set_a.iter().filter(|d| d.actor == actor).map(|d| d.counter).max();
                prop_assert_eq!(a.highest(actor), highest.unwrap_or(0));
            }
            prop_assert_eq!(a.descends(&b), set_a.is_superset(&set_b));

            let mut union = a.clone();
            union.merge(&b);
            prop_assert!(is_canonical(&union));
            prop_assert_eq!(&union, &set_a.union(&set_b).copied().collect());
            let mut reverse = b.clone();
            reverse.merge(&a);
            prop_assert_eq!(&union, &reverse);

            prop_assert_eq!(a.shares(&b), !set_a.is_disjoint(&set_b));
            prop_assert!(is_canonical(&a.minus(&b)));
            prop_assert_eq!(&a.minus(&b), &set_a.difference(&set_b).copied().collect());

            let difference = a.without(other.iter().copied());
            prop_assert!(is_canonical(&difference));
            prop_assert_eq!(difference, set_a.difference(&set_b).copied().collect());
            prop_assert_eq!(&crate::decode::<CausalContext>(&crate::encode(&a)).unwrap(), &a);
        }

        #[test]
        fn the_order_of_insertion_does_not_show(dots in dots()) {
            let forwards: CausalContext = dots.iter().copied().collect();
            let backwards: CausalContext = dots.iter().rev().copied().collect();
            let sorted: CausalContext = set(&dots).into_iter().collect();
            prop_assert_eq!(crate::encode(&forwards), crate::encode(&backwards));
            prop_assert_eq!(crate::encode(&forwards), crate::encode(&sorted));
        }
    }
}
