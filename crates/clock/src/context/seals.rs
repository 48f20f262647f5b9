//! Seals: which actors of a context write no more, and when that was found.
//!
//! Each start of a node, and each request with a name, leaves an actor in the context of what it wrote. A *seal* is a fact
//! about one of them: none of its writes up to a counter is live, as somebody found in a round of the barrier. It stays true
//! for ever, so the join of two contexts has the seals of both; a later write of the actor makes it void. A sealed actor mints
//! no more: its replica draws another epoch.
//!
//! Once a round is old enough ([`Round::folds_below`]) every owner has heard of the seals made in it, has seen all that they
//! speak of, and nothing older is under way: none of it can come back, whoever forgets it. So a context says below which round
//! it has forgotten the sealed, and of two that are joined both forget as far as either has.
//!
//! Source: design.md, Dots and One barrier. Decision: docs/decisions/2026-11-28-epochs-are-sealed-by-whoever-writes.md.

use std::collections::{BTreeMap, BTreeSet};

use sabotage::Bug;
use serde::{Deserialize, Serialize};

use super::CausalContext;
use crate::{Actor, RingId, Round};

/// None of the actor's writes up to `upto` is live, as was found in `round`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Seal {
    upto: u64,
    round: Round,
}

/// The seals of a context. Those that are void are not among them, nor those of what was forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Seals {
    sealed: BTreeMap<Actor, Seal>,
    /// Per ring the round of which all that was sealed before is forgotten.
    below: BTreeMap<RingId, u64>,
}

impl Seals {
    fn is_empty(&self) -> bool {
        self.sealed.is_empty() && self.below.is_empty()
    }

    /// Adds a seal. Of two of one actor the one that says more counts, then the later one.
    fn seal(&mut self, actor: Actor, seal: Seal) {
        let mine = self.sealed.entry(actor).or_insert(seal);
        *mine = seal.max(*mine);
    }

    /// Forgets what was sealed before this round.
    fn forget_below(&mut self, round: Round) {
        let below = self.below.entry(round.ring).or_default();
        *below = round.number.max(*below);
    }

    /// The seals of both.
    pub(super) fn merge(&mut self, other: &Self) {
        other.sealed.iter().for_each(|(&actor, &seal)| self.seal(actor, seal));
        for (&ring, &number) in &other.below {
            self.forget_below(Round { ring, number });
        }
    }

    /// Whether what was sealed so is forgotten.
    fn forgets(&self, seal: Seal) -> bool {
        self.below.get(&seal.round.ring).is_some_and(|below| seal.round.number < *below)
    }
}

impl CausalContext {
    /// Whether this context has forgotten all that `other` has of `actor`, and `other` says so much that it shows.
    pub fn has_forgotten(&self, actor: Actor, other: &Self) -> bool {
        let seal = || other.seals.as_ref()?.sealed.get(&actor);
        self.seals.as_ref().is_some_and(|mine| seal().is_some_and(|&seal| mine.forgets(seal)))
    }

    /// Nothing but what seals these actors: none of their dots in this set is live, as was found in `round`. Of one of which a
    /// dot may be missing, or that is not in the set, nothing is said.
    #[must_use]
    pub fn sealed(&self, actors: &BTreeSet<Actor>, round: Round) -> Self {
        let mut seals = Seals::default();
        for actor in self.open_actors().filter(|actor| actors.contains(actor)) {
            seals.seal(actor, Seal { upto: self.vector.get(actor), round });
        }
        Self::of_seals(seals)
    }

    fn of_seals(seals: Seals) -> Self {
        Self { seals: (!seals.is_empty()).then(|| Box::new(seals)), ..Self::default() }
    }

    /// Whether this context has forgotten anybody: what `other` shows of whom it holds nothing may be of one of them.
    pub fn forgets(&self) -> bool {
        self.seals.as_ref().is_some_and(|seals| !seals.below.is_empty())
    }

