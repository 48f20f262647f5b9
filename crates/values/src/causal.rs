//! Dot stores and the one causal join under `bytes`, `gset`, `orset`, `cart` and `map`.
//!
//! A dot survives a join if both sides hold it, or if the side that lacks it has not seen it. So a
//! removal needs no tombstone: the context remembers the dot, the store no longer holds it, and an
//! add that the remover had not seen survives (add wins).
//!
//! Laws (commutative, associative, idempotent): `tests/laws.rs`. They rest on each dot naming one
//! write for ever.
//!
//! Source: Almeida, Shoker, Baquero, "Delta State Replicated Data Types" (2018), §7: `DotSet`,
//! `DotFun`, `DotMap` and `Causal`.

use std::collections::BTreeMap;

use clock::{CausalContext, Dot};
use sabotage::Bug;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Blob;

/// A store of live dots and what hangs on them.
pub trait DotStore:
    Clone + std::fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned
{
    /// Whether there is nothing to store.
    fn is_bottom(&self) -> bool;

    /// Whether a reader sees something. A store can be neither live nor bottom: a map field whose
    /// increments were all reset must remember which.
    fn is_live(&self) -> bool {
        !self.is_bottom()
    }

    /// Joins `other`, whose writer had seen `other_seen`, into `self`, which has seen `seen`.
    fn join(&mut self, seen: &CausalContext, other: &Self, other_seen: &CausalContext);

    /// Drops every dot in `removed`.
    fn remove(&mut self, removed: &CausalContext);

    /// The live dots.
    fn dots(&self) -> Vec<Dot>;
}

/// Dots with a payload each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DotFun<V: Ord>(pub BTreeMap<Dot, V>);

/// Dots alone.
pub type DotSet = DotFun<()>;

impl<V: Ord> Default for DotFun<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> DotStore for DotFun<V>
where
    V: Clone + std::fmt::Debug + Ord + Serialize + DeserializeOwned,
{
    fn is_bottom(&self) -> bool {
        self.0.is_empty()
    }

    fn join(&mut self, seen: &CausalContext, other: &Self, other_seen: &CausalContext) {
        self.0.retain(|dot, _| other.0.contains_key(dot) || !other_seen.contains(*dot));
        for (&dot, value) in &other.0 {
            match self.0.get_mut(&dot) {
                // One dot, one payload: they differ only if something corrupted one of them, and
                // then every replica must still settle on the same.
                Some(mine) if *mine < *value => *mine = value.clone(),
                Some(_) => {}
                None if seen.contains(dot) && !sabotage::is(Bug::RemovedComesBack) => {}
                None if sabotage::is(Bug::LateAddsDropped)
                    && dot.counter < seen.highest(dot.actor) => {}
                None => {
                    self.0.insert(dot, value.clone());
                }
            }
        }
    }

    fn remove(&mut self, removed: &CausalContext) {
        self.0.retain(|dot, _| !removed.contains(*dot));
    }

    fn dots(&self) -> Vec<Dot> {
        self.0.keys().copied().collect()
    }
}

/// Elements with a dot store each. Invariant: no element's store is bottom.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DotMap<E>(pub BTreeMap<Blob, E>);

impl<E> Default for DotMap<E> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<E: DotStore> DotMap<E> {
    /// Joins only `element`: what a delta that names its elements needs.
    pub fn join_element(
        &mut self,
        element: &Blob,
        seen: &CausalContext,
        other: &Self,
        other_seen: &CausalContext,
    ) {
        let bottom = E::default();
        let theirs = other.0.get(element).unwrap_or(&bottom);
        let mut joined = self.0.remove(element).unwrap_or_default();
        joined.join(seen, theirs, other_seen);
        if !joined.is_bottom() {
            self.0.insert(element.clone(), joined);
        }
    }
}

impl<E: DotStore> DotStore for DotMap<E> {
    /// A replica keeps no element without anything; what a peer sent may name some.
    fn is_bottom(&self) -> bool {
        self.0.values().all(E::is_bottom)
    }

