//! Tallies: a PN-counter with exact observed reset, under `counter`, `lww` and `map`.
//!
//! Per actor the running totals of its increments and decrements, which only grow, so the larger
//! one contains the smaller; and the totals up to which somebody has observed and reset them
//! (offset vectors). A reset takes away exactly what it had observed: an increment that was
//! concurrent with it lies beyond the offset and counts in full.
//!
//! An increment with a name has an entry of its own, and each start of a replica has one, until it is old enough to be folded
//! into a sum (`tally/folding.rs`).
//!
//! Laws: `tests/laws.rs`. Source: Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of
//! Convergent and Commutative Replicated Data Types" (2011), §3.1.3, with the reset that Baquero,
//! Almeida, Lerche (PaPoC 2016) show plain PN-counters to lack.

mod folding;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use clock::{Actor, CausalContext, Dot, RingId, Round};
use sabotage::Bug;
use serde::{Deserialize, Serialize};

pub use folding::Sum;

/// The totals of one actor at its write number `upto`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
struct Totals {
    /// Counter of the write that brought these totals; 0 for none.
    upto: u64,
    up: u128,
    down: u128,
}

/// One actor's part of a tally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TallyEntry {
    written: Totals,
    reset: Totals,
    /// The round from which on the actor writes no more. Of an increment with a name: in which its coordinator was, the last one
    /// where it was tried again. Of a replica's actor: in which it was sealed. (Of two rings' any, the same everywhere.)
    made: Option<Round>,
}

impl TallyEntry {
    /// Counter of the actor's last write that counts or counted here.
    pub const fn upto(&self) -> u64 {
        self.written.upto
    }

    /// The round from which on the actor counts no more, if that is known.
    pub const fn made(&self) -> Option<Round> {
        self.made
    }

    /// Whether an actor of a replica has this entry, and was sealed.
    fn is_sealed((actor, entry): (&Actor, &Self)) -> bool {
        entry.made.is_some() && !actor.is_named()
    }

    /// Counter of the actor's last write that was reset here; 0 for none.
    pub const fn reset_upto(&self) -> u64 {
        self.reset.upto
    }

    /// Whether something written has not been reset.
    pub fn is_live(&self) -> bool {
        self.written.upto > self.reset.upto
    }

    /// What the actor contributes: increments less decrements since the last reset.
    pub fn value(&self) -> i128 {
        if !self.is_live() {
            return 0;
        }
        let up = self.written.up.saturating_sub(self.reset.up);
        let down = self.written.down.saturating_sub(self.reset.down);
        saturate(up).saturating_sub(saturate(down))
    }
}

fn saturate(total: u128) -> i128 {
    i128::try_from(total).unwrap_or(i128::MAX)
}

/// Increments, decrements and resets of many actors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tally {
    entries: BTreeMap<Actor, TallyEntry>,
    /// What was folded. Invariant: no entry was made in a round of the ring below the sum's.
    sums: BTreeMap<RingId, Sum>,
}

impl Tally {
    /// The sum over all actors.
    pub fn value(&self) -> i128 {
        let entries = self.entries.values().map(TallyEntry::value);
        let all = entries.chain(self.sums.values().map(Sum::value));
        let sum = all.fold(0, |sum: i128, part| sum.saturating_add(part));
        if sabotage::is(Bug::SumsWrap) { i128::from(sum as i64) } else { sum }
    }

    /// Whether any increment or decrement has not been reset.
    pub fn is_live(&self) -> bool {
        self.entries.values().any(TallyEntry::is_live) || self.sums.values().any(Sum::is_live)
    }