    /// Whether merging `other` changes nothing here: every dot of it is known, and all that it says of actors.
    pub fn includes(&self, other: &Self) -> bool {
        let says_more = || {
            if self.seals == other.seals {
                return false;
            }
            let mut joined = self.clone();
            joined.merge(&other.only_seals());
            joined != *self
        };
        self.descends(other) && (other.seals.is_none() || !says_more())
    }

    /// The actors of dots in a row without a gap that nobody has sealed.
    pub fn open_actors(&self) -> impl Iterator<Item = Actor> + '_ {
        let whole = self.vector.iter().map(|(actor, _)| actor);
        whole.filter(|actor| !self.cloud.contains_key(actor) && !self.is_sealed(*actor))
    }

    /// What is said of its actors, alone.
    #[must_use]
    pub fn only_seals(&self) -> Self {
        Self { seals: self.seals.clone(), ..Self::default() }
    }

    /// What is said of those actors of which `other` has dots, alone.
    #[must_use]
    pub fn seals_of(&self, other: &Self) -> Self {
        let mut seals = Seals::default();
        for (&actor, &seal) in self.seals.iter().flat_map(|seals| &seals.sealed) {
            if other.highest(actor) > 0 {
                seals.seal(actor, seal);
            }
        }
        Self::of_seals(seals)
    }

    /// The set without what is said of its actors: what a client is shown.
    #[must_use]
    pub fn without_seals(&self) -> Self {
        Self { seals: None, ..self.clone() }
    }

    /// Whether `actor` is sealed: it mints no more.
    pub fn is_sealed(&self, actor: Actor) -> bool {
        self.seals.as_ref().is_some_and(|seals| seals.sealed.contains_key(&actor))
    }

    /// Whether some actor was sealed in a round that is meant.
    pub fn has_sealed(&self, is_meant: impl Fn(Round) -> bool) -> bool {
        let sealed = self.seals.iter().flat_map(|seals| seals.sealed.values());
        sealed.into_iter().any(|seal| is_meant(seal.round))
    }

    /// Forgets the actors that were sealed before this round, and has every context that this one is merged into do so.
    pub fn forget_below(&mut self, round: Round) {
        self.seals.get_or_insert_default().forget_below(round);
        self.settle();
    }

    /// Forgets these actors, whatever is said of them.
    pub fn forget(&mut self, actors: &BTreeSet<Actor>) {
        let seals = self.seals.take();
        *self = self.of_actors(|actor| !actors.contains(&actor));
        self.seals = seals;
        if let Some(seals) = &mut self.seals {
            seals.sealed.retain(|actor, _| !actors.contains(actor));
        }
        self.settle();
    }

    /// Drops a seal of an actor that wrote `counter` after what the seal speaks of.
    pub(super) fn void_seal(&mut self, actor: Actor, counter: u64) {
        let Some(seals) = &mut self.seals else { return };
        let is_void = seals.sealed.get(&actor).is_some_and(|seal| seal.upto < counter);
        if is_void && !sabotage::is(Bug::SealStands) {
            seals.sealed.remove(&actor);
            self.seals.take_if(|seals| seals.is_empty());
        }
    }

    /// Drops seals that are void, and what is sealed and forgotten.
    pub(super) fn settle(&mut self) {
        let Some(mut seals) = self.seals.take() else { return };
        let stands = sabotage::is(Bug::SealStands);
        seals.sealed.retain(|&actor, seal| stands || self.highest(actor) <= seal.upto);
        let forgets = |seal: &Seal| seals.forgets(*seal);
        let forgotten = seals.sealed.iter().filter(|(_, seal)| forgets(seal));
        let forgotten: BTreeSet<Actor> = forgotten.map(|(&actor, _)| actor).collect();
        if !forgotten.is_empty() {
            seals.sealed.retain(|actor, _| !forgotten.contains(actor));
            *self = self.of_actors(|actor| !forgotten.contains(&actor));
        }
        self.seals = Some(seals).filter(|seals| !seals.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{A, B, context};
    use super::*;
    use crate::Dot;

    const fn round(number: u64) -> Round {
        Round { ring: RingId(7), number }
    }

    fn sealed(ranges: &[(Actor, u64, u64)], actor: Actor, in_round: u64) -> CausalContext {
        let mut context = context(ranges);
        context.merge(&context.sealed(&[actor].into(), round(in_round)));
        context
    }

    #[test]
    fn what_was_sealed_long_ago_is_forgotten_by_both_sides_of_a_join() {
        let mut behind = sealed(&[(A, 1, 5), (B, 1, 2)], A, 3);
        let mut ahead = behind.clone();
        ahead.forget_below(round(3));
        assert!(ahead.is_sealed(A) && ahead.contains(Dot::new(A, 5)), "not yet");
        ahead.forget_below(round(4));
        assert!(!ahead.contains(Dot::new(A, 1)) && !ahead.is_sealed(A));
        assert_eq!(ahead.ranges().collect::<Vec<_>>(), [(B, 1, 2)]);

        assert!(ahead.descends(&behind), "nothing of it is news");
        assert!(ahead.minus(&behind).is_empty() && behind.minus(&ahead).is_empty());
        let mut late = ahead.clone();
        late.merge(&behind);
        assert_eq!(late, ahead, "it does not come back");
        behind.merge(&ahead);
        assert_eq!(behind, ahead);
        let elsewhere = Round { ring: RingId(8), number: 9 };
        behind.merge(&context(&[(A, 1, 5)]));
        behind.merge(&behind.sealed(&[A].into(), elsewhere));
        assert!(behind.contains(Dot::new(A, 5)), "rounds of another ring say nothing here");
    }

    #[test]
    fn a_seal_is_void_once_its_actor_is_known_to_have_written_more() {
        let all = sealed(&[(A, 1, 5)], A, 3);
        for more in [context(&[(A, 6, 6)]), context(&[(A, 9, 9)]), context(&[(A, 1, 6)])] {
            let mut joined = all.clone();
            joined.merge(&more);
            assert!(!joined.is_sealed(A));
            joined.forget_below(round(9));
            assert!(joined.contains(Dot::new(A, 5)));
            let mut reverse = more;
            reverse.merge(&all);
            reverse.forget_below(round(9));
            assert_eq!(joined, reverse);
        }
        let mut grown = all.clone();
        grown.insert(Dot::new(A, 6));
        assert_eq!(grown, context(&[(A, 1, 6)]), "as if it had never been sealed");
        let seal = grown.sealed(&[A].into(), round(4));
        grown.merge(&seal);
        let mut joined = all;
        joined.merge(&seal);
        assert!(joined.is_sealed(A), "what the seal speaks of may come later than the seal");
        joined.insert(Dot::new(A, 6));
        assert_eq!(joined, grown);
    }

    #[test]
    fn of_an_actor_of_which_a_dot_may_be_missing_nothing_is_sealed() {
        for unknown in [sealed(&[(A, 2, 5)], A, 3), sealed(&[(A, 1, 2), (A, 4, 5)], A, 3)] {
            assert!(!unknown.is_sealed(A));
        }
        assert_eq!(sealed(&[], A, 3), CausalContext::default());
        assert_eq!(sealed(&[(A, 1, 1)], A, 3).without_seals(), context(&[(A, 1, 1)]));
    }

    #[test]
    fn seals_that_come_in_void_or_forgotten_are_none() {
        let mut seals = Seals::default();
        seals.seal(A, Seal { upto: 2, round: round(1) });
        seals.seal(B, Seal { upto: 2, round: round(1) });
        seals.forget_below(round(2));
        let vector = BTreeMap::from([(A, 2_u64), (B, 3)]);
        let no_cloud = BTreeMap::<Actor, Vec<(u64, u64)>>::new();
        let decoded: CausalContext =
            crate::decode(&crate::encode(&(vector, no_cloud, Some(seals)))).unwrap();
        assert_eq!(decoded.without_seals(), context(&[(B, 1, 3)]));
        assert!(!decoded.is_sealed(B));
        assert_eq!(crate::decode(&crate::encode(&decoded)), Ok(decoded));
    }
}
