//! Version vectors: per actor, how many of its writes have been seen, without gaps.
//!
//! Source: Parker et al., "Detection of Mutual Inconsistency in Distributed Systems" (1983); the
//! vector clocks of Dynamo §4.4.

use std::collections::BTreeMap;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::{Actor, Dot};

/// Entries that are merged one by one; more are merged in one pass over both. A guess.
const MERGED_SINGLY_MAX: usize = 4;

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
#[serde(from = "Vec<(Actor, u64)>")]
pub struct VersionVector(
    /// Nearly always of a few entries, a thousand at most where requests have names.
    LiteMap<Actor, u64>,
);

/// Of an actor that is there twice the last entry counts.
impl From<Vec<(Actor, u64)>> for VersionVector {
    fn from(mut entries: Vec<(Actor, u64)>) -> Self {
        if !entries.is_sorted_by(|(one, _), (next, _)| one < next) {
            let ordered: BTreeMap<Actor, u64> = entries.into_iter().collect();
            entries = ordered.into_iter().collect();
        }
        entries.retain(|(_, counter)| *counter > 0);
        Self(LiteMap::from_sorted_store_unchecked(entries))
    }
}

impl FromIterator<(Actor, u64)> for VersionVector {
    fn from_iter<T: IntoIterator<Item = (Actor, u64)>>(entries: T) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
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
        if counter == 0 {
            return;
        }
        if self.0.is_empty() {
            // Most have one entry for ever: no room for more.
            self.0 = LiteMap::from_sorted_store_unchecked(vec![(actor, counter)]);
            return;
        }
        let seen = self.0.entry(actor).or_default();
        *seen = counter.max(*seen);
    }

    /// The least upper bound: seen by either. Commutative, associative, idempotent.
    pub fn merge(&mut self, other: &Self) {
        if self.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        // Most often the other brings a few.
        if other.len() <= MERGED_SINGLY_MAX {
            return other.iter().for_each(|(actor, counter)| self.advance(actor, counter));
        }
        let mut entries: Vec<_> = self.iter().chain(other.iter()).collect();
        // Two ascending runs: sorting only merges them.
        entries.sort();
        entries.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same {
                kept.1 = kept.1.max(next.1);
            }
            is_same
        });
        self.0 = LiteMap::from_sorted_store_unchecked(entries);
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

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;
    use crate::NodeId;

    const A: Actor = Actor::new(NodeId(1), 10, 0);
    const B: Actor = Actor::new(NodeId(2), 20, 0);

    fn vector<const N: usize>(entries: [(Actor, u64); N]) -> VersionVector {
        entries.into_iter().collect()
    }

    proptest! {
        #[test]
        fn merged_is_of_each_actor_the_larger_counter(
            one in btree_map(0_u64..40, 1_u64..9, 0..30),
            other in btree_map(0_u64..40, 1_u64..9, 0..30),
        ) {
            let vector = |entries: &BTreeMap<u64, u64>| -> VersionVector {
                let entry = |(&n, &counter): (&u64, &u64)| (Actor::new(NodeId(n), 1, 0), counter);
                entries.iter().map(entry).collect()
            };
            let mut merged = vector(&one);
            merged.merge(&vector(&other));
            let mut expected = one;
            for (actor, counter) in other {
                let seen = expected.entry(actor).or_default();
                *seen = counter.max(*seen);
            }
            prop_assert_eq!(merged, vector(&expected));
        }
    }

    /// Dynamo §4.4: changes on parallel branches are in conflict.
    #[test]
    fn a2_b1_and_a1_b2_are_concurrent() {
        let (left, right) = (vector([(A, 2), (B, 1)]), vector([(A, 1), (B, 2)]));
        assert_eq!(left.compare(&right), Ordering::Concurrent);
        let mut merged = left.clone();
        merged.merge(&right);
        assert_eq!(merged, vector([(A, 2), (B, 2)]));
        assert_eq!(merged.compare(&left), Ordering::Descends);
        assert_eq!(right.compare(&merged), Ordering::Precedes);
    }

    #[test]
    fn an_absent_entry_counts_as_none_seen() {
        let (empty, one) = (VersionVector::default(), vector([(A, 1)]));
        assert_eq!(empty.compare(&one), Ordering::Precedes);
        assert_eq!(one.compare(&empty), Ordering::Descends);
        assert_eq!(empty.compare(&empty), Ordering::Equal);
        assert_eq!(vector([(A, 1)]).compare(&vector([(B, 1)])), Ordering::Concurrent);
    }

    #[test]
    fn an_epoch_is_another_actor() {
        let reborn = Actor::new(NodeId(1), 10, 1);
        assert_eq!(vector([(A, 5)]).compare(&vector([(reborn, 1)])), Ordering::Concurrent);
    }

    #[test]
    fn zeroes_are_never_kept_so_equal_histories_are_equal_values() {
        let mut advanced = vector([(A, 0)]);
        advanced.advance(B, 0);
        assert_eq!(advanced, VersionVector::default());
        let encoded = crate::encode(&BTreeMap::from([(A, 0_u64), (B, 3)]));
        assert_eq!(crate::decode::<VersionVector>(&encoded), Ok(vector([(B, 3)])));
    }

    #[test]
    fn advancing_never_goes_back() {
        let mut advanced = vector([(A, 5)]);
        advanced.advance(A, 3);
        assert_eq!(advanced.get(A), 5);
        assert!(advanced.contains(Dot::new(A, 5)));
        assert!(!advanced.contains(Dot::new(A, 6)));
    }
}
