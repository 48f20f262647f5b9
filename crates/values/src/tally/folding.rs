//! Folding: increments of actors that write no more become parts of one sum: those of requests with names that nobody can make
//! again, and those of replicas' epochs that were sealed (`operation/sealing.rs`).
//!
//! Which entries a replica may fold the rounds of the barrier say ([`Round::folds_below`]): of what was made before such a
//! round all owners have the same, increments and resets. So the sum of a ring below a round is the same everywhere but for
//! how much of it was reset since, and of two of them one contains the other. A join folds the side that is behind
//! as far as the other is, and takes the larger one.
//!
//! Joins are commutative and associative over what replicas can so come to, not over anything. Decision:
//! docs/decisions/2026-11-28-names-are-folded-by-rounds.md; looked at in every order by `models`.

use std::collections::BTreeSet;

use clock::{Actor, Round};
use sabotage::Bug;
use serde::{Deserialize, Serialize};

use super::{Tally, TallyEntry, Totals, saturate};

/// Totals of increments that were folded.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
struct Folded {
    /// How many, the actors' counters summed up: of two of which one contains the other, the larger one has more.
    count: u64,
    up: u128,
    down: u128,
}

/// What was folded of the named increments of one ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sum {
    /// All that was made before this round is in it.
    below: u64,
    written: Folded,
    reset: Folded,
}

impl Folded {
    fn add(&mut self, totals: Totals) {
        self.count = self.count.saturating_add(totals.upto);
        self.up = self.up.saturating_add(totals.up);
        self.down = self.down.saturating_add(totals.down);
    }
}

impl Sum {
    /// Whether something in it has not been reset.
    pub const fn is_live(&self) -> bool {
        self.written.count > self.reset.count
    }

    /// Increments less decrements that were not reset.
    pub fn value(&self) -> i128 {
        let up = self.written.up.saturating_sub(self.reset.up);
        let down = self.written.down.saturating_sub(self.reset.down);
        saturate(up).saturating_sub(saturate(down))
    }

    /// All that was made before this round is in it.
    pub const fn below(&self) -> u64 {
        self.below
    }

    /// How many writes of increments are in it that were not reset.
    pub const fn live_count(&self) -> u64 {
        self.written.count.saturating_sub(self.reset.count)
    }

    pub(super) const fn reset(&self) -> Self {
        Self { reset: self.written, ..*self }
    }

    /// Of two below the same round the larger one.
    fn merge(&mut self, other: &Self) {
        self.written = self.written.max(other.written);
        self.reset = self.reset.max(other.reset);
    }
}

impl Tally {
    /// Joins another tally. Returns the actors whose entries are folded here now, though one side had them.
    pub(super) fn join(&mut self, other: &Self) -> BTreeSet<Actor> {
        if self.sums.is_empty() && other.sums.is_empty() {
            self.join_entries(other);
            return BTreeSet::new();
        }
        let mut other = other.clone();
        let folded = match sabotage::is(Bug::FoldedApart) {
            true => BTreeSet::new(),
            false => self.fold_alike(&mut other),
        };
        self.join_entries(&other);
        for (ring, theirs) in other.sums {
            self.sums
                .entry(ring)
                .or_insert(Sum { below: theirs.below, ..Sum::default() })
                .merge(&theirs);
        }
        folded
    }

    /// Folds both as far as either is. Returns whose entries were folded.
    fn fold_alike(&mut self, other: &mut Self) -> BTreeSet<Actor> {
        let below: Vec<Round> = self.folded_below().chain(other.folded_below()).collect();
        let fold = |below: Round| [self.fold(below), other.fold(below)];
        below.into_iter().flat_map(fold).flatten().collect()
    }

    fn folded_below(&self) -> impl Iterator<Item = Round> + '_ {
        self.sums.iter().map(|(&ring, sum)| Round { ring, number: sum.below })
    }

    /// Whose entries are folded where all of before `below` is.
    pub(crate) fn actors_before(&self, below: Round) -> impl Iterator<Item = Actor> + '_ {
        let is_old = move |made: Round| made.is_before(below);
        let old = self.entries.iter().filter(move |(_, entry)| entry.made.is_some_and(is_old));
        old.map(|(&actor, _)| actor)
    }

    /// Folds all of before `below`, if it was not. Returns whose entries these were.
    pub(crate) fn fold(&mut self, below: Round) -> Vec<Actor> {
        if self.sums.get(&below.ring).is_some_and(|sum| sum.below >= below.number) {
            return Vec::new();
        }
        let names: Vec<Actor> = self.actors_before(below).collect();
        let sum = self.sums.entry(below.ring).or_default();
        sum.below = below.number;
        for name in &names {
            let Some(entry) = self.entries.remove(name) else { continue };
            // What was reset was written, whatever is known of it here.
            sum.written.add(entry.written.max(entry.reset));
            sum.reset.add(entry.reset);
        }
        names
    }

    /// The sums alone.
    pub(crate) fn only_sums(&self) -> Self {
        Self { sums: self.sums.clone(), ..Self::default() }
    }

    /// All but the sums.
    pub(crate) fn without_sums(&self) -> Self {
        Self { entries: self.entries.clone(), ..Self::default() }
    }

    /// The sums, and what was reset of that which others may fold while this is on its way to them: by a replica that has
    /// entered `round`. (How far members of another ring are is not known: all of it.) A reset says this too. It would
    /// else take away a part of a sum of which another part was taken away before, and the larger of the two would be
    /// taken for both.
    pub(crate) fn about_to_be_folded(&self, round: Round) -> Self {
        let is_old = |entry: &TallyEntry| {
            let made = entry.made;
            made.is_some_and(|made| made.ring != round.ring || round.is_folded_soon(made))
        };
        let dead = self.entries.iter().filter(|(_, entry)| !entry.is_live() && is_old(entry));
        Self { entries: dead.map(|(&of, &it)| (of, it)).collect(), sums: self.sums.clone() }
    }

    /// Whether it says something of what `held` folds before `below`, or has folded.
    pub(crate) fn is_of_folded(&self, held: &Self, below: Round) -> bool {
        let is_mine = |actor| self.entries.contains_key(&actor);
        self.sums.contains_key(&below.ring)
            || self.actors_before(below).next().is_some()
            || held.actors_before(below).any(is_mine)
    }

    /// Whether merging `reset` takes away something that is live here.
    pub(crate) fn loses_by(&self, reset: &Self) -> bool {
        let mut mine = self.clone();
        let mut theirs = reset.clone();
        mine.fold_alike(&mut theirs);
        let takes = |(actor, entry): (&Actor, &TallyEntry)| {
            let reset = theirs.entries.get(actor);
            entry.is_live() && reset.is_some_and(|reset| reset.reset.upto >= entry.written.upto)
        };
        let takes_of_sum = |(ring, sum): (_, &Sum)| {
            theirs.sums.get(ring).is_some_and(|theirs| theirs.reset > sum.reset)
        };
        mine.entries.iter().any(takes) || mine.sums.iter().any(takes_of_sum)
    }
}