    /// Whether nothing was ever counted or reset.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.sums.is_empty()
    }

    /// The delta by which the actor of `dot` adds `by`, as its write `dot`. The actor of a request with a name does so
    /// in the round `made`; without one it is never folded. A replica's goes on, so it is not sealed.
    #[must_use]
    pub fn incremented(&self, dot: Dot, by: i128, made: Option<Round>) -> Self {
        let mut entry = self.entries.get(&dot.actor).copied().unwrap_or_default();
        // A reset can be known before what it reset: the totals go on from the later of the two.
        // The actor of a named request makes this one write only, wherever it is made.
        let mut totals =
            if dot.actor.is_named() { Totals::default() } else { entry.written.max(entry.reset) };
        totals.upto = dot.counter;
        if by < 0 {
            totals.down = totals.down.saturating_add(by.unsigned_abs());
        } else {
            totals.up = totals.up.saturating_add(by.unsigned_abs());
        }
        entry.written = totals;
        entry.made = if dot.actor.is_named() { entry.made.max(made) } else { None };
        Self { entries: BTreeMap::from([(dot.actor, entry)]), sums: BTreeMap::new() }
    }

    /// The delta that resets all that is live here.
    #[must_use]
    pub fn reset(&self) -> Self {
        let live = self.entries.iter().filter(|(_, entry)| entry.is_live());
        let entries = live.map(|(&actor, entry)| {
            let mut reset = entry.written;
            if sabotage::is(Bug::ResetForgetsDecrements) {
                reset.down = entry.reset.down;
            }
            (actor, TallyEntry { reset, ..*entry })
        });
        let sums = self.sums.iter().filter(|(_, sum)| sum.is_live());
        Self {
            entries: entries.collect(),
            sums: sums.map(|(&of, sum)| (of, sum.reset())).collect(),
        }
    }

    /// The least upper bound: per actor, the later totals and the later reset. What one side has folded, the other's is
    /// folded too. For tallies beside which no context has their names.
    pub fn merge(&mut self, other: &Self) {
        self.join(other);
    }

    /// Merges what another replica holds with what it has seen, beside what was seen here: names leave the context
    /// with their entries.
    pub(crate) fn merge_with(
        &mut self,
        seen: &mut CausalContext,
        other: &Self,
        other_seen: &CausalContext,
    ) {
        seen.merge(other_seen);
        self.open(seen);
        let mut names = if other.entries.iter().any(TallyEntry::is_sealed) {
            let mut other = other.clone();
            other.open(seen);
            self.join(&other)
        } else {
            self.join(other)
        };
        // Actors of replicas leave it by their seals: they may have written more than increments.
        names.retain(|actor| actor.is_named());
        if !names.is_empty() {
            seen.forget(&names);
        }
    }

    /// Those who wrote on after they were sealed may count on: also where what they wrote was no increment, `seen` says so.
    fn open(&mut self, seen: &CausalContext) {
        for (&actor, entry) in
            self.entries.iter_mut().filter(|(of, it)| TallyEntry::is_sealed((of, it)))
        {
            if seen.highest(actor) > entry.written.upto && !seen.is_sealed(actor) {
                entry.made = None;
            }
        }
    }

    fn join_entries(&mut self, other: &Self) {
        for (actor, theirs) in &other.entries {
            let mine = self.entries.entry(*actor).or_default();
            // What went on was sealed in vain.
            mine.made = match mine.written.upto.cmp(&theirs.written.upto) {
                _ if sabotage::is(Bug::SealStands) => mine.made.max(theirs.made),
                Ordering::Less => theirs.made,
                Ordering::Equal => mine.made.max(theirs.made),
                Ordering::Greater => mine.made,
            };
            mine.written = mine.written.max(theirs.written);
            if !(sabotage::is(Bug::FirstResetStays) && mine.reset.upto > 0) {
                mine.reset = mine.reset.max(theirs.reset);
            }
        }
    }

    /// The delta that seals those of these actors that counted here and were not sealed.
    pub(crate) fn sealed(&self, actors: &BTreeSet<Actor>, round: Round) -> Self {
        let open = self
            .entries
            .iter()
            .filter(|(actor, entry)| entry.made.is_none() && actors.contains(actor));
        let sealed =
            open.map(|(&actor, entry)| (actor, TallyEntry { made: Some(round), ..*entry }));
        Self { entries: sealed.collect(), sums: BTreeMap::new() }
    }

    /// The actors' entries, in order of actor.
    pub fn entries(&self) -> impl Iterator<Item = (Actor, &TallyEntry)> + '_ {
        self.entries.iter().map(|(&actor, entry)| (actor, entry))
    }

    /// What was folded, by ring.
    pub fn sums(&self) -> impl Iterator<Item = &Sum> + '_ {
        self.sums.values()
    }

    /// Whether an actor ever counted here.
    pub(crate) fn counts(&self, actor: Actor) -> bool {
        self.entries.contains_key(&actor)
    }

    /// The last write of each actor with something live.
    pub fn live_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.entries()
            .filter(|(_, entry)| entry.is_live())
            .map(|(actor, entry)| Dot::new(actor, entry.upto()))
    }
}

#[cfg(test)]
mod tests {
    use clock::NodeId;

    use super::*;

    const A: Actor = Actor::new(NodeId(1), 10, 0);
    const B: Actor = Actor::new(NodeId(2), 20, 0);