    fn is_live(&self) -> bool {
        self.0.values().any(E::is_live)
    }

    fn join(&mut self, seen: &CausalContext, other: &Self, other_seen: &CausalContext) {
        let bottom = E::default();
        self.0.retain(|element, mine| {
            mine.join(seen, other.0.get(element).unwrap_or(&bottom), other_seen);
            !mine.is_bottom()
        });
        for (element, theirs) in &other.0 {
            if !self.0.contains_key(element) {
                let mut joined = E::default();
                joined.join(seen, theirs, other_seen);
                if !joined.is_bottom() {
                    self.0.insert(element.clone(), joined);
                }
            }
        }
    }

    fn remove(&mut self, removed: &CausalContext) {
        self.0.retain(|_, store| {
            store.remove(removed);
            !store.is_bottom()
        });
    }

    fn dots(&self) -> Vec<Dot> {
        self.0.values().flat_map(E::dots).collect()
    }
}

/// A dot store with the context of what was seen. Invariant: the context holds every live dot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Causal<S> {
    /// What is live.
    pub store: S,
    /// Every dot seen, live or not.
    pub context: CausalContext,
}

impl<S: DotStore> Causal<S> {
    /// Whether nothing was ever written.
    pub fn is_bottom(&self) -> bool {
        self.store.is_bottom() && self.context.is_empty()
    }

    /// The least upper bound of both.
    pub fn merge(&mut self, other: &Self) {
        self.store.join(&self.context, &other.store, &other.context);
        self.context.merge(&other.context);
    }
}

#[cfg(test)]
mod tests {
    use clock::{Actor, NodeId};

    use super::*;

    const A: Actor = Actor::new(NodeId(1), 10, 0);

    fn adds(entries: &[(u64, u64)]) -> Causal<DotFun<u64>> {
        let dots = entries.iter().map(|&(counter, payload)| (Dot::new(A, counter), payload));
        let store = DotFun(dots.collect());
        Causal { context: store.dots().into_iter().collect(), store }
    }

    #[test]
    fn a_dot_seen_and_no_longer_held_is_gone_from_the_join() {
        let (mut mine, mut theirs) = (adds(&[(1, 10), (2, 20)]), adds(&[(1, 10), (2, 20)]));
        theirs.store.remove(&[Dot::new(A, 1)].into_iter().collect());
        mine.merge(&theirs);
        assert_eq!(mine, theirs);
        assert_eq!(mine.store, adds(&[(2, 20)]).store);
    }

    #[test]
    fn a_dot_that_only_one_side_has_seen_survives() {
        let mut mine = adds(&[(1, 10)]);
        mine.merge(&adds(&[(3, 30)]));
        assert_eq!(mine, adds(&[(1, 10), (3, 30)]));
        assert_eq!(mine.context.gap_count(), 1);
    }

    /// It cannot happen while dots name one write each; should it, all replicas agree.
    #[test]
    fn of_two_payloads_under_one_dot_the_larger_stays_whoever_merges() {
        let (small, large) = (adds(&[(1, 10)]), adds(&[(1, 11)]));
        let (mut one, mut other) = (small.clone(), large.clone());
        one.merge(&large);
        other.merge(&small);
        assert_eq!(one, large);
        assert_eq!(other, large);
    }

    #[test]
    fn an_element_without_dots_is_no_element() {
        let name = Blob::from_static(b"x");
        let held = |entries| {
            let Causal { store, context } = adds(entries);
            Causal { store: DotMap(BTreeMap::from([(name.clone(), store)])), context }
        };
        let mut mine = held(&[(1, 10)]);
        let removal = Causal { store: DotMap::default(), context: mine.context.clone() };
        mine.merge(&removal);
        assert_eq!(mine.store, DotMap::default());
        let mut again = held(&[(1, 10)]);
        again.store.join_element(&name, &mine.context, &removal.store, &removal.context);
        assert_eq!(again.store, DotMap::default());
        assert!(held(&[]).is_bottom(), "a name alone is nothing that was written");
        assert!(!held(&[(1, 10)]).is_bottom());
    }
}
