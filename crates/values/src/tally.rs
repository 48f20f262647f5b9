//! Tallies: a PN-counter with exact observed reset, under `counter`, `lww` and `map`.
//!
//! Per actor the running totals of its increments and decrements, which only grow, so the larger
//! one contains the smaller; and the totals up to which somebody has observed and reset them
//! (offset vectors). A reset takes away exactly what it had observed: an increment that was
//! concurrent with it lies beyond the offset and counts in full.
//!
//! Laws: `tests/laws.rs`. Source: Shapiro, Preguiça, Baquero, Zawirski, "A comprehensive study of
//! Convergent and Commutative Replicated Data Types" (2011), §3.1.3, with the reset that Baquero,
//! Almeida, Lerche (PaPoC 2016) show plain PN-counters to lack.

use std::collections::BTreeMap;

use clock::{Actor, Dot};
use sabotage::Bug;
use serde::{Deserialize, Serialize};

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
}

impl TallyEntry {
    /// Counter of the actor's last write that counts or counted here.
    pub const fn upto(&self) -> u64 {
        self.written.upto
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
#[serde(transparent)]
pub struct Tally(BTreeMap<Actor, TallyEntry>);

impl Tally {
    /// The sum over all actors.
    pub fn value(&self) -> i128 {
        let sum = self.0.values().fold(0, |sum: i128, entry| sum.saturating_add(entry.value()));
        if sabotage::is(Bug::SumsWrap) { i128::from(sum as i64) } else { sum }
    }

    /// Whether any increment or decrement has not been reset.
    pub fn is_live(&self) -> bool {
        self.0.values().any(TallyEntry::is_live)
    }

    /// Whether nothing was ever counted or reset.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The delta by which the actor of `dot` adds `by`, as its write `dot`.
    #[must_use]
    pub fn incremented(&self, dot: Dot, by: i128) -> Self {
        let mut entry = self.0.get(&dot.actor).copied().unwrap_or_default();
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
        Self(BTreeMap::from([(dot.actor, entry)]))
    }

    /// The delta that resets all that is live here.
    #[must_use]
    pub fn reset(&self) -> Self {
        let live = self.0.iter().filter(|(_, entry)| entry.is_live());
        Self(
            live.map(|(&actor, entry)| {
                let mut reset = entry.written;
                if sabotage::is(Bug::ResetForgetsDecrements) {
                    reset.down = entry.reset.down;
                }
                (actor, TallyEntry { written: entry.written, reset })
            })
            .collect(),
        )
    }

    /// The least upper bound: per actor, the later totals and the later reset.
    pub fn merge(&mut self, other: &Self) {
        for (actor, theirs) in &other.0 {
            let mine = self.0.entry(*actor).or_default();
            mine.written = mine.written.max(theirs.written);
            if !(sabotage::is(Bug::FirstResetStays) && mine.reset.upto > 0) {
                mine.reset = mine.reset.max(theirs.reset);
            }
        }
    }

    /// The actors' entries, in order of actor.
    pub fn entries(&self) -> impl Iterator<Item = (Actor, &TallyEntry)> + '_ {
        self.0.iter().map(|(&actor, entry)| (actor, entry))
    }

    /// Whether an actor ever counted here.
    pub(crate) fn counts(&self, actor: Actor) -> bool {
        self.0.contains_key(&actor)
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
        let one = Tally::default().incremented(Dot::new(A, 1), 5);
        let two = one.incremented(Dot::new(A, 2), 3);
        let reset = two.reset();
        assert_eq!(joined(&[&reset]).value(), 0);
        assert_eq!(joined(&[&reset, &one, &two]), joined(&[&two, &one, &reset]));
        assert!(!joined(&[&reset, &one]).is_live());
    }

    #[test]
    fn a_reset_takes_away_what_it_observed_and_not_what_the_same_actor_added_meanwhile() {
        let five = Tally::default().incremented(Dot::new(A, 1), 5);
        let reset = five.reset();
        let nine = five.incremented(Dot::new(A, 2), 4);
        assert_eq!(joined(&[&nine, &reset]).value(), 4);
        // What goes on from a reset counts from there.
        let after = joined(&[&nine, &reset]).incremented(Dot::new(A, 3), -1);
        assert_eq!(joined(&[&after, &nine, &reset]).value(), 3);
    }

    /// In a map an actor's dots go to many fields: each field sees only some of its counters.
    #[test]
    fn gaps_between_an_actors_counters_do_not_matter() {
        let early = Tally::default().incremented(Dot::new(A, 3), 2);
        let late = early.incremented(Dot::new(A, 90), 2);
        assert_eq!(joined(&[&late]).value(), 4);
        assert_eq!(joined(&[&late, &early]), joined(&[&late]));
        assert_eq!(late.live_dots().collect::<Vec<_>>(), [Dot::new(A, 90)]);
    }

    #[test]
    fn increments_that_cancel_out_are_live_with_the_value_0() {
        let none = Tally::default();
        let zero =
            joined(&[&none.incremented(Dot::new(A, 1), 7), &none.incremented(Dot::new(B, 1), -7)]);
        assert!(zero.is_live());
        assert_eq!(zero.value(), 0);
        assert!(!joined(&[&zero, &zero.reset()]).is_live());
        assert!(none.incremented(Dot::new(A, 1), 0).is_live());
    }

    #[test]
    fn sums_are_wide_and_saturate_at_the_end() {
        let none = Tally::default();
        let large = none.incremented(Dot::new(A, 1), i128::MAX);
        let larger = large.incremented(Dot::new(A, 2), i128::MAX).incremented(Dot::new(A, 3), 9);
        assert_eq!(larger.value(), i128::MAX);
        let less = none.incremented(Dot::new(B, 1), i128::MIN);
        assert_eq!(joined(&[&larger, &less]).value(), 0);
        let two = i128::from(i64::MAX) * 2;
        let wide = joined(&[
            &none.incremented(Dot::new(A, 1), i128::from(i64::MAX)),
            &none.incremented(Dot::new(B, 1), i128::from(i64::MAX)),
        ]);
        assert_eq!(wide.value(), two);
    }
}