    fn joined(parts: &[&Tally]) -> Tally {
        let mut all = Tally::default();
        parts.iter().for_each(|part| all.merge(part));
        all
    }

    #[test]
    fn a_reset_that_arrives_before_the_increments_has_taken_them_away() {
        let one = Tally::default().incremented(Dot::new(A, 1), 5, None);
        let two = one.incremented(Dot::new(A, 2), 3, None);
        let reset = two.reset();
        assert_eq!(joined(&[&reset]).value(), 0);
        assert_eq!(joined(&[&reset, &one, &two]), joined(&[&two, &one, &reset]));
        assert!(!joined(&[&reset, &one]).is_live());
    }

    #[test]
    fn a_reset_takes_away_what_it_observed_and_not_what_the_same_actor_added_meanwhile() {
        let five = Tally::default().incremented(Dot::new(A, 1), 5, None);
        let reset = five.reset();
        let nine = five.incremented(Dot::new(A, 2), 4, None);
        assert_eq!(joined(&[&nine, &reset]).value(), 4);
        // What goes on from a reset counts from there.
        let after = joined(&[&nine, &reset]).incremented(Dot::new(A, 3), -1, None);
        assert_eq!(joined(&[&after, &nine, &reset]).value(), 3);
    }

    /// In a map an actor's dots go to many fields: each field sees only some of its counters.
    #[test]
    fn gaps_between_an_actors_counters_do_not_matter() {
        let early = Tally::default().incremented(Dot::new(A, 3), 2, None);
        let late = early.incremented(Dot::new(A, 90), 2, None);
        assert_eq!(joined(&[&late]).value(), 4);
        assert_eq!(joined(&[&late, &early]), joined(&[&late]));
        assert_eq!(late.live_dots().collect::<Vec<_>>(), [Dot::new(A, 90)]);
    }

    /// A set that loses counts nothing, and its actor goes on.
    #[test]
    fn who_wrote_anything_after_it_was_sealed_is_not_folded() {
        let seen = |upto| (1..=upto).map(|n| Dot::new(A, n)).collect::<CausalContext>();
        let ten = Tally::default().incremented(Dot::new(A, 1), 10, None);
        let round = Round { ring: RingId(7), number: 3 };
        let seal = (ten.sealed(&[A].into(), round), seen(1).sealed(&[A].into(), round));
        let later = (Tally::default(), [Dot::new(A, 2)].into_iter().collect());
        for parts in [[&seal, &later], [&later, &seal]] {
            let (mut tally, mut context) = (ten.clone(), seen(1));
            tally.merge_with(&mut context, &parts[0].0, &parts[0].1);
            tally.merge_with(&mut context, &parts[1].0, &parts[1].1);
            assert_eq!(tally, ten);
            assert_eq!(tally.fold(Round { number: 9, ..round }), []);
        }
        let (mut tally, mut context) = (ten, seen(1));
        tally.merge_with(&mut context, &seal.0, &seal.1);
        assert_eq!(tally.fold(Round { number: 9, ..round }), [A], "who did not is");
    }

    #[test]
    fn increments_that_cancel_out_are_live_with_the_value_0() {
        let none = Tally::default();
        let zero = joined(&[
            &none.incremented(Dot::new(A, 1), 7, None),
            &none.incremented(Dot::new(B, 1), -7, None),
        ]);
        assert!(zero.is_live());
        assert_eq!(zero.value(), 0);
        assert!(!joined(&[&zero, &zero.reset()]).is_live());
        assert!(none.incremented(Dot::new(A, 1), 0, None).is_live());
    }

    #[test]
    fn sums_are_wide_and_saturate_at_the_end() {
        let none = Tally::default();
        let large = none.incremented(Dot::new(A, 1), i128::MAX, None);
        let larger =
            large.incremented(Dot::new(A, 2), i128::MAX, None).incremented(Dot::new(A, 3), 9, None);
        assert_eq!(larger.value(), i128::MAX);
        let less = none.incremented(Dot::new(B, 1), i128::MIN, None);
        assert_eq!(joined(&[&larger, &less]).value(), 0);
        let two = i128::from(i64::MAX) * 2;
        let wide = joined(&[
            &none.incremented(Dot::new(A, 1), i128::from(i64::MAX), None),
            &none.incremented(Dot::new(B, 1), i128::from(i64::MAX), None),
        ]);
        assert_eq!(wide.value(), two);
    }
}
